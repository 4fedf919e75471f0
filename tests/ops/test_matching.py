"""Greedy and optimal matching against each other and against all permutations."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papernets_lite.ops.matching import greedy, optimal

tables = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6)).map(
    lambda s: (
        torch.rand(s[0], s[1], generator=torch.Generator().manual_seed(s[2])) * 1.4
        - 0.4
    )
)


def total(scores, pairs):
    return sum(float(scores[pair]) for pair in pairs)


def best(scores):
    """The largest sum over all ways to pair, by trying them."""
    scores = scores if len(scores) <= scores.shape[1] else scores.T
    gain = scores.clamp(min=0)
    return max(
        sum(float(gain[row, column]) for row, column in enumerate(columns))
        for columns in permutations(range(scores.shape[1]), len(scores))
    )


@settings(max_examples=80, deadline=None)
@given(tables)
def test_each_row_and_column_once_and_sums_as_promised(scores):
    found = {match: match(scores) for match in (greedy, optimal)}
    for pairs in found.values():
        assert (
            len({row for row, _ in pairs})
            == len({column for _, column in pairs})
            == len(pairs)
        )
        assert all(scores[pair] > 0 for pair in pairs)
    assert total(scores, found[optimal]) == pytest.approx(best(scores), abs=1e-5)
    assert (
        best(scores) / 2 - 1e-6 <= total(scores, found[greedy]) <= best(scores) + 1e-6
    )


def test_greed_costs():
    scores = torch.tensor([[0.9, 0.8], [0.8, 0.1]])
    assert greedy(scores) == [(0, 0), (1, 1)]
    assert sorted(optimal(scores)) == [(0, 1), (1, 0)]


def test_ties_go_to_the_first():
    assert greedy(torch.ones(2, 3)) == [(0, 0), (1, 1)]


@pytest.mark.parametrize("match", [greedy, optimal])
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(match, shape):
    assert match(torch.zeros(shape)) == []


@pytest.mark.parametrize("match", [greedy, optimal])
def test_only_scores_above_the_bound(match):
    assert match(torch.tensor([[0.3, 0.0], [-1.0, 0.5]]), above=0.4) == [(1, 1)]


@pytest.mark.parametrize("match", [greedy, optimal])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused(match, bad):
    scores = torch.ones(2, 3)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match="finite scores"):
        match(scores)


@pytest.mark.parametrize("match", [greedy, optimal])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bfloat16])
def test_scores_of_any_type(match, dtype):
    scores = torch.tensor([[3, 1], [1, 0], [0, 2]]).to(dtype)
    assert sorted(match(scores)) == [(0, 0), (2, 1)]
