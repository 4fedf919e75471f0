"""Code to be read: how dense a file may be."""

import ast
import io
import json
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST = 12  # tokens a line, on average over a file
SHOWN, FOLDED = 13, 14  # of a chapter: lines that draw hold the figures' words, too
COUNTED = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
FILES = sorted((ROOT / "papernets_lite").rglob("*.py"))
CHAPTERS = sorted(
    path
    for path in (ROOT / "book").glob("*/*.ipynb")
    if not path.parent.name.startswith("_")
)


def docstring_lines(tree: ast.AST) -> set[int]:
    """Numbers of the lines that belong to a docstring."""
    prose = set()
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if documented and ast.get_docstring(node):
            prose |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return prose


def density(source: str) -> float:
    """Tokens a line of code; comments, docstrings and blank lines do not count."""
    prose = docstring_lines(ast.parse(source))
    counts: dict[int, int] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type in COUNTED and line not in prose:
            counts[line] = counts.get(line, 0) + 1
    return sum(counts.values()) / max(1, len(counts))


def code_of(notebook: Path, *, is_folded: bool) -> str:
    """A chapter's own code, without its install cell: what a page shows, or what it
    folds under a name."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    chosen = []
    for cell in cells:
        tags = cell["metadata"].get("tags", [])
        own = cell["cell_type"] == "code" and "install" not in tags
        if own and ("hide-input" in tags) == is_folded:
            chosen.append("".join(cell["source"]))
    return "\n".join(chosen)


def test_density_counts_tokens_of_code_lines_only():
    assert density('"""Words here."""\n\na = 1  # why\nb = a + 1\n') == 4


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_line_of_the_package_is_one_thought(path):
    found = density(path.read_text(encoding="utf-8"))
    assert found <= MOST, f"{path}: {found:.1f} tokens a line; split the densest lines"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_line_of_a_chapter_is_one_thought(path):
    for is_folded, most in ((False, SHOWN), (True, FOLDED)):
        found = density(code_of(path, is_folded=is_folded))
        said = f"{path}: {found:.1f} tokens a line; split the densest lines"
        assert found <= most, said
