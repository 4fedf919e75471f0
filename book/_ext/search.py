"""The search's own index: sections of prose without code, and the glossary's names.

Sphinx's index knows pages only, and holds their code as well. Ours is written after the
pages, from what a reader sees in them; book/_static/search.js reads it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import formulas
import glossary
from bs4 import BeautifulSoup, Tag

INDEX = "search_index.js"  # a script, so that a book opened from the disk has it too
VARIABLE = "window.searchIndex = "
HEADINGS = re.compile(r"h[1-6]$")
# Cells with their outputs, listings, displayed formulas, lists of links and works.
LEFT_OUT = (
    ".cell, .highlight, div.math, script, style, noscript, svg, .headerlink, .pn-label,"
    " .pn-lineage, .pn-gallery, .pn-run, .pn-references, .pn-next, .pn-scene,"
    " .pn-start, .pn-legend, .pn-told"
)
# The theme loads Sphinx's search into every page.
SPHINX = ("_static/searchtools.js", "_static/language_data.js", "searchindex.js")


@dataclass(frozen=True)
class Section:
    """A heading and the prose below it, up to the next heading of any level."""

    page: str  # its address, from the site's root
    title: str  # of the page
    heading: str
    anchor: str
    text: str


def tidy(text: str) -> str:
    """One line, with single spaces."""
    return " ".join(text.split())


def prose(section: Tag) -> str:
    """The text of a section without its heading, its subsections and any code."""
    parts = []
    for child in section.children:
        if isinstance(child, Tag):
            heading = HEADINGS.match(child.name)
            if child.name != "section" and not heading:
                parts.append(child.get_text())
    return tidy(" ".join(parts))


def sections(address: str, page: str) -> Iterator[Section]:
    """The sections of a built page that have prose.

    Args:
        address: of the page, from the site's root.
        page: as HTML.
    """
    article = BeautifulSoup(page, "html.parser").article
    if article is None:
        return
    for formula in article.select("span.math"):
        formula.string = formula.get_text().replace(formulas.APPLIED, "")
    for unread in article.select(LEFT_OUT):
        unread.decompose()
    for cell in article.select("td, th"):
        cell.append(" · ")
    for line in article.select("br"):
        line.replace_with(" ")
    title = ""
    for section in article.select("section[id]"):
        heading = section.find(HEADINGS, recursive=False)
        if not isinstance(heading, Tag):
            continue
        name = tidy(heading.get_text())
        title = title or name
        text = prose(section)
        if text:
            yield Section(address, title, name, str(section["id"]), text)


def index(folder: Path, documents: list[str]) -> dict[str, Any]:
    """What the search reads.

    Args:
        folder: of the built site.
        documents: the pages, without their ending; the glossary's is not read, since
            its terms come as such.

    Returns:
        "pages", address and title each; "sections", each with the number of its page,
        heading, anchor and text; "terms", each with its names, its meaning, and the
        addresses of its own place and of where it is explained.
    """
    pages: list[tuple[str, str]] = []
    found: list[tuple[int, str, str, str]] = []
    for document in documents:
        if document == glossary.PAGE:
            continue
        address = f"{document}.html"
        page = (folder / address).read_text(encoding="utf-8")
        for one in sections(address, page):
            if not pages or pages[-1][0] != address:
                pages.append((address, one.title))
            found.append((len(pages) - 1, one.heading, one.anchor, one.text))
    terms = []
    for term in glossary.load():
        names = (term.term, *term.also)
        own = f"{glossary.PAGE}.html#{term.anchor}"
        terms.append((names, term.means, own, term.address, term.title))
    return {"pages": pages, "sections": found, "terms": terms}


def write_index(app: Any, failure: Exception | None) -> None:
    """Write the index beside the pages."""
    if failure or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    content = index(folder, sorted(app.env.found_docs))
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    (folder / INDEX).write_text(f"{VARIABLE}{text};\n", encoding="utf-8")
    for file in SPHINX:
        (folder / file).unlink(missing_ok=True)


def leave_out_sphinx(app: Any) -> None:
    """No index by Sphinx; the search's page comes from book/_templates."""
    app.builder.search = False


def without_sphinx(page: str) -> str:
    """A page, as HTML, that does not load Sphinx's search."""
    names = "|".join(re.escape(file) for file in SPHINX)
    return re.sub(rf'<script src="[^"]*(?:{names})[^"]*"></script>\s*', "", page)


def root_links(app: Any, failure: Exception | None) -> None:
    """Let 404.html refer to the site's root, since it is shown at any address."""
    path = Path(app.outdir) / "404.html"
    if failure or not path.exists():
        return
    root = urlsplit(app.config.html_baseurl).path
    page = path.read_text(encoding="utf-8")
    page = page.replace('data-content_root="./"', f'data-content_root="{root}"')
    # Not what names a place in the page, the root, or another site.
    inner = r'\b(href|src|action)="(?![#/]|[a-z]+:)([^"]*)"'
    page = re.sub(inner, rf'\1="{root}\2"', page)
    path.write_text(page, encoding="utf-8")


def setup(app: Any) -> None:
    """Connect the index and the pages that belong to it."""
    app.connect("builder-inited", leave_out_sphinx)
    app.connect("build-finished", write_index)
    app.connect("build-finished", root_links)
