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

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import PALETTE, Camera, Draws, check_range, check_size
from papernets_lite.ops.checks import expect

# Width, depth and height of each kind of furniture; those of the second line stand or
# hang with their back to a wall.
_SIZES = {"chair": (0.5, 0.5, 0.95), "table": (1.3, 0.8, 0.75), "lamp": (0.45, 0.45, 1.6)} | {
    "sofa": (1.8, 0.85, 0.8), "shelf": (1.0, 0.35, 1.8), "bed": (1.4, 2.0, 0.9), "picture": (1.0, 0.05, 2.0)
}  # fmt: skip
KINDS, COLOURS = tuple(_SIZES), tuple(PALETTE)
CLASSES = ("floor", "wall", "ceiling", *KINDS)
QUESTIONS = ("how many {}s are in the room?", "what colour is the {}?")
MOST = 8  # objects in a room
ANSWERS = (*map(str, range(MOST + 1)), *COLOURS)
ACTIONS = ("forward", "left", "right")
# of a step forward, of a turn (radians), of the agent's body
STRIDE, TURN, RADIUS = 0.25, np.pi / 12, 0.25
# of the camera: height, then units of the image's side
EYE, FOCAL, HORIZON = 1.45, 0.62, 0.41
# samples a pixel across; a piece's paint, if not the object's own (0)
_OVER, _WOOD, _WHITE = 2, 1, 2
# the first three for floors, the last for walls
_MATERIALS = ("planks", "gravel", "tiles", "plaster", "brick")
CLOSE = 0.05  # nothing nearer is seen


def _square(reach: float) -> tuple[float, float, float, float]:
    return (-reach, reach, -reach, reach)


def _sides(wide: float, *rest: float) -> list[tuple]:
    """Two pieces alike, at the left and at the right end."""
    return [(-0.5, wide - 0.5, *rest), (0.5 - wide, 0.5, *rest)]


def _legs(wide: float, top: float) -> list[tuple]:
    ends = ((-0.5, wide - 0.5), (0.5 - wide, 0.5))
    return [(*x, *y, 0, top, _WOOD) for x in ends for y in ends]


# Pieces of each kind: from and to in x, y (units of width and depth, back at y = 0.5)
# and z (of height), and paint.
_FULL, _BASE = (-0.5, 0.5), _square(0.5)
_BOARDS = [(-0.45, 0.45, -0.5, 0.4, z, z + 0.03, 0) for z in (0.05, 0.5, 0.97)]
_PIECES: dict[str, list[tuple]] = {
    "chair": [
        (*_BASE, 0.45, 0.53, 0),
        (*_FULL, 0.38, 0.5, 0.53, 1, 0),
        *_legs(0.14, 0.45),
    ],
    "table": [(*_BASE, 0.91, 1, 0), *_legs(0.09, 0.91)],
    "lamp": [
        (*_square(0.35), 0, 0.03, _WOOD),
        (*_square(0.06), 0, 0.7, _WOOD),
        (*_BASE, 0.7, 1, 0),
    ],
    "sofa": [
        (*_BASE, 0.06, 0.5, 0),
        (*_FULL, 0.2, 0.5, 0.5, 1, 0),
        *_sides(0.12, -0.5, 0.2, 0.5, 0.75, 0),
    ],
    "shelf": [
        *_sides(0.05, *_FULL, 0, 1, 0),
        (-0.45, 0.45, 0.4, 0.5, 0, 1, _WOOD),
        *_BOARDS,
    ],
    "bed": [
        (*_FULL, -0.5, 0.45, 0.1, 0.35, 0),
        (-0.47, 0.47, -0.48, 0.45, 0.35, 0.55, _WHITE),
        (*_FULL, 0.45, 0.5, 0, 1, 0),
        (-0.35, 0.35, 0.2, 0.42, 0.55, 0.66, _WHITE),
    ],
    "picture": [(*_BASE, 0.6, 1, _WOOD), (-0.42, 0.42, -0.7, -0.5, 0.64, 0.96, 0)],
}
# (kinds, 6, 7)
_TABLE = np.array(
    [pieces + [(0,) * 7] * (6 - len(pieces)) for pieces in _PIECES.values()], np.float32
)
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
    n: int,
    generator: torch.Generator,
    *,
    objects: tuple[int, int] = (4, 7),
    kinds: Sequence[str] = KINDS,
    colours: Sequence[str] = COLOURS,
    noise: float = 0.015,
) -> Scene:
    """Draw the factors of ``n`` rooms; room i does not depend on ``n``.

    Args:
        n: how many rooms.
        generator: CPU generator; the same seed gives the same rooms on every machine.
        objects: fewest and most objects; one for which there is no place left is not
            ``valid``.
        kinds, colours: the values that may occur.
        noise: standard deviation of the sensor's noise.

    Raises:
        ValueError: for an empty or inverted range, a name that does not exist, ``n <
            1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("objects", objects, 1, MOST)
    check_range("noise", (0, noise), 0)
    for name, known, wanted in (("kinds", KINDS, kinds), ("colours", COLOURS, colours)):
        expect(
            wanted and set(wanted) <= set(known), f"{name} from {known}", tuple(wanted)
        )
    most, tries = objects[1], 12
    sizes = torch.tensor([3.6, 3.6, 2.4]) + draws.uniform(0, 1, 3) * torch.tensor(
        [2.4, 2.4, 0.5]
    )
    kind = torch.tensor([KINDS.index(k) for k in kinds])[
        draws.integers(0, len(kinds), most)
    ]
    extents = torch.tensor(list(_SIZES.values()))[kind] * draws.uniform(
        0.9, 1.15, most, 3
    )
    turn = draws.uniform(-torch.pi, torch.pi, most, tries)
    wall = (kind >= _FREE)[..., None]
    quarter = torch.div(turn + torch.pi, torch.pi / 2, rounding_mode="floor").clamp(
        0, 3
    )
    turn = torch.where(wall, quarter * (torch.pi / 2), turn)
    cos, sin = turn.cos(), turn.sin()
    # Half the box around the footprint, and the places that keep it inside; a back to
    # the wall fixes one coordinate.
    half = torch.stack([cos.abs(), sin.abs(), sin.abs(), cos.abs()], -1).unflatten(
        -1, (2, 2)
    )
    half = (half * extents[:, :, None, None, :2]).sum(-1) / 2
    low, high = half + 0.01, sizes[:, None, None, :2] - half - 0.01
    place = low + (high - low) * draws.uniform(0, 1, most, tries, 2)
    back = torch.stack([-sin, cos], -1).round()  # where the object's back looks
    place = torch.where(
        wall[..., None] & (back != 0), torch.where(back > 0, high, low), place
    )
    valid = torch.arange(most) < draws.integers(objects[0], most + 1, 1)
    chosen = torch.zeros(n, most, dtype=torch.long)
    rows = torch.arange(n)
    boxes = torch.zeros(n, most, 2, 2)  # centre and half size around each footprint
    for j in range(most):
        apart = (
            (place[:, j, :, None] - boxes[:, None, :j, 0]).abs()
            - half[:, j, :, None]
            - boxes[:, None, :j, 1]
        )
        fits = ((apart > 0.05).any(-1) | ~valid[:, None, :j]).all(-1)
        chosen[:, j] = fits.int().argmax(1)
        valid[:, j] &= fits.any(1)
        boxes[:, j] = torch.stack(
            [place[rows, j, chosen[:, j]], half[rows, j, chosen[:, j]]], 1
        )
    # The agent stands where there is room, rather at the side, and looks roughly to the
    # middle.
    spots = 0.4 + (sizes[:, None, :2] - 0.8) * draws.uniform(0, 1, 16, 2)
    gap = (
        (spots[:, :, None] - boxes[:, None, :, 0]).abs() - boxes[:, None, :, 1]
    ).amax(-1)
    gap = torch.where(valid[:, None], gap, 9.0).amin(-1).clamp(max=0.5)
    spot = spots[
        rows, (10 * gap + (spots - sizes[:, None, :2] / 2).norm(dim=-1)).argmax(1)
    ]
    middle = sizes[:, :2] * draws.uniform(0.35, 0.65, 2) - spot
    tints = torch.tensor([0.72, 0.7, 0.68]) * draws.uniform(
        0.75, 1.25, 3, 1
    ) + draws.uniform(-0.17, 0.17, 3, 3)
    return Scene(
        sizes=sizes,
        poses=torch.cat([spot, torch.atan2(middle[:, 1:], middle[:, :1])], 1),
        kinds=kind,
        colours=torch.tensor([COLOURS.index(c) for c in colours])[
            draws.integers(0, len(colours), most)
        ],
        centres=boxes[:, :, 0],
        extents=extents,
        angles=turn.gather(2, chosen[..., None])[..., 0],
        valid=valid,
        materials=draws.integers(0, 3, 2) + torch.tensor([0, 2]),
        tints=torch.cat([tints[:, :2], 0.75 + 0.25 * tints[:, 2:]], 1).clamp(0.15, 1),
        lights=sizes
        * torch.cat([draws.uniform(0.25, 0.75, 2), torch.full((n, 1), 0.9)], 1),
        noise=torch.full((n,), float(noise)),
        grain=draws.integers(0, 64, 2),
    )


def _boxes(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The room itself, then six pieces of each object: centres and half sizes (n, k,
    3), cosines and sines (n, k)."""
    pieces, n = (
        _TABLE[scene.kinds.numpy()] * scene.valid.numpy()[..., None, None],
        len(scene),
    )
    size = scene.extents.numpy()[:, :, None]
    low, high = pieces[..., 0:6:2] * size, pieces[..., 1:6:2] * size
    cos, sin = (f(scene.angles).numpy()[..., None] for f in (torch.cos, torch.sin))
    middle, half = (low + high) / 2, (high - low) / 2
    where = scene.centres.numpy()[:, :, None]
    x = where[..., 0] + cos * middle[..., 0] - sin * middle[..., 1]
    y = where[..., 1] + sin * middle[..., 0] + cos * middle[..., 1]
    centre = np.stack([x, y, middle[..., 2]], -1).reshape(n, -1, 3)
    room = scene.sizes.numpy()[:, None] / 2
    # The room is not turned: its cosine is 1, its sine 0.
    cos, sin = (
        np.insert(values.repeat(6, 2).reshape(n, -1), 0, own, 1)
        for values, own in ((cos, 1), (sin, 0))
    )
    return (
        np.concatenate([room, centre], 1),
        np.concatenate([room, half.reshape(n, -1, 3)], 1),
        cos,
        sin,
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


def _cast(scene: Scene, size: int) -> _View:
    n, eye = len(scene), scene.poses.numpy()
    step = (np.arange(size, dtype=np.float32) + 0.5) / size
    slopes, across = (HORIZON - step) / FOCAL, (step - 0.5) / FOCAL
    ahead = np.stack([np.cos(eye[:, 2]), np.sin(eye[:, 2])], 1)[..., None]
    ways = ahead + np.stack([ahead[:, 1], -ahead[:, 0]], 1) * across
    centre, half, cos, sin = _boxes(scene)
    # The rays in each box's own frame.
    (x, y), (u, v) = (
        np.moveaxis(eye[:, None, :2] - centre[..., :2], 2, 0)[..., None],
        np.moveaxis(ways[:, None], 2, 0),
    )
    c, s = cos[..., None], sin[..., None]
    start, way = (
        np.stack([c * x + s * y, c * y - s * x], 2),
        np.stack([c * u + s * v, c * v - s * u], 2),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = ((side * half[..., :2, None] - start) / way for side in (-1, 1))
        heights = [
            (centre[..., 2, None] + side * half[..., 2, None] - EYE) / slopes
            for side in (-1, 1)
        ]
    enter, leave = np.minimum(first, second), np.maximum(first, second)
    near, far, over, under = (
        enter.max(2),
        leave.min(2),
        np.minimum(*heights),
        np.maximum(*heights),
    )
    axis = (enter[:, :, 1] > enter[:, :, 0]).astype(np.uint8)
    # the room is seen from inside
    near[:, 0], axis[:, 0] = far[:, 0], leave[:, 0, 1] < leave[:, 0, 0]
    sides = 1 + 2 * axis + (np.where(axis, way[:, :, 1], way[:, :, 0]) > 0)
    level = np.where(slopes > 0, np.uint8(5), np.uint8(0))[:, None]
    depth = np.minimum(near[:, 0, None], under[:, 0, :, None])
    face = np.where(depth < near[:, :1], level, sides[:, :1])
    box = np.zeros((n, size, size), np.uint8)
    columns = (near < far) & (far > CLOSE)
    rows = (over < far.max(2, keepdims=True)) & (under > CLOSE)
    columns[:, 0] = False
    for i, k in zip(*np.nonzero(columns.any(2) & rows.any(2)), strict=True):
        (left, right), (top, bottom) = (
            np.flatnonzero(hit[i, k])[[0, -1]] for hit in (columns, rows)
        )
        r, q = slice(top, bottom + 1), slice(left, right + 1)
        before, above = near[i, k, q], over[i, k, r, None]
        begin = np.maximum(before, above)
        end = np.minimum(np.minimum(far[i, k, q], under[i, k, r, None]), depth[i, r, q])
        seen = (begin < end) & (begin > CLOSE)
        np.copyto(depth[i, r, q], begin, where=seen)
        np.copyto(box[i, r, q], np.uint8(k), where=seen)
        np.copyto(
            face[i, r, q],
            np.where(above > before, level[r], sides[i, k, q]),
            where=seen,
        )
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    vectors = [
        (zero, zero, one),
        (cos, sin, zero),
        (-cos, -sin, zero),
        (-sin, cos, zero),
        (sin, -cos, zero),
    ]
    normals = np.stack(
        [np.stack(vector, -1) for vector in [*vectors, (zero, zero, -one)]], 2
    )
    reach = half[:, :, [2, 0, 0, 1, 1, 2]]
    reach[:, 0] *= -1  # the room's faces look inside
    offsets = (normals * centre[:, :, None]).sum(-1) + reach
    return _View(depth, box, face, ways, slopes, normals, offsets)


@lru_cache(maxsize=1)
def _textures() -> np.ndarray:
    """256 x 256 pieces of the materials, one after another, around 1."""
    pieces = [
        photos.material(name, (200, 200, 200))[..., 0].astype(np.float32)
        for name in _MATERIALS
    ]
    return np.concatenate([(piece / piece.mean()).ravel() for piece in pieces])


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """What the agents see: materials under one lamp, with soft shadows on the floor and
    darker corners."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    view = _cast(scene, size * _OVER)
    fine = (_shade(scene, view, i, colours) for i, colours in enumerate(_paint(scene)))
    ground = np.stack(
        [
            cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            for image in fine
        ]
    )
    nothing, ones = np.zeros((n, size, size, 4), np.uint8), torch.ones(n, 3)
    canvas.photograph(
        nothing,
        ground.astype(np.uint8),
        Camera(ones, ones[:, 0], scene.noise, scene.grain),
        out,
    )


def _paint(scene: Scene) -> Float[np.ndarray, "n faces 3"]:
    """The colour of each face."""
    palette = np.array(list(PALETTE.values()), np.float32)[scene.colours.numpy()] / 255
    wood, white = np.array([[0.2, 0.14, 0.09], [0.93, 0.92, 0.88]], np.float32)
    # (n, m, 3 paints, 3)
    paints = np.stack([palette, palette * 0.25 + wood, palette * 0 + white], 2)
    which = _TABLE[scene.kinds.numpy()][..., 6, None].astype(int)
    pieces = (
        np.take_along_axis(paints, which, 2).reshape(len(scene), -1, 3).repeat(6, 1)
    )
    tints = scene.tints.numpy()[:, [0, 1, 1, 1, 1, 2]]
    # a warm lamp
    return np.concatenate([tints, pieces], 1) * np.array([1.03, 1.0, 0.94], np.float32)


def _shade(
    scene: Scene, view: _View, i: int, colours: Float[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "h w 3"]:
    """Light on what one agent sees."""
    # Light from everywhere, a little more on the ceiling and from one side; how far the
    # lamp is in front of each face.
    ambient = 0.5 + 0.06 * view.normals[i, ..., 0].ravel()
    ambient[5] = 0.75
    facing = (
        (view.normals[i] * scene.lights[i].numpy()).sum(-1) - view.offsets[i]
    ).clip(0)
    material = np.full(ambient.shape, _MATERIALS.index("plaster"))
    material[:5] = scene.materials[i, [0, 1, 1, 1, 1]]
    depth, face, horizon = view.depth[i], view.face[i], int(np.argmin(view.slopes > 0))
    eye, room, lamp = (
        scene.poses[i].tolist(),
        scene.sizes[i].tolist(),
        scene.lights[i].tolist(),
    )
    index = view.box[i].astype(np.int32) * 6 + face
    x, y = (view.ways[i, k] * depth + eye[k] for k in (0, 1))
    z = view.slopes[:, None] * depth + EYE
    # Texture: level faces by (x, y), upright ones by the way along them and z.
    level, bare = (face == 0) | (face == 5), index < 6
    u, v = np.where(level, x, x + y), np.where(level, y, -z)
    place = (((v * 110).astype(np.int32) & 255) << 8) + (
        (u * 110).astype(np.int32) & 255
    )
    grain = (_textures().take(place + (material << 16).take(index)) - 1) / (
        0.1 * depth + 1
    ) + 1
    # The lamp: Lambert's law, falling off gently with distance.
    far = (x - lamp[0]) ** 2 + (y - lamp[1]) ** 2 + (z - lamp[2]) ** 2
    light = ambient.take(index) + facing.take(index) * 0.75 / (
        np.sqrt(far) * (0.035 * far + 1)
    )
    # Corners of the room are darker: the second smallest of the distances to its walls,
    # and to floor or ceiling.
    p, q, r = (
        np.minimum(x, room[0] - x),
        np.minimum(y, room[1] - y),
        np.minimum(z, room[2] - z),
    )
    corner = np.maximum(np.minimum(p, q), np.minimum(np.maximum(p, q), r)).clip(0)
    light *= 1 - bare * (np.float32(0.3) / (7 * corner + 1))
    light *= 1 - np.float32(0.45) * (bare & ~level & (z < 0.09))  # a skirting board
    x, y, floor, onto = (
        x[horizon:],
        y[horizon:],
        (index == 0)[horizon:],
        light[horizon:],
    )
    things = torch.cat(
        [scene.extents[i], scene.centres[i], scene.angles[i, :, None]], 1
    )
    for wide, deep, tall, cx, cy, turn in things[
        scene.valid[i] & (scene.kinds[i] != _PICTURE)
    ].tolist():
        # shadows lean away from the lamp
        lean = 0.12 * tall / max(0.3, lamp[2] - 0.5 * tall)
        fx, fy = x - (cx + lean * (cx - lamp[0])), y - (cy + lean * (cy - lamp[1]))
        cos, sin = math.cos(turn), math.sin(turn)
        dx = (np.abs(cos * fx + sin * fy) - wide / 2).clip(0)
        dy = (np.abs(cos * fy - sin * fx) - deep / 2).clip(0)
        onto *= 1 - floor * (np.float32(0.42) / (45 * (dx * dx + dy * dy) + 1))
    return (colours.take(index, 0) * (255 * grain * light)[..., None]).clip(0, 255)


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)`` at the pixels' centres.

    Returns:
        ``depth`` (n, h, w) metres along the camera's axis; ``normals`` (n, 3, h, w) of
        length 1, in the camera's frame (x right, y down, z ahead), facing it; ``edges``
        (n, h, w), bool: the pixel to the right or below lies in another plane;
        ``labels`` (n, h, w) into ``CLASSES``; ``objects`` (n, h, w), 0 for the room and
        j + 1 for object j.
    """
    check_size(size)
    view, n = _cast(scene, size), len(scene)
    box, face = (torch.from_numpy(grid).long() for grid in (view.box, view.face))
    cos, sin = scene.poses[:, 2, None, None].cos(), scene.poses[:, 2, None, None].sin()
    x, y, z = torch.from_numpy(view.normals).unbind(-1)
    # (n, 3, boxes x 6)
    facets = torch.stack([sin * x - cos * y, -z, cos * x + sin * y], 1).flatten(2)
    where = (box * 6 + face).flatten(1)
    normals = facets.gather(2, where[:, None].expand(-1, 3, -1)).unflatten(
        2, (size, size)
    )
    planes = (
        torch.from_numpy(view.offsets)
        .flatten(1)
        .gather(1, where)
        .unflatten(1, (size, size))
    )
    edges = torch.zeros(n, size, size, dtype=torch.bool)
    for axis in (1, 2):  # pieces side by side in one plane do not count
        apart = (planes.diff(dim=axis).abs() > 0.02) | (
            (normals.diff(dim=axis + 1).abs() > 0.1).any(1)
        )
        edges.narrow(axis, 0, size - 1).logical_or_(apart)
    objects = (box + 5) // 6  # six pieces each
    kind = (
        scene.kinds.gather(1, (objects.flatten(1) - 1).clamp(min=0)).reshape(
            objects.shape
        )
        + 3
    )
    labels = torch.where(box > 0, kind, torch.tensor([0, 1, 1, 1, 1, 2])[face])
    seen = {"depth": torch.from_numpy(view.depth), "normals": normals, "edges": edges}
    return seen | {"labels": labels, "objects": objects}


def edges2d(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h w"]:
    """Edges in brightness, whatever causes them: the length of the slightly smoothed
    picture's gradient, per pixel."""
    grey = functional.avg_pool2d(
        functional.pad(images.mean(1, keepdim=True), (2, 2, 2, 2), mode="replicate"),
        3,
        1,
    )
    across, down = (
        grey[:, 0, 1:-1, 2:] - grey[:, 0, 1:-1, :-2],
        grey[:, 0, 2:, 1:-1] - grey[:, 0, :-2, 1:-1],
    )
    return torch.hypot(across, down) / 2


def free(scene: Scene, points: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
    """Where an agent's body would fit, one point in each room."""
    inside = ((points > RADIUS) & (points < scene.sizes[:, :2] - RADIUS)).all(1)
    x, y = (points[:, None] - scene.centres).unbind(-1)
    cos, sin = scene.angles.cos(), scene.angles.sin()
    local = torch.stack([cos * x + sin * y, cos * y - sin * x], -1).abs()
    away = (local - scene.extents[..., :2] / 2).clamp(min=0).norm(dim=-1)
    solid = scene.valid & (scene.kinds != _PICTURE)
    return inside & ~(solid & (away < RADIUS)).any(1)


def step(scene: Scene, actions: Int[Tensor, " n"]) -> tuple[Scene, Bool[Tensor, " n"]]:
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
    exist = ((actions >= 0) & (actions < len(ACTIONS))).all()
    expect(exist, f"actions from 0 to {len(ACTIONS) - 1}", actions.tolist())
    heading = scene.poses[:, 2]
    goal = scene.poses[:, :2] + STRIDE * torch.stack([heading.cos(), heading.sin()], 1)
    goes, fits = actions == 0, free(scene, goal)
    spot = torch.where((goes & fits)[:, None], goal, scene.poses[:, :2])
    turn = TURN * ((actions == 1).float() - (actions == 2).float())
    return replace(
        scene, poses=torch.cat([spot, (heading + turn)[:, None]], 1)
    ), goes & ~fits


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
    # (n, m, kinds)
    there = functional.one_hot(scene.kinds, len(KINDS)) * scene.valid[..., None]
    counts, single = there.sum(1), there.sum(1) == 1
    question = torch.where(single.any(1), draws.integers(0, 2), 0)
    chance = draws.uniform(0, 1, len(KINDS))
    kinds = torch.where(question > 0, (chance * single).argmax(1), chance.argmax(1))
    rows = torch.arange(len(scene))
    colour = (scene.colours * there[rows, :, kinds]).sum(1)
    answers = torch.where(question > 0, MOST + 1 + colour, counts[rows, kinds])
    return {"questions": question, "kinds": kinds, "answers": answers}
