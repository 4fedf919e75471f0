"""The loop that every chapter shares.

The loop is shared, the step is not: ``train`` calls ``step(batch) -> dict of scalars``
a fixed number of times, and the step does its own zero_grad, backward and update.
Supervised nets, GANs and detectors all fit, and the update stays visible in the paper's
file. Under ``torchrun`` the same code runs on several processes.

``python -m papernets_lite.training CHAPTER.ipynb -p seed 3`` runs a chapter's cells as
a plain script.
"""

import argparse
import atexit
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from IPython.display import display
from matplotlib.figure import Figure
from safetensors import torch as safetensors
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm.auto import tqdm

from papernets_lite.ops.checks import expect

Batch = Any  # a dict of tensors, or a tuple of such dicts
Step = Callable[[Any], Mapping[str, Any]]
Loss = Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]
Augment = Callable[[dict[str, Tensor], Generator], dict[str, Tensor]]
# The generators that a chapter may draw from: how to read each and how to set it.
GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "python": (random.getstate, random.setstate),
    "numpy": (np.random.get_state, np.random.set_state),
    "torch": (torch.get_rng_state, torch.set_rng_state),
    # one for each device; none without CUDA
    "cuda": (torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all),
}


def seed_everything(seed: int) -> Generator:
    """Seed Python, NumPy and torch, and return a CPU generator with that seed for
    data."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from the global state
    torch.manual_seed(seed)
    return Generator().manual_seed(seed)


def begin(seed: int) -> tuple[torch.device, Generator]:
    """What every chapter begins with: its device (CUDA when present, else the CPU, with
    one thread, because budgets are for one core) and its seed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    return device, seed_everything(seed)


def world() -> tuple[int, int]:
    """This process's rank and the number of processes (0 and 1 without
    ``torchrun``)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not dist.is_initialized():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        )
        atexit.register(dist.destroy_process_group)
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return (dist.get_rank(), size) if size > 1 else (0, 1)


def parallel(module: nn.Module) -> nn.Module:
    """``DistributedDataParallel`` around ``module`` under ``torchrun``, else ``module``
    itself.

    Losses are means over a batch, so averaged gradients of n processes equal those of
    one n times larger batch, as long as no layer mixes samples (batch normalisation
    does).
    """
    return nn.parallel.DistributedDataParallel(module) if world()[1] > 1 else module


class Batches(Iterator[dict[str, Tensor]]):
    """Endless shuffled batches over equally long tensors; its position can be saved and
    restored.

    Each epoch is a new permutation; the samples that do not fill a last batch wait for
    a later epoch. Under ``torchrun`` every process draws the same ``batch_size *
    processes`` samples and keeps its own slice.

    Args:
        tensors: name -> tensor; the first axis counts the samples.
        batch_size: samples per process.
        generator: the CPU generator that shuffles (and that ``augment`` may draw from).
        augment: ``(batch, generator) -> batch``, applied before the batch is sliced
            among processes.

    Raises:
        ValueError: for no tensors, unequal lengths, or fewer samples than one batch
            needs.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        batch_size: int,
        *,
        generator: Generator,
        augment: Augment | None = None,
    ) -> None:
        lengths = {name: len(t) for name, t in tensors.items()}
        expect(
            len(set(lengths.values())) == 1,
            "at least one tensor and equal lengths",
            lengths,
        )
        self.rank, self.processes = world()
        self.samples, self.batch_size = next(iter(lengths.values())), batch_size
        self.total = batch_size * self.processes
        expect(
            1 <= self.total <= self.samples,
            f"a batch of 1 to {self.samples} samples, all there are",
            self.total,
        )
        self.tensors, self.generator, self.augment = dict(tensors), generator, augment
        self.order, self.position = torch.empty(0, dtype=torch.long), 0

    def __next__(self) -> dict[str, Tensor]:
        if self.position + self.total > len(self.order):
            self.order, self.position = (
                torch.randperm(self.samples, generator=self.generator),
                0,
            )
        index = self.order[self.position : self.position + self.total]
        self.position += self.total
        batch = {name: t[index.to(t.device)] for name, t in self.tensors.items()}
        if self.augment:
            batch = self.augment(batch, self.generator)
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return (
            {name: t[mine] for name, t in batch.items()}
            if self.processes > 1
            else batch
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the next batches."""
        return {
            "order": self.order,
            "position": self.position,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.order, self.position = state["order"], state["position"]
        self.generator.set_state(state["generator"])


@dataclass
class History:
    """What a run recorded: one number per step and key, and the seconds it took."""

    columns: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """How many steps were recorded."""
        return max((len(c) for c in self.columns.values()), default=0)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.columns:
            raise KeyError(f"no column {key!r}; recorded: {sorted(self.columns)}")
        return torch.tensor(self.columns[key])

    def last(self, key: str, n: int = 20) -> float:
        """The mean of the last ``n`` steps."""
        return self[key][-n:].mean().item()


def supervised_step(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    *,
    schedule: LRScheduler | None = None,
    inputs: str = "images",
) -> Step:
    """The plain step: forward, ``loss(outputs, batch)["loss"]``, backward, update,
    schedule."""

    def step(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = loss(model(batch[inputs]), batch)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        return losses

    return step


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
    live: bool = False,
) -> History:
    """Call ``step`` on ``steps`` batches and record what it returns.

    Args:
        step: takes a batch, updates what it trains, returns scalars by name.
        batches: an iterator of batches (dicts of tensors, or tuples of such dicts).
        steps: how many in all; a resumed run does the rest.
        name: shown beside the progress bar and in errors.
        device: where batches are moved to; None leaves them.
        state: what a checkpoint holds: name -> anything with ``state_dict`` (modules,
            optimisers, schedules, buffers). ``batches`` is added when it has one.
        checkpoint: the file to write and, if it exists, to resume from, to the bit.
        save_every: steps between checkpoints (one is also written at the end and on
            Ctrl-C).
        live: redraw the loss curves while training.

    Returns:
        The recorded values, averaged over processes under ``torchrun``.

    Raises:
        ValueError: for ``steps < 1`` or a checkpoint that does not fit.
        FloatingPointError: at the first value that is not finite, naming run, step and
            key.
    """
    expect(steps >= 1, "steps >= 1", steps)
    rank, processes = world()
    held = dict(state or {})
    if hasattr(batches, "state_dict"):
        held["batches"] = batches
    path = Path(checkpoint) if checkpoint else None
    history = load_checkpoint(path, held) if path and path.exists() else History()
    start = time.perf_counter() - history.seconds
    pending: list[Mapping[str, Any]] = []

    def flush() -> None:
        """Turn the pending scalars into floats; in bulk, because each read makes a GPU
        wait."""
        if not pending:
            return
        keys = list(pending[0])
        rows = [
            [torch.as_tensor(values[key]).item() for key in keys] for values in pending
        ]
        table = torch.tensor(rows, dtype=torch.float32)
        if processes > 1:
            dist.all_reduce(table)
            table /= processes
        pending.clear()
        bad = (~table.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            where = f"{name}: {keys[column]} is {table[row, column]} at step {history.steps + row}"
            raise FloatingPointError(f"{where}; training stopped")
        for key, column_values in zip(keys, table.T.tolist(), strict=True):
            history.columns.setdefault(key, []).extend(column_values)

    def save() -> None:
        flush()
        history.seconds = time.perf_counter() - start
        if path and rank == 0:
            save_checkpoint(path, held, history)

    every = 20 if torch.cuda.is_available() else 1
    plot = LivePlot(name, shown=live and rank == 0)
    # `make execute` sets TQDM_DISABLE, so that bars leave no trace in stored outputs
    # (tqdm's notebook bar ignores it).
    silent = rank > 0 or "TQDM_DISABLE" in os.environ
    bar = tqdm(
        total=steps, initial=history.steps, desc=name, leave=False, disable=silent
    )
    with bar, closing(plot):
        try:
            for done in range(history.steps + 1, steps + 1):
                values = step(to_device(next(batches), device))
                expect(
                    values,
                    f"at least one scalar by name from the step of {name!r}",
                    values,
                )
                pending.append(values)
                if len(pending) >= every:
                    flush()
                bar.update()
                plot.update(history)
                if path and done % save_every == 0:
                    save()
        except KeyboardInterrupt:
            save()
            raise
    save()
    return history


def fit(
    model: nn.Module,
    loss: Loss,
    tensors: Mapping[str, Tensor],
    *,
    optimizer: Callable[..., Optimizer],
    steps: int,
    batch_size: int,
    seed: int,
    warm_up: float = 0.3,
    device: torch.device | None = None,
    **options: Any,
) -> History:
    """Plain supervised training: shuffled batches, one optimiser, a one-cycle schedule.

    Two models that are fitted with the same tensors and seed see the same batches in
    the same order.

    Args:
        model: moved to ``device`` and, for images, to the channels-last layout that
            convolutions like.
        loss: ``(outputs, batch) -> dict`` with ``"loss"``.
        tensors: the training set; ``"images"`` go into the model.
        optimizer: makes it from the parameters; its learning rate is the schedule's
            peak.
        steps: how many.
        batch_size: samples per step (and process).
        seed: of the order of the batches.
        warm_up: share of the steps in which the learning rate rises.
        device: where to train; None leaves the model and the batches where they are.
        options: passed to ``train``.
    """
    layout = torch.channels_last
    wrapped = parallel(model.to(device, memory_format=layout))  # type: ignore[call-overload]
    made = optimizer(wrapped.parameters())
    schedule = OneCycleLR(
        made, made.param_groups[0]["lr"], total_steps=steps, pct_start=warm_up
    )
    step = supervised_step(wrapped, loss, made, schedule=schedule)
    tensors = {
        name: t.contiguous(memory_format=layout) if t.ndim == 4 else t
        for name, t in tensors.items()
    }
    batches = Batches(tensors, batch_size, generator=Generator().manual_seed(seed))
    state = {"model": model, "optimizer": made, "schedule": schedule}
    return train(step, batches, steps=steps, device=device, state=state, **options)


def to_device(batch: Batch, device: torch.device | None) -> Batch:
    """The batch with its tensors on ``device`` (None: as they are)."""
    if device is None:
        return batch
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(to_device(value, device) for value in batch)
    return batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else batch


class LivePlot:
    """Loss curves that are redrawn at most once a second and vanish at the end; nothing
    when not ``shown``."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self.name, self.drawn = name, 0.0
        self.handle = display("", display_id=True) if shown else None

    def update(self, history: History) -> None:
        """Redraw, if the last drawing is old enough."""
        if self.handle is None or time.perf_counter() - self.drawn < 1:
            return
        axes = Figure(figsize=(6, 2.5), layout="constrained").subplots()
        for key, values in history.columns.items():
            axes.plot(values, label=key)
        axes.set(xlabel="step", title=self.name)
        axes.legend()
        self.handle.update(axes.figure)
        self.drawn = time.perf_counter()

    def close(self) -> None:
        """Leave nothing behind: the chapter draws the curves itself."""
        if self.handle is not None:
            self.handle.update({"text/plain": ""}, raw=True)


def save_checkpoint(path: Path, held: Mapping[str, Any], history: History) -> None:
    """Write everything a run needs to go on, so that a kill at any moment leaves the
    old file or the new one.

    Args:
        path: the file. Modules' tensors go in as safetensors, the rest (optimisers,
            generators) through torch.save.
        held: name -> object with ``state_dict``.
        history: what was recorded so far.
    """
    modules = {
        f"{name}/{key}": value.detach().cpu().contiguous().clone()
        for name, module in held.items()
        if isinstance(module, nn.Module)
        for key, value in module.state_dict().items()
    }
    rest = {
        "names": sorted(held),
        "modules": safetensors.save(modules),
        "objects": {
            name: o.state_dict()
            for name, o in held.items()
            if not isinstance(o, nn.Module)
        },
        "rng": {name: read() for name, (read, _) in GENERATORS.items()},
        "columns": history.columns,
        "seconds": history.seconds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=path.name) as folder:
        with open(Path(folder, "new"), "wb") as file:
            torch.save(rest, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)


def load_checkpoint(path: Path, held: Mapping[str, Any]) -> History:
    """Restore a run from ``path`` into the objects of ``held``, generators included.

    Raises:
        ValueError: when the file is damaged, or holds other names or shapes than
            ``held``.
    """
    try:
        rest = torch.load(path, map_location="cpu", weights_only=False)
        tensors, names = safetensors.load(rest["modules"]), rest["names"]
    except Exception as error:
        raise ValueError(
            f"{path} is no readable checkpoint ({error}); delete it to start afresh"
        ) from error
    if names != sorted(held):
        raise ValueError(f"{path} holds {names}, but this run trains {sorted(held)}")
    for name, item in held.items():
        if isinstance(item, nn.Module):
            mine = {
                key.split("/", 1)[1]: value
                for key, value in tensors.items()
                if key.startswith(f"{name}/")
            }
            try:
                item.load_state_dict(mine)
            except RuntimeError as error:
                raise ValueError(
                    f"{path} does not fit the module {name!r}: {error}"
                ) from error
        else:
            item.load_state_dict(rest["objects"][name])
    for name, state in rest["rng"].items():
        GENERATORS[name][1](state)
    return History(rest["columns"], rest["seconds"])


def run_notebook(path: Path, parameters: Mapping[str, Any]) -> None:
    """Run a chapter's code cells one after another in this process, without Jupyter.

    Args:
        path: the notebook.
        parameters: replace the values of the cell tagged ``parameters``.

    Raises:
        ValueError: when the file is no notebook or names a parameter that its
            parameters cell does not set.
        RuntimeError: from a cell that fails, naming it.
    """
    try:
        cells = json.loads(path.read_text())["cells"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{path} is no readable notebook: {error}") from error
    os.environ.setdefault("MPLBACKEND", "Agg")
    namespace: dict[str, Any] = {
        "__name__": "__main__",
        "display": lambda *items, **options: None,
    }
    for number, cell in enumerate(cells):
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or "install" in tags:
            continue
        source = "".join(cell["source"])
        try:
            exec(compile(source, f"{path}:cell {number}", "exec"), namespace)
        except Exception as error:
            raise RuntimeError(
                f"{path}, cell {number} failed: {error!r}\n{source}"
            ) from error
        if "parameters" in tags:
            if unknown := set(parameters) - set(namespace):
                raise ValueError(f"{path} has no parameter {sorted(unknown)}")
            namespace.update(parameters)


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``python -m papernets_lite.training``."""
    parser = argparse.ArgumentParser(
        prog="python -m papernets_lite.training", description=run_notebook.__doc__
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        dest="parameters",
    )
    options = parser.parse_args(arguments)
    parameters = dict(options.parameters)
    for name, text in options.parameters:
        with suppress(json.JSONDecodeError):  # what is no JSON is a string
            parameters[name] = json.loads(text)
    run_notebook(options.notebook, parameters)


if __name__ == "__main__":
    main()
