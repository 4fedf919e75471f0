"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.generative import stargan
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = images(count, 32, seed, model), images(count, 32, seed + 1, model)
    labels = (torch.arange(5 * count).reshape(count, 5) % 2).to(x.dtype)
    points = torch.Generator().manual_seed(seed)
    batch = {"images": x, "labels": labels}
    making = stargan.generator_loss(model, batch, 1 - labels)
    telling = stargan.discriminator_loss(model, batch, y, generator=points)
    return making["loss"] + telling["loss"]
