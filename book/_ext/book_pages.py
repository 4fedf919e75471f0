"""Sphinx extension of the book: figures' alt text, the map of the chapters, the
gallery, icons, addresses."""

import base64
import html
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlparse

import sphinx_thebe
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from myst_nb.core.render import MimeData, NbElementRenderer
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_tools"))
import registry  # noqa: E402

PARTS = registry.load(ROOT)
COVER = 8000  # bytes of a cover; the first page shows one of every chapter
VIEW = "application/vnd.jupyter.widget-view+json"


class Picture(NamedTuple):
    """What an output shows."""

    kind: str  # "png" or "jpeg"
    alt: str  # its description
    width: int | None  # on the screen, in pixels
    data: bytes


class Lineage(Directive):
    """The map: one row for each chapter, in reading order, and an arc from each to
    those that it builds on."""

    ROW, HEADING = 1.75, 2.75  # heights in rem, as in book.css

    def run(self) -> list[nodes.Node]:
        """The map as HTML; the arcs repeat in a picture what every row says in
        words."""
        found = self.state.document.settings.env.found_docs
        shorts = {chapter.slug: chapter.short for chapter in registry.every(PARTS)}
        rows, middle, y = [], {}, 0.0
        for part in PARTS:
            rows.append(f'<p class="pn-part">{part.title}</p><ul>')
            y += self.HEADING
            for chapter in part.chapters:
                middle[chapter.slug] = y + self.ROW / 2
                y += self.ROW
                rows.append(self.row(chapter, shorts, found))
            rows.append("</ul>")
        arcs = []
        for chapter in registry.every(PARTS):
            for parent in chapter.on:
                arcs.append(self.arc(parent, chapter.slug, middle, y))
        box = f'viewBox="0 0 100 {y:g}" preserveAspectRatio="none"'
        style = f'style="height:{y:g}rem"'
        drawn = f'<svg {box} {style} aria-hidden="true">{"".join(arcs)}</svg>'
        page = f'<div class="pn-lineage">{drawn}{"".join(rows)}</div>'
        return [nodes.raw("", page, format="html")]

    def row(
        self, chapter: registry.Chapter, shorts: dict[str, str], found: set[str]
    ) -> str:
        """A chapter's row: its name, its idea, and in words what it builds on."""
        title = f"<b>{html.escape(chapter.short)}</b> <small>{chapter.year}</small>"
        built = chapter.notebook.removesuffix(".ipynb") in found
        address = f"{chapter.part}/{chapter.slug}.html"
        name = f'<a href="{address}">{title}</a>' if built else f"<span>{title}</span>"
        parents = ", ".join(shorts[slug] for slug in chapter.on)
        said = f"builds on {parents}" if parents else "builds on no other"
        said = said if built else f"planned; {said}"
        kind = "pn-built" if built else "pn-planned"
        idea = html.escape(chapter.idea)
        words = f'<i>{idea}</i><span class="pn-sr">; {said}</span>'
        data = f'data-slug="{chapter.slug}" data-on="{" ".join(chapter.on)}"'
        return f'<li class="{kind}" {data}>{name}{words}</li>'

    def arc(self, parent: str, child: str, middle: dict[str, float], y: float) -> str:
        """The arc from a chapter to one that it builds on."""
        top, bottom = sorted((middle[child], middle[parent]))
        reach = 12 + 86 * ((bottom - top) / y) ** 0.5
        turn = f"{100 - reach:.1f}"
        curve = f"M100 {top:g}C{turn} {top:g} {turn} {bottom:g} 100 {bottom:g}"
        return f'<path data-ends="{parent} {child}" d="{curve}"/>'


def pictures(outputs: list[dict[str, Any]]) -> Iterator[Picture]:
    """The pictures among outputs; a widget's is its opening frame."""
    for output in outputs:
        for kind in ("png", "jpeg"):
            if encoded := output.get("data", {}).get(f"image/{kind}"):
                words = output["metadata"].get(f"image/{kind}", {})
                data = base64.b64decode("".join(encoded))
                yield Picture(kind, words.get("alt", ""), words.get("width"), data)


def cover(notebook: dict[str, Any]) -> Picture | None:
    """The picture that stands for a chapter: the first of the cell tagged ``cover``,
    else the first of all, if any."""
    tagged, others = [], []
    for cell in notebook["cells"]:
        is_tagged = "cover" in cell["metadata"].get("tags", [])
        (tagged if is_tagged else others).append(cell)
    for cell in (*tagged, *others):
        for picture in pictures(cell.get("outputs", [])):
            return picture
    return None


def small(data: bytes) -> bytes:
    """A picture as WebP of at most ``COVER`` bytes: coarser, then smaller, until it
    fits."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    for width in (480, 400, 320, 260, 200, 160):
        copy = picture.copy()
        copy.thumbnail((width, width))
        for quality in (80, 65, 50, 35):
            buffer = io.BytesIO()
            copy.save(buffer, "WEBP", quality=quality, method=6)
            if buffer.tell() <= COVER:
                return buffer.getvalue()
    return buffer.getvalue()


class Gallery(Directive):
    """One picture of every built chapter, from its own stored outputs, linked to it."""

    def run(self) -> list[nodes.Node]:
        """The gallery as HTML; its pictures are written beside the pages' other
        ones."""
        env = self.state.document.settings.env
        folder = Path(env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        cards = []
        for chapter in registry.every(PARTS):
            source = ROOT / chapter.notebook
            if chapter.notebook.removesuffix(".ipynb") not in env.found_docs:
                continue
            env.note_dependency(str(source))
            picture = cover(json.loads(source.read_text(encoding="utf-8")))
            if picture is None:  # a chapter that was never executed; the tests say so
                continue
            (folder / f"cover-{chapter.slug}.webp").write_bytes(small(picture.data))
            address = f"../_images/cover-{chapter.slug}.webp"
            words = html.escape(picture.alt, quote=True)
            image = f'<img src="{address}" alt="{words}" loading="lazy">'
            said = f"<b>{chapter.short}</b> {html.escape(chapter.idea)}"
            link = f"{chapter.part}/{chapter.slug}.html"
            card = f'<a class="pn-card" href="{link}">{image}<span>{said}</span></a>'
            cards.append(card)
        page = f'<div class="pn-gallery">{"".join(cards)}</div>'
        return [nodes.raw("", page, format="html")]


def render_with_alt(render: Any) -> Any:
    """myst-nb's renderer of images, with the output's own alt text (it knows the cell's
    only)."""

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        found = render(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for node in found:
            for image in node.findall(nodes.image):
                image["alt"] = alt or image.get("alt", "")
        return found

    return render_image


def configure(app: Any, config: Any) -> None:
    """The theme's settings, and the site's own address, derived from the
    repository's."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    url = settings["repository"]["url"]
    owner, name = urlparse(url).path.strip("/").split("/")
    config.html_baseurl = config.ogp_site_url = f"https://{owner}.github.io/{name}/"
    config.ogp_image = f"{config.html_baseurl}_static/card.png"
    config.ogp_social_cards = {"enable": False}
    config.html_theme_options |= {
        "show_navbar_depth": 2,
        "logo": {"text": config.html_title, "alt_text": ""},
    }


def leave_out_thebe(app: Any) -> None:
    """Jupyter Book adds live code's script to every page, twice, which is an error; the
    book has no live code."""
    for listeners in app.events.listeners.values():
        listeners[:] = [
            listener
            for listener in listeners
            if listener.handler is not sphinx_thebe.init_thebe_core
        ]


SCROLLS = '<div class="pst-scrollable-table-container" tabindex="0">'
PREFERRED = '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
ICON_RULE = """
:is(.fa-solid, .fas, .fab)::before {
  content: ""; display: inline-block; width: 1em; height: 1em;
  vertical-align: -0.125em; background: currentColor;
  -webkit-mask: var(--icon) center / contain no-repeat;
  mask: var(--icon) center / contain no-repeat;
}
.fa-lg { font-size: 1.25em; line-height: 0.05em; vertical-align: -0.075em; }
"""
ICON = re.compile(r'[{,]"?([a-z0-9-]+)"?:\[(\d+),(\d+),\[([^]]*)],"\w+","([^"]+)"]')


def draw_icons(folder: Path, pages: dict[Path, str]) -> str | None:
    """Write icons.css with the icons in use, instead of the theme's script of 1.5 MB;
    its name, where there is one."""
    bundle = folder / "_static" / "scripts" / "fontawesome.js"
    if not bundle.exists():  # older themes (Python 3.10) keep their icons
        return None
    theme = bundle.parent / "pydata-sphinx-theme.js"
    text = "".join(pages.values()) + theme.read_text(encoding="utf-8")
    used = set(re.findall(r"\bfa-([a-z-]+)", text))
    drawn = {"": ICON_RULE}  # the solid icons come last in the script and win
    known = ICON.findall(bundle.read_text(encoding="utf-8"))
    for name, width, height, others, path in known:
        svg = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
            f"<path d='{path}'/></svg>"
        )
        rule = f'--icon:url("data:image/svg+xml,{quote(svg, safe="")}")'
        for alias in {name, *re.findall(r'"([a-z-]+)"', others)} & used:
            drawn[alias] = f".fa-{alias}{{{rule}}}"
    icons = folder / "_static" / "icons.css"
    icons.write_text("\n".join(drawn.values()), encoding="utf-8")
    for file in (bundle, bundle.with_suffix(".js.map")):
        file.unlink(missing_ok=True)
    return r'<script defer src="([^"]*_static/)scripts/fontawesome.js[^"]*"></script>'


def still_of(folder: Path, chapter: registry.Chapter) -> Iterator[str]:
    """What a page without JavaScript shows in place of each widget, in their order: the
    opening frame, which is written beside the other pictures."""
    source = ROOT / chapter.notebook
    notebook = json.loads(source.read_text(encoding="utf-8"))
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    views = [output for output in outputs if VIEW in output.get("data", {})]
    for number, output in enumerate(views):
        picture = next(pictures([output]), None)
        if picture is None:
            yield ""
            continue
        name = f"still-{chapter.slug}-{number}.{picture.kind}"
        (folder / "_images" / name).write_bytes(picture.data)
        alt = html.escape(picture.alt, quote=True)
        size = f' width="{picture.width}"' if picture.width else ""
        image = f'<img src="../../_images/{name}" alt="{alt}"{size}>'
        yield f"<noscript>{image}</noscript>"


def with_stills(folder: Path, path: Path, page: str) -> str:
    """A chapter's page with a still before each widget."""
    chapters = {chapter.slug: chapter for chapter in registry.every(PARTS)}
    mark = f'<script type="{VIEW}">'
    if mark not in page or path.stem not in chapters:
        return page
    stills = still_of(folder, chapters[path.stem])
    return re.sub(re.escape(mark), lambda match: next(stills, "") + match[0], page)


def finish_pages(app: Any, failure: Exception | None) -> None:
    """Light icons; names for what the theme left nameless; a theme that is known before
    anything is drawn."""
    if failure or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    pages = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    script = draw_icons(folder, pages)
    for path, page in pages.items():
        if script:
            page = re.sub(script, r'<link rel="stylesheet" href="\1icons.css">', page)
        page = page.replace(
            '<summary><span class="toctree-toggle"',
            '<summary aria-label="chapters of this part"><span class="toctree-toggle"',
        )
        # Until the theme's script comes, the page is neither light nor dark, and then
        # it jumps.
        page = re.sub(
            r'localStorage.getItem\("theme"\) \|\| "\w*"',
            f'localStorage.getItem("theme") || {PREFERRED}',
            page,
        )
        page = page.replace('<div class="pst-scrollable-table-container">', SCROLLS)
        page = with_stills(folder, path, page)
        page = page.replace('role="doc-biblioentry"', 'role="listitem"')
        path.write_text(page, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect everything."""
    leave_out_thebe(app)
    NbElementRenderer.render_image = render_with_alt(NbElementRenderer.render_image)
    app.add_directive("lineage", Lineage)
    app.add_directive("gallery", Gallery)
    app.connect("config-inited", configure)
    app.connect("build-finished", finish_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
