"""It reads ten fields of flow beside the picture, of 224 pixels."""

import torch
from torch import Tensor, nn

from papernets_lite.video import two_stream_viz


def run(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(1, 3, 224, 224, generator=generator)
    flow = torch.randn(1, 10, 2, 224, 224, generator=generator)
    outputs = model(pictures, flow)
    return two_stream_viz.loss(outputs, {"actions": torch.tensor([7])})["loss"]
