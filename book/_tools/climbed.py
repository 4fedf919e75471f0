"""Train the net whose units Two-Stream Insight opens with, as the chapter trains its
own but for longer, and store it: ``python book/_tools/climbed.py``."""

import sys
from functools import partial
from pathlib import Path

import torch
from stored import store_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from papernets_lite import training
from papernets_lite.data import actions
from papernets_lite.video import two_stream_viz

STEPS, CLIPS, SIDE = 720, 900, 24


def trained(steps: int, seed: int = 0) -> two_stream_viz.TwoStream:
    """The net.

    Args:
        steps: of 32 clips each.
        seed: of weights, clips and batches.
    """
    drawn = actions.sample(CLIPS, torch.Generator().manual_seed(seed))
    known = actions.annotate(drawn, SIDE)
    batch = {"images": actions.render(drawn, SIDE)}
    batch |= {name: known[name] for name in ("flow", "actions")}
    nets, _ = training.compare(
        {"net": two_stream_viz.tiny},
        two_stream_viz.loss,
        batch,
        inputs=("images", "flow"),
        seed=seed,
        optimizer=partial(torch.optim.AdamW, lr=5e-3),
        steps=steps,
        batch_size=32,
    )
    return nets["net"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    store_weights(two_stream_viz.TRAINED, trained(STEPS))
