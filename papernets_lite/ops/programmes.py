"""Optimisation over yes-or-no decisions."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from papernets_lite.ops.checks import expect


def binary(
    gain: Float[Tensor, " n"],
    rows: Float[Tensor, "m n"],
    low: Float[Tensor, " m"],
    high: Float[Tensor, " m"],
) -> Bool[Tensor, " n"]:
    """The decisions x in {0, 1}^n with the largest ``gain @ x`` for which ``low <= rows
    @ x <= high`` (SciPy's HiGHS).

    Args:
        gain: of each decision.
        rows: the constraints' left sides.
        low, high: their bounds; infinite where there is none.

    Raises:
        ValueError: when no decisions keep the constraints.
    """
    c, a, least, most = (
        t.detach().cpu().double().numpy() for t in (gain, rows, low, high)
    )
    found = milp(
        -c,
        integrality=np.ones(len(c)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(a, least, most),
    )
    expect(found.x is not None, "constraints that some decisions keep", found.message)
    return torch.from_numpy(found.x > 0.5)
