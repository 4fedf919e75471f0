"""The chapters' tools on a small copy of the book: execute, interrupt, claims, stamps,
a new chapter."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timezone
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "book" / "_tools"
sys.path.insert(0, str(TOOLS))
import chapters  # noqa: E402
import registry  # noqa: E402
import results  # noqa: E402
import stored  # noqa: E402

MEASURE = """
from pathlib import Path
from papernets_lite import claims
assert seed != 11 or Path("allowed").exists(), "this seed must fail"
offset = (0.5 + seed + 0.01 * (seed % 10) ** 2)
claims.measure("one", seed, {"k": (1.0 + seed, offset)})
"""
WIDGET = """
import ipywidgets
pages = [ipywidgets.HTML("a"), ipywidgets.HTML("b")]
slider, stack = ipywidgets.IntSlider(), ipywidgets.Stack(pages)
unseen = ipywidgets.Text("left over")
ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
ipywidgets.VBox([slider, stack])
"""
USES = """
if False:
    from papernets_lite import helper, plots
    print(helper.VALUE, plots.COLOUR)
"""
LIST = """
a:
  title: A
  chapters:
    one: {title: One, short: One, year: 2000, idea: i, on: []}
    two: {title: Two, short: Two, year: 2001, idea: i, on: []}
    three: {title: Three, short: Three, year: 2002, idea: i, on: []}
"""
CLAIMS = """
k:
  short: a
  text: a | b
  paper_says: p
  metric: m
  treatment: t
  control: c
  sceptic: s
  margin: 0.1
  margin_means: n
  but: b
"""


def write(path: Path, *cells: tuple[str, list[str]]) -> None:
    made = [nbformat.v4.new_markdown_cell(f"# {path.stem.title()}")]
    for source, tags in cells:
        made.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"kernelspec": kernel}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A book of two chapters: ``one`` measures a claim, ``two`` imports modules."""
    address = "repository: {url: https://github.com/someone/book}\n"
    (tmp_path / "_config.yml").write_text(address, encoding="utf-8")
    package, book = tmp_path / "papernets_lite", tmp_path / "book"
    for folder in (package, book / "claims", book / "a"):
        folder.mkdir(parents=True)
    texts = {
        package / "__init__.py": "",
        package / "helper.py": '"""Words."""\nVALUE = 1\nOTHER = 1\n',
        package / "plots.py": "COLOUR = 0\n",
        book / "chapters.yml": LIST,
        book / "claims" / "one.yml": CLAIMS,
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    write(
        book / "a" / "one.ipynb",
        ("old = 1", ["install"]),
        ("seed = 0", ["parameters"]),
        (MEASURE, []),
        ('claims.verdicts("one")', []),
    )
    write(book / "a" / "two.ipynb", (USES, []), (WIDGET, []))
    return tmp_path


def tool(tree: Path, *arguments: str) -> subprocess.CompletedProcess:
    script = [sys.executable, str(TOOLS / "chapters.py"), "--root", str(tree)]
    command = [*script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def wait_for(condition, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


def notebook_of(tree: Path, slug: str):
    return nbformat.read(tree / "book" / "a" / f"{slug}.ipynb", 4)


@pytest.mark.slow
def test_execute_runs_what_changed_and_nothing_else(tree):
    path = tree / "book" / "a" / "one.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.metadata["papernets"] = {"cover": 3}
    nbformat.write(notebook, path)
    assert chapters.stale(tree) == ["one", "two"]
    planned = tool(tree, "plan", "--no-claims")
    assert "one: its stored notebook" in planned.stdout
    assert "minutes for the stored notebooks" in planned.stdout
    done = tool(tree, "execute", "--no-claims")
    assert done.returncode == 0, done.stderr
    assert chapters.stale(tree) == []
    one = notebook_of(tree, "one")
    assert "someone/book" in one.cells[1].source, "the address is _config.yml's"
    notes = one.metadata["papernets"]
    assert notes["cover"] == 3, "what the author noted is kept"
    assert notes["bytes"] > 0
    assert "papernets_lite.claims" in notes["modules"]
    assert "json, sys" not in one.cells[-1].source, "what was asked is not stored"
    before = path.read_bytes()
    again = tool(tree, "execute", "--no-claims")
    assert "up to date" in again.stdout
    assert path.read_bytes() == before
    helper = tree / "papernets_lite" / "helper.py"
    helper.write_text("VALUE = 1\nOTHER = 2\n", encoding="utf-8")
    assert chapters.stale(tree) == []
    helper.write_text("VALUE = 2\nOTHER = 2\n", encoding="utf-8")
    assert chapters.stale(tree) == ["two"], "only the chapter that reads it"


@pytest.mark.slow
def test_executing_twice_stores_the_same(tree):
    path = tree / "book" / "a" / "two.ipynb"
    texts = []
    for _ in range(2):
        done = tool(tree, "execute", "--slugs", "two", "--force", "--no-claims")
        assert done.returncode == 0, done.stderr
        notebook = nbformat.read(path, 4)
        notes = notebook.metadata["papernets"]
        assert notes["versions"]["python"] == platform.python_version()
        assert date.fromisoformat(notes["date"]) <= datetime.now(timezone.utc).date()
        del notes["seconds"], notes["date"]
        texts.append(nbformat.writes(notebook))
    assert texts[0] == texts[1]
    states = stored.states(notebook)
    assert notebook.cells[-1].outputs[0].data[stored.VIEW]["model_id"] in states
    kinds = [model["model_name"] for model in states.values()]
    assert kinds.count("HTMLModel") == 2
    assert kinds.count("LinkModel") == 1
    assert "TextModel" not in kinds, "what no cell shows is left out"
    for model in states.values():
        for other in re.findall(r"IPY_MODEL_(\w+)", json.dumps(model["state"])):
            assert other in states


@pytest.mark.slow
def test_words_and_addresses_are_stamped_without_a_run(tree):
    assert tool(tree, "execute", "--slugs", "one", "--no-claims").returncode == 0
    before = notebook_of(tree, "one")
    other = "repository: {url: https://github.com/other/place}\n"
    (tree / "_config.yml").write_text(other, encoding="utf-8")
    words = CLAIMS.replace("a | b", "other words").replace("0.1", "0.7")
    (tree / "book" / "claims" / "one.yml").write_text(words, encoding="utf-8")
    assert chapters.stale(tree, ["one"]) == []
    assert chapters.unstamped(tree, ["one"]) == ["one"]
    done = tool(tree, "stamp")
    assert "one: stamped" in done.stdout, done.stderr
    after = notebook_of(tree, "one")
    assert "other/place" in after.cells[1].source
    assert (
        "does not reach the margin of 0.7"
        in after.cells[3].outputs[0].data["text/plain"]
    )
    assert "NOT YET MEASURED: other words" in after.cells[4].outputs[0].text
    counts = [cell.get("execution_count") for cell in after.cells]
    assert counts == [cell.get("execution_count") for cell in before.cells]
    assert "nothing to stamp" in tool(tree, "stamp").stdout


BIBLIOGRAPHY = """
@article{a, title = {A}, author = {Ada One}, year = 2001, url = {https://a.org/(1)}}
@article{b, title = {B}, author = {Ada One}, year = 2001, url = {https://b.org}}
"""


def cells_of(*texts: str):
    cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
    return nbformat.v4.new_notebook(cells=cells)


def test_citations_are_stamped_with_label_and_address(tree):
    (tree / "book" / "references.bib").write_text(BIBLIOGRAPHY, encoding="utf-8")
    found = cells_of(
        '[[]]( "b"), [[Old\nOne, 1999]](https://old.org "a"). [text](b.md)'
    )
    stored.stamp_citations(tree, found)
    first, second = "https://a.org/(1)", "https://b.org"
    assert found.cells[0].source == (
        f'[[One, 2001b]]({second} "b"), [[One, 2001a]]({first} "a"). [text](b.md)'
    )
    wrapped = f'[[One,\n2001b]]({second}\n"b")'
    found = cells_of(wrapped)
    stored.stamp_citations(tree, found)
    assert found.cells[0].source == wrapped
    with pytest.raises(ValueError, match="got 'c'"):
        stored.stamp_citations(tree, cells_of('[[]]( "c")'))


def test_a_widgets_script_is_stamped_without_a_run():
    notebook = nbformat.read(registry.built(ROOT)["resnet"], 4)
    models = [model["state"] for model in stored.states(notebook).values()]
    frames = [state for state in models if "Frames" in state.get("_anywidget_id", "")]
    assert frames
    before = frames[0]["_esm"]
    assert before == stored.scripts()["Frames"]["_esm"], "run `make stamp`"
    frames[0]["_esm"] = "an older script"
    stored.stamp_scripts(notebook)
    assert frames[0]["_esm"] == before
    assert "export default" in before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "word"),
    [("1 / 0", "ZeroDivisionError"), ("import os\nos._exit(1)", "died")],
)
def test_a_failing_chapter_is_named_and_left_alone(tree, source, word):
    path = tree / "book" / "a" / "two.ipynb"
    write(path, ("a = 1", []), (source, []))
    before = path.read_bytes()
    done = tool(tree, "execute", "--no-claims")
    assert done.returncode == 1
    assert "book/a/two.ipynb, cell 3 of 3" in done.stderr
    assert source in done.stderr
    assert word in done.stderr
    assert path.read_bytes() == before
    assert chapters.stale(tree) == ["two"], "the other chapter is stored all the same"


def test_a_damaged_notebook_is_named(tree):
    path = tree / "book" / "a" / "two.ipynb"
    path.write_text('{"cells": [', encoding="utf-8")
    done = tool(tree, "execute")
    assert done.returncode == 1
    assert "two.ipynb is not a notebook" in done.stderr


def test_damaged_results_are_named(tree):
    path = tree / "book" / "results" / "one.json"
    path.parent.mkdir()
    path.write_text('{"claims": ', encoding="utf-8")
    done = tool(tree, "plan")
    assert done.returncode == 1
    assert "one.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_chapter_that_is_edited_while_it_runs_keeps_the_edit(tree):
    path = tree / "book" / "a" / "two.ipynb"
    edit = (
        "from pathlib import Path\n"
        "path = Path('two.ipynb')\n"
        "path.write_text(path.read_text().replace('# Two', '# Mine'))"
    )
    write(path, (edit, []))
    done = tool(tree, "execute", "--slugs", "two", "--no-claims")
    assert "EDITED WHILE IT RAN" in done.stdout, done.stderr
    assert "# Mine" in path.read_text(encoding="utf-8")
    kept = tree / "_build" / "executed" / "two.ipynb"
    assert nbformat.read(kept, 4).cells[1].execution_count == 1


def test_two_calls_do_not_do_the_work_twice(tree):
    with chapters.alone(tree):
        done = tool(tree, "execute")
    assert done.returncode == 1
    assert "another `make execute` is at work" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_execute_loses_nothing(tree, ending):
    folder = tree / "book" / "a"
    sleep = (
        "import os, time\nfrom pathlib import Path\n"
        "Path('started').write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    write(folder / "two.ipynb", (sleep, []))
    before = (folder / "two.ipynb").read_bytes()
    script = [sys.executable, str(TOOLS / "chapters.py"), "--root", str(tree)]
    # A shell's background job ignores SIGINT from the start; the tool hears it all the
    # same.
    process = subprocess.Popen(
        [*script, "execute", "--no-claims"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    started = folder / "started"
    wait_for(lambda: started.exists() and started.read_text())
    wait_for(lambda: chapters.stale(tree) == ["two"])
    os.killpg(process.pid, ending)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; stored: one; not run: two" in told
    assert "Traceback" not in told
    assert (folder / "two.ipynb").read_bytes() == before
    assert chapters.stale(tree) == ["two"]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["one.ipynb", "started", "two.ipynb"]
    kernel = int(started.read_text())
    wait_for(lambda: not Path(f"/proc/{kernel}").exists(), 10)


@pytest.mark.slow
def test_claims_are_measured_over_seeds_kept_and_stand(tree):
    failing = tool(tree, "execute", "--slugs", "one")
    assert failing.returncode == 1
    assert "FAILED one, seed11" in failing.stderr
    assert "this seed must fail" in failing.stderr
    assert "results left as they were: seed11 failed" in failing.stderr
    assert results.load(tree, "one") == {}
    (tree / "book" / "a" / "allowed").touch()
    damaged = next((tree / "_build" / "claims" / "one").glob("*/seed12.json"))
    damaged.write_text('{"claims": ', encoding="utf-8")
    done = tool(tree, "execute", "--slugs", "one")
    assert done.returncode == 0, done.stderr
    assert "5 runs, 3 of them there already" in done.stdout, "the damaged one is not"
    kept = results.load(tree, "one")
    assert "torch" in kept["machine"]
    assert kept["versions"]["python"] == platform.python_version()
    assert date.fromisoformat(kept["date"]) <= datetime.now(timezone.utc).date()
    assert kept["claims"]["k"]["seeds"] == [10, 11, 12, 13, 14]
    assert kept["claims"]["k"]["treatment"] == [11.0, 12.0, 13.0, 14.0, 15.0]
    assert kept["reference"]["values"] == {"k": [1.0, 0.5]}, "seed 0, the notebook's"
    page = (tree / "book" / "results.md").read_text(encoding="utf-8")
    assert "**● SUPPORTED**" in page
    assert "a \\| b" in page, "a bar in a claim's text does not break the table"
    shown = notebook_of(tree, "one").cells[4].outputs[0].text
    assert "SUPPORTED: a | b" in shown, "the verdict is stamped into the chapter"
    assert "up to date" in tool(tree, "execute", "--slugs", "one").stdout

    # Other code that measures the same: seed 0 runs, the other seeds stand.
    path = tree / "book" / "a" / "one.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[3].source = notebook.cells[3].source.replace(
        "0.5 + seed", "seed + 0.5"
    )
    nbformat.write(notebook, path)
    assert chapters.unmeasured(tree, ["one"]) == ["one"]
    standing = tool(tree, "execute", "--slugs", "one")
    assert "its results stand" in standing.stdout, standing.stderr
    assert chapters.unmeasured(tree, ["one"]) == []
    assert results.load(tree, "one")["claims"] == kept["claims"]

    # Other numbers: all seeds are measured again.
    notebook = nbformat.read(path, 4)
    notebook.cells[3].source = notebook.cells[3].source.replace(
        "1.0 + seed", "2.0 + seed"
    )
    nbformat.write(notebook, path)
    moved = tool(tree, "execute", "--slugs", "one")
    assert "5 runs, 0 of them there already" in moved.stdout, moved.stderr
    assert results.load(tree, "one")["claims"]["k"]["treatment"][0] == 12.0


@pytest.mark.slow
def test_results_of_another_machine_stand_where_this_one_was_asked_before(tree):
    (tree / "book" / "a" / "allowed").touch()
    assert tool(tree, "execute", "--slugs", "one").returncode == 0
    here = results.load(tree, "one")
    elsewhere = {"machine": "another", "values": {"k": [1.0, 0.25]}}
    results.save(tree, "one", here | {"reference": elsewhere})
    before = (tree / "book" / "a" / "one.ipynb").read_bytes()

    referred = tool(tree, "reference", "--slugs", "one")
    assert referred.returncode == 0, referred.stderr
    assert (tree / "book" / "a" / "one.ipynb").read_bytes() == before
    assert results.load(tree, "one") == here
    assert "lack a reference" in tool(tree, "reference", "--slugs", "one").stdout


@pytest.mark.slow
def test_a_chapter_with_a_long_row_is_measured_when_it_is_there(tree):
    path = tree / "book" / "a" / "one.ipynb"
    notebook = nbformat.read(path, 4)
    cell = next(c for c in notebook.cells if "parameters" in stored.tags(c))
    cell.source += "\nlonger = 1  # times as many steps"
    measuring = next(c for c in notebook.cells if "claims.measure" in c.source)
    measuring.source = measuring.source.replace("1.0 + seed", "longer + seed")
    nbformat.write(notebook, path)
    (tree / "book" / "a" / "allowed").touch()
    done = tool(tree, "execute", "--slugs", "one")
    assert "6 runs, 0 of them there already" in done.stdout, done.stderr
    kept = results.load(tree, "one")
    assert kept["claims"]["k"]["treatment"][0] == 11.0
    assert kept["long"] == {"times": 4, "seed": 10, "values": {"k": [14.0, 10.5]}}
    assert chapters.unmeasured(tree, ["one"]) == []
    results.save(tree, "one", {k: v for k, v in kept.items() if k != "long"})
    assert chapters.unmeasured(tree, ["one"]) == ["one"]
    again = tool(tree, "execute", "--slugs", "one")
    assert "6 runs, 6 of them there already" in again.stdout, again.stderr
    assert results.load(tree, "one") == kept


def test_the_results_page_counts_the_verdicts():
    said = results.counted(["SUPPORTED"] * 3 + ["SHOWN"] * 2 + ["INCONCLUSIVE"])
    assert "Of 6 claims: ● 3 SUPPORTED, ○ 0 NOT SUPPORTED, ◐ 1 INCONCLUSIVE" in said
    chance = results.by_chance(["SUPPORTED"] * 3 + ["SHOWN"] * 2 + ["INCONCLUSIVE"])
    assert "one in forty of the 4 that could have failed SUPPORTED: 0.1" in chance


@pytest.mark.parametrize("second", [["b"], [], ["a", "a"]])
def test_seeds_must_measure_the_same_claims(second):
    runs = [{"claims": [{"key": key} for key in keys]} for keys in (["a"], second)]
    with pytest.raises(ValueError, match="same claims"):
        results.collect(runs)


def test_results_say_when_nothing_is_measured(tree):
    assert "Nothing has been measured yet" in results.page(tree)


def test_unknown_slug_is_named(tree):
    with pytest.raises(SystemExit, match="no chapter four; there are one, two"):
        chapters.look(tree, ["four"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="gone"):
        stored.write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_weights_are_stored_in_half_precision_and_load_into_a_whole_net(tmp_path):
    import torch

    net, other = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    net(torch.rand(4, 2))  # so that it has counted a batch
    stored.store_weights(tmp_path / "net.pt", net)
    weights = torch.load(tmp_path / "net.pt", weights_only=True)
    assert weights["running_mean"].dtype == torch.float16
    assert weights["num_batches_tracked"].dtype == torch.int64
    other.load_state_dict(weights)
    assert other.running_mean.dtype == torch.float32
    assert other.num_batches_tracked == 1
    torch.testing.assert_close(other.running_mean, net.running_mean, rtol=0, atol=1e-3)
    assert [one.name for one in tmp_path.iterdir()] == ["net.pt"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb_checkpoints")
    for name in ("book", "papernets_lite", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("_toc.yml", "_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_a_new_chapter_fails_until_it_is_written(copy):
    there = registry.built(ROOT)
    planned = [c for c in registry.every(registry.load(ROOT)) if c.slug not in there]
    slug, part = planned[0].slug, planned[0].part
    started = tool(copy, "new", "--slug", slug)
    assert started.returncode == 0, started.stderr
    assert (copy / "papernets_lite" / part / f"{slug}.py").exists()
    contents = (copy / "_toc.yml").read_text(encoding="utf-8")
    assert f"book/{part}/{slug}" in contents
    refused = tool(copy, "new", "--slug", slug)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    names = ("test_contract", "test_mirror", "test_notebooks")
    files = [f"tests/{name}.py" for name in names]
    files.append(f"tests/{part}/test_{slug}.py")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", slug, *files],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert tested.returncode == 1
    failed = [line for line in tested.stdout.splitlines() if "FAILED" in line]
    for name in (
        f"test_docstring_names_paper_code_and_deviations[{slug}]",
        f"test_outputs_are_fresh[{slug}]",
        f"test_{slug}.py",
    ):
        assert any(name in line for line in failed), tested.stdout[-2000:]
    bare = [line for line in failed if "KeyError" in line]
    assert not bare, "a newcomer is told the file and the remedy, not a key"


def test_only_planned_chapters_can_be_started(copy):
    done = tool(copy, "new", "--slug", "nobody_plans")
    assert done.returncode == 1
    assert "add a line to book/chapters.yml first" in done.stderr


def test_a_chapter_outside_the_plan_is_added_by_a_line(copy):
    path = copy / "book" / "chapters.yml"
    text = path.read_text(encoding="utf-8")
    line = (
        "    nobody_plans:\n      title: 'A paper: in one line'\n"
        "      short: A paper\n      year: 2012\n      idea: it works\n"
        "      on: []\n"
    )
    added = text.replace("segmentation:\n", f"{line}segmentation:\n", 1)
    path.write_text(added, encoding="utf-8")
    done = tool(copy, "new", "--slug", "nobody_plans")
    assert done.returncode == 0, done.stderr
    contents = yaml.safe_load((copy / "_toc.yml").read_text(encoding="utf-8"))
    assert "book/backbones/nobody_plans" in json.dumps(contents)
