"""Do boxes keep their object? Identity switches, as CLEAR MOT counts them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from papernets_lite.ops.checks import expect
from papernets_lite.ops.matching import optimal


def identity_switches(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    *,
    iou: float = 0.5,
) -> dict[str, int]:
    """How often an object is followed under a new name (Bernardin and Stiefelhagen,
    2008).

    Frame by frame, an object keeps the tube that covered it when last seen, if a box of
    that tube still overlaps it by at least ``iou``; the other objects and boxes are
    then matched one to one for the largest sum of overlaps. Labels and scores do not
    count: leave out weak boxes beforehand.

    Args:
        found: for each frame of one video ``boxes`` (n, 4) and ``tubes`` (n,), the
            number of each box's tube.
        truth: ``boxes`` (t, k, 4) and ``valid`` (t, k); an object keeps its place k.
        iou: overlap that counts.

    Returns:
        ``switches``: objects matched to another tube than when last matched.
        ``matched``: objects with a box, over all frames. ``objects``: objects, over all
        frames.

    Raises:
        ValueError: for another number of frames.
    """
    expect(
        len(found) == len(truth["boxes"]),
        f"detections for {len(truth['boxes'])} frames",
        len(found),
    )
    known: dict[int, int] = {}  # object -> tube
    switches = matched = 0
    for one, boxes, valid in zip(found, truth["boxes"], truth["valid"], strict=True):
        there, tubes = valid.nonzero()[:, 0].tolist(), one["tubes"].tolist()
        overlap = box_iou(boxes[valid], one["boxes"])
        overlap = torch.where(overlap >= iou, overlap, 0.0)
        kept = [
            (row, tubes.index(known[k]))
            for row, k in enumerate(there)
            if known.get(k) in tubes and overlap[row, tubes.index(known[k])] > 0
        ]
        for row, column in kept:
            overlap[row], overlap[:, column] = 0, 0
        for row, column in kept + optimal(overlap):
            switches += known.get(there[row], tubes[column]) != tubes[column]
            known[there[row]] = tubes[column]
            matched += 1
    return {
        "switches": switches,
        "matched": matched,
        "objects": int(truth["valid"].sum()),
    }
