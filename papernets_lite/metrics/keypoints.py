"""How well keypoints are found: PCK, and COCO's average precision by
faster-coco-eval."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Real
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from papernets_lite.metrics.coco import evaluate, summary
from papernets_lite.ops.checks import expect
from papernets_lite.ops.heatmaps import check_present, floating
from papernets_lite.ops.skeletons import OPENPOSE

# COCO's per-joint tolerances, in OpenPose's order
SIGMAS = OPENPOSE.tolerances


def torso_lengths(keypoints: Real[Tensor, "*b k 2"]) -> Float[Tensor, "*b"]:
    """Neck to the middle of the hips, in pixels: the scale of ``pck``.

    Args:
        keypoints: (x, y) of OpenPose's 18 joints.

    Raises:
        ValueError: for another number of joints.
    """
    wanted = (len(OPENPOSE), 2)
    came = keypoints.shape
    expect(came[-2:] == wanted, f"OpenPose's joints (..., {len(OPENPOSE)}, 2)", came)
    keypoints = floating(keypoints)
    hips = keypoints[..., [8, 11], :].mean(-2)
    return (keypoints[..., 1, :] - hips).norm(dim=-1)


def pck(
    found: Sequence[tuple[Int[Tensor, " _"], Real[Tensor, "_ 2"]]],
    keypoints: Real[Tensor, "b p k 2"],
    visible: Bool[Tensor, "b p k"],
    scales: Real[Tensor, "b p"],
    *,
    share: float = 0.5,
) -> tuple[float, float]:
    """Percentage of correct keypoints over several people per image.

    A visible keypoint is correct when a detection of its kind lies within ``share`` of
    its person's scale; each detection serves one keypoint (matched so that most are
    correct).

    Args:
        found: per image, which joint each detection is and where, in pixels.
        keypoints: the truth, (x, y) in pixels.
        visible: which of it counts; the others may hold anything.
        scales: per person, in pixels, such as ``torso_lengths``.
        share: of the scale that is tolerated.

    Returns:
        The share of visible keypoints that are correct, and the share of detections
        that serve one.

    Raises:
        ValueError: for another number of images, when no keypoint is visible, or where
            a visible keypoint, its person's scale or a detection is not finite.
    """
    check_present(keypoints, visible)
    images, wanted = len(keypoints), int(visible.sum())
    came = f"got {len(found)} and {wanted} keypoints"
    expect(
        len(found) == images and wanted,
        f"detections for {images} images with visible keypoints, {came}",
    )
    check_scales("scales", scales, visible.any(-1))
    correct = 0
    detections = 0
    people = zip(found, floating(keypoints), visible, scales, strict=True)
    for (kinds, where), truth, seen, scale in people:
        expect(len(kinds) == len(where), f"{len(kinds)} positions", len(where))
        expect(where.isfinite().all(), "finite detections, got some that are not")
        detections += len(kinds)
        for joint in range(keypoints.shape[2]):
            there = seen[:, joint]
            apart = torch.cdist(
                truth[there, joint], floating(where[kinds == joint]).to(truth.dtype)
            )
            near = (apart <= share * scale[there, None]).cpu()
            rows, columns = linear_sum_assignment(near.numpy(), maximize=True)
            correct += int(near[rows, columns].sum())
    return correct / wanted, correct / max(detections, 1)


def check_scales(name: str, scales: Tensor, used: Tensor) -> None:
    """Raise ``ValueError`` unless there is one number for each person, finite and not
    negative where used.

    Args:
        name: of the numbers, for the message.
        scales: (image, person).
        used: which of them count.
    """
    expect(scales.shape == used.shape, f"{name} {tuple(used.shape)}", scales.shape)
    known = scales[used]
    good = (known.isfinite() & (known >= 0)).all()
    expect(good, f"finite {name}, none below zero, got {known.tolist()}")


@runtime_checkable
class Found(Protocol):
    """People found in one image: ``keypoints`` (n, k, 2) in pixels and ``scores``
    (n,)."""

    keypoints: Tensor
    scores: Tensor


class Assembled(Found, Protocol):
    """People found in one image, with ``found`` (n, k): which of their joints."""

    found: Tensor


def oks_ap(
    found: Sequence[Found],
    truth: Mapping[str, Tensor],
    *,
    sigmas: Sequence[float] = SIGMAS,
) -> dict[str, float]:
    """COCO's keypoint AP over several people per image.

    Args:
        found: per image; a joint that was not found is at (0, 0), as COCO has it.
        truth: ``keypoints`` (b, p, k, 2) in pixels; ``labelled`` (b, p, k), which of
            them count, or, where all that is labelled is seen, ``visible`` (people
            without any are left out); and ``areas`` (b, p) in square pixels: the scale
            of the tolerance.
        sigmas: the tolerance per joint; OpenPose's 18, unless given. COCO's 17 are
            ``ops.skeletons.COCO.tolerances``.

    Returns:
        ``AP`` (mean over OKS 0.50 to 0.95), ``AP50``, ``AP75`` and ``AR``, in [0, 1].

    Raises:
        ValueError: for another number of images or joints, when no image holds a
            labelled person, or where a labelled joint, its person's area or anything
            found is not finite.
    """
    keypoints, areas = truth["keypoints"], truth["areas"]
    labelled = truth["labelled"] if "labelled" in truth else truth["visible"]
    counts = len(found), len(keypoints), len(labelled), len(areas)
    expect(len({*counts}) == 1, "as many predictions as images", *counts)
    check_present(keypoints, labelled)
    joints = len(sigmas)
    expect(keypoints.shape[2] == joints, f"{joints} joints", keypoints.shape)
    check_scales("areas", areas, labelled.any(-1))
    known = []
    for image, person in labelled.any(-1).nonzero().tolist():
        own = labelled[image, person]
        points = torch.where(own[:, None], keypoints[image, person], 0)
        area = float(areas[image, person])
        more = {"area": area, "num_keypoints": int(own.sum())}
        known.append(_record(image + 1, points, 2 * own) | more)
    expect(known, "at least one labelled person", len(known))
    results = []
    for image, people in enumerate(found, 1):
        _check_found(people, joints)
        scores = people.scores.tolist()
        for points, score in zip(people.keypoints, scores, strict=True):
            flags = torch.ones(len(points))
            results.append(_record(image, points, flags) | {"score": score})
    precision, recall = evaluate(
        "keypoints", len(found), known, results, sizes={}, sigmas=sigmas
    )
    return summary(precision, recall)


def _check_found(people: Found, joints: int) -> None:
    wanted = (len(people.scores), joints, 2)
    came = people.keypoints.shape
    expect(came == wanted, f"people {wanted}, as many as scores", came)
    expect(people.keypoints.isfinite().all(), "finite people, got some that are not")
    expect(people.scores.isfinite().all(), "finite scores, got some that are not")


def _record(image: int, points: Tensor, flags: Tensor) -> dict:
    triples = torch.cat([points, flags[:, None].to(points)], 1).flatten().tolist()
    low, high = points.amin(0), points.amax(0)
    box = [*low.tolist(), *(high - low).tolist()]
    return {"image_id": image, "category_id": 1, "keypoints": triples, "bbox": box}


def limb_scores(
    found: Sequence[Assembled],
    spots: Sequence[tuple[Int[Tensor, " _"], Real[Tensor, "_ 2"]]],
    truth: Mapping[str, Tensor],
    *,
    limbs: Sequence[tuple[int, int]],
    scales: Real[Tensor, "b p"],
    share: float = 0.5,
) -> dict[str, float]:
    """How well detected joints were joined to limbs, whatever became of the others.

    A joint belongs to the person whose joint of its kind lies within ``share`` of that
    person's scale (matched one to one, as many as possible, then the nearest).

    Args:
        found: the people of each image.
        spots: per image, which joint each detection is and where, in pixels; what was
            found is made of them.
        truth: ``keypoints`` (b, p, k, 2) in pixels and ``in_frame`` (b, p, k), which of
            them are there.
        limbs: pairs of joints.
        scales: per person, in pixels, such as ``torso_lengths``.
        share: of the scale that is tolerated.

    Returns:
        ``recall``, of all limbs whose two joints were detected, the share that was
        joined; ``precision``, of all limbs that were joined, the share that belongs to
        one person; ``f1`` of both.

    Raises:
        ValueError: for unequal numbers of images, or where a joint that is there is not
            finite.
    """
    keypoints, present = truth["keypoints"], truth["in_frame"]
    check_present(keypoints, present)
    check_scales("scales", scales, present.any(-1))
    counts = len(found), len(spots), len(keypoints)
    expect(len({*counts}) == 1, "as many images each", *counts)
    right = joined = possible = 0
    for image, (people, (kinds, where)) in enumerate(zip(found, spots, strict=True)):
        near = share * scales[image]
        owner = owners(kinds, where, keypoints[image], present[image], near)
        group = _groups(kinds, where, people)
        for first, last in limbs:
            a, b = kinds == first, kinds == last
            same = (owner[a][:, None] == owner[b]) & (owner[b] >= 0)
            made = (group[a][:, None] == group[b]) & (group[b] >= 0)
            right += int((same & made).sum())
            joined += int(made.sum())
            possible += int(same.sum())
    return {
        "recall": right / max(possible, 1),
        "precision": right / max(joined, 1),
        "f1": 2 * right / max(possible + joined, 1),
    }


def owners(
    kinds: Tensor, where: Tensor, keypoints: Tensor, present: Tensor, near: Tensor
) -> Int[Tensor, " n"]:
    """To which person each detection of one image belongs.

    Args:
        kinds: which joint each detection is.
        where: each detection's place in pixels.
        keypoints: the truth, people by joints, in pixels.
        present: which of them are there.
        near: how far a detection may be from its joint, in pixels, for each person.

    Returns:
        The person's number, -1 for none: one detection at most for each joint.
    """
    owner = torch.full_like(kinds, -1)
    for joint in range(keypoints.shape[1]):
        mine = (kinds == joint).nonzero()[:, 0]
        people = present[:, joint].nonzero()[:, 0]
        apart = torch.cdist(where[mine].float(), keypoints[people, joint].float())
        fits = (apart <= near[people]).cpu()
        cost = torch.where(fits, apart.cpu(), 1e6)
        for row, column in zip(*linear_sum_assignment(cost.numpy()), strict=True):
            if fits[row, column]:
                owner[mine[row]] = people[column]
    return owner


def _groups(kinds: Tensor, where: Tensor, people: Assembled) -> Int[Tensor, " n"]:
    """The found person of each detection, -1 for none."""
    group = torch.full_like(kinds, -1)
    for number, joint in people.found.nonzero().tolist():
        here = (where == people.keypoints[number, joint]).all(-1)
        group[here & (kinds == joint)] = number
    return group
