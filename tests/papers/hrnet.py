"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.pose import hrnet
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    assert isinstance(model, hrnet.HRNet)
    outputs = model(images(count, 64, seed, model))
    joints = outputs.shape[1]
    places = (
        torch.arange(joints * 2.0).reshape(1, 1, joints, 2).expand(count, -1, -1, -1)
    )
    visible = torch.ones(count, 1, joints, dtype=torch.bool)
    batch = {"keypoints": 1 + places, "visible": visible}
    return hrnet.loss(outputs, batch, stride=model.stride, over_cells=True)["loss"]
