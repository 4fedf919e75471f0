"""The chapters' tools on a small copy of the book: execute, interrupt, claims, a new
chapter."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "book" / "_tools"
sys.path.insert(0, str(TOOLS))
import chapters  # noqa: E402
import claims as claims_tool  # noqa: E402

MEASURE = """
from pathlib import Path
from papernets_lite import claims
assert seed != 1 or Path("allowed").exists(), "this seed must fail"
claim = claims.Claim(
    slug="one", key="k", text="a | b", paper_says="p", metric="m", treatment="t", control="c", margin=0.1
)
claim.measure(1.0 + seed, 0.5 + seed + 0.01 * seed ** 2, seed=seed)
"""
WIDGET = """
import ipywidgets
slider, stack = ipywidgets.IntSlider(), ipywidgets.Stack([ipywidgets.HTML("a"), ipywidgets.HTML("b")])
unseen = ipywidgets.Text("left over")
ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
ipywidgets.VBox([slider, stack])
"""


def write(path: Path, *cells: tuple[str, list[str]]) -> None:
    made = [nbformat.v4.new_markdown_cell("# One")]
    made += [
        nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        for source, tags in cells
    ]
    metadata = {
        "kernelspec": {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A book of two chapters: ``one`` measures a claim, ``two`` imports a module."""
    (tmp_path / "_config.yml").write_text(
        "repository: {url: https://github.com/someone/book}\n"
    )
    files = [{"file": "book/a/one"}, {"file": "book/a/two"}]
    toc = {"root": "x", "parts": [{"caption": "A", "chapters": files}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    package = tmp_path / "papernets_lite"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text('"""Words."""\nVALUE = 1\n')
    (package / "plots.py").write_text("")
    folder = tmp_path / "book" / "a"
    write(
        folder / "one.ipynb",
        ("old = 1", ["install"]),
        ("seed = 0", ["parameters"]),
        (MEASURE, []),
    )
    write(
        folder / "two.ipynb",
        ("if False:\n    from papernets_lite import helper, plots", []),
        (WIDGET, []),
    )
    return tmp_path


def tool(name: str, tree: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        str(TOOLS / f"{name}.py"),
        "--root",
        str(tree),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def wait_for(condition, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


@pytest.mark.slow
def test_execute_runs_what_changed_and_nothing_else(tree):
    path = tree / "book" / "a" / "one.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.metadata["papernets"] = {"cover": 3}
    nbformat.write(notebook, path)
    assert chapters.stale(tree) == ["one", "two"]
    done = tool("chapters", tree, "execute")
    assert done.returncode == 0, done.stderr
    assert chapters.stale(tree) == []
    one = nbformat.read(path, 4)
    assert "someone/book" in one.cells[1].source, (
        "the install cell names the repository of _config.yml"
    )
    assert one.metadata["papernets"]["cover"] == 3, "what the author noted is kept"
    assert one.metadata["papernets"]["bytes"] > 0
    before = path.read_bytes()
    assert "up to date" in tool("chapters", tree, "execute").stdout
    assert path.read_bytes() == before
    (tree / "papernets_lite" / "helper.py").write_text("VALUE = 2\n")
    assert chapters.stale(tree) == ["two"], "only the chapter that imports it"


@pytest.mark.slow
def test_executing_twice_stores_the_same(tree):
    path = tree / "book" / "a" / "two.ipynb"
    texts = []
    for _ in range(2):
        assert (
            tool("chapters", tree, "execute", "--slugs", "two", "--force").returncode
            == 0
        )
        notebook = nbformat.read(path, 4)
        del notebook.metadata["papernets"]["seconds"]
        texts.append(nbformat.writes(notebook))
    assert texts[0] == texts[1]
    states = notebook.metadata["widgets"][chapters.STATE]["state"]
    assert notebook.cells[-1].outputs[0].data[chapters.VIEW]["model_id"] in states
    kinds = [model["model_name"] for model in states.values()]
    assert kinds.count("HTMLModel") == 2
    assert kinds.count("LinkModel") == 1
    assert "TextModel" not in kinds, "what no cell shows is left out"
    for model in states.values():
        for other in re.findall(r"IPY_MODEL_(\w+)", json.dumps(model["state"])):
            assert other in states


@pytest.mark.slow
def test_a_new_address_is_stamped_without_a_run(tree):
    assert tool("chapters", tree, "execute", "--slugs", "one").returncode == 0
    path = tree / "book" / "a" / "one.ipynb"
    before = nbformat.read(path, 4)
    (tree / "_config.yml").write_text(
        "repository: {url: https://github.com/other/place}\n"
    )
    assert "up to date" in tool("chapters", tree, "execute", "--slugs", "one").stdout
    after = nbformat.read(path, 4)
    assert "other/place" in after.cells[1].source
    assert [cell.get("outputs") for cell in after.cells] == [
        cell.get("outputs") for cell in before.cells
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "word"),
    [("1 / 0", "ZeroDivisionError"), ("import os\nos._exit(1)", "died")],
)
def test_a_failing_chapter_is_named_and_left_alone(tree, source, word):
    path = tree / "book" / "a" / "two.ipynb"
    write(path, ("a = 1", []), (source, []))
    before = path.read_bytes()
    done = tool("chapters", tree, "execute")
    assert done.returncode == 1
    assert "book/a/two.ipynb, cell 3 of 3" in done.stderr
    assert source in done.stderr
    assert word in done.stderr
    assert path.read_bytes() == before
    assert chapters.stale(tree) == ["two"], "the other chapter is stored all the same"


def test_a_damaged_notebook_is_named(tree):
    (tree / "book" / "a" / "two.ipynb").write_text('{"cells": [')
    done = tool("chapters", tree, "execute")
    assert done.returncode == 1
    assert "two.ipynb is not a notebook" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_execute_loses_nothing(tree, ending):
    folder = tree / "book" / "a"
    sleep = "import os, time\nfrom pathlib import Path\nPath('started').write_text(str(os.getpid()))\ntime.sleep(60)"
    write(folder / "two.ipynb", (sleep, []))
    before = (folder / "two.ipynb").read_bytes()
    command = [
        sys.executable,
        str(TOOLS / "chapters.py"),
        "--root",
        str(tree),
        "execute",
    ]
    # A shell's background job ignores SIGINT from the start; the tool hears it all the
    # same.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    wait_for(lambda: (folder / "started").exists() and (folder / "started").read_text())
    wait_for(lambda: chapters.stale(tree) == ["two"])
    os.killpg(process.pid, ending)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; stored: one; not run: two" in told
    assert "Traceback" not in told
    assert (folder / "two.ipynb").read_bytes() == before
    assert chapters.stale(tree) == ["two"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "one.ipynb",
        "started",
        "two.ipynb",
    ]
    kernel = int((folder / "started").read_text())
    wait_for(lambda: not Path(f"/proc/{kernel}").exists(), 10)


@pytest.mark.slow
def test_claims_are_measured_over_seeds_and_kept(tree):
    results = tree / "book" / "results.json"
    results.write_text(json.dumps({"one": {"old": True}}))
    failing = tool("claims", tree, "--seeds", "3", "--slugs", "one")
    assert failing.returncode == 1
    assert "FAILED one with seed 1" in failing.stderr
    assert "this seed must fail" in failing.stderr
    assert "results left as they were, because seeds [1] failed" in failing.stderr
    assert json.loads(results.read_text()) == {"one": {"old": True}}
    (tree / "book" / "a" / "allowed").touch()
    done = tool("claims", tree, "--seeds", "3", "--slugs", "one")
    assert done.returncode == 0, done.stderr
    assert "3 runs, 2 of them there already" in done.stdout
    entry = json.loads(results.read_text())["one"]
    assert entry["machine"].endswith(
        "1 thread, torch " + ".".join(version("torch").split(".")[:2])
    )
    claim = entry["claims"]["k"]
    assert claim["seeds"] == [0, 1, 2]
    assert claim["treatment"] == [1.0, 2.0, 3.0]
    assert claim["mean"] == pytest.approx(0.5 - 0.05 / 3)
    assert claim["verdict"] == "SUPPORTED"
    page = (tree / "book" / "results.md").read_text()
    assert "**SUPPORTED**" in page
    assert "a \\| b" in page, "a bar in a claim's text does not break the table"
    assert chapters.stale(tree, ["one"]) == ["one"], (
        "a chapter shows its verdicts, so it is stale when they change"
    )


def test_only_what_can_change_numbers_asks_for_new_measurements(tree):
    path, helper = (
        tree / "book" / "a" / "two.ipynb",
        tree / "papernets_lite" / "helper.py",
    )
    before = chapters.measured_code(tree, path)
    helper.write_text('"""Other words."""\nVALUE = 1  # a comment\n')
    (tree / "papernets_lite" / "plots.py").write_text("COLOUR = 1")
    assert chapters.measured_code(tree, path) == before
    helper.write_text("VALUE = 2\n")
    assert chapters.measured_code(tree, path) != before


@pytest.mark.parametrize("second", [["b"], [], ["a", "a"]])
def test_seeds_must_measure_the_same_claims(second):
    with pytest.raises(ValueError, match="same claims"):
        claims_tool.collect(
            [{"claims": [{"key": key} for key in keys]} for keys in (["a"], second)],
            "x",
        )


def test_results_say_when_nothing_is_measured():
    assert "Nothing has been measured yet" in claims_tool.page({}, {}, {})


def test_unknown_slug_is_named(tree):
    with pytest.raises(SystemExit, match="no chapter three; there are one, two"):
        chapters.chapters(tree, ["three"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(
        os, "replace", lambda *a: (_ for _ in ()).throw(OSError("gone"))
    )
    with pytest.raises(OSError, match="gone"):
        chapters.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("book", "papernets_lite", "tests"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.ipynb_checkpoints"),
        )
    for name in ("_toc.yml", "_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_a_new_chapter_fails_until_it_is_written(copy):
    planned = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())["backbones"][
        "chapters"
    ]
    slug = next(
        slug
        for slug in planned
        if not (ROOT / "book" / "backbones" / f"{slug}.ipynb").exists()
    )
    assert (
        tool("chapters", copy, "new", "--part", "backbones", "--slug", slug).returncode
        == 0
    )
    assert (copy / "papernets_lite" / "backbones" / f"{slug}.py").exists()
    assert f"book/backbones/{slug}" in (copy / "_toc.yml").read_text()
    refused = tool("chapters", copy, "new", "--part", "backbones", "--slug", slug)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    command = [sys.executable, "-m", "pytest", "-q", "-k", slug, "tests/test_contract.py", "tests/test_mirror.py",
               "tests/test_notebooks.py", f"tests/backbones/test_{slug}.py"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(copy)}
    tested = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300
    )
    assert tested.returncode == 1
    for name in (
        f"test_docstring_names_paper_code_and_deviations[{slug}]",
        f"test_outputs_are_fresh[{slug}]",
        f"test_{slug}.py",
    ):
        assert any(
            name in line and "FAILED" in line for line in tested.stdout.splitlines()
        ), tested.stdout[-2000:]


@pytest.mark.parametrize(
    ("part", "slug"),
    [("backbones", "alexnet"), ("kitchens", "resnet"), ("pose", "resnet")],
)
def test_only_planned_chapters_can_be_started(copy, part, slug):
    done = tool("chapters", copy, "new", "--part", part, "--slug", slug)
    assert done.returncode == 1
    assert "book/chapters.yml plans" in done.stderr
