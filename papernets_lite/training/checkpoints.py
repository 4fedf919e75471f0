"""Files from which a killed run goes on to the bit.

They hold tensors, numbers and words only, so that loading one runs no code.
"""

import copy
import os
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Generator, Tensor, nn

from papernets_lite.training.history import History

# what a file holds
PARTS = ("names", "made_for", "modules", "objects", "rng", "columns", "seconds")
HALF = ".writing"  # ends the name of a folder with a file that is being written


def save_checkpoint(
    path: Path,
    held: Mapping[str, Any],
    history: History,
    made_for: Mapping[str, Any] | None = None,
) -> None:
    """Write everything a run needs to go on.

    A kill at any moment leaves the old file or the new one.

    Args:
        path: The file. Modules' tensors go in as safetensors, the rest (optimisers,
            generators) through torch.save.
        held: By name, objects with ``state_dict``, and generators.
        history: What was recorded so far.
        made_for: What only a run with the same may resume: numbers by name.

    Raises:
        OSError: When it cannot be written: a full disk, a folder that is read-only.
    """
    record = {
        "names": sorted(held),
        "made_for": dict(made_for or {}),
        "modules": _modules(held),
        "objects": _objects(held),
        "rng": _generators(),
        "columns": history.columns,
        "seconds": history.seconds,
    }
    try:
        _write(path, record)
    except (OSError, RuntimeError) as error:
        old = "; the file that was there is whole" if path.exists() else ""
        raise OSError(f"{path} could not be written ({error}){old}") from error


def _modules(held: Mapping[str, Any]) -> Tensor:
    tensors = {}
    for name, module in held.items():
        if isinstance(module, nn.Module):
            for key, value in module.state_dict().items():
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous().clone()
    return torch.frombuffer(bytearray(safetensors.save(tensors)), dtype=torch.uint8)


def _objects(held: Mapping[str, Any]) -> dict[str, Any]:
    states = {}
    for name, item in held.items():
        if not isinstance(item, nn.Module):
            states[name] = _state(item)
    return states


def _state(item: Any) -> Any:
    return item.get_state() if isinstance(item, Generator) else item.state_dict()


def _write(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f"{path.name}.", suffix=HALF
    ) as folder:
        with open(Path(folder, "new"), "wb") as file:
            torch.save(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)


def clean(path: Path) -> None:
    """Remove what killed runs left beside a checkpoint while they wrote it.

    Args:
        path: The checkpoint's file.
    """
    if not path.parent.is_dir():
        return
    for item in path.parent.iterdir():
        ours = item.name.startswith(f"{path.name}.") and item.name.endswith(HALF)
        if ours and item.is_dir():
            shutil.rmtree(item, ignore_errors=True)


def load_checkpoint(
    path: Path, held: Mapping[str, Any], made_for: Mapping[str, Any] | None = None
) -> History:
    """Restore a run, the global generators included; all of it or, if it does not fit,
    nothing.

    Args:
        path: The file.
        held: By name, the objects to restore into.
        made_for: What this run is, as it was given to ``save_checkpoint``.

    Returns:
        What was recorded so far.

    Raises:
        ValueError: When the file is damaged or of another version, or was made for
            another run: other names, shapes, steps, batches or devices.
    """
    record = _read(path)
    _refuse_other_runs(path, record, held, dict(made_for or {}))
    tensors = _tensors(path, record, held)
    before = _objects(held)
    before_rng = _generators()
    try:
        for name, state in record["objects"].items():
            _restore(held[name], state)
        _set_generators(record["rng"])
    except Exception as error:
        for name, state in before.items():
            _restore(held[name], state)
        _set_generators(before_rng)
        raise ValueError(f"{path} does not fit this run ({error!r})") from error
    for name, state in tensors.items():
        held[name].load_state_dict(state)
    return History(record["columns"], record["seconds"])


def _read(path: Path) -> dict[str, Any]:
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is no readable checkpoint ({error}); delete it to start afresh"
        ) from error
    whole = isinstance(record, dict)
    missing = [part for part in PARTS if not whole or part not in record]
    if missing:
        raise ValueError(
            f"{path} is of another version: it lacks {missing}; delete it to start "
            "afresh"
        )
    return record


def _refuse_other_runs(
    path: Path,
    record: Mapping[str, Any],
    held: Mapping[str, Any],
    made_for: dict[str, Any],
) -> None:
    names = sorted(held)
    if record["names"] != names:
        raise ValueError(f"{path} holds {record['names']}, but this run trains {names}")
    objects = [name for name in names if not isinstance(held[name], nn.Module)]
    if sorted(record["objects"]) != objects:
        lacks = sorted(set(objects).symmetric_difference(record["objects"]))
        raise ValueError(f"{path} lacks the state of {lacks}")
    then, now = record["made_for"], made_for
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            raise ValueError(
                f"{path} was made for {then.get(key)} {key}, this run has "
                f"{now.get(key)}; delete it to start afresh"
            )
    here = _generators()
    if sorted(record["rng"]) != sorted(here):
        found = sorted(record["rng"])
        raise ValueError(
            f"{path} holds the generators {found}, this run has {sorted(here)}"
        )
    devices, present = len(record["rng"]["cuda"]), len(here["cuda"])
    if devices != present:
        raise ValueError(
            f"{path} was made on {devices} CUDA devices, here are {present}"
        )


def _tensors(
    path: Path, record: Mapping[str, Any], held: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """Each module's tensors, when all are there and fit."""
    try:
        stored = safetensors.load(record["modules"].numpy().tobytes())
    except Exception as error:
        raise ValueError(
            f"{path} is no readable checkpoint ({error}); delete it to start afresh"
        ) from error
    states: dict[str, dict[str, Tensor]] = {}
    for name, module in held.items():
        if not isinstance(module, nn.Module):
            continue
        states[name] = {}
        for key, value in stored.items():
            owner, _, part = key.partition("/")
            if owner == name:
                states[name][part] = value
        wanted = {key: tuple(v.shape) for key, v in module.state_dict().items()}
        found = {key: tuple(v.shape) for key, v in states[name].items()}
        if wanted != found:
            different = sorted(
                key for key in {*wanted, *found} if wanted.get(key) != found.get(key)
            )
            raise ValueError(
                f"{path} does not fit the module {name!r}: {different[:3]} differ"
            )
    return states


def _restore(item: Any, state: Any) -> None:
    if isinstance(item, Generator):
        item.set_state(state)
    else:
        item.load_state_dict(copy.deepcopy(state))


def _generators() -> dict[str, Any]:
    """The states of all generators that a chapter may draw from, as tensors, numbers
    and words."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - libraries draw from it
    return {
        "python": random.getstate(),
        "numpy": [kind, [int(key) for key in keys], *rest],
        "torch": torch.get_rng_state(),
        # one for each device; none without CUDA
        "cuda": torch.cuda.get_rng_state_all(),
    }


def _set_generators(states: Mapping[str, Any]) -> None:
    kind, keys, *rest = states["numpy"]
    random.setstate(states["python"])
    legacy = (kind, np.array(keys, np.uint32), *rest)
    np.random.set_state(legacy)  # noqa: NPY002 - libraries draw from it
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state_all(states["cuda"])
