"""The loop that every chapter shares.

The loop is shared, the step is not: ``train`` calls ``step(batch) -> dict of scalars``
a fixed number of times, and the step does its own zero_grad, backward and update.
Supervised nets, GANs and detectors all fit.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from tqdm.auto import tqdm

from papernets_lite.ops.checks import expect
from papernets_lite.training.batches import Batch, to_device
from papernets_lite.training.checkpoints import (
    clean,
    load_checkpoint,
    save_checkpoint,
)
from papernets_lite.training.history import History
from papernets_lite.training.processes import world

Step = Callable[[Any], Mapping[str, Any]]
Look = Callable[[int], object]


@runtime_checkable
class Live(Protocol):
    """What draws while training: ``plots.Live``, or anything with these two."""

    def update(self, history: History) -> None:
        """Called after every step."""

    def close(self) -> None:
        """Called at the end, whatever happened."""


class Recorder:
    """Collects what steps return and turns it into a history.

    Args:
        name: The run's, for errors.
        history: Where the numbers go.
        processes: How many there are; their values are averaged.
    """

    def __init__(self, name: str, history: History, processes: int) -> None:
        self.name = name
        self.history = history
        self.processes = processes
        self.pending: list[Mapping[str, Any]] = []
        # Each read makes a GPU wait, so that it is read in bulk.
        self.most = 20 if torch.cuda.is_available() else 1

    def add(self, values: Mapping[str, Any] | None) -> None:
        """Take what a step returned."""
        wanted = f"at least one scalar by name from the step of {self.name!r}"
        expect(values, wanted, values)
        self.pending.append(dict(values or {}))
        if len(self.pending) >= self.most:
            self.flush()

    def flush(self) -> None:
        """Write what is pending into the history."""
        if not self.pending:
            return
        keys = list(self.pending[0])
        table = self._table(keys)
        self.pending.clear()
        self._refuse_not_finite(keys, table)
        for key, column in zip(keys, table.T.tolist(), strict=True):
            self.history.columns.setdefault(key, []).extend(column)

    def _table(self, keys: list[str]) -> torch.Tensor:
        rows = []
        for values in self.pending:
            rows.append([torch.as_tensor(values[key]).item() for key in keys])
        table = torch.tensor(rows, dtype=torch.float32)
        if self.processes > 1:
            dist.all_reduce(table)
            table /= self.processes
        return table

    def _refuse_not_finite(self, keys: list[str], table: torch.Tensor) -> None:
        bad = (~table.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            value = table[row, column]
            step = self.history.steps + row
            raise FloatingPointError(
                f"{self.name}: {keys[column]} is {value} at step {step}; "
                "training stopped"
            )


def train(
    step: Step,
    batches: Iterator[Batch],
    *,
    steps: int,
    name: str = "train",
    device: torch.device | None = None,
    state: Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    save_every: int = 500,
    live: Live | None = None,
    look: Look | None = None,
    look_every: int | None = None,
) -> History:
    """Call ``step`` on ``steps`` batches and record what it returns.

    Args:
        step: Takes a batch, updates what it trains, returns scalars by name.
        batches: An iterator of batches (dicts of tensors, or tuples of such dicts).
        steps: How many in all; a resumed run does the rest.
        name: Shown beside the progress bar and in errors.
        device: Where batches are moved to; None leaves them.
        state: What a checkpoint holds: by name, anything with ``state_dict`` (modules,
            optimisers, schedules, buffers), and generators. ``batches`` is added when
            it has one.
        checkpoint: The file to write and, if it exists, to resume from, to the bit.
        save_every: Steps between checkpoints (one is also written at the end and on
            Ctrl-C, where the batch of the step that was cut off is left out).
        live: Draws the loss curves while training: ``plots.Live(name)``.
        look: Called with the number of steps done, to look in between: to draw
            samples, to measure. Its steps are not repeated by a resumed run.
        look_every: Steps between two looks.

    Returns:
        The recorded values, averaged over processes under ``torchrun``.

    Raises:
        ValueError: For ``steps``, ``save_every`` or ``look_every`` below 1, a look
            without its interval, batches that end too early, or a checkpoint that does
            not fit.
        FloatingPointError: At the first value that is not finite, naming run, step and
            key.
    """
    expect(steps >= 1, "steps >= 1", steps)
    expect(save_every >= 1, "save_every >= 1", save_every)
    paired = (look is None) == (look_every is None)
    expect(paired, "look and look_every together", look, look_every)
    expect(look_every is None or look_every >= 1, "look_every >= 1", look_every)
    rank, processes = world()
    held = dict(state or {})
    if hasattr(batches, "state_dict"):
        held["batches"] = batches
    made_for = {"steps": steps, "processes": processes}
    made_for |= getattr(batches, "made_for", {})
    path = Path(checkpoint).expanduser() if checkpoint else None
    history = History()
    if path and rank == 0:
        clean(path)
    if path and path.exists():
        history = load_checkpoint(path, held, made_for)
    recorder = Recorder(name, history, processes)
    start = time.perf_counter() - history.seconds

    def save() -> None:
        recorder.flush()
        history.seconds = time.perf_counter() - start
        if path and rank == 0:
            save_checkpoint(path, held, history, made_for)

    with ExitStack() as shown:
        bar = shown.enter_context(_bar(name, steps, history.steps, rank))
        if live is not None:
            shown.enter_context(closing(live))
        try:
            for done in range(history.steps + 1, steps + 1):
                batch = _next(batches, name, done, steps)
                recorder.add(step(to_device(batch, device)))
                bar.update()
                if live is not None and rank == 0:
                    live.update(history)
                if path and done % save_every == 0:
                    save()
                if look is not None and look_every and done % look_every == 0:
                    recorder.flush()
                    look(done)
        except KeyboardInterrupt:
            save()
            raise
    save()
    return history


def _bar(name: str, steps: int, done: int, rank: int) -> Any:
    # `make execute` sets TQDM_DISABLE, so that bars leave no trace in stored outputs
    # (tqdm's notebook bar ignores it).
    silent = rank > 0 or "TQDM_DISABLE" in os.environ
    return tqdm(total=steps, initial=done, desc=name, leave=False, disable=silent)


def _next(batches: Iterator[Batch], name: str, number: int, steps: int) -> Batch:
    try:
        return next(batches)
    except StopIteration:
        raise ValueError(
            f"expected {steps} batches for the steps of {name!r}, got {number - 1}"
        ) from None
