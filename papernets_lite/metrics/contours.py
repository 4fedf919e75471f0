"""Thin dark lines: where a picture has them, and whether they are where they should
be."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import expect


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
        ValueError: for ``width < 1``.
    """
    expect(width >= 1, "width >= 1", width)
    grey, side = images.mean(1, keepdim=True), 2 * ((width + 1) // 2) + 1
    wide = functional.max_pool2d(grey, side, 1, side // 2)
    closed = -functional.max_pool2d(-wide, side, 1, side // 2)
    return (closed - grey)[:, 0] > contrast


def contour_scores(
    found: Bool[Tensor, "n h w"],
    truth: Bool[Tensor, "n h w"],
    *,
    where: Bool[Tensor, "n h w"] | None = None,
    tolerance: int = 1,
) -> dict[str, float]:
    """How well found contours agree with true ones, counted over all images together.

    Args:
        found: pixels of contours that were found.
        truth: pixels of the true ones.
        where: the pixels that count; all, if it is not given.
        tolerance: a pixel is right when there is one of the other kind within so many
            pixels (a square) of it.

    Returns:
        ``precision``, the share of found pixels that are right; ``recall``, the share
        of true pixels that were found; ``f1``, their harmonic mean, 0 where nothing was
        found. nan where there is nothing to count.
    """

    def near(mask: Tensor) -> Tensor:
        return (
            functional.max_pool2d(
                mask[:, None].float(), 2 * tolerance + 1, 1, tolerance
            )[:, 0]
            > 0
        )

    mine, true = (found, truth) if where is None else (found & where, truth & where)
    found_count, true_count = int(mine.sum()), int(true.sum())
    precision = (
        int((mine & near(truth)).sum()) / found_count if found_count else float("nan")
    )
    recall = (
        int((true & near(found)).sum()) / true_count if true_count else float("nan")
    )
    f1 = (
        2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    )
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1 if true_count else float("nan"),
    }
