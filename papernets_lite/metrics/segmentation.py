"""Objects in segmentations: which were found, and which were melted into one."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy import ndimage
from torch import Tensor

from papernets_lite.ops.checks import expect


def components(mask: Bool[Tensor, "*b h w"]) -> Int[Tensor, "*b h w"]:
    """Connected pieces of each mask, numbered from 1 on; pixels are connected by their
    sides, not their corners."""
    flat = mask.detach().cpu().numpy().reshape(-1, *mask.shape[-2:])
    pieces = [ndimage.label(one)[0] for one in flat]
    return torch.from_numpy(np.stack(pieces).reshape(mask.shape).astype(np.int64))


def overlaps(
    found: Int[Tensor, "h w"], truth: Int[Tensor, "h w"]
) -> Int[np.ndarray, "f t"]:
    """Pixels that found object i shares with true object j; row and column 0 are the
    background's."""
    rows, columns = int(found.max()) + 1, int(truth.max()) + 1
    both = found.cpu().long() * columns + truth.cpu().long()
    return (
        torch.bincount(both.flatten(), minlength=rows * columns)
        .reshape(rows, columns)
        .numpy()
    )


def object_scores(
    found: Sequence[Int[Tensor, "h w"]] | Int[Tensor, "n h w"],
    truth: Sequence[Int[Tensor, "h w"]] | Int[Tensor, "n h w"],
    *,
    iou: float = 0.5,
    least: int = 1,
) -> dict[str, float]:
    """How well objects are found, counted over all images together.

    Args:
        found: object numbers of each image, 0 for background.
        truth: the true ones.
        iou: a found and a true object match when their intersection over union exceeds
            it. From 0.5 on an object can match one other only.
        least: pixels; smaller objects are ignored: a true one counts neither as found
            nor as missed, a found one not as wrong.

    Returns:
        ``f1`` = 2 TP / (2 TP + FP + FN); ``precision``; ``recall``; ``merged``, the
        share of true objects that share a found object with another one, where an
        object belongs to the found one that covers more than half of it; ``iou``, of
        all objects' pixels against the background's. nan where there is nothing to
        count.

    Raises:
        ValueError: for another number of images, images of unequal size, or ``iou``
            outside [0.5, 1).
    """
    alike = [a.shape for a in found] == [b.shape for b in truth]
    expect(alike, "as many images of the same sizes", len(found), len(truth))
    expect(0.5 <= iou < 1, "0.5 <= iou < 1", iou)
    hits = wrong = true = melted = both = either = 0
    for one, other in zip(found, truth, strict=True):
        table = overlaps(one, other)
        both, either = (
            both + int(table[1:, 1:].sum()),
            either + int(table.sum() - table[0, 0]),
        )
        areas, sizes = table.sum(1)[1:], table.sum(0)[1:]
        shared, counts = table[1:, 1:], sizes >= least
        match = shared > iou * (areas[:, None] + sizes - shared)
        hits += int((match.any(0) & counts).sum())
        wrong += int((~match.any(1) & (areas >= least)).sum())
        true += int(counts.sum())
        belongs = (2 * shared > sizes) & counts
        melted += int(belongs[belongs.sum(1) > 1].sum())
    return {
        "f1": _share(2 * hits, hits + wrong + true),
        "precision": _share(hits, hits + wrong),
        "recall": _share(hits, true),
        "merged": _share(melted, true),
        "iou": _share(both, either),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
