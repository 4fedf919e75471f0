"""How the contract test runs it: three losses of one agent, on random walks."""

import torch
from torch import Tensor, nn

from papernets_lite.language import embodied_qa


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    kind = next(model.parameters()).dtype
    images = torch.rand(count, 6, 3, 16, 32, generator=generator).to(kind)
    tokens = torch.randint(1, 12, (count, 5), generator=generator)
    actions = torch.randint(0, 2, (count, 6), generator=generator)
    valid = torch.ones(count, 6, dtype=torch.bool)
    batch = embodied_qa.told({"actions": actions, "valid": valid}, most=2)
    batch["answers"] = torch.randint(0, 6, (count,), generator=generator)
    outputs = model(images, tokens, actions, batch["fresh"])
    labels = torch.randint(0, 9, (count, 16, 32), generator=generator)
    depth = torch.rand(count, 16, 32, generator=generator).to(kind)
    lesson = {"images": images[:, 0], "labels": labels, "depth": depth}
    losses = [
        embodied_qa.loss(outputs, batch),
        embodied_qa.answer_loss(outputs, batch),
        embodied_qa.eyes_loss(model.eyes(images[:, 0]), lesson),
    ]
    return torch.stack([one["loss"] for one in losses]).sum()
