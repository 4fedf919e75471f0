"""A convolution with what follows it."""

from collections.abc import Callable

from torch import nn

Convolution = nn.Conv2d | nn.ConvTranspose2d


def conv_norm_act(
    conv: Convolution,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> list[nn.Module]:
    """The convolution, its normalisation and its activation, in this order.

    Args:
        conv: made by the caller, who decides about its bias: normalisation by
            batch statistics removes it.
        norm: makes the normalisation from the number of channels; None for none.
        activation: makes the activation; None for none.

    Returns:
        The modules, to be spread into a ``Sequential``.
    """
    layers: list[nn.Module] = [conv]
    if norm is not None:
        layers.append(norm(conv.out_channels))
    if activation is not None:
        layers.append(activation())
    return layers
