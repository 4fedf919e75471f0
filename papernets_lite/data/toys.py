"""The world `toys`: things built of blocks, on a turntable that stops at twelve angles.

Forty kinds, whose blocks stand in ``toys.json``, each in its own box. All have a front,
which pose 0 turns to the camera. One thing differs from another of its kind in
proportions and colours. Lengths are in percent of a usual height.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import SupportsIndex

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data import canvas
from papernets_lite.data.canvas import (
    PALETTE,
    Draws,
    check_names,
    check_range,
    check_size,
)

# Each block: its paint, then its extents to the front, to the left and upwards.
_BLOCKS: dict[str, list[list[int]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
CLASSES = tuple(_BLOCKS)
_PAINTS = [np.array(blocks)[:, 0] for blocks in _BLOCKS.values()]
_ENDS = [
    np.array(blocks, float)[:, 1:].reshape(-1, 3, 2) for blocks in _BLOCKS.values()
]
_TALLEST = 102  # the height at which nothing is stretched
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "white",
)
POSES = 12  # stops of the turntable, 30 degrees apart
_COLOURS = np.array([PALETTE[name] for name in COLOURS], np.float32)
_DARK, _PALE, _GREY = (52, 54, 62), (238, 234, 222), (142, 138, 134)
_FIXED = np.array([_DARK, _PALE, _GREY], np.float32)
_UP = np.deg2rad(28)  # how far the camera looks down
_UNIT = 0.0056  # of the picture's side for one unit
_FLOOR = 0.7  # where the turntable's middle is, from the top
_LIGHT = np.array([0.45, -0.5, 0.74])  # towards it, seen from the camera
# Inks: the shadow, then five for each block.
_SHADOW, _FIRST = 1, 2
# The corners of a block: along each axis its low end, 0, or its high one, 1. Its faces
# look along an axis to one side; no camera sees it from below.
_CORNERS = np.array(list(np.ndindex(2, 2, 2)))
_AXES = np.arange(3)
_SIDES = (
    (0, 0),
    (0, 1),
    (1, 0),
    (1, 1),
    (2, 1),
)
_RINGS = np.array(
    [
        (0, 1, 3, 2),
        (4, 5, 7, 6),
        (0, 1, 5, 4),
        (2, 3, 7, 6),
        (1, 3, 7, 5),
    ]
)


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n toys."""

    labels: Int[Tensor, " n"]  # into CLASSES
    poses: Int[Tensor, " n"]  # stops, from 0 to POSES - 1; a turn to its left
    scales: Float[Tensor, "n 3"]  # of depth, width and height
    knees: Float[Tensor, " n"]  # how much more the lower parts are stretched
    colours: Int[Tensor, "n 2"]  # into COLOURS
    walls: Float[Tensor, "n 3"]  # the colour behind, 0..255
    gains: Float[Tensor, "n 3"]  # of the camera's red, green and blue
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    classes: Collection[str] = CLASSES,
    poses: canvas.Range = (0, POSES - 1),
    noise: int | float = 0.02,
) -> Scene:
    """Draw the factors of ``n`` pictures; picture i does not depend on ``n``.

    Args:
        n: how many.
        generator: CPU generator; the same seed gives the same scene on every machine.
        classes: names from CLASSES.
        poses: first and last stop.
        noise: standard deviation of the sensor's noise, from 0 to 1.

    Raises:
        ValueError: for unknown names, stops that are not there, ``n < 1`` or a wrong
            generator.
    """
    draws = Draws.start(n, generator)
    check_names("classes", classes, CLASSES)
    check_range("poses", poses, 0, POSES - 1, whole=True)
    check_range("noise", (0, noise), 0, 1)
    first = draws.integers(0, len(COLOURS))
    other = (first + draws.integers(1, len(COLOURS))) % len(COLOURS)
    return Scene(
        labels=draws.choose(CLASSES, list(classes)),
        poses=draws.integers(int(poses[0]), int(poses[1]) + 1),
        scales=draws.uniform(0.84, 1.12, 3),
        knees=draws.uniform(-0.25, 0.25),
        colours=torch.stack([first, other], -1),
        walls=draws.uniform(150, 225)[:, None] + draws.uniform(-18, 18, 3),
        gains=draws.uniform(0.94, 1.05, 3),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


def turned(scene: Scene, poses: int | Int[Tensor, " n"]) -> Scene:
    """The same toys at other stops; nothing else differs.

    Args:
        scene: the toys.
        poses: one stop for all, or one each; counted on, round the turntable.
    """
    stops = torch.as_tensor(poses).expand(len(scene)) % POSES
    return replace(scene, poses=stops)


def around(scene: Scene) -> Scene:
    """Each toy at all stops, toy by toy."""
    every = torch.arange(len(scene)).repeat_interleave(POSES)
    return turned(scene[every], torch.arange(POSES).repeat(len(scene)))


@lru_cache(maxsize=len(CLASSES) * 4)
def _order(label: int, quarter: int) -> list[int]:
    """The blocks of a toy from the farthest to the nearest, for all angles within a
    quarter of a turn.

    Two blocks are apart along an axis, and there the farther one cannot hide the
    nearer. Where two axes say so of both, neither hides the other.
    """
    low = _ENDS[label][..., 0]
    high = _ENDS[label][..., 1]
    towards = _towards((quarter + 0.5) * np.pi / 2)
    count = len(low)
    harmless = np.zeros((count, count), bool)  # the first cannot hide the second
    for axis in range(3):
        highs, lows = high[:, axis], low[:, axis]
        below = highs[:, None] <= lows
        harmless |= below if towards[axis] > 0 else below.T
    behind = harmless & ~harmless.T
    order: list[int] = []
    rest = list(range(count))
    while rest:
        free = [i for i in rest if not behind[rest, i].any()]
        order.append(free[0] if free else rest[0])
        rest.remove(order[-1])
    return order


def _towards(angle: float) -> np.ndarray:
    """The direction to the camera in the toy's own axes, when it is turned so far."""
    level = np.cos(_UP)
    front = level * np.cos(angle)
    left = level * np.sin(angle)
    return np.array([front, left, np.sin(_UP)])


def _angle(scene: Scene, i: int) -> float:
    """How far a toy is turned, in radians."""
    return float(scene.poses[i]) * 2 * np.pi / POSES


def _solid(scene: Scene, i: int) -> np.ndarray:
    """The corners of the blocks with this toy's proportions, (blocks, 8, 3)."""
    ends = _ENDS[int(scene.labels[i])].copy()
    # monotone, so that blocks which touch still do
    height = ends[:, 2] / _TALLEST
    ends[:, 2] *= 1 + float(scene.knees[i]) * (1 - height)
    ends *= scene.scales[i].numpy()[:, None]
    return ends[:, _AXES, _CORNERS]


def _seen(points: np.ndarray, angle: float, size: int) -> np.ndarray:
    """Points in the toy's axes (..., 3) -> the map of inks (..., 2), fixed point."""
    cos, sin = np.cos(angle), np.sin(angle)
    down = np.sin(_UP)
    across = np.array(
        [
            (-sin, cos * down),
            (cos, sin * down),
            (0.0, -np.cos(_UP)),
        ]
    )
    units = points @ (_UNIT * across)
    pixels = size * (units + np.array((0.5, _FLOOR)))
    return np.ascontiguousarray(canvas.fixed(pixels))


def _inks(scene: Scene, i: int, size: int) -> np.ndarray:
    """The map of inks of one picture: 1 is the shadow, then five for each block."""
    angle = _angle(scene, i)
    corners = _solid(scene, i)
    light = _turn(_LIGHT, angle)
    shadows = corners - corners[..., 2:] * (light / light[2])
    inks = canvas.blank(size)
    for outline in _seen(shadows, angle, size):
        hull = cv2.convexHull(outline)
        cv2.fillConvexPoly(inks, hull, _SHADOW, cv2.LINE_8, canvas.SHIFT)
    faces = _shown(angle)
    shapes = _seen(corners, angle, size)[:, _RINGS[faces]]
    quarter = int(angle // (np.pi / 2))
    order = _order(int(scene.labels[i]), quarter)
    colours = []
    for block in order:
        first = _FIRST + len(_SIDES) * block
        colours += [first + face for face in faces]
    polygons = shapes[order].reshape(-1, 4, 2)
    return canvas.stamp(inks, polygons, colours)


def _shown(angle: float) -> list[int]:
    """Which sides the camera sees."""
    to_us = _towards(angle) > 1e-6
    shown = []
    for number, (axis, side) in enumerate(_SIDES):
        if to_us[axis] == bool(side):
            shown.append(number)
    return shown


def _turn(direction: np.ndarray, angle: float) -> np.ndarray:
    """A direction seen from the camera's side, in the toy's own axes."""
    front, left, up = direction
    cos, sin = np.cos(angle), np.sin(angle)
    x = front * cos - left * sin
    y = front * sin + left * cos
    return np.array([x, y, up])


def _shades(angle: float) -> np.ndarray:
    """How bright the sides of all blocks are, (sides, 1)."""
    light = _turn(_LIGHT, angle)
    lit = []
    for axis, side in _SIDES:
        lit.append(light[axis] if side else -light[axis])
    brighter = np.array(lit, np.float32).clip(min=0)
    return 0.5 + 0.62 * brighter[:, None]


def _paints(scene: Scene, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The colours of one picture's inks (inks, 3), and their opacity."""
    chosen = scene.colours[i].numpy()
    own = np.concatenate([_COLOURS[chosen], _FIXED])
    label = int(scene.labels[i])
    blocks = own[_PAINTS[label]]
    angle = _angle(scene, i)
    faces = blocks[:, None] * _shades(angle)
    colours = np.concatenate([np.zeros((_FIRST, 3)), faces.reshape(-1, 3)])
    alpha = np.ones(len(colours), np.float32)
    alpha[:_FIRST] = 0, 0.32
    return colours, alpha


@lru_cache(maxsize=8)
def _stage(size: int) -> tuple[np.ndarray, np.ndarray]:
    """How bright wall and floor are, and where the turntable is, (size, size, 1)."""
    turn = np.arange(32) * (2 * np.pi / 32)
    rim = 78 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
    disc = canvas.blank(size)
    canvas.fill(disc, _seen(rim, 0.0, size), 255)
    share = canvas.at_centres(cv2.blur(disc, (canvas.OVER, canvas.OVER))) / 255
    down = canvas.centres(size)[:, None]
    light = 1.06 - 0.2 * down
    return light[..., None].astype(np.float32), share[..., None].astype(np.float32)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    size = out.shape[-1]
    light, disc = _stage(size)
    walls = scene.walls.numpy()[:, None, None] * light
    grounds = walls + disc * 0.45 * (250 - walls)
    paint = np.zeros((len(scene), size, size, 4), np.uint8)
    for i in range(len(scene)):
        colours, alpha = _paints(scene, i)
        table = canvas.plain_inkwell(colours[None], alpha)
        paint[i] = canvas.colour(_inks(scene, i, size), table[0])
    contrast = torch.ones(len(scene))
    camera = canvas.Camera(scene.gains, contrast, scene.noise, scene.grain)
    canvas.photograph(paint, grounds.clip(0, 255).astype(np.uint8), camera, out)


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """The pictures, in [0, 1].

    Args:
        scene: the factors of all pictures.
        size: side in pixels, at least 16.

    Raises:
        ValueError: for a size that is too small.
    """
    return canvas.render(_draw, scene, size)


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """Kind, pose and silhouette.

    Args:
        scene: the factors of all pictures.
        size: side in pixels, at least 16.

    Returns:
        ``labels`` (n,), into CLASSES; ``poses`` (n,); ``masks`` (n, size, size), True
        where a pixel's centre lies on the toy.

    Raises:
        ValueError: for a size that is too small.
    """
    side = check_size(size)
    masks = torch.empty(len(scene), side, side, dtype=torch.bool)
    with canvas.one_thread():
        for i in range(len(scene)):
            toy = canvas.at_centres(_inks(scene, i, side)) >= _FIRST
            masks[i] = torch.from_numpy(toy)
    labels, poses = scene.labels.clone(), scene.poses.clone()
    return {"labels": labels, "poses": poses, "masks": masks}
