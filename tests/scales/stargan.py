"""Pictures of 128 x 128."""

import torch
from torch import Tensor, nn

from papernets_lite.generative import stargan
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    x, y = images(1, 128, 0, model), images(1, 128, 1, model)
    labels = (torch.arange(5).reshape(1, 5) % 2).to(x.dtype)
    points = torch.Generator().manual_seed(0)
    batch = {"images": x, "labels": labels}
    making = stargan.generator_loss(model, batch, 1 - labels)
    telling = stargan.discriminator_loss(model, batch, y, generator=points)
    return making["loss"] + telling["loss"]
