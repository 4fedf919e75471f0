"""One update against the rule it follows, and the learning rate's way to zero."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.ops.updates import linear_decay, ramp, update


def weights() -> tuple[nn.Parameter, torch.optim.Optimizer]:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    return weight, torch.optim.SGD([weight], lr=0.5)


def test_an_update_follows_the_gradient_and_forgets_older_ones() -> None:
    weight, optimizer = weights()
    weight.grad = torch.tensor([100.0, 100.0])
    update(optimizer, (weight**2).sum())
    assert weight.tolist() == [0.0, 0.0]
    assert weight.grad.tolist() == [2.0, 4.0]


def test_an_update_leaves_the_weights_of_others_alone() -> None:
    weight, optimizer = weights()
    other = nn.Parameter(torch.ones(2))
    update(optimizer, (weight * other).sum())
    assert weight.tolist() == [0.5, 1.5]
    assert other.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.Parameter(torch.ones(2)), "a loss without axes"),
        (torch.tensor(1.0), "depends on weights which learn"),
    ],
)
def test_what_is_no_loss_is_refused(loss: Tensor, message: str) -> None:
    weight, optimizer = weights()
    with pytest.raises((ValueError, TypeError), match=rf"{message}|Type-check"):
        update(optimizer, loss)
    assert weight.tolist() == [1.0, 2.0]


def rates(steps: int, count: int, schedule_of: Callable = linear_decay) -> list[float]:
    _, optimizer = weights()
    schedule = schedule_of(optimizer, steps)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_is_constant_for_one_half_and_then_falls_to_zero() -> None:
    assert rates(8, 9) == pytest.approx([0.5] * 5 + [0.375, 0.25, 0.125, 0])


def test_the_rate_never_turns_negative() -> None:
    assert rates(2, 5) == [0.5, 0.5, 0, 0, 0]


def test_a_training_of_no_steps_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="steps >= 1, got 0"):
        linear_decay(weights()[1], 0)


def test_a_ramp_rises_stays_and_falls_to_zero() -> None:
    slowly = partial(ramp, rise=4)
    rising = [0.125, 0.25, 0.375]
    falling = [0.4, 0.3, 0.2, 0.1, 0, 0]
    assert rates(10, 12, slowly) == pytest.approx([*rising, 0.5, 0.5, 0.5, *falling])


def test_a_short_ramp_turns_before_its_top() -> None:
    assert rates(4, 5, ramp) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0])


@pytest.mark.parametrize(("steps", "rise"), [(0, 20), (5, 0)])
def test_a_ramp_needs_steps_and_a_rise(steps: int, rise: int) -> None:
    with pytest.raises(ValueError, match="steps >= 1 and rise >= 1"):
        ramp(weights()[1], steps, rise=rise)
