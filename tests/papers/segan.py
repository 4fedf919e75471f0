"""How the contract test runs it."""

import torch
from torch import Tensor, nn

from papernets_lite.segmentation import segan
from tests.papers import images


def run(model: nn.Module, count: int, seed: int, side: int = 32) -> Tensor:
    pictures = images(count, side, seed, model)
    full = torch.zeros(count, side, side, dtype=torch.bool)
    full[:, 8:24, 6:20] = True
    visible = full.clone()
    visible[:, :14] = False
    out = model(pictures, visible)
    told = {"visible": visible, "full": full}
    coded = segan.encode(pictures, visible, full)
    batch = {"coded": coded, "objects": segan.encode(pictures, full, full)}
    painted = model.paint(coded, visible)
    segmenting = segan.loss(out.logits, told)
    making = segan.generator_loss(model, batch, painted)
    telling = segan.discriminator_loss(model, batch, painted)
    return segmenting["loss"] + making["loss"] + telling["loss"]
