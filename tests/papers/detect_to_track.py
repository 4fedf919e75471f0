"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.video import detect_to_track
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    frames = torch.stack([images(count, 64, seed + k, model) for k in (0, 100)], 1)
    boxes = frames.new_tensor(
        [[[4, 6, 18, 20], [30, 30, 56, 50]], [[7, 5, 22, 20], [26, 32, 50, 54]]]
    )
    truth = {
        "boxes": boxes.expand(count, 2, 2, 4),
        "labels": torch.tensor([1, 7]).expand(count, 2, 2),
        "valid": torch.tensor([True, True]).expand(count, 2, 2),
    }
    sampler = torch.Generator().manual_seed(seed)
    return detect_to_track.loss(model(frames), truth, generator=sampler)["loss"]
