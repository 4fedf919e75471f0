"""Labels: what is asked for, of how many classes, and the cross-entropy of the
answers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import expect

NOTHING = -100  # a label that is not asked for


def check_mask(
    mask: Tensor, name: str = "a mask", *, shape: Sequence[int] | None = None
) -> Tensor:
    """The mask as bool, once it is one: whole numbers would index instead of select.

    Args:
        mask: bool, or numbers that are all 0 or 1.
        name: of the mask, in errors.
        shape: that it must have; nothing is broadcast.

    Raises:
        ValueError: for another shape, or numbers other than 0 and 1.
    """
    if shape is not None:
        expect(mask.shape == tuple(shape), f"{name} {tuple(shape)}", mask.shape)
    if mask.dtype != torch.bool:
        binary = ((mask == 0) | (mask == 1)).all()
        expect(binary, f"{name} of bool, or of 0 and 1", mask.unique()[:5].tolist())
    return mask.bool()


def check_labels(
    labels: Tensor,
    num_classes: int,
    *,
    shape: Sequence[int] | None = None,
    unknown: int | None = None,
) -> Tensor:
    """The labels as int64, once they are classes.

    Args:
        labels: integers of any type.
        num_classes: how many there are, from 0.
        shape: that the labels must have; nothing is broadcast.
        unknown: a further number that is allowed, where there is no label.

    Raises:
        ValueError: for another shape, numbers that are not integers, or labels outside
            0 to ``num_classes - 1``.
    """
    if shape is not None:
        expect(labels.shape == tuple(shape), f"labels {tuple(shape)}", labels.shape)
    whole = not (labels.is_floating_point() or labels.is_complex())
    expect(whole, "labels of an integer type", labels.dtype)
    labels = labels.long()
    outside = (labels < 0) | (labels >= num_classes)
    also = ""
    if unknown is not None:
        outside &= labels != unknown
        also = f" or {unknown}"
    found = labels[outside].unique()[:5].tolist()
    expect(not found, f"labels from 0 to {num_classes - 1}{also}", found)
    return labels


def cross_entropy(logits: Tensor, labels: Tensor, *, unknown: int = NOTHING) -> Tensor:
    """The mean over what is asked for; 0, with a gradient of 0, where nothing is.

    Args:
        logits: (..., classes).
        labels: (...), classes from 0.
        unknown: the label of what is not asked for.

    Raises:
        ValueError: for labels that ``check_labels`` refuses.
    """
    num_classes, shape = logits.shape[-1], logits.shape[:-1]
    labels = check_labels(labels, num_classes, shape=shape, unknown=unknown)
    total = functional.cross_entropy(
        floating(logits).flatten(0, -2),
        labels.flatten(),
        ignore_index=unknown,
        reduction="sum",
    )
    return total / (labels != unknown).sum().clamp(min=1)
