"""The one way in which bad input is refused."""

import pytest
import torch

from papernets_lite.ops.checks import expect


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
