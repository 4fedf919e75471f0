"""Drawing shared by the worlds: random factors, antialiased pieces, cloth patterns,
light and a camera.

A picture is drawn as a map of *inks* (one byte per sample, ``OVER`` x ``OVER`` samples
a pixel), coloured through a table, averaged down and laid over its background. Ground
truth reads the same map at the pixels' centres, so that it agrees with what is seen.
Positions are in output pixels and a pixel's centre is at +0.5: a disc at (8.0, 8.0) in
a 16x16 image is symmetric.
"""

import math
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
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
    "teal": (58, 164, 168),
    "blue": (66, 106, 190),
    "purple": (140, 92, 172),
    "white": (232, 230, 222),
}
# Shade, body and highlight of a lit surface: shade is cool, light is warm.
_SHADE = (0.66, 0.64, 0.72)
_BODY = (0.92, 0.91, 0.93)
_HIGHLIGHT = (1.1, 1.08, 1.03)
LIGHT = np.array([_SHADE, _BODY, _HIGHLIGHT], np.float32)
# A pattern's second colour shows where its bit is set: bit 0 and 1 of the phase are the
# stripe and the hoop.
_BITS = {
    "plain": (0, 0, 0, 0),
    "stripes": (0, 1, 0, 1),
    "hoops": (0, 0, 1, 1),
    "checks": (0, 1, 1, 0),
    "dots": (0, 0, 0, 1),
}
_SECOND = np.array([_BITS[name] for name in PATTERNS], bool)
_TURN = np.arange(CORNERS) * (2 * np.pi / CORNERS)
_AROUND = np.stack([np.cos(_TURN), np.sin(_TURN)]).astype(np.float32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Shifts and factors of splitmix64.
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


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
    def start(cls, n: SupportsIndex, generator: torch.Generator) -> "Draws":
        """One seed per image.

        Args:
            n: how many images.
            generator: torch generator on the CPU; it moves on by ``n`` numbers.

        Raises:
            ValueError: unless ``n`` is a positive count and ``generator`` a torch
                generator on the CPU.
        """
        several = is_whole(n) and operator.index(n) >= 1
        expect(several, "n >= 1 images", n)
        is_generator = isinstance(generator, torch.Generator)
        on_cpu = is_generator and generator.device.type == "cpu"
        expect(on_cpu, "a torch.Generator on the CPU", generator)
        count = operator.index(n)
        return cls(torch.randint(2**62, (count,), generator=generator))

    def uniform(
        self,
        low: int | float | Tensor,
        high: int | float | Tensor,
        *shape: int,
    ) -> Tensor:
        """Uniform in [low, high), shape (*seeds, *shape), float32."""
        count = math.prod(shape)
        steps = np.arange(self._drawn + 1, self._drawn + count + 1).astype(np.uint64)
        self._drawn += count
        bits = self._seeds + steps * _GOLDEN
        for shift, factor in _MIX:
            bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
        bits = bits ^ (bits >> np.uint64(31))
        # the upper 24 bits: as many as a float32 holds
        unit = (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
        unit = unit.reshape(*self._seeds.shape[:-1], *shape)
        return low + (high - low) * torch.from_numpy(unit)

    def integers(
        self,
        low: int,
        high: int,
        *shape: int,
    ) -> Int[Tensor, "..."]:
        """Uniform integers in [low, high), shape (*seeds, *shape)."""
        unit = self.uniform(0.0, 1.0, *shape).double()
        return low + (unit * (high - low)).long()

    def constant(self, value: int | float) -> Float[Tensor, "*b"]:
        """The same number for each seed; nothing is drawn."""
        return torch.full(self._seeds.shape[:-1], float(value))

    def choose(
        self,
        known: Sequence[str],
        chosen: Sequence[str],
        *shape: int,
    ) -> Int[Tensor, "..."]:
        """Any of the ``chosen`` names, as indices into ``known``, shape (*seeds,
        *shape)."""
        indices = torch.tensor([known.index(name) for name in chosen])
        return indices[self.integers(0, len(chosen), *shape)]


def draw_on(backgrounds: Float[Tensor, "n 4"]) -> Draws:
    """One seed per image, from what it has drawn already, for what is drawn beside it:
    so that it does not depend on the others.

    Args:
        backgrounds: of ``n`` scenes, uniform in [0, 1).
    """
    drawn = (backgrounds[:, :2] * 2**24).long()
    return Draws(drawn @ torch.tensor([2**24, 1]))


@dataclass(frozen=True)
class Factors:
    """A scene: its factors, one tensor each, with the images along the first axis."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def __getitem__(self: "S", images: slice | Tensor) -> "S":
        """Some of the images, or the same ones many times."""
        some = {name: values[images] for name, values in vars(self).items()}
        return type(self)(**some)


S = TypeVar("S", bound=Factors)


def is_whole(value: object) -> bool:
    """Whether it is a whole number: Python's or NumPy's, but no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_range(
    name: str,
    bounds: Any,
    least: int | float,
    most: int | float = math.inf,
    *,
    whole: bool = False,
) -> None:
    """Refuse a range that a world cannot draw from.

    Args:
        name: what the range is called in the request.
        bounds: (low, high), both included.
        least, most: the limits of what can be drawn.
        whole: whether low and high must be whole numbers.

    Raises:
        ValueError: unless least <= low <= high <= most.
    """
    pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2
    numbers = pair and all(isinstance(bound, Real) for bound in bounds)
    ordered = numbers and least <= bounds[0] <= bounds[1] <= most
    wanted = f"{name}=(low, high) with {least} <= low <= high <= {most}"
    expect(ordered, wanted, bounds)
    countable = not whole or all(is_whole(bound) for bound in bounds)
    expect(countable, f"{wanted}, whole numbers", bounds)


def check_names(
    name: str,
    chosen: Collection[str],
    known: Sequence[str],
) -> None:
    """Refuse names that a world does not know.

    Args:
        name: what they are called in the request.
        chosen: the names asked for.
        known: those that there are.

    Raises:
        ValueError: unless ``chosen`` holds at least one name, all of them known.
    """
    several = isinstance(chosen, Collection) and not isinstance(chosen, str)
    fits = several and len(chosen) > 0 and all(one in known for one in chosen)
    expect(fits, f"{name} from {known}", chosen)


def check_size(size: SupportsIndex) -> int:
    """The size as a plain number.

    Args:
        size: side of an image in pixels.

    Raises:
        ValueError: unless it is a whole number, and large enough to show anything.
    """
    large = is_whole(size) and operator.index(size) >= 16
    expect(large, "an image size of at least 16 pixels", size)
    return operator.index(size)


@contextmanager
def one_thread() -> Iterator[None]:
    """Have OpenCV draw on one thread, and leave its setting as it was: a picture is too
    small to be shared out."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def directions(angles: np.ndarray) -> Float[np.ndarray, "*b 2"]:
    """Unit vectors (x, y) of angles in radians; with y down they turn clockwise."""
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def centres(size: int) -> Float[np.ndarray, " size"]:
    """Where the pixels' centres are along one axis, in units of the image's side."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size


def fixed(points: np.ndarray) -> np.ndarray:
    """Output pixels -> OpenCV's fixed-point coordinates on the map of inks."""
    # OpenCV puts a sample's centre at an integer, we put it at +0.5, hence the half.
    return np.round((points * OVER - 0.5) * (1 << SHIFT)).astype(np.int32)


def hulls(
    centres: Float[np.ndarray, "*b d 2"],
    radii: Float[np.ndarray, "*b d"],
) -> Float[np.ndarray, "*b k 2"]:
    """Convex hulls of discs, as polygons: one disc is a disc, two are a (tapered)
    capsule."""
    # The corner in direction u lies on the disc whose support c·u + r is the largest.
    along_x = centres[..., :1] * _AROUND[0]
    along_y = centres[..., 1:] * _AROUND[1]
    reach = along_x + along_y + radii[..., None]  # (*b, d, k)
    farthest = reach == reach.max(-2, keepdims=True)
    corners = centres[..., :1, :] + radii[..., :1, None] * _AROUND.T
    for d in range(1, centres.shape[-2]):
        on = centres[..., d, None, :] + radii[..., d, None, None] * _AROUND.T
        np.copyto(corners, on, where=farthest[..., d, :, None])
    return corners


def strokes(
    draws: Float[Tensor, "n k 5"],
    shortest: float,
    longer: float,
    thickness: float | np.ndarray,
    size: int,
) -> Int[np.ndarray, "n k corners 2"]:
    """Short straight strokes, as fixed-point polygons.

    Args:
        draws: in [0, 1): x, y, length, direction and one more of each stroke.
        shortest: half the length of the shortest, in units of the image's side.
        longer: by how much half the longest exceeds it, same units.
        thickness: half of it, same units; one number or (n, k).
        size: side of the image in pixels.
    """
    x, y, length, turn, _ = draws.numpy().transpose(2, 0, 1)
    half = (shortest + longer * length)[..., None] * directions(6.3 * turn)
    # in double precision: a sum in single moves a corner of one stroke in thousands
    to_ends = np.stack([-half, half], 2).astype(np.float64)
    ends = np.stack([x, y], -1)[:, :, None] + to_ends
    thick = np.broadcast_to(np.asarray(thickness)[..., None], ends.shape[:-1])
    return fixed(hulls(ends * size, thick * size))


def stamp(
    inks: np.ndarray,
    polygons: np.ndarray,
    colours: list[int],
) -> np.ndarray:
    """Draw convex fixed-point polygons (m, k, 2), each in its ink, the later over the
    earlier."""
    for corners, ink in zip(polygons, colours, strict=True):
        cv2.fillConvexPoly(inks, corners, ink, cv2.LINE_8, SHIFT)
    return inks


def windows(
    maps: Shaped[Tensor, "n *c h w"], corners: Int[Tensor, "n 2"], side: int
) -> Shaped[Tensor, "n *c side side"]:
    """A square window of each image.

    Args:
        maps: pictures or masks.
        corners: row and column of each window's first pixel.
        side: of the windows, in pixels.

    Raises:
        ValueError: for corners of another shape, or a window beyond an image.
    """
    expect(corners.shape == (len(maps), 2), f"corners ({len(maps)}, 2)", corners.shape)
    ends = corners + side
    limits = torch.tensor(maps.shape[-2:])
    inside = (corners >= 0).all() and (ends <= limits).all() and side >= 1
    expect(inside, f"windows of {side} within {tuple(limits.tolist())}")
    cut = []
    for one, (top, left) in zip(maps, corners.tolist(), strict=True):
        cut.append(one[..., top : top + side, left : left + side])
    return torch.stack(cut)


def blank(size: int) -> UInt8[np.ndarray, "fine fine"]:
    """An empty map of inks: 0 is see-through."""
    return np.zeros((size * OVER, size * OVER), np.uint8)


def fill(inks: np.ndarray, corners: np.ndarray, ink: int) -> np.ndarray:
    """Draw one fixed-point polygon (k, 2) of any shape in its ink."""
    return cv2.fillPoly(inks, [corners], ink, cv2.LINE_8, SHIFT)


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
    top = np.zeros((n, *frame), np.uint8)
    owner = np.zeros((n, *frame), np.uint8)
    boxes = np.zeros((n, m, 4), np.float32)
    areas = np.zeros((n, m), np.float32)
    for i, j in np.ndindex(n, m):
        layer = layers[i, j]
        x, y, wide, tall = cv2.boundingRect(layer)
        boxes[i, j] = (x, y, x + wide, y + tall)
        areas[i, j] = cv2.countNonZero(layer)
        there = layer > 0
        np.copyto(top[i], layer, where=there)
        np.copyto(owner[i], j + 1, where=there)
    return top, owner, boxes, areas


@lru_cache(maxsize=8)
def _phases(size: int) -> np.ndarray:
    """Where stripes and hoops are (a period is 1/16 of the image), times 256 to be
    added to an ink."""
    fine = size * OVER
    bar = (np.arange(fine) * 32 // fine) % 2
    phase = bar[None] + 2 * bar[:, None]
    return (phase * 256).astype(np.uint16)


def inkwell(
    colours: np.ndarray,
    second: np.ndarray,
    pattern: np.ndarray,
    alpha: np.ndarray,
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
    shown = np.where(on, second[:, None], colours[:, None])
    table[:, :, :inks, :3] = shown.clip(0, 255) * alpha[:, None]
    table[..., :inks, 3] = 255 * alpha
    return table.view(np.uint32).reshape(n, 1024)


def plain_inkwell(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """``inkwell`` without patterns."""
    pattern = np.zeros(colours.shape[:2], np.int64)
    return inkwell(colours, colours, pattern, alpha)


def colour(
    inks: np.ndarray,
    table: np.ndarray,
    weave: Sequence[float] = (0.0, 0.0),
) -> UInt8[np.ndarray, "s s 4"]:
    """One map of inks -> premultiplied RGBA, averaged down; ``weave`` moves the
    patterns, (x, y) in pixels."""
    phases = _phases(len(inks) // OVER)
    if any(weave):  # patterns repeat themselves across the image's border
        right, down = weave
        phases = np.roll(phases, (round(OVER * down), round(OVER * right)), (0, 1))
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


def plain_camera(noise: Float[Tensor, " n"], grain: Int[Tensor, "n 2"]) -> Camera:
    """One that changes no colours."""
    ones = torch.ones(len(noise), 3)
    return Camera(ones, ones[:, 0], noise, grain)


@lru_cache(maxsize=8)
def _film(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit noise on a larger square, part of it common to the colours, and the lens's
    darker corners."""
    generator = torch.Generator().manual_seed(size)
    noise = torch.randn(4, size + 64, size + 64, generator=generator).numpy()
    axis = centres(size) * 2 - 1
    square = axis**2
    vignette = 1 - 0.13 * (square[:, None] + square[None])
    own, common = noise[:3], noise[3:]
    return 0.8 * own + 0.6 * common, vignette


def photograph(
    paint: np.ndarray,
    ground: np.ndarray,
    camera: Camera,
    out: np.ndarray,
) -> None:
    """Premultiplied ``paint`` (n, s, s, 4) over ``ground`` (n, s, s, 3), both uint8,
    through a camera into ``out``."""
    size = paint.shape[1]
    noise, vignette = _film(size)
    gain = camera.gain.numpy()
    contrast = camera.contrast.numpy()[:, None]
    # ((x - 1/2) contrast + 1/2) gain, as one multiply-add
    slope = (gain * contrast / 255)[..., None, None]
    level = (gain * (0.5 - 0.5 * contrast))[..., None, None]
    offsets = camera.offsets.tolist()
    strength = camera.noise.tolist()
    for i in range(len(paint)):
        *above, opacity = cv2.split(paint[i])
        through = 1 - opacity * np.float32(1 / 255)
        image = np.multiply(cv2.split(ground[i]), through, out=out[i])
        image += above
        image *= vignette
        image *= slope[i]
        down, across = offsets[i]
        grain = noise[:, down : down + size, across : across + size]
        image += level[i] + strength[i] * grain
        image.clip(0, 1, out=image)


def render(
    draw: Callable[[S, np.ndarray], None],
    scene: S,
    size: SupportsIndex,
) -> Float[Tensor, "n 3 h w"]:
    """Have a world draw its images.

    Args:
        draw: fills the images of a few scenes, (n, 3, size, size), in place; they then
            stay in the processor's cache.
        scene: the factors of all images.
        size: side of an image in pixels.

    Returns:
        The images, in [0, 1].

    Raises:
        ValueError: for a size under 16 pixels.
    """
    side = check_size(size)
    images = torch.empty(len(scene), 3, side, side)
    with one_thread():
        for first in range(0, len(scene), 64):
            some = slice(first, first + 64)
            draw(scene[some], images[some].numpy())
    return images
