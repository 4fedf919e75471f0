"""One small picture: the zeros around it make 232 pixels of 32. The classifier reads
one of its own size."""

import torch
from torch import Tensor, nn

from papernets_lite.segmentation import fcn
from tests import papers
from tests.papers import images


def run(model: nn.Module) -> Tensor:
    if isinstance(model, fcn.Classifier):
        return papers.run("fcn")(model, 2, 0)
    assert isinstance(model, fcn.FCN)
    for layer in (model.score, *model.skips):
        assert isinstance(layer, nn.Conv2d)
        # from scores of zero nothing comes down to the trunk in the first step
        nn.init.normal_(layer.weight, std=0.01)
    labels = torch.arange(32 * 32).reshape(1, 32, 32) % 9
    return fcn.loss(model(images(1, 32, 0, model)), {"labels": labels})["loss"]
