"""Its pictures have the size that its zoom net knows."""

import torch
from torch import Tensor, nn

from papernets_lite.transfer import ldf


def run(model: nn.Module) -> Tensor:
    assert isinstance(model, ldf.LDF)
    pictures = torch.rand(2, 3, model.size, model.size)
    attributes = torch.eye(model.num_attributes)[:2]
    batch = {"labels": torch.tensor([0, 1]), "attributes": attributes}
    return ldf.loss(model(pictures), batch)["loss"]
