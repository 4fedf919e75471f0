"""Sphinx extension of the book: covers, icons, addresses."""

import base64
import html
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlparse

import sphinx_thebe
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# The site is built without the package being installed.
sys.path[:0] = [str(ROOT / "book" / "_tools"), str(ROOT)]
import cards  # noqa: E402
import citations  # noqa: E402
import ending  # noqa: E402
import figures  # noqa: E402
import folds  # noqa: E402
import formulas  # noqa: E402
import glossary  # noqa: E402
import home  # noqa: E402
import opening  # noqa: E402
import registry  # noqa: E402
import runs  # noqa: E402
import search  # noqa: E402
import tables  # noqa: E402
import verdicts  # noqa: E402

from papernets_lite.panels import unpack  # noqa: E402

PARTS = registry.load(ROOT)
FACES = tuple(
    f"source-sans-3-latin-wght-{style}.woff2" for style in ("normal", "italic")
)
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


class Picture(NamedTuple):
    """What an output shows."""

    kind: str  # "png" or "jpeg"
    alt: str  # its description
    width: int | None  # on the screen, in pixels
    data: bytes


def pictures(outputs: list[dict[str, Any]]) -> Iterator[Picture]:
    """The pictures among outputs; a widget's is its opening frame, a figure's what it
    holds of pictures."""
    for output in outputs:
        if drawing := output.get("data", {}).get(figures.SVG):
            words = output["metadata"].get(figures.SVG, {})
            if data := figures.picture("".join(drawing)):
                yield Picture("png", words.get("alt", ""), words.get("width"), data)
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


def covers(found: set[str]) -> Iterator[tuple[registry.Chapter, Picture | None]]:
    """The built chapters, each with its cover: none where it was never executed, which
    the tests say."""
    for chapter in registry.every(PARTS):
        if chapter.document not in found:
            continue
        yield chapter, cover(opening.notebook(chapter))


def configure(app: Any, config: Any) -> None:
    """The theme's settings, and the site's own address, derived from the
    repository's."""
    ours = registry.settings(ROOT)
    owner, name = urlparse(ours["repository"]["url"]).path.strip("/").split("/")
    config.project = ours["title"]
    config.html_baseurl = config.ogp_site_url = f"https://{owner}.github.io/{name}/"
    config.ogp_image = f"{config.html_baseurl}_static/card.png"
    config.ogp_social_cards = {"enable": False}
    config.html_theme_options |= {
        "show_navbar_depth": 1,  # parts are folded but the current one
        "logo": {"text": config.html_title, "alt_text": ""},
        "secondary_sidebar_items": {"**": ["page-toc"], "book/intro": []},
    }


def describe_chapters(app: Any, env: Any) -> None:
    """A card of its own for every chapter, drawn beside the pages' pictures."""
    folder = Path(app.outdir) / "_images"
    folder.mkdir(parents=True, exist_ok=True)
    for chapter, picture in covers(env.found_docs):
        if picture is None:
            continue
        name = f"card-{chapter.slug}.png"
        drawn = cards.card(chapter.title, app.config.project, picture.data)
        drawn.quantize(64).save(folder / name, optimize=True)
        address = f"{app.config.html_baseurl}_images/{name}"
        alt = f"{chapter.title}. {picture.alt}"
        env.metadata[chapter.document] |= {"og:image": address, "og:image:alt": alt}


def preload_fonts(
    app: Any, name: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """The fonts are fetched with the styles, so that no line mixes two faces."""
    fonts = list(FACES)
    if tree and any(tree.findall(formulas.is_formula)):
        fonts.append(formulas.FONT)
    links = [context.get("metatags", "")]
    for font in fonts:
        address = context["pathto"](f"fonts/{font}", 1)
        links.append(f'<link rel="preload" href="{address}" as="font" crossorigin>')
    context["metatags"] = "\n".join(links)


def name_neighbours(
    app: Any, name: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """The pages before and after a page go by their names in the side bar."""
    shorts = {f"book/{part.slug}/index": part.title for part in PARTS}
    shorts |= {chapter.document: chapter.short for chapter in registry.every(PARTS)}
    before, after = app.builder.relations.get(name, (None,) * 3)[1:]
    for key, page in (("prev", before), ("next", after)):
        if page in shorts:
            context[key] = context[key] | {"title": html.escape(shorts[page])}


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
:is(.fa-solid, .fas, .fab) { font-family: inherit; } /* the theme's fonts stay away */
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


def preview(state: dict[str, Any], picture: str, words: str = "") -> str:
    """A widget's opening picture with its sentence, if any: it stands in the page until
    the widget's script takes over, or for good where none runs."""
    rows = 2.5 * len(state["axes"]) if "axes" in state else 2  # of controls above it
    said = (
        f"<figcaption>{html.escape(words, quote=False)}</figcaption>" if words else ""
    )
    style = f"margin-top:{rows}rem"
    return f'<figure class="pn-preview" style="{style}">{picture}{said}</figure>'


def opening_state(state: dict[str, Any]) -> int:
    """The number of the state that a widget of frames opens on."""
    at = 0
    for axis, index in zip(state["axes"], state["chosen"], strict=True):
        at = at * len(axis["options"]) + index
    return at


def still_of(folder: Path, chapter: registry.Chapter) -> Iterator[str]:
    """What stands in place of each widget until its script comes, in their order: the
    opening frame; what is no drawing is written beside the other pictures."""
    notebook = opening.notebook(chapter)
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    views = [output for output in outputs if VIEW in output.get("data", {})]
    states = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    for number, output in enumerate(views):
        model = states.get(output["data"][VIEW]["model_id"], {}).get("state", {})
        at = opening_state(model) if "axes" in model else 0
        words = model["alts"][at] if "axes" in model else ""
        if model.get("drawn"):
            drawing = unpack(model["drawn"])[at]
            yield preview(model, f'<div class="pn-scroll">{drawing}</div>', words)
            continue
        picture = next(pictures([output]), None)
        if picture is None:
            yield ""
            continue
        name = f"still-{chapter.slug}-{number}.{picture.kind}"
        (folder / "_images" / name).write_bytes(picture.data)
        alt = html.escape(picture.alt, quote=True)
        width, height = Image.open(io.BytesIO(picture.data)).size
        shown = picture.width or width
        size = f'width="{shown}" height="{round(height * shown / width)}"'
        image = f'<img src="../../_images/{name}" alt="{alt}" {size}>'
        yield preview(model, image, words)


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
    for path, page in formulas.set_formulas(folder, pages).items():
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
        # Without a script the page is light, not without colours.
        page = page.replace('data-theme="auto"', 'data-theme="light"', 1)
        page = page.replace('<div class="pst-scrollable-table-container">', SCROLLS)
        page = with_stills(folder, path, page)
        page = search.without_sphinx(page)
        page = page.replace('role="doc-biblioentry"', 'role="listitem"')
        path.write_text(page, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect everything."""
    leave_out_thebe(app)
    formulas.setup(app)
    figures.setup(app)
    app.connect("config-inited", configure)
    app.connect("doctree-read", verdicts.in_chapter)
    app.connect("doctree-read", verdicts.in_results)
    app.connect("env-updated", describe_chapters)
    app.connect("html-page-context", preload_fonts)
    app.connect("html-page-context", name_neighbours)
    app.connect("build-finished", finish_pages)
    for part in (
        citations,
        ending,
        opening,
        folds,
        glossary,
        home,
        runs,
        search,
        tables,
    ):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
