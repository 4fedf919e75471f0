"""The world `shapes`: coloured, patterned, lit objects that overlap, over photographs
or a plain ground."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import (
    LIGHT,
    PALETTE,
    PATTERNS,
    Camera,
    Draws,
    Range,
    check_range,
    check_size,
)
from papernets_lite.ops.checks import expect

CLASSES = ("circle", "square", "triangle", "star", "hexagon", "cross", "ring", "heart")
COLOURS = tuple(PALETTE)
TEXTURES = PATTERNS
GROUNDS = ("photo", "plain")
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
    n: int,
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
        objects: fewest and most objects in an image, at most 60.
        radius: smallest and largest radius, in units of the image's side.
        classes, colours, textures: the values that may occur; one value fixes the
            factor.
        held_out: (class, colour) pairs that never occur.
        grounds: backgrounds that may occur, from ``GROUNDS``.
        clutter: small strokes thrown over the ground as distractors.
        noise: standard deviation of the sensor's noise.
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
    check_range("objects", objects, 1, 60)
    check_range("radius", radius, 0.01, 0.49)
    check_range("clutter", (0, clutter), 0)
    check_range("noise", (0, noise), 0)
    names = {
        "classes": CLASSES,
        "colours": COLOURS,
        "textures": TEXTURES,
        "grounds": GROUNDS,
    }
    for (name, known), chosen in zip(
        names.items(), (classes, colours, textures, grounds), strict=True
    ):
        expect(
            chosen and set(chosen) <= set(known), f"{name} from {known}", tuple(chosen)
        )
    pairs = [(a, b) for a in classes for b in colours if (a, b) not in held_out]
    expect(pairs, "a (class, colour) pair that is not held out", sorted(held_out))
    most = objects[1]
    enough = not held_out and min(len(classes), len(colours)) >= most
    expect(
        enough or not distinct,
        f"{most} classes and colours and nothing held out",
        classes,
        colours,
    )

    pair = torch.tensor([(CLASSES.index(a), COLOURS.index(b)) for a, b in pairs])[
        draws.integers(0, len(pairs), most)
    ]
    radii = draws.uniform(*radius, most)
    scene = Scene(
        labels=pair[..., 0],
        colours=pair[..., 1],
        textures=torch.tensor([TEXTURES.index(t) for t in textures])[
            draws.integers(0, len(textures), most)
        ],
        centres=radii[..., None]
        + (1 - 2 * radii[..., None]) * draws.uniform(0, 1, most, 2),
        radii=radii,
        angles=draws.uniform(-0.5, 0.5, most),
        valid=torch.arange(most) < draws.integers(objects[0], most + 1, 1),
        grounds=torch.tensor([GROUNDS.index(g) for g in grounds])[
            draws.integers(0, len(grounds))
        ],
        backgrounds=draws.uniform(0, 1, 4),
        tints=draws.uniform(0, 1, 3),
        clutter=draws.uniform(0, 1, clutter, 5),
        light=draws.uniform(-1, 1),
        noise=torch.full((n,), float(noise)),
        grain=draws.integers(0, 64, 2),
    )
    # What follows draws last, so that the factors above stay what they are without it.
    if distinct:
        every = (
            torch.tensor([CLASSES.index(a) for a in classes]),
            torch.tensor([COLOURS.index(a) for a in colours]),
        )
        labels, hues = (
            one[draws.uniform(0, 1, len(one)).argsort(1)[:, :most]] for one in every
        )
        scene = replace(scene, labels=labels, colours=hues)
    if apart:
        room = (1 - 2 * radii)[..., None, None] * draws.uniform(0, 1, most, TRIES, 2)
        scene = replace(scene, centres=_spread(radii[..., None, None] + room, radii))
    return scene


def _spread(
    tries: Float[Tensor, "n m t 2"], radii: Float[Tensor, "n m"]
) -> Float[Tensor, "n m 2"]:
    """Of each object's places the first that is clear of all earlier objects, or else
    the clearest."""
    image, centres = torch.arange(len(radii)), tries[:, :, 0].clone()
    for j in range(1, radii.shape[1]):
        reach = radii[:, None, :j] + radii[:, j, None, None]
        gaps = (tries[:, j, :, None] - centres[:, None, :j]).norm(dim=-1) - reach
        # a small gap is as good as a wide one: then the first is taken
        clear = gaps.min(2).values.clamp(max=0.02)
        centres[:, j] = tries[
            image, j, (clear + 1e-6 * torch.arange(clear.shape[1], 0, -1)).argmax(1)
        ]
    return centres


def _outlines(inset: float) -> Float[np.ndarray, "classes corners 2"]:
    """Closed outlines of radius about 1 - ``inset``, y down."""

    def rays(count: int, radii: Sequence[float]) -> np.ndarray:
        angle = np.arange(count) * 2 * np.pi / count - np.pi / 2
        return np.resize(radii, count)[:, None] * np.stack(
            [np.cos(angle), np.sin(angle)], 1
        )

    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    heart = np.stack(
        [
            16 * np.sin(t) ** 3,
            5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t) - 13 * np.cos(t),
        ],
        1,
    )
    arm = np.array(
        [
            (-0.34, -0.94),
            (0.34, -0.94),
            (0.34, -0.34),
            (0.94, -0.34),
            (0.94, 0.34),
            (0.34, 0.34),
        ]
    )
    cross, square = (
        np.concatenate([arm, -arm]),
        rays(4, [1.1]) @ np.array([(0.5, 0.5), (-0.5, 0.5)]) * 2**0.5,
    )
    solid = [
        rays(40, [0.95]),
        square,
        rays(3, [1.0]),
        rays(10, [1.0, 0.44]),
        rays(6, [0.98]),
        cross,
    ]
    # The hole of a ring shrinks it from inside; one line joins the two circles.
    outer, inner = rays(40, [0.95 - inset]), rays(40, [0.5 + inset / 2])
    ring = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
    shapes = [(1 - inset) * s for s in solid] + [
        ring,
        (1 - inset) * (heart / 17 - (0, 0.1)),
    ]
    return np.stack([np.pad(s, ((0, 82 - len(s)), (0, 0)), "edge") for s in shapes])


_BEVEL = (0.0, 0.14, 0.3)  # insets of the rim, the body and the highlight
# (levels, classes, corners, 2)
_OUTLINES = np.stack([_outlines(inset) for inset in _BEVEL])
_SHADOWS, _STROKES, _FIRST = (1, 2), 3, 16  # inks


def _polygons(
    scene: Scene, size: int, level: int, grow: float = 1.0
) -> Float[np.ndarray, "n m corners 2"]:
    """The objects' outlines in pixels."""
    cos, sin = scene.angles.cos().numpy(), scene.angles.sin().numpy()
    scale = (scene.radii.numpy() * size * grow)[..., None, None]
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2) * scale
    lean = (
        0.25
        * _BEVEL[level]
        * np.stack([scene.light.numpy(), np.full(len(scene), -1.0)], -1)[:, None, None]
    )
    return (
        _OUTLINES[level][scene.labels.numpy()] @ turn
        + (scene.centres * size).numpy()[:, :, None]
        + lean * scale
    )


def outlines(scene: Scene, size: int) -> Float[Tensor, "n m corners 2"]:
    """Each object's outline (x, y) in pixels, also where it lies outside the image; a
    ring's runs around its hole."""
    return torch.from_numpy(_polygons(scene, size, 0)).float()


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: ground, strokes and shadows, then each object's rim, body and
    highlight."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    away = 0.03 * size * np.stack([-scene.light.numpy(), np.ones(n)], -1)[:, None, None]
    layers = [_polygons(scene, size, 0, grow) + away for grow in (1.1, 0.98)]
    layers += [_polygons(scene, size, level) for level in range(3)]
    polygons = canvas.fixed(np.stack(layers, 2))  # (n, m, 5, corners, 2)
    x, y, length, turn, hue = scene.clutter.numpy().transpose(2, 0, 1)
    reach = (0.03 + 0.05 * length)[..., None] * np.stack(
        [np.cos(6.3 * turn), np.sin(6.3 * turn)], -1
    )
    ends = (
        np.stack([x, y], -1)[:, :, None]
        + reach[:, :, None] * np.array([-1.0, 1.0])[:, None]
    )
    strokes = canvas.fixed(
        canvas.hulls(ends * size, np.full(ends.shape[:-1], 0.012 * size))
    )
    hues = (_STROKES + (hue * len(PALETTE)).astype(int)).tolist()
    paint, tables = np.empty((n, size, size, 4), np.uint8), _tables(scene)
    for i, count in enumerate(scene.valid.sum(1).tolist()):
        drawn = canvas.stamp(canvas.blank(size), strokes[i], hues[i])
        shadows = [
            (j, layer, ink) for j in range(count) for layer, ink in enumerate(_SHADOWS)
        ]
        bodies = [
            (j, 2 + level, _FIRST + 3 * j + level)
            for j in range(count)
            for level in range(3)
        ]
        for j, layer, ink in shadows + bodies:
            cv2.fillPoly(drawn, [polygons[i, j, layer]], ink, cv2.LINE_8, canvas.SHIFT)
        paint[i] = canvas.colour(drawn, tables[i])
    ones = torch.ones(n, 3)
    canvas.photograph(
        paint,
        _grounds(scene, size),
        Camera(ones, ones[:, 0], scene.noise, scene.grain),
        out,
    )


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    (n, m), palette = scene.labels.shape, np.array(list(PALETTE.values()), np.float32)
    colours = np.zeros((n, _FIRST + 3 * m, 3), np.float32)
    pattern, alpha = np.zeros(colours.shape[:2], np.int64), np.ones(_FIRST + 3 * m)
    alpha[[0, *_SHADOWS]] = 0, 0.22, 0.45
    colours[:, _STROKES : _STROKES + len(palette)] = 0.85 * palette
    colours[:, _FIRST:] = (palette[scene.colours.numpy()][:, :, None] * LIGHT).reshape(
        n, 3 * m, 3
    )
    pattern[:, _FIRST:] = scene.textures.numpy().repeat(3, 1)
    return canvas.inkwell(colours, 0.62 * colours, pattern, alpha)


def _grounds(scene: Scene, size: int) -> np.ndarray:
    """Photographs, made pale so that what counts stands out, or a plain colour in soft
    light; uint8."""
    tints = scene.tints.numpy()[:, None, None].astype(np.float32)
    ground = photos.crops(photos.SCENERY, scene.backgrounds, size) * (
        0.45 + 0.25 * tints
    ) + (60 + 30 * tints)
    plain = (scene.grounds == GROUNDS.index("plain")).numpy()
    ground[plain] = np.linspace(1.06, 0.9, size)[:, None, None] * (
        120 + 110 * tints[plain]
    )
    # a bright sky, made pale, leaves the range
    return ground.clip(max=255).astype(np.uint8)


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same outlines at the
    pixels' centres.

    Returns:
        ``boxes`` (n, m, 4) xyxy around the amodal mask; ``labels``, ``colours``,
        ``textures`` (n, m); ``radii`` in pixels; ``masks`` (n, m, h, w) what is seen;
        ``amodal_masks`` also what is hidden; ``areas`` (n, m) of the amodal masks;
        ``valid``; ``depth_order`` (n, m), larger is nearer.
    """
    check_size(size)
    n, m = scene.labels.shape
    layers = np.zeros((n, m, size, size), np.uint8)
    polygons = canvas.fixed(_polygons(scene, size, 0))
    for i, j in scene.valid.nonzero().tolist():
        fine = cv2.fillPoly(
            canvas.blank(size), [polygons[i, j]], 1, cv2.LINE_8, canvas.SHIFT
        )
        layers[i, j] = canvas.at_centres(fine)
    _, owner, boxes, areas = canvas.compose(layers)
    order = torch.arange(1, m + 1)
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": scene.labels,
        "colours": scene.colours,
        "textures": scene.textures,
        "radii": scene.radii * size,
        "masks": torch.from_numpy(owner)[:, None]
        == order.to(torch.uint8)[:, None, None],
        "amodal_masks": torch.from_numpy(layers > 0),
        "areas": torch.from_numpy(areas),
        "valid": scene.valid,
        "depth_order": order.expand(n, m),
    }
