"""What a chapter begins with: its device, its seed, its settings."""

import random
from collections.abc import Mapping
from numbers import Integral
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Generator

from papernets_lite.ops.checks import expect


def seed_everything(seed: Any) -> Generator:
    """Seed Python, NumPy and torch.

    Args:
        seed: An integer; NumPy's count as well.

    Returns:
        A CPU generator with that seed, for data.

    Raises:
        ValueError: When the seed is not an integer.
    """
    is_integer = isinstance(seed, Integral) and not isinstance(seed, bool)
    expect(is_integer, "an integer seed", seed)
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from the global state
    torch.manual_seed(seed)
    return Generator().manual_seed(seed)


def begin(seed: Any) -> torch.device:
    """Seed the global generators and choose the device.

    A data cell makes its own generator from the seed, so that it means the same
    whenever it runs.

    Args:
        seed: An integer.

    Returns:
        CUDA when present, else the CPU, with one thread, because budgets are for one
        core.

    Raises:
        ValueError: When the seed is not an integer.
    """
    seed_everything(seed)
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def settings(scale: Any, **scales: Mapping[str, Any]) -> SimpleNamespace:
    """The settings of one scale, by name.

    Args:
        scale: The name of the scale that runs, one of ``scales``.
        scales: For each scale (``tiny``, ``gpu``, ``paper``) its settings by name; all
            have the same names.

    Returns:
        A namespace: ``settings("tiny", tiny=dict(steps=9), ...).steps`` is 9.

    Raises:
        ValueError: For a scale that is not there, or settings whose names differ.
    """
    known = isinstance(scale, str) and scale in scales
    expect(known, f"a scale from {list(scales)}", scale)
    names = set(scales[scale])
    for other, values in scales.items():
        different = sorted(names.symmetric_difference(values))
        expect(not different, f"the same names in {scale!r} and {other!r}", different)
    return SimpleNamespace(**scales[scale])
