"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.generative import cyclegan
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = images(count, 32, seed, model), images(count, 32, seed + 1, model)
    fakes = model(x, y)
    both = (
        cyclegan.generator_loss(model, x, y, fakes),
        cyclegan.discriminator_loss(model, x, y, fakes),
    )
    return both[0]["loss"] + both[1]["loss"]
