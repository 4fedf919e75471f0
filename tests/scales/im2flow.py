"""The paper's net goes down to one pixel, from 256."""

import torch
from torch import Tensor, nn

from papernets_lite.video import im2flow
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    outputs = model(images(2, 256, 0, model))
    flow = torch.randn(2, 2, 256, 256, generator=torch.Generator().manual_seed(0))
    return im2flow.loss(outputs, {"flow": flow})["loss"]
