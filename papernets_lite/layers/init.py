"""Initial weights."""

from torch import nn

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def he_init_(module: nn.Module) -> None:
    """He's normal weights (fan out) and zero biases in every convolution, in place;
    other layers keep theirs."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def normal_init_(module: nn.Module, std: float) -> None:
    """Normal weights of deviation ``std`` and zero biases in every convolution and
    linear layer, in place."""
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            nn.init.normal_(layer.weight, 0.0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
