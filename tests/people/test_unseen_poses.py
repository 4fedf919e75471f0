"""Counts of the paper, similarity, prior and warp by hand and against plain loops, the
five stages put together."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from papernets_lite.people import unseen_poses as paper
from tests.helpers import fit

NUM = paper.NUM_JOINTS


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def joints(n: int, side: float = 48, seed: int = 0):
    return (0.1 + 0.8 * torch.rand(n, NUM, 2, generator=seeded(seed))) * side


def conv(before: int, after: int, kernel: int = 3) -> int:
    return kernel * kernel * before * after + after


def by_hand(in_channels: int, pose: int, heads: tuple[int, ...], last: int) -> int:
    """The released nets, layer by layer: 256 pixels down to 8 and up again."""
    down = (
        conv(in_channels, 64, 7)
        + conv(64, 64)
        + conv(64 + pose, 128)
        + 8 * conv(128, 128)
    )
    up = 4 * conv(128 + 128, 128) + conv(128 + 64, last)
    return down + up + sum(conv(last, channels) for channels in heads)


def test_parameters_equal_the_released_code():
    with torch.device("meta"):
        net, plain, judge = paper.paper(), paper.Plain(), paper.Discriminator()
    assert count(net.segment) == by_hand(3, 14, (11,), 32) == 2_555_723
    assert count(net.foreground) == by_hand(30, 14, (3, 1), 64) == 2_694_852
    assert count(net.background) == by_hand(4, 14, (3,), 64) == 2_612_739
    assert count(net) == 7_863_314
    down = (
        conv(3, 64, 7)
        + conv(64, 128)
        + conv(128 + 28, 128)
        + conv(128, 128)
        + conv(128, 256)
        + 6 * conv(256, 256)
    )
    up = 3 * conv(512, 256) + conv(256 + 128, 128) + conv(128 + 64, 64) + conv(64, 3)
    assert count(plain) == down + up == 8_340_995
    convs = conv(3, 64, 5) + conv(64 + 28, 128, 5) + conv(128, 256) + 3 * conv(256, 256)
    dense = 256 * 64 * 256 + 256 + 256 * 256 + 256 + 256 + 1
    assert count(judge) == convs + dense == 6_625_409
    assert abs(count(paper.tiny()) - count(paper.tiny_plain())) < 0.001 * count(
        paper.tiny()
    )


def test_joints_from_openpose():
    points = torch.arange(36.0).reshape(18, 2)
    ours = paper.fourteen(points)
    assert ours[0].tolist() == [33, 34], "between the ears"
    assert torch.equal(ours[1:], points[1:14])


def test_similarity_by_hand():
    start = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    # Twice as long, turned from right to down, moved by (3, 1).
    matrix = paper.similarity(start, torch.tensor([[3.0, 1.0], [3.0, 3.0]]))
    torch.testing.assert_close(
        matrix, torch.tensor([[0.0, -2.0, 3.0], [2.0, 0.0, 1.0]])
    )
    torch.testing.assert_close(paper.similarity(start, start), torch.eye(3)[:2])
    same = paper.similarity(
        torch.full((2, 2), 5.0), torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    )
    torch.testing.assert_close(same, torch.tensor([[1.0, 0.0, -3.0], [0.0, 1.0, -3.0]]))


def test_similarity_is_the_least_squares_solution():
    start, end = (
        torch.rand(5, 4, 2, generator=seeded(1)).double(),
        torch.rand(5, 4, 2, generator=seeded(2)).double(),
    )
    found = paper.similarity(start, end)
    for p, q, matrix in zip(start, end, found, strict=True):
        # x' = a x - b y + c, y' = b x + a y + d, solved for (a, b, c, d).
        rows = [[x, -y, 1, 0] for x, y in p.tolist()] + [
            [y, x, 0, 1] for x, y in p.tolist()
        ]
        a, b, c, d = np.linalg.lstsq(np.array(rows), q.T.flatten().numpy(), rcond=None)[
            0
        ]
        torch.testing.assert_close(
            matrix, torch.tensor([[a, -b, c], [b, a, d]], dtype=torch.double)
        )


def test_transforms_lead_from_the_target_back_to_the_source():
    source, target = joints(3, seed=1), joints(3, seed=2)
    matrices = paper.transforms(source, target)
    for n, part in enumerate(paper.PARTS.values()):
        if len(part) == 2:  # two points are hit exactly
            for joint in part:
                there = torch.cat([target[:, joint], torch.ones(3, 1)], 1)
                back = (matrices[:, n] @ there[..., None])[..., 0]
                torch.testing.assert_close(back, source[:, joint], rtol=1e-4, atol=1e-3)


def loop(layer: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Bilinear reading, pixel by pixel; a pixel's centre lies at +0.5."""
    height, width = layer.shape[1:]
    out = np.zeros_like(layer)
    for row in range(height):
        for column in range(width):
            x, y = matrix @ (column + 0.5, row + 0.5, 1.0) - 0.5
            left, top = math.floor(x), math.floor(y)
            for r, c in (
                (top, left),
                (top, left + 1),
                (top + 1, left),
                (top + 1, left + 1),
            ):
                if 0 <= r < height and 0 <= c < width:
                    out[:, row, column] += (
                        (1 - abs(x - c)) * (1 - abs(y - r)) * layer[:, r, c]
                    )
    return out


def test_warp_equals_the_loop():
    layers = torch.rand(2, 3, 2, 7, 9, generator=seeded()).double()
    matrices = torch.eye(3)[:2] + 0.4 * torch.randn(2, 3, 2, 3, generator=seeded(1))
    matrices[..., 2] *= 5
    matrices = matrices.double()
    moved = paper.warp(layers, matrices)
    for b in range(2):
        for n in range(3):
            expected = torch.from_numpy(
                loop(layers[b, n].numpy(), matrices[b, n].numpy())
            )
            torch.testing.assert_close(moved[b, n], expected)


def test_one_pixel_to_the_right_by_hand():
    layer = torch.arange(12.0).reshape(1, 1, 1, 3, 4)
    # each pixel reads what is one to its left
    read_left = torch.tensor([[[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]]])
    expected = torch.tensor([[0.0, 0, 1, 2], [0, 4, 5, 6], [0, 8, 9, 10]])
    torch.testing.assert_close(
        paper.warp(layer, read_left)[0, 0, 0], expected, rtol=0, atol=1e-5
    )


def test_gradients_pass_the_warp_to_the_layers():
    layers = torch.rand(1, 1, 1, 5, 5, dtype=torch.double, requires_grad=True)
    matrix = torch.tensor([[[[0.9, -0.3, 1.0], [0.3, 0.9, -0.5]]]], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: paper.warp(x, matrix), layers)


def test_prior_by_hand():
    source = torch.full((1, NUM, 2), -500.0)
    # 30 pixels down
    source[0, 2], source[0, 3] = (
        torch.tensor([128.5, 100.5]),
        torch.tensor([128.5, 130.5]),
    )
    maps = paper.prior(source, (256, 256))
    arm = maps[0, 1 + list(paper.PARTS).index("right upper arm")]
    assert arm[115, 128].item() == pytest.approx(1, abs=1e-5), (
        "a peak of one in the middle"
    )
    along, across = 30**2 / 1.5, 11**2
    assert arm[125, 128].item() == pytest.approx(
        math.exp(-(10**2) / (2 * along)), rel=1e-4
    )
    assert arm[115, 118].item() == pytest.approx(
        math.exp(-(10**2) / (2 * across)), rel=1e-4
    )
    torch.testing.assert_close(maps[:, 0], 1 - maps[:, 1:].amax(1))


def test_prior_of_the_torso_runs_from_the_shoulders_to_the_hips():
    source = torch.full((1, NUM, 2), 10.0)
    source[0, [2, 5, 8, 11]] = torch.tensor(
        [[110.5, 80.5], [146.5, 80.5], [118.5, 140.5], [138.5, 140.5]]
    )
    torso = paper.prior(source, (256, 256))[0, -1]
    assert torso[110, 128].item() == pytest.approx(1, abs=1e-5)
    assert torso[110, 115].item() == pytest.approx(math.exp(-0.5), rel=1e-4), (
        "13 pixels aside"
    )
    assert torso[110 + 30, 128].item() == pytest.approx(
        math.exp(-(30**2) / (2 * 60**2 / 1.5)), rel=1e-4
    )


def test_prior_scales_with_the_picture_and_survives_coinciding_joints():
    source = joints(2, 256, seed=3)
    large, small = paper.prior(source, (256, 256)), paper.prior(source / 4, (64, 64))
    pooled = torch.nn.functional.avg_pool2d(large, 4)
    assert (pooled - small).abs().mean() < 0.01
    spot = paper.prior(torch.full((1, NUM, 2), 32.0), (64, 64))
    assert spot.isfinite().all()
    assert spot.mean(dim=(2, 3))[0, 1:].max() < 0.1


def test_untouched_masks_are_the_priors_softmax():
    net = paper.tiny()
    for head in net.segment.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    images, source, target = torch.rand(2, 3, 48, 48), joints(2), joints(2, seed=1)
    out = net(images, source, target)
    first = paper.prior(source, (48, 48)) + 1e-10
    torch.testing.assert_close(out.masks, first / first.sum(1, keepdim=True))
    torch.testing.assert_close(out.masks.sum(1), torch.ones(2, 48, 48))


def test_the_composite_is_its_stages():
    net = paper.tiny()
    images, source, target = torch.rand(2, 3, 48, 48), joints(2), joints(2, seed=1)
    out = net(images, source, target)
    torch.testing.assert_close(
        out.image, out.alpha * out.foreground + (1 - out.alpha) * out.background
    )
    cut = out.masks[:, 1:, None] * (2 * images - 1)[:, None]
    torch.testing.assert_close(
        out.layers, paper.warp(cut, paper.transforms(source, target))
    )
    still = paper.PoseWarp(down=(4, 4, 4), up=(4,), up_images=(4,), moves=False)(
        images, source, target
    )
    cut = still.masks[:, 1:, None] * (2 * images - 1)[:, None]
    torch.testing.assert_close(still.layers, cut, rtol=1e-3, atol=1e-3)


def test_the_mask_begins_at_the_targets_prior_or_as_the_paper_at_one_half():
    images, source, target = torch.rand(2, 3, 48, 48), joints(2), joints(2, seed=1)
    for start in (0.95, 0.5):
        net = paper.tiny(start=start)
        torch.nn.init.zeros_(net.foreground.heads[1].weight)
        found = net(images, source, target).alpha
        person = 1 - paper.prior(target, (48, 48))[:, :1]
        torch.testing.assert_close(found, person.clamp(1 - start, start))
    assert paper.paper().start == 0.5


def test_a_guided_rival_sees_the_prior_of_both_poses():
    images, source, target = torch.rand(2, 3, 48, 48), joints(2), joints(2, seed=1)
    seen = []
    for net in (paper.tiny_plain(guided=False), paper.tiny_plain()):
        net.net.register_forward_hook(lambda module, given, out: seen.append(given[0]))
        assert net(images, source, target).shape == images.shape
    plain, guided = seen
    assert torch.equal(plain, 2 * images - 1)
    priors = [paper.prior(one, (48, 48)) for one in (source, target)]
    assert torch.equal(guided, torch.cat([plain, *priors], 1))


def test_formulas_alone_move_a_person_and_fill_the_room():
    source = joints(2, seed=1)
    plain = torch.full((2, 3, 48, 48), 0.3)
    same = paper.by_formula(plain, source, joints(2, seed=2))
    torch.testing.assert_close(same, plain, atol=2e-3, rtol=0)
    # a red person in a blue room steps aside by ten pixels
    person = 1 - paper.prior(source, (48, 48))[:, :1]
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])[..., None, None]
    images = person * colours[0] + (1 - person) * colours[1]
    aside = torch.tensor([10.0, 0.0])
    answer = paper.by_formula(images, source, source + aside)
    known = images[..., :-10]
    assert (answer[..., 10:] - known).abs().mean() < (
        answer[..., :-10] - known
    ).abs().mean()


def test_the_background_net_never_sees_the_target():
    net = paper.tiny()
    images, source = torch.rand(1, 3, 48, 48), joints(1)
    one, other = (
        net(images, source, joints(1, seed=1)),
        net(images, source, joints(1, seed=2)),
    )
    assert torch.equal(one.background, other.background)
    assert not torch.equal(one.foreground, other.foreground)


def test_pose_maps_have_the_papers_gaussian():
    points = torch.full((1, NUM, 2), 101.0)
    maps = paper.pose_maps(points, torch.zeros(1, 3, 256, 256), paper.SIGMA)
    assert maps.shape == (1, NUM, 128, 128)
    # the centre of cell 50 lies at pixel 101
    assert maps[0, 0, 50, 50].item() == pytest.approx(1)
    assert maps[0, 0, 50, 52].item() == pytest.approx(math.exp(-(2**2) / (2 * 1.75**2)))
    assert maps[0, 0, 50, 70] == 0


def test_sizes_on_the_way():
    net = paper.UNet(3, 2, down=(4, 5, 6, 7, 8), up=(9, 10), heads=(1, 3), kernel=7)
    seen = []
    for layer in [*net.down, *net.up]:
        layer.register_forward_hook(
            lambda module, inputs, out: seen.append(
                (inputs[0].shape[1], *out.shape[1:3])
            )
        )
    one, three = net(torch.zeros(1, 3, 16, 16), torch.zeros(1, 2, 8, 8))
    assert seen == [
        (3, 4, 16),
        (4, 5, 8),
        (7, 6, 8),
        (6, 7, 4),
        (7, 8, 4),
        (14, 9, 8),
        (13, 10, 16),
    ]
    assert (one.shape, three.shape) == ((1, 1, 16, 16), (1, 3, 16, 16))


def test_loss_by_hand():
    ours, truth = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), 0.25)
    batch = {"truth": truth}
    assert paper.loss(ours, batch)["loss"].item() == pytest.approx(0.25)
    pick = torch.nn.Conv2d(3, 1, 1, bias=False)
    torch.nn.init.constant_(pick.weight, 2.0)
    layers = torch.nn.ModuleList([pick, torch.nn.ReLU()])
    deviations = [torch.tensor([1.4])]
    terms = paper.loss(
        ours, batch, layers=layers, statistics=deviations, scores=torch.zeros(1)
    )
    assert terms["features"].item() == pytest.approx(6 * 0.25 / 1.5)
    assert terms["fool"].item() == pytest.approx(math.log(2))
    assert terms["loss"].item() == pytest.approx(1.0 + 0.1 * math.log(2))


def test_the_judge_needs_both_poses():
    torch.manual_seed(0)
    judge = paper.Discriminator(64)
    images, maps = torch.rand(2, 3, 64, 64), torch.rand(2, NUM, 32, 32)
    assert judge(images, maps, maps).shape == (2,)
    assert not torch.equal(judge(images, maps, maps), judge(images, maps, 0 * maps))


def test_both_nets_learn_from_the_target_frame_alone():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 16, 16)
    source, target = joints(4, 16), joints(4, 16, seed=1)
    batch = {"truth": torch.full((4, 3, 16, 16), 0.9)}
    for net in (paper.tiny(), paper.tiny_plain()):
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        losses = fit(
            lambda net=net: paper.loss(net(images, source, target), batch)["loss"],
            optimizer,
            30,
        )
        assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("build", [paper.tiny, paper.tiny_plain])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_net_in_bfloat16_trains(build, layout):
    torch.manual_seed(0)
    net = build().bfloat16()
    images = torch.rand(2, 3, 48, 48).bfloat16().to(memory_format=layout)
    source, target = joints(2).bfloat16(), joints(2, seed=1).bfloat16()
    answer = net(images, source, target)
    loss = paper.loss(answer, {"truth": images})["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_half_the_bits_give_nearly_the_same_picture():
    torch.manual_seed(0)
    net = paper.tiny()
    images, source, target = torch.rand(2, 3, 48, 48), joints(2), joints(2, seed=1)
    exact = net(images, source, target)
    short = net.bfloat16()(images.bfloat16(), source, target)
    for name in ("image", "masks", "layers", "alpha"):
        ours, theirs = getattr(short, name), getattr(exact, name)
        assert ours.dtype == torch.bfloat16
        assert (ours - theirs).abs().mean() < 0.01, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int64])
def test_joints_may_be_numpys_doubles_and_integers(dtype):
    net = paper.tiny()
    images = torch.rand(2, 3, 48, 48)
    source, target = joints(2).round(), joints(2, seed=1).round()
    expected = net(images, source, target).image
    found = net(images, source.to(dtype), target.to(dtype)).image
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_joints_that_are_not_finite_are_refused(bad):
    broken = joints(2)
    broken[1, 3, 0] = bad
    for call in (
        lambda: paper.tiny()(torch.rand(2, 3, 48, 48), broken, joints(2)),
        lambda: paper.tiny()(torch.rand(2, 3, 48, 48), joints(2), broken),
        lambda: paper.prior(broken, (48, 48)),
        lambda: paper.transforms(joints(2), broken),
        lambda: paper.similarity(broken, joints(2)),
    ):
        with pytest.raises(ValueError, match="finite"):
            call()
    layers = torch.rand(1, 1, 1, 5, 5)
    with pytest.raises(ValueError, match="finite matrices"):
        paper.warp(layers, torch.full((1, 1, 2, 3), bad))


def test_what_does_not_fit_together_is_refused():
    images, fine = torch.rand(2, 3, 48, 48), joints(2)
    maps = paper.pose_maps(fine, images, 0.8)
    with pytest.raises((ValueError, TypeCheckError)):
        paper.tiny()(images, fine[:1], fine[:1])
    with pytest.raises(ValueError, match=r"joints \(2, 14, 2\), got \(2, 18, 2\)"):
        paper.prior(torch.rand(2, 18, 2), (48, 48))
    with pytest.raises((ValueError, TypeCheckError)):
        paper.fourteen(torch.rand(2, 17, 2))
    with pytest.raises(ValueError, match=r"pictures \(1, 3, 48, 48\), got \(2, "):
        paper.loss(images, {"truth": images[:1]})
    with pytest.raises(ValueError, match="deviations for 12 maps, got 0"):
        paper.loss(images, {"truth": images}, layers=paper.features())
    with pytest.raises(ValueError, match=r"\(b, 3, 64, 64\), got \(2, 3, 48, 48\)"):
        paper.Discriminator(64)(images, maps, maps)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="expected 2 x 2"):
        paper.UNet(3, 2, down=(4, 4, 4), up=(4, 4), heads=(1,))
    with pytest.raises(ValueError, match=r"0.5 <= start < 1, got 1"):
        paper.tiny(start=1)
    with pytest.raises(ValueError, match="divisible by 8, got"):
        paper.tiny()(torch.rand(1, 3, 44, 44), joints(1), joints(1))
