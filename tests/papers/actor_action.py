"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.video import actor_action
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    frames = [images(count, 64, seed + k, model) for k in range(0, 700, 100)]
    tokens = torch.arange(8 * count).reshape(count, 2, 4) % 14 + 1
    films = torch.stack(frames, 1)
    masks = films[:, 3, :2] > 0.6
    return actor_action.loss(model(films, tokens), {"masks": masks})["loss"]
