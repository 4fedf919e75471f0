"""One window by hand, what the pool becomes at both ends, its symmetries, sampling, and
the counts at the paper's scale."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from papernets_lite.backbones import dpp, resnet
from tests.helpers import fit


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def set_(layer: dpp.DPP, *, alpha: float, exponent: float) -> dpp.DPP:
    """A layer whose channels all have these two numbers."""
    nn.init.constant_(layer.log_alpha, math.log(alpha))
    nn.init.constant_(layer.log_lambda, math.log(exponent))
    return layer


def test_one_window_by_hand() -> None:
    """Pixels 1, 1, 1, 5 have the mean 2, so that their squares are 1, 1, 1, 9 and these
    have the mean 3 + epsilon squared."""
    x = torch.tensor([[[[1.0, 1], [1, 5]]]])
    mean = 3 + dpp.EPSILON2
    small, large = (1 + dpp.EPSILON2) / mean, (9 + dpp.EPSILON2) / mean
    pooled, weights = dpp.pool(x, alpha=0.5, exponent=2.0)
    total = 3 * (0.5 + small) + 0.5 + large
    shares = [(0.5 + small) / total] * 3 + [(0.5 + large) / total]
    torch.testing.assert_close(weights.flatten(), torch.tensor(shares))
    by_hand = 3 * shares[0] + 5 * shares[3]
    assert pooled.item() == pytest.approx(by_hand)
    # Asym: only the 5 lies above the mean; the others earn epsilon's share.
    _, weights = dpp.pool(x, alpha=0.0, exponent=2.0, asymmetric=True)
    rest = dpp.EPSILON2 / (9 + 4 * dpp.EPSILON2)
    torch.testing.assert_close(weights.flatten()[:3], torch.tensor([rest] * 3))


def test_windows_in_order() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    cut = dpp.windows(x)
    assert cut[:, 0, 0, 0, 1].tolist() == [2, 3, 6, 7]
    assert dpp.windows(x, 2, stride=1)[:, 0, 0, 1, 2].tolist() == [6, 7, 10, 11]
    assert dpp.windows(x, 3).shape == (9, 1, 1, 1, 1)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_much_alpha_or_no_lambda_is_an_average(asymmetric: bool) -> None:
    x = maps(2, 3, 8, 6)
    wanted = functional.avg_pool2d(x, 2)
    for numbers in (dict(alpha=1e8, exponent=3.0), dict(alpha=0.3, exponent=0.0)):
        pooled, weights = dpp.pool(x, asymmetric=asymmetric, **numbers)
        torch.testing.assert_close(pooled, wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(weights.sum(0), torch.ones_like(pooled))


def test_asym_with_a_large_lambda_is_max_pooling() -> None:
    x = maps(2, 3, 8, 6)
    pooled, _ = dpp.pool(x, alpha=0.0, exponent=50.0, asymmetric=True)
    near = (pooled - functional.max_pool2d(x, 2)).abs()
    assert near.median() < 1e-5
    assert near.mean() < 0.01, "only where two pixels are nearly as high"


def test_sym_with_a_large_lambda_takes_the_pixel_that_differs_most() -> None:
    x = maps(2, 3, 8, 6)
    pixels = dpp.windows(x)
    place = (pixels - pixels.mean(0)).abs().argmax(0, keepdim=True)
    pooled, _ = dpp.pool(x, alpha=0.0, exponent=50.0)
    assert (pooled - pixels.gather(0, place)[0]).abs().median() < 1e-4


def test_sym_knows_no_sign_and_asym_does() -> None:
    x = maps(2, 3, 8, 8)
    sym = partial(dpp.pool, alpha=0.1, exponent=4.0)
    torch.testing.assert_close(sym(-x)[0], -sym(x)[0])
    asym = partial(sym, asymmetric=True)
    assert (asym(-x)[0] + asym(x)[0]).abs().mean() > 0.1


@pytest.mark.parametrize("asymmetric", [False, True])
def test_a_constant_is_passed_on_and_contrast_does_not_matter(asymmetric: bool) -> None:
    x = maps(2, 3, 8, 8)
    pool = partial(dpp.pool, alpha=0.1, exponent=4.0, asymmetric=asymmetric)
    torch.testing.assert_close(pool(x + 3)[0], pool(x)[0] + 3, atol=1e-4, rtol=0)
    large = pool(100 * x)[0] / 100
    again = pool(1000 * x)[0] / 1000
    torch.testing.assert_close(large, again, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_every_second_place_of_stride_one_is_stride_two(
    full: bool, asymmetric: bool
) -> None:
    torch.manual_seed(0)
    layer = dpp.DPP(3, full=full, asymmetric=asymmetric)
    x = maps(2, 3, 8, 6)
    everywhere = layer.slide(x, 1)
    assert everywhere.shape == x.shape
    torch.testing.assert_close(everywhere[..., ::2, ::2], layer(x))


def test_a_layer_is_the_pool_with_its_own_numbers() -> None:
    layer = dpp.DPP(2)
    with torch.no_grad():
        layer.log_alpha.copy_(torch.tensor([0.1, 2.0]).log().view(2, 1, 1))
        layer.log_lambda.copy_(torch.tensor([7.0, 0.5]).log().view(2, 1, 1))
    x = maps(3, 2, 6, 8)
    for channel, (alpha, exponent) in enumerate([(0.1, 7.0), (2.0, 0.5)]):
        one = x[:, channel : channel + 1]
        wanted, _ = dpp.pool(one, alpha=alpha, exponent=exponent)
        torch.testing.assert_close(layer(x)[:, channel : channel + 1], wanted)


def test_full_holds_pixels_against_its_own_filter() -> None:
    """A filter that takes the pixel itself: the window's first pixel differs from
    nothing, so that it weighs least."""
    layer = set_(dpp.DPP(1, full=True), alpha=1e-6, exponent=2.0)
    assert layer.filter is not None
    with torch.no_grad():
        layer.filter.weight.zero_()
        layer.filter.weight[0, 0, 1, 1] = 1
    x = torch.tensor([[[[0.0, 3], [0, 0]]]])
    assert layer(x).item() == pytest.approx(3, abs=0.01)
    x = torch.tensor([[[[3.0, 0], [0, 0]]]])
    assert layer(x).item() == pytest.approx(0, abs=0.01)


def test_parameters_of_each_kind() -> None:
    assert count(dpp.DPP(64)) == 2 * 64
    assert count(dpp.DPP(64, full=True)) == 11 * 64
    assert count(dpp.S3DPP(64)) == 2 * 64
    assert count(dpp.Mixture(64)) == 3 * 64  # of which two are free


def test_the_start_is_near_one() -> None:
    torch.manual_seed(0)
    layer = dpp.DPP(64)
    for number in (layer.log_alpha, layer.log_lambda):
        assert number.abs().max() <= 1 / 8
        assert number.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.2)
    huge = set_(dpp.DPP(1), alpha=1e30, exponent=1e30)
    assert huge.alpha.item() == pytest.approx(math.exp(10))
    assert huge.exponent.item() == pytest.approx(math.exp(4))
    assert huge(maps(1, 1, 4, 4)).isfinite().all()


def test_the_released_layer_in_its_own_steps() -> None:
    """The steps of the released Lite layer, one after the other, as an oracle."""
    x = maps(2, 3, 8, 8)
    layer = set_(dpp.DPP(3), alpha=0.3, exponent=2.5)
    up = partial(functional.interpolate, scale_factor=2, mode="nearest")
    square = (x - up(functional.avg_pool2d(x, 2))) ** 2 + 1e-3
    relative = square / up(functional.avg_pool2d(square, 2))
    weights = relative ** (2.5 / 2) + 0.3
    wanted = functional.avg_pool2d(x * weights, 2) / functional.avg_pool2d(weights, 2)
    torch.testing.assert_close(layer(x), wanted)


def test_both_numbers_and_the_maps_get_gradients() -> None:
    layer = dpp.DPP(2)
    # flat windows too, where a power of nothing would have no slope
    x = torch.cat([maps(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)]).requires_grad_()
    (layer(x) ** 2).sum().backward()
    for value in (x, layer.log_alpha, layer.log_lambda):
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.abs().sum() > 0


@pytest.mark.parametrize("asymmetric", [False, True])
def test_slopes_are_those_of_differences(asymmetric: bool) -> None:
    layer = dpp.DPP(2, asymmetric=asymmetric, full=True).double()
    x = maps(1, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("number", [2, 3, 6, 8, 9, 32])
def test_s3_keeps_half_of_the_rows_in_order(number: int) -> None:
    torch.manual_seed(0)
    drawn = [dpp.chosen(number).tolist() for _ in range(30)]
    assert all(len(rows) == number // 2 or number % 2 for rows in drawn)
    assert all(rows == sorted(set(rows)) for rows in drawn)
    assert {row for rows in drawn for row in rows} <= set(range(number))
    if number == 32:
        assert all(sum(row < 16 for row in rows) == 8 for rows in drawn)
        assert len({tuple(rows) for rows in drawn}) == 30


def test_s3_samples_in_training_and_averages_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = dpp.S3DPP(3)
    x = maps(2, 3, 8, 8)
    everywhere = layer.slide(x, 1)
    first, second = layer(x), layer(x)
    assert first.shape == (2, 3, 4, 4)
    assert not torch.equal(first, second)
    known = everywhere.flatten().tolist()
    assert set(first.flatten().tolist()) <= set(known)
    layer.eval()
    torch.testing.assert_close(layer(x), functional.avg_pool2d(everywhere, 2))
    assert torch.equal(layer(x), layer(x))


def test_dpid_by_hand() -> None:
    """A white pixel on black, shrunk to one: the reference is the mean, 0.25, and the
    white pixel lies three times as far from it as each black one."""
    image = torch.zeros(1, 3, 2, 2)
    image[..., 1, 0] = 1
    assert dpp.dpid(image, 2, exponent=1.0)[0, 0].item() == pytest.approx(3 / 6)
    assert dpp.dpid(image, 2, exponent=2.0)[0, 0].item() == pytest.approx(9 / 12)
    x = torch.rand(2, 3, 12, 8)
    torch.testing.assert_close(
        dpp.dpid(x, 4, exponent=0.0), functional.avg_pool2d(x, 4)
    )
    flat = torch.full((1, 3, 8, 8), 0.4)
    torch.testing.assert_close(dpp.dpid(flat, 4), flat[..., ::4, ::4])


def test_dpids_reference_is_smoothed_over_the_neighbours() -> None:
    """Of 3x3 windows, all black but the middle one, which is white: there the reference
    is 4/16, next to it 2/16, in a corner 1/16."""
    image = torch.zeros(1, 1, 6, 6)
    image[..., 2:4, 2:4] = 1
    image[..., 0, 0] = 1  # a corner's own pixel: its window's mean is 1/4
    reference = (1 / 4 * 9 + 1) / 16  # the corner repeats outwards: 9 of 16 parts
    far, near = 1 - reference, reference
    wanted = far / (far + 3 * near)
    assert dpp.dpid(image, 2)[0, 0, 0, 0].item() == pytest.approx(wanted)


def test_a_mixture_starts_even_and_lies_between() -> None:
    x = maps(2, 3, 8, 8)
    layer = dpp.Mixture(3)
    most, least = functional.max_pool2d(x, 2), -functional.max_pool2d(-x, 2)
    torch.testing.assert_close(
        layer(x), (most + functional.avg_pool2d(x, 2) + least) / 3
    )
    with torch.no_grad():
        layer.logits[0] = 30.0
    torch.testing.assert_close(layer(x), most)
    torch.testing.assert_close(dpp.MaxMin()(x), torch.cat([most, least], 1))


def test_a_strided_rival_starts_as_an_average() -> None:
    x = maps(2, 3, 8, 8)
    wanted = functional.avg_pool2d(x, 3, 2, padding=1)
    torch.testing.assert_close(dpp.strided(3)(x), wanted)


@pytest.mark.parametrize("pool", [dpp.DPP, dpp.Mixture, lambda _: dpp.MaxMin()])
def test_a_reader_reads_whatever_its_pools_make(pool: dpp.Pool) -> None:
    net = dpp.Reader(pool=pool)
    assert net(torch.rand(2, 1, 16, 24)).shape == (2, 4)
    assert [layer.stride for layer in net.layers if isinstance(layer, nn.Conv2d)] == [
        (1, 1)
    ] * 2


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({}, 2),
        ({"pool": partial(dpp.DPP, full=True)}, 11),
        ({"pool": dpp.S3DPP}, 2),
        ({"pool": lambda _: nn.MaxPool2d(2)}, 0),
    ],
)
def test_parameters_are_resnets_and_the_pools(settings: dict, extra: int) -> None:
    with torch.device("meta"):
        ours, theirs = dpp.paper(**settings), resnet.paper(depth=50)
        assert count(theirs) == 25_557_032
        assert count(ours) == count(theirs) + extra * (512 + 1024 + 2048)
        small = dpp.cifar(**settings), resnet.cifar(110, option="B")
        assert count(small[0]) == count(small[1]) + extra * (32 + 64)


def test_counts_at_the_papers_scale() -> None:
    with torch.device("meta"):
        assert count(dpp.paper()) == 25_564_200
        assert count(dpp.paper(depth=101)) == 44_556_328
        assert count(dpp.cifar()) == 1_730_906


def test_nothing_strides_behind_the_stem_and_pools_follow_a_relu() -> None:
    net = dpp.paper(depth=50)
    convolutions = [m for m in net.layers.modules() if isinstance(m, nn.Conv2d)]
    assert {m.stride for m in convolutions} == {(1, 1)}
    places = [i for i, m in enumerate(net.layers) if isinstance(m, dpp.DPP)]
    # behind the first units of stages 2, 3 and 4: 3, 4, 6, 3 units and their pools
    assert places == [4, 9, 16]
    for place in places:
        unit = net.layers[place - 1]
        assert isinstance(unit, resnet.Unit)
        assert isinstance(unit.after[-1], nn.ReLU)
        assert isinstance(unit.shortcut, nn.Sequential), "it projects to new channels"


def test_a_stride_is_taken_out_of_every_path() -> None:
    for option in ("A", "B"):
        unit = resnet.Unit(4, 8, stride=2, option=option)
        x = torch.rand(1, 4, 8, 8)
        assert unit(x).shape == (1, 8, 4, 4)
        assert dpp.unstride_(unit)
        assert unit(x).shape == (1, 8, 8, 8)
        assert not dpp.unstride_(unit)


def test_nets_that_differ_in_how_they_shrink_start_alike() -> None:
    nets = []
    for pool in (dpp.DPP, partial(dpp.DPP, full=True), lambda _: nn.AvgPool2d(2)):
        torch.manual_seed(0)
        nets.append(dpp.tiny(pool=pool).layers)
    torch.manual_seed(0)
    nets.append(resnet.tiny(option="B").units)
    first, *others = (
        [p for p in net.parameters() if p.ndim == 4 and p.shape[1] > 1] for net in nets
    )
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_average_in_the_pools_place_is_the_same_net() -> None:
    torch.manual_seed(0)
    ours = dpp.tiny().eval()
    torch.manual_seed(0)
    plain = dpp.tiny(pool=lambda _: nn.AvgPool2d(2)).eval()
    for layer in ours.layers:
        if isinstance(layer, dpp.DPP):
            set_(layer, alpha=1.0, exponent=1e-9)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), plain(x), atol=1e-5, rtol=1e-4)


def test_alpha_and_lambda_do_not_decay() -> None:
    net = dpp.tiny(pool=partial(dpp.DPP, full=True))
    groups = dpp.decay_groups(net, 1e-4)
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
    assert len(groups[1]["params"]) == 4
    given = [id(value) for group in groups for value in group["params"]]
    assert sorted(given) == sorted(id(value) for value in net.parameters())
    torch.optim.SGD(groups, lr=0.1)
    assert len(dpp.decay_groups(resnet.tiny(), 0.1)) == 1


def test_a_diary_notes_the_mean_of_each_pool() -> None:
    net = dpp.tiny()
    diary = dpp.Diary(net)
    diary(0)
    for layer in diary.pools:
        set_(layer, alpha=0.5, exponent=3.0)
    diary(10)
    assert diary.steps == [0, 10]
    assert diary.exponents[1] == pytest.approx([3.0, 3.0])
    assert diary.alphas[1] == pytest.approx([0.5, 0.5])
    assert diary.exponents[0] != diary.exponents[1]


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = dpp.tiny()
    images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 8
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = fit(
        lambda: dpp.loss(net(images), {"labels": labels})["loss"], optimizer, 40
    )
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: dpp.DPP(0),
        lambda: dpp.Mixture(0),
        lambda: dpp.DPP(3)(torch.rand(2, 4, 8, 8)),
        lambda: dpp.DPP(3)(torch.rand(2, 3, 1, 8)),
        lambda: dpp.S3DPP(3)(torch.rand(2, 3, 1, 8)),
        lambda: dpp.windows(torch.rand(1, 1, 4, 4), 0),
        lambda: dpp.windows(torch.rand(1, 1, 4, 4), 2, stride=0),
        lambda: dpp.windows(torch.rand(1, 1, 4, 4), 5),
        lambda: dpp.pool(torch.rand(1, 1, 4, 4), alpha=-1.0, exponent=1.0),
        lambda: dpp.pool(torch.rand(1, 1, 4, 4), alpha=1.0, exponent=300.0),
        lambda: dpp.pool(torch.rand(1, 1, 4, 4), alpha=1.0, exponent=math.nan),
        lambda: dpp.pool(torch.rand(1, 1, 4, 4), alpha=0.0, exponent=-1.0),
        lambda: dpp.dpid(torch.rand(1, 3, 8, 8), 0),
        lambda: dpp.dpid(torch.rand(1, 3, 8, 8), 2, exponent=-1.0),
        lambda: dpp.chosen(1),
        lambda: dpp.Reader(width=0),
        lambda: dpp.tiny(depth=9),
        lambda: dpp.tiny(widths=()),
        lambda: dpp.tiny(ordering="full pre-activation"),
        lambda: dpp.paper(depth=20),
        lambda: dpp.decay_groups(dpp.tiny(), -0.1),
        lambda: dpp.Diary(resnet.tiny()),
        lambda: dpp.tiny()(torch.rand(2, 1, 32, 32)),
        lambda: dpp.tiny()(torch.rand(2, 3, 32, 32).double()),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()


def test_odd_sizes_and_half_precision() -> None:
    assert dpp.DPP(3)(torch.rand(1, 3, 7, 5)).shape == (1, 3, 3, 2)
    assert dpp.DPP(3, full=True)(torch.rand(1, 3, 7, 5)).shape == (1, 3, 3, 2)
    net = dpp.tiny().eval()
    assert net(torch.rand(1, 3, 33, 37)).shape == (1, 8)
    small = net.bfloat16()
    assert small(torch.rand(2, 3, 32, 32).bfloat16()).isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert dpp.tiny()(torch.rand(2, 3, 32, 32)).isfinite().all()
