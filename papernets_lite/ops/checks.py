"""How every public boundary refuses what it cannot use."""

import torch
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
    if not holds:
        plain = (tuple(value) if isinstance(value, tuple) else value for value in got)
        raise ValueError(
            f"expected {expected}" + ", got " * bool(got) + ", ".join(map(repr, plain))
        )


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


def check_images(
    images: Tensor,
    net: nn.Module,
    *,
    channels: int = 3,
    least: int = 1,
    multiple: int = 1,
) -> None:
    """Images are such as a net can take.

    Their values are not looked at: a GPU would have to wait for it at each call. A
    training step calls ``check_range`` once a batch.

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


def check_range(images: Tensor, name: str = "images") -> None:
    """Real images lie in [0, 1], up to what noise adds to them: neither 0 to 255, nor
    NaN.

    Args:
        images: at least one, or maps with the same range.
        name: of what came, for the error.

    Raises:
        ValueError: with the range found, or for no pixels.
    """
    expect(images.numel() > 0, f"{name} with at least one pixel", images.shape)
    low, high = (bound.item() for bound in images.aminmax())
    expect(low > -0.5 and high < 1.5, f"{name} in [0, 1]", low, high)
