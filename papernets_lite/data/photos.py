"""Real photographs that scikit-image ships, and backgrounds made of them."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from papernets_lite.ops.checks import expect

# Only what lies in scikit-image's wheel: its other pictures would be downloaded.
NAMES = ("astronaut", "brick", "cat", "coffee", "grass", "gravel", "rocket")
# No background: stained tissue under a microscope (immunohistochemistry, 512 x 512, by
# the CMMI; no known copyright).
MICROGRAPHS = ("tissue",)
SCENERY = NAMES[1:]  # no people: backgrounds for `people`
# those not called NAME.png
_FILES = {"cat": "chelsea.png", "rocket": "rocket.jpg", "tissue": "ihc.png"}
Tint = tuple[int, int, int]


class Stage(NamedTuple):
    """What stands behind and under figures: materials, and what their white becomes."""

    wall: str
    wall_tint: Tint
    floor: str
    floor_tint: Tint


# Grey photographs of materials get their colour here.
_STAGES = (
    Stage("sky", (255, 255, 255), "grass", (146, 190, 88)),
    Stage("grass", (84, 132, 66), "gravel", (208, 192, 164)),
    Stage("brick", (222, 136, 108), "gravel", (176, 176, 180)),
    Stage("brick", (232, 222, 206), "planks", (206, 150, 98)),
    Stage("plaster", (206, 222, 214), "planks", (172, 118, 78)),
    Stage("plaster", (240, 214, 172), "tiles", (214, 206, 196)),
    Stage("plaster", (164, 186, 208), "tiles", (200, 150, 120)),
    Stage("sky", (255, 244, 232), "gravel", (226, 204, 164)),
)


@lru_cache(maxsize=len(NAMES) + len(MICROGRAPHS))
def _read(name: str) -> np.ndarray:
    known = NAMES + MICROGRAPHS
    expect(name in known, f"one of {sorted(known)}", name)
    package = find_spec("skimage")  # its place is enough: importing it takes long
    if package is None or package.origin is None:
        raise FileNotFoundError("scikit-image is missing; install scikit-image")
    file = _FILES.get(name, f"{name}.png")
    picture = cv2.imread(str(Path(package.origin).parent / "data" / file))
    if picture is None:
        raise FileNotFoundError(
            f"scikit-image's picture {file} is missing; reinstall scikit-image"
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def load(name: str) -> Float[Tensor, "3 h w"]:
    """One photograph, RGB in [0, 1].

    Raises:
        ValueError: for a name that is neither in ``NAMES`` nor in ``MICROGRAPHS``.
        FileNotFoundError: when scikit-image's copy is missing.
    """
    picture = torch.from_numpy(_read(name).copy())
    return picture.permute(2, 0, 1) / 255


def _check_draws(draws: Float[Tensor, "n 4"]) -> None:
    inside = (draws >= 0) & (draws < 1)
    expect(inside.all(), "draws in [0, 1)", draws.tolist())


def crops(
    names: tuple[str, ...],
    draws: Float[Tensor, "n 4"],
    size: int,
) -> UInt8[np.ndarray, "n size size 3"]:
    """Square crops of photographs.

    Args:
        names: the photographs to choose from.
        draws: in [0, 1): which photograph, how large a crop, where across, where down.
        size: side of the result in pixels, at least 1.

    Raises:
        ValueError: for an unknown name, draws outside [0, 1) or an empty size.
    """
    expect(names, "at least one photograph", names)
    expect(size >= 1, "a size of at least 1 pixel", size)
    _check_draws(draws)
    out = np.empty((len(draws), size, size, 3), np.uint8)
    for i, (which, scale, across, down) in enumerate(draws.tolist()):
        picture = _read(names[int(which * len(names))])
        tall, wide, _ = picture.shape
        side = int((0.25 + 0.5 * scale) * min(tall, wide))
        top = int(down * (tall - side))
        left = int(across * (wide - side))
        # a coarse thinning first makes the averaging four times faster
        step = max(1, side // (2 * size))
        piece = picture[top : top + side : step, left : left + side : step]
        cv2.resize(piece, (size, size), dst=out[i], interpolation=cv2.INTER_AREA)
    return out


def _cloud(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth random heights, 256 x 256, from a grid of ``cells`` x ``cells``."""
    heights = rng.random((cells, cells)).astype(np.float32)
    return cv2.resize(heights, (256, 256), interpolation=cv2.INTER_CUBIC)


def _photographed(name: str) -> np.ndarray:
    small = cv2.resize(_read(name), (256, 256), interpolation=cv2.INTER_AREA)
    grey = small[..., 0] / 255
    return 0.85 + 0.75 * (grey - grey.mean())


def _planks(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:256, 0:256]
    board = y // 32
    along = x + 90 * board
    tones = 0.72 + 0.28 * rng.random((8, 64))[board, along // 128]
    grey = tones + 0.08 * np.sin(y / 3 + 6 * _cloud(rng, 6))
    grey[(y % 32 < 2) | (along % 128 < 2)] *= 0.6
    return grey


def _tiles(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:256, 0:256]
    checks = (x // 32 + y // 32) % 2
    grey = 0.85 + 0.2 * checks - 0.12 * _cloud(rng, 40)
    grey[(x % 32 < 2) | (y % 32 < 2)] *= 0.75
    return grey


def _plaster(rng: np.random.Generator) -> np.ndarray:
    return 0.88 + 0.12 * _cloud(rng, 5) + 0.06 * _cloud(rng, 60)


def _sky(rng: np.random.Generator) -> np.ndarray:
    """From blue above to pale below, with clouds, RGB around [0, 1]."""
    down = np.arange(256)[:, None, None] / 255
    blue = np.array([0.42, 0.64, 0.9]) + down * np.array([0.4, 0.24, 0.06])
    large = 0.5 * _cloud(rng, 4)
    middle = 0.3 * _cloud(rng, 9)
    small = 0.2 * _cloud(rng, 20)
    clouds = 1.6 * (large + middle + small) - 0.5
    white = np.clip(clouds, 0, 1)[..., None]
    return blue * (1 - white) + white


_PAINTED = {"planks": _planks, "tiles": _tiles, "plaster": _plaster}


@lru_cache(maxsize=32)
def material(name: str, tint: Tint) -> np.ndarray:
    """A 256 x 256 piece of wall, floor or sky: photographed where there is a
    photograph, else painted.

    Args:
        name: a photograph, or ``planks``, ``tiles``, ``plaster`` or ``sky``.
        tint: red, green and blue of what is white in it, in 0..255.

    Raises:
        ValueError: for a material that does not exist.
    """
    known = (*NAMES, *_PAINTED, "sky")
    expect(name in known, f"one of {known}", name)
    rng = np.random.default_rng(0)
    if name == "sky":
        return (_sky(rng) * tint).clip(0, 255).astype(np.uint8)
    grey = _photographed(name) if name in NAMES else _PAINTED[name](rng)
    coloured = (grey[..., None] * tint).clip(0, 255).astype(np.uint8)
    # Slightly out of focus: it sets the figures off, and shrinking it does not alias.
    return cv2.blur(coloured, (3, 3))


def stages(
    draws: Float[Tensor, "n 4"],
    horizon: Float[Tensor, " n"],
    size: int,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Rooms and gardens: a wall or the sky above the horizon, a floor in perspective
    below it.

    Args:
        draws: in [0, 1): which stage, which piece of its materials (two), how bright.
        horizon: where the floor meets the wall, in units of the image's side, in (0,
            1).
        size: side of the result in pixels, at least 16.

    Raises:
        ValueError: for draws outside [0, 1) or a size under 16 pixels.
    """
    expect(size >= 16, "an image size of at least 16 pixels", size)
    _check_draws(draws)
    out = np.empty((len(draws), size, size, 3), np.uint8)
    edges = horizon.tolist()
    for i, (which, across, down, bright) in enumerate(draws.tolist()):
        stage = _STAGES[int(which * len(_STAGES))]
        row = min(max(round(edges[i] * size), 1), size - 2)
        tall = max(8, round(150 * edges[i]))
        out[i, :row] = _wall(stage, across, down, tall, row, size)
        out[i, row:] = _floor(stage, down, row, size)
        if stage.wall in ("brick", "plaster"):
            skirting = out[i, row - max(1, size // 40) : row]
            skirting[:] = skirting // 2 + 20
        # Darker away from the light and on the wall, so that the figures stand out.
        cv2.convertScaleAbs(out[i], out[i], 0.76 + 0.26 * bright, 6)
    return out


def _wall(
    stage: Stage,
    across: float,
    down: float,
    tall: int,
    row: int,
    size: int,
) -> np.ndarray:
    """``row`` rows of a piece of wall that is ``tall`` of its material's pixels high;
    the sky is shown from its top."""
    top = 0 if stage.wall == "sky" else int(down * (255 - tall))
    left = int(across * 106)
    whole = material(stage.wall, stage.wall_tint)
    piece = whole[top : top + tall, left : left + 150]
    return cv2.resize(piece, (size, row))


def _floor(
    stage: Stage,
    down: float,
    row: int,
    size: int,
) -> np.ndarray:
    """A floor in perspective, from ``row`` to the bottom: its far edge is a whole side
    of the material, its near one a part of the other."""
    wide, tall = size, size - row
    near = 60 + 30 * down
    source = [
        (0, 0),
        (255, 0),
        (128 + near, 255),
        (128 - near, 255),
    ]
    target = [
        (0, 0),
        (wide, 0),
        (wide, tall),
        (0, tall),
    ]
    matrix = cv2.getPerspectiveTransform(
        np.array(source, np.float32), np.array(target, np.float32)
    )
    whole = material(stage.floor, stage.floor_tint)
    return cv2.warpPerspective(whole, matrix, (wide, tall))
