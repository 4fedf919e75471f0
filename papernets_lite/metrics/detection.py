"""Box average precision as COCO defines it, by faster-coco-eval."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from papernets_lite.metrics.coco import evaluate, mean, summary
from papernets_lite.ops.boxes import check_boxes, check_truth
from papernets_lite.ops.checks import check_mask, expect


def box_ap(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    *,
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """COCO's average precision of boxes.

    Args:
        found: for each image ``boxes`` (n, 4) in xyxy pixels, ``scores`` (n,) and
            ``labels`` (n,) from 0.
        truth: ``boxes`` (b, k, 4) in xyxy pixels, ``labels`` (b, k) from 0 and
            ``valid`` (b, k): which of them are there. Where ``crowd`` (b, k) is given
            and true, the box is a region of many objects: nobody must find it, and
            what lies in it is not wrong.
        sizes: name -> (least, most) of the square root of a box's area, in pixels, for
            an AP of such objects only. COCO's own sizes would call everything in this
            book small.

    Returns:
        ``AP`` (mean over IoU 0.50 to 0.95), ``AP50``, ``AP75``, ``AR`` (100 boxes for
        each image), and ``AP <name>`` for each size, all in [0, 1]; nan for a size that
        no object has.

    Raises:
        ValueError: for another number of images, or when no image holds an object; for
            what ``check_truth`` refuses; for boxes or scores that are not finite.
    """
    sizes = sizes or {}
    precision, recall = _evaluate(found, truth, sizes)
    by_size = {
        f"AP {name}": mean(precision[..., k, -1]) for k, name in enumerate(sizes, 1)
    }
    return summary(precision, recall) | by_size


def ap_by_image(
    found: Sequence[Mapping[str, Tensor]], truth: Mapping[str, Tensor]
) -> list[float]:
    """Average precision of each image as if it were alone, to order images by.

    Args:
        found: as for ``box_ap``.
        truth: as for ``box_ap``, with an object in every image.

    Raises:
        ValueError: as ``box_ap``.
    """
    count = len(truth["valid"])
    expect(len(found) == count, f"detections for {count} images", len(found))
    alone = []
    for image, one in enumerate(found):
        own = {name: values[image : image + 1] for name, values in truth.items()}
        alone.append(box_ap([one], own)["AP"])
    return alone


def ap_by_iou(
    found: Sequence[Mapping[str, Tensor]], truth: Mapping[str, Tensor]
) -> dict[float, float]:
    """Average precision at each of COCO's ten IoU thresholds, 0.50 to 0.95: how tight
    the boxes are.

    Args:
        found: as for ``box_ap``.
        truth: as for ``box_ap``.

    Raises:
        ValueError: as ``box_ap``.
    """
    precision, _ = _evaluate(found, truth, {})
    return {0.5 + 0.05 * k: mean(row[..., 0, -1]) for k, row in enumerate(precision)}


def recall(
    proposals: Sequence[Tensor],
    truth: Mapping[str, Tensor],
    *,
    iou: float = 0.5,
    most: int | None = None,
) -> float:
    """The share of objects that some box overlaps, whatever its label.

    Args:
        proposals: for each image boxes (n, 4) in xyxy pixels, best first.
        truth: ``boxes`` (b, k, 4) in xyxy pixels and ``valid`` (b, k); crowds, as for
            ``box_ap``, do not count.
        iou: how much overlap is enough.
        most: only the first so many proposals of an image.

    Raises:
        ValueError: for another number of images, or when no image holds an object; for
            what ``check_truth`` refuses; for boxes that are not finite.
    """
    checked, crowd = _checked(truth)
    images, count = len(crowd), int(checked["valid"].sum() - crowd.sum())
    expect(
        len(proposals) == images and count,
        f"proposals for {images} images with objects",
        len(proposals),
    )
    expect(most is None or most >= 0, "how many proposals count", most)
    hits = 0
    for image, boxes in enumerate(proposals):
        boxes = check_boxes(boxes, f"proposals of image {image}", thin=True)
        counts = checked["valid"][image] & ~crowd[image]
        overlap = box_iou(checked["boxes"][image][counts], boxes[:most])
        hits += int((overlap >= iou).any(1).sum())
    return hits / count


def _checked(truth: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """The truth, and which of what is there is a crowd."""
    checked = check_truth(truth)
    valid = checked["valid"]
    if "crowd" not in truth:
        return checked, torch.zeros_like(valid)
    crowd = check_mask(truth["crowd"], "`crowd`", shape=valid.shape)
    return checked, crowd & valid


def _evaluate(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    sizes: Mapping[str, tuple[float, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """``coco.evaluate`` of boxes."""
    checked, crowd = _checked(truth)
    expect("labels" in checked, "a truth with `labels`", sorted(truth))
    images, objects = len(crowd), int(checked["valid"].sum() - crowd.sum())
    came = f"got {len(found)} and {objects} objects"
    expect(
        len(found) == images and objects,
        f"detections for {images} images with objects, {came}",
    )
    annotations, results = list[dict](), list[dict]()
    for image, one in enumerate(found):
        valid = checked["valid"][image]
        boxes, labels = checked["boxes"][image][valid], checked["labels"][image][valid]
        known = _records(image, boxes, labels)
        for record, many in zip(known, crowd[image][valid].tolist(), strict=True):
            annotations.append(record | {"iscrowd": int(many)})
        boxes = check_boxes(one["boxes"], f"boxes of image {image}", thin=True)
        counts = len(boxes), len(one["scores"]), len(one["labels"])
        expect(len(set(counts)) == 1, "a score and a label for every box", *counts)
        seen = _records(image, boxes, one["labels"])
        for record, score in zip(seen, one["scores"].tolist(), strict=True):
            results.append(record | {"score": score})
    return evaluate("bbox", images, annotations, results, sizes=sizes)


def _records(image: int, boxes: Tensor, labels: Tensor) -> list[dict]:
    """COCO's records, numbered from 1."""
    records = []
    sides = box_convert(boxes, "xyxy", "xywh").tolist()
    for (x, y, w, h), label in zip(sides, labels.tolist(), strict=True):
        place = {"image_id": image + 1, "category_id": label + 1}
        records.append(place | {"bbox": [x, y, w, h], "area": w * h})
    return records
