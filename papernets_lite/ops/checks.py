"""How every public boundary refuses what it cannot use."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor, nn


def expect(holds: object, expected: str, *got: object) -> None:
    """Nothing if it holds, else an error that says what was expected and what came.

    Args:
        holds: the condition that a caller must keep; anything with a truth value.
        expected: the condition in words.
        got: what came instead; shapes are written as plain tuples, the rest as Python
            writes it.

    Raises:
        ValueError: ``expected ..., got ...``.
    """
    if holds:
        return
    message = f"expected {expected}"
    if got:
        message += ", got " + ", ".join(_written(value) for value in got)
    raise ValueError(message)


def _written(value: object) -> str:
    return repr(tuple(value) if isinstance(value, tuple) else value)


def check_images(images: Shaped[Tensor, "..."], first: nn.Conv2d | None = None) -> None:
    """Refuse what is no batch of images.

    Args:
        images: shall be (b, c, h, w), of a floating-point type, and not empty.
        first: the convolution that reads them; its channels and the type of its weights
            are theirs, too. Under autocast torch converts the type itself.

    Raises:
        ValueError: for another shape or type, or nothing.
    """
    expect(
        images.ndim == 4 and images.numel() > 0,
        "at least one image, as (b, c, h, w)",
        images.shape,
    )
    expect(images.is_floating_point(), "images of a floating type", images.dtype)
    if first is None:
        return
    channels, kind = first.in_channels, first.weight.dtype
    expect(images.shape[1] == channels, f"{channels} channels", images.shape)
    fits = images.dtype == kind or torch.is_autocast_enabled(images.device.type)
    expect(fits, f"images of {kind}", images.dtype)


def check_pictures(pictures: Shaped[Tensor, "..."], name: str = "pictures") -> None:
    """Refuse what is nowhere near [0, 1]: bytes, pictures of 0 to 255, NaN.

    Args:
        pictures: of any shape; what a net made may lie up to 1 outside.
        name: what they are called.

    Raises:
        ValueError: for integers, values that are not finite or below -1 or above 2.
    """
    expect(pictures.is_floating_point(), f"{name} of a floating type", pictures.dtype)
    if pictures.numel() == 0:
        return
    low, high = pictures.detach().aminmax()
    # NaN is neither.
    near = low >= -1 and high <= 2
    expect(near, f"{name} in [0, 1]", low.item(), high.item())


def check_labels(
    labels: Shaped[Tensor, "*s"],
    num_classes: int,
    *,
    shape: Sequence[int] | None = None,
    unknown: int | None = None,
) -> Int64[Tensor, "*s"]:
    """Class numbers as torch's losses want them.

    Args:
        labels: integers of any size, uint8 included.
        num_classes: they are from 0 to ``num_classes - 1``.
        shape: theirs, if only one will do.
        unknown: stands where there is no label, if such a number is allowed.

    Returns:
        The labels as int64.

    Raises:
        ValueError: for another shape, fractions, no labels, or a number out of range.
    """
    if shape is not None:
        expect(labels.shape == tuple(shape), f"labels {tuple(shape)}", labels.shape)
    whole = not (labels.is_floating_point() or labels.is_complex())
    expect(whole, "labels of an integer type", labels.dtype)
    expect(labels.numel() > 0, "at least one label", labels.shape)
    numbers = labels.long()
    known = numbers if unknown is None else numbers[numbers != unknown]
    if known.numel():
        low, high = (int(end) for end in known.aminmax())
        also = "" if unknown is None else f" or {unknown}"
        right = low >= 0 and high < num_classes
        expect(right, f"labels from 0 to {num_classes - 1}{also}", low, high)
    return numbers


def check_mask(
    mask: Shaped[Tensor, "*s"],
    name: str = "a mask",
    *,
    shape: Sequence[int] | None = None,
) -> Bool[Tensor, "*s"]:
    """A mask that is safe to index with: integers would pick elements instead.

    Args:
        mask: bool, or numbers that are all 0 or 1.
        name: what it is called.
        shape: its own, if only one will do.

    Returns:
        The mask as bool.

    Raises:
        ValueError: for another shape, or another number.
    """
    if shape is not None:
        expect(mask.shape == tuple(shape), f"{name} {tuple(shape)}", mask.shape)
    if mask.dtype == torch.bool:
        return mask
    binary = ((mask == 0) | (mask == 1)).all()
    expect(binary, f"{name} of bool, or of 0 and 1", mask.dtype, mask.unique().tolist())
    return mask == 1


def check_same(first: Tensor, second: Tensor, what: str) -> None:
    """Refuse two tensors that would only fit after broadcasting.

    Args:
        first: of any shape.
        second: shall have the same shape.
        what: what both are called.

    Raises:
        ValueError: for unequal shapes.
    """
    same = first.shape == second.shape
    expect(same, f"{what} of the same shape", first.shape, second.shape)
