"""Two pictures of VGG-16's own size; only one of them belongs to the category."""

import torch
from torch import Tensor, nn

from papernets_lite.backbones import interpretable_cnn
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    assert isinstance(model, interpretable_cnn.InterpretableCNN)
    outputs = model.observe(images(2, 224, 0, model))
    labels = torch.tensor([[True], [False]])
    belongs = [torch.zeros(512, dtype=torch.long)] * 2
    losses = interpretable_cnn.loss(
        outputs, {"labels": labels}, pull="templates", weight=0.03, belongs=belongs
    )
    return losses["loss"]
