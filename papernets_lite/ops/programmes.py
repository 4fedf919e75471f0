"""Optimisation over yes-or-no decisions."""

import numpy as np
import torch
from jaxtyping import Bool, Real
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from papernets_lite.ops.checks import expect


def binary(
    gain: Real[Tensor, " n"],
    rows: Real[Tensor, "m n"],
    low: Real[Tensor, " m"],
    high: Real[Tensor, " m"],
) -> Bool[Tensor, " n"]:
    """The decisions x in {0, 1}^n with the largest ``gain @ x`` for which ``low <= rows
    @ x <= high`` (SciPy's HiGHS).

    Args:
        gain: of each decision.
        rows: the constraints' left sides.
        low: their lower bounds, minus infinity where there is none.
        high: their upper bounds, infinity where there is none.

    Raises:
        ValueError: for no decisions, unequal sizes, numbers that are NaN or (gains and
            left sides) infinite, or when no decisions keep the constraints.
    """
    count = (len(low), len(gain))
    fits = len(gain) and rows.shape == count and high.shape == low.shape
    expect(fits, f"constraints {count}", rows.shape, low.shape, high.shape)
    finite = gain.isfinite().all() and rows.isfinite().all()
    expect(finite, "finite gains and left sides")
    expect(not (low.isnan() | high.isnan()).any(), "bounds that are numbers")
    found = milp(
        -_numbers(gain),
        integrality=np.ones(len(gain)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(_numbers(rows), _numbers(low), _numbers(high)),
    )
    expect(found.x is not None, "constraints that some decisions keep", found.message)
    return torch.from_numpy(found.x > 0.5)


def _numbers(values: Tensor) -> np.ndarray:
    """As SciPy takes them."""
    return values.detach().cpu().double().numpy()
