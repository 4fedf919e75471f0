"""Do boxes keep their object? Identity switches, as CLEAR MOT counts them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from papernets_lite.ops.boxes import check_boxes, check_truth
from papernets_lite.ops.checks import expect
from papernets_lite.ops.matching import optimal


def identity_switches(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    *,
    iou: float = 0.5,
    least: float | None = None,
) -> dict[str, int]:
    """How often an object is followed under a new name (Bernardin and Stiefelhagen,
    2008).

    Frame by frame, an object keeps the tube that covered it when last seen, if a box of
    that tube still overlaps it by at least ``iou``; the other objects and boxes are
    then matched one to one for the largest sum of overlaps. Labels do not count.

    Args:
        found: for each frame of one video ``boxes`` (n, 4) in xyxy pixels and
            ``tubes`` (n,), the number of each box's tube; ``scores`` (n,) where there
            is a ``least``.
        truth: ``boxes`` (t, k, 4) in xyxy pixels and ``valid`` (t, k); an object keeps
            its place k.
        iou: overlap that counts, above 0.
        least: only boxes whose score is above it count; None: all.

    Returns:
        ``switches``: objects matched to another tube than when last matched.
        ``matched``: objects with a box, over all frames. ``objects``: objects, over all
        frames.

    Raises:
        ValueError: for another number of frames; for what ``check_truth`` refuses; for
            boxes that are not finite, or as many tubes as boxes are not given.
    """
    checked = check_truth(truth)
    frames = len(checked["boxes"])
    expect(len(found) == frames, f"detections for {frames} frames", len(found))
    expect(iou > 0, "an overlap above 0", iou)
    known: dict[int, int] = {}  # object -> tube
    switches = matched = 0
    for frame, one in enumerate(found):
        valid = checked["valid"][frame]
        there, tubes = valid.nonzero()[:, 0].tolist(), one["tubes"].tolist()
        seen = check_boxes(one["boxes"], f"boxes of frame {frame}", thin=True)
        expect(len(seen) == len(tubes), f"{len(seen)} tubes", len(tubes))
        if least is not None:
            sure = (one["scores"] > least).nonzero()[:, 0].tolist()
            seen, tubes = seen[sure], [tubes[place] for place in sure]
        overlap = box_iou(checked["boxes"][frame][valid], seen)
        overlap = torch.where(overlap >= iou, overlap, 0.0)
        kept = []
        for row, k in enumerate(there):
            if known.get(k) not in tubes:
                continue
            column = tubes.index(known[k])
            if overlap[row, column] > 0:
                kept.append((row, column))
        for row, column in kept:
            overlap[row], overlap[:, column] = 0, 0
        for row, column in kept + optimal(overlap):
            switches += known.get(there[row], tubes[column]) != tubes[column]
            known[there[row]] = tubes[column]
            matched += 1
    objects = int(checked["valid"].sum())
    return {"switches": switches, "matched": matched, "objects": objects}
