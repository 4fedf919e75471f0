"""The world `streets`: a drawn street in perspective, with every pixel's class, object
and distance known.

Rows of houses, trees, queues of cars and people touch and hide others of their own
class; each has its own colours, and a thin dark line runs where objects meet. Lengths
are metres: x to the right of the road's middle, y up, z away from us.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, SupportsIndex

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import (
    LIGHT,
    OVER,
    Camera,
    Draws,
    check_names,
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

CLASSES = ("sky", "grass", "pavement", "road", "house", "tree", "car", "person")
# the most of each in an image: their slots
THINGS = {"house": 8, "tree": 5, "car": 6, "person": 6}
SKIES = ("noon", "morning", "evening", "grey")
FOCAL = 1.1  # in units of the image's side
EYE = 2.6  # height of the camera
FAR = 200.0  # distance of the sky
# half widths of the street, and how deep a house is
_ROAD, _PAVEMENT, _WALL, _DEEP = 2.9, 4.3, 6.2, 7.0
_HOUSE, _TREE, _CAR, _PERSON = range(4)  # kinds
_FIRST = 16  # inks before the objects'
_EACH = 8  # inks of an object
_CORNERS = 10  # of every polygon
_SLOT = np.repeat(np.arange(4), list(THINGS.values()))  # kind of each slot
# of each kind
_SLOTS = [slice(0, 8), slice(8, 13), slice(13, 19), slice(19, 25)]
_LAST = _FIRST + _EACH * len(_SLOT)  # the ink after the objects'

# Colours are red, green and blue in 0..255; those of skies in the order of SKIES.
_SKY_TOP = np.array(
    [
        (92, 156, 224),
        (142, 186, 222),
        (98, 98, 164),
        (164, 174, 188),
    ],
    np.float32,
)
_SKY_LOW = np.array(
    [
        (212, 232, 244),
        (254, 226, 194),
        (252, 190, 138),
        (216, 220, 224),
    ],
    np.float32,
)
_GAIN = torch.tensor(
    [
        (1.04, 1.03, 1.0),
        (1.05, 1.0, 0.95),
        (1.02, 0.9, 0.86),
        (0.92, 0.95, 0.99),
    ]
)
_HOUSES = [
    (240, 224, 184),
    (232, 154, 132),
    (168, 207, 166),
    (156, 192, 222),
    (220, 170, 92),
    (192, 96, 76),
    (200, 176, 218),
    (242, 192, 200),
    (143, 184, 176),
    (232, 228, 218),
]
_ROOFS = [
    (180, 86, 62),
    (90, 106, 124),
    (138, 92, 68),
    (63, 112, 114),
    (154, 74, 88),
]
_TREES = [
    (79, 154, 74),
    (125, 181, 68),
    (47, 125, 92),
    (168, 184, 60),
    (224, 150, 60),
    (232, 160, 184),
    (200, 85, 60),
]
_TRUNKS = [
    (110, 76, 52),
    (138, 106, 76),
    (84, 68, 60),
    (216, 208, 192),
    (122, 80, 56),
]
_CARS = [
    (216, 66, 60),
    (63, 120, 204),
    (240, 196, 64),
    (242, 240, 234),
    (60, 160, 124),
    (232, 124, 48),
    (138, 88, 176),
    (90, 100, 112),
    (80, 184, 216),
]
_CLOTHES = [
    (224, 82, 74),
    (74, 108, 200),
    (240, 200, 80),
    (80, 168, 104),
    (240, 240, 236),
    (232, 138, 176),
    (122, 78, 160),
    (240, 144, 64),
    (64, 176, 176),
    (168, 168, 180),
]
_TROUSERS = [
    (60, 70, 104),
    (90, 90, 96),
    (122, 98, 72),
    (76, 106, 140),
    (168, 152, 120),
]
_SKIN = [
    (255, 222, 196),
    (243, 198, 160),
    (214, 160, 120),
    (160, 110, 78),
    (112, 80, 60),
]


def _palettes(*tables: list[tuple[int, int, int]]) -> list[np.ndarray]:
    return [np.array(table, np.float32) for table in tables]


# The main and the second colours of houses, trees, cars and people.
_MAIN = _palettes(_HOUSES, _TREES, _CARS, _CLOTHES)
_SECOND = _palettes(_ROOFS, _TRUNKS, _ROOFS, _TROUSERS)


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n streets with slots for m objects, class by class as in
    ``THINGS``."""

    valid: Bool[Tensor, "n m"]
    # x and z; of a house where its wall begins and ends along z
    places: Float[Tensor, "n m 2"]
    sides: Float[Tensor, "n m"]  # -1 left of the road, 1 right
    # across and up, relative to the usual; of a house its roof's and its walls' height
    sizes: Float[Tensor, "n m 2"]
    colours: Int[Tensor, "n m 2"]  # main and second, of its class
    tones: Float[Tensor, "n m"]  # brightness, about 1
    # where the street vanishes, in units of the image's side
    centres: Float[Tensor, "n 2"]
    # where the light comes from, from -1 (left) to 1 (right)
    light: Float[Tensor, " n"]
    reach: Float[Tensor, " n"]  # of the shadow that one row of houses casts
    skies: Int[Tensor, " n"]  # into SKIES
    clouds: Float[Tensor, "n 6 4"]  # and hills: place and size in [0, 1)
    patches: Float[Tensor, "n 2"]  # which piece of the photographed ground
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    houses: tuple[int, int] = (6, 8),
    trees: tuple[int, int] = (2, 5),
    cars: tuple[int, int] = (3, 6),
    people: tuple[int, int] = (3, 6),
    skies: Sequence[str] = SKIES,
    noise: int | float = 0.012,
) -> Scene:
    """Draw the factors of ``n`` images; image i does not depend on ``n``.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        houses, trees, cars, people: fewest and most in an image.
        skies: those that may occur, from ``SKIES``.
        noise: standard deviation of the sensor's noise, from 0 to 1.

    Raises:
        ValueError: for an empty or inverted range, more objects than ``THINGS`` has
            slots, a sky that does not exist, ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("noise", (0, noise), 0, 1)
    check_names("skies", skies, SKIES)
    asked = {"houses": houses, "trees": trees, "cars": cars, "people": people}
    valid, colours = [], []
    for kind, most in enumerate(THINGS.values()):
        name = list(asked)[kind]
        fewest, many = asked[name]
        check_range(name, asked[name], 0, most, whole=True)
        rank = draws.uniform(0, 1, most).argsort(1).argsort(1)  # any of its slots
        valid.append(rank < draws.integers(fewest, many + 1, 1))
        main = draws.integers(0, len(_MAIN[kind]), most)
        second = draws.integers(0, len(_SECOND[kind]), most)
        colours.append(torch.stack([main, second], -1))
    layout = _layout(draws)
    n = len(layout.sides)
    return Scene(
        valid=torch.cat(valid, 1),
        places=layout.places,
        sides=layout.sides,
        sizes=layout.sizes,
        colours=torch.cat(colours, 1),
        tones=draws.uniform(0.88, 1.08, len(_SLOT)),
        centres=torch.stack([draws.uniform(0.4, 0.6), draws.uniform(0.38, 0.48)], -1),
        light=draws.uniform(-1, 1),
        reach=draws.uniform(2, 6),
        skies=draws.choose(SKIES, skies),
        clouds=draws.uniform(0, 1, 6, 4),
        patches=draws.uniform(0, 1, 2),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


class _Layout(NamedTuple):
    """Where the objects stand and how large they are, slot by slot."""

    places: Float[Tensor, "n m 2"]
    sides: Float[Tensor, "n m"]
    sizes: Float[Tensor, "n m 2"]


def _either(draws: Draws, count: int) -> Float[Tensor, "n count"]:
    """-1 or 1."""
    return 2.0 * draws.integers(0, 2, count) - 1


def _layout(draws: Draws) -> _Layout:
    # where houses end, four on the left and four on the right
    ends = draws.uniform(7, 9.5, 2, 1) * draws.uniform(1.36, 1.66, 2, 4).cumprod(-1)
    begins = torch.cat([ends[..., :1] / 1.5, ends[..., :3]], -1)
    first_car = draws.uniform(5.4, 8, 2, 1)
    queues = first_car + draws.uniform(2.8, 5.5, 2, 3).cumsum(-1) - 2.8
    n = len(queues)
    lanes = torch.tensor([1.0, 1, 1, -1, -1, -1]).expand(n, 6)
    rows = torch.tensor([-1.0] * 4 + [1.0] * 4).expand(n, 8)
    tree_sides = _either(draws, 5)
    # people come in pairs
    sides = _either(draws, 3).repeat_interleave(2, 1)
    ahead = draws.uniform(5.6, 12, 3).repeat_interleave(2, 1)
    people_z = ahead + draws.uniform(0, 0.5, 6)
    trees_x = tree_sides * draws.uniform(4.4, 5.6, 5)
    cars_x = 1.45 * lanes + draws.uniform(-0.25, 0.25, 6)
    pairs_x = draws.uniform(3.2, 3.7, 3).repeat_interleave(2, 1)
    people_x = sides * (pairs_x + torch.tensor([0.0, 0.56] * 3))
    trees_z = 8 * draws.uniform(0, 1.15, 5).exp()
    x = torch.cat([begins.flatten(1), trees_x, cars_x, people_x], 1)
    z = torch.cat([ends.flatten(1), trees_z, queues.flatten(1), people_z], 1)
    return _Layout(
        places=torch.stack([x, z], -1),
        sides=torch.cat([rows, tree_sides, lanes, sides], 1),
        sizes=_sizes(draws),
    )


def _sizes(draws: Draws) -> Float[Tensor, "n m 2"]:
    """Across and up."""
    people = draws.uniform(0.85, 1.12, 6)  # who is taller is as much wider
    roofs = draws.uniform(0.18, 0.4, 8)
    walls = draws.uniform(4.4, 8.2, 8)
    trees_across = draws.uniform(0.75, 1.15, 5)
    trees_up = draws.uniform(0.85, 1.25, 5)
    cars_across = draws.uniform(0.95, 1.1, 6)
    cars_up = draws.uniform(0.92, 1.3, 6)
    across = torch.cat([roofs, trees_across, cars_across, people], 1)
    up = torch.cat([walls, trees_up, cars_up, people], 1)
    return torch.stack([across, up], -1)


def _polygon(*corners: Sequence[float]) -> np.ndarray:
    """Corners (x, y[, z]) filled up to ``_CORNERS`` by repeating the last."""
    points = np.zeros((len(corners), 3), np.float32)
    for k, corner in enumerate(corners):
        points[k, : len(corner)] = corner
    return np.pad(points, ((0, _CORNERS - len(points)), (0, 0)), "edge")


def _box(
    x0: float,
    y0: float,
    x1: float,
    y1: float,
) -> np.ndarray:
    return _polygon((x0, y0), (x0, y1), (x1, y1), (x1, y0))


def _disc(
    x: float,
    y: float,
    a: float,
    b: float,
) -> np.ndarray:
    turn = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    corners = np.array([x, y]) + np.array([a, b]) * canvas.directions(turn)
    return _polygon(*corners.tolist())


def _pane(
    y0: float,
    z0: float,
    y1: float,
    z1: float,
) -> np.ndarray:
    """A piece of a house's wall along the street."""
    return _polygon((0, y0, z0), (0, y1, z0), (0, y1, z1), (0, y0, z1))


class _Part(NamedTuple):
    """A piece of an object: its ink and outline, and whether it makes the object's
    outer shape, on which the others lie."""

    ink: int
    outline: np.ndarray
    outer: bool = False


# The inks of an object, lit from the left: of its main and of its second colour, dark,
# and two details.
_SHADE, _BODY, _HIGHLIGHT = 0, 1, 2
_SECOND_SHADE, _SECOND_BODY = 3, 4
_DARK, _DETAIL, _OTHER = 5, 6, 7

# x outwards from the street, in the house's depth, y in its walls' height, z along the
# street, in its length.
_GABLE = _polygon((0, 0), (0, 1), (0.5, 1.3), (1, 1), (1, 0))
_CHIMNEY = _polygon(
    (0.45, 1.2, 0.6), (0.45, 1.5, 0.6), (0.45, 1.5, 0.75), (0.45, 1.2, 0.75)
)
_ROOF = _polygon((-0.05, 0.97, 0), (0.5, 1.3, 0), (0.5, 1.3, 1), (-0.05, 0.97, 1))
_HOUSE_PARTS = [
    _Part(_SHADE, _GABLE, outer=True),
    _Part(_SECOND_BODY, _CHIMNEY, outer=True),
    _Part(_SECOND_SHADE, _ROOF, outer=True),
    _Part(_BODY, _pane(0, 0, 1, 1), outer=True),
    _Part(_HIGHLIGHT, _pane(0.94, 0, 1, 1)),
    _Part(_SHADE, _pane(0, 0, 0.09, 1)),
    _Part(_OTHER, _pane(0, 0.42, 0.3, 0.6)),  # the door
    # windows below, then above
    _Part(_DETAIL, _pane(0.14, 0.12, 0.36, 0.12 + 0.2)),
    _Part(_DETAIL, _pane(0.14, 0.7, 0.36, 0.7 + 0.2)),
    _Part(_DETAIL, _pane(0.56, 0.1, 0.82, 0.1 + 0.18)),
    _Part(_DETAIL, _pane(0.56, 0.42, 0.82, 0.42 + 0.18)),
    _Part(_DETAIL, _pane(0.56, 0.72, 0.82, 0.72 + 0.18)),
]
_TREE_PARTS = [
    _Part(_SECOND_SHADE, _box(-0.15, 0, 0.15, 2), outer=True),
    _Part(_SHADE, _disc(0, 3.0, 1.2, 1.15), outer=True),
    _Part(_SHADE, _disc(-0.75, 2.35, 0.75, 0.6), outer=True),
    _Part(_SHADE, _disc(0.75, 2.35, 0.75, 0.6), outer=True),
    _Part(_BODY, _disc(-0.18, 3.05, 0.98, 0.95)),
    _Part(_BODY, _disc(-0.7, 2.45, 0.55, 0.45)),
    _Part(_HIGHLIGHT, _disc(-0.42, 3.4, 0.5, 0.42)),
]
# A car's z leads away from us.
_FLANK = _polygon(
    (-0.9, 0.25, 0), (-0.9, 0.92, 0), (-0.9, 0.85, 3.4), (-0.9, 0.25, 3.4)
)
_SIDE_WINDOW = _polygon(
    (-0.72, 0.9, 0.2), (-0.58, 1.42, 0.5), (-0.58, 1.42, 2.0), (-0.72, 0.9, 2.4)
)
_FRONT = _polygon(
    (-0.9, 0.26), (-0.94, 0.75), (-0.84, 0.95), (0.84, 0.95), (0.94, 0.75), (0.9, 0.26)
)
_CABIN = _polygon((-0.76, 0.9), (-0.58, 1.42, 0.4), (0.58, 1.42, 0.4), (0.76, 0.9))
_TOP = _polygon(
    (-0.58, 1.42, 0.4), (-0.58, 1.44, 2.0), (0.58, 1.44, 2.0), (0.58, 1.42, 0.4)
)
_PANE = _polygon((-0.62, 0.96), (-0.5, 1.34, 0.3), (0.5, 1.34, 0.3), (0.62, 0.96))
_CAR_PARTS = [
    _Part(_DARK, _box(-0.86, 0, -0.86 + 0.36, 0.4), outer=True),  # wheels
    _Part(_DARK, _box(0.5, 0, 0.5 + 0.36, 0.4), outer=True),
    _Part(_SHADE, _FLANK, outer=True),
    _Part(_DARK, _SIDE_WINDOW, outer=True),
    _Part(_BODY, _FRONT, outer=True),
    _Part(_BODY, _CABIN, outer=True),
    _Part(_HIGHLIGHT, _TOP, outer=True),
    _Part(_DETAIL, _PANE),
    _Part(_SHADE, _box(-0.9, 0.26, 0.9, 0.45)),
    _Part(_HIGHLIGHT, _box(-0.84, 0.82, 0.84, 0.92)),
    _Part(_OTHER, _box(-0.86, 0.55, -0.86 + 0.26, 0.76)),  # lamps
    _Part(_OTHER, _box(0.6, 0.55, 0.6 + 0.26, 0.76)),
]
_TORSO = _polygon(
    (-0.32, 0.72),
    (-0.36, 1.32),
    (-0.22, 1.46),
    (0.22, 1.46),
    (0.36, 1.32),
    (0.32, 0.72),
)
_DARK_ARM = _polygon((0.1, 0.72), (0.14, 1.4), (0.24, 1.44), (0.36, 1.32), (0.32, 0.72))
_LIT_ARM = _polygon(
    (-0.3, 0.9), (-0.33, 1.3), (-0.2, 1.43), (-0.12, 1.43), (-0.16, 0.9)
)
_PERSON_PARTS = [
    _Part(_SECOND_SHADE, _box(0.0, 0, 0.2, 0.85), outer=True),
    _Part(_SECOND_BODY, _box(-0.2, 0, 0.0, 0.85), outer=True),
    _Part(_BODY, _TORSO, outer=True),
    _Part(_SHADE, _DARK_ARM),
    _Part(_HIGHLIGHT, _LIT_ARM),
    _Part(_DARK, _disc(0, 1.72, 0.23, 0.24), outer=True),  # hair
    _Part(_DETAIL, _disc(-0.02, 1.65, 0.19, 0.2), outer=True),  # face
]
# Of each kind, in drawing order.
_PARTS = [_HOUSE_PARTS, _TREE_PARTS, _CAR_PARTS, _PERSON_PARTS]
_OUTER = [[part for part in parts if part.outer] for parts in _PARTS]
# Inks of the ground, and the class that each shows.
_CLOUD, _HILL, _GRASS, _PAVED, _TAR, _LINE, _OUTLINE = 1, 2, 3, 4, 5, 6, 255
_DARK_GRASS, _DARK_PAVED, _DARK_TAR = 7, 8, 9  # in shadow
# in the order of the inks, from 0, which is see-through
_GROUND = np.array(
    [
        (0, 0, 0),
        (255, 255, 255),
        (134, 180, 138),
        (140, 192, 96),
        (224, 210, 188),
        (138, 138, 150),
        (244, 240, 228),
        (92, 140, 80),
        (164, 154, 160),
        (98, 98, 122),
    ],
    np.float32,
)
_STUFF = (0, 0, 1, 1, 2, 3, 3, 1, 2, 3)
# The object that an ink shows, counted from 1, and its class.
_OWNER = np.zeros(256, np.uint8)
_OWNER[_FIRST:_LAST] = np.repeat(np.arange(1, len(_SLOT) + 1), _EACH)
_CLASS = np.zeros(256, np.int64)
_CLASS[: len(_STUFF)] = _STUFF
_CLASS[_FIRST:_LAST] = 4 + np.repeat(_SLOT, _EACH)
# What lies behind the objects, in drawing order; under trees, cars and people are their
# own shadows.
_BEHIND = [_CLOUD, _CLOUD, _CLOUD, _HILL, _HILL, _HILL]
_BEHIND += [_GRASS, _PAVED, _TAR]
_BEHIND += [_LINE, _LINE, _LINE, _LINE]
_BEHIND += [_DARK_GRASS, _DARK_PAVED, _DARK_TAR]
_SHADOW = {_TREE: _DARK_GRASS, _CAR: _DARK_TAR, _PERSON: _DARK_PAVED}
_BEHIND += [_SHADOW[kind] for kind in _SLOT[8:].tolist()]


def _project(
    scene: Scene,
    points: np.ndarray,
    size: int,
) -> np.ndarray:
    """Points (n, ..., 3) in metres -> fixed-point positions (n, ..., 2)."""
    ones = [1] * (points.ndim - 2)
    centre = scene.centres.numpy().reshape(-1, *ones, 2)
    x, y, z = points[..., 0], points[..., 1], points[..., 2:]
    flat = np.stack([x, EYE - y], -1) * (FOCAL / z)
    return canvas.fixed((centre + flat) * np.float32(size))


def _each(values: Tensor, mine: slice) -> np.ndarray:
    """A factor of the slots of one kind, to be stretched over parts and corners."""
    return values.numpy()[:, mine, ..., None, None]


def _house_corners(
    scene: Scene,
    mine: slice,
    outlines: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = np.moveaxis(outlines, -1, 0)
    begins = _each(scene.places[..., 0], mine)
    ends = _each(scene.places[..., 1], mine)
    roof = _each(scene.sizes[..., 0], mine)
    walls = _each(scene.sizes[..., 1], mine)
    height = np.where(y > 1, 1 + (y - 1) * roof * (10 / 3), y)
    across = _each(scene.sides, mine) * (_WALL + _DEEP * x)
    return across, height * walls, begins + z * (ends - begins)


def _other_corners(
    scene: Scene,
    kind: int,
    mine: slice,
    outlines: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = np.moveaxis(outlines, -1, 0)
    # The car's side that we see is the one towards the middle; all else is lit by the
    # scene's light.
    if kind == _CAR:
        turn = _each(scene.sides, mine)
    else:
        light = scene.light.numpy()[:, None, None, None]
        turn = np.where(light > 0, -1.0, 1.0)
    across = _each(scene.sizes[..., 0], mine)
    up = _each(scene.sizes[..., 1], mine)
    place_x = _each(scene.places[..., 0], mine)
    place_z = _each(scene.places[..., 1], mine)
    return place_x + turn * x * across, y * up, place_z + z


def _objects(
    scene: Scene,
    size: int,
    kinds: list[list[_Part]],
) -> list[np.ndarray]:
    """Of each slot, the polygons of its kind's parts: (n, parts, corners, 2), fixed
    point."""
    found: list[np.ndarray] = []
    for kind, mine in enumerate(_SLOTS):
        outlines = np.stack([part.outline for part in kinds[kind]])
        if kind == _HOUSE:
            points = _house_corners(scene, mine, outlines)
        else:
            points = _other_corners(scene, kind, mine, outlines)
        # (n, slots, parts, corners, 3)
        corners = np.stack(np.broadcast_arrays(*points), -1).astype(np.float32)
        found.extend(_project(scene, corners, size).swapaxes(0, 1))
    return found


def _strip(
    x0: np.ndarray | float,
    x1: np.ndarray | float,
    z0: float,
    z1: float,
    n: int,
) -> np.ndarray:
    """A piece of ground between x0 and x1: (n, corners, 3)."""
    left = np.broadcast_to(np.asarray(x0, np.float32), n)
    right = np.broadcast_to(np.asarray(x1, np.float32), n)
    x = np.stack([left, left, right, right], 1)
    z = np.broadcast_to(np.array([z0, z1, z1, z0], np.float32), (n, 4))
    corners = np.stack([x, 0 * x, z], -1)
    return np.pad(corners, ((0, 0), (0, _CORNERS - 4), (0, 0)), "edge")


_ROUND = _disc(0, 0, 1, 1)[:, :2]


def _domes(scene: Scene, size: int) -> np.ndarray:
    """Three clouds and three hills."""
    x, y, wide, tall = scene.clouds.numpy().transpose(2, 0, 1)
    horizon = scene.centres.numpy()[:, 1:]
    hills = np.arange(6) > 2
    height = np.where(hills, horizon + 0.02, horizon * (0.1 + 0.6 * y))
    middle = np.stack([1.4 * x - 0.2, height], -1)
    across = 0.08 + 0.12 * wide + 0.12 * hills
    up = 0.02 + 0.03 * tall + 0.05 * hills * (0.5 + tall)
    reach = np.stack([across, up], -1)
    return canvas.fixed((middle[:, :, None] + reach[:, :, None] * _ROUND) * size)


def _ground(scene: Scene) -> list[np.ndarray]:
    """Grass, pavement, the road and its lines, and a row of houses' shadow."""
    n = len(scene)
    pieces = [_strip(-edge, edge, 3.0, FAR, n) for edge in (2 * FAR, _PAVEMENT, _ROAD)]
    for start in (4.5, 7.5, 11.5, 17.0):
        pieces.append(_strip(-0.09, 0.09, start, 1.3 * start, n))
    # the row on the light's side stands in its own shadow, and casts it
    dark = -np.sign(scene.light.numpy() + 1e-6)
    edge = _WALL - scene.reach.numpy()
    for outer, inner in ((_WALL, _PAVEMENT), (_PAVEMENT, _ROAD), (_ROAD, -1.0)):
        until = np.clip(edge, inner, outer)
        pieces.append(_strip(-dark * outer, -dark * until, 3.0, 40.0, n))
    return pieces


# Half width and depth of the shadows under a tree, a car and a person.
_WIDE = np.array([1.3, 1.1, 0.42])
_LONG = np.array([0.9, 2.2, 0.35])


def _shadows(scene: Scene) -> np.ndarray:
    """Under trees, cars and people."""
    x, z = scene.places.numpy()[:, 8:].transpose(2, 0, 1)
    kinds = _SLOT[8:] - 1
    wide, deep = _WIDE[kinds], _LONG[kinds]
    across = wide[:, None] * _ROUND[:, 0]
    along = deep[:, None] * _ROUND[:, 1]
    lying = np.stack([across, np.zeros_like(across), along], -1)
    aside = x - 0.25 * scene.light.numpy()[:, None]
    where = np.stack([aside, 0 * x, z + deep - 0.35], -1)
    there = scene.valid.numpy()[:, 8:, None]
    # what is not there lies far behind us
    where = np.where(there, where, (0.0, 0.0, -1e4))
    return (where[:, :, None] + lying).astype(np.float32)


def _scenery(scene: Scene, size: int) -> np.ndarray:
    """The clouds, hills, ground, the row's shadow and the objects' own, one polygon for
    each ink of ``_BEHIND``."""
    ground = np.stack(_ground(scene), 1)
    lying = np.concatenate([ground, _shadows(scene)], 1)
    return np.concatenate([_domes(scene, size), _project(scene, lying, size)], 1)


def _inks(kinds: list[list[_Part]]) -> list[list[int]]:
    """Of each slot, the inks of its kind's parts."""
    inks = []
    for slot, kind in enumerate(_SLOT):
        first = _FIRST + _EACH * slot
        inks.append([first + part.ink for part in kinds[kind]])
    return inks


def _draw_inks(
    scene: Scene,
    size: int,
    solid: bool,
) -> Iterator[np.ndarray]:
    """Each image's map of inks, without the outlines; ``solid`` leaves out what lies on
    other parts of an object."""
    kinds = _OUTER if solid else _PARTS
    scenery = _scenery(scene, size)
    polygons = _objects(scene, size, kinds)
    inks = _inks(kinds)
    # houses first, else from far to near
    distance = np.where(_SLOT == _HOUSE, 1e3, 0) + scene.places.numpy()[..., 1]
    orders = (-distance).argsort(1).tolist()
    valid = scene.valid.tolist()
    for i, order in enumerate(orders):
        drawn = canvas.stamp(canvas.blank(size), scenery[i], _BEHIND)
        for slot in order:
            if valid[i][slot]:
                canvas.stamp(drawn, polygons[slot][i], inks[slot])
        yield drawn


@lru_cache(maxsize=8)
def _gravel(size: int) -> np.ndarray:
    """The ground's texture, twice as large as a picture."""
    stones = photos.load("gravel").permute(1, 2, 0).numpy()
    twice = (2 * size, 2 * size)
    small = cv2.resize(stones, twice, interpolation=cv2.INTER_AREA)
    return (255 * small).astype(np.uint8)


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: sky, ground and shadows, objects from far to near, and a dark
    line around each."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    tables = _tables(scene)
    paint = np.empty((n, size, size, 4), np.uint8)
    # lines one 64th of the picture wide
    width = round(size * OVER / 48)
    brush = np.ones((width, width), np.uint8)
    for i, inks in enumerate(_draw_inks(scene, size, solid=False)):
        owners = cv2.LUT(inks, _OWNER)
        border = cv2.morphologyEx(owners, cv2.MORPH_GRADIENT, brush)
        line = cv2.compare(border, 0, cv2.CMP_GT)  # 255 is _OUTLINE
        paint[i] = canvas.colour(cv2.max(inks, line), tables[i])
    camera = Camera(_GAIN[scene.skies], torch.ones(n), scene.noise, scene.grain)
    canvas.photograph(paint, _backdrop(scene, size), camera, out)


def _backdrop(scene: Scene, size: int) -> np.ndarray:
    """The sky above the horizon, gravel below; uint8."""
    down = (np.arange(size) + 0.5) / size / scene.centres[:, 1:].numpy()
    height = down.astype(np.float32)[:, :, None, None]
    top = _SKY_TOP[scene.skies.numpy()][:, None, None]
    low = _SKY_LOW[scene.skies.numpy()][:, None, None]
    sky = (top + (low - top) * height.clip(0, 1)).astype(np.uint8)
    stones = np.empty((len(scene), size, size, 3), np.uint8)
    corners = (scene.patches * size).int().tolist()
    for i, (row, column) in enumerate(corners):
        rows, columns = slice(row, row + size), slice(column, column + size)
        stones[i] = _gravel(size)[rows, columns]
    return np.where(height < 1, sky, stones)


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n = len(scene)
    colours = np.zeros((n, 256, 3), np.float32)
    colours[:, : len(_GROUND)] = _GROUND
    colours[:, _OUTLINE] = (46, 38, 50)
    alpha = np.ones(256)
    alpha[: len(_GROUND)] = 0.84  # the ground's grain shines through
    alpha[[0, _CLOUD, _HILL]] = 0, 0.7, 0.85
    objects = colours[:, _FIRST:_LAST].reshape(n, len(_SLOT), _EACH, 3)  # a view
    main, second = scene.colours.numpy().transpose(2, 0, 1)
    tones = scene.tones.numpy()[..., None]
    for kind, mine in enumerate(_SLOTS):
        body = _MAIN[kind][main[:, mine]] * tones[:, mine]
        other = _SECOND[kind][second[:, mine]]
        own = objects[:, mine]
        own[:, :, :3] = body[:, :, None] * LIGHT
        own[:, :, 3:5] = other[:, :, None] * LIGHT[:2]
        own[:, :, _DARK] = (70, 62, 70)
        own[:, :, _DETAIL] = (150, 178, 200)  # glass
    houses, cars, people = (objects[:, _SLOTS[k]] for k in (_HOUSE, _CAR, _PERSON))
    _light_houses(scene, houses)
    # A car's lamps are white where it comes towards us, on the left.
    coming = scene.sides.numpy()[:, _SLOTS[_CAR]] < 0
    lamps = np.array([(210, 70, 60), (255, 240, 190)])
    cars[:, :, _OTHER] = lamps[coming.astype(int)]
    clothes = main[:, _SLOTS[_PERSON]]
    hair = 0.55 * np.array(_TRUNKS, np.float32)
    people[:, :, _DARK] = hair[clothes % 4]
    people[:, :, _DETAIL] = np.array(_SKIN, np.float32)[clothes * 3 % 5]
    return canvas.plain_inkwell(colours, alpha)


def _light_houses(scene: Scene, houses: np.ndarray) -> None:
    """Paint doors. Walls that face the light are bright, those of the other row lie in
    a cool shade; in the evening lamps burn in some."""
    mine = _SLOTS[_HOUSE]
    main, second = scene.colours.numpy()[:, mine].transpose(2, 0, 1)
    houses[:, :, _OTHER] = 0.72 * _SECOND[_HOUSE][second]
    facing = scene.sides.numpy()[:, mine] * scene.light.numpy()[:, None]
    shade = np.where(facing > 0, 1.0, 0.0)[..., None, None]
    houses *= 1.04 - shade * np.array([0.26, 0.23, 0.15])
    evening = (scene.skies == SKIES.index("evening")).numpy()
    home = evening[:, None] & ((main + second) % 2 == 0)
    houses[home, _DETAIL] = (255, 222, 130)


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the
    pixels' centres.

    Returns:
        ``labels`` (n, h, w) into CLASSES; ``instances`` (n, h, w): the object's slot +
        4, and the class where there is sky or ground; ``depth`` (n, h, w) in metres
        along z, FAR in the sky; ``areas`` (n, m), how many pixels of each slot's object
        are seen.
    """
    side = check_size(size)
    drawn = _draw_inks(scene, side, solid=True)
    inks = np.stack([canvas.at_centres(one) for one in drawn])
    owner = _OWNER[inks].astype(np.int64)
    labels = _CLASS[inks]
    slots = 1 + len(_SLOT)
    areas = [np.bincount(one.ravel(), minlength=slots)[1:] for one in owner]
    instances = np.where(owner > 0, owner + 3, labels)
    depth = _depth(scene, owner, labels)
    return {
        "labels": torch.from_numpy(labels),
        "instances": torch.from_numpy(instances),
        "depth": torch.from_numpy(depth.astype(np.float32)),
        "areas": torch.from_numpy(np.stack(areas)),
    }


def largest(truth: Mapping[str, Tensor], kind: str) -> Int[Tensor, " n"]:
    """The slot of the object of a kind of which most is seen, in each image.

    Args:
        truth: from ``annotate``.
        kind: one of THINGS.

    Raises:
        ValueError: for another kind.
    """
    expect(kind in THINGS, f"a kind from {list(THINGS)}", kind)
    mine = _SLOTS[list(THINGS).index(kind)]
    return truth["areas"][:, mine].argmax(1) + mine.start


def _depth(
    scene: Scene,
    owner: Int[np.ndarray, "n h w"],
    labels: Int[np.ndarray, "n h w"],
) -> Float[np.ndarray, "n h w"]:
    """The distance of what each pixel shows, along z."""
    size = owner.shape[-1]
    axis = canvas.centres(size)
    centre_x, centre_y = scene.centres.numpy().T
    across = (axis - centre_x[:, None])[:, None]
    below = (axis - centre_y[:, None])[:, :, None]
    far = FOCAL * EYE / np.maximum(below, 1e-6)
    ground = np.where(below > FOCAL * EYE / FAR, far, FAR)
    # of each object, after zeros for none
    places = np.pad(scene.places.numpy(), ((0, 0), (1, 0), (0, 0)))
    image = np.arange(len(scene))[:, None, None]
    x, z = np.moveaxis(places[image, owner], -1, 0)
    # between where it begins and ends
    met = FOCAL * _WALL / np.maximum(np.abs(across), 1e-6)
    wall = np.clip(met, x, z)
    stuff = np.where(labels == CLASSES.index("sky"), FAR, ground)
    thing = np.where(labels == CLASSES.index("house"), wall, z)
    return np.where(owner == 0, stuff, thing)
