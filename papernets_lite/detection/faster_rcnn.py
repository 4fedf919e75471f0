"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.

Shaoqing Ren, Kaiming He, Ross Girshick, Jian Sun. NIPS 2015, arXiv 1506.01497.
Official code: ShaoqingRen/faster_rcnn, rbgirshick/py-faster-rcnn. The pyramid of
``pyramid``: Tsung-Yi Lin, Piotr Dollár, Ross Girshick, Kaiming He, Bharath Hariharan,
Serge Belongie. CVPR 2017, arXiv 1612.03144.

Idea: a small net slides over the feature map and proposes regions, relative to a grid
of reference boxes (anchors); a second small net reads each region from the same map,
names it and corrects its box. Proposals become nearly free.

Differs:
    1. One optimiser trains both stages at once (the paper's "approximate joint
       training"): no gradient passes through the proposals' coordinates. The paper's
       main results come from four alternating steps.
    2. Objectness is one sigmoid score for each anchor, which the paper names as an
       alternative to its softmax over two.
    3. Anchors that cross the image's border are trained like all others. The paper
       leaves them out of training, which would not converge otherwise; with bounded
       codes and a small net's first steps it does here, as in torchvision.
    4. The box losses are divided by the number of sampled boxes, as in torchvision; the
       paper divides the RPN's by the number of places and weights it by 10, and says
       that this "is not required and could be simplified".
    5. The second stage has no dropout, VGG-16's weights are not downloaded, and
       ``tiny`` has a small ResNet, with batch normalisation, as its trunk.

Guessed:
    Anchors are centred on the cells and not rounded (the released code: rounded, on
    the cells' corners). The box losses' beta is 1/9 in both stages (the released code:
    in the first). Regions that overlap nothing are background as well, which the paper
    does for COCO only.

Example:
    >>> outputs = tiny()(torch.rand(1, 3, 64, 64))
    >>> truth = {"boxes": [[[8, 8, 30, 30]]], "labels": [[3]], "valid": [[True]]}
    >>> sorted(loss(outputs, truth))
    ['box', 'class', 'loss', 'objectness', 'rpn_box']
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int, Real
from torch import Generator, Tensor, nn
from torch.nn import functional
from torchvision.ops import box_area, box_iou, clip_boxes_to_image, roi_pool

from papernets_lite.backbones import resnet
from papernets_lite.layers.init import he_init_
from papernets_lite.layers.pyramid import FPN
from papernets_lite.ops import boxes as coding
from papernets_lite.ops import pooling
from papernets_lite.ops.checks import expect
from papernets_lite.ops.pooling import align

RATIOS = (0.5, 1.0, 2.0)  # of an anchor: height / width
# of the second stage's codes; the first stage's are 1
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
BETA = 1 / 9  # where smooth L1 turns from a parabola into a line
SMALLEST = 1e-2  # pixels: thinner boxes are dropped
Pool = Callable[..., Tensor]  # (map, regions, output_size, spatial_scale) -> patches
smooth_l1 = partial(functional.smooth_l1_loss, beta=BETA, reduction="sum")


def anchors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[float],
    sides: Sequence[Sequence[float]],
    ratios: Sequence[float] = RATIOS,
) -> list[Float[Tensor, "_ 4"]]:
    """The reference boxes of every level, in the order in which ``RPN`` answers: row,
    column, ratio, side.

    Args:
        shapes: (rows, columns) of each level's map.
        strides: of each level, in pixels.
        sides: square roots of the anchors' areas on each level, in pixels.
        ratios: height / width.

    Returns:
        xyxy in pixels, a tensor for each level.

    Raises:
        ValueError: for unequally many levels.
    """
    counts = len(shapes), len(strides), len(sides)
    expect(len(set(counts)) == 1, "a shape, a stride and sides for each level", *counts)
    root, out = torch.tensor(ratios).sqrt(), []
    for (rows, columns), stride, side in zip(shapes, strides, sides, strict=True):
        widths = (1 / root)[:, None] * torch.tensor(side)
        heights = root[:, None] * torch.tensor(side)
        half = torch.stack([widths.flatten(), heights.flatten()], 1) / 2
        cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(1)
        centre = stride * (cells + 0.5)[:, None]
        out.append(torch.cat([centre - half, centre + half], -1).flatten(0, 1))
    return out


class RPN(nn.Module):
    """The region proposal net: for each anchor a score (logit of "object") and a code
    of its box.

    Args:
        channels: of the maps; all levels share the net.
        num_anchors: at each place.
    """

    def __init__(self, channels: int, num_anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.score = nn.Conv2d(channels, num_anchors, 1)
        self.code = nn.Conv2d(channels, 4 * num_anchors, 1)

    def forward(
        self, maps: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 4"]]:
        """Scores and codes of all levels' anchors, in the order of ``anchors``, at
        least in float32: what is computed with boxes needs it."""
        scores, codes = [], []
        for x in maps:
            seen = self.conv(x).relu()
            score, code = self.score(seen), self.code(seen)
            scores.append(rearrange(score, "b a h w -> b (h w a)"))
            codes.append(rearrange(code, "b (a c) h w -> b (h w a) c", c=4))
        score, code = torch.cat(scores, 1), torch.cat(codes, 1)
        return coding.floating(score), coding.floating(code)


def sample(
    owner: Int[Tensor, " n"],
    *,
    count: int,
    share: float,
    generator: Generator | None = None,
) -> tuple[Int[Tensor, " p"], Int[Tensor, " q"]]:
    """Which boxes the loss looks at: positives and negatives drawn at random, so that
    background does not drown all.

    Args:
        owner: of each box, from ``assign``; boxes between the thresholds are never
            drawn.
        count: how many in all; fewer where there are not enough.
        share: at most this share is positive, in [0, 1].
        generator: on the CPU; torch's own by default.

    Raises:
        ValueError: for a negative count, or another share.
    """
    expect(count >= 0 and 0 <= share <= 1, "a count, a share in 0 to 1", count, share)
    both = owner >= 0, owner == coding.BACKGROUND
    places = [there.nonzero()[:, 0] for there in both]
    orders = [torch.randperm(len(k), generator=generator) for k in places]
    positive, negative = (
        k[order.to(k.device)] for k, order in zip(places, orders, strict=True)
    )
    positive = positive[: int(count * share)]
    return positive, negative[: count - len(positive)]


def rpn_loss(
    scores: Float[Tensor, "b n"],
    codes: Float[Tensor, "b n 4"],
    reference: Float[Tensor, "n 4"],
    truth: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
    count: int = 256,
) -> dict[str, Tensor]:
    """Eq. 1: is there an object, and where exactly.

    Anchors are positive from IoU 0.7 (and the best anchor of every object), negative
    below 0.3.

    Args:
        scores: of ``RPN``, logits.
        codes: of ``RPN``.
        reference: the anchors of all levels, xyxy in pixels.
        truth: ``boxes`` (b, k, 4), xyxy in pixels, and ``valid`` (b, k).
        generator: of the sample; on the CPU.
        count: anchors sampled in each image, at most half of them positive.

    Returns:
        ``objectness`` and ``rpn_box``.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, or of another batch.
    """
    truth = coding.pack(coding.check_truth(truth))
    boxes, valid = truth["boxes"].to(reference), truth["valid"]
    expect(len(boxes) == len(scores), f"a truth of {len(scores)} images", len(boxes))
    iou = coding.overlaps(boxes, valid, reference)
    owners = coding.assign(iou, foreground=0.7, background=0.3, force=True)
    asked, found = [], []
    for image, owner in enumerate(owners):
        start = image * len(reference)  # of its anchors among those of the batch
        drawn = sample(owner, count=count, share=0.5, generator=generator)
        asked.append(torch.cat(drawn) + start)
        found.append(drawn[0] + start)
    everything, positive = torch.cat(asked), torch.cat(found)
    every_owner = owners.flatten()
    picture, anchor = positive // len(reference), positive % len(reference)
    wanted = coding.encode(boxes[picture, every_owner[positive]], reference[anchor])
    box = smooth_l1(codes.flatten(0, 1)[positive], wanted)
    logits = scores.flatten()[everything]
    answers = (every_owner[everything] >= 0).to(logits)
    objectness = functional.binary_cross_entropy_with_logits(logits, answers)
    return {"objectness": objectness, "rpn_box": box / len(logits)}


@torch.no_grad()
def proposals(
    scores: Float[Tensor, "b n"],
    codes: Float[Tensor, "b n 4"],
    reference: Sequence[Tensor],
    size: tuple[int, int],
    *,
    before: int = 1000,
    after: int = 1000,
    iou: float = 0.7,
) -> list[Float[Tensor, "_ 4"]]:
    """The best of the RPN's boxes, best first, without near-copies; no gradient passes.

    Args:
        scores: of ``RPN``, logits; a box whose score is not finite is dropped.
        codes: of ``RPN``; likewise.
        reference: the anchors of each level, xyxy in pixels.
        size: of the images (height, width); boxes are clipped to it.
        before: taken from each level by score, before non-maximum suppression.
        after: kept for each image, after it.
        iou: of two boxes on a level that overlap by more, the weaker is dropped.

    Returns:
        Of each image, xyxy in pixels.

    Raises:
        ValueError: for other anchors than scores.
    """
    counts = [len(level) for level in reference]
    expect(sum(counts) == scores.shape[1], f"{scores.shape[1]} anchors", counts)
    every = torch.cat(list(reference)).expand_as(codes)
    boxes = clip_boxes_to_image(coding.decode(codes, every), list(size))
    best, levels, start = [], [], 0
    for number, some in enumerate(scores.split(counts, 1)):
        top = some.topk(min(before, some.shape[1])).indices
        best.append(top + start)
        levels.append(top.new_full(top.shape[1:], number))
        start += some.shape[1]
    level_of_best, found = torch.cat(levels), []
    for box, score, order in zip(boxes, scores, torch.cat(best, 1), strict=True):
        box, score = box[order], score[order]
        usable = (box[:, 2:] - box[:, :2] >= SMALLEST).all(1) & score.isfinite()
        box, score, level = box[usable], score[usable], level_of_best[usable]
        found.append(box[coding.suppress(box, score, level, iou)[:after]])
    return found


@dataclass(frozen=True)
class Regions:
    """What the second stage is trained on."""

    boxes: list[Float[Tensor, "_ 4"]]  # of each image
    # of all of them: 0 is background, class k of the truth is k + 1
    labels: Int[Tensor, " n"]
    codes: Float[Tensor, "n 4"]  # what the regressor shall answer; zeros for background


def regions(
    found: Sequence[Tensor],
    truth: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
    count: int = 512,
    share: float = 0.25,
    deviations: Sequence[float] = DEVIATIONS,
) -> Regions:
    """Proposals and true boxes, assigned (positive from IoU 0.5, all others are
    background) and sampled.

    Args:
        found: of ``proposals``.
        truth: ``boxes`` (b, k, 4), xyxy in pixels, ``labels`` (b, k) from 0 and
            ``valid`` (b, k).
        generator: of the sample; on the CPU.
        count: regions sampled in each image.
        share: of them at most positive.
        deviations: of the codes.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, or of another batch.
    """
    truth = coding.check_truth(truth)
    count_images = len(truth["boxes"])
    expect(
        len(found) == count_images, f"proposals of {count_images} images", len(found)
    )
    drawn, labels, codes = [], [], []
    for image, boxes in enumerate(found):
        valid = truth["valid"][image]
        true, names = (
            truth["boxes"][image][valid].to(boxes),
            truth["labels"][image][valid],
        )
        # so that there are positives from the first step
        boxes = torch.cat([boxes, true])
        owner = coding.assign(box_iou(true, boxes), foreground=0.5, background=0.5)
        positive, negative = sample(
            owner, count=count, share=share, generator=generator
        )
        owner = owner[positive]
        drawn.append(boxes[torch.cat([positive, negative])])
        labels += [names[owner] + 1, torch.zeros_like(negative)]
        moved = coding.encode(true[owner], boxes[positive], deviations=deviations)
        codes += [moved, boxes.new_zeros(len(negative), 4)]
    return Regions(drawn, torch.cat(labels), torch.cat(codes))


def level_of(
    boxes: Real[Tensor, "n 4"], count: int, *, side: float = 224.0, level: int = 2
) -> Int[Tensor, " n"]:
    r"""From which of ``count`` levels a box is read: :math:`k = \lfloor k_0 +
    \log_2(\sqrt{wh} / s) \rfloor`.

    Args:
        boxes: xyxy in pixels.
        count: of levels; smaller and larger boxes are read from the first and last.
        side: a box of this side ...
        level: ... is read from this one. The paper: 224 from P4, its third.

    Raises:
        ValueError: for boxes that ``check_boxes`` refuses.
    """
    boxes = coding.check_boxes(boxes, thin=True)
    k = (level + (box_area(boxes).sqrt() / side).log2() + 1e-6).floor()
    return k.clamp(0, count - 1).long()


def patches(
    maps: Sequence[Tensor],
    strides: Sequence[float],
    boxes: Sequence[Tensor],
    *,
    size: int = 7,
    side: float = 224.0,
    level: int = 2,
    pool: Pool = align,
) -> Float[Tensor, "n c s s"]:
    """A patch of ``size`` x ``size`` cells of the maps for every box.

    Args:
        maps: the levels.
        strides: of each, in pixels.
        boxes: of each image, xyxy in pixels.
        size: of a patch.
        side: see ``level_of``.
        level: see ``level_of``.
        pool: ``pooling.align``, ``pooling.align_rounded`` or
            ``torchvision.ops.roi_pool``.

    Raises:
        ValueError: for unequally many maps and strides, strides that are not positive,
            or boxes that ``pooling.regions`` refuses.
    """
    fits = len(maps) == len(strides) and min(strides, default=0) > 0
    expect(fits, f"a positive stride for each of {len(maps)} maps", strides)
    rois = pooling.regions(boxes, len(maps[0]))
    which = level_of(rois[:, 1:], len(maps), side=side, level=level)
    out = maps[0].new_zeros(len(rois), maps[0].shape[1], size, size)
    for k, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        here = which == k
        wide = coding.floating(features)  # half precision rounds positions
        rows = rois[here].to(wide)
        patch = pool(wide, rows, (size, size), spatial_scale=1 / stride)
        out[here] = patch.to(out.dtype)
    return out


class FastRCNN(nn.Module):
    """The second stage, which was there before: it reads a patch of the maps for every
    box, names it, and corrects the box for each class.

    Args:
        channels: of the maps.
        strides: of the maps that it reads, in pixels.
        num_classes: without the background.
        patch: a patch's size in cells.
        hidden: widths of its layers.
        pool: how a patch is read.
        canonical: of several maps, a box of this side is read from this one.

    Raises:
        ValueError: for no classes.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[float],
        *,
        num_classes: int,
        patch: int = 7,
        hidden: Sequence[int] = (4096, 4096),
        pool: Pool = roi_pool,
        canonical: tuple[float, int] = (224.0, 2),
    ) -> None:
        super().__init__()
        expect(num_classes > 0, "at least one class", num_classes)
        self.strides, self.num_classes = strides, num_classes
        side, level = canonical
        self.cut = partial(patches, size=patch, side=side, level=level, pool=pool)
        widths = [channels * patch**2, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(widths[-1], num_classes + 1)
        self.code = nn.Linear(widths[-1], 4 * (num_classes + 1))

    def forward(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k 4"]]:
        """Logits, the first of them the background's, and codes, at least in float32.

        Args:
            maps: the levels; it may read fewer than there are.
            boxes: of each image, xyxy in pixels.
        """
        read = self.cut(maps[: len(self.strides)], self.strides, boxes)
        x = self.layers(read)
        codes = self.code(x).unflatten(1, (-1, 4))
        return coding.floating(self.score(x)), coding.floating(codes)


def head_loss(
    logits: Float[Tensor, "n k"], codes: Float[Tensor, "n k 4"], wanted: Regions
) -> dict[str, Tensor]:
    """Cross-entropy over the classes and the background, and smooth L1 of the true
    class's code.

    Args:
        logits: of ``FastRCNN``.
        codes: of ``FastRCNN``.
        wanted: of ``regions``.

    Returns:
        ``class`` and ``box``.

    Raises:
        ValueError: for other regions than logits, or a class that has no logit.
    """
    count, classes = logits.shape
    fits = len(wanted.labels) == count and (wanted.labels < classes).all()
    expect(fits, f"{count} labels from 0 to {classes - 1}", wanted.labels.tolist())
    positive = wanted.labels.nonzero()[:, 0]
    box = smooth_l1(codes[positive, wanted.labels[positive]], wanted.codes[positive])
    return {
        "class": functional.cross_entropy(logits, wanted.labels),
        "box": box / count,
    }


@torch.no_grad()
def detections(
    logits: Float[Tensor, "n k"],
    codes: Float[Tensor, "n k 4"],
    boxes: Sequence[Tensor],
    size: tuple[int, int],
    *,
    least: float = 0.05,
    iou: float = 0.5,
    most: int = 100,
) -> list[dict[str, Tensor]]:
    """What the second stage finds.

    Args:
        logits: of ``FastRCNN``.
        codes: of ``FastRCNN``.
        boxes: the proposals of each image, xyxy in pixels.
        size: of the images (height, width).
        least: weaker answers are dropped.
        iou: of two boxes of a class that overlap by more, the weaker is dropped.
        most: kept for each image.

    Returns:
        For each image ``boxes`` (m, 4), xyxy in pixels, ``scores`` (m,) and ``labels``
        (m,) (without the background: from 0), best first.

    Raises:
        ValueError: for logits or codes that are not finite.
    """
    sure = logits.isfinite().all() and codes.isfinite().all()
    expect(sure, "finite logits and codes", "nan or inf")
    counts = [len(box) for box in boxes]
    own = torch.cat(list(boxes))[:, None].expand_as(codes)
    decoded = coding.decode(codes, own, deviations=DEVIATIONS)
    decoded = clip_boxes_to_image(decoded, list(size)).split(counts)
    scores = logits.softmax(1).split(counts)
    found = []
    for box, score in zip(decoded, scores, strict=True):
        wide = (box[:, 1:, 2:] - box[:, 1:, :2] >= SMALLEST).all(-1)
        row, label = ((score[:, 1:] > least) & wide).nonzero().unbind(1)
        box, strength = box[row, label + 1], score[row, label + 1]
        kept = coding.suppress(box, strength, label, iou)[:most]
        found.append(
            {"boxes": box[kept], "scores": strength[kept], "labels": label[kept]}
        )
    return found


@dataclass(frozen=True)
class Outputs:
    """What the first stage says about a batch, and the second stage that reads it."""

    maps: list[Tensor]  # the levels
    scores: Float[Tensor, "b n"]
    codes: Float[Tensor, "b n 4"]
    anchors: list[Tensor]  # of each level
    size: tuple[int, int]  # of the images (height, width)
    proposals: list[Tensor]  # of each image
    second: FastRCNN
    sampled: tuple[int, int]  # anchors and regions of each image, for the losses


class FasterRCNN(nn.Module):
    """A trunk whose map two nets read: the one that proposes, and Fast R-CNN.

    Args:
        trunk: images -> a list of maps, the finest first; the paper's has one.
        channels: of each map.
        strides: of the maps, in pixels.
        sides: of the anchors at each map's cells: roots of their areas, in pixels.
        ratios: of the anchors, height / width.
        kept: proposals of each map before, and of an image after suppression; in
            training, in test.
        sampled: anchors and regions of each image that the losses look at.
        second: settings of ``FastRCNN``; ``levels`` of them are read, all by default.

    Raises:
        ValueError: for no classes, or sides of other levels than there are.
    """

    def __init__(
        self,
        *,
        trunk: nn.Module,
        channels: int,
        strides: Sequence[int],
        sides: Sequence[Sequence[float]],
        ratios: Sequence[float] = RATIOS,
        kept: Sequence[tuple[int, int]] = ((12000, 2000), (6000, 300)),
        sampled: tuple[int, int] = (256, 128),
        levels: int | None = None,
        **second: Any,
    ) -> None:
        super().__init__()
        fits = len(sides) == len(strides) and len({len(side) for side in sides}) == 1
        expect(fits, f"equally many sides for each of {len(strides)} levels", sides)
        self.trunk, self.kept, self.sampled = trunk, kept, sampled
        self.grid = partial(anchors, strides=strides, sides=sides, ratios=ratios)
        self.rpn = RPN(channels, len(sides[0]) * len(ratios))
        self.head = FastRCNN(channels, strides[:levels], **second)
        he_init_(self)
        for layer in (self.rpn.score, self.rpn.code, self.head.score, self.head.code):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Outputs:
        """The first stage, and its proposals, more of them in training.

        Raises:
            ValueError: for a batch without images.
        """
        expect(images.numel(), "at least one image (b, 3, h, w)", images.shape)
        size = images.shape[-2], images.shape[-1]
        maps = self.trunk(images)
        scores, codes = self.rpn(maps)
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        grid = [level.to(scores) for level in self.grid(shapes)]
        before, after = self.kept[0 if self.training else 1]
        boxes = proposals(scores, codes, grid, size, before=before, after=after)
        return Outputs(maps, scores, codes, grid, size, boxes, self.head, self.sampled)

    @torch.no_grad()
    def detect(
        self, images: Float[Tensor, "b 3 h w"], **thresholds: Any
    ) -> list[dict[str, Tensor]]:
        """Both stages and ``decode``, which explains the thresholds."""
        return decode(self(images), **thresholds)


def loss(
    outputs: Outputs, batch: Mapping[str, Any], *, generator: Generator | None = None
) -> dict[str, Tensor]:
    """Both stages' losses, added.

    Args:
        outputs: of the net; a sample of its proposals goes through its second stage.
        batch: ``boxes`` (b, k, 4), xyxy in pixels, ``labels`` (b, k) from 0 and
            ``valid`` (b, k).
        generator: of the samples; on the CPU.

    Returns:
        ``loss``, ``objectness``, ``rpn_box``, ``class`` and ``box``.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, or of another batch.
    """
    truth = coding.check_truth(batch, outputs.second.num_classes)
    grid, (asked, read) = torch.cat(outputs.anchors), outputs.sampled
    draws: dict[str, Any] = {"generator": generator}
    parts = rpn_loss(outputs.scores, outputs.codes, grid, truth, count=asked, **draws)
    wanted = regions(outputs.proposals, truth, count=read, **draws)
    scores, codes = outputs.second(outputs.maps, wanted.boxes)
    parts |= head_loss(scores, codes, wanted)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


@torch.no_grad()
def decode(
    outputs: Outputs, *, boxes: Sequence[Tensor] | None = None, **thresholds: Any
) -> list[dict[str, Tensor]]:
    """The detections: the second stage's answers for the proposals.

    Args:
        outputs: of the net, in evaluation mode.
        boxes: of each image, read in place of the net's own proposals.
        thresholds: see ``detections``.

    Returns:
        As ``detections``.
    """
    boxes = outputs.proposals if boxes is None else boxes
    logits, codes = outputs.second(outputs.maps, boxes)
    return detections(logits, codes, boxes, outputs.size, **thresholds)


class OneMap(nn.Sequential):
    """Layers in a row, whose last output is the only map."""

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The map, in a list."""
        return [super().forward(images)]


def vgg16() -> OneMap:
    """VGG-16 up to its last shared convolution, conv5_3: stride 16, 512 channels."""
    layers: list[nn.Module] = []
    channels = 3
    for block, width in enumerate((64, 128, 256, 512, 512)):
        for _ in range(2 if block < 2 else 3):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return OneMap(*layers[:-1])


def paper(**overrides: object) -> FasterRCNN:
    """The paper's scale: VGG-16, a map of stride 16, nine anchors a place, for VOC."""
    settings: dict = {
        "trunk": vgg16(),
        "channels": 512,
        "strides": (16,),
        "sides": ((128, 256, 512),),
        "num_classes": 20,
    }
    return FasterRCNN(**(settings | overrides))


# How the map of the net calls its parts.
BLOCKS = {
    "trunk": "trunk",
    "rpn.conv": "RPN",
    "rpn.score rpn.code": "proposals",
    "head.layers": "head",
    "head.score head.code": "boxes",
}


def tiny(**overrides: object) -> FasterRCNN:
    """The book's scale: images of 64x64, one map of stride 4, nine anchors a place."""
    blocks = (1, 2)
    net = resnet.ResNet(blocks=blocks, widths=(16, 48), stem_stride=2)
    settings: dict = {
        "trunk": resnet.Stages(net, blocks, skip=1),
        "channels": 48,
        "strides": (4,),
        "sides": ((9, 15, 24),),
        "num_classes": 10,
        "hidden": (96,),
        "patch": 5,
        "kept": ((200, 50), (200, 50)),
        "sampled": (64, 24),
    }
    return FasterRCNN(**(settings | overrides))


def pyramid(**overrides: object) -> FasterRCNN:
    """What it became, for COCO: ResNet-50, a feature pyramid of five levels with one
    size of anchors each, RoIAlign (torchvision's ``fasterrcnn_resnet50_fpn``)."""
    stages = resnet.Stages(resnet.imagenet(50, stride_on_3x3=True), resnet.IMAGENET[50])
    settings: dict = {
        "trunk": nn.Sequential(stages, FPN(stages.channels, 256)),
        "channels": 256,
        "strides": (4, 8, 16, 32, 64),
        "sides": ((32,), (64,), (128,), (256,), (512,)),
        "levels": 4,
        "num_classes": 90,
        "hidden": (1024, 1024),
        "pool": align,
        "kept": ((2000, 2000), (1000, 1000)),
        "sampled": (256, 512),
    }
    return FasterRCNN(**(settings | overrides))
