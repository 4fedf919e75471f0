"""Its frames are 224 pixels wide and high, six of a walk."""

import torch
from torch import Tensor, nn

from papernets_lite.language import embodied_qa


def run(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 6, 3, 224, 224, generator=generator)
    actions = torch.tensor([[0, 0, 1, 0, 0, 3]])
    batch = {"actions": actions, "valid": actions >= 0, "answers": torch.tensor([2])}
    batch = embodied_qa.told(batch, most=5)
    tokens = torch.tensor([[1, 2, 3, 4, 6]])
    outputs = model(images, tokens, actions, batch["fresh"])
    answers = embodied_qa.answer_loss(outputs, batch)["loss"]
    return embodied_qa.loss(outputs, batch)["loss"] + answers
