"""What every stored chapter promises: fresh outputs, its parts, its sizes. nbval runs
them; this reads them."""

import ast
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import chapters  # noqa: E402

NOTEBOOKS = chapters.chapters(ROOT)
each = pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
VIEW, STATE = chapters.VIEW, chapters.STATE
SECTIONS = (
    "Touch it first",
    "The problem",
    "The idea",
    "honest reading",
    "Exercises",
    "What came next",
    "References",
)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def views(cell):
    return [
        output.data[VIEW]["model_id"]
        for output in cell.get("outputs", [])
        if VIEW in output.get("data", {})
    ]


@pytest.fixture
def notebook(path):
    return nbformat.read(path, 4)


@each
def test_outputs_are_fresh(path):
    assert chapters.stale(ROOT, [path.stem]) == [], "stale: run `make execute`"


@each
def test_size(path, notebook):
    assert path.stat().st_size <= 400_000, (
        f"{path.name} has {path.stat().st_size} bytes"
    )
    cells = len(notebook.cells)
    assert 25 <= cells <= 35, f"{cells} cells"
    lines = [
        line
        for cell in notebook.cells
        if cell.cell_type == "code" and "install" not in cell.metadata.get("tags", [])
        for line in cell.source.splitlines()
        if line.strip() and not re.match(r"\s*(#|import |from )", line)
    ]
    assert len(lines) <= 150, f"{len(lines)} lines of code"


def test_all_together_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS.values()) <= 16_000_000


@each
def test_parts_are_there_in_order(notebook):
    prose = "\n".join(
        cell.source for cell in notebook.cells if cell.cell_type == "markdown"
    )
    places = [prose.find(words) for words in SECTIONS]
    assert min(places) >= 0, dict(zip(SECTIONS, places, strict=True))
    assert places == sorted(places)
    assert "**Differs**" in prose
    assert "**Guessed**" in prose
    assert prose.count("<summary>Solution") == 3
    assert re.search(r"\$\$ \(eq-", prose), "one numbered equation"
    assert "TODO" not in prose


@each
def test_the_reader_touches_it_before_anything_is_trained(notebook):
    hero = next(i for i, cell in enumerate(notebook.cells) if views(cell))
    training = [
        i
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
        and re.search(r"training\.(train|fit)\b", cell.source)
    ]
    assert hero < min(training)


@each
def test_cells_and_tags(path, notebook):
    assert notebook.cells[0].source.startswith("# ")
    assert tagged(notebook, "install")[0].source == chapters.install_cell(ROOT), (
        "run `make execute`"
    )
    parameters = tagged(notebook, "parameters")[0].source
    assert re.findall(r"^(\w+) = ", parameters, re.M) == ["seed", "scale"]
    checked = tagged(notebook, "nbval-check-output")
    assert any(".verdict()" in cell.source for cell in checked)
    assert any(
        "assert " in cell.source for cell in notebook.cells if cell.cell_type == "code"
    )
    for key in re.findall(
        r"\{cite:p\}`([^`]+)`", "\n".join(cell.source for cell in notebook.cells)
    ):
        assert f"{{{key}," in (ROOT / "book" / "references.bib").read_text()


@each
def test_the_notebook_defines_no_model_or_helper(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code" and "install" not in cell.metadata.get("tags", []):
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, (ast.FunctionDef, ast.ClassDef)), (
                    cell.source
                )


@each
def test_outputs_are_clean(path, notebook):
    text = json.dumps(outputs(notebook))
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert not re.search(r" at 0x[0-9a-f]{6}", text), (
        "an address, which differs in each run"
    )
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")
        for kind in ("image/png", "image/jpeg"):
            if kind in output.get("data", {}):
                assert output.metadata.get(kind, {}).get("alt"), (
                    "a figure without alt text: use plots.finish"
                )
    state = notebook.metadata["widgets"][STATE]["state"]
    shown = [view for cell in notebook.cells for view in views(cell)]
    assert shown, "no widget"
    assert set(shown) <= set(state)
    for model in state.values():
        assert all(len(alt) >= 5 for alt in model["state"].get("alts", []))
        for image in re.findall(r"<img [^>]*>", str(model["state"].get("value", ""))):
            assert re.search(r'alt="[^"]{5,}"', image)


@each
def test_it_fits_the_budget(notebook):
    assert notebook.metadata["papernets"]["seconds"] <= 120, "seconds of CPU time"


@each
def test_verdicts_are_stored(path, notebook):
    stored = json.loads((ROOT / "book" / "results.json").read_text())[path.stem][
        "claims"
    ]
    shown = "".join(
        o.text
        for cell in tagged(notebook, "nbval-check-output")
        for o in cell.outputs
        if "text" in o
    )
    for claim in stored.values():
        assert f"{claim['verdict']}: {claim['text']}" in shown
        assert len(claim["seeds"]) >= 5
