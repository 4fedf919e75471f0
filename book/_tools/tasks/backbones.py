"""Backbones on one small task: eight shapes to name. ``compared.py`` runs it, each net
alone."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from papernets_lite import data, training
from papernets_lite.backbones import (
    blockqnn,
    cliquenet,
    dla,
    dpp,
    interpretable_cnn,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    senet,
)

NETS: dict[str, Callable[[], nn.Module]] = {
    "resnet": partial(resnet.tiny, depth=20),
    "senet": partial(senet.tiny, depth=20),
    "mobilenet_v1": mobilenet_v1.tiny,
    "mobilenet_v2": mobilenet_v2.tiny,
    "dla": dla.tiny,
    "cliquenet": cliquenet.tiny,
    "dpp": partial(dpp.tiny, depth=20),
    "blockqnn": blockqnn.tiny,
    "interpretable_cnn": partial(interpretable_cnn.tiny, side=32, num_classes=8),
}
SHAPE = (1, 3, 32, 32)
COLUMN = "accuracy"
SAID = (
    "One recipe for all: 4,000 pictures of 32 x 32 pixels, each of one of eight shapes;"
    " 250 steps of 48, SGD with momentum 0.9 and weight decay 1e-4, one cycle up to a"
    " rate of 0.1. Accuracy is that of 1,000 new pictures."
)


def measure(build: Callable[[], nn.Module], seed: int) -> float:
    """Train a net and test it.

    Args:
        build: Makes the net, of eight classes.
        seed: Of pictures, weights and batches.

    Returns:
        The share of new pictures that it names rightly.
    """
    generator = torch.Generator().manual_seed(seed)
    world = {"objects": (1, 1), "radius": (0.25, 0.4), "textures": ("plain",)}
    scene = data.shapes.sample(5000, generator, **world)
    images = data.shapes.render(scene, SHAPE[-1])
    labels = data.shapes.annotate(scene, SHAPE[-1])["labels"][:, 0]
    nets, _ = training.compare(
        {"net": build},
        resnet.loss,
        {"images": images[1000:], "labels": labels[1000:]},
        seed=seed,
        optimizer=partial(
            torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
        ),
        steps=250,
        batch_size=48,
    )
    answers = training.predict(nets["net"], images[:1000]).argmax(1)
    return (answers == labels[:1000]).float().mean().item()
