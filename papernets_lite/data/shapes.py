"""The world `shapes`: coloured, patterned, lit objects that overlap, over photographs
or a plain ground."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import (
    LIGHT,
    PALETTE,
    PATTERNS,
    Draws,
    Range,
    check_names,
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

CLASSES = ("circle", "square", "triangle", "star", "hexagon", "cross", "ring", "heart")
COLOURS = tuple(PALETTE)
TEXTURES = PATTERNS
GROUNDS = ("photo", "plain")
# factors that each object has
OF_OBJECTS = ("labels", "colours", "textures", "centres", "radii", "angles", "valid")
TRIES = 24  # places drawn for an object that shall not overlap others


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n images with up to m objects; a later object lies in front of an
    earlier one."""

    labels: Int[Tensor, "n m"]
    colours: Int[Tensor, "n m"]
    textures: Int[Tensor, "n m"]
    centres: Float[Tensor, "n m 2"]  # (x, y), in units of the image's side
    radii: Float[Tensor, "n m"]  # same units
    angles: Float[Tensor, "n m"]  # radians
    valid: Bool[Tensor, "n m"]
    grounds: Int[Tensor, " n"]  # into GROUNDS
    backgrounds: Float[Tensor, "n 4"]  # draws of photos.crops
    tints: Float[Tensor, "n 3"]  # of the ground, red, green and blue in [0, 1)
    # small distractors: x, y, length, direction and hue in [0, 1)
    clutter: Float[Tensor, "n k 5"]
    # where the light comes from, from -1 (left) to 1 (right)
    light: Float[Tensor, " n"]
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    objects: tuple[int, int] = (1, 4),
    radius: Range = (0.12, 0.25),
    classes: Sequence[str] = CLASSES,
    colours: Sequence[str] = COLOURS,
    textures: Sequence[str] = TEXTURES,
    held_out: Collection[tuple[str, str]] = (),
    grounds: Sequence[str] = ("photo",),
    clutter: int = 3,
    noise: int | float = 0.03,
    distinct: bool = False,
    apart: bool = False,
) -> Scene:
    """Draw the factors of ``n`` images; image i does not depend on ``n``.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        objects: fewest and most objects in an image, from 1 to 60.
        radius: smallest and largest radius, in units of the image's side, from 0.01
            to 0.49.
        classes, colours, textures: the values that may occur; one value fixes the
            factor.
        held_out: (class, colour) pairs that never occur.
        grounds: backgrounds that may occur, from ``GROUNDS``.
        clutter: small strokes thrown over the ground as distractors.
        noise: standard deviation of the sensor's noise, from 0 to 1.
        distinct: no two objects of an image share their class or their colour, so that
            either names one of them.
        apart: objects do not overlap, as far as one of ``TRIES`` draws of an object's
            place allows it.

    Raises:
        ValueError: for an empty or inverted range, a name that does not exist, nothing
            left after ``held_out``, ``n < 1``, a wrong generator, or ``distinct`` with
            ``held_out`` or too few classes or colours.
    """
    draws = Draws.start(n, generator)
    check_range("objects", objects, 1, 60, whole=True)
    check_range("radius", radius, 0.01, 0.49)
    check_range("clutter", (0, clutter), 0, whole=True)
    check_range("noise", (0, noise), 0, 1)
    check_names("classes", classes, CLASSES)
    check_names("colours", colours, COLOURS)
    check_names("textures", textures, TEXTURES)
    check_names("grounds", grounds, GROUNDS)
    pairs = _pairs(classes, colours, held_out)
    most = objects[1]
    if distinct:
        enough = min(len(classes), len(colours)) >= most
        wanted = f"{most} classes and colours and nothing held out"
        expect(enough and not held_out, wanted, classes, colours, held_out)

    pair = pairs[draws.integers(0, len(pairs), most)]
    radii = draws.uniform(*radius, most)
    room = 1 - 2 * radii[..., None]
    scene = Scene(
        labels=pair[..., 0],
        colours=pair[..., 1],
        textures=draws.choose(TEXTURES, textures, most),
        centres=radii[..., None] + room * draws.uniform(0, 1, most, 2),
        radii=radii,
        angles=draws.uniform(-0.5, 0.5, most),
        valid=torch.arange(most) < draws.integers(objects[0], most + 1, 1),
        grounds=draws.choose(GROUNDS, grounds),
        backgrounds=draws.uniform(0, 1, 4),
        tints=draws.uniform(0, 1, 3),
        clutter=draws.uniform(0, 1, clutter, 5),
        light=draws.uniform(-1, 1),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )
    # What follows draws last, so that the factors above stay what they are without it.
    if distinct:
        labels = _different(draws, classes, CLASSES, most)
        hues = _different(draws, colours, COLOURS, most)
        scene = replace(scene, labels=labels, colours=hues)
    if apart:
        way = room[:, :, None] * draws.uniform(0, 1, most, TRIES, 2)
        scene = replace(scene, centres=_spread(radii[..., None, None] + way, radii))
    return scene


def alone(scene: Scene, which: Int[Tensor, " n"]) -> Scene:
    """Each image with one of its objects and nothing before it: what an occluded object
    looks like.

    Args:
        scene: of n images.
        which: the object of each image.

    Raises:
        ValueError: for another number of objects, or one that an image does not have.
    """
    expect(which.shape == (len(scene),), f"{len(scene)} objects", which.shape)
    most = scene.valid.shape[1]
    inside = (which >= 0) & (which < most)
    expect(inside.all(), f"objects from 0 to {most - 1}", which.tolist()[:5])
    image = torch.arange(len(scene))
    expect(scene.valid[image, which].all(), "objects that are there")
    kept = {}
    for name in OF_OBJECTS:
        kept[name] = getattr(scene, name)[image, which][:, None]
    return replace(scene, **kept)


def _pairs(
    classes: Sequence[str],
    colours: Sequence[str],
    held_out: Collection[tuple[str, str]],
) -> Int[Tensor, "pairs 2"]:
    """The pairs of a class and a colour that may occur."""
    for pair in held_out:
        known = len(pair) == 2 and pair[0] in CLASSES and pair[1] in COLOURS
        expect(known, f"held_out=(class, colour) from {CLASSES} and {COLOURS}", pair)
    pairs = []
    for label in classes:
        for colour in colours:
            if (label, colour) not in held_out:
                pairs.append((CLASSES.index(label), COLOURS.index(colour)))
    wanted = "a (class, colour) pair that is not held out"
    expect(pairs, wanted, held_out)
    return torch.tensor(pairs)


def _different(
    draws: Draws,
    chosen: Sequence[str],
    known: Sequence[str],
    most: int,
) -> Int[Tensor, "n m"]:
    """Of the chosen names ``most`` different ones for each image."""
    indices = torch.tensor([known.index(name) for name in chosen])
    order = draws.uniform(0, 1, len(indices)).argsort(1)
    return indices[order[:, :most]]


def _spread(
    tries: Float[Tensor, "n m t 2"],
    radii: Float[Tensor, "n m"],
) -> Float[Tensor, "n m 2"]:
    """Of each object's places the first that is clear of all earlier objects, or else
    the clearest."""
    image = torch.arange(len(radii))
    centres = tries[:, :, 0].clone()
    earliest = 1e-6 * torch.arange(tries.shape[2], 0, -1)
    for j in range(1, radii.shape[1]):
        reach = radii[:, None, :j] + radii[:, j, None, None]
        way = tries[:, j, :, None] - centres[:, None, :j]
        gaps = way.norm(dim=-1) - reach
        # a small gap is as good as a wide one: then the first is taken
        clear = gaps.min(2).values.clamp(max=0.02)
        centres[:, j] = tries[image, j, (clear + earliest).argmax(1)]
    return centres


def _rays(count: int, radii: Sequence[float]) -> np.ndarray:
    """Corners around the origin, the first above it; the radii repeat themselves."""
    angle = np.arange(count) * 2 * np.pi / count - np.pi / 2
    return np.resize(radii, count)[:, None] * canvas.directions(angle)


def _square() -> np.ndarray:
    diamond = _rays(4, [1.1])
    return diamond @ np.array([(0.5, 0.5), (-0.5, 0.5)]) * 2**0.5


def _cross() -> np.ndarray:
    half = [
        (-0.34, -0.94),
        (0.34, -0.94),
        (0.34, -0.34),
        (0.94, -0.34),
        (0.94, 0.34),
        (0.34, 0.34),
    ]
    arm = np.array(half)
    return np.concatenate([arm, -arm])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t) - 13 * np.cos(t)
    return np.stack([x, y], 1) / 17 - (0, 0.1)


def _ring(inset: float) -> np.ndarray:
    """Its hole shrinks it from inside; one line joins the two circles."""
    outer = _rays(40, [0.95 - inset])
    inner = _rays(40, [0.5 + inset / 2])
    return np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])


def _outlines(inset: float) -> Float[np.ndarray, "classes corners 2"]:
    """Closed outlines of radius about 1 - ``inset``, y down, in the order of
    ``CLASSES``."""
    smaller = 1 - inset
    outlines = {
        "circle": smaller * _rays(40, [0.95]),
        "square": smaller * _square(),
        "triangle": smaller * _rays(3, [1.0]),
        "star": smaller * _rays(10, [1.0, 0.44]),
        "hexagon": smaller * _rays(6, [0.98]),
        "cross": smaller * _cross(),
        "ring": _ring(inset),
        "heart": smaller * _heart(),
    }
    # the last corner again and again: the ring has 82
    padded = []
    for name in CLASSES:
        corners = outlines[name]
        padded.append(np.pad(corners, ((0, 82 - len(corners)), (0, 0)), "edge"))
    return np.stack(padded)


_BEVEL = (0.0, 0.14, 0.3)  # insets of the rim, the body and the highlight
# (levels, classes, corners, 2)
_OUTLINES = np.stack([_outlines(inset) for inset in _BEVEL])
# Inks: two shadows, then the strokes' colours, then three levels of each object.
_SHADOWS, _STROKES, _FIRST = (1, 2), 3, 16


def _polygons(
    scene: Scene,
    size: int,
    level: int,
    grow: float = 1.0,
) -> Float[np.ndarray, "n m corners 2"]:
    """The objects' outlines in pixels."""
    cos, sin = scene.angles.cos().numpy(), scene.angles.sin().numpy()
    scale = (scene.radii.numpy() * size * grow)[..., None, None]
    rows = [np.stack([cos, sin], -1), np.stack([-sin, cos], -1)]
    turn = np.stack(rows, -2) * scale
    # the body and the highlight lean towards the light
    light = np.stack([scene.light.numpy(), np.full(len(scene), -1.0)], -1)
    lean = 0.25 * _BEVEL[level] * light[:, None, None]
    centres = (scene.centres * size).numpy()[:, :, None]
    return _OUTLINES[level][scene.labels.numpy()] @ turn + centres + lean * scale


def outlines(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n m corners 2"]:
    """Each object's outline (x, y) in pixels, also where it lies outside the image; a
    ring's runs around its hole.

    Raises:
        ValueError: for a size under 16 pixels.
    """
    return torch.from_numpy(_polygons(scene, check_size(size), 0)).float()


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: ground, strokes and shadows, then each object's rim, body and
    highlight."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    polygons = _layers(scene, size)
    strokes = canvas.strokes(scene.clutter, 0.03, 0.05, 0.012, size)
    hue = scene.clutter[..., 4].numpy()
    hues = (_STROKES + (hue * len(PALETTE)).astype(int)).tolist()
    paint = np.empty((n, size, size, 4), np.uint8)
    tables = _tables(scene)
    counts = scene.valid.sum(1).tolist()
    for i in range(n):
        drawn = canvas.stamp(canvas.blank(size), strokes[i], hues[i])
        for j, layer, ink in _drawing_order(counts[i]):
            canvas.fill(drawn, polygons[i, j, layer], ink)
        paint[i] = canvas.colour(drawn, tables[i])
    camera = canvas.plain_camera(scene.noise, scene.grain)
    canvas.photograph(paint, _grounds(scene, size), camera, out)


def _layers(scene: Scene, size: int) -> np.ndarray:
    """Of each object two shadows, its rim, body and highlight: (n, m, 5, corners, 2),
    fixed point."""
    away = np.stack([-scene.light.numpy(), np.ones(len(scene))], -1)
    shift = 0.03 * size * away[:, None, None]
    layers = [
        _polygons(scene, size, 0, 1.1) + shift,
        _polygons(scene, size, 0, 0.98) + shift,
        _polygons(scene, size, 0),
        _polygons(scene, size, 1),
        _polygons(scene, size, 2),
    ]
    return canvas.fixed(np.stack(layers, 2))


@lru_cache(maxsize=64)
def _drawing_order(count: int) -> list[tuple[int, int, int]]:
    """(object, layer, ink) of ``count`` objects: all shadows lie under all bodies."""
    order = []
    for j in range(count):
        for layer, ink in enumerate(_SHADOWS):
            order.append((j, layer, ink))
    for j in range(count):
        for level in range(3):
            order.append((j, 2 + level, _FIRST + 3 * j + level))
    return order


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n, m = scene.labels.shape
    palette = np.array(list(PALETTE.values()), np.float32)
    inks = _FIRST + 3 * m
    alpha = np.ones(inks)
    alpha[[0, *_SHADOWS]] = 0, 0.22, 0.45
    colours = np.zeros((n, inks, 3), np.float32)
    colours[:, _STROKES : _STROKES + len(palette)] = 0.85 * palette
    lit = palette[scene.colours.numpy()][:, :, None] * LIGHT
    colours[:, _FIRST:] = lit.reshape(n, 3 * m, 3)
    pattern = np.zeros((n, inks), np.int64)
    pattern[:, _FIRST:] = scene.textures.numpy().repeat(3, 1)
    return canvas.inkwell(colours, 0.62 * colours, pattern, alpha)


def _grounds(scene: Scene, size: int) -> np.ndarray:
    """Photographs, made pale so that what counts stands out, or a plain colour in soft
    light; uint8."""
    tints = scene.tints.numpy()[:, None, None].astype(np.float32)
    photographs = photos.crops(photos.SCENERY, scene.backgrounds, size)
    ground = photographs * (0.45 + 0.25 * tints) + (60 + 30 * tints)
    plain = (scene.grounds == GROUNDS.index("plain")).numpy()
    shade = np.linspace(1.06, 0.9, size)[:, None, None]
    ground[plain] = shade * (120 + 110 * tints[plain])
    # a bright sky, made pale, leaves the range
    return ground.clip(max=255).astype(np.uint8)


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same outlines at the
    pixels' centres.

    Returns:
        ``boxes`` (n, m, 4) xyxy around the amodal mask; ``labels``, ``colours``,
        ``textures`` (n, m); ``radii`` in pixels; ``masks`` (n, m, h, w) what is seen;
        ``amodal_masks`` also what is hidden; ``areas`` (n, m) of the amodal masks;
        ``valid``; ``depth_order`` (n, m), larger is nearer.
    """
    side = check_size(size)
    n, m = scene.labels.shape
    layers = np.zeros((n, m, side, side), np.uint8)
    polygons = canvas.fixed(_polygons(scene, side, 0))
    for i, j in scene.valid.nonzero().tolist():
        fine = canvas.blank(side)
        canvas.fill(fine, polygons[i, j], 1)
        layers[i, j] = canvas.at_centres(fine)
    _, owner, boxes, areas = canvas.compose(layers)
    order = torch.arange(1, m + 1)
    number = order.to(torch.uint8)[:, None, None]
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": scene.labels,
        "colours": scene.colours,
        "textures": scene.textures,
        "radii": scene.radii * side,
        "masks": torch.from_numpy(owner)[:, None] == number,
        "amodal_masks": torch.from_numpy(layers > 0),
        "areas": torch.from_numpy(areas),
        "valid": scene.valid,
        "depth_order": order.expand(n, m),
    }
