"""The world `people`: dressed figures in articulated poses, several in a picture, with
every joint known.

A body is a small 3-D skeleton, turned and projected, so that left and right, front and
back, and what hides what are decided by geometry. Joints and limbs come in OpenPose's
COCO-18 order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import SupportsIndex

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
from papernets_lite.ops.skeletons import OPENPOSE

JOINTS = OPENPOSE.joints
_POINTS = [name.replace(" ", "_") for name in JOINTS]
PARTS = [
    "background",
    "head",
    "torso",
    "right_upper_arm",
    "right_forearm",
    "left_upper_arm",
    "left_forearm",
    "right_thigh",
    "right_shank",
    "left_thigh",
    "left_shank",
]
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
    "hairstyle": len(HAIRSTYLES),
    "second": len(_CLOTH) - 1,
    "trousers": len(_DARK),
    "sleeves": len(SLEEVES),
    "legs": 4,
    "shoes": len(_CLOTH),
    "placket": 2,
}


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
    n: SupportsIndex,
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
    check_range("people", people, 1, 15, whole=True)
    check_range("spacing", spacing, 0)
    check_range("height", height, 0.1, 2)
    check_range("identities", (identities[0], identities[1] - 1), 0, whole=True)
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
    steps = draws.uniform(*spacing, high).cumsum(1)
    centre = (steps[:, :1] + steps.gather(1, count - 1)) / 2
    places = 0.5 + steps - centre + draws.uniform(-0.06, 0.06, 1)
    order = torch.where(valid, draws.uniform(0, 1, high), 2.0).argsort(1)
    across = places.gather(1, order)
    # Nearer is taller and lower: all stand on one floor, seen from 0.9 of a person's
    # height.
    tall = torch.where(valid, draws.uniform(*height, high), torch.inf)
    tall = tall.sort(1).values.clamp(max=height[1])
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
        weave=torch.zeros(len(valid), 2),
    )


def _stand(
    pose: poses.Pose, across: Tensor, ground: Tensor, tall: Tensor
) -> dict[str, Tensor]:
    """The factors that follow from a pose: the hips' middle ``across`` the image, the
    lower foot on the ``ground``."""
    body, toes = poses.skeleton(pose)
    scale = tall[..., None, None] * torch.tensor([1.0, -1.0])
    joints = scale * body[..., :2]
    feet = scale * toes[..., :2]
    heels = joints[..., [10, 13], 1] + 0.035 * tall[..., None]
    tips = feet[..., 1] + 0.02 * tall[..., None]
    lowest = torch.cat([heels, tips], -1).amax(-1)
    where = torch.stack([across, ground - lowest], -1)[..., None, :]
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
        ValueError: for an action that does not exist, no moments or moments that are
            not finite, or another number of either than of images.
    """
    known = all(0 <= action < len(ACTIONS) for action in actions.tolist())
    expect(
        moments.numel() and known,
        f"moments and actions below {len(ACTIONS)}",
        moments.shape,
        actions,
    )
    expect(
        len(actions) == len(moments) == len(scene),
        f"an action and moments for each of {len(scene)} images",
        actions.shape,
        moments.shape,
    )
    expect(moments.isfinite().all(), "finite moments", moments)
    frames = moments.shape[1]
    still = scene[torch.arange(len(scene)).repeat_interleave(frames)]
    people, tall = still.valid.shape[1], still.heights
    doing = actions.repeat_interleave(frames)[:, None].expand(-1, people)
    when = moments.flatten()[:, None].expand(-1, people)
    yaw = torch.atan2(still.facing[..., 0], still.facing[..., 1])
    pose, rise, come = poses.act(still.identity, doing, when, yaw)
    across = still.joints[:, :, [8, 11], 0].mean(-1) + tall * come
    moved = _stand(pose, across, still.ground - tall * rise, tall)
    return replace(still, **moved, weave=moved["joints"][:, 0, [2, 5, 8, 11]].mean(1))


def strike(scene: Scene, pose: poses.Pose, rise: Float[Tensor, "n p"]) -> Scene:
    """The same people, clothes, places and cameras, in other poses.

    Args:
        scene: n images.
        pose: of all people, angles (n, p, ...).
        rise: how high they are off the ground, in heights.

    Raises:
        ValueError: for poses of other people, or a rise that is not finite.
    """
    wanted = scene.valid.shape
    shapes = tuple(pose.yaw.shape), tuple(rise.shape)
    fits = shapes == (tuple(wanted), tuple(wanted))
    expect(fits, f"poses and rises of {tuple(wanted)} people", *shapes)
    expect(rise.isfinite().all(), "finite rises", rise)
    across = scene.joints[:, :, [8, 11], 0].mean(-1)
    moved = _stand(pose, across, scene.ground - scene.heights * rise, scene.heights)
    return replace(scene, **moved)


@dataclass(frozen=True)
class _Piece:
    """What a person is made of, piece by piece: the convex hull of discs.

    In a piece's names, @ stands for right and left: it comes twice.
    """

    name: str
    group: str  # groups are drawn from far to near, the pieces of one in this order
    material: str
    # of light, in which it shows its material: 0 shade, 1 body, 2 highlight
    levels: tuple[int, ...]
    # anchor -> radius, in body heights; anchors are joints or names of `_anchors`
    discs: dict[str, float]
    # It is there if all of these hold, of the look or of what `_shown` measures.
    rules: tuple[tuple[str, str, float], ...] = field(default=())


_TEMPLATES = [
    _Piece(
        "shadow",
        group="shadow",
        material="shadow",
        levels=(0, 1, 2),
        discs={"shade_right": 0.042, "shade_left": 0.042},
    ),
    _Piece(
        "fall",
        group="fall",
        material="hair",
        levels=(0, 1),
        discs={"back": 0.062, "fall": 0.045},
        rules=(("hairstyle", "=", 1.0),),
    ),
    _Piece(
        "torso",
        group="torso",
        material="shirt",
        levels=(0, 1, 2),
        discs={
            "neck": 0.04,
            "chest": 0.06,
            "right_shoulder": 0.032,
            "left_shoulder": 0.032,
            "waist_r": 0.044,
            "waist_l": 0.044,
        },
    ),
    _Piece(
        "hips",
        group="hips",
        material="trousers",
        levels=(0, 1),
        discs={"right_hip": 0.054, "left_hip": 0.054},
    ),
    _Piece(
        "skirt",
        group="skirt",
        material="trousers",
        levels=(0, 1, 2),
        discs={
            "right_hip": 0.05,
            "left_hip": 0.05,
            "hem_right": 0.058,
            "hem_left": 0.058,
        },
        rules=(("legs", "=", 2.0),),
    ),
    _Piece(
        "placket",
        group="torso",
        material="shoes",
        levels=(0,),
        discs={"front_top": 0.009, "front_low": 0.009},
        rules=(("placket", "=", 1.0), ("aside", "<", 0.9)),
    ),
    _Piece(
        "neckline",
        group="head",
        material="skin",
        levels=(1,),
        discs={"neck": 0.03},
    ),
    _Piece(
        "throat",
        group="head",
        material="skin",
        levels=(0,),
        discs={"neck": 0.03, "skull": 0.03},
    ),
    _Piece(
        "bun",
        group="head",
        material="hair",
        levels=(0, 1),
        discs={"bun": 0.032},
        rules=(("hairstyle", "=", 2.0),),
    ),
    _Piece(
        "mane",
        group="head",
        material="hair",
        levels=(0, 1),
        discs={"back": 0.076},
        rules=(("hairstyle", "!=", 3.0),),
    ),
    _Piece(
        "curls",
        group="head",
        material="hair",
        levels=(0, 1),
        discs={"back": 0.09},
        rules=(("hairstyle", "=", 3.0),),
    ),
    _Piece(
        "ear_@",
        group="head",
        material="skin",
        levels=(1,),
        discs={"@_ear": 0.014},
        rules=(("hairstyle", "!=", 1.0), ("@_ear", ">", -0.03)),
    ),
    _Piece(
        "face",
        group="head",
        material="skin",
        levels=(0, 1, 2),
        discs={"brow": 0.062, "chin": 0.036},
    ),
    _Piece(
        "nose",
        group="head",
        material="skin",
        levels=(0,),
        discs={"nose": 0.011},
        rules=(("nose", ">", -0.02),),
    ),
    _Piece(
        "mouth",
        group="head",
        material="lips",
        levels=(0,),
        discs={"lip_right": 0.006, "lip_left": 0.006},
        rules=(("facing", ">", 0.05),),
    ),
    _Piece(
        "white_@",
        group="head",
        material="white",
        levels=(0,),
        discs={"@_eye": 0.0165},
        rules=(("@_eye", ">", 0.012),),
    ),
    _Piece(
        "eye_@",
        group="head",
        material="dark",
        levels=(0,),
        discs={"@_eye": 0.0105},
        rules=(("@_eye", ">", 0.012),),
    ),
    _Piece(
        "fringe",
        group="head",
        material="hair",
        levels=(0, 1),
        discs={"fringe_right": 0.024, "fringe_left": 0.024},
        rules=(("facing", ">", -0.2),),
    ),
    _Piece(
        "cap",
        group="head",
        material="hair",
        levels=(0, 1),
        discs={"back": 0.074},
        rules=(("facing", "<=", -0.2),),
    ),
    _Piece(
        "arm_@",
        group="@_upper_arm",
        material="skin",
        levels=(0, 1, 2),
        discs={"@_shoulder": 0.035, "@_elbow": 0.028},
        rules=(("sleeves", "!=", 2.0),),
    ),
    _Piece(
        "sleeve_@",
        group="@_upper_arm",
        material="shirt",
        levels=(0, 1, 2),
        discs={"@_shoulder": 0.04, "cuff_@": 0.036},
        rules=(("sleeves", "!=", 0.0),),
    ),
    _Piece(
        "forearm_@",
        group="@_forearm",
        material="skin",
        levels=(0, 1, 2),
        discs={"@_elbow": 0.029, "@_wrist": 0.02},
        rules=(("sleeves", "!=", 2.0),),
    ),
    _Piece(
        "long_@",
        group="@_forearm",
        material="shirt",
        levels=(0, 1, 2),
        discs={"@_elbow": 0.029, "@_wrist": 0.02},
        rules=(("sleeves", "=", 2.0),),
    ),
    _Piece(
        "hand_@",
        group="@_forearm",
        material="skin",
        levels=(1, 2),
        discs={"@_wrist": 0.023, "hand_@": 0.02},
    ),
    _Piece(
        "leg_@",
        group="@_thigh",
        material="skin",
        levels=(0, 1, 2),
        discs={"@_hip": 0.054, "@_knee": 0.037},
        rules=(("legs", "!=", 1.0),),
    ),
    _Piece(
        "trouser_@",
        group="@_thigh",
        material="trousers",
        levels=(0, 1, 2),
        discs={"@_hip": 0.056, "knee_@": 0.044},
        rules=(("legs", "!=", 2.0),),
    ),
    _Piece(
        "shoe_@",
        group="@_shank",
        material="shoes",
        levels=(0, 1),
        discs={"heel_@": 0.026, "toe_@": 0.021},
    ),
    _Piece(
        "shank_@",
        group="@_shank",
        material="skin",
        levels=(0, 1, 2),
        discs={"@_knee": 0.038, "@_ankle": 0.023},
        rules=(("legs", "!=", 1.0),),
    ),
    _Piece(
        "calf_@",
        group="@_shank",
        material="trousers",
        levels=(0, 1, 2),
        discs={"@_knee": 0.038, "@_ankle": 0.023},
        rules=(("legs", "=", 1.0),),
    ),
]


def _on(side: str, piece: _Piece) -> _Piece:
    """The piece on one side of the body."""
    discs = {}
    for anchor, radius in piece.discs.items():
        discs[anchor.replace("@", side)] = radius
    rules = []
    for name, sign, bound in piece.rules:
        rules.append((name.replace("@", side), sign, bound))
    return replace(
        piece,
        name=piece.name.replace("@", side),
        group=piece.group.replace("@", side),
        discs=discs,
        rules=tuple(rules),
    )


def _both_sides() -> list[_Piece]:
    """All pieces: those with sides come twice, the others once."""
    pieces = []
    for piece in _TEMPLATES:
        sided = "@" in piece.name
        pieces += [_on("right", piece), _on("left", piece)] if sided else [piece]
    return pieces


_PIECES = _both_sides()
_NAMES = [piece.name for piece in _PIECES]
_GROUPS = ["shadow", "fall", "hips", "skirt", *PARTS[1:]]
_GROUP = np.array([_GROUPS.index(piece.group) for piece in _PIECES])
# a fall of hair is head, hips and skirt are torso
_PART = np.array([0, 1, 2, 2, *range(1, len(PARTS))])[_GROUP]
_WIDE = np.array([len(piece.discs) > 2 for piece in _PIECES])
_MOST = 6  # discs in a piece


def _filled(values: Sequence) -> list:
    """As many as the largest piece has; repeated discs do not change a hull."""
    first, *_ = values
    return [*values, *[first] * (_MOST - len(values))]


_RADII = np.array([_filled([*piece.discs.values()]) for piece in _PIECES], np.float32)
_SIGNS = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
}


def _levels() -> Int[np.ndarray, "layers 3"]:
    """A piece at a level: the piece, how many levels lie under this one, the level."""
    layers = []
    for number, piece in enumerate(_PIECES):
        for step, level in enumerate(piece.levels):
            layers.append((number, step, level))
    return np.array(layers)


_LAYERS = _levels()
# Step from the lowest level -> how much of a piece is covered, and how far it leans to
# the light, in radii.
_COVER = np.array([1.0, 0.8, 0.42], np.float32)
_LEAN = np.array([0.0, 0.14, 0.36], np.float32)
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
_FIRST_INK = _INKS | {"shadow": 1}
_INK = np.array([_FIRST_INK[piece.material] for piece in _PIECES])


def _anchors(
    scene: Scene, size: int, look: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Named points of each person, (n, p, 2) in pixels: the joints, and what hangs on
    them."""
    joints = (scene.joints * size).numpy().transpose(2, 0, 1, 3)
    at = dict(zip(_POINTS, joints, strict=True))
    unit = (scene.heights * size).numpy()
    at |= _head(scene, at, unit)
    spine = (at["right_hip"] + at["left_hip"]) / 2 - at["neck"]
    front = np.stack([0.05 * unit * _bust(scene), 0 * unit], -1)
    at["chest"] = at["neck"] + 0.32 * spine
    at["front_top"] = at["neck"] + 0.1 * spine + front
    at["front_low"] = at["neck"] + 0.9 * spine + front
    return at | _limbs(at, look) | _feet(scene, size, at, unit)


def _head(
    scene: Scene, at: dict[str, np.ndarray], unit: np.ndarray
) -> dict[str, np.ndarray]:
    """Points about the middle of the ears."""
    right, towards = scene.facing.numpy().transpose(2, 0, 1)
    skull = (at["right_ear"] + at["left_ear"]) / 2

    def point(left: float, up: float, front: float) -> np.ndarray:
        across = left * towards + front * right
        return skull + np.stack([across * unit, -up * unit], -1)

    return {
        "skull": skull,
        "brow": point(0.0, 0.014, 0.004),
        "chin": point(0.0, -0.042, 0.02),
        "back": point(0.0, 0.022, -0.016),
        "fall": point(0.0, -0.12, -0.045),
        "bun": point(0.0, 0.08, -0.05),
        "fringe_right": point(-0.034, 0.05, 0.03),
        "fringe_left": point(0.034, 0.05, 0.03),
        "lip_right": point(-0.017, -0.042, 0.058),
        "lip_left": point(0.017, -0.042, 0.058),
    }


# How far down the arm sleeves reach, and legs' clothes down the thigh.
_SLEEVE_ENDS = np.array([0.0, 0.62, 1.0])
_LEG_ENDS = np.array([0.82, 1.0, 0.8])


def _limbs(
    at: dict[str, np.ndarray], look: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Points on arms and legs, or beyond their ends."""

    def along(a: str, b: str, share: float | np.ndarray) -> np.ndarray:
        return at[a] + (at[b] - at[a]) * np.asarray(share)[..., None]

    points = {}
    for side in ("right", "left"):
        shoulder, elbow, wrist = (f"{side}_{j}" for j in ("shoulder", "elbow", "wrist"))
        hip, knee = f"{side}_hip", f"{side}_knee"
        points[f"waist_{side[0]}"] = along(hip, shoulder, 0.16)
        points[f"cuff_{side}"] = along(shoulder, elbow, _SLEEVE_ENDS[look["sleeves"]])
        points[f"hand_{side}"] = along(elbow, wrist, 1.28)
        points[f"knee_{side}"] = along(hip, knee, _LEG_ENDS[look["legs"]])
        points[f"hem_{side}"] = along(hip, knee, 0.7)
    return points


def _feet(
    scene: Scene, size: int, at: dict[str, np.ndarray], unit: np.ndarray
) -> dict[str, np.ndarray]:
    """Toes and heels, and the ends of the shadow on the ground."""
    toes = (scene.feet * size).numpy()
    ground = scene.ground.numpy() * size
    apart = np.abs(toes[:, :, 0, 0] - toes[:, :, 1, 0])
    reach = 0.09 * unit + apart / 2
    middle = toes[..., 0].mean(-1) - 0.05 * scene.light.numpy()[:, None] * unit
    heel = np.stack([0 * unit, 0.014 * unit], -1)
    return {
        "toe_right": toes[:, :, 0],
        "toe_left": toes[:, :, 1],
        "heel_right": at["right_ankle"] + heel,
        "heel_left": at["left_ankle"] + heel,
        "shade_right": np.stack([middle - reach, ground], -1),
        "shade_left": np.stack([middle + reach, ground], -1),
    }


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
    turned = across[..., 5] > across[..., 2]
    known["aside"] = np.where(turned, np.abs(_bust(scene)), np.inf)
    shown = np.repeat(scene.valid.numpy()[..., None], len(_PIECES), -1)
    for number, piece in enumerate(_PIECES):
        for name, sign, bound in piece.rules:
            shown[..., number] &= _SIGNS[sign](known[name], bound)
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
    layers = _LAYERS
    if not lit:
        lowest = layers[:, 1] == 0
        shadows = _GROUP[layers[:, 0]] == 0
        layers = layers[lowest & ~shadows]
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    at = _anchors(scene, size, look)
    names = list(at)
    points = np.stack(list(at.values()), 2).astype(np.float32)
    discs = np.array(
        [_filled([names.index(name) for name in piece.discs]) for piece in _PIECES]
    )

    # One key sorts it all: the image, its shadows or person, then the group's depth,
    # then the place in the table.
    n, people = scene.valid.shape
    shown = _shown(scene, look)[..., layers[:, 0]]
    group = _GROUP[layers[:, 0]]
    rank = _nearness(scene).argsort(-1, kind="stable").argsort(-1)[..., group]
    owner = np.where(group == 0, 0, 1 + np.arange(people)[:, None])
    first = (people + 1) * np.arange(n)
    actor = owner + first[:, None, None]
    place = (actor * len(_GROUPS) + rank) * len(layers) + np.arange(len(layers))
    order = place[shown].argsort()
    image, person, layer = (axis[order] for axis in shown.nonzero())
    counts = np.bincount(actor[shown], minlength=n * (people + 1)).cumsum()
    bounds = np.append(0, counts)
    starts = bounds[first[:, None] + np.arange(people + 2)]

    piece, step, level = layers[layer].T
    build = np.where(_PART[piece] > 1, look["build"][image, person], 1.0)
    unit = ((scene.heights * size).numpy()[image, person] * build).astype(np.float32)
    light = _light(scene)[image] * _LEAN[step, None]
    corners = np.empty((len(piece), canvas.CORNERS, 2), np.float32)
    wide = _WIDE[piece]
    for some, most in ((wide, _MOST), (~wide, 2)):
        own = discs[piece[some], :most]
        radii = _RADII[piece[some], :most] * unit[some, None]
        centres = points[image[some, None], person[some, None], own]
        centres += light[some, None] * radii[..., None]
        corners[some] = canvas.hulls(centres, radii * _COVER[step[some], None])
    inks = _PART[piece]
    if lit:
        inks = 16 * owner[person, layer] + _INK[piece] + level
    return canvas.fixed(corners), inks.tolist(), starts


def _light(scene: Scene) -> Float[np.ndarray, "n 2"]:
    """Towards the light, in the image: from above, left or right."""
    left = 0.8 * scene.light.numpy()
    up = np.full(len(scene), -0.7)
    return np.stack([left, up], -1).astype(np.float32)


def _things(scene: Scene, size: int) -> Int[np.ndarray, "n 9 corners 2"]:
    """Boxes and cushions on the floor, each in three lights; fixed point."""
    x, y, wide, tall, hue = scene.clutter.numpy().transpose(2, 0, 1)
    wide = 0.03 + 0.09 * wide
    tall = 0.04 + 0.16 * tall
    foot = scene.horizon.numpy()[:, None] + 0.1 * y
    points = []
    for a in (-1, 1):
        for b in (0.1, 1):
            points.append(np.stack([x + a * wide, foot - b * tall], -1))
    centres = np.stack(points, 2)
    round_off = np.minimum(wide, tall) * (0.15 + 0.8 * (7 * hue % 1))
    # (n, 3, 1, 4)
    radii = np.repeat(round_off[..., None, None], 4, -1)
    lean = (radii * _LEAN[:, None])[..., None]
    centres = centres[:, :, None] + _light(scene)[:, None, None, None] * lean
    corners = canvas.hulls(size * centres, size * radii * _COVER[:, None])
    return canvas.fixed(corners).reshape(len(scene), 9, canvas.CORNERS, 2)


_PALETTES = {
    "skin": _SKIN,
    "hair": _HAIR,
    "shirt": _CLOTH,
    "trousers": _DARK,
    "shoes": _CLOTH,
}


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n, people = scene.valid.shape
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    colours = np.zeros((n, people + 1, 16, 3), np.float32)
    pattern = np.zeros((n, people + 1, 16), int)
    alpha = np.array([0, 0.16, 0.3, 0.42] + (12 + 16 * people) * [1])
    hues = (scene.clutter[..., 4].numpy() * len(_CLOTH)).astype(int)
    things = 0.75 * _CLOTH[hues]
    colours[:, 0, 4:13] = (things[:, :, None] * LIGHT).reshape(n, 9, 3)
    own = colours[:, 1:]
    for name, palette in _PALETTES.items():
        lights = LIGHT[:2] if name in ("hair", "shoes") else LIGHT
        first = _INKS[name]
        last = first + len(lights)
        own[:, :, first:last] = palette[look[name]][:, :, None] * lights
    own[:, :, _INKS["dark"]] = (38, 32, 36)
    own[:, :, _INKS["white"]] = (246, 244, 240)
    own[:, :, _INKS["lips"]] = (166, 74, 74)
    shirt = slice(_INKS["shirt"], _INKS["shirt"] + len(LIGHT))
    second = colours.copy()
    second[:, 1:, shirt] = _CLOTH[look["second"]][:, :, None] * LIGHT
    pattern[:, 1:, shirt] = look["pattern"][..., None]
    return canvas.inkwell(
        colours.reshape(n, -1, 3),
        second.reshape(n, -1, 3),
        pattern.reshape(n, -1),
        alpha,
    )


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: a room or garden, shadows on the floor, people from back to
    front, a camera's look."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    size = out.shape[-1]
    domain = scene.domain
    corners, inks, starts = _pieces(scene, size, lit=True)
    things = _things(scene, size)
    tables = _tables(scene)
    weave = (scene.weave * size).tolist()
    paint = np.empty((len(scene), size, size, 4), np.uint8)
    for i, (first, *_, end) in enumerate(starts.tolist()):
        drawn = canvas.stamp(canvas.blank(size), things[i], list(range(4, 13)))
        drawn = canvas.stamp(drawn, corners[first:end], inks[first:end])
        paint[i] = canvas.colour(drawn, tables[i], weave[i])
    camera = Camera(_GAIN[domain], _CONTRAST[domain], _NOISE[domain], scene.grain)
    background = photos.stages(scene.backgrounds, scene.horizon, size)
    canvas.photograph(paint, background, camera, out)


# The joints on each part; a joint is seen where these parts of its own person are on
# top.
_HELD = [(), (0, 1, 14, 15, 16, 17), (1, 2, 5, 8, 11), *((k, k + 1) for k in _BONES)]
# (18, parts)
_LIES_ON = torch.tensor([[joint in joints for joints in _HELD] for joint in range(18)])


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
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
    size = check_size(size)
    n, people = scene.valid.shape
    # the part at each pixel, also where others hide it
    layers = np.zeros((n, people, size, size), np.uint8)
    corners, parts, starts = _pieces(scene, size, lit=False)
    for i, p in np.ndindex(n, people):
        own = slice(*starts[i, p + 1 : p + 3])
        drawn = canvas.stamp(canvas.blank(size), corners[own], parts[own])
        layers[i, p] = canvas.at_centres(drawn)
    top, owner, boxes, areas = map(torch.from_numpy, canvas.compose(layers))
    persons = torch.arange(1, people + 1)
    keypoints = scene.joints * size
    inside = ((keypoints >= 0) & (keypoints < size)).all(-1)
    in_frame = inside & scene.valid[..., None]
    column, row = keypoints.floor().long().clamp(0, size - 1).unbind(-1)
    image = torch.arange(n)[:, None, None]
    part = top[image, row, column].long()
    on_top = owner[image, row, column] == persons[:, None]
    on_own_part = _LIES_ON[torch.arange(len(JOINTS)), part]
    visible = in_frame & on_top & on_own_part & _turned(scene, part)
    return {
        "keypoints": keypoints,
        "visible": visible,
        "in_frame": in_frame,
        "valid": scene.valid,
        "person_masks": owner[:, None] == persons.to(torch.uint8)[:, None, None],
        "amodal_masks": torch.from_numpy(layers > 0),
        "part_labels": top.long(),
        "boxes": boxes,
        "areas": areas,
        "depth_order": persons.expand(n, people),
        "identity": scene.identity,
        "domain": scene.domain,
    }


# The face's joints, and the pieces that must be turned to the camera for them.
_FACE = {
    "nose": "nose",
    "right eye": "eye_right",
    "left eye": "eye_left",
    "right ear": "ear_right",
    "left ear": "ear_left",
}
# Each joint of the torso's corners, the other of the pair, and how far they are apart.
_CORNERS = ((2, 5, 0.216), (5, 2, 0.216), (8, 11, 0.116), (11, 8, 0.116))


def _turned(scene: Scene, part: Int[Tensor, "n p 18"]) -> Bool[Tensor, "n p 18"]:
    """Which joints are not on the far side of their own head or torso."""
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    shown = torch.from_numpy(_shown(scene, look))
    seen = torch.ones(part.shape, dtype=torch.bool)
    for name, piece in _FACE.items():
        seen[..., JOINTS.index(name)] = shown[..., _NAMES.index(piece)]
    for joint, other, width in _CORNERS:
        behind = scene.depths[..., other] - scene.depths[..., joint] > 0.9 * width
        seen[..., joint] = ~(behind & (part[..., joint] == PARTS.index("torso")))
    return seen
