"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.language import bottom_up_top_down
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    boxes = torch.tensor([[0.0, 0, 12, 12], [8, 8, 40, 40], [20, 4, 44, 30]]).expand(
        count, 3, 4
    )
    pictures = images(count, 48, seed, model)
    vectors, valid = (
        model.features(pictures, boxes.to(pictures)),
        torch.tensor([True, False, True]).expand(count, 3),
    )
    labels, words = (
        torch.arange(3 * count).reshape(count, 3) % 6,
        torch.arange(4 * count).reshape(count, 4) % 20 + 3,
    )
    parts = [
        bottom_up_top_down.region_loss(
            *model.features.describe(vectors, labels + 1), labels + 1, labels
        ),
        bottom_up_top_down.loss(model.captioner(vectors, words, valid)[0], words),
    ]
    logits, _ = model.answerer(vectors, words, valid)
    parts.append(
        bottom_up_top_down.answer_loss(
            logits, torch.eye(17).to(logits)[torch.arange(count)]
        )
    )
    return torch.stack([part["loss"] for part in parts]).sum()
