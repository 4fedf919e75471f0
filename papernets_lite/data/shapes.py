"""The world `shapes`: coloured, textured, lit objects that overlap, over photographs or plain ground."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import OVER, PALETTE, check_request, check_size, integers, uniform

CLASSES = ("circle", "square", "triangle", "star", "hexagon", "cross", "ring", "heart")
COLOURS = tuple(PALETTE)
TEXTURES = ("plain", "stripes", "hoops", "checks", "dots")


@dataclass(frozen=True)
class Scene:
    """The factors of n images with up to m objects; a later object lies in front of an earlier one."""

    labels: Int[Tensor, "n m"]
    colours: Int[Tensor, "n m"]
    textures: Int[Tensor, "n m"]
    centres: Float[Tensor, "n m 2"]  # (x, y), in units of the image's side
    radii: Float[Tensor, "n m"]  # same units
    angles: Float[Tensor, "n m"]  # radians
    valid: Bool[Tensor, "n m"]
    backgrounds: Float[Tensor, "n 4"]  # draws of photos.crops
    clutter: Float[Tensor, "n k 4"]  # small distractors: x, y, length, hue draw
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    seed: int  # of that noise

    def __len__(self) -> int:
        return len(self.labels)


def sample(
    n: int,
    generator: torch.Generator,
    *,
    objects: tuple[int, int] = (1, 4),
    radius: tuple[float, float] = (0.12, 0.25),
    classes: Sequence[str] = CLASSES,
    colours: Sequence[str] = COLOURS,
    textures: Sequence[str] = TEXTURES,
    clutter: int = 3,
    noise: float = 0.03,
) -> Scene:
    """Draw the factors of ``n`` images.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        objects: fewest and most objects in an image.
        radius: smallest and largest radius, in units of the image's side.
        classes, colours, textures: the values that may occur (leave some out to hold them out).
        clutter: small lines thrown over the ground as distractors.
        noise: standard deviation of the sensor's noise.

    Raises:
        ValueError: for an empty or inverted range, or a name that does not exist.
    """
    check_request(n, generator)
    low, high = objects
    if not 1 <= low <= high:
        raise ValueError(f"expected objects=(low, high) with 1 <= low <= high, got {objects}")
    if not 0 < radius[0] <= radius[1] < 0.5:
        raise ValueError(f"expected radius=(low, high) with 0 < low <= high < 0.5, got {radius}")

    def choose(kind: str, all_names: tuple[str, ...], names: Sequence[str]) -> Tensor:
        if not names or not set(names) <= set(all_names):
            raise ValueError(f"expected {kind} from {all_names}, got {tuple(names)}")
        table = torch.tensor([all_names.index(name) for name in names])
        return table[integers(generator, 0, len(names), n, high)]

    labels = choose("classes", CLASSES, classes)
    colour, texture = choose("colours", COLOURS, colours), choose("textures", TEXTURES, textures)
    radii = uniform(generator, *radius, n, high)
    margin = radii[..., None]
    where = margin + (1 - 2 * margin) * torch.rand(n, high, 2, generator=generator)
    count = integers(generator, low, high + 1, n, 1)
    return Scene(
        labels=labels,
        colours=colour,
        textures=texture,
        centres=where,
        radii=radii,
        angles=uniform(generator, -0.5, 0.5, n, high),
        valid=torch.arange(high) < count,
        backgrounds=torch.rand(n, 4, generator=generator),
        clutter=torch.rand(n, clutter, 4, generator=generator),
        noise=torch.full((n,), noise),
        seed=int(integers(generator, 0, 2**31 - 1, 1)),
    )


def _outlines() -> list[list[np.ndarray]]:
    """Unit outlines per class, y down, radius 1; the ring has a hole."""

    def star(points: int, inner: float) -> np.ndarray:
        angle = np.arange(2 * points) * np.pi / points - np.pi / 2
        radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)

    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    heart = np.stack(
        [
            16 * np.sin(turn) ** 3 / 17,
            -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)) / 17 - 0.1,
        ],
        1,
    )
    a, b = 0.34, 0.95
    cross = np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)])
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.8
    hexagon = star(3, 1.0)
    triangle = star(3, 0.5)[::2]
    return [
        [circle],
        [square],
        [triangle],
        [star(5, 0.42)],
        [hexagon],
        [np.concatenate([cross, -cross])],
        [circle, 0.55 * circle],
        [heart],
    ]


OUTLINES = _outlines()


def _contours(scene: Scene, size: int, over: int) -> list[list[list[np.ndarray]]]:
    """Fixed-point contours per image and valid object."""
    cos, sin = scene.angles.cos(), scene.angles.sin()
    turn = (torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2) * size).numpy()
    turn = turn * scene.radii.numpy()[..., None, None]
    centre = scene.centres.numpy() * size
    counts = scene.valid.sum(1).tolist()
    return [
        [
            [canvas.fixed(c @ turn[i, j] + centre[i, j], over) for c in OUTLINES[scene.labels[i, j]]]
            for j in range(count)
        ]
        for i, count in enumerate(counts)
    ]


@lru_cache(maxsize=len(TEXTURES) * len(COLOURS))
def _cloth(fine: int, texture: int, colour: int) -> np.ndarray:
    """A texture in a colour, lit from the upper left: (fine, fine, 3) uint8."""
    ramp = np.linspace(1.18, 0.78, fine, dtype=np.float32)
    lit = canvas.textures(fine)[texture] * (ramp[:, None] + ramp[None]) / 2
    return np.minimum(lit[:, :, None] * np.array(list(PALETTE.values())[colour], np.float32), 255).astype(np.uint8)


def render(scene: Scene, size: int) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: photographs behind, a shadow under and light across each object, noise on top."""
    check_size(size)
    fine, paints = size * OVER, list(PALETTE.values())
    ground = photos.crops(photos.SCENERY, scene.backgrounds.numpy(), size)
    out = np.empty((len(scene), size, size, 3), np.uint8)
    drop = round(0.02 * fine), round(0.03 * fine)  # of the shadow: right and down
    clutter = scene.clutter.numpy()
    for i, objects in enumerate(_contours(scene, size, OVER)):
        # Pale, low-contrast ground: what counts is in front of it.
        image = cv2.resize(ground[i] // 2 + 70, (fine, fine), interpolation=cv2.INTER_LINEAR)
        for x, y, length, hue in clutter[i]:
            a = np.array([x, y]) * size
            b = a + (0.06 + 0.1 * length) * size * np.array([np.cos(40 * hue), np.sin(40 * hue)])
            paint = tuple(4 * v // 5 for v in paints[int(hue * len(paints))])
            cv2.line(image, canvas.fixed(a), canvas.fixed(b), paint, 3, cv2.LINE_8, canvas.SHIFT)
        for j, contours in enumerate(objects):
            mask = np.zeros((fine, fine), np.uint8)
            canvas.polygon(mask, contours, 1)
            left, top, wide, high = cv2.boundingRect(mask)
            bottom, right = top + high, left + wide
            inside = mask[top:bottom, left:right]
            under = image[top + drop[1] : bottom + drop[1], left + drop[0] : right + drop[0]]
            cv2.copyTo(under >> 1, inside[: under.shape[0], : under.shape[1]], under)
            cloth = _cloth(fine, int(scene.textures[i, j]), int(scene.colours[i, j]))[:high, :wide]
            cv2.copyTo(cloth, inside, image[top:bottom, left:right])
        out[i] = canvas.shrink(image, size)
    generator = torch.Generator().manual_seed(scene.seed)
    noise = torch.randn(len(scene), size, size, 1, generator=generator) * scene.noise[:, None, None, None]
    ones = torch.ones(len(scene), 3)
    return canvas.finish(torch.from_numpy(out) / 255, ones, ones[:, 0], noise)


def annotate(scene: Scene, size: int) -> dict[str, Tensor]:
    """The exact ground truth of ``render(scene, size)``.

    Returns:
        ``boxes`` (n, m, 4) xyxy around the amodal mask, ``labels``, ``colours``, ``textures``, ``radii`` in pixels,
        ``masks`` (n, m, h, w) visible, ``amodal_masks``, ``valid``, and ``depths`` (larger is nearer).
    """
    check_size(size)
    n, m = scene.labels.shape
    amodal = np.zeros((n, m, size, size), bool)
    fine = np.zeros((size * OVER, size * OVER), np.uint8)
    for i, objects in enumerate(_contours(scene, size, OVER)):
        for j, contours in enumerate(objects):
            fine[:] = 0
            canvas.polygon(fine, contours, 1)
            amodal[i, j] = canvas.centres(fine)
    whole = torch.from_numpy(amodal)
    nearer = torch.zeros_like(whole)
    for j in range(m - 2, -1, -1):
        nearer[:, j] = nearer[:, j + 1] | whole[:, j + 1]
    return {
        "boxes": mask_boxes(whole),
        "labels": scene.labels,
        "colours": scene.colours,
        "textures": scene.textures,
        "radii": scene.radii * size,
        "masks": whole & ~nearer,
        "amodal_masks": whole,
        "valid": scene.valid,
        "depths": torch.arange(m).expand(n, m),
    }


def mask_boxes(masks: Bool[Tensor, "*b h w"]) -> Float[Tensor, "*b 4"]:
    """The tightest xyxy box around each mask, in pixels; zeros around an empty one."""
    ends = []
    for hit in (masks.any(-2), masks.any(-1)):  # columns, rows
        first = hit.int().argmax(-1)
        last = hit.shape[-1] - hit.flip(-1).int().argmax(-1)
        ends.append((first, torch.where(hit.any(-1), last, 0)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], -1).float()
