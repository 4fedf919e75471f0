"""Drawing shared by the worlds: random factors, antialiased pieces, cloth patterns,
light and a camera.

A picture is drawn as a map of *inks* (one byte per sample, ``OVER`` x ``OVER`` samples
a pixel), coloured through a table, averaged down and laid over its background. Ground
truth reads the same map at the pixels' centres, so that it agrees with what is seen.
Positions are in output pixels and a pixel's centre is at +0.5: a disc at (8.0, 8.0) in
a 16x16 image is symmetric.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from papernets_lite.ops.checks import expect

Range = tuple[int | float, int | float]  # (low, high)
# supersampling: OVER**2 samples a pixel; odd, so that one of them is the centre
OVER = 3
SHIFT = 4  # OpenCV's fixed-point bits: 1/16 of a sample
CORNERS = 16  # of the polygon that stands for a round piece
PATTERNS = ("plain", "stripes", "hoops", "checks", "dots")
PALETTE = {
    "red": (208, 62, 60),
    "orange": (236, 140, 50),
    "yellow": (240, 202, 74),
    "green": (86, 158, 84),
}
PALETTE |= {
    "teal": (58, 164, 168),
    "blue": (66, 106, 190),
    "purple": (140, 92, 172),
    "white": (232, 230, 222),
}
# Shade, body and highlight of a lit surface: shade is cool, light is warm.
LIGHT = np.array(
    [[0.66, 0.64, 0.72], [0.92, 0.91, 0.93], [1.1, 1.08, 1.03]], np.float32
)
# A pattern's second colour shows where its bit is set: bit 0 and 1 of the phase are the
# stripe and the hoop.
_SECOND = np.array(
    [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]], bool
)
_TURN = np.arange(CORNERS) * (2 * np.pi / CORNERS)
_AROUND = np.stack([np.cos(_TURN), np.sin(_TURN)]).astype(np.float32)  # (2, CORNERS)
cv2.setNumThreads(1)


class Draws:
    """Random numbers for each of many seeds: what seed i gets does not depend on how
    many others there are.

    A counter-based generator (splitmix64): number k of seed s is mix(s + k phi), the
    same on every machine.
    """

    def __init__(self, seeds: Int[Tensor, "*b"]) -> None:
        self._seeds = seeds.numpy().astype(np.uint64)[..., None]
        self._drawn = 0

    @classmethod
    def start(cls, n: int, generator: torch.Generator) -> "Draws":
        """One seed per image.

        Raises:
            ValueError: unless ``n`` is a positive count and ``generator`` a torch
                generator on the CPU.
        """
        expect(
            isinstance(n, int) and not isinstance(n, bool) and n >= 1,
            "n >= 1 images",
            n,
        )
        on_cpu = (
            isinstance(generator, torch.Generator) and generator.device.type == "cpu"
        )
        expect(on_cpu, "a torch.Generator on the CPU", generator)
        return cls(torch.randint(2**62, (n,), generator=generator))

    def uniform(
        self, low: int | float | Tensor, high: int | float | Tensor, *shape: int
    ) -> Tensor:
        """Uniform in [low, high), shape (*seeds, *shape), float32."""
        count = math.prod(shape)
        steps = np.arange(self._drawn + 1, self._drawn + count + 1).astype(np.uint64)
        self._drawn += count
        z = self._seeds + steps * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        unit = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(
            np.float32
        ) / np.float32(2**24)
        return low + (high - low) * torch.from_numpy(
            unit.reshape(*self._seeds.shape[:-1], *shape)
        )

    def integers(self, low: int, high: int, *shape: int) -> Int[Tensor, "..."]:
        """Uniform integers in [low, high), shape (*seeds, *shape)."""
        return low + (self.uniform(0.0, 1.0, *shape).double() * (high - low)).long()


@dataclass(frozen=True)
class Factors:
    """A scene: its factors, one tensor each, with the images along the first axis."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def __getitem__(self: "S", images: slice | Tensor) -> "S":
        """Some of the images, or the same ones many times."""
        return type(self)(
            **{name: values[images] for name, values in vars(self).items()}
        )


S = TypeVar("S", bound=Factors)


def check_range(
    name: str, bounds: Range, least: int | float, most: int | float = math.inf
) -> None:
    """Raise ``ValueError`` unless least <= low <= high <= most."""
    ordered = len(bounds) == 2 and least <= bounds[0] <= bounds[1] <= most
    expect(ordered, f"{name}=(low, high) with {least} <= low <= high <= {most}", bounds)


def check_size(size: int) -> None:
    """Raise ``ValueError`` for an image too small to show anything."""
    expect(
        isinstance(size, int) and size >= 16,
        "an image size of at least 16 pixels",
        size,
    )


def fixed(points: np.ndarray) -> np.ndarray:
    """Output pixels -> OpenCV's fixed-point coordinates on the map of inks."""
    # OpenCV puts a sample's centre at an integer, we put it at +0.5, hence the half.
    return np.round((points * OVER - 0.5) * (1 << SHIFT)).astype(np.int32)


def hulls(
    centres: Float[np.ndarray, "*b d 2"], radii: Float[np.ndarray, "*b d"]
) -> Float[np.ndarray, "*b k 2"]:
    """Convex hulls of discs, as polygons: one disc is a disc, two are a (tapered)
    capsule."""
    # The corner in direction u lies on the disc whose support c·u + r is the largest.
    # (*b, d, k)
    reach = (
        centres[..., :1] * _AROUND[0] + centres[..., 1:] * _AROUND[1] + radii[..., None]
    )
    farthest = reach == reach.max(-2, keepdims=True)
    corners = centres[..., :1, :] + radii[..., :1, None] * _AROUND.T
    for d in range(1, centres.shape[-2]):
        on = centres[..., d, None, :] + radii[..., d, None, None] * _AROUND.T
        np.copyto(corners, on, where=farthest[..., d, :, None])
    return corners


def stamp(inks: np.ndarray, polygons: np.ndarray, colours: list[int]) -> np.ndarray:
    """Draw convex fixed-point polygons (m, k, 2), each in its ink, the later over the
    earlier."""
    for corners, ink in zip(polygons, colours, strict=False):
        cv2.fillConvexPoly(inks, corners, ink, cv2.LINE_8, SHIFT)
    return inks


def blank(size: int) -> UInt8[np.ndarray, "fine fine"]:
    """An empty map of inks: 0 is see-through."""
    return np.zeros((size * OVER, size * OVER), np.uint8)


def at_centres(inks: np.ndarray) -> np.ndarray:
    """The map of inks at the centres of the pixels."""
    return inks[OVER // 2 :: OVER, OVER // 2 :: OVER]


def compose(
    layers: UInt8[np.ndarray, "n m h w"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lay each image's layers over each other, the later over the earlier; 0 is
    see-through.

    Returns:
        The values on top (n, h, w); whose they are, 1 for the first layer and 0 for
        none (n, h, w); the tightest box xyxy around each whole layer (n, m, 4), zeros
        around an empty one; and how many pixels it has (n, m).
    """
    n, m, *frame = layers.shape
    top, owner = np.zeros((2, n, *frame), np.uint8)
    boxes, areas = np.zeros((n, m, 4), np.float32), np.zeros((n, m), np.float32)
    for i, j in np.ndindex(n, m):
        x, y, wide, tall = cv2.boundingRect(layers[i, j])
        boxes[i, j], areas[i, j] = (
            (x, y, x + wide, y + tall),
            cv2.countNonZero(layers[i, j]),
        )
        np.copyto(top[i], layers[i, j], where=layers[i, j] > 0)
        np.copyto(owner[i], j + 1, where=layers[i, j] > 0)
    return top, owner, boxes, areas


@lru_cache(maxsize=8)
def _phases(size: int) -> np.ndarray:
    """Where stripes and hoops are (a period is 1/16 of the image), times 256 to be
    added to an ink."""
    bar = (np.arange(size * OVER) * 32 // (size * OVER)) % 2
    return ((bar[None] + 2 * bar[:, None]) * 256).astype(np.uint16)


def inkwell(
    colours: np.ndarray, second: np.ndarray, pattern: np.ndarray, alpha: np.ndarray
) -> np.ndarray:
    """Tables from ink and phase to a premultiplied colour.

    Args:
        colours, second: (n, inks, 3) in 0..255, of the ink and of its pattern.
        pattern: (n, inks) into PATTERNS.
        alpha: (inks,) opacity in [0, 1]; ink 0 must have 0.

    Returns:
        (n, 1024) uint32: four bytes red, green, blue, opacity.
    """
    n, inks = pattern.shape
    table = np.zeros((n, 4, 256, 4), np.uint8)
    on = _SECOND[pattern].transpose(0, 2, 1)[..., None]  # (n, 4, inks, 1)
    table[:, :, :inks, :3] = (
        np.where(on, second[:, None], colours[:, None]).clip(0, 255) * alpha[:, None]
    )
    table[..., :inks, 3] = 255 * alpha
    return table.view(np.uint32).reshape(n, 1024)


def colour(
    inks: np.ndarray, table: np.ndarray, weave: Sequence[float] = (0.0, 0.0)
) -> UInt8[np.ndarray, "s s 4"]:
    """One map of inks -> premultiplied RGBA, averaged down; ``weave`` moves the
    patterns, (x, y) in pixels."""
    phases = _phases(len(inks) // OVER)
    if any(weave):  # patterns repeat themselves across the image's border
        phases = np.roll(
            phases, [round(OVER * step) for step in (weave[1], weave[0])], (0, 1)
        )
    fine = table.take(inks + phases).view(np.uint8).reshape(*inks.shape, 4)
    # A box filter read at the centres is the mean over each pixel, and twice as fast as
    # an area resize.
    return at_centres(cv2.blur(fine, (OVER, OVER)))


class Camera(NamedTuple):
    """How pictures are taken: per-image values."""

    gain: Float[Tensor, "n 3"]  # of red, green, blue
    contrast: Float[Tensor, " n"]
    noise: Float[Tensor, " n"]  # standard deviation
    offsets: Int[Tensor, "n 2"]  # in [0, 64): which piece of the noise


@lru_cache(maxsize=8)
def _film(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit noise on a larger square, part of it common to the colours, and the lens's
    darker corners."""
    noise = torch.randn(
        4, size + 64, size + 64, generator=torch.Generator().manual_seed(size)
    ).numpy()
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    vignette = 1 - 0.13 * (axis[:, None] ** 2 + axis[None] ** 2)
    return 0.8 * noise[:3] + 0.6 * noise[3:], vignette


def photograph(
    paint: np.ndarray, ground: np.ndarray, camera: Camera, out: np.ndarray
) -> None:
    """Premultiplied ``paint`` (n, s, s, 4) over ``ground`` (n, s, s, 3), both uint8,
    through a camera into ``out``."""
    size = paint.shape[1]
    noise, vignette = _film(size)
    contrast = camera.contrast.numpy()[:, None]
    # ((x - 1/2) contrast + 1/2) gain
    slope = (camera.gain.numpy() * contrast / 255)[..., None, None]
    # as one multiply-add
    level = (camera.gain.numpy() * (0.5 - 0.5 * contrast))[..., None, None]
    for i, ((down, across), grain) in enumerate(
        zip(camera.offsets.tolist(), camera.noise.tolist(), strict=True)
    ):
        *above, opacity = cv2.split(paint[i])
        through = 1 - opacity * np.float32(1 / 255)
        image = np.multiply(cv2.split(ground[i]), through, out=out[i])
        image += above
        image *= vignette
        image *= slope[i]
        image += level[i] + grain * noise[:, down : down + size, across : across + size]
        image.clip(0, 1, out=image)


def render(
    draw: Callable[[S, np.ndarray], None], scene: S, size: int
) -> Float[Tensor, "n 3 size size"]:
    """Have ``draw`` fill the images of the scene, a few at a time, which then stay in
    the processor's cache."""
    check_size(size)
    images = torch.empty(len(scene), 3, size, size)
    for first in range(0, len(scene), 64):
        draw(scene[first : first + 64], images[first : first + 64].numpy())
    return images
