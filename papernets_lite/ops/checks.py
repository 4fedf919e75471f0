"""How every public boundary refuses what it cannot use."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def check_keys(batch: Mapping[str, Any], *names: str) -> None:
    """Refuse a batch that lacks something.

    Args:
        batch: what came.
        names: of what it shall hold; it may hold more.

    Raises:
        ValueError: naming what was expected and what is there.
    """
    wanted = ", ".join(f"`{name}`" for name in names)
    expect(isinstance(batch, Mapping), f"a batch, a mapping with {wanted}", type(batch))
    expect(set(names) <= set(batch), f"a batch with {wanted}", sorted(batch))


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
    expect(_is_whole(labels), "labels of an integer type", labels.dtype)
    expect(labels.numel() > 0, "at least one label", labels.shape)
    numbers = labels.long()
    known = numbers if unknown is None else numbers[numbers != unknown]
    if known.numel():
        low, high = (int(end) for end in known.aminmax())
        also = "" if unknown is None else f" or {unknown}"
        right = low >= 0 and high < num_classes
        expect(right, f"labels from 0 to {num_classes - 1}{also}", low, high)
    return numbers


def check_objects(numbers: Shaped[Tensor, "*s"], *, dims: int) -> Int64[Tensor, "*s"]:
    """Maps that number objects, whose 0 is the background.

    Args:
        numbers: integers of any size, not negative.
        dims: 2 for one map (h, w), 3 for several.

    Returns:
        The numbers as int64.

    Raises:
        ValueError: for other dimensions, no pixels, fractions or negative numbers.
    """
    filled = numbers.ndim == dims and numbers.numel() > 0
    shape = "(h, w)" if dims == 2 else "(b, h, w)"
    expect(filled, f"numbers of objects {shape} with a pixel", numbers.shape)
    expect(_is_whole(numbers), "whole numbers of objects", numbers.dtype)
    lowest = int(numbers.min())
    expect(lowest >= 0, "numbers of objects from 0 on", lowest)
    return numbers.long()


def _is_whole(numbers: Tensor) -> bool:
    return not (numbers.is_floating_point() or numbers.is_complex())


def check_finite(values: Shaped[Tensor, "..."], name: str) -> None:
    """Refuse integers, NaN and infinity.

    Args:
        values: of any shape.
        name: what they are called.

    Raises:
        ValueError: for another type, or a value that is not finite.
    """
    expect(values.is_floating_point(), f"{name} of a floating type", values.dtype)
    wrong = int((~values.isfinite()).sum())
    expect(wrong == 0, f"finite {name}", f"{wrong} NaN or infinite values")


def check_mask(
    mask: Any,
    name: str = "a mask",
    *,
    shape: Sequence[int] | None = None,
) -> Bool[Tensor, "..."]:
    """A mask that is safe to index with: integers would pick elements instead.

    Args:
        mask: a tensor, an array or a list: bool, or numbers that are all 0 or 1.
        name: what it is called.
        shape: its own, if only one will do.

    Returns:
        The mask as bool.

    Raises:
        ValueError: for another shape, or another number.
    """
    mask = torch.as_tensor(mask)
    if shape is not None:
        expect(mask.shape == tuple(shape), f"{name} {tuple(shape)}", mask.shape)
    if mask.dtype == torch.bool:
        return mask
    binary = ((mask == 0) | (mask == 1)).all()
    some = [] if binary else mask.unique()[:5].tolist()
    expect(binary, f"{name} of bool, or of 0 and 1", mask.dtype, some)
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


def at_least(least: int, **counts: int) -> None:
    """What a constructor is told to build is there.

    Args:
        least: the smallest number that makes sense.
        counts: name -> number, of channels, blocks and the like.

    Raises:
        ValueError: naming the first that is smaller.
    """
    for name, count in counts.items():
        expect(count >= least, f"{name} >= {least}", count)


def check_inputs(
    images: Tensor,
    net: nn.Module,
    *,
    channels: int = 3,
    least: int = 1,
    multiple: int = 1,
) -> None:
    """Images are such as a net can take.

    Their values are not looked at: a GPU would have to wait for it at each call. A
    training step calls ``check_pictures`` once a batch.

    Args:
        images: what came.
        net: what they are meant for; its weights have the type that images must have
            (any float under autocast).
        channels: of each image.
        least: the shortest side, in pixels.
        multiple: what the sides must be divisible by.

    Raises:
        ValueError: for another shape or type, or no images.
    """
    fits = (
        images.ndim == 4
        and len(images) > 0
        and images.shape[1] == channels
        and min(images.shape[2:]) >= least
        and all(side % multiple == 0 for side in images.shape[2:])
    )
    expect(
        fits,
        f"at least one image of {channels} channels, {least} x {least} pixels or "
        f"larger, with sides divisible by {multiple}",
        images.shape,
    )
    wanted = next(net.parameters()).dtype
    if images.dtype != wanted:
        cast = images.is_floating_point() and torch.is_autocast_enabled(
            images.device.type
        )
        expect(cast, f"images of type {wanted}, as the weights are", images.dtype)
