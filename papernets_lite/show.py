"""What a chapter prints: the package's live source, tables and counts."""

import inspect
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from IPython.display import Markdown, display
from torch import nn

from papernets_lite.ops.checks import expect

ROOT = Path(__file__).parent.parent


def source(*objects: Any) -> None:
    """Print the source of functions, classes or methods as it is in the package now.

    Raises:
        ValueError: for an object that is not a function, class or method of the
            package.
    """
    for item in objects:
        item = inspect.unwrap(item)
        try:
            path = Path(inspect.getfile(item)).relative_to(ROOT / "papernets_lite")
            lines, first = inspect.getsourcelines(item)
        except (TypeError, ValueError, OSError) as error:
            raise ValueError(
                f"expected functions or classes of papernets_lite, got {item!r}"
            ) from error
        code = textwrap.dedent("".join(lines)).rstrip()
        caption = f"`papernets_lite/{path.as_posix()}`, lines {first}-{first + len(lines) - 1}"
        display(Markdown(f"{caption}\n\n```python\n{code}\n```"))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A small table; floats are written with up to four significant digits.

    Raises:
        ValueError: for a row of another length than ``columns``.
    """
    for row in rows:
        expect(len(row) == len(columns), f"rows of {len(columns)} cells", list(row))
    lines = [
        list(columns),
        ["---"] * len(columns),
        *([_cell(cell) for cell in row] for row in rows),
    ]
    display(Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines)))


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace(
        "|", r"\|"
    )
