"""The spiral's way by hand, the theorem by counting, the block against its formula, the
table's cost, and the detector's counts against the paper."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from papernets_lite.backbones import mobilenet_v2 as v2
from papernets_lite.detection import ssd
from tests.helpers import fit, randomise_


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def operations(net: nn.Module, *shape: int) -> int:
    """Multiply-adds for one input."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net.eval()(torch.rand(1, *shape))
    return counter.get_total_flops() // 2


def test_there_and_back_by_hand() -> None:
    points = torch.tensor([[3.0, 4.0], [-3.0, 4.0], [-3.0, -4.0]])
    # T is the identity: what is negative is lost
    expected = torch.tensor([[3.0, 4.0], [0.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(v2.there_and_back(points, torch.eye(2)), expected)
    # each axis once as it is and once reversed: ReLU keeps |x| of one of each pair, and
    # the pseudo-inverse halves it
    both = torch.cat([torch.eye(2), -torch.eye(2)])
    torch.testing.assert_close(v2.there_and_back(points, both), points / 2)


@pytest.mark.parametrize("dims", [2, 3, 15])
def test_without_an_activation_everything_comes_back(dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, 2, generator=generator)
    matrix = torch.randn(dims, 2, generator=generator)
    back = v2.there_and_back(points, matrix, lambda x: x)
    torch.testing.assert_close(back, points, rtol=1e-3, atol=1e-4)


def test_what_is_left_by_hand() -> None:
    points = torch.tensor([[3.0, 4.0], [-3.0, 4.0], [-3.0, -4.0]])
    found, certain = v2.what_is_left(points, torch.eye(2))
    expected = torch.tensor([[3.0, 4.0], [0.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(found, expected)
    assert certain.tolist() == [True, False, False]
    both = torch.cat([torch.eye(2), -torch.eye(2)])
    found, certain = v2.what_is_left(points, both)
    torch.testing.assert_close(found, points)
    assert certain.all()
    # two positive rows that say the same are one
    twice = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    assert v2.what_is_left(points, twice)[1].tolist() == [True, False, False]


@pytest.mark.parametrize("dims", [2, 3, 7])
def test_what_is_certain_comes_back_exactly(dims: int) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(200, 3, generator=generator)
    matrix = torch.randn(dims, 3, generator=generator)
    found, certain = v2.what_is_left(points, matrix)
    assert certain.any() or dims < 3
    torch.testing.assert_close(found[certain], points[certain], rtol=1e-2, atol=1e-2)
    # the shortest solution is no longer than the point itself
    assert (found.norm(dim=1) <= points.norm(dim=1) * 1.01).all()


@pytest.mark.parametrize(("m", "dims"), [(2, 2), (2, 5), (3, 3), (3, 9)])
def test_random_directions_keep_the_share_of_theorem_1(m: int, dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(1, m, generator=generator)
    tries = torch.randn(4000, dims, m, generator=generator)
    kept = [v2.what_is_left(point, matrix)[1].item() for matrix in tries]
    expected = sum(math.comb(dims, k) for k in range(m, dims + 1)) / 2**dims
    assert sum(kept) / len(kept) == pytest.approx(expected, abs=0.03)
    assert v2.share_kept(m, dims) == pytest.approx(expected)


def test_channels_are_rounded_as_in_the_released_code() -> None:
    # 0.35 * 24 = 8.4, 1.4 * 32 = 44.8, 0.75 * 24 = 18 -> 16 loses more than a tenth
    found = [v2.rounded(x) for x in (8.4, 44.8, 18.0, 11.2, 1.0, 448.0)]
    assert found == [8, 48, 24, 16, 8, 448]


@pytest.mark.parametrize("expansion", [1, 6, 0.5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_its_formula(stride: int, expansion: float) -> None:
    """h w t k (k + d^2 + k') multiply-adds, Section 3.3, and Table 1's shapes."""
    torch.manual_seed(0)
    block = v2.Bottleneck(8, 8, stride=stride, expansion=expansion)
    wide = round(8 * expansion)
    side = 12 // stride
    expand = 0 if expansion == 1 else 12 * 12 * 8 * wide
    expected = expand + side * side * wide * (9 + 8)
    assert operations(block, 8, 12, 12) == expected
    x = torch.randn(2, 8, 12, 12)
    branch = nn.Sequential(*block.branch)
    shape = (2, 8, side, side)
    assert branch(x).shape == shape
    added = x if stride == 1 else 0
    torch.testing.assert_close(block(x), branch(x) + added)
    activations = [m for m in block.modules() if isinstance(m, nn.ReLU6)]
    assert len(activations) == (1 if expansion == 1 else 2)
    assert isinstance(block.branch[-1][-1], nn.BatchNorm2d)


def test_the_input_is_added_only_where_it_fits() -> None:
    assert v2.Bottleneck(8, 8).residual
    assert not v2.Bottleneck(8, 16).residual
    assert not v2.Bottleneck(8, 8, stride=2).residual
    assert not v2.Bottleneck(8, 8, residual=False).residual


def test_the_controls_have_the_same_weights() -> None:
    states = []
    for settings in ({}, {"linear": False}, {"residual": False}):
        torch.manual_seed(0)
        states.append(v2.tiny(**settings).state_dict())
    for other in states[1:]:
        assert list(other) == list(states[0])
        assert all(torch.equal(other[k], states[0][k]) for k in other)


def test_a_relu_in_the_bottleneck_leaves_nothing_negative() -> None:
    x = torch.randn(2, 8, 6, 6)
    torch.manual_seed(0)
    linear = v2.Bottleneck(8, 12)(x)
    torch.manual_seed(0)
    bent = v2.Bottleneck(8, 12, linear=False)(x)
    assert linear.min() < 0
    torch.testing.assert_close(bent, linear.clamp(0, 6))


def test_every_thin_width_is_as_wide_inside() -> None:
    for thin in (3, 6, 12, 24, 48):
        net = v2.tiny(thin=thin)
        inside = {b.branch[-1][0].in_channels for b in net.rows[1]}
        assert inside == {48}


def test_the_paper_has_seventeen_blocks() -> None:
    with torch.device("meta"):
        net = v2.paper()
    assert len(net.blocks) == 17
    assert sum(block.residual for block in net.blocks) == 10


def test_watching_a_net() -> None:
    torch.manual_seed(0)
    net = v2.tiny().eval()
    x = torch.rand(3, 3, 32, 32)
    first, second = net.blocks[:2]
    found = v2.watch(net, [first, second.branch[0]], x)
    expected = first(net.stem(x))
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], second.branch[0](expected))
    assert found[1].shape == (3, 48, 8, 8)
    assert not any(m._forward_hooks for m in net.modules()), "a hook was left behind"


def test_the_width_multiplier_spares_the_last_convolution_below_one() -> None:
    with torch.device("meta"):
        assert v2.paper(width=0.35).width == 1280
        assert v2.paper(width=1.4).width == 1792
        assert v2.paper(width=0.35).stem[0].out_channels == 16
        assert v2.paper(width=1.4).stem[0].out_channels == 48


@pytest.mark.parametrize(
    ("size", "millions"), [(224, 300), (192, 221), (160, 154), (128, 99), (96, 56)]
)
def test_operations_are_the_released_tables(size: int, millions: int) -> None:
    assert operations(v2.paper(), 3, size, size) / 1e6 == pytest.approx(millions, 0.013)


def test_ssdlite_has_the_counts_of_tables_5_and_6() -> None:
    """The released detector has three boxes in a cell of its first map, for which
    `ssd` has no ratios: the counts are those in the middle of two and four."""
    learnt, costs, wholes, totals = {}, {}, {}, {}
    for lite in (True, False):
        nets = []
        for first in ((), (2,)):
            nets.append(v2.detector(lite=lite, ratios=(first, *((2, 3),) * 5)))
        trunk, shape = nets[0].stages[:2], (3, 320, 320)
        whole = sum(operations(net, *shape) for net in nets) / 2
        wholes[lite] = sum(map(count, nets)) / 2
        learnt[lite] = wholes[lite] - count(trunk)
        totals[lite] = whole
        costs[lite] = whole - operations(nn.Sequential(*trunk), *shape)
    assert learnt[False] / 1e6 == pytest.approx(14.8, abs=0.05)
    assert costs[False] / 1e9 == pytest.approx(1.25, abs=0.01)
    assert learnt[True] / 1e6 == pytest.approx(2.1, abs=0.05)
    assert wholes[True] / 1e6 == pytest.approx(4.3, abs=0.05)
    assert totals[True] / 1e9 == pytest.approx(0.8, abs=0.05)


def test_the_detector_reads_its_maps_where_the_paper_says() -> None:
    torch.manual_seed(0)
    net = v2.detector(num_classes=3).eval()
    with torch.no_grad():
        maps = net.maps(torch.rand(1, 3, 320, 320))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (576, 20, 20),
        (1280, 10, 10),
        (512, 5, 5),
        (256, 3, 3),
        (256, 2, 2),
        (128, 1, 1),
    ]


def test_the_detectors_trunk_is_the_classifier() -> None:
    torch.manual_seed(0)
    net = v2.paper(width=0.35)
    randomise_(net)
    settings = {"strides": (16, 32), "scales": (0.2, 0.5, 0.9), "ratios": ((2,), (2,))}
    found = v2.Detector(net, extras=(), num_classes=2, **settings).eval()
    net.eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        coarse = found.maps(x)[1]
        torch.testing.assert_close(net.head(coarse.mean((2, 3))), net(x))


def test_separated_heads_answer_for_the_same_boxes() -> None:
    torch.manual_seed(0)
    full = ssd.tiny()
    heads = count(full.class_heads) + count(full.code_heads)
    stages = count(full.stages)
    wanted = full(torch.rand(1, 3, 64, 64))
    lite = v2.separate_(full)
    found = lite(torch.rand(1, 3, 64, 64))
    assert found.logits.shape == wanted.logits.shape
    assert found.codes.shape == wanted.codes.shape
    assert count(lite.stages) == stages
    # c channels, n numbers: 9 c n + n before; 9 c + 2 c + c n + n now
    plan = [(c, 4 * k) for c in (32, 48, 64) for k in (5, 4)]
    assert heads == sum(9 * c * n + n for c, n in plan)
    new = count(lite.class_heads) + count(lite.code_heads)
    assert new == sum(11 * c + c * n + n for c, n in plan)


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = v2.tiny()
    images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 8
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = fit(
        lambda: v2.loss(net(images), {"labels": labels})["loss"], optimizer, 40
    )
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: v2.Bottleneck(0, 8), "in_channels >= 1"),
        (lambda: v2.Bottleneck(8, 8, stride=0), "stride >= 1"),
        (lambda: v2.Bottleneck(8, 8, expansion=0.01), "leaves a channel"),
        (lambda: v2.Bottleneck(8, 8, expansion=-6), "leaves a channel"),
        (lambda: v2.tiny(thin=0), "thin >= 1"),
        (lambda: v2.tiny(num_classes=0), "num_classes >= 1"),
        (lambda: v2.tiny(rows=()), "at least one row"),
        (lambda: v2.tiny(rows=((6, 8, 0, 1),)), "blocks >= 1"),
        (lambda: v2.tiny(rows=((6, 0, 1, 1),)), "channels >= 1"),
        (lambda: v2.paper(width=0.0), "a positive width"),
        (lambda: v2.paper(width=math.nan), "a positive width"),
        (lambda: v2.there_and_back(torch.rand(3, 2), torch.rand(1, 2)), "d >= 2"),
        (lambda: v2.there_and_back(torch.rand(3, 2), torch.rand(4, 3)), "d >= 2"),
        (
            lambda: v2.what_is_left(torch.rand(3, 2), torch.rand(4, 3)),
            r"a matrix \(d, 2\)",
        ),
        (lambda: v2.share_kept(0, 3), "m >= 1"),
        (lambda: v2.detector(cut=0), "an expansion and without"),
        (lambda: v2.detector(cut=9), "a row of the net"),
        (lambda: v2.detector(num_classes=0), "at least one class"),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_images_of_another_kind_are_refused() -> None:
    net = v2.tiny().eval()
    with pytest.raises(ValueError, match="3 channels"):
        net(torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"images of torch\.float32"):
        net(torch.rand(2, 3, 32, 32).double())
    with pytest.raises(ValueError, match="at least one image"):
        net(torch.zeros(0, 3, 32, 32))
    half = net.bfloat16()(torch.rand(2, 3, 33, 17).bfloat16())
    assert half.isfinite().all()


def test_every_override_reaches_the_net() -> None:
    with torch.device("meta"):
        for build in (v2.tiny, v2.paper):
            net = build(num_classes=4, linear=False, residual=False, stem=24)
            assert net.head.out_features == 4
            assert net.stem[0].out_channels == 24
            assert not any(block.residual for block in net.blocks)
            assert all(isinstance(b.branch[-1][-1], nn.ReLU6) for b in net.blocks)


def kept_by_hand(m: int, dims: int) -> float:
    return 1 - sum(math.comb(dims, k) for k in range(m)) / 2**dims


@pytest.mark.parametrize(("m", "dims"), [(1, 1), (2, 2), (4, 24), (16, 96)])
def test_theorem_1_by_its_complement(m: int, dims: int) -> None:
    assert v2.share_kept(m, dims) == pytest.approx(kept_by_hand(m, dims))
    assert v2.share_kept(m, m - 1) == 0
