"""The gradient penalty of critics whose gradient is known; the others by hand."""

import math

import pytest
import torch
from torch import nn

from papernets_lite.ops.losses import (
    classification,
    gradient_penalty,
    l1,
    lsgan,
)


def test_a_linear_critic_by_hand() -> None:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    real, fake = torch.rand(2, 5, 2)
    found = gradient_penalty(lambda x: x @ weight, real, fake)
    assert found.item() == pytest.approx((5 - 1) ** 2)
    found.backward()
    # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    torch.testing.assert_close(weight.grad, 8 * torch.tensor([0.6, 0.8]))


def test_slope_one_costs_nothing_and_a_map_is_summed() -> None:
    real, fake = torch.rand(2, 3, 1, 4, 4)
    assert gradient_penalty(
        lambda x: x.flatten(1).sum(1) / 4, real, fake
    ).item() == pytest.approx(0, abs=1e-10)
    # As a map of 16 scores: each pixel's own gradient is 1, together they have the norm
    # 4.
    assert gradient_penalty(lambda x: x, real, fake).item() == pytest.approx(9)


def test_the_points_lie_between_each_real_and_its_own_fake() -> None:
    seen = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum(1)

    real, fake = (
        torch.arange(6.0)[:, None].expand(6, 3),
        torch.arange(6.0)[:, None].expand(6, 3) + 10,
    )
    gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(0))
    gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(0))
    share = (seen[0] - real) / 10
    assert torch.equal(seen[0], seen[1])
    assert 0 <= share.min() < share.max() <= 1
    assert share.std(1).max() < 1e-6, "one point for a sample, not one for a pixel"
    assert share[:, 0].unique().numel() == 6, "each sample its own"


def test_it_teaches_the_critic_only() -> None:
    critic = nn.Linear(4, 1)
    real = torch.rand(3, 4)
    fake = torch.rand(3, 4, requires_grad=True)
    gradient_penalty(critic, real, fake).backward()
    assert critic.weight.grad is not None
    assert fake.grad is None


@pytest.mark.parametrize(("real", "fake"), [((0, 3), (0, 3)), ((2, 3), (1, 3))])
def test_bad_samples_are_refused(real: tuple[int, int], fake: tuple[int, int]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"expected|Type-check"):
        gradient_penalty(lambda x: x.sum(1), torch.rand(real), torch.rand(fake))


def test_samples_that_are_no_floats_are_refused() -> None:
    images = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises((ValueError, TypeError), match=r"expected|Type-check"):
        gradient_penalty(lambda x: x.sum(1), images, images)


def test_lsgan_by_hand() -> None:
    scores = torch.tensor([[[[1.0, 0.0], [0.5, 3.0]]]])
    assert lsgan(scores, 1.0).item() == pytest.approx((0 + 1 + 0.25 + 4) / 4)
    assert lsgan(torch.ones(2, 1, 3, 3), 1.0) == 0


def test_lsgan_of_no_scores_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one score, got \(0, 1, 3, 3\)"):
        lsgan(torch.zeros(0, 1, 3, 3), 1.0)


def test_l1_is_a_mean_and_repeats_nothing() -> None:
    assert l1(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 2.0]])).item() == 1.5
    with pytest.raises(ValueError, match="images of the same shape"):
        l1(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))


def test_classification_by_hand() -> None:
    outputs = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    found = classification(outputs, {"labels": torch.tensor([0, 1])})
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert found["loss"].item() == pytest.approx((right + wrong) / 2)
    assert found["accuracy"].item() == 0.5


def test_undecided_scores_lose_the_logarithm_of_the_classes() -> None:
    found = classification(torch.zeros(4, 8), {"labels": torch.tensor([3, 1, 2, 0])})
    assert found["loss"].item() == pytest.approx(math.log(8))


def test_classification_of_pixels_by_hand() -> None:
    outputs = torch.zeros(1, 2, 1, 2)
    outputs[0, 1, 0, 0] = 9.0
    found = classification(outputs, {"labels": torch.tensor([[[1, 1]]])})
    right = math.log(1 + math.exp(-9))
    assert found["loss"].item() == pytest.approx((right + math.log(2)) / 2)
    assert found["accuracy"].item() == 0.5


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_labels_as_numpy_delivers_them(kind: torch.dtype) -> None:
    outputs = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 1, 7])
    found = classification(outputs, {"labels": labels.to(kind)})
    expected = classification(outputs, {"labels": labels})
    assert found["loss"].equal(expected["loss"])
    assert found["accuracy"].equal(expected["accuracy"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 255], "labels from 0 to 7, got 0, 255"),
        ([-1, 3], "labels from 0 to 7, got -1, 3"),
        ([0, -100], "labels from 0 to 7, got -100, 0"),
        ([3], r"labels \(2,\), got \(1,\)"),
        ([[3, 3]], r"labels \(2,\), got \(1, 2\)"),
        ([3.0, 3.0], "labels of an integer type"),
    ],
)
def test_labels_that_are_no_class_are_refused(labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification(torch.rand(2, 8), {"labels": torch.tensor(labels)})
