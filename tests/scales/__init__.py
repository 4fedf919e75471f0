"""One batch's loss at the paper's scale, for ``tests/test_scales.py``.

``tests/scales/<slug>.py`` defines ``run(model) -> loss`` where the pictures of
``tests/papers/<slug>.py`` do not suit the paper's net: too small, another number of
classes, a net without a part that is optional. Elsewhere that file's ``run`` serves.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from tests import papers


def run(slug: str) -> Callable[[nn.Module], Tensor]:
    """How a paper's net is run at the paper's scale."""
    if (Path(__file__).parent / f"{slug}.py").exists():
        return importlib.import_module(f"tests.scales.{slug}").run
    return lambda model: papers.run(slug)(model, 2, 0)
