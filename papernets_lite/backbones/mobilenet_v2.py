"""MobileNetV2: Inverted Residuals and Linear Bottlenecks.

Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen.
CVPR 2018, arXiv 1801.04381.
Official code: tensorflow/models, research/slim/nets/mobilenet.

Idea: keep few channels between blocks, where nothing but sums happen, and many inside,
where ReLU can take information from some of them and leave it in others.

Differs:
    1. ``linear`` and ``residual`` take the block's two ideas away, each by itself: the
       controls. Neither changes the number of parameters.
    2. ``tiny`` holds the width ``inside`` its blocks and lets ``thin`` choose the one
       between them; the paper's own nets widen both from stage to stage.
    3. No dropout before the classifier, and no label smoothing in the loss.
    4. Padding is even on both sides; TensorFlow's is not where a stride leaves a rest.
       The epsilon of batch normalisation is torch's.

Guessed:
    Channels are rounded to multiples of eight, by a tenth down at most, as in the
    released code. SSDLite's head has batch normalisation and ReLU6 between its two
    convolutions, and the maps behind the last one halve their channels before they
    stride: as released, too. Of the detector's boxes the paper says nothing: six a
    cell, four in the finest map, where the released one has three; scales from 0.2 to
    0.95.

Example:
    >>> from papernets_lite.backbones import mobilenet_v2
    >>> mobilenet_v2.tiny(num_classes=10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from papernets_lite.backbones import mobilenet_v1
from papernets_lite.backbones.mobilenet_v1 import Depthwise, full, init_
from papernets_lite.detection import ssd
from papernets_lite.ops.checks import at_least, check_images, expect
from papernets_lite.ops.losses import classification

STEM, LAST = 32, 1280  # channels of the first and of the last convolution, Table 2
DIVISOR = 8  # of all channel counts, as released
EXTRAS = (512, 256, 256, 128)  # channels of the detector's further maps, as released


class Row(NamedTuple):
    """A line of Table 2: like blocks in a row."""

    expansion: float  # t, times the channels of each block's own input
    channels: int  # c, of the outputs
    blocks: int  # n
    stride: int  # s, of the first block


ROWS = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)


def there_and_back(
    points: Float[Tensor, "n m"],
    matrix: Float[Tensor, "d _"],
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> Float[Tensor, "n m"]:
    r"""Points brought to d dimensions, activated, and brought back:
    :math:`T^{+} \mathrm{ReLU}(T x)` (Fig. 1).

    Args:
        points: x, one a row.
        matrix: T.
        activation: what happens in between.

    Raises:
        ValueError: unless the matrix takes such points to no fewer dimensions.
    """
    fits = points.shape[1] == matrix.shape[1] <= len(matrix)
    wanted = f"a matrix (d, {points.shape[1]}) with d >= {points.shape[1]}"
    expect(fits, wanted, matrix.shape)
    return activation(points @ matrix.T) @ torch.linalg.pinv(matrix).T


def what_is_left(
    points: Float[Tensor, "n m"], matrix: Float[Tensor, "d _"]
) -> tuple[Float[Tensor, "n m"], Bool[Tensor, " n"]]:
    """The best that can be said about x from ReLU(T x): the shortest solution of those
    equations whose result is positive (Lemma 2).

    Args:
        points: x, one a row.
        matrix: T.

    Returns:
        The solutions, and which of them are certain: where those equations are m
        independent ones, x itself comes back.

    Raises:
        ValueError: for a matrix that does not take such points.
    """
    size = points.shape[1]
    expect(matrix.shape[1] == size, f"a matrix (d, {size})", matrix.shape)
    results = torch.relu(points @ matrix.T)[..., None]
    equations = matrix * (results > 0)
    found = torch.linalg.pinv(equations) @ results
    return found[..., 0], torch.linalg.matrix_rank(equations) == size


def share_kept(m: int, dims: int) -> float:
    r"""How much of an m-dimensional space ReLU(T x) keeps on average, for a random T to
    d dimensions: :math:`2^{-d} \sum_{k=0}^{d-m} \binom{d}{k}` (Theorem 1).

    Args:
        m: of the points.
        dims: d, of the space with the ReLU.

    Raises:
        ValueError: for m below 1.
    """
    at_least(1, m=m)
    return sum(math.comb(dims, k) for k in range(dims - m + 1)) / 2**dims


def rounded(channels: float) -> int:
    """The nearest multiple of eight, at least eight; the next one where it lost more
    than a tenth."""
    nearest = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest if nearest >= 0.9 * channels else nearest + DIVISOR


def unit(conv: nn.Conv2d, *, linear: bool = False) -> nn.Sequential:
    """A convolution, batch normalisation and ReLU6.

    Args:
        conv: full, depthwise or pointwise.
        linear: leave out ReLU6.
    """
    return mobilenet_v1.unit(conv, None if linear else nn.ReLU6)


class Bottleneck(nn.Module):
    """Expand, filter, project; and the input added where it fits (Table 1).

    Args:
        in_channels: k, of the input.
        channels: k', of the output.
        expansion: t; with 1 there is no first convolution.
        stride: s, of the filter.
        linear: False: ReLU6 after the projection too.
        residual: False: the input is not added.

    Raises:
        ValueError: for channels or a stride below 1, or an expansion that leaves no
            channel.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        expansion: float = 6,
        stride: int = 1,
        linear: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, channels=channels, stride=stride)
        wide = round(expansion * in_channels)
        expect(wide > 0, "an expansion that leaves a channel", expansion)
        self.branch = nn.Sequential()
        if expansion != 1:
            self.branch.append(unit(full(in_channels, wide, kernel_size=1)))
        self.branch.append(unit(Depthwise(wide, stride)))
        project = full(wide, channels, kernel_size=1)
        self.branch.append(unit(project, linear=linear))
        self.residual = residual and stride == 1 and in_channels == channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """The projection, plus the input where it has the same shape."""
        change = self.branch(x)
        return x + change if self.residual else change


class MobileNetV2(nn.Module):
    """A strided 3x3 convolution, rows of bottlenecks, a last 1x1 convolution, an
    average and a linear layer (Table 2).

    Args:
        rows: of Table 2.
        stem: channels of the first convolution.
        last: of the last convolution; a width below 1 leaves it as it is.
        width: multiplies all channels.
        num_classes: outputs.
        blocks: ``linear`` and ``residual`` of each ``Bottleneck``.

    Raises:
        ValueError: for no rows, a width that is not positive, and counts below 1.
    """

    def __init__(
        self,
        *,
        rows: Sequence[Row | tuple] = ROWS,
        stem: int = STEM,
        last: int = LAST,
        width: float = 1.0,
        num_classes: int = 1000,
        **blocks: bool,
    ) -> None:
        super().__init__()
        at_least(1, num_classes=num_classes)
        channels = scaled(stem, width)
        self.stem = unit(full(3, channels, 2))
        self.rows, channels = in_rows(rows, channels, width, **blocks)
        self.width = scaled(last, max(1.0, width))
        self.last = unit(full(channels, self.width, kernel_size=1))
        self.head = nn.Linear(self.width, num_classes)
        init_(self)

    @property
    def blocks(self) -> list[Bottleneck]:
        """The bottlenecks of all rows."""
        rows = cast("list[nn.Sequential]", list(self.rows))
        return [cast("Bottleneck", block) for row in rows for block in row]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        features = self.last(self.rows(self.stem(images)))
        return self.head(features.mean((2, 3)))


@torch.no_grad()
def watch(
    net: nn.Module, parts: Sequence[nn.Module], images: Float[Tensor, "b c h w"]
) -> list[Float[Tensor, "b _ _ _"]]:
    """What some parts of a net make of a batch.

    Args:
        net: in the mode it is to be watched in.
        parts: of the net, each of which runs once.
        images: the batch.

    Returns:
        The parts' results, in the order in which they run, on the CPU.
    """
    results: list[Tensor] = []
    with ExitStack() as stack:
        for part in parts:
            keep = part.register_forward_hook(lambda *call: results.append(call[2]))
            stack.callback(keep.remove)
        net(images)
    return [result.cpu() for result in results]


def scaled(channels: int, width: float) -> int:
    """Channels times the width multiplier; as they are for a width of 1.

    Raises:
        ValueError: for no channels, or a width that is not positive.
    """
    at_least(1, channels=channels)
    expect(0 < width < math.inf, "a positive width", width)
    return channels if width == 1 else rounded(channels * width)


def in_rows(
    rows: Sequence[Row | tuple], channels: int, width: float, **blocks: bool
) -> tuple[nn.Sequential, int]:
    """The rows of bottlenecks, and the channels of the last one's output.

    Args:
        rows: of Table 2.
        channels: of the first one's input.
        width: multiplies their channels.
        blocks: see ``Bottleneck``.

    Raises:
        ValueError: for no rows, or counts below 1.
    """
    expect(rows, "at least one row", rows)
    out = nn.Sequential()
    for line in map(Row._make, rows):
        at_least(1, blocks=line.blocks)
        out.append(nn.Sequential())
        for number in range(line.blocks):
            stride = 1 if number else line.stride
            settings: dict[str, Any] = {"expansion": line.expansion, "stride": stride}
            wanted = scaled(line.channels, width)
            block = Bottleneck(channels, wanted, **settings, **blocks)
            cast("nn.Sequential", out[-1]).append(block)
            channels = wanted
    return out, channels


loss = classification


def separate_(net: ssd.SSD) -> ssd.SSD:
    """SSD to SSDLite, in place: the 3x3 convolution of every prediction layer becomes a
    depthwise one and a 1x1 projection (Section 6.2).

    Args:
        net: whose heads are exchanged; their new weights are drawn.

    Returns:
        The net.
    """
    for head in [*net.class_heads, *net.code_heads]:
        before = head.conv
        filters = unit(Depthwise(before.in_channels))
        init_(filters)
        mix = nn.Conv2d(before.in_channels, before.out_channels, 1)
        nn.init.xavier_uniform_(mix.weight)
        nn.init.zeros_(mix.get_parameter("bias"))
        head.conv = nn.Sequential(filters, mix)
    return net


def further(in_channels: int, channels: int, *, lite: bool) -> nn.Sequential:
    """The next map, half as high and wide: half the channels by a 1x1 convolution, then
    a strided 3x3.

    Args:
        in_channels: of the input.
        channels: of the output.
        lite: the 3x3 is depthwise, and a 1x1 follows.
    """
    half = channels // 2
    layers = nn.Sequential(unit(full(in_channels, half, kernel_size=1)))
    if lite:
        layers.append(unit(Depthwise(half, 2)))
        layers.append(unit(full(half, channels, kernel_size=1)))
    else:
        layers.append(unit(full(half, channels, 2)))
    init_(layers)
    return layers


class Detector(ssd.SSD):
    """SSD on a MobileNetV2: the first map is the expansion of the first block with
    stride 32, the second the last convolution's, then come ``further`` ones (Section
    6.2).

    Args:
        net: the classifier; its layers are used, no new weights are drawn.
        cut: which row's first block is cut behind its expansion.
        lite: SSDLite: depthwise convolutions in the further maps and in the heads.
        extras: channels of the further maps.
        settings: of ``ssd.SSD``: ``strides``, ``scales``, ``ratios``, ``num_classes``.

    Raises:
        ValueError: for a row whose first block has no expansion or adds its input, and
            what ``ssd.SSD`` refuses.
    """

    def __init__(
        self,
        net: MobileNetV2,
        *,
        cut: int = 5,
        lite: bool = True,
        extras: Sequence[int] = EXTRAS,
        **settings: Any,
    ) -> None:
        expect(0 <= cut < len(net.rows), "a row of the net", cut)
        block, *rest = cast("Any", net.rows[cut])
        can = not block.residual and len(block.branch) == 3
        expect(can, "a block with an expansion and without a shortcut", cut)
        expand, filters = block.branch[0], block.branch[1:]
        widths = [expand[0].out_channels, net.width, *extras]
        # The plans tell SSD the widths of the maps that its heads read.
        plans = [[(width, 1)] for width in widths]
        super().__init__(plans=plans, l2norm=False, **settings)
        fine = [net.stem, *net.rows[:cut], expand]
        coarse = [filters, *rest, *net.rows[cut + 1 :], net.last]
        self.stages = nn.ModuleList([nn.Sequential(*fine), nn.Sequential(*coarse)])
        for before, channels in zip(widths[1:-1], extras, strict=True):
            self.stages.append(further(before, channels, lite=lite))
        if lite:
            separate_(self)


def tiny(*, thin: int = 6, inside: int = 48, **overrides: Any) -> MobileNetV2:
    """The book's scale: six blocks on maps of 8x8 cells, of images of 32x32.

    Args:
        thin: channels between the blocks.
        inside: channels in all blocks but the first, which has no expansion.
        overrides: of ``MobileNetV2``.

    Raises:
        ValueError: for no channels.
    """
    at_least(1, thin=thin, inside=inside)
    settings: dict = {
        "rows": (Row(1, thin, 1, 2), Row(inside / thin, thin, 5, 1)),
        "stem": 16,
        "last": 64,
        "num_classes": 8,
    }
    return MobileNetV2(**(settings | overrides))


def paper(**overrides: Any) -> MobileNetV2:
    """The paper's scale: for ImageNet, images of 224x224; ``width=1.4`` is the most
    accurate of its nets.

    Args:
        overrides: of ``MobileNetV2``.
    """
    return MobileNetV2(**overrides)


def detector(*, lite: bool = True, num_classes: int = 80, **overrides: Any) -> Detector:
    """The paper's detector for COCO, images of 320x320, or with ``lite=False`` the SSD
    that it is compared with (Table 5).

    Args:
        lite: see ``Detector``.
        num_classes: of objects.
        overrides: of ``Detector``.
    """
    settings: dict = {
        "strides": (16, 32, 64, 320 / 3, 160, 320),
        "scales": ssd.scales(6, smallest=0.2, largest=0.95),
        "ratios": ((2,), *((2, 3),) * 5),
        "num_classes": num_classes,
    }
    return Detector(paper(), lite=lite, **(settings | overrides))
