"""The worlds, in milliseconds an image of 64 x 64 pixels: sampling, rendering and
annotating."""

from collections.abc import Callable
from types import ModuleType

import torch

from papernets_lite.data import (
    cells,
    digits,
    faces,
    motion,
    people,
    rooms,
    sentences,
    shapes,
    streets,
)

from .timing import Row, alone

COUNT, SIDE = 64, 64


def seeded() -> torch.Generator:
    """A generator for every call, so that each draws the same."""
    return torch.Generator().manual_seed(0)


def world(module: ModuleType, sample: Callable, images: int = COUNT) -> list[Row]:
    """Three rows of a world.

    Args:
        module: it renders and annotates.
        sample: it draws a scene.
        images: how many pictures a scene holds.
    """
    name = module.__name__.rsplit(".", 1)[1]
    scene = sample()
    return [
        alone(f"{name}, sample", sample, each=images),
        alone(f"{name}, render", lambda: module.render(scene, SIDE), each=images),
        alone(f"{name}, annotate", lambda: module.annotate(scene, SIDE), each=images),
    ]


def worlds() -> list[Row]:
    """Every world that samples, renders and annotates."""
    rows = []
    for module in (shapes, people, faces, streets, rooms, cells):
        rows += world(module, lambda module=module: module.sample(COUNT, seeded()))
    film = motion.sample(8, seeded())
    frames = motion.render(film, SIDE).shape[1]
    rows += world(motion, lambda: motion.sample(8, seeded()), images=8 * frames)
    return rows


def others() -> list[Row]:
    """Digits scattered over a canvas, and sentences about shapes."""
    scene = sentences.scenes(COUNT, seeded())

    def scatter() -> object:
        return digits.scenes(COUNT, SIDE, seeded())

    def ask() -> object:
        return sentences.questions(scene, seeded())

    def tell() -> object:
        return sentences.captions(scene)

    return [
        alone("digits, scenes with truth", scatter, each=COUNT),
        alone("sentences, captions of a picture", tell, each=COUNT),
        alone("sentences, questions of a picture", ask, each=COUNT),
    ]


TOPICS = [worlds, others]
