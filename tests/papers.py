"""How each paper's tiny model is called, for the contract test: slug -> a function that runs it once.

A paper joins by one entry: ``(model, batch size, seed) -> loss``, a scalar that depends on all its parameters.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from papernets_lite.backbones import resnet, senet
from papernets_lite.generative import cyclegan, pix2pixhd
from papernets_lite.pose import openpose
from papernets_lite.segmentation import unet
from papernets_lite.transfer import siamese


def _images(count: int, size: int, seed: int, like: nn.Module) -> Tensor:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return images.to(next(like.parameters()).dtype)


def run_resnet(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = torch.arange(count) % 8
    return resnet.loss(model(_images(count, 32, seed, model)), labels)["loss"]


def run_senet(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = (torch.arange(count)[:, None, None] % 8).expand(count, 16, 16)
    return senet.loss(model(_images(count, 32, seed, model)), labels)["loss"]


def run_openpose(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 64, seed, model))
    heats, fields = (torch.ones_like(maps) for maps in outputs[0])
    return openpose.loss(outputs, heats, fields)["loss"]


def run_cyclegan(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = _images(count, 32, seed, model), _images(count, 32, seed + 1, model)
    fakes = model(x, y)
    both = (cyclegan.generator_loss(model, x, y, fakes), cyclegan.discriminator_loss(model, x, y, fakes))
    return both[0]["loss"] + both[1]["loss"]


def run_pix2pixhd(model: nn.Module, count: int, seed: int) -> Tensor:
    images = _images(count, 64, seed, model)
    labels = torch.arange(64).expand(count, 64, 64) // 8
    instances = labels * 2 + (torch.arange(64) % 8 > 3)
    conditions = pix2pixhd.encode(labels, instances, num_classes=8).to(images.dtype)
    fakes = model(conditions, model.encoder(images, instances))
    losses = (pix2pixhd.generator_loss, pix2pixhd.discriminator_loss)
    return sum((loss(model, conditions, images, fakes)["loss"] for loss in losses), images.new_zeros(()))


def run_siamese(model: nn.Module, count: int, seed: int) -> Tensor:
    pairs = torch.stack([_images(count, 32, seed + k, model)[:, :1] for k in (0, 100)], 1)
    return siamese.loss(model(pairs), torch.arange(count) % 2 == 0)["loss"]


def run_unet(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 60, seed, model))
    labels = torch.arange(count * 400).reshape(count, 20, 20) % 2
    return unet.loss(outputs, labels)["loss"]


RUN: dict[str, Callable[[nn.Module, int, int], Tensor]] = {
    "resnet": run_resnet,
    "senet": run_senet,
    "openpose": run_openpose,
    "cyclegan": run_cyclegan,
    "pix2pixhd": run_pix2pixhd,
    "siamese": run_siamese,
    "unet": run_unet,
}
