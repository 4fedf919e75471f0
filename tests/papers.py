"""How each paper's tiny model is called, for the contract test: slug -> a function that runs it once.

A paper joins by one entry: ``(model, batch size, seed) -> loss``, a scalar that depends on all its parameters.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from papernets_lite.backbones import resnet
from papernets_lite.detection import ssd
from papernets_lite.generative import cyclegan
from papernets_lite.pose import openpose


def _images(count: int, size: int, seed: int, like: nn.Module) -> Tensor:
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return images.to(next(like.parameters()).dtype)


def run_resnet(model: nn.Module, count: int, seed: int) -> Tensor:
    labels = torch.arange(count) % 8
    return resnet.loss(model(_images(count, 32, seed, model)), labels)["loss"]


def run_openpose(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 64, seed, model))
    heats, fields = (torch.ones_like(maps) for maps in outputs[0])
    return openpose.loss(outputs, heats, fields)["loss"]


def run_cyclegan(model: nn.Module, count: int, seed: int) -> Tensor:
    x, y = _images(count, 32, seed, model), _images(count, 32, seed + 1, model)
    fakes = model(x, y)
    both = (cyclegan.generator_loss(model, x, y, fakes), cyclegan.discriminator_loss(model, x, y, fakes))
    return both[0]["loss"] + both[1]["loss"]


def run_ssd(model: nn.Module, count: int, seed: int) -> Tensor:
    outputs = model(_images(count, 64, seed, model))
    boxes = outputs.defaults.new_tensor([[8, 8, 20, 22], [20, 10, 60, 50], [0, 0, 64, 64]]).expand(count, 3, 4)
    labels = torch.arange(3).expand(count, 3)
    wanted = ssd.targets(outputs.defaults, boxes, labels, torch.ones(count, 3, dtype=torch.bool))
    return ssd.loss(outputs, *wanted)["loss"]


RUN: dict[str, Callable[[nn.Module, int, int], Tensor]] = {
    "resnet": run_resnet,
    "openpose": run_openpose,
    "cyclegan": run_cyclegan,
    "ssd": run_ssd,
}
