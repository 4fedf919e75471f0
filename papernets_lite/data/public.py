"""Datasets by name: what packages ship, and public ones, read with torchvision from
where the reader keeps them."""

import json
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from operator import index
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from papernets_lite.ops.checks import expect
from papernets_lite.ops.skeletons import COCO

SHIPPED = ("mnist5k", "digits8", "photos")
ADDRESS = "http://images.cocodataset.org"


class Source(NamedTuple):
    """How a dataset is opened and read."""

    # takes the root, whether to download, and one of `parts`
    open: Callable[..., Any]
    # what selects the test and the training part
    parts: tuple[dict[str, Any], dict[str, Any]]
    expects: str  # a file that must be under the root
    read: Callable[[Any, int, int | None], dict[str, Tensor]]
    # how one comes by it
    hint: str = "pass download=True where there is internet"


class WrongRecordError(ValueError):
    """A file of a dataset is there and readable, and says what cannot be."""


def _shipped(name: str, train: bool | None) -> dict[str, Tensor]:
    # imported here: who reads a public dataset needs no OpenCV
    from papernets_lite.data import digits, photos

    if name == "mnist5k":
        return digits.mnist5k(train)
    if name == "digits8":
        return digits.digits8()
    return {known: photos.load(known) for known in photos.NAMES}


def _torchvision(name: str) -> Callable[..., Any]:
    """What opens one of torchvision's datasets."""

    def opened(root: str, **request: Any) -> Any:
        from torchvision import datasets

        return getattr(datasets, name)(root, **request)

    return opened


def _arrays(
    dataset: Any,
    size: int,
    limit: int | None,
) -> dict[str, Tensor]:
    """A dataset that holds all its pixels, at its own size."""
    pixels = torch.as_tensor(dataset.data)[:limit]
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    labels = torch.as_tensor(labels)[:limit].long()
    return {"images": pixels.float() / 255, "labels": labels}


def _square(
    picture: Image.Image,
    size: int,
    fill: int = 0,
) -> tuple[Tensor, float]:
    """Scale a picture's longer side to ``size``, fill up at the right and below; also
    the scale."""
    scale = size / max(picture.size)
    wide, tall = (max(1, round(side * scale)) for side in picture.size)
    # class indices must not be mixed
    indices = picture.mode in ("P", "L")
    resampling = Image.Resampling
    how = resampling.NEAREST if indices else resampling.BILINEAR
    small = np.array(picture.resize((wide, tall), how))
    out = np.full((size, size, *small.shape[2:]), fill, np.uint8)
    out[:tall, :wide] = small
    return torch.from_numpy(out), scale


def _photographs(
    pictures: Sequence[Image.Image],
    size: int,
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 1"]]:
    """Squares in [0, 1], and the pictures' scales."""
    images, scales = [], []
    for picture in pictures:
        image, scale = _square(picture.convert("RGB"), size)
        images.append(image)
        scales.append(scale)
    squares = torch.stack(images).permute(0, 3, 1, 2) / 255
    return squares, torch.tensor(scales)[:, None, None]


def _voc(
    dataset: Any,
    size: int,
    limit: int | None,
) -> dict[str, Tensor]:
    images, labels = [], []
    for i in range(len(dataset))[:limit]:
        image, label = dataset[i]
        images.append(_upright(image, label.size, f"picture {i}"))
        labels.append(_square(label, size, fill=255)[0])
    squares, _ = _photographs(images, size)
    return {"images": squares, "labels": torch.stack(labels).long()}


def _celeba(
    dataset: Any,
    size: int,
    limit: int | None,
) -> dict[str, Tensor]:
    pictures = [dataset[i][0] for i in range(len(dataset))[:limit]]
    images, scale = _photographs(pictures, size)
    return {
        "images": images,
        "attributes": dataset.attr[:limit].bool(),
        "landmarks": dataset.landmarks_align[:limit].reshape(-1, 5, 2) * scale,
        "identity": dataset.identity[:limit, 0].long(),
    }


def _upright(
    picture: Image.Image,
    size: tuple[int, int] | None,
    name: object,
) -> Image.Image:
    """A photograph as its annotations see it: turned as its EXIF orientation says,
    unless they were made on the pixels as they are stored.

    Args:
        picture: as it was opened.
        size: (width, height) that the annotations give; None where they give none.
        name: of the picture, for the message.

    Raises:
        WrongRecordError: when the picture has that size neither turned nor as stored.
    """
    turned = ImageOps.exif_transpose(picture)
    if size is None or turned.size == size:
        return turned
    if picture.size == size:
        return picture
    raise WrongRecordError(
        f"expected {name} to be {size[0]} x {size[1]} pixels, as its annotations say,"
        f" got {turned.size[0]} x {turned.size[1]}"
    )


class _Coco(NamedTuple):
    """Pictures, what is on each, and which label each category's id gets."""

    files: list[Path]
    sizes: list[tuple[int, int] | None]  # (width, height)
    things: list[list[dict[str, Any]]]
    labels: dict[int, int]


def _coco_file(
    root: str,
    kind: str,
    part: str,
) -> dict[str, Any]:
    path = Path(root) / "annotations" / f"{kind}_{part}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("images", "annotations"):
        if name not in content:
            raise WrongRecordError(f"expected a list {name!r} in {path}, got none")
    return content


def _field(
    record: dict[str, Any],
    name: str,
    of: str,
) -> Any:
    if name not in record:
        raise WrongRecordError(f"expected {name!r} of each {of}, got {record}")
    return record[name]


def _coco_labels(content: dict[str, Any]) -> dict[int, int]:
    """A label from 0 on, without gaps, for each category's id, in the ids' order."""
    if "categories" in content:
        ids = {_field(one, "id", "category") for one in content["categories"]}
    else:
        things = content["annotations"]
        ids = {_field(one, "category_id", "annotation") for one in things}
    return {number: label for label, number in enumerate(sorted(ids))}


def _check_thing(
    thing: dict[str, Any],
    labels: dict[int, int],
) -> None:
    """Refuse an annotation that says what cannot be."""
    category = _field(thing, "category_id", "annotation")
    if category not in labels:
        raise WrongRecordError(
            f"expected a category among {sorted(labels)}, got {category} in {thing}"
        )
    box = _field(thing, "bbox", "annotation")
    if len(box) != 4 or not all(math.isfinite(number) for number in box):
        raise WrongRecordError(f"expected a box of four finite numbers, got {thing}")


def _open_coco(
    root: str,
    *,
    kind: str,
    part: str,
    download: bool,
) -> _Coco:
    """torchvision's reader needs a compiled package for no more than this."""
    if download:
        raise RuntimeError(f"COCO has to be fetched by hand, from {ADDRESS}/zips")
    content = _coco_file(root, kind, part)
    labels = _coco_labels(content)
    things: dict[int, list[dict[str, Any]]] = {}
    files, sizes = [], []
    for image in content["images"]:
        things[_field(image, "id", "image")] = []
        files.append(Path(root) / part / _field(image, "file_name", "image"))
        given = "width" in image and "height" in image
        sizes.append((image["width"], image["height"]) if given else None)
    for thing in content["annotations"]:
        owner = _field(thing, "image_id", "annotation")
        if owner not in things:
            raise WrongRecordError(f"expected an image that is listed, got {thing}")
        _check_thing(thing, labels)
        _, _, wide, tall = thing["bbox"]
        # a few have no area: nothing can be learned or found there
        if wide > 0 and tall > 0:
            things[owner].append(thing)
    return _Coco(files, sizes, list(things.values()), labels)


def _coco(
    dataset: _Coco,
    size: int,
    limit: int | None,
) -> dict[str, Tensor]:
    pictures = []
    for file, known in zip(dataset.files[:limit], dataset.sizes[:limit], strict=True):
        with Image.open(file) as picture:
            pictures.append(_upright(picture, known, file.name).convert("RGB"))
    images, scale = _photographs(pictures, size)
    things = dataset.things[:limit]
    counts = torch.tensor([len(own) for own in things])[:, None]
    valid = torch.arange(max(1, int(counts.max()))) < counts
    every = [thing for own in things for thing in own]

    def padded(
        values: list[list[float]],
        width: int,
    ) -> Float[Tensor, "n m width"]:
        out = torch.zeros(*valid.shape, width)
        out[valid] = torch.tensor(values, dtype=torch.float32).reshape(-1, width)
        return out

    boxes = []
    for thing in every:
        x, y, wide, tall = thing["bbox"]
        boxes.append([x, y, x + wide, y + tall])
    labels = [[float(dataset.labels[thing["category_id"]])] for thing in every]
    crowd = [[float(thing.get("iscrowd", 0))] for thing in every]
    found = {
        "images": images,
        "boxes": padded(boxes, 4) * scale,
        "labels": padded(labels, 1)[..., 0].long(),
        "crowd": padded(crowd, 1)[..., 0] == 1,
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


def _handwriting(name: str) -> Source:
    file = f"{name}/raw/train-images-idx3-ubyte"
    return Source(_torchvision(name), _PLAIN, file, _arrays)


def _of_coco(kind: str) -> Source:
    parts = {"kind": kind, "part": "val2017"}, {"kind": kind, "part": "train2017"}
    file = f"annotations/{kind}_train2017.json"
    hint = f"fetch it by hand from {ADDRESS}"
    return Source(_open_coco, parts, file, _coco, hint)


SOURCES = {
    "mnist": _handwriting("MNIST"),
    "fashion_mnist": _handwriting("FashionMNIST"),
    "kmnist": _handwriting("KMNIST"),
    "cifar10": Source(
        _torchvision("CIFAR10"), _PLAIN, "cifar-10-batches-py/data_batch_1", _arrays
    ),
    "cifar100": Source(
        _torchvision("CIFAR100"), _PLAIN, "cifar-100-python/train", _arrays
    ),
    "svhn": Source(_torchvision("SVHN"), _SPLIT, "train_32x32.mat", _arrays),
    "voc_segmentation": Source(
        _torchvision("VOCSegmentation"),
        _VOC,
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
        _voc,
    ),
    "celeba": Source(
        _torchvision("CelebA"), _SPLIT, "celeba/list_attr_celeba.txt", _celeba
    ),
    "coco": _of_coco("instances"),
    "coco_keypoints": _of_coco("person_keypoints"),
}
# What torchvision and Pillow raise for files that are missing, cut off or not theirs.
_TROUBLE = (RuntimeError, OSError, ValueError, EOFError, AssertionError, KeyError)


def load(
    name: str,
    *,
    root: str | Path = "data",
    train: bool | None = True,
    size: SupportsIndex = 64,
    limit: SupportsIndex | None = None,
    download: bool = False,
) -> dict[str, Tensor]:
    """A dataset by name.

    Args:
        name: one that packages ship (``mnist5k``, ``digits8``, ``photos``) or a public
            one (``mnist``, ``fashion_mnist``, ``kmnist``, ``cifar10``, ``cifar100``,
            ``svhn``, ``voc_segmentation``, ``celeba``, ``coco``, ``coco_keypoints``).
        root: the folder that holds (or will hold) a public dataset, laid out as
            torchvision has it; ``~`` is the reader's home. COCO's holds
            ``annotations/``, ``train2017/`` and ``val2017/``.
        train: its training part, else its test part (VOC's and COCO's validation part).
            None, for both, is known to ``mnist5k`` only; ``digits8`` and ``photos``
            have one part.
        size: side to which photographs are brought: the longer side is scaled to it,
            the rest is filled up with black (VOC: class 255) at the right and below.
            Datasets of small pictures keep their size.
        limit: read only so many of the first images of a public dataset, at least 1.
        download: fetch a public dataset that is not under ``root``. Nothing is fetched
            unasked.

    Returns:
        ``images`` (n, c, h, w) in [0, 1] and ``labels`` (n,) from 0. VOC: ``labels``
        (n, h, w). CelebA: ``attributes`` (n, 40), ``landmarks`` (n, 5, 2) in pixels,
        ``identity``. COCO: ``boxes`` (n, m, 4), ``labels`` (n, m), ``crowd``, ``valid``
        and, for people, ``keypoints`` (n, m, 17, 2) in the order of
        ``ops.skeletons.COCO``, ``labelled`` (n, m, 17), of these the ``visible``, and
        ``areas`` (n, m) in pixels. ``photos``: a picture (3, h, w) per name.

        COCO's labels count from 0 without gaps, in the order of the file's category ids
        (80 of 1 to 90; ``category_names`` lists them). A ``crowd`` box goes around many
        at once; boxes without an area are left out. A photograph is turned as its EXIF
        orientation says where its annotations are so, too.

    Raises:
        ValueError: for an unknown name, ``train=None`` where it is not known, a size
            or limit under 1; for a record that says what cannot be
            (``WrongRecordError``), naming it.
        FileNotFoundError: when the data is not there or is damaged, saying where it was
            looked for, what is missing and how to get it.
        ConnectionError: when it was to be downloaded and could not.
    """
    known = sorted([*SHIPPED, *SOURCES])
    expect(name in known, f"one of {known}", name)
    expect(_is_count(size), "a size of at least 1 pixel", size)
    expect(limit is None or _is_count(limit), "a limit of at least 1 picture", limit)
    if name in SHIPPED:
        return _shipped(name, train)
    expect(train is not None, f"train=True or False for {name}", None)
    source, where = SOURCES[name], Path(root).expanduser().resolve()
    part = source.parts[bool(train)]
    few = None if limit is None else index(limit)
    try:
        dataset = source.open(str(where), download=download, **part)
        return source.read(dataset, index(size), few)
    except WrongRecordError:
        raise  # nothing is missing, and it says itself what is wrong
    except _TROUBLE as error:
        if download:
            raise _not_downloaded(name, source, where, error) from error
        raise _not_read(name, source, where, error) from error


def category_names(
    name: str = "coco",
    *,
    root: str | Path = "data",
    train: bool = True,
) -> tuple[str, ...]:
    """The categories that COCO's labels stand for; the first is label 0's.

    Args:
        name: ``coco`` or ``coco_keypoints``.
        root: as in ``load``.
        train: as in ``load``.

    Raises:
        ValueError: for another dataset, or a file that names no categories.
        FileNotFoundError: when the annotations are not there.
    """
    known = ("coco", "coco_keypoints")
    expect(name in known, f"one of {known}", name)
    source, where = SOURCES[name], Path(root).expanduser().resolve()
    try:
        content = _coco_file(str(where), **source.parts[bool(train)])
    except WrongRecordError:
        raise
    except _TROUBLE as error:
        raise _not_read(name, source, where, error) from error
    names = {}
    for category in content.get("categories", []):
        number = _field(category, "id", "category")
        names[number] = _field(category, "name", "category")
    expect(names, "a file that names its categories", source.expects)
    return tuple(names[number] for number in sorted(names))


def _is_count(value: SupportsIndex) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and index(value) >= 1


def _not_downloaded(
    name: str,
    source: Source,
    where: Path,
    error: Exception,
) -> ConnectionError:
    return ConnectionError(
        f"{name} could not be downloaded into {where}"
        f" ({type(error).__name__}: {error}). Fetch it elsewhere, put it there so that"
        f" {source.expects} is in that folder, and call again without download=True"
    )


def _not_read(
    name: str,
    source: Source,
    where: Path,
    error: Exception,
) -> FileNotFoundError:
    """What is missing, as precisely as can be told."""
    looked = f"{name} was looked for in {where}"
    reason = f"{type(error).__name__}: {error}"
    missing = getattr(error, "filename", None)
    expected = where / source.expects
    if isinstance(error, FileNotFoundError) and missing != str(expected) and missing:
        state = f"lacks {missing}"
    elif not expected.exists():
        state = f"is not there: expected {source.expects} ({reason})"
    else:
        state = f"is damaged or incomplete ({reason})"
    return FileNotFoundError(
        f"{looked} and {state}. Give the folder that holds it as root=,"
        f" or {source.hint}"
    )
