"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.generative import pix2pixhd
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    pictures = images(count, 64, seed, model)
    labels = torch.arange(64).expand(count, 64, 64) // 8
    instances = labels * 2 + (torch.arange(64) % 8 > 3)
    conditions = pix2pixhd.encode(labels, instances, num_classes=8).to(pictures.dtype)
    fakes = model(conditions, model.encoder(pictures, instances))
    batch = {"conditions": conditions, "images": pictures}
    making = pix2pixhd.generator_loss(model, batch, fakes)
    telling = pix2pixhd.discriminator_loss(model, batch, fakes)
    return making["loss"] + telling["loss"]
