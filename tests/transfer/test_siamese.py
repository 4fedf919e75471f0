"""The loss and its gradient by hand and in both label conventions; pairs and episodes
on small cases."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from papernets_lite.transfer import siamese
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def pairs_at(*distances: float) -> Tensor:
    """Pairs of points that far apart, along the direction (3, 4)."""
    d = torch.tensor(distances, dtype=torch.float64)
    return torch.stack(
        [
            torch.zeros(len(d), 2, dtype=torch.float64),
            d[:, None] * torch.tensor([0.6, 0.8], dtype=torch.float64),
        ],
        1,
    )


def told(*similar: bool) -> dict[str, Tensor]:
    """A batch that says of each pair whether it is similar."""
    return {"similar": torch.tensor(similar, dtype=torch.bool)}


def test_parameters_of_the_papers_net_by_hand() -> None:
    net = siamese.paper().mapping
    assert count(net.c1) == 15 * (6 * 6 + 1) == 555
    assert count(net.s2) == 15 * 2
    assert count(net.c3) == 30 * (15 * 9 * 9 + 1) == 36_480
    assert count(net.f4) == 2 * (30 + 1)
    assert count(net) == 37_127


def test_sizes_of_the_papers_maps() -> None:
    net = siamese.paper().mapping
    c1 = net.c1(torch.rand(1, 1, 32, 32))
    s2 = net.s2(c1)
    assert (c1.shape[1:], s2.shape[1:], net.c3(s2).shape[1:]) == (
        (15, 27, 27),
        (15, 9, 9),
        (30, 1, 1),
    )


def test_subsampling_by_hand() -> None:
    layer = siamese.Subsample(2, 2)
    nn.init.constant_(layer.weight, 3.0)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.0, 1.0]))
    x = torch.tensor([[[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]]]).expand(1, 2, 2, 3)
    assert layer(x).tolist() == [[[[9.0]], [[10.0]]]]


def test_both_images_pass_through_the_same_weights() -> None:
    torch.manual_seed(0)
    net = siamese.tiny()
    images = torch.rand(3, 2, 1, 32, 32)
    outputs = net(images)
    assert outputs.shape == (3, 2, 16)
    torch.testing.assert_close(outputs[:, 0], net.mapping(images[:, 0]))
    torch.testing.assert_close(outputs[:, 1], net.mapping(images[:, 1]))
    torch.testing.assert_close(net(images.flip(1)), outputs.flip(1))


@pytest.mark.parametrize(
    ("far", "similar", "margin", "expected"),
    [
        (0.5, True, 1.0, 0.125),
        (3.0, True, 1.0, 4.5),
        (0.5, False, 1.0, 0.125),
        (0.5, False, 2.0, 1.125),
        (1.0, False, 1.0, 0.0),
        (3.0, False, 1.0, 0.0),
        (0.2, False, 0.0, 0.0),
    ],
)
def test_loss_of_one_pair_by_hand(
    far: float, similar: bool, margin: float, expected: float
) -> None:
    found = siamese.loss(pairs_at(far), told(similar), margin=margin)
    assert found["loss"].item() == pytest.approx(expected, abs=1e-9)
    assert found["pull" if similar else "push"].item() == pytest.approx(
        expected, abs=1e-9
    )
    assert found["active"].item() == (not similar and far < margin)


def test_it_is_neither_of_the_two_widespread_mix_ups() -> None:
    d, margin = 0.6, 1.0
    found = siamese.loss(pairs_at(d), told(False), margin=margin)["loss"].item()
    assert found == pytest.approx(0.08)
    assert found != pytest.approx((margin**2 - d**2) / 2)
    assert found != pytest.approx((margin - d**2) / 2)


@pytest.mark.parametrize(
    "convention", ["paper: Y = 1 for dissimilar", "notes: Y = 1 for a match"]
)
def test_both_label_conventions_are_one_function(convention: str) -> None:
    """Eq. 4, and 1/(2N) sum Y D^2 + (1 - Y) max(m - D, 0)^2, in numpy."""
    rng = np.random.default_rng(0)
    x, match, margin = rng.normal(size=(64, 2, 5)), rng.random(64) < 0.5, 2.5
    d = np.sqrt(((x[:, 0] - x[:, 1]) ** 2).sum(1))
    hinge = np.maximum(0, margin - d)
    if convention.startswith("paper"):
        y = 1.0 - match
        expected = np.mean((1 - y) * d**2 / 2 + y * hinge**2 / 2)
    else:
        y = 1.0 * match
        expected = np.sum(y * d**2 + (1 - y) * hinge**2) / (2 * len(y))
    outputs = torch.from_numpy(x)
    found = siamese.loss(outputs, told(*match), margin=margin)
    assert found["loss"].item() == pytest.approx(expected)
    assert found["active"].item() == pytest.approx(np.mean(hinge[~match] > 0))
    swapped = siamese.loss(outputs, told(*~match), margin=margin)
    assert swapped["loss"].item() != pytest.approx(expected)


@pytest.mark.parametrize(
    ("far", "similar", "force"),
    [(0.5, True, 0.5), (3.0, True, 3.0), (0.25, False, -0.75), (1.5, False, 0.0)],
)
def test_the_gradient_is_the_papers_spring(
    far: float, similar: bool, force: float
) -> None:
    """dL/dD is D for similar pairs, -(m - D) for dissimilar ones within m, zero beyond;
    it acts along the pair."""
    outputs = pairs_at(far).requires_grad_()
    siamese.loss(outputs, told(similar))["loss"].backward()
    assert outputs.grad is not None
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(outputs.grad[0, 1], force * direction)
    torch.testing.assert_close(outputs.grad[0, 0], -force * direction)


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    outputs = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    similar = told(*[True, False] * 3)
    assert torch.autograd.gradcheck(
        lambda x: siamese.loss(x, similar, margin=3.0)["loss"], outputs
    )
    assert torch.autograd.gradcheck(
        lambda x: siamese.energy_loss(x, similar, bound=4.0)["loss"], outputs
    )


@pytest.mark.parametrize("similar", [True, False])
def test_equal_outputs_have_a_finite_gradient(similar: bool) -> None:
    outputs = torch.ones(1, 2, 3, requires_grad=True)
    value = siamese.loss(outputs, told(similar))["loss"]
    value.backward()
    assert value.item() == pytest.approx(0.0 if similar else 0.5, abs=1e-5)
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


def test_a_batch_of_one_kind_only() -> None:
    for similar in (torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)):
        assert all(
            value.isfinite()
            for value in siamese.loss(pairs_at(0.5, 2.0), told(*similar)).values()
        )


def test_the_energy_of_2005_by_hand() -> None:
    outputs = pairs_at(0.5, 0.5)  # 0.3 + 0.4 in each coordinate: an energy of 0.7
    found = siamese.energy_loss(outputs, told(True, False), bound=2.0)
    assert found["pull"].item() == pytest.approx(0.49 / 2)
    assert found["push"].item() == pytest.approx(4 * math.exp(-2.77 / 2 * 0.7) / 2)
    assert found["loss"].item() == pytest.approx(
        found["pull"].item() + found["push"].item()
    )


def test_same_class_and_neighbourhood_by_hand() -> None:
    assert siamese.same_class(torch.tensor([3, 1, 3])).tolist() == [
        [True, False, True],
        [False, True, False],
        [True, False, True],
    ]
    # On a line at 0, 1, 3, 7: the nearest of 0 is 1, of 1 is 0, of 3 is 1, of 7 is 3;
    # symmetric, with themselves.
    found = siamese.neighbourhood(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), k=1)
    expected = torch.eye(4, dtype=torch.bool)
    for a, b in ((0, 1), (1, 2), (2, 3)):
        expected[a, b] = expected[b, a] = True
    assert torch.equal(found, expected)


def test_equal_points_are_neighbours_and_each_its_own() -> None:
    assert siamese.neighbourhood(torch.zeros(3, 2), k=2).all()
    points = torch.cat([torch.zeros(4, 2), torch.ones(4, 2)])
    assert siamese.neighbourhood(points, k=1).diagonal().all()


def views(samples: int, count: int) -> Tensor:
    """Pictures of one pixel whose value names the sample (tens) and the view (ones)."""
    return (10.0 * torch.arange(samples)[:, None] + torch.arange(count)).view(
        samples, count, 1, 1, 1
    )


@pytest.mark.parametrize("same_view", [False, True])
def test_pairs_are_what_they_say(same_view: bool) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    similar = siamese.same_class(labels)
    batches = siamese.Pairs(
        views(7, 3),
        similar,
        batch_size=500,
        generator=torch.Generator().manual_seed(0),
        same_view=same_view,
    )
    batch = next(batches)
    sample, view = batch["sample"], batch["view"]
    assert batch["similar"].sum() == 250
    assert torch.equal(labels[sample[:, 0]] == labels[sample[:, 1]], batch["similar"])
    assert torch.equal(batch["images"].view(500, 2), 10.0 * sample + view)
    equal = view[:, 0] == view[:, 1]
    assert equal[batch["similar"]].all() == same_view
    assert not equal[~batch["similar"]].all()
    # Every sample and partner occurs, the rarer classes' too, in about equal numbers.
    assert len(sample.unique(dim=0)) == 7 * 7
    seen = sample[(sample[:, 0] == 0) & batch["similar"], 1].bincount(minlength=7)
    assert (seen[:3] > 3).all()
    assert (seen[3:] == 0).all()


def test_pairs_depend_on_the_generator_alone() -> None:
    similar = siamese.same_class(torch.arange(6) // 2)
    first, second, other = (
        next(
            siamese.Pairs(
                views(6, 2),
                similar,
                batch_size=9,
                generator=torch.Generator().manual_seed(seed),
            )
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first["images"], second["images"])
    assert not torch.equal(first["images"], other["images"])


def test_shifted_by_hand() -> None:
    found = siamese.shifted(
        torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), side=4, shifts=(1, 0, -1)
    )
    assert found.shape == (1, 3, 1, 4, 4)
    assert found[0, :, 0, 1].tolist() == [[0, 0, 1, 2], [0, 1, 2, 0], [1, 2, 0, 0]]
    assert found[0, :, 0, 2].tolist() == [[0, 0, 3, 4], [0, 3, 4, 0], [3, 4, 0, 0]]
    assert (found[0, :, 0, [0, 3]] == 0).all()


def test_embed_is_the_mapping_of_every_view() -> None:
    torch.manual_seed(0)
    net, images = siamese.tiny(dim=3), torch.rand(4, 2, 1, 32, 32)
    found = net.embed(images)
    assert not found.requires_grad
    torch.testing.assert_close(found[:, 1], net.mapping(images[:, 1]).detach())


def test_whitened_points_have_their_spread_in_every_direction() -> None:
    torch.manual_seed(0)
    layer = siamese.Whitening(3, momentum=1.0)
    mixed = torch.randn(500, 3, dtype=torch.float64) @ torch.randn(3, 3).double() + 5
    found = layer(mixed)
    torch.testing.assert_close(
        found.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0
    )
    covariance = torch.cov(found.T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(3).double(), atol=1e-4, rtol=0)
    # Afterwards the last batch's averages hold, whatever the batch.
    torch.testing.assert_close(layer.eval()(mixed[:1]), found[:1], atol=1e-4, rtol=0)


def test_a_batch_smaller_than_the_outputs_cannot_be_whitened() -> None:
    with unchecked(), pytest.raises(ValueError, match="4 points or more"):
        siamese.Whitening(3)(torch.rand(3, 3))


def test_whitening_keeps_a_map_without_a_push_from_collapse() -> None:
    torch.manual_seed(0)
    net = siamese.tiny(dim=2, whiten=True)
    batch = {
        "images": torch.rand(16, 2, 1, 32, 32),
        "similar": torch.arange(16) % 2 == 0,
    }
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    first = siamese.loss(net(batch["images"]), batch, margin=0.0)["loss"].item()
    for _ in range(40):
        value = siamese.loss(net(batch["images"]), batch, margin=0.0)["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < first
    assert net(batch["images"]).std((0, 1)).min() > 0.9


def test_looking_at_a_net_in_training_changes_nothing() -> None:
    torch.manual_seed(0)
    net = siamese.tiny(dim=2, whiten=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = net.embed(torch.rand(4, 2, 1, 32, 32))
    assert net.training
    assert net.mapping.training
    assert found.shape == (4, 2, 2)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_share_of_the_views_by_hand() -> None:
    # Two samples at x = 0 and 4; views one to the left and right of them: variance 1
    # within, 4 between.
    points = torch.tensor([[[-1.0], [1.0]], [[3.0], [5.0]]])
    assert siamese.view_share(points) == pytest.approx(0.2)
    assert siamese.view_share(torch.tensor([[[0.0], [0.0]], [[4.0], [4.0]]])) == 0
    assert siamese.view_share(torch.tensor([[[0.0], [4.0]], [[0.0], [4.0]]])) == 1


def test_hits_by_hand() -> None:
    # Samples 0 and 1 of one class, 2 and 3 of another, on a line; the second view moves
    # sample 1 to the other side.
    points = torch.tensor(
        [[[0.0], [0.0]], [[1.0], [8.0]], [[9.0], [9.0]], [[7.0], [7.0]]]
    )
    tasks = torch.tensor([[[0, 1], [2, 3]]])
    assert siamese.hits(points, tasks, torch.zeros_like(tasks)).tolist() == [
        [True, True]
    ]
    assert siamese.hits(points, tasks, torch.ones_like(tasks)).tolist() == [
        [False, True]
    ]


def test_the_rival_shares_the_mapping_and_names_each_image() -> None:
    torch.manual_seed(0)
    net = siamese.tiny(dim=3)
    rival = siamese.Classifier(net.mapping, 5)
    images = torch.rand(4, 2, 1, 32, 32)
    outputs = rival(images)
    torch.testing.assert_close(outputs[:, 1], rival.head(net.mapping(images[:, 1])))
    labels, sample = (
        torch.tensor([0, 4, 2]),
        torch.tensor([[0, 1], [1, 2], [2, 2], [0, 0]]),
    )
    expected = -outputs.log_softmax(2).gather(2, labels[sample][..., None]).mean()
    torch.testing.assert_close(
        siamese.class_loss(outputs, {"sample": sample}, labels=labels)["loss"], expected
    )


def test_decode_says_which_pairs_are_near() -> None:
    outputs = pairs_at(0.1, 0.6, 3.0)
    assert siamese.decode(outputs).tolist() == [True, False, False]
    assert siamese.decode(outputs, threshold=1.0).tolist() == [True, True, False]


def test_recognition_takes_the_nearest() -> None:
    known = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    asked = torch.tensor(
        [[[1.9, 0.0], [2.1, 5.0], [9.0, 0.0]], [[0.0, 0.1], [3.0, 3.0], [0.9, 0.9]]]
    )
    assert siamese.nearest(known, asked).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_episodes_hold_two_samples_of_every_class() -> None:
    labels = torch.tensor([4, 4, 7, 7, 7, 2, 2])
    found = siamese.episodes(labels, 200, torch.Generator().manual_seed(0))
    assert found.shape == (200, 3, 2)
    assert (labels[found] == torch.tensor([2, 4, 7])[:, None]).all()
    assert (found[..., 0] != found[..., 1]).all()
    assert len(found[:, 2].unique(dim=0)) == 6


def test_without_a_push_everything_falls_to_a_point_and_with_it_it_does_not() -> None:
    spread = {}
    for margin in (0.0, 1.0):
        torch.manual_seed(0)
        net = siamese.tiny(dim=2)
        batch = {
            "images": torch.rand(16, 2, 1, 32, 32),
            "similar": torch.arange(16) % 2 == 0,
        }
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(80):
            value = siamese.loss(net(batch["images"]), batch, margin=margin)["loss"]
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        spread[margin] = net(batch["images"]).std((0, 1)).mean().item()
    assert spread[0.0] < 0.1 * spread[1.0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: siamese.loss(pairs_at(1.0), told(True), margin=-1.0),
            "margin >= 0, got -1.0",
        ),
        (
            lambda: siamese.loss(pairs_at(1.0, 2.0, 3.0), told(True)),
            r"`similar` \(3,\), got \(1,\)",
        ),
        (
            lambda: siamese.energy_loss(pairs_at(1.0, 2.0), told(True), bound=2.0),
            r"`similar` \(2,\), got \(1,\)",
        ),
        (
            lambda: siamese.loss(pairs_at(1.0), {"similar": torch.tensor([2])}),
            r"`similar` of bool, or of 0 and 1, got torch.int64, \[2\]",
        ),
        (
            lambda: siamese.loss(pairs_at(), told()),
            r"embeddings of pairs \(b, 2, d\), got \(0, 2, 2\)",
        ),
        (
            lambda: siamese.energy_loss(pairs_at(1.0), told(True), bound=0.0),
            "a positive bound, got 0.0",
        ),
        (
            lambda: siamese.class_loss(
                torch.zeros(1, 2, 3),
                {"sample": torch.tensor([[0, 1]])},
                labels=torch.tensor([0, 3]),
            ),
            r"labels from 0 to 2 or -100, got .*3",
        ),
        (
            lambda: siamese.class_loss(
                torch.zeros(1, 2, 3),
                {"sample": torch.tensor([[0, 2]])},
                labels=torch.tensor([0, 1]),
            ),
            r"labels from 0 to 1, got .*2",
        ),
        (lambda: siamese.tiny(dim=0), "positive sizes"),
        (lambda: siamese.Classifier(siamese.tiny().mapping, 0), "classes >= 1"),
        (
            lambda: siamese.tiny()(torch.zeros(1, 2, 3, 32, 32)),
            "1 channels",
        ),
        (
            lambda: siamese.tiny()(torch.zeros(1, 2, 1, 32, 32).double()),
            "images of torch.float32, got torch.float64",
        ),
        (
            lambda: siamese.neighbourhood(torch.full((8, 2), torch.nan)),
            "finite points",
        ),
        (
            lambda: siamese.nearest(
                torch.full((1, 2, 3), torch.nan), torch.zeros(1, 1, 3)
            ),
            "finite known points",
        ),
        (lambda: siamese.view_share(torch.full((2, 2, 1), torch.inf)), "finite points"),
        (lambda: siamese.shifted(torch.zeros(1, 1, 4, 4), shifts=()), "shifts of less"),
        (
            lambda: siamese.hits(
                torch.zeros(2, 1, 3),
                torch.tensor([[[0, 2]]]),
                torch.zeros(1, 1, 2).long(),
            ),
            "from 0 to 1",
        ),
        (lambda: siamese.paper(side=20), r"larger than kernels \(6, 9\), got 20"),
        (
            lambda: siamese.tiny()(torch.zeros(0, 2, 1, 32, 32)),
            "expected at least one image",
        ),
        (
            lambda: siamese.tiny()(torch.zeros(1, 2, 1, 28, 28)),
            "expected images of 32x32",
        ),
        (lambda: siamese.shifted(torch.zeros(1, 1, 31, 31)), "by even numbers"),
        (lambda: siamese.shifted(torch.zeros(1, 1, 34, 34)), "smaller than 32"),
        (lambda: siamese.neighbourhood(torch.zeros(3, 2), k=3), "0 < k < 3"),
        (
            lambda: siamese.episodes(torch.tensor([0, 0, 1]), 1, torch.Generator()),
            "two samples of each class",
        ),
        (
            lambda: siamese.Pairs(
                views(2, 1),
                torch.ones(2, 2, dtype=torch.bool),
                batch_size=2,
                generator=torch.Generator(),
            ),
            r"with \[2\] similar ones",
        ),
        (
            lambda: siamese.Pairs(
                views(0, 1),
                torch.ones(0, 0, dtype=torch.bool),
                batch_size=2,
                generator=torch.Generator(),
            ),
            "each of 0",
        ),
        (
            lambda: siamese.Pairs(
                views(3, 1),
                torch.eye(2, dtype=torch.bool),
                batch_size=2,
                generator=torch.Generator(),
            ),
            "each of 3",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object], message: str) -> None:
    with unchecked(), pytest.raises(ValueError, match=message):
        wrong()


def test_zeros_and_ones_are_a_mask() -> None:
    outputs, expected = pairs_at(0.5, 0.5), told(True, False)
    found = siamese.loss(outputs, {"similar": torch.tensor([1, 0])})
    assert found == siamese.loss(outputs, expected)
    similar = siamese.same_class(torch.arange(6) // 2)
    batches = [
        next(
            siamese.Pairs(
                views(6, 2),
                mask,
                batch_size=9,
                generator=torch.Generator().manual_seed(0),
            )
        )
        for mask in (similar, similar.int())
    ]
    assert torch.equal(batches[0]["sample"], batches[1]["sample"])


def test_half_precision_measures_in_single() -> None:
    torch.manual_seed(0)
    net = siamese.tiny().bfloat16()
    outputs = net(torch.rand(4, 2, 1, 32, 32).bfloat16())
    found = siamese.loss(outputs, told(True, False, True, False))
    assert found["loss"].dtype == torch.float32
    found["loss"].backward()
    known, asked = outputs.detach().transpose(0, 1).split(1)
    assert siamese.nearest(known, asked).shape == (1, 4)


def test_layout_changes_nothing() -> None:
    torch.manual_seed(0)
    net, images = siamese.tiny(), torch.rand(4, 1, 32, 32)
    expected = net.mapping(images)
    odd = torch.rand(4, 1, 32, 64)
    odd[..., ::2] = images
    for same in (images.to(memory_format=torch.channels_last), odd[..., ::2]):
        torch.testing.assert_close(net.mapping(same), expected)


def test_points_without_spread_have_no_share() -> None:
    assert siamese.view_share(torch.ones(3, 2, 2)) == 0
