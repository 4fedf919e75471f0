"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.transfer import siamese
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    pairs = torch.stack(
        [images(count, 32, seed + k, model)[:, :1] for k in (0, 100)], 1
    )
    similar = torch.arange(count) % 2 == 0
    return siamese.loss(model(pairs), {"similar": similar})["loss"]
