"""Train the net whose ranking the chapter about LDF opens with, as the chapter trains
its own but for longer, and store it: ``python book/_tools/zoomed.py``."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from stored import store_weights
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from papernets_lite import training
from papernets_lite.data import shapes
from papernets_lite.transfer import ldf

FIRST, AIM, SECOND = 450, 150, 360  # steps of the first look, the zoom and both looks
SEEN, EACH, SIDE = 48, 40, 64
# of the world's shapes, colours and textures
KEPT = (0, 1, 2, 3, 5, 7), (0, 2, 3, 5, 7), (0, 1, 2, 4)
RECIPE = partial(torch.optim.AdamW, weight_decay=0.01)


def draw(seed: int) -> tuple[Tensor, Tensor]:
    """Pictures of the seen classes (class, each, 3, h, w), and their attributes."""
    numbers = [torch.tensor(some) for some in KEPT]
    every = torch.cartesian_prod(*numbers)
    hot = [every[:, [place]] == some for place, some in enumerate(numbers)]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    seen = order[:SEEN]
    kinds = every[seen].repeat_interleave(EACH, 0)
    scene = shapes.sample(
        len(kinds),
        torch.Generator().manual_seed(3 * seed),
        objects=(1, 1),
        radius=(0.1, 0.15),
        clutter=6,
        grounds=("plain",),
    )
    label, hue, weave = kinds[:, :, None].unbind(1)
    scene = replace(scene, labels=label, colours=hue, textures=weave)
    pictures = shapes.render(scene, SIDE).unflatten(0, (SEEN, EACH))
    return pictures, torch.cat(hot, 1).float()[seen]


def aimed(first: ldf.LDF, pictures: Tensor, seed: int) -> ldf.ZoomNet:
    """A zoom net that aims where the first look's map is strongest.

    Args:
        first: a trained net of one look.
        pictures: of seen classes.
        seed: of weights and batches.
    """
    maps = training.predict(first, pictures).maps
    maps = torch.cat([maps, maps.flip(3)])
    torch.manual_seed(seed)
    zoom_net = ldf.tiny().zoom_net
    training.fit(
        zoom_net,
        ldf.aim_loss,
        {"maps": maps, "centres": ldf.strongest(maps)},
        inputs="maps",
        optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.05),
        steps=AIM,
        batch_size=96,
        seed=seed,
        layout=None,
    )
    return zoom_net


def trained(seed: int = 0) -> ldf.LDF:
    """The net.

    Args:
        seed: of weights, pictures and batches.
    """
    pictures, attributes = draw(seed)

    def learn(build: partial, rate: float, steps: int) -> ldf.LDF:
        order = torch.Generator().manual_seed(seed)
        batches = ldf.Balanced(pictures, attributes, generator=order)
        nets, _ = training.compare(
            {"net": build},
            ldf.loss,
            batches,
            seed=seed,
            optimizer=partial(RECIPE, lr=rate),
            steps=steps,
            layout=None,
        )
        return nets["net"]

    first = learn(partial(ldf.tiny, looks=1), 3e-3, FIRST)
    zoom_net = aimed(first, pictures.flatten(0, 1), seed)
    grown = partial(ldf.grown, ldf.tiny, first, zoom_net)
    return learn(grown, 2e-3, SECOND)


if __name__ == "__main__":
    torch.set_num_threads(1)
    store_weights(ldf.TRAINED, trained())
