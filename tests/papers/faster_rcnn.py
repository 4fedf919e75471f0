"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.detection import faster_rcnn
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    pictures = images(count, 64, seed, model)
    truth = {
        "boxes": pictures.new_tensor(
            [[4.0, 6.0, 18.0, 20.0], [30.0, 30.0, 56.0, 50.0]]
        ).expand(count, 2, 4),
        "labels": torch.tensor([1, 8]).expand(count, 2),
        "valid": torch.tensor([True, True]).expand(count, 2),
    }
    sampler = torch.Generator().manual_seed(seed)
    return faster_rcnn.loss(model(pictures), truth, generator=sampler)["loss"]
