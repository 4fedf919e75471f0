"""What a chapter prints: the package's live source, tables and counts."""

import ast
import inspect
import re
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
        Markdown: a line that says where it stands, its code without what docstrings say
        of arguments, results and errors, and these folded below.

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
    code, folded = fold(code)
    text = f"{caption}\n\n```python\n{code}\n```"
    if folded:
        words = "<summary>Arguments, results, errors</summary>"
        text += f"\n\n<details>{words}\n\n```text\n{folded}\n```\n\n</details>"
    return text


def fold(code: str) -> tuple[str, str]:
    """Take the sections on arguments, results and errors out of docstrings.

    Args:
        code: Source of a function or class.

    Returns:
        The code without them, and them alone, under the names of what they describe.
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
        kept, section = _without_sections(lines[first:last])
        lines[first:last] = kept
        if section:
            name = [f"{node.name}:"] if len(found) > 1 else []
            folded[:0] = [*name, *section]
    return "\n".join(lines), "\n".join(folded)


def _without_sections(docstring: list[str]) -> tuple[list[str], list[str]]:
    """A docstring's lines up to its first section, closed; and the sections' lines."""
    begins = re.compile(r"\s*(Args|Returns|Raises|Yields):$")
    starts = [i for i, line in enumerate(docstring) if begins.match(line)]
    if not starts:
        return docstring, []
    section = docstring[starts[0] : -1]
    kept = [line.rstrip() for line in docstring[: starts[0]]]
    while not kept[-1]:
        kept.pop()
    if len(kept) == 1:
        kept[0] += '"""'
    else:
        kept.append(docstring[-1])
    return kept, textwrap.dedent("\n".join(section)).rstrip().splitlines()


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
