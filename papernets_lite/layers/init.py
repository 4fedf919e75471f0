"""Initial weights."""

import math

from torch import nn

from papernets_lite.ops.checks import expect

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def he_init_(module: nn.Module) -> None:
    """He's normal weights (fan out) and zero biases in every convolution, in place;
    other layers keep theirs."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            _no_bias_(layer)


def normal_init_(module: nn.Module, std: float) -> None:
    """Normal weights of deviation ``std`` and zero biases in every convolution and
    linear layer, in place.

    Raises:
        ValueError: unless ``std`` is finite and at least 0.
    """
    expect(math.isfinite(std) and std >= 0, "a finite deviation >= 0", std)
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            nn.init.normal_(layer.weight, 0.0, std)
            _no_bias_(layer)


def _no_bias_(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
