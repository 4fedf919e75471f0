import cv2
import numpy as np
import pytest
import torch

from papernets_lite.data import canvas
from papernets_lite.data.canvas import Draws
from tests.unchecked import unchecked


def disc(x: float, y: float, radius: float, size: int) -> np.ndarray:
    """The share of each pixel that a disc covers, as drawn."""
    hull = canvas.hulls(np.array([[x, y]], np.float32), np.array([radius], np.float32))
    inks = canvas.stamp(canvas.blank(size), canvas.fixed(hull)[None], [1])
    colours, alpha = np.full((1, 2, 3), 255.0), np.array([0.0, 1.0])
    table = canvas.inkwell(colours, colours, np.zeros((1, 2), int), alpha)
    return canvas.colour(inks, table[0])[..., 3] / 255


@pytest.mark.parametrize(
    ("x", "y", "size"), [(8.0, 8.0, 16), (8.5, 8.5, 17), (8.25, 7.1, 16)]
)
def test_a_pixels_centre_is_at_one_half(x, y, size):
    cover = disc(x, y, 5.0, size)
    centres = np.arange(size) + 0.5
    assert (cover.sum(0) @ centres) / cover.sum() == pytest.approx(x, abs=0.05)
    assert (cover.sum(1) @ centres) / cover.sum() == pytest.approx(y, abs=0.05)
    # in the middle it is symmetric, but for how OpenCV breaks ties: one sample of nine
    if x == y == size / 2:
        for mirrored in (cover[::-1], cover[:, ::-1], cover.T):
            assert np.abs(cover - mirrored).max() < 0.12


def test_discs_are_antialiased_and_have_their_area():
    for radius in (2.3, 5.0):
        cover = disc(8.2, 7.7, radius, 16)
        assert len(np.unique(cover)) > 5
        # OpenCV also fills the samples on the border: at most a sixth of a pixel all
        # around.
        assert np.pi * radius**2 * 0.98 < cover.sum() < np.pi * (radius + 1 / 6) ** 2


def test_hull_of_two_discs_is_the_capsule_between_them():
    corners = canvas.hulls(
        np.array([[2.0, 3.0], [10.0, 3.0]], np.float32),
        np.array([1.0, 2.0], np.float32),
    )
    np.testing.assert_allclose(corners.min(0), [1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(corners.max(0), [12.0, 5.0], atol=1e-6)


def test_pattern_shows_the_second_colour_on_half_of_the_stripes():
    inks = np.ones((canvas.OVER * 32, canvas.OVER * 32), np.uint8)
    white, black = np.full((1, 2, 3), 255.0), np.zeros((1, 2, 3))
    for name, across, down in (
        ("stripes", True, False),
        ("hoops", False, True),
        ("plain", False, False),
    ):
        pattern = np.full((1, 2), canvas.PATTERNS.index(name))
        image = canvas.colour(
            inks, canvas.inkwell(white, black, pattern, np.array([0.0, 1.0]))[0]
        )[1:-1, 1:-1, 0]
        assert (np.ptp(image[10]) > 200) == across, name
        assert (np.ptp(image[:, 10]) > 200) == down, name


def test_compose_lays_later_layers_on_top():
    layers = np.zeros((1, 3, 4, 5), np.uint8)
    layers[0, 0, 1:3, 1:4], layers[0, 1, 2:, 2:] = 7, 9
    top, owner, boxes, areas = canvas.compose(layers)
    assert top[0].tolist() == [
        [0] * 5,
        [0, 7, 7, 7, 0],
        [0, 7, 9, 9, 9],
        [0, 0, 9, 9, 9],
    ]
    assert owner[0].tolist() == [
        [0] * 5,
        [0, 1, 1, 1, 0],
        [0, 1, 2, 2, 2],
        [0, 0, 2, 2, 2],
    ]
    assert boxes[0].tolist() == [[1, 1, 4, 3], [2, 2, 5, 4], [0, 0, 0, 0]]
    assert areas[0].tolist() == [6, 6, 0]


def test_draws_are_splitmix64():
    # The first outputs of the reference generator for seed 1234567.
    unit = Draws(torch.tensor([1234567])).uniform(0, 1, 2)[0]
    expected = torch.tensor([6457827717110365317 / 2**64, 3203168211198807973 / 2**64])
    torch.testing.assert_close(unit, expected, atol=2**-24, rtol=0)


def test_draws_of_a_seed_do_not_depend_on_the_others():
    seeds = torch.arange(50)
    many, one = Draws(seeds), Draws(seeds[7:8])
    assert torch.equal(many.uniform(-1, 1, 3)[7:8], one.uniform(-1, 1, 3))
    numbers = many.integers(2, 5, 200)
    assert torch.equal(numbers[7:8], one.integers(2, 5, 200))
    assert numbers.unique().tolist() == [2, 3, 4]
    assert abs(Draws(torch.arange(2000)).uniform(0, 1, 20).mean() - 0.5) < 0.01


@pytest.mark.parametrize("bounds", [(2, 1), (-1, 1), (0, 11)])
def test_ranges_are_checked(bounds):
    with pytest.raises(ValueError, match="expected people="):
        canvas.check_range("people", bounds, 0, 10)


def test_names_are_checked():
    canvas.check_names("skies", ("noon",), ("noon", "grey"))
    for wrong in ((), ("green",), ("noon", "green"), "noon"):
        with pytest.raises(ValueError, match=r"expected skies from \('noon', 'grey'\)"):
            canvas.check_names("skies", wrong, ("noon", "grey"))


def test_whole_numbers_are_told_from_others():
    canvas.check_range("people", (np.int64(1), 2), 0, 10, whole=True)
    with pytest.raises(ValueError, match="whole numbers"):
        canvas.check_range("people", (1.5, 2), 0, 10, whole=True)
    assert canvas.check_size(np.int32(32)) == 32
    assert type(canvas.check_size(np.int64(32))) is int
    assert [canvas.is_whole(value) for value in (2, True, 2.0)] == [True, False, False]


def test_opencv_draws_on_one_thread_and_is_left_as_it_was():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with canvas.one_thread():
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_strokes_are_laid_out_in_double_precision():
    draws = torch.rand(400, 8, 5, generator=torch.Generator().manual_seed(0))
    x, y, length, turn, _ = draws.numpy().transpose(2, 0, 1)
    half = (0.03 + 0.05 * length)[..., None] * canvas.directions(6.3 * turn)
    ends = np.stack([x, y], -1)[:, :, None].astype(np.float64)
    ends = ends + np.array([-1.0, 1.0])[:, None] * half[:, :, None]
    hulls = canvas.hulls(64 * ends, np.full(ends.shape[:-1], 64 * 0.012))
    drawn = canvas.strokes(draws, 0.03, 0.05, 0.012, 64)
    assert (drawn == canvas.fixed(hulls)).all()


def test_windows_of_images_begin_at_their_corners():
    maps = torch.arange(2 * 5 * 6).reshape(2, 1, 5, 6)
    corners = torch.tensor([[0, 3], [3, 1]])
    found = canvas.windows(maps, corners, 2)
    assert found[:, 0].tolist() == [[[3, 4], [9, 10]], [[49, 50], [55, 56]]]
    assert canvas.windows(maps[:, 0] > 9, corners, 2).shape == (2, 2, 2)
    for wrong in (corners + 2, corners - 1, corners[:1]):
        with unchecked(), pytest.raises(ValueError, match="expected"):
            canvas.windows(maps, wrong, 2)
