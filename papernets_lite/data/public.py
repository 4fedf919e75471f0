"""Public datasets by name, read with torchvision from where the reader keeps them; nothing is fetched unasked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision import datasets


class Source(NamedTuple):
    """How a dataset is opened and read."""

    kind: Callable[..., Any]  # takes root, download and one of `parts`
    parts: tuple[dict[str, Any], dict[str, Any]]  # what selects the test and the training part
    expects: str  # a file that must be under the root
    read: Callable[[Any, int, int | None], dict[str, Tensor]]


def _arrays(dataset: Any, size: int, limit: int | None) -> dict[str, Tensor]:
    """A dataset that holds all its pixels, at its own size."""
    pixels = torch.as_tensor(dataset.data)[:limit]
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:
        pixels = pixels.permute(0, 3, 1, 2)
    labels = torch.as_tensor(dataset.labels if hasattr(dataset, "labels") else dataset.targets)[:limit].long()
    return {"images": pixels.float() / 255, "labels": labels}


def _square(picture: Image.Image, size: int, fill: int = 0) -> tuple[Tensor, float]:
    """Scale a picture's longer side to ``size``, fill up at the right and below; also the scale."""
    scale = size / max(picture.size)
    shape = [max(1, round(side * scale)) for side in picture.size]
    labels = picture.mode in ("P", "L")  # class indices must not be mixed
    small = np.array(picture.resize(shape, Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR))
    out = np.full((size, size, *small.shape[2:]), fill, np.uint8)
    out[: shape[1], : shape[0]] = small
    return torch.from_numpy(out), scale


def _voc(dataset: Any, size: int, limit: int | None) -> dict[str, Tensor]:
    pairs = [dataset[i] for i in range(len(dataset))[:limit]]
    images = torch.stack([_square(image.convert("RGB"), size)[0] for image, _ in pairs])
    labels = torch.stack([_square(label, size, fill=255)[0] for _, label in pairs])
    return {"images": images.permute(0, 3, 1, 2) / 255, "labels": labels.long()}


def _celeba(dataset: Any, size: int, limit: int | None) -> dict[str, Tensor]:
    images, scales = zip(*(_square(dataset[i][0], size) for i in range(len(dataset))[:limit]), strict=True)
    landmarks = dataset.landmarks_align[:limit].reshape(-1, 5, 2) * torch.tensor(scales)[:, None, None]
    pixels = torch.stack(images).permute(0, 3, 1, 2) / 255
    return {
        "images": pixels,
        "attributes": dataset.attr[:limit].bool(),
        "landmarks": landmarks,
        "identity": dataset.identity[:limit, 0].long(),
    }


class _Coco:
    """COCO's JSON files as they are; torchvision's reader needs a compiled package for no more than this."""

    def __init__(self, root: str, part: str, kind: str, download: bool) -> None:
        if download:
            raise RuntimeError(f"COCO has to be fetched by hand, from http://images.cocodataset.org/zips/{part}.zip")
        content = json.loads((Path(root) / "annotations" / f"{kind}_{part}.json").read_text())
        self.folder = Path(root) / part
        self.images = content["images"]
        self.objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
        for thing in content["annotations"]:
            self.objects[thing["image_id"]].append(thing)


def _coco(dataset: _Coco, size: int, limit: int | None) -> dict[str, Tensor]:
    chosen = dataset.images[:limit]
    pixels, scales = zip(
        *(_square(Image.open(dataset.folder / image["file_name"]).convert("RGB"), size) for image in chosen),
        strict=True,
    )
    things = [dataset.objects[image["id"]] for image in chosen]
    most = max(1, *map(len, things))

    def padded(width: int, value: Callable[[dict[str, Any]], list[float]]) -> Float[Tensor, "n m width"]:
        out = torch.zeros(len(things), most, width)
        for row, own in zip(out, things, strict=True):
            for k, thing in enumerate(own):
                row[k] = torch.tensor(value(thing), dtype=torch.float32)
        return out

    scale = torch.tensor(scales)[:, None, None]
    boxes = padded(4, lambda t: [*t["bbox"][:2], t["bbox"][0] + t["bbox"][2], t["bbox"][1] + t["bbox"][3]])
    points = padded(51, lambda t: t.get("keypoints", [0] * 51)).unflatten(-1, (17, 3))
    people = {"keypoints": points[..., :2] * scale[..., None], "visible": points[..., 2] == 2}
    return {
        "images": torch.stack(pixels).permute(0, 3, 1, 2) / 255,
        "boxes": boxes * scale,
        "labels": padded(1, lambda t: [t["category_id"]])[..., 0].long(),
        "crowd": padded(1, lambda t: [t["iscrowd"]])[..., 0] == 1,
        "valid": torch.arange(most) < torch.tensor([len(own) for own in things])[:, None],
        **(people if any("keypoints" in t for own in things for t in own) else {}),
    }


_PLAIN = {"train": False}, {"train": True}
_SPLIT = {"split": "test"}, {"split": "train"}


def _coco_parts(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"part": "val2017", "kind": kind}, {"part": "train2017", "kind": kind}


SOURCES = {
    "mnist": Source(datasets.MNIST, _PLAIN, "MNIST/raw/train-images-idx3-ubyte", _arrays),
    "fashion_mnist": Source(datasets.FashionMNIST, _PLAIN, "FashionMNIST/raw/train-images-idx3-ubyte", _arrays),
    "kmnist": Source(datasets.KMNIST, _PLAIN, "KMNIST/raw/train-images-idx3-ubyte", _arrays),
    "cifar10": Source(datasets.CIFAR10, _PLAIN, "cifar-10-batches-py/data_batch_1", _arrays),
    "cifar100": Source(datasets.CIFAR100, _PLAIN, "cifar-100-python/train", _arrays),
    "svhn": Source(datasets.SVHN, _SPLIT, "train_32x32.mat", _arrays),
    "voc_segmentation": Source(
        datasets.VOCSegmentation,
        ({"image_set": "val"}, {"image_set": "train"}),
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
        _voc,
    ),
    "celeba": Source(datasets.CelebA, _SPLIT, "celeba/list_attr_celeba.txt", _celeba),
    "coco": Source(_Coco, _coco_parts("instances"), "annotations/instances_train2017.json", _coco),
    "coco_keypoints": Source(
        _Coco, _coco_parts("person_keypoints"), "annotations/person_keypoints_train2017.json", _coco
    ),
}


def load(
    name: str, root: str | Path, *, train: bool, size: int, limit: int | None, download: bool
) -> dict[str, Tensor]:
    """See ``data.load``."""
    source, where = SOURCES[name], Path(root).expanduser().resolve()
    try:
        return source.read(source.kind(str(where), download=download, **source.parts[train]), size, limit)
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        if download:
            raise ConnectionError(
                f"{name} could not be downloaded into {where} ({reason}). Fetch it elsewhere, put it there so that"
                f" {source.expects} is in that folder, and call again without download=True"
            ) from error
        state = "is damaged or incomplete" if (where / source.expects).exists() else "is not there"
        raise FileNotFoundError(
            f"{name} was looked for in {where} and {state}: expected {source.expects} ({reason}). Give the folder that"
            " holds it as root=, or pass download=True where there is internet"
        ) from error
