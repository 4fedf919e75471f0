"""A chapter as a plain script, without Jupyter."""

import argparse
import ast
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from papernets_lite.display import display


def run_notebook(path: Path, parameters: Mapping[str, Any]) -> None:
    """Run a chapter's code cells one after another in this process, without Jupyter.

    What Jupyter would show is printed in words.

    Args:
        path: The notebook.
        parameters: Values by name, in place of those of the cell tagged
            ``parameters``.

    Raises:
        ValueError: When the file is no notebook, no cell is tagged ``parameters``, or a
            parameter is one that this cell does not set.
        RuntimeError: From a cell that fails, naming it.
    """
    cells = _code_cells(path)
    names = _names(cells)
    if parameters and names is None:
        raise ValueError(f"{path} has no cell tagged 'parameters' to set any in")
    if unknown := sorted(set(parameters) - (names or set())):
        raise ValueError(f"{path} has no parameter {unknown}")
    os.environ.setdefault("MPLBACKEND", "Agg")
    namespace: dict[str, Any] = {"__name__": "__main__", "display": display}
    for number, source, tags in cells:
        try:
            _execute(source, f"{path}:cell {number}", namespace)
        except Exception as error:
            raise RuntimeError(
                f"{path}, cell {number} failed: {error!r}\n{source}"
            ) from error
        if "parameters" in tags:
            namespace.update(parameters)


def _code_cells(path: Path) -> list[tuple[int, str, list[str]]]:
    """Number, source and tags of each cell that is run."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no readable notebook: {error}") from error
    chosen = []
    for number, cell in enumerate(cells):
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and "install" not in tags:
            chosen.append((number, "".join(cell["source"]), tags))
    return chosen


def _names(cells: list[tuple[int, str, list[str]]]) -> set[str] | None:
    """What the cell tagged ``parameters`` sets; None when there is none."""
    names = None
    for _, source, tags in cells:
        if "parameters" in tags:
            names = names or set()
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    names.add(node.id)
    return names


def _execute(source: str, where: str, namespace: dict[str, Any]) -> None:
    """Run a cell and show its last expression, as Jupyter does."""
    body = ast.parse(source, where).body
    last = body[-1] if body else None
    is_shown = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    if is_shown:
        body.pop()
    exec(compile(ast.Module(body, []), where, "exec"), namespace)
    if isinstance(last, ast.Expr) and is_shown:
        expression = ast.Expression(last.value)
        value = eval(compile(expression, where, "eval"), namespace)
        if value is not None:
            display(value)


def main(arguments: list[str] | None = None) -> None:
    """Command line of ``python -m papernets_lite.training``.

    Args:
        arguments: Those of the process when None.
    """
    parser = argparse.ArgumentParser(
        prog="python -m papernets_lite.training",
        description="Run a chapter's code cells in this process, without Jupyter.",
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        dest="parameters",
        help="a value in place of the notebook's own; once for each parameter",
    )
    options = parser.parse_args(arguments)
    parameters: dict[str, Any] = {}
    for name, text in options.parameters:
        parameters[name] = text
        with suppress(json.JSONDecodeError):  # what is no JSON is a string
            parameters[name] = json.loads(text)
    run_notebook(options.notebook, parameters)
