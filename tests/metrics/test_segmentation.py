"""Object scores by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papernets_lite.metrics.segmentation import (
    amodal_scores,
    class_scores,
    components,
    convex_hulls,
    mask_ious,
    object_scores,
    overlaps,
)
from tests.unchecked import unchecked


def rows(*lines):
    """A label map from digits."""
    return torch.tensor([[int(c) for c in line] for line in lines])


def test_pieces_are_connected_by_sides_not_corners():
    mask = rows("1100", "0010", "0011", "1000") > 0
    assert components(mask).tolist() == rows("1100", "0020", "0022", "3000").tolist()
    both = components(torch.stack([mask, ~mask]))
    assert both.shape == (2, 4, 4)
    assert both[0].equal(components(mask))
    assert both[1].max() == 2


def test_overlaps_count_shared_pixels():
    table = overlaps(rows("0112", "0112"), rows("0011", "0012"))
    assert table.tolist() == [[2, 0, 0], [2, 2, 0], [0, 1, 1]]


def test_what_is_right_scores_one():
    truth = rows("1102", "1102")
    assert object_scores([truth], [truth]) == {
        "f1": 1,
        "precision": 1,
        "recall": 1,
        "merged": 0,
        "iou": 1,
    }


def test_two_cells_that_melt_are_both_lost():
    truth, found = (
        rows("11022", "11022", "00000", "33000"),
        rows("11111", "11111", "00000", "22000"),
    )
    scores = object_scores([found], [truth])
    # Found 1 covers all of true 1 and 2, but its IoU with either is 4/10. Found 2 is
    # true 3.
    assert scores["f1"] == pytest.approx(2 * 1 / (2 + 3))
    assert (scores["precision"], scores["recall"]) == (1 / 2, 1 / 3)
    assert scores["merged"] == 2 / 3
    assert scores["iou"] == 10 / 12


def test_a_cell_that_only_leaks_into_its_neighbour_is_not_merged():
    truth, found = rows("111222", "111222"), rows("111100", "111100")
    scores = object_scores([found], [truth])
    assert scores["merged"] == 0
    assert (scores["precision"], scores["recall"]) == (1, 1 / 2)  # 6/8 > 0.5


def test_an_iou_of_exactly_one_half_is_no_match():
    truth, found = rows("1100"), rows("1111")
    assert object_scores([found], [truth])["f1"] == 0
    assert object_scores([rows("1110")], [truth])["f1"] == 1
    assert object_scores([rows("1110")], [truth], iou=0.7)["f1"] == 0


def test_images_are_counted_together_and_empty_ones_are_fine():
    empty, one = rows("00", "00"), rows("11", "00")
    scores = object_scores([empty, one, one], [one, one, empty])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (
        1 / 2,
        1 / 2,
        1 / 2,
    )
    assert all(math.isnan(v) for v in object_scores([empty], [empty]).values())


def test_small_objects_are_left_out_on_both_sides():
    truth, found = rows("11102", "11100"), rows("11100", "11103")
    assert object_scores([found], [truth])["f1"] == 2 / 4
    assert object_scores([found], [truth], least=2)["f1"] == 1


@given(
    st.lists(
        st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=2, max_size=6
    )
)
def test_scores_do_not_depend_on_numbers(lines):
    truth = torch.tensor(lines)
    found = truth.roll(1, 0)
    renamed = torch.tensor([0, 4, 1, 3, 2])[found]
    for key, value in object_scores([found], [truth]).items():
        assert value == pytest.approx(
            object_scores([renamed], [truth])[key], nan_ok=True
        )
        assert math.isnan(value) or 0 <= value <= 1


@pytest.mark.parametrize("wrong", [{"found": []}, {"iou": 0.4}, {"iou": 1.0}])
def test_bad_requests_are_refused(wrong):
    maps = [torch.zeros(3, 3, dtype=torch.long)]
    with pytest.raises(ValueError, match="expected"):
        object_scores(**{"found": maps, "truth": maps, **wrong})


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (0, 0)])
def test_nothing_has_no_pieces(shape):
    found = components(torch.zeros(shape, dtype=torch.bool))
    assert found.shape == shape
    assert found.dtype == torch.int64


def test_masks_of_zeros_and_ones_are_masks():
    mask = rows("1100", "0010")
    assert components(mask).equal(components(mask > 0))
    with pytest.raises(ValueError, match="of bool, or of 0 and 1"):
        components(2 * mask)
    with pytest.raises(ValueError, match=r"a mask \(\.\.\., h, w\)"), unchecked():
        components(mask[0])


def test_large_numbers_are_numbers_like_others():
    truth = rows("11022", "11022")
    found = rows("11000", "11022")
    scores = object_scores([found], [truth])
    assert object_scores([26_000_001 * found], [24_000_001 * truth]) == scores
    assert object_scores([found.byte()], [truth.int()]) == scores


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([rows("10") - 1], "numbers of objects from 0 on, got -1"),
        ([rows("10").float()], "whole numbers of objects"),
        ([rows("100")], "as many images of the same sizes"),
        (rows("10"), "as many images of the same sizes"),
    ],
)
def test_what_numbers_no_objects_is_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        object_scores(wrong, [rows("10")])


def test_overlaps_of_unequal_maps_are_refused():
    with unchecked(), pytest.raises(ValueError, match="label maps of the same shape"):
        overlaps(rows("10"), rows("10", "10"))


def test_classes_are_scored_by_hand():
    truth, found = rows("0011", "0011"), rows("0111", "0011")
    scores = class_scores(found[None], truth[None], 5)
    # IoU of class 0 is 3 / 4 and of class 1 4 / 5; classes 2 to 4 are nowhere.
    assert scores["accuracy"] == 7 / 8
    assert scores["iou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert class_scores(found[None].byte(), truth[None].int(), 5) == scores
    nowhere = class_scores(rows("22")[None], rows("33")[None], 5)
    assert nowhere == {"accuracy": 0, "iou": 0}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (rows("12")[None], "0 to 1"),
        (rows("01", "01")[None], "label maps of the same shape"),
        (rows("01")[None, :, :0], "label maps of the same shape"),
    ],
)
def test_classes_that_cannot_be_scored_are_refused(found, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        class_scores(found, rows("01")[None], 2)


def test_ious_of_masks_by_hand():
    found = torch.stack([rows("0110"), rows("0000"), rows("1111"), rows("0000")]) > 0
    truth = torch.stack([rows("0011"), rows("0110"), rows("1111"), rows("0000")]) > 0
    scores = mask_ious(found, truth)
    assert scores[:3].tolist() == pytest.approx([1 / 3, 0, 1])
    assert math.isnan(scores[3]), "nothing to find"
    with unchecked(), pytest.raises(ValueError, match="expected"):
        mask_ious(found, truth[:2])


def test_a_hull_fills_the_bay_and_adds_nothing_to_a_square():
    bay = rows("10001", "10001", "11111", "00000") > 0
    square = rows("00000", "01110", "01110", "00000") > 0
    empty = torch.zeros(4, 5)
    hulls = convex_hulls(torch.stack([bay, square, empty > 0]))
    assert hulls[0].equal(rows("11111", "11111", "11111", "00000") > 0)
    assert hulls[1].equal(square)
    assert not hulls[2].any()
    with unchecked(), pytest.raises(ValueError, match="expected"):
        convex_hulls(bay)


def test_a_completed_mask_by_hand():
    visible = rows("1100", "0000")[None] > 0
    full = rows("1110", "1000")[None] > 0
    found = rows("0011", "0000")[None] > 0
    scores = amodal_scores(found, visible, full)
    assert scores["full"].item() == pytest.approx(3 / 5)
    assert scores["hidden"].item() == pytest.approx(1 / 3)
    assert scores["false"].item() == 1
    idle = amodal_scores(visible, visible, visible)
    assert math.isnan(idle["hidden"])
    with unchecked(), pytest.raises(ValueError, match="expected"):
        amodal_scores(found, visible, full[:, :1])
