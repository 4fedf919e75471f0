"""How well keypoints are found: PCK, and COCO's average precision by
faster-coco-eval."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from papernets_lite.metrics.coco import evaluate, summary
from papernets_lite.ops.checks import expect

# COCO's per-joint tolerances, in OpenPose's order; COCO has no neck, which gets the
# shoulders'.
SIGMAS = (
    *(
        0.026,
        0.079,
        0.079,
        0.072,
        0.062,
        0.079,
        0.072,
        0.062,
        0.107,
        0.087,
        0.089,
        0.107,
        0.087,
        0.089,
    ),
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

    A visible keypoint is correct when a detection of its kind lies within ``share`` of
    its person's scale; each detection serves one keypoint (matched so that most are
    correct).

    Args:
        found: per image, which joint each detection is and where, in pixels.
        keypoints: the truth.
        visible: which of it counts.
        scales: per person, in pixels, such as ``torso_lengths``.
        share: of the scale that is tolerated.

    Returns:
        The share of visible keypoints that are correct, and the share of detections
        that serve one.

    Raises:
        ValueError: for another number of images, or when no keypoint is visible.
    """
    images, wanted = len(keypoints), int(visible.sum())
    came = f"got {len(found)} and {wanted} keypoints"
    expect(
        len(found) == images and wanted,
        f"detections for {images} images with visible keypoints, {came}",
    )
    correct = 0
    for (kinds, where), truth, seen, scale in zip(
        found, keypoints, visible, scales, strict=True
    ):
        for joint in range(keypoints.shape[2]):
            there = seen[:, joint]
            near = (
                torch.cdist(truth[there, joint], where[kinds == joint])
                <= share * scale[there, None]
            )
            rows, columns = linear_sum_assignment(near.numpy(), maximize=True)
            correct += int(near[rows, columns].sum())
    return correct / wanted, correct / max(sum(len(kinds) for kinds, _ in found), 1)


@runtime_checkable
class Found(Protocol):
    """People found in one image: ``keypoints`` (n, k, 2) in pixels and ``scores``
    (n,)."""

    keypoints: Tensor
    scores: Tensor


def oks_ap(
    found: Sequence[Found],
    truth: Mapping[str, Tensor],
    *,
    sigmas: Sequence[float] = SIGMAS,
) -> dict[str, float]:
    """COCO's keypoint AP over several people per image.

    Args:
        found: per image; a joint that was not found is at (0, 0), as COCO has it.
        truth: ``keypoints`` (b, p, k, 2), ``visible`` (b, p, k): which joints are
            labelled (people without any are left out), and ``areas`` (b, p) in square
            pixels: the scale of the tolerance.
        sigmas: the tolerance per joint.

    Returns:
        ``AP`` (mean over OKS 0.50 to 0.95), ``AP50``, ``AP75`` and ``AR``, in [0, 1].

    Raises:
        ValueError: for another number of images, or when no image holds a labelled
            person.
    """
    keypoints, visible, areas = truth["keypoints"], truth["visible"], truth["areas"]
    counts = len(found), len(keypoints), len(visible), len(areas)
    expect(len({*counts}) == 1, "as many predictions as images", *counts)
    labelled = [
        _record(image, points, 2 * seen)
        | {"area": float(area), "num_keypoints": int(seen.sum())}
        for image, people in enumerate(zip(keypoints, visible, areas, strict=True), 1)
        for points, seen, area in zip(*people, strict=True)
        if seen.any()
    ]
    expect(labelled, "at least one labelled person", len(labelled))
    results = [
        _record(image, points, torch.ones(len(points))) | {"score": score}
        for image, people in enumerate(found, 1)
        for points, score in zip(people.keypoints, people.scores.tolist(), strict=True)
    ]
    return summary(
        *evaluate("keypoints", len(found), labelled, results, sizes={}, sigmas=sigmas)
    )


def _record(image: int, points: Tensor, flags: Tensor) -> dict:
    triples = torch.cat([points, flags[:, None].to(points)], 1).flatten().tolist()
    low, high = points.amin(0), points.amax(0)
    box = [*low.tolist(), *(high - low).tolist()]
    return {"image_id": image, "category_id": 1, "keypoints": triples, "bbox": box}
