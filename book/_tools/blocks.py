"""Train every block of a small space and write ``papernets_lite/data/blocks.json``, the
table that the chapter on BlockQNN searches in.

The space has 102 lists of codes and 66 blocks: lists that say the same are trained
once. It takes some ten minutes of one core. The file is written after each block, and a
run that finds it goes on where the last one stopped::

    .venv/bin/python book/_tools/blocks.py --seconds 150
"""

import argparse
import json
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from stored import write_atomically
from torch import Tensor

from papernets_lite import training
from papernets_lite.backbones import blockqnn
from papernets_lite.data import blocks

MOST = 3  # layers in a block
RECIPE: dict[str, Any] = {
    "side": 16,
    "widths": [12, 24],
    "repeats": 1,
    "train": 4500,
    "validation": 2000,
    "batch_size": 32,
    "rate": 0.02,
    "early": 80,
    "full": 320,
    "seeds": [0, 1],
}


@lru_cache(maxsize=1)
def drawn() -> tuple[Tensor, Tensor]:
    """Pictures and labels, those for validation first."""
    return blocks.pictures(RECIPE["validation"] + RECIPE["train"], RECIPE["side"])


def accuracy(codes: blockqnn.Codes, steps: int, seed: int) -> float:
    """Train a net of this block and test it.

    Args:
        codes: of the block.
        steps: of training, in one cycle of the learning rate.
        seed: of weights and batches; the pictures are always the same.

    Returns:
        The share of validation pictures that it names rightly.
    """
    held = RECIPE["validation"]
    images, labels = drawn()
    build = partial(
        blockqnn.tiny, codes=codes, widths=RECIPE["widths"], repeats=RECIPE["repeats"]
    )
    nets, _ = training.compare(
        {"net": build},
        blockqnn.loss,
        {"images": images[held:], "labels": labels[held:]},
        seed=seed,
        optimizer=partial(torch.optim.Adam, lr=RECIPE["rate"]),
        steps=steps,
        batch_size=RECIPE["batch_size"],
    )
    answers = training.predict(nets["net"], images[:held]).argmax(1)
    return (answers == labels[:held]).float().mean().item()


def space() -> list[blockqnn.Codes]:
    """One list of codes for each block."""
    found: dict[tuple[str, ...], blockqnn.Codes] = {}
    for codes in blockqnn.every_block(MOST, blockqnn.SMALL):
        found.setdefault(blockqnn.graph(codes), codes)
    return list(found.values())


def measure(row: dict[str, Any], seed: int) -> None:
    """Train a block short and long and note both accuracies in its line."""
    for name in ("early", "full"):
        found = accuracy(row["codes"], RECIPE[name], seed)
        row[name].append(round(found, 4))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Store a table, a block a line."""
    lines = ",\n".join(f"  {json.dumps(line)}" for line in rows)
    recipe = json.dumps(RECIPE)
    write_atomically(path, f'{{"recipe": {recipe},\n "blocks": [\n{lines}\n]}}\n')


def main() -> None:
    """Go on with the table until it is whole or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--path", type=Path, default=blocks.FILE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [{"codes": codes, "early": [], "full": []} for codes in space()]
    if given.path.exists():
        stored = json.loads(given.path.read_text(encoding="utf-8"))
        if stored["recipe"] != RECIPE:
            parser.error(f"{given.path} was made by another recipe: move it away")
        rows = stored["blocks"]
    began = time.monotonic()
    missing = [
        (row, seed)
        for done, seed in enumerate(RECIPE["seeds"])
        for row in rows
        if len(row["full"]) <= done
    ]
    for row, seed in missing:
        if time.monotonic() - began > given.seconds:
            break
        measure(row, seed)
        write(given.path, rows)
    done = sum(len(row["full"]) for row in rows)
    print(f"{done} of {len(rows) * len(RECIPE['seeds'])} trainings")


if __name__ == "__main__":
    main()
