"""How each paper's tiny model is called, for the contract test: one file a paper.

``tests/papers/<slug>.py`` defines ``run(model, count, seed) -> loss``: a scalar that
depends on all of the model's parameters, on a batch of ``count`` samples.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Run = Callable[[nn.Module, int, int], Tensor]


def images(count: int, size: int, seed: int, like: nn.Module) -> Tensor:
    """Random images in the type of the model's parameters."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(count, 3, size, size, generator=generator)
    return pictures.to(next(like.parameters()).dtype)


def slugs() -> set[str]:
    """The papers that say how they are run."""
    return {path.stem for path in Path(__file__).parent.glob("[a-z]*.py")}


def run(slug: str) -> Run:
    """How a paper is run.

    Raises:
        AssertionError: naming the file that is missing.
    """
    place = Path(__file__).parent / f"{slug}.py"
    assert place.exists(), f"tests/papers/{slug}.py is missing: define run() there"
    return importlib.import_module(f"tests.papers.{slug}").run
