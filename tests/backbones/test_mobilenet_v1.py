"""A depthwise convolution by hand, the block against its two steps, the cost formula
against counting, and the counts of the paper's tables."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from papernets_lite.backbones import mobilenet_v1
from tests.helpers import fit


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def layers(side: int, **settings: Any) -> list[mobilenet_v1.Layer]:
    """Of the paper's net, on shapes alone."""
    return mobilenet_v1.counted(partial(mobilenet_v1.paper, **settings), side)


def millions(found: list[mobilenet_v1.Layer]) -> float:
    return mobilenet_v1.multiply_adds(found) / 1e6


def test_a_depthwise_convolution_by_hand() -> None:
    conv = mobilenet_v1.Depthwise(2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1] = 2  # the pixel itself, twice
        conv.weight[1, 0, 1, 0] = 1  # its neighbour to the left
    x = torch.tensor([[[[1.0, 2, 3]], [[4.0, 5, 6]]]])
    torch.testing.assert_close(conv(x), torch.tensor([[[[2.0, 4, 6]], [[0.0, 4, 5]]]]))


def test_no_channel_reaches_another_before_the_pointwise_step() -> None:
    torch.manual_seed(0)
    block = mobilenet_v1.Separable(4, 6).eval()
    x = torch.rand(1, 4, 5, 5)
    y = x.clone()
    y[:, 2] += 1
    with torch.no_grad():
        changed = (block.depthwise(x) != block.depthwise(y)).flatten(2).any(2)[0]
        assert changed.tolist() == [False, False, True, False]
        mixture = block.pointwise[0]
        steps = [mixture(block.depthwise(z)) for z in (x, y)]
        assert (steps[0] != steps[1]).flatten(2).any(2).all()


def test_a_block_is_one_full_convolution_whose_filters_have_rank_one() -> None:
    """Without what stands between the steps, their product is a full filter."""
    torch.manual_seed(0)
    block = mobilenet_v1.Separable(3, 5, stride=2)
    filters, mixture = block.depthwise[0], block.pointwise[0]
    whole = mobilenet_v1.full(3, 5, stride=2)
    with torch.no_grad():
        whole.weight.copy_(mixture.weight * filters.weight[:, 0])
    x = torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(mixture(filters(x)), whole(x))


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_keeps_the_size_up_to_its_stride(stride: int, kernel_size: int) -> None:
    block = mobilenet_v1.Separable(4, 8, stride=stride, kernel_size=kernel_size)
    assert block(torch.rand(2, 4, 16, 12)).shape == (2, 8, 16 // stride, 12 // stride)
    strides = [m.stride[0] for m in block.modules() if isinstance(m, nn.Conv2d)]
    assert strides == [stride, 1], "the depthwise convolution strides"


@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("rho", [1.0, 0.5])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_the_formula_is_what_is_counted(
    alpha: float, rho: float, kernel_size: int
) -> None:
    m, n, side = 64, 128, 28
    found = mobilenet_v1.cost(m, n, side, kernel_size=kernel_size, alpha=alpha, rho=rho)
    thin, wide = (mobilenet_v1.scaled(c, alpha) for c in (m, n))
    small = round(rho * side)
    with torch.device("meta"):
        x = torch.rand(1, thin, small, small)
        block = mobilenet_v1.Separable(thin, wide, kernel_size=kernel_size).eval()
        rival = mobilenet_v1.unit(
            mobilenet_v1.full(thin, wide, kernel_size=kernel_size)
        )
        runs = [
            mobilenet_v1.profile(net.eval(), x, repeats=1) for net in (block, rival)
        ]
    convolutions = [layer.operations for layer in runs[0] if layer.operations]
    assert convolutions == [found.depthwise, found.pointwise]
    assert sum(layer.operations for layer in runs[1]) == found.full
    assert found.ratio == pytest.approx(1 / wide + 1 / kernel_size**2)


def test_one_layer_in_the_papers_table_3() -> None:
    """M = N = 512, a map of 14x14; alpha 0.75, then rho 0.714 as well."""
    whole = mobilenet_v1.cost(512, 512, 14)
    thin = mobilenet_v1.cost(512, 512, 14, alpha=0.75)
    small = mobilenet_v1.cost(512, 512, 14, alpha=0.75, rho=0.714)
    found = [whole.full, whole.separable, thin.separable, small.separable]
    assert [round(c / 1e6, 1) for c in found] == [462.4, 52.3, 29.6, 15.1]
    weights = [9 * 512 * 512, 9 * 512 + 512 * 512, 9 * 384 + 384 * 384]
    assert [round(w / 1e6, 2) for w in weights] == [2.36, 0.27, 0.15]
    assert count(mobilenet_v1.full(512, 512)) == weights[0]
    convolutions = mobilenet_v1.Separable(512, 512)
    norms = 4 * 512
    assert count(convolutions) - norms == weights[1]


@pytest.mark.parametrize(
    ("alpha", "parameters", "operations"),
    [
        (1.0, 4_231_976, 569),
        (0.75, 2_585_560, 325),
        (0.5, 1_331_592, 149),
        (0.25, 470_072, 41),
    ],
)
def test_the_family_of_table_6(alpha: float, parameters: int, operations: int) -> None:
    with torch.device("meta"):
        assert count(mobilenet_v1.paper(alpha=alpha)) == parameters
    assert round(millions(layers(224, alpha=alpha))) == operations


def test_the_family_of_table_7() -> None:
    found = [round(millions(layers(side))) for side in (192, 160, 128)]
    assert found == [418, 291, 186]


def test_full_convolutions_and_fewer_blocks() -> None:
    """Tables 4 and 5: 29.3 M and 4866 M; 2.9 M and 307 M."""
    whole = layers(224, separable=False)
    assert sum(layer.parameters for layer in whole) == 29_294_088
    assert millions(whole) == pytest.approx(4866, rel=1e-3)
    shallow = layers(224, body=mobilenet_v1.SHALLOW)
    assert sum(layer.parameters for layer in shallow) == 2_887_976
    assert round(millions(shallow)) == 307


def test_shares_of_table_2() -> None:
    found = layers(224)
    whole, weights = millions(found), count(mobilenet_v1.paper())
    shares = {}
    for kind in mobilenet_v1.KINDS:
        mine = [layer for layer in found if layer.kind == kind]
        parameters = sum(layer.parameters for layer in mine)
        shares[kind] = 100 * millions(mine) / whole, 100 * parameters / weights
    assert [round(share, 2) for share, _ in shares.values()] == [
        94.86,
        3.06,
        1.91,  # the paper prints 1.19, with which its column adds up to 99.29
        0.18,
        0.0,
    ]
    # the paper's shares leave out the norms' parameters: half a percent
    assert shares["1x1"][1] == pytest.approx(74.59, abs=0.5)
    assert shares["depthwise"][1] == pytest.approx(1.06, abs=0.02)
    assert shares["linear"][1] == pytest.approx(24.33, abs=0.2)


def test_there_are_28_layers() -> None:
    found = [layer.kind for layer in layers(224)]
    assert len(found) - found.count("norm, ReLU") == 28
    assert found.count("depthwise") == found.count("1x1") == 13


def test_widths_under_the_multiplier() -> None:
    assert mobilenet_v1.scaled(64, 0.75) == 48
    assert mobilenet_v1.scaled(32, 0.1) == 8, "the thinnest layer"
    assert mobilenet_v1.scaled(10, 0.35) == 8
    assert mobilenet_v1.scaled(5, 0.5) == 5, "no wider than it was"
    assert mobilenet_v1.scaled(33, 0.5) == 16, "rounded down"


def test_a_depthwise_filter_starts_by_its_nine_inputs() -> None:
    torch.manual_seed(0)
    net = mobilenet_v1.paper()
    filters = net.blocks[-1].depthwise[0].weight
    assert filters.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    mixture = net.blocks[-1].pointwise[0].weight
    assert mixture.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.05)


def test_depthwise_filters_have_a_decay_of_their_own() -> None:
    net = mobilenet_v1.tiny()
    groups = mobilenet_v1.decay_groups(net, 4e-5, depthwise=1e-6)
    assert [group["weight_decay"] for group in groups] == [4e-5, 1e-6]
    assert len(groups[1]["params"]) == len(net.blocks)
    assert all(weight.shape[1:] == (1, 3, 3) for weight in groups[1]["params"])
    given = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(given) == sorted(id(weight) for weight in net.parameters())
    torch.optim.SGD(groups, lr=0.1)
    assert len(mobilenet_v1.decay_groups(mobilenet_v1.tiny(separable=False), 0.1)) == 1


def test_a_profile_leaves_the_net_as_it_was() -> None:
    torch.manual_seed(0)
    net = mobilenet_v1.tiny().eval()
    x = torch.rand(2, 3, 32, 32)
    before = net(x)
    found = mobilenet_v1.profile(net, x, repeats=2)
    assert torch.equal(net(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(layer.seconds > 0 for layer in found)
    assert {layer.kind for layer in found} == set(mobilenet_v1.KINDS)
    assert sum(layer.parameters for layer in found) == count(net)


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = mobilenet_v1.tiny()
    images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 8
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = fit(
        lambda: mobilenet_v1.loss(net(images), {"labels": labels})["loss"],
        optimizer,
        40,
    )
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mobilenet_v1.scaled(8, 0),
        lambda: mobilenet_v1.scaled(8, float("nan")),
        lambda: mobilenet_v1.scaled(0, 1.0),
        lambda: mobilenet_v1.Depthwise(0),
        lambda: mobilenet_v1.Depthwise(4, kernel_size=2),
        lambda: mobilenet_v1.full(4, 4, kernel_size=0),
        lambda: mobilenet_v1.full(4, 0),
        lambda: mobilenet_v1.Separable(4, 0),
        lambda: mobilenet_v1.tiny(width=0),
        lambda: mobilenet_v1.tiny(alpha=-1.0),
        lambda: mobilenet_v1.tiny(body=()),
        lambda: mobilenet_v1.paper(num_classes=0),
        lambda: mobilenet_v1.cost(8, 8, 0),
        lambda: mobilenet_v1.cost(8, 8, 4, rho=0.0),
        lambda: mobilenet_v1.decay_groups(mobilenet_v1.tiny(), -0.1),
        lambda: mobilenet_v1.counted(mobilenet_v1.tiny, 0),
        lambda: mobilenet_v1.profile(
            mobilenet_v1.tiny(), torch.rand(1, 3, 32, 32), repeats=0
        ),
        lambda: mobilenet_v1.tiny()(torch.zeros(0, 3, 32, 32)),
        lambda: mobilenet_v1.tiny()(torch.rand(2, 1, 32, 32)),
        lambda: mobilenet_v1.tiny()(torch.rand(2, 3, 32, 32).double()),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"expected|channels"):
        wrong()


def test_odd_sizes_and_half_precision() -> None:
    net = mobilenet_v1.tiny().eval()
    assert net(torch.rand(1, 3, 33, 17)).shape == (1, 8)
    assert net(torch.rand(1, 3, 3, 3)).isfinite().all()
    small = net.bfloat16()
    assert small(torch.rand(2, 3, 32, 32).bfloat16()).isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert mobilenet_v1.tiny()(torch.rand(2, 3, 32, 32)).isfinite().all()
