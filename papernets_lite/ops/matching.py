"""One-to-one matching of two sets by a table of scores."""

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def greedy(
    scores: Float[Tensor, "m n"], *, above: float = 0.0
) -> list[tuple[int, int]]:
    """Pairs in falling order of score, each row and column once, scores > ``above``
    only.

    Not always the best sum (see ``optimal``), but what released parsers do, and never
    worse than half of it.
    """
    candidates = (scores > above).nonzero()
    order = scores[candidates[:, 0], candidates[:, 1]].argsort(
        descending=True, stable=True
    )
    pairs: dict[int, int] = {}
    for row, column in candidates[order].tolist():
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return list(pairs.items())


def optimal(
    scores: Float[Tensor, "m n"], *, above: float = 0.0
) -> list[tuple[int, int]]:
    """The pairs with the highest sum of scores over ``above`` (Hungarian algorithm,
    SciPy's)."""
    # A pair that may not be made adds nothing, so it is left out afterwards without
    # cost to the sum.
    gain = torch.where(scores > above, scores - above, 0.0).cpu().double().numpy()
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [
        (int(r), int(c))
        for r, c in zip(rows, columns, strict=True)
        if scores[r, c] > above
    ]
