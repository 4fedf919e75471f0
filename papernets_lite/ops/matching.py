"""One-to-one matching of two sets by a table of scores."""

import torch
from jaxtyping import Real
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from papernets_lite.ops.checks import expect


def greedy(scores: Real[Tensor, "m n"], *, above: float = 0.0) -> list[tuple[int, int]]:
    """Pairs in falling order of score, each row and column once.

    Not always the best sum (see ``optimal``), but what released parsers do, and never
    worse than half of it.

    Args:
        scores: of each row with each column, finite.
        above: only pairs with a higher score are made.

    Raises:
        ValueError: for scores that are no table or not finite.
    """
    check_scores(scores)
    candidates = (scores > above).nonzero()
    heights = scores[candidates.unbind(1)]
    order = heights.argsort(descending=True, stable=True)
    pairs: dict[int, int] = {}
    for row, column in candidates[order].tolist():
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return list(pairs.items())


def optimal(
    scores: Real[Tensor, "m n"], *, above: float = 0.0
) -> list[tuple[int, int]]:
    """The pairs with the highest sum of scores over ``above`` (Hungarian algorithm,
    SciPy's).

    Args:
        scores: of each row with each column, finite.
        above: only pairs with a higher score are made.

    Raises:
        ValueError: for scores that are no table or not finite.
    """
    check_scores(scores)
    # A pair that may not be made adds nothing, so it is left out afterwards without
    # cost to the sum.
    gain = torch.where(scores > above, scores - above, 0.0).cpu().double().numpy()
    rows, columns = linear_sum_assignment(gain, maximize=True)
    allowed = (scores > above).tolist()
    return [
        (row, column)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if allowed[row][column]
    ]


def check_scores(scores: Tensor) -> None:
    """Raise ``ValueError`` unless the scores are a table of finite numbers."""
    expect(scores.ndim == 2, "a table of scores (rows, columns)", scores.shape)
    expect(scores.isfinite().all(), "finite scores, got some that are not")
