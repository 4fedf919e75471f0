"""Objects in segmentations: which were found, which were melted into one, and how well
their masks agree."""

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from scipy import ndimage
from torch import Tensor

from papernets_lite.ops.checks import (
    check_labels,
    check_mask,
    check_objects,
    check_same,
    expect,
)


def components(mask: Shaped[Tensor, "*b h w"]) -> Int[Tensor, "*b h w"]:
    """Connected pieces of each mask, numbered from 1 on; pixels are connected by their
    sides, not their corners.

    Args:
        mask: bool, or numbers that are all 0 or 1.

    Returns:
        The pieces' numbers, on the CPU; 0 outside.

    Raises:
        ValueError: for fewer than two dimensions, or another number.
    """
    expect(mask.ndim >= 2, "a mask (..., h, w)", mask.shape)
    inside = check_mask(mask).detach().cpu()
    pieces = np.zeros(mask.shape, dtype=np.int64)
    for place in np.ndindex(mask.shape[:-2]):
        pieces[place] = ndimage.label(inside[place].numpy())[0]
    return torch.from_numpy(pieces)


def overlaps(
    found: Integer[Tensor, "h w"], truth: Integer[Tensor, "h w"]
) -> Int[np.ndarray, "f t"]:
    """Pixels that found object i shares with true object j; row and column 0 are the
    background's.

    Args:
        found: numbers of objects, from 0 on: the table has a row for each up to the
            largest.
        truth: the true ones, of the same size.

    Raises:
        ValueError: for unequal sizes, no pixels, fractions, or negative numbers.
    """
    check_same(found, truth, "label maps")
    mine = check_objects(found, dims=2).cpu()
    true = check_objects(truth, dims=2).cpu()
    rows = int(mine.max()) + 1
    columns = int(true.max()) + 1
    pairs = (mine * columns + true).flatten()
    counts = torch.bincount(pairs, minlength=rows * columns)
    return counts.reshape(rows, columns).numpy()


def object_scores(
    found: Sequence[Integer[Tensor, "h w"]] | Integer[Tensor, "n h w"],
    truth: Sequence[Integer[Tensor, "h w"]] | Integer[Tensor, "n h w"],
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
        ValueError: for another number of images, images of unequal size or without a
            pixel, negative numbers or fractions, or ``iou`` outside [0.5, 1).
    """
    sizes = [one.shape for one in found]
    alike = sizes == [other.shape for other in truth]
    expect(alike, "as many images of the same sizes", len(found), len(truth))
    expect(0.5 <= iou < 1, "0.5 <= iou < 1", iou)
    total: Counter[str] = Counter()
    for one, other in zip(found, truth, strict=True):
        table = overlaps(_without_gaps(one), _without_gaps(other))
        total.update(_count(table, iou=iou, least=least))
    hits, wrong, true = total["hits"], total["wrong"], total["true"]
    return {
        "f1": share(2 * hits, hits + wrong + true),
        "precision": share(hits, hits + wrong),
        "recall": share(hits, true),
        "merged": share(total["melted"], true),
        "iou": share(total["both"], total["either"]),
    }


def class_scores(
    found: Integer[Tensor, "n h w"], truth: Integer[Tensor, "n h w"], num_classes: int
) -> dict[str, float]:
    """How well each pixel's class is read, counted over all images together.

    Args:
        found: classes that were read, 0 to ``num_classes - 1``.
        truth: the true ones.
        num_classes: how many there are.

    Returns:
        ``accuracy``, the share of pixels that are right, and ``iou``, the mean over
        classes of intersection over union; a class that is in neither does not count.

    Raises:
        ValueError: for unequal sizes, no pixels, or classes out of range.
    """
    check_same(found, truth, "label maps")
    expect(found.numel() > 0, "at least one pixel", found.shape)
    answers = check_labels(found, num_classes)
    true = check_labels(truth, num_classes).to(answers.device)
    pairs = (num_classes * true + answers).flatten()
    counts = torch.bincount(pairs, minlength=num_classes**2)
    table = counts.reshape(num_classes, num_classes)
    hits = table.diag()
    either = table.sum(0) + table.sum(1) - hits
    there = either > 0
    right = (answers == true).float().mean()
    ious = hits[there] / either[there]
    return {"accuracy": right.item(), "iou": ious.mean().item()}


def mask_ious(
    found: Shaped[Tensor, "n h w"], truth: Shaped[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Intersection over union of each pair of masks.

    Args:
        found: bool, or numbers that are all 0 or 1.
        truth: the true ones, of the same size.

    Returns:
        One number a pair, nan where both are empty: there is nothing to find, and
        ``nanmean`` leaves it out.

    Raises:
        ValueError: for unequal sizes, or other numbers.
    """
    check_same(found, truth, "masks")
    mine, true = check_mask(found), check_mask(truth)
    both = (mine & true).flatten(1).sum(1)
    return both / (mine | true).flatten(1).sum(1)


def amodal_scores(
    found: Shaped[Tensor, "n h w"],
    visible: Shaped[Tensor, "n h w"],
    full: Shaped[Tensor, "n h w"],
) -> dict[str, Tensor]:
    """How well the masks of whole objects are completed from what is seen of them.

    Args:
        found: the completed masks; visible pixels count as found.
        visible: what is seen of each object.
        full: the true masks of the whole objects.

    Returns:
        One number an object: ``full``, the IoU of whole masks; ``hidden``, that of
        their hidden parts, nan where nothing is hidden and nothing was added; and
        ``false``, how many pixels were added that are not the object's.

    Raises:
        ValueError: for unequal sizes, or other numbers than 0 and 1.
    """
    check_same(found, visible, "masks")
    check_same(found, full, "masks")
    guess, seen, whole = check_mask(found), check_mask(visible), check_mask(full)
    return {
        "full": mask_ious(guess | seen, whole),
        "hidden": mask_ious(guess & ~seen, whole & ~seen),
        "false": (guess & ~whole & ~seen).flatten(1).sum(1).float(),
    }


def convex_hulls(masks: Shaped[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """The convex hull of each mask: the pixels whose centres lie in the smallest convex
    polygon around the centres of the mask's pixels.

    Args:
        masks: bool, or numbers that are all 0 or 1; an empty one stays empty.

    Raises:
        ValueError: for other dimensions or numbers.
    """
    expect(masks.ndim == 3, "masks (n, h, w)", masks.shape)
    inside = check_mask(masks).detach().cpu().numpy()
    hulls = np.zeros(inside.shape, np.uint8)
    for mask, hull in zip(inside, hulls, strict=True):
        rows, columns = mask.nonzero()
        if len(rows):
            points = np.stack([columns, rows], 1).astype(np.int32)
            cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return torch.from_numpy(hulls > 0)


def share(part: int, whole: int) -> float:
    """``part / whole``, nan where there is nothing to count."""
    return part / whole if whole else float("nan")


def _count(table: Int[np.ndarray, "f t"], *, iou: float, least: int) -> dict[str, int]:
    """Objects and pixels of one image, from its overlaps."""
    shared = table[1:, 1:]
    areas = table.sum(1)[1:]
    sizes = table.sum(0)[1:]
    large = sizes >= least
    match = shared > iou * (areas[:, None] + sizes - shared)
    belongs = (2 * shared > sizes) & large
    several = belongs.sum(1) > 1
    return {
        "hits": int((match.any(0) & large).sum()),
        "wrong": int((~match.any(1) & (areas >= least)).sum()),
        "true": int(large.sum()),
        "melted": int(belongs[several].sum()),
        "both": int(shared.sum()),
        "either": int(table.sum() - table[0, 0]),
    }


def _without_gaps(objects: Integer[Tensor, "h w"]) -> Int[Tensor, "h w"]:
    """The same objects, numbered 1, 2, 3, ...: a table of numbers such as 26001 would
    hold nothing but gaps."""
    numbers = check_objects(objects, dims=2)
    background = numbers.new_zeros(1)
    known = torch.cat([background, numbers.flatten()]).unique()
    return torch.searchsorted(known, numbers.contiguous())
