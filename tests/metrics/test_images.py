"""Differences, details, the nearest answer and information, by hand."""

import math

import pytest
import torch

from papernets_lite.metrics.images import (
    contrast,
    detail_correlation,
    masked_l1,
    mutual_information,
    nearest,
)
from tests.unchecked import unchecked


def test_differences_count_inside_the_mask_alone():
    first, second = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    first[0, :, 0, 0], first[0, 0, 0, 1], first[0, :, 1] = 0.5, 0.3, 9
    masks = torch.tensor(
        [[[True, True], [False, False]], [[False, False], [False, False]]]
    )
    found = masked_l1(first, second, masks)
    assert found[0].item() == pytest.approx((0.5 + 0.1) / 2)
    assert found[1].isnan(), "an empty mask"


def test_detail_ignores_brightness_and_sees_shifts():
    stripes = (torch.arange(16) // 2 % 2).float().expand(1, 3, 16, 16)
    everywhere = torch.ones(1, 16, 16, dtype=torch.bool)
    assert detail_correlation(
        stripes, 0.3 * stripes + 0.5, everywhere
    ) == pytest.approx(1)
    inside = everywhere.clone()
    inside[:, :, :4], inside[:, :, -4:] = False, False
    assert detail_correlation(stripes, stripes.roll(2, -1), inside) == pytest.approx(-1)
    spoilt = stripes.clone()
    spoilt[:, :, 0] = 7
    low = everywhere.clone()
    low[:, :4] = False
    assert detail_correlation(stripes, spoilt, low) == pytest.approx(1), (
        "what lies outside does not count"
    )


def test_detail_needs_pixels():
    with pytest.raises(ValueError, match="at least two masked pixels, got 0"):
        detail_correlation(
            torch.rand(1, 3, 4, 4),
            torch.rand(1, 3, 4, 4),
            torch.zeros(1, 4, 4, dtype=torch.bool),
        )


def test_bits_of_a_copy_a_permutation_and_a_constant() -> None:
    labels = torch.arange(60) % 4
    assert mutual_information(labels, labels, 4) == pytest.approx(2)
    assert mutual_information(labels, 3 - labels, 4) == pytest.approx(2)
    assert mutual_information(labels, labels // 2, 4) == pytest.approx(1)
    assert mutual_information(labels, 0 * labels, 4) == pytest.approx(0, abs=1e-9)


def test_the_nearest_answer_is_found_for_each_image() -> None:
    answers = torch.rand(5, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    which = torch.tensor([2, 0, 1, 1, 2])
    images = answers[torch.arange(5), which]
    assert torch.equal(nearest(images, answers), which)
    assert torch.equal(nearest(images + 0.01, answers), which)
    # A third of the way to another answer is still the first.
    other = answers[torch.arange(5), (which + 1) % 3]
    two = torch.stack([images, other], 1)
    assert nearest(images + 0.33 * (other - images), two).tolist() == [0] * 5
    assert nearest(images + 0.67 * (other - images), two).tolist() == [1] * 5


def test_no_images_or_answers_are_refused() -> None:
    for shape in ((0, 2, 3), (2, 0, 3)):
        with pytest.raises(ValueError, match="expected images and answers"):
            nearest(torch.rand(shape[0], 3), torch.rand(shape))


def test_masks_of_zeros_and_ones_are_masks() -> None:
    first, second = torch.rand(
        2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)
    )
    masks = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5
    for measure in (masked_l1, detail_correlation):
        expected = torch.as_tensor(measure(first, second, masks))
        assert torch.as_tensor(measure(first, second, masks.long())).equal(expected)
        with pytest.raises(ValueError, match="masks of bool, or of 0 and 1"):
            measure(first, second, 2 * masks.long())


@pytest.mark.parametrize("measure", [masked_l1, detail_correlation])
def test_pairs_that_do_not_fit_are_refused(measure) -> None:
    pictures, masks = torch.rand(2, 3, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool)
    spoilt = pictures.clone()
    spoilt[0, 0, 0, 0] = float("nan")
    for arguments, message in (
        ((pictures, pictures, masks[:1]), r"masks \(2, 8, 8\), got \(1, 8, 8\)"),
        ((pictures, pictures[:1], masks), "both pictures of the same shape"),
        ((pictures[0], pictures[0], masks), r"pictures \(b, c, h, w\)"),
        ((spoilt, pictures, masks), "finite pictures, got '1 NaN"),
        ((pictures, spoilt / 0, masks), "finite pictures"),
        ((pictures.byte(), pictures.byte(), masks), "pictures of a floating type"),
    ):
        with unchecked(), pytest.raises(ValueError, match=message):
            measure(*arguments)


@pytest.mark.parametrize(
    ("images", "answers", "message"),
    [
        (torch.rand(1, 3, 4), torch.rand(2, 5, 3, 4), r"images \(2, 3, 4\), got \(1,"),
        (torch.rand(2, 3, 4) / 0, torch.rand(2, 5, 3, 4), "finite images"),
        (torch.rand(2, 3, 4), torch.rand(2, 5, 3, 4) / 0, "finite answers"),
        (torch.rand(2), torch.rand(2, 5), "images and answers"),
    ],
)
def test_a_judge_needs_answers_of_its_images(images, answers, message) -> None:
    with unchecked(), pytest.raises(ValueError, match=message):
        nearest(images, answers)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0, 2], [0, 1], "labels from 0 to 1, got 0, 2"),
        ([-1, 0], [0, 1], "labels from 0 to 1, got -1, 0"),
        ([0, 1], [0], "labels of both kinds of the same shape"),
        ([], [], "of an integer type"),
        ([0.0, 1.0], [0, 1], "of an integer type"),
    ],
)
def test_labels_out_of_range_tell_nothing(first, second, message) -> None:
    with unchecked(), pytest.raises(ValueError, match=message):
        mutual_information(torch.tensor(first), torch.tensor(second), 2)
    one = torch.tensor([0, 1], dtype=torch.uint8)
    assert mutual_information(one, one.int(), 2) == pytest.approx(1)


def test_contrast_by_hand() -> None:
    picture = torch.tensor([[0.0, 1.0, 1.0], [0.5, 1.0, 9.0]])[None, None]
    mask = torch.tensor([[[1, 1, 1], [1, 1, 0]]])
    # across 1, 0 and 0.5; down 0.5 and 0; what touches the 9 lies outside
    assert contrast(picture, mask) == pytest.approx((1 + 0 + 0.5 + 0.5 + 0) / 5)
    assert contrast(torch.ones(1, 3, 4, 4), torch.ones(1, 4, 4)) == 0
    assert math.isnan(contrast(picture, torch.tensor([[[1, 0, 1], [0, 1, 0]]])))
    with unchecked(), pytest.raises(ValueError, match="expected"):
        contrast(picture, mask[:, :1])
