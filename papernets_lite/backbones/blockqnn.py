"""Practical Block-wise Neural Network Architecture Generation (BlockQNN).

Zhao Zhong, Junjie Yan, Wei Wu, Jing Shao, Cheng-Lin Liu. CVPR 2018, arXiv 1708.05552.
Official code: none found; elenathfgs/BlockQNN_Keras is another's port.

Idea: let an agent write a block layer by layer, train the net that repeats the block a
little, and learn by Q-learning which layer pays after which.

Differs:
    1. A 1x1 convolution brings the channels to a stage's width before its first block,
       so that inside a block all maps are equally wide. The port does it inside an
       addition, where two widths meet.
    2. The two inputs of an addition or a concatenation come in one order only; the
       port lists each pair twice.
    3. Of equally good actions a random one is taken. The port takes the first, a 1x1
       convolution.
    4. There is one process. The paper spreads the training over 32 GPUs.

Guessed:
    A concatenation is followed by a 1x1 convolution back to the stage's width, as in
    the port; without it a block's channels would double and double. Density counts the
    block's input and its layers as nodes, and the arrows between them as edges. After
    the 64 blocks of an iteration, 64 of all that were seen are replayed; the schedule
    is the port's. A normalisation follows the first convolution, and a ReLU stands
    before the last average.

Example:
    >>> from papernets_lite.backbones import blockqnn
    >>> blockqnn.tiny(codes=blockqnn.RESIDUAL)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 8])
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papernets_lite.ops.checks import at_least, check_images, expect
from papernets_lite.ops.losses import classification

# What a layer may be, by its number in the code (Table 1).
CONV, MAX, AVERAGE, IDENTITY, ADD, CONCAT, TERMINAL = range(1, 8)
NAMES = ("input", "conv", "max", "average", "identity", "add", "concat", "end")
JOINS = (ADD, CONCAT)  # layers of two inputs
# The kernel sizes of each; 0 where there is none.
KERNELS: Mapping[int, tuple[int, ...]] = {
    CONV: (1, 3, 5),
    MAX: (1, 3),
    AVERAGE: (1, 3),
    IDENTITY: (0,),
    ADD: (0,),
    CONCAT: (0,),
}
# A corner of that space, small enough to train every block in it.
SMALL: Mapping[int, tuple[int, ...]] = {CONV: (3,), MAX: (3,), ADD: (0,)}
# Epsilon, and for how many iterations: 178 in all, as in the port.
SCHEDULE = (
    (1.0, 95),
    (0.9, 7),
    (0.8, 7),
    (0.7, 7),
    (0.6, 10),
    (0.5, 10),
    (0.4, 10),
    (0.3, 10),
    (0.2, 10),
    (0.1, 12),
)


class Layer(NamedTuple):
    """One layer's network structure code: five numbers (Table 1)."""

    place: int  # from 1 on; 0 is the block's input
    kind: int  # CONV ... TERMINAL
    kernel: int = 0
    pred1: int = 0  # the place of what it reads
    pred2: int = 0  # of the other, in an addition or a concatenation

    @property
    def sources(self) -> tuple[int, ...]:
        """The places of what it reads."""
        if self.kind == TERMINAL:
            return ()
        both = self.kind in JOINS
        return (self.pred1, self.pred2) if both else (self.pred1,)

    @property
    def words(self) -> str:
        """What it does, as in ``conv 3``."""
        return f"{NAMES[self.kind]} {self.kernel or ''}".strip()

    @property
    def title(self) -> str:
        """What it does and what it reads, as in ``conv 3 of 1``."""
        reads = " and ".join(map(str, self.sources))
        return f"{self.words} of {reads}" if reads else self.words


Codes = tuple[Layer, ...]  # a block: its layers in order, the last a TERMINAL
START = Layer(0, 0)  # the state before the first layer

# The best block of the corner that was searched here (papernets_lite.data.blocks).
FOUND: Codes = (
    Layer(1, CONV, 3, 0),
    Layer(2, CONV, 3, 1),
    Layer(3, MAX, 3, 2),
    Layer(4, TERMINAL),
)
# The block of a residual net, and one like GoogLeNet's with its four branches.
RESIDUAL: Codes = (
    Layer(1, CONV, 3, 0),
    Layer(2, CONV, 3, 1),
    Layer(3, ADD, 0, 0, 2),
    Layer(4, TERMINAL),
)
INCEPTION: Codes = (
    Layer(1, CONV, 1, 0),
    Layer(2, CONV, 1, 0),
    Layer(3, CONV, 3, 2),
    Layer(4, CONV, 1, 0),
    Layer(5, CONV, 5, 4),
    Layer(6, MAX, 3, 0),
    Layer(7, CONV, 1, 6),
    Layer(8, TERMINAL),
)


def choices(
    index: int, space: Mapping[int, Sequence[int]] = KERNELS
) -> Iterator[Layer]:
    """All layers that may stand at a place of a block: every kind and kernel, reading
    any earlier layer or the input, and from the second place on the end.

    Args:
        index: the place, from 1 on.
        space: the kinds that may occur, each with its kernel sizes.

    Raises:
        ValueError: for a place below 1.
    """
    at_least(1, index=index)
    singles = [(source, 0) for source in range(index)]
    pairs = list(combinations(range(index), 2))
    for kind, kernels in space.items():
        for kernel in kernels:
            for sources in pairs if kind in JOINS else singles:
                yield Layer(index, kind, kernel, *sources)
    if index > 1:
        yield Layer(index, TERMINAL)


def every_block(
    most: int, space: Mapping[int, Sequence[int]] = KERNELS, begun: Codes = ()
) -> Iterator[Codes]:
    """All blocks of a space.

    Args:
        most: layers in a block, at most; its end does not count.
        space: see ``choices``.
        begun: the layers that they begin with.

    Raises:
        ValueError: for no layers.
    """
    at_least(1, most=most)
    index = len(begun) + 1
    if index > most:
        yield (*begun, Layer(index, TERMINAL))
        return
    for layer in choices(index, space):
        if layer.kind == TERMINAL:
            yield (*begun, layer)
        else:
            yield from every_block(most, space, (*begun, layer))


def checked(rows: Sequence[Sequence[int]]) -> Codes:
    """A block from its list of codes, if it is one.

    Args:
        rows: five numbers for each layer, the last one a terminal.

    Raises:
        ValueError: for another length, an unknown layer, or one that reads what does
            not stand before it.
    """
    expect(len(rows) > 1, "a layer and a terminal", rows)
    for row in rows:
        expect(len(row) == 5, "five numbers for a layer", row)
    codes = tuple(Layer(*row) for row in rows)
    for place, layer in enumerate(codes[:-1], start=1):
        known = layer.kind != TERMINAL and layer in choices(place)
        expect(known, f"a layer that reads earlier ones at {place}", tuple(layer))
    last = Layer(len(codes), TERMINAL)
    expect(codes[-1] == last, "a terminal at the end", tuple(codes[-1]))
    return codes


def loose(codes: Codes) -> list[int]:
    """The places of layers that no other reads; together they are the block's output.

    Args:
        codes: of a block.
    """
    read = {source for layer in codes for source in layer.sources}
    return [layer.place for layer in codes[:-1] if layer.place not in read]


def graph(codes: Codes) -> tuple[str, ...]:
    """What a block computes, whichever way it is written down: each layer with all that
    leads to it, sorted.

    Args:
        codes: of a block of up to three layers; of longer ones, some that differ in
            which of two equal layers is read again look alike.
    """
    made = ["x"]
    for layer in codes[:-1]:
        inputs = sorted(made[source] for source in layer.sources)
        made.append(f"{layer.words}({', '.join(inputs)})")
    return tuple(sorted(made[1:]))


def density(codes: Codes) -> float:
    """Edges over nodes of the block's graph, its input being a node.

    Args:
        codes: of a block.
    """
    edges = sum(len(layer.sources) for layer in codes)
    return edges / len(codes)


def sketch(codes: Codes) -> tuple[dict[str, bool], list[tuple[str, str, float]]]:
    """What to draw of a block, as ``plots.graph`` wants it.

    Args:
        codes: of a block.

    Returns:
        Each node's name and whether it is part of the output; arrows between nodes,
        with their thickness.
    """
    names = ["0 input", *[f"{layer.place} {layer.words}" for layer in codes[:-1]]]
    ends = loose(codes)
    nodes = {name: place in ends for place, name in enumerate(names)}
    arrows = []
    for layer in codes[:-1]:
        arrows += [(names[source], names[layer.place], 1.6) for source in layer.sources]
    return nodes, arrows


def multiply_adds(codes: Codes, *, width: int, side: int) -> int:
    """What one block costs for one picture: its convolutions, and the 1x1 ones behind
    concatenations.

    Args:
        codes: of a block.
        width: channels.
        side: of its maps.

    Raises:
        ValueError: for no channels or pixels.
    """
    at_least(1, width=width, side=side)
    matrices = 0
    for layer in codes:
        if layer.kind == CONV:
            matrices += layer.kernel**2
        if layer.kind == CONCAT:
            matrices += 2
    ends = len(loose(codes))
    if ends > 1:
        matrices += ends
    return matrices * (width * side) ** 2


def net_multiply_adds(
    codes: Codes, *, widths: Sequence[int], side: int, repeats: int
) -> int:
    """What the convolutions of a whole net cost for one picture: the first one, each
    stage's blocks, and the 1x1 ones where the width changes.

    Args:
        codes: of the block.
        widths: channels of each stage.
        side: of the picture; each stage halves it.
        repeats: blocks in a stage.

    Raises:
        ValueError: for no stages, and as ``multiply_adds``.
    """
    at_least(1, stages=len(widths), repeats=repeats)
    total = 27 * widths[0] * side**2
    before = widths[0]
    for stage, width in enumerate(widths):
        now = side // 2**stage
        total += repeats * multiply_adds(codes, width=width, side=now)
        if stage:
            total += before * width * now**2
        before = width
    return total


class PCC(nn.Sequential):
    """The paper's convolution: a ReLU, the convolution, batch normalisation.

    Args:
        in_channels: of the maps that come in.
        out_channels: of those that come out, equally large.
        kernel_size: odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            bias=False,
        )
        # not in place: other layers read the same input
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(out_channels))


class Sum(nn.Module):
    """Adds two maps."""

    def forward(
        self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Element by element."""
        return x + y


class Join(nn.Module):
    """Concatenates maps and mixes them back to the width of one.

    Args:
        count: of maps.
        width: channels of each.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.mix = PCC(count * width, width, 1)

    def forward(self, *maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Channels behind channels, then a 1x1 convolution."""
        return self.mix(torch.cat(maps, 1))


def build(layer: Layer, width: int) -> nn.Module:
    """The module of one code, of stride 1.

    Args:
        layer: any but a terminal.
        width: channels of what it reads and makes.
    """
    kernel, around = layer.kernel, layer.kernel // 2
    if layer.kind == CONV:
        return PCC(width, width, kernel)
    if layer.kind == MAX:
        return nn.MaxPool2d(kernel, stride=1, padding=around)
    if layer.kind == AVERAGE:
        return nn.AvgPool2d(kernel, 1, around, count_include_pad=False)
    if layer.kind == ADD:
        return Sum()
    return Join(2, width) if layer.kind == CONCAT else nn.Identity()


class Block(nn.Module):
    """The block that a list of codes describes. All its maps have one size and width.

    Args:
        codes: its layers, see ``checked``.
        width: channels.

    Raises:
        ValueError: for codes of no block, or no channels.
    """

    def __init__(self, codes: Sequence[Sequence[int]], width: int) -> None:
        super().__init__()
        at_least(1, width=width)
        block = checked(codes)
        self.layers = nn.ModuleList(build(layer, width) for layer in block[:-1])
        self.sources = [layer.sources for layer in block[:-1]]
        self.ends = loose(block)
        many = len(self.ends) > 1
        self.merge = Join(len(self.ends), width) if many else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Run the layers in order; what nobody has read is the output."""
        made = [x]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            made.append(layer(*[made[source] for source in sources]))
        return self.merge(*[made[end] for end in self.ends])


def codes_of(block: Block) -> Codes:
    """Read a block's codes back from its modules.

    Args:
        block: as it was built.
    """
    kinds = {
        PCC: CONV,
        nn.MaxPool2d: MAX,
        nn.AvgPool2d: AVERAGE,
        nn.Identity: IDENTITY,
        Sum: ADD,
        Join: CONCAT,
    }
    codes: list[Layer] = []
    for module, sources in zip(block.layers, block.sources, strict=True):
        inner = module[1] if isinstance(module, PCC) else module
        kernel = getattr(inner, "kernel_size", 0)
        size = kernel[0] if isinstance(kernel, tuple) else kernel
        index = len(codes) + 1
        codes.append(Layer(index, kinds[type(module)], size, *sources))
    return (*codes, Layer(len(codes) + 1, TERMINAL))


class BlockNet(nn.Module):
    """A convolution, stages that repeat one block, 2x2 max pooling between them, an
    average over the map, and a linear layer. Only the block is searched for.

    Args:
        codes: of the block.
        widths: channels of each stage.
        repeats: N, blocks in a stage.
        num_classes: outputs.

    Raises:
        ValueError: for no stages or no repeats, and as ``Block``.
    """

    def __init__(
        self,
        *,
        codes: Sequence[Sequence[int]],
        widths: Sequence[int],
        repeats: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        at_least(1, stages=len(widths), repeats=repeats, num_classes=num_classes)
        channels = widths[0]
        first = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(channels))
        self.stages = nn.Sequential()
        for width in widths:
            stage: list[nn.Module] = []
            if len(self.stages):
                stage += [nn.MaxPool2d(2), PCC(channels, width, 1)]
            stage += [Block(codes, width) for _ in range(repeats)]
            self.stages.append(nn.Sequential(*stage))
            channels = width
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for what are no images, or such as pooling would shrink to
                nothing.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        least = 2 ** (len(self.stages) - 1)
        large = min(images.shape[2:]) >= least
        expect(large, f"sides of {least} pixels or more", images.shape)
        maps = self.stages(self.stem(images)).relu()
        return self.head(maps.mean((2, 3)))


loss = classification


def early_reward(
    accuracy: float, multiply_adds: float, density: float, *, mu: float, rho: float
) -> float:
    r"""The reward of a block that was trained for a short while only,
    :math:`ACC_{early} - \mu \log(FLOPs) - \rho \log(Density)`.

    Args:
        accuracy: after the short training, in percent.
        multiply_adds: of the net.
        density: of the block.
        mu: points of accuracy that e times as much work costs.
        rho: points that e times as much density costs.

    Raises:
        ValueError: for no work or no density.
    """
    positive = multiply_adds > 0 and density > 0
    expect(positive, "positive work and density", multiply_adds, density)
    return accuracy - mu * math.log(multiply_adds) - rho * math.log(density)


class Agent:
    """Writes blocks, and learns a value Q for each layer after each other layer.

    Args:
        most: layers in a block, at most; ten in the ports.
        space: see ``choices``.
        initial: every Q at first.
        alpha: how far a Q moves towards what was found.
        gamma: what a step later counts.
        shaped: give every step a share of the reward, not only the last.
        seed: of its random draws.

    Raises:
        ValueError: for no layers, or an alpha or gamma outside [0, 1].
    """

    def __init__(
        self,
        *,
        most: int,
        space: Mapping[int, Sequence[int]] = KERNELS,
        initial: float = 0.5,
        alpha: float = 0.01,
        gamma: float = 1.0,
        shaped: bool = True,
        seed: int = 0,
    ) -> None:
        at_least(1, most=most)
        shares = 0 <= alpha <= 1 and 0 <= gamma <= 1
        expect(shares, "alpha and gamma in [0, 1]", alpha, gamma)
        self.most, self.space, self.initial = most, space, initial
        self.alpha, self.gamma, self.shaped = alpha, gamma, shaped
        self.random = random.Random(seed)
        self.table: dict[Layer, dict[Layer, float]] = {}

    def values(self, state: Layer) -> dict[Layer, float]:
        """Q of every layer that may come next. The state is the last layer alone."""
        if state not in self.table:
            index = state.place + 1
            full = index > self.most
            after = [Layer(index, TERMINAL)] if full else choices(index, self.space)
            self.table[state] = dict.fromkeys(after, self.initial)
        return self.table[state]

    def choose(self, state: Layer, epsilon: float) -> Layer:
        """Any next layer with probability epsilon, else the best; of several best ones
        any."""
        values = self.values(state)
        if self.random.random() < epsilon:
            return self.random.choice(list(values))
        best = max(values.values())
        return self.random.choice([a for a, q in values.items() if q == best])

    def write(self, epsilon: float) -> Codes:
        """A block, layer by layer until the terminal."""
        codes = [self.choose(START, epsilon)]
        while codes[-1].kind != TERMINAL:
            codes.append(self.choose(codes[-1], epsilon))
        return tuple(codes)

    def learn(self, codes: Codes, reward: float) -> None:
        """Move the Q of each step of a block, from the last to the first.

        Args:
            codes: of a block that was trained.
            reward: of it.
        """
        share = reward / len(codes) if self.shaped else 0.0
        steps = list(pairwise((START, *codes)))
        for state, action in reversed(steps):
            if action.kind == TERMINAL:
                found = reward
            else:
                found = share + self.gamma * max(self.values(action).values())
            values = self.values(state)
            values[action] += self.alpha * (found - values[action])


def search(
    agent: Agent,
    reward: Callable[[Codes], float],
    *,
    schedule: Sequence[tuple[float, int]] = SCHEDULE,
    count: int = 64,
    replay: int = 64,
) -> list[tuple[Codes, float]]:
    """Let the agent write blocks, have them trained, and learn from what was seen.

    Args:
        agent: learns in place.
        reward: trains a block and says what it is worth.
        schedule: epsilon, and for how many iterations it holds.
        count: blocks written in an iteration.
        replay: blocks learnt from after it, drawn from all that were seen.

    Returns:
        All blocks with their rewards, in order.

    Raises:
        ValueError: for no blocks.
    """
    at_least(1, count=count)
    memory: list[tuple[Codes, float]] = []
    for epsilon, iterations in schedule:
        for _ in range(iterations):
            for _ in range(count):
                codes = agent.write(epsilon)
                memory.append((codes, reward(codes)))
            for codes, value in agent.random.choices(memory, k=replay):
                agent.learn(codes, value)
    return memory


def tiny(**overrides: object) -> BlockNet:
    """The book's scale: two stages of one block, 16 and 32 channels wide."""
    settings: dict = {
        "codes": FOUND,
        "widths": (16, 32),
        "repeats": 1,
        "num_classes": 8,
    }
    return BlockNet(**(settings | overrides))


def paper(**overrides: object) -> BlockNet:
    """The paper's scale: three stages of four blocks, from 32 channels on."""
    settings: dict = {
        "codes": INCEPTION,
        "widths": (32, 64, 128),
        "repeats": 4,
        "num_classes": 10,
    }
    return BlockNet(**(settings | overrides))
