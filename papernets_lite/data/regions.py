"""Boxes over pictures that stand in for a detector where a chapter is not about
detecting."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papernets_lite.ops.boxes import check_truth
from papernets_lite.ops.checks import expect


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
        truth: ``boxes`` (b, m, 4), xyxy in pixels, and ``valid`` (b, m); at least one
            object in each picture, after which distractors are shaped.
        size: of the square images, in pixels.
        generator: on the CPU.
        jitter: standard deviation of the error of a box's corners, in pixels; a side
            keeps at least one pixel.
        distractors: half of them to all of them are there.

    Returns:
        Boxes in random order, m + ``distractors`` of them, and which of them are there.

    Raises:
        ValueError: for a truth that ``ops.boxes.check_truth`` refuses, a picture
            without objects, or a negative number.
    """
    expect(jitter >= 0 and distractors >= 0, "no less than 0", jitter, distractors)
    expect(size >= 1, "size >= 1", size)
    truth = check_truth(truth)
    boxes, valid = truth["boxes"], truth["valid"]
    empty = (~valid.any(1)).nonzero()[:5, 0].tolist()
    expect(not empty, "at least one object in each picture", empty, "without one")
    true = boxes + jitter * torch.randn(boxes.shape, generator=generator)
    # much jitter must not turn a small box inside out
    least = true[..., :2] + 1
    true[..., 2:] = torch.maximum(true[..., 2:], least)
    others, there = _distractors(boxes, valid, distractors, size, generator)
    boxes = torch.cat([true, others], 1)
    valid = torch.cat([valid, there], 1)
    order = torch.rand(valid.shape, generator=generator).argsort(1)
    boxes = boxes.masked_fill(~valid[..., None], 0.0)
    shuffled = boxes.take_along_dim(order[..., None], 1)
    return shuffled, valid.gather(1, order)


def _distractors(
    boxes: Float[Tensor, "b m 4"],
    valid: Bool[Tensor, "b m"],
    most: int,
    size: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b d 4"], Bool[Tensor, "b d"]]:
    """Boxes anywhere, each with the sides of one of its picture's objects, and which of
    them are there."""
    count = len(valid)
    chance = torch.rand(count, most, generator=generator)
    model = chance.mul(valid.sum(1, keepdim=True)).long()
    objects = (~valid).byte().argsort(dim=1, stable=True)  # those that are there, first
    model = objects.gather(1, model)
    sides = boxes[..., 2:] - boxes[..., :2]
    sides = sides.take_along_dim(model[..., None], 1)
    place = torch.rand(count, most, 2, generator=generator)
    corner = (size - sides) * place
    kept = torch.randint(most // 2, most + 1, (count, 1), generator=generator)
    there = torch.arange(most) < kept
    return torch.cat([corner, corner + sides], 2), there
