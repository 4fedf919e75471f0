"""Differences, details, the nearest answer and information, by hand."""

import pytest
import torch

from papernets_lite.metrics.images import (
    detail_correlation,
    masked_l1,
    mutual_information,
    nearest,
)


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
