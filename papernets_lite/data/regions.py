"""Boxes over pictures: what stands in for a detector where a chapter is not about
detecting, and what they hold."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_iou

from papernets_lite.ops.boxes import BETWEEN, assign

NOTHING = -100  # a class or attribute that is not asked for: what cross-entropy ignores


def proposals(
    truth: Mapping[str, Tensor],
    *,
    size: int,
    generator: torch.Generator,
    jitter: float = 1.0,
    distractors: int = 4,
) -> tuple[Float[Tensor, "b k 4"], Bool[Tensor, "b k"]]:
    """What stands in for a detector: the true boxes, badly placed, among boxes of the
    same sizes placed anywhere.

    Args:
        truth: ``boxes`` (b, m, 4) and ``valid`` (b, m), in pixels.
        size: of the images.
        generator: on the CPU.
        jitter: standard deviation of the error of a box's centre and of its sides, in
            pixels.
        distractors: half of them to all of them are there.

    Returns:
        Boxes in random order, m + ``distractors`` of them, and which of them are there.
    """
    boxes, valid = truth["boxes"], truth["valid"]
    count = len(valid)
    true = boxes + jitter * torch.randn(boxes.shape, generator=generator)
    # A distractor has the sides of one of the picture's objects.
    model = (
        torch.rand(count, distractors, generator=generator)
        .mul(valid.sum(1, keepdim=True))
        .long()
    )
    sides = (boxes[..., 2:] - boxes[..., :2]).take_along_dim(model[..., None], 1)
    corner = (size - sides) * torch.rand(count, distractors, 2, generator=generator)
    kept = torch.randint(
        distractors // 2, distractors + 1, (count, 1), generator=generator
    )
    boxes = torch.cat([true, torch.cat([corner, corner + sides], 2)], 1)
    valid = torch.cat([valid, torch.arange(distractors) < kept], 1)
    order = torch.rand(valid.shape, generator=generator).argsort(1)
    return boxes.masked_fill(~valid[..., None], 0.0).take_along_dim(
        order[..., None], 1
    ), valid.gather(1, order)


def owners(
    boxes: Float[Tensor, "b k 4"],
    truth: Mapping[str, Tensor],
    there: Bool[Tensor, "b k"] | None = None,
) -> Int[Tensor, "b k"]:
    """Whose box each is: an object's from an IoU of 0.5, ``BACKGROUND`` below 0.1, else
    ``BETWEEN``, not asked about.

    Args:
        boxes: in pixels.
        truth: ``boxes`` (b, m, 4) and ``valid`` (b, m).
        there: which boxes are; the others are not asked about.
    """
    rows = zip(boxes, truth["boxes"], truth["valid"], strict=True)
    found = torch.stack(
        [
            assign(box_iou(true[v], box), foreground=0.5, background=0.1)
            for box, true, v in rows
        ]
    )
    return found if there is None else found.masked_fill(~there, BETWEEN)


def reach(
    boxes: Float[Tensor, "b k 4"], truth: Mapping[str, Tensor]
) -> Float[Tensor, "b m"]:
    """How well each object is covered: its IoU with the box that fits it best, nan
    where there is no object."""
    best = torch.stack(
        [
            box_iou(true, box).max(1).values
            for true, box in zip(truth["boxes"], boxes, strict=True)
        ]
    )
    return best.masked_fill(~truth["valid"], torch.nan)


def targets(
    owner: Int[Tensor, "b k"],
    objects: Int[Tensor, "b m"],
    attributes: Int[Tensor, "b m"],
) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b k"]]:
    """What a classifier of boxes is to say of each: its class (0 for background) and
    its attribute.

    Args:
        owner: of ``owners``.
        objects, attributes: of the true objects, from 0.
    """
    known = owner.clamp(min=0)
    labels = torch.where(owner >= 0, objects.gather(1, known) + 1, 0).masked_fill(
        owner == BETWEEN, NOTHING
    )
    return labels, torch.where(owner >= 0, attributes.gather(1, known), NOTHING)


def windows(count: int, size: int, side: float) -> Float[Tensor, "k 4"]:
    """The usual alternative to proposals: a grid of equal windows over the picture,
    whatever it shows.

    Args:
        count: windows in a row and in a column; they overlap when count * side > size.
        size: of the picture.
        side: of a window.

    Returns:
        Boxes, row by row; a single one covers the whole picture.
    """
    if count == 1:
        return torch.tensor([[0.0, 0.0, size, size]])
    start = torch.arange(count) * ((size - side) / (count - 1))
    corner = torch.cartesian_prod(start, start).flip(1)  # (y, x) -> (x, y)
    return torch.cat([corner, corner + side], 1)


def pointed(
    boxes: Float[Tensor, "b k 4"],
    weights: Float[Tensor, "b k"],
    goals: Float[Tensor, "b 4"],
) -> Bool[Tensor, " b"]:
    """The pointing game: does the centre of the heaviest box lie in the goal's box?

    Args:
        boxes: in pixels.
        weights: of each box.
        goals: a true box each.
    """
    heaviest = boxes[torch.arange(len(boxes)), weights.argmax(1)]
    centre = (heaviest[:, :2] + heaviest[:, 2:]) / 2
    return ((centre >= goals[:, :2]) & (centre <= goals[:, 2:])).all(1)
