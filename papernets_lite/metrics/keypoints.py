"""How well keypoints are found: PCK, and COCO's average precision by faster-coco-eval."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# COCO's per-joint tolerances, in OpenPose's order; COCO has no neck, which gets the shoulders'.
SIGMAS = (
    *(0.026, 0.079, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.107, 0.087, 0.089),
    *(0.025, 0.025, 0.035, 0.035),
)


def torso_lengths(keypoints: Float[Tensor, "*b k 2"]) -> Float[Tensor, "*b"]:
    """Neck to the middle of the hips, in pixels: the scale of ``pck``."""
    return (keypoints[..., 1, :] - keypoints[..., [8, 11], :].mean(-2)).norm(dim=-1)


def pck(
    found: Float[Tensor, "n 2"],
    kinds: Int[Tensor, " n"],
    keypoints: Float[Tensor, "p k 2"],
    visible: Bool[Tensor, "p k"],
    scales: Float[Tensor, " p"],
    *,
    share: float = 0.5,
) -> tuple[int, int]:
    """Percentage of correct keypoints of one image, as (correct, visible).

    A visible keypoint is correct when a detection of its kind lies within ``share`` of its person's scale; each
    detection serves one keypoint (matched so that most are correct).

    Args:
        found: detected positions in pixels.
        kinds: which joint each is.
        keypoints: the truth.
        visible: which of it counts.
        scales: per person, in pixels, such as ``torso_lengths``.
        share: of the scale that is tolerated.
    """
    correct = 0
    for joint in range(keypoints.shape[1]):
        seen = visible[:, joint]
        truth, here = keypoints[seen, joint], found[kinds == joint]
        if len(truth) and len(here):
            near = torch.cdist(truth, here) <= share * scales[seen, None]
            rows, columns = linear_sum_assignment(near.numpy(), maximize=True)
            correct += int(near[rows, columns].sum())
    return correct, int(visible.sum())


def oks_ap(
    predictions: Sequence[tuple[Float[Tensor, "_ k 2"], Float[Tensor, " _"]]],
    keypoints: Sequence[Float[Tensor, "_ k 2"]],
    visible: Sequence[Bool[Tensor, "_ k"]],
    areas: Sequence[Float[Tensor, " _"]],
    *,
    sigmas: Sequence[float] = SIGMAS,
) -> dict[str, float]:
    """COCO's keypoint AP over several people per image.

    Args:
        predictions: per image (keypoints, scores); a joint that was not found is at (0, 0), as COCO has it.
        keypoints: the truth, per image.
        visible: which joints are labelled; people without any are left out.
        areas: of the people, in square pixels: the scale of the tolerance.
        sigmas: the tolerance per joint.

    Returns:
        ``AP`` (mean over OKS 0.50 to 0.95), ``AP50``, ``AP75`` and ``AR``, in [0, 1].

    Raises:
        ValueError: for lists of different lengths, or when no image holds a labelled person.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    if not len(predictions) == len(keypoints) == len(visible) == len(areas):
        raise ValueError(
            "expected as many predictions as images, got"
            f" {len(predictions)}, {len(keypoints)}, {len(visible)}, {len(areas)}"
        )
    annotations: list[dict] = []
    results: list[dict] = []
    for image, (points, seen, area) in enumerate(zip(keypoints, visible, areas, strict=True), 1):
        for person in range(len(points)):
            if seen[person].any():
                annotations.append(_record(image, points[person], 2 * seen[person], float(area[person])))
                annotations[-1] |= {"id": len(annotations), "iscrowd": 0, "num_keypoints": int(seen[person].sum())}
    if not annotations:
        raise ValueError("expected at least one labelled person, got none")
    for image, (points, scores) in enumerate(predictions, 1):
        for person in range(len(points)):
            results.append(_record(image, points[person], torch.ones(len(points[person])), 0.0))
            results[-1]["score"] = float(scores[person])
    if not results:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), 0.0)
    truth = {
        "info": {},
        "images": [{"id": i + 1, "width": 1, "height": 1} for i in range(len(keypoints))],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        evaluation = COCOeval_faster(coco, coco.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        # COCO ignores people under 32^2 pixels because its pictures are large; ours are not.
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return {
        "AP": float(precision.mean()),
        "AP50": float(precision[0].mean()),
        "AP75": float(precision[5].mean()),
        "AR": float(recall.mean()),
    }


def _record(image: int, points: Tensor, flags: Tensor, area: float) -> dict:
    triples = torch.cat([points, flags[:, None].to(points)], 1)
    low, high = points.min(0).values, points.max(0).values
    x, y, wide, high_ = *low.tolist(), *(high - low).tolist()
    return {
        "image_id": image,
        "category_id": 1,
        "keypoints": triples.flatten().tolist(),
        "area": area,
        "bbox": [x, y, wide, high_],
    }
