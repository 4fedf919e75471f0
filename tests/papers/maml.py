"""How the contract test runs it: as many tasks as samples, after one step."""

import torch
from torch import Tensor, nn

from papernets_lite.transfer import maml
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    ways = torch.arange(5).expand(count, -1)
    pictures = images(10 * count, 28, seed, model).view(count, 10, 3, 28, 28)
    batch = {
        "support": pictures[:, :5],
        "support_targets": ways,
        "query": pictures[:, 5:],
        "targets": ways,
    }
    return maml.loss(maml.answers(model, batch, rate=0.1), batch)["loss"]
