"""One small task for all papers of a part: its numbers, and the tables made of them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import compared  # noqa: E402
import digests  # noqa: E402
from results import SEEDS  # noqa: E402

TASK = """
from a import one, two
NETS: dict = {"one": one.tiny, "two": two.tiny}
COLUMN = "score"
SAID = "How it was trained."
def measure(build, seed): return build()
"""
parts = pytest.mark.parametrize("part", compared.tasks(ROOT))


def test_a_net_is_measured_anew_only_for_its_own_code() -> None:
    code = compared.alone(TASK, "two")
    assert "one" not in code
    assert "NETS: dict = {'two': two.tiny}" in code
    assert "def measure" in code


@parts
def test_every_written_chapter_of_a_part_is_compared(part: str) -> None:
    task = compared.loaded(compared.tasks(ROOT)[part])
    written = [chapter.slug for chapter in compared.chapters(ROOT, part)]
    assert list(task.NETS) == written
    assert list(compared.load(ROOT, part)) == written


def test_no_number_was_measured_by_other_code() -> None:
    assert not compared.stale(ROOT), "run `make compare`"


@parts
def test_the_page_holds_the_table_of_what_is_stored(part: str) -> None:
    page = (ROOT / "book" / part / "index.md").read_text(encoding="utf-8")
    assert compared.stamped(ROOT, part) == page, "run `make compare`"


@parts
def test_what_is_stored_is_whole(part: str) -> None:
    task = compared.loaded(compared.tasks(ROOT)[part])
    for slug, found in compared.load(ROOT, part).items():
        assert found["parameters"] < found["paper_parameters"], slug
        assert found["multiply_adds"] > 0
        assert found["milliseconds"] > 0
        if hasattr(task, compared.CLAIMS):
            assert list(task.CLAIMS) == list(task.RUN) == list(task.NETS)
            assert compared.verdict(ROOT, slug, task.CLAIMS[slug])
        else:
            assert found["seeds"] == list(SEEDS), slug
            assert len(found["values"]) == len(SEEDS)
            assert all(0 <= value <= 1 for value in found["values"])


def test_the_claim_of_a_table_must_be_a_measured_one() -> None:
    said, word = compared.verdict(ROOT, "siamese", "classifier")
    assert "against" in said
    assert any(mark in word for mark in compared.results.MARKS.values())
    with pytest.raises(ValueError, match="a claim of siamese that is measured"):
        compared.verdict(ROOT, "siamese", "nothing")


def test_counts_are_written_in_three_digits() -> None:
    numbers = (25_557_032, 67_984, 999, 2_562_304, 3.86e9)
    said = [compared.short(number) for number in numbers]
    assert said == ["25.6 M", "68 k", "999", "2.56 M", "3.86 G"]


def test_which_claim_is_told_makes_no_net_stale() -> None:
    asked = TASK + 'RUN: dict = {"one": one, "two": two}\nCLAIMS = {"one": "a"}\n'
    code = compared.alone(asked, "two")
    assert "RUN: dict = {'two': two}" in code
    assert "CLAIMS" not in code


def test_a_changed_net_is_stale_and_a_changed_neighbour_is_not(tmp_path: Path) -> None:
    package = tmp_path / digests.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("one", "two"):
        (package / f"{name}.py").write_text("def tiny():\n    return 1\n")
    task = tmp_path / "task.py"
    task.write_text(TASK.replace("from a", f"from {digests.PACKAGE}"))

    def of(slug: str) -> str:
        return compared.digest(digests.Package(tmp_path), task, slug)

    before = {slug: of(slug) for slug in ("one", "two")}
    (package / "two.py").write_text("def tiny():\n    return 2\n")
    assert of("one") == before["one"]
    assert of("two") != before["two"]


def test_a_page_without_a_place_for_the_table_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "book" / "part"
    folder.mkdir(parents=True)
    (folder / "index.md").write_text("# A part\n")
    with pytest.raises(ValueError, match=r"book/part/index\.md lacks"):
        compared.stamped(tmp_path, "part")
