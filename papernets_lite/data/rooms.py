"""The world `rooms`: furnished rooms seen from inside, an agent that walks in them, and
questions about them.

Lengths are metres. x and y span the floor, z points up; a heading of 0 looks along x,
and it grows to the left. The camera keeps upright lines upright, so a column of pixels
shares its way across the floor and a row its slope: a box is met where a column's range
of depths and a row's overlap, which makes casting rays cheap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, SupportsIndex

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import (
    PALETTE,
    Draws,
    check_names,
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

# Width, depth and height of each kind of furniture; from the sofa on they stand or hang
# with their back to a wall.
_SIZES = {
    "chair": (0.5, 0.5, 0.95),
    "table": (1.3, 0.8, 0.75),
    "lamp": (0.45, 0.45, 1.6),
    "sofa": (1.8, 0.85, 0.8),
    "shelf": (1.0, 0.35, 1.8),
    "bed": (1.4, 2.0, 0.9),
    "picture": (1.0, 0.05, 2.0),
}
KINDS = tuple(_SIZES)
COLOURS = tuple(PALETTE)
CLASSES = ("floor", "wall", "ceiling", *KINDS)
QUESTIONS = ("how many {}s are in the room?", "what colour is the {}?")
MOST = 8  # objects in a room
ANSWERS = (*map(str, range(MOST + 1)), *COLOURS)
ACTIONS = ("forward", "left", "right")
STRIDE = 0.25  # of a step forward
TURN = np.pi / 12  # radians
RADIUS = 0.25  # of the agent's body
EYE = 1.45  # height of the camera
FOCAL = 0.62  # in units of the image's side
HORIZON = 0.41  # of a level ray, from the image's top, same units
_OVER = 2  # samples a pixel across
# A piece's paint: the object's own colour, or wood, or white.
_OWN, _WOOD, _WHITE = 0, 1, 2
# the first three for floors, the last for walls
_MATERIALS = ("planks", "gravel", "tiles", "plaster", "brick")
CLOSE = 0.05  # nothing nearer is seen


Span = tuple[float, float]  # from, to


def _piece(
    x: Span,
    y: Span,
    z: Span,
    paint: int = _OWN,
) -> np.ndarray:
    """One box of a piece of furniture: its spans in x and y (units of width and depth,
    the back at y = 0.5) and z (of height)."""
    return np.array([*x, *y, *z, paint], np.float32)


_ALL = (-0.5, 0.5)
_MIDDLE = (-0.45, 0.45)  # between the sides of a shelf
_FRONT = (-0.5, 0.4)
_FOOT = (-0.35, 0.35)  # of a lamp
_POLE = (-0.06, 0.06)
_SEAT = (-0.5, 0.2)  # between the arms of a sofa
_MATTRESS = (-0.47, 0.47)
_PILLOW = (-0.35, 0.35)


def _legs(wide: float, top: float) -> list[np.ndarray]:
    """Four, in the corners, of this width and height."""
    low, high = (-0.5, wide - 0.5), (0.5 - wide, 0.5)
    return [
        _piece(low, low, (0, top), _WOOD),
        _piece(low, high, (0, top), _WOOD),
        _piece(high, low, (0, top), _WOOD),
        _piece(high, high, (0, top), _WOOD),
    ]


_PIECES = {
    "chair": [
        _piece(_ALL, _ALL, (0.45, 0.53)),
        _piece(_ALL, (0.38, 0.5), (0.53, 1)),
        *_legs(0.14, 0.45),
    ],
    "table": [
        _piece(_ALL, _ALL, (0.91, 1)),
        *_legs(0.09, 0.91),
    ],
    "lamp": [
        _piece(_FOOT, _FOOT, (0, 0.03), _WOOD),
        _piece(_POLE, _POLE, (0, 0.7), _WOOD),
        _piece(_ALL, _ALL, (0.7, 1)),
    ],
    "sofa": [
        _piece(_ALL, _ALL, (0.06, 0.5)),
        _piece(_ALL, (0.2, 0.5), (0.5, 1)),
        _piece((-0.5, -0.38), _SEAT, (0.5, 0.75)),
        _piece((0.38, 0.5), _SEAT, (0.5, 0.75)),
    ],
    "shelf": [
        _piece((-0.5, -0.45), _ALL, (0, 1)),
        _piece((0.45, 0.5), _ALL, (0, 1)),
        _piece(_MIDDLE, (0.4, 0.5), (0, 1), _WOOD),
        _piece(_MIDDLE, _FRONT, (0.05, 0.08)),
        _piece(_MIDDLE, _FRONT, (0.5, 0.53)),
        _piece(_MIDDLE, _FRONT, (0.97, 1)),
    ],
    "bed": [
        _piece(_ALL, (-0.5, 0.45), (0.1, 0.35)),
        _piece(_MATTRESS, (-0.48, 0.45), (0.35, 0.55), _WHITE),
        _piece(_ALL, (0.45, 0.5), (0, 1)),
        _piece(_PILLOW, (0.2, 0.42), (0.55, 0.66), _WHITE),
    ],
    "picture": [
        _piece(_ALL, _ALL, (0.6, 1), _WOOD),
        _piece((-0.42, 0.42), (-0.7, -0.5), (0.64, 0.96)),
    ],
}
_TABLE = np.zeros((len(KINDS), 6, 7), np.float32)  # what a kind lacks has no size
for _kind, _name in enumerate(KINDS):
    _TABLE[_kind, : len(_PIECES[_name])] = _PIECES[_name]
# the first kinds stand anywhere, pictures not on the floor
_FREE, _PICTURE = 3, KINDS.index("picture")


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n rooms with up to m objects, each seen from where its agent
    stands."""

    sizes: Float[Tensor, "n 3"]  # of the room
    poses: Float[Tensor, "n 3"]  # of the agent: x, y, heading in radians
    kinds: Int[Tensor, "n m"]
    colours: Int[Tensor, "n m"]
    centres: Float[Tensor, "n m 2"]
    extents: Float[Tensor, "n m 3"]  # width, depth, height
    angles: Float[Tensor, "n m"]  # radians; at 0 an object's back looks along y
    valid: Bool[Tensor, "n m"]
    materials: Int[Tensor, "n 2"]  # of floor and walls
    tints: Float[Tensor, "n 3 3"]  # of floor, walls and ceiling, RGB in [0, 1]
    lights: Float[Tensor, "n 3"]  # where the lamp hangs
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    objects: tuple[int, int] = (4, 7),
    kinds: Sequence[str] = KINDS,
    colours: Sequence[str] = COLOURS,
    noise: int | float = 0.015,
) -> Scene:
    """Draw the factors of ``n`` rooms; room i does not depend on ``n``.

    Args:
        n: how many rooms.
        generator: CPU generator; the same seed gives the same rooms on every machine.
        objects: fewest and most objects, from 1 to ``MOST``; one for which there is no
            place left is not ``valid``.
        kinds, colours: the values that may occur.
        noise: standard deviation of the sensor's noise, from 0 to 1.

    Raises:
        ValueError: for an empty or inverted range, a name that does not exist, ``n <
            1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("objects", objects, 1, MOST, whole=True)
    check_range("noise", (0, noise), 0, 1)
    check_names("kinds", kinds, KINDS)
    check_names("colours", colours, COLOURS)
    most = objects[1]
    growth = torch.tensor([2.4, 2.4, 0.5])
    sizes = torch.tensor([3.6, 3.6, 2.4]) + draws.uniform(0, 1, 3) * growth
    kind = draws.choose(KINDS, kinds, most)
    usual = torch.tensor(list(_SIZES.values()))[kind]
    extents = usual * draws.uniform(0.9, 1.15, most, 3)
    spots = _spots(draws, sizes, kind, extents)
    valid = torch.arange(most) < draws.integers(objects[0], most + 1, 1)
    chosen, valid = _first_free(spots, valid)
    centres = _of_each(spots.places, chosen)
    halves = _of_each(spots.halves, chosen)
    poses = _poses(draws, sizes, centres, halves, valid)
    bright = draws.uniform(0.75, 1.25, 3, 1)
    hue = draws.uniform(-0.17, 0.17, 3, 3)
    tints = torch.tensor([0.72, 0.7, 0.68]) * bright + hue
    tints[:, 2] = 0.75 + 0.25 * tints[:, 2]  # ceilings are pale
    return Scene(
        sizes=sizes,
        poses=poses,
        kinds=kind,
        colours=draws.choose(COLOURS, colours, most),
        centres=centres,
        extents=extents,
        angles=spots.turns.gather(2, chosen[..., None])[..., 0],
        valid=valid,
        materials=draws.integers(0, 3, 2) + torch.tensor([0, 2]),
        tints=tints.clamp(0.15, 1),
        lights=_lamps(draws, sizes),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


class _Spots(NamedTuple):
    """Where each object might stand: several tries."""

    turns: Float[Tensor, "n m t"]
    places: Float[Tensor, "n m t 2"]
    # of the upright box around the object's footprint
    halves: Float[Tensor, "n m t 2"]


def _spots(
    draws: Draws,
    sizes: Float[Tensor, "n 3"],
    kinds: Int[Tensor, "n m"],
    extents: Float[Tensor, "n m 3"],
) -> _Spots:
    """Tries that lie in the room; some kinds have their back to a wall."""
    most, tries = kinds.shape[1], 12
    turns = draws.uniform(-torch.pi, torch.pi, most, tries)
    wall = (kinds >= _FREE)[..., None]
    quarter = torch.div(turns + torch.pi, torch.pi / 2, rounding_mode="floor")
    square = quarter.clamp(0, 3) * (torch.pi / 2)
    turns = torch.where(wall, square, turns)
    cos, sin = turns.cos(), turns.sin()
    along = torch.stack([cos.abs(), sin.abs()], -1)
    turned = torch.stack([along, along.flip(-1)], -2)
    halves = (turned * extents[:, :, None, None, :2]).sum(-1) / 2
    low = halves + 0.01
    high = sizes[:, None, None, :2] - halves - 0.01
    places = low + (high - low) * draws.uniform(0, 1, most, tries, 2)
    back = torch.stack([-sin, cos], -1).round()  # where the object's back looks
    fixed = wall[..., None] & (back != 0)
    at_wall = torch.where(back > 0, high, low)
    return _Spots(turns, torch.where(fixed, at_wall, places), halves)


def _of_each(
    tries: Float[Tensor, "n m t 2"],
    chosen: Int[Tensor, "n m"],
) -> Float[Tensor, "n m 2"]:
    """The try that was chosen for each object."""
    index = chosen[..., None, None].expand(-1, -1, 1, 2)
    return tries.gather(2, index)[:, :, 0]


def _first_free(
    spots: _Spots,
    valid: Bool[Tensor, "n m"],
) -> tuple[Int[Tensor, "n m"], Bool[Tensor, "n m"]]:
    """Each object's first try that is clear of all earlier objects, and which objects
    have one."""
    valid = valid.clone()
    n, most = valid.shape
    chosen = torch.zeros(n, most, dtype=torch.long)
    rows = torch.arange(n)
    centres = torch.zeros(n, most, 2)
    halves = torch.zeros(n, most, 2)
    for j in range(most):
        place = spots.places[:, j]
        half = spots.halves[:, j]
        away = (place[:, :, None] - centres[:, None, :j]).abs()
        apart = away - half[:, :, None] - halves[:, None, :j]
        clear = (apart > 0.05).any(-1) | ~valid[:, None, :j]
        fits = clear.all(-1)
        chosen[:, j] = fits.int().argmax(1)
        valid[:, j] &= fits.any(1)
        centres[:, j] = place[rows, chosen[:, j]]
        halves[:, j] = half[rows, chosen[:, j]]
    return chosen, valid


def _poses(
    draws: Draws,
    sizes: Float[Tensor, "n 3"],
    centres: Float[Tensor, "n m 2"],
    halves: Float[Tensor, "n m 2"],
    valid: Bool[Tensor, "n m"],
) -> Float[Tensor, "n 3"]:
    """The agent stands where there is room, rather at the side, and looks roughly to
    the middle."""
    floor = sizes[:, None, :2]
    spots = 0.4 + (floor - 0.8) * draws.uniform(0, 1, 16, 2)
    away = (spots[:, :, None] - centres[:, None]).abs()
    gaps = (away - halves[:, None]).amax(-1)
    gap = torch.where(valid[:, None], gaps, 9.0)
    gap = gap.amin(-1).clamp(max=0.5)
    aside = (spots - floor / 2).norm(dim=-1)
    best = (10 * gap + aside).argmax(1)
    spot = spots[torch.arange(len(spots)), best]
    middle = sizes[:, :2] * draws.uniform(0.35, 0.65, 2) - spot
    heading = torch.atan2(middle[:, 1:], middle[:, :1])
    return torch.cat([spot, heading], 1)


def _lamps(
    draws: Draws,
    sizes: Float[Tensor, "n 3"],
) -> Float[Tensor, "n 3"]:
    """One under each ceiling."""
    across = draws.uniform(0.25, 0.75, 2)
    height = torch.full((len(sizes), 1), 0.9)
    return sizes * torch.cat([across, height], 1)


class _Boxes(NamedTuple):
    """The room itself, then six pieces of each object."""

    centres: Float[np.ndarray, "n k 3"]
    halves: Float[np.ndarray, "n k 3"]
    cos: Float[np.ndarray, "n k"]
    sin: Float[np.ndarray, "n k"]


def _with_room(values: Tensor, own: float) -> Float[np.ndarray, "n k"]:
    """A number of each object for its six pieces, after the room's own."""
    pieces = values.numpy().repeat(6, 1)
    return np.insert(pieces, 0, own, 1)


def _boxes(scene: Scene) -> _Boxes:
    n = len(scene)
    there = scene.valid.numpy()[..., None, None]
    pieces = _TABLE[scene.kinds.numpy()] * there
    size = scene.extents.numpy()[:, :, None]
    low = pieces[..., 0:6:2] * size
    high = pieces[..., 1:6:2] * size
    x, y, z = np.moveaxis((low + high) / 2, -1, 0)
    halves = (high - low) / 2
    cos = scene.angles.cos().numpy()[..., None]
    sin = scene.angles.sin().numpy()[..., None]
    where = scene.centres.numpy()[:, :, None]
    where_x, where_y = where[..., 0], where[..., 1]
    turned_x = where_x + cos * x - sin * y
    turned_y = where_y + sin * x + cos * y
    centres = np.stack([turned_x, turned_y, z], -1)
    room = scene.sizes.numpy()[:, None] / 2
    # The room is not turned: its cosine is 1, its sine 0.
    return _Boxes(
        np.concatenate([room, centres.reshape(n, -1, 3)], 1),
        np.concatenate([room, halves.reshape(n, -1, 3)], 1),
        _with_room(scene.angles.cos(), 1),
        _with_room(scene.angles.sin(), 0),
    )


@dataclass(frozen=True)
class _View:
    """What each pixel's centre sees. Face 0 of a box is level, seen from above, 5 from
    below; 1 to 4 are upright."""

    depth: Float[np.ndarray, "n h w"]  # along the camera's axis
    box: UInt8[np.ndarray, "n h w"]  # 0 is the room
    face: UInt8[np.ndarray, "n h w"]
    # of the rays of each column across the floor, at depth 1
    ways: Float[np.ndarray, "n 2 w"]
    slopes: Float[np.ndarray, " h"]  # of the rays of each row, up
    normals: Float[np.ndarray, "n k 6 3"]  # of the faces, in the room's frame
    offsets: Float[np.ndarray, "n k 6"]  # normal times position


class _Rays(NamedTuple):
    """Where the rays of each column enter and leave the boxes, seen from above, and
    those of each row their heights: depths along the camera's axis."""

    near: Float[np.ndarray, "n k w"]
    far: Float[np.ndarray, "n k w"]
    over: Float[np.ndarray, "n k h"]
    under: Float[np.ndarray, "n k h"]
    sides: UInt8[np.ndarray, "n k w"]  # the upright face that is met
    level: UInt8[np.ndarray, " h"]  # the level face that is met


def _ways(
    scene: Scene,
    across: np.ndarray,
) -> Float[np.ndarray, "n 2 w"]:
    """The columns' rays across the floor, at depth 1."""
    heading = scene.poses.numpy()[:, 2]
    cos, sin = np.cos(heading), np.sin(heading)
    ahead = np.stack([cos, sin], 1)
    right = np.stack([sin, -cos], 1)
    return ahead[..., None] + right[..., None] * across


def _into_box(
    boxes: _Boxes, x: np.ndarray, y: np.ndarray
) -> Float[np.ndarray, "n k 2 w"]:
    """Vectors (x, y) across the floor, turned into each box's own frame."""
    cos, sin = boxes.cos[..., None], boxes.sin[..., None]
    along = cos * x + sin * y
    aside = cos * y - sin * x
    return np.stack([along, aside], 2)


def _rays(
    scene: Scene,
    boxes: _Boxes,
    ways: np.ndarray,
    slopes: np.ndarray,
) -> _Rays:
    # The rays in each box's own frame.
    here = scene.poses.numpy()[:, None, :2]
    eye = (here - boxes.centres[..., :2])[..., None]
    start = _into_box(boxes, eye[:, :, 0], eye[:, :, 1])
    way = _into_box(boxes, ways[:, None, 0], ways[:, None, 1])
    half = boxes.halves[..., :2, None]
    height = boxes.centres[..., 2, None]
    tall = boxes.halves[..., 2, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = (-half - start) / way
        second = (half - start) / way
        below = (height - tall - EYE) / slopes
        above = (height + tall - EYE) / slopes
    enter = np.minimum(first, second)
    leave = np.maximum(first, second)
    near, far = enter.max(2), leave.min(2)
    later = enter[:, :, 1] > enter[:, :, 0]
    axis = later.astype(np.uint8)
    # the room is seen from inside
    near[:, 0] = far[:, 0]
    axis[:, 0] = leave[:, 0, 1] < leave[:, 0, 0]
    forward = np.where(axis, way[:, :, 1], way[:, :, 0]) > 0
    return _Rays(
        near,
        far,
        over=np.minimum(below, above),
        under=np.maximum(below, above),
        sides=1 + 2 * axis + forward,
        level=np.where(slopes > 0, np.uint8(5), np.uint8(0)),
    )


def _faces(boxes: _Boxes) -> tuple[np.ndarray, np.ndarray]:
    """The faces' normals (n, k, 6, 3), and normal times position (n, k, 6)."""
    cos, sin = boxes.cos, boxes.sin
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    vectors = [
        np.stack([zero, zero, one], -1),
        np.stack([cos, sin, zero], -1),
        np.stack([-cos, -sin, zero], -1),
        np.stack([-sin, cos, zero], -1),
        np.stack([sin, -cos, zero], -1),
        np.stack([zero, zero, -one], -1),
    ]
    normals = np.stack(vectors, 2)
    reach = boxes.halves[:, :, [2, 0, 0, 1, 1, 2]]
    reach[:, 0] *= -1  # the room's faces look inside
    return normals, (normals * boxes.centres[:, :, None]).sum(-1) + reach


def _stretch(hit: Bool[np.ndarray, " s"]) -> slice:
    """From the first to the last that is hit."""
    first, last = np.flatnonzero(hit)[[0, -1]]
    return slice(first, last + 1)


def _cast(scene: Scene, size: int) -> _View:
    step = canvas.centres(size)
    slopes = (HORIZON - step) / FOCAL
    ways = _ways(scene, (step - 0.5) / FOCAL)
    boxes = _boxes(scene)
    rays = _rays(scene, boxes, ways, slopes)
    # the room first
    walls = rays.near[:, :1]
    depth = np.minimum(walls, rays.under[:, 0, :, None])
    flat = depth < walls
    face = np.where(flat, rays.level[:, None], rays.sides[:, :1])
    box = np.zeros(depth.shape, np.uint8)
    columns = (rays.near < rays.far) & (rays.far > CLOSE)
    columns[:, 0] = False
    farthest = rays.far.max(2, keepdims=True)
    rows = (rays.over < farthest) & (rays.under > CLOSE)
    hit = np.argwhere(columns.any(2) & rows.any(2))
    for i, k in hit:
        r = _stretch(rows[i, k])
        q = _stretch(columns[i, k])
        before = rays.near[i, k, q]
        above = rays.over[i, k, r, None]
        begin = np.maximum(before, above)
        end = np.minimum(rays.far[i, k, q], rays.under[i, k, r, None])
        end = np.minimum(end, depth[i, r, q])
        seen = (begin < end) & (begin > CLOSE)
        np.copyto(depth[i, r, q], begin, where=seen)
        np.copyto(box[i, r, q], np.uint8(k), where=seen)
        flat = above > before
        met = np.where(flat, rays.level[r, None], rays.sides[i, k, q])
        np.copyto(face[i, r, q], met, where=seen)
    normals, offsets = _faces(boxes)
    return _View(depth, box, face, ways, slopes, normals, offsets)


@lru_cache(maxsize=1)
def _textures() -> np.ndarray:
    """256 x 256 pieces of the materials, one after another, around 1."""
    pieces = []
    for name in _MATERIALS:
        grey = photos.material(name, (200, 200, 200))[..., 0].astype(np.float32)
        pieces.append((grey / grey.mean()).ravel())
    return np.concatenate(pieces)


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """What the agents see: materials under one lamp, with soft shadows on the floor and
    darker corners."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    view = _cast(scene, size * _OVER)
    paint = _paint(scene)
    ground = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        fine = _shade(scene, view, i, paint[i])
        image = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
        ground[i] = image.astype(np.uint8)
    nothing = np.zeros((*ground.shape[:3], 4), np.uint8)
    camera = canvas.plain_camera(scene.noise, scene.grain)
    canvas.photograph(nothing, ground, camera, out)


def _paint(scene: Scene) -> Float[np.ndarray, "n faces 3"]:
    """The colour of each face."""
    palette = np.array(list(PALETTE.values()), np.float32)
    own = palette[scene.colours.numpy()] / 255
    wood = np.array([0.2, 0.14, 0.09], np.float32)
    white = np.array([0.93, 0.92, 0.88], np.float32)
    # (n, m, 3 paints, 3)
    paints = np.stack([own, own * 0.25 + wood, own * 0 + white], 2)
    which = _TABLE[scene.kinds.numpy()][..., 6, None].astype(int)
    pieces = np.take_along_axis(paints, which, 2)
    faces = pieces.reshape(len(scene), -1, 3).repeat(6, 1)
    tints = scene.tints.numpy()[:, [0, 1, 1, 1, 1, 2]]
    warm = np.array([1.03, 1.0, 0.94], np.float32)  # the lamp's light
    return np.concatenate([tints, faces], 1) * warm


class _Seen(NamedTuple):
    """What one agent sees: of each pixel the place, and its face's number."""

    x: Float[np.ndarray, "h w"]
    y: Float[np.ndarray, "h w"]
    z: Float[np.ndarray, "h w"]
    depth: Float[np.ndarray, "h w"]
    faces: Int[np.ndarray, "h w"]
    level: Bool[np.ndarray, "h w"]  # faces up or down


def _shade(
    scene: Scene,
    view: _View,
    i: int,
    colours: Float[np.ndarray, "faces 3"],
) -> Float[np.ndarray, "h w 3"]:
    """Light on what one agent sees."""
    depth, face = view.depth[i], view.face[i]
    eye_x, eye_y, _ = scene.poses[i].tolist()
    seen = _Seen(
        x=view.ways[i, 0] * depth + eye_x,
        y=view.ways[i, 1] * depth + eye_y,
        z=view.slopes[:, None] * depth + EYE,
        depth=depth,
        faces=view.box[i].astype(np.int32) * 6 + face,
        level=(face == 0) | (face == 5),
    )
    grain = _grain(seen, scene.materials[i].numpy(), view.normals.shape[1] * 6)
    light = _lamplight(seen, view, i, scene.lights[i])
    bare = seen.faces < 6
    light *= 1 - bare * _gloom(seen, scene.sizes[i].tolist())
    skirting = bare & ~seen.level & (seen.z < 0.09)
    light *= 1 - np.float32(0.45) * skirting
    horizon = int(np.argmin(view.slopes > 0))
    _cast_shadows(scene, i, seen, horizon, light)
    lit = 255 * grain * light
    image = colours.take(seen.faces, 0) * lit[..., None]
    return image.clip(0, 255)


def _grain(
    seen: _Seen,
    materials: Int[np.ndarray, " 2"],
    faces: int,
) -> Float[np.ndarray, "h w"]:
    """Texture, fainter far away: level faces by (x, y), upright ones by the way along
    them and z."""
    of_face = np.full(faces, _MATERIALS.index("plaster"))
    of_face[:5] = materials[[0, 1, 1, 1, 1]]
    u = np.where(seen.level, seen.x, seen.x + seen.y)
    v = np.where(seen.level, seen.y, -seen.z)
    column = (u * 110).astype(np.int32) & 255
    row = (v * 110).astype(np.int32) & 255
    place = (row << 8) + column + (of_face << 16).take(seen.faces)
    texture = _textures().take(place)
    return (texture - 1) / (0.1 * seen.depth + 1) + 1


def _lamplight(
    seen: _Seen,
    view: _View,
    i: int,
    lamp: Float[Tensor, " 3"],
) -> Float[np.ndarray, "h w"]:
    """Light from everywhere, a little more on the ceiling and from one side; and the
    lamp's, by Lambert's law, falling off gently with distance."""
    ambient = 0.5 + 0.06 * view.normals[i, ..., 0].ravel()
    ambient[5] = 0.75
    # how far the lamp is in front of each face
    towards = (view.normals[i] * lamp.numpy()).sum(-1)
    facing = (towards - view.offsets[i]).clip(0)
    x, y, z = lamp.tolist()
    dx, dy, dz = seen.x - x, seen.y - y, seen.z - z
    far = dx**2 + dy**2 + dz**2
    falloff = np.sqrt(far) * (0.035 * far + 1)
    direct = facing.take(seen.faces) * 0.75 / falloff
    return ambient.take(seen.faces) + direct


def _gloom(
    seen: _Seen,
    room: list[float],
) -> Float[np.ndarray, "h w"]:
    """Corners of the room are darker: the second smallest of the distances to its
    walls, and to floor or ceiling."""
    wide, deep, tall = room
    p = np.minimum(seen.x, wide - seen.x)
    q = np.minimum(seen.y, deep - seen.y)
    r = np.minimum(seen.z, tall - seen.z)
    larger = np.minimum(np.maximum(p, q), r)
    second = np.maximum(np.minimum(p, q), larger)
    return np.float32(0.3) / (7 * second.clip(0) + 1)


def _cast_shadows(
    scene: Scene,
    i: int,
    seen: _Seen,
    horizon: int,
    light: np.ndarray,
) -> None:
    """Darken the floor around what stands on it; shadows lean away from the lamp."""
    below = slice(horizon, None)
    x, y = seen.x[below], seen.y[below]
    floor = seen.faces[below] == 0
    onto = light[below]
    lamp_x, lamp_y, lamp_z = scene.lights[i].tolist()
    standing = scene.valid[i] & (scene.kinds[i] != _PICTURE)
    for j in standing.nonzero()[:, 0].tolist():
        wide, deep, tall = scene.extents[i, j].tolist()
        centre_x, centre_y = scene.centres[i, j].tolist()
        turn = scene.angles[i, j].item()
        lean = 0.12 * tall / max(0.3, lamp_z - 0.5 * tall)
        fx = x - (centre_x + lean * (centre_x - lamp_x))
        fy = y - (centre_y + lean * (centre_y - lamp_y))
        cos, sin = math.cos(turn), math.sin(turn)
        along = np.abs(cos * fx + sin * fy)
        aside = np.abs(cos * fy - sin * fx)
        dx = (along - wide / 2).clip(0)
        dy = (aside - deep / 2).clip(0)
        soft = 45 * (dx * dx + dy * dy) + 1
        onto *= 1 - floor * (np.float32(0.42) / soft)


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)`` at the pixels' centres.

    Returns:
        ``depth`` (n, h, w) metres along the camera's axis; ``normals`` (n, 3, h, w) of
        length 1, in the camera's frame (x right, y down, z ahead), facing it; ``edges``
        (n, h, w), bool: the pixel to the right or below lies in another plane;
        ``labels`` (n, h, w) into ``CLASSES``; ``objects`` (n, h, w), 0 for the room and
        j + 1 for object j.
    """
    side = check_size(size)
    view = _cast(scene, side)
    box = torch.from_numpy(view.box).long()
    face = torch.from_numpy(view.face).long()
    where = (box * 6 + face).flatten(1)
    normals = _in_camera(scene, view, where).unflatten(2, (side, side))
    offsets = torch.from_numpy(view.offsets).flatten(1)
    planes = offsets.gather(1, where).unflatten(1, (side, side))
    objects = (box + 5) // 6  # six pieces each
    which = (objects.flatten(1) - 1).clamp(min=0)
    kinds = scene.kinds.gather(1, which)
    furniture = kinds.reshape(objects.shape) + 3
    of_room = torch.tensor([0, 1, 1, 1, 1, 2])[face]
    return {
        "depth": torch.from_numpy(view.depth),
        "normals": normals,
        "edges": _edges(normals, planes),
        "labels": torch.where(box > 0, furniture, of_room),
        "objects": objects,
    }


def _in_camera(
    scene: Scene,
    view: _View,
    where: Int[Tensor, "n pixels"],
) -> Float[Tensor, "n 3 pixels"]:
    """The normals of the faces that are seen, in the camera's frame."""
    heading = scene.poses[:, 2, None, None]
    cos, sin = heading.cos(), heading.sin()
    x, y, z = torch.from_numpy(view.normals).unbind(-1)
    right = sin * x - cos * y
    ahead = cos * x + sin * y
    facets = torch.stack([right, -z, ahead], 1).flatten(2)
    index = where[:, None].expand(-1, 3, -1)
    return facets.gather(2, index)


def _edges(
    normals: Float[Tensor, "n 3 h w"],
    planes: Float[Tensor, "n h w"],
) -> Bool[Tensor, "n h w"]:
    """Where the pixel to the right or below lies in another plane; pieces side by side
    in one plane do not count."""
    size = planes.shape[-1]
    edges = torch.zeros(planes.shape, dtype=torch.bool)
    for axis in (1, 2):
        shifted = planes.diff(dim=axis).abs() > 0.02
        turned = (normals.diff(dim=axis + 1).abs() > 0.1).any(1)
        edges.narrow(axis, 0, size - 1).logical_or_(shifted | turned)
    return edges


def edges2d(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    """Edges in brightness, whatever causes them.

    Args:
        images: (n, 3, h, w) in [0, 1].

    Returns:
        The length of the slightly smoothed picture's gradient, per pixel.

    Raises:
        ValueError: for pictures in 0..255, or without three colours.
    """
    expect(images.ndim == 4 and images.shape[1] == 3, "(n, 3, h, w)", images.shape)
    in_range = (images >= 0) & (images <= 1)
    expect(in_range.all(), "images in [0, 1]", images[~in_range][:3].tolist())
    mean = images.mean(1, keepdim=True)
    padded = functional.pad(mean, (2, 2, 2, 2), mode="replicate")
    grey = functional.avg_pool2d(padded, 3, 1)[:, 0]
    across = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    return torch.hypot(across, down) / 2


def free(
    scene: Scene,
    points: Float[Tensor, "n 2"],
) -> Bool[Tensor, " n"]:
    """Where an agent's body would fit, one point in each room."""
    room = scene.sizes[:, :2]
    inside = ((points > RADIUS) & (points < room - RADIUS)).all(1)
    x, y = (points[:, None] - scene.centres).unbind(-1)
    cos, sin = scene.angles.cos(), scene.angles.sin()
    along, aside = cos * x + sin * y, cos * y - sin * x
    local = torch.stack([along, aside], -1).abs()
    beyond = (local - scene.extents[..., :2] / 2).clamp(min=0)
    away = beyond.norm(dim=-1)
    solid = scene.valid & (scene.kinds != _PICTURE)
    return inside & ~(solid & (away < RADIUS)).any(1)


def step(
    scene: Scene,
    actions: Int[Tensor, " n"],
) -> tuple[Scene, Bool[Tensor, " n"]]:
    """Let each agent act: go forward by ``STRIDE``, or turn by ``TURN`` to the left or
    right.

    Args:
        scene: the rooms; they stay as they are.
        actions: into ``ACTIONS``.

    Returns:
        The scene with new poses, and who bumped into something and stayed.

    Raises:
        ValueError: for an action that does not exist.
    """
    exist = (actions >= 0) & (actions < len(ACTIONS))
    expect(exist.all(), f"actions from 0 to {len(ACTIONS) - 1}", actions.tolist())
    expect(len(actions) == len(scene), f"{len(scene)} actions", len(actions))
    here, heading = scene.poses[:, :2], scene.poses[:, 2]
    ahead = torch.stack([heading.cos(), heading.sin()], 1)
    goal = here + STRIDE * ahead
    goes, fits = actions == 0, free(scene, goal)
    spot = torch.where((goes & fits)[:, None], goal, here)
    turn = TURN * ((actions == 1).float() - (actions == 2).float())
    poses = torch.cat([spot, (heading + turn)[:, None]], 1)
    return replace(scene, poses=poses), goes & ~fits


def ask(scene: Scene, generator: torch.Generator) -> dict[str, Tensor]:
    """One question about each room, answered by what is in it, seen or not.

    A colour is asked for only where the kind occurs once; a number may be 0.

    Args:
        scene: the rooms.
        generator: CPU generator.

    Returns:
        ``questions`` (n,) into ``QUESTIONS``, ``kinds`` (n,) into ``KINDS``,
        ``answers`` (n,) into ``ANSWERS``.
    """
    draws = Draws.start(len(scene), generator)
    one_hot = functional.one_hot(scene.kinds, len(KINDS))
    there = one_hot * scene.valid[..., None]  # (n, m, kinds)
    counts = there.sum(1)
    single = counts == 1
    question = torch.where(single.any(1), draws.integers(0, 2), 0)
    chance = draws.uniform(0, 1, len(KINDS))
    of_one, of_any = (chance * single).argmax(1), chance.argmax(1)
    kinds = torch.where(question > 0, of_one, of_any)
    rows = torch.arange(len(scene))
    colour = (scene.colours * there[rows, :, kinds]).sum(1)
    number = counts[rows, kinds]
    answers = torch.where(question > 0, MOST + 1 + colour, number)
    return {"questions": question, "kinds": kinds, "answers": answers}
