"""How the contract test runs it: the net is OpenPose's."""

import torch
from torch import Tensor, nn

from papernets_lite.video import streaming
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(images(count, 64, seed, model))
    first = outputs[0]
    batch = {"heats": torch.ones_like(first[0]), "fields": torch.ones_like(first[1])}
    return streaming.loss(outputs, batch)["loss"]
