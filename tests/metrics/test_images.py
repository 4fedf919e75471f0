"""Information and the nearest answer, by hand."""

import pytest
import torch

from papernets_lite.metrics.images import mutual_information, nearest


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
