"""Deep High-Resolution Representation Learning for Human Pose Estimation, and for
Visual Recognition.

Ke Sun, Bin Xiao, Dong Liu, Jingdong Wang. CVPR 2019, arXiv 1902.09212; Jingdong Wang
and others. TPAMI 2020, arXiv 1908.07919.
Official code: leoxiaobin/deep-high-resolution-net.pytorch (pose),
HRNet/HRNet-Image-Classification, HRNet/HRNet-Semantic-Segmentation.

Idea: keep a fine map from the first layer to the last, add coarser ones beside it, and
let all of them exchange what they know again and again.

Differs:
    1. ``loss`` can score a joint's map as one question, which of its cells is it, by
       cross-entropy (``over_cells``). The paper's squared error, the default, stays at
       empty maps for most of a minute's training.
    2. Targets are drawn around the joint's true place; the released code rounds it to a
       cell first, which costs up to half a cell.
    3. ``decode`` reads one picture; the paper averages with the mirrored one.
    4. ``Hourglass`` and ``Deconvolution`` are the rivals of the book, built from the
       same units as the net; the paper compares with published nets.

Guessed:
    Nothing of the pose net: the released code says what the paper leaves open. Going
    up, the first paper has nearest neighbours, the later one says bilinear. Of HRNetV2p
    it says downsampling; average pooling, and the 3x3 convolution behind each level,
    are the released detector's.

Contract:
    ``decode`` takes, beside the maps, their ``stride``.

Example:
    >>> net = tiny().eval()
    >>> decode(net(torch.zeros(1, 3, 48, 48)), stride=net.stride)[0].shape
    torch.Size([1, 18, 2])
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones.resnet import Unit, sequence
from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.ops.checks import (
    check_finite,
    check_inputs,
    check_keys,
    expect,
)
from papernets_lite.ops.heatmaps import check_grid, gaussian_maps, pixels_of

STEM = 64  # channels of the stem
FACTORS = (1, 2, 4, 8)  # a stream's width in units of the finest one's
# Stages 2, 3 and 4 have 1, 4 and 3 modules (Section 3 of the first paper); a stream has
# four units in each.
MODULES, UNITS = (1, 4, 3), 4
BOTTLENECKS = (32, 64, 128, 256)  # inside the classifier's units, a fourth of its maps
FUSIONS = ("every module", "every stage", "last")  # the three nets of the first paper
SIGMA = 2.0  # of a target's Gaussian, in cells; the first paper says 1
SHIFT = 0.25  # cells, towards the higher neighbour

Widths = Sequence[int]  # channels of each stream, the finest first
Maps = list[Tensor]
Head = Callable[[Sequence[int]], nn.Module]


def down(in_channels: int, out_channels: int, times: int) -> nn.Sequential:
    """From a finer stream to a coarser: 3x3 convolutions of stride 2, the last of which
    changes the channels and has no ReLU, for the sum comes first.

    Args:
        in_channels: of the finer stream.
        out_channels: of the coarser.
        times: how often the map is halved.
    """
    plan = [(in_channels, 3, 2)] * (times - 1) + [(out_channels, 3, 2)]
    words = ["conv", "bn", "relu"] * times
    return sequence(words[:-1], plan, in_channels)


def up(in_channels: int, out_channels: int, times: int, mode: str) -> nn.Sequential:
    """From a coarser stream to a finer: a 1x1 convolution, then each cell for several.

    Args:
        in_channels: of the coarser stream.
        out_channels: of the finer.
        times: how often the map is doubled.
        mode: ``"nearest"`` or ``"bilinear"``.
    """
    layers = sequence(["conv", "bn"], [(out_channels, 1, 1)], in_channels)
    return layers.append(nn.Upsample(scale_factor=2**times, mode=mode))


def path(widths: Widths, source: int, target: int, mode: str) -> nn.Module:
    """What an exchange does on the way from one stream to another.

    Args:
        widths: of all streams, the finest first.
        source: stream that gives.
        target: stream that receives.
        mode: of ``up``.
    """
    have, want = widths[source], widths[target]
    if source < target:
        return down(have, want, target - source)
    if source > target:
        return up(have, want, source - target, mode)
    return nn.Identity()


class Exchange(nn.Module):
    """Every stream gets the sum of what all streams send it, then a ReLU.

    Args:
        widths: of the streams, the finest first.
        outputs: how many streams come out, the finest first; all when None.
        mode: of ``up``.
    """

    def __init__(
        self, widths: Widths, outputs: int | None = None, mode: str = "nearest"
    ) -> None:
        super().__init__()
        self.paths = nn.ModuleList()
        for target in range(outputs or len(widths)):
            row = nn.ModuleList()
            for source in range(len(widths)):
                row.append(path(widths, source, target, mode))
            self.paths.append(row)

    def forward(self, streams: Maps) -> Maps:
        """One map for each target."""
        out = []
        for row in self.paths:
            ways = cast("nn.ModuleList", row)
            sent = [way(x) for way, x in zip(ways, streams, strict=True)]
            out.append(sum(sent[1:], sent[0]).relu())
        return out


class Module(nn.Module):
    """Each stream by itself for some residual units, then one exchange.

    Args:
        widths: of the streams, the finest first.
        units: of each stream.
        outputs: see ``Exchange``.
        mode: of ``up``.
        exchange: without, the streams stay apart.
    """

    def __init__(
        self,
        widths: Widths,
        units: int,
        *,
        outputs: int | None = None,
        mode: str = "nearest",
        exchange: bool = True,
    ) -> None:
        super().__init__()
        self.streams = nn.ModuleList(row(width, units) for width in widths)
        self.exchange = Exchange(widths, outputs, mode) if exchange else None

    def forward(self, streams: Maps) -> Maps:
        """The streams one module later."""
        out = [work(x) for work, x in zip(self.streams, streams, strict=True)]
        return out if self.exchange is None else self.exchange(out)


def row(width: int, units: int) -> nn.Sequential:
    """Residual units of two 3x3 convolutions, in a row."""
    return nn.Sequential(*(Unit(width, width) for _ in range(units)))


class Transition(nn.Module):
    """From one stage to the next: a new stream begins, half as fine as the last one.

    Args:
        have: widths of the streams before.
        want: widths of the streams after; one more.
    """

    def __init__(self, have: Sequence[int], want: Sequence[int]) -> None:
        super().__init__()
        self.old, words = nn.ModuleList(), ["conv", "bn", "relu"]
        for before, after in zip(have, want, strict=False):
            change = sequence(words, [(after, 3, 1)], before)
            self.old.append(nn.Identity() if before == after else change)
        self.new = sequence(words, [(want[-1], 3, 2)], have[-1])

    def forward(self, streams: Maps) -> Maps:
        """One more stream, made from the coarsest."""
        kept = [keep(x) for keep, x in zip(self.old, streams, strict=True)]
        return [*kept, self.new(streams[-1])]


def fuses(fusions: str, modules: Sequence[int]) -> list[list[bool]]:
    """Which module of which stage ends with an exchange (Table 6 of the first paper).

    Args:
        fusions: ``"every module"``, ``"every stage"``, by its last module, or
            ``"last"``, the very last module alone.
        modules: of each stage with several streams.

    Raises:
        ValueError: for other fusions.
    """
    expect(fusions in FUSIONS, f"fusions from {list(FUSIONS)}", fusions)
    last = len(modules) - 1
    plan = []
    for stage, count in enumerate(modules):
        inside = [fusions == "every module"] * (count - 1)
        plan.append([*inside, fusions != "last" or stage == last])
    return plan


def front(
    stem: int, strides: tuple[int, int], bottlenecks: int
) -> tuple[nn.Sequential, int]:
    """The stem, two 3x3 convolutions, with the first stage's bottlenecks, and the
    channels of their map.

    Args:
        stem: channels of the stem, and inside the bottlenecks.
        strides: of the two convolutions.
        bottlenecks: units; the map has four times the stem's channels.
    """
    plan = [(stem, 3, stride) for stride in strides]
    layers = sequence(["conv", "bn", "relu"] * 2, plan, 3)
    channels = stem
    for _ in range(bottlenecks):
        unit = Unit(channels, stem, bottleneck=True, stride_on_3x3=True)
        layers.append(unit)
        channels = unit.out_channels
    return layers, channels


class Trunk(nn.Module):
    """Parallel streams: a stem, bottlenecks at the finest resolution, then stages, each
    with one stream more.

    Args:
        widths: of the streams, the finest first.
        modules: in each stage with several streams, from the second stage on.
        units: residual units of each stream in a module.
        stem: channels of the stem.
        strides: of the stem's two convolutions.
        bottlenecks: units of the first stage.
        outputs: how many streams the last module makes.
        mode: of going up, ``"nearest"`` or ``"bilinear"``.
        fusions: see ``fuses``.

    Raises:
        ValueError: unless there is one stage less than streams, or for a number below
            1, another mode or other fusions.
    """

    def __init__(
        self,
        *,
        widths: Widths,
        modules: Sequence[int] = MODULES,
        units: int = UNITS,
        stem: int = STEM,
        strides: tuple[int, int] = (2, 2),
        bottlenecks: int = 4,
        outputs: int | None = None,
        mode: str = "nearest",
        fusions: str = "every module",
    ) -> None:
        super().__init__()
        _check_trunk(widths, modules, (units, stem, bottlenecks, *strides), mode)
        self.front, channels = front(stem, strides, bottlenecks)
        self.stride = strides[0] * strides[1]
        self.stages = nn.ModuleList()
        have: Sequence[int] = [channels]
        for streams, exchanges in enumerate(fuses(fusions, modules), 2):
            want = widths[:streams]
            # The last module makes what the head reads, no more.
            made = outputs if streams == len(widths) else None
            build = partial(Module, want, units, mode=mode)
            stage = nn.Sequential(Transition(have, want))
            for exchange in exchanges[:-1]:
                stage.append(build(exchange=exchange))
            stage.append(build(exchange=exchanges[-1], outputs=made))
            self.stages.append(stage)
            have = want

    def forward(self, images: Float[Tensor, "b c H W"]) -> Maps:
        """The streams, the finest first.

        Raises:
            ValueError: for what are no images, or sides that the coarsest stride does
                not divide.
        """
        coarsest = self.stride * 2 ** len(self.stages)
        check_inputs(images, self, least=coarsest, multiple=coarsest)
        streams = [self.front(images)]
        for stage in self.stages:
            streams = stage(streams)
        return streams


def _check_trunk(
    widths: Widths, modules: Sequence[int], counts: Sequence[int], mode: str
) -> None:
    """Raise ``ValueError`` for what ``Trunk`` cannot be built from."""
    fits = len(widths) == len(modules) + 1 >= 2
    expect(fits, "two streams or more, a stage less", widths, modules)
    numbers = (*widths, *modules, *counts)
    expect(min(numbers) > 0, "positive widths, modules, units and strides", *numbers)
    expect(mode in ("nearest", "bilinear"), "a mode 'nearest' or 'bilinear'", mode)


def alike(streams: Maps, mode: str = "bilinear") -> Tensor:
    """All streams at the finest one's size, their channels one after the other."""
    size = streams[0].shape[-2:]
    large = [functional.interpolate(x, size=size, mode=mode) for x in streams[1:]]
    return torch.cat([streams[0], *large], 1)


class Keypoints(nn.Module):
    """HRNetV1: a map for each joint, from the finest stream alone.

    Args:
        widths: of the streams.
        num_joints: maps.
    """

    streams: int | None = 1  # that it reads

    def __init__(self, widths: Widths, num_joints: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(widths[0], num_joints, 1)

    def forward(self, streams: Maps) -> Float[Tensor, "b k h w"]:
        """The joints' maps."""
        return self.score(streams[0])


class Labels(nn.Module):
    """HRNetV2: all streams at the finest resolution, mixed by a 1x1 convolution, and
    scores for each place.

    Args:
        widths: of the streams.
        num_classes: of a place.
    """

    streams: int | None = None  # all

    def __init__(self, widths: Widths, num_classes: int) -> None:
        super().__init__()
        total = sum(widths)
        self.mix = nn.Sequential(
            *conv_norm_act(nn.Conv2d(total, total, 1)), nn.Conv2d(total, num_classes, 1)
        )

    def forward(self, streams: Maps) -> Float[Tensor, "b k h w"]:
        """Scores at the finest stream's places."""
        return self.mix(alike(streams))


class Pyramid(nn.Module):
    """HRNetV2p: the mixture of all streams, averaged down to coarser and coarser maps
    for a detector.

    Args:
        widths: of the streams.
        channels: of each level.
        levels: maps; each is half as fine as the one before.
    """

    streams: int | None = None

    def __init__(self, widths: Widths, channels: int = 256, levels: int = 5) -> None:
        super().__init__()
        self.mix = nn.Conv2d(sum(widths), channels, 1)
        self.levels = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels)
        )

    def forward(self, streams: Maps) -> Maps:
        """The levels, the finest first."""
        mixed = self.mix(alike(streams))
        out = []
        for k, smooth in enumerate(self.levels):
            out.append(smooth(functional.avg_pool2d(mixed, 2**k)))
        return out


class Classes(nn.Module):
    """The classifier: it walks down the streams, adding each to what comes from above.

    Args:
        widths: of the streams.
        num_classes: of a picture.
        bottlenecks: widths inside the units that widen the streams fourfold and more.
        features: channels that are averaged over the map.
    """

    streams: int | None = None

    def __init__(
        self,
        widths: Widths,
        num_classes: int,
        bottlenecks: Sequence[int] = BOTTLENECKS,
        features: int = 2048,
    ) -> None:
        super().__init__()
        self.widen = nn.ModuleList()
        for width, inside in zip(widths, bottlenecks, strict=True):
            unit = Unit(width, inside, bottleneck=True, stride_on_3x3=True)
            self.widen.append(unit)
        self.down = nn.ModuleList()
        for above, below in pairwise(4 * inside for inside in bottlenecks):
            conv = nn.Conv2d(above, below, 3, stride=2, padding=1)
            self.down.append(nn.Sequential(*conv_norm_act(conv)))
        last = nn.Conv2d(4 * bottlenecks[-1], features, 1)
        self.last = nn.Sequential(*conv_norm_act(last))
        self.score = nn.Linear(features, num_classes)

    def forward(self, streams: Maps) -> Float[Tensor, "b k"]:
        """Class scores (logits)."""
        wide = [widen(x) for widen, x in zip(self.widen, streams, strict=True)]
        y = wide[0]
        for down, x in zip(self.down, wide[1:], strict=True):
            y = x + down(y)
        return self.score(self.last(y).mean((2, 3)))


class HRNet(nn.Module):
    """The trunk and a head.

    Args:
        widths: of the streams, the finest first.
        head: makes the head from them, such as ``partial(Keypoints, num_joints=17)``.
        settings: of ``Trunk``.

    Attributes:
        stride: of the finest stream, in pixels of the image.

    Raises:
        ValueError: what ``Trunk`` refuses.
    """

    def __init__(self, *, widths: Widths, head: Head, **settings: Any) -> None:
        super().__init__()
        expect(len(widths) and min(widths) > 0, "positive widths", widths)
        made = head(widths)
        outputs = cast("int | None", made.streams)
        self.trunk = Trunk(widths=widths, outputs=outputs, **settings)
        self.head = made
        self.stride = self.trunk.stride

    def forward(self, images: Float[Tensor, "b c H W"]) -> Any:
        """What the head makes of the streams.

        Raises:
            ValueError: as ``Trunk.forward``.
        """
        return self.head(self.trunk(images))


class Silent(nn.Module):
    """Zeros in place of what a way gives."""

    def __init__(self, way: nn.Module) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(self.way(x))


def silence(net: HRNet, source: int) -> HRNet:
    """A copy of a trained net whose last exchange hears nothing of one stream.

    Args:
        net: it stays as it is.
        source: the stream, 0 the finest.

    Raises:
        ValueError: for no such stream.
    """
    out = deepcopy(net)
    last = cast("nn.Sequential", out.trunk.stages[-1])[-1]
    exchange = cast("Exchange", last.exchange)
    for row in exchange.paths:
        ways = cast("nn.ModuleList", row)
        expect(0 <= source < len(ways), f"a stream from 0 to {len(ways) - 1}", source)
        ways[source] = Silent(ways[source])
    return out


class Hourglass(nn.Module):
    """The rival with skips: the same units in series, down to the coarsest map and back
    up, where each level adds what it had on the way down.

    Args:
        widths: of the levels, the finest first.
        num_joints: maps.
        down_units: residual units of each level on the way down.
        up_units: of each level but the coarsest on the way up, the finest first.
        stem: channels of the stem.
        strides: of the stem's two convolutions.
        bottlenecks: units of the first stage.
    """

    def __init__(
        self,
        *,
        widths: Widths,
        num_joints: int,
        down_units: Sequence[int],
        up_units: Sequence[int],
        stem: int = STEM,
        strides: tuple[int, int] = (2, 2),
        bottlenecks: int = 4,
    ) -> None:
        super().__init__()
        self.front, channels = front(stem, strides, bottlenecks)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        step = 1
        for width, units in zip(widths, down_units, strict=True):
            first = sequence(["conv", "bn", "relu"], [(width, 3, step)], channels)
            self.down.append(nn.Sequential(*first, *row(width, units)))
            channels, step = width, 2
        self.merge = nn.ModuleList()
        for k in reversed(range(len(widths) - 1)):
            self.up.append(up(widths[k + 1], widths[k], 1, "nearest"))
            self.merge.append(nn.Sequential(nn.ReLU(), *row(widths[k], up_units[k])))
        self.head = Keypoints(widths, num_joints)
        self.coarsest = strides[0] * strides[1] * 2 ** (len(widths) - 1)

    def forward(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k h w"]:
        """The joints' maps.

        Raises:
            ValueError: as ``Trunk.forward``.
        """
        check_inputs(images, self, least=self.coarsest, multiple=self.coarsest)
        x = self.front(images)
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skips.pop()
        for rise, merge in zip(self.up, self.merge, strict=True):
            x = merge(rise(x) + skips.pop())
        return self.head([x])


class Deconvolution(nn.Module):
    """The rival without skips, SimpleBaseline (Xiao et al., ECCV 2018): a ResNet down
    to the coarsest map, then transposed convolutions back up.

    Args:
        widths: of the ResNet's stages, the finest first.
        num_joints: maps.
        units: residual units of each stage.
        channels: of the transposed convolutions, 4x4 of stride 2.
        stem: channels of the stem.
        strides: of the stem's two convolutions.
        bottlenecks: units of the first stage.
    """

    def __init__(
        self,
        *,
        widths: Widths,
        num_joints: int,
        units: Sequence[int],
        channels: int,
        stem: int = STEM,
        strides: tuple[int, int] = (2, 2),
        bottlenecks: int = 4,
    ) -> None:
        super().__init__()
        self.layers, have = front(stem, strides, bottlenecks)
        step = 1
        for width, count in zip(widths, units, strict=True):
            self.layers.append(Unit(have, width, stride=step))
            self.layers.extend(row(width, count - 1))
            have, step = width, 2
        for _ in widths[1:]:
            # Each output cell is reached by two of four taps on an axis.
            conv = nn.ConvTranspose2d(have, channels, 4, 2, padding=1, bias=False)
            self.layers.extend(conv_norm_act(conv))
            have = channels
        self.head = Keypoints([have], num_joints)
        self.coarsest = strides[0] * strides[1] * 2 ** (len(widths) - 1)

    def forward(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k h w"]:
        """The joints' maps.

        Raises:
            ValueError: as ``Trunk.forward``.
        """
        check_inputs(images, self, least=self.coarsest, multiple=self.coarsest)
        return self.head([self.layers(images)])


def targets(
    keypoints: Real[Tensor, "b k 2"],
    visible: Bool[Tensor, "b k"],
    *,
    size: tuple[int, int],
    stride: float,
    sigma: float = SIGMA,
) -> Float[Tensor, "b k h w"]:
    r"""A map for each joint: :math:`\exp(-d^2 / 2 \sigma^2)`, d the distance in cells;
    empty where the joint is not visible.

    Args:
        keypoints: (x, y) in pixels, of one person in each image.
        visible: which are to be drawn.
        size: (rows, columns) of the maps.
        stride: pixels per cell.
        sigma: in cells.

    Raises:
        ValueError: as ``heatmaps.gaussian_maps``.
    """
    wide = 2**0.5 * sigma * stride
    return gaussian_maps(
        keypoints[:, None], visible[:, None], size=size, stride=stride, sigma=wide
    )


def loss(
    outputs: Float[Tensor, "b k h w"],
    batch: Mapping[str, Tensor],
    *,
    stride: float = 4.0,
    sigma: float = SIGMA,
    over_cells: bool = False,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""The squared error of the visible joints' maps, :math:`\frac{1}{K} \sum_k
    \frac12 \mathrm{mean}\, v_k (H_k - H_k^*)^2`, or their cross-entropy over cells.

    Args:
        outputs: maps :math:`H_k`.
        batch: ``keypoints`` (b, 1, k, 2), (x, y) in pixels, and ``visible`` (b, 1, k):
            :math:`v_k`.
        stride: pixels per cell.
        sigma: of the targets' Gaussians, in cells.
        over_cells: each map is a softmax over its cells, each target sums to 1.
        generator: nothing is drawn.

    Returns:
        ``loss``.

    Raises:
        ValueError: for other joints than maps, several people in an image, or a visible
            joint that is not finite.
    """
    check_keys(batch, "keypoints", "visible")
    keypoints, visible = batch["keypoints"], batch["visible"]
    wanted = (len(outputs), 1, outputs.shape[1])
    expect(visible.shape == wanted, f"visible {wanted}", visible.shape)
    height, width = outputs.shape[-2:]
    draw = partial(targets, size=(height, width), stride=stride, sigma=sigma)
    true = draw(keypoints[:, 0], visible[:, 0])
    seen = visible[:, 0].to(outputs.dtype)
    if not over_cells:
        square = (outputs - true.to(outputs.dtype)).square().mean((2, 3))
        return {"loss": 0.5 * (seen * square).mean()}
    share = true.flatten(2)
    share = share / share.sum(-1, keepdim=True).clamp(min=1e-6)
    bits = -(share * outputs.flatten(2).log_softmax(-1)).sum(-1)
    return {"loss": (seen * bits).sum() / seen.sum().clamp(min=1)}


@torch.no_grad()
def decode(
    outputs: Float[Tensor, "b k h w"], *, stride: float, shift: float = SHIFT
) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
    """The highest cell of each map, moved towards its higher neighbour on each axis.

    Args:
        outputs: maps.
        stride: pixels per cell.
        shift: how far it is moved, in cells; at the map's border not at all.

    Returns:
        (x, y) in pixels, and the highest value.

    Raises:
        ValueError: for maps that are not finite or have no cell, or a stride that is
            not positive.
    """
    check_finite(outputs, "maps")
    check_grid(outputs.shape[-2:], stride=stride)
    height, width = outputs.shape[-2:]
    score, index = outputs.flatten(2).max(-1)
    cells = torch.stack([index % width, index // width], -1)
    rows = outputs.gather(2, cells[..., 1, None, None].expand(-1, -1, -1, width))
    columns = outputs.gather(3, cells[..., 0, None, None].expand(-1, -1, height, -1))
    moves = [slope(rows[..., 0, :], cells[..., 0])]
    moves.append(slope(columns[..., 0], cells[..., 1]))
    places = pixels_of(cells + shift * torch.stack(moves, -1), stride)
    return places, score


def slope(lines: Float[Tensor, "b k n"], at: Any) -> Float[Tensor, "b k"]:
    """Towards the higher neighbour of a cell in its row or column: -1, 0 or 1; at the
    border 0."""
    last = lines.shape[-1] - 1
    inside = (at > 0) & (at < last)
    after = lines.gather(2, (at + 1).clamp(max=last)[..., None])[..., 0]
    before = lines.gather(2, (at - 1).clamp(min=0)[..., None])[..., 0]
    return (after - before).sign() * inside


# What the book's nets have in common: maps of 24x24 for images of 48x48.
BOOK: dict[str, Any] = {"stem": 16, "strides": (2, 1), "bottlenecks": 1}


def tiny(*, width: int = 16, num_joints: int = 18, **overrides: Any) -> HRNet:
    """The book's scale: one module in each stage, one unit in each stream, for images
    of 48x48, with maps of 24x24.

    Args:
        width: of the finest stream; the others have 2, 4 and 8 times as many channels.
        num_joints: maps.
        overrides: of ``HRNet``.
    """
    settings: dict = BOOK | {
        "widths": [factor * width for factor in FACTORS],
        "head": partial(Keypoints, num_joints=num_joints),
        "modules": (1, 1, 1),
        "units": 1,
    }
    return HRNet(**(settings | overrides))


def tiny_hourglass(*, width: int = 16, **overrides: Any) -> Hourglass:
    """The rival with skips, of the parameters and operations of ``tiny``.

    Args:
        width: of the finest level.
        overrides: of ``Hourglass``.
    """
    settings: dict = BOOK | {
        "widths": [factor * width for factor in FACTORS],
        "num_joints": 18,
        "down_units": (1, 2, 2, 1),
        "up_units": (2, 2, 1),
    }
    return Hourglass(**(settings | overrides))


def tiny_deconvolution(*, width: int = 16, **overrides: Any) -> Deconvolution:
    """The rival without skips, of the parameters and operations of ``tiny``.

    Args:
        width: of the first stage.
        overrides: of ``Deconvolution``.
    """
    settings: dict = BOOK | {
        "widths": [factor * width for factor in FACTORS],
        "num_joints": 18,
        "units": (3, 2, 2, 1),
        "channels": 64,
    }
    return Deconvolution(**(settings | overrides))


def paper(*, width: int = 32, num_joints: int = 17, **overrides: Any) -> HRNet:
    """The paper's scale: HRNet-W32, or W48 by ``width=48``, for images of 256x192.

    Args:
        width: of the finest stream.
        num_joints: maps.
        overrides: of ``HRNet``.
    """
    settings: dict = {
        "widths": [factor * width for factor in FACTORS],
        "head": partial(Keypoints, num_joints=num_joints),
    }
    return HRNet(**(settings | overrides))
