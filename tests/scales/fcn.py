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
    labels = torch.arange(32 * 32).reshape(1, 32, 32) % 9
    return fcn.loss(model(images(1, 32, 0, model)), {"labels": labels})["loss"]
