"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.pose import openpose
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(images(count, 64, seed, model))
    heats, fields = (torch.ones_like(maps) for maps in outputs[0])
    return openpose.loss(outputs, {"heats": heats, "fields": fields})["loss"]
