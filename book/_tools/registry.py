"""The book's one list, ``book/chapters.yml``, and all that is written from it.

Which part a chapter stands in, its names, its year, its idea and what it builds on
stand there and nowhere else. ``python book/_tools/chapters.py sync`` writes the table
of contents and the import rules from it; the tests fail where they differ.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PACKAGE = "papernets_lite"
FIELDS = {"title", "short", "year", "idea", "on"}
BEGIN, END = "  # written from book/chapters.yml", "  # end of what is written"


@dataclass(frozen=True)
class Chapter:
    """One line of the list."""

    part: str
    slug: str
    title: str  # of the page
    short: str  # where there is little room: side bar, map, cards
    year: int  # of the paper's first version
    idea: str  # half a sentence
    on: tuple[
        str, ...
    ]  # slugs of the papers it builds on: its paper's file imports them

    @property
    def notebook(self) -> str:
        """Its notebook, relative to the repository."""
        return f"book/{self.part}/{self.slug}.ipynb"

    @property
    def document(self) -> str:
        """The notebook as the site names it, without its ending."""
        return self.notebook.removesuffix(".ipynb")

    @property
    def module(self) -> str:
        """Its paper's file, as a module."""
        return f"{PACKAGE}.{self.part}.{self.slug}"


@dataclass(frozen=True)
class Part:
    """A part of the book."""

    slug: str
    title: str
    chapters: tuple[Chapter, ...]


def load(root: Path) -> tuple[Part, ...]:
    """The parts and their chapters, written and planned, in reading order.

    Raises:
        SystemExit: naming the file, the chapter and what is wrong with its line.
    """
    path = root / "book" / "chapters.yml"
    try:
        # Every scalar as it stands: YAML takes the key `on` for a truth value.
        raw = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (OSError, yaml.YAMLError) as error:
        sys.exit(f"{path} cannot be read: {error}")
    parts = []
    for part, content in raw.items():
        chapters = []
        for slug, line in content["chapters"].items():
            if set(line) != FIELDS:
                wrong = sorted(set(line) ^ FIELDS)
                sys.exit(f"{path}: {slug} needs {sorted(FIELDS)}; look at {wrong}")
            line = line | {"year": int(line["year"]), "on": tuple(line["on"])}
            chapters.append(Chapter(part, slug, **line))
        parts.append(Part(part, content["title"], tuple(chapters)))
    known = [chapter.slug for part in parts for chapter in part.chapters]
    for chapter in every(parts):
        if known.count(chapter.slug) > 1:
            sys.exit(f"{path}: {chapter.slug} stands there twice")
        if unknown := set(chapter.on) - set(known):
            sys.exit(f"{path}: {chapter.slug} builds on {unknown}, which is no chapter")
    return tuple(parts)


def settings(root: Path) -> dict[str, Any]:
    """What stands in ``_config.yml``."""
    text = (root / "_config.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def every(parts: Any) -> Iterator[Chapter]:
    """All chapters in reading order."""
    for part in parts:
        yield from part.chapters


def built(root: Path) -> dict[str, Path]:
    """Slug -> notebook of every chapter that is there, in reading order."""
    places = {c.slug: root / c.notebook for c in every(load(root))}
    return {slug: path for slug, path in places.items() if path.exists()}


def contents(root: Path) -> str:
    """``_toc.yml``: the parts that have a page, and their written chapters."""
    there = built(root)
    entries = [{"caption": "Start", "chapters": [{"file": "book/notation"}]}]
    pages = []
    for part in load(root):
        sections = []
        for chapter in part.chapters:
            if chapter.slug in there:
                file = chapter.document
                sections.append({"file": file, "title": chapter.short})
        if sections:
            page = {"file": f"book/{part.slug}/index", "title": part.title}
            pages.append(page | {"sections": sections})
    if pages:
        entries.append({"caption": "Chapters", "chapters": pages})
    last = [{"file": page} for page in last_pages(root)]
    entries.append({"caption": "Measured", "chapters": last})
    toc = {"format": "jb-book", "root": "book/intro", "parts": entries}
    written = "# Written from book/chapters.yml by `make sync`.\n"
    return written + yaml.safe_dump(toc, sort_keys=False, width=1000)


def last_pages(root: Path) -> list[str]:
    """The pages after the chapters, those that are there."""
    pages = ["book/results", "benchmarks/results", "book/runs"]
    pages += ["book/glossary", "book/bibliography"]
    return [page for page in pages if (root / f"{page}.md").exists()]


def import_rules(root: Path) -> tuple[str, str, str]:
    """What stands in ``pyproject.toml``: the layer of all parts, the modules that are
    independent of each other, and the imports between papers that are allowed."""
    parts = load(root)
    layer = " : ".join(f"{PACKAGE}.{part.slug}" for part in parts)
    modules = [f"{PACKAGE}.{part.slug}.*" for part in parts]
    chapters = {chapter.slug: chapter for chapter in every(parts)}
    arcs = [
        f"{chapter.module} -> {chapters[other].module}"
        for chapter in chapters.values()
        for other in chapter.on
    ]
    return f'  "{layer}",\n', _strings(modules), _strings(arcs)


def _strings(values: list[str]) -> str:
    return "".join(f'  "{value}",\n' for value in values)


def with_import_rules(root: Path, text: str) -> str:
    """``pyproject.toml``'s text with its three lists written anew.

    Raises:
        SystemExit: when the marks between which they stand are not there.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}\n(.*?){re.escape(END)}\n", re.S)
    found = len(pattern.findall(text))
    if found != 3:
        sys.exit(f"pyproject.toml: expected three lists between {BEGIN!r} and {END!r}")
    rules = iter(import_rules(root))
    return pattern.sub(lambda match: f"{BEGIN}\n{next(rules)}{END}\n", text)


def imported_papers(root: Path, chapter: Chapter) -> set[str]:
    """Slugs of the papers that a paper's file imports."""
    path = root / (chapter.module.replace(".", "/") + ".py")
    source = path.read_text(encoding="utf-8")
    found = set()
    for other in every(load(root)):
        name = re.escape(other.slug)
        spellings = (
            rf"from {PACKAGE}\.{other.part} import [^\n]*\b{name}\b",
            rf"from {PACKAGE}\.{other.part} import \([^)]*\b{name}\b",
            rf"from {PACKAGE}\.{other.part}\.{name} import",
            rf"import {PACKAGE}\.{other.part}\.{name}\b",
        )
        if any(re.search(spelling, source) for spelling in spellings):
            found.add(other.slug)
    return found - {chapter.slug}
