"""A chapter as a plain script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from papernets_lite import training

ROOT = Path(__file__).resolve().parents[2]


def notebook(path, cells):
    made = [
        nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        for source, tags in cells
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)


def test_a_chapter_runs_as_a_script(tmp_path):
    path, out = tmp_path / "c.ipynb", tmp_path / "out.json"
    write = f"import json; json.dump(seed, open({str(out)!r}, 'w'))"
    cells = [
        ("%pip install nothing", ["install"]),
        ("seed = 0", ["parameters"]),
        (write, []),
    ]
    notebook(path, cells)
    training.main([str(path), "-p", "seed", "3"])
    assert json.loads(out.read_text(encoding="utf-8")) == 3
    with pytest.raises(ValueError, match="no parameter"):
        training.main([str(path), "-p", "speed", "3"])
    notebook(path, [("seed = 0", ["parameters"]), ("1 / 0", [])])
    with pytest.raises(RuntimeError, match="cell 1 failed: ZeroDivisionError"):
        training.main([str(path)])
    with pytest.raises(ValueError, match="no readable notebook"):
        training.main([str(tmp_path / "missing.ipynb")])


def test_parameters_need_a_cell_to_stand_in(tmp_path):
    path = tmp_path / "c.ipynb"
    notebook(path, [("seed = 0\nprint(seed)", [])])
    with pytest.raises(ValueError, match="no cell tagged 'parameters'"):
        training.main([str(path), "-p", "seed", "3"])
    training.main([str(path)])


def test_what_is_no_parameter_is_refused_before_anything_runs(tmp_path, capsys):
    path = tmp_path / "c.ipynb"
    notebook(path, [("print('ran')", []), ("seed = 0", ["parameters"])])
    with pytest.raises(ValueError, match=r"has no parameter \['display'\]"):
        training.main([str(path), "-p", "display", "3"])
    assert capsys.readouterr().out == ""


def test_a_script_prints_what_jupyter_would_show(tmp_path, capsys):
    path = tmp_path / "c.ipynb"
    figure = """
from papernets_lite import plots, show, widgets
import torch
_, ax = plots.axes()
plots.finish(ax.figure, "an empty figure")
show.table(["a"], [(1,)])
display("shown")
widgets.scrubber([torch.zeros(3, 8, 8)], ["black"], alt="a card")
"""
    notebook(path, [(figure, []), ("3 + 4", []), ("None", []), ("5;", [])])
    training.main([str(path)])
    assert capsys.readouterr().out.splitlines() == [
        "an empty figure",
        "| a |",
        "| ---: |",
        "| 1 |",
        "shown",
        "interactive figure, 1 step; at first, a card: black",
        "7",
    ]


def test_a_chapter_runs_in_any_locale(tmp_path):
    path = tmp_path / "c.ipynb"
    source = "print(len('\u00e9\u2192'), seed)"
    notebook(path, [("seed = 0", ["parameters"]), (source, [])])
    plain = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "papernets_lite.training", str(path), "-p", "seed", "3"],
        env=os.environ | plain | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "2 3\n", done.stderr
