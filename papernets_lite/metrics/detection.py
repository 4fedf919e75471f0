"""Box average precision as COCO defines it, by faster-coco-eval."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from papernets_lite.metrics.coco import evaluate, mean, summary
from papernets_lite.ops.checks import expect


def box_ap(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    *,
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """COCO's average precision of boxes.

    Args:
        found: for each image ``boxes`` (n, 4) in xyxy pixels, ``scores`` (n,) and
            ``labels`` (n,).
        truth: ``boxes`` (b, k, 4), ``labels`` (b, k) and ``valid`` (b, k): which of
            them are there.
        sizes: name -> (least, most) of the square root of a box's area, in pixels, for
            an AP of such objects only. COCO's own sizes would call everything in this
            book small.

    Returns:
        ``AP`` (mean over IoU 0.50 to 0.95), ``AP50``, ``AP75``, ``AR`` (100 boxes for
        each image), and ``AP <name>`` for each size, all in [0, 1]; nan for a size that
        no object has.

    Raises:
        ValueError: for another number of images, or when no image holds an object.
    """
    sizes = sizes or {}
    precision, recall = _evaluate(found, truth, sizes)
    by_size = {
        f"AP {name}": mean(precision[..., k, -1]) for k, name in enumerate(sizes, 1)
    }
    return summary(precision, recall) | by_size


def ap_by_iou(
    found: Sequence[Mapping[str, Tensor]], truth: Mapping[str, Tensor]
) -> dict[float, float]:
    """Average precision at each of COCO's ten IoU thresholds, 0.50 to 0.95: how tight
    the boxes are.

    Args:
        found, truth: as for ``box_ap``.

    Raises:
        ValueError: for another number of images, or when no image holds an object.
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
        proposals: for each image boxes (n, 4), best first.
        truth: ``boxes`` (b, k, 4) and ``valid`` (b, k).
        iou: how much overlap is enough.
        most: only the first so many proposals of an image.

    Raises:
        ValueError: for another number of images, or when no image holds an object.
    """
    images, objects = len(truth["boxes"]), int(truth["valid"].sum())
    expect(
        len(proposals) == images and objects,
        f"proposals for {images} images with objects",
        len(proposals),
    )
    hits = 0
    for boxes, true, valid in zip(
        proposals, truth["boxes"], truth["valid"], strict=True
    ):
        hits += int((box_iou(true[valid], boxes[:most]) >= iou).any(1).sum())
    return hits / objects


def _evaluate(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    sizes: Mapping[str, tuple[float, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """``coco.evaluate`` of boxes."""
    images, objects = len(truth["boxes"]), int(truth["valid"].sum())
    came = f"got {len(found)} and {objects} objects"
    expect(
        len(found) == images and objects,
        f"detections for {images} images with objects, {came}",
    )
    annotations = [
        record
        for image, valid in enumerate(truth["valid"])
        for record in _records(
            image, truth["boxes"][image][valid], truth["labels"][image][valid]
        )
    ]
    results = [
        record | {"score": score}
        for image, one in enumerate(found)
        for record, score in zip(
            _records(image, one["boxes"], one["labels"]),
            one["scores"].tolist(),
            strict=True,
        )
    ]
    return evaluate("bbox", images, annotations, results, sizes=sizes)


def _records(image: int, boxes: Tensor, labels: Tensor) -> list[dict]:
    return [
        {
            "image_id": image + 1,
            "category_id": label + 1,
            "bbox": [x, y, w, h],
            "area": w * h,
        }
        for (x, y, w, h), label in zip(
            box_convert(boxes, "xyxy", "xywh").tolist(), labels.tolist(), strict=True
        )
    ]
