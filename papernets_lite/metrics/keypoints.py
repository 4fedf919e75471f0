"""How well keypoints are found: PCK, and COCO's average precision by faster-coco-eval."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

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
    found: Sequence[tuple[Int[Tensor, " _"], Float[Tensor, "_ 2"]]],
    keypoints: Float[Tensor, "b p k 2"],
    visible: Bool[Tensor, "b p k"],
    scales: Float[Tensor, "b p"],
    *,
    share: float = 0.5,
) -> tuple[float, float]:
    """Percentage of correct keypoints over several people per image.

    A visible keypoint is correct when a detection of its kind lies within ``share`` of its person's scale; each
    detection serves one keypoint (matched so that most are correct).

    Args:
        found: per image, which joint each detection is and where, in pixels.
        keypoints: the truth.
        visible: which of it counts.
        scales: per person, in pixels, such as ``torso_lengths``.
        share: of the scale that is tolerated.

    Returns:
        The share of visible keypoints that are correct, and the share of detections that serve one.

    Raises:
        ValueError: for another number of images, or when no keypoint is visible.
    """
    if len(found) != len(keypoints) or not visible.any():
        raise ValueError(
            f"expected detections for {len(keypoints)} images with visible keypoints,"
            f" got {len(found)} and {int(visible.sum())} keypoints"
        )
    correct = 0
    for (kinds, where), truth, seen, scale in zip(found, keypoints, visible, scales, strict=True):
        for joint in range(keypoints.shape[2]):
            near = torch.cdist(truth[seen[:, joint], joint], where[kinds == joint])
            near = near <= share * scale[seen[:, joint], None]
            rows, columns = linear_sum_assignment(near.numpy(), maximize=True)
            correct += int(near[rows, columns].sum())
    return correct / int(visible.sum()), correct / max(sum(len(kinds) for kinds, _ in found), 1)


@runtime_checkable
class Found(Protocol):
    """People found in one image: ``keypoints`` (n, k, 2) in pixels and ``scores`` (n,)."""

    keypoints: Tensor
    scores: Tensor


def oks_ap(
    found: Sequence[Found], truth: Mapping[str, Tensor], *, sigmas: Sequence[float] = SIGMAS
) -> dict[str, float]:
    """COCO's keypoint AP over several people per image.

    Args:
        found: per image; a joint that was not found is at (0, 0), as COCO has it.
        truth: ``keypoints`` (b, p, k, 2), ``visible`` (b, p, k): which joints are labelled (people without any are
            left out), and ``areas`` (b, p) in square pixels: the scale of the tolerance.
        sigmas: the tolerance per joint.

    Returns:
        ``AP`` (mean over OKS 0.50 to 0.95), ``AP50``, ``AP75`` and ``AR``, in [0, 1].

    Raises:
        ValueError: for another number of images, or when no image holds a labelled person.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    keypoints, visible, areas = truth["keypoints"], truth["visible"], truth["areas"]
    if not len(found) == len(keypoints) == len(visible) == len(areas):
        raise ValueError(
            f"expected as many predictions as images, got {len(found)}, {len(keypoints)}, {len(visible)}, {len(areas)}"
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
    for image, people in enumerate(found, 1):
        for points, score in zip(people.keypoints, people.scores.tolist(), strict=True):
            results.append(_record(image, points, torch.ones(len(points)), 0.0) | {"score": score})
    if not results:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), 0.0)
    labelled = {
        "info": {},
        "images": [{"id": i + 1, "width": 1, "height": 1} for i in range(len(keypoints))],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(labelled)
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
