"""One name everywhere: chapter, paper file, test, table of contents, bibliography,
map."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PLAN = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())
SLUGS = {slug: part for part, content in PLAN.items() for slug in content["chapters"]}
NOTEBOOKS = {
    p.stem: p
    for p in (ROOT / "book").glob("*/*.ipynb")
    if not p.parent.name.startswith("_")
}
PAPERS = {
    p.stem: p
    for part in PLAN
    for p in (ROOT / "papernets_lite" / part).glob("[a-z]*.py")
}


def toc_files() -> list[str]:
    return re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text())


def test_the_plan_has_56_chapters_in_nine_parts():
    assert len(PLAN) == 9
    assert len(SLUGS) == 56


def test_chapters_and_papers_are_the_same():
    assert set(NOTEBOOKS) == set(PAPERS)


@pytest.mark.parametrize("slug", sorted(set(NOTEBOOKS) | set(PAPERS)))
def test_one_name(slug):
    part = SLUGS[slug]
    assert NOTEBOOKS[slug].parent.name == part
    assert PAPERS[slug].parent.name == part
    test = ROOT / "tests" / part / f"test_{slug}.py"
    assert "TODO" not in test.read_text()
    assert f"book/{part}/{slug}" in toc_files()
    entry = re.search(
        rf"@\w+{{{slug},.*?\n}}", (ROOT / "book" / "references.bib").read_text(), re.S
    )
    assert entry, f"book/references.bib lacks the key {slug}"
    assert "TODO" not in entry[0]
    assert f"({slug}.ipynb)" in (ROOT / "book" / part / "index.md").read_text(), (
        "the part's page names its chapters"
    )


def test_toc_lists_nothing_else_and_in_reading_order():
    chapters = [
        Path(file)
        for file in toc_files()
        if Path(file).parent.name in PLAN and Path(file).stem != "index"
    ]
    assert {path.stem for path in chapters} == set(NOTEBOOKS)
    planned = [f"book/{part}/{slug}" for slug, part in SLUGS.items()]
    assert [str(path) for path in chapters] == sorted(
        map(str, chapters), key=planned.index
    )


def test_import_rules_hold_for_every_part_that_is_there():
    rules = (ROOT / "pyproject.toml").read_text()
    for part in {path.parent.name for path in PAPERS.values()}:
        assert f"papernets_lite.{part}.*" in rules, (
            f"pyproject.toml: {part} is not among the independent modules"
        )
        assert re.search(rf"papernets_lite\.{part}[ \"]", rules), (
            f"pyproject.toml: {part} is not among the layers"
        )


def test_lineage_names_planned_chapters():
    allowed = re.findall(
        r'"papernets_lite\.(\w+)\.(\w+) -> papernets_lite\.(\w+)\.(\w+)"',
        (ROOT / "pyproject.toml").read_text(),
    )
    assert len(allowed) > 40
    for part, slug, other_part, other in allowed:
        assert SLUGS[slug] == part
        assert SLUGS[other] == other_part
