"""What the first page is made of: its moving scene and the squares on its cards."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
for folder in ("_tools", "_ext"):
    sys.path.insert(0, str(ROOT / "book" / folder))
import scene  # noqa: E402
import thumbnails  # noqa: E402

COLOURS = ((200, 30, 30), (30, 160, 30), (30, 30, 200), (20, 20, 20), (90, 30, 90))


@pytest.fixture(scope="module")
def film():
    return scene.film()


def test_the_scene_is_a_loop(film):
    hips = film.joints[:, :, [8, 11], 0].mean(-1)
    steps = (hips.roll(-1, 0) - hips) % scene.ROUND
    assert torch.allclose(steps, torch.tensor(scene.ROUND / scene.FRAMES), atol=1e-4)
    assert torch.equal(hips.argmin(0).unique(), hips.argmin(0).sort().values)


def test_the_stored_picture_is_what_the_code_draws(film):
    drawn = scene.images(scene.shown(film[scene.STILL : scene.STILL + 1]))[0]
    stored = Image.open(scene.STATIC / "scene-still.webp").convert("RGB")
    assert stored.size == drawn.size
    apart = np.abs(np.asarray(stored, float) - np.asarray(drawn, float)).mean((0, 2))
    bands = np.array_split(apart, scene.BANDS)
    assert max(band.mean() for band in bands) < 12  # of 255: what WebP costs


def test_the_stored_film_has_its_frames_and_weighs_little():
    path = scene.STATIC / "scene.avif"
    assert path.stat().st_size <= 120_000
    assert path.read_bytes()[4:12] == b"ftypavis", "a film, not a still"


def figure(columns: int, rows: int, *, title: str = "") -> Image.Image:
    """Coloured panels on white, a title above each column."""
    sheet = Image.new("RGB", (columns * 70, rows * 70 + 20), "white")
    pen = ImageDraw.Draw(sheet)
    for column in range(columns):
        pen.text((column * 70 + 10, 2), title, fill="black")
        for row in range(rows):
            x, y = column * 70 + 5, row * 70 + 22
            colour = COLOURS[(row * columns + column) % len(COLOURS)]
            pen.rectangle((x, y, x + 60, y + 60), fill=colour)
    return sheet


@pytest.mark.parametrize(
    ("columns", "rows", "shown"),
    [
        (1, 1, (0, 0, 0, 0)),
        (2, 1, (0, 1, 0, 1)),  # the halves of two
        (4, 1, (0, 1, 2, 3)),
        (3, 2, (0, 1, 3, 4)),
    ],
)
def test_a_square_shows_pictures_of_a_figure(columns, rows, shown):
    square = thumbnails.composed(figure(columns, rows, title="title"))
    assert square.size == (thumbnails.SIDE, thumbnails.SIDE)
    quarters = [square.getpixel((x, y)) for y in (48, 144) for x in (48, 144)]
    assert quarters == [COLOURS[k] for k in shown]


def test_a_figure_without_pictures_is_cut_to_a_square():
    sheet = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(sheet).line((0, 200, 400, 0), fill="black")
    assert thumbnails.panels(sheet) == []
    assert thumbnails.composed(sheet).getpixel((96, 96)) != (255, 255, 255)


def test_squares_weigh_little():
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((600, 600)).save(buffer, "PNG")
    assert len(thumbnails.thumbnail(buffer.getvalue())) <= thumbnails.MOST
