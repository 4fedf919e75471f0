"""How the contract test runs it: two pictures' classes are alike, the others differ."""

import torch
from torch import Tensor, nn

from papernets_lite.transfer import ldf
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    assert isinstance(model, ldf.LDF)
    attributes = torch.eye(model.num_attributes)[:6]
    batch = {"labels": torch.arange(count) // 2 % 6, "attributes": attributes}
    return ldf.loss(model(images(count, 64, seed, model)), batch)["loss"]
