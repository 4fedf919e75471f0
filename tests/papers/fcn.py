"""How the contract test runs it, and the classifier from which a chapter makes it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.segmentation import fcn
from tests.papers import images


def run(model: nn.Module, count: int, seed: int) -> Tensor:
    if isinstance(model, fcn.Classifier):
        scores = model(images(count, model.side, seed, model))
        return functional.cross_entropy(scores, torch.arange(count))
    pictures = images(count, 32, seed, model)
    classes = torch.arange(9).to(pictures)[:, None, None]
    # The net's scores start at zero: without these no picture would count.
    outputs = model(pictures) + classes * pictures.mean(1, keepdim=True)
    labels = torch.arange(count * 32 * 32).reshape(count, 32, 32) % 9
    return fcn.loss(outputs, {"labels": labels})["loss"]
