"""What a chapter prints: the package's live source, tables and counts."""

import inspect
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from papernets_lite.display import display
from papernets_lite.ops.checks import expect

__all__ = ["display", "listing", "parameters", "source", "table"]

ROOT = Path(__file__).parent.parent


def source(*objects: Any) -> None:
    """Print the source of functions, classes or methods as it is in the package now.

    Args:
        objects: Of the package; decorated ones are unwrapped.

    Raises:
        ValueError: For an object that is not a function, class or method of the
            package.
    """
    for item in objects:
        text = listing(item)
        # A script prints the caption only: who runs one has the file.
        caption = text.splitlines()[0]
        display({"text/markdown": text, "text/plain": caption}, raw=True)


def listing(item: Any) -> str:
    """What ``source`` shows of one object.

    Args:
        item: A function, class or method of the package.

    Returns:
        Markdown: a line that says where it stands, and its code.

    Raises:
        ValueError: As ``source``.
    """
    item = inspect.unwrap(item)
    try:
        path = Path(inspect.getfile(item)).relative_to(ROOT / "papernets_lite")
        lines, first = inspect.getsourcelines(item)
    except (TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"expected functions or classes of papernets_lite, got {item!r}"
        ) from error
    code = textwrap.dedent("".join(lines)).rstrip()
    last = first + len(lines) - 1
    caption = f"`papernets_lite/{path.as_posix()}`, lines {first}-{last}"
    return f"{caption}\n\n```python\n{code}\n```"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A small table; floats are written with up to four significant digits.

    Args:
        columns: Their names.
        rows: As many cells each; numbers, NumPy's and torch's too, or words.

    Raises:
        ValueError: For a row of another length than ``columns``.
    """
    lines = [list(columns), ["---"] * len(columns)]
    for row in rows:
        expect(len(row) == len(columns), f"rows of {len(columns)} cells", list(row))
        lines.append([_cell(cell) for cell in row])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    display({"text/markdown": text}, raw=True)


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _cell(value: Any) -> str:
    if isinstance(value, (np.generic, Tensor)):
        value = value.item()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", r"\|")
