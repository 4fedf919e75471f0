"""What a chapter prints: the package's live source, tables and counts."""

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from papernets_lite.display import display
from papernets_lite.netmap import show as net
from papernets_lite.ops.checks import expect

__all__ = ["display", "listing", "net", "parameters", "source", "table"]

ROOT = Path(__file__).parent.parent
# What is said to the type checker is not for readers.
TO_CHECKER = re.compile(r"  # type: ignore\[[\w-]+\]$", re.M)
COLUMNS = 88  # of a line of code


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
        Markdown: a line that says where it stands, its code with the first paragraph of
        its docstrings, and the rest of these folded below.

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
    code = TO_CHECKER.sub("", code)
    last = first + len(lines) - 1
    caption = f"`papernets_lite/{path.as_posix()}`, lines {first}-{last}"
    code, folded = fold(code)
    text = f"{caption}\n\n```python\n{code}\n```"
    if folded:
        words = "<summary>Rest of the docstring</summary>"
        text += f"\n\n<details>{words}\n\n```text\n{folded}\n```\n\n</details>"
    return text


def fold(code: str) -> tuple[str, str]:
    """Cut docstrings after their first paragraph.

    Args:
        code: Source of a function or class.

    Returns:
        The code with what is left of them, and what was cut, under the names of what it
        describes.
    """
    lines = code.splitlines()
    folded: list[str] = []
    documented = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, documented)]
    for node in sorted(found, key=lambda node: -node.lineno):
        if ast.get_docstring(node) is None:
            continue
        text = node.body[0]
        first, last = text.lineno - 1, text.end_lineno or text.lineno
        kept, rest = _cut(lines[first:last])
        lines[first:last] = kept
        if rest:
            name = [f"{node.name}:"] if len(found) > 1 else []
            folded[:0] = [*name, *rest]
    return "\n".join(lines), "\n".join(folded)


def _cut(docstring: list[str]) -> tuple[list[str], list[str]]:
    """A docstring's lines up to its first empty one, closed; and those after it."""
    empty = [i for i, line in enumerate(docstring) if not line.strip()]
    if not empty:
        return docstring, []
    kept = docstring[: empty[0]]
    rest = "\n".join(docstring[empty[0] + 1 : -1])
    if len(kept) == 1 and len(kept[0]) + 3 <= COLUMNS:
        kept[0] += '"""'
    else:
        kept.append(docstring[-1])
    return kept, textwrap.dedent(rest).rstrip().splitlines()


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A small table; columns of numbers stand to the right, their fractions with as
    many decimals as give the largest three digits.

    Args:
        columns: Their names.
        rows: As many cells each; numbers, NumPy's and torch's too, or words.

    Raises:
        ValueError: For a row of another length than ``columns``.
    """
    for row in rows:
        expect(len(row) == len(columns), f"rows of {len(columns)} cells", list(row))
    marks, written = [], []
    for cells in zip(*rows, strict=True):
        values = [_plain(cell) for cell in cells]
        is_number = all(_is_number(value) for value in values if value != "")
        marks.append("---:" if is_number else "---")
        decimals = _decimals([value for value in values if isinstance(value, float)])
        written.append([_cell(value, decimals) for value in values])
    lines = [list(columns), marks, *zip(*written, strict=True)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    display({"text/markdown": text}, raw=True)


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, Tensor)) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _decimals(fractions: Sequence[float]) -> int:
    """How many give the largest of a column three digits; fewer where none is lost, one
    more where that loses none."""
    finite = [abs(value) for value in fractions if math.isfinite(value)]
    if not any(finite):
        return 0
    wanted = max(0, 2 - math.floor(math.log10(max(finite))))
    for given in range(wanted + 2):
        if all(round(value, given) == value for value in finite):
            return given
    return wanted


def _cell(value: Any, decimals: int) -> str:
    if _is_number(value):
        number = f"{value:,.{decimals}f}" if isinstance(value, float) else f"{value:,}"
        return number.replace("-", "\N{MINUS SIGN}")
    return str(value).replace("|", r"\|")
