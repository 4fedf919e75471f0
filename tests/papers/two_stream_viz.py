"""How the contract test runs it: pictures and random flow."""

import torch
from torch import Tensor, nn

from papernets_lite.video import two_stream_viz
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    pictures = images(count, 24, seed, model)
    generator = torch.Generator().manual_seed(seed)
    flow = torch.randn(count, 8, 2, 24, 24, generator=generator).to(pictures)
    batch = {"actions": torch.arange(count) % 16}
    return two_stream_viz.loss(model(pictures, flow), batch)["loss"]
