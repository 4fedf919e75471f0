"""The world `streets`: a drawn street in perspective, with every pixel's class, object
and distance known.

Rows of houses, trees, queues of cars and people touch and hide others of their own
class; each has its own colours, and a thin dark line runs where objects meet. Lengths
are metres: x to the right of the road's middle, y up, z away from us.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

CLASSES = ("sky", "grass", "pavement", "road", "house", "tree", "car", "person")
# the most of each in an image: their slots
THINGS = dict(zip(CLASSES[4:], (8, 5, 6, 6), strict=True))
SKIES = ("noon", "morning", "evening", "grey")
# image sides; height of the camera; distance of the sky
FOCAL, EYE, FAR = 1.1, 2.6, 200.0
# half widths of the street, and how deep a house is
_ROAD, _PAVEMENT, _WALL, _DEEP = 2.9, 4.3, 6.2, 7.0
# inks before the objects', inks of an object, corners of every polygon
_FIRST, _EACH, _CORNERS = 16, 8, 10
_SLOT = np.repeat(np.arange(4), list(THINGS.values()))  # kind of each slot
# of each kind
_SLOTS = [slice(*np.searchsorted(_SLOT, [kind, kind + 1])) for kind in range(4)]
_LAST = _FIRST + _EACH * len(_SLOT)  # the ink after the objects'

_SKY_TOP = np.array(
    [(92, 156, 224), (142, 186, 222), (98, 98, 164), (164, 174, 188)], np.float32
)
_SKY_LOW = np.array(
    [(212, 232, 244), (254, 226, 194), (252, 190, 138), (216, 220, 224)], np.float32
)
_GAIN = torch.tensor(
    [[1.04, 1.03, 1.0], [1.05, 1.0, 0.95], [1.02, 0.9, 0.86], [0.92, 0.95, 0.99]]
)
_HOUSES = "f0e0b8 e89a84 a8cfa6 9cc0de dcaa5c c0604c c8b0da f2c0c8 8fb8b0 e8e4da"
_ROOFS = "b4563e 5a6a7c 8a5c44 3f7072 9a4a58"
_TREES = "4f9a4a 7db544 2f7d5c a8b83c e0963c e8a0b8 c8553c"
_TRUNKS = "6e4c34 8a6a4c 54443c d8d0c0 7a5038"
_CARS = "d8423c 3f78cc f0c440 f2f0ea 3ca07c e87c30 8a58b0 5a6470 50b8d8"
_CLOTHES = "e0524a 4a6cc8 f0c850 50a868 f0f0ec e88ab0 7a4ea0 f09040 40b0b0 a8a8b4"
_TROUSERS = "3c4668 5a5a60 7a6248 4c6a8c a89878"
_SKIN = "ffdec4 f3c6a0 d6a078 a06e4e 70503c"


def _colours(words: str) -> np.ndarray:
    return np.array([tuple(bytes.fromhex(word)) for word in words.split()], np.float32)


_MAIN = [_colours(words) for words in (_HOUSES, _TREES, _CARS, _CLOTHES)]
_SECOND = [_colours(words) for words in (_ROOFS, _TRUNKS, _ROOFS, _TROUSERS)]


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
    n: int,
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
        noise: standard deviation of the sensor's noise.

    Raises:
        ValueError: for an empty or inverted range, more objects than ``THINGS`` has
            slots, a sky that does not exist, ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("noise", (0, noise), 0)
    expect(skies and set(skies) <= set(SKIES), f"skies from {SKIES}", tuple(skies))
    valid, colours = [], []
    asked = {"houses": houses, "trees": trees, "cars": cars, "people": people}
    for kind, ((name, bounds), most) in enumerate(
        zip(asked.items(), THINGS.values(), strict=True)
    ):
        check_range(name, bounds, 0, most)
        rank = draws.uniform(0, 1, most).argsort(1).argsort(1)  # any of its slots
        valid.append(rank < draws.integers(bounds[0], bounds[1] + 1, 1))
        choices = len(_MAIN[kind]), len(_SECOND[kind])
        colours.append(
            torch.stack([draws.integers(0, count, most) for count in choices], -1)
        )

    # where houses end, left and right
    row = draws.uniform(7, 9.5, 2, 1) * draws.uniform(1.36, 1.66, 2, 4).cumprod(-1)
    before = torch.cat([row[..., :1] / 1.5, row[..., :3]], -1)
    queue = draws.uniform(5.4, 8, 2, 1) + draws.uniform(2.8, 5.5, 2, 3).cumsum(-1) - 2.8
    lane = torch.tensor([1.0, 1, 1, -1, -1, -1])
    side = torch.cat(
        [
            torch.tensor([-1.0] * 4 + [1.0] * 4).expand(n, 8),
            2.0 * draws.integers(0, 2, 5) - 1,
        ],
        1,
    )
    # people come in pairs
    friends = (2.0 * draws.integers(0, 2, 3) - 1).repeat_interleave(2, 1)
    standing = draws.uniform(5.6, 12, 3).repeat_interleave(2, 1) + draws.uniform(
        0, 0.5, 6
    )
    x = [
        before.flatten(1),
        side[:, 8:] * draws.uniform(4.4, 5.6, 5),
        1.45 * lane + draws.uniform(-0.25, 0.25, 6),
    ]
    x.append(
        friends
        * (
            draws.uniform(3.2, 3.7, 3).repeat_interleave(2, 1)
            + torch.tensor([0.0, 0.56] * 3)
        )
    )
    z = [
        row.flatten(1),
        8 * draws.uniform(0, 1.15, 5).exp(),
        queue.flatten(1),
        standing,
    ]
    tall = draws.uniform(0.85, 1.12, 6)  # people, who are as much wider
    sizes = [
        draws.uniform(0.18, 0.4, 8),
        draws.uniform(4.4, 8.2, 8),
        draws.uniform(0.75, 1.15, 5),
    ]
    sizes += [
        draws.uniform(0.85, 1.25, 5),
        draws.uniform(0.95, 1.1, 6),
        draws.uniform(0.92, 1.3, 6),
        tall,
        tall,
    ]
    return Scene(
        valid=torch.cat(valid, 1),
        places=torch.stack([torch.cat(x, 1), torch.cat(z, 1)], -1),
        sides=torch.cat([side, lane.expand(n, 6), friends], 1),
        sizes=torch.stack([torch.cat(sizes[::2], 1), torch.cat(sizes[1::2], 1)], -1),
        colours=torch.cat(colours, 1),
        tones=draws.uniform(0.88, 1.08, len(_SLOT)),
        centres=torch.stack([draws.uniform(0.4, 0.6), draws.uniform(0.38, 0.48)], -1),
        light=draws.uniform(-1, 1),
        reach=draws.uniform(2, 6),
        skies=torch.tensor([SKIES.index(s) for s in skies])[
            draws.integers(0, len(skies))
        ],
        clouds=draws.uniform(0, 1, 6, 4),
        patches=draws.uniform(0, 1, 2),
        noise=torch.full((n,), float(noise)),
        grain=draws.integers(0, 64, 2),
    )


def _polygon(corners: Sequence[Sequence[float]]) -> np.ndarray:
    """Corners (x, y[, z]) filled up to ``_CORNERS`` by repeating the last."""
    points = np.array([(*corner, 0.0)[:3] for corner in corners], np.float32)
    return np.pad(points, ((0, _CORNERS - len(points)), (0, 0)), "edge")


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return _polygon([(x0, y0), (x0, y1), (x1, y1), (x1, y0)])


def _disc(x: float, y: float, a: float, b: float) -> np.ndarray:
    turn = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    return _polygon(np.stack([x + a * np.cos(turn), y + b * np.sin(turn)], 1).tolist())


def _pane(y0: float, z0: float, y1: float, z1: float) -> np.ndarray:
    return _polygon([(0, y0, z0), (0, y1, z0), (0, y1, z1), (0, y0, z1)])


# Of each kind, in drawing order: an ink (0-2 shade, body and highlight of the main
# colour, 3-4 shade and body of the second, 5 dark, 6-7 details) and a polygon, lit from
# the left. In the car's the third axis leads away from us; the house's are x outwards
# from the street, in its depth, y in its walls' height and z along the street, in its
# length.
_PARTS = [
    [
        (0, _polygon([(0, 0, 0), (0, 1, 0), (0.5, 1.3, 0), (1, 1, 0), (1, 0, 0)])),
        (
            4,
            _polygon(
                [
                    (0.45, 1.2, 0.6),
                    (0.45, 1.5, 0.6),
                    (0.45, 1.5, 0.75),
                    (0.45, 1.2, 0.75),
                ]
            ),
        ),
        (
            3,
            _polygon(
                [(-0.05, 0.97, 0), (0.5, 1.3, 0), (0.5, 1.3, 1), (-0.05, 0.97, 1)]
            ),
        ),
        (1, _pane(0, 0, 1, 1)),
        (2, _pane(0.94, 0, 1, 1)),
        (0, _pane(0, 0, 0.09, 1)),
        (7, _pane(0, 0.42, 0.3, 0.6)),
        *((6, _pane(0.14, z, 0.36, z + 0.2)) for z in (0.12, 0.7)),
        *((6, _pane(0.56, z, 0.82, z + 0.18)) for z in (0.1, 0.42, 0.72)),
    ],
    [
        (3, _box(-0.15, 0, 0.15, 2)),
        *(
            (0, _disc(*where))
            for where in (
                (0, 3.0, 1.2, 1.15),
                (-0.75, 2.35, 0.75, 0.6),
                (0.75, 2.35, 0.75, 0.6),
            )
        ),
        (1, _disc(-0.18, 3.05, 0.98, 0.95)),
        (1, _disc(-0.7, 2.45, 0.55, 0.45)),
        (2, _disc(-0.42, 3.4, 0.5, 0.42)),
    ],
    [
        *((5, _box(x, 0, x + 0.36, 0.4)) for x in (-0.86, 0.5)),
        (
            0,
            _polygon(
                [(-0.9, 0.25, 0), (-0.9, 0.92, 0), (-0.9, 0.85, 3.4), (-0.9, 0.25, 3.4)]
            ),
        ),
        (
            5,
            _polygon(
                [
                    (-0.72, 0.9, 0.2),
                    (-0.58, 1.42, 0.5),
                    (-0.58, 1.42, 2.0),
                    (-0.72, 0.9, 2.4),
                ]
            ),
        ),
        (
            1,
            _polygon(
                [
                    (-0.9, 0.26),
                    (-0.94, 0.75),
                    (-0.84, 0.95),
                    (0.84, 0.95),
                    (0.94, 0.75),
                    (0.9, 0.26),
                ]
            ),
        ),
        (
            1,
            _polygon(
                [(-0.76, 0.9), (-0.58, 1.42, 0.4), (0.58, 1.42, 0.4), (0.76, 0.9)]
            ),
        ),
        (
            2,
            _polygon(
                [
                    (-0.58, 1.42, 0.4),
                    (-0.58, 1.44, 2.0),
                    (0.58, 1.44, 2.0),
                    (0.58, 1.42, 0.4),
                ]
            ),
        ),
        (
            6,
            _polygon(
                [(-0.62, 0.96), (-0.5, 1.34, 0.3), (0.5, 1.34, 0.3), (0.62, 0.96)]
            ),
        ),
        (0, _box(-0.9, 0.26, 0.9, 0.45)),
        (2, _box(-0.84, 0.82, 0.84, 0.92)),
        *((7, _box(x, 0.55, x + 0.26, 0.76)) for x in (-0.86, 0.6)),
    ],
    [
        (3, _box(0.0, 0, 0.2, 0.85)),
        (4, _box(-0.2, 0, 0.0, 0.85)),
        (
            1,
            _polygon(
                [
                    (-0.32, 0.72),
                    (-0.36, 1.32),
                    (-0.22, 1.46),
                    (0.22, 1.46),
                    (0.36, 1.32),
                    (0.32, 0.72),
                ]
            ),
        ),
        (
            0,
            _polygon(
                [(0.1, 0.72), (0.14, 1.4), (0.24, 1.44), (0.36, 1.32), (0.32, 0.72)]
            ),
        ),
        (
            2,
            _polygon(
                [(-0.3, 0.9), (-0.33, 1.3), (-0.2, 1.43), (-0.12, 1.43), (-0.16, 0.9)]
            ),
        ),
        (5, _disc(0, 1.72, 0.23, 0.24)),
        (6, _disc(-0.02, 1.65, 0.19, 0.2)),
    ],
]
# Parts that make the outer shape: what the others lie on.
_SOLID = [(0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 5, 6)]
_OUTER = [
    [parts[k] for k in solid] for parts, solid in zip(_PARTS, _SOLID, strict=True)
]
# Inks of the ground, and the class that each shows.
_CLOUD, _HILL, _GRASS, _PAVED, _TAR, _LINE, _OUTLINE = 1, 2, 3, 4, 5, 6, 255
_DARK_GRASS, _DARK_PAVED, _DARK_TAR = 7, 8, 9  # in shadow
_GROUND = _colours(
    "000000 ffffff 86b48a 8cc060 e0d2bc 8a8a96 f4f0e4 5c8c50 a49aa0 62627a"
)
_STUFF = np.array([0, 0, 1, 1, 2, 3, 3, 1, 2, 3], np.int64)
# The object that an ink shows, counted from 1, and its class.
_OWNER = np.pad(
    np.repeat(np.arange(1, len(_SLOT) + 1), _EACH), (_FIRST, 256 - _LAST)
).astype(np.uint8)
_CLASS = np.pad(
    np.concatenate([np.pad(_STUFF, (0, 6)), 4 + np.repeat(_SLOT, _EACH)]),
    (0, 256 - _LAST),
)
# What lies behind the objects, in drawing order; under trees, cars and people are their
# own shadows.
_BEHIND = (
    [_CLOUD] * 3
    + [_HILL] * 3
    + [_GRASS, _PAVED, _TAR]
    + [_LINE] * 4
    + [_DARK_GRASS, _DARK_PAVED, _DARK_TAR]
)
_BEHIND += [(_DARK_GRASS, _DARK_TAR, _DARK_PAVED)[kind - 1] for kind in _SLOT[8:]]


def _project(scene: Scene, points: np.ndarray, size: int) -> np.ndarray:
    """Points (n, ..., 3) in metres -> fixed-point positions (n, ..., 2)."""
    centre = scene.centres.numpy().reshape(-1, *[1] * (points.ndim - 2), 2)
    flat = np.stack([points[..., 0], EYE - points[..., 1]], -1) * (
        FOCAL / points[..., 2:]
    )
    return canvas.fixed((centre + flat) * np.float32(size))


def _objects(
    scene: Scene, size: int, kinds: list[list[tuple[int, np.ndarray]]]
) -> list[np.ndarray]:
    """Of each slot, the polygons of its kind's parts: (n, parts, corners, 2), fixed
    point."""
    found: list[np.ndarray] = []
    for kind, (parts, mine) in enumerate(zip(kinds, _SLOTS, strict=True)):
        first, second = scene.places.numpy()[:, mine].transpose(2, 0, 1)[
            ..., None, None
        ]
        across, up = scene.sizes.numpy()[:, mine].transpose(2, 0, 1)[..., None, None]
        side = scene.sides.numpy()[:, mine][..., None, None]
        x, y, z = np.moveaxis(np.stack([shape for _, shape in parts]), -1, 0)
        if kind == 0:
            roof = np.where(y > 1, 1 + (y - 1) * across * (10 / 3), y)
            points = side * (_WALL + _DEEP * x), roof * up, first + z * (second - first)
        else:
            # The car's side that we see is the one towards the middle; all else is lit
            # by the scene's light.
            turn = (
                side
                if kind == 2
                else np.where(scene.light.numpy()[:, None, None, None] > 0, -1.0, 1.0)
            )
            points = first + turn * x * across, y * up, second + z
        # (n, slots, parts, corners, 3)
        corners = np.stack(np.broadcast_arrays(*points), -1).astype(np.float32)
        found.extend(_project(scene, corners, size).swapaxes(0, 1))
    return found


def _strip(
    x0: np.ndarray | float, x1: np.ndarray | float, z0: float, z1: float, n: int
) -> np.ndarray:
    """A piece of ground between x0 and x1: (n, corners, 3)."""
    a, b = (np.broadcast_to(np.asarray(x, np.float32), n) for x in (x0, x1))
    x, z = (
        np.stack([a, a, b, b], 1),
        np.broadcast_to(np.array([z0, z1, z1, z0], np.float32), (n, 4)),
    )
    return np.stack([x, 0 * x, z], -1)[:, [0, 1, 2, 3] + [3] * (_CORNERS - 4)]


def _scenery(scene: Scene, size: int) -> np.ndarray:
    """The clouds, hills, ground, the row's shadow and the objects' own, one polygon for
    each ink of ``_BEHIND``."""
    n = len(scene)
    x, y, wide, tall = scene.clouds.numpy().transpose(2, 0, 1)
    horizon, hills = scene.centres.numpy()[:, 1:], np.arange(6) > 2
    middle = np.stack(
        [1.4 * x - 0.2, np.where(hills, horizon + 0.02, horizon * (0.1 + 0.6 * y))], -1
    )
    reach = np.stack(
        [
            0.08 + 0.12 * wide + 0.12 * hills,
            0.02 + 0.03 * tall + 0.05 * hills * (0.5 + tall),
        ],
        -1,
    )
    round_ = _disc(0, 0, 1, 1)[:, :2]
    domes = canvas.fixed((middle[:, :, None] + reach[:, :, None] * round_) * size)
    pieces = [_strip(-edge, edge, 3.0, FAR, n) for edge in (2 * FAR, _PAVEMENT, _ROAD)]
    pieces += [
        _strip(-0.09, 0.09, start, 1.3 * start, n) for start in (4.5, 7.5, 11.5, 17.0)
    ]
    # the row on the light's side stands in its own shadow, and casts it
    dark = -np.sign(scene.light.numpy() + 1e-6)
    edge = _WALL - scene.reach.numpy()
    for outer, inner in ((_WALL, _PAVEMENT), (_PAVEMENT, _ROAD), (_ROAD, -1.0)):
        pieces.append(
            _strip(-dark * outer, -dark * np.clip(edge, inner, outer), 3.0, 40.0, n)
        )
    x, z = scene.places.numpy()[:, 8:].transpose(2, 0, 1)
    wide, deep = np.array([(1.3, 1.1, 0.42), (0.9, 2.2, 0.35)])[:, _SLOT[8:] - 1]
    lying = np.stack(
        [
            wide[:, None] * round_[:, 0],
            np.zeros((len(wide), _CORNERS)),
            deep[:, None] * round_[:, 1],
        ],
        -1,
    )
    where = np.stack(
        [x - 0.25 * scene.light.numpy()[:, None], 0 * x, z + deep - 0.35], -1
    )
    where = np.where(scene.valid.numpy()[:, 8:, None], where, (0.0, 0.0, -1e4))
    shadows = (where[:, :, None] + lying).astype(np.float32)
    ground = _project(scene, np.concatenate([np.stack(pieces, 1), shadows], 1), size)
    return np.concatenate([domes, ground], 1)


def _draw_inks(scene: Scene, size: int, solid: bool) -> Iterator[np.ndarray]:
    """Each image's map of inks, without the outlines; ``solid`` leaves out what lies on
    other parts of an object."""
    kinds = _OUTER if solid else _PARTS
    scenery, polygons = _scenery(scene, size), _objects(scene, size, kinds)
    inks_of = [
        [_FIRST + _EACH * slot + ink for ink, _ in kinds[kind]]
        for slot, kind in enumerate(_SLOT)
    ]
    # houses first, else from far to near
    distance = np.where(_SLOT == 0, 1e3, 0) + scene.places.numpy()[..., 1]
    for i, (order, valid) in enumerate(
        zip((-distance).argsort(1).tolist(), scene.valid.tolist(), strict=True)
    ):
        drawn = canvas.stamp(canvas.blank(size), scenery[i], _BEHIND)
        for slot in order:
            if valid[slot]:
                canvas.stamp(drawn, polygons[slot][i], inks_of[slot])
        yield drawn


@lru_cache(maxsize=8)
def _gravel(size: int) -> np.ndarray:
    """The ground's texture, twice as large as a picture."""
    stones = photos.load("gravel").permute(1, 2, 0).numpy()
    return (
        255 * cv2.resize(stones, (2 * size, 2 * size), interpolation=cv2.INTER_AREA)
    ).astype(np.uint8)


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: sky, ground and shadows, objects from far to near, and a dark
    line around each."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    tables, paint = _tables(scene), np.empty((n, size, size, 4), np.uint8)
    # lines one 64th of the picture wide
    brush = np.ones((round(size * OVER / 48),) * 2, np.uint8)
    for i, inks in enumerate(_draw_inks(scene, size, solid=False)):
        line = cv2.morphologyEx(cv2.LUT(inks, _OWNER), cv2.MORPH_GRADIENT, brush)
        # 255 is _OUTLINE
        paint[i] = canvas.colour(
            cv2.max(inks, cv2.compare(line, 0, cv2.CMP_GT)), tables[i]
        )
    height = ((np.arange(size) + 0.5) / size / scene.centres[:, 1:].numpy()).astype(
        np.float32
    )[:, :, None, None]
    top, low = (
        _SKY_TOP[scene.skies.numpy()][:, None, None],
        _SKY_LOW[scene.skies.numpy()][:, None, None],
    )
    sky = (top + (low - top) * height.clip(0, 1)).astype(np.uint8)
    corners = (scene.patches * size).int().tolist()
    stones = np.stack(
        [
            _gravel(size)[down : down + size, across : across + size]
            for down, across in corners
        ]
    )
    ground = np.where(height < 1, sky, stones)
    canvas.photograph(
        paint,
        ground,
        Camera(_GAIN[scene.skies], torch.ones(n), scene.noise, scene.grain),
        out,
    )


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n, evening = len(scene), (scene.skies == SKIES.index("evening")).numpy()
    colours, alpha = np.zeros((n, 256, 3), np.float32), np.ones(256)
    colours[:, : len(_GROUND)] = _GROUND
    colours[:, _OUTLINE] = (46, 38, 50)
    alpha[: len(_GROUND)] = 0, 0.7, 0.85, *[0.84] * 7
    objects = colours[:, _FIRST:_LAST].reshape(n, len(_SLOT), _EACH, 3)  # a view
    main, second = (index.numpy() for index in scene.colours.unbind(-1))
    tones, light = scene.tones.numpy()[..., None], scene.light.numpy()[:, None]
    for kind, mine in enumerate(_SLOTS):
        own = objects[:, mine]
        body, other = (
            _MAIN[kind][main[:, mine]] * tones[:, mine],
            _SECOND[kind][second[:, mine]],
        )
        own[:, :, :3] = body[:, :, None] * LIGHT
        own[:, :, 3:5] = other[:, :, None] * LIGHT[:2]
        own[:, :, 5] = (
            (70, 62, 70) if kind < 3 else (0.55 * _colours(_TRUNKS))[main[:, mine] % 4]
        )
        own[:, :, 6] = (
            _colours(_SKIN)[main[:, mine] * 3 % 5] if kind == 3 else (150, 178, 200)
        )
        # A house's door; a car's lamps, white where it comes towards us, on the left.
        lamps = np.array([(210, 70, 60), (255, 240, 190)])[
            (scene.sides.numpy()[:, mine] < 0).astype(int)
        ]
        own[:, :, 7] = lamps if kind else 0.72 * other
        if kind == 0:
            # Walls that face the light are bright, those of the other row lie in a cool
            # shade; in some lamps burn.
            shade = np.where(scene.sides.numpy()[:, mine] * light > 0, 1.0, 0.0)[
                ..., None, None
            ]
            own *= 1.04 - shade * np.array([0.26, 0.23, 0.15])
            home = evening[:, None] & ((main[:, mine] + second[:, mine]) % 2 == 0)
            own[home, 6] = (255, 222, 130)
    return canvas.inkwell(colours, colours, np.zeros((n, 256), np.int64), alpha)


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the
    pixels' centres.

    Returns:
        ``labels`` (n, h, w) into CLASSES; ``instances`` (n, h, w): the object's slot +
        4, and the class where there is sky or ground; ``depth`` (n, h, w) in metres
        along z, FAR in the sky; ``areas`` (n, m), how many pixels of each slot's object
        are seen.
    """
    check_size(size)
    inks = np.stack(
        [canvas.at_centres(drawn) for drawn in _draw_inks(scene, size, solid=True)]
    )
    owner, labels = _OWNER[inks].astype(np.int64), _CLASS[inks]
    areas = np.stack(
        [np.bincount(one.ravel(), minlength=1 + len(_SLOT))[1:] for one in owner]
    )
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    across, below = (axis - centre[:, None] for centre in scene.centres.numpy().T)
    ground = np.where(
        below > FOCAL * EYE / FAR, FOCAL * EYE / np.maximum(below, 1e-6), FAR
    )[:, :, None]
    image = np.arange(len(scene))[:, None, None]
    x, z = np.moveaxis(
        np.pad(scene.places.numpy(), ((0, 0), (1, 0), (0, 0)))[image, owner], -1, 0
    )
    # between where it begins and ends
    wall = np.clip(FOCAL * _WALL / np.maximum(np.abs(across), 1e-6)[:, None], x, z)
    depth = np.where(
        owner == 0, np.where(labels == 0, FAR, ground), np.where(labels == 4, wall, z)
    )
    return {
        "labels": torch.from_numpy(labels),
        "instances": torch.from_numpy(np.where(owner > 0, owner + 3, labels)),
        "depth": torch.from_numpy(depth.astype(np.float32)),
        "areas": torch.from_numpy(areas),
    }
