"""One picture of 300 x 300."""

import torch
from torch import Tensor, nn

from papernets_lite.detection import ssd
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    boxes = torch.tensor([[[40.0, 40, 110, 120], [100, 50, 290, 250]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    truth = {"boxes": boxes, "labels": torch.tensor([[0, 7]]), "valid": valid}
    return ssd.loss(model(images(1, 300, 0, model)), truth)["loss"]
