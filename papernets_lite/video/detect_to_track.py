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

Guessed:
    A region's tracking target is the code from the *region* to the object's next box,
    as in the released code; the paper writes it from the object's box. These codes have
    deviations of 1 (motions are large), those of the detector Faster R-CNN's; smooth L1
    has its beta. Correlations are divided by the number of channels, as by FlowNet's
    layer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, clip_boxes_to_image, ps_roi_align

from papernets_lite.backbones import resnet
from papernets_lite.detection import faster_rcnn
from papernets_lite.layers.init import he_init_
from papernets_lite.ops import boxes as coding
from papernets_lite.ops.checks import expect

REACH = 8  # d of Eq. 4, in cells
# of the correlation on conv3, conv4 and conv5: conv3 is twice as fine
STEPS = (2, 1, 1)
OVERLAP = 0.5  # of a tracklet's ends with the boxes it joins


def correlation(
    first: Float[Tensor, "b c h w"],
    second: Float[Tensor, "b c h w"],
    *,
    reach: int = REACH,
    step: int = 1,
) -> Float[Tensor, "b n k l"]:
    r"""How much each place of ``first`` resembles the places around it in ``second``.

    :math:`x(i, j, p, q) = \langle x^t(i, j), x^{t + \tau}(i + p, j + q) \rangle` (Eq.
    4); outside is zero.

    Args:
        first, second: maps of two frames.
        reach: largest displacement down and across, in cells.
        step: of the places and of the displacements.

    Returns:
        One channel for each displacement, row by row: (2 ``reach`` / ``step`` + 1)
        squared.
    """
    padded = functional.pad(second, (reach, reach, reach, reach))
    here = first[:, :, ::step, ::step]
    # every place with every place, then the window
    products = here.flatten(2).transpose(1, 2) @ padded.flatten(2)
    offset = torch.arange(0, 2 * reach + 1, step, device=first.device)
    down, across = (
        step * torch.arange(n, device=first.device)[:, None] + offset
        for n in here.shape[-2:]
    )
    # (rows, columns, p, q)
    place = down[:, None, :, None] * padded.shape[-1] + across[None, :, None, :]
    window = products.gather(
        2, place.flatten(2).flatten(0, 1).expand(len(first), -1, -1)
    )
    return rearrange(window, "b (h w) n -> b n h w", h=len(down))


def dilate(stage: nn.Module, by: int = 2) -> None:
    """Let a stage keep its input's size, in place: no stride, and 3x3 taps ``by`` cells
    apart ("a trous")."""
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
            if conv.kernel_size[0] > 1:
                conv.dilation = conv.padding = (by, by)


def vote(
    maps: Float[Tensor, "b c h w"], boxes: Sequence[Tensor], *, bins: int, stride: float
) -> Float[Tensor, "n d"]:
    """Position-sensitive pooling (R-FCN): the bin in row i and column j of a box reads
    only maps made for that bin.

    Args:
        maps: ``bins`` squared maps for each of d answers, answer by answer.
        boxes: of each image, in pixels.
        bins: of a box, down and across.
        stride: of the maps, in pixels.

    Returns:
        The mean over the bins, each the mean of its own map inside the bin.
    """
    return ps_roi_align(maps, list(boxes), bins, 1 / stride, 2).mean((2, 3))


@dataclass(frozen=True)
class Outputs:
    """What the convolutions say about b videos of t frames: all that is read for boxes
    lies here."""

    scores: Float[Tensor, "bt n"]  # of the proposal net, frame by frame
    codes: Float[Tensor, "bt n 4"]
    anchors: Float[Tensor, "n 4"]
    classes: Float[Tensor, "bt c h w"]
    boxes: Float[Tensor, "bt d h w"]
    tracks: Float[Tensor, "bs d h w"]  # of the s = t - 1 pairs of neighbouring frames
    stride: float
    frames: int  # t
    size: tuple[int, int]  # of the images (height, width)


class DetectAndTrack(nn.Module):
    """R-FCN on each frame, and a third set of position-sensitive maps from pairs of
    frames.

    Args:
        trunk: images -> maps of conv3, conv4 and conv5, of which the last two are
            equally large.
        num_classes: without the background.
        sides: of the anchors, in pixels.
        channels: of the layer between the trunk and the maps.
        dilations: of conv5, and of that layer.
        bins: of a box, down and across.
        kinds: codes of each box; the last counts. The released nets have one for the
            background too.
        reach: of the correlations on conv4 and conv5, in cells, and on conv3 in its own
            cells.
        sees: what the tracking maps are made from: both frames' ``"boxes"``,
            ``"correlations"``, or (the paper) both.
        before, after: proposals before and after suppression, (in training, in test).
        anchors_each, regions_each: sampled in each image.

    Raises:
        ValueError: for something else in ``sees``, or nothing.
    """

    def __init__(
        self,
        trunk: faster_rcnn.Trunk,
        *,
        num_classes: int,
        sides: Sequence[float],
        channels: int,
        dilations: tuple[int, int],
        bins: int,
        kinds: int = 1,
        reach: int = REACH,
        sees: Sequence[str] = ("boxes", "correlations"),
        before: tuple[int, int] = (6000, 6000),
        after: tuple[int, int] = (300, 300),
        anchors_each: int = 256,
        regions_each: int = 128,
    ) -> None:
        super().__init__()
        expect(
            sees and set(sees) <= {"boxes", "correlations"},
            "'boxes', 'correlations' or both",
            sees,
        )
        self.trunk, self.sides, self.bins, self.reach, self.sees = (
            trunk,
            sides,
            bins,
            reach,
            sees,
        )
        dilate(trunk.stages[-1], dilations[0])
        self.rpn = faster_rcnn.RPN(
            trunk.channels[-2], len(sides) * len(faster_rcnn.RATIOS)
        )
        self.last = nn.Conv2d(
            trunk.channels[-1], channels, 3, padding=dilations[1], dilation=dilations[1]
        )
        codes = 4 * kinds * bins**2
        self.classes = nn.Conv2d(channels, (num_classes + 1) * bins**2, 1)
        self.boxes = nn.Conv2d(channels, codes, 1)
        matched = sum((2 * (reach // step) + 1) ** 2 for step in STEPS)
        self.tracks = nn.Conv2d(
            2 * codes * ("boxes" in sees) + matched * ("correlations" in sees), codes, 1
        )
        self.before, self.after, self.anchors_each, self.regions_each = (
            before,
            after,
            anchors_each,
            regions_each,
        )
        he_init_(self)
        for layer in (
            self.rpn.score,
            self.rpn.code,
            self.classes,
            self.boxes,
            self.tracks,
        ):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> Outputs:
        """All maps of every frame, and the tracking maps of each frame with the next.

        Raises:
            ValueError: for no videos, or fewer than two frames.
        """
        b, t, _, height, width = frames.shape
        expect(b and t > 1, "at least one video of two frames", frames.shape)
        maps = self.trunk(frames.flatten(0, 1))
        stride = width / maps[-1].shape[-1]
        reference = faster_rcnn.anchors([maps[-2].shape[-2:]], [stride], [self.sides])[
            0
        ].to(frames)
        scores, codes = self.rpn(maps[-2:-1])
        seen = self.last(maps[-1]).relu()
        boxes = self.boxes(seen)
        pairs = [self.pairs(boxes, t)] if "boxes" in self.sees else []
        if "correlations" in self.sees:
            pairs += [
                self.match(x, t, step) for x, step in zip(maps[-3:], STEPS, strict=True)
            ]
        tracks = self.tracks(torch.cat(pairs, 1))
        return Outputs(
            scores,
            codes,
            reference,
            self.classes(seen),
            boxes,
            tracks,
            stride,
            t,
            (height, width),
        )

    def pairs(
        self, maps: Float[Tensor, "bt c h w"], frames: int
    ) -> Float[Tensor, "bs d h w"]:
        """Each frame's map and the next one's, as channels."""
        video = maps.unflatten(0, (-1, frames))
        return torch.cat([video[:, :-1], video[:, 1:]], 2).flatten(0, 1)

    def match(
        self, maps: Float[Tensor, "bt c h w"], frames: int, step: int
    ) -> Float[Tensor, "bs n k l"]:
        """Each frame's map correlated with the next one's, per channel."""
        now, then = self.pairs(maps, frames).chunk(2, 1)
        return correlation(now, then, reach=self.reach, step=step) / maps.shape[1]

    def propose(self, outputs: Outputs) -> list[Tensor]:
        """Proposals of every frame."""
        before, after = (
            pair[0 if self.training else 1] for pair in (self.before, self.after)
        )
        found = outputs.scores, outputs.codes, [outputs.anchors], outputs.size
        return faster_rcnn.proposals(*found, before=before, after=after)

    def read(
        self, outputs: Outputs, boxes: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k 4"]]:
        """Logits, the background's first, and codes, the same for each class, for
        ``boxes`` of every frame."""
        logits = vote(outputs.classes, boxes, bins=self.bins, stride=outputs.stride)
        codes = vote(outputs.boxes, boxes, bins=self.bins, stride=outputs.stride)[
            :, None, -4:
        ]
        return logits, codes.expand(-1, logits.shape[1], -1)

    def track(self, outputs: Outputs, boxes: Sequence[Tensor]) -> Float[Tensor, "n 4"]:
        """RoI tracking: codes of where ``boxes`` (of every frame but each video's last)
        go in the next frame."""
        return vote(outputs.tracks, boxes, bins=self.bins, stride=outputs.stride)[
            :, -4:
        ]

    def follow(self, outputs: Outputs, boxes: Sequence[Tensor]) -> list[Tensor]:
        """``track``, as boxes in the next frame."""
        moved = coding.decode(self.track(outputs, boxes), torch.cat(list(boxes)))
        return list(
            clip_boxes_to_image(moved, list(outputs.size)).split(
                [len(box) for box in boxes]
            )
        )

    @torch.no_grad()
    def detect(
        self,
        frames: Float[Tensor, "b t 3 h w"],
        *,
        least: float = 0.05,
        iou: float = 0.4,
        most: int = 100,
    ) -> list[list[dict[str, Tensor]]]:
        """Detections of every frame of every video, as ``faster_rcnn.decode`` gives
        them, and their tracklets.

        Args:
            frames: the videos.
            least: weaker answers are dropped.
            iou: of two boxes of a class that overlap by more, the weaker is dropped.
            most: kept for each frame.

        Returns:
            ``boxes``, ``scores``, ``labels``, and ``next`` (m, 4): where each box goes;
            none in a last frame.
        """
        outputs = self(frames)
        found = self.propose(outputs)
        seen = faster_rcnn.decode(
            *self.read(outputs, found),
            found,
            outputs.size,
            least=least,
            iou=iou,
            most=most,
        )
        videos = [
            seen[k : k + outputs.frames] for k in range(0, len(seen), outputs.frames)
        ]
        moved = iter(
            self.follow(
                outputs, [one["boxes"] for video in videos for one in video[:-1]]
            )
        )
        ends = [
            [*(next(moved) for _ in video[:-1]), video[-1]["boxes"][:0]]
            for video in videos
        ]
        return [
            [a | {"next": b} for a, b in zip(*pair, strict=True)]
            for pair in zip(videos, ends, strict=True)
        ]


def track_targets(
    found: Sequence[Tensor], now: Mapping[str, Tensor], then: Mapping[str, Tensor]
) -> tuple[list[Float[Tensor, "_ 4"]], Float[Tensor, "n 4"]]:
    """Which regions are tracked in training, and what they shall answer.

    Args:
        found: proposals of each first frame; the true boxes are added to them.
        now, then: ``boxes`` (p, k, 4) and ``valid`` (p, k) of the pairs' first and
            second frames; an object keeps its place k.

    Returns:
        The regions of each pair whose IoU with an object that is in both frames is at
        least 0.5, and their codes.
    """
    regions, wanted = [], []
    for boxes, start, end, both in zip(
        found, now["boxes"], then["boxes"], now["valid"] & then["valid"], strict=True
    ):
        boxes = torch.cat([boxes, start[both]])
        owner = coding.assign(
            box_iou(start[both], boxes), foreground=OVERLAP, background=OVERLAP
        )
        boxes, owner = boxes[owner >= 0], owner[owner >= 0]
        regions.append(boxes)
        wanted.append(coding.encode(end[both][owner], boxes))
    return regions, torch.cat(wanted)


def loss(
    net: DetectAndTrack,
    outputs: Outputs,
    truth: Mapping[str, Tensor],
    *,
    generator: Generator,
    tracking: float = 1.0,
) -> dict[str, Tensor]:
    """Eq. 1: the detector's losses on every frame, and the tracking loss on every pair
    of neighbours.

    Args:
        net: reads a sample of its proposals.
        outputs: of ``net``.
        truth: ``boxes`` (b, t, k, 4) in pixels, ``labels`` (b, t, k) from 0 and
            ``valid`` (b, t, k).
        generator: of the samples; on the CPU.
        tracking: weight of the tracking loss.

    Returns:
        ``loss``, ``objectness``, ``rpn_box``, ``class``, ``box`` and ``track``.
    """
    every = {name: truth[name].flatten(0, 1) for name in ("boxes", "labels", "valid")}
    found = net.propose(outputs)
    first = outputs.scores, outputs.codes, outputs.anchors, every
    parts = faster_rcnn.rpn_loss(*first, generator=generator, count=net.anchors_each)
    wanted = faster_rcnn.regions(
        found, every, generator=generator, count=net.regions_each
    )
    parts |= faster_rcnn.head_loss(*net.read(outputs, wanted.boxes), wanted)
    start = [box for k, box in enumerate(found) if (k + 1) % outputs.frames]
    now, then = (
        {k: v[:, part].flatten(0, 1) for k, v in truth.items()}
        for part in (slice(-1), slice(1, None))
    )
    regions, codes = track_targets(start, now, then)
    parts["track"] = faster_rcnn.smooth_l1(net.track(outputs, regions), codes) / max(
        1, len(codes)
    )
    total = torch.stack(
        [
            tracking * value if name == "track" else value
            for name, value in parts.items()
        ]
    ).sum()
    return {"loss": total, **parts}


def joined(
    boxes: Float[Tensor, "n 4"],
    after: Float[Tensor, "m 4"],
    start: Float[Tensor, "k 4"],
    end: Float[Tensor, "k 4"],
) -> Bool[Tensor, "n m"]:
    r""":math:`\phi` of Eq. 5: is there a tracklet that begins in this box and ends in
    that one?

    Args:
        boxes, after: detections of a frame and of the next.
        start, end: the tracklets.
    """
    begins, ends = (box_iou(a, b) > OVERLAP for a, b in ((boxes, start), (end, after)))
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
    total = [links[0].new_zeros(len(links[0]))]
    # the box before on the best path to this one, or -1 where it begins here
    back = [total[0].long() - 1]
    for score in links:
        # in the first row: to begin here
        best = functional.pad(total[-1][:, None] + score, (0, 0, 1, 0)).max(0)
        total.append(best.values)
        back.append(best.indices - 1)
    peaks = [one.max().item() if len(one) else 0.0 for one in total]
    frame = max(range(len(peaks)), key=peaks.__getitem__)
    path, box = [], int(total[frame].argmax()) if peaks[frame] > 0 else -1
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
    """
    linked = [
        {name: one[name].clone() for name in ("boxes", "labels", "scores")}
        for one in found
    ]
    tubes = [torch.full_like(one["labels"], -1) for one in found]
    count = 0
    for label in torch.cat([one["labels"] for one in found]).unique().tolist():
        mine = [(one["labels"] == label).nonzero()[:, 0] for one in found]
        links = []
        for (a, i), (b, j) in pairwise(zip(found, mine, strict=True)):
            phi = joined(a["boxes"][i], b["boxes"][j], a["boxes"], a["next"])
            both = a["scores"][i][:, None] + b["scores"][j] + bonus * phi
            links.append(both if jump else both.masked_fill(~phi, -math.inf))
        while path := best_path(links):
            where = [(frame, int(mine[frame][box])) for frame, box in path]
            better = rescore(
                torch.stack([found[frame]["scores"][box] for frame, box in where])
            )
            for (frame, box), (_, row), score in zip(where, path, better, strict=True):
                linked[frame]["scores"][box], tubes[frame][box] = score, count
                if frame:
                    links[frame - 1][:, row] = -math.inf
                if frame < len(links):
                    links[frame][row] = -math.inf
            count += 1
    for one, tube in zip(linked, tubes, strict=True):
        alone = tube < 0
        one["scores"][alone] *= 2  # a tube of one box
        tube[alone] = torch.arange(count, count + int(alone.sum()), device=tube.device)
        count += int(alone.sum())
    return [one | {"tubes": tube} for one, tube in zip(linked, tubes, strict=True)]


def tiny(**overrides: object) -> DetectAndTrack:
    """The book's scale: frames of 64x64, maps of stride 2, 4 and 4, boxes of 3x3
    bins."""
    blocks = (1, 1, 1)
    trunk = faster_rcnn.Trunk(
        resnet.ResNet(blocks=blocks, widths=(16, 32, 64), stem_stride=2), blocks
    )
    settings: dict = {
        "num_classes": 8,
        "sides": (12, 20),
        "channels": 64,
        "dilations": (1, 1),
        "bins": 3,
        "reach": 4,
    }
    settings |= {
        "anchors_each": 64,
        "regions_each": 32,
        "before": (100, 100),
        "after": (40, 40),
    }
    return DetectAndTrack(trunk, **(settings | overrides))


def paper(**overrides: object) -> DetectAndTrack:
    """The paper's scale: ResNet-101 for ImageNet VID."""
    trunk = faster_rcnn.Trunk(resnet.imagenet(101), resnet.IMAGENET[101], skip=1)
    sides = tuple(32 << k for k in range(5))
    settings: dict = {
        "num_classes": 30,
        "sides": sides,
        "channels": 512,
        "dilations": (2, 6),
        "bins": 7,
        "kinds": 2,
    }
    return DetectAndTrack(trunk, **(settings | overrides))
