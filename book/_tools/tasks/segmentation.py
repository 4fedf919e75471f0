"""Segmentation nets on one small task: the colour of every pixel's object.
``compared.py`` runs it, each net alone."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from papernets_lite import data, training
from papernets_lite.metrics.segmentation import class_scores
from papernets_lite.segmentation import fcn, pspnet, unet, unetpp


class Mirrored(nn.Module):
    """A net whose sides are 8k + 1, asked about 8k: the picture's rim is doubled."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the picture's own pixels."""
        wider = nn.functional.pad(images, (0, 1, 0, 1), mode="replicate")
        return scores(self.net(wider))[..., :-1, :-1]


NETS: dict[str, Callable[[], nn.Module]] = {
    "fcn": partial(fcn.tiny, skips=2, num_classes=9),
    "unet": partial(unet.tiny, num_classes=9, padding=1),
    "unetpp": partial(unetpp.tiny, num_classes=9, heads=(3,)),
    "pspnet": lambda: Mirrored(pspnet.tiny(num_classes=9, zoom=8)),
}
SHAPE = (1, 3, 48, 48)
COLUMN = "mIoU"
SAID = (
    "One recipe for all: 2,000 pictures of 48 x 48 pixels with two to five objects;"
    " each pixel is ground or has one of eight colours; 250 steps of 16, AdamW with one"
    " cycle up to a rate of 0.004, cross-entropy of the last scores alone. The mean IoU"
    " is that of 400 new pictures."
)


def scores(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The last scores of a net: of the main head, of the deepest head."""
    main = outputs[0] if isinstance(outputs, tuple) else outputs
    return main[:, -1] if main.ndim == 5 else main


def loss(outputs: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The cross-entropy of every pixel."""
    return {"loss": nn.functional.cross_entropy(scores(outputs), batch["labels"])}


def measure(build: Callable[[], nn.Module], seed: int) -> float:
    """Train a net and test it.

    Args:
        build: Makes the net, of nine classes.
        seed: Of pictures, weights and batches.

    Returns:
        The mean IoU of the classes in new pictures.
    """
    generator = torch.Generator().manual_seed(seed)
    scene = data.shapes.sample(2400, generator, objects=(2, 5), radius=(0.1, 0.24))
    images = data.shapes.render(scene, SHAPE[-1])
    known = data.shapes.annotate(scene, SHAPE[-1])
    labels = (known["masks"] * (known["colours"] + 1)[..., None, None]).sum(1)
    nets, _ = training.compare(
        {"net": build},
        loss,
        {"images": images[400:], "labels": labels[400:]},
        seed=seed,
        optimizer=partial(torch.optim.AdamW, lr=4e-3),
        steps=250,
        batch_size=16,
    )
    answers = scores(training.predict(nets["net"], images[:400])).argmax(1)
    return class_scores(answers, labels[:400], 9)["iou"]
