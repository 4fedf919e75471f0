"""Poses of the people in `people`: joint angles, drawn at random or from an action, and
the skeleton they bend.

A skeleton is (right, up, towards the camera) in body heights, the middle of the hips at
the origin.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data.canvas import Draws


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians, of any number of people; sides are right, left."""

    lean: Float[Tensor, "*b"]  # of the spine, forward
    tilt: Float[Tensor, "*b"]  # of the spine, to the left
    twist: Float[Tensor, "*b"]  # of the shoulders against the hips
    # away from the body, forward, bend, where the forearm goes (0 forward, pi/2 inward)
    arms: Float[Tensor, "*b 2 4"]
    legs: Float[Tensor, "*b 2 3"]  # away, forward, bend of the knee
    # of the body; positive turns the front to the image's right
    yaw: Float[Tensor, "*b"]
    look: Float[Tensor, "*b"]  # yaw of the head
    nod: Float[Tensor, "*b"]  # of the head, to the left


# Ranges of the angles in each kind of posture: of arms away, forward, bend, inward;
# of legs away, forward, bend.
_ARMS = torch.tensor(
    [
        [(0.06, 0.3), (-0.35, 0.4), (0.05, 0.6), (0.0, 0.9)],  # hanging
        [(0.15, 0.9), (-0.6, 0.6), (0.8, 2.1), (-0.3, 1.4)],  # bent
        [(1.2, 2.7), (-0.3, 0.4), (0.1, 1.6), (-0.2, 0.6)],  # raised
        [(0.0, 0.4), (0.1, 0.7), (1.4, 2.1), (0.7, 1.4)],  # folded in front
    ]
)
_STEPS = torch.tensor(
    [
        [(0.02, 0.16), (-0.15, 0.2), (0.0, 0.2)],  # standing
        [(0.0, 0.12), (-0.5, 0.55), (0.0, 0.9)],  # walking
        [(0.05, 0.5), (0.5, 1.3), (0.8, 1.7)],  # knee up
        [(0.25, 0.5), (-0.1, 0.2), (0.0, 0.3)],  # wide
    ]
)
_KNEE_UP = 2
# How often each is drawn.
_ARM_ODDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
_STEP_ODDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 3, 3])
# Where joints lie in the order of OpenPose.
_NECK = 1
_SIDES = ((-1.0, 2, 8), (1.0, 5, 11))  # right is at -x; shoulder; hip


def sample(draws: Draws, people: int) -> Pose:
    """Random postures of (n, people): arms and legs each of some kind, mostly turned
    towards the camera."""
    lean = draws.uniform(-0.16, 0.16, people)
    tilt = draws.uniform(-0.12, 0.12, people)
    twist = draws.uniform(-0.35, 0.35, people)
    arms = []
    legs = []
    step = torch.zeros(lean.shape, dtype=torch.long)
    for _ in range(2):
        kind = _ARM_ODDS[draws.integers(0, len(_ARM_ODDS), people)]
        low, high = _ARMS[kind].unbind(-1)
        arms.append(draws.uniform(low, high, people, 4))
        # When one knee is up the other leg stands.
        other = _STEP_ODDS[draws.integers(0, len(_STEP_ODDS), people)]
        step = torch.where(step == _KNEE_UP, 0, other)
        low, high = _STEPS[step].unbind(-1)
        legs.append(draws.uniform(low, high, people, 3))
    ahead = draws.uniform(-1, 1, people)
    anywhere = draws.uniform(-3.14, 3.14, people)
    yaw = torch.where(draws.uniform(0, 1, people) < 0.68, ahead, anywhere)
    return Pose(
        lean=lean,
        tilt=tilt,
        twist=twist,
        arms=torch.stack(arms, -2),
        legs=torch.stack(legs, -2),
        yaw=yaw,
        look=yaw + draws.uniform(-0.5, 0.5, people),  # the head may look elsewhere
        nod=draws.uniform(-0.15, 0.15, people),
    )


# The angles that an action moves, in the order of Pose: of the arm and leg of the
# leading side and of the other; of the body; its rise off the ground, in heights; and
# its travel across the image, in heights a cycle. With each, where it is at rest.
_REST = {
    "lead arm away": 0.15,
    "lead arm forward": 0.0,
    "lead arm bend": 0.25,
    "lead arm inward": 0.3,
    "other arm away": 0.15,
    "other arm forward": 0.0,
    "other arm bend": 0.25,
    "other arm inward": 0.3,
    "lead leg away": 0.06,
    "lead leg forward": 0.0,
    "lead leg bend": 0.05,
    "other leg away": 0.06,
    "other leg forward": 0.0,
    "other leg bend": 0.05,
    "lean": 0.0,
    "tilt": 0.0,
    "rise": 0.0,
    "travel": 0.0,
}
# What an action swings between, once a cycle: from, to and, where it is not 0, the
# shift in cycles. What is not named stays at rest.
_ACTIONS: dict[str, dict[str, tuple[float, ...]]] = {
    "walk": {
        "lead arm forward": (-0.6, 0.7),
        "other arm forward": (-0.6, 0.7, 0.5),
        "lead arm bend": (0.2, 0.9),
        "other arm bend": (0.2, 0.9, 0.5),
        "lead leg forward": (-0.5, 0.6, 0.5),
        "other leg forward": (-0.5, 0.6),
        "lead leg bend": (0.1, 1.0, 0.3),
        "other leg bend": (0.1, 1.0, 0.8),
        "travel": (0.5, 0.5),
    },
    "wave": {
        "lead arm away": (1.5, 2.2, 0.25),
        "lead arm bend": (0.4, 1.5),
        "lead arm inward": (-0.1, 0.3),
        "other arm away": (0.1, 0.25),
        "lead leg away": (0.04, 0.12),
        "tilt": (-0.08, 0.08),
    },
    "squat": {
        "lead arm forward": (0.1, 1.3),
        "other arm forward": (0.1, 1.3),
        "lead leg away": (0.15, 0.5),
        "other leg away": (0.15, 0.5),
        "lead leg forward": (0.05, 1.2),
        "other leg forward": (0.05, 1.2),
        "lead leg bend": (0.1, 2.0),
        "other leg bend": (0.1, 2.0),
        "lean": (0.0, 0.4),
    },
    "stretch": {
        "other arm away": (0.2, 2.8),
        "lead arm away": (0.3, 0.1),
        "other arm bend": (0.1, 0.7),
        "lead leg away": (0.1, 0.3),
        "other leg away": (0.1, 0.3),
        "tilt": (0.1, -0.4),
    },
    "box": {
        "lead arm away": (0.3, 0.5),
        "other arm away": (0.3, 0.5),
        "lead arm forward": (0.2, 1.1),
        "other arm forward": (0.2, 1.1, 0.5),
        "lead arm bend": (2.2, 0.3),
        "other arm bend": (2.2, 0.3, 0.5),
        "lead leg forward": (0.1, 0.3),
        "other leg forward": (-0.3, -0.2),
        "travel": (0.2, 0.2),
    },
    "jump": {
        "lead arm away": (0.15, 2.6),
        "other arm away": (0.15, 2.6),
        "lead arm bend": (0.5, 0.1),
        "other arm bend": (0.5, 0.1),
        "lead leg away": (0.05, 0.5),
        "other leg away": (0.05, 0.5),
        "lead leg bend": (0.2, 0.0),
        "other leg bend": (0.2, 0.0),
        "rise": (0.0, 0.09),
        "travel": (0.2, 0.2),
    },
    "kick": {
        "lead arm away": (0.5, 0.2),
        "other arm away": (0.5, 1.4),
        "lead leg away": (0.0, 1.1),
        "lead leg forward": (-0.3, 0.5),
        "lead leg bend": (1.0, 0.1),
        "other leg bend": (0.2, 0.1),
        "tilt": (0.0, -0.25),
        "travel": (0.2, 0.2),
    },
}
ACTIONS = tuple(_ACTIONS)


def _swings() -> Float[Tensor, "actions angles 3"]:
    """The table as numbers: from, to, shift."""
    actions = []
    for moves in _ACTIONS.values():
        rows = []
        for angle, rest in _REST.items():
            low, high, *shift = moves.get(angle, (rest, rest))
            rows.append((low, high, *(shift or [0.0])))
        actions.append(rows)
    return torch.tensor(actions)


_SWINGS = _swings()


def act(
    identity: Int[Tensor, "*b"],
    actions: Int[Tensor, "*b"],
    moments: Float[Tensor, "*b"],
    yaw: Float[Tensor, "*b"],
) -> tuple[Pose, Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Poses in the midst of an action; everybody has a manner of their own: how far,
    how upright, with which hand.

    Args:
        identity: decides the manner.
        actions: indices into ``ACTIONS``.
        moments: in cycles; 1 is like 0.
        yaw: of the body.

    Returns:
        The poses; how high they are off the ground; how far they have come across the
        image since moment 1/2, both in heights.
    """
    draws = Draws(identity + 10**6)  # other numbers than those of the appearance
    low, high, shift = _SWINGS[actions].unbind(-1)
    phase = 2 * torch.pi * (moments[..., None] - shift)
    swing = 0.5 - 0.5 * torch.cos(phase)
    angles = low + (high - low) * swing * draws.uniform(0.85, 1.1, 1)
    lean, tilt, rise, travel = angles[..., 14:].unbind(-1)
    arms = angles[..., :8].unflatten(-1, (2, 4))
    legs = angles[..., 8:14].unflatten(-1, (2, 3))
    left = draws.integers(0, 2).bool()  # whether the left side leads
    arms = torch.where(left[..., None, None], arms.flip(-2), arms)
    legs = torch.where(left[..., None, None], legs.flip(-2), legs)
    pose = Pose(
        lean=lean + draws.uniform(-0.06, 0.06),
        tilt=torch.where(left, tilt, -tilt) + draws.uniform(-0.05, 0.05),
        twist=draws.uniform(-0.2, 0.2),
        arms=arms + draws.uniform(-0.1, 0.1, 2, 4),
        legs=legs + draws.uniform(-0.06, 0.06, 2, 3),
        yaw=yaw,
        look=yaw + draws.uniform(-0.3, 0.3),
        nod=draws.uniform(-0.15, 0.15),
    )
    return pose, rise, travel * (moments - 0.5) * yaw.sin()


def _vector(*parts: Tensor | float) -> Float[Tensor, "*b 3"]:
    tensors = [torch.as_tensor(part) for part in parts]
    return torch.stack(torch.broadcast_tensors(*tensors), -1)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True)


def _beside(v: Tensor, axis: Tensor) -> Tensor:
    """The direction of ``v`` made perpendicular to a unit ``axis``."""
    return _unit(v - (v * axis).sum(-1, keepdim=True) * axis)


def _hang(away: Tensor, forward: Tensor) -> Tensor:
    """The direction of a hanging bone swung sideways and forward."""
    return _vector(away.sin(), -away.cos() * forward.cos(), away.cos() * forward.sin())


def _spin(points: Tensor, yaw: Tensor) -> Tensor:
    """Turn about the vertical axis; a positive yaw turns the front to the image's
    right."""
    yaw = yaw.reshape(*yaw.shape, *[1] * (points.ndim - 1 - yaw.ndim))
    x, y, z = points.unbind(-1)
    right = x * yaw.cos() + z * yaw.sin()
    towards = z * yaw.cos() - x * yaw.sin()
    return torch.stack([right, y, towards], -1)


def skeleton(pose: Pose) -> tuple[Float[Tensor, "*b 18 3"], Float[Tensor, "*b 2 3"]]:
    """Joints, in the order of ``ops.skeletons.OPENPOSE``, and the toes of both feet.

    Args:
        pose: of any number of people.
    """
    up = _unit(_vector(pose.tilt, 1.0, pose.lean))
    neck = 0.295 * up
    joints = {_NECK: neck}
    toes = []
    for k, (side, shoulder, hip) in enumerate(_SIDES):
        arm = _arm(pose, k, side, neck, up)
        leg = _leg(pose, k, side)
        for number in range(3):
            joints[shoulder + number] = arm[number]
            joints[hip + number] = leg[number]
        toes.append(leg[3])
    body = torch.stack([joints[k] for k in range(1, 14)], -2)
    body = _spin(body, pose.yaw)
    face = _face(pose, neck, up)
    ordered = torch.cat([face[..., :1, :], body, face[..., 1:, :]], -2)
    return ordered, _spin(torch.stack(toes, -2), pose.yaw)


def _arm(pose: Pose, k: int, side: float, neck: Tensor, up: Tensor) -> list[Tensor]:
    """Shoulder, elbow and wrist of side k, before the body turns."""
    away, forward, bend, inward = pose.arms[..., k, :].unbind(-1)
    outward = _beside(_vector(side, 0.0, 0.0), up)
    upper = _hang(side * away, forward)
    aim = _vector(-side * inward.sin(), 0.2 + 0.8 * away.sin(), inward.cos())
    towards = _beside(aim, upper)
    lower = bend.cos()[..., None] * upper + bend.sin()[..., None] * towards
    shoulder = neck + _spin(0.108 * outward, pose.twist)
    elbow = shoulder + _spin(0.16 * upper, pose.twist)
    wrist = elbow + _spin(0.145 * lower, pose.twist)
    return [shoulder, elbow, wrist]


def _leg(pose: Pose, k: int, side: float) -> list[Tensor]:
    """Hip, knee, ankle and toe of side k, before the body turns."""
    away, forward, bend = pose.legs[..., k, :].unbind(-1)
    shank = forward - bend
    hip = _vector(side * 0.058, 0.0, 0.0).expand(*away.shape, 3)
    knee = hip + 0.22 * _hang(side * away, forward)
    ankle = knee + 0.22 * _hang(side * 0.7 * away, shank)
    foot = _unit(_vector(0.25 * side, -0.25 + 0.6 * shank.sin(), 1.0))
    return [hip, knee, ankle, ankle + 0.075 * foot]


# (right, up, towards the camera) of the middle of the head, which looks at the camera
_FACE = torch.tensor(
    [
        (0.0, -0.006, 0.07),  # nose
        (-0.03, 0.02, 0.055),  # eyes
        (0.03, 0.02, 0.055),
        (-0.066, 0.002, 0.0),  # ears
        (0.066, 0.002, 0.0),
    ]
)


def _face(pose: Pose, neck: Tensor, up: Tensor) -> Float[Tensor, "*b 5 3"]:
    """Nose, eyes and ears, right before left, after the body and the head turned."""
    head = neck + 0.118 * _unit(up + _vector(pose.nod, 1.0, 0.1))
    face = _FACE.expand(*head.shape[:-1], 5, 3)
    return _spin(face, pose.look) + _spin(head, pose.yaw)[..., None, :]
