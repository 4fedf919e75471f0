"""What a chapter prints: the package's live source, tables and counts."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from IPython.display import Markdown, display
from torch import nn


def source(*objects: Any) -> None:
    """Print the source of functions, classes or methods as it is in the package now.

    Raises:
        TypeError: for an object without Python source.
    """
    for item in objects:
        item = inspect.unwrap(item)
        lines, first = inspect.getsourcelines(item)
        path = Path(inspect.getfile(item))
        within = path.relative_to(Path(__file__).parent.parent).as_posix()
        code = inspect.cleandoc("\n" + "".join(lines)) if lines[0][:1].isspace() else "".join(lines).rstrip()
        caption = f"`{within}`, lines {first}-{first + len(lines) - 1}"
        display(Markdown(f"{caption}\n\n```python\n{code}\n```"))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A small table; numbers are written with up to four significant digits.

    Raises:
        ValueError: for a row of another length than ``columns``.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"expected rows of {len(columns)} cells, got {list(row)}")

    def text(cell: Any) -> str:
        if isinstance(cell, int):
            return f"{cell:,}"
        return f"{cell:.4g}" if isinstance(cell, float) else str(cell)

    lines = [list(columns), ["---"] * len(columns), *([text(cell) for cell in row] for row in rows)]
    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines)))


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(p.numel() for p in module.parameters())
