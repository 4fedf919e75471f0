"""What a skeleton's joints are called, which limbs join them, which change places in a
mirror, and how far off each may be: once for nets, worlds, drawings and metrics."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Real
from torch import Tensor

from papernets_lite.ops.checks import expect


@dataclass(frozen=True)
class Skeleton:
    """Joints in a fixed order, and what is known about them.

    Attributes:
        joints: their names; ``right`` and ``left`` are the person's own.
        limbs: pairs of joints, from the first to the second.
        flip: the joint that each becomes when the picture is mirrored.
        tolerances: COCO's standard deviation of each joint, as a share of the square
            root of the person's area (the sigmas of its keypoint metric).
    """

    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    flip: tuple[int, ...]
    tolerances: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.joints)


# COCO's tolerance of each kind of joint; it has no neck, which gets the shoulders'.
TOLERANCES = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "neck": 0.079,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}


def skeleton(*joints: str, limbs: tuple[tuple[int, int], ...]) -> Skeleton:
    """A skeleton from its joints' names: mirrored partners and COCO's tolerances follow
    from them.

    Args:
        joints: names such as ``nose`` or ``right knee``.
        limbs: pairs of joints, counted from 0.
    """
    flip = []
    tolerances = []
    for name in joints:
        side, _, kind = name.rpartition(" ")
        other = {"right": "left ", "left": "right "}.get(side, "")
        flip.append(joints.index(other + kind))
        tolerances.append(TOLERANCES[kind])
    return Skeleton(joints, limbs, tuple(flip), tuple(tolerances))


# COCO's eighteen as OpenPose orders them; the limbs in the released order.
OPENPOSE = skeleton(
    "nose",
    "neck",
    "right shoulder",
    "right elbow",
    "right wrist",
    "left shoulder",
    "left elbow",
    "left wrist",
    "right hip",
    "right knee",
    "right ankle",
    "left hip",
    "left knee",
    "left ankle",
    "right eye",
    "left eye",
    "right ear",
    "left ear",
    limbs=(
        (1, 8),
        (8, 9),
        (9, 10),
        (1, 11),
        (11, 12),
        (12, 13),
        (1, 2),
        (2, 3),
        (3, 4),
        (2, 16),
        (1, 5),
        (5, 6),
        (6, 7),
        (5, 17),
        (1, 0),
        (0, 14),
        (0, 15),
        (14, 16),
        (15, 17),
    ),
)

# COCO's seventeen, as its files have them; the limbs as its annotations list them.
COCO = skeleton(
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
    limbs=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
)


def from_coco(
    keypoints: Real[Tensor, "*b k 2"], known: Bool[Tensor, "*b k"]
) -> tuple[Real[Tensor, "*b j 2"], Bool[Tensor, "*b j"]]:
    """COCO's 17 joints as OpenPose's 18: the neck is the middle of the shoulders, where
    both are known.

    Args:
        keypoints: (x, y) in pixels, in the order of ``COCO``.
        known: of each, whether it is labelled (or whether it is visible, for that is
            carried over in the same way).

    Returns:
        Keypoints in the order of ``OPENPOSE``, (0, 0) where they are not known, and
        which are known.

    Raises:
        ValueError: for another number of joints, or flags of another shape or type.
    """
    expect(
        keypoints.shape[-2:] == (len(COCO), 2),
        f"keypoints (..., {len(COCO)}, 2) in COCO's order",
        keypoints.shape,
    )
    expect(
        known.shape == keypoints.shape[:-1] and known.dtype == torch.bool,
        f"bool flags {tuple(keypoints.shape[:-1])}",
        known.shape,
        known.dtype,
    )
    shoulders = [COCO.joints.index(f"{side} shoulder") for side in ("right", "left")]
    neck = keypoints[..., shoulders, :].double().mean(-2, keepdim=True)
    if keypoints.is_floating_point():
        neck = neck.to(keypoints.dtype)
    points = torch.cat([keypoints, neck], -2)
    flags = torch.cat([known, known[..., shoulders].all(-1, keepdim=True)], -1)
    names = (*COCO.joints, "neck")
    order = [names.index(name) for name in OPENPOSE.joints]
    there = flags[..., order]
    return torch.where(there[..., None], points[..., order, :], 0), there
