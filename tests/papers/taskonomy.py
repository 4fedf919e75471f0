"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.transfer import taskonomy
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    pictures = images(count, 32, seed, model)
    return taskonomy.loss(model(pictures), {"target": 1 - pictures})["loss"]
