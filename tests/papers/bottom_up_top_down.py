"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.language import bottom_up_top_down as updown
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    boxes = torch.tensor([[0.0, 0, 12, 12], [8, 8, 40, 40], [20, 4, 44, 30]])
    pictures = images(count, 48, seed, model)
    vectors = model.features(pictures, boxes.expand(count, 3, 4))
    valid = torch.tensor([True, False, True]).expand(count, 3)
    kinds = torch.arange(3 * count).reshape(count, 3) % 6
    words = torch.arange(4 * count).reshape(count, 4) % 20 + 3
    batch = {"labels": kinds + 1, "attributes": kinds, "tokens": words}
    batch["answers"] = torch.arange(count) % 17
    described = model.features.describe(vectors, batch["labels"])
    losses = [
        updown.region_loss(described, batch),
        updown.loss(model.captioner(vectors, words, valid), batch),
        updown.answer_loss(model.answerer(vectors, words, valid), batch),
    ]
    return torch.stack([found["loss"] for found in losses]).sum()
