"""Worlds that draw themselves, real handwriting and photographs that packages ship, and public datasets by name."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from papernets_lite.data import (
    cells,
    digits,
    faces,
    motion,
    people,
    photos,
    public,
    regions,
    rooms,
    sentences,
    shapes,
    streets,
)

__all__ = [
    "cells",
    "digits",
    "faces",
    "load",
    "motion",
    "people",
    "photos",
    "regions",
    "rooms",
    "sentences",
    "shapes",
    "streets",
]

_SHIPPED: dict[str, Callable[[bool | None], dict[str, Tensor]]] = {
    "mnist5k": digits.mnist5k,
    "digits8": lambda train: digits.digits8(),
    "photos": lambda train: {name: photos.load(name) for name in photos.NAMES},
}


def load(
    name: str,
    *,
    root: str | Path = "data",
    train: bool | None = True,
    size: int = 64,
    limit: int | None = None,
    download: bool = False,
) -> dict[str, Tensor]:
    """A dataset by name.

    Args:
        name: one that packages ship (``mnist5k``, ``digits8``, ``photos``) or a public one (``mnist``,
            ``fashion_mnist``, ``kmnist``, ``cifar10``, ``cifar100``, ``svhn``, ``voc_segmentation``, ``celeba``,
            ``coco``, ``coco_keypoints``).
        root: the folder that holds (or will hold) a public dataset, laid out as torchvision has it; COCO's holds
            ``annotations/``, ``train2017/`` and ``val2017/``.
        train: its training part, else its test part (VOC's and COCO's validation part). None, for both, is known to
            ``mnist5k`` only; ``digits8`` and ``photos`` have one part.
        size: side to which photographs are brought: the longer side is scaled to it, the rest is filled up with
            black (VOC: class 255) at the right and below. Datasets of small pictures keep their size.
        limit: read only so many of the first images of a public dataset.
        download: fetch a public dataset that is not under ``root``. Nothing is fetched unasked.

    Returns:
        ``images`` (n, c, h, w) in [0, 1] and ``labels`` (n,). VOC: ``labels`` (n, h, w). CelebA: ``attributes``
        (n, 40), ``landmarks`` (n, 5, 2) in pixels, ``identity``. COCO: ``boxes`` (n, m, 4), ``labels`` (n, m),
        ``crowd``, ``valid`` and, for people, ``keypoints`` (n, m, 17, 2), ``visible``. ``photos``: a picture
        (3, h, w) per name.

    Raises:
        ValueError: for an unknown name, or ``train=None`` where it is not known.
        FileNotFoundError: when the data is not there or is damaged, saying where it was looked for, which file was
            expected and how to get it.
        ConnectionError: when it was to be downloaded and could not.
    """
    if name in _SHIPPED:
        return _SHIPPED[name](train)
    if name not in public.SOURCES:
        raise ValueError(f"expected one of {sorted([*_SHIPPED, *public.SOURCES])}, got {name!r}")
    if train is None:
        raise ValueError(f"expected train=True or False for {name}, got None")
    return public.load(name, root, train=train, size=size, limit=limit, download=download)
