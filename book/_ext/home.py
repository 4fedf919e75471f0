"""The first page: its buttons, the moving scene, the cards of the written chapters, the
map of all."""

import html
from pathlib import Path
from typing import Any

import book_pages
import opening
import registry
import verdicts
from docutils import nodes
from docutils.parsers.rst import Directive
from thumbnails import thumbnail

STATIC = "../_static"
FIRST = "resnet"  # the chapter to start with
# What the scene's bands show, from the left: with `book/_tools/scene.py`.
BANDS = (
    ("a picture", ()),
    ("boxes", ("faster_rcnn", "ssd")),
    ("masks", ("unet",)),
    ("joints", ("openpose",)),
    ("another light", ("cyclegan",)),
)
SEEN = (
    "People walk from left to right through five bands of one picture: as they are,"
    " framed by boxes, painted as masks, as skeletons of joints, and by night."
)
# The years' columns; before the first of them and after the last are the few.
YEARS = range(2014, 2020)
STILL = "(prefers-reduced-motion: reduce)"


def address(chapter: registry.Chapter) -> str:
    """A chapter's page, from the first one."""
    return f"{chapter.part}/{chapter.slug}.html"


def raw(page: str) -> list[nodes.Node]:
    """HTML as a directive returns it."""
    return [nodes.raw("", page, format="html")]


class Start(Directive):
    """Two buttons: to the first chapter, and to the same in Colab."""

    def run(self) -> list[nodes.Node]:
        """The buttons as HTML."""
        chapter = next(c for c in registry.every(book_pages.PARTS) if c.slug == FIRST)
        run = opening.addresses(chapter)["Open in Colab"]
        return raw(
            f'<p class="pn-start"><a href="{address(chapter)}">Start with'
            f' {chapter.short}</a><a href="{run}">Run it in Colab</a></p>'
        )


class Scene(Directive):
    """The moving scene, which stands still for those who ask for it, and the chapters
    that its bands lead to."""

    def run(self) -> list[nodes.Node]:
        """The scene as HTML; it needs no script."""
        chapters = {c.slug: c for c in registry.every(book_pages.PARTS)}
        bands = []
        for name, slugs in BANDS:
            links = "".join(
                f'<a href="{address(chapters[slug])}">{chapters[slug].short}</a>'
                for slug in slugs
            )
            bands.append(f"<li><b>{name}</b>{links}</li>")
        size = 'width="720" height="240"'
        still = f"{STATIC}/scene-still.webp"
        return raw(
            '<figure class="pn-scene"><div>'
            f'<picture><source srcset="{still}" media="{STILL}">'
            f'<source srcset="{STATIC}/scene.avif" type="image/avif">'
            f'<img src="{still}" alt="{SEEN}" {size} fetchpriority="high"></picture>'
            f'<img class="pn-still" src="{still}" alt="{SEEN}" {size} loading="lazy">'
            '<label><input type="checkbox"> pause</label></div>'
            f"<ul>{''.join(bands)}</ul>"
            "<figcaption>One film, drawn by this book's own code. It is the renderer's"
            " truth, which the nets of the chapters are trained to find; what they find"
            " is in the chapters.</figcaption></figure>"
        )


class Gallery(Directive):
    """A card for every written chapter, or for those of the part that is named: a
    square of its own pictures, its name, its verdicts."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The cards as HTML; their pictures are written beside those of the pages."""
        env = self.state.document.settings.env
        folder = Path(env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        part = self.arguments[0] if self.arguments else None
        up = "../../" if part else "../"
        cards = []
        for chapter, picture in book_pages.covers(env.found_docs):
            if part not in (None, chapter.part):
                continue
            env.note_dependency(str(book_pages.ROOT / chapter.notebook))
            verdicts.note(chapter.slug, env)
            if picture is None:
                continue
            name = f"cover-{chapter.slug}.webp"
            (folder / name).write_bytes(thumbnail(picture.data))
            page = f"{chapter.slug}.html" if part else address(chapter)
            cards.append(card(chapter, page, f"{up}_images/{name}", picture.alt))
        return raw(f'<div class="pn-gallery">{"".join(cards)}</div>')


def card(chapter: registry.Chapter, page: str, cover: str, alt: str) -> str:
    """A chapter's card.

    Args:
        chapter: a written one.
        page: its address.
        cover: its picture's address.
        alt: what the picture shows.
    """
    words = html.escape(alt, quote=True)
    source = f'src="{cover}" width="192" height="192"'
    found = verdicts.words(chapter.slug)
    return (
        f'<a class="pn-card" href="{page}">'
        f'<img {source} alt="{words}" loading="lazy">'
        f"<span><b>{html.escape(chapter.short)}</b> {html.escape(chapter.idea)}"
        f"{verdicts.strip(found) if found else ''}</span></a>"
    )


class Lineage(Directive):
    """The map: all chapters by part and year. lineage.js adds an arc from each to those
    that it builds on, which every row also says in words."""

    def run(self) -> list[nodes.Node]:
        """The map as HTML."""
        found = self.state.document.settings.env.found_docs
        shorts = {c.slug: c.short for c in registry.every(book_pages.PARTS)}
        years = [f"–{YEARS[0]}", *map(str, YEARS[1:-1]), f"{YEARS[-1]}–"]
        head = "".join(f"<b>{year}</b>" for year in years)
        rows = [f'<div class="pn-years" aria-hidden="true"><i></i>{head}</div>']
        written = 0
        for part in book_pages.PARTS:
            inside = "".join(entry(c, shorts, found) for c in part.chapters)
            written += sum(chapter.document in found for chapter in part.chapters)
            rows.append(f'<p class="pn-part">{part.title}</p><ul>{inside}</ul>')
        legend = (
            f'<p class="pn-legend"><span class="pn-built">{written} written</span>'
            f'<span class="pn-planned">{len(shorts) - written} planned</span></p>'
        )
        # What lineage.js says of the chapter that is pointed at.
        told = '<p class="pn-told">Point at a chapter to see what it builds on.</p>'
        return raw(f'{legend}<div class="pn-lineage">{"".join(rows)}</div>{told}')


def entry(chapter: registry.Chapter, shorts: dict[str, str], found: set[str]) -> str:
    """A chapter on the map: its name, its year, and in words what it builds on."""
    built = chapter.document in found
    name = html.escape(chapter.short)
    name = f'<a href="{address(chapter)}">{name}</a>' if built else name
    parents = ", ".join(shorts[slug] for slug in chapter.on)
    said = f"builds on {parents}" if parents else "builds on no other"
    said = f"{'written' if built else 'planned'}; {said}"
    kind = "pn-built" if built else "pn-planned"
    column = min(max(chapter.year, YEARS[0]), YEARS[-1]) - YEARS[0] + 1
    data = (
        f'data-slug="{chapter.slug}" data-on="{" ".join(chapter.on)}"'
        f' data-idea="{html.escape(chapter.idea, quote=True)}"'
    )
    return (
        f'<li class="{kind}" style="--year:{column}" {data}><span>{name}</span>'
        f' <small>{chapter.year}</small><span class="pn-sr">; {said}</span></li>'
    )


def setup(app: Any) -> None:
    """Connect the directives."""
    app.add_directive("start", Start)
    app.add_directive("scene", Scene)
    app.add_directive("gallery", Gallery)
    app.add_directive("lineage", Lineage)
