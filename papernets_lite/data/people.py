"""The world `people`: dressed figures in articulated poses, several in a picture, with every joint known.

A body is a small 3-D skeleton, turned and projected, so that left and right, front and back, and what hides what are
decided by geometry. Joints and limbs come in OpenPose's COCO-18 order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import LIGHT, PALETTE, PATTERNS, Camera, Draws, Range, check_range, check_size

JOINTS = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee"
    " right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear"
).split()
# The limbs as released, joints counted from 1.
_PAIRS = "2-9 9-10 10-11 2-12 12-13 13-14 2-3 3-4 4-5 3-17 2-6 6-7 7-8 6-18 2-1 1-15 1-16 15-17 16-18"
LIMBS = tuple((int(a) - 1, int(b) - 1) for a, b in (pair.split("-") for pair in _PAIRS.split()))
FLIP = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
PARTS = (
    "background head torso right_upper_arm right_forearm left_upper_arm left_forearm right_thigh right_shank"
    " left_thigh left_shank"
).split()
DOMAINS = ("daylight", "tungsten", "overcast", "night")
_GAIN = torch.tensor([[1.04, 1.02, 0.98], [1.14, 1.0, 0.78], [0.95, 1.0, 1.06], [0.68, 0.76, 1.02]])
_CONTRAST = torch.tensor([1.1, 1.0, 0.78, 0.95])
_NOISE = torch.tensor([0.015, 0.02, 0.015, 0.035])

_SKIN = np.array([(255, 222, 196), (243, 198, 160), (214, 160, 120), (160, 110, 78), (112, 76, 56)])
_HAIR = np.array([(40, 32, 30), (86, 56, 38), (150, 100, 56), (222, 188, 118), (150, 150, 152), (172, 78, 42)])
_CLOTH = np.array(
    [*PALETTE.values(), (52, 56, 70), (132, 120, 104), (214, 132, 152), (104, 132, 92), (44, 70, 112), (150, 58, 70)]
)
_DARK = np.array([(44, 50, 74), (58, 58, 62), (98, 82, 66), (70, 92, 130), (150, 138, 116), (84, 96, 74)])  # trousers
SLEEVES, LEGS = ("none", "short", "long"), ("shorts", "trousers", "skirt")
HAIRSTYLES = ("short", "long", "bun", "curly")


@dataclass(frozen=True)
class Scene:
    """The factors of n images with up to p people; a later person stands in front of an earlier one."""

    joints: Float[Tensor, "n p 18 2"]  # (x, y), in units of the image's side
    depths: Float[Tensor, "n p 18"]  # towards the camera, in body heights
    feet: Float[Tensor, "n p 2 2"]  # right and left toes
    heights: Float[Tensor, "n p"]  # of the person standing upright, in units of the image's side
    ground: Float[Tensor, "n p"]  # where the person stands, down the image
    facing: Float[Tensor, "n p 2"]  # (right, towards the camera): where the face looks
    valid: Bool[Tensor, "n p"]
    identity: Int[Tensor, "n p"]  # fixes skin, hair, build and clothes: see `appearance`
    domain: Int[Tensor, " n"]  # camera, an index into DOMAINS
    horizon: Float[Tensor, " n"]  # where the floor meets the wall, down the image
    light: Float[Tensor, " n"]  # where the light comes from, from -1 (left) to 1 (right)
    backgrounds: Float[Tensor, "n 4"]  # draws of photos.stages
    clutter: Float[Tensor, "n 3 5"]  # things behind the people: x, y, width, height, hue in [0, 1)
    grain: Int[Tensor, "n 2"]  # which piece of the sensor's noise

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, images: slice) -> "Scene":
        """Some of the images."""
        return Scene(**{field.name: getattr(self, field.name)[images] for field in fields(self)})


def appearance(identity: Int[Tensor, "*b"]) -> dict[str, Tensor]:
    """The look of each identity, the same everywhere and always; colours are indices into the palettes.

    ``skin``, ``hair``, ``hairstyle`` (into HAIRSTYLES), ``shirt`` and its ``second`` colour, ``pattern`` (into
    canvas.PATTERNS), ``trousers``, ``sleeves`` (into SLEEVES), ``legs`` (into LEGS), ``shoes``, ``placket`` (a strip
    down the front) and ``build`` (width of the body, about 1).
    """
    draws = Draws(identity)
    cloth = len(_CLOTH)
    shirt = draws.integers(0, cloth)
    pattern = draws.integers(0, 2 * len(PATTERNS))
    return {
        "skin": draws.integers(0, len(_SKIN)),
        "hair": draws.integers(0, len(_HAIR)),
        "hairstyle": draws.integers(0, len(HAIRSTYLES)),
        "shirt": shirt,
        "second": (shirt + draws.integers(1, cloth)) % cloth,
        "pattern": torch.where(pattern < len(PATTERNS), pattern, 0),  # half of all shirts are plain
        "trousers": draws.integers(0, len(_DARK)),
        "sleeves": draws.integers(0, 3),
        "legs": torch.tensor([0, 1, 1, 2])[draws.integers(0, 4)],
        "shoes": draws.integers(0, cloth),
        "placket": draws.integers(0, 2),
        "build": draws.uniform(0.9, 1.15),
    }


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
        spacing: distance between neighbours, in units of the image's side; small values make crowds.
        height: of a standing person, in units of the image's side; who stands nearer is taller.
        identities: range (low, high), high excluded, of identities that may occur (hold some out for testing).
        domains: cameras that may occur, indices into ``DOMAINS``.

    Raises:
        ValueError: for an empty or inverted range, ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("people", people, 1, 15)
    check_range("spacing", spacing, 0)
    check_range("height", height, 0.1, 2)
    check_range("identities", (identities[0], identities[1] - 1), 0)
    if not domains or not set(domains) <= set(range(len(DOMAINS))):
        raise ValueError(f"expected domains from {tuple(range(len(DOMAINS)))}, got {domains}")

    high = people[1]
    body, toes, yaw = _bodies(draws, high)
    count = draws.integers(people[0], high + 1, 1)
    valid = torch.arange(high) < count
    # Side by side, `spacing` apart, the row centred in the image; who stands in front is anywhere in the row.
    across = draws.uniform(*spacing, high).cumsum(1)
    last = across.gather(1, count - 1)
    across = 0.5 + across - (across[:, :1] + last) / 2 + draws.uniform(-0.06, 0.06, 1)
    order = torch.where(valid, draws.uniform(0, 1, high), 2.0).argsort(1)
    across = across.gather(1, order)
    # Nearer is taller and lower: all stand on one floor, seen from 0.9 of a person's height.
    tall = draws.uniform(*height, high)
    tall = torch.where(valid, tall, 3.0).sort(1).values.clamp(max=height[1])
    room = max(0.96 - 0.9 * height[1], 0.12)
    level = draws.uniform(min(0.1, room), room)  # the eye's height in the image
    ground = (level[:, None] + 0.9 * tall).clamp(max=0.99)
    tall = tall * draws.uniform(0.94, 1.06, high)

    flip = torch.tensor([1.0, -1.0])
    scale = tall[..., None, None]
    joints, feet = scale * body[..., :2] * flip, scale * toes[..., :2] * flip
    soles = torch.cat([joints[..., [10, 13], 1] + 0.035 * tall[..., None], feet[..., 1] + 0.02 * tall[..., None]], -1)
    where = torch.stack([across, ground - soles.amax(-1)], -1)[:, :, None]
    return Scene(
        joints=where + joints,
        depths=body[..., 2],
        feet=where + feet,
        heights=tall,
        ground=ground,
        facing=torch.stack([yaw.sin(), yaw.cos()], -1),
        valid=valid,
        identity=draws.integers(*identities, high),
        domain=torch.tensor(domains)[draws.integers(0, len(domains))],
        horizon=(level + draws.uniform(0.25, 0.5)).clamp(max=0.8),
        light=draws.uniform(-1, 1),
        backgrounds=draws.uniform(0, 1, 4),
        clutter=draws.uniform(0, 1, 3, 5),
        grain=draws.integers(0, 64, 2),
    )


# Ranges of the joint angles (radians) in each kind of posture. Arms: away from the body, forward, bend of the elbow,
# where the forearm then goes (0 forward, pi/2 inward): hanging, bent, raised, folded in front. Legs: away, forward,
# bend of the knee: standing, walking, knee up, wide.
_ARMS = torch.tensor(
    [
        [(0.06, 0.3), (-0.35, 0.4), (0.05, 0.6), (0.0, 0.9)],
        [(0.15, 0.9), (-0.6, 0.6), (0.8, 2.1), (-0.3, 1.4)],
        [(1.2, 2.7), (-0.3, 0.4), (0.1, 1.6), (-0.2, 0.6)],
        [(0.0, 0.4), (0.1, 0.7), (1.4, 2.1), (0.7, 1.4)],
    ]
)
_ARM_ODDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
_STEPS = torch.tensor(
    [
        [(0.02, 0.16), (-0.15, 0.2), (0.0, 0.2)],
        [(0.0, 0.12), (-0.5, 0.55), (0.0, 0.9)],
        [(0.05, 0.5), (0.5, 1.3), (0.8, 1.7)],
        [(0.25, 0.5), (-0.1, 0.2), (0.0, 0.3)],
    ]
)
_LEG_ODDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 3, 3])


def _bodies(draws: Draws, people: int) -> tuple[Tensor, Tensor, Tensor]:
    """Poses: joints (n, p, 18, 3) and toes (n, p, 2, 3) as (right, up, towards camera) in heights, and head's yaw."""

    def angles(ranges: Tensor, odds: Tensor, never: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        kind = odds[draws.integers(0, len(odds), people)]
        if never is not None:
            kind = torch.where(never, 0, kind)
        low, high = ranges[kind].unbind(-1)
        return kind, draws.uniform(low, high, people, ranges.shape[1]).unbind(-1)

    def vector(x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Tensor:
        parts = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=torch.float32) for v in (x, y, z)), lean)[:3]
        return torch.stack(parts, -1)

    def hang(away: Tensor, forward: Tensor) -> Tensor:
        """The direction of a hanging bone swung sideways and forward."""
        return vector(away.sin(), -away.cos() * forward.cos(), away.cos() * forward.sin())

    def spin(points: Tensor, yaw: Tensor) -> Tensor:
        """Turn about the vertical axis; a positive yaw turns the front to the image's right."""
        while yaw.ndim < points.ndim - 1:
            yaw = yaw[..., None]
        x, y, z = points.unbind(-1)
        return torch.stack([x * yaw.cos() + z * yaw.sin(), y, z * yaw.cos() - x * yaw.sin()], -1)

    def unit(v: Tensor) -> Tensor:
        return v / v.norm(dim=-1, keepdim=True)

    lean, tilt, twist = (draws.uniform(-a, a, people) for a in (0.16, 0.12, 0.35))
    up = unit(vector(tilt, 1.0, lean))
    neck = 0.295 * up
    joints: dict[int, Tensor] = {1: neck}
    toes, kind = [], None
    for side, (shoulder, hip) in ((-1.0, (2, 8)), (1.0, (5, 11))):  # seen from the front the right is at -x
        across = vector(side, 0.0, 0.0)
        arm = unit(across - (across * up).sum(-1, keepdim=True) * up)
        joints[shoulder] = neck + spin(0.108 * arm, twist)
        _, (away, forward, bend, inward) = angles(_ARMS, _ARM_ODDS)
        upper = hang(side * away, forward)
        towards = vector(-side * inward.sin(), 0.2 + 0.8 * away.sin(), inward.cos())
        towards = unit(towards - (towards * upper).sum(-1, keepdim=True) * upper)
        lower = bend.cos()[..., None] * upper + bend.sin()[..., None] * towards
        joints[shoulder + 1] = joints[shoulder] + spin(0.16 * upper, twist)
        joints[shoulder + 2] = joints[shoulder + 1] + spin(0.145 * lower, twist)
        joints[hip] = vector(side * 0.058, 0.0, 0.0)
        # Only one knee is up at a time.
        kind, (away, forward, bend) = angles(_STEPS, _LEG_ODDS, None if kind is None else kind == 2)
        joints[hip + 1] = joints[hip] + 0.22 * hang(side * away, forward)
        joints[hip + 2] = joints[hip + 1] + 0.22 * hang(side * 0.7 * away, forward - bend)
        toes.append(joints[hip + 2] + 0.075 * unit(vector(0.25 * side, -0.25 + 0.6 * (forward - bend).sin(), 1.0)))
    body = torch.stack([joints[k] for k in (1, *range(2, 14))], -2)

    # Mostly towards the camera, some from behind, some sideways; the head may look elsewhere.
    yaw = torch.where(
        draws.uniform(0, 1, people) < 0.68, draws.uniform(-1, 1, people), draws.uniform(-3.14, 3.14, people)
    )
    look = yaw + draws.uniform(-0.5, 0.5, people)
    head = neck + 0.118 * unit(up + vector(draws.uniform(-0.15, 0.15, people), 1.0, 0.1))
    face = vector(0.0, -0.006, 0.07), vector(-0.03, 0.02, 0.055), vector(0.03, 0.02, 0.055)
    ears = vector(-0.066, 0.002, 0.0), vector(0.066, 0.002, 0.0)
    features = spin(torch.stack([*face, *ears], -2), look) + spin(head, yaw)[..., None, :]
    body = spin(body, yaw)
    return torch.cat([features[..., :1, :], body, features[..., 1:, :]], -2), spin(torch.stack(toes, -2), yaw), look


# The inks of one person: a lit material has up to three, shade, body and highlight.
_INKS = {"skin": 0, "hair": 3, "shirt": 5, "trousers": 8, "shoes": 11, "dark": 13, "white": 14, "lips": 15}
# Level of light -> how much of a piece it covers, and how far it leans to the light, in radii.
_LEVELS = ((1.0, 0.0), (0.8, 0.14), (0.42, 0.36))

# Each piece is the convex hull of discs: name, group, material, first and last level, then anchor:radius pairs
# (radii in body heights). Anchors are joints or names of `_anchors`. Pieces of a group are drawn in this order,
# the groups from far to near.
_TABLE = """
fall      fall            hair     0 1  back:.062 fall:.045
torso     torso           shirt    0 2  1:.042 2:.032 5:.032 chest:.06 waist_r:.044 waist_l:.044
hips      hips            trousers 0 1  8:.054 11:.054
skirt     skirt           trousers 0 2  8:.05 11:.05 hem_r:.058 hem_l:.058
placket   torso           shoes    0 0  front_top:.009 front_low:.009
neckline  head            skin     1 1  1:.03
neck      head            skin     0 0  1:.03 skull:.03
bun       head            hair     0 1  bun:.032
mane      head            hair     0 1  back:.076
ear_r     head            skin     1 1  16:.014
ear_l     head            skin     1 1  17:.014
face      head            skin     0 2  brow:.062 chin:.036
nose      head            skin     0 0  0:.011
mouth     head            lips     0 0  lip_r:.006 lip_l:.006
white_r   head            white    0 0  14:.0165
white_l   head            white    0 0  15:.0165
eye_r     head            dark     0 0  14:.0105
eye_l     head            dark     0 0  15:.0105
fringe    head            hair     0 1  fringe_r:.024 fringe_l:.024
cap       head            hair     0 1  back:.074
arm_r     right_upper_arm skin     0 2  2:.035 3:.028
sleeve_r  right_upper_arm shirt    0 2  2:.04 cuff_r:.036
hand_r    right_forearm   skin     1 2  4:.023 hand_r:.02
fore_r    right_forearm   fore     0 2  3:.029 4:.02
arm_l     left_upper_arm  skin     0 2  5:.035 6:.028
sleeve_l  left_upper_arm  shirt    0 2  5:.04 cuff_l:.036
hand_l    left_forearm    skin     1 2  7:.023 hand_l:.02
fore_l    left_forearm    fore     0 2  6:.029 7:.02
leg_r     right_thigh     skin     0 2  8:.054 9:.037
short_r   right_thigh     trousers 0 2  8:.056 knee_r:.044
shoe_r    right_shank     shoes    0 1  heel_r:.026 toe_r:.021
shank_r   right_shank     shank    0 2  9:.038 10:.023
leg_l     left_thigh      skin     0 2  11:.054 12:.037
short_l   left_thigh      trousers 0 2  11:.056 knee_l:.044
shoe_l    left_shank      shoes    0 1  heel_l:.026 toe_l:.021
shank_l   left_shank      shank    0 2  12:.038 13:.023
"""
_ROWS = [line.split() for line in _TABLE.strip().splitlines()]
_NAMES = [row[0] for row in _ROWS]
_GROUPS = ["fall", "hips", "skirt", *PARTS[1:]]
_GROUP = np.array([_GROUPS.index(row[1]) for row in _ROWS])
_PART = np.array(
    [PARTS.index(row[1] if row[1] in PARTS else "head" if row[0] == "fall" else "torso") for row in _ROWS]
)
_SPEC = [[disc.split(":") for disc in row[5:]] for row in _ROWS]
_MOST = max(map(len, _SPEC))
_DISCS = [[name for name, _ in (discs + _MOST * discs[:1])[:_MOST]] for discs in _SPEC]
_RADII = np.array([[float(r) for _, r in (discs + _MOST * discs[:1])[:_MOST]] for discs in _SPEC], np.float32)
_WIDE = np.array([len(discs) > 2 for discs in _SPEC])
_MATERIAL = np.array([{**_INKS, "fore": -1, "shank": -2}[row[2]] for row in _ROWS])
_STEPS_OF = [range(int(row[3]), int(row[4]) + 1) for row in _ROWS]
_LAYER = np.array([(piece, level - steps[0], level) for piece, steps in enumerate(_STEPS_OF) for level in steps])
_OUTER = np.flatnonzero(_LAYER[:, 1] == 0)
_SHADOW_INKS, _THING_INKS = [1, 2, 3], list(range(4, 13))


def _anchors(scene: Scene, size: int) -> dict[str, np.ndarray]:
    """Named points of each person, (n, p, 2) in pixels: the joints, and what hangs on them."""
    joints = (scene.joints * size).numpy()
    at = {str(k): joints[:, :, k] for k in range(18)}
    unit = (scene.heights * size).numpy()
    right, towards = scene.facing.numpy().transpose(2, 0, 1)
    skull = (at["16"] + at["17"]) / 2

    def head(left: float, up: float, front: float) -> np.ndarray:
        return skull + np.stack([(left * towards + front * right) * unit, -up * unit], -1)

    def along(a: str, b: str, share: float | np.ndarray) -> np.ndarray:
        return at[a] + (at[b] - at[a]) * np.asarray(share)[..., None]

    look = appearance(scene.identity)
    hips = (at["8"] + at["11"]) / 2
    bust = _bust(scene)[..., None] * unit[..., None] * np.array([0.05, 0])
    at |= {
        "skull": skull,
        "brow": head(0.0, 0.014, 0.004),
        "chin": head(0.0, -0.042, 0.02),
        "back": head(0.0, 0.022, -0.016),
        "fall": head(0.0, -0.12, -0.045),
        "bun": head(0.0, 0.08, -0.05),
        "fringe_r": head(-0.034, 0.05, 0.03),
        "fringe_l": head(0.034, 0.05, 0.03),
        "lip_r": head(-0.017, -0.042, 0.058),
        "lip_l": head(0.017, -0.042, 0.058),
        "chest": at["1"] + 0.32 * (hips - at["1"]),
        "front_top": at["1"] + 0.1 * (hips - at["1"]) + bust,
        "front_low": at["1"] + 0.9 * (hips - at["1"]) + bust,
    }
    sleeve = np.array([0.0, 0.62, 1.0])[look["sleeves"].numpy()]
    short = np.array([0.82, 1.0, 0.8])[look["legs"].numpy()]
    for side, (s, e, w, h, k, a), toe in (("r", "2 3 4 8 9 10".split(), 0), ("l", "5 6 7 11 12 13".split(), 1)):
        at[f"cuff_{side}"] = along(s, e, sleeve)
        at[f"hand_{side}"] = along(e, w, np.full_like(unit, 1.28))
        at[f"knee_{side}"] = along(h, k, short)
        at[f"waist_{side}"] = along(h, s, np.full_like(unit, 0.16))
        at[f"hem_{side}"] = along(h, k, np.full_like(unit, 0.7))
        at[f"toe_{side}"] = (scene.feet[:, :, toe] * size).numpy()
        at[f"heel_{side}"] = at[a] + np.stack([0 * unit, 0.014 * unit], -1)
    return at


def _bust(scene: Scene) -> np.ndarray:
    """Sine of the chest's yaw, (n, p): where the front of the body points across the image."""
    depth = scene.depths.numpy()
    return (depth[..., 2] - depth[..., 5]) / 0.216


def _shown(scene: Scene) -> np.ndarray:
    """Which pieces each person has and turns to the camera, (n, p, pieces)."""
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    depth = scene.depths.numpy()
    head = (depth[..., 16] + depth[..., 17]) / 2
    towards = scene.facing[..., 1].numpy()
    front = (scene.joints[:, :, 5, 0] > scene.joints[:, :, 2, 0]).numpy()  # the left shoulder is at the right
    eyes = {f"_{side}": depth[..., k] - head > 0.012 for side, k in (("r", 14), ("l", 15))}
    ears = {f"ear_{side}": depth[..., k] - head > -0.03 for side, k in (("r", 16), ("l", 17))}
    rules = {
        "fall": look["hairstyle"] == 1,
        "bun": look["hairstyle"] == 2,
        "nose": depth[..., 0] - head > -0.02,
        "mouth": towards > 0.05,
        "fringe": towards > -0.2,
        "cap": towards <= -0.2,
        "placket": (look["placket"] == 1) & front & (np.abs(_bust(scene)) < 0.9),
        "skirt": look["legs"] == 2,
        **{part + side: seen for side, seen in eyes.items() for part in ("white", "eye")},
        **{ear: seen & (look["hairstyle"] != 1) for ear, seen in ears.items()},
        **{f"arm_{side}": look["sleeves"] != 2 for side in "rl"},
        **{f"sleeve_{side}": look["sleeves"] != 0 for side in "rl"},
        **{f"leg_{side}": look["legs"] != 1 for side in "rl"},
        **{f"short_{side}": look["legs"] != 2 for side in "rl"},
    }
    always = np.ones(towards.shape, bool)
    return np.stack([rules.get(name, always) for name in _NAMES], -1) & scene.valid.numpy()[..., None]


def _order(scene: Scene) -> np.ndarray:
    """How near each group of pieces is, (n, p, groups): they are drawn from far to near."""
    depth = scene.depths.numpy()
    towards = scene.facing[..., 1].numpy()

    def mean(*joints: int) -> np.ndarray:
        return depth[..., joints].mean(-1)

    # A chest is thick: arms beside it count as before it, thighs under it as behind it.
    torso = mean(2, 5, 8, 11) + 0.03
    arms = [mean(2, 3) + 0.05, mean(3, 4) + 0.051, mean(5, 6) + 0.05, mean(6, 7) + 0.051]
    legs = [mean(8, 9), mean(9, 10), mean(11, 12), mean(12, 13)]
    thigh = np.maximum(legs[0], legs[2])
    head = np.maximum(mean(16, 17), torso) + 0.01
    fall = np.where(towards > 0, -1.0, head + 0.001)
    hips = np.minimum(legs[0], legs[2]) - 0.001
    skirt = np.maximum(thigh, torso - 0.002) + 0.001
    return np.stack([fall, hips, skirt, head, torso, *arms, *legs], -1)


def _pieces(scene: Scene, size: int, lit: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every piece that is shown, in drawing order: image by image, person by person, from far to near.

    Returns:
        Corners (m, corners, 2) in fixed point; rows of ``_LAYER`` (m,); and where each person's pieces begin in them,
        (n, p + 1): the last column is where the image's end.
    """
    rows = np.arange(len(_LAYER)) if lit else _OUTER
    piece, step, _ = _LAYER[rows].T
    at = _anchors(scene, size)
    names = list(at)
    points = np.stack([at[name] for name in names], 2).astype(np.float32)
    discs = np.array([[names.index(name) for name in row] for row in _DISCS])
    look = appearance(scene.identity)

    n, people = scene.valid.shape
    shown = _shown(scene)[..., piece]
    # One key sorts it all: image and person, then the group's depth, then the place in the table.
    rank = _order(scene).argsort(-1, kind="stable").argsort(-1)[..., _GROUP[piece]]
    key = (np.arange(n * people).reshape(n, people, 1) * len(_GROUPS) + rank) * 256 + np.arange(len(rows))
    image, person, row = (axis[key[shown].argsort()] for axis in shown.nonzero())
    starts = np.append(0, shown.sum(-1).cumsum()).astype(int)
    starts = np.concatenate([starts[:-1].reshape(n, people), starts[people::people, None]], 1)

    piece, step = piece[row], step[row]
    build = np.where(_PART[piece] == 1, 1.0, look["build"].numpy()[image, person])
    curls = (look["hairstyle"].numpy()[image, person] == 3) & (piece == _NAMES.index("mane"))
    unit = (scene.heights * size).numpy()[image, person] * build * np.where(curls, 1.18, 1.0)
    cover, leans = np.array(_LEVELS, np.float32)[step].T
    light = _light(scene)[image] * leans[:, None]
    corners = np.empty((len(row), canvas.CORNERS, 2), np.float32)
    for some, count in ((_WIDE[piece], _MOST), (~_WIDE[piece], 2)):
        radii = _RADII[piece[some], :count] * unit[some, None].astype(np.float32)
        centres = points[image[some, None], person[some, None], discs[piece[some], :count]]
        centres += light[some, None] * radii[..., None]
        corners[some] = canvas.hulls(centres, radii * cover[some, None])
    return canvas.fixed(corners), rows[row], starts


def _light(scene: Scene) -> Float[np.ndarray, "n 2"]:
    """Towards the light, in the image: from above, left or right."""
    return np.stack([0.8 * scene.light.numpy(), np.full(len(scene), -0.7)], -1).astype(np.float32)


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n, people = scene.valid.shape
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    inks = 16 * (people + 1)
    colours, second = np.zeros((2, n, inks, 3), np.float32)
    pattern, alpha = np.zeros((n, inks), np.int64), np.ones(inks)
    alpha[0], alpha[_SHADOW_INKS] = 0, (0.16, 0.3, 0.42)
    hue = scene.clutter[..., 4].numpy()
    things = _CLOTH[(hue * len(_CLOTH)).astype(int)] * 0.75
    colours[:, _THING_INKS] = (things[:, :, None] * LIGHT).reshape(n, 9, 3)
    second[:] = colours
    own = colours[:, 16:].reshape(n, people, 16, 3)
    for name, palette in (("skin", _SKIN), ("hair", _HAIR), ("shirt", _CLOTH), ("trousers", _DARK), ("shoes", _CLOTH)):
        first, count = _INKS[name], 2 if name in ("hair", "shoes") else 3
        own[:, :, first : first + count] = palette[look[name]][:, :, None] * LIGHT[:count]
    own[:, :, 13:] = np.array([(38, 32, 36), (246, 244, 240), (166, 74, 74)])
    other = second[:, 16:].reshape(n, people, 16, 3)
    other[:, :, 5:8] = _CLOTH[look["second"]][:, :, None] * LIGHT
    pattern[:, 16:].reshape(n, people, 16)[:, :, 5:8] = look["pattern"][..., None]
    return canvas.inkwell(colours, second, pattern, alpha)


def _inks_of(scene: Scene, layers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The ink of each layer, (m,)."""
    look = {name: values.numpy().ravel() for name, values in appearance(scene.identity).items()}
    counts = np.diff(starts, axis=1).ravel()
    person = np.repeat(np.arange(counts.size), counts)
    material, level = _MATERIAL[_LAYER[layers, 0]], _LAYER[layers, 2]
    sleeve = np.where(look["sleeves"] == 2, _INKS["shirt"], 0)[person]
    leg = np.where(look["legs"] == 1, _INKS["trousers"], 0)[person]
    first = np.select([material == -1, material == -2], [sleeve, leg], material)
    return 16 * (1 + person % scene.valid.shape[1]) + first + level


def _things(scene: Scene, size: int) -> Int[np.ndarray, "n 9 corners 2"]:
    """Boxes and cushions on the floor, each in three lights; fixed point."""
    x, y, wide, tall, hue = (scene.clutter * size).numpy().transpose(2, 0, 1)
    wide, tall = 0.03 * size + 0.09 * wide, 0.04 * size + 0.16 * tall
    foot = scene.horizon.numpy()[:, None] * size + 0.1 * y
    centres = np.stack([np.stack([x + a * wide, foot - b * tall], -1) for a in (-1, 1) for b in (0.1, 1)], 2)
    soft = np.minimum(wide, tall) * (0.15 + 0.8 * (7 * hue / size % 1))
    radii = np.repeat(soft[..., None, None], 4, -1)  # (n, 3, 1, 4)
    cover, leans = np.array(_LEVELS).T[..., None]
    lit = centres[:, :, None] + _light(scene)[:, None, None, None] * (radii * leans)[..., None]
    hulls = canvas.hulls(lit.astype(np.float32), (radii * cover).astype(np.float32))
    return canvas.fixed(hulls).reshape(len(scene), 9, canvas.CORNERS, 2)


def _shadows(scene: Scene, size: int) -> Int[np.ndarray, "n m corners 2"]:
    """Soft shadows under the feet, person by person in three darknesses; fixed point."""
    unit = (scene.heights * size).numpy()
    toes = (scene.feet * size).numpy()
    middle = toes[..., 0].mean(-1) - 0.05 * scene.light.numpy()[:, None] * unit
    reach = 0.11 * unit + np.abs(toes[:, :, 0, 0] - toes[:, :, 1, 0]) / 2
    scale = np.array([1.25, 0.98, 0.7])[:, None]
    circle = canvas.hulls(np.zeros((1, 2), np.float32), np.ones(1, np.float32))
    wide = middle[..., None, None] + scale * reach[..., None, None] * circle[:, 0]
    down = (scene.ground.numpy() * size)[..., None, None] + scale * 0.045 * unit[..., None, None] * circle[:, 1]
    return canvas.fixed(np.stack([wide, down], -1)).reshape(len(scene), -1, canvas.CORNERS, 2)


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: a room or garden, shadows on the floor, people from back to front, a camera's look."""
    check_size(size)
    images = torch.empty(len(scene), 3, size, size)
    for first in range(0, len(scene), 64):  # a few at a time stay in the processor's cache
        _render(scene[first : first + 64], images[first : first + 64].numpy())
    return images


def _render(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    size = out.shape[-1]
    corners, layers, starts = _pieces(scene, size, lit=True)
    inks = _inks_of(scene, layers, starts).tolist()
    things, shadows, tables = _things(scene, size), _shadows(scene, size), _tables(scene)
    paint = np.empty((len(scene), size, size, 4), np.uint8)
    for i, (first, *_, end) in enumerate(starts.tolist()):
        drawn = canvas.stamp(canvas.blank(size), things[i], _THING_INKS)
        canvas.stamp(drawn, shadows[i], _SHADOW_INKS * int(scene.valid[i].sum()))
        canvas.stamp(drawn, corners[first:end], inks[first:end])
        paint[i] = canvas.colour(drawn, tables[i])
    ground = photos.stages(scene.backgrounds, scene.horizon, size)
    domain = scene.domain
    camera = Camera(_GAIN[domain], _CONTRAST[domain], _NOISE[domain], scene.grain)
    canvas.photograph(paint, ground, camera, out)


# On which parts a joint lies; it is seen where its own person's part of these is on top.
_ON = (
    "head|head torso|torso right_upper_arm|right_upper_arm right_forearm|right_forearm|torso left_upper_arm"
    "|left_upper_arm left_forearm|left_forearm|torso right_thigh|right_thigh right_shank|right_shank|torso left_thigh"
    "|left_thigh left_shank|left_shank|head|head|head|head"
)
_OWN = torch.tensor([[part in names.split() for part in PARTS] for names in _ON.split("|")])  # (18, parts)


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the pixels' centres.

    Returns:
        ``keypoints`` (n, p, 18, 2) in pixels; ``visible`` (n, p, 18), in the frame, turned to the camera and not
        hidden by anybody's body; ``in_frame``; ``valid`` (n, p); ``person_masks`` (n, p, h, w) what is seen;
        ``amodal_masks`` also what is hidden by others; ``part_labels`` (n, h, w) into PARTS; ``boxes`` (n, p, 4) and
        ``areas`` (n, p) of the amodal masks; ``depth_order`` (n, p), larger is nearer; ``identity``, ``domain``.
    """
    check_size(size)
    n, people = scene.valid.shape
    masks = np.zeros((n, people, size, size), np.uint8)  # the part at each pixel, also where others hide it
    part_labels, owner = np.zeros((2, n, size, size), np.uint8)
    boxes, areas = np.zeros((n, people, 4), np.float32), np.zeros((n, people), np.float32)
    for first in range(0, n, 64):
        corners, layers, starts = _pieces(scene[first : first + 64], size, lit=False)
        parts = _PART[_LAYER[layers, 0]].tolist()
        for i, row in enumerate(starts.tolist(), first):
            for p, (start, end) in enumerate(pairwise(row)):
                if start == end:
                    continue
                inks = canvas.stamp(canvas.blank(size), corners[start:end], parts[start:end])
                masks[i, p] = mask = canvas.at_centres(inks)
                np.copyto(part_labels[i], mask, where=mask > 0)
                np.copyto(owner[i], p + 1, where=mask > 0)
                boxes[i, p], areas[i, p] = canvas.extent(mask)
    keypoints = scene.joints * size
    in_frame = ((keypoints >= 0) & (keypoints < size)).all(-1) & scene.valid[..., None]
    column, row = keypoints.floor().long().clamp(0, size - 1).unbind(-1)
    image = torch.arange(n)[:, None, None]
    owners, labels = torch.from_numpy(owner), torch.from_numpy(part_labels).long()
    own = owners[image, row, column] == torch.arange(1, people + 1)[:, None]
    part = labels[image, row, column]
    on_top = _OWN[torch.arange(18), part]
    return {
        "keypoints": keypoints,
        "visible": in_frame & own & on_top & _turned(scene, part),
        "in_frame": in_frame,
        "valid": scene.valid,
        "person_masks": owners[:, None] == torch.arange(1, people + 1, dtype=torch.uint8)[:, None, None],
        "amodal_masks": torch.from_numpy(masks > 0),
        "part_labels": labels,
        "boxes": torch.from_numpy(boxes),
        "areas": torch.from_numpy(areas),
        "depth_order": torch.arange(people).expand(n, people),
        "identity": scene.identity,
        "domain": scene.domain,
    }


def _turned(scene: Scene, part: Int[Tensor, "n p 18"]) -> Bool[Tensor, "n p 18"]:
    """Which joints are not on the far side of their own head or torso."""
    shown = torch.from_numpy(_shown(scene))
    seen = torch.ones(part.shape, dtype=torch.bool)
    for joint, piece in ((0, "nose"), (14, "eye_r"), (15, "eye_l"), (16, "ear_r"), (17, "ear_l")):
        seen[..., joint] = shown[..., _NAMES.index(piece)]
    for joint, other, width in ((2, 5, 0.216), (5, 2, 0.216), (8, 11, 0.116), (11, 8, 0.116)):
        behind = scene.depths[..., other] - scene.depths[..., joint] > 0.9 * width
        seen[..., joint] = ~(behind & (part[..., joint] == PARTS.index("torso")))
    return seen
