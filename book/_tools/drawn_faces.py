"""Train the net that the chapter on landmarks drags and swaps with, as the chapter
trains its own but for longer, and store it: ``python book/_tools/drawn_faces.py``."""

import sys
from functools import partial
from pathlib import Path

import torch
from stored import store_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from papernets_lite import training
from papernets_lite.data import faces
from papernets_lite.pose import landmarks

STEPS, RATE, FACES, REDRAW, SEED = 2000, 0.007, 4000, 10_000.0, 100


def trained(steps: int) -> landmarks.Autoencoder:
    """The net.

    Args:
        steps: of 16 faces each.
    """
    generator = torch.Generator().manual_seed(SEED)
    scene = faces.sample(FACES, generator, scale=(0.34, 0.42))
    scene = faces.move(scene, generator)
    nets, _ = training.compare(
        {"full": landmarks.tiny},
        partial(landmarks.loss, separate=100.0, redraw=REDRAW),
        {"images": faces.render(scene, 32)},
        inputs=["images", "warped"],
        augment=landmarks.augment,
        seed=SEED,
        optimizer=partial(torch.optim.Adam, lr=RATE, fused=True),
        warm_up=0.1,
        steps=steps,
        batch_size=16,
    )
    return nets["full"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store_weights(landmarks.TRAINED, trained(STEPS))
