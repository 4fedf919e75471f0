"""The world `cells`: stained tissue under a microscope, cells that touch and one faint
membrane between them."""

from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papernets_lite.data import canvas, photos
from papernets_lite.data.canvas import Camera, Draws, Range, check_range, check_size

TONES = 8  # of membranes, of bodies and of nuclei: a cell takes one of each
_CORNERS = 24  # of a cell's outline
# of a grid's step: further neighbours than the eight around cannot touch
_JITTER, _MOST = 0.24, 0.62
_TURN = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
# (corners, 2)
_AROUND = canvas.directions(_TURN).astype(np.float32)
# neighbours, and a frame of one
_EIGHT = np.array(
    [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
        (2, 2),
    ]
)
# First inks: two kinds of fibres, then a cell's three parts in all tones.
_FIBRE = 1
_MEMBRANE = 3
_BODY = _MEMBRANE + TONES
_NUCLEUS = _BODY + TONES
_FIRST = np.array([_MEMBRANE, _BODY, _NUCLEUS])
_BROWN = np.array([126, 78, 40], np.float32)
_PALE = np.array([222, 208, 212], np.float32)
_BLUE = np.array([104, 114, 172], np.float32)
_SLIDE = np.array([176, 172, 170], np.float32)


@dataclass(frozen=True)
class Scene(canvas.Factors):
    """The factors of n pieces of tissue with up to m cells on a jittered grid."""

    # of a cell from its place in the grid, in steps of the grid
    offsets: Float[Tensor, "n m 2"]
    radii: Float[Tensor, "n m"]  # same units
    # strength and phase of the outline's second and third harmonic
    wobble: Float[Tensor, "n m 4"]
    # size of the nucleus and its place within the cell, in [0, 1)
    nuclei: Float[Tensor, "n m 3"]
    tones: Int[Tensor, "n m 3"]  # of membrane, body and nucleus
    there: Bool[Tensor, "n m"]
    across: Float[Tensor, " n"]  # steps of the grid along the image's side
    stretch: Float[Tensor, " n"]  # how much longer than wide cells are
    turns: Float[Tensor, " n"]  # the direction in which they are longer, radians
    shift: Float[Tensor, "n 2"]  # of the grid, in its steps
    # between the cells: x, y, length, direction and kind in [0, 1)
    fibres: Float[Tensor, "n k 5"]
    backgrounds: Float[Tensor, "n 4"]  # draws of photos.crops
    stains: Float[Tensor, "n 2"]  # strength of the brown and the blue stain
    gains: Float[Tensor, "n 3"]  # of the camera's red, green and blue
    noise: Float[Tensor, " n"]  # standard deviation of the sensor's noise
    grain: Int[Tensor, "n 2"]  # which piece of that noise


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    across: Range = (4, 5.5),
    stretch: Range = (1.0, 1.4),
    density: int | float = 0.88,
    membranes: Range = (0.3, 1.0),
    noise: int | float = 0.03,
) -> Scene:
    """Draw the factors of ``n`` images; image i does not depend on ``n``.

    Args:
        n: how many images.
        generator: CPU generator; the same seed gives the same scene on every machine.
        across: fewest and most cells along the image's side, from 2 to 12.
        stretch: least and most elongation of all cells of an image, in one direction,
            from 1 to 2.
        density: share of the places that hold a cell, from 0 to 1.
        membranes: strength of the stain in the membranes, from 0 (none) to 1, in steps
            of an eighth of the range.
        noise: standard deviation of the sensor's noise, from 0 to 1.

    Raises:
        ValueError: for an empty or inverted range, ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    check_range("across", across, 2, 12)
    check_range("stretch", stretch, 1, 2)
    check_range("density", (density, 1), 0)
    check_range("membranes", membranes, 0, 1)
    check_range("noise", (0, noise), 0, 1)
    # The places of a square grid that covers the image however it is turned.
    most, longest = across[1], stretch[1]
    half = most * np.sqrt(longest) * np.sqrt(0.5) + 0.5
    side = 2 * int(np.ceil(half)) + 1
    m = side**2
    low = round(membranes[0] * (TONES - 1))
    high = round(membranes[1] * (TONES - 1))
    tones = draws.integers(0, TONES, m, 3)
    steps = high - low + 1
    tones[..., 0] = low + tones[..., 0] * steps // TONES
    return Scene(
        offsets=draws.uniform(-_JITTER, _JITTER, m, 2),
        radii=draws.uniform(0.48, _MOST / 1.12, m),
        wobble=draws.uniform(0, 1, m, 4),
        nuclei=draws.uniform(0, 1, m, 3),
        tones=tones,
        there=draws.uniform(0, 1, m) < density,
        across=draws.uniform(*across),
        stretch=draws.uniform(*stretch),
        turns=draws.uniform(0, np.pi),
        shift=draws.uniform(-0.5, 0.5, 2),
        fibres=draws.uniform(0, 1, 16, 5),
        backgrounds=draws.uniform(0, 1, 4),
        stains=draws.uniform(0.6, 1, 2),
        gains=draws.uniform(0.92, 1.04, 3),
        noise=draws.constant(noise),
        grain=draws.integers(0, 64, 2),
    )


def _grid(scene: Scene) -> Float[np.ndarray, "n m 2"]:
    """Where the cells are in the grid, in its steps, around the image's middle."""
    m = scene.radii.shape[1]
    side = round(m**0.5)
    axis = np.arange(side)
    columns, rows = np.meshgrid(axis, axis)
    corner = np.stack([columns, rows], -1)
    places = corner.reshape(1, m, 2) - (side - 1) / 2
    spots = places + scene.offsets.numpy()
    return spots.astype(np.float32)


def _matrices(scene: Scene, size: int) -> Float[np.ndarray, "n 2 2"]:
    """From steps of the grid to pixels: stretched, turned and scaled."""
    turns = scene.turns.numpy()
    stretch = scene.stretch.numpy()
    longer = stretch[:, None] ** np.array([0.5, -0.5])
    cos, sin = np.cos(turns), np.sin(turns)
    along = np.stack([cos, sin], -1)
    aside = np.stack([-sin, cos], -1)
    turn = np.stack([along, aside], 1)
    scale = size / scene.across.numpy()[:, None, None]
    matrix = scale * longer[:, :, None] * turn
    return matrix.astype(np.float32)


def _borders(
    scene: Scene,
    spots: np.ndarray,
    owner: np.ndarray,
    index: np.ndarray,
) -> Float[np.ndarray, "c corners"]:
    """How far each cell reaches in each direction before it meets the bisector between
    it and a neighbour, in steps of the grid."""
    n, m, _ = spots.shape
    side = round(m**0.5)
    # what is not there is far away
    there = scene.there.numpy()[..., None]
    shown = np.where(there, spots, 1e3).astype(np.float32)
    grid = shown.reshape(n, side, side, 2)
    frame = ((0, 0), (1, 1), (1, 1), (0, 0))
    grid = np.pad(grid, frame, constant_values=1e3)
    row = index[:, None] // side + _EIGHT[:, 0]
    column = index[:, None] % side + _EIGHT[:, 1]
    neighbours = grid[owner[:, None], row, column]
    way = neighbours - spots[owner, index][:, None]  # (c, 8, 2)
    half = 0.5 * (way**2).sum(-1, keepdims=True)
    towards = np.maximum(way @ _AROUND.T, 1e-6)
    return (half / towards).min(1)


class _Cells(NamedTuple):
    """The c cells that reach into their image, image after image."""

    owner: Int[np.ndarray, " c"]  # the image
    number: Int[np.ndarray, " c"]  # the cell's number in it
    centres: Float[np.ndarray, "c 2"]  # in pixels
    rays: Float[np.ndarray, "c corners 2"]  # from there to the outline's corners


def _outlines(scene: Scene, size: int) -> _Cells:
    """Each cell as a star around its centre: a wobbly circle, cut off at the bisector
    between it and a neighbour."""
    spots = _grid(scene)
    matrix = _matrices(scene, size)
    moved = spots + scene.shift.numpy()[:, None]
    centres = moved @ matrix + size / 2
    longest = (scene.stretch**0.5 / scene.across).numpy()
    reaches = _MOST * size * longest[:, None, None]
    near = (centres > -reaches) & (centres < size + reaches)
    shown = near.all(-1) & scene.there.numpy()
    owner, index = shown.nonzero()

    wobble = scene.wobble.numpy()[owner, index]
    a, p, b, q = wobble.T[..., None]
    second = 0.07 * a * np.cos(2 * _TURN + 6.3 * p)
    third = 0.05 * b * np.cos(3 * _TURN + 6.3 * q)
    bumps = 1 + second + third
    radii = scene.radii.numpy()[owner, index]
    free = radii[:, None] * bumps
    border = _borders(scene, spots, owner, index)
    reach = np.minimum(free, border).astype(np.float32)
    around = (_AROUND @ matrix)[owner]
    return _Cells(
        owner,
        index,
        centres=centres[owner, index],
        rays=reach[..., None] * around,
    )


def render(scene: Scene, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """Draw the scene: stroma and its fibres, then each cell's membrane, body and
    nucleus."""
    return canvas.render(_draw, scene, size)


def _draw(scene: Scene, out: Float[np.ndarray, "n 3 size size"]) -> None:
    n, size = len(scene), out.shape[-1]
    kind = scene.fibres[..., 4].numpy()
    thick = 0.006 + 0.012 * kind
    fibres = canvas.strokes(scene.fibres, 0.02, 0.05, thick, size)
    kinds = (_FIBRE + (kind > 0.5)).astype(int).tolist()
    drawn = []
    for i in range(n):
        ground = canvas.blank(size)
        drawn.append(canvas.stamp(ground, fibres[i], kinds[i]))
    _draw_cells(scene, drawn, size)
    tables = _tables(scene)
    paint = np.empty((n, size, size, 4), np.uint8)
    for i in range(n):
        paint[i] = canvas.colour(drawn[i], tables[i])
    gravel = photos.crops(("gravel",), scene.backgrounds, size)
    ground = gravel * np.float32(0.28) + _SLIDE
    camera = Camera(scene.gains, torch.ones(n), scene.noise, scene.grain)
    canvas.photograph(paint, ground.astype(np.uint8), camera, out)


def _draw_cells(
    scene: Scene,
    drawn: list[np.ndarray],
    size: int,
) -> None:
    """Each cell's membrane, body and nucleus, onto its image's map of inks."""
    cells = _outlines(scene, size)
    owner, index, rays = cells.owner, cells.number, cells.rays
    steps = size / scene.across.numpy()
    step = steps[owner, None, None]
    long = np.linalg.norm(rays, axis=-1, keepdims=True)
    thick = 0.075 * step / np.maximum(long, 1e-6)
    body = rays * np.maximum(1 - thick, 0.1)
    draws = scene.nuclei.numpy()[owner, index, None]
    aside = 0.12 * step * (draws[..., 1:] - 0.5)
    small = 0.38 + 0.2 * draws[..., :1]
    nucleus = small * rays + aside
    parts = np.stack([rays, body, nucleus], 1)
    polygons = canvas.fixed(parts + cells.centres[:, None, None])
    tones = scene.tones.numpy()[owner, index]
    inks = (tones + _FIRST).tolist()
    images = owner.tolist()
    for cell, i in enumerate(images):
        for part in range(3):
            canvas.fill(drawn[i], polygons[cell, part], inks[cell][part])


def _tables(scene: Scene) -> np.ndarray:
    """The inks' colours in each image."""
    n, inks = len(scene), _NUCLEUS + TONES
    brown, blue = scene.stains.numpy().T[..., None]
    tone = np.linspace(0, 1, TONES, dtype=np.float32)[:, None]
    dark = _PALE + brown * (_BROWN - _PALE)
    cold = _PALE + blue * (_BLUE - _PALE)
    colours = np.zeros((n, inks, 3), np.float32)
    colours[:, _FIBRE] = 0.5 * (_PALE + dark)
    colours[:, _FIBRE + 1] = cold
    colours[:, _MEMBRANE:_BODY] = _PALE + tone * (dark[:, None] - _PALE)
    lighter = np.array([16, 22, 14], np.float32)
    colours[:, _BODY:_NUCLEUS] = _PALE + (tone - 0.5) * lighter
    strength = 0.35 + 0.65 * tone
    colours[:, _NUCLEUS:] = _PALE + strength * (cold[:, None] - _PALE)
    # the slide's grain shines through
    alpha = np.full(inks, 0.85)
    alpha[:_MEMBRANE] = 0, 0.6, 0.7
    return canvas.plain_inkwell(colours, alpha)


def annotate(scene: Scene, size: SupportsIndex) -> dict[str, Tensor]:
    """The ground truth of ``render(scene, size)``, read from the same outlines at the
    pixels' centres.

    Returns:
        ``instances`` (n, h, w): 0 between the cells, and a number from 1 on for each
        cell, which touches its neighbours without a gap; ``count`` (n,): how many there
        are.
    """
    side = check_size(size)
    n, m = scene.there.shape
    cells = _outlines(scene, side)
    polygons = canvas.fixed(cells.centres[:, None] + cells.rays)
    fine = side * canvas.OVER
    drawn = np.zeros((n, fine, fine), np.uint16)
    images = cells.owner.tolist()
    numbers = (cells.number + 1).tolist()
    for cell, i in enumerate(images):
        canvas.fill(drawn[i], polygons[cell], numbers[cell])
    at_centres = [canvas.at_centres(one) for one in drawn]
    seen = torch.from_numpy(np.stack(at_centres).astype(np.int64))
    seen = seen.flatten(1)
    there = torch.zeros(n, m + 1, dtype=torch.bool)
    there.scatter_(1, seen, True)
    there[:, 0] = False
    in_order = there.cumsum(1)
    instances = in_order.gather(1, seen)
    return {
        "instances": instances.unflatten(1, (side, side)),
        "count": in_order[:, -1].clone(),
    }
