"""Cityscapes' 35 classes; without the encoder, which is optional."""

import torch
from torch import Tensor, nn

from papernets_lite.generative import pix2pixhd
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    labels = torch.arange(64).expand(1, 64, 64) // 2
    conditions = pix2pixhd.encode(labels, labels, num_classes=35)
    fakes = model(conditions)
    batch = {"conditions": conditions, "images": images(1, 64, 0, model)}
    making = pix2pixhd.generator_loss(model, batch, fakes)
    telling = pix2pixhd.discriminator_loss(model, batch, fakes)
    return making["loss"] + telling["loss"]
