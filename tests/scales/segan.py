"""The painter halves 256 pixels eight times, to one cell, which is normalised over the
batch: two pictures."""

from torch import Tensor, nn

from tests.papers import segan


def run(model: nn.Module) -> Tensor:
    return segan.run(model, 2, 0, side=256)
