"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.backbones import cliquenet
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = torch.arange(count) % 8
    scores = model(images(count, 32, seed, model))
    return cliquenet.loss(scores, {"labels": labels})["loss"]
