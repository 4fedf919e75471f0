"""Datasets by name: what packages ship, and public ones, read with torchvision from
where the reader keeps them."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision import datasets

from papernets_lite.data import digits, photos
from papernets_lite.ops.checks import expect
from papernets_lite.ops.skeletons import COCO

_SHIPPED: dict[str, Callable[[bool | None], dict[str, Tensor]]] = {
    "mnist5k": digits.mnist5k,
    "digits8": lambda train: digits.digits8(),
    "photos": lambda train: {name: photos.load(name) for name in photos.NAMES},
}


class Source(NamedTuple):
    """How a dataset is opened and read."""

    kind: Callable[..., Any]  # takes root, download and one of `parts`
    # what selects the test and the training part
    parts: tuple[dict[str, Any], dict[str, Any]]
    expects: str  # a file that must be under the root
    read: Callable[[Any, int, int | None], dict[str, Tensor]]


def _arrays(dataset: Any, size: int, limit: int | None) -> dict[str, Tensor]:
    """A dataset that holds all its pixels, at its own size."""
    pixels = torch.as_tensor(dataset.data)[:limit]
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2)
    labels = torch.as_tensor(
        dataset.labels if hasattr(dataset, "labels") else dataset.targets
    )[:limit].long()
    return {"images": pixels.float() / 255, "labels": labels}


def _square(picture: Image.Image, size: int, fill: int = 0) -> tuple[Tensor, float]:
    """Scale a picture's longer side to ``size``, fill up at the right and below; also
    the scale."""
    scale = size / max(picture.size)
    shape = [max(1, round(side * scale)) for side in picture.size]
    labels = picture.mode in ("P", "L")  # class indices must not be mixed
    small = np.array(
        picture.resize(
            shape, Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
        )
    )
    out = np.full((size, size, *small.shape[2:]), fill, np.uint8)
    out[: shape[1], : shape[0]] = small
    return torch.from_numpy(out), scale


def _photographs(pictures: Iterable[Image.Image], size: int) -> tuple[Tensor, Tensor]:
    """Squares (n, 3, size, size) in [0, 1] and the pictures' scales (n, 1, 1)."""
    images, scales = zip(
        *(_square(picture.convert("RGB"), size) for picture in pictures), strict=True
    )
    return torch.stack(images).permute(0, 3, 1, 2) / 255, torch.tensor(scales)[
        :, None, None
    ]


def _voc(dataset: Any, size: int, limit: int | None) -> dict[str, Tensor]:
    images, labels = zip(
        *(dataset[i] for i in range(len(dataset))[:limit]), strict=True
    )
    squares = [_square(label, size, fill=255)[0] for label in labels]
    return {
        "images": _photographs(images, size)[0],
        "labels": torch.stack(squares).long(),
    }


def _celeba(dataset: Any, size: int, limit: int | None) -> dict[str, Tensor]:
    images, scale = _photographs(
        (dataset[i][0] for i in range(len(dataset))[:limit]), size
    )
    return {
        "images": images,
        "attributes": dataset.attr[:limit].bool(),
        "landmarks": dataset.landmarks_align[:limit].reshape(-1, 5, 2) * scale,
        "identity": dataset.identity[:limit, 0].long(),
    }


def _coco_files(
    kind: str, root: str, part: str, download: bool
) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Pictures and what is on each; torchvision's reader needs a compiled package for
    no more than this."""
    if download:
        raise RuntimeError(
            f"COCO has to be fetched by hand, from http://images.cocodataset.org/zips/{part}.zip"
        )
    content = json.loads(
        (Path(root) / "annotations" / f"{kind}_{part}.json").read_text()
    )
    things: dict[int, list[dict[str, Any]]] = {
        image["id"]: [] for image in content["images"]
    }
    for thing in content["annotations"]:
        things[thing["image_id"]].append(thing)
    return [
        (Path(root) / part / image["file_name"], things[image["id"]])
        for image in content["images"]
    ]


def _coco(
    dataset: list[tuple[Path, list[dict[str, Any]]]], size: int, limit: int | None
) -> dict[str, Tensor]:
    files, things = zip(*dataset[:limit], strict=True)
    images, scale = _photographs(map(Image.open, files), size)
    counts = torch.tensor([len(own) for own in things])[:, None]
    valid = torch.arange(max(1, int(counts.max()))) < counts
    every = [thing for own in things for thing in own]

    def padded(values: list[list[float]], width: int) -> Float[Tensor, "n m width"]:
        out = torch.zeros(*valid.shape, width)
        out[valid] = torch.tensor(values, dtype=torch.float32).reshape(-1, width)
        return out

    boxes = padded(
        [[x, y, x + wide, y + tall] for x, y, wide, tall in (t["bbox"] for t in every)],
        4,
    )
    found = {
        "images": images,
        "boxes": boxes * scale,
        "labels": padded([[t["category_id"]] for t in every], 1)[..., 0].long(),
        "crowd": padded([[t["iscrowd"]] for t in every], 1)[..., 0] == 1,
        "valid": valid,
    }
    if any("keypoints" in t for t in every):
        nothing = [0] * 3 * len(COCO)
        triples = padded([t.get("keypoints", nothing) for t in every], len(nothing))
        points = triples.unflatten(-1, (len(COCO), 3))
        areas = padded([[t.get("area", 0.0)] for t in every], 1)[..., 0]
        found |= {
            "keypoints": points[..., :2] * scale[..., None],
            "labelled": points[..., 2] > 0,
            "visible": points[..., 2] == 2,
            "areas": areas * scale[..., 0] ** 2,
        }
    return found


_PLAIN = {"train": False}, {"train": True}
_SPLIT = {"split": "test"}, {"split": "train"}
_VOC = {"image_set": "val"}, {"image_set": "train"}
_COCO = {"part": "val2017"}, {"part": "train2017"}

SOURCES = {
    "mnist": Source(
        datasets.MNIST, _PLAIN, "MNIST/raw/train-images-idx3-ubyte", _arrays
    ),
    "fashion_mnist": Source(
        datasets.FashionMNIST,
        _PLAIN,
        "FashionMNIST/raw/train-images-idx3-ubyte",
        _arrays,
    ),
    "kmnist": Source(
        datasets.KMNIST, _PLAIN, "KMNIST/raw/train-images-idx3-ubyte", _arrays
    ),
    "cifar10": Source(
        datasets.CIFAR10, _PLAIN, "cifar-10-batches-py/data_batch_1", _arrays
    ),
    "cifar100": Source(datasets.CIFAR100, _PLAIN, "cifar-100-python/train", _arrays),
    "svhn": Source(datasets.SVHN, _SPLIT, "train_32x32.mat", _arrays),
    "voc_segmentation": Source(
        datasets.VOCSegmentation,
        _VOC,
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
        _voc,
    ),
    "celeba": Source(datasets.CelebA, _SPLIT, "celeba/list_attr_celeba.txt", _celeba),
    "coco": Source(
        partial(_coco_files, "instances"),
        _COCO,
        "annotations/instances_train2017.json",
        _coco,
    ),
    "coco_keypoints": Source(
        partial(_coco_files, "person_keypoints"),
        _COCO,
        "annotations/person_keypoints_train2017.json",
        _coco,
    ),
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
        name: one that packages ship (``mnist5k``, ``digits8``, ``photos``) or a public
            one (``mnist``, ``fashion_mnist``, ``kmnist``, ``cifar10``, ``cifar100``,
            ``svhn``, ``voc_segmentation``, ``celeba``, ``coco``, ``coco_keypoints``).
        root: the folder that holds (or will hold) a public dataset, laid out as
            torchvision has it; COCO's holds ``annotations/``, ``train2017/`` and
            ``val2017/``.
        train: its training part, else its test part (VOC's and COCO's validation part).
            None, for both, is known to ``mnist5k`` only; ``digits8`` and ``photos``
            have one part.
        size: side to which photographs are brought: the longer side is scaled to it,
            the rest is filled up with black (VOC: class 255) at the right and below.
            Datasets of small pictures keep their size.
        limit: read only so many of the first images of a public dataset.
        download: fetch a public dataset that is not under ``root``. Nothing is fetched
            unasked.

    Returns:
        ``images`` (n, c, h, w) in [0, 1] and ``labels`` (n,). VOC: ``labels`` (n, h,
        w). CelebA: ``attributes`` (n, 40), ``landmarks`` (n, 5, 2) in pixels,
        ``identity``. COCO: ``boxes`` (n, m, 4), ``labels`` (n, m), ``crowd``, ``valid``
        and, for people, ``keypoints`` (n, m, 17, 2) in the order of
        ``ops.skeletons.COCO``, ``labelled`` (n, m, 17), of these the ``visible``, and
        ``areas`` (n, m) in pixels. ``photos``: a picture (3, h, w) per name.

    Raises:
        ValueError: for an unknown name, or ``train=None`` where it is not known.
        FileNotFoundError: when the data is not there or is damaged, saying where it was
            looked for, which file was expected and how to get it.
        ConnectionError: when it was to be downloaded and could not.
    """
    expect(
        name in _SHIPPED or name in SOURCES,
        f"one of {sorted([*_SHIPPED, *SOURCES])}",
        name,
    )
    if name in _SHIPPED:
        return _SHIPPED[name](train)
    expect(train is not None, f"train=True or False for {name}", None)
    source, where = SOURCES[name], Path(root).expanduser().resolve()
    try:
        return source.read(
            source.kind(str(where), download=download, **source.parts[bool(train)]),
            size,
            limit,
        )
    except (
        RuntimeError,
        OSError,
        ValueError,
        EOFError,
        AssertionError,
        KeyError,
    ) as error:
        reason = f"{type(error).__name__}: {error}"
        if download:
            raise ConnectionError(
                f"{name} could not be downloaded into {where} ({reason}). Fetch it elsewhere, put it there so that"
                f" {source.expects} is in that folder, and call again without download=True"
            ) from error
        state = (
            "is damaged or incomplete"
            if (where / source.expects).exists()
            else "is not there"
        )
        raise FileNotFoundError(
            f"{name} was looked for in {where} and {state}: expected {source.expects} ({reason}). Give the folder that"
            " holds it as root=, or pass download=True where there is internet"
        ) from error
