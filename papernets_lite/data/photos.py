"""Real photographs that scikit-image ships, and backgrounds made of them."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import skimage
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from papernets_lite.data.canvas import Draws, check_size
from papernets_lite.ops.checks import expect

# Only what lies in scikit-image's wheel: its other pictures would be downloaded.
NAMES = ("astronaut", "brick", "cat", "coffee", "grass", "gravel", "rocket")
# No background: stained tissue under a microscope (immunohistochemistry, 512 x 512, by
# the CMMI; no known copyright).
MICROGRAPHS = ("tissue",)
SCENERY = NAMES[1:]  # no people: backgrounds for `people`
# those not called NAME.png
_FILES = {"cat": "chelsea.png", "rocket": "rocket.jpg", "tissue": "ihc.png"}
# Wall, its tint; floor, its tint. Grey photographs of materials get their colour here.
_STAGES = (
    ("sky", (255, 255, 255), "grass", (146, 190, 88)),
    ("grass", (84, 132, 66), "gravel", (208, 192, 164)),
    ("brick", (222, 136, 108), "gravel", (176, 176, 180)),
    ("brick", (232, 222, 206), "planks", (206, 150, 98)),
    ("plaster", (206, 222, 214), "planks", (172, 118, 78)),
    ("plaster", (240, 214, 172), "tiles", (214, 206, 196)),
    ("plaster", (164, 186, 208), "tiles", (200, 150, 120)),
    ("sky", (255, 244, 232), "gravel", (226, 204, 164)),
)


@lru_cache(maxsize=len(NAMES) + len(MICROGRAPHS))
def _read(name: str) -> np.ndarray:
    known = NAMES + MICROGRAPHS
    expect(name in known, f"one of {sorted(known)}", name)
    path = Path(skimage.__file__).parent / "data" / _FILES.get(name, f"{name}.png")
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(
            f"scikit-image's picture {path.name} is missing; reinstall scikit-image"
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def load(name: str) -> Float[Tensor, "3 h w"]:
    """One photograph, RGB in [0, 1].

    Raises:
        ValueError: for a name that is neither in ``NAMES`` nor in ``MICROGRAPHS``.
        FileNotFoundError: when scikit-image's copy is missing.
    """
    return torch.from_numpy(_read(name).copy()).permute(2, 0, 1) / 255


def crops(
    names: tuple[str, ...], draws: Float[Tensor, "n 4"], size: int
) -> UInt8[np.ndarray, "n size size 3"]:
    """Square crops of photographs.

    Args:
        names: the photographs to choose from.
        draws: in [0, 1): which photograph, how large a crop, where across, where down.
        size: side of the result in pixels.
    """
    out = np.empty((len(draws), size, size, 3), np.uint8)
    for row, (which, scale, across, down) in zip(out, draws.tolist(), strict=True):
        picture = _read(names[int(which * len(names))])
        side = int((0.25 + 0.5 * scale) * min(picture.shape[:2]))
        top, left = (
            int(down * (picture.shape[0] - side)),
            int(across * (picture.shape[1] - side)),
        )
        # a coarse thinning first makes the averaging four times faster
        step = max(1, side // (2 * size))
        piece = picture[top : top + side : step, left : left + side : step]
        cv2.resize(piece, (size, size), dst=row, interpolation=cv2.INTER_AREA)
    return out


def backgrounds(
    n: int, size: int, generator: torch.Generator
) -> Float[Tensor, "n 3 size size"]:
    """Random crops of the photographs, RGB in [0, 1].

    Raises:
        ValueError: for ``n < 1``, a size under 16 pixels or a wrong generator.
    """
    check_size(size)
    draws = Draws.start(n, generator).uniform(0, 1, 4)
    return torch.from_numpy(crops(NAMES, draws, size)).permute(0, 3, 1, 2) / 255


@lru_cache(maxsize=32)
def material(name: str, tint: tuple[int, int, int]) -> np.ndarray:
    """A 256 x 256 piece of wall, floor or sky: photographed where there is a
    photograph, else painted."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:256, 0:256]

    def cloud(cells: int) -> np.ndarray:
        return cv2.resize(
            rng.random((cells, cells)).astype(np.float32),
            (256, 256),
            interpolation=cv2.INTER_CUBIC,
        )

    if name in NAMES:
        grey = (
            cv2.resize(_read(name), (256, 256), interpolation=cv2.INTER_AREA)[..., 0]
            / 255
        )
        grey = 0.85 + 0.75 * (grey - grey.mean())
    elif name == "planks":
        board, along = y // 32, x + 90 * (y // 32)
        grey = (
            0.72
            + 0.28 * rng.random((8, 64))[board, along // 128]
            + 0.08 * np.sin(y / 3 + 6 * cloud(6))
        )
        grey[(y % 32 < 2) | (along % 128 < 2)] *= 0.6
    elif name == "tiles":
        grey = 0.85 + 0.2 * ((x // 32 + y // 32) % 2) - 0.12 * cloud(40)
        grey[(x % 32 < 2) | (y % 32 < 2)] *= 0.75
    elif name == "plaster":
        grey = 0.88 + 0.12 * cloud(5) + 0.06 * cloud(60)
    else:  # sky: from blue above to pale below, with clouds
        white = np.clip(
            1.6 * (0.5 * cloud(4) + 0.3 * cloud(9) + 0.2 * cloud(20)) - 0.5, 0, 1
        )[..., None]
        blue = np.array([0.42, 0.64, 0.9]) + (y / 255)[..., None] * np.array(
            [0.4, 0.24, 0.06]
        )
        return ((blue * (1 - white) + white) * tint).clip(0, 255).astype(np.uint8)
    # Slightly out of focus: it sets the figures off, and shrinking it does not alias.
    return cv2.blur((grey[..., None] * tint).clip(0, 255).astype(np.uint8), (3, 3))


def stages(
    draws: Float[Tensor, "n 4"], horizon: Float[Tensor, " n"], size: int
) -> UInt8[np.ndarray, "n s s 3"]:
    """Rooms and gardens: a wall or the sky above the horizon, a floor in perspective
    below it.

    Args:
        draws: in [0, 1): which stage, which piece of its materials (two), how bright.
        horizon: where the floor meets the wall, in units of the image's side, in (0,
            1).
        size: side of the result in pixels.
    """
    out = np.empty((len(draws), size, size, 3), np.uint8)
    corner = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    for image, (which, across, down, bright), edge in zip(
        out, draws.tolist(), horizon.tolist(), strict=True
    ):
        wall, wall_tint, floor, floor_tint = _STAGES[int(which * len(_STAGES))]
        row = min(max(round(edge * size), 1), size - 2)
        tall = max(8, round(150 * edge))
        top, left = 0 if wall == "sky" else int(down * (255 - tall)), int(across * 106)
        piece = material(wall, wall_tint)[top : top + tall, left : left + 150]
        image[:row] = cv2.resize(piece, (size, row))
        near = 60 + 30 * down
        source = np.array(
            [(0, 0), (255, 0), (128 + near, 255), (128 - near, 255)], np.float32
        )
        matrix = cv2.getPerspectiveTransform(
            source, corner * np.array([size, size - row], np.float32)
        )
        image[row:] = cv2.warpPerspective(
            material(floor, floor_tint), matrix, (size, size - row)
        )
        if wall in ("brick", "plaster"):
            skirting = image[row - max(1, size // 40) : row]
            skirting[:] = skirting // 2 + 20
        # Darker away from the light and on the wall, so that the figures stand out.
        cv2.convertScaleAbs(image, image, 0.76 + 0.26 * bright, 6)
    return out
