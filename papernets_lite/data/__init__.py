"""Worlds that draw themselves, real handwriting and photographs that packages ship, and torchvision's datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets

from papernets_lite.data import digits, people, photos, shapes

__all__ = ["digits", "load", "people", "photos", "shapes"]

SHIPPED: dict[str, Callable[[bool | None], dict[str, Tensor]]] = {
    "mnist5k": digits.mnist5k,
    "digits8": lambda train: digits.digits8(),
    "photos": lambda train: {name: photos.load(name) for name in photos.NAMES},
}
TORCHVISION: dict[str, tuple[type, dict[bool, dict[str, Any]]]] = {
    "mnist": (datasets.MNIST, {True: {"train": True}, False: {"train": False}}),
    "fashion_mnist": (datasets.FashionMNIST, {True: {"train": True}, False: {"train": False}}),
    "kmnist": (datasets.KMNIST, {True: {"train": True}, False: {"train": False}}),
    "cifar10": (datasets.CIFAR10, {True: {"train": True}, False: {"train": False}}),
    "cifar100": (datasets.CIFAR100, {True: {"train": True}, False: {"train": False}}),
    "svhn": (datasets.SVHN, {True: {"split": "train"}, False: {"split": "test"}}),
}


def load(
    name: str, *, root: str | Path = "data", train: bool | None = True, download: bool = False
) -> dict[str, Tensor]:
    """A data set by name.

    Args:
        name: one that packages ship (``mnist5k``, ``digits8``, ``photos``) or a torchvision data set (``mnist``,
            ``fashion_mnist``, ``kmnist``, ``cifar10``, ``cifar100``, ``svhn``).
        root: the folder that holds (or will hold) a torchvision data set.
        train: its training part, else its test part. None, for both, is known to ``mnist5k`` only.
        download: fetch a torchvision data set that is not under ``root``. Nothing is fetched unasked.

    Returns:
        ``images`` (n, c, h, w) in [0, 1] and ``labels`` (n,). ``photos`` gives a picture (3, h, w) per name.

    Raises:
        ValueError: for an unknown name.
        FileNotFoundError: when the data is not there, saying where it was looked for and how to get it.
        ConnectionError: when it was to be downloaded and could not.
    """
    if name in SHIPPED:
        return SHIPPED[name](train)
    if name not in TORCHVISION:
        raise ValueError(f"expected one of {sorted([*SHIPPED, *TORCHVISION])}, got {name!r}")
    kind, parts = TORCHVISION[name]
    where = Path(root).expanduser().resolve()
    try:
        dataset = kind(str(where), download=download, **parts[bool(train)])
    except (RuntimeError, FileNotFoundError, OSError) as error:
        if download:
            raise ConnectionError(
                f"{name} could not be downloaded into {where} ({error}). Without internet, fetch it elsewhere, put"
                f" torchvision's files for {kind.__name__} there and call again without download=True"
            ) from error
        raise FileNotFoundError(
            f"{name} was looked for in {where} and is not there, or is damaged ({error}). Give the folder that holds"
            f" torchvision's {kind.__name__} as root=, or pass download=True with internet at hand"
        ) from error
    return {"images": _as_images(dataset.data), "labels": _as_labels(dataset)}


def _as_images(pixels: Any) -> Tensor:
    """torchvision's four layouts -> (n, c, h, w) in [0, 1]."""
    pixels = torch.as_tensor(pixels)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2)
    return pixels.float() / 255


def _as_labels(dataset: Any) -> Tensor:
    return torch.as_tensor(dataset.labels if hasattr(dataset, "labels") else dataset.targets, dtype=torch.long)
