"""What changed since another commit: the checks that it asks for, and its review."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import review  # noqa: E402

PLACES = {
    "resnet": "book/backbones/resnet.ipynb",
    "openpose": "book/pose/openpose.ipynb",
    "cyclegan": "book/generative/cyclegan.ipynb",
    "ssd": "book/detection/ssd.ipynb",
}


def notebook(picture: str = "AAAA", accuracy: float = 0.5, code: str = "x = 1") -> str:
    output = {
        "output_type": "display_data",
        "data": {
            "image/png": picture,
            review.CLAIM: {"key": "depth", "values": {"treatment": accuracy}},
        },
        "metadata": {},
    }
    cells = [
        {"cell_type": "markdown", "source": "# A title", "metadata": {}},
        {"cell_type": "code", "source": code, "metadata": {}, "outputs": [output]},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4})


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of four chapters, committed."""
    for place in PLACES.values():
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(notebook(), encoding="utf-8")
    for name in (
        "detection/test_ssd",
        "ops/test_boxes",
        "test_training",
        "test_mirror",
    ):
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "a")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    known = {slug: tmp_path / place for slug, place in PLACES.items()}
    monkeypatch.setattr(review.registry, "built", lambda root: known)
    monkeypatch.setattr(review.chapters, "stale", lambda root: [])
    return tmp_path


def said(tree: Path, what: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert review.main(["--root", str(tree), "--base", "HEAD", what]) == 0
    return capsys.readouterr().out.split()


def test_sentinels_are_checked_where_nothing_changed(tree, capsys):
    assert said(tree, "notebooks", capsys) == list(PLACES.values())[:3]
    assert said(tree, "tests", capsys) == ["tests/test_mirror.py"]
    assert len(said(tree, "pages", capsys)) == 5


def test_a_changed_chapter_asks_for_its_own_checks(tree, capsys):
    (tree / PLACES["ssd"]).write_text(notebook(code="x = 2"), encoding="utf-8")
    assert said(tree, "notebooks", capsys)[0] == PLACES["ssd"]
    assert said(tree, "words", capsys)[0] == "ssd"
    assert "tests/detection/test_ssd.py" in said(tree, "tests", capsys)
    assert len(said(tree, "pages", capsys)) == 6


def test_a_chapter_that_other_code_made_has_changed(tree, capsys, monkeypatch):
    monkeypatch.setattr(review.chapters, "stale", lambda root: ["ssd"])
    assert said(tree, "notebooks", capsys)[0] == PLACES["ssd"]


@pytest.mark.parametrize("module", ["ops/boxes", "training/loop"])
def test_a_changed_module_asks_for_its_tests(tmp_path, module):
    folder, name = module.split("/")
    place = tmp_path / "tests" / folder / f"test_{name}.py"
    place.parent.mkdir(parents=True)
    place.touch()
    whole = tmp_path / "tests" / f"test_{folder}.py"
    whole.touch()
    found = review.tests(tmp_path, [f"papernets_lite/{module}.py"], [])
    wanted = [p.relative_to(tmp_path).as_posix() for p in (place, whole)]
    assert found == sorted(wanted)


def test_the_page_shows_pictures_numbers_and_code_of_both(tree):
    changed = notebook("BBBB", 0.75, "x = 2")
    (tree / PLACES["ssd"]).write_text(changed, encoding="utf-8")
    page = review.page(tree, "HEAD", "ssd")
    for word in ("AAAA", "BBBB", "0.5", "0.75", "-x = 1", "+x = 2"):
        assert word in page
    assert "unchanged" in review.page(tree, "HEAD", "resnet")


def test_an_unknown_base_is_refused(tree):
    with pytest.raises(SystemExit, match="expected a commit"):
        review.main(["--root", str(tree), "--base", "nowhere", "review"])
