"""The one way in which bad input is refused."""

import pytest
import torch
from torch import nn

from papernets_lite.ops.checks import at_least, check_images, check_range, expect


def test_what_holds_passes() -> None:
    expect(True, "nothing")
    expect(torch.ones(3).all(), "nothing", 1)


def test_the_error_says_what_was_expected_and_what_came() -> None:
    with pytest.raises(
        ValueError, match=r"^expected two sides, got \(1, 3\), 'A', 0\.5$"
    ):
        expect(torch.tensor(False), "two sides", torch.empty(1, 3).shape, "A", 0.5)


def test_an_error_may_have_nothing_to_show() -> None:
    with pytest.raises(ValueError, match=r"^expected a description$"):
        expect("", "a description")


def test_the_count_that_is_too_small_is_named() -> None:
    at_least(0, blocks=0, halvings=3)
    with pytest.raises(ValueError, match=r"^expected halvings >= 1, got 0$"):
        at_least(1, blocks=1, halvings=0)


def test_images_that_fit_pass() -> None:
    net = nn.Conv2d(3, 1, 1)
    check_images(torch.rand(1, 3, 8, 12), net, least=8, multiple=4)
    check_images(torch.rand(1, 3, 8, 12).double(), net.double())
    check_images(torch.rand(2, 5, 1, 1), nn.Conv2d(5, 1, 1), channels=5)


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 8, 8),
        torch.rand(0, 3, 8, 8),
        torch.rand(1, 4, 8, 8),
        torch.rand(1, 8, 8, 3),
        torch.rand(1, 3, 4, 8),
        torch.rand(1, 3, 8, 10),
        torch.rand(1, 3, 8, 8).double(),
        torch.rand(1, 3, 8, 8).half(),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_images_that_a_net_cannot_take_are_refused(images: torch.Tensor) -> None:
    net = nn.Conv2d(3, 1, 1)
    with pytest.raises(ValueError, match="expected"):
        check_images(images, net, least=8, multiple=4)


def test_autocast_takes_any_floats_and_no_integers() -> None:
    net, images = nn.Conv2d(3, 1, 1), torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        check_images(images, net)
        check_images(images.bfloat16(), net)
        with pytest.raises(ValueError, match=r"type torch\.float32.*got torch\.uint8"):
            check_images(images.byte(), net)


def test_the_range_allows_for_noise_only() -> None:
    check_range(torch.tensor([0.0, 1.0]))
    check_range(torch.tensor([-0.2, 1.3]))
    bad = ([0.0, 255.0], [-1.0, 1.0], [0.5, torch.nan], [0.0, torch.inf])
    for values in bad:
        with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
            check_range(torch.tensor(values))
