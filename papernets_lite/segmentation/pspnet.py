"""Pyramid Scene Parsing Network.

Hengshuang Zhao, Jianping Shi, Xiaojuan Qi, Xiaogang Wang, Jiaya Jia. CVPR 2017,
arXiv 1612.01105.
Official code: hszhao/PSPNet (Caffe) and hszhao/semseg (PyTorch), both by the authors.

Idea: average the last map over the whole picture, its quarters, its ninths and its
thirty-sixths, and hand all four averages to every position.

Differs:
    1. ``context="dilated"`` puts dilated convolutions in the pyramid's place, and bins
       may be any, none included: rivals of the chapter. Global pooling, ``bins=(1,)``,
       and the dilated rival keep the head as wide as the pyramid does.
    2. The small net has one unit for each stage and starts from random weights; the
       paper's starts from ImageNet.
    3. The second head answers in use, too, so that it can be looked at; the authors
       leave it out there.

Guessed:
    What the paper leaves open is taken from the authors' PyTorch code: a stem of three
    3x3 convolutions, the stride in a bottleneck's 3x3, dilations from a stage's first
    unit on, ``align_corners``, the widths of both heads and their dropout.

Example:
    >>> from papernets_lite.segmentation import pspnet
    >>> pspnet.tiny(num_classes=3)(torch.rand(2, 3, 97, 97)).main.shape
    torch.Size([2, 3, 49, 49])
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from papernets_lite.backbones import resnet
from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import (
    at_least,
    check_images,
    check_keys,
    check_labels,
    expect,
)

BINS = (1, 2, 3, 6)  # Section 3.2
AUX_WEIGHT = 0.4  # Section 4
POWER = 0.9  # of the learning rate's decay, Section 5.1
UNKNOWN = 255  # pixels that have no label
STRIDE = 8  # of the last map
RATES = (1, 1, 2, 4)  # dilation of each stage


def edges(size: int, bins: int) -> list[tuple[int, int]]:
    """First cell of each bin and the one after its last, along an axis of ``size``
    cells. Where ``bins`` does not divide it, neighbours share a cell.

    Raises:
        ValueError: for no cell or no bin.
    """
    at_least(1, size=size, bins=bins)
    out = []
    for k in range(bins):
        # the floor of where it begins, the ceiling of where it ends
        out.append((k * size // bins, -(-(k + 1) * size // bins)))
    return out


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, with corner cells on corner cells: sizes are 8k + 1."""
    return functional.interpolate(
        maps, size=list(size), mode="bilinear", align_corners=True
    )


def unit(
    in_channels: int, out_channels: int, size: int, rate: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size, batch normalisation and ReLU.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        size: of the kernel.
        rate: its dilation.
    """
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        size,
        padding=rate * (size // 2),
        dilation=rate,
        bias=False,
    )
    return nn.Sequential(*conv_norm_act(conv))


class PyramidPooling(nn.Module):
    """The pyramid pooling module (Section 3.2): for each level, average over bins, one
    1x1 convolution, and back to the map's size; all beside the map itself.

    Args:
        in_channels: of the map.
        bins: of each level, down and across. Each level keeps an equal share of the
            channels, so that all levels together weigh as much as the map.

    Raises:
        ValueError: for no bins, or channels that their number does not divide.
    """

    def __init__(self, in_channels: int, bins: Sequence[int] = BINS) -> None:
        super().__init__()
        fits = len(bins) > 0 and min(bins) > 0 and in_channels % len(bins) == 0
        expect(fits, "bins, whose number divides the channels", bins, in_channels)
        self.levels = nn.ModuleList()
        for count in bins:
            average = nn.AdaptiveAvgPool2d(count)
            reduce = unit(in_channels, in_channels // len(bins), 1)
            self.levels.append(nn.Sequential(average, *reduce))
        self.out_channels = 2 * in_channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The map, then each level's context, coarse to fine."""
        out = [x]
        for level in self.levels:
            out.append(enlarge(level(x), x.shape[-2:]))
        return torch.cat(out, 1)


class DilatedContext(nn.Module):
    """The rival: a 1x1 convolution and three dilated 3x3 ones in a row, whose outputs
    are concatenated as the pyramid's levels are. They see 29 cells across.

    Args:
        in_channels: of the map.
        rates: dilation of each 3x3.

    Raises:
        ValueError: for channels that the number of layers does not divide.
    """

    def __init__(self, in_channels: int, rates: Sequence[int] = (2, 4, 8)) -> None:
        super().__init__()
        count = len(rates) + 1
        fits = in_channels % count == 0
        expect(fits, f"a multiple of {count} channels", in_channels)
        width = in_channels // count
        self.levels = nn.ModuleList([unit(in_channels, width, 1)])
        for rate in rates:
            self.levels.append(unit(width, width, 3, rate))
        self.out_channels = 2 * in_channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The map, then what each layer sees around every position."""
        out, seen = [x], x
        for level in self.levels:
            seen = level(seen)
            out.append(seen)
        return torch.cat(out, 1)


def deep_stem(width: int) -> nn.Sequential:
    """Three 3x3 convolutions instead of one 7x7, the first with stride 2 and the last
    twice as wide, then max pooling: a quarter of the size."""
    plan = [(width, 3, 2), (width, 3, 1), (2 * width, 3, 1)]
    layers = resnet.sequence(["conv", "bn", "relu"] * 3, plan, 3)
    return layers.append(nn.MaxPool2d(3, 2, 1))


def dilate_(stage: nn.Module, rate: int) -> None:
    """Set the dilation of every 3x3 convolution, in place: the weights stay, and the
    map keeps its size."""
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
            conv.dilation = conv.padding = (rate, rate)


class DilatedResNet(nn.Module):
    """A ResNet whose last two stages dilate instead of halving the map.

    Args:
        blocks: residual units of each of the four stages.
        widths: channels inside the units of each stage.
        stem: channels of the stem's first convolution.
        rates: dilation of each stage.

    Attributes:
        channels: of the third and the fourth stage's map.

    Raises:
        ValueError: unless there are four of each, all positive.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: int,
        rates: Sequence[int] = RATES,
    ) -> None:
        super().__init__()
        four = len(blocks) == len(widths) == len(rates) == 4
        expect(four, "four stages", blocks, widths, rates)
        positive = min(stem, *blocks, *widths, *rates) > 0
        expect(positive, "positive stem, blocks, widths and rates", stem, blocks)
        self.stem = deep_stem(stem)
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        channels = 2 * stem
        plan = zip(blocks, widths, rates, strict=True)
        for number, (count, width, rate) in enumerate(plan):
            stage = nn.Sequential()
            for k in range(count):
                block = resnet.Unit(
                    channels,
                    width,
                    stride=2 if number == 1 and k == 0 else 1,
                    bottleneck=True,
                    stride_on_3x3=True,
                )
                stage.append(block)
                channels = block.out_channels
            if rate > 1:
                dilate_(stage, rate)
            self.stages.append(stage)
            self.channels.append(channels)
        self.channels = self.channels[2:]

    def forward(
        self, images: Float[Tensor, "b c H W"]
    ) -> tuple[Float[Tensor, "b _ h w"], Float[Tensor, "b _ h w"]]:
        """The maps of the third and the fourth stage, an eighth of the size."""
        x = self.stem(images)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[2], maps[3]


class Scores(NamedTuple):
    """Logits of each pixel's classes."""

    main: Float[Tensor, "b k h w"]
    aux: Float[Tensor, "b k h w"] | None  # of the second head, if there is one


def head(in_channels: int, width: int, num_classes: int, dropout: float) -> nn.Module:
    """3x3 convolution, dropout of whole channels, 1x1 to the classes.

    Args:
        in_channels: of the map.
        width: channels between the two.
        num_classes: outputs.
        dropout: rate.
    """
    return nn.Sequential(
        *unit(in_channels, width, 3),
        nn.Dropout2d(dropout),
        nn.Conv2d(width, num_classes, 1),
    )


def between(channels: int, bins: Sequence[int], context: str) -> tuple[nn.Module, int]:
    """What stands between trunk and head, and its channels.

    Args:
        channels: of the trunk's last map.
        bins: of the pyramid's levels; none for nothing.
        context: ``"pyramid"``, or ``"dilated"`` for the rival.

    Raises:
        ValueError: for another context.
    """
    known = context in ("pyramid", "dilated")
    expect(known, "a context 'pyramid' or 'dilated'", context)
    if context == "dilated":
        return DilatedContext(channels), 2 * channels
    if bins:
        return PyramidPooling(channels, bins), 2 * channels
    return nn.Identity(), channels


class PSPNet(nn.Module):
    """A dilated ResNet, the pyramid, and a head; a second head on the third stage
    helps in training.

    Args:
        num_classes: outputs.
        width: channels of the main head; the auxiliary one has half.
        bins: of the pyramid's levels; none leaves it out, and the head reads the map.
        context: ``"pyramid"``, or ``"dilated"`` for the rival, see ``DilatedContext``.
        auxiliary: whether there is a second head.
        dropout: rate in both heads.
        zoom: by how much scores are enlarged, 1, 2, 4 or 8; at 8 every pixel has its
            own, at 4 every second in each row and column.
        trunk: settings of ``DilatedResNet``.

    Raises:
        ValueError: for another context, or settings that make no net.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        width: int,
        bins: Sequence[int] = BINS,
        context: str = "pyramid",
        auxiliary: bool = True,
        dropout: float = 0.1,
        zoom: int = STRIDE,
        **trunk: Any,
    ) -> None:
        super().__init__()
        at_least(1, num_classes=num_classes)
        at_least(2, width=width)
        expect(zoom in (1, 2, 4, 8), "a zoom of 1, 2, 4 or 8", zoom)
        self.zoom = zoom
        self.trunk = DilatedResNet(**trunk)
        third, channels = self.trunk.channels
        self.least = 2 if context == "pyramid" and 1 in bins else 1
        self.context, channels = between(channels, bins, context)
        self.head = head(channels, width, num_classes, dropout)
        self.aux = None
        if auxiliary:
            self.aux = head(third, width // 2, num_classes, dropout)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Scores:
        """Class scores (logits) of every pixel, or of every ``8 / zoom``-th.

        Raises:
            ValueError: for what are no images, see ``checks.check_images``, sides that
                are not 8k + 1, or one image alone in training: in a bin that covers all
                of it, batch normalisation then has nothing to compare.
        """
        check_images(images, cast("nn.Conv2d", self.trunk.stem[0]))
        several = not self.training or len(images) >= self.least
        expect(several, f"{self.least} images in training", len(images))
        size = list(images.shape[-2:])
        fits = all(side > 1 and side % STRIDE == 1 for side in size)
        expect(fits, f"sides of {STRIDE}k + 1", size)
        size = [(side - 1) * self.zoom // STRIDE + 1 for side in size]
        third, last = self.trunk(images)
        main = enlarge(self.head(self.context(last)), size)
        if self.aux is None:
            return Scores(main, None)
        return Scores(main, enlarge(self.aux(third), size))


def loss(
    outputs: Scores,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
    weight: float = AUX_WEIGHT,
) -> dict[str, Tensor]:
    r"""The cross-entropy of both heads: :math:`L = L_{main} + \alpha L_{aux}`.

    Args:
        outputs: logits, with those of the auxiliary head where there is one.
        batch: ``labels`` (b, h, w), from 0 to k - 1; ``UNKNOWN`` (255) has none.
        generator: nothing is drawn.
        weight: :math:`\alpha`.

    Returns:
        ``loss``; ``main``, its first term; and ``accuracy``, the share of labelled
        pixels that are right.

    Raises:
        ValueError: for labels of another shape, or that are no class.
    """
    check_keys(batch, "labels")
    main, aux = outputs
    shape = (len(main), *main.shape[2:])
    labels = check_labels(batch["labels"], main.shape[1], shape=shape, unknown=UNKNOWN)
    known = labels != UNKNOWN
    count = known.sum().clamp(min=1)
    summed = partial(functional.cross_entropy, ignore_index=UNKNOWN, reduction="sum")
    first = summed(main, labels) / count
    total = first
    if aux is not None:
        total = first + weight * summed(aux, labels) / count
    right = (decode(outputs) == labels) & known
    return {"loss": total, "main": first.detach(), "accuracy": right.sum() / count}


@torch.no_grad()
def decode(outputs: Scores) -> Int[Tensor, "b h w"]:
    """The class with the highest score, of each pixel."""
    return outputs.main.argmax(1)


def polynomial(optimizer: Optimizer, steps: int) -> LambdaLR:
    """The "poly" schedule: the base rate times (1 - step / steps) to the power 0.9.

    Args:
        optimizer: whose rates it moves.
        steps: of the whole training.
    """
    return LambdaLR(optimizer, lambda step: (1 - step / steps) ** POWER)


@torch.no_grad()
def slide(
    net: nn.Module,
    images: Float[Tensor, "b c h w"],
    crop: int,
    *,
    advance: float = 2 / 3,
) -> Float[Tensor, "b k h w"]:
    """Probabilities of large images, averaged over overlapping crops of the size that
    the net was trained on: the bins then cover what they covered in training.

    Args:
        net: in evaluation mode.
        images: no side smaller than the crop.
        crop: its side.
        advance: how far crops advance, in sides.

    Raises:
        ValueError: for smaller images, or an advance outside (0, 1].
    """
    check_images(images)
    size = images.shape[-2:]
    expect(min(size) >= crop > 0, f"images of at least {crop} pixels", size)
    expect(0 < advance <= 1, "0 < advance <= 1", advance)
    step = max(1, round(advance * crop))
    total = torch.zeros(())
    count = images.new_zeros(1, 1, *size)
    # the last crop ends at the border
    tops, lefts = ([*range(0, side - crop, step), side - crop] for side in size)
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + crop), slice(left, left + crop)
            chance = net(images[..., rows, columns]).main.softmax(1)
            if not total.ndim:
                total = chance.new_zeros(*chance.shape[:2], *size)
            total[..., rows, columns] += chance
            count[..., rows, columns] += 1
    return total / count


def influence(
    net: nn.Module, images: Float[Tensor, "b c h w"], place: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """The effective receptive field: how much each pixel moves the scores at one place,
    as the mean over images of the gradients' absolute sum.

    Args:
        net: in evaluation mode.
        images: over which is averaged.
        place: row and column of the pixel whose scores are asked.

    Returns:
        Shares of the whole, on the CPU.

    Raises:
        ValueError: for a place outside the images.
    """
    check_images(images)
    row, column = place
    rows, columns = images.shape[-2:]
    inside = 0 <= row < rows and 0 <= column < columns
    expect(inside, f"a place within {rows} x {columns}", place)
    pixels = images.detach().clone().requires_grad_()
    # The classes' scores matter against each other: a sum would cancel.
    scores = net(pixels).main
    step = (rows - 1) // (scores.shape[2] - 1)
    scores = scores[..., row // step, column // step].log_softmax(1)
    (gradient,) = torch.autograd.grad(scores.amax(1).sum(), pixels)
    shares = gradient.abs().sum(1).mean(0).cpu()
    return shares / shares.sum()


def receptive_field(net: nn.Module) -> int:
    """How many pixels across one position of the trunk's last map sees at most, by the
    sizes, strides and dilations of the layers on its longest way.

    Args:
        net: a ``PSPNet``; what follows the trunk is left out.
    """
    trunk = cast("DilatedResNet", net.get_submodule("trunk"))
    across, jump = 1, 1
    for name, layer in trunk.named_modules():
        if isinstance(layer, nn.MaxPool2d):
            across, jump = across + 2 * jump, 2 * jump
        elif isinstance(layer, nn.Conv2d) and "shortcut" not in name:
            reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
            across, jump = across + reach * jump, jump * layer.stride[0]
    return across


# How the map of the net calls its parts.
BLOCKS = {
    "trunk.stem": "stem",
    "trunk.stages.*": "stage *",
    "context": "pyramid",
    "head": "head",
    "aux": "second head",
}


def tiny(**overrides: Any) -> PSPNet:
    """The book's scale: one narrow unit a stage; scores of every second pixel of each
    row and column.

    Args:
        overrides: of ``PSPNet``.
    """
    settings: dict = {
        "num_classes": 8,
        "width": 24,
        "blocks": (1, 1, 1, 1),
        "widths": (8, 16, 24, 32),
        "stem": 8,
        "zoom": 4,
    }
    return PSPNet(**(settings | overrides))


def paper(*, depth: int = 50, **overrides: Any) -> PSPNet:
    """The paper's scale: a ResNet of ``depth`` 50, 101 or 152, for the 150 classes of
    ADE20K.

    Args:
        depth: of the ResNet.
        overrides: of ``PSPNet``.

    Raises:
        ValueError: for another depth.
    """
    expect(depth in (50, 101, 152), "a depth of 50, 101 or 152", depth)
    settings: dict = {
        "num_classes": 150,
        "width": 512,
        "blocks": resnet.IMAGENET[depth],
        "widths": (64, 128, 256, 512),
        "stem": 64,
    }
    return PSPNet(**(settings | overrides))
