"""What tests of several modules need: batch norms whose every number matters, and a few
steps of training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def fit(
    loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, steps: int
) -> list[float]:
    """Lower a loss for some steps; returns its value before each of them."""
    values = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


def randomise_(
    module: nn.Module, gain: tuple[float, float] = (0.5, 1.5), spread: float = 0.1
) -> None:
    """Give batch norms random weights (positive, in ``gain``), biases and statistics,
    so that none can be left out."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, *gain)
            nn.init.normal_(layer.bias, std=spread)
            layer.running_mean.normal_(0, spread)
            layer.running_var.uniform_(0.5, 2)
