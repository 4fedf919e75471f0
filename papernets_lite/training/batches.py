"""Shuffled batches whose position can be saved, and their way to a device."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from papernets_lite.ops.checks import expect
from papernets_lite.training.processes import world

Batch = Any  # a dict of tensors, or a tuple of such dicts
Augment = Callable[[dict[str, Tensor], Generator], dict[str, Tensor]]


class Batches(Iterator[dict[str, Tensor]]):
    """Endless shuffled batches over equally long tensors.

    Each epoch is a new permutation; the samples that do not fill a last batch wait for
    a later epoch. Under ``torchrun`` every process draws the same ``batch_size *
    processes`` samples and keeps its own slice.

    Args:
        tensors: Tensors by name; the first axis counts the samples.
        batch_size: How many samples a process gets at a time.
        generator: The CPU generator that shuffles, and that ``augment`` may draw from.
        augment: ``(batch, generator) -> batch``, applied before the batch is sliced
            among processes.

    Raises:
        ValueError: For no tensors, unequal lengths, or fewer samples than one batch
            needs.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any],
        batch_size: int,
        *,
        generator: Generator,
        augment: Augment | None = None,
    ) -> None:
        others = [name for name, t in tensors.items() if not isinstance(t, Tensor)]
        expect(not others, "tensors by name", *others)
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        equal = len(set(lengths.values())) == 1
        expect(equal, "at least one tensor and equal lengths", lengths)
        self.rank, self.processes = world()
        self.samples = next(iter(lengths.values()))
        self.batch_size = batch_size
        self.total = batch_size * self.processes
        expect(
            1 <= self.total <= self.samples,
            f"a batch of 1 to {self.samples} samples, all there are",
            self.total,
        )
        self.tensors = dict(tensors)
        self.generator = generator
        self.augment = augment
        self.order = torch.empty(0, dtype=torch.long)
        self.position = 0
        # A checkpoint is only for a run that draws the same.
        self.made_for = {
            "samples": self.samples,
            "samples a step": self.total,
            "as the batches' seed": generator.initial_seed(),
        }

    def __next__(self) -> dict[str, Tensor]:
        if self.position + self.total > len(self.order):
            self.order = torch.randperm(self.samples, generator=self.generator)
            self.position = 0
        index = self.order[self.position : self.position + self.total]
        self.position += self.total
        batch = {name: t[index.to(t.device)] for name, t in self.tensors.items()}
        if self.augment:
            batch = self.augment(batch, self.generator)
        if self.processes == 1:
            return batch
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return {name: tensor[mine] for name, tensor in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the next batches."""
        return {
            "order": self.order,
            "position": self.position,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.order = state["order"]
        self.position = state["position"]
        self.generator.set_state(state["generator"])


def to_device(batch: Batch, device: torch.device | str | None) -> Batch:
    """Move tensors, in dicts, tuples and lists of any depth.

    Args:
        batch: A tensor, or a dict, tuple or list of such; whatever else is in it stays.
        device: Where to; None leaves all as it is.

    Returns:
        The same structure, lists as tuples.
    """
    if device is None:
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(to_device(value, device) for value in batch)
    return batch
