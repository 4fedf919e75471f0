"""The world `leaps`: one large figure in the midst of a movement that its posture gives
away, with the exact optical flow.

Somebody stands, runs, jumps, drops into a squat or topples. How far the body bends says
how fast; where it leans says where to, mostly: a few move the other way, as if the film
ran backwards. The figures, rooms and cameras are those of `people`.
"""

import math
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, people, poses
from papernets_lite.data.canvas import Draws, Range, check_range
from papernets_lite.ops.checks import check_finite, expect

ACTIONS = ("stand", "run", "jump", "squat", "topple")
# Ranges of the angles of a body at ease and of one with all its vigour, of each action:
# the spine's lean and tilt, the body's yaw; right arm, left arm (away, forward, bend,
# inward); right leg, left leg (away, forward, bend). See `poses.Pose`.
_BODIES: dict[str, tuple[list[float], list[float]]] = {
    "stand": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "run": ([0.25, 0.0, 1.3], [0.6, 0.0, 1.3]),
    "jump": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "squat": ([0.15, 0.0, 0.2], [0.35, 0.0, 0.2]),
    "topple": ([0.0, 0.3, 0.0], [0.0, 0.65, 0.0]),
}
_LIMBS: dict[str, tuple[list[float], list[float]]] = {
    "stand": (
        [0.12, 0.0, 0.2, 0.3] * 2 + [0.06, 0.0, 0.05] * 2,
        [0.25, 0.0, 0.4, 0.3] * 2 + [0.12, 0.0, 0.1] * 2,
    ),
    "run": (
        [
            *[0.1, 0.5, 0.9, 0.1],
            *[0.1, -0.5, 0.9, 0.1],
            *[0.05, 0.5, 0.6],
            *[0.05, -0.3, 0.3],
        ],
        [
            *[0.1, 1.1, 1.5, 0.1],
            *[0.1, -1.0, 1.5, 0.1],
            *[0.05, 1.1, 1.3],
            *[0.05, -0.6, 0.6],
        ],
    ),
    "jump": (
        [1.9, 0.0, 0.3, 0.1] * 2 + [0.1, 0.0, 0.1] * 2,
        [2.7, 0.0, 0.1, 0.1] * 2 + [0.45, 0.0, 0.3] * 2,
    ),
    "squat": (
        [0.15, 0.8, 0.3, 0.2] * 2 + [0.2, 0.5, 0.9] * 2,
        [0.35, 1.3, 0.3, 0.2] * 2 + [0.5, 1.15, 1.95] * 2,
    ),
    "topple": (
        [
            *[0.6, 0.0, 0.2, 0.1],
            *[1.2, 0.0, 0.2, 0.1],
            *[0.2, 0.0, 0.1],
            *[0.05, 0.0, 0.05],
        ],
        [
            *[1.0, 0.0, 0.2, 0.1],
            *[2.0, 0.0, 0.2, 0.1],
            *[0.6, 0.0, 0.1],
            *[0.05, 0.0, 0.05],
        ],
    ),
}
_RISE = 0.08  # of a jump, in heights
_JITTER = 0.08  # of every angle, radians
# Which actions move a point the more the higher it lies above the ground: the feet of
# the others go with them.
_ROOTED = torch.tensor([False, False, False, True, True])


@dataclass(frozen=True)
class Leap(canvas.Factors):
    """The factors of n images of one moving figure each."""

    person: people.Scene
    actions: Int[Tensor, " n"]  # into ACTIONS
    vigour: Float[Tensor, " n"]  # in [0, 1): how far the body bends
    # (x, y): where the head goes, in units of the image's side
    motion: Float[Tensor, "n 2"]
    backwards: Bool[Tensor, " n"]  # against what the posture says


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    speed: Range = (0.025, 0.09),
    against: float = 0.15,
    height: Range = (0.8, 0.92),
    domains: tuple[int, ...] = (0, 1, 2, 3),
) -> Leap:
    """Draw the factors of ``n`` images; image i does not depend on ``n``.

    Args:
        n: how many.
        generator: CPU generator; the same seed gives the same images on every machine.
        speed: of a figure with no vigour and with all of it, in units of the image's
            side; each varies by up to a quarter around it.
        against: share of the figures that move the other way.
        height: as for ``people.sample``.
        domains: as for ``people.sample``.

    Raises:
        ValueError: for an inverted range, a share outside [0, 1], and as
            ``people.sample``.
    """
    check_range("speed", speed, 0, 1)
    check_range("against", (0, against), 0, 1)
    person = people.sample(n, generator, people=(1, 1), height=height, domains=domains)
    draws = canvas.draw_on(person.backgrounds)
    actions = draws.integers(0, len(ACTIONS))
    vigour = draws.uniform(0, 1)
    left = draws.integers(0, 2).bool()
    pose = _pose(actions, vigour, left, draws)
    jumps = actions == ACTIONS.index("jump")
    rise = _RISE * jumps * draws.uniform(0.5, 1.5)
    pace = (speed[0] + (speed[1] - speed[0]) * vigour) * draws.uniform(0.75, 1.25)
    backwards = draws.uniform(0, 1) < against
    way = _ways(left)[actions, torch.arange(len(actions))]
    sign = torch.where(backwards, -1.0, 1.0)
    return Leap(
        person=people.strike(person, pose, rise[:, None]),
        actions=actions,
        vigour=vigour,
        motion=(pace * sign)[:, None] * way,
        backwards=backwards,
    )


def _ways(left: Bool[Tensor, " n"]) -> Float[Tensor, "actions n 2"]:
    """(x, y) of the direction of each action, for figures that turn left or right."""
    side = torch.where(left, -1.0, 1.0)
    zero, one = torch.zeros_like(side), torch.ones_like(side)
    across = torch.stack([side, zero], 1)
    down = torch.stack([zero, one], 1)
    return torch.stack([0 * across, across, -down, down, across])


def _pose(
    actions: Int[Tensor, " n"],
    vigour: Float[Tensor, " n"],
    left: Bool[Tensor, " n"],
    draws: Draws,
) -> poses.Pose:
    """One figure's posture, (n, 1)."""
    angles = []
    for table in (_BODIES, _LIMBS):
        ends = torch.tensor([table[name] for name in ACTIONS])[actions]
        ease, full = ends.unbind(1)
        angles.append(ease + (full - ease) * vigour[:, None])
    body, limbs = angles
    limbs = limbs + draws.uniform(-_JITTER, _JITTER, 14)
    arms = limbs[:, None, :8].unflatten(2, (2, 4))
    legs = limbs[:, None, 8:].unflatten(2, (2, 3))
    turn = left[:, None, None, None]
    # A tilt is to the figure's own left, which is the image's right.
    side = torch.where(left, -1.0, 1.0)[:, None]
    lean, tilt, yaw = (body + draws.uniform(-_JITTER, _JITTER, 3))[:, None].unbind(2)
    return poses.Pose(
        lean=lean,
        tilt=side * tilt,
        twist=draws.uniform(-0.15, 0.15, 1),
        arms=torch.where(turn, arms.flip(2), arms),
        legs=torch.where(turn, legs.flip(2), legs),
        yaw=side * yaw,
        look=side * yaw + draws.uniform(-0.3, 0.3, 1),
        nod=draws.uniform(-0.15, 0.15, 1),
    )


def render(leap: Leap, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the images."""
    return people.render(leap.person, size)


def annotate(leap: Leap, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(leap, size)``.

    Returns:
        ``flow`` (n, 2, size, size): (dx, dy) in pixels of each pixel of the figure, 0
        beside it. Who squats or topples keeps his feet where they are: a point moves
        in proportion to its height above the ground. ``masks`` (n, size, size): the
        figure; ``labels`` (n,) into ``ACTIONS``; ``backwards`` (n,).
    """
    side = canvas.check_size(size)
    masks = people.annotate(leap.person, side)["person_masks"][:, 0]
    rows = torch.from_numpy(canvas.centres(side))
    person = leap.person
    above = (person.ground - rows) / person.heights
    share = torch.where(_ROOTED[leap.actions][:, None], above.clamp(0, 1), 1.0)
    moving = masks * share[:, :, None]
    flow = side * leap.motion[:, :, None, None] * moving[:, None]
    return {
        "flow": flow,
        "masks": masks,
        "labels": leap.actions,
        "backwards": leap.backwards,
    }


def estimate(
    flow: Float[Tensor, "n 2 h w"], generator: torch.Generator, *, std: float
) -> Float[Tensor, "n 2 h w"]:
    """What a flow algorithm would say: the truth, and an error at every pixel, also
    where nothing moves.

    Args:
        flow: (dx, dy) in pixels.
        generator: CPU generator.
        std: of the error along x and along y, in pixels.

    Raises:
        ValueError: for a flow that is not finite, or a negative ``std``.
    """
    check_finite(flow, "flow")
    expect(0 <= std < math.inf, "a finite std >= 0", std)
    return flow + std * torch.randn(flow.shape, generator=generator)


def paint(flow: Float[Tensor, "n 2 h w"], *, most: float) -> Float[Tensor, "n 3 h w"]:
    """Flow as a picture: the direction is the colour, the length its strength; white
    stands still.

    Args:
        flow: (dx, dy), in any unit.
        most: the length of full strength, in the same unit.

    Raises:
        ValueError: for a flow that is not finite, or a length that is not positive.
    """
    check_finite(flow, "flow")
    expect(0 < most < math.inf, "a positive length", most)
    angle = torch.atan2(flow[:, 1], flow[:, 0])
    # red to the right, green down and to the left, blue up and to the left
    turns = 2 * math.pi / 3 * torch.arange(3)[:, None, None]
    colour = 0.5 + 0.5 * torch.cos(angle[:, None] - turns)
    strength = (flow.norm(dim=1, keepdim=True) / most).clamp(max=1)
    return 1 - strength * (1 - colour)
