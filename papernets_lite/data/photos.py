"""Real photographs that scikit-image ships, also as backgrounds for the worlds."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import skimage
import torch
from jaxtyping import Float
from torch import Tensor

from papernets_lite.data.canvas import check_request, check_size

# Only what lies in scikit-image's wheel: its other pictures would be downloaded.
NAMES = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "rocket": "rocket.jpg",
}
SCENERY = ("brick", "cat", "coffee", "grass", "gravel", "rocket")  # no people: backgrounds for `people`


@lru_cache(maxsize=len(NAMES))
def _read(name: str) -> np.ndarray:
    if name not in NAMES:
        raise ValueError(f"expected one of {sorted(NAMES)}, got {name!r}")
    path = Path(skimage.__file__).parent / "data" / NAMES[name]
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(f"scikit-image's picture {path.name} is missing; reinstall scikit-image")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def load(name: str) -> Float[Tensor, "3 h w"]:
    """One photograph, RGB in [0, 1].

    Raises:
        ValueError: for a name that is not in ``NAMES``.
        FileNotFoundError: when scikit-image's copy is missing.
    """
    return torch.from_numpy(_read(name).copy()).permute(2, 0, 1) / 255


def crops(names: tuple[str, ...], draws: np.ndarray, size: int) -> np.ndarray:
    """Square crops of photographs, (n, size, size, 3) uint8.

    Args:
        names: the photographs to choose from.
        draws: (n, 4) in [0, 1): which photograph, how large a crop, where across, where down.
        size: side of the result in pixels.
    """
    out = np.empty((len(draws), size, size, 3), np.uint8)
    for row, (which, scale, across, down) in zip(out, draws, strict=True):
        picture = _read(names[int(which * len(names))])
        side = int((0.25 + 0.5 * scale) * min(picture.shape[:2]))
        top, left = int(down * (picture.shape[0] - side)), int(across * (picture.shape[1] - side))
        # Every k-th pixel is enough before the averaging resize, and four times faster.
        step = max(1, side // (2 * size))
        row[:] = cv2.resize(
            picture[top : top + side : step, left : left + side : step],
            (size, size),
            interpolation=cv2.INTER_AREA,
        )
    return out


def backgrounds(n: int, size: int, generator: torch.Generator) -> Float[Tensor, "n 3 size size"]:
    """Random crops of the photographs, RGB in [0, 1].

    Raises:
        ValueError: for ``n < 1``, ``size < 8`` or a wrong generator.
    """
    check_request(n, generator)
    check_size(size)
    draws = torch.rand(n, 4, generator=generator).numpy()
    return torch.from_numpy(crops(tuple(NAMES), draws, size)).permute(0, 3, 1, 2) / 255
