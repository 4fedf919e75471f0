"""Blocks of convolutional nets that were really trained, each for a short and for a
long while: what a search for blocks may look up instead of training.

``book/_tools/blocks.py`` trained them and wrote ``blocks.json``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from papernets_lite.data import shapes
from papernets_lite.ops.checks import at_least

FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Trained:
    """A block and its accuracies on pictures that it was not trained on."""

    codes: tuple[tuple[int, ...], ...]  # five numbers for each layer
    early: tuple[float, ...]  # after the short training, one for each seed
    full: tuple[float, ...]  # after the long one, same seeds


@dataclass(frozen=True)
class Table:
    """All blocks of a small space, and how they were trained."""

    recipe: Mapping[str, Any]
    rows: tuple[Trained, ...]


def load(path: Path = FILE) -> Table:
    """The table that comes with the package.

    Args:
        path: of another one, of the same form.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for row in stored["blocks"]:
        codes = tuple(map(tuple, row["codes"]))
        rows.append(Trained(codes, tuple(row["early"]), tuple(row["full"])))
    return Table(stored["recipe"], tuple(rows))


def pictures(
    count: int, side: int, seed: int = 0
) -> tuple[Float[Tensor, "n 3 side side"], Int64[Tensor, " n"]]:
    """What the blocks were trained on: one of eight shapes on a plain ground.

    Args:
        count: of pictures; the first ones do not depend on it.
        side: in pixels.
        seed: of what is drawn.

    Returns:
        Pictures and the number of each one's shape.

    Raises:
        ValueError: for no pictures, and as ``shapes.render``.
    """
    at_least(1, count=count)
    generator = torch.Generator().manual_seed(seed)
    scene = shapes.sample(
        count,
        generator,
        objects=(1, 1),
        radius=(0.25, 0.4),
        textures=("plain",),
        grounds=("plain",),
        clutter=0,
        noise=0.05,
    )
    labels = shapes.annotate(scene, side)["labels"][:, 0]
    return shapes.render(scene, side), labels
