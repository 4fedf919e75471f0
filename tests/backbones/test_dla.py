"""Trees, iterative merging and path depths by hand; counts; the chain in place of a
tree."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from papernets_lite.backbones import dla
from tests.helpers import fit, randomise_

# Of the released nets, as timm and pytorchcv count them too.
PARAMETERS = {
    "34": 15_742_104,
    "46-C": 1_301_400,
    "X-46-C": 1_068_440,
    "60": 22_036_632,
    "X-60-C": 1_319_832,
    "X-60": 17_352_344,
    "102": 33_268_888,
    "X-102": 26_309_272,
    "X-102 64": 41_282_200,
    "169": 53_389_720,
}
# With 19 classes; of these 2,310,400 (34) and 8,968,192 are the triangle's.
DENSE = {"34": 17_540_131, "60": 29_980_451, "102": 41_212_707, "169": 61_333_539}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def ready(module: nn.Module) -> nn.Module:
    """In eval mode, with batch norms whose every number matters."""
    randomise_(module)
    return module.eval()


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters_are_those_of_the_released_nets(variant: str) -> None:
    with torch.device("meta"):
        assert count(dla.paper(variant=variant)) == PARAMETERS[variant]


@pytest.mark.parametrize("variant", DENSE)
def test_parameters_of_the_segmentation_nets(variant: str) -> None:
    with torch.device("meta"):
        net = dla.paper_dense(variant=variant)
    assert count(net) == DENSE[variant]
    triangle = 2_310_400 if variant == "34" else 8_968_192
    assert count(net.merge) == triangle


def test_a_released_tree_throws_41728_weights_away() -> None:
    """The projections of DLA-34's levels 3 and 4, trees of two levels: 1x1 and norm."""
    thrown = sum(a * b + 2 * b for a, b in ((64, 128), (128, 256)))
    assert thrown == 41_728
    assert PARAMETERS["34"] + thrown == 15_783_832


def test_a_node_by_hand() -> None:
    node = dla.Node([1, 2], 1, residual=False).eval()
    weights = torch.tensor([1.0, -2.0, 0.5])
    node.mix[0].weight.data = weights[None, :, None, None]
    x, y = torch.tensor([[[[3.0]]]]), torch.tensor([[[[1.0]], [[4.0]]]])
    norm = (1 + node.mix[1].eps) ** -0.5
    # 3 - 2 + 2
    assert node(x, y).item() == pytest.approx(3 * norm)
    assert node(-x, y).item() == 0  # -3 - 2 + 2
    node.residual = True
    assert node(x, y).item() == pytest.approx(3 * norm + 3)
    mean = 3.5 / 3
    torch.testing.assert_close(node.listens(), torch.tensor([1, 1.25]) / mean)


def test_a_tree_of_one_level_by_hand() -> None:
    torch.manual_seed(0)
    tree = ready(dla.Tree(1, 4, 6, stride=2, level_root=True))
    x = torch.randn(2, 4, 8, 8)
    small = nn.functional.max_pool2d(x, 2)
    x1 = relu(tree.first.branch(x) + tree.project(small))
    x2 = relu(tree.second.branch(x1) + x1)
    expected = relu(tree.root.mix(torch.cat([x2, x1, small], 1)))
    torch.testing.assert_close(tree(x), expected)


def by_definition(n: int) -> list[dla.Part]:
    """The wiring of T_n written down from the paper's equations; a first subtree feeds
    the next one, and the last node reads R_{n-1}, ..., R_1, L_1 and L_2."""
    parts = [dla.Part("input 1", "input", ())]
    numbers = {"block": itertools.count(1), "node": itertools.count(1)}

    def add(kind: str, *sources: str) -> str:
        name = f"{kind} {next(numbers[kind])}"
        parts.append(dla.Part(name, kind, sources))
        return name

    def grow(levels: int, x: str) -> str:
        fed = []
        for m in range(levels - 1, 0, -1):
            x = grow(m, x)
            fed.append(x)
        first = add("block", x)
        second = add("block", first)
        return add("node", second, first, *fed)

    grow(n, "input 1")
    return parts


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_a_tree_is_wired_as_the_equations_say(depth: int) -> None:
    tree = dla.Tree(depth, 2, 2)
    found = dla.wiring(tree, torch.rand(1, 2, 4, 4))
    assert found == by_definition(depth)
    kinds = [part.kind for part in found]
    assert kinds.count("block") == 2**depth
    assert kinds.count("node") == 2 ** (depth - 1)
    assert len(found[-1].sources) == depth + 1


def test_a_level_root_reads_the_pooled_input_too() -> None:
    tree = dla.Tree(2, 2, 4, stride=2, level_root=True)
    last = dla.wiring(tree, torch.rand(1, 2, 4, 4))[-1]
    assert last.sources == ("block 4", "block 3", "input 1", "node 1")
    assert last.kind == "node"


def test_a_chain_is_its_blocks_in_a_row() -> None:
    torch.manual_seed(0)
    chain = ready(dla.Tree(2, 3, 5, stride=2, level_root=True, aggregate=False))
    found = dla.wiring(chain, torch.rand(1, 3, 4, 4))
    names = ["input 1", "block 1", "block 2", "block 3", "block 4"]
    assert [part.name for part in found] == names
    assert [part.sources for part in found[1:]] == [(name,) for name in names[:-1]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (
            "fine first",
            [("input 1", "input 2"), ("node 1", "input 3"), ("node 2", "input 4")],
        ),
        (
            "coarse first",
            [("input 4", "input 3"), ("node 1", "input 2"), ("node 2", "input 1")],
        ),
        (
            "at once",
            [("input 1", "input 2", "input 3", "input 4"), ("node 1",), ("node 2",)],
        ),
    ],
)
def test_maps_are_merged_in_their_order(
    order: str, expected: list[tuple[str, ...]]
) -> None:
    ida = dla.IDA([2, 3, 4, 5], 6, [1, 2, 4, 8], order=order)
    maps = [torch.rand(1, 2 + k, 16 >> k, 16 >> k) for k in range(4)]
    found = dla.wiring(ida, *maps)
    assert [part.sources for part in found[4:]] == expected


def test_orders_differ_in_wiring_alone() -> None:
    counts = {count(dla.tiny_dense(order=order)) for order in dla.ORDERS}
    assert len(counts) == 1


def test_iterative_merging_by_hand() -> None:
    torch.manual_seed(0)
    ida = ready(dla.IDA([4, 3, 5], 4, [1, 2, 4]))
    x, *coarse = (torch.randn(2, c, s, s) for c, s in ((4, 8), (3, 4), (5, 2)))
    project, up = ida.align[1]
    y = up(relu(project[1](project[0](coarse[0]))))
    z = ida.align[2](coarse[1])
    first = relu(ida.nodes[0].mix(torch.cat([x, y], 1)))  # x has 4 channels already
    second = relu(ida.nodes[1].mix(torch.cat([first, z], 1)))
    for found, expected in zip(ida(x, *coarse), (first, second), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_enlarging_starts_as_bilinear_interpolation(factor: int) -> None:
    x = torch.rand(1, 3, 6, 6)
    found = dla.enlarging(3, factor)(x)
    expected = nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    assert found.shape == expected.shape
    torch.testing.assert_close(found[inner], expected[inner])


def test_the_triangle_round_by_round() -> None:
    triangle = dla.Triangle([2, 3, 4, 5])
    maps = [torch.rand(1, 2 + k, 16 >> k, 16 >> k) for k in range(4)]
    found = {part.name: part.sources for part in dla.wiring(triangle, *maps)}
    assert found["node 1"] == ("input 3", "input 4")
    assert found["node 2"] == ("input 2", "input 3")
    assert found["node 3"] == ("node 2", "node 1")
    assert found["node 4"] == ("input 1", "input 2")
    assert found["node 5"] == ("node 4", "node 2")
    assert found["node 6"] == ("node 5", "node 3")
    assert [x.shape[-1] for x in triangle(*maps)] == [16, 16, 16]


def test_a_drawing_puts_nodes_between_what_they_read() -> None:
    places = dla.layout(by_definition(2))
    assert places["input 1"] == (0, 0)
    assert places["block 4"] == (4, 0)
    assert places["node 1"] == (1.5, 1)
    assert places["node 2"] == (3.5, 2)
    ida = dla.IDA([4] * 4, 4, [1, 2, 4, 8], order="at once")
    maps = [torch.rand(1, 4, 16 >> k, 16 >> k) for k in range(4)]
    places = dla.layout(dla.wiring(ida, *maps))
    assert [places[f"node {n}"] for n in (1, 2, 3)] == [(1.5, 1), (1.5, 2), (1.5, 3)]


def test_path_depths_by_hand() -> None:
    x = torch.ones(2, requires_grad=True)
    a = relu(x)
    b = relu(a) + a
    assert dla.path_depths(relu(b), [x, a, b]) == [(2, 3), (1, 2), (1, 1)]
    assert dla.path_depths(a, [a, x]) == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="made from source 0"):
        dla.path_depths(a, [b])
    with pytest.raises(ValueError, match="with a gradient"):
        dla.path_depths(x.detach(), [x])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("fine first", [3, 3, 2, 1]),
        ("coarse first", [1, 2, 3, 3]),
        ("at once", [3, 3, 3, 3]),
    ],
)
def test_how_deep_each_map_is_merged(order: str, expected: list[int]) -> None:
    ida = dla.IDA([4] * 4, 4, [1, 2, 4, 8], order=order)  # nothing to project
    maps = [torch.rand(1, 4, 16 >> k, 16 >> k).requires_grad_() for k in range(4)]
    found = dla.path_depths(ida(*maps)[-1], maps)
    assert found == [(n, n) for n in expected]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_ways_out_of_a_tree_are_short(depth: int) -> None:
    """At most one node a level; in the chain every later block stands in between."""
    tree, chain = (dla.Tree(depth, 2, 2, aggregate=kind) for kind in (True, False))
    out = shortest(tree)
    assert max(out) == depth
    assert out[-2:] == [1, 1]
    assert shortest(chain) == list(range(2**depth))[::-1]


def shortest(tree: dla.Tree) -> list[int]:
    """From each block to the tree's output."""
    found = dla.exits(tree, torch.rand(1, 2, 4, 4))
    assert not any(module._forward_hooks for module in tree.modules())
    return [short for short, _ in found]


def test_a_dense_net_reads_its_levels_only() -> None:
    torch.manual_seed(0)
    net = dla.tiny_dense(levels=(3, 3, 3, 3))
    assert net.merge.align[0][1].kernel_size == (16, 16)
    assert net(torch.rand(1, 3, 32, 48)).shape == (1, 8, 32, 48)
    maps = four(net)
    found = dla.path_depths(net.merge(*maps)[-1], maps)
    assert found == [(4, 4), (4, 4), (3, 3), (2, 2)]  # each is projected, too


def four(net: dla.Dense) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = []
    for level in net.levels:
        side = 48 // net.trunk.strides[level]
        shape = (1, net.trunk.channels[level], side, side)
        maps.append(torch.rand(shape, generator=generator).requires_grad_())
    return maps


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = dla.tiny_dense(num_classes=2)
    images = torch.rand(4, 3, 32, 32)
    labels = (images[:, 0] > 0.5).long()
    labels = nn.functional.max_pool2d(labels.float(), 5, 1, 2).long()
    labels[:, :, :16] = 0
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = fit(
        lambda: dla.loss(net(images), {"labels": labels})["loss"], optimizer, 30
    )
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: dla.paper(variant="42"), "a variant from"),
        (lambda: dla.paper_dense(variant="42"), "a variant from"),
        (lambda: dla.Block(4, 4, kind="wide"), "a kind from"),
        (lambda: dla.Block(4, 4, groups=2), "groups in a split only"),
        (lambda: dla.Tree(0, 4, 4), "depth >= 1"),
        (lambda: dla.Node([], 4), "at least one input"),
        (lambda: dla.IDA([4], 4, [1]), "two maps or more"),
        (lambda: dla.IDA([4, 4], 4, [1]), "two maps or more"),
        (lambda: dla.IDA([4, 4], 4, [1, 3]), "an even one"),
        (lambda: dla.IDA([4, 4], 4, [1, 2], order="none"), "an order from"),
        (lambda: dla.IDA([4, 4], 4, [1, 2])(torch.rand(1, 4, 8, 8)), "2 maps"),
        (lambda: dla.Triangle([4]), "two maps or more"),
        (lambda: dla.tiny(num_classes=0), "num_classes >= 1"),
        (lambda: dla.tiny(channels=(4, 4)), "channels for each"),
        (lambda: dla.tiny(channels=(4, 0, 4, 4)), ">= 1"),
        (lambda: dla.Dense(trunk(), ida(), levels=(0, 9), num_classes=2), "levels"),
        (lambda: dla.Dense(trunk(), ida(), levels=(0,), num_classes=2), "2 levels"),
        (lambda: dla.tiny()(torch.rand(1, 3, 40, 32)), "sides that 16 divides"),
        (lambda: dla.tiny()(torch.rand(1, 1, 32, 32)), "3 channels"),
        (lambda: dla.tiny()(torch.rand(1, 3, 32, 32).double()), "images of"),
        (lambda: dla.tiny()(torch.rand(0, 3, 32, 32)), "at least one image"),
    ],
)
def test_what_makes_no_sense_is_refused(
    wrong: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def trunk() -> dla.Trunk:
    return dla.Trunk(depths=(1, 1, 1), channels=(4, 4, 4))


def ida() -> dla.IDA:
    return dla.IDA([4, 4], 4, [1, 2])


def test_half_precision_answers() -> None:
    net = dla.tiny_dense().eval().bfloat16()
    assert net(torch.rand(1, 3, 32, 64).bfloat16()).isfinite().all()


def test_every_override_reaches_the_net() -> None:
    with torch.device("meta"):
        net = dla.tiny(depths=(2, 1, 2), channels=(4, 6, 8), aggregate=False, groups=1)
        assert net.trunk.strides == [2, 4, 8]
        assert not net.trunk.levels[2].aggregate
        assert len(net.trunk.levels[0]) == 6
        residual = dla.paper(variant="102").trunk.levels[3]
        assert residual.second.second.root.residual


@pytest.mark.parametrize("variant", ["34", "46-C", "60", "102"])
def test_the_name_counts_the_layers(variant: str) -> None:
    """Blocks, nodes, the stem, two levels of one convolution and the classifier."""
    with torch.device("meta"):
        net = dla.paper(variant=variant)
    branches = [part.branch for part in net.modules() if isinstance(part, dla.Block)]
    nodes = [part for part in net.modules() if isinstance(part, dla.Node)]
    inside = [part for branch in branches for part in branch]
    layers = sum(isinstance(part, nn.Conv2d) for part in inside)
    assert layers + len(nodes) + 4 == int(variant.split("-")[0])
