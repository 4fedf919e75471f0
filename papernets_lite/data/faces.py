"""The world `faces`: drawn portraits whose every attribute can be changed alone, with
landmarks and parts known.

A head is a small 3-D arrangement of rounded pieces, turned and projected.
`dataclasses.replace(scene, hair=...)` and a second `render` give the same portrait with
another hair colour: the exact answer to a translation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import SupportsIndex

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import (
    PALETTE,
    Draws,
    Range,
    check_names,
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

HAIR = ("black", "red", "blond", "brown")
STYLES = ("short", "long", "bun", "curly", "bald")
GLASSES = ("none", "clear", "dark")
BEARDS = ("none", "moustache", "full")
MAKEUP = ("none", "red", "pink", "plum", "coral", "berry")
PARTS = (
    "background",
    "clothes",
    "skin",
    "hair",
    "brow",
    "eye",
    "nose",
    "lips",
    "mouth",
    "beard",
    "glasses",
)
# Right and left are the portrayed person's; the first five are CelebA's, in its order.
LANDMARKS = (
    "right eye",
    "left eye",
    "nose",
    "right mouth corner",
    "left mouth corner",
    "right brow",
    "left brow",
    "upper lip",
    "lower lip",
    "chin",
)
FLIP = (1, 0, 2, 4, 3, 6, 5, 7, 8, 9)

_SKIN = np.array(
    [
        (255, 224, 200),
        (246, 204, 168),
        (226, 172, 130),
        (178, 124, 88),
        (126, 86, 64),
        (250, 214, 196),
    ]
)
_HAIR = np.array([(42, 34, 36), (190, 84, 44), (238, 204, 122), (118, 72, 44)])
_GREY = np.array((206, 206, 210))
_IRIS = np.array([(92, 60, 40), (64, 110, 160), (84, 128, 84), (110, 120, 130)])
_LIPSTICK = np.array(
    [
        (0, 0, 0),
        (204, 30, 44),
        (236, 92, 150),
        (126, 40, 110),
        (246, 104, 76),
        (150, 24, 70),
    ]
)
_CLOTH = np.array([*PALETTE.values(), (60, 64, 80), (214, 132, 152)])
_FRAME = np.array([(40, 36, 40), (150, 40, 50), (54, 74, 130), (120, 84, 50)])
# What has the same colour on every face.
_SAME = {
    "white": (248, 246, 244),
    "pupil": (22, 20, 26),
    "glint": (255, 255, 255),
    "lash": (44, 32, 34),
    "teeth": (250, 248, 240),
    "mouth": (98, 34, 42),
    "gleam": (176, 188, 200),
}
# Light on a surface, from its rim to its highlight: shade is cool, light is warm.
_LIGHT = np.array(
    [
        (0.72, 0.68, 0.74),
        (0.86, 0.84, 0.86),
        (0.96, 0.95, 0.95),
        (1.05, 1.04, 1.01),
    ],
    np.float32,
)
# By the same steps, how much of a piece it covers and how far it leans to the light, in
# radii.
_COVER = np.array([1.0, 0.9, 0.78, 0.56], np.float32)
_LEAN = np.array([0.0, 0.08, 0.18, 0.34], np.float32)
_STEPS = len(_LIGHT)
# Materials that are lit, and the part that each shows: an ink for each step of light.
_LIT = {
    "cloth": "clothes",
    "skin": "skin",
    "hair": "hair",
    "beard": "beard",
    "nose": "nose",
    "lips": "lips",
}
# Those that are flat: one ink.
_FLAT = {
    "crease": "skin",
    "blush": "skin",
    "white": "eye",
    "iris": "eye",
    "pupil": "eye",
    "glint": "eye",
    "brow": "brow",
    "lash": "eye",
    "lid": "skin",
    "teeth": "mouth",
    "mouth": "mouth",
    "seam": "lips",
    "frame": "glasses",
    "lens": "glasses",
    "tinted": "glasses",
    "gleam": "glasses",
}
_INKS: dict[str, int] = {}  # material -> its first ink; 0 is see-through
_PARTS = np.zeros(256, np.uint8)  # ink -> part
_next = 1
for _materials, _count in ((_LIT, _STEPS), (_FLAT, 1)):
    for _material, _part in _materials.items():
        _INKS[_material] = _next
        _PARTS[_next : _next + _count] = PARTS.index(_part)
        _next += _count


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n portraits. Replace one, render again, and only what depends on
    it changes."""

    # fixes skin, eyes and the shape of the face: see `appearance`
    identity: Int[Tensor, " n"]
    hair: Int[Tensor, " n"]  # colour, into HAIR; greying is `age`'s
    style: Int[Tensor, " n"]  # into STYLES
    glasses: Int[Tensor, " n"]  # into GLASSES
    beard: Int[Tensor, " n"]  # into BEARDS
    makeup: Int[Tensor, " n"]  # into MAKEUP: lips, lids and cheeks
    age: Float[Tensor, " n"]  # in [0, 1]: wrinkles from 0.3, grey hair from 0.5
    smile: Float[Tensor, " n"]  # from -1 (frown) to 1
    opening: Float[Tensor, " n"]  # of the mouth, in [0, 1]
    gaze: Float[Tensor, "n 2"]  # right and down, in [-1, 1]
    # yaw (to the image's right), pitch (down), roll (clockwise), radians
    turn: Float[Tensor, "n 3"]
    centre: Float[Tensor, "n 2"]  # of the head, in units of the image's side
    scale: Float[Tensor, " n"]  # half of the head's height, same units
    cloth: Int[Tensor, " n"]
    # where the light comes from, from -1 (left) to 1 (right)
    light: Float[Tensor, " n"]
    backgrounds: Float[Tensor, "n 4"]  # draws of photos.crops
    tints: Float[Tensor, "n 3"]  # of the background, in [0, 1)
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def appearance(identity: Int[Tensor, " n"]) -> dict[str, Tensor]:
    """What an identity fixes, the same everywhere and always.

    ``skin``, ``iris``, ``frame`` (indices into palettes); about 1: ``width`` and
    ``jaw`` of the face, ``eyes`` (size), ``nose``, ``lips``, ``brows``; about 0:
    ``apart`` (eyes), ``high`` (eyes and mouth), ``parting`` (of the hair).
    """
    draws = Draws(identity)
    colours = {"skin": len(_SKIN), "iris": len(_IRIS), "frame": len(_FRAME)}
    ranges = {
        "jaw": (0.78, 1.22),
        "nose": (0.78, 1.22),
        "lips": (0.78, 1.22),
        "width": (0.92, 1.08),
        "eyes": (0.85, 1.15),
        "brows": (0.65, 1.35),
        "apart": (-0.04, 0.04),
        "high": (-0.04, 0.04),
        "parting": (-0.35, 0.35),
    }
    look = {name: draws.integers(0, count) for name, count in colours.items()}
    for name, (low, high) in ranges.items():
        look[name] = draws.uniform(low, high)
    return look


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    identities: tuple[int, int] = (0, 1000),
    hair: Sequence[str] = HAIR,
    styles: Sequence[str] = STYLES,
    glasses: Sequence[str] = GLASSES,
    beards: Sequence[str] = BEARDS,
    makeup: Sequence[str] = MAKEUP,
    age: Range = (0, 1),
    smile: Range = (-1, 1),
    opening: Range = (0, 1),
    turn: Range = (0, 0.45),
    scale: Range = (0.29, 0.37),
    noise: int | float = 0.015,
) -> Scene:
    """Draw the factors of ``n`` portraits; portrait i does not depend on ``n``, all
    factors are independent.

    Args:
        n: how many.
        generator: CPU generator; the same seed gives the same scene on every machine.
        identities: range (low, high), high excluded, of identities that may occur (hold
            some out for testing).
        hair, styles, glasses, beards, makeup: the values that may occur; one value
            fixes the factor.
        age: range, within [0, 1].
        smile: range, within [-1, 1].
        opening: range of the mouth's opening, within [0, 1].
        turn: least and most yaw to either side, from 0 to 0.7 radians; pitch and roll
            stay within a third of the most.
        scale: half of the head's height, in units of the image's side, from 0.05 to
            0.6.
        noise: standard deviation of the sensor's noise, from 0 to 1.

    Raises:
        ValueError: for an empty or inverted range, a name that does not exist, ``n <
            1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("identities", identities, 0, whole=True)
    first, end = identities
    check_range("identities", (first, end - 1), 0)
    check_range("age", age, 0, 1)
    check_range("smile", smile, -1, 1)
    check_range("opening", opening, 0, 1)
    check_range("turn", turn, 0, 0.7)
    check_range("scale", scale, 0.05, 0.6)
    check_range("noise", (0, noise), 0, 1)
    check_names("hair", hair, HAIR)
    check_names("styles", styles, STYLES)
    check_names("glasses", glasses, GLASSES)
    check_names("beards", beards, BEARDS)
    check_names("makeup", makeup, MAKEUP)

    far = draws.uniform(*turn)
    side = 2 * draws.integers(0, 2) - 1
    tilts = draws.uniform(-turn[1] / 3, turn[1] / 3, 2)
    return Scene(
        identity=draws.integers(first, end),
        hair=draws.choose(HAIR, hair),
        style=draws.choose(STYLES, styles),
        glasses=draws.choose(GLASSES, glasses),
        beard=draws.choose(BEARDS, beards),
        makeup=draws.choose(MAKEUP, makeup),
        age=draws.uniform(*age),
        smile=draws.uniform(*smile),
        opening=draws.uniform(*opening),
        gaze=draws.uniform(-1, 1, 2),
        turn=torch.cat([(far * side)[:, None], tilts], 1),
        centre=torch.tensor([0.5, 0.48]) + draws.uniform(-0.04, 0.04, 2),
        scale=draws.uniform(*scale),
        cloth=draws.integers(0, len(_CLOTH)),
        light=draws.uniform(-1, 1),
        backgrounds=draws.uniform(0, 1, 4),
        tints=draws.uniform(0, 1, 3),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


def move(
    scene: Scene,
    generator: torch.Generator,
    *,
    aside: float = 0.05,
    lean: float = 0.25,
) -> Scene:
    """The same portraits, standing somewhat aside and leaning: for nets that must not
    expect a face upright in the middle.

    Args:
        scene: the portraits.
        generator: CPU generator; the same seed moves them alike on every machine.
        aside: the farthest along either axis, in units of the image's side.
        lean: the most to either side, in radians; it replaces the portrait's roll.

    Raises:
        ValueError: for a negative distance or angle, or a wrong generator.
    """
    check_range("aside", (0, aside), 0)
    check_range("lean", (0, lean), 0)
    expect(isinstance(generator, torch.Generator), "a torch.Generator", generator)
    shift = 2 * aside * torch.rand(len(scene), 2, generator=generator) - aside
    roll = 2 * lean * torch.rand(len(scene), 1, generator=generator) - lean
    turn = torch.cat([scene.turn[:, :2], roll], 1)
    return replace(scene, centre=scene.centre + shift, turn=turn)


Value = float | Float[np.ndarray, " n"]
Disc = tuple[Value, Value, Value, Value]  # x, y, z, radius
SIDES = (-1, 1)


class _Head:
    """Collects the pieces of n heads, in drawing order.

    Positions are (x, y, z): right, down, towards the camera, in half heights of the
    head. A piece is the convex hull of discs (x, y, z, radius); each may differ from
    head to head.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.discs: list[Disc] = []
        # Every piece at every step of light: its ink, which step, first disc, number of
        # discs; and on which heads.
        self.layers: list[tuple[int, int, int, int]] = []
        self.shown: list[Bool[np.ndarray, " n"]] = []

    def add(
        self,
        material: str,
        *discs: Disc,
        steps: int = 1,
        shown: np.ndarray | bool = True,
    ) -> None:
        """A piece, in ``steps`` steps of light."""
        first, count = len(self.discs), len(discs)
        for step in range(steps):
            self.layers.append((_INKS[material] + step, step, first, count))
            self.shown.append(np.broadcast_to(shown, len(self.scene)))
        self.discs += discs

    def chain(
        self,
        material: str,
        *discs: Disc,
        steps: int = 1,
        shown: np.ndarray | bool = True,
    ) -> None:
        """A curved stroke through discs."""
        for start, end in pairwise(discs):
            self.add(material, start, end, shown=shown, steps=steps)

    def project(self) -> tuple[Float[np.ndarray, "n d 2"], Float[np.ndarray, "n d"]]:
        """All discs: centres and radii in units of the image's side."""
        n = len(self.scene)
        table = np.empty((4, len(self.discs), n), np.float32)
        for k, disc in enumerate(self.discs):
            for axis, value in enumerate(disc):
                table[axis, k] = value
        x, y, z, radii = table
        scale = self.scene.scale.numpy()
        yaw, pitch, roll = self.scene.turn.numpy().T
        across = x * np.cos(yaw) + z * np.sin(yaw)
        ahead = z * np.cos(yaw) - x * np.sin(yaw)
        down = y * np.cos(pitch) + ahead * np.sin(pitch)
        rolled_x = across * np.cos(roll) - down * np.sin(roll)
        rolled_y = across * np.sin(roll) + down * np.cos(roll)
        turned = np.stack([rolled_x, rolled_y]) * scale
        centres = turned.transpose(2, 1, 0) + self.scene.centre.numpy()[:, None]
        return centres, (radii * scale).T


class _Face:
    """The numbers that the pieces of n heads are placed by."""

    def __init__(self, scene: Scene) -> None:
        appeared = appearance(scene.identity).items()
        look = {name: values.numpy() for name, values in appeared}
        style = scene.style.numpy()
        self.bald = style == STYLES.index("bald")
        self.long = style == STYLES.index("long")
        self.curly = style == STYLES.index("curly")
        self.bun = style == STYLES.index("bun")
        self.short = style == STYLES.index("short")
        self.glasses = scene.glasses.numpy()
        self.beard = scene.beard.numpy()
        self.smile = scene.smile.numpy()
        self.opening = scene.opening.numpy()
        self.painted = scene.makeup.numpy() > 0
        self.fold = np.clip((scene.age.numpy() - 0.3) / 0.7, 0, 1)  # of wrinkles
        self.wide = look["width"]
        self.jaw = look["jaw"]
        self.parting = look["parting"]
        self.brows = look["brows"]
        # Eyes, nose and mouth: where they are and how large.
        self.eye_x = 0.32 + look["apart"]
        self.eye_y = 0.02 + look["high"]
        self.eye_size = look["eyes"]
        self.gaze_x, self.gaze_y = (0.035 * scene.gaze.numpy()).T
        self.nose_x = 0.085 * look["nose"]
        self.nose_y = 0.31 + 0.5 * look["high"]
        self.mouth_y = 0.6 + look["high"]
        self.lips = look["lips"]


def _build(scene: Scene) -> _Head:
    """All pieces of the heads; the last ten discs belong to none, they are the
    landmarks."""
    head, face = _Head(scene), _Face(scene)
    _add_behind(head, face)
    _add_face(head, face)
    for side in SIDES:
        _add_clear_glasses(head, face, side)
    for side in SIDES:
        _add_eye(head, face, side)
    _add_nose(head, face)
    mouth = _mouth(face)
    _add_mouth(head, face, mouth)
    _add_spectacles(head, face)
    _add_forehead(head, face)
    head.discs += _landmarks(face, mouth)
    return head


def _add_behind(head: _Head, face: _Face) -> None:
    """Behind the face: hair, neck, clothes, ears."""
    left, right = (-0.6, 0.9, -0.25, 0.36), (0.6, 0.9, -0.25, 0.36)
    head.add("hair", left, right, (0, -0.3, -0.1, 0.86), steps=3, shown=face.long)
    for x, y, radius in ((0.72, 0.1, 0.3), (0.74, -0.35, 0.36), (0.5, -0.78, 0.38)):
        for s in SIDES:
            head.add("hair", (s * x, y, -0.2, radius), steps=3, shown=face.curly)
    head.add("hair", (0, -1.1, -0.15, 0.3), steps=3, shown=face.bun)
    head.add("hair", (0, -0.28, -0.1, 0.84), steps=3, shown=~face.bald)
    head.add("skin", (0, 0.8, -0.25, 0.33), (0, 1.25, -0.3, 0.36), steps=2)
    right, left = (-0.85, 1.75, -0.3, 0.4), (0.85, 1.75, -0.3, 0.4)
    head.add("cloth", right, left, (0, 1.52, -0.3, 0.36), steps=3)
    head.add("skin", (0, 1.05, -0.15, 0.28), (0, 1.15, -0.15, 0.24), steps=2)
    for s in SIDES:
        upper = (s * 0.76 * face.wide, 0.02, -0.05, 0.15)
        lower = (s * 0.72 * face.wide, 0.2, -0.05, 0.1)
        head.add("skin", upper, lower, steps=3, shown=~face.long)


def _add_face(head: _Head, face: _Face) -> None:
    """The face, what age and make-up do to it, the beard."""
    wide, jaw, fold = face.wide, face.jaw, face.fold
    full = face.beard == BEARDS.index("full")
    skull = (0, -0.24, 0, 0.72 * wide)
    cheeks: list[Disc] = [(s * 0.34 * wide, 0.3, 0.12, 0.36 * wide) for s in SIDES]
    chin = [(s * 0.14 * jaw, 0.64, 0.28, 0.26) for s in SIDES]
    head.add("skin", skull, *cheeks, *chin, steps=4)
    for s in SIDES:
        head.add("blush", (s * 0.42 * wide, 0.33, 0.5, 0.13), shown=face.painted)
        temple = (s * 0.66 * wide, 0.1, 0.1, 0.09)
        cheek = (s * 0.58 * wide, 0.45, 0.2, 0.16)
        head.chain("beard", temple, cheek, shown=full, steps=2)
        upper = (s * 0.2, 0.33, 0.74, 0.024 * fold)
        lower = (s * 0.36, 0.6, 0.62, 0.014 * fold)
        head.add("crease", upper, lower, shown=fold > 0)
        for y in (-0.06, 0.06):
            inner = (s * 0.54, 0, 0.5, 0.014 * fold)
            outer = (s * 0.64, y, 0.4, 0.014 * fold)
            head.add("crease", inner, outer, shown=fold > 0.1)
    for y in (-0.42, -0.54):
        right, left = ((s * 0.26, y + 0.02, 0.6, 0.02 * fold) for s in SIDES)
        middle = (0, y - 0.02, 0.66, 0.02 * fold)
        head.chain("crease", right, middle, left, shown=fold > 0)
    cheeks = [(s * 0.4 * wide, 0.56, 0.35, 0.24) for s in SIDES]
    chin = [(s * 0.14 * jaw, 0.78, 0.4, 0.22) for s in SIDES]
    head.add("beard", *cheeks, *chin, steps=3, shown=full)


def _add_clear_glasses(head: _Head, face: _Face, side: int) -> None:
    """A frame and its glass; the eye lies on it."""
    clear = face.glasses == GLASSES.index("clear")
    x, y = side * (face.eye_x + 0.01), face.eye_y + 0.02
    head.add("frame", (x, y, 0.66, 0.265), shown=clear)
    head.add("lens", (x, y, 0.66, 0.215), shown=clear)


def _add_eye(head: _Head, face: _Face, side: int) -> None:
    """Lid, eye, lashes and brow."""
    x, y, size = side * face.eye_x, face.eye_y, face.eye_size
    squint = 1 - 0.22 * np.clip(face.smile, 0, 1)
    tall = 0.088 * size * squint
    lid = [(x + s * 0.09, y - 0.06, 0.63, 0.1) for s in SIDES]
    head.add("lid", *lid, shown=face.painted)
    corners = [(x + s * 0.085 * size, y + 0.01, 0.62, 0.7 * tall) for s in SIDES]
    head.add("white", *corners, (x, y, 0.62, tall))
    look_x, look_y = x + face.gaze_x, y + 0.5 * face.gaze_y
    head.add("iris", (look_x, look_y, 0.64, 0.95 * tall))
    head.add("pupil", (look_x, look_y, 0.64, 0.5 * tall))
    head.add("glint", (look_x + 0.03, look_y - 0.035, 0.64, 0.025))
    start = (x - side * 0.15 * size, y + 0.01, 0.61, 0.018)
    end = (x + side * 0.15 * size, y + 0.01, 0.61, 0.018)
    head.chain("lash", start, (x, y - 1.05 * tall, 0.63, 0.026), end)
    frown = 0.07 * np.clip(-face.smile, 0, 1)
    inner = (side * 0.17, y - 0.2 + frown, 0.68, 0.036 * face.brows)
    arch = (x, y - 0.27 - 0.04 * face.opening, 0.66, 0.042 * face.brows)
    outer = (side * (face.eye_x + 0.16), y - 0.2, 0.58, 0.022 * face.brows)
    head.chain("brow", inner, arch, outer)


def _add_nose(head: _Head, face: _Face) -> None:
    x, y = face.nose_x, face.nose_y
    root = (0, face.eye_y + 0.02, 0.66, 0.045)
    head.chain("nose", root, (0, y, 0.86, 0.06), steps=3)
    wings = [(s * x, y + 0.02, 0.8, 0.055) for s in SIDES]
    head.add("nose", *wings, (0, y, 0.88, 0.085), steps=4)
    for s in SIDES:
        head.add("crease", (s * 0.7 * x, y + 0.065, 0.82, 0.022))


@dataclass
class _Mouth:
    """Five discs each, from the right corner to the left."""

    between: list[Disc]  # where the lips meet
    gap: list[Disc]  # the lower edge of what is open
    upper: list[Disc]
    lower: list[Disc]


def _mouth(face: _Face) -> _Mouth:
    """Corners rise with a smile; an open mouth has a straight upper lip."""
    half = 0.24 + 0.06 * face.smile
    corner = face.mouth_y - 0.09 * face.smile
    middle = face.mouth_y + 0.045 * face.smile * (1 - face.opening)
    mouth = _Mouth([], [], [], [])
    for a in np.array([-1.0, -0.5, 0.0, 0.5, 1.0]):
        x = half * a
        y = middle + (corner - middle) * a * a
        z = 0.68 - 0.1 * a * a
        open_y = y + 0.3 * face.opening * (1 - a * a)
        thin = 0.036 * face.lips * (1.15 - 0.6 * a * a)
        thick = 0.05 * face.lips * (1.1 - 0.7 * a * a)
        mouth.between.append((x, y, z, 0.014))
        mouth.gap.append((x, open_y, z, 0.02))
        mouth.upper.append((x, y - 0.018, z, thin))
        mouth.lower.append((x, open_y + 0.018, z, thick))
    return mouth


def _with_radius(disc: Disc, radius: Value, down: float = 0) -> Disc:
    x, y, z, _ = disc
    return x, y + down, z, radius


def _add_mouth(head: _Head, face: _Face, mouth: _Mouth) -> None:
    for s in SIDES:
        under_nose = (0.03 * s, face.nose_y + 0.15, 0.8, 0.06)
        at_corner = (0.27 * s, face.mouth_y - 0.04, 0.66, 0.05)
        head.chain("beard", under_nose, at_corner, shown=face.beard > 0, steps=3)
    head.chain("lips", *mouth.lower, steps=2)
    head.chain("lips", *mouth.upper)
    right, inner_right, _, inner_left, left = mouth.between
    corners = [_with_radius(disc, 0.015) for disc in (right, left)]
    apart = face.opening > 0.12
    head.add("mouth", *mouth.gap[1:4], *corners, shown=apart)
    teeth = [_with_radius(disc, 0.034, 0.02) for disc in (inner_right, inner_left)]
    head.add("teeth", *teeth, shown=face.opening > 0.3)
    head.chain("seam", *mouth.between, shown=~apart)


def _add_spectacles(head: _Head, face: _Face) -> None:
    """Dark glasses, temples and the bridge."""
    x, y = face.eye_x, face.eye_y
    dark = face.glasses == GLASSES.index("dark")
    worn = face.glasses > 0
    for s in SIDES:
        inner = (s * (x - 0.04), y + 0.03, 0.66, 0.2)
        outer = (s * (x + 0.06), y + 0.03, 0.66, 0.2)
        head.add("tinted", inner, outer, shown=dark)
        lower = (s * x - 0.08, y + 0.03, 0.66, 0.022)
        upper = (s * x - 0.08 + 0.07, y + 0.03 - 0.07, 0.66, 0.022)
        head.add("gleam", lower, upper, shown=dark)
        hinge = (s * (x + 0.24), y, 0.58, 0.024)
        ear = (s * 0.78 * face.wide, y - 0.02, 0, 0.024)
        head.add("frame", hinge, ear, shown=worn)
    bridge = [(s * 0.1, y - 0.01, 0.78, 0.026) for s in SIDES]
    head.add("frame", *bridge, shown=worn)


def _add_forehead(head: _Head, face: _Face) -> None:
    """The hair over the forehead."""
    wide, parting = face.wide, face.parting
    temples = [(s * 0.4 * wide, -0.66, 0.1, 0.24) for s in SIDES]
    head.add("hair", *temples, (0, -0.84, 0.1, 0.24), shown=~face.bald)
    swept = (0.4 * parting / 0.35, -0.62, 0.5, 0.16)
    tidy = face.short | face.bun
    for s in SIDES:
        temple = (s * 0.6 * wide, -0.5, 0.25, 0.15)
        head.add("hair", temple, swept, (0, -0.86, 0.2, 0.2), steps=3, shown=tidy)
    for s in SIDES:
        top = (parting, -0.84, 0.4, 0.17)
        middle = (s * 0.55 * wide, -0.5, 0.35, 0.17)
        end = (s * 0.72 * wide, 0.1, 0.1, 0.12)
        head.chain("hair", top, middle, end, steps=3, shown=face.long)
        for x, y in ((0.6, -0.5), (0.36, -0.7), (0.1, -0.78)):
            curl = (s * x * wide, y, 0.4, 0.2)
            head.add("hair", curl, steps=3, shown=face.curly)


def _landmarks(face: _Face, mouth: _Mouth) -> list[Disc]:
    """In the order of ``LANDMARKS``."""
    brow_y = face.eye_y - 0.27 - 0.04 * face.opening
    right, left = -face.eye_x, face.eye_x
    return [
        (right, face.eye_y, 0.62, 0),
        (left, face.eye_y, 0.62, 0),
        (0, face.nose_y, 0.9, 0),
        _with_radius(mouth.between[0], 0),
        _with_radius(mouth.between[4], 0),
        (right, brow_y, 0.66, 0),
        (left, brow_y, 0.66, 0),
        _with_radius(mouth.upper[2], 0),
        _with_radius(mouth.lower[2], 0),
        (0, 0.9, 0.3, 0),
    ]


def _drawings(
    scene: Scene,
    size: int,
) -> tuple[list[UInt8[np.ndarray, "fine fine"]], Float[np.ndarray, "n l 2"]]:
    """The maps of inks, and the landmarks in units of the image's side."""
    head = _build(scene)
    places, reach = head.project()
    light = np.stack([0.8 * scene.light.numpy(), np.full(len(scene), -0.6)], -1)
    towards = light.astype(np.float32)[:, None, None]
    inks, level, first, count = np.array(head.layers).T
    corners = np.empty((len(scene), len(inks), canvas.CORNERS, 2), np.float32)
    for wide in np.unique(count):
        some = count == wide
        discs = first[some, None] + np.arange(wide)
        radii, step = reach[:, discs], level[some, None]
        centres = places[:, discs] + towards * (radii * _LEAN[step])[..., None]
        corners[:, some] = canvas.hulls(size * centres, size * radii * _COVER[step])
    polygons = canvas.fixed(corners)
    shown = np.stack(head.shown, 1)
    drawn = []
    for i, on in enumerate(shown):
        own = inks[on].tolist()
        drawn.append(canvas.stamp(canvas.blank(size), polygons[i][on], own))
    return drawn, places[:, -len(LANDMARKS) :]


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each portrait."""
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    age = scene.age.numpy()[:, None]
    makeup = scene.makeup.numpy()
    skin = _SKIN[look["skin"]].astype(np.float32)
    grey = np.clip((age - 0.5) / 0.4, 0, 1)
    hair = (1 - grey) * _HAIR[scene.hair.numpy()] + grey * _GREY
    paint, frame = _LIPSTICK[makeup], _FRAME[look["frame"]]
    bare = skin * (0.86, 0.62, 0.62) + (14, 4, 6)
    lips = np.where(makeup[:, None] > 0, paint, bare)
    lit = {
        "cloth": _CLOTH[scene.cloth.numpy()],
        "skin": skin,
        "hair": hair,
        "beard": 0.74 * hair + 0.18 * skin,
        "nose": 1.01 * skin,
        "lips": 1.1 * lips,
    }
    flat = {
        "crease": skin * (0.74, 0.66, 0.66),
        "blush": 0.8 * skin + 0.2 * paint,
        "iris": _IRIS[look["iris"]],
        "brow": 0.72 * hair + 0.06 * skin,
        "lid": 0.5 * skin + 0.5 * paint,
        "seam": 0.55 * lips,
        "frame": frame,
        "lens": 0.78 * skin + (48, 54, 56),
        "tinted": 0.3 * frame + 14,
        **_SAME,
    }
    colours = np.zeros((len(scene), max(_INKS.values()) + 1, 3), np.float32)
    for name, values in lit.items():
        first = _INKS[name]
        colours[:, first : first + _STEPS] = values[:, None] * _LIGHT
    for name, values in flat.items():
        colours[:, _INKS[name]] = values
    opaque = np.arange(colours.shape[1]) > 0
    return canvas.plain_inkwell(colours, opaque)


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the portraits: an unsharp background, the head from back to front, a
    camera's look."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    tables = _tables(scene)
    drawn, _ = _drawings(scene, size)
    paint = np.empty((n, size, size, 4), np.uint8)
    for i in range(n):
        paint[i] = canvas.colour(drawn[i], tables[i])
    camera = canvas.plain_camera(scene.noise, scene.grain)
    canvas.photograph(paint, _grounds(scene, size), camera, out)


def _grounds(scene: Scene, size: int) -> UInt8[np.ndarray, "n size size 3"]:
    """Photographs far out of focus, tinted, brighter on the side of the light."""
    ground = photos.crops(photos.SCENERY, scene.backgrounds, 16).astype(np.float32)
    ground = 0.5 * ground + 55 + 75 * scene.tints.numpy()[:, None, None]
    slope = np.linspace(-1, 1, 16)[:, None] * scene.light.numpy()[:, None, None, None]
    ground *= 1 + 0.22 * slope
    soft = np.empty((len(ground), size, size, 3), np.float32)
    for i, image in enumerate(ground):
        blurred = cv2.blur(image, (3, 3))
        cv2.resize(blurred, (size, size), dst=soft[i], interpolation=cv2.INTER_LINEAR)
    return soft.clip(0, 255).astype(np.uint8)


# On which parts each landmark may be seen; a part of something else hides it.
_AROUND_MOUTH = ("lips", "mouth", "skin", "beard")
_ON = {
    "right eye": ("eye",),
    "left eye": ("eye",),
    "nose": ("nose",),
    "right mouth corner": _AROUND_MOUTH,
    "left mouth corner": _AROUND_MOUTH,
    "right brow": ("brow",),
    "left brow": ("brow",),
    "upper lip": ("lips", "mouth"),
    "lower lip": ("lips", "mouth"),
    "chin": ("skin", "beard"),
}
_SEEN_ON = torch.zeros(len(LANDMARKS), len(PARTS), dtype=torch.bool)
for _number, _landmark in enumerate(LANDMARKS):
    for _part in _ON[_landmark]:
        _SEEN_ON[_number, PARTS.index(_part)] = True


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the
    pixels' centres.

    Returns:
        ``landmarks`` (n, 10, 2) in pixels, see LANDMARKS; ``visible`` (n, 10), in the
        frame and not hidden; ``part_labels`` (n, h, w) into PARTS; and the factors
        ``identity``, ``hair``, ``style``, ``glasses``, ``beard``, ``makeup``, ``age``,
        ``smile``, ``opening``.
    """
    side = check_size(size)
    drawn, marks = _drawings(scene, side)
    inks = np.stack([canvas.at_centres(one) for one in drawn])
    parts = torch.from_numpy(_PARTS[inks]).long()
    landmarks = torch.from_numpy(marks.astype(np.float32)) * side
    inside = ((landmarks >= 0) & (landmarks < side)).all(-1)
    column, row = landmarks.floor().long().clamp(0, side - 1).unbind(-1)
    on = parts[torch.arange(len(scene))[:, None], row, column]
    seen = _SEEN_ON[torch.arange(len(LANDMARKS)), on]
    return {
        "landmarks": landmarks,
        "visible": inside & seen,
        "part_labels": parts,
        "identity": scene.identity,
        "hair": scene.hair,
        "style": scene.style,
        "glasses": scene.glasses,
        "beard": scene.beard,
        "makeup": scene.makeup,
        "age": scene.age,
        "smile": scene.smile,
        "opening": scene.opening,
    }
