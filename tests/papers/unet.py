"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.segmentation import unet
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(images(count, 60, seed, model))
    labels = torch.arange(count * 400).reshape(count, 20, 20) % 2
    return unet.loss(outputs, {"labels": labels})["loss"]
