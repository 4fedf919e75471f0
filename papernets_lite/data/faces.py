"""The world `faces`: drawn portraits whose every attribute can be changed alone, with
landmarks and parts known.

A head is a small 3-D arrangement of rounded pieces, turned and projected.
`dataclasses.replace(scene, hair=...)` and a second `render` give the same portrait with
another hair colour: the exact answer to a translation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import (
    PALETTE,
    Camera,
    Draws,
    Range,
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
LANDMARKS: tuple[str, ...] = (
    "right eye",
    "left eye",
    "nose",
    "right mouth corner",
    "left mouth corner",
)
LANDMARKS += ("right brow", "left brow", "upper lip", "lower lip", "chin")
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
}
_SAME |= {"teeth": (250, 248, 240), "mouth": (98, 34, 42), "gleam": (176, 188, 200)}
# Light on a surface, from its rim to its highlight: shade is cool, light is warm. And,
# by the same steps, how much of a piece it covers and how far it leans to the light, in
# radii.
_LIGHT = np.array(
    [(0.72, 0.68, 0.74), (0.86, 0.84, 0.86), (0.96, 0.95, 0.95), (1.05, 1.04, 1.01)],
    np.float32,
)
_COVER, _LEAN = np.array([(1.0, 0.9, 0.78, 0.56), (0.0, 0.08, 0.18, 0.34)], np.float32)
# Material -> its first ink; it has as many as it has steps of light.
_INKS = {"cloth": 1, "skin": 5, "hair": 9, "beard": 13, "nose": 17, "lips": 21}
_FLAT = "crease blush white iris pupil glint brow lash lid teeth mouth seam frame lens tinted gleam"
_INKS |= {name: 25 + k for k, name in enumerate(_FLAT.split())}
_PART_OF = {
    "cloth": "clothes",
    "crease": "skin",
    "blush": "skin",
    "lid": "skin",
    "lash": "eye",
    "seam": "lips",
}
_PART_OF |= {
    "white": "eye",
    "iris": "eye",
    "pupil": "eye",
    "glint": "eye",
    "teeth": "mouth",
}
_PART_OF |= {
    "frame": "glasses",
    "lens": "glasses",
    "tinted": "glasses",
    "gleam": "glasses",
}
_PARTS = np.zeros(256, np.uint8)  # ink -> part
for _name, _ink in _INKS.items():
    _PARTS[_ink : _ink + (4 if _ink < 25 else 1)] = PARTS.index(
        _PART_OF.get(_name, _name)
    )


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
    ranges = dict.fromkeys(("jaw", "nose", "lips"), (0.78, 1.22)) | {
        "width": (0.92, 1.08),
        "eyes": (0.85, 1.15),
    }
    ranges |= {
        "brows": (0.65, 1.35),
        "apart": (-0.04, 0.04),
        "high": (-0.04, 0.04),
        "parting": (-0.35, 0.35),
    }
    look = {name: draws.integers(0, count) for name, count in colours.items()}
    return look | {name: draws.uniform(*bounds) for name, bounds in ranges.items()}


def sample(
    n: int,
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
        turn: least and most yaw to either side, radians; pitch and roll stay within a
            third of the most.
        scale: half of the head's height, in units of the image's side.
        noise: standard deviation of the sensor's noise.

    Raises:
        ValueError: for an empty or inverted range, a name that does not exist, ``n <
            1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("identities", (identities[0], identities[1] - 1), 0)
    check_range("age", age, 0, 1)
    check_range("smile", smile, -1, 1)
    check_range("opening", opening, 0, 1)
    check_range("turn", turn, 0, 0.7)
    check_range("scale", scale, 0.05, 0.6)
    check_range("noise", (0, noise), 0, 1)

    def choice(
        name: str, known: Sequence[str], chosen: Sequence[str]
    ) -> Int[Tensor, " n"]:
        expect(
            chosen and set(chosen) <= set(known), f"{name} from {known}", tuple(chosen)
        )
        return torch.tensor([known.index(value) for value in chosen])[
            draws.integers(0, len(chosen))
        ]

    yaw = draws.uniform(*turn) * (2 * draws.integers(0, 2) - 1)
    tilts = draws.uniform(-turn[1] / 3, turn[1] / 3, 2)
    return Scene(
        identity=draws.integers(*identities),
        hair=choice("hair", HAIR, hair),
        style=choice("styles", STYLES, styles),
        glasses=choice("glasses", GLASSES, glasses),
        beard=choice("beards", BEARDS, beards),
        makeup=choice("makeup", MAKEUP, makeup),
        age=draws.uniform(*age),
        smile=draws.uniform(*smile),
        opening=draws.uniform(*opening),
        gaze=draws.uniform(-1, 1, 2),
        turn=torch.cat([yaw[:, None], tilts], 1),
        centre=torch.tensor([0.5, 0.48]) + draws.uniform(-0.04, 0.04, 2),
        scale=draws.uniform(*scale),
        cloth=draws.integers(0, len(_CLOTH)),
        light=draws.uniform(-1, 1),
        backgrounds=draws.uniform(0, 1, 4),
        tints=draws.uniform(0, 1, 3),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


Value = float | Float[np.ndarray, " n"]


class _Head:
    """Collects the pieces of n heads, in drawing order.

    Positions are (x, y, z): right, down, towards the camera, in half heights of the
    head. A piece is the convex hull of discs (x, y, z, radius); each may differ from
    head to head.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.discs: list[Sequence[Value]] = []
        # Every piece at every step of light: its ink, which step, first disc, number of
        # discs; and on which heads.
        self.layers: list[tuple[int, int, int, int]] = []
        self.shown: list[Bool[np.ndarray, " n"]] = []

    def add(
        self,
        material: str,
        *discs: Sequence[Value],
        steps: int = 1,
        shown: np.ndarray | bool = True,
    ) -> None:
        """A piece, in ``steps`` steps of light."""
        self.layers += [
            (_INKS[material] + k, k, len(self.discs), len(discs)) for k in range(steps)
        ]
        self.shown += [np.broadcast_to(shown, len(self.scene))] * steps
        self.discs += discs

    def chain(
        self,
        material: str,
        *discs: Sequence[Value],
        shown: np.ndarray | bool = True,
        steps: int = 1,
    ) -> None:
        """A curved stroke through discs."""
        for start, end in pairwise(discs):
            self.add(material, start, end, shown=shown, steps=steps)

    def project(self) -> tuple[Float[np.ndarray, "n d 2"], Float[np.ndarray, "n d"]]:
        """All discs: centres and radii in units of the image's side."""
        table = [
            [np.broadcast_to(value, len(self.scene)) for value in disc]
            for disc in self.discs
        ]
        (x, y, z, radii), scale = (
            np.array(table, np.float32).swapaxes(0, 1),
            self.scene.scale.numpy(),
        )
        yaw, pitch, roll = self.scene.turn.numpy().T
        x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
        y = y * np.cos(pitch) + z * np.sin(pitch)
        turned = np.stack(
            [x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)]
        )
        return (turned * scale).transpose(2, 1, 0) + self.scene.centre.numpy()[
            :, None
        ], (radii * scale).T


def _build(scene: Scene) -> _Head:
    """All pieces of the heads; the last ten discs belong to none, they are the
    landmarks."""
    head = _Head(scene)
    add, chain = head.add, head.chain
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    style, glasses, beard = (
        scene.style.numpy(),
        scene.glasses.numpy(),
        scene.beard.numpy(),
    )
    smile, opening, painted = (
        scene.smile.numpy(),
        scene.opening.numpy(),
        scene.makeup.numpy() > 0,
    )
    w, j, fold = (
        look["width"],
        look["jaw"],
        np.clip((scene.age.numpy() - 0.3) / 0.7, 0, 1),
    )
    is_style = {name: style == k for k, name in enumerate(STYLES)}
    part, hairy = look["parting"], ~is_style["bald"]

    # Behind the face: hair, neck, clothes, ears.
    mane = is_style["long"]
    add(
        "hair",
        (-0.6, 0.9, -0.25, 0.36),
        (0.6, 0.9, -0.25, 0.36),
        (0, -0.3, -0.1, 0.86),
        steps=3,
        shown=mane,
    )
    for a, b, r in ((0.72, 0.1, 0.3), (0.74, -0.35, 0.36), (0.5, -0.78, 0.38)):
        for s in (-1, 1):
            add("hair", (s * a, b, -0.2, r), steps=3, shown=is_style["curly"])
    add("hair", (0, -1.1, -0.15, 0.3), steps=3, shown=is_style["bun"])
    add("hair", (0, -0.28, -0.1, 0.84), steps=3, shown=hairy)
    add("skin", (0, 0.8, -0.25, 0.33), (0, 1.25, -0.3, 0.36), steps=2)
    add(
        "cloth",
        (-0.85, 1.75, -0.3, 0.4),
        (0.85, 1.75, -0.3, 0.4),
        (0, 1.52, -0.3, 0.36),
        steps=3,
    )
    add("skin", (0, 1.05, -0.15, 0.28), (0, 1.15, -0.15, 0.24), steps=2)
    for s in (-1, 1):
        add(
            "skin",
            (s * 0.76 * w, 0.02, -0.05, 0.15),
            (s * 0.72 * w, 0.2, -0.05, 0.1),
            steps=3,
            shown=~mane,
        )

    # The face, what age and make-up do to it, the beard.
    cheeks = [(s * 0.34 * w, 0.3, 0.12, 0.36 * w) for s in (-1, 1)]
    add(
        "skin",
        (0, -0.24, 0, 0.72 * w),
        *cheeks,
        *((s * 0.14 * j, 0.64, 0.28, 0.26) for s in (-1, 1)),
        steps=4,
    )
    for s in (-1, 1):
        add("blush", (s * 0.42 * w, 0.33, 0.5, 0.13), shown=painted)
        chain(
            "beard",
            (s * 0.66 * w, 0.1, 0.1, 0.09),
            (s * 0.58 * w, 0.45, 0.2, 0.16),
            shown=beard == 2,
            steps=2,
        )
        add(
            "crease",
            (s * 0.2, 0.33, 0.74, 0.024 * fold),
            (s * 0.36, 0.6, 0.62, 0.014 * fold),
            shown=fold > 0,
        )
        for y in (-0.06, 0.06):
            add(
                "crease",
                (s * 0.54, 0, 0.5, 0.014 * fold),
                (s * 0.64, y, 0.4, 0.014 * fold),
                shown=fold > 0.1,
            )
    for y in (-0.42, -0.54):
        ends = [(s * 0.26, y + 0.02, 0.6, 0.02 * fold) for s in (-1, 1)]
        chain(
            "crease", ends[0], (0, y - 0.02, 0.66, 0.02 * fold), ends[1], shown=fold > 0
        )
    jaw = [(s * 0.4 * w, 0.56, 0.35, 0.24) for s in (-1, 1)]
    add(
        "beard",
        *jaw,
        *((s * 0.14 * j, 0.78, 0.4, 0.22) for s in (-1, 1)),
        steps=3,
        shown=beard == 2,
    )

    # Eyes, under spectacles: a frame, its glass, then the eye on it.
    eye_x, eye_y, big = 0.32 + look["apart"], 0.02 + look["high"], look["eyes"]
    squint = 1 - 0.22 * np.clip(smile, 0, 1)
    gaze_x, gaze_y = (0.035 * scene.gaze.numpy()).T
    for s in (-1, 1):
        add(
            "frame", (s * (eye_x + 0.01), eye_y + 0.02, 0.66, 0.265), shown=glasses == 1
        )
        add("lens", (s * (eye_x + 0.01), eye_y + 0.02, 0.66, 0.215), shown=glasses == 1)
    for s in (-1, 1):
        x, h = s * eye_x, 0.088 * big * squint
        corners = [(x + a * 0.085 * big, eye_y + 0.01, 0.62, 0.7 * h) for a in (-1, 1)]
        add(
            "lid",
            *((x + a * 0.09, eye_y - 0.06, 0.63, 0.1) for a in (-1, 1)),
            shown=painted,
        )
        add("white", *corners, (x, eye_y, 0.62, h))
        add("iris", (x + gaze_x, eye_y + 0.5 * gaze_y, 0.64, 0.95 * h))
        add("pupil", (x + gaze_x, eye_y + 0.5 * gaze_y, 0.64, 0.5 * h))
        add("glint", (x + gaze_x + 0.03, eye_y + 0.5 * gaze_y - 0.035, 0.64, 0.025))
        lashes = [(x + a * 0.15 * big, eye_y + 0.01, 0.61, 0.018) for a in (-s, s)]
        chain("lash", lashes[0], (x, eye_y - 1.05 * h, 0.63, 0.026), lashes[1])
        inner = (
            s * 0.17,
            eye_y - 0.2 + 0.07 * np.clip(-smile, 0, 1),
            0.68,
            0.036 * look["brows"],
        )
        arch = (x, eye_y - 0.27 - 0.04 * opening, 0.66, 0.042 * look["brows"])
        chain(
            "brow",
            inner,
            arch,
            (s * (eye_x + 0.16), eye_y - 0.2, 0.58, 0.022 * look["brows"]),
        )

    # Nose.
    nose_x, nose_y = 0.085 * look["nose"], 0.31 + 0.5 * look["high"]
    chain("nose", (0, eye_y + 0.02, 0.66, 0.045), (0, nose_y, 0.86, 0.06), steps=3)
    add(
        "nose",
        *((s * nose_x, nose_y + 0.02, 0.8, 0.055) for s in (-1, 1)),
        (0, nose_y, 0.88, 0.085),
        steps=4,
    )
    for s in (-1, 1):
        add("crease", (s * 0.7 * nose_x, nose_y + 0.065, 0.82, 0.022))

    # Mouth: corners rise with a smile; an open mouth has a straight upper lip.
    mouth_y, thick = 0.6 + look["high"], look["lips"]
    half = 0.24 + 0.06 * smile
    corner_y, middle_y = mouth_y - 0.09 * smile, mouth_y + 0.045 * smile * (1 - opening)
    t = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    across = [
        (half * a, middle_y + (corner_y - middle_y) * a * a, 0.68 - 0.1 * a * a)
        for a in t
    ]
    gap = [
        (x, y + 0.3 * opening * (1 - a * a), z, 0.02)
        for (x, y, z), a in zip(across, t, strict=True)
    ]
    upper = [
        (x, y - 0.018, z, 0.036 * thick * (1.15 - 0.6 * a * a))
        for (x, y, z), a in zip(across, t, strict=True)
    ]
    lower = [
        (x, y + 0.018, z, 0.05 * thick * (1.1 - 0.7 * a * a))
        for (x, y, z, _), a in zip(gap, t, strict=True)
    ]
    for s in (-1, 1):
        whisker = (
            (0.03 * s, nose_y + 0.15, 0.8, 0.06),
            (0.27 * s, mouth_y - 0.04, 0.66, 0.05),
        )
        chain("beard", *whisker, shown=beard > 0, steps=3)
    chain("lips", *lower, steps=2)
    chain("lips", *upper)
    apart = opening > 0.12
    add(
        "mouth",
        *gap[1:4],
        *((x, y, z, 0.015) for x, y, z in (across[0], across[4])),
        shown=apart,
    )
    add(
        "teeth",
        *((x, y + 0.02, z, 0.034) for x, y, z in (across[1], across[3])),
        shown=opening > 0.3,
    )
    chain("seam", *((x, y, z, 0.014) for x, y, z in across), shown=~apart)

    # Spectacles' bridge and temples, dark glasses, and the hair over the forehead.
    for s in (-1, 1):
        add(
            "tinted",
            *((s * (eye_x + a), eye_y + 0.03, 0.66, 0.2) for a in (-0.04, 0.06)),
            shown=glasses == 2,
        )
        add(
            "gleam",
            *((s * eye_x - 0.08 + a, eye_y + 0.03 - a, 0.66, 0.022) for a in (0, 0.07)),
            shown=glasses == 2,
        )
        temple = (
            (s * (eye_x + 0.24), eye_y, 0.58, 0.024),
            (s * 0.78 * w, eye_y - 0.02, 0, 0.024),
        )
        add("frame", *temple, shown=glasses > 0)
    add(
        "frame",
        *((s * 0.1, eye_y - 0.01, 0.78, 0.026) for s in (-1, 1)),
        shown=glasses > 0,
    )
    swept, tidy = (
        (0.4 * part / 0.35, -0.62, 0.5, 0.16),
        is_style["short"] | is_style["bun"],
    )
    add(
        "hair",
        *((s * 0.4 * w, -0.66, 0.1, 0.24) for s in (-1, 1)),
        (0, -0.84, 0.1, 0.24),
        steps=1,
        shown=hairy,
    )
    for s in (-1, 1):
        add(
            "hair",
            (s * 0.6 * w, -0.5, 0.25, 0.15),
            swept,
            (0, -0.86, 0.2, 0.2),
            steps=3,
            shown=tidy,
        )
    for s in (-1, 1):
        lock = (
            (part, -0.84, 0.4, 0.17),
            (s * 0.55 * w, -0.5, 0.35, 0.17),
            (s * 0.72 * w, 0.1, 0.1, 0.12),
        )
        chain("hair", *lock, steps=3, shown=mane)
        for a, b in ((0.6, -0.5), (0.36, -0.7), (0.1, -0.78)):
            add("hair", (s * a * w, b, 0.4, 0.2), steps=3, shown=is_style["curly"])

    eyes = [(s * eye_x, eye_y, 0.62) for s in (-1, 1)]
    brows = [(s * eye_x, eye_y - 0.27 - 0.04 * opening, 0.66) for s in (-1, 1)]
    places = [
        *eyes,
        (0, nose_y, 0.9),
        across[0],
        across[4],
        *brows,
        upper[2][:3],
        lower[2][:3],
        (0, 0.9, 0.3),
    ]
    head.discs += [(*place, 0) for place in places]
    return head


def _drawings(
    scene: Scene, size: int
) -> tuple[list[UInt8[np.ndarray, "fine fine"]], Float[np.ndarray, "n l 2"]]:
    """The maps of inks, and the landmarks in units of the image's side."""
    head = _build(scene)
    places, reach = head.project()
    towards = np.stack(
        [0.8 * scene.light.numpy(), np.full(len(scene), -0.6)], -1
    ).astype(np.float32)[:, None, None]
    inks, level, first, count = np.array(head.layers).T
    corners = np.empty((len(scene), len(inks), canvas.CORNERS, 2), np.float32)
    for wide in np.unique(count):
        some = count == wide
        discs = first[some, None] + np.arange(wide)
        radii, step = reach[:, discs], level[some, None]
        centres = places[:, discs] + towards * (radii * _LEAN[step])[..., None]
        corners[:, some] = canvas.hulls(size * centres, size * radii * _COVER[step])
    each = zip(canvas.fixed(corners), np.stack(head.shown, 1), strict=True)
    drawn = [
        canvas.stamp(canvas.blank(size), polygons[on], inks[on].tolist())
        for polygons, on in each
    ]
    return drawn, places[:, -len(LANDMARKS) :]


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each portrait."""
    look = {name: values.numpy() for name, values in appearance(scene.identity).items()}
    age, makeup = scene.age.numpy()[:, None], scene.makeup.numpy()
    skin = _SKIN[look["skin"]].astype(np.float32)
    grey = np.clip((age - 0.5) / 0.4, 0, 1)
    hair = (1 - grey) * _HAIR[scene.hair.numpy()] + grey * _GREY
    paint, frame = _LIPSTICK[makeup], _FRAME[look["frame"]]
    lips = np.where(makeup[:, None] > 0, paint, skin * (0.86, 0.62, 0.62) + (14, 4, 6))
    plain = {
        "crease": skin * (0.74, 0.66, 0.66),
        "blush": 0.8 * skin + 0.2 * paint,
        "lid": 0.5 * skin + 0.5 * paint,
    }
    plain |= {
        "iris": _IRIS[look["iris"]],
        "brow": 0.72 * hair + 0.06 * skin,
        "seam": 0.55 * lips,
    }
    plain |= {
        "frame": frame,
        "tinted": 0.3 * frame + 14,
        "lens": 0.78 * skin + (48, 54, 56),
    }
    lit = {
        "cloth": _CLOTH[scene.cloth.numpy()],
        "skin": skin,
        "hair": hair,
        "lips": 1.1 * lips,
    }
    lit |= {"beard": 0.74 * hair + 0.18 * skin, "nose": 1.01 * skin}
    colours = np.zeros((len(scene), max(_INKS.values()) + 1, 3), np.float32)
    for name, values in lit.items():
        colours[:, _INKS[name] : _INKS[name] + 4] = values[:, None] * _LIGHT
    for name, values in (_SAME | plain).items():
        colours[:, _INKS[name]] = values
    opaque = np.arange(colours.shape[1]) > 0
    return canvas.inkwell(
        colours, colours, np.zeros(colours.shape[:2], np.int64), opaque
    )


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the portraits: an unsharp background, the head from back to front, a
    camera's look."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    tables, (drawn, _) = _tables(scene), _drawings(scene, size)
    paint = np.stack(
        [canvas.colour(inks, table) for inks, table in zip(drawn, tables, strict=True)]
    )
    ones = torch.ones(n, 3)
    canvas.photograph(
        paint,
        _grounds(scene, size),
        Camera(ones, ones[:, 0], scene.noise, scene.grain),
        out,
    )


def _grounds(scene: Scene, size: int) -> UInt8[np.ndarray, "n size size 3"]:
    """Photographs far out of focus, tinted, brighter on the side of the light."""
    ground = photos.crops(photos.SCENERY, scene.backgrounds, 16).astype(np.float32)
    ground = 0.5 * ground + 55 + 75 * scene.tints.numpy()[:, None, None]
    slope = np.linspace(-1, 1, 16)[:, None] * scene.light.numpy()[:, None, None, None]
    ground *= 1 + 0.22 * slope
    soft = [
        cv2.resize(
            cv2.blur(image, (3, 3)), (size, size), interpolation=cv2.INTER_LINEAR
        )
        for image in ground
    ]
    return np.stack(soft).clip(0, 255).astype(np.uint8)


# On which parts each landmark may be seen; a part of something else hides it.
_ON = "eye eye nose {0} {0} brow brow lips|mouth lips|mouth skin|beard".format(
    "lips|mouth|skin|beard"
).split()
_SEEN_ON = torch.tensor([[part in names.split("|") for part in PARTS] for names in _ON])


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the
    pixels' centres.

    Returns:
        ``landmarks`` (n, 10, 2) in pixels, see LANDMARKS; ``visible`` (n, 10), in the
        frame and not hidden; ``part_labels`` (n, h, w) into PARTS; and the factors
        ``identity``, ``hair``, ``style``, ``glasses``, ``beard``, ``makeup``, ``age``,
        ``smile``, ``opening``.
    """
    check_size(size)
    drawn, marks = _drawings(scene, size)
    parts = torch.from_numpy(
        _PARTS[np.stack([canvas.at_centres(inks) for inks in drawn])]
    ).long()
    landmarks = torch.from_numpy(marks.astype(np.float32)) * size
    inside: Bool[Tensor, "n l"] = ((landmarks >= 0) & (landmarks < size)).all(-1)
    column, row = landmarks.floor().long().clamp(0, size - 1).unbind(-1)
    on = parts[torch.arange(len(scene))[:, None], row, column]
    names = (
        "identity",
        "hair",
        "style",
        "glasses",
        "beard",
        "makeup",
        "age",
        "smile",
        "opening",
    )
    return {
        "landmarks": landmarks,
        "visible": inside & _SEEN_ON[torch.arange(len(LANDMARKS)), on],
        "part_labels": parts,
        **{name: getattr(scene, name) for name in names},
    }
