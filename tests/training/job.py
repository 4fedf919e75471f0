"""A run that tests resume, and that a test kills: ``python job.py CHECKPOINT``."""

import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from papernets_lite import training

KILLED_AT = 8  # the step in which the script waits for its end


def nothing() -> None:
    """What happens in a step besides training."""


def job(
    checkpoint: object, steps: int, during: Callable[[], None] = nothing
) -> tuple[training.History, nn.Module]:
    """A small net with dropout, a schedule and shuffled batches.

    Args:
        checkpoint: where it is saved, after every third step.
        steps: how many.
        during: called in every step.
    """
    generator = training.seed_everything(7)
    x = torch.randn(64, 5, generator=generator)
    data = {"x": x, "y": (x.sum(1, keepdim=True) > 0).float()}
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(adam, 10, 0.5)
    batches = training.Batches(data, 16, generator=generator)

    def loss(out: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict:
        during()
        return {"loss": functional.mse_loss(out, batch["y"])}

    step = training.supervised_step(model, loss, adam, schedule=schedule, inputs="x")
    history = training.train(
        step,
        batches,
        steps=steps,
        state={"model": model, "adam": adam, "schedule": schedule},
        checkpoint=checkpoint,
        save_every=3,
    )
    return history, model


def batches(n: int = 32, size: int = 8, seed: int = 0) -> training.Batches:
    """Shuffled batches of numbers, each of which is also its label."""
    images = torch.arange(n, dtype=torch.float32)[:, None]
    tensors = {"images": images, "labels": torch.arange(n)}
    generator = torch.Generator().manual_seed(seed)
    return training.Batches(tensors, size, generator=generator)


class Wait:
    """Tells the parent that a step has come, and waits in it for ever."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == KILLED_AT:
            print("waiting", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    job(sys.argv[1], 40, Wait())
