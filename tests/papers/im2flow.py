"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.video import im2flow
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(images(count, 32, seed, model))
    generator = torch.Generator().manual_seed(seed)
    flow = torch.randn(count, 2, *outputs.shape[2:], generator=generator)
    return im2flow.loss(outputs, {"flow": flow.to(outputs.dtype)})["loss"]
