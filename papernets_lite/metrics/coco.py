"""What boxes and keypoints have in common: COCO's evaluation, by faster-coco-eval."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np

from papernets_lite.ops.checks import expect


def evaluate(
    kind: str,
    images: int,
    truth: Sequence[dict],
    found: Sequence[dict],
    *,
    sizes: Mapping[str, tuple[float, float]],
    sigmas: Sequence[float] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's precision (IoU, recall, class, size, most) and recall (IoU, class, size,
    most); -1 where undefined.

    Args:
        kind: "bbox" or "keypoints".
        images: how many; records number them from 1 on.
        truth: COCO's record of each object, without ``id``; with ``iscrowd`` 1 it is a
            region of many, which nobody must find and where nobody is wrong.
        found: of each object that was found, with its ``score``.
        sizes: name -> (least, most) of the square root of an object's area; before them
            stands one that takes all. COCO itself ignores people under 32^2 pixels
            because its pictures are large; ours are not.
        sigmas: of keypoints, the tolerance per joint.

    Raises:
        ValueError: for an area or a score that is not finite, or sizes out of order.
    """
    ranges = {"all": (0.0, 1e5), **sizes}
    ordered = all(0 <= low <= high for low, high in ranges.values())
    expect(ordered, "sizes as (least, most) from 0 on", dict(sizes))
    areas = [record["area"] for record in truth]
    expect(np.isfinite(areas).all(), "finite areas", areas)
    scores = [record["score"] for record in found]
    expect(np.isfinite(scores).all(), "finite scores", scores)
    if not found:
        return _nothing(truth, ranges)
    return _by_package(kind, images, truth, found, ranges, sigmas)


def _nothing(
    truth: Sequence[dict], ranges: Mapping[str, tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Nothing is found: 0 where there are objects of a size. The package refuses to
    load an empty list."""
    there = []
    for low, high in ranges.values():
        counted = [
            low**2 <= record["area"] <= high**2
            for record in truth
            if not record.get("iscrowd", 0)
        ]
        there.append(any(counted))
    score = np.where(there, 0.0, -1.0)[:, None]
    precision = np.broadcast_to(score, (10, 101, 1, len(ranges), 1))
    recall = np.broadcast_to(score, (10, 1, len(ranges), 1))
    return precision, recall


def _by_package(
    kind: str,
    images: int,
    truth: Sequence[dict],
    found: Sequence[dict],
    ranges: Mapping[str, tuple[float, float]],
    sigmas: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    from faster_coco_eval import COCO, COCOeval_faster

    annotations = [
        {"iscrowd": 0, **record, "id": number} for number, record in enumerate(truth, 1)
    ]
    classes = {record["category_id"] for record in [*truth, *found]}
    known = {
        "info": {},
        "images": [{"id": number} for number in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": number} for number in sorted(classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(known)
        evaluation = COCOeval_faster(coco, coco.loadRes(list(found)), kind)
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.areaRng = [[low**2, high**2] for low, high in ranges.values()]
        evaluation.params.areaRngLbl = list(ranges)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """``AP`` (mean over IoU 0.50 to 0.95), ``AP50``, ``AP75`` and ``AR`` for all sizes,
    from ``evaluate``.

    Args:
        precision: of ``evaluate``.
        recall: of ``evaluate``.
    """
    parts = {"AP": precision, "AP50": precision[0], "AP75": precision[5], "AR": recall}
    return {name: mean(part[..., 0, -1]) for name, part in parts.items()}


def mean(values: np.ndarray) -> float:
    """Over the classes that have objects; nan where none has.

    Args:
        values: of ``evaluate``.
    """
    there = values[values > -1]
    return float(there.mean()) if there.size else float("nan")
