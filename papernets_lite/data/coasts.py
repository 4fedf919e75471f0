"""The world `coasts`: a coast from the air, between a sea full of islands and a land
full of lakes.

Water and ground are patches on both sides; only their shares differ. What stands on a
round piece of concrete is a boat where the sea is around it and a car where the land
is: the same drawing, so that nothing but its surroundings tells. Lengths are in units
of the image's side.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import SupportsIndex

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data import canvas
from papernets_lite.data.canvas import LIGHT, Camera, Draws, check_range, check_size

CLASSES = ("water", "ground", "concrete", "boat", "car", "house", "hall", "raft")
COLOURS = ("red", "orange", "yellow", "teal", "blue", "purple", "white")
KINDS = ("vehicle", "house", "hall", "raft", "nothing")
# What stands in the nine places, in random order.
_PLACES = (0, 0, 0, 0, 1, 2, 3, 3, 4)
_PAINTS = np.array([canvas.PALETTE[name] for name in COLOURS], np.float32)
_NEAR = 0.1  # nothing that asks for a side stands nearer to the coast
_FILM = 1024  # side of the terrain from which pieces are cut
_PIECE = 144  # of it in a picture
# Heights, from the deep to the hills, and their colours.
_HEIGHTS = np.array([-2.6, -0.7, -0.05, 0.0, 0.12, 0.5, 2.6], np.float32)
_TERRAIN = np.array(
    [
        (38, 92, 140),
        (70, 140, 178),
        (126, 188, 196),
        (232, 218, 170),
        (176, 190, 112),
        (132, 170, 92),
        (84, 128, 74),
    ],
    np.float32,
)
# Inks: what is shared, then four for each place.
_SHADOW, _RIM, _CONCRETE, _FIRST = 1, 2, 3, 8
_SHADE, _BODY, _HIGHLIGHT, _DARK = range(4)


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n coasts with nine places each."""

    # the direction in which the sea lies, radians; x to the right, y down
    seaward: Float[Tensor, " n"]
    offsets: Float[Tensor, " n"]  # of the coast from the middle, towards the sea
    bends: Float[Tensor, "n 2"]  # of the coast: how far, and its phase
    contrast: Float[Tensor, " n"]  # of sea and land, see ``sample``
    terrain: Float[Tensor, "n 2"]  # which piece of the terrain, in [0, 1)
    kinds: Int[Tensor, "n 9"]  # into KINDS
    places: Float[Tensor, "n 9 2"]  # (x, y) of the middle
    turns: Float[Tensor, "n 9"]  # radians
    colours: Int[Tensor, "n 9"]  # into COLOURS
    gains: Float[Tensor, "n 3"]  # of the camera's red, green and blue
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    contrast: canvas.Range = (0.5, 0.5),
    noise: int | float = 0.015,
) -> Scene:
    """Draw the factors of ``n`` images; image i does not depend on ``n``.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        contrast: least and most by which the land lies above and the sea below the
            common mean, in standard deviations of the terrain, from 0 to 3. At 0.5 the
            sea is about 70 % water and the land 30 %.
        noise: standard deviation of the sensor's noise, from 0 to 1.

    Raises:
        ValueError: for an empty or inverted range, ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("contrast", contrast, 0, 3)
    check_range("noise", (0, noise), 0, 1)
    order = draws.uniform(0, 1, 9).argsort(1)
    grid = torch.tensor([1.0, 3.0, 5.0]) / 6
    middles = _pairs(grid).flatten(0, 1)
    return Scene(
        seaward=draws.uniform(0, 2 * np.pi),
        offsets=draws.uniform(-0.12, 0.12),
        bends=draws.uniform(0, 1, 2),
        contrast=draws.uniform(*contrast),
        terrain=draws.uniform(0, 1, 2),
        kinds=torch.tensor(_PLACES)[order],
        places=middles + draws.uniform(-0.03, 0.03, 9, 2),
        turns=draws.uniform(0, 2 * np.pi, 9),
        colours=draws.integers(0, len(COLOURS), 9),
        gains=draws.uniform(0.94, 1.04, 3),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


def _pairs(axis: Float[Tensor, " k"]) -> Float[Tensor, "k k 2"]:
    """(x, y) of all places of a square grid, row by row."""
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([across, down], -1)


def _pixels(scene: Scene, size: int) -> Float[Tensor, "n size size 2"]:
    """The pixels' centres in each image."""
    axis = torch.from_numpy(canvas.centres(size))
    return _pairs(axis).expand(len(scene), -1, -1, -1)


def seawards(scene: Scene, points: Float[Tensor, "n *p 2"]) -> Float[Tensor, "n *p"]:
    """How far points lie from the coast, roughly: positive in the sea, negative on
    land.

    Args:
        scene: whose coasts they are.
        points: (x, y) of each image.
    """
    shape = (-1, *[1] * (points.ndim - 2))
    cos = scene.seaward.cos().view(shape)
    sin = scene.seaward.sin().view(shape)
    far, phase = (bend.view(shape) for bend in scene.bends.T)
    x, y = (points - 0.5).unbind(-1)
    along = y * cos - x * sin
    wave = 0.1 * far * torch.sin(6.3 * (along + phase))
    towards = x * cos + y * sin
    return towards - scene.offsets.view(shape) - wave


def _stands(scene: Scene) -> tuple[Tensor, Tensor]:
    """What really stands in each place, and how far that lies towards the sea; a
    vehicle on the coast itself would be neither."""
    far = seawards(scene, scene.places)
    unclear = (scene.kinds == 0) & (far.abs() < _NEAR)
    return scene.kinds.where(~unclear, KINDS.index("nothing")), far


@lru_cache(maxsize=1)
def _film() -> np.ndarray:
    """Smooth random heights of mean 0 and deviation 1."""
    generator = torch.Generator().manual_seed(7)
    rough = torch.randn(_FILM, _FILM, generator=generator).numpy()
    wide = cv2.GaussianBlur(rough, (0, 0), 5.0)
    fine = cv2.GaussianBlur(rough[::-1], (0, 0), 2.0)
    heights = wide / wide.std() + 0.35 * fine / fine.std()
    return ((heights - heights.mean()) / heights.std()).astype(np.float32)


def heights(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n h w"]:
    """Of the terrain at the pixels' centres; negative is water."""
    side = check_size(size)
    film = _film()
    corners = (scene.terrain.numpy() * (_FILM - _PIECE)).astype(int)
    out = np.empty((len(scene), side, side), np.float32)
    for i, (left, top) in enumerate(corners):
        piece = film[top : top + _PIECE, left : left + _PIECE]
        cv2.resize(piece, (side, side), dst=out[i], interpolation=cv2.INTER_AREA)
    pixels = _pixels(scene, side)
    shift = torch.tanh(seawards(scene, pixels) / 0.04)
    return torch.from_numpy(out) - scene.contrast[:, None, None] * shift


def _box(half_long: float, half_wide: float, ahead: float = 0.0) -> np.ndarray:
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    box = np.array(corners) * (half_long, half_wide)
    return box + np.array([ahead, 0.0])


_AROUND = canvas.directions((np.arange(8) + 0.5) * np.pi / 4)
_HULL = np.array(
    [
        (0.085, 0.0),
        (0.062, 0.034),
        (0.02, 0.043),
        (-0.07, 0.04),
        (-0.08, 0.0),
        (-0.07, -0.04),
        (0.02, -0.043),
        (0.062, -0.034),
    ]
)
_LIT = np.array([1.0, 0.4])  # the side of a roof that faces the light


def _roof(half_long: float, half_wide: float) -> list[tuple[int, np.ndarray]]:
    near = _box(half_long, half_wide)
    lit = near.copy()
    lit[1:3, 1] = 0
    return [(_SHADE, near), (_HIGHLIGHT, lit)]


# Pieces of each kind in drawing order, x ahead; the first lies on the ground and casts
# the shadow.
_PIECES = [
    [
        (_BODY, _HULL),
        (_HIGHLIGHT, _box(0.045, 0.03, -0.018)),
        (_DARK, _box(0.010, 0.027, 0.018)),
        (_DARK, _box(0.006, 0.024, -0.055)),
    ],
    _roof(0.075, 0.06),
    _roof(0.15, 0.07),
    [(_BODY, _box(0.038, 0.032)), (_SHADE, _box(0.038, 0.004))],
]


def _draw_inks(scene: Scene, size: int, *, solid: bool) -> list[np.ndarray]:
    """Maps of inks, each piece over the earlier; ``solid`` leaves shadows out."""
    stands, _ = _stands(scene)
    places = scene.places.numpy()
    turns = scene.turns.numpy()
    cos, sin = np.cos(turns), np.sin(turns)
    drawn = []
    for i in range(len(scene)):
        inks = canvas.blank(size)
        for k, kind in enumerate(stands[i].tolist()):
            if KINDS[kind] == "nothing":
                continue
            ahead = cos[i, k], sin[i, k]
            matrix = np.array([ahead, (-ahead[1], ahead[0])])
            own = _FIRST + 4 * k
            pieces = []
            for ink, outline in _PIECES[kind]:
                pieces.append((own + ink, outline @ matrix))
            shadow = [(_SHADOW, pieces[0][1] + 0.012)]
            if KINDS[kind] == "vehicle":
                shadow = [(_RIM, 0.128 * _AROUND)]
                shadow.append((_CONCRETE, 0.118 * _AROUND))
                if not solid:
                    shadow.append((_RIM, pieces[0][1] + 0.01))
            elif solid or KINDS[kind] == "raft":
                shadow = []
            for ink, corners in shadow + pieces:
                polygon = canvas.fixed((corners + places[i, k]) * size)
                canvas.fill(inks, polygon, ink)
        drawn.append(inks)
    return drawn


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: terrain, concrete, then what stands on them."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    size = out.shape[-1]
    tables = _tables(scene)
    drawn = _draw_inks(scene, size, solid=False)
    painted = []
    for inks, table in zip(drawn, tables, strict=True):
        painted.append(canvas.colour(inks, table))
    paint = np.stack(painted)
    height = heights(scene, size).numpy().clip(-2.6, 2.6)
    level = (height + 2.6) * (255 / 5.2)
    ground = _legend()[level.round().astype(np.uint8)]
    camera = Camera(scene.gains, torch.ones(len(scene)), scene.noise, scene.grain)
    canvas.photograph(paint, ground, camera, out)


@lru_cache(maxsize=1)
def _legend() -> np.ndarray:
    """Colours of 256 heights from -2.6 to 2.6."""
    levels = np.linspace(-2.6, 2.6, 256)
    channels = [np.interp(levels, _HEIGHTS, channel) for channel in _TERRAIN.T]
    return np.stack(channels, -1).round().astype(np.uint8)


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n = len(scene)
    colours = np.zeros((n, _FIRST + 36, 3), np.float32)
    colours[:, _RIM] = (142, 142, 148)
    colours[:, _CONCRETE] = (176, 175, 174)
    own = colours[:, _FIRST:].reshape(n, 9, 4, 3)  # a view
    kinds = scene.kinds.numpy()
    paints = _PAINTS[scene.colours.numpy()]
    paints[np.isin(kinds, (1, 2))] = (196, 112, 88)  # roofs are of one tile
    paints[kinds == KINDS.index("raft")] = (150, 176, 104)  # an island's colour
    own[:, :, :3] = paints[:, :, None] * LIGHT
    own[:, :, _DARK] = (58, 62, 76)
    alpha = np.ones(_FIRST + 36)
    alpha[[0, _SHADOW]] = 0, 0.4
    return canvas.plain_inkwell(colours, alpha)


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same drawing at the
    pixels' centres.

    Returns:
        ``labels`` (n, h, w) into CLASSES; ``instances`` (n, h, w): 1 to 9 for what
        stands in the places, without its concrete, and 0 elsewhere; ``stands`` (n, 9)
        into KINDS: a vehicle too near to the coast is left out; ``at_sea`` (n, 9), the
        side on which each place lies; ``sea`` (n, h, w), the side of each pixel.
    """
    side = check_size(size)
    stands, far = _stands(scene)
    inks = []
    for one in _draw_inks(scene, side, solid=True):
        inks.append(canvas.at_centres(one))
    drawn = torch.from_numpy(np.stack(inks).astype(np.int64))
    place = (drawn - _FIRST) // 4 + 1
    owner = torch.where(drawn >= _FIRST, place, 0)
    # vehicles on land are cars; houses, halls and rafts follow in the classes
    numbers = torch.where(stands == 0, 4 - (far > 0).long(), stands + 4)
    things = torch.nn.functional.pad(numbers, (1, 0))
    object_labels = things.gather(1, owner.flatten(1)).view_as(owner)
    labels = (heights(scene, side) > 0).long()
    concrete = (drawn == _RIM) | (drawn == _CONCRETE)
    labels = torch.where(concrete, 2, labels)
    pixels = _pixels(scene, side)
    return {
        "labels": torch.where(owner > 0, object_labels, labels),
        "instances": owner,
        "stands": stands,
        "at_sea": far > 0,
        "sea": seawards(scene, pixels) > 0,
    }
