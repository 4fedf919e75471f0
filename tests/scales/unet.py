"""The smallest tiles that the paper's net takes: from 188 to 4 pixels."""

import torch
from torch import Tensor, nn

from papernets_lite.segmentation import unet
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    outputs = model(images(1, 188, 0, model)[:, :1])
    labels = torch.arange(16).reshape(1, 4, 4) % 2
    return unet.loss(outputs, {"labels": labels})["loss"]
