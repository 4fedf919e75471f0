"""How a chapter ends: its own references in full, how to cite it, what to read next.

All of it follows from the citations in the text, ``references.bib``, ``CITATION.cff``
and ``chapters.yml``; a notebook only ends with the heading "References".
"""

import html
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import opening
import registry
import yaml
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
PARTS = registry.load(ROOT)


@cache
def book() -> dict[str, Any]:
    """What ``CITATION.cff`` says."""
    return dict(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")))


@cache
def bibliography() -> str:
    """All entries, as written."""
    return (ROOT / "book" / "references.bib").read_text(encoding="utf-8")


def chapter_entry(chapter: registry.Chapter, base: str) -> str:
    """A chapter's own BibTeX entry.

    Args:
        chapter: to be cited.
        base: address of the site.
    """
    authors = " and ".join(f"{{{one['name']}}}" for one in book()["authors"])
    fields = {
        "title": chapter.title,
        "author": authors,
        "booktitle": book()["title"],
        "year": str(book()["date-released"])[:4],
        "url": f"{base}{chapter.document}.html",
    }
    lines = [f"  {name:9} = {{{value}}}" for name, value in fields.items()]
    inside = ",\n".join(lines)
    return f"@incollection{{papernets_{chapter.slug},\n{inside}\n}}"


def paper_entry(key: str) -> str:
    """A paper's BibTeX entry, as ``references.bib`` has it; empty where it has none."""
    found = re.search(rf"^@\w+{{{re.escape(key)},.*?^}}", bibliography(), re.M | re.S)
    return found[0] if found else ""


def section(title: str, children: Iterable[nodes.Node]) -> nodes.section:
    """A section of the page."""
    made = nodes.section(ids=[nodes.make_id(title)], names=[title.lower()])
    made += nodes.title(title, title)
    made += list(children)
    return made


def cite(chapter: registry.Chapter, base: str) -> nodes.section:
    """The entries of a chapter and its paper, each with a button that copies it."""
    inside: list[nodes.Node] = []
    told = (
        ("This chapter:", chapter_entry(chapter, base)),
        ("The paper itself:", paper_entry(chapter.slug)),
    )
    for words, entry in told:
        if entry:
            inside.append(nodes.paragraph(words, words))
            inside.append(nodes.literal_block(entry, entry, language="bibtex"))
    return section("Cite this chapter", inside)


def neighbours(
    chapter: registry.Chapter, part: registry.Part
) -> list[registry.Chapter]:
    """The chapters before and after one in its part."""
    place = part.chapters.index(chapter)
    return [*part.chapters[max(0, place - 1) : place], *part.chapters[place + 1 :][:1]]


def listed(
    words: str, chosen: list[registry.Chapter], here: str, found: set[str]
) -> str:
    """Chapters under a heading of theirs: written ones as links, planned ones named."""
    written, planned = [], []
    for one in chosen:
        name, idea = html.escape(one.short), html.escape(one.idea)
        if one.document in found:
            folder = "" if one.part == here else f"../{one.part}/"
            link = f'<a href="{folder}{one.slug}.html">{name}</a>'
            written.append(f"<li>{link}: {idea}</li>")
        else:
            planned.append(f"<b>{name}</b> ({idea})")
    page = f"<p>{words}</p>"
    if written:
        page += f"<ul>{''.join(written)}</ul>"
    if planned:
        page += f'<p class="pn-later">Planned: {", ".join(planned)}.</p>'
    return page


def following(chapter: registry.Chapter, found: set[str]) -> nodes.section:
    """What to read next: chapters that build on this one, and its neighbours."""
    children = [one for one in registry.every(PARTS) if chapter.slug in one.on]
    part = next(part for part in PARTS if part.slug == chapter.part)
    beside = [one for one in neighbours(chapter, part) if one not in children]
    page = ""
    if children:
        page += listed("These chapters build on it:", children, chapter.part, found)
    if beside:
        name = f'<a href="index.html">{html.escape(part.title)}</a>'
        page += listed(f"Beside it in {name}:", beside, chapter.part, found)
    raw = nodes.raw("", f'<div class="pn-next">{page}</div>', format="html")
    return section("Next", [raw])


def add_sections(app: Any, doctree: nodes.document) -> None:
    """Put "Cite this chapter" and "Next" after a chapter's references."""
    chapter = opening.chapters().get(app.env.docname)
    if chapter is None:
        return
    top = next(iter(doctree.findall(nodes.section)))
    for path in ("CITATION.cff", "book/references.bib", "book/chapters.yml"):
        app.env.note_dependency(str(ROOT / path))
    top += cite(chapter, app.config.html_baseurl)
    top += following(chapter, app.env.found_docs)


def list_references(app: Any, doctree: nodes.document, document: str) -> None:
    """List the works that a chapter cites under its "References", with a way back to
    each place, and let its citations lead there."""
    everywhere = doctree.findall(nodes.section)
    sections = [one for one in everywhere if "references" in one["ids"]]
    if document not in opening.chapters() or not sections:
        return
    domain = app.env.get_domain("cite")
    works = {one.citation_id: one for one in domain.citations}
    places: dict[str, list[str]] = {}
    for citation in doctree.findall(nodes.inline):
        if "bibtex-citation" not in citation["classes"]:
            continue
        for link in citation.findall(nodes.reference):
            work = link.get("refuri", "").rpartition("#")[2]
            if work in works:
                places.setdefault(work, []).extend(citation["ids"])
                link["refuri"] = f"#ref-{works[work].key}"
    items = "".join(reference(works[work], ids) for work, ids in places.items())
    page = f'<ul class="pn-references">{items}</ul>'
    sections[-1].insert(1, nodes.raw("", page, format="html"))


def reference(work: Any, places: list[str]) -> str:
    """A work in full, as HTML, with links to the places that cite it."""
    entry = work.formatted_entry
    text = entry.text.render_as("html")
    back = []
    for number, place in enumerate(dict.fromkeys(places), start=1):
        said = f"Back to citation {number} of {entry.label}"
        back.append(f'<a href="#{place}" aria-label="{html.escape(said)}">↑</a>')
    label = f"<b>{html.escape(entry.label)}.</b>"
    return f'<li id="ref-{work.key}">{label} {text} {" ".join(back)}</li>'


def setup(app: Any) -> None:
    """Connect the ending: its sections before the contents are collected."""
    app.connect("doctree-read", add_sections, priority=400)
    app.connect("doctree-resolved", list_references)
