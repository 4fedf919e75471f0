from functools import partial

import numpy as np
import pytest
import torch

from papernets_lite import draw

skeleton = partial(draw.skeleton, fade=0.0)

GREY = torch.full((3, 8, 8), 0.5)


def colour(name: str) -> torch.Tensor:
    return torch.tensor(list(bytes.fromhex(name[1:]))) / 255


def test_paints_are_the_colours_in_bytes() -> None:
    assert draw.PAINTS[0] == (0x00, 0x72, 0xB2)
    assert len(draw.PAINTS) == len(draw.COLOURS)


def test_resize_keeps_pixels_as_squares() -> None:
    image = torch.rand(3, 4, 5)
    large = draw.resize(image, 3)
    assert torch.equal(large, image.repeat_interleave(3, 1).repeat_interleave(3, 2))
    assert draw.resize(image, 3, smooth=True).shape == large.shape
    with pytest.raises(ValueError, match=r"scale >= 1, got 0"):
        draw.resize(image, 0)


def test_a_joint_lies_where_its_pixel_coordinates_say() -> None:
    # (2.5, 5.5) is the centre of pixel (column 2, row 5): enlarged ten times, rows
    # 50-59 and columns 20-29.
    shown = skeleton(
        GREY, torch.tensor([[[2.5, 5.5]]]), torch.tensor([[True]]), [], scale=10
    )
    changed = (shown - 0.5).abs().amax(0) > 0.02
    rows, columns = changed.nonzero().double().T
    assert rows.mean() + 0.5 == pytest.approx(55, abs=0.05)
    assert columns.mean() + 0.5 == pytest.approx(25, abs=0.05)
    assert torch.equal(shown[:, 55, 25], torch.ones(3))
    # a radius of 6.2, and a rim of half colours
    assert np.pi * 5.7**2 < changed.sum() < np.pi * 7.4**2


def test_positions_are_finer_than_pixels() -> None:
    def centre(x: float) -> float:
        shown = skeleton(
            GREY, torch.tensor([[[x, 4.0]]]), torch.tensor([[True]]), [], scale=4
        )
        ink = (0.5 - shown).clamp(min=0).sum(0) + (shown - 0.5).clamp(min=0).sum(0)
        return float((ink.sum(0) * (torch.arange(32) + 0.5)).sum() / ink.sum()) / 4

    assert centre(3.3) - centre(3.0) == pytest.approx(0.3, abs=0.06)


def test_a_limb_has_its_colour_on_its_middle_and_nothing_beside_it() -> None:
    points = torch.tensor([[[1.0, 4.0], [7.0, 4.0], [4.0, 1.0]]])
    seen = torch.tensor([[True, True, False]])
    shown = skeleton(GREY, points, seen, [(0, 1), (1, 2)], scale=8)
    limb = torch.tensor(draw.hues(np.zeros(1))[0])
    torch.testing.assert_close(shown[:, 32, 32].double(), limb, atol=0.01, rtol=0)
    assert torch.equal(shown[:, :20], torch.full_like(shown[:, :20], 128 / 255)), (
        "no joint or limb that is not visible"
    )


def test_hidden_joints_are_rings_and_those_without_a_place_left_out() -> None:
    points = torch.tensor([[[2.5, 2.5], [5.5, 5.5], [float("nan"), 1.0]]])
    shown = skeleton(
        GREY,
        points,
        torch.tensor([[False, True, True]]),
        [(0, 1), (1, 2)],
        hidden=torch.tensor([[True, False, False]]),
        scale=10,
    )
    assert shown[:, 25, 25].max() < 0.1, "dark in the middle"
    assert shown[:, 25, 30].min() > 0.9, "light around it"
    assert torch.equal(shown[:, 55, 55], torch.ones(3))


def test_people_have_colours_of_their_own() -> None:
    points = torch.tensor([[[1.0, 2.0], [7.0, 2.0]], [[1.0, 6.0], [7.0, 6.0]]])
    shown = skeleton(
        GREY,
        points,
        torch.ones(2, 2, dtype=torch.bool),
        [(0, 1)],
        scale=8,
        by_person=True,
    )
    torch.testing.assert_close(shown[:, 16, 32], colour(draw.COLOURS[0]))
    torch.testing.assert_close(shown[:, 48, 32], colour(draw.COLOURS[1]))


def test_boxes_are_drawn_on_their_edges_only_and_far_ones_do_not_fail() -> None:
    shown = draw.boxes(
        GREY,
        torch.tensor([[1.0, 2.0, 6.0, 7.0], [-1e9, -1e9, 1e9, 1e9]]),
        scale=10,
        colour=(255, 0, 0),
    )
    red = torch.tensor([1.0, 0.0, 0.0])
    for row, column in ((20, 35), (70, 35), (45, 10), (45, 60)):
        torch.testing.assert_close(shown[:, row, column], red)
    assert torch.equal(shown[:, 45, 35], torch.full((3,), 128 / 255))
    with pytest.raises(ValueError, match="finite boxes"):
        draw.boxes(GREY, torch.tensor([[0.0, 0.0, float("inf"), 1.0]]))


def test_no_boxes_masks_or_people_leave_the_picture() -> None:
    plain = draw.resize(GREY, 4)
    torch.testing.assert_close(
        draw.boxes(GREY, torch.zeros(0, 4)), plain, atol=0.01, rtol=0
    )
    torch.testing.assert_close(
        draw.masks(GREY, torch.zeros(0, 8, 8, dtype=torch.bool)), plain
    )
    nobody = skeleton(
        GREY, torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.bool), [(0, 1)]
    )
    torch.testing.assert_close(nobody, plain, atol=0.01, rtol=0)


def test_a_mask_colours_its_pixels_and_no_others() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2, 3] = True
    shown = draw.masks(GREY, mask, scale=1)
    torch.testing.assert_close(
        shown[:, 2, 3], 0.45 * 0.5 + 0.55 * colour(draw.COLOURS[0])
    )
    shown[:, 2, 3] = 0.5
    assert torch.equal(shown, GREY)


def test_a_heatmap_is_grey_where_low_and_coloured_where_high() -> None:
    heat = torch.full((4, 4), 0.15)  # the threshold
    heat[3, 0] = 1.0
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 8)
    for picture in (GREY, red):
        shown = draw.heatmap(picture, heat, scale=2, dots=False)
        assert shown.shape == (3, 16, 16)
        saturation = shown.amax(0) - shown.amin(0)
        assert saturation[:8, 8:].max() < 1e-3
        assert saturation.argmax() // 16 >= 12
        assert saturation.argmax() % 16 < 4
    with pytest.raises(ValueError, match="finite heat map, got 1"):
        draw.heatmap(GREY, torch.tensor([[float("nan"), 0.0]]))


def test_a_heatmap_has_a_dot_on_each_peak_that_is_counted() -> None:
    heat = torch.zeros(8, 8)
    heat[1, 2] = heat[6, 6] = 0.9
    heat[4, 0] = 0.25  # a ripple
    assert draw.summits(heat).tolist() == [[2.5, 1.5], [6.5, 6.5]]
    with_dots = draw.heatmap(GREY, heat, scale=4)
    changed = (with_dots - draw.heatmap(GREY, heat, scale=4, dots=False)).abs()
    rows, columns = (changed.amax(0) > 0.1).nonzero().T
    first = rows < 16
    for part, x, y in ((first, 10, 6), (~first, 26, 26)):
        assert columns[part].float().mean() + 0.5 == pytest.approx(x, abs=0.5)
        assert rows[part].float().mean() + 0.5 == pytest.approx(y, abs=0.5)


def test_hues_are_equally_light_and_all_different() -> None:
    rgb = draw.hues(np.linspace(0, 2 * np.pi, 12, endpoint=False))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    assert luminance.max() / luminance.min() < 1.35  # matplotlib's hsv: 13
    assert np.linalg.norm(rgb - np.roll(rgb, 1, 0), axis=1).min() > 0.1
    np.testing.assert_allclose(
        draw.hues(np.array(0.3)), draw.hues(np.array(0.3 + 2 * np.pi)), atol=1e-12
    )


def test_labels_repeat_colours_and_keep_nothing_white() -> None:
    image = torch.tensor([[0, 1, len(draw.COLOURS) + 1]])
    shown = draw.labels(image, scale=1)
    torch.testing.assert_close(shown[:, 0, 0], torch.ones(3))
    torch.testing.assert_close(shown[:, 0, 1], colour(draw.COLOURS[0]))
    assert torch.equal(shown[:, 0, 2], shown[:, 0, 1])
    with pytest.raises(ValueError, match="from 0, got -1"):
        draw.labels(torch.tensor([[-1]]))


def test_grid_places_tiles_row_by_row() -> None:
    tiles = [torch.full((1, 2, 3), value) for value in (0.1, 0.2, 0.3)]
    shown = draw.grid(tiles, 2, pad=1)
    assert shown.shape == (3, 5, 7)
    assert shown[0, 0, 0] == pytest.approx(0.1)
    assert shown[2, 1, 6] == pytest.approx(0.2)
    assert shown[1, 4, 2] == pytest.approx(0.3)
    assert torch.equal(shown[:, 3:, 4:], torch.ones(3, 2, 3))
    assert torch.equal(shown[:, 2], torch.ones(3, 7))
    for bad, columns in (([], 2), (tiles, 0), ([tiles[0], torch.zeros(1, 3, 3)], 2)):
        with pytest.raises(ValueError, match="expected"):
            draw.grid(bad, columns)


# Viénot's simulation of the two common kinds of colour blindness, in linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]
    ),
    "deuteranopia": np.array(
        [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]
    ),
}


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_first_six_colours_are_told_apart(blindness: str) -> None:
    rgb = np.stack([colour(c).numpy() for c in draw.COLOURS[:6]])
    linear = (
        np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        @ BLINDNESS[blindness].T
    )
    # CIE Lab
    xyz = (
        linear.clip(0)
        @ np.array(
            [
                [0.4124, 0.3576, 0.1805],
                [0.2126, 0.7152, 0.0722],
                [0.0193, 0.1192, 0.9505],
            ]
        ).T
    )
    f = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    lab = np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1
    )
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(6)
    assert apart.min() > 12  # just noticeable: 2.3


def test_labels_may_be_bytes() -> None:
    few = torch.tensor([[0, 1, 255]])
    drawn = draw.labels(few.to(torch.uint8), scale=1)
    assert torch.equal(drawn, draw.labels(few, scale=1))
    assert drawn[:, 0, 0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("most", [255.0, -255.0])
def test_pictures_up_to_255_are_refused(most: float) -> None:
    picture = torch.full((3, 8, 8), most)
    with pytest.raises(ValueError, match=r"an image in \[0, 1\]"):
        draw.grid([picture], 1)
    with pytest.raises(ValueError, match=r"an image in \[0, 1\]"):
        draw.boxes(picture, torch.zeros(0, 4))
