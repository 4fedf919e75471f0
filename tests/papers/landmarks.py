"""How the contract test runs it: with warped copies."""

import torch
from torch import Tensor, nn

from papernets_lite.pose import landmarks
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    batch = landmarks.augment({"images": images(count, 32, seed, model)}, generator)
    outputs = model(batch["images"], batch["warped"])
    return landmarks.loss(outputs, batch)["loss"]
