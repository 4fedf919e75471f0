"""One update of some weights, for training with several optimisers, which the plain
step does not know; and how the size of updates rises and falls."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from papernets_lite.ops.checks import expect

# of the generators, of the discriminators
Optimizers = tuple[torch.optim.Optimizer, torch.optim.Optimizer]
Schedules = Iterable[torch.optim.lr_scheduler.LRScheduler]


def update(optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""]) -> None:
    """One update by the gradient of ``loss``.

    Args:
        optimizer: of the weights that learn; gradients that they still hold are
            dropped first.
        loss: a scalar. Its gradient also reaches weights of other optimisers, unless
            these are frozen.

    Raises:
        ValueError: for a loss that is no scalar or has no gradient.
    """
    expect(loss.ndim == 0, "a loss without axes", loss.shape)
    expect(loss.requires_grad, "a loss that depends on weights which learn", loss)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def linear_decay(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """A learning rate that is constant for the first half of the training, and then
    falls linearly to zero.

    Args:
        optimizer: whose rate it is.
        steps: of the whole training; from there on the rate stays zero.

    Returns:
        The schedule, to be stepped after each update.

    Raises:
        ValueError: for fewer than one step.
    """
    expect(steps >= 1, "steps >= 1", steps)

    def share(step: int) -> float:
        return min(1.0, max(0.0, 2 - 2 * step / steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def ramp(
    optimizer: torch.optim.Optimizer, steps: int, *, rise: int = 20
) -> torch.optim.lr_scheduler.LRScheduler:
    """A learning rate that rises linearly, is constant, and falls linearly to zero in
    the second half of the training.

    Args:
        optimizer: whose rate it is, at its highest.
        steps: of the whole training; from there on the rate stays zero.
        rise: steps until the rate is at its highest.

    Returns:
        The schedule, to be stepped after each update.

    Raises:
        ValueError: for fewer than one step, or a rise of none.
    """
    expect(steps >= 1 and rise >= 1, "steps >= 1 and rise >= 1", steps, rise)

    def share(step: int) -> float:
        return max(0.0, min(1.0, (step + 1) / rise, 2 * (1 - step / steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
