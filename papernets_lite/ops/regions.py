"""Boxes over pictures: whose each is, what a classifier is to say of it, and the grid
that looks everywhere alike."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int, Integer, Real, Shaped
from torch import Tensor
from torchvision.ops import box_iou

from papernets_lite.ops.boxes import BETWEEN, assign, check_boxes, check_truth
from papernets_lite.ops.checks import check_labels, check_mask, expect
from papernets_lite.ops.labels import NOTHING

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU: from here an object's, below this nobody's


def overlaps(
    boxes: Real[Tensor, "b k 4"], truth: Mapping[str, Tensor]
) -> Float[Tensor, "b m k"]:
    """The IoU of every object with every box of its picture, -1 where there is no
    object.

    Args:
        boxes: xyxy in pixels; sides of 0 are allowed, for boxes that are not there.
        truth: ``boxes`` (b, m, 4) and ``valid`` (b, m).

    Raises:
        ValueError: for boxes that ``check_boxes`` or a truth that ``check_truth``
            refuses, or unequal numbers of pictures.
    """
    found = check_boxes(boxes, thin=True)
    truth = check_truth(truth)
    pictures = len(truth["valid"])
    expect(len(found) == pictures, f"boxes of {pictures} pictures", len(found))
    iou = found.new_zeros(*truth["valid"].shape, found.shape[1])
    for row, true, box in zip(iou, truth["boxes"], found, strict=True):
        row[:] = box_iou(true.to(box), box)
    return iou.masked_fill(~truth["valid"][..., None], -1.0)


def owners(
    boxes: Real[Tensor, "b k 4"],
    truth: Mapping[str, Tensor],
    there: Shaped[Tensor, "b k"] | None = None,
) -> Int[Tensor, "b k"]:
    """Whose box each is: an object's from an IoU of 0.5, ``boxes.BACKGROUND`` below
    0.1, else ``boxes.BETWEEN``, not asked about.

    Args:
        boxes: xyxy in pixels.
        truth: ``boxes`` (b, m, 4) and ``valid`` (b, m).
        there: which boxes are; the others are not asked about.

    Raises:
        ValueError: as ``overlaps``, or for a ``there`` that is no mask of the boxes.
    """
    iou = overlaps(boxes, truth)
    rows = [assign(one, foreground=FOREGROUND, background=BACKGROUND) for one in iou]
    found = torch.stack(rows) if rows else torch.zeros(boxes.shape[:2]).long()
    if there is None:
        return found
    return found.masked_fill(~check_mask(there, "`there`", shape=found.shape), BETWEEN)


def targets(
    owner: Integer[Tensor, "b k"],
    objects: Integer[Tensor, "b m"],
    attributes: Integer[Tensor, "b m"],
) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b k"]]:
    """What a classifier of boxes is to say of each: its class (0 for background) and
    its attribute; ``NOTHING`` where it is not asked.

    Args:
        owner: of ``owners``.
        objects: classes of the true objects, from 0.
        attributes: of the true objects, from 0.

    Raises:
        ValueError: for owners that are no objects, or unequal leading sizes.
    """
    expect(
        objects.shape == attributes.shape and len(objects) == len(owner),
        "an object's class and attribute for all of as many pictures",
        owner.shape,
        objects.shape,
        attributes.shape,
    )
    owned = owner >= 0
    known = owner.masked_fill(~owned, 0).long()
    count = objects.shape[1]
    if owned.any():
        check_labels(known[owned], count)
    if not count:
        objects, attributes = torch.zeros(2, len(owner), 1, dtype=torch.long)
    classes = objects.long().gather(1, known) + 1
    labels = torch.where(owned, classes, 0).masked_fill(owner == BETWEEN, NOTHING)
    wanted = torch.where(owned, attributes.long().gather(1, known), NOTHING)
    return labels, wanted


def windows(count: int, size: float, side: float) -> Float[Tensor, "k 4"]:
    """The usual alternative to proposals: a grid of equal windows over the picture,
    whatever it shows.

    Args:
        count: windows in a row and in a column; they overlap when count * side > size.
        size: of the square picture, in pixels.
        side: of a window, in pixels.

    Returns:
        Boxes, xyxy in pixels, row by row; a single one covers the whole picture.

    Raises:
        ValueError: for no windows, or windows that do not fit the picture.
    """
    expect(count >= 1 and count == int(count), "at least one window", count)
    expect(0 < side <= size, f"windows within {size} pixels", side)
    if count == 1:
        return torch.tensor([[0.0, 0.0, size, size]])
    start = torch.arange(count) * ((size - side) / (count - 1))
    corner = torch.cartesian_prod(start, start).flip(1)  # (y, x) -> (x, y)
    return torch.cat([corner, corner + side], 1)
