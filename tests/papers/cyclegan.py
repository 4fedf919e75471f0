"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.generative import cyclegan
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = images(count, 32, seed, model), images(count, 32, seed + 1, model)
    batch = {"images": x}, {"images": y}
    fakes = model(x, y)
    making = cyclegan.generator_loss(model, batch, fakes)
    telling = cyclegan.discriminator_loss(model, batch, fakes)
    return making["loss"] + telling["loss"]
