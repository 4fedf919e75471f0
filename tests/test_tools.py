"""The chapters' tools on a small copy of the book: execute, interrupt, claims, a new chapter."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "book" / "_tools"
sys.path.insert(0, str(TOOLS))
import chapters  # noqa: E402
import claims as claims_tool  # noqa: E402

MEASURE = (
    "from papernets_lite import claims\n"
    "c = claims.Claim(slug='one', key='k', text='t', paper_says='p', metric='m',\n"
    "                 treatment='a', control='b', margin=0.1)\n"
    "c.measure(1.0 + seed, 0.5 + seed + 0.01 * seed ** 2, seed=seed)"
)


def write(path: Path, *cells: tuple[str, list[str]]) -> None:
    made = [nbformat.v4.new_markdown_cell("# One")]
    made += [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/someone/book}\n")
    files = [{"file": "book/a/one"}, {"file": "book/a/two"}]
    toc = {"root": "x", "parts": [{"caption": "A", "chapters": files}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc))
    package = tmp_path / "papernets_lite"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("VALUE = 1\n")
    write(tmp_path / "book" / "a" / "one.ipynb", ("old = 1", ["install"]), ("seed = 0", ["parameters"]), (MEASURE, []))
    write(
        tmp_path / "book" / "a" / "two.ipynb", ("if False:\n    from papernets_lite import helper\nprint('ran')", [])
    )
    return tmp_path


def tool(name: str, tree: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOLS / f"{name}.py"), "--root", str(tree), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, **options)


@pytest.mark.slow
def test_execute_runs_what_changed_and_nothing_else(tree):
    assert chapters.stale(tree) == ["one", "two"]
    done = tool("chapters", tree, "execute")
    assert done.returncode == 0, done.stderr
    assert chapters.stale(tree) == []
    one = nbformat.read(tree / "book" / "a" / "one.ipynb", 4)
    assert "someone/book" in one.cells[1].source, "the install cell names the repository of _config.yml"
    assert one.metadata["papernets"]["seconds"] >= 0
    assert "up to date" in tool("chapters", tree, "execute").stdout
    (tree / "papernets_lite" / "helper.py").write_text("VALUE = 2\n")
    assert chapters.stale(tree) == ["two"], "only the chapter that imports it"


@pytest.mark.slow
def test_a_failing_chapter_is_named_and_left_alone(tree):
    path = tree / "book" / "a" / "two.ipynb"
    write(path, ("a = 1", []), ("1 / 0", []))
    before = path.read_bytes()
    done = tool("chapters", tree, "execute", "--slugs", "two")
    assert done.returncode == 1
    assert "book/a/two.ipynb, cell 2" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_execute_loses_nothing(tree):
    path = tree / "book" / "a" / "two.ipynb"
    write(path, ("open('started', 'w').close()\nimport time\ntime.sleep(60)", []))
    before = path.read_bytes()
    command = [sys.executable, str(TOOLS / "chapters.py"), "--root", str(tree), "execute", "--slugs", "two"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 90
    while not (path.parent / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run it again to go on" in printed
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["one.ipynb", "started", "two.ipynb"]


@pytest.mark.slow
def test_claims_are_measured_over_seeds_and_kept(tree):
    done = tool("claims", tree, "--seeds", "3", "--slugs", "one")
    assert done.returncode == 0, done.stderr
    claim = json.loads((tree / "book" / "results.json").read_text())["one"]["claims"]["k"]
    assert claim["seeds"] == [0, 1, 2]
    assert claim["treatment"] == [1.0, 2.0, 3.0]
    assert claim["mean"] == pytest.approx(0.5 - 0.05 / 3)
    assert claim["verdict"] == "SUPPORTED"
    assert "**SUPPORTED**: t" in (tree / "book" / "results.md").read_text()
    again = tool("claims", tree, "--seeds", "3", "--slugs", "one")
    assert "3 runs, 3 of them there already" in again.stdout


def test_a_failed_seed_keeps_the_old_results(tree):
    with pytest.raises(ValueError, match="same claims"):
        claims_tool.collect([{"claims": [{"key": "a"}]}, {"claims": [{"key": "b"}]}], "x")


def test_unknown_slug_is_named(tree):
    with pytest.raises(SystemExit, match="no chapter three; there are one, two"):
        chapters.chapters(tree, ["three"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        chapters.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("book", "papernets_lite", "tests"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb_checkpoints")
        )
    for name in ("_toc.yml", "_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_a_new_chapter_fails_until_it_is_written(copy):
    assert tool("chapters", copy, "new", "--part", "backbones", "--slug", "senet").returncode == 0
    assert (copy / "papernets_lite" / "backbones" / "senet.py").exists()
    assert "book/backbones/senet" in (copy / "_toc.yml").read_text()
    refused = tool("chapters", copy, "new", "--part", "backbones", "--slug", "senet")
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    command = [sys.executable, "-m", "pytest", "-q", "-k", "senet", "tests/test_contract.py", "tests/test_mirror.py",
               "tests/test_notebooks.py", "tests/backbones/test_senet.py"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(copy)}
    tested = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
    assert tested.returncode == 1
    for name in (
        "test_docstring_names_paper_code_and_deviations[senet]",
        "test_outputs_are_fresh[senet]",
        "test_senet.py",
    ):
        assert any(name in line and "FAILED" in line for line in tested.stdout.splitlines()), tested.stdout[-2000:]


@pytest.mark.parametrize(("part", "slug"), [("backbones", "alexnet"), ("kitchens", "resnet"), ("pose", "resnet")])
def test_only_planned_chapters_can_be_started(copy, part, slug):
    done = tool("chapters", copy, "new", "--part", part, "--slug", slug)
    assert done.returncode == 1
    assert "book/chapters.yml plans" in done.stderr
