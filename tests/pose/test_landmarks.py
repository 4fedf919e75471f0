"""landmarks: counts at the paper's scale, moments of sampled Gaussians, the losses and
the warp in numbers that are known, the linear evaluation against NumPy's, bad input."""

import math

import numpy as np
import pytest
import torch

from papernets_lite.data import faces
from papernets_lite.pose import landmarks
from tests.unchecked import unchecked


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_points(count: int = 2, landmarks_each: int = 10) -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(count, landmarks_each, 2, generator=draws())


def convolution(before: int, after: int) -> int:
    return 9 * before * after + 2 * after


def test_parameters_equal_the_released_layers():
    # down, then up with the skips, level by level
    detector = convolution(3, 32) + convolution(32, 32)
    detector += convolution(32, 64) + convolution(64, 64) + 4 * convolution(64, 64)
    detector += 2 * convolution(64, 64)
    detector += 2 * (3 * convolution(64, 64)) + 3 * convolution(64, 64)
    detector += convolution(64, 32) + 3 * convolution(32, 32) + convolution(32, 32)
    detector += 9 * 32 * 11 + 11
    features = sum(map(convolution, (3, 32, 64, 128, 256), (32, 64, 128, 256, 512)))
    features += convolution(512, 256) + 2 * convolution(256, 256)
    features += convolution(256, 128) + 2 * convolution(128, 128)
    features += convolution(128, 64) + 2 * convolution(64, 64)
    features += 2 * convolution(64, 64)
    enters = 5 * (11 + 64)
    decoder = convolution(enters, 64) + convolution(64, 64)
    decoder += sum(map(convolution, (64, 128, 256, 512), (128, 256, 512, 512)))
    decoder += convolution(512, 512) + 2 * convolution(512, 512)
    decoder += convolution(512, 256) + 2 * convolution(256, 256)
    decoder += convolution(256, 128) + 2 * convolution(128, 128)
    decoder += convolution(128, 64) + 2 * convolution(64, 64)
    decoder += convolution(64, 32) + 9 * 32 * 3 + 3
    maps = 11 * (64 * 8 + 8) + 11 * (8 * 64 + 64)
    with torch.device("meta"):
        net = landmarks.paper()
    parts = {}
    for name, part in net.named_children():
        parts[name] = sum(p.numel() for p in part.parameters())
    assert parts["detector"] == detector == 679435
    assert parts["features"] == features == 4742816
    assert parts["decoder"] == decoder == 14363107
    assert parts["describe_each"] + parts["expand_each"] == maps == 12056
    assert sum(parts.values()) == 19797414


def test_the_code_has_108_numbers_for_ten_landmarks():
    net = landmarks.tiny().eval()
    with torch.no_grad():
        outputs = net(torch.rand(1, 3, 32, 32, generator=draws()))
    assert outputs.points.numel() + outputs.descriptors.numel() == 108
    assert landmarks.paper().describe_each.bias.numel() + 2 * 10 == 108


@pytest.mark.parametrize("margin", [0, 8])
def test_soft_arg_max_of_a_sampled_gaussian_returns_its_mean_and_deviation(margin):
    side = 48
    places = torch.tensor([[[0.4, 0.55], [0.62, 0.5]]], dtype=torch.float64)
    maps = landmarks.gaussians(places, 0.06, (side, side))
    torch.testing.assert_close(
        maps.sum((2, 3)), torch.ones(1, 2).double(), atol=1e-6, rtol=0
    )
    if margin:  # the same picture as the middle of a larger one
        maps = torch.nn.functional.pad(maps, [margin] * 4)
    found = landmarks.soft_arg_max(3 * maps, margin=margin)
    torch.testing.assert_close(found.places, places, atol=1e-6, rtol=0)
    expected = torch.full_like(found.deviations, 0.06)
    torch.testing.assert_close(found.deviations, expected, atol=1e-5, rtol=0)


def test_soft_arg_max_by_hand():
    maps = torch.zeros(1, 1, 2, 4)
    maps[0, 0, 0, 0], maps[0, 0, 0, 2] = 3, 1
    found = landmarks.soft_arg_max(maps)
    # columns at 1/8 and 5/8, of weights 3/4 and 1/4; one row, at 1/4
    torch.testing.assert_close(found.places, torch.tensor([[[0.25, 0.25]]]))
    wide = math.sqrt(0.75 * 0.125**2 + 0.25 * 0.375**2)
    assert found.deviations[0, 0, 0].item() == pytest.approx(wide, rel=1e-5)
    assert found.deviations[0, 0, 1].item() == pytest.approx(1e-3)  # the floor


def test_maps_compete_at_each_cell():
    maps = landmarks.tiny().eval().heat_maps(torch.rand(2, 3, 32, 32))
    assert maps.shape == (2, 11, 16, 16)
    torch.testing.assert_close(maps.sum(1), torch.ones(2, 16, 16))


def test_concentration_is_the_exponential_of_an_entropy():
    sigma = 0.1
    normal = torch.distributions.Normal(0.0, sigma)
    entropy = 2 * normal.entropy()  # of two independent axes
    value = landmarks.concentration(torch.full((3, 1, 2), sigma))
    torch.testing.assert_close(value, entropy.exp())


def test_separation_by_hand():
    one_place = torch.full((2, 3, 2), 0.5)
    assert landmarks.separation(one_place).item() == pytest.approx(6)  # ordered pairs
    pair = torch.tensor([[[0.1, 0.5], [0.1 + 0.08, 0.5]]])
    assert landmarks.separation(pair).item() == pytest.approx(
        2 * math.exp(-0.5), rel=1e-5
    )
    far = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert landmarks.separation(far).item() == pytest.approx(0, abs=1e-6)


def test_equivariance_is_zero_for_a_truth_that_moved_along():
    batch = landmarks.augment({"images": torch.rand(2, 3, 32, 32)}, draws())
    warp = batch["matrices"], batch["fields"]
    moved = some_points()
    points = landmarks.source(moved, *warp)
    assert landmarks.equivariance(points, moved, *warp).item() == 0
    off = points + torch.tensor([0.1, 0.0])
    value = landmarks.equivariance(off, moved, *warp).item()
    assert value == pytest.approx(10 * 0.1**2, rel=1e-4)


def test_a_dot_is_found_where_the_warp_took_it():
    """grid_sample reads the input at places of the output: the warped picture's dot,
    led through the warp, is the original's."""
    batch = {"images": torch.zeros(1, 1, 65, 65)}
    batch["images"][0, 0, 20, 40] = 1
    batch = landmarks.augment(batch, draws(3), shift=0.1)
    warp = batch["matrices"], batch["fields"]
    seen = landmarks.soft_arg_max(batch["warped"]).places
    back = landmarks.source(seen, *warp)
    dot = torch.tensor([40.5, 20.5]) / 65
    assert (back[0, 0] - dot).abs().max() < 0.5 / 65
    assert (seen[0, 0] - dot).norm() > 2 / 65  # it did move


def test_a_shift_by_three_pixels_is_exact():
    images = torch.rand(1, 3, 16, 16, generator=draws())
    matrices = torch.tensor([[[1.0, 0.0, 3 / 16], [0.0, 1.0, 0.0]]])
    warped = landmarks.warp(images, matrices, torch.zeros(1, 2, 16, 16))
    torch.testing.assert_close(warped[..., :13], images[..., 3:])
    places = torch.tensor([[[0.25, 0.5]]])
    moved = landmarks.source(places, matrices, torch.zeros(1, 2, 16, 16))
    torch.testing.assert_close(moved, places + torch.tensor([3 / 16, 0]))


def test_a_warp_of_nothing_changes_nothing():
    images = torch.rand(2, 3, 32, 32, generator=draws())
    still = dict.fromkeys(("std", "angle", "scale", "shift"), 0.0)
    batch = landmarks.augment({"images": images}, draws(), **still)
    torch.testing.assert_close(batch["warped"], images, atol=1e-5, rtol=0)


def test_a_landmark_rules_where_it_is_drawn():
    """At the centre of a Gaussian its own share exceeds the background's, far away it
    is nothing."""
    maps = landmarks.gaussians(torch.tensor([[[0.5, 0.5]]]), 0.06, (17, 17))
    both = landmarks.with_background(maps)
    share = both / both.sum(1, keepdim=True)
    density = 1 / (2 * math.pi * 0.06**2)
    peak = density / (1 + density)
    assert share[0, 0, 8, 8].item() == pytest.approx(peak, rel=1e-4)
    assert share[0, 1, 0, 0].item() == pytest.approx(1)


def test_a_descriptor_is_read_at_its_landmark():
    net = landmarks.tiny().eval()
    images = torch.rand(1, 3, 32, 32, generator=draws())
    with torch.no_grad():
        wide = landmarks.Points(some_points(1), torch.full((1, 10, 2), 0.05))
        whole = net.describe(images, wide)
        features = net.features(torch.pixel_unshuffle(images, 2))
        average = features.mean((2, 3))
        expected = average @ net.describe_each.weight[10] + net.describe_each.bias[10]
    torch.testing.assert_close(whole[:, 10], expected, atol=1e-4, rtol=1e-4)


def test_the_image_is_drawn_from_the_code_alone():
    net = landmarks.tiny().eval()
    images = torch.rand(2, 3, 32, 32, generator=draws())
    with torch.no_grad():
        outputs = net(images)
        again = net.draw(outputs.points, outputs.descriptors, (32, 32))
    torch.testing.assert_close(again, outputs.images)


def test_loss_is_the_weighted_sum_and_a_term_can_be_left_out():
    net = landmarks.tiny()
    batch = landmarks.augment({"images": torch.rand(2, 3, 32, 32)}, draws())
    outputs = net(batch["images"], batch["warped"])
    terms = landmarks.loss(outputs, batch)
    weights = (
        landmarks.CONCENTRATION,
        landmarks.SEPARATION,
        landmarks.EQUIVARIANCE,
        landmarks.RECONSTRUCTION,
    )
    names = ("concentration", "separation", "equivariance", "reconstruction")
    total = sum(w * terms[name] for w, name in zip(weights, names, strict=True))
    torch.testing.assert_close(terms["loss"], total)
    without = landmarks.loss(outputs, batch, follow=0)["loss"]
    torch.testing.assert_close(
        without, total - landmarks.EQUIVARIANCE * terms["equivariance"]
    )


def test_decode_in_pixels():
    net = landmarks.tiny().eval()
    outputs = net(torch.rand(1, 3, 32, 64))
    pixels = landmarks.decode(outputs, size=(32, 64))
    torch.testing.assert_close(pixels, outputs.points * torch.tensor([64, 32]))


def test_linear_evaluation_equals_numpy():
    points = torch.rand(40, 10, 2, generator=draws(1))
    truth = torch.rand(40, 5, 2, generator=draws(2))
    weights = landmarks.linear_map(points, truth)
    known = np.concatenate([points.flatten(1).numpy(), np.ones((40, 1))], 1)
    expected = np.linalg.lstsq(known, truth.flatten(1).double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(weights.numpy(), expected, atol=1e-7)
    found = landmarks.apply_map(points, weights)
    np.testing.assert_allclose(found.flatten(1).numpy(), known @ expected, atol=1e-5)


def test_landmarks_that_are_the_truth_turned_round_have_no_error():
    truth = torch.rand(50, 5, 2, generator=draws())
    points = 1 - truth.flip(1)
    found = landmarks.apply_map(points, landmarks.linear_map(points, truth))
    assert landmarks.normalised_error(found, truth).max() < 1e-4


def test_normalised_error_by_hand():
    truth = torch.zeros(1, 5, 2)
    truth[0, 1, 0] = 10  # eyes ten pixels apart
    found = truth + torch.tensor([3.0, 4.0])
    assert landmarks.normalised_error(found, truth).item() == pytest.approx(0.5)


def test_nearest_neighbour_by_hand():
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]])
    value = landmarks.nearest_neighbour(points).item()
    assert value == pytest.approx((5 + 1 + 1) / 3)


def test_the_stored_net_knows_faces():
    net = landmarks.trained()
    generator = draws(7)
    scene = faces.sample(160, generator, scale=(0.34, 0.42))
    images = faces.render(scene, 32)
    truth = faces.annotate(scene, 32)["landmarks"][:, :5] / 32
    with torch.no_grad():
        outputs = net(images)
    weights = landmarks.linear_map(outputs.points[:100], truth[:100])
    told = landmarks.apply_map(outputs.points[100:], weights)
    assert landmarks.normalised_error(told, truth[100:]).mean() < 0.13
    assert (outputs.images - images).square().mean() < 0.008


def test_a_dot_covers_its_place_and_no_other():
    image = torch.full((3, 16, 16), 0.5)
    drawn = landmarks.dots(image, torch.tensor([[0.25, 0.75]]), scale=2, radius=0.1)
    assert drawn.shape == (3, 32, 32)
    torch.testing.assert_close(drawn[:, 24, 8], torch.tensor([1.0, 0.25, 0.25]))
    assert (drawn[:, :16] == 0.5).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_landmarks": 0},
        {"fold": 0},
        {"widths": (0.1, 0.0)},
        {"widths": ()},
        {"margin": 3},
        {"skips": (0, 1)},
        {"detector": ([], [])},
        {"decoder": ([[8], [8]], [[], [8], [8]])},
    ],
)
def test_what_cannot_be_built_is_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        landmarks.tiny(**settings)


def test_what_cannot_be_used_is_refused():
    net = landmarks.tiny().eval()
    images = torch.rand(2, 3, 32, 32)
    points, descriptors = torch.rand(2, 10, 2), torch.rand(2, 11, 8)
    batch = landmarks.augment({"images": images}, draws())
    refused = [
        lambda: net(images[:0]),
        lambda: net(torch.rand(1, 3, 30, 32)),
        lambda: net(images.double()),
        lambda: net(images, images[:1]),
        lambda: net.draw(points, descriptors[:1], (32, 32)),
        lambda: net.draw(points, descriptors[:, :10], (32, 32)),
        lambda: net.draw(points, descriptors, (30, 32)),
        lambda: net.draw(points * math.nan, descriptors, (32, 32)),
        lambda: landmarks.loss(net(images), batch),
        lambda: landmarks.loss(net(images, images), {"images": images}),
        lambda: landmarks.augment({}, draws()),
        lambda: landmarks.augment({"images": images}, draws(), std=-1),
        lambda: landmarks.separation(points, apart=0),
        lambda: landmarks.soft_arg_max(torch.rand(1, 1, 4, 4), margin=2),
        lambda: landmarks.warp(images, batch["matrices"], batch["fields"][:, :, :9]),
        lambda: landmarks.linear_map(points, points[:1]),
        lambda: landmarks.normalised_error(points, points[:1]),
        lambda: landmarks.normalised_error(torch.ones(1, 5, 2), torch.ones(1, 5, 2)),
        lambda: landmarks.nearest_neighbour(points[:, :1]),
        lambda: landmarks.decode(net(images), size=(0, 32)),
    ]
    for k, call in enumerate(refused):
        with unchecked(), pytest.raises(ValueError, match="expected"):
            print(k, call())
