"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.backbones import mobilenet_v2
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(images(count, 32, seed, model))
    labels = torch.arange(count) % 8
    return mobilenet_v2.loss(outputs, {"labels": labels})["loss"]
