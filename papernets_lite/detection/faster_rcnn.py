"""Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, on a
Feature Pyramid Network.

Shaoqing Ren, Kaiming He, Ross Girshick, Jian Sun. NIPS 2015, arXiv 1506.01497. The
pyramid: Tsung-Yi Lin, Piotr Dollár, Ross Girshick, Kaiming He, Bharath Hariharan, Serge
Belongie. CVPR 2017, arXiv 1612.03144.
Official code: rbgirshick/py-faster-rcnn, facebookresearch/Detectron.

Idea: a small net slides over the feature map and proposes regions, relative to a grid
of reference boxes (anchors); a second small net reads each region from the same map,
names it and corrects its box. Proposals become nearly free.

Differs:
    1. One optimiser trains both stages at once (the paper's "approximate joint
       training"): no gradient passes through the proposals' coordinates. The paper's
       main results come from four alternating steps.
    2. Objectness is one sigmoid score for each anchor; the paper's first version has a
       softmax over two.
    3. ``paper`` is the version with a ResNet-50 pyramid that became the standard,
       stride on the 3x3 as torchvision has it; the first paper used ZF and VGG-16 with
       one map of stride 16. ``tiny`` has two levels, of stride 4 and 8.
    4. Regions are read by RoIAlign (Mask R-CNN's) unless ``pool=roi_pool``, the
       paper's.

Guessed:
    Anchors are centred on the cells and not rounded (torchvision: on the cells'
    corners, rounded to whole pixels). The box losses' beta is 1/9 in both stages, and
    both are divided by the number of sampled boxes, as in torchvision; the first paper
    divides the RPN's by the number of places and weights it by 10, about the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional
from torchvision.ops import (
    batched_nms,
    box_area,
    box_iou,
    clip_boxes_to_image,
    roi_align,
)

from papernets_lite.backbones import resnet
from papernets_lite.layers.init import he_init_
from papernets_lite.ops import boxes as coding
from papernets_lite.ops.checks import expect

RATIOS = (0.5, 1.0, 2.0)  # of an anchor: height / width
# of the second stage's codes; the first stage's are 1
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
BETA = 1 / 9  # where smooth L1 turns from a parabola into a line
SMALLEST = 1e-2  # pixels: thinner boxes are dropped
Pool = Callable[..., Tensor]  # (map, regions, output_size, spatial_scale) -> patches
align: Pool = partial(roi_align, sampling_ratio=2, aligned=True)
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
    """
    root, out = torch.tensor(ratios).sqrt(), []
    for (rows, columns), stride, side in zip(shapes, strides, sides, strict=True):
        half = (
            torch.stack(
                [
                    (scale[:, None] * torch.tensor(side)).flatten()
                    for scale in (1 / root, root)
                ],
                1,
            )
            / 2
        )
        centre = (
            stride
            * (
                torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(1)
                + 0.5
            )[:, None]
        )
        out.append(torch.cat([centre - half, centre + half], -1).flatten(0, 1))
    return out


class Trunk(nn.Module):
    """A ResNet without its classifier.

    Args:
        net: whose stem and units are taken.
        blocks: its units per stage.
        skip: the first stages' maps are not given out.
    """

    def __init__(
        self, net: resnet.ResNet, blocks: Sequence[int], *, skip: int = 0
    ) -> None:
        super().__init__()
        ends = [0, *accumulate(blocks)]
        self.stem, self.skip = net.stem, skip
        self.stages = nn.ModuleList(
            nn.Sequential(*net.units[a:b]) for a, b in pairwise(ends)
        )
        self.channels = [
            u.out_channels
            for e in ends[1 + skip :]
            if isinstance(u := net.units[e - 1], resnet.Unit)
        ]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The map at the end of each stage, the finest first."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1 + self.skip :]


class FPN(nn.Module):
    """Feature pyramid: what a coarse map knows is added to every finer one.

    Args:
        in_channels: of the trunk's maps, the finest first.
        channels: of every level.
        extra: one more level, every second pixel of the coarsest.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, *, extra: bool = True
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        self.extra = extra

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The levels, the finest first."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for k in range(len(levels) - 2, -1, -1):
            levels[k] = levels[k] + functional.interpolate(
                levels[k + 1], size=levels[k].shape[-2:], mode="nearest"
            )
        levels = [conv(x) for conv, x in zip(self.output, levels, strict=True)]
        return [*levels, levels[-1][:, :, ::2, ::2]] if self.extra else levels


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
        """Scores and codes of all levels' anchors, in the order of ``anchors``."""
        seen = [self.conv(x).relu() for x in maps]
        scores = [rearrange(self.score(x), "b a h w -> b (h w a)") for x in seen]
        codes = [
            rearrange(self.code(x), "b (a c) h w -> b (h w a) c", c=4) for x in seen
        ]
        return torch.cat(scores, 1), torch.cat(codes, 1)


def sample(
    owner: Int[Tensor, " n"], *, count: int, share: float, generator: Generator
) -> tuple[Int[Tensor, " p"], Int[Tensor, " q"]]:
    """Which boxes the loss looks at: positives and negatives drawn at random, so that
    background does not drown all.

    Args:
        owner: of each box, from ``assign``; boxes between the thresholds are never
            drawn.
        count: how many in all; fewer where there are not enough.
        share: at most this share is positive.
        generator: on the CPU.
    """
    both = ((owner >= 0).nonzero()[:, 0], (owner == coding.BACKGROUND).nonzero()[:, 0])
    positive, negative = (
        k[torch.randperm(len(k), generator=generator).to(k.device)] for k in both
    )
    positive = positive[: int(count * share)]
    return positive, negative[: count - len(positive)]


def rpn_loss(
    scores: Float[Tensor, "b n"],
    codes: Float[Tensor, "b n 4"],
    reference: Float[Tensor, "n 4"],
    truth: Mapping[str, Tensor],
    *,
    generator: Generator,
    count: int = 256,
) -> dict[str, Tensor]:
    """Eq. 1: is there an object, and where exactly.

    Anchors are positive from IoU 0.7 (and the best anchor of every object), negative
    below 0.3.

    Args:
        scores, codes: of ``RPN``.
        reference: the anchors of all levels.
        truth: ``boxes`` (b, k, 4) and ``valid`` (b, k).
        generator: of the sample.
        count: anchors sampled in each image, at most half of them positive.

    Returns:
        ``objectness`` and ``rpn_box``.
    """
    asked, answer, found, wanted = [], [], [], []
    for score, code, boxes, valid in zip(
        scores, codes, truth["boxes"], truth["valid"], strict=True
    ):
        boxes = boxes[valid]
        owner = coding.assign(
            box_iou(boxes, reference), foreground=0.7, background=0.3, force=True
        )
        positive, negative = sample(owner, count=count, share=0.5, generator=generator)
        asked += [score[positive], score[negative]]
        answer += [torch.ones_like(score[positive]), torch.zeros_like(score[negative])]
        found.append(code[positive])
        wanted.append(coding.encode(boxes[owner[positive]], reference[positive]))
    box, logits = smooth_l1(torch.cat(found), torch.cat(wanted)), torch.cat(asked)
    objectness = functional.binary_cross_entropy_with_logits(logits, torch.cat(answer))
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
        scores, codes: of ``RPN``.
        reference: the anchors of each level.
        size: of the images (height, width); boxes are clipped to it.
        before: taken from each level by score, before non-maximum suppression.
        after: kept for each image, after it.
        iou: of two boxes on a level that overlap by more, the weaker is dropped.
    """
    boxes = clip_boxes_to_image(
        coding.decode(codes, torch.cat(list(reference)).expand_as(codes)), list(size)
    )
    counts = [len(level) for level in reference]
    level = torch.cat(
        [torch.full((n,), k, device=scores.device) for k, n in enumerate(counts)]
    )
    starts = [0, *accumulate(counts)]
    top = [
        s.topk(min(before, s.shape[1])).indices + a
        for s, a in zip(scores.split(counts, 1), starts, strict=False)
    ]
    found = []
    for box, score, kept in zip(boxes, scores, torch.cat(top, 1), strict=True):
        kept = kept[(box[kept, 2:] - box[kept, :2] >= SMALLEST).all(1)]
        found.append(
            box[kept[batched_nms(box[kept], score[kept], level[kept], iou)[:after]]]
        )
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
    generator: Generator,
    count: int = 512,
    share: float = 0.25,
    deviations: Sequence[float] = DEVIATIONS,
) -> Regions:
    """Proposals and true boxes, assigned (positive from IoU 0.5, all others are
    background) and sampled.

    Args:
        found: of ``proposals``.
        truth: ``boxes`` (b, k, 4), ``labels`` (b, k) and ``valid`` (b, k).
        generator: of the sample.
        count: regions sampled in each image.
        share: of them at most positive.
        deviations: of the codes.
    """
    drawn, names, codes = [], [], []
    for boxes, true, labels, valid in zip(
        found, truth["boxes"], truth["labels"], truth["valid"], strict=True
    ):
        true, labels = true[valid], labels[valid]
        # so that there are positives from the first step
        boxes = torch.cat([boxes, true])
        owner = coding.assign(box_iou(true, boxes), foreground=0.5, background=0.5)
        positive, negative = sample(
            owner, count=count, share=share, generator=generator
        )
        drawn.append(boxes[torch.cat([positive, negative])])
        names.append(
            torch.cat([labels[owner[positive]] + 1, torch.zeros_like(negative)])
        )
        codes.append(
            coding.encode(true[owner[positive]], boxes[positive], deviations=deviations)
        )
        codes.append(boxes.new_zeros(len(negative), 4))
    return Regions(drawn, torch.cat(names), torch.cat(codes))


def level_of(
    boxes: Float[Tensor, "n 4"], count: int, *, side: float = 224.0, level: int = 2
) -> Int[Tensor, " n"]:
    r"""From which of ``count`` levels a box is read: :math:`k = \lfloor k_0 +
    \log_2(\sqrt{wh} / s) \rfloor`.

    Args:
        boxes: in pixels.
        count: of levels; smaller and larger boxes are read from the first and last.
        side: a box of this side ...
        level: ... is read from this one. The paper: 224 from P4, its third.
    """
    k = (level + (box_area(boxes).sqrt() / side).log2() + 1e-6).floor()
    return k.clamp(0, count - 1).long()


def align_rounded(
    features: Float[Tensor, "b c h w"],
    rois: Float[Tensor, "n 5"],
    size: tuple[int, int],
    *,
    spatial_scale: float,
) -> Float[Tensor, "n c s t"]:
    """RoIAlign of boxes moved to the map's cells, as RoIPool moves them: what rounding
    alone costs.

    Args:
        features: the map.
        rois: index of the image, then its box in pixels.
        size: of a patch.
        spatial_scale: cells per pixel.
    """
    corners = (rois[:, 1:] * spatial_scale).round()
    # at least a cell
    corners = torch.cat(
        [corners[:, :2], torch.maximum(corners[:, 2:], corners[:, :2] + 1)], 1
    )
    return align(
        features,
        torch.cat([rois[:, :1], corners / spatial_scale], 1),
        size,
        spatial_scale=spatial_scale,
    )


def read(
    maps: Sequence[Tensor],
    strides: Sequence[float],
    boxes: Sequence[Tensor],
    *,
    size: int = 7,
    side: float = 224.0,
    level: int = 2,
    pool: Pool = align,
) -> Float[Tensor, "n c s s"]:
    """Cut a patch of ``size`` x ``size`` cells out of the maps for every box.

    Args:
        maps: the levels.
        strides: of each, in pixels.
        boxes: of each image.
        size: of a patch.
        side, level: see ``level_of``.
        pool: ``align``, ``align_rounded`` or ``torchvision.ops.roi_pool``.
    """
    rois = torch.cat(
        [functional.pad(box, (1, 0), value=k) for k, box in enumerate(boxes)]
    )
    which = level_of(rois[:, 1:], len(maps), side=side, level=level)
    out = maps[0].new_zeros(len(rois), maps[0].shape[1], size, size)
    for k, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        here = which == k
        out[here] = pool(features, rois[here], (size, size), spatial_scale=1 / stride)
    return out


class BoxHead(nn.Module):
    """The second stage: class scores and a box for each class.

    Args:
        channels: of a patch.
        size: of a patch, in cells.
        hidden: widths of its layers.
        num_classes: without the background.
    """

    def __init__(
        self, channels: int, size: int, hidden: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        widths = [channels * size**2, *hidden]
        layers = [
            layer
            for pair in pairwise(widths)
            for layer in (nn.Linear(*pair), nn.ReLU())
        ]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.score = nn.Linear(widths[-1], num_classes + 1)
        self.code = nn.Linear(widths[-1], 4 * (num_classes + 1))

    def forward(
        self, patches: Float[Tensor, "n c s s"]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k 4"]]:
        """Logits, the first of them the background's, and codes."""
        x = self.layers(patches)
        return self.score(x), self.code(x).unflatten(1, (-1, 4))


def head_loss(
    logits: Float[Tensor, "n k"], codes: Float[Tensor, "n k 4"], wanted: Regions
) -> dict[str, Tensor]:
    """Cross-entropy over the classes and the background, and smooth L1 of the true
    class's code.

    Args:
        logits, codes: of ``BoxHead``.
        wanted: of ``regions``.

    Returns:
        ``class`` and ``box``.
    """
    positive = wanted.labels.nonzero()[:, 0]
    box = smooth_l1(codes[positive, wanted.labels[positive]], wanted.codes[positive])
    return {
        "class": functional.cross_entropy(logits, wanted.labels),
        "box": box / len(wanted.labels),
    }


@torch.no_grad()
def decode(
    logits: Float[Tensor, "n k"],
    codes: Float[Tensor, "n k 4"],
    boxes: Sequence[Tensor],
    size: tuple[int, int],
    *,
    least: float = 0.05,
    iou: float = 0.5,
    most: int = 100,
) -> list[dict[str, Tensor]]:
    """The detections.

    Args:
        logits, codes: of ``BoxHead``.
        boxes: the proposals of each image.
        size: of the images (height, width).
        least: weaker answers are dropped.
        iou: of two boxes of a class that overlap by more, the weaker is dropped.
        most: kept for each image.

    Returns:
        For each image ``boxes`` (m, 4), ``scores`` (m,) and ``labels`` (m,) (without
        the background: from 0), best first.
    """
    found, counts = [], [len(box) for box in boxes]
    own = torch.cat(list(boxes))[:, None].expand_as(codes)
    decoded = clip_boxes_to_image(
        coding.decode(codes, own, deviations=DEVIATIONS), list(size)
    )
    for box, score in zip(
        decoded.split(counts), logits.softmax(1).split(counts), strict=True
    ):
        wide = (box[:, 1:, 2:] - box[:, 1:, :2] >= SMALLEST).all(-1)
        row, label = ((score[:, 1:] > least) & wide).nonzero().unbind(1)
        box, strength = box[row, label + 1], score[row, label + 1]
        kept = batched_nms(box, strength, label, iou)[:most]
        found.append(
            {"boxes": box[kept], "scores": strength[kept], "labels": label[kept]}
        )
    return found


@dataclass(frozen=True)
class Outputs:
    """What the first stage says about a batch."""

    maps: list[Tensor]  # the levels
    scores: Float[Tensor, "b n"]
    codes: Float[Tensor, "b n 4"]
    anchors: list[Tensor]  # of each level
    strides: list[float]
    size: tuple[int, int]  # of the images (height, width)


class FasterRCNN(nn.Module):
    """Trunk, pyramid, proposals and the second stage.

    Args:
        trunk: images -> maps; has ``channels``.
        channels: of the pyramid.
        sides: of each level's anchors, in pixels.
        num_classes: without the background.
        extra: the pyramid's coarsest level, which has anchors but is not read by the
            second stage.
        hidden: widths of the second stage.
        patch: its patches' size in cells.
        canonical: a box of this side is read from this level.
        pool: how a patch is read.
        before, after: proposals before and after suppression, (in training, in test).
        anchors_each, regions_each: sampled in each image.
    """

    def __init__(
        self,
        trunk: Trunk,
        *,
        channels: int,
        sides: Sequence[Sequence[float]],
        num_classes: int,
        extra: bool,
        hidden: Sequence[int],
        patch: int,
        canonical: tuple[float, int],
        pool: Pool = align,
        before: tuple[int, int] = (2000, 1000),
        after: tuple[int, int] = (2000, 1000),
        anchors_each: int = 256,
        regions_each: int = 512,
    ) -> None:
        super().__init__()
        self.trunk, self.sides, self.extra = trunk, sides, extra
        self.fpn = FPN(trunk.channels, channels, extra=extra)
        self.rpn = RPN(channels, len(sides[0]) * len(RATIOS))
        self.head = BoxHead(channels, patch, hidden, num_classes)
        self.before, self.after, self.anchors_each, self.regions_each = (
            before,
            after,
            anchors_each,
            regions_each,
        )
        self.cut = partial(
            read, size=patch, side=canonical[0], level=canonical[1], pool=pool
        )
        he_init_(self)
        for layer in (self.rpn.score, self.rpn.code, self.head.score, self.head.code):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Outputs:
        """The first stage.

        Raises:
            ValueError: for a batch without images.
        """
        expect(len(images), "at least one image", images.shape)
        maps = self.fpn(self.trunk(images))
        strides = [images.shape[-1] / x.shape[-1] for x in maps]
        reference = [
            a.to(images)
            for a in anchors([x.shape[-2:] for x in maps], strides, self.sides)
        ]
        scores, codes = self.rpn(maps)
        return Outputs(
            maps,
            scores,
            codes,
            reference,
            strides,
            (images.shape[-2], images.shape[-1]),
        )

    def propose(self, outputs: Outputs) -> list[Tensor]:
        """Proposals, more of them in training."""
        before, after = (
            pair[0 if self.training else 1] for pair in (self.before, self.after)
        )
        return proposals(
            outputs.scores,
            outputs.codes,
            outputs.anchors,
            outputs.size,
            before=before,
            after=after,
        )

    def second(
        self, outputs: Outputs, boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The second stage's logits and codes for ``boxes``, those of each image."""
        last = len(outputs.maps) - self.extra
        return self.head(self.cut(outputs.maps[:last], outputs.strides[:last], boxes))

    @torch.no_grad()
    def detect(
        self,
        images: Float[Tensor, "b 3 h w"],
        *,
        least: float = 0.05,
        iou: float = 0.5,
        most: int = 100,
    ) -> list[dict[str, Tensor]]:
        """Both stages and ``decode``, which explains the options."""
        outputs = self(images)
        found = self.propose(outputs)
        return decode(
            *self.second(outputs, found),
            found,
            outputs.size,
            least=least,
            iou=iou,
            most=most,
        )


def loss(
    net: FasterRCNN,
    outputs: Outputs,
    truth: Mapping[str, Tensor],
    *,
    generator: Generator,
) -> dict[str, Tensor]:
    """Both stages' losses, added.

    Args:
        net: runs its second stage on a sample of its proposals.
        outputs: of ``net``.
        truth: ``boxes`` (b, k, 4) in pixels, ``labels`` (b, k) from 0 and ``valid`` (b,
            k).
        generator: of the samples; on the CPU.

    Returns:
        ``loss``, ``objectness``, ``rpn_box``, ``class`` and ``box``.
    """
    scores, codes, reference = outputs.scores, outputs.codes, torch.cat(outputs.anchors)
    parts = rpn_loss(
        scores, codes, reference, truth, generator=generator, count=net.anchors_each
    )
    wanted = regions(
        net.propose(outputs), truth, generator=generator, count=net.regions_each
    )
    parts |= head_loss(*net.second(outputs, wanted.boxes), wanted)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def tiny(*, pool: Pool = align, **overrides: object) -> FasterRCNN:
    """The book's scale: images of 64x64, maps of stride 4 and 8."""
    blocks = (1, 1, 1)
    trunk = Trunk(
        resnet.ResNet(blocks=blocks, widths=(16, 32, 64), stem_stride=2), blocks, skip=1
    )
    settings: dict = {
        "channels": 32,
        "sides": ((12,), (22,)),
        "extra": False,
        "hidden": (96,),
        "patch": 5,
    }
    settings |= {
        "canonical": (24, 1),
        "anchors_each": 64,
        "regions_each": 24,
        "before": (100, 100),
        "after": (50, 50),
    }
    settings |= {"num_classes": 10}
    return FasterRCNN(trunk, pool=pool, **(settings | overrides))


def paper(*, pool: Pool = align, **overrides: object) -> FasterRCNN:
    """The standard scale: ResNet-50 and a pyramid of five levels, for COCO."""
    trunk = Trunk(resnet.imagenet(50, stride_on_3x3=True), resnet.IMAGENET[50])
    settings: dict = {
        "channels": 256,
        "sides": tuple((32 << k,) for k in range(5)),
        "extra": True,
        "patch": 7,
    }
    settings |= {"hidden": (1024, 1024), "canonical": (224, 2), "num_classes": 90}
    return FasterRCNN(trunk, pool=pool, **(settings | overrides))
