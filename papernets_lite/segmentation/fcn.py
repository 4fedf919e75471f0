"""Fully Convolutional Networks for Semantic Segmentation.

Jonathan Long, Evan Shelhamer, Trevor Darrell. CVPR 2015, arXiv 1411.4038; journal
version TPAMI 2017, arXiv 1605.06211.
Official code: shelhamer/fcn.berkeleyvision.org (Caffe).

Idea: a classifier's dense layers are convolutions, so that a classifier draws a coarse
map of scores; enlarge it inside the net and add the scores of finer, shallower maps.

Differs:
    1. The loss is the mean over the labelled pixels, not the sum: the learning rate
       then does not depend on the picture's size.
    2. ``padding`` and ``around``: the small net pads where it convolves; the paper pads
       the picture by 100 pixels and cuts the result.
    3. ``norm`` puts batch normalisation behind the trunk's convolutions, without which
       a net without ImageNet's weights hardly learns.
    4. ``merge="add"`` and ``"concat"`` join feature maps of ``width`` channels and
       convolve them, as later nets do; ``unfold`` draws a fine map from the deep one
       alone, as dense upsampling convolution does (arXiv 1702.08502). Both are
       controls, not in the paper.

Guessed:
    One upsampling kernel a class, as the released code's notes say, where its layers
    could mix classes. The kernels are fixed as in the released nets; ``learn`` learns
    the intermediate ones, as the first version of the paper does.

Example:
    >>> from papernets_lite.segmentation import fcn
    >>> fcn.tiny(num_classes=9)(torch.rand(2, 3, 64, 50)).shape
    torch.Size([2, 9, 64, 50])
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import (
    at_least,
    check_images,
    check_keys,
    check_labels,
    expect,
)

# width and number of 3x3 convolutions of each stage of VGG-16; a pooling ends each
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
HIDDEN, KERNEL = 4096, 7  # of the dense layers fc6 and fc7
PADDING = 100  # zeros around the picture
CLASSES = 21  # of PASCAL VOC, with the background
IGNORE = 255  # pixels that have no label
MERGES = ("scores", "add", "concat")

Stages = Sequence[tuple[int, int]]


class Grid(NamedTuple):
    """Where a map's cells lie in the picture: the centre of cell i is at ``first + i *
    stride``, in pixels."""

    stride: float = 1.0
    first: float = 0.5

    def after(self, kernel: int, stride: int = 1, padding: int = 0) -> "Grid":
        """The grid of what a convolution or a pooling makes of the map."""
        moved = self.first + self.stride * ((kernel - 1) / 2 - padding)
        return Grid(self.stride * stride, moved)

    def enlarged(self, factor: int) -> "Grid":
        """The grid of what ``Upsampling`` makes of the map."""
        fine = self.stride / factor
        return Grid(fine, self.first - fine * (_reach(factor) - 1) / 2)

    def unfolded(self, factor: int) -> "Grid":
        """The grid when each cell becomes ``factor`` x ``factor`` cells."""
        fine = self.stride / factor
        return Grid(fine, self.first - fine * (factor - 1) / 2)

    def offset(self, other: "Grid") -> int:
        """Which cell of this map lies on cell 0 of ``other``; below 0, one that would
        lie before its first.

        Raises:
            ValueError: where the cells of the two do not lie on each other.
        """
        cells = (other.first - self.first) / self.stride
        fits = self.stride == other.stride and cells == round(cells)
        expect(fits, "grids that lie on each other", self, other)
        return round(cells)


def cut(
    maps: Float[Tensor, "b c h w"], start: int, size: Sequence[int]
) -> Float[Tensor, "b c _ _"]:
    """The part of ``maps`` that begins ``start`` cells from the top and the left.

    Args:
        maps: what is cut.
        start: the same on both axes.
        size: rows and columns of the part.

    Raises:
        ValueError: for maps that end before it.
    """
    rows, columns = size
    height, width = maps.shape[-2:]
    fits = start >= 0 and start + rows <= height and start + columns <= width
    expect(fits, f"{rows} x {columns} cells from {start} on", maps.shape)
    return maps[..., start : start + rows, start : start + columns]


def overlay(
    first: Float[Tensor, "b c h w"],
    lies: Grid,
    second: Float[Tensor, "b d H W"],
    there: Grid,
) -> tuple[Tensor, Tensor, Grid]:
    """What two maps of one stride have in common.

    Args:
        first: a map.
        lies: its grid.
        second: another.
        there: the other's grid.

    Returns:
        The part of each, and their grid.

    Raises:
        ValueError: for grids of which no cell lies on another.
    """
    ahead = lies.offset(there)
    starts = max(ahead, 0), max(-ahead, 0)
    rests = []
    for maps, start in zip((first, second), starts, strict=True):
        rests.append([side - start for side in maps.shape[-2:]])
    size = [min(pair) for pair in zip(*rests, strict=True)]
    common = there if ahead > 0 else lies
    return cut(first, starts[0], size), cut(second, starts[1], size), common


def bilinear_kernel(size: int) -> Float[Tensor, "size size"]:
    r"""The kernel that interpolates linearly between two cells: :math:`W_{ij} = (1 -
    |i - c| / f)(1 - |j - c| / f)`, with the factor :math:`f = \lceil size / 2 \rceil`
    and the kernel's centre c.

    Raises:
        ValueError: for a size below 1.
    """
    at_least(1, size=size)
    factor = math.ceil(size / 2)
    away = torch.arange(size) - (size - 1) / 2
    line = 1 - away.abs() / factor
    return line[:, None] * line


def _reach(factor: int) -> int:
    """The side of the kernel that enlarges by ``factor``: 2f, of an odd f one less."""
    return 2 * factor - factor % 2


class Upsampling(nn.Module):
    """A transposed convolution of stride f that starts as bilinear interpolation
    (Section 3.3), each channel by itself. Of n cells it makes (n + 1) f, for an even f.

    Args:
        channels: of the map.
        factor: f.
        learn: the kernels, one a channel; else they stay what they are.

    Raises:
        ValueError: for channels or a factor below 1.
    """

    weight: Tensor

    def __init__(self, channels: int, factor: int, *, learn: bool = False) -> None:
        super().__init__()
        at_least(1, channels=channels, factor=factor)
        self.factor = factor
        kernel = bilinear_kernel(_reach(factor)).expand(channels, 1, -1, -1)
        if learn:
            self.weight = nn.Parameter(kernel.clone())
        else:
            self.register_buffer("weight", kernel.clone(), persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        """The map, ``factor`` times as fine; its rim fades out over a cell."""
        return functional.conv_transpose2d(
            x, self.weight, stride=self.factor, groups=x.shape[1]
        )


def trunk(
    stages: Stages, *, in_channels: int = 3, padding: int = 1, norm: bool = False
) -> nn.ModuleList:
    """VGG's stages: 3x3 convolutions with ReLUs, then a 2x2 max-pooling.

    Args:
        stages: width and number of convolutions of each.
        in_channels: of the images.
        padding: of the first convolution; the others have 1.
        norm: batch normalisation in place of biases.

    Raises:
        ValueError: for no stages, or one without channels or convolutions.
    """
    expect(stages, "at least one stage", stages)
    made = nn.ModuleList()
    for channels, depth in stages:
        at_least(1, channels=channels, depth=depth)
        layers: list[nn.Module] = []
        for _ in range(depth):
            conv = nn.Conv2d(in_channels, channels, 3, padding=padding, bias=not norm)
            layers += conv_norm_act(conv, nn.BatchNorm2d if norm else None)
            in_channels, padding = channels, 1
        # Caffe's poolings keep what is left over at the end of a row.
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        made.append(nn.Sequential(*layers))
    return made


def convolution(layer: nn.Linear, kernel: int) -> nn.Conv2d:
    """The dense layer as the convolution that it is: the same numbers, in the shape of
    filters that cover the whole map.

    Args:
        layer: that reads a map of ``kernel`` x ``kernel`` cells, flattened channel by
            channel.
        kernel: its side; 1 for a layer that reads one cell.

    Raises:
        ValueError: for a layer whose inputs are no such map.
    """
    at_least(1, kernel=kernel)
    channels, rest = divmod(layer.in_features, kernel**2)
    expect(rest == 0, f"inputs of {kernel} x {kernel} cells", layer.in_features)
    has_bias = layer.bias is not None
    conv = nn.Conv2d(channels, layer.out_features, kernel, bias=has_bias)
    conv.to(layer.weight)
    with torch.no_grad():
        conv.weight.copy_(layer.weight.view_as(conv.weight))
        if has_bias:
            cast("Tensor", conv.bias).copy_(layer.bias)
    return conv


class Classifier(nn.Module):
    """VGG: the stages, two dense layers, and a score for each class.

    Args:
        hidden: width of the dense layers.
        stages: see ``trunk``.
        kernel: side of the map that the first of them reads: the pictures' side is
            ``kernel * 2**len(stages)``.
        num_classes: outputs.
        norm: see ``trunk``.
        dropout: rate after each dense layer.

    Raises:
        ValueError: for what ``trunk`` refuses, sizes below 1, or another rate.
    """

    def __init__(
        self,
        *,
        kernel: int,
        hidden: int,
        stages: Stages,
        num_classes: int,
        norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least(1, hidden=hidden, kernel=kernel, num_classes=num_classes)
        expect(0 <= dropout <= 1, "a dropout from 0 to 1", dropout)
        self.stages = trunk(stages, norm=norm)
        self.plan, self.norm = tuple(stages), norm
        self.kernel, self.side = kernel, kernel * 2 ** len(stages)
        self.fc6 = nn.Linear(stages[-1][0] * kernel**2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits) of pictures of ``side`` x ``side`` pixels.

        Raises:
            ValueError: for pictures of another size.
        """
        check_images(images, _first(self.stages))
        size = images.shape[-2:]
        expect(size == (self.side, self.side), f"sides of {self.side}", size)
        x = images
        for stage in self.stages:
            x = stage(x)
        x = self.dropout(self.fc6(x.flatten(1)).relu())
        x = self.dropout(self.fc7(x).relu())
        return self.score(x)


class Join(nn.Module):
    """A skip's end: a finer map joins the coarse one, which is enlarged to its size.

    Args:
        width: channels of either map and of the result.
        merge: ``"scores"`` adds two maps of scores (the paper); ``"add"`` adds maps of
            features, ``"concat"`` lays them side by side, and a 3x3 convolution
            follows.
        norm: batch normalisation behind that convolution.

    """

    def __init__(self, width: int, merge: str, *, norm: bool = False) -> None:
        super().__init__()
        self.merge = merge
        self.mix: nn.Module = nn.Identity()
        if merge != "scores":
            joined = 2 * width if merge == "concat" else width
            conv = nn.Conv2d(joined, width, 3, padding=1, bias=not norm)
            layers = conv_norm_act(conv, nn.BatchNorm2d if norm else None)
            self.mix = nn.Sequential(*layers)

    def forward(
        self, coarse: Float[Tensor, "b c h w"], fine: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Both in one."""
        if self.merge == "concat":
            return self.mix(torch.cat([coarse, fine], 1))
        return self.mix(coarse + fine)


class FCN(nn.Module):
    """The trunk, the dense layers as convolutions, scores, and skips on the way up.

    Args:
        stages: of the trunk; each halves the map.
        hidden: channels of the dense layers.
        kernel: of the first of them.
        num_classes: outputs.
        skips: how many finer maps join, from the deepest pooling but one on: of five
            stages, 0 makes FCN-32s, 1 makes FCN-16s, 2 makes FCN-8s.
        padding: zeros around the picture.
        around: zeros around the map that the first dense layer reads.
        norm: see ``trunk``.
        dropout: rate after each dense layer.
        learn: the upsampling before each skip; the last one is fixed.
        merge: see ``Join``.
        width: channels that join, unless they are scores.
        unfold: the score of each deep cell becomes ``unfold`` x ``unfold`` scores.

    Raises:
        ValueError: for what ``trunk`` refuses, another merge, sizes below 1, more skips
            than finer maps, or skips beside ``unfold``.
    """

    def __init__(
        self,
        *,
        kernel: int,
        hidden: int,
        stages: Stages,
        num_classes: int,
        skips: int = 0,
        padding: int = 1,
        around: int = 0,
        norm: bool = False,
        dropout: float = 0.5,
        learn: bool = False,
        merge: str = "scores",
        width: int = 32,
        unfold: int = 1,
    ) -> None:
        super().__init__()
        at_least(1, hidden=hidden, kernel=kernel, num_classes=num_classes, width=width)
        at_least(1, unfold=unfold)
        at_least(0, skips=skips, padding=padding, around=around)
        expect(0 <= dropout <= 1, "a dropout from 0 to 1", dropout)
        expect(merge in MERGES, f"a merge from {MERGES}", merge)
        self.unfold, self.padding, self.around = unfold, padding, around
        self.stages = trunk(stages, padding=padding, norm=norm)
        expect(skips < len(stages), f"fewer than {len(stages)} skips", skips)
        widths = [channels for channels, _ in stages]
        self.fc6 = nn.Conv2d(widths[-1], hidden, kernel, padding=around)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.dropout = nn.Dropout(dropout)
        he_init_(self)
        channels = num_classes if merge == "scores" else width
        self.score = nn.Conv2d(hidden, channels * unfold**2, 1)
        self.skips, self.ups, self.joins = (nn.ModuleList() for _ in range(3))
        for fine in widths[-2 : -2 - skips : -1]:
            self.skips.append(nn.Conv2d(fine, channels, 1))
            self.ups.append(Upsampling(channels, 2, learn=learn))
            self.joins.append(Join(channels, merge, norm=norm))
        self.head: nn.Module = nn.Identity()
        if merge != "scores":
            self.head = nn.Conv2d(width, num_classes, 1)
        left = 2 ** (len(stages) - skips)
        whole = left % unfold == 0 and (unfold == 1 or skips == 0)
        expect(whole, f"without skips, an unfold that divides {left}", unfold, skips)
        self.last = Upsampling(num_classes, left // unfold)
        self._start()

    def _start(self) -> None:
        """Added scores start at zero (Sections 4.2 and 4.3): a new skip then changes
        nothing."""
        if not isinstance(self.head, nn.Identity):
            return
        for layer in [self.score, *self.skips]:
            for weights in layer.parameters():
                nn.init.zeros_(weights)

    def grids(self) -> list[Grid]:
        """Where the cells of each stage's map lie, and last those of the scores."""
        grid, found = Grid(), []
        padding = self.padding
        for stage in self.stages:
            for layer in cast("nn.Sequential", stage):
                if isinstance(layer, nn.Conv2d):
                    grid = grid.after(3, 1, padding)
                    padding = 1
            grid = grid.after(2, 2)
            found.append(grid)
        deep = grid.after(self.fc6.kernel_size[0], 1, self.around)
        return [*found, deep.unfolded(self.unfold)]

    def maps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What is joined: the scores read off the deep map, then those read off the
        finer maps, from the deepest on.

        Raises:
            ValueError: for what are no images, or smaller ones than the dense layers
                can read.
        """
        check_images(images, _first(self.stages))
        found, x = [], images
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        least = self.fc6.kernel_size[0] - 2 * self.around
        expect(min(x.shape[-2:]) >= least, "larger images", images.shape)
        x = self.dropout(self.fc6(x).relu())
        x = self.dropout(self.fc7(x).relu())
        deep = self.score(x)
        if self.unfold > 1:
            deep = functional.pixel_shuffle(deep, self.unfold)
        finer = zip(self.skips, found[-2::-1], strict=False)
        return [deep, *(skip(fine) for skip, fine in finer)]

    def draw(
        self, maps: Sequence[Tensor], size: Sequence[int]
    ) -> Float[Tensor, "b k h w"]:
        """The maps, each enlarged and laid on the next finer one, as scores of pixels.

        Args:
            maps: from ``maps``.
            size: of the picture, rows and columns.
        """
        *finer, grid = self.grids()
        x = maps[0]
        steps = zip(self.ups, self.joins, maps[1:], finer[-2::-1], strict=False)
        for up, join, fine, lies in steps:
            x, fine, grid = overlay(up(x), grid.enlarged(2), fine, lies)
            x = join(x, fine)
        grid = grid.enlarged(self.last.factor)
        return cut(self.last(self.head(x)), grid.offset(Grid()), size)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Class scores (logits) of every pixel, for pictures of any size.

        Raises:
            ValueError: as ``maps``.
        """
        return self.draw(self.maps(images), images.shape[-2:])

    def parts(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """What each of ``maps`` contributes to the scores of the pixels: they add up to
        the net's answer, since all that follows a score is linear.

        Raises:
            ValueError: for a net that joins features, and as ``maps``.
        """
        expect(isinstance(self.head, nn.Identity), "a net that adds scores")
        maps, size = self.maps(images), images.shape[-2:]
        found = []
        for one in maps:
            alone = [x if x is one else torch.zeros_like(x) for x in maps]
            found.append(self.draw(alone, size))
        return found


def _first(stages: nn.ModuleList) -> nn.Conv2d:
    return cast("nn.Conv2d", stages.get_submodule("0.0"))


@torch.no_grad()
def transplant(net: FCN, source: nn.Module) -> FCN:
    """Give a net what another has learnt: every layer of the same name, a dense one as
    the convolution that it is. Layers that it alone has keep what they are, as do its
    class scores where the source scores other classes.

    Args:
        net: changed in place.
        source: a ``Classifier``, or an ``FCN`` with fewer skips.

    Returns:
        The net.

    Raises:
        ValueError: for a source of another trunk or other dense layers.
    """
    theirs = source.state_dict()
    for name, mine in net.state_dict().items():
        if name not in theirs:
            continue
        given = theirs[name]
        whole = given.numel() == mine.numel()
        expect(whole or name.startswith("score"), f"{name} of {mine.shape}", given)
        if whole:
            mine.copy_(given.view_as(mine))
    return net


def dense(source: Classifier, *, num_classes: int, **settings: Any) -> FCN:
    """The dense net that a classifier becomes, with its weights.

    Args:
        source: stays as it is.
        num_classes: scores of a pixel. As many as the source has take over its weights;
            other scores start at zero.
        settings: of ``FCN``; its first dense layer pads so that its map keeps its size.

    Raises:
        ValueError: for what ``FCN`` refuses.
    """
    same = {"stages": source.plan, "kernel": source.kernel, "norm": source.norm}
    same |= {"hidden": source.fc7.out_features, "around": source.kernel // 2}
    same |= {"dropout": source.dropout.p}
    net = FCN(num_classes=num_classes, **(same | settings))  # type: ignore[arg-type]
    return transplant(net, source)


def loss(
    outputs: Float[Tensor, "b k h w"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""The mean of :math:`-\log p_{\ell(x)}(x)` over the pixels that have a label.

    Args:
        outputs: logits, whose softmax over k makes the :math:`p_k(x)`.
        batch: ``labels`` (b, h, w), the true class of each pixel, from 0 to k - 1, or
            ``IGNORE`` (255) where there is none.
        generator: nothing is drawn.

    Returns:
        ``loss``, and ``accuracy``, the share of labelled pixels that are right; both
        are 0 where nothing has a label.

    Raises:
        ValueError: for labels of another shape, or that are no class.
    """
    check_keys(batch, "labels")
    shape = len(outputs), *outputs.shape[2:]
    classes = outputs.shape[1]
    labels = check_labels(batch["labels"], classes, shape=shape, unknown=IGNORE)
    missed = functional.cross_entropy(
        floating(outputs), labels, ignore_index=IGNORE, reduction="sum"
    )
    right = outputs.detach().max(1).indices == labels
    known = (labels != IGNORE).sum().clamp(min=1)
    return {"loss": missed / known, "accuracy": right.sum() / known}


@torch.no_grad()
def decode(outputs: Float[Tensor, "b k h w"]) -> Int64[Tensor, "b h w"]:
    """The best class of each pixel.

    Raises:
        ValueError: for what are no scores (b, k, h, w).
    """
    check_images(outputs)
    return outputs.max(1).indices


# What the map of the net (``show.net``) draws as one block, and its name there.
BLOCKS = {
    "stages.*": "stage *",
    "fc6 fc7 score": "dense",
    "skips.*": "skip *",
    "ups.*": "up *",
    "head": "head",
    "last": "last up",
}


# What the book's classifier and the net that is made from it share.
TINY: dict[str, Any] = {
    "stages": ((16, 1), (32, 1), (48, 2), (64, 2)),
    "hidden": 128,
    "kernel": 3,
    "norm": True,
    "dropout": 0.0,
}


def tiny(**overrides: Any) -> FCN:
    """The book's scale: four narrow stages, padded where they convolve, and two skips,
    so that the finest scores have a stride of 4.

    Args:
        overrides: of ``FCN``.
    """
    settings = {"around": 1, "num_classes": 9, "skips": 2}
    return FCN(**(TINY | settings | overrides))


def tiny_classifier(**overrides: Any) -> Classifier:
    """The classifier from which ``tiny`` is made; its pictures have 48 x 48 pixels.

    Args:
        overrides: of ``Classifier``.
    """
    return Classifier(**(TINY | {"num_classes": 8} | overrides))


def paper(**overrides: Any) -> FCN:
    """The paper's scale: FCN-8s of VGG-16, for the classes of PASCAL VOC.

    Args:
        overrides: of ``FCN``: ``skips=0`` makes FCN-32s, ``skips=1`` FCN-16s.
    """
    settings: dict = {
        "stages": VGG16,
        "hidden": HIDDEN,
        "kernel": KERNEL,
        "padding": PADDING,
        "num_classes": CLASSES,
        "skips": 2,
    }
    return FCN(**(settings | overrides))
