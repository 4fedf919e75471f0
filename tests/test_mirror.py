"""One name everywhere, and one list from which the rest is written."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import registry  # noqa: E402

PARTS = registry.load(ROOT)
PLANNED = {chapter.slug: chapter for chapter in registry.every(PARTS)}
BUILT = registry.built(ROOT)


def read(path: Path) -> str:
    assert path.exists(), f"{path.relative_to(ROOT)} is missing"
    return path.read_text(encoding="utf-8")


def test_the_plan_has_at_least_56_chapters_in_nine_parts():
    assert len(PARTS) == 9
    assert len(PLANNED) >= 56


def test_what_stands_in_the_book_is_planned_in_its_part():
    notebooks = [
        p for p in (ROOT / "book").glob("*/*.ipynb") if p.parent.name[0] != "_"
    ]
    places = {path.stem: path for path in notebooks}
    assert len(places) == len(notebooks), "two chapters carry one name"
    unplanned = set(places) - set(PLANNED)
    assert not unplanned, f"add a line to book/chapters.yml for {sorted(unplanned)}"
    for slug, path in places.items():
        assert path.parent.name == PLANNED[slug].part, (
            f"{path}: another part is planned"
        )


def test_chapters_and_papers_are_the_same():
    parts = [part.slug for part in PARTS]
    papers = [
        p for part in parts for p in (ROOT / "papernets_lite" / part).glob("*.py")
    ]
    alone = {p.stem for p in papers if p.stem != "__init__"} ^ set(BUILT)
    assert not alone, f"only one of a notebook and a paper's file: {sorted(alone)}"


@pytest.mark.parametrize("slug", BUILT)
def test_one_name(slug):
    part = PLANNED[slug].part
    for place in (
        f"papernets_lite/{part}/{slug}.py",
        f"tests/papers/{slug}.py",
        f"tests/{part}/test_{slug}.py",
        f"book/claims/{slug}.yml",
    ):
        assert "TODO" not in read(ROOT / place), f"{place} still holds a TODO"
    references = read(ROOT / "book" / "references.bib")
    entry = re.search(rf"@\w+{{{slug},.*?\n}}", references, re.S)
    assert entry, f"book/references.bib lacks the key {slug}"
    assert "TODO" not in entry[0], f"book/references.bib: {slug} still holds a TODO"


@pytest.mark.parametrize("slug", BUILT)
def test_the_title_is_the_lists(slug):
    cells = json.loads(read(BUILT[slug]))["cells"]
    heading = "".join(cells[0]["source"]).splitlines()[0]
    expected = f"# {PLANNED[slug].title}"
    assert heading == expected, f"{slug}: the notebook and book/chapters.yml differ"


@pytest.mark.parametrize("part", [part for part in PARTS], ids=lambda part: part.slug)
def test_the_parts_page_names_its_chapters_in_reading_order(part):
    built = [chapter.slug for chapter in part.chapters if chapter.slug in BUILT]
    page = read(ROOT / "book" / part.slug / "index.md")
    rows = re.findall(r"^\| \[[^]]+\]\((\w+)\.ipynb\)", page, re.M)
    assert rows == built, f"book/{part.slug}/index.md: its table must list {built}"


def test_the_contents_follow_from_the_list():
    assert read(ROOT / "_toc.yml") == registry.contents(ROOT), "run `make sync`"


def test_the_import_rules_follow_from_the_list():
    rules = read(ROOT / "pyproject.toml")
    assert registry.with_import_rules(ROOT, rules) == rules, "run `make sync`"


@pytest.mark.parametrize("slug", BUILT)
def test_declared_and_imported_lineage_are_equal(slug):
    chapter = PLANNED[slug]
    imported = registry.imported_papers(ROOT, chapter)
    said = f"book/chapters.yml: {slug} must say on: {sorted(imported)}"
    assert set(chapter.on) == imported, said


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{title: T, short: S, year: 2000, idea: i}", r"\['on'\]"),
        ("{title: T, short: S, year: 2000, idea: i, on: [nobody]}", "nobody"),
    ],
)
def test_a_wrong_line_of_the_list_is_named(tmp_path, line, word):
    (tmp_path / "book").mkdir()
    text = f"a:\n  title: A\n  chapters:\n    one: {line}\n"
    (tmp_path / "book" / "chapters.yml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=rf"chapters\.yml: one .*{word}"):
        registry.load(tmp_path)
