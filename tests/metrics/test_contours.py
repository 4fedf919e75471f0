import math

import pytest
import torch

from papernets_lite.metrics.contours import contour_scores, dark_lines
from tests.unchecked import unchecked


def grid(*rows: str) -> torch.Tensor:
    return torch.tensor([[[letter == "x" for letter in row] for row in rows]])


def test_thin_dark_lines_are_found_and_edges_and_dark_areas_are_not():
    image = torch.full((1, 3, 12, 16), 0.8)
    image[..., 3] = 0.2  # a line one pixel wide
    image[..., 6:8] = 0.3  # two pixels wide
    image[..., 11:] = 0.1  # a dark area and its edge
    expected = torch.zeros(12, 16, dtype=torch.bool)
    expected[:, [3, 6, 7]] = True
    assert torch.equal(dark_lines(image, width=2)[0], expected)
    assert not dark_lines(1 - image, width=2)[0][:, 3].any(), "bright lines are none"
    assert not dark_lines(image, contrast=0.7).any()


def test_scores_by_hand():
    truth, found = grid("x....", "x....", "x...."), grid(".x...", ".....", "....x")
    # Within one pixel: of two found one is right; of three true ones the upper two are
    # near it.
    assert contour_scores(found, truth) == pytest.approx(
        {"precision": 1 / 2, "recall": 2 / 3, "f1": 4 / 7}
    )
    assert contour_scores(found, truth, tolerance=0) == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
    }
    where = grid("xx...", "xx...", ".....")
    assert contour_scores(found, truth, where=where) == {
        "precision": 1,
        "recall": 1,
        "f1": 1,
    }
    nothing = torch.zeros_like(found)
    assert math.isnan(contour_scores(found, nothing)["f1"])
    assert (
        contour_scores(nothing, truth)["f1"]
        == contour_scores(nothing, truth)["recall"]
        == 0
    )


def test_bad_width_is_refused():
    with pytest.raises(ValueError, match="width >= 1"):
        dark_lines(torch.rand(1, 3, 8, 8), width=0)


def test_masks_of_zeros_and_ones_are_masks():
    truth, found = grid("x...."), grid(".x..x")
    expected = contour_scores(found, truth)
    assert contour_scores(found.long(), truth.byte(), where=found | True) == expected
    assert contour_scores(found, truth, where=(found | True).int()) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"found": torch.ones(4, 4).bool()}, r"contours \(n, h, w\), got \(4, 4\)"),
        ({"found": torch.ones(1, 4, 4).bool()}, r"true contours \(1, 4, 4\)"),
        ({"where": torch.ones(1, 4, 4).bool()}, r"where \(2, 4, 4\)"),
        ({"found": torch.full((2, 4, 4), 2)}, "of bool, or of 0 and 1"),
        ({"tolerance": -1}, "a tolerance >= 0"),
    ],
)
def test_masks_that_would_only_fit_after_broadcasting_are_refused(wrong, message):
    masks = torch.ones(2, 4, 4).bool()
    with unchecked(), pytest.raises(ValueError, match=message):
        contour_scores(**({"found": masks, "truth": masks} | wrong))


@pytest.mark.parametrize(
    "images",
    [
        255 * torch.ones(1, 3, 8, 8),
        torch.full((1, 3, 8, 8), float("nan")),
        torch.ones(1, 3, 8, 8, dtype=torch.uint8),
        torch.rand(0, 3, 8, 8),
        torch.rand(3, 8, 8),
    ],
)
def test_lines_are_looked_for_in_pictures_alone(images):
    with unchecked(), pytest.raises(ValueError, match="expected"):
        dark_lines(images)


def test_no_pictures_have_nothing_to_count():
    nothing = torch.zeros(0, 4, 4, dtype=torch.bool)
    assert all(math.isnan(v) for v in contour_scores(nothing, nothing).values())
