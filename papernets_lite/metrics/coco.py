"""What boxes and keypoints have in common: COCO's evaluation, by faster-coco-eval."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np


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
        truth: COCO's record of each object, without ``id``.
        found: of each object that was found, with its ``score``.
        sizes: name -> (least, most) of the square root of an object's area; before them
            stands one that takes all. COCO itself ignores people under 32^2 pixels
            because its pictures are large; ours are not.
        sigmas: of keypoints, the tolerance per joint.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    ranges = {"all": (0.0, 1e5), **sizes}
    if not found:
        there = [
            any(low**2 <= one["area"] <= high**2 for one in truth)
            for low, high in ranges.values()
        ]
        nothing = np.where(there, 0.0, -1.0)[:, None]
        return np.broadcast_to(nothing, (10, 101, 1, len(ranges), 1)), np.broadcast_to(
            nothing, (10, 1, len(ranges), 1)
        )
    known = {
        "info": {},
        "images": [{"id": number} for number in range(1, images + 1)],
        "annotations": [
            record | {"id": number, "iscrowd": 0}
            for number, record in enumerate(truth, 1)
        ],
        "categories": [
            {"id": k}
            for k in sorted({record["category_id"] for record in [*truth, *found]})
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(known)
        evaluation = COCOeval_faster(coco, coco.loadRes(found), kind)
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.areaRng = [[low**2, high**2] for low, high in ranges.values()]
        evaluation.params.areaRngLbl = list(ranges)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """``AP`` (mean over IoU 0.50 to 0.95), ``AP50``, ``AP75`` and ``AR`` for all sizes,
    from ``evaluate``."""
    parts = {"AP": precision, "AP50": precision[0], "AP75": precision[5], "AR": recall}
    return {name: mean(part[..., 0, -1]) for name, part in parts.items()}


def mean(values: np.ndarray) -> float:
    """Over the classes that have objects; nan where none has."""
    there = values[values > -1]
    return float(there.mean()) if there.size else float("nan")
