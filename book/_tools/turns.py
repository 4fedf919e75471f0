"""Measure what FATTEN's chapter opens with, on nets that are trained as the chapter's
but for longer, and store it: ``python book/_tools/turns.py``."""

import json
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from papernets_lite import training
from papernets_lite.data import toys
from papernets_lite.transfer import fatten

TIMES = 2  # as many steps as the chapter
SHOWN = ("car", "elephant", "chair", "locomotive")
PHOTO = 1  # the pose of the photo


def pool() -> toys.Scene:
    """The toys among whose pictures the nearest is looked for."""
    generator = torch.Generator().manual_seed(0)
    return toys.sample(120, generator, noise=0)


def main() -> None:
    """Train, move the shown toys' features, and write what is nearest."""
    generator = torch.Generator().manual_seed(1)
    things = {"train": toys.sample(450, generator, noise=0), "pool": pool()}
    pictures = {}
    for name, some in things.items():
        pictures[name] = toys.render(toys.around(some), 32)
    labels = things["train"].labels
    told = dict(images=pictures["train"], labels=labels.repeat_interleave(12))
    told["poses"] = torch.arange(12).repeat(450)
    adam = partial(torch.optim.AdamW, lr=0.004, weight_decay=0.05)
    common = dict(optimizer=adam, batch_size=64)
    net = fatten.recogniser()
    training.fit(
        net, fatten.recognition_loss, told, seed=0, steps=500 * TIMES, **common
    )
    raw = {name: training.predict(net.body, some) for name, some in pictures.items()}
    middle, spread = raw["train"].mean(0), raw["train"].std(0) + 1e-3
    turns = {k: ((x - middle) / spread).view(-1, 12, 96) for k, x in raw.items()}
    read = dict(told, features=turns["train"].flatten(0, 1))
    del read["images"]
    judges = []
    for seed in (0, 1000):
        torch.manual_seed(seed)
        judges.append(fatten.Judges(categories=40))
        training.fit(
            judges[-1],
            fatten.recognition_loss,
            read,
            seed=seed,
            steps=300,
            inputs="features",
            **common,
        )
        judges[-1].eval().requires_grad_(False)
    stored = {"toys": [], "arms": {"FATTEN": [], "judges alone": []}}
    flat, names = turns["pool"].flatten(0, 1), list(toys.CLASSES)
    kinds = things["pool"].labels.tolist()
    shown = [kinds.index(names.index(name)) for name in SHOWN]
    stored["toys"] = [[k, name] for k, name in zip(shown, SHOWN, strict=True)]
    for arm, regression in (("FATTEN", 1.0), ("judges alone", 0.0)):
        order = torch.Generator().manual_seed(0)
        pairs = fatten.Pairs(turns["train"], labels, size=128, generator=order)
        torch.manual_seed(0)
        mover = fatten.tiny()
        training.fit(
            mover,
            partial(fatten.loss, judges=judges[0], regression=regression),
            pairs,
            seed=0,
            optimizer=adam,
            steps=500 * TIMES,
            inputs=("features", "wanted"),
            layout=None,
        )
        moved = fatten.trajectory(mover.eval(), turns["pool"][shown])[:, PHOTO]
        true = turns["pool"][shown]
        left = (moved - true).square().sum(2)
        there = (true[:, PHOTO, None] - true).square().sum(2)
        said = judges[1](moved.flatten(0, 1))
        closest = torch.cdist(moved.flatten(0, 1), flat).argmin(1).view(-1, 12)
        categories = said.categories.argmax(1).view(-1, 12)
        poses = said.poses.argmax(1).view(-1, 12)
        for i in range(len(shown)):
            rows = []
            for t in range(12):
                at = int(closest[i, t])
                error = float(left[i, t] / there[i, t]) if t != PHOTO else 0.0
                judged = [names[int(categories[i, t])], int(poses[i, t])]
                rows.append([at // 12, at % 12, round(error, 3), *judged])
            stored["arms"][arm].append(rows)
    fatten.TURNS.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
