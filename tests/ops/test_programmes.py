import itertools

import pytest
import torch

from papernets_lite.ops import programmes


def test_a_knapsack_by_hand():
    gain, weight = torch.tensor([6.0, 5.0, 4.0]), torch.tensor([[3.0, 2.0, 2.0]])
    chosen = programmes.binary(
        gain, weight, torch.tensor([-torch.inf]), torch.tensor([4.0])
    )
    assert chosen.tolist() == [False, True, True]


def test_brute_force_agrees():
    generator = torch.Generator().manual_seed(0)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)))
    for _ in range(20):
        gain, rows = (
            torch.randn(9, generator=generator),
            torch.randn(4, 9, generator=generator),
        )
        low, high = torch.full((4,), -2.0), torch.full((4,), 0.5)
        fits = ((every @ rows.T >= low) & (every @ rows.T <= high)).all(1)
        best = (every[fits] @ gain).max()
        chosen = programmes.binary(gain, rows, low, high).float()
        assert ((rows @ chosen >= low - 1e-6) & (rows @ chosen <= high + 1e-6)).all()
        torch.testing.assert_close(chosen @ gain, best)


def test_impossible_constraints_are_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="expected constraints"):
        programmes.binary(one, one[None], 2 * one, 3 * one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gain": torch.tensor([torch.nan])}, "finite gains"),
        ({"rows": torch.tensor([[torch.inf]])}, "finite gains"),
        ({"low": torch.tensor([torch.nan])}, "bounds that are numbers"),
        ({"gain": torch.zeros(0), "rows": torch.zeros(1, 0)}, "expected constraints"),
    ],
)
def test_what_is_no_programme_is_refused(changes, message):
    one = torch.ones(1)
    whole = {"gain": one, "rows": one[None], "low": -one, "high": one}
    with pytest.raises(ValueError, match=message):
        programmes.binary(**(whole | changes))


def test_integers_and_no_constraints_are_taken():
    gain = torch.tensor([1, -1]).int()
    none = torch.zeros(0)
    found = programmes.binary(gain, torch.zeros(0, 2), none, none)
    assert found.tolist() == [True, False]
