"""The world `people`: dressed figures in articulated poses, several in a picture, with
every joint known.

A body is a small 3-D skeleton, turned and projected, so that left and right, front and
back, and what hides what are decided by geometry. Joints and limbs come in OpenPose's
COCO-18 order.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos, poses
from papernets_lite.data.canvas import (
    LIGHT,
    PALETTE,
    PATTERNS,
    Camera,
    Draws,
    Range,
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

_POINTS = """nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee
right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear""".split()
JOINTS = tuple(name.replace("_", " ") for name in _POINTS)
# The limbs as released, joints counted from 1.
_PAIRS = "2-9 9-10 10-11 2-12 12-13 13-14 2-3 3-4 4-5 3-17 2-6 6-7 7-8 6-18 2-1 1-15 1-16 15-17 16-18"
LIMBS = tuple(
    (int(a) - 1, int(b) - 1) for a, b in (pair.split("-") for pair in _PAIRS.split())
)
FLIP = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
PARTS = """background head torso right_upper_arm right_forearm left_upper_arm left_forearm
right_thigh right_shank left_thigh left_shank""".split()
# the arms' and legs' parts, in this order, lie between this joint and the next
_BONES = (2, 3, 5, 6, 8, 9, 11, 12)
ACTIONS = poses.ACTIONS
DOMAINS = ("daylight", "tungsten", "overcast", "night")
_GAIN = torch.tensor(
    [[1.04, 1.02, 0.98], [1.14, 1.0, 0.78], [0.95, 1.0, 1.06], [0.68, 0.76, 1.02]]
)
_CONTRAST = torch.tensor([1.1, 1.0, 0.78, 0.95])
_NOISE = torch.tensor([0.015, 0.02, 0.015, 0.035])

_SKIN = np.array(
    [(255, 222, 196), (243, 198, 160), (214, 160, 120), (160, 110, 78), (112, 76, 56)]
)
_HAIR = np.array(
    [
        (40, 32, 30),
        (86, 56, 38),
        (150, 100, 56),
        (222, 188, 118),
        (150, 150, 152),
        (172, 78, 42),
    ]
)
_MUTED = [
    (52, 56, 70),
    (132, 120, 104),
    (214, 132, 152),
    (104, 132, 92),
    (44, 70, 112),
    (150, 58, 70),
]
_CLOTH = np.array([*PALETTE.values(), *_MUTED])
# trousers
_DARK = np.array(
    [
        (44, 50, 74),
        (58, 58, 62),
        (98, 82, 66),
        (70, 92, 130),
        (150, 138, 116),
        (84, 96, 74),
    ]
)
SLEEVES, LEGS = ("none", "short", "long"), ("shorts", "trousers", "skirt")
HAIRSTYLES = ("short", "long", "bun", "curly")
# How many there are to choose from, in the order of the draws.
_CHOICES = {
    "shirt": len(_CLOTH),
    "pattern": 2 * len(PATTERNS),
    "skin": len(_SKIN),
    "hair": len(_HAIR),
}
_CHOICES |= {
    "hairstyle": len(HAIRSTYLES),
    "second": len(_CLOTH) - 1,
    "trousers": len(_DARK),
    "sleeves": len(SLEEVES),
}
_CHOICES |= {"legs": 4, "shoes": len(_CLOTH), "placket": 2}


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n images with up to p people; a later person stands in front of an
    earlier one."""

    joints: Float[Tensor, "n p 18 2"]  # (x, y), in units of the image's side
    depths: Float[Tensor, "n p 18"]  # towards the camera, in body heights
    feet: Float[Tensor, "n p 2 2"]  # right and left toes
    # of the person standing upright, in units of the image's side
    heights: Float[Tensor, "n p"]
    ground: Float[Tensor, "n p"]  # where the person stands, down the image
    facing: Float[Tensor, "n p 2"]  # (right, towards the camera): where the face looks
    valid: Bool[Tensor, "n p"]
    # fixes skin, hair, build and clothes: see `appearance`
    identity: Int[Tensor, "n p"]
    domain: Int[Tensor, " n"]  # camera, an index into DOMAINS
    horizon: Float[Tensor, " n"]  # where the floor meets the wall, down the image
    # where the light comes from, from -1 (left) to 1 (right)
    light: Float[Tensor, " n"]
    backgrounds: Float[Tensor, "n 4"]  # draws of photos.stages
    # things behind the people: x, y, width, height, hue in [0, 1)
    clutter: Float[Tensor, "n 3 5"]
    grain: Int[Tensor, "n 2"]  # which piece of the sensor's noise
    # where the cloths' patterns hang: with whom they move, in units of the image's side
    weave: Float[Tensor, "n 2"]


def appearance(identity: Int[Tensor, "*b"]) -> dict[str, Tensor]:
    """The look of each identity, the same everywhere and always; colours are indices
    into the palettes.

    ``skin``, ``hair``, ``hairstyle`` (into HAIRSTYLES), ``shirt`` and its ``second``
    colour, ``pattern`` (into canvas.PATTERNS), ``trousers``, ``sleeves`` (into
    SLEEVES), ``legs`` (into LEGS), ``shoes``, ``placket`` (a strip down the front) and
    ``build`` (width of the body, about 1).
    """
    draws = Draws(identity)
    look = {name: draws.integers(0, count) for name, count in _CHOICES.items()}
    # another colour
    look["second"] = (look["shirt"] + 1 + look["second"]) % len(_CLOTH)
    look["pattern"] *= look["pattern"] < len(PATTERNS)  # half of all shirts are plain
    # and half of all legs in trousers
    look["legs"] = torch.tensor([0, 1, 1, 2])[look["legs"]]
    return look | {"build": draws.uniform(0.9, 1.15)}


def sample(
    n: int,
    generator: torch.Generator,
    *,
    people: tuple[int, int] = (2, 4),
    spacing: Range = (0.15, 0.35),
    height: Range = (0.62, 0.85),
    identities: tuple[int, int] = (0, 1000),
    domains: Sequence[int] = (0, 1, 2, 3),
) -> Scene:
    """Draw the factors of ``n`` images; image i does not depend on ``n``.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        people: fewest and most people in an image, at most 15.
        spacing: distance between neighbours, in units of the image's side; small values
            make crowds.
        height: of a standing person, in units of the image's side; who stands nearer is
            taller.
        identities: range (low, high), high excluded, of identities that may occur (hold
            some out for testing).
        domains: cameras that may occur, indices into ``DOMAINS``.

    Raises:
        ValueError: for an empty or inverted range, ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("people", people, 1, 15)
    check_range("spacing", spacing, 0)
    check_range("height", height, 0.1, 2)
    check_range("identities", (identities[0], identities[1] - 1), 0)
    expect(
        domains and set(domains) <= set(range(len(DOMAINS))),
        f"domains from 0 to {len(DOMAINS) - 1}",
        domains,
    )

    high = people[1]
    pose = poses.sample(draws, high)
    count = draws.integers(people[0], high + 1, 1)
    valid = torch.arange(high) < count
    # Side by side, `spacing` apart, the row centred in the image; who stands in front
    # is anywhere in the row.
    across = draws.uniform(*spacing, high).cumsum(1)
    across = (
        0.5
        + across
        - (across[:, :1] + across.gather(1, count - 1)) / 2
        + draws.uniform(-0.06, 0.06, 1)
    )
    across = across.gather(
        1, torch.where(valid, draws.uniform(0, 1, high), 2.0).argsort(1)
    )
    # Nearer is taller and lower: all stand on one floor, seen from 0.9 of a person's
    # height.
    tall = (
        torch.where(valid, draws.uniform(*height, high), torch.inf)
        .sort(1)
        .values.clamp(max=height[1])
    )
    room = max(0.96 - 0.9 * height[1], 0.12)
    level = draws.uniform(min(0.1, room), room)  # the eye's height in the image
    ground = (level[:, None] + 0.9 * tall).clamp(max=0.99)
    tall = tall * draws.uniform(0.94, 1.06, high)

    return Scene(
        **_stand(pose, across, ground, tall),
        heights=tall,
        ground=ground,
        valid=valid,
        identity=draws.integers(*identities, high),
        domain=torch.tensor(domains)[draws.integers(0, len(domains))],
        horizon=(level + draws.uniform(0.25, 0.5)).clamp(max=0.8),
        light=draws.uniform(-1, 1),
        backgrounds=draws.uniform(0, 1, 4),
        clutter=draws.uniform(0, 1, 3, 5),
        grain=draws.integers(0, 64, 2),
        weave=torch.zeros(n, 2),
    )


def _stand(
    pose: poses.Pose, across: Tensor, ground: Tensor, tall: Tensor
) -> dict[str, Tensor]:
    """The factors that follow from a pose: the hips' middle ``across`` the image, the
    lower foot on the ``ground``."""
    body, toes = poses.skeleton(pose)
    scale = tall[..., None, None] * torch.tensor([1.0, -1.0])
    joints, feet = scale * body[..., :2], scale * toes[..., :2]
    soles = torch.cat(
        [
            joints[..., [10, 13], 1] + 0.035 * tall[..., None],
            feet[..., 1] + 0.02 * tall[..., None],
        ],
        -1,
    )
    where = torch.stack([across, ground - soles.amax(-1)], -1)[..., None, :]
    facing = torch.stack([pose.look.sin(), pose.look.cos()], -1)
    return {
        "joints": where + joints,
        "depths": body[..., 2],
        "feet": where + feet,
        "facing": facing,
    }


def act(
    scene: Scene, actions: Int[Tensor, " n"], moments: Float[Tensor, "n t"]
) -> Scene:
    """The same people, clothes, places and cameras, in the midst of an action: frames
    of a film.

    Args:
        scene: n images, whose poses are replaced.
        actions: what everybody in an image does, indices into ``ACTIONS``.
        moments: when an image's t frames are taken, in cycles of the action.

    Returns:
        n t images: all frames of the first image, then of the second, ...

    Raises:
        ValueError: for an action that does not exist, or no moments.
    """
    known = all(0 <= action < len(ACTIONS) for action in actions.tolist())
    expect(
        moments.numel() and known,
        f"moments and actions below {len(ACTIONS)}",
        moments.shape,
        actions,
    )
    frames = moments.shape[1]
    still = scene[torch.arange(len(scene)).repeat_interleave(frames)]
    people, tall = still.valid.shape[1], still.heights
    doing, when = (
        v[:, None].expand(-1, people)
        for v in (actions.repeat_interleave(frames), moments.flatten())
    )
    yaw = torch.atan2(still.facing[..., 0], still.facing[..., 1])
    pose, rise, come = poses.act(still.identity, doing, when, yaw)
    across = still.joints[:, :, [8, 11], 0].mean(-1) + tall * come
    moved = _stand(pose, across, still.ground - tall * rise, tall)
    return replace(still, **moved, weave=moved["joints"][:, 0, [2, 5, 8, 11]].mean(1))


# What a person is made of: each piece is the convex hull of discs, written
# anchor:radius in body heights; anchors are joints or names of `_anchors`, and @ stands
# for right and left. A piece belongs to a group; groups are drawn from far to near, the
# pieces of one in this order. It shows its material in some of the levels 0 to 2:
# shade, body, highlight; and is there if all that follows holds, of the look or of what
# `_shown` measures.
_TABLE = """
shadow     shadow      shadow   012 shade_right:.042 shade_left:.042
fall       fall        hair     01  back:.062 fall:.045 hairstyle=1
torso      torso       shirt    012 neck:.04 chest:.06 right_shoulder:.032 left_shoulder:.032 waist_r:.044 waist_l:.044
hips       hips        trousers 01  right_hip:.054 left_hip:.054
skirt      skirt       trousers 012 right_hip:.05 left_hip:.05 hem_right:.058 hem_left:.058 legs=2
placket    torso       shoes    0   front_top:.009 front_low:.009 placket=1 aside<.9
neckline   head        skin     1   neck:.03
throat     head        skin     0   neck:.03 skull:.03
bun        head        hair     01  bun:.032 hairstyle=2
mane       head        hair     01  back:.076 hairstyle!=3
curls      head        hair     01  back:.09 hairstyle=3
ear_@      head        skin     1   @_ear:.014 hairstyle!=1 @_ear>-.03
face       head        skin     012 brow:.062 chin:.036
nose       head        skin     0   nose:.011 nose>-.02
mouth      head        lips     0   lip_right:.006 lip_left:.006 facing>.05
white_@    head        white    0   @_eye:.0165 @_eye>.012
eye_@      head        dark     0   @_eye:.0105 @_eye>.012
fringe     head        hair     01  fringe_right:.024 fringe_left:.024 facing>-.2
cap        head        hair     01  back:.074 facing<=-.2
arm_@      @_upper_arm skin     012 @_shoulder:.035 @_elbow:.028 sleeves!=2
sleeve_@   @_upper_arm shirt    012 @_shoulder:.04 cuff_@:.036 sleeves!=0
forearm_@  @_forearm   skin     012 @_elbow:.029 @_wrist:.02 sleeves!=2
long_@     @_forearm   shirt    012 @_elbow:.029 @_wrist:.02 sleeves=2
hand_@     @_forearm   skin     12  @_wrist:.023 hand_@:.02
leg_@      @_thigh     skin     012 @_hip:.054 @_knee:.037 legs!=1
trouser_@  @_thigh     trousers 012 @_hip:.056 knee_@:.044 legs!=2
shoe_@     @_shank     shoes    01  heel_@:.026 toe_@:.021
shank_@    @_shank     skin     012 @_knee:.038 @_ankle:.023 legs!=1
calf_@     @_shank     trousers 012 @_knee:.038 @_ankle:.023 legs=1
"""
_BOTH = [
    line.replace("@", side)
    for line in _TABLE.strip().splitlines()
    for side in ("right", "left")
]
_ROWS = [row.split() for row in dict.fromkeys(_BOTH)]  # what has no side comes once
_NAMES = [row[0] for row in _ROWS]
_GROUPS = ["shadow", "fall", "hips", "skirt", *PARTS[1:]]
_GROUP = np.array([_GROUPS.index(row[1]) for row in _ROWS])
# a fall of hair is head, hips and skirt are torso
_PART = np.array([0, 1, 2, 2, *range(1, len(PARTS))])[_GROUP]
_DISCS = [[word.split(":") for word in row if ":" in word] for row in _ROWS]
_WIDE = np.array([len(discs) > 2 for discs in _DISCS])
# repeated discs do not change a hull
_DISCS = [(discs + 5 * discs[:1])[:6] for discs in _DISCS]
_RADII = np.array([[radius for _, radius in discs] for discs in _DISCS], np.float32)
_SIGNS = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
}
_RULES = [
    (k, *rule)
    for k, row in enumerate(_ROWS)
    for rule in re.findall(r"(\w+)([=!<>]+)(\S+)", " ".join(row))
]
# A piece at a level: the piece, how many levels lie under this one, the level.
_LAYERS = np.array(
    [
        (k, step, int(level))
        for k, row in enumerate(_ROWS)
        for step, level in enumerate(row[3])
    ]
)
# Step from the lowest level -> how much of a piece is covered, and how far it leans to
# the light, in radii.
_COVER, _LEAN = np.array([(1.0, 0.8, 0.42), (0.0, 0.14, 0.36)], np.float32)
# Inks: 1-3 shadows, 4-12 things on the floor, then 16 for each person, these:
_INKS = {
    "skin": 0,
    "hair": 3,
    "shirt": 5,
    "trousers": 8,
    "shoes": 11,
    "dark": 13,
    "white": 14,
    "lips": 15,
}
_INK = np.array([(_INKS | {"shadow": 1})[row[2]] for row in _ROWS])


def _anchors(
    scene: Scene, size: int, look: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Named points of each person, (n, p, 2) in pixels: the joints, and what hangs on
    them."""
    at = dict(
        zip(_POINTS, (scene.joints * size).numpy().transpose(2, 0, 1, 3), strict=True)
    )
    unit = (scene.heights * size).numpy()
    right, towards = scene.facing.numpy().transpose(2, 0, 1)
    skull = (at["right_ear"] + at["left_ear"]) / 2
    spine = (at["right_hip"] + at["left_hip"]) / 2 - at["neck"]
    front = np.stack([0.05 * unit * _bust(scene), 0 * unit], -1)

    def head(left: float, up: float, front: float) -> np.ndarray:
        return skull + np.stack(
            [(left * towards + front * right) * unit, -up * unit], -1
        )

    def along(a: str, b: str, share: float | np.ndarray) -> np.ndarray:
        return at[a] + (at[b] - at[a]) * np.asarray(share)[..., None]

    at |= {
        "skull": skull,
        "brow": head(0.0, 0.014, 0.004),
        "chin": head(0.0, -0.042, 0.02),
    }
    at |= {
        "back": head(0.0, 0.022, -0.016),
        "fall": head(0.0, -0.12, -0.045),
        "bun": head(0.0, 0.08, -0.05),
    }
    at |= {"chest": at["neck"] + 0.32 * spine}
    at |= {
        "front_top": at["neck"] + 0.1 * spine + front,
        "front_low": at["neck"] + 0.9 * spine + front,
    }
    toes = (scene.feet * size).numpy()
    reach = 0.09 * unit + np.abs(toes[:, :, 0, 0] - toes[:, :, 1, 0]) / 2
    middle = toes[..., 0].mean(-1) - 0.05 * scene.light.numpy()[:, None] * unit
    for k, (side, sign) in enumerate((("right", -1.0), ("left", 1.0))):
        at[f"fringe_{side}"] = head(sign * 0.034, 0.05, 0.03)
        at[f"lip_{side}"] = head(sign * 0.017, -0.042, 0.058)
        at[f"waist_{side[0]}"] = along(f"{side}_hip", f"{side}_shoulder", 0.16)
        at[f"cuff_{side}"] = along(
            f"{side}_shoulder",
            f"{side}_elbow",
            np.array([0.0, 0.62, 1.0])[look["sleeves"]],
        )
        at[f"hand_{side}"] = along(f"{side}_elbow", f"{side}_wrist", 1.28)
        at[f"knee_{side}"] = along(
            f"{side}_hip", f"{side}_knee", np.array([0.82, 1.0, 0.8])[look["legs"]]
        )
        at[f"hem_{side}"] = along(f"{side}_hip", f"{side}_knee", 0.7)
        at[f"toe_{side}"] = toes[:, :, k]
        at[f"heel_{side}"] = at[f"{side}_ankle"] + np.stack(
            [0 * unit, 0.014 * unit], -1
        )
        at[f"shade_{side}"] = np.stack(
            [middle + sign * reach, scene.ground.numpy() * size], -1
        )
    return at


def _bust(scene: Scene) -> np.ndarray:
    """Sine of the chest's yaw, (n, p): where the front of the body points across the
    image."""
    depth = scene.depths.numpy()
    return (depth[..., 2] - depth[..., 5]) / 0.216


def _shown(scene: Scene, look: dict[str, np.ndarray]) -> Bool[np.ndarray, "n p pieces"]:
    """Which pieces each person has and turns to the camera."""
    depth, across = scene.depths.numpy(), scene.joints[..., 0].numpy()
    # How far each joint is before the middle of the head; whether the face looks here;
    # how far the front is turned aside, which is seen when the left shoulder is at the
    # right.
    before = depth - (depth[..., 16:17] + depth[..., 17:]) / 2
    known = look | dict(zip(_POINTS, before.transpose(2, 0, 1), strict=True))
    known["facing"] = scene.facing[..., 1].numpy()
    known["aside"] = np.where(
        across[..., 5] > across[..., 2], np.abs(_bust(scene)), np.inf
    )
    shown = np.repeat(scene.valid.numpy()[..., None], len(_ROWS), -1)
    for piece, name, sign, bound in _RULES:
        shown[..., piece] &= _SIGNS[sign](known[name], float(bound))
    return shown


def _nearness(scene: Scene) -> np.ndarray:
    """How near each group of pieces is, (n, p, groups): they are drawn from far to
    near."""
    depth = scene.depths.numpy()
    # A chest is thick: arms beside it count as before it, thighs under it as behind it.
    arms = [depth[..., [k, k + 1]].mean(-1) + 0.05 + 0.0005 * k for k in _BONES[:4]]
    legs = [depth[..., [k, k + 1]].mean(-1) for k in _BONES[4:]]
    torso = depth[..., [2, 5, 8, 11]].mean(-1) + 0.03
    head = np.maximum(depth[..., 16:].mean(-1), torso) + 0.01
    fall = np.where(scene.facing[..., 1].numpy() > 0, -1.0, head + 0.001)
    hips = np.minimum(legs[0], legs[2]) - 0.001
    skirt = np.maximum(np.maximum(legs[0], legs[2]), torso - 0.002) + 0.001
    return np.stack(
        [np.full_like(head, -2.0), fall, hips, skirt, head, torso, *arms, *legs], -1
    )


def _pieces(
    scene: Scene, size: int, lit: bool
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Every piece that is shown, in drawing order: shadows first, then person by
    person, from far to near.

    Args:
        lit: with the shadows and all levels of light, in inks; else only the outer
            shape, in part labels.

    Returns:
        Corners (m, corners, 2) in fixed point; m inks or labels; and where each image's
        shadows and each of its people begin in them, (n, 1 + p + 1): the last column is
        where the image's people end.
    """
    layers = (
        _LAYERS if lit else _LAYERS[(_LAYERS[:, 1] == 0) & (_GROUP[_LAYERS[:, 0]] > 0)]
    )
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    at = _anchors(scene, size, look)
    points, names = np.stack(list(at.values()), 2).astype(np.float32), list(at)
    discs = np.array([[names.index(name) for name, _ in row] for row in _DISCS])

    # One key sorts it all: the image, its shadows or person, then the group's depth,
    # then the place in the table.
    n, people = scene.valid.shape
    shown, group = _shown(scene, look)[..., layers[:, 0]], _GROUP[layers[:, 0]]
    rank = _nearness(scene).argsort(-1, kind="stable").argsort(-1)[..., group]
    owner = np.where(group == 0, 0, 1 + np.arange(people)[:, None])
    actor = owner + (people + 1) * np.arange(n)[:, None, None]
    key = ((actor * len(_GROUPS) + rank) * len(layers) + np.arange(len(layers)))[shown]
    image, person, layer = (axis[key.argsort()] for axis in shown.nonzero())
    counts = np.bincount(actor[shown], minlength=n * (people + 1)).cumsum()
    starts = np.append(0, counts)[
        (people + 1) * np.arange(n)[:, None] + np.arange(people + 2)
    ]

    piece, step, level = layers[layer].T
    build = np.where(_PART[piece] > 1, look["build"][image, person], 1.0)
    unit = ((scene.heights * size).numpy()[image, person] * build).astype(np.float32)
    light = _light(scene)[image] * _LEAN[step, None]
    corners = np.empty((len(piece), canvas.CORNERS, 2), np.float32)
    for some, most in ((_WIDE[piece], 6), (~_WIDE[piece], 2)):
        radii = _RADII[piece[some], :most] * unit[some, None]
        centres = points[
            image[some, None], person[some, None], discs[piece[some], :most]
        ]
        centres += light[some, None] * radii[..., None]
        corners[some] = canvas.hulls(centres, radii * _COVER[step[some], None])
    inks = 16 * owner[person, layer] + _INK[piece] + level if lit else _PART[piece]
    return canvas.fixed(corners), inks.tolist(), starts


def _light(scene: Scene) -> Float[np.ndarray, "n 2"]:
    """Towards the light, in the image: from above, left or right."""
    return np.stack([0.8 * scene.light.numpy(), np.full(len(scene), -0.7)], -1).astype(
        np.float32
    )


def _things(scene: Scene, size: int) -> Int[np.ndarray, "n 9 corners 2"]:
    """Boxes and cushions on the floor, each in three lights; fixed point."""
    x, y, wide, tall, hue = scene.clutter.numpy().transpose(2, 0, 1)
    wide, tall = 0.03 + 0.09 * wide, 0.04 + 0.16 * tall
    foot = scene.horizon.numpy()[:, None] + 0.1 * y
    centres = np.stack(
        [
            np.stack([x + a * wide, foot - b * tall], -1)
            for a in (-1, 1)
            for b in (0.1, 1)
        ],
        2,
    )
    # (n, 3, 1, 4)
    radii = np.repeat(
        (np.minimum(wide, tall) * (0.15 + 0.8 * (7 * hue % 1)))[..., None, None], 4, -1
    )
    centres = (
        centres[:, :, None]
        + _light(scene)[:, None, None, None] * (radii * _LEAN[:, None])[..., None]
    )
    corners = canvas.hulls(size * centres, size * radii * _COVER[:, None])
    return canvas.fixed(corners).reshape(len(scene), 9, canvas.CORNERS, 2)


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n, people = scene.valid.shape
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    colours, pattern = (
        np.zeros((n, people + 1, 16, 3), np.float32),
        np.zeros((n, people + 1, 16), int),
    )
    alpha = np.array([0, 0.16, 0.3, 0.42] + (12 + 16 * people) * [1])
    things = 0.75 * _CLOTH[(scene.clutter[..., 4].numpy() * len(_CLOTH)).astype(int)]
    colours[:, 0, 4:13] = (things[:, :, None] * LIGHT).reshape(n, 9, 3)
    own = colours[:, 1:]
    for name, palette in (
        ("skin", _SKIN),
        ("hair", _HAIR),
        ("shirt", _CLOTH),
        ("trousers", _DARK),
        ("shoes", _CLOTH),
    ):
        first, lights = _INKS[name], LIGHT[: 2 if name in ("hair", "shoes") else 3]
        own[:, :, first : first + len(lights)] = (
            palette[look[name]][:, :, None] * lights
        )
    own[:, :, 13:] = (38, 32, 36), (246, 244, 240), (166, 74, 74)
    second = colours.copy()
    second[:, 1:, 5:8] = _CLOTH[look["second"]][:, :, None] * LIGHT
    pattern[:, 1:, 5:8] = look["pattern"][..., None]
    return canvas.inkwell(
        colours.reshape(n, -1, 3),
        second.reshape(n, -1, 3),
        pattern.reshape(n, -1),
        alpha,
    )


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: a room or garden, shadows on the floor, people from back to
    front, a camera's look."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    size, domain = out.shape[-1], scene.domain
    corners, inks, starts = _pieces(scene, size, lit=True)
    things, tables, weave = (
        _things(scene, size),
        _tables(scene),
        (scene.weave * size).tolist(),
    )
    paint = np.empty((len(scene), size, size, 4), np.uint8)
    for i, (first, *_, end) in enumerate(starts.tolist()):
        drawn = canvas.stamp(canvas.blank(size), things[i], list(range(4, 13)))
        paint[i] = canvas.colour(
            canvas.stamp(drawn, corners[first:end], inks[first:end]),
            tables[i],
            weave[i],
        )
    camera = Camera(_GAIN[domain], _CONTRAST[domain], _NOISE[domain], scene.grain)
    canvas.photograph(
        paint, photos.stages(scene.backgrounds, scene.horizon, size), camera, out
    )


# The joints on each part; a joint is seen where these parts of its own person are on
# top.
_HELD = [(), (0, 1, 14, 15, 16, 17), (1, 2, 5, 8, 11), *((k, k + 1) for k in _BONES)]
# (18, parts)
_LIES_ON = torch.tensor([[joint in joints for joints in _HELD] for joint in range(18)])


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the
    pixels' centres.

    Returns:
        ``keypoints`` (n, p, 18, 2) in pixels; ``visible`` (n, p, 18), in the frame,
        turned to the camera and not hidden by anybody's body; ``in_frame``; ``valid``
        (n, p); ``person_masks`` (n, p, h, w) what is seen; ``amodal_masks`` also what
        is hidden by others; ``part_labels`` (n, h, w) into PARTS; ``boxes`` (n, p, 4)
        and ``areas`` (n, p) of the amodal masks; ``depth_order`` (n, p), larger is
        nearer; ``identity``, ``domain``.
    """
    check_size(size)
    n, people = scene.valid.shape
    # the part at each pixel, also where others hide it
    layers = np.zeros((n, people, size, size), np.uint8)
    corners, parts, starts = _pieces(scene, size, lit=False)
    for i, p in np.ndindex(n, people):
        own = slice(*starts[i, p + 1 : p + 3])
        layers[i, p] = canvas.at_centres(
            canvas.stamp(canvas.blank(size), corners[own], parts[own])
        )
    top, owner, boxes, areas = map(torch.from_numpy, canvas.compose(layers))
    keypoints, persons = scene.joints * size, torch.arange(1, people + 1)
    in_frame = ((keypoints >= 0) & (keypoints < size)).all(-1) & scene.valid[..., None]
    column, row = keypoints.floor().long().clamp(0, size - 1).unbind(-1)
    image = torch.arange(n)[:, None, None]
    part = top[image, row, column].long()
    on_top = owner[image, row, column] == persons[:, None]
    visible = (
        in_frame & on_top & _LIES_ON[torch.arange(18), part] & _turned(scene, part)
    )
    seen = owner[:, None] == persons.to(torch.uint8)[:, None, None]
    joints = {
        "keypoints": keypoints,
        "visible": visible,
        "in_frame": in_frame,
        "valid": scene.valid,
    }
    masks = {
        "person_masks": seen,
        "amodal_masks": torch.from_numpy(layers > 0),
        "part_labels": top.long(),
    }
    figures = {"boxes": boxes, "areas": areas, "depth_order": persons.expand(n, people)}
    return (
        joints | masks | figures | {"identity": scene.identity, "domain": scene.domain}
    )


def _turned(scene: Scene, part: Int[Tensor, "n p 18"]) -> Bool[Tensor, "n p 18"]:
    """Which joints are not on the far side of their own head or torso."""
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    shown = torch.from_numpy(_shown(scene, look))
    seen = torch.ones(part.shape, dtype=torch.bool)
    for joint, piece in (
        (0, "nose"),
        (14, "eye_right"),
        (15, "eye_left"),
        (16, "ear_right"),
        (17, "ear_left"),
    ):
        seen[..., joint] = shown[..., _NAMES.index(piece)]
    for joint, other, width in (
        (2, 5, 0.216),
        (5, 2, 0.216),
        (8, 11, 0.116),
        (11, 8, 0.116),
    ):
        behind = scene.depths[..., other] - scene.depths[..., joint] > 0.9 * width
        seen[..., joint] = ~(behind & (part[..., joint] == PARTS.index("torso")))
    return seen
