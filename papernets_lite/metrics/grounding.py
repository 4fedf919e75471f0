"""Whether boxes cover what they should, and whether a model looks where its answer
lies."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from papernets_lite.ops.boxes import check_boxes
from papernets_lite.ops.checks import expect
from papernets_lite.ops.regions import overlaps


def reach(
    boxes: Real[Tensor, "b k 4"], truth: Mapping[str, Tensor]
) -> Float[Tensor, "b m"]:
    """How well each object is covered: its IoU with the box that fits it best, nan
    where there is no object.

    Args:
        boxes: xyxy in pixels, at least one a picture.
        truth: ``boxes`` (b, m, 4) and ``valid`` (b, m).

    Raises:
        ValueError: for no boxes, or what ``ops.regions.overlaps`` refuses.
    """
    expect(boxes.shape[1], "at least one box a picture", boxes.shape)
    best = overlaps(boxes, truth).amax(2)
    return best.masked_fill(best < 0, torch.nan)


def pointed(
    boxes: Real[Tensor, "b k 4"],
    weights: Float[Tensor, "b k"],
    goals: Real[Tensor, "b 4"],
) -> Bool[Tensor, " b"]:
    """The pointing game: does the centre of the heaviest box lie in the goal's box?

    Args:
        boxes: xyxy in pixels, at least one a picture.
        weights: of each box.
        goals: a true box each, xyxy in pixels.

    Raises:
        ValueError: for no boxes, unequal sizes, boxes that are not finite, weights that
            are NaN, or goals without an area.
    """
    same = weights.shape == boxes.shape[:2] and goals.shape == (len(boxes), 4)
    expect(
        same and boxes.shape[1],
        "boxes, a weight for each, and a goal for each picture",
        boxes.shape,
        weights.shape,
        goals.shape,
    )
    expect(not weights.isnan().any(), "weights without NaN", weights)
    boxes, goals = check_boxes(boxes, thin=True), check_boxes(goals, "goals")
    heaviest = boxes[torch.arange(len(boxes)), weights.argmax(1)]
    centre = (heaviest[:, :2] + heaviest[:, 2:]) / 2
    inside = (centre >= goals[:, :2]) & (centre <= goals[:, 2:])
    return inside.all(1)
