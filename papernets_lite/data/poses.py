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


# Ranges of the angles in each kind of posture, and how often each is drawn.
_POSTURES = [
    [(0.06, 0.3), (-0.35, 0.4), (0.05, 0.6), (0.0, 0.9)],  # arms: hanging
    [(0.15, 0.9), (-0.6, 0.6), (0.8, 2.1), (-0.3, 1.4)],  # bent
    [(1.2, 2.7), (-0.3, 0.4), (0.1, 1.6), (-0.2, 0.6)],  # raised
    [(0.0, 0.4), (0.1, 0.7), (1.4, 2.1), (0.7, 1.4)],  # folded in front
    [(0.02, 0.16), (-0.15, 0.2), (0.0, 0.2)],  # legs: standing
    [(0.0, 0.12), (-0.5, 0.55), (0.0, 0.9)],  # walking
    [(0.05, 0.5), (0.5, 1.3), (0.8, 1.7)],  # knee up
    [(0.25, 0.5), (-0.1, 0.2), (0.0, 0.3)],  # wide
]
_ARMS, _STEPS = torch.tensor(_POSTURES[:4]), torch.tensor(_POSTURES[4:])
_ARM_ODDS, _STEP_ODDS = torch.tensor(
    [[0, 0, 0, 0, 1, 1, 1, 2, 2, 3], [0, 0, 0, 0, 1, 1, 1, 2, 3, 3]]
)


def sample(draws: Draws, people: int) -> Pose:
    """Random postures of (n, people): arms and legs each of some kind, mostly turned
    towards the camera."""
    lean, tilt, twist = (draws.uniform(-a, a, people) for a in (0.16, 0.12, 0.35))
    arms, legs = [], []
    step = torch.zeros(lean.shape, dtype=torch.long)
    for _ in range(2):
        kind = _ARM_ODDS[draws.integers(0, len(_ARM_ODDS), people)]
        arms.append(draws.uniform(_ARMS[kind, :, 0], _ARMS[kind, :, 1], people, 4))
        # When one knee is up the other leg stands.
        step = torch.where(
            step == 2, 0, _STEP_ODDS[draws.integers(0, len(_STEP_ODDS), people)]
        )
        legs.append(draws.uniform(_STEPS[step, :, 0], _STEPS[step, :, 1], people, 3))
    ahead, anywhere = draws.uniform(-1, 1, people), draws.uniform(-3.14, 3.14, people)
    yaw = torch.where(draws.uniform(0, 1, people) < 0.68, ahead, anywhere)
    look = yaw + draws.uniform(-0.5, 0.5, people)  # the head may look elsewhere
    nod = draws.uniform(-0.15, 0.15, people)
    return Pose(
        lean, tilt, twist, torch.stack(arms, -2), torch.stack(legs, -2), yaw, look, nod
    )


# What an action swings between, once a cycle: angle:from:to:shift, the shift in cycles.
# Angles are those of the arm (a) and leg (l) of the leading side (1) and of the other
# (2), numbered as in Pose; lean and tilt; rise off the ground, in heights; and travel
# across the image, in heights a cycle. What is not named stays at _REST.
_TABLE = """
walk    a11:-.6:.7 a21:-.6:.7:.5 a12:.2:.9 a22:.2:.9:.5 l11:-.5:.6:.5 l21:-.5:.6 l12:.1:1:.3 l22:.1:1:.8 travel:.5:.5
wave    a10:1.5:2.2:.25 a12:.4:1.5 a13:-.1:.3 a20:.1:.25 l10:.04:.12 tilt:-.08:.08
squat   a11:.1:1.3 a21:.1:1.3 l10:.15:.5 l20:.15:.5 l11:.05:1.2 l21:.05:1.2 l12:.1:2 l22:.1:2 lean:0:.4
stretch a20:.2:2.8 a10:.3:.1 a22:.1:.7 l10:.1:.3 l20:.1:.3 tilt:.1:-.4
box     a10:.3:.5 a20:.3:.5 a11:.2:1.1 a21:.2:1.1:.5 a12:2.2:.3 a22:2.2:.3:.5 l11:.1:.3 l21:-.3:-.2 travel:.2:.2
jump    a10:.15:2.6 a20:.15:2.6 a12:.5:.1 a22:.5:.1 l10:.05:.5 l20:.05:.5 l12:.2:0 l22:.2:0 rise:0:.09 travel:.2:.2
kick    a10:.5:.2 a20:.5:1.4 l10:0:1.1 l11:-.3:.5 l12:1:.1 l22:.2:.1 tilt:0:-.25 travel:.2:.2
"""
_ANGLES = "a10 a11 a12 a13 a20 a21 a22 a23 l10 l11 l12 l20 l21 l22 lean tilt rise travel".split()
_REST = [
    0.15,
    0.0,
    0.25,
    0.3,
    0.15,
    0.0,
    0.25,
    0.3,
    0.06,
    0.0,
    0.05,
    0.06,
    0.0,
    0.05,
    0.0,
    0.0,
    0.0,
    0.0,
]
ACTIONS = tuple(line.split()[0] for line in _TABLE.strip().splitlines())


def _swings() -> Float[Tensor, "actions angles 3"]:
    """The table as numbers: from, to, shift."""
    swings = torch.tensor([(rest, rest, 0.0) for rest in _REST]).repeat(
        len(ACTIONS), 1, 1
    )
    for row, line in zip(swings, _TABLE.strip().splitlines(), strict=True):
        for angle, *numbers in (word.split(":") for word in line.split()[1:]):
            row[_ANGLES.index(angle), : len(numbers)] = torch.tensor(
                [float(number) for number in numbers]
            )
    return swings


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
    swing = 0.5 - 0.5 * torch.cos(2 * torch.pi * (moments[..., None] - shift))
    angles = low + (high - low) * swing * draws.uniform(0.85, 1.1, 1)
    lean, tilt, rise, travel = angles[..., 14:].unbind(-1)
    arms, legs = (
        angles[..., :8].unflatten(-1, (2, 4)),
        angles[..., 8:14].unflatten(-1, (2, 3)),
    )
    left = draws.integers(0, 2).bool()  # whether the left side leads
    arms, legs = (
        torch.where(left[..., None, None], sides.flip(-2), sides)
        for sides in (arms, legs)
    )
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
    return torch.stack(
        torch.broadcast_tensors(*(torch.as_tensor(part) for part in parts)), -1
    )


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
    return torch.stack(
        [x * yaw.cos() + z * yaw.sin(), y, z * yaw.cos() - x * yaw.sin()], -1
    )


def skeleton(pose: Pose) -> tuple[Float[Tensor, "*b 18 3"], Float[Tensor, "*b 2 3"]]:
    """Joints, in the order of ``people.JOINTS``, and the toes of both feet."""
    up = _unit(_vector(pose.tilt, 1.0, pose.lean))
    neck = 0.295 * up
    joints, toes = {1: neck}, []
    # seen from the front the right is at -x
    for k, (side, shoulder, hip) in enumerate(((-1.0, 2, 8), (1.0, 5, 11))):
        joints[shoulder] = neck + _spin(
            0.108 * _beside(_vector(side, 0.0, 0.0), up), pose.twist
        )
        away, forward, bend, inward = pose.arms[..., k, :].unbind(-1)
        upper = _hang(side * away, forward)
        towards = _beside(
            _vector(-side * inward.sin(), 0.2 + 0.8 * away.sin(), inward.cos()), upper
        )
        lower = bend.cos()[..., None] * upper + bend.sin()[..., None] * towards
        joints[shoulder + 1] = joints[shoulder] + _spin(0.16 * upper, pose.twist)
        joints[shoulder + 2] = joints[shoulder + 1] + _spin(0.145 * lower, pose.twist)
        away, forward, bend = pose.legs[..., k, :].unbind(-1)
        joints[hip] = _vector(side * 0.058, 0.0, 0.0).expand_as(neck)
        joints[hip + 1] = joints[hip] + 0.22 * _hang(side * away, forward)
        joints[hip + 2] = joints[hip + 1] + 0.22 * _hang(
            side * 0.7 * away, forward - bend
        )
        toes.append(
            joints[hip + 2]
            + 0.075
            * _unit(_vector(0.25 * side, -0.25 + 0.6 * (forward - bend).sin(), 1.0))
        )
    head = neck + 0.118 * _unit(up + _vector(pose.nod, 1.0, 0.1))
    nose, eye, ear = (0.0, -0.006, 0.07), (0.03, 0.02, 0.055), (0.066, 0.002, 0.0)
    face = torch.tensor(
        [nose, *((side * x, y, z) for x, y, z in (eye, ear) for side in (-1, 1))]
    )
    features = (
        _spin(face.expand(*head.shape[:-1], 5, 3), pose.look)
        + _spin(head, pose.yaw)[..., None, :]
    )
    body = _spin(torch.stack([joints[k] for k in range(1, 14)], -2), pose.yaw)
    return torch.cat([features[..., :1, :], body, features[..., 1:, :]], -2), _spin(
        torch.stack(toes, -2), pose.yaw
    )
