"""Detect to Track and Track to Detect.

Christoph Feichtenhofer, Axel Pinz, Andrew Zisserman. ICCV 2017, arXiv 1710.03958.
Official code: feichtenhofer/Detect-Track.

Idea: a detector that sees two frames at once also answers where each of its boxes goes;
the boxes of all frames are then linked along these answers, and the sure frames of an
object speak for its unsure ones.

Differs:
    1. Regions for the loss are sampled as in Faster R-CNN; the released code keeps the
       128 of highest loss (OHEM) and divides the box loss by 256.
    2. Proposals come from the same trunk (its conv4), trained with the rest, where the
       released code reads those of a separate net. The proposal net's layer is as wide
       as conv4 here.
    3. PS-RoIAlign, which rounds nothing, for PS-RoIPool.
    4. A path follows tracklets only (``link(jump=False)``): it starts and ends where
       they do, so that an object may enter and leave. In the released code every path
       runs through all frames of the video, and linking stops when a frame has no box
       left; ``jump=True`` does the former.
    5. The tracklets that count are those of the detections, each read from its own box,
       not those of all proposals.
    6. A region's tracking target is the code from the *region* to the object's next
       box, which the released code can do; the paper writes it from the object's box,
       and the released training script does so.
    7. The released test keeps 25 boxes of a class in a frame and averages them by
       voting.

Guessed:
    The codes of tracking have deviations of 1 (motions are large), those of the
    detector Faster R-CNN's; smooth L1 has its beta. Correlations are divided by the
    number of channels, as by FlowNet's layer. The anchors at the paper's size.

Example:
    >>> outputs = tiny()(torch.rand(1, 2, 3, 64, 64))
    >>> boxes = [[[[8, 8, 30, 30]], [[10, 8, 32, 30]]]]
    >>> truth = {"boxes": boxes, "labels": [[[3], [3]]], "valid": [[[1], [1]]]}
    >>> sorted(loss(outputs, truth))
    ['box', 'class', 'loss', 'objectness', 'rpn_box', 'track']
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, clip_boxes_to_image

from papernets_lite.backbones import resnet
from papernets_lite.detection import faster_rcnn
from papernets_lite.layers.init import he_init_
from papernets_lite.layers.pyramid import strides
from papernets_lite.ops import boxes as coding
from papernets_lite.ops.checks import at_least, expect
from papernets_lite.ops.pooling import vote

REACH = 8  # d of Eq. 4, in cells
# of the correlation on conv3, conv4 and conv5: conv3 is twice as fine
STEPS = (2, 1, 1)
OVERLAP = 0.5  # of a tracklet's ends with the boxes it joins


def correlation(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "_ _ _ _"],
    *,
    reach: int = REACH,
    step: int = 1,
) -> Float[Tensor, "b n k l"]:
    """How each place of ``first`` resembles the places around it in ``second`` (Eq. 4).

    Args:
        first: a map of the first frame.
        second: one of the second frame; outside it is zero.
        reach: largest displacement down and across, in cells.
        step: of the places and of the displacements.

    Returns:
        One channel for each displacement, row by row: (2 ``reach`` / ``step`` + 1)
        squared.

    Raises:
        ValueError: for maps of unequal shapes, or a reach that is no multiple of the
            step.
    """
    expect(first.shape == second.shape, "equal maps", first.shape, second.shape)
    fits = step > 0 and reach >= 0 and reach % step == 0
    expect(fits, "a reach that is a multiple of the step", reach, step)
    here = first[:, :, ::step, ::step]
    padded = functional.pad(second, (reach, reach, reach, reach))
    # every place with every place, ...
    products = here.flatten(2).transpose(1, 2) @ padded.flatten(2)
    # ... of which each keeps its window: (rows, columns, p, q)
    places = torch.arange(padded[0, 0].numel(), device=first.device)
    window = places.view(padded.shape[-2:])
    for axis in (0, 1):
        window = window.unfold(axis, 2 * reach + 1, step)[..., ::step]
    window = window.flatten(2).flatten(0, 1).expand(len(first), -1, -1)
    found = products.gather(2, window)
    return rearrange(found, "b (h w) n -> b n h w", h=here.shape[2])


def neighbours(
    maps: Float[Tensor, "bt c h w"], frames: int
) -> Float[Tensor, "bs d h w"]:
    """Each frame's map and the next one's, as channels; ``frames`` of each video."""
    video = maps.unflatten(0, (-1, frames))
    return torch.cat([video[:, :-1], video[:, 1:]], 2).flatten(0, 1)


class TrackMaps(nn.Module):
    """The third set of position-sensitive maps: where boxes go, from what the maps of
    two frames say.

    Args:
        codes: box maps of a frame; as many are made.
        reach: of the correlations on conv4 and conv5, in cells, and on conv3 in its own
            cells.
        sees: what they are made from: both frames' ``"boxes"``, ``"correlations"``, or
            (the paper) both.

    Raises:
        ValueError: for something else in ``sees``, or nothing; for a reach that a step
            does not divide.
    """

    def __init__(
        self,
        codes: int,
        *,
        reach: int = REACH,
        sees: Sequence[str] = ("boxes", "correlations"),
    ) -> None:
        super().__init__()
        known = sees and set(sees) <= {"boxes", "correlations"}
        expect(known, "'boxes', 'correlations' or both", sees)
        fits = reach >= 0 and all(reach % step == 0 for step in STEPS)
        expect(fits, f"a reach that is a multiple of {max(STEPS)}", reach)
        self.reach, self.sees = reach, sees
        seen = 0
        if "boxes" in sees:
            seen += 2 * codes
        if "correlations" in sees:
            seen += sum((2 * (reach // step) + 1) ** 2 for step in STEPS)
        self.answer = nn.Conv2d(seen, codes, 1)

    def forward(
        self,
        boxes: Float[Tensor, "bt c h w"],
        maps: Sequence[Float[Tensor, "bt _ _ _"]],
        frames: int,
    ) -> Float[Tensor, "bs c h w"]:
        """Of each frame with the next one.

        Args:
            boxes: box maps of every frame.
            maps: of conv3, conv4 and conv5.
            frames: of each video.
        """
        seen = []
        if "boxes" in self.sees:
            seen.append(neighbours(boxes, frames))
        if "correlations" in self.sees:
            for x, step in zip(maps[-3:], STEPS, strict=True):
                now, then = neighbours(x, frames).chunk(2, 1)
                alike = correlation(now, then, reach=self.reach, step=step)
                seen.append(alike / x.shape[1])
        return self.answer(torch.cat(seen, 1))


def dilated(trunk: resnet.Stages, by: int) -> resnet.Stages:
    """The trunk, changed in place: its last stage keeps its input's size, with no
    stride and its 3x3 taps ``by`` cells apart ("a trous")."""
    for conv in trunk.stages[-1].modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
            if conv.kernel_size[0] > 1:
                conv.dilation = conv.padding = (by, by)
    return trunk


@dataclass(frozen=True)
class Counts:
    """How much of an image is kept and sampled."""

    # proposals before suppression and after it
    before: int = 6000
    after: int = 300
    # sampled for the losses
    anchors: int = 256
    regions: int = 128


PAPER = Counts()


@dataclass(frozen=True)
class Outputs:
    """What the convolutions say about b videos of t frames: all that is read for boxes
    lies here."""

    scores: Float[Tensor, "bt n"]  # of the proposal net, frame by frame
    codes: Float[Tensor, "bt n 4"]
    anchors: Float[Tensor, "n 4"]
    proposals: list[Tensor]  # of each frame
    classes: Float[Tensor, "bt c h w"]
    boxes: Float[Tensor, "bt d h w"]
    tracks: Float[Tensor, "bs d h w"]  # of the s = t - 1 pairs of neighbouring frames
    bins: int  # of a box, down and across
    stride: int  # of these maps, in pixels
    frames: int  # t
    size: tuple[int, int]  # of the images (height, width)
    counts: Counts

    @property
    def num_classes(self) -> int:
        """Without the background."""
        return self.classes.shape[1] // self.bins**2 - 1

    def firsts(self, of_frames: Sequence[Any]) -> list[Any]:
        """Of what belongs to frames, that of every frame but each video's last."""
        return [one for k, one in enumerate(of_frames, 1) if k % self.frames]

    def second(
        self, boxes: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k 4"]]:
        """Logits, the background's first, and codes, the same for each class.

        Args:
            boxes: of every frame, xyxy in pixels.
        """
        logits = vote(self.classes, boxes, bins=self.bins, stride=self.stride)
        codes = vote(self.boxes, boxes, bins=self.bins, stride=self.stride)
        return logits, codes[:, None, -4:].expand(-1, logits.shape[1], -1)

    def track(self, boxes: Sequence[Tensor]) -> Float[Tensor, "n 4"]:
        """RoI tracking: codes of where boxes go in the next frame.

        Args:
            boxes: of every frame but each video's last, xyxy in pixels.
        """
        codes = vote(self.tracks, boxes, bins=self.bins, stride=self.stride)
        return codes[:, -4:]


class DetectAndTrack(nn.Module):
    """R-FCN on each frame, and a third set of position-sensitive maps from pairs of
    frames.

    Args:
        trunk: images -> maps of conv3, conv4 and conv5; the last two of one size, see
            ``dilated``.
        num_classes: without the background.
        sides: of the anchors, in pixels.
        channels: of the layer between the trunk and the maps.
        dilation: of that layer.
        bins: of a box, down and across.
        kinds: codes of each box; the last counts. The released nets have one for the
            background too.
        counts: proposals kept, anchors and regions sampled.
        tracking: for ``TrackMaps``: ``reach`` and ``sees``.

    Raises:
        ValueError: for no classes, bins or codes, or what ``TrackMaps`` refuses.
    """

    def __init__(
        self,
        *,
        trunk: resnet.Stages,
        num_classes: int,
        sides: Sequence[float],
        channels: int,
        dilation: int,
        bins: int,
        kinds: int = 1,
        counts: Counts = PAPER,
        **tracking: Any,
    ) -> None:
        super().__init__()
        at_least(1, num_classes=num_classes, bins=bins, kinds=kinds)
        self.trunk, self.sides, self.bins, self.counts = trunk, sides, bins, counts
        self.stride = strides(trunk.stem, trunk.stages)[-1]
        wide, maps, codes = trunk.channels, bins**2, 4 * kinds * bins**2
        self.rpn = faster_rcnn.RPN(wide[-2], len(sides) * len(faster_rcnn.RATIOS))
        taps: dict = {"kernel_size": 3, "padding": dilation, "dilation": dilation}
        self.last = nn.Conv2d(wide[-1], channels, **taps)
        self.classes = nn.Conv2d(channels, (num_classes + 1) * maps, 1)
        self.boxes = nn.Conv2d(channels, codes, 1)
        self.tracks = TrackMaps(codes, **tracking)
        self.start()

    def start(self) -> None:
        """Draw the first weights: small ones where answers are given."""
        he_init_(self)
        rpn, maps = self.rpn, (self.classes, self.boxes, self.tracks.answer)
        for layer in (rpn.score, rpn.code, *maps):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Outputs:
        """All maps of every frame, the tracking maps of each frame with the next, and
        proposals.

        Raises:
            ValueError: for no videos, or fewer than two frames.
        """
        some = frames.numel() and frames.shape[1] > 1
        expect(some, "at least one video of two frames", frames.shape)
        count, size = frames.shape[1], (frames.shape[-2], frames.shape[-1])
        maps = self.trunk(frames.flatten(0, 1))
        seen = self.last(maps[-1]).relu()
        boxes = self.boxes(seen)
        return Outputs(
            *self.propose(maps[-2], size),
            classes=self.classes(seen),
            boxes=boxes,
            tracks=self.tracks(boxes, maps, count),
            bins=self.bins,
            stride=self.stride,
            frames=count,
            size=size,
            counts=self.counts,
        )

    def propose(
        self, x: Float[Tensor, "bt c h w"], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """The proposal net on conv4: scores, codes, anchors and proposals.

        Args:
            x: conv4 of every frame.
            size: of the images (height, width).
        """
        scores, codes = self.rpn([x])
        shape = x.shape[-2], x.shape[-1]
        levels = faster_rcnn.anchors([shape], [self.stride], [self.sides])
        anchors = levels[0].to(scores)
        kept: dict = {"before": self.counts.before, "after": self.counts.after}
        found = faster_rcnn.proposals(scores, codes, [anchors], size, **kept)
        return scores, codes, anchors, found

    @torch.no_grad()
    def detect(
        self, frames: Float[Tensor, "b t 3 h w"], **thresholds: Any
    ) -> list[list[dict[str, Tensor]]]:
        """All stages and ``decode``, which explains the thresholds."""
        return decode(self(frames), **thresholds)


def track_targets(
    found: Sequence[Tensor], now: Mapping[str, Tensor], then: Mapping[str, Tensor]
) -> tuple[list[Float[Tensor, "_ 4"]], Float[Tensor, "n 4"]]:
    """Which regions are tracked in training, and what they shall answer.

    Args:
        found: proposals of each first frame; the true boxes are added to them.
        now: ``boxes`` (p, k, 4), xyxy in pixels, and ``valid`` (p, k) of the pairs'
            first frames.
        then: of their second frames; an object keeps its place k.

    Returns:
        The regions of each pair whose IoU with an object that is in both frames is at
        least 0.5, and their codes.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, or of other pairs.
    """
    now, then = coding.check_truth(now), coding.check_truth(then)
    counts = len(found), len(now["boxes"]), len(then["boxes"])
    expect(len(set(counts)) == 1, "proposals and truth of the same pairs", *counts)
    regions, wanted = [], []
    for pair, boxes in enumerate(found):
        both = now["valid"][pair] & then["valid"][pair]
        start = now["boxes"][pair][both].to(boxes)
        end = then["boxes"][pair][both].to(boxes)
        boxes = torch.cat([boxes, start])
        iou = box_iou(start, boxes)
        owner = coding.assign(iou, foreground=OVERLAP, background=OVERLAP)
        boxes, owner = boxes[owner >= 0], owner[owner >= 0]
        regions.append(boxes)
        wanted.append(coding.encode(end[owner], boxes))
    return regions, torch.cat(wanted)


def pairs(truth: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
    """The truth of every frame but each video's last, and that of the frames after.

    Args:
        truth: of videos, (b, t, ...).
    """
    now = {name: values[:, :-1].flatten(0, 1) for name, values in truth.items()}
    then = {name: values[:, 1:].flatten(0, 1) for name, values in truth.items()}
    return now, then


def loss(
    outputs: Outputs,
    batch: Mapping[str, Any],
    *,
    generator: Generator | None = None,
    tracking: float = 1.0,
) -> dict[str, Tensor]:
    """Eq. 1: the detector's losses on every frame, and the tracking loss on every pair
    of neighbours.

    Args:
        outputs: of the net; a sample of its proposals is read.
        batch: ``boxes`` (b, t, k, 4), xyxy in pixels, ``labels`` (b, t, k) from 0 and
            ``valid`` (b, t, k); an object keeps its place k.
        generator: of the samples; on the CPU.
        tracking: weight of the tracking loss.

    Returns:
        ``loss``, ``objectness``, ``rpn_box``, ``class``, ``box`` and ``track``.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, such as one with a box
            that has left the image and has no area; or of other videos.
    """
    truth = coding.check_truth(batch, outputs.num_classes)
    found, frames, counts = outputs.proposals, outputs.frames, outputs.counts
    came, videos = tuple(truth["valid"].shape[:2]), len(found) // frames
    expect(came == (videos, frames), f"{videos} videos of {frames} frames", came)
    every = {name: values.flatten(0, 1) for name, values in truth.items()}
    answers = outputs.scores, outputs.codes, outputs.anchors, every
    parts = faster_rcnn.rpn_loss(*answers, generator=generator, count=counts.anchors)
    drawn = faster_rcnn.regions(found, every, generator=generator, count=counts.regions)
    parts |= faster_rcnn.head_loss(*outputs.second(drawn.boxes), drawn)
    detector = torch.stack(list(parts.values())).sum()
    regions, codes = track_targets(outputs.firsts(found), *pairs(truth))
    distance = faster_rcnn.smooth_l1(outputs.track(regions), codes)
    track = distance / max(1, len(codes))
    return {"loss": detector + tracking * track, **parts, "track": track}


def follow(outputs: Outputs, boxes: Sequence[Tensor]) -> list[Tensor]:
    """Where boxes go in the next frame.

    Args:
        outputs: of the net.
        boxes: of every frame but each video's last, xyxy in pixels.

    Returns:
        As many boxes, cut to the image.
    """
    moved = coding.decode(outputs.track(boxes), torch.cat(list(boxes)))
    moved = clip_boxes_to_image(moved, list(outputs.size))
    return list(moved.split([len(box) for box in boxes]))


@torch.no_grad()
def decode(
    outputs: Outputs, *, least: float = 0.05, iou: float = 0.4, most: int = 100
) -> list[list[dict[str, Tensor]]]:
    """Detections of every frame of every video, as ``faster_rcnn.detections`` gives
    them, and their tracklets.

    Args:
        outputs: of the net, in evaluation mode.
        least: weaker answers are dropped.
        iou: of two boxes of a class that overlap by more, the weaker is dropped.
        most: kept for each frame.

    Returns:
        ``boxes``, ``scores``, ``labels``, and ``next`` (m, 4): where each box goes;
        none in a last frame.
    """
    thresholds: dict = {"least": least, "iou": iou, "most": most}
    answers = outputs.second(outputs.proposals)
    seen = faster_rcnn.detections(
        *answers, outputs.proposals, outputs.size, **thresholds
    )
    followed = outputs.firsts(seen)
    ends = follow(outputs, [one["boxes"] for one in followed])
    for one, end in zip(followed, ends, strict=True):
        one["next"] = end
    for one in seen:
        one.setdefault("next", one["boxes"][:0])
    starts = range(0, len(seen), outputs.frames)
    return [seen[k : k + outputs.frames] for k in starts]


def joined(
    boxes: Float[Tensor, "n 4"],
    after: Float[Tensor, "m 4"],
    start: Float[Tensor, "k 4"],
    end: Float[Tensor, "k 4"],
) -> Bool[Tensor, "n m"]:
    r""":math:`\phi` of Eq. 5: is there a tracklet that begins in this box and ends in
    that one?

    Args:
        boxes: detections of a frame, xyxy in pixels.
        after: those of the next.
        start: where the tracklets begin.
        end: where they end.

    Raises:
        ValueError: for unequally many starts and ends.
    """
    expect(len(start) == len(end), "as many starts as ends", len(start), len(end))
    begins = box_iou(boxes, start) > OVERLAP
    ends = box_iou(end, after) > OVERLAP
    return begins.float() @ ends.float() > 0


def best_path(links: Sequence[Float[Tensor, "_ _"]]) -> list[tuple[int, int]]:
    """Viterbi: the path along which the links' scores add up to most.

    Args:
        links: for each frame but the last, the score of going from its box i to box j
            of the next; ``-inf`` where that is not allowed. A path may start and end in
            any frame.

    Returns:
        (frame, box) along the path; empty when no link is worth more than nothing.
    """
    if not links:
        return []  # a video of one frame
    total = [links[0].new_zeros(len(links[0]))]
    # the box before on the best path to this one, or -1 where it begins here
    back = [total[0].long() - 1]
    for score in links:
        begun = score.new_zeros(1, score.shape[1])  # to begin here
        best = torch.cat([begun, total[-1][:, None] + score]).max(0)
        total.append(best.values)
        back.append(best.indices - 1)
    peaks = [one.max().item() if len(one) else 0.0 for one in total]
    frame = peaks.index(max(peaks))
    if peaks[frame] <= 0:
        return []
    path, box = [], int(total[frame].argmax())
    while box >= 0:
        path.append((frame, box))
        frame, box = frame - 1, int(back[frame][box])
    return path[::-1]


def rescore(scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The scores of a tube's boxes, plus the mean of the better half of them."""
    return scores + scores.topk(math.ceil(len(scores) / 2)).values.mean()


def link(
    found: Sequence[Mapping[str, Tensor]], *, bonus: float = 1.0, jump: bool = False
) -> list[dict[str, Tensor]]:
    r"""Link a video's detections into tubes, class by class, best tube first, and
    rescore them.

    :math:`s(D_i^t, D_j^{t + \tau}) = p_i^t + p_j^{t + \tau} + \phi` (Eq. 5).

    Args:
        found: for each frame ``boxes``, ``scores``, ``labels`` and ``next``, of
            ``DetectAndTrack.detect``.
        bonus: worth of a tracklet.
        jump: allow links without a tracklet.

    Returns:
        The same boxes with new ``scores`` and with ``tubes``, the number of each box's
        tube.

    Raises:
        ValueError: for no frame, boxes that ``check_boxes`` refuses, scores that are
            not finite, or unequally many of them in a frame.
    """
    found = [_checked(one, last=k == len(found)) for k, one in enumerate(found, 1)]
    expect(found, "at least one frame", len(found))
    scores = [one["scores"].clone() for one in found]
    tubes = [torch.full_like(one["labels"], -1) for one in found]
    count = 0
    for label in torch.cat([one["labels"] for one in found]).unique().tolist():
        mine = [(one["labels"] == label).nonzero()[:, 0] for one in found]
        links = [
            _links(*frames, *rows, bonus=bonus, jump=jump)
            for frames, rows in zip(pairwise(found), pairwise(mine), strict=True)
        ]
        while path := best_path(links):
            where = [(frame, int(mine[frame][row])) for frame, row in path]
            own = torch.stack([found[frame]["scores"][box] for frame, box in where])
            for (frame, box), score in zip(where, rescore(own), strict=True):
                scores[frame][box], tubes[frame][box] = score, count
            for frame, row in path:
                if frame:
                    links[frame - 1][:, row] = -math.inf
                if frame < len(links):
                    links[frame][row] = -math.inf
            count += 1
    linked = []
    for one, score, tube in zip(found, scores, tubes, strict=True):
        alone = tube < 0
        score[alone] *= 2  # a tube of one box
        left = int(alone.sum())
        tube[alone] = torch.arange(count, count + left, device=tube.device)
        count += left
        boxes, labels = one["boxes"].clone(), one["labels"].clone()
        linked.append(
            {"boxes": boxes, "labels": labels, "scores": score, "tubes": tube}
        )
    return linked


def nearest(
    found: Sequence[Mapping[str, Tensor]], *, reach: float, moved: bool = False
) -> list[dict[str, Tensor]]:
    """Let a box go to the box of its class in the next frame whose centre is nearest;
    what a tracker without a net does.

    Args:
        found: a video's detections, as ``link`` takes them.
        reach: of the search, in pixels; a box that has none so near keeps its place.
        moved: search around where the box goes, not where it is.

    Returns:
        The same boxes with other ``next``.
    """
    sent = []
    for now, then in pairwise(found):
        ends = now["next" if moved else "boxes"].clone()
        apart = torch.cdist(_centres(ends), _centres(then["boxes"]))
        apart[now["labels"][:, None] != then["labels"]] = math.inf
        if len(then["boxes"]):
            least = apart.min(1)
            near = least.values <= reach
            ends[near] = then["boxes"][least.indices[near]]
        sent.append({**now, "next": ends})
    return [*sent, dict(found[-1])]


def _centres(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n 2"]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _checked(one: Mapping[str, Tensor], *, last: bool) -> dict[str, Tensor]:
    """A frame of ``link``'s input."""
    boxes = coding.check_boxes(one["boxes"], thin=True)
    ends = coding.check_boxes(one["next"], "boxes in `next`", thin=True)
    counts = len(boxes), len(one["scores"]), len(one["labels"])
    expect(len(set(counts)) == 1, "a score and a label for every box", *counts)
    expect(last or len(ends) == len(boxes), f"{len(boxes)} in `next`", len(ends))
    scores = coding.floating(one["scores"])
    expect(scores.isfinite().all(), "finite scores", scores.tolist())
    return {"boxes": boxes, "scores": scores, "labels": one["labels"], "next": ends}


def _links(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    i: Tensor,
    j: Tensor,
    *,
    bonus: float,
    jump: bool,
) -> Float[Tensor, "n m"]:
    """Eq. 5 for the boxes i of a frame and j of the next."""
    phi = joined(a["boxes"][i], b["boxes"][j], a["boxes"], a["next"])
    both = a["scores"][i][:, None] + b["scores"][j] + bonus * phi
    return both if jump else both.masked_fill(~phi, -math.inf)


# How the map of the net calls its parts.
BLOCKS = {
    "trunk.stem": "stem",
    "trunk.stages.*": "stage *",
    "rpn": "RPN",
    "last": "last layer",
    "classes": "classes",
    "boxes": "boxes",
    "tracks": "tracks",
}


def tiny(**overrides: object) -> DetectAndTrack:
    """The book's scale: frames of 64x64, maps of stride 2, 4 and 4, boxes of 3x3
    bins."""
    blocks = (1, 1, 1)
    net = resnet.ResNet(blocks=blocks, widths=(16, 32, 64), stem_stride=2)
    settings: dict = {
        "trunk": dilated(resnet.Stages(net, blocks), by=1),
        "num_classes": 8,
        "sides": (12, 20),
        "channels": 64,
        "dilation": 1,
        "bins": 3,
        "reach": 4,
        "counts": Counts(before=100, after=40, anchors=64, regions=32),
    }
    return DetectAndTrack(**(settings | overrides))


def paper(**overrides: object) -> DetectAndTrack:
    """The paper's scale: ResNet-101 for ImageNet VID."""
    trunk = resnet.Stages(resnet.imagenet(101), resnet.IMAGENET[101], skip=1)
    settings: dict = {
        "trunk": dilated(trunk, by=2),
        "num_classes": 30,
        "sides": (32, 64, 128, 256, 512),
        "channels": 512,
        "dilation": 6,
        "bins": 7,
        "kinds": 2,
    }
    return DetectAndTrack(**(settings | overrides))
