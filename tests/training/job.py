"""A run that tests resume, and that a test kills: ``python job.py CHECKPOINT``."""

import sys
import time

import torch
from torch import nn
from torch.nn import functional

from papernets_lite import training


def job(
    checkpoint: object, steps: int, delay: float = 0.0
) -> tuple[training.History, nn.Module]:
    """A small net with dropout, a schedule and shuffled batches."""
    generator = training.seed_everything(7)
    x = torch.randn(64, 5, generator=generator)
    data = {"x": x, "y": (x.sum(1, keepdim=True) > 0).float()}
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(adam, 10, 0.5)
    batches = training.Batches(data, 16, generator=generator)

    def loss(out: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict:
        time.sleep(delay)
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


if __name__ == "__main__":
    job(sys.argv[1], 40, 0.02)
