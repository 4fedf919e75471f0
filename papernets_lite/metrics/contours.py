"""Thin dark lines: where a picture has them, and whether they are where they should
be."""

from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from papernets_lite.metrics.segmentation import share
from papernets_lite.ops.checks import (
    check_images,
    check_mask,
    check_pictures,
    expect,
)


def dark_lines(
    images: Float[Tensor, "n c h w"], *, width: int = 2, contrast: float = 0.1
) -> Bool[Tensor, "n h w"]:
    """Pixels of thin dark lines: those that a closing fills up.

    The closing is a maximum over a square, then a minimum: it removes what is dark and
    narrower than the square, and leaves edges and dark areas as they are.

    Args:
        images: in [0, 1]; their channels' mean counts.
        width: of the widest lines that are found, in pixels; the square's side is the
            next odd number.
        contrast: by how much a line is darker than what surrounds it.

    Raises:
        ValueError: for ``width < 1``, or images that are not finite or nowhere near
            [0, 1].
    """
    expect(width >= 1, "width >= 1", width)
    check_images(images)
    check_pictures(images, "images")
    grey = images.mean(1, keepdim=True)
    side = 2 * ((width + 1) // 2) + 1
    wide = functional.max_pool2d(grey, side, 1, side // 2)
    closed = -functional.max_pool2d(-wide, side, 1, side // 2)
    return (closed - grey)[:, 0] > contrast


def contour_scores(
    found: Shaped[Tensor, "n h w"],
    truth: Shaped[Tensor, "n h w"],
    *,
    where: Shaped[Tensor, "n h w"] | None = None,
    tolerance: int = 1,
) -> dict[str, float]:
    """How well found contours agree with true ones, counted over all images together.

    Args:
        found: pixels of contours that were found; bool, or numbers that are all 0 or 1,
            as the other two.
        truth: pixels of the true ones.
        where: the pixels that count; all, if it is not given.
        tolerance: a pixel is right when there is one of the other kind within so many
            pixels (a square) of it.

    Returns:
        ``precision``, the share of found pixels that are right; ``recall``, the share
        of true pixels that were found; ``f1``, their harmonic mean, 0 where nothing was
        found. nan where there is nothing to count.

    Raises:
        ValueError: for masks that are not (n, h, w) and alike, other numbers, or a
            negative tolerance.
    """
    expect(found.ndim == 3, "contours (n, h, w)", found.shape)
    expect(tolerance >= 0, "a tolerance >= 0", tolerance)
    found = check_mask(found, "found contours")
    truth = check_mask(truth, "true contours", shape=found.shape)
    mine, true = found, truth
    if where is not None:
        counted = check_mask(where, "where", shape=found.shape)
        mine, true = found & counted, truth & counted
    right = int((mine & _near(truth, tolerance)).sum())
    reached = int((true & _near(found, tolerance)).sum())
    precision = share(right, int(mine.sum()))
    recall = share(reached, int(true.sum()))
    f1 = 0.0
    if not true.any():
        f1 = float("nan")
    elif precision + recall > 0:  # nan is not: nothing was found
        f1 = 2 * precision * recall / (precision + recall)
    return {"precision": precision, "recall": recall, "f1": f1}


def _near(mask: Bool[Tensor, "n h w"], reach: int) -> Bool[Tensor, "n h w"]:
    """Pixels with one of the mask's within ``reach`` along both axes."""
    if mask.numel() == 0:
        return mask
    side = 2 * reach + 1
    highest = functional.max_pool2d(mask[:, None].float(), side, 1, reach)
    return highest[:, 0] > 0
