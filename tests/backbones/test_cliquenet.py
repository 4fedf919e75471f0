"""A block small enough for paper and pencil, who reads whom in which stage, counts and
operations against the paper's tables and the released code."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from papernets_lite.backbones import cliquenet
from tests.helpers import randomise_
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def operations(net: nn.Module, side: int) -> int:
    """Multiplications and additions for one picture, as the paper counts them."""
    images = torch.empty(1, 3, side, side, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        net.eval()(images)
    return counted.get_total_flops()


# Filters k, layers T, parameters by arithmetic, and the table's words (README of the
# released code, tables 3 and 4): millions of parameters, GFLOPs.
PAPER = [
    (12, 36, 1_045_306, "1.05", None),
    (24, 18, 986_650, "0.99", None),
    (36, 12, 935_994, "0.94", "0.91"),
    (64, 15, 4_485_706, "4.49", "4.21"),
    (80, 15, 6_937_546, "6.94", "6.45"),
    (80, 18, 10_135_594, "10.14", "9.45"),
]


@pytest.mark.parametrize(("k", "depth", "parameters", "millions", "flops"), PAPER)
def test_counts_equal_the_papers(
    k: int, depth: int, parameters: int, millions: str, flops: str | None
) -> None:
    with torch.device("meta"):
        net = cliquenet.paper(channels=k, depth=depth)
    assert count(net) == cliquenet.in_use(net) == parameters
    assert f"{parameters / 1e6:.2f}" == millions
    if flops:
        assert f"{operations(net, 32) / 1e9:.2f}" == flops


def test_counts_are_those_of_the_description() -> None:
    """Kernels, two numbers per normalised channel, transitions and classifier, added up
    by hand for k = 36, T = 12."""
    k, n, blocks = 36, 4, 3
    total = 3 * 64 * 9
    described = 0
    for block in range(blocks):
        width = 64 if block == 0 else n * k
        total += 9 * (n * width * k + n * (n - 1) * k * k)
        total += 2 * sum(width + j * k for j in range(n)) + 2 * n * (n - 1) * k
        total += 2 * (width + n * k)
        described += width + n * k
        if block < blocks - 1:
            total += 2 * n * k + (n * k) ** 2
    total += 10 * described + 10
    with torch.device("meta"):
        assert count(cliquenet.paper()) == total


@pytest.mark.parametrize(
    ("name", "plain", "gated"),
    [
        ("S0", 5_703_728, 6_245_330),
        ("S1", 7_956_776, 8_740_046),
        ("S2", 10_003_756, 11_008_376),
        ("S3", 13_170_904, 14_383_024),
    ],
)
def test_imagenet_counts(name: str, plain: int, gated: int) -> None:
    """Of the released code's S0 to S3; a gate of ratio 2 has C^2 weights and 3C/2
    biases in each of three transitions."""
    with torch.device("meta"):
        assert count(cliquenet.imagenet(name)) == plain
        assert count(cliquenet.imagenet(name, attention=True)) == gated
    layers, channels = cliquenet.IMAGENET[name]
    widths = [n * k for n, k in zip(layers, channels, strict=True)][:-1]
    assert gated - plain == sum(c * c + 3 * c // 2 for c in widths)


class Same(nn.Module):
    """In place of a norm and its ReLU, so that a block is linear."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def linear(updates: int | None = None, *, alternate: bool = True) -> nn.Module:
    """Three layers of one filter without norms; W_ij multiplies by the number ij, and
    looks only at the pixel itself."""
    block = cliquenet.CliqueBlock(1, 1, 3, updates=updates, alternate=alternate)
    for j in range(3):
        others = [i for i in (1, 2, 3) if i != j + 1]
        with torch.no_grad():
            block.from_input[j].weight.zero_()[0, 0, 1, 1] = j + 1.0
            block.from_layers[j].weight.zero_()
            for place, i in enumerate(others):
                block.from_layers[j].weight[0, place, 1, 1] = 10.0 * i + j + 1
        block.first[j][0] = Same()
    for norm in block.second:
        norm[0] = Same()
    return block.double()


def values(maps: Tensor) -> list[float]:
    return maps[0, :, 0, 0].tolist()


def test_both_stages_by_hand() -> None:
    x = torch.ones(1, 1, 1, 1).double()
    first, second = linear()(x)
    # Stage I. X1 = 01 X0; X2 = 02 X0 + 12 X1; X3 = 03 X0 + 13 X1 + 23 X2
    one, two = 1, 2 + 12 * 1
    three = 3 + 13 * one + 23 * two
    assert values(first) == [one, two, three] == [1, 14, 338]
    # Stage II, without X0: X1 from the old X2 and X3, X2 from the new X1 and the old
    # X3, X3 from the new X1 and X2
    new_one = 21 * two + 31 * three
    new_two = 12 * new_one + 32 * three
    new_three = 13 * new_one + 23 * new_two
    assert values(second) == [new_one, new_two, new_three]
    assert new_one == 10_772


def test_less_than_a_stage_and_more() -> None:
    x = torch.ones(1, 1, 1, 1).double()
    first, none = linear(0)(x)
    assert torch.equal(first, none)
    whole = values(linear(3)(x)[1])
    assert values(linear(1)(x)[1]) == [whole[0], *values(first)[1:]]
    assert values(linear(2)(x)[1]) == [*whole[:2], values(first)[2]]
    again = 21 * whole[1] + 31 * whole[2]
    assert values(linear(4)(x)[1]) == [again, *whole[1:]]


def test_all_at_once_reads_the_stage_before() -> None:
    x = torch.ones(1, 1, 1, 1).double()
    _, second = linear(alternate=False)(x)
    assert values(second) == [
        21 * 14 + 31 * 338,
        12 * 1 + 32 * 338,
        13 * 1 + 23 * 14,
    ]
    one, two, three = values(second)
    _, third = linear(6, alternate=False)(x)
    assert values(third)[2] == 13 * one + 23 * two
    assert values(third)[0] == 21 * two + 31 * three


def test_the_input_takes_no_part_in_the_second_stage() -> None:
    torch.manual_seed(0)
    block = cliquenet.CliqueBlock(3, 4, 3)
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    first = [m.detach() for m in block.fill(x)]
    torch.cat(block.refine(first), 1).sum().backward()
    assert x.grad is None
    assert all(m.weight.grad is None for m in block.from_input)
    assert block.second[0][0][0].num_features == 2 * 4
    assert [m[0][0].num_features for m in block.first] == [3, 7, 11]


def test_the_first_stage_is_not_overwritten() -> None:
    """The released PyTorch code keeps one dictionary for both stages, so that its first
    stage reads as the second: here both stay what they are."""
    torch.manual_seed(0)
    block = cliquenet.CliqueBlock(3, 4, 3).eval()
    x = torch.randn(2, 3, 5, 5)
    filled = block.fill(x)
    kept = [m.clone() for m in filled]
    refined = block.refine(filled)
    assert all(torch.equal(a, b) for a, b in zip(filled, kept, strict=True))
    first, second = block(x)
    torch.testing.assert_close(first, torch.cat(kept, 1))
    torch.testing.assert_close(second, torch.cat(refined, 1))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_both_stages_are_their_equations(bottleneck: bool) -> None:
    """Kernel by kernel, one sum for each pair of layers."""
    torch.manual_seed(0)
    n, k = 4, 3
    block = cliquenet.CliqueBlock(2, k, n, bottleneck=bottleneck).eval()
    randomise_(block)
    x = torch.randn(2, 2, 6, 6)

    def pair(i: int, j: int) -> Tensor:
        if i == 0:
            return block.from_input[j - 1].weight
        place = i - 1 if i < j else i - 2
        return block.from_layers[j - 1].weight[:, place * k : (place + 1) * k]

    def layer(j: int, read: dict[int, Tensor], norm: nn.Module) -> Tensor:
        maps = norm[0](torch.cat(list(read.values()), 1))
        parts = maps.split([m.shape[1] for m in read.values()], 1)
        padding = 0 if bottleneck else 1
        out = sum(
            conv2d(part, pair(i, j), padding=padding)
            for i, part in zip(read, parts, strict=True)
        )
        return block.spread[j - 1](norm[1](out)) if bottleneck else out

    old = {0: x}
    for j in range(1, n + 1):
        old[j] = layer(j, dict(old), block.first[j - 1])
    new: dict[int, Tensor] = {}
    for j in range(1, n + 1):
        read = {i: new.get(i, old[i]) for i in range(1, n + 1) if i != j}
        new[j] = layer(j, read, block.second[j - 1])
    first, second = block(x)
    del old[0]
    torch.testing.assert_close(first, torch.cat(list(old.values()), 1))
    torch.testing.assert_close(second, torch.cat(list(new.values()), 1))


def test_without_updates_it_is_a_dense_block() -> None:
    """Every layer's kernel over what came before, as DenseNet's block has it."""
    torch.manual_seed(0)
    block = cliquenet.CliqueBlock(3, 4, 3, updates=0).eval()
    x = torch.randn(2, 3, 6, 6)
    seen = x
    for j in range(3):
        kernel = torch.cat(
            [block.from_input[j].weight, block.from_layers[j].weight[:, : 4 * j]], 1
        )
        normed = block.first[j][0](seen)
        seen = torch.cat([seen, conv2d(normed, kernel, padding=1)], 1)
    torch.testing.assert_close(block(x)[1], seen[:, 3:])


def test_kernels_are_shared_by_both_stages() -> None:
    """W_12 is read twice, W_21 in Stage II alone, and none holds a layer's own past."""
    torch.manual_seed(0)
    block = cliquenet.CliqueBlock(3, 4, 3)
    x = torch.randn(2, 3, 5, 5)
    torch.cat(block.fill(x), 1).sum().backward()
    forward = [m.weight.grad.abs().sum((0, 2, 3)) > 0 for m in block.from_layers]
    assert [f.sum().item() for f in forward] == [0, 4, 8]
    block.zero_grad()
    block(x)[1].square().sum().backward()
    assert all(
        (m.weight.grad.abs().sum((0, 2, 3)) > 0).all() for m in block.from_layers
    )
    assert [tuple(m.weight.shape) for m in block.from_layers] == [(4, 8, 3, 3)] * 3


def test_idle_kernels_are_those_without_a_gradient() -> None:
    torch.manual_seed(0)
    for updates in (0, 1, 2, 4):
        net = cliquenet.tiny(updates=updates, num_classes=3)
        net(torch.randn(4, 3, 16, 16)).square().sum().backward()
        idle = 0
        for block in net.blocks:
            for kernels in block.from_layers:
                used = kernels.weight.grad.abs().sum((0, 2, 3)) > 0
                idle += int((~used).sum()) * kernels.weight[:, 0].numel()
        assert count(net) - cliquenet.in_use(net) == idle
    assert cliquenet.in_use(net) == count(net)


def test_how_far_a_layer_sees() -> None:
    """Each reading adds a pixel on every side: 2j + 1 in Stage I, and in Stage II the
    first layer starts from what the last one saw."""
    block = cliquenet.CliqueBlock(1, 2, 4).eval()
    with torch.no_grad():
        for p in block.parameters():
            p.abs_()
    x = torch.ones(1, 1, 33, 33, requires_grad=True)
    seen = []
    for maps in block(x):
        for j in range(4):
            at = maps[0, 2 * j : 2 * j + 2, 16, 16].sum()
            (gradient,) = torch.autograd.grad(at, x, retain_graph=True)
            seen.append(int((gradient[0, 0, 16] != 0).sum()))
    assert seen == [3, 5, 7, 9, 11, 13, 15, 17]


def test_what_goes_on_and_what_is_read() -> None:
    x = torch.rand(2, 3, 16, 16)
    for stages, shown, on in (("I+I", 0, 0), ("I+II", 0, 1), ("II+II", 1, 1)):
        torch.manual_seed(0)
        net = cliquenet.tiny(stages=stages).eval()
        stem = net.stem(x)
        both = net.blocks[0](stem)
        then = net.transitions[0](both[on])
        last = net.blocks[1](then)
        described = [
            net.readouts[0](torch.cat([stem, both[shown]], 1)),
            net.readouts[1](torch.cat([then, last[shown]], 1)),
        ]
        torch.testing.assert_close(net(x), net.head(torch.cat(described, 1)))
        for found, wanted in zip(net.features(x), (both, last), strict=True):
            torch.testing.assert_close(found, wanted)


def test_a_gate_stands_between_the_convolution_and_the_pooling() -> None:
    torch.manual_seed(0)
    gated = cliquenet.transition(8, attention=True).eval()
    bn, relu, conv, _, gate, pool = gated
    x = torch.randn(2, 8, 6, 6)
    u = conv(relu(bn(x)))
    torch.testing.assert_close(gated(x), pool(u * gate.gate(u)))
    assert gate.excite[0].weight.shape == (4, 8, 1, 1)
    assert gated(x).shape == (2, 8, 3, 3)


def test_compression_halves_what_is_read_and_not_what_goes_on() -> None:
    plain, halved = cliquenet.tiny(), cliquenet.tiny(compression=True)
    assert halved.head.in_features * 2 == plain.head.in_features
    shapes = [
        [tuple(m.shape) for m in net.transitions.parameters()]
        for net in (plain, halved)
    ]
    assert shapes[0] == shapes[1]


def test_a_bottleneck_reads_by_points_and_then_spreads() -> None:
    torch.manual_seed(0)
    block = cliquenet.CliqueBlock(3, 4, 3, bottleneck=True).eval()
    x = torch.randn(2, 3, 6, 6)
    first = block.fill(x)
    outer, inner = block.first[0]
    read = conv2d(outer(x), block.from_input[0].weight)
    torch.testing.assert_close(first[0], block.spread[0](inner(read)))
    assert block.from_layers[0].weight.shape == (4, 8, 1, 1)
    assert block.spread[0].weight.shape == (4, 4, 3, 3)
    # one 3x3 per layer, read in both stages
    block(x)[1].sum().backward()
    assert len(block.spread) == 3


def test_dropout_leaves_evaluation_alone() -> None:
    torch.manual_seed(0)
    plain = cliquenet.tiny().eval()
    dropped = cliquenet.tiny(dropout=0.5).eval()
    dropped.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(plain(x), dropped(x))
    assert not torch.equal(dropped.train()(x), dropped(x))


def test_arms_start_from_the_same_kernels() -> None:
    nets = []
    for stages in ("I+I", "II+II"):
        torch.manual_seed(3)
        nets.append(cliquenet.tiny(stages=stages).state_dict())
    shared = {k: v for k, v in nets[0].items() if "second" not in k}
    assert all(torch.equal(v, nets[1][k]) for k, v in shared.items())


@pytest.mark.parametrize("side", [(7, 9), (16, 16), (33, 20)])
def test_odd_sizes(side: tuple[int, int]) -> None:
    assert cliquenet.tiny().eval()(torch.rand(1, 3, *side)).shape == (1, 8)


def test_bad_input() -> None:
    for wrong in (
        {"stages": "II+I"},
        {"stem": "vgg"},
        {"layers": (3,)},
        {"layers": (), "channels": ()},
        {"layers": (1, 3)},
        {"channels": (0, 4)},
        {"updates": -1},
        {"num_classes": 0},
        {"stem_channels": 0},
        {"stem_stride": 0},
        {"dropout": 1.5},
        {"stages": "I+I", "updates": 2},
    ):
        with pytest.raises(ValueError, match="expected"):
            cliquenet.tiny(**wrong)
    for depth in (3, 10):
        with pytest.raises(ValueError, match="a depth that 3 divides"):
            cliquenet.paper(depth=depth)
    with pytest.raises(ValueError, match="a name from"):
        cliquenet.imagenet("S4")
    net = cliquenet.tiny()
    for images in (
        torch.rand(3, 16, 16),
        torch.rand(1, 1, 16, 16),
        torch.zeros(1, 3, 16, 16).long(),
        torch.rand(0, 3, 16, 16),
        torch.rand(1, 3, 1, 1),
        torch.rand(1, 3, 16, 16).double(),
    ):
        with unchecked(), pytest.raises(ValueError, match="expected"):
            net(images)


def test_half_precision() -> None:
    net = cliquenet.tiny().eval().bfloat16()
    assert net(torch.rand(1, 3, 16, 16).bfloat16()).isfinite().all()
