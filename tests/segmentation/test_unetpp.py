"""Counts of the paper and of its pruned nets, wiring and Dice by hand, pruning that
changes no answer, bad input."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from papernets_lite.segmentation import unetpp
from tests.unchecked import unchecked


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def by_hand(widths, in_channels=1, heads=1) -> int:
    """Weights and biases, node by node."""
    total, above = heads * (widths[0] + 1), in_channels
    for i, f in enumerate(widths):
        total += 9 * above * f + f + 9 * f * f + f
        above = f
        for j in range(1, len(widths) - i):
            total += 4 * widths[i + 1] * f + f  # up-convolution
            total += 9 * (j + 1) * f * f + f + 9 * f * f + f
    return total


def test_parameters_equal_the_paper():
    with torch.device("meta"):
        assert count(unetpp.paper(heads=(4,))) == 9_041_601 == by_hand(unetpp.WIDTHS)
        assert count(unetpp.paper()) == 9_041_700 == by_hand(unetpp.WIDTHS, heads=4)
        assert count(unetpp.paper(nested=False)) == 7_759_521
        wide = tuple(35 * 2**i for i in range(5))
        assert count(unetpp.paper(nested=False, widths=wide)) == 9_282_246


def test_pruned_nets_have_the_parameters_of_figure_3():
    with torch.device("meta"):
        net = unetpp.paper()
        found = [count(unetpp.prune(net, depth)) for depth in (1, 2, 3, 4)]
    assert found == [100_961, 511_105, 2_204_961, 9_041_601]
    assert found == [by_hand(unetpp.WIDTHS[: d + 1]) for d in (1, 2, 3, 4)]
    # in millions, as printed above the figure's panels
    assert [round(number / 1e6, 1) for number in found] == [0.1, 0.5, 2.2, 9.0]


def test_the_triangle_in_an_order_that_can_be_run():
    net = unetpp.tiny()
    assert unetpp.triangle(1) == [(0, 0), (1, 0), (0, 1)]
    assert len(unetpp.triangle(4)) == 15
    seen = set()
    for place in net.places():
        assert set(net.sources(*place)) <= seen
        seen.add(place)
    assert unetpp.triangle(3)[: len(unetpp.triangle(2))] == unetpp.triangle(2)
    assert net.sources(0, 3) == [(0, 0), (0, 1), (0, 2), (1, 2)]
    assert net.sources(1, 1) == [(1, 0), (2, 0)]
    assert net.sources(2, 0) == [(1, 0)]


def test_a_plain_net_has_the_edge_of_the_triangle():
    net = unetpp.tiny(nested=False)
    assert net.places() == [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1), (1, 2), (0, 3)]
    assert net.sources(0, 3) == [(0, 0), (1, 2)]
    assert list(net.heads) == ["L3"]


def test_nodes_have_the_sizes_and_channels_of_their_row():
    x = unetpp.tiny().features(torch.rand(2, 3, 24, 40))
    for (i, _), made in x.items():
        assert made.shape == (2, (12, 24, 32, 48)[i], 24 >> i, 40 >> i)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_pruned_net_answers_as_the_head_that_was_kept(depth):
    torch.manual_seed(0)
    net = unetpp.tiny().eval()
    images = torch.rand(2, 3, 32, 24)
    with torch.no_grad():
        whole = net(images)
        small = unetpp.prune(net, depth)
        assert small(images).equal(whole[:, depth - 1 : depth])
        assert net(images).equal(whole)
    # dropped for real, and none twice
    assert len(small.nodes) == len(unetpp.triangle(depth))
    assert list(small.heads) == [f"L{depth}"]
    assert count(small) < count(net)
    # it needs fewer halvings, too
    assert small(torch.rand(1, 3, 2**depth, 2**depth)).shape[1] == 1


def test_pruning_leaves_a_net_that_can_be_pruned_and_trained():
    net = unetpp.prune(unetpp.tiny(), 2)
    again = unetpp.prune(net, 2)
    unetpp.loss(again(torch.rand(1, 3, 8, 8)), {"masks": torch.ones(1, 1, 8, 8)})[
        "loss"
    ].backward()
    assert all(p.grad is not None for p in again.parameters())


def test_costs_are_counted_node_by_node():
    net = unetpp.paper(widths=(4, 6, 10))
    found = unetpp.costs(net, (8, 12))
    assert list(found) == unetpp.triangle(2)
    # x^{0,2}: 6 -> 4 channels up, then 12 -> 4 -> 4
    pixels = 8 * 12
    assert found[0, 2].operations == pixels * (6 * 4 + 9 * 12 * 4 + 9 * 4 * 4)
    assert found[0, 2].parameters == 4 * 6 * 4 + 4 + 9 * 12 * 4 + 4 + 9 * 4 * 4 + 4
    assert found[2, 0].operations == pixels // 16 * (9 * 6 * 10 + 9 * 10 * 10)
    heads = count(net.heads)
    assert sum(cost.parameters for cost in found.values()) == count(net) - heads
    with FlopCounterMode(display=False) as counter:
        net(torch.rand(1, 1, 8, 12))
    total = counter.get_total_flops() // 2 - pixels * 4 * 2
    assert sum(cost.operations for cost in found.values()) == total


def test_a_shallower_net_costs_what_the_triangle_says():
    net = unetpp.tiny()
    whole = unetpp.costs(net, (16, 16))
    for depth in (1, 2, 3):
        small = unetpp.costs(unetpp.prune(net, depth), (16, 16))
        assert small == {place: whole[place] for place in unetpp.triangle(depth)}


def test_dice_by_hand():
    chances = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    masks = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    # (2 * 1.5 + 1) / (2 + 2 + 1), and 1 where both are empty
    assert unetpp.dice(chances, masks).tolist() == pytest.approx([0.8, 1.0])


def test_loss_by_hand():
    # probabilities 3/4 and 1/4 of one pixel each, of two heads
    outputs = math.log(3) * torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1, 1)
    found = unetpp.loss(outputs, {"masks": torch.ones(1, 1, 1, 1)})
    first = 0.5 * -math.log(0.75) + 1 - 2.5 / 2.75
    second = 0.5 * -math.log(0.25) + 1 - 1.5 / 2.25
    assert found["head 1"].item() == pytest.approx(first)
    assert found["head 2"].item() == pytest.approx(second)
    # the mean over heads, not the sum: the learning rate keeps its meaning
    assert found["loss"].item() == pytest.approx((first + second) / 2)


def test_a_net_with_one_answer_has_one_head():
    outputs = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = {"masks": outputs > 0.3}
    alone = unetpp.loss(outputs, batch)
    assert set(alone) == {"loss", "head 1"}
    assert alone["loss"].equal(unetpp.loss(outputs[:, None], batch)["loss"])
    assert unetpp.decode(outputs).equal(outputs > 0)


def test_masks_as_numpy_delivers_them():
    outputs = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = outputs[:, 0] > 0
    expected = unetpp.loss(outputs, {"masks": masks})["loss"]
    for kind in (torch.uint8, torch.int64, torch.float64):
        assert unetpp.loss(outputs, {"masks": masks.to(kind)})["loss"].equal(expected)


def test_probabilities_are_averaged_not_logits():
    # 0.9 and 0.2: mean 0.55; the mean of the logits lies below one half for 0.9, 0.05
    logits = torch.tensor([0.9, 0.2]).logit().reshape(1, 2, 1, 1, 1)
    assert unetpp.decode(logits).item()
    skewed = torch.tensor([0.97, 0.02]).logit().reshape(1, 2, 1, 1, 1)
    assert skewed.mean() < 0
    assert not unetpp.decode(skewed, threshold=0.496).item()
    assert unetpp.decode(skewed, threshold=0.494).item()
    assert [unetpp.decode(logits, head=h).item() for h in (1, 2)] == [True, False]


def test_a_head_that_is_not_trained_does_not_exist():
    net = unetpp.tiny(heads=(3,))
    assert net(torch.rand(1, 3, 8, 8)).shape == (1, 1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"a depth of \['L3'\], got 1"):
        unetpp.prune(net, 1)


def test_every_override_reaches_the_net():
    with torch.device("meta"):
        for build in (unetpp.tiny, unetpp.paper):
            net = build(num_classes=7, in_channels=2, widths=(4, 8), convs=1)
            assert type(net) is unetpp.UNetPP
            assert net.heads["L1"].out_channels == 7
            assert net.nodes["x00"][0].in_channels == 2
            assert [len(net.nodes[name]) for name in ("x00", "x01")] == [2, 2]
    assert len(unetpp.paper(widths=(4, 8)).nodes["x00"]) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: unetpp.tiny(widths=(4,)), "two widths or more"),
        (lambda: unetpp.tiny(widths=(4, 0)), "positive numbers of channels"),
        (lambda: unetpp.tiny(num_classes=0), "positive numbers of channels"),
        (lambda: unetpp.tiny(in_channels=0), "positive numbers of channels"),
        (lambda: unetpp.tiny(convs=3), "1 or 2 convolutions a node, got 3"),
        (lambda: unetpp.tiny(heads=()), "rising heads from 1 to 3"),
        (lambda: unetpp.tiny(heads=(0, 1)), r"1 to 3, got \(0, 1\)"),
        (lambda: unetpp.tiny(heads=(4,)), r"1 to 3, got \(4,\)"),
        (lambda: unetpp.tiny(heads=(2, 1)), "rising heads"),
        (lambda: unetpp.tiny(heads=(2, 2)), "rising heads"),
        (lambda: unetpp.tiny(heads=(2,), nested=False), "heads from 3 to 3"),
        (lambda: unetpp.tiny()(torch.rand(0, 3, 8, 8)), "at least one image"),
        (lambda: unetpp.tiny()(torch.rand(1, 1, 8, 8)), "of 3 channels"),
        (lambda: unetpp.tiny()(torch.rand(1, 3, 12, 8)), "divisible by 8"),
        (lambda: unetpp.tiny()(torch.rand(1, 3, 8, 8).double()), "torch.float32"),
        (lambda: unetpp.tiny()(torch.ones(1, 3, 8, 8).byte()), "torch.float32"),
        (lambda: unetpp.prune(unetpp.tiny(), 0), "a depth of"),
        (lambda: unetpp.prune(unetpp.tiny(), 4), "a depth of"),
        (lambda: unetpp.costs(unetpp.tiny(), (12, 8)), "divisible by 8"),
        (
            lambda: unetpp.dice(torch.rand(1, 1, 4), torch.rand(1, 4, 1)),
            r"as many probabilities, got \(1, 4, 1\), \(1, 1, 4\)",
        ),
        (lambda: unetpp.decode(torch.rand(1, 2, 1, 4, 4), head=3), "1 to 2, got 3"),
        (lambda: unetpp.decode(torch.rand(1, 2, 1, 4, 4), head=0), "1 to 2, got 0"),
        (
            lambda: unetpp.decode(torch.rand(1, 1, 4, 4), threshold=float("nan")),
            "a threshold from 0 to 1, got nan",
        ),
        (lambda: unetpp.decode(torch.rand(1, 4, 4)), "outputs"),
        (lambda: unetpp.decode(torch.rand(0, 1, 4, 4)), "not empty"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.zeros(2, 4, 4), r"masks \(2, 1, 4, 4\), got \(2, 4, 4\)"),
        (torch.zeros(1, 1, 4, 4), r"masks \(2, 1, 4, 4\)"),
        (torch.full((2, 1, 4, 4), 255), "0 and 1"),
        (torch.full((2, 1, 4, 4), float("nan")), "0 and 1"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(masks, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        unetpp.loss(torch.rand(2, 3, 1, 4, 4), {"masks": masks})


def test_a_batch_without_foreground_still_teaches():
    outputs = torch.zeros(2, 3, 1, 4, 4, requires_grad=True)
    unetpp.loss(outputs, {"masks": torch.zeros(2, 1, 4, 4)})["loss"].backward()
    assert outputs.grad.isfinite().all()
    assert (outputs.grad > 0).all()  # every pixel is pushed down
