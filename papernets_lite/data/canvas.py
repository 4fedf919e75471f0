"""Drawing shared by the worlds: antialiased shapes, cloth textures, light, shadows and sensor noise.

Everything is drawn ``OVER`` times larger and averaged down. Positions are in output pixels, and a pixel's centre
is at +0.5: a disc at (8.0, 8.0) in a 16x16 image is symmetric.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

OVER = 3  # supersampling: OVER**2 samples a pixel
SHIFT = 4  # OpenCV's fixed-point bits: 1/16 of a fine pixel
cv2.setNumThreads(1)

PALETTE = {
    "red": (214, 69, 65),
    "orange": (235, 149, 50),
    "yellow": (240, 206, 70),
    "green": (80, 160, 90),
    "teal": (60, 165, 170),
    "blue": (65, 105, 190),
    "purple": (140, 90, 170),
    "white": (232, 230, 222),
}


def check_request(n: int, generator: torch.Generator) -> None:
    """Raise ``ValueError`` unless ``n`` is a positive count and ``generator`` a torch generator on the CPU."""
    if n < 1:
        raise ValueError(f"expected n >= 1 images, got {n}")
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise ValueError(f"expected a torch.Generator on the CPU, got {generator!r}")


def check_size(size: int) -> None:
    """Raise ``ValueError`` for an image too small to show anything."""
    if size < 8:
        raise ValueError(f"expected an image size of at least 8 pixels, got {size}")


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform samples in [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def integers(generator: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    """Uniform integers in [low, high)."""
    return torch.randint(low, high, shape, generator=generator)


def fixed(points: np.ndarray, over: int = OVER) -> np.ndarray:
    """Output pixels -> OpenCV's fixed-point coordinates on the fine canvas.

    OpenCV puts a pixel's centre at an integer, we put it at +0.5, hence the half.
    """
    return np.round((points * over - 0.5) * (1 << SHIFT)).astype(np.int32)


def polygon(canvas: np.ndarray, contours: list[np.ndarray], colour: tuple[int, ...] | int) -> None:
    """Fill fixed-point ``contours`` (even-odd, so a second one cuts a hole)."""
    cv2.fillPoly(canvas, contours, colour, cv2.LINE_8, SHIFT)


def shrink(canvas: np.ndarray, size: int) -> np.ndarray:
    """The fine canvas averaged down to ``size`` x ``size``."""
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def centres(labels: np.ndarray, over: int = OVER) -> np.ndarray:
    """The fine label map read at the centres of the output's pixels."""
    return labels[over // 2 :: over, over // 2 :: over]


def textures(size: int) -> np.ndarray:
    """Cloth patterns as multipliers, (5, size, size) float32: plain, stripes, hoops, checks, dots."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / OVER
    weave = 1 + 0.03 * np.sin(3.1 * x) * np.sin(2.9 * y)
    stripes = np.where((x // 2).astype(int) % 2, 1.0, 0.66)
    hoops = np.where((y // 2).astype(int) % 2, 1.0, 0.62)
    checks = 0.55 + 0.45 * ((x // 2 + y // 2).astype(int) % 2)
    dots = 1 - 0.45 * ((x % 4 - 2) ** 2 + (y % 4 - 2) ** 2 < 1.6)
    return np.stack([weave, stripes, hoops, checks, dots]).astype(np.float32)


def finish(
    images: Float[Tensor, "n h w 3"], gain: Float[Tensor, "n 3"], contrast: Float[Tensor, " n"], noise: Tensor
) -> Float[Tensor, "n 3 h w"]:
    """A camera: contrast about mid-grey, colour gains, additive ``noise`` (n, h, w, 1), clipping; in place."""
    # gain ((x - 1/2) contrast + 1/2) + noise as one multiply-add per channel, in place: images are large.
    slope = contrast[:, None] * gain
    images = images.mul_(slope[:, None, None]).add_((0.5 * (gain - slope))[:, None, None])
    return images.add_(noise).clamp_(0, 1).permute(0, 3, 1, 2).contiguous()
