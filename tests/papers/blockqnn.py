"""How the contract test runs it."""

from torch import Tensor, nn

from papernets_lite.backbones import blockqnn
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    batch: dict[str, Tensor] = {}  # TODO what the loss reads
    return blockqnn.loss(model(images(count, 32, seed, model)), batch)["loss"]
