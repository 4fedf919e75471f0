"""Box average precision as COCO defines it, by faster-coco-eval."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def box_ap(
    found: Sequence[Mapping[str, Tensor]],
    truth: Mapping[str, Tensor],
    *,
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """COCO's average precision of boxes.

    Args:
        found: for each image ``boxes`` (n, 4) in xyxy pixels, ``scores`` (n,) and ``labels`` (n,).
        truth: ``boxes`` (b, k, 4), ``labels`` (b, k) and ``valid`` (b, k): which of them are there.
        sizes: name -> (least, most) of the square root of a box's area, in pixels, for an AP of such objects only.
            COCO's own sizes would call everything in this book small.

    Returns:
        ``AP`` (mean over IoU 0.50 to 0.95), ``AP50``, ``AP75``, ``AR`` (100 boxes for each image), and ``AP <name>``
        for each size, all in [0, 1]; nan for a size that no object has.

    Raises:
        ValueError: for another number of images, or when no image holds an object.
    """
    precision, recall = _evaluate(found, truth, sizes or {})  # (IoU, recall, class, size, most) and without recall
    score = {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": _mean(precision[0, :, :, 0, -1]),
        "AP75": _mean(precision[5, :, :, 0, -1]),
        "AR": _mean(recall[:, :, 0, -1]),
    }
    return score | {f"AP {name}": _mean(precision[:, :, :, k, -1]) for k, name in enumerate(sizes or {}, 1)}


def ap_by_iou(found: Sequence[Mapping[str, Tensor]], truth: Mapping[str, Tensor]) -> dict[float, float]:
    """Average precision at each of COCO's ten IoU thresholds, 0.50 to 0.95: how tight the boxes are.

    Args:
        found, truth: as for ``box_ap``.

    Raises:
        ValueError: for another number of images, or when no image holds an object.
    """
    precision, _ = _evaluate(found, truth, {})
    return {0.5 + 0.05 * k: _mean(row[..., 0, -1]) for k, row in enumerate(precision)}


def recall(
    proposals: Sequence[Tensor], truth: Mapping[str, Tensor], *, iou: float = 0.5, most: int | None = None
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
    from torchvision.ops import box_iou

    if len(proposals) != len(truth["boxes"]) or not truth["valid"].any():
        raise ValueError(f"expected proposals for {len(truth['boxes'])} images with objects, got {len(proposals)}")
    hits = 0
    for boxes, true, valid in zip(proposals, truth["boxes"], truth["valid"], strict=True):
        if len(boxes) and valid.any():
            hits += int((box_iou(true[valid], boxes[:most]) >= iou).any(1).sum())
    return hits / int(truth["valid"].sum())


def _evaluate(
    found: Sequence[Mapping[str, Tensor]], truth: Mapping[str, Tensor], sizes: Mapping[str, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's precision (IoU, recall, class, size, most) and recall (IoU, class, size, most); -1 where undefined."""
    from faster_coco_eval import COCO, COCOeval_faster

    if len(found) != len(truth["boxes"]) or not truth["valid"].any():
        raise ValueError(
            f"expected detections for {len(truth['boxes'])} images with objects, got {len(found)} and"
            f" {int(truth['valid'].sum())} objects"
        )
    annotations = [
        record | {"id": number, "iscrowd": 0}
        for number, record in enumerate(
            (
                record
                for image, valid in enumerate(truth["valid"], 1)
                for record in _records(image, truth["boxes"][image - 1][valid], truth["labels"][image - 1][valid])
            ),
            1,
        )
    ]
    results = [
        record | {"score": score}
        for image, one in enumerate(found, 1)
        for record, score in zip(_records(image, one["boxes"], one["labels"]), one["scores"].tolist(), strict=True)
    ]
    ranges = {"all": (0.0, 1e5), **sizes}
    if not results:
        return np.zeros((10, 101, 1, len(ranges), 1)), np.zeros((10, 1, len(ranges), 1))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(
            {
                "info": {},
                "images": [{"id": image + 1} for image in range(len(found))],
                "annotations": annotations,
                "categories": [{"id": k} for k in sorted({record["category_id"] for record in annotations + results})],
            }
        )
        evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox")
        evaluation.params.areaRng = [[low**2, high**2] for low, high in ranges.values()]
        evaluation.params.areaRngLbl = list(ranges)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _mean(values: np.ndarray) -> float:
    there = values[values > -1]  # -1 marks classes without objects
    return float(there.mean()) if there.size else float("nan")


def _records(image: int, boxes: Tensor, labels: Tensor) -> list[dict]:
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    return [
        {"image_id": image, "category_id": label + 1, "bbox": [x, y, w, h], "area": w * h}
        for (x, y, w, h), label in zip(sides, labels.tolist(), strict=True)
    ]
