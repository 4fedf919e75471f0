"""Counts of the released net, the encoding there and back and by hand, where gradients
are zero, late fusion, and what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.data import leaps
from papernets_lite.video import im2flow
from tests.helpers import fit
from tests.unchecked import unchecked


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flows(count: int = 2, size: int = 16) -> Tensor:
    # well below the fastest motion, 1.875 pixels for a side of 16
    return 0.3 * torch.randn(count, 2, size, size, generator=draws())


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def pix2pix(widths: tuple[int, ...]) -> tuple[int, int]:
    """Parameters of the released net, level by level, with biases everywhere; and of
    those the biases that batch normalisation takes away again."""
    total, idle, above = 0, 0, 3
    for level, width in enumerate(widths):
        total += 16 * above * width + width
        if level:
            total, idle = total + 2 * width, idle + width
        above = width
    for level in reversed(range(len(widths))):
        inside = widths[level] if level == len(widths) - 1 else 2 * widths[level]
        out = widths[level - 1] if level else 3
        total += 16 * inside * out + out
        if level:
            total, idle = total + 2 * out, idle + out
    return total, idle


def test_parameters_equal_the_released_net() -> None:
    with torch.device("meta"):
        net = im2flow.paper()
        total, idle = pix2pix(im2flow.WIDTHS)
        assert count(net) == 54_420_483 == total
        assert total - idle == 54_415_043
        assert net(torch.zeros(2, 3, 256, 256)).shape == (2, 3, 256, 256)
    assert count(im2flow.tiny()) == 239_299


def test_sizes_halve_down_to_one_pixel_and_dropout_is_in_three_levels() -> None:
    with torch.device("meta"):
        net = im2flow.paper()
        sizes = []
        for level in net.down:
            level.register_forward_hook(lambda *a: sizes.append(a[2].shape[-1]))
        net(torch.zeros(2, 3, 256, 256))
    assert sizes == [128, 64, 32, 16, 8, 4, 2, 1]
    kinds = [[type(layer).__name__ for layer in level] for level in net.up]
    assert ["Dropout" in names for names in kinds] == [True] * 3 + [False] * 5
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 14


def test_flow_comes_back_from_its_encoding() -> None:
    flow = flows()
    encoded = im2flow.encode(flow)
    assert encoded.abs().max() <= 1
    torch.testing.assert_close(im2flow.decode(encoded), flow, atol=1e-5, rtol=0)
    unit = encoded[:, :2].norm(dim=1)
    torch.testing.assert_close(unit, torch.ones_like(unit))


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ((15.0, 0.0), (0, 1, 0)),  # half the fastest, to the right
        ((0.0, 30.0), (1, 0, 1)),  # the fastest, downwards
        ((-60.0, 0.0), (0, -1, 1)),  # cut off
        ((0.0, 0.0), (0, 0, -1)),  # no motion, no direction
        ((3.0, -4.0), (-0.8, 0.6, 2 * 5 / 30 - 1)),
    ],
)
def test_encoding_by_hand(vector, expected) -> None:
    flow = torch.tensor(vector)[None, :, None, None].expand(1, 2, 256, 256)
    encoded = im2flow.encode(flow)[0, :, 0, 0]
    torch.testing.assert_close(encoded, torch.tensor(expected).float())
    assert im2flow.fastest(256) == 30
    assert im2flow.fastest(16) == 1.875


def test_decoding_brings_sine_and_cosine_to_length_one() -> None:
    outputs = torch.tensor([0.3, 0.4, 0.0])[None, :, None, None].expand(1, 3, 256, 256)
    found = im2flow.decode(outputs)[0, :, 0, 0]
    torch.testing.assert_close(found, 15 * torch.tensor([0.8, 0.6]))
    pair = torch.full((1, 2, 256, 256), 0.5)
    assert (im2flow.decode(pair) == 15).all()


def test_the_angles_gradient_is_zero_where_nothing_moves() -> None:
    flow = flows()
    flow[:, :, :8] = 0
    judge = im2flow.stream(fold=1).eval().requires_grad_(False)
    outputs = 0.1 * torch.randn(2, 3, 16, 16, generator=draws(1))
    for judged in (None, judge):
        for weighted in (True, False):
            x = outputs.clone().requires_grad_()
            im2flow.loss(x, {"flow": flow}, weighted=weighted, judge=judged)[
                "loss"
            ].backward()
            still, moving = x.grad[:, :2, :8], x.grad[:, :2, 8:]
            assert (still == 0).all() == weighted
            assert (moving != 0).any()
            assert (x.grad[:, 2] != 0).any()
    assert all(p.grad is None for p in judge.parameters())


def test_weights_multiply_the_gradient_and_leave_the_value() -> None:
    x = torch.tensor([[[[2.0]], [[3.0]]]], requires_grad=True)
    weights = torch.tensor([[[[0.25]], [[1.0]]]])
    weighed = im2flow.weigh(x, weights)
    assert torch.equal(weighed, x)
    weighed.square().sum().backward()
    assert x.grad.flatten().tolist() == [1, 6]


def test_losses_by_hand() -> None:
    flow = torch.zeros(1, 2, 256, 256)
    flow[:, 0] = 15  # encoded as 0, 1, 0
    outputs = torch.zeros(1, 3, 256, 256)
    found = im2flow.loss(outputs, {"flow": flow})
    assert found["pixel"].item() == pytest.approx(1 / 3)
    assert found["loss"].item() == pytest.approx(50 / 3)
    pair = im2flow.vector_loss(outputs[:, :2], {"flow": flow})
    assert pair["pixel"].item() == pytest.approx(0.125)
    grey = {"images": torch.full((1, 3, 32, 32), 0.5)}
    assert im2flow.picture_loss(torch.zeros(1, 12, 16, 16), grey)["loss"] == 0


def test_the_content_loss_compares_what_a_motion_net_sees() -> None:
    judge = im2flow.stream(fold=1).eval().requires_grad_(False)
    first, second = im2flow.encode(flows()), im2flow.encode(flows().flip(0))
    assert im2flow.content_loss(first, first, judge) == 0
    one, other = (
        judge.maps(im2flow.motion(im2flow.decode(e)))[1] for e in (first, second)
    )
    expected = (one - other).abs().mean()
    found = im2flow.content_loss(first, second, judge)
    torch.testing.assert_close(found, expected)


def test_motion_is_measured_by_hand() -> None:
    true, found = torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, 3)
    true[0, :, 0, 0] = torch.tensor([1.0, 0.0])
    true[0, :, 0, 1] = torch.tensor([0.0, 0.1])
    found[0, :, 0, 0] = torch.tensor([0.0, 2.0])
    errors = im2flow.angle_errors(found, true, least=0.5)
    assert errors.tolist() == pytest.approx([90])
    ends = im2flow.endpoint_errors(found, true)
    assert ends.flatten().tolist() == pytest.approx([math.sqrt(5), 0.1, 0])
    # the second pixel, a tenth as fast, has no direction in `found`
    assert im2flow.agreement(true, true).item() == pytest.approx(1)
    assert im2flow.agreement(-true, true).item() == pytest.approx(-1)
    assert im2flow.agreement(found, true).item() == pytest.approx(0)
    assert im2flow.motion_potential(found).item() == pytest.approx(2 / 3)
    assert im2flow.motion(true)[0, 2].sum().item() == pytest.approx(
        1.1 / (30 * 3 / 256)
    )


def test_without_skips_all_passes_through_the_narrowest_map() -> None:
    net = im2flow.tiny(skips=False).eval()
    assert count(net) == count(im2flow.tiny())
    pictures = torch.rand(2, 3, 32, 32, generator=draws())
    maps = []
    net.down[-1].register_forward_hook(lambda *a: maps.append(a[2]))
    net.down[-1][1].weight.data.zero_()  # nothing but a constant gets through
    first, second = net(pictures)
    assert torch.equal(first, second)
    assert torch.equal(maps[0][0], maps[0][1])
    skipped = im2flow.tiny().eval()
    skipped.load_state_dict(net.state_dict())
    first, second = skipped(pictures)
    assert not torch.equal(first, second)


def test_late_fusion_averages_probabilities() -> None:
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.1, 0.0]])
    both = im2flow.fuse(sure, unsure)
    torch.testing.assert_close(both.sum(1), torch.ones(1))
    assert both.argmax() == 0
    torch.testing.assert_close(im2flow.fuse(unsure), unsure.softmax(1))


def test_a_stream_starts_from_a_nets_way_down() -> None:
    net = im2flow.tiny()
    stream = im2flow.stream(start=net).eval()
    pictures = torch.rand(2, 3, 32, 32, generator=draws())
    net.eval()
    x = net.fold(pictures)
    for level in net.down:
        x = level(x)
    assert torch.equal(stream.maps(pictures)[-1], x)
    with torch.no_grad():
        stream.down[0][0].weight.zero_()
    assert net.down[0][0].weight.abs().sum() > 0


def test_a_few_steps_learn_where_and_how_fast() -> None:
    torch.manual_seed(0)
    leap = leaps.sample(16, draws())
    images, truth = leaps.render(leap, 32), leaps.annotate(leap, 32)
    flow = torch.nn.functional.avg_pool2d(truth["flow"], 2) / 2
    net = im2flow.tiny()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.004)
    values = fit(
        lambda: im2flow.loss(net(images), {"flow": flow})["loss"], optimizer, 60
    )
    assert values[-1] < 0.6 * values[0]
    with torch.no_grad():
        found = im2flow.decode(net(images))
    assert im2flow.angle_errors(found, flow, least=0.3).median() < 45


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: im2flow.paper(widths=(4,)),
        lambda: im2flow.tiny(fold=0),
        lambda: im2flow.tiny(dropout=1.5),
        lambda: im2flow.stream(num_classes=0),
        lambda: im2flow.stream(start=im2flow.tiny(widths=(8, 8, 8))),
        lambda: im2flow.tiny()(torch.rand(2, 3, 24, 32)),
        lambda: im2flow.tiny()(torch.rand(0, 3, 32, 32)),
        lambda: im2flow.tiny()(torch.rand(2, 3, 32, 32).double()),
        lambda: im2flow.stream()(torch.rand(2, 1, 32, 32)),
        lambda: im2flow.encode(torch.full((1, 2, 4, 4), float("nan"))),
        lambda: im2flow.encode(torch.zeros(1, 2, 4, 4).long()),
        lambda: im2flow.encode(torch.zeros(1, 3, 4, 4)),
        lambda: im2flow.decode(torch.zeros(1, 4, 4, 4)),
        lambda: im2flow.loss(torch.zeros(2, 3, 16, 16), {"flow": flows(1)}),
        lambda: im2flow.loss(torch.zeros(2, 2, 16, 16), {"flow": flows()}),
        lambda: im2flow.loss(torch.zeros(2, 3, 16, 16), {"images": flows()}),
        lambda: im2flow.vector_loss(torch.zeros(2, 3, 16, 16), {"flow": flows()}),
        lambda: im2flow.picture_loss(
            torch.zeros(2, 12, 16, 16), {"images": 255 * torch.rand(2, 3, 32, 32)}
        ),
        lambda: im2flow.fuse(),
        lambda: im2flow.fuse(torch.zeros(2, 3), torch.zeros(1, 3)),
        lambda: im2flow.weigh(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4)),
        lambda: im2flow.angle_errors(flows(), torch.zeros(2, 2, 16, 16), least=0.1),
        lambda: im2flow.angle_errors(flows(1), flows(), least=0.1),
        lambda: im2flow.content_loss(
            torch.zeros(2, 3, 16, 16),
            torch.zeros(2, 3, 16, 16),
            im2flow.stream().requires_grad_(False),
            level=3,
        ),
        lambda: im2flow.content_loss(
            torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16), im2flow.stream(fold=1)
        ),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match=r"expected"):
        wrong()
