"""Labels: what is asked for, of how many classes, and the cross-entropy of the
answers."""

import torch
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import expect

NOTHING = -100  # a label that is not asked for


def check_flags(mask: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """The mask as bool, once it is one: whole numbers would index instead of select.

    Args:
        mask: bool, or numbers that are all 0 or 1.
        shape: that it must have; nothing is broadcast.
        name: of the mask, in errors.

    Raises:
        ValueError: for another shape, or numbers other than 0 and 1.
    """
    same = tuple(mask.shape) == tuple(shape)
    expect(same, f"{name} of shape {tuple(shape)}", mask.shape)
    if mask.dtype != torch.bool:
        binary = ((mask == 0) | (mask == 1)).all()
        expect(binary, f"{name} of bool, or 0 and 1", mask.unique()[:5].tolist())
    return mask.bool()


def check_labels(
    labels: Tensor,
    num_classes: int,
    shape: tuple[int, ...],
    name: str = "labels",
    *,
    ignore: int | None = None,
) -> Tensor:
    """The labels as int64, once they are classes.

    Args:
        labels: integers of any type.
        num_classes: how many there are, from 0.
        shape: that the labels must have; nothing is broadcast.
        name: of the labels, in errors.
        ignore: a further number that is allowed, for what is not asked for.

    Raises:
        ValueError: for another shape, numbers that are not integers, or labels outside
            0 to ``num_classes - 1``.
    """
    same = tuple(labels.shape) == tuple(shape)
    expect(same, f"{name} of shape {tuple(shape)}", labels.shape)
    whole = not (labels.is_floating_point() or labels.is_complex())
    expect(whole, f"integers as {name}", labels.dtype)
    labels = labels.long()
    outside = (labels < 0) | (labels >= num_classes)
    also = ""
    if ignore is not None:
        outside &= labels != ignore
        also = f", or {ignore}"
    found = labels[outside].unique()[:5].tolist()
    expect(not found, f"{name} from 0 to {num_classes - 1}{also}", found)
    return labels


def cross_entropy(
    logits: Tensor, labels: Tensor, *, ignore: int = NOTHING, name: str = "labels"
) -> Tensor:
    """The mean over what is asked for; 0, with a gradient of 0, where nothing is.

    Args:
        logits: (..., classes).
        labels: (...), classes from 0.
        ignore: the label of what is not asked for.
        name: of the labels, in errors.

    Raises:
        ValueError: for labels that ``check_labels`` refuses.
    """
    num_classes = logits.shape[-1]
    labels = check_labels(labels, num_classes, logits.shape[:-1], name, ignore=ignore)
    total = functional.cross_entropy(
        floating(logits).flatten(0, -2),
        labels.flatten(),
        ignore_index=ignore,
        reduction="sum",
    )
    return total / (labels != ignore).sum().clamp(min=1)
