"""The book's words, from ``book/glossary.yml``: a page of them, and other names for the
search."""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import registry
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "book" / "glossary.yml"
PAGE = "book/glossary"  # the document that shows them


@dataclass(frozen=True)
class Term:
    """A word of the book."""

    term: str  # the name that the book uses
    also: tuple[str, ...]  # its other names
    means: str  # one sentence
    chapter: str  # its place: a document, without its ending
    title: str  # of that document, in short
    section: str  # the anchor there

    @property
    def anchor(self) -> str:
        """Its own place on the glossary's page."""
        return "term-" + re.sub(r"[^a-z0-9]+", "-", self.term.lower()).strip("-")

    @property
    def address(self) -> str:
        """Where it is explained, from the site's root."""
        return f"{self.chapter}.html#{self.section}"


def load() -> list[Term]:
    """All terms, in the file's order.

    Raises:
        KeyError: naming a chapter that the book does not have.
    """
    chapters = {one.slug: one for one in registry.every(registry.load(ROOT))}
    terms = []
    for entry in yaml.safe_load(PATH.read_text(encoding="utf-8")):
        place = f"book/{entry.get('page')}"
        title = str(entry.get("page")).capitalize()
        if "chapter" in entry:
            chapter = chapters[entry["chapter"]]
            place = chapter.document
            title = chapter.short
        terms.append(
            Term(
                term=entry["term"],
                also=tuple(entry["also"]),
                means=entry["means"],
                chapter=place,
                title=title,
                section=entry["section"],
            )
        )
    return terms


def described(term: Term) -> str:
    """A term of the page's list, as HTML."""
    names = html.escape(", ".join(term.also))
    also = f" <small>{names}</small>" if names else ""
    address = term.address.removeprefix("book/")  # the page stands in that folder
    link = f'<a href="{address}">{html.escape(term.title)}</a>'
    name = html.escape(term.term)
    return (
        f'<dt id="{term.anchor}">{name}{also}</dt>'
        f"<dd>{html.escape(term.means)} {link}</dd>"
    )


class Glossary(Directive):
    """The terms in alphabetical order, each an anchor, linked to its chapter."""

    def run(self) -> list[nodes.Node]:
        """The list as HTML, under links to its letters."""
        self.state.document.settings.env.note_dependency(str(PATH))
        letters: dict[str, str] = {}
        rows = []
        for term in load():
            letters.setdefault(term.term[0].upper(), term.anchor)
            rows.append(described(term))
        links = [f'<a href="#{anchor}">{one}</a>' for one, anchor in letters.items()]
        index = f'<nav class="pn-letters" aria-label="Letters">{" ".join(links)}</nav>'
        page = f'{index}<dl class="pn-glossary">{"".join(rows)}</dl>'
        return [nodes.raw("", page, format="html")]


def setup(app: Any) -> None:
    """Connect the directive."""
    app.add_directive("terms", Glossary)
