"""Train the starts for sine waves that MAML's chapter opens with, as the chapter trains
its own but for longer, and store them: ``python book/_tools/starts.py``."""

import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from papernets_lite import training
from papernets_lite.transfer import maml

STEPS, RATE = 12_000, 0.003


def trained(steps: int, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each arm's start.

    Args:
        steps: of the outer loop, 25 waves each.
        seed: of weights and waves.
    """
    one_step = partial(maml.answers, rate=0.01)
    inputs = {
        "MAML": one_step,
        "first order": partial(one_step, first_order=True),
        "joint": maml.plain,
    }
    losses = {"MAML": maml.loss, "first order": maml.loss, "joint": maml.joint_loss}
    waves = {}
    for arm in inputs:
        order = torch.Generator().manual_seed(seed)
        waves[arm] = maml.Sinusoids(25, generator=order)
    nets, _ = training.compare(
        dict.fromkeys(inputs, maml.regressor),
        losses,
        waves,
        inputs=inputs,
        seed=seed,
        optimizer=partial(torch.optim.Adam, lr=RATE),
        steps=steps,
        layout=None,
    )
    return {arm: net.state_dict() for arm, net in nets.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(trained(STEPS), maml.STARTS)
