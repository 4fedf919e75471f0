"""SSD: Single Shot MultiBox Detector.

Wei Liu, Dragomir Anguelov, Dumitru Erhan, Christian Szegedy, Scott Reed, Cheng-Yang Fu,
Alexander C. Berg. ECCV 2016, arXiv 1512.02325. Official code: weiliu89/caffe, branch
ssd.

Idea: one convolution on each of several feature maps says for every one of thousands of
fixed boxes what is in it and how it must move: fine maps own the small objects, coarse
maps the large ones.

Differs:
    1. ``sources`` lets a map's boxes be read from another map, for the comparison with
       a single map: the default boxes stay the same, whatever they are read from.
    2. ``tiny`` has batch normalisation and learns from nothing; the paper fine-tunes
       VGG-16. Where every map is normalised, the L2 normalisation of the first has
       nothing to do: ``tiny`` leaves it out.
    3. Images stay in [0, 1]; the released net subtracts a mean colour from 0 to 255.
    4. Zooming out fills the canvas with the image's own mean colour, not the data
       set's.

Guessed:
    Default boxes longer than the image are cut to its sides before they are placed, as
    torchvision does it. What the last map's second square is the mean of:
    :math:`s_{m+1}`, by the same formula. A true box that shares its best default box
    with another gets its next best one, as in the released code; the text does not say.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from papernets_lite.layers.init import he_init_
from papernets_lite.ops import boxes as coding
from papernets_lite.ops.checks import expect

# of the boxes' codes; the released code calls them variances
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
BACKGROUND = 0  # the first class; objects count from 1
CANDIDATES, OVERLAP, MOST = 400, 0.45, 200  # of `decode`, as released
# SSD300 for COCO, as torchvision has it: scales and strides of conv4_3, fc7, conv8_2,
# conv9_2, conv10_2, conv11_2.
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
STRIDES = (8, 16, 32, 64, 100, 300)
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
_POOL = nn.MaxPool2d(2, ceil_mode=True)
# Channels, kernel size, stride, padding and dilation of every convolution up to each
# map (Fig. 2). pool5 no longer strides, so fc6 is dilated to see as far as before (a
# trous).
VGG = (
    [
        *[(64, 3)] * 2,
        _POOL,
        *[(128, 3)] * 2,
        _POOL,
        *[(256, 3)] * 3,
        _POOL,
        *[(512, 3)] * 3,
    ],
    [_POOL, *[(512, 3)] * 3, nn.MaxPool2d(3, 1, 1), (1024, 3, 1, 6, 6), (1024, 1)],
    [(256, 1), (512, 3, 2)],
    [(128, 1), (256, 3, 2)],
    *[[(128, 1), (256, 3, 1, 0)]] * 2,
)


def scales(maps: int, *, smallest: float = 0.2, largest: float = 0.9) -> list[float]:
    r"""The scale of each map's boxes, in units of the image's side, and one more for
    the last map's second square.

    :math:`s_k = s_{min} + (s_{max} - s_{min}) (k - 1) / (m - 1)` for :math:`k = 1 \dots
    m + 1` (Eq. 4).

    Args:
        maps: how many, m.
        smallest: scale of the first.
        largest: scale of the last.

    Raises:
        ValueError: for fewer than two maps.
    """
    expect(maps > 1, "at least two maps", maps)
    return [smallest + (largest - smallest) * k / (maps - 1) for k in range(maps + 1)]


def default_boxes(
    shapes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    *,
    strides: Sequence[float],
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
) -> list[Float[Tensor, "n 4"]]:
    r"""The boxes of each map: in every cell two squares, then for each ratio a wide box
    and a tall one (Section 2.2).

    The squares have sides :math:`s_k` and :math:`\sqrt{s_k s_{k+1}}`; a box of ratio a
    is :math:`s_k \sqrt a` wide and :math:`s_k / \sqrt a` high.

    Args:
        shapes: rows and columns of each map.
        size: height and width of the image, in pixels.
        strides: pixels from one cell to the next; the first centre lies half a stride
            from the image's corner.
        scales: one for each map and one more, in units of the image's sides.
        ratios: of each map, width / height over 1; the inverse is added.

    Returns:
        xyxy in pixels, one tensor for each map, cell by cell along rows.
    """
    out = []
    for k, ((rows, columns), stride) in enumerate(zip(shapes, strides, strict=True)):
        sides = [(scales[k],) * 2, (math.sqrt(scales[k] * scales[k + 1]),) * 2]
        for ratio in ratios[k]:
            long, short = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
            sides += [(long, short), (short, long)]
        half = torch.tensor(sides).clamp(max=1) * torch.tensor([size[1], size[0]]) / 2
        centres = stride * (
            torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(1)
            + 0.5
        )
        out.append(
            torch.cat([centres[:, None] - half, centres[:, None] + half], -1).flatten(
                0, 1
            )
        )
    return out


def match(iou: Float[Tensor, "g a"], *, threshold: float = 0.5) -> Int[Tensor, " a"]:
    """For each default box the index of its true box, or -1.

    First every true box takes the default box that it overlaps most, the best pair
    first and each once; then every other default box goes to the true box that it
    overlaps most, if by at least ``threshold``.

    Args:
        iou: of every true box with every default box.
        threshold: the least overlap of the second round.
    """
    found, left = (
        coding.assign(iou, foreground=threshold, background=threshold),
        iou.clone(),
    )
    for _ in range(min(iou.shape)):
        box, default = divmod(int(left.argmax()), iou.shape[1])
        if left[box, default] <= 0:  # outside the image, or without an area
            break
        found[default] = box
        left[box], left[:, default] = -1, -1
    return found


def targets(
    defaults: Float[Tensor, "n 4"],
    boxes: Float[Tensor, "b m 4"],
    labels: Int[Tensor, "b m"],
    valid: Bool[Tensor, "b m"],
) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n 4"]]:
    """What each default box shall answer.

    Args:
        defaults: of all maps.
        boxes: true boxes, xyxy in pixels.
        labels: their classes, from 0.
        valid: which of them are there.

    Returns:
        Classes, ``BACKGROUND`` or 1 + label; codes, zero where there is no object.
    """
    classes = torch.full(
        (len(boxes), len(defaults)), BACKGROUND, device=defaults.device
    )
    codes = defaults.new_zeros(len(boxes), len(defaults), 4)
    for i, there in enumerate(valid):
        own = match(box_iou(boxes[i][there], defaults))
        positive = own >= 0
        classes[i, positive] = 1 + labels[i][there][own[positive]]
        codes[i, positive] = coding.encode(
            boxes[i][there][own[positive]], defaults[positive], deviations=DEVIATIONS
        )
    return classes, codes


def hard_negatives(
    losses: Float[Tensor, "b n"], positive: Bool[Tensor, "b n"], *, ratio: float = 3.0
) -> Bool[Tensor, "b n"]:
    """The negatives with the highest loss, in each image at most ``ratio`` for each of
    its positives.

    Args:
        losses: of the classes.
        positive: which boxes hold an object.
        ratio: negatives for each positive.
    """
    ranked = (
        losses.detach()
        .masked_fill(positive, -math.inf)
        .argsort(dim=1, descending=True, stable=True)
    )
    most = torch.minimum(ratio * positive.sum(1), (~positive).sum(1))
    return ranked.argsort(1) < most[:, None]


class L2Norm(nn.Module):
    """Each position's vector of features, brought to length one and stretched by a
    learned factor per channel.

    Args:
        channels: of the map.
        scale: the factors' start.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The normalised map."""
        return self.weight[:, None, None] * functional.normalize(x, dim=1)


def stage(
    plan: Sequence[nn.Module | tuple[int, ...]], in_channels: int, *, norm: bool = False
) -> nn.Sequential:
    """Convolutions with ReLU, and what stands between them.

    Args:
        plan: of each convolution (channels, kernel size, stride, padding, dilation),
            the last three may be left out: 1, "same" size, 1; or a module.
        in_channels: of the input.
        norm: batch normalisation before each ReLU.
    """
    layers: list[nn.Module] = []
    for item in plan:
        if isinstance(item, nn.Module):
            layers.append(item)
            continue
        channels, kernel_size, *rest = item
        stride, padding, dilation = [*rest, *(1, kernel_size // 2, 1)[len(rest) :]]
        layers.append(
            nn.Conv2d(
                in_channels,
                channels,
                kernel_size,
                stride,
                padding,
                dilation,
                bias=not norm,
            )
        )
        layers += [nn.BatchNorm2d(channels), nn.ReLU()] if norm else [nn.ReLU()]
        in_channels = channels
    return nn.Sequential(*layers)


class Head(nn.Module):
    """One 3x3 convolution: for each box of each cell so many numbers.

    Args:
        in_channels: of the map that is read.
        boxes: of each cell.
        numbers: for each box.
        cells: of the boxes' own grid along one cell of the map: a place answers for
            ``cells * cells`` of them.
    """

    def __init__(
        self, in_channels: int, boxes: int, numbers: int, *, cells: int = 1
    ) -> None:
        super().__init__()
        self.cells, self.numbers = cells, numbers
        self.conv = nn.Conv2d(in_channels, cells**2 * boxes * numbers, 3, padding=1)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n k"]:
        """The numbers of all boxes, in the order of ``default_boxes``."""
        i = self.cells
        return rearrange(
            self.conv(x), "b (i j a k) h w -> b (h i w j a) k", i=i, j=i, k=self.numbers
        )


class Outputs(NamedTuple):
    """What the net says about every default box."""

    logits: Float[Tensor, "b n k"]  # of the background and the classes
    codes: Float[Tensor, "b n 4"]  # how the box must move
    defaults: Float[Tensor, "n 4"]  # the boxes, xyxy in pixels, one map after the other


class SSD(nn.Module):
    """Stages of convolutions, each ending in a map, and on every map a head for classes
    and one for boxes.

    Args:
        plans: of each stage, see ``stage``.
        channels: of each stage's map.
        strides, scales, ratios: see ``default_boxes``.
        num_classes: of objects; the background is one more.
        norm: batch normalisation in the stages.
        l2norm: the first map is read through ``L2Norm``.
        sources: which map each map's boxes are read from; by default their own.

    Raises:
        ValueError: for settings that do not fit together.
    """

    def __init__(
        self,
        *,
        plans: Sequence[Sequence[nn.Module | tuple[int, ...]]],
        strides: Sequence[float],
        scales: Sequence[float],
        ratios: Sequence[Sequence[float]],
        num_classes: int,
        norm: bool = False,
        l2norm: bool = True,
        sources: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        maps = len(plans)
        self.sources = tuple(range(maps) if sources is None else sources)
        given = [len(strides), len(ratios), len(self.sources), len(scales)]
        wanted = f"strides, ratios and sources for {maps} maps and {maps + 1} scales"
        expect(given == [maps, maps, maps, maps + 1], wanted, *given)
        self.strides, self.scales, self.ratios = (
            tuple(strides),
            tuple(scales),
            tuple(ratios),
        )
        channels = [
            [item for item in plan if isinstance(item, tuple)][-1][0] for plan in plans
        ]
        self.stages = nn.ModuleList(
            stage(*one, norm=norm) for one in zip(plans, [3, *channels], strict=False)
        )
        he_init_(self)
        self.norm = L2Norm(channels[0]) if l2norm else nn.Identity()
        self.class_heads, self.code_heads = nn.ModuleList(), nn.ModuleList()
        for own, ratio, source in zip(strides, ratios, self.sources, strict=True):
            for heads, numbers in (
                (self.class_heads, 1 + num_classes),
                (self.code_heads, 4),
            ):
                cells = max(1, math.ceil(strides[source] / own))
                heads.append(
                    Head(channels[source], 2 + 2 * len(ratio), numbers, cells=cells)
                )

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The maps that the heads read, the finest first.

        Raises:
            ValueError: for a batch without images.
        """
        expect(len(images), "at least one image", images.shape)
        x, maps = images, []
        for number, part in enumerate(self.stages):
            x = part(x)
            maps.append(x if number else self.norm(x))
        return maps

    def defaults(
        self, size: tuple[int, int], shapes: Sequence[tuple[int, int]] | None = None
    ) -> list[Tensor]:
        """Each map's default boxes, in pixels, for images of ``size`` (height, width).

        Args:
            size: of the images.
            shapes: of the maps; by default found by a forward pass of an empty image.
        """
        if shapes is None:
            was = self.training
            with torch.no_grad():
                maps = self.eval().maps(next(self.parameters()).new_zeros(1, 3, *size))
            self.train(was)
            shapes = [(m.shape[2], m.shape[3]) for m in maps]
        return default_boxes(
            shapes, size, strides=self.strides, scales=self.scales, ratios=self.ratios
        )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Outputs:
        """Logits and codes of all default boxes, map after map.

        Raises:
            ValueError: for a batch without images.
        """
        maps = self.maps(images)
        shapes = [(m.shape[2], m.shape[3]) for m in maps]
        # a map that is finer than the boxes' own grid is brought down to it
        average = functional.adaptive_avg_pool2d
        read = [
            maps[j] if j >= k else average(maps[j], shapes[k])
            for k, j in enumerate(self.sources)
        ]
        logits = [head(x) for head, x in zip(self.class_heads, read, strict=True)]
        codes = [head(x) for head, x in zip(self.code_heads, read, strict=True)]
        defaults = torch.cat(
            self.defaults((images.shape[2], images.shape[3]), shapes)
        ).to(images)
        return Outputs(torch.cat(logits, 1), torch.cat(codes, 1), defaults)


def loss(
    outputs: Outputs,
    classes: Int[Tensor, "b n"],
    codes: Float[Tensor, "b n 4"],
    *,
    ratio: float = 3.0,
) -> dict[str, Tensor]:
    r""":math:`L = (L_{conf} + L_{loc}) / N` (Eq. 1), with N the boxes of the whole
    batch that hold an object.

    :math:`L_{conf}` is the cross-entropy of the classes, summed over the positives and
    the hardest negatives; :math:`L_{loc}` the smooth L1 distance of the codes, summed
    over the positives (Eqs. 2 and 3).

    Args:
        outputs: of the net.
        classes: true ones, see ``targets``.
        codes: true ones.
        ratio: negatives for each positive of an image; infinite for all of them.

    Returns:
        ``loss`` and its terms ``classes`` and ``codes``; and ``negatives``, how many
        count for each positive.
    """
    positive = classes != BACKGROUND
    each = functional.cross_entropy(
        outputs.logits.flatten(0, 1), classes.flatten(), reduction="none"
    )
    each = each.view_as(classes)
    negative = (
        ~positive if math.isinf(ratio) else hard_negatives(each, positive, ratio=ratio)
    )
    count = positive.sum().clamp(min=1)
    conf = each[positive | negative].sum() / count
    loc = (
        functional.smooth_l1_loss(
            outputs.codes[positive], codes[positive], reduction="sum"
        )
        / count
    )
    return {
        "loss": conf + loc,
        "classes": conf,
        "codes": loc,
        "negatives": negative.sum() / count,
    }


def decode(
    outputs: Outputs, size: tuple[int, int], *, threshold: float = 0.01
) -> list[dict[str, Tensor]]:
    """The objects: moved boxes with a score, without those that overlap a better one of
    the same class.

    The best ``CANDIDATES`` of each class go into non-maximum suppression, which drops
    the worse of two boxes of a class whose IoU is above ``OVERLAP``; at most ``MOST``
    are kept of an image.

    Args:
        outputs: of the net.
        size: height and width of the images, to which boxes are cut.
        threshold: least score.

    Returns:
        For each image ``boxes`` (n, 4) in xyxy pixels, ``scores`` (n,) and ``labels``
        (n,) from 0, best first.
    """
    found = []
    for scores, codes in zip(outputs.logits.softmax(-1), outputs.codes, strict=True):
        boxes = clip_boxes_to_image(
            coding.decode(codes, outputs.defaults, deviations=DEVIATIONS), size
        )
        score, where = scores[:, 1:].topk(min(CANDIDATES, len(boxes)), dim=0)
        rank, label = (score > threshold).nonzero().unbind(1)
        score, where = score[rank, label], where[rank, label]
        best = batched_nms(boxes[where], score, label, OVERLAP)[:MOST]
        found.append(
            {"boxes": boxes[where[best]], "scores": score[best], "labels": label[best]}
        )
    return found


def zoom_out(
    images: Float[Tensor, "b c h w"],
    boxes: Float[Tensor, "b m 4"],
    generator: torch.Generator,
    *,
    most: float = 4.0,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b m 4"]]:
    """Small objects from large ones: each image somewhere on a canvas up to ``most``
    times as wide and high.

    The canvas has the image's mean colour and is brought back to the image's size
    (Section 3.6).

    Args:
        images: to be zoomed out of; half of them are left as they are.
        boxes: xyxy in pixels.
        generator: decides which, by how much and where to.
        most: largest side of the canvas, in units of the image's.
    """
    images, boxes = images.clone(), boxes.clone()
    height, width = images.shape[2:]
    for i, (chance, zoom, down, across) in enumerate(
        torch.rand(len(images), 4, generator=generator).tolist()
    ):
        if chance < 0.5:
            continue
        side = 1 + (most - 1) * zoom
        rows, columns = round(height / side), round(width / side)
        top, left = int(down * (height - rows + 1)), int(across * (width - columns + 1))
        small = functional.interpolate(
            images[i : i + 1], size=(rows, columns), mode="area"
        )[0]
        images[i] = images[i].mean((1, 2))[:, None, None]
        images[i, :, top : top + rows, left : left + columns] = small
        moved = boxes[i] * boxes.new_tensor([columns / width, rows / height] * 2)
        boxes[i] = moved + boxes.new_tensor([left, top] * 2)
    return images, boxes


def tiny(*, num_classes: int = 4, **overrides: object) -> SSD:
    """The book's scale: three maps of 64x64 images, of 16, 8 and 4 cells a side."""
    plans = (
        [(16, 3, 2), (32, 3, 2), (32, 3)],
        [(48, 3, 2), (48, 3)],
        [(64, 3, 2), (64, 3)],
    )
    settings: dict = {
        "plans": plans,
        "strides": (4, 8, 16),
        "scales": scales(3, smallest=0.16, largest=0.52),
    }
    settings |= {"ratios": ((2,), (2,), (2,)), "norm": True, "l2norm": False}
    return SSD(num_classes=num_classes, **(settings | overrides))


def paper(*, num_classes: int = 20, **overrides: object) -> SSD:
    """The paper's scale: SSD300 on VGG-16, for images of 300x300."""
    settings: dict = {
        "plans": VGG,
        "strides": STRIDES,
        "scales": SCALES,
        "ratios": RATIOS,
    }
    return SSD(num_classes=num_classes, **(settings | overrides))
