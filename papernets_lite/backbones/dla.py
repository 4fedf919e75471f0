"""Deep Layer Aggregation (DLA).

Fisher Yu, Dequan Wang, Evan Shelhamer, Trevor Darrell. CVPR 2018, arXiv 1707.06484.
Official code: ucbdrive/dla.

Idea: merge the layers of a net by small nodes that are themselves wired deeply: blocks
in a tree, scales one after the other from the finest on.

Differs:
    1. A tree of several levels has a projection only where a block uses it. The
       released code gives every such tree one more, whose result is thrown away.
    2. ``aggregate=False`` leaves out a tree's nodes: the plain chain of its blocks, the
       control. ``order`` merges scales coarse first, or all of them at once.
    3. A tiny net strides at once and reads four levels; the paper's has six, the first
       at full resolution.
    4. The last, fixed enlargement to the picture's size is bilinear interpolation,
       which treats the border as the rest.

Guessed:
    That the deepest input of a node comes first, and is the one that a residual node
    adds: as in the released code.

Example:
    >>> from papernets_lite.backbones import dla
    >>> dla.tiny_dense(num_classes=8)(torch.rand(2, 3, 48, 48)).shape
    torch.Size([2, 8, 48, 48])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import Node as Function
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import (
    at_least,
    check_images,
    expect,
)
from papernets_lite.ops.losses import classification

# Released nets: depth of each level, channels of each level, block. The first two
# levels are convolutions, the others trees.
NARROW = (16, 32, 64, 64, 128, 256)
WIDE = (16, 32, 128, 256, 512, 1024)
VARIANTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], str, int]] = {
    "34": ((1, 1, 1, 2, 2, 1), (16, 32, 64, 128, 256, 512), "basic", 1),
    "46-C": ((1, 1, 1, 2, 2, 1), NARROW, "bottleneck", 1),
    "X-46-C": ((1, 1, 1, 2, 2, 1), NARROW, "split", 32),
    "60": ((1, 1, 1, 2, 3, 1), WIDE, "bottleneck", 1),
    "X-60-C": ((1, 1, 1, 2, 3, 1), NARROW, "split", 32),
    "X-60": ((1, 1, 1, 2, 3, 1), WIDE, "split", 32),
    "102": ((1, 1, 1, 3, 4, 1), WIDE, "bottleneck", 1),
    "X-102": ((1, 1, 1, 3, 4, 1), WIDE, "split", 32),
    "X-102 64": ((1, 1, 1, 3, 4, 1), WIDE, "split", 64),
    "169": ((1, 1, 2, 3, 5, 1), WIDE, "bottleneck", 1),
}
DEEP = ("102", "X-102", "X-102 64", "169")  # their nodes are residual
CONVOLVED = 2  # so many first levels are convolutions
KINDS = ("basic", "bottleneck", "split")
ORDERS = ("fine first", "coarse first", "at once")
LAYERS = ["conv", "bn", "relu"]
# The tiny net's trunk: maps of strides 2, 4, 8 and 16.
TINY: dict[str, Any] = {
    "depths": (1, 1, 1, 2),
    "channels": (12, 20, 28, 40),
    "stem_kernel": 3,
    "stem_stride": 2,
}


class Block(nn.Module):
    """A residual block, B in the equations, whose shortcut is handed to it.

    Args:
        in_channels, out_channels: of the maps.
        kind: ``"basic"``: two 3x3. ``"bottleneck"``: 1x1, 3x3, 1x1, inside half as
            wide. ``"split"``: the same with a 3x3 in groups.
        groups: of the split; inside it is ``groups / 32`` times as wide as outside.
        stride: of its first 3x3 convolution.

    Raises:
        ValueError: for another kind, or groups of another block.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kind: str = "basic",
        groups: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__()
        expect(kind in KINDS, f"a kind from {KINDS}", kind)
        expect(groups == 1 or kind == "split", "groups in a split only", kind, groups)
        inner = out_channels // 2
        if kind == "split":
            inner = out_channels * groups // 32
        plan = [(inner, 1, 1, 1), (inner, 3, stride, groups), (out_channels, 1, 1, 1)]
        if kind == "basic":
            plan = [(out_channels, 3, stride, 1), (out_channels, 3, 1, 1)]
        made: list[nn.Module] = []
        for channels, size, step, parts in plan:
            conv = nn.Conv2d(
                in_channels, channels, size, step, size // 2, groups=parts, bias=False
            )
            made += conv_norm_act(conv)
            in_channels = channels
        self.branch = nn.Sequential(*made[:-1])  # the last ReLU follows the sum

    def forward(
        self, x: Float[Tensor, "b c h w"], shortcut: Tensor | None = None
    ) -> Float[Tensor, "b d k l"]:
        """The block's output; ``x`` itself is its shortcut if there is no other."""
        return functional.relu(self.branch(x) + (x if shortcut is None else shortcut))


class Node(nn.Module):
    r"""An aggregation node, :math:`N(x_1, \ldots, x_n) = \sigma(\mathrm{BN}(\sum_i W_i
    x_i + b))`; residual with :math:`+ x_n` before the sigma.

    Args:
        in_channels: of each input, the deepest first.
        out_channels: of the output.
        kernel_size: of the weights: 1 in trees, 3 between scales.
        residual: add the deepest input.

    Raises:
        ValueError: for no input.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        kernel_size: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        expect(in_channels, "at least one input", in_channels)
        self.in_channels = tuple(in_channels)
        self.residual = residual
        plan = [(out_channels, kernel_size, 1)]
        self.mix = resnet.sequence(LAYERS[:2], plan, sum(in_channels))

    def forward(self, *inputs: Float[Tensor, "b _ h w"]) -> Float[Tensor, "b d h w"]:
        """All inputs, mixed into one map."""
        x = self.mix(torch.cat(inputs, 1))
        if self.residual:
            x = x + inputs[0]
        return functional.relu(x)

    def listens(self) -> Float[Tensor, " n"]:
        """The mean size of the weights of each input, in units of the mean of all."""
        weight = cast("nn.Conv2d", self.mix[0]).weight.detach().abs()
        means = [part.mean() for part in weight.split(self.in_channels, 1)]
        return torch.stack(means) / weight.mean()


class Tree(nn.Module):
    """Hierarchical aggregation, T in the equations: two trees of one level less, of
    which the second one's last node also reads what the first has made.

    Args:
        depth: levels; ``2 ** depth`` blocks, and half as many nodes.
        in_channels, out_channels: of the maps.
        stride: of the first block.
        level_root: the last node also reads the pooled input.
        received: channels of each input that the last node reads besides.
        residual: see ``Node``.
        aggregate: False leaves out the nodes: a chain of the same blocks.
        block: settings of each ``Block``.

    Raises:
        ValueError: for no level, or what ``Block`` refuses.
    """

    first: nn.Module
    second: nn.Module

    def __init__(
        self,
        depth: int,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        level_root: bool = False,
        received: tuple[int, ...] = (),
        residual: bool = False,
        aggregate: bool = True,
        **block: Any,
    ) -> None:
        super().__init__()
        at_least(1, depth=depth, in_channels=in_channels, out_channels=out_channels)
        self.depth, self.level_root, self.aggregate = depth, level_root, aggregate
        if level_root:
            received = (*received, in_channels)
        self.pool = nn.MaxPool2d(stride)
        self.project: nn.Module = nn.Identity()
        if depth > 1:
            block |= {"residual": residual, "aggregate": aggregate}
            ends = in_channels, out_channels
            self.first = Tree(depth - 1, *ends, stride=stride, **block)
            ends, read = (out_channels, out_channels), (*received, out_channels)
            self.second = Tree(depth - 1, *ends, received=read, **block)
            return
        if in_channels != out_channels:
            plan = [(out_channels, 1, 1)]
            self.project = resnet.sequence(LAYERS[:2], plan, in_channels)
        self.first = Block(in_channels, out_channels, stride=stride, **block)
        self.second = Block(out_channels, out_channels, **block)
        if aggregate:
            read = (out_channels, out_channels, *received)
            self.root = Node(read, out_channels, residual=residual)

    def forward(
        self, x: Float[Tensor, "b c h w"], received: tuple[Tensor, ...] = ()
    ) -> Float[Tensor, "b d k l"]:
        """The last node's output.

        Args:
            x: feeds the first block.
            received: what the last node reads besides its own two blocks.
        """
        if self.level_root:
            received = (*received, self.pool(x))
        if self.depth > 1:
            x1 = self.first(x)
            return self.second(x1, (*received, x1))
        x1 = self.first(x, self.project(self.pool(x)))
        x2 = self.second(x1)
        return self.root(x2, x1, *received) if self.aggregate else x2


class Trunk(nn.Module):
    """A stem, two levels of convolutions, then levels that are trees; every level but
    the first halves the map.

    Args:
        depths: of each level: how many convolutions, or a tree's levels.
        channels: of each level.
        stem_kernel, stem_stride: of the stem.
        tree: settings of every ``Tree`` and of its blocks.

    Attributes:
        strides: of each level's map, in pixels.

    Raises:
        ValueError: for fewer levels than three, unequally many channels, a number below
            1, or what ``Tree`` refuses.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        channels: Sequence[int],
        stem_kernel: int = 7,
        stem_stride: int = 1,
        **tree: Any,
    ) -> None:
        super().__init__()
        alike = len(depths) == len(channels) > CONVOLVED
        expect(alike, "three levels or more, channels for each", depths, channels)
        least = min(*depths, *channels, stem_kernel, stem_stride)
        at_least(1, depths_and_channels=least)
        self.strides = [stem_stride * 2**level for level in range(len(depths))]
        self.channels = list(channels)
        plan = [(channels[0], stem_kernel, stem_stride)]
        self.stem = resnet.sequence(LAYERS, plan, 3)
        self.levels = nn.ModuleList()
        ends = pairwise((channels[0], *channels))
        for level, (depth, (below, width)) in enumerate(zip(depths, ends, strict=True)):
            stride = 1 if level == 0 else 2
            if level < CONVOLVED:
                plan = [(width, 3, stride)] + [(width, 3, 1)] * (depth - 1)
                made: nn.Module = resnet.sequence(LAYERS * depth, plan, below)
            else:
                reads = level > CONVOLVED
                made = Tree(depth, below, width, stride=2, level_root=reads, **tree)
            self.levels.append(made)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The map at the end of each level, the finest first.

        Raises:
            ValueError: for what are no images, see ``checks.check_images``, or sides
                that the last level's stride does not divide.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        last = self.strides[-1]
        whole = all(side % last == 0 for side in images.shape[-2:])
        expect(whole, f"sides that {last} divides", images.shape)
        x = self.stem(images)
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class DLA(nn.Module):
    """The classifier: a trunk, global average pooling and one linear layer.

    Args:
        num_classes: outputs.
        trunk: settings of ``Trunk``.

    Raises:
        ValueError: for no class, or what ``Trunk`` refuses.
    """

    def __init__(self, *, num_classes: int = 1000, **trunk: Any) -> None:
        super().__init__()
        at_least(1, num_classes=num_classes)
        self.trunk = Trunk(**trunk)
        self.head = nn.Conv2d(self.trunk.channels[-1], num_classes, 1)
        he_init_(self.head)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: as ``Trunk``.
        """
        last = self.trunk(images)[-1]
        return self.head(last.mean((2, 3), keepdim=True)).flatten(1)


def enlarging(channels: int, factor: int) -> nn.Module:
    """A transposed convolution of each channel alone that starts as bilinear
    interpolation.

    Args:
        channels: of the map.
        factor: how many times as large it gets: 1, or an even number.

    Raises:
        ValueError: for another factor.
    """
    fits = factor == 1 or (factor > 0 and factor % 2 == 0)
    expect(fits, "a factor of 1 or an even one", factor)
    if factor == 1:
        return nn.Identity()
    size = 2 * factor
    up = nn.ConvTranspose2d(
        channels, channels, size, factor, factor // 2, groups=channels, bias=False
    )
    away = (torch.arange(size) + 0.5 - factor).abs() / factor
    tent = 1 - away
    with torch.no_grad():
        up.weight.copy_(tent[:, None] * tent)
    return up


class IDA(nn.Module):
    r"""Iterative aggregation: :math:`I(x_1, \ldots, x_n) = I(N(x_1, x_2), x_3, \ldots,
    x_n)`, and :math:`I(x_1) = x_1`.

    Before, every map is projected to ``out_channels`` (1x1, unless it has so many) and
    enlarged to the finest one's size.

    Args:
        in_channels: of each map, the finest first; two maps or more.
        out_channels: of every node.
        factors: how many times as large each map has to get.
        order: ``"fine first"``, the paper's; ``"coarse first"``, from the other end;
            ``"at once"``: the first node reads all maps, and as many nodes follow as
            make the parameters equal.

    Raises:
        ValueError: for another order, fewer than two maps, another number of factors,
            or a factor that ``enlarging`` refuses.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        factors: Sequence[int],
        *,
        order: str = "fine first",
    ) -> None:
        super().__init__()
        count = len(in_channels)
        fits = count == len(factors) and count >= 2
        expect(fits, "two maps or more, factors for each", in_channels, factors)
        expect(order in ORDERS, f"an order from {ORDERS}", order)
        self.order, self.reads, self.out_channels = order, count, out_channels
        self.align = nn.ModuleList()
        for channels, factor in zip(in_channels, factors, strict=True):
            plan = [(out_channels, 1, 1)]
            project = resnet.sequence(LAYERS, plan, channels)
            same = channels == out_channels
            up = enlarging(out_channels, factor)
            self.align.append(nn.Sequential(nn.Identity() if same else project, up))
        sizes = [2] * (count - 1)
        if order == "at once":
            sizes = [count] + [1] * (count - 2)
        self.nodes = nn.ModuleList()
        for size in sizes:
            node = Node([out_channels] * size, out_channels, kernel_size=3)
            self.nodes.append(node)
        he_init_(self)

    def forward(self, *maps: Float[Tensor, "b _ _ _"]) -> list[Tensor]:
        """What each node makes, one after the other; the last is the result.

        Args:
            maps: the finest first.

        Raises:
            ValueError: for another number of maps.
        """
        expect(len(maps) == self.reads, f"{self.reads} maps", len(maps))
        waiting = [align(x) for align, x in zip(self.align, maps, strict=True)]
        if self.order == "coarse first":
            waiting.reverse()
        x, made = waiting.pop(0), []
        for node in self.nodes:
            more = len(cast("Node", node).in_channels) - 1
            x = node(x, *waiting[:more])
            del waiting[:more]
            made.append(x)
        return made


class Triangle(nn.Module):
    """The released nets' way up: ``IDA`` over the two coarsest maps; then over the next
    finer map, the finer of those two and what came out; and so on.

    Args:
        channels: of each map, the finest first, each twice as fine as the next.

    Raises:
        ValueError: for fewer than two maps.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        count = len(channels)
        expect(count >= 2, "two maps or more", channels)
        self.reads, self.out_channels = count, channels[0]
        self.rounds = nn.ModuleList()
        for first in reversed(range(count - 1)):
            fine, coarse = channels[first : first + 2]
            others = count - 1 - first
            factors = [1] + [2] * others
            self.rounds.append(IDA([fine] + [coarse] * others, fine, factors))

    def forward(self, *maps: Float[Tensor, "b _ _ _"]) -> list[Tensor]:
        """What the last round's nodes make; the last is the result.

        Raises:
            ValueError: for another number of maps.
        """
        expect(len(maps) == self.reads, f"{self.reads} maps", len(maps))
        made: list[Tensor] = []
        for number, ida in enumerate(self.rounds):
            first = len(self.rounds) - 1 - number
            made = ida(*maps[first : first + 2], *made)
        return made


class Dense(nn.Module):
    """A trunk, a way to merge its maps, class scores of every position, and their
    enlargement to the picture's size.

    Args:
        trunk: makes the maps.
        merge: an ``IDA`` or a ``Triangle``.
        levels: the trunk's maps that ``merge`` gets.
        num_classes: outputs.

    Raises:
        ValueError: for a level that is not there, or another number than ``merge``
            reads.
    """

    def __init__(
        self,
        trunk: Trunk,
        merge: IDA | Triangle,
        *,
        levels: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        count = len(trunk.levels)
        there = all(0 <= level < count for level in levels)
        expect(there, f"levels from 0 to {count - 1}", levels)
        expect(len(levels) == merge.reads, f"{merge.reads} levels", levels)
        self.trunk, self.merge, self.levels = trunk, merge, tuple(levels)
        self.head = nn.Conv2d(merge.out_channels, num_classes, 1)
        he_init_(self.head)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Class scores (logits) of every pixel.

        Raises:
            ValueError: as ``Trunk``.
        """
        maps = self.trunk(images)
        merged = self.merge(*[maps[level] for level in self.levels])[-1]
        size = images.shape[-2:]
        return functional.interpolate(self.head(merged), size=size, mode="bilinear")


loss = classification


@dataclass(frozen=True)
class Part:
    """A block, a node or an input, as ``wiring`` found it."""

    name: str
    kind: str  # "input", "block" or "node"
    sources: tuple[str, ...]  # the parts that it reads, without another in between


def wiring(module: nn.Module, *inputs: Tensor) -> list[Part]:
    """Which block and node reads which, as autograd recorded it: nothing is told by
    hand.

    Args:
        module: is run once on the inputs.
        inputs: one tensor for each argument.

    Returns:
        The inputs, then blocks and nodes in the order in which they ran.
    """
    marks: dict[Function, str] = {}
    found: list[tuple[str, str, Function]] = []

    def mark(kind: str, output: Tensor) -> None:
        number = 1 + sum(kind == other for _, other, _ in found)
        function = cast("Function", output.grad_fn)
        marks[function] = f"{kind} {number}"
        found.append((marks[function], kind, function))

    entering = []
    for x in inputs:
        entering.append(x.detach().requires_grad_().clone())
        mark("input", entering[-1])
    _run(module, entering, mark)
    return [Part(name, kind, _sources(end, marks)) for name, kind, end in found]


def _run(
    module: nn.Module, inputs: Sequence[Tensor], see: Callable[[str, Tensor], None]
) -> Any:
    """The module's result; ``see`` gets each block's and node's kind and output."""
    handles = []
    for part in module.modules():
        if isinstance(part, (Block, Node)):
            kind = type(part).__name__.lower()
            handles.append(
                part.register_forward_hook(
                    lambda _, __, output, kind=kind: see(kind, output)
                )
            )
    try:
        return module(*inputs)
    finally:
        for handle in handles:
            handle.remove()


def _sources(end: Function, marks: Mapping[Function, str]) -> tuple[str, ...]:
    """The marks that lead to a function, up to the first on each way."""
    names: list[str] = []
    seen = {end}
    todo = _before(end)
    while todo:
        function = todo.pop(0)
        if function in seen:
            continue
        seen.add(function)
        if function in marks:
            names.append(marks[function])
        else:
            todo[:0] = _before(function)
    return tuple(names)


def layout(parts: Sequence[Part]) -> dict[str, tuple[float, float]]:
    """Where a drawing puts the parts: inputs and blocks side by side on the ground, a
    node between those that it reads there, one floor above all that it reads.

    Returns:
        name -> (x, y), in steps along the ground and in floors.
    """
    places: dict[str, tuple[float, float]] = {}
    for part in parts:
        read = [places[source] for source in part.sources]
        if part.kind != "node":
            low = sum(y == 0 for _, y in places.values())
            places[part.name] = float(low), 0.0
            continue
        below = [x for x, y in read if y == 0]
        across = below if len(below) > 1 else [x for x, _ in read]
        top = max(y for _, y in read)
        places[part.name] = sum(across) / len(across), top + 1
    return places


def path_depths(output: Tensor, sources: Sequence[Tensor]) -> list[tuple[int, int]]:
    """How many ReLUs lie between tensors and what was made of them, counted on
    autograd's graph.

    Args:
        output: was computed from them.
        sources: with a gradient.

    Returns:
        For each source the fewest and the most on any way to the output.

    Raises:
        ValueError: for a source that the output does not depend on.
    """
    start = _function(output)
    depths = {start: (0, 0)}
    for function in _in_order(start):
        for before in _before(function):
            step = _is_relu(before)
            short, long = (depth + step for depth in depths[function])
            known = depths.get(before, (short, long))
            depths[before] = min(known[0], short), max(known[1], long)
    out = []
    for number, source in enumerate(sources):
        function = _function(source)
        expect(function in depths, f"an output made from source {number}")
        # a ReLU that made a source lies before it; the output's own counts
        more = _is_relu(start) - _is_relu(function)
        short, long = depths[function]
        out.append((short + more, long + more))
    return out


def exits(module: nn.Module, *inputs: Tensor) -> list[tuple[int, int]]:
    """How many ReLUs lie between each block and the module's result.

    Args:
        module: is run once on the inputs.
        inputs: one tensor for each argument.

    Returns:
        For each block, in the order in which they ran, the fewest and the most.
    """
    made: list[Tensor] = []

    def keep(kind: str, output: Tensor) -> None:
        made.extend([output] * (kind == "block"))

    result = _run(module, [x.detach().requires_grad_() for x in inputs], keep)
    return path_depths(result, made)


def _function(made: Tensor) -> Function:
    """What made a tensor, or stands for it if it was given."""
    expect(made.requires_grad, "a tensor with a gradient")
    view = cast("Function", made.view_as(made).grad_fn)
    return cast("Function", view.next_functions[0][0])


def _before(function: Function) -> list[Function]:
    """What a function reads."""
    return [before for before, _ in function.next_functions if before is not None]


def _is_relu(function: Function) -> bool:
    return function.name().startswith("Relu")


def _in_order(start: Function) -> list[Function]:
    """Every function that leads to ``start``, each before those that lead to it."""
    done: dict[Function, None] = {}
    todo = [(start, False)]
    while todo:
        function, is_left = todo.pop()
        if is_left:
            done[function] = None
        elif function not in done:
            todo.append((function, True))
            todo += [(before, False) for before in _before(function)]
    return list(done)[::-1]


def variant_settings(variant: str) -> dict[str, Any]:
    """The settings of a released net's trunk.

    Raises:
        ValueError: for a variant that is none of ``VARIANTS``.
    """
    expect(variant in VARIANTS, f"a variant from {list(VARIANTS)}", variant)
    depths, channels, kind, groups = VARIANTS[variant]
    block = {"kind": kind, "groups": groups, "residual": variant in DEEP}
    return {"depths": depths, "channels": channels, **block}


# How the map of the net names its blocks.
BLOCKS = {
    "trunk.stem": "stem",
    "trunk.levels.*": "level *",
    "head": "head",
}


def tiny(**overrides: Any) -> DLA:
    """The book's scale: pictures of 32x32, two trees on maps of 4 and 2 cells a side.

    Args:
        overrides: of ``DLA``.
    """
    settings: dict = {"num_classes": 8}
    return DLA(**(TINY | settings | overrides))


def tiny_dense(
    *,
    levels: Sequence[int] = (0, 1, 2, 3),
    width: int = 16,
    order: str = "fine first",
    num_classes: int = 8,
    **overrides: Any,
) -> Dense:
    """The book's scale with an answer at every pixel: the tiny trunk and one ``IDA``.

    Args:
        levels: the maps that are merged; ``(3, 3, 3, 3)`` merges the last one with
            itself.
        width: channels of the nodes.
        order: see ``IDA``.
        num_classes: outputs.
        overrides: of ``Trunk``.

    Raises:
        ValueError: for what ``Dense`` and ``IDA`` refuse.
    """
    trunk = Trunk(**(TINY | overrides))
    channels = [trunk.channels[level] for level in levels]
    finest = trunk.strides[0]
    factors = [trunk.strides[level] // finest for level in levels]
    merge = IDA(channels, width, factors, order=order)
    return Dense(trunk, merge, levels=levels, num_classes=num_classes)


def paper(*, variant: str = "34", **overrides: Any) -> DLA:
    """The paper's scale: a released classifier for ImageNet.

    Args:
        variant: a key of ``VARIANTS``.
        overrides: of ``DLA``.

    Raises:
        ValueError: for another variant.
    """
    return DLA(**(variant_settings(variant) | overrides))


def paper_dense(
    *, variant: str = "34", num_classes: int = 19, **overrides: Any
) -> Dense:
    """The paper's scale for segmentation: a released trunk whose levels from stride 2
    on go up a triangle.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: outputs; 19 of Cityscapes.
        overrides: of ``Trunk``.

    Raises:
        ValueError: for another variant.
    """
    trunk = Trunk(**(variant_settings(variant) | overrides))
    levels = range(1, len(trunk.levels))
    merge = Triangle(trunk.channels[1:])
    return Dense(trunk, merge, levels=levels, num_classes=num_classes)
