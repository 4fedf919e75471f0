"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.backbones import blockqnn
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = torch.arange(count) % 8
    outputs = model(images(count, 32, seed, model))
    return blockqnn.loss(outputs, {"labels": labels})["loss"]
