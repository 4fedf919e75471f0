"""Sphinx extension of the book: figures' alt text, the map of the chapters, the
gallery, icons, addresses."""

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlparse

import sphinx_thebe
import tomli
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from myst_nb.core.render import MimeData, NbElementRenderer

ROOT = Path(__file__).resolve().parents[2]
PARTS = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())
WIDGETS = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"


def lineage() -> list[tuple[str, str]]:
    """(chapter, one that it builds on), from the imports that import-linter allows
    between papers."""
    settings = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"][
        "importlinter"
    ]
    allowed = next(
        c["ignore_imports"]
        for c in settings["contracts"]
        if c["type"] == "independence"
    )
    pairs = (line.split("->") for line in allowed)
    return [
        (child.strip().split(".")[-1], parent.strip().split(".")[-1])
        for child, parent in pairs
    ]


class Lineage(Directive):
    """The map: one row for each chapter, in reading order, and an arc from each to
    those that it builds on."""

    ROW, HEADING = 1.75, 2.75  # heights in rem, as in book.css

    def run(self) -> list[nodes.Node]:
        """The map as HTML; the arcs repeat in a picture what every row says in
        words."""
        found = self.state.document.settings.env.found_docs
        titles = {
            slug: chapter["title"]
            for part in PARTS.values()
            for slug, chapter in part["chapters"].items()
        }
        builds = lineage()
        rows, middle, y = [], {}, 0.0
        for part, content in PARTS.items():
            rows.append(f'<p class="pn-part">{content["title"]}</p><ul>')
            y += self.HEADING
            for slug, chapter in content["chapters"].items():
                middle[slug] = y + self.ROW / 2
                y += self.ROW
                on = [parent for child, parent in builds if child == slug]
                title = f"<b>{html.escape(chapter['title'])}</b> <small>{chapter['year']}</small>"
                built = f"book/{part}/{slug}" in found
                name = (
                    f'<a href="{part}/{slug}.html">{title}</a>'
                    if built
                    else f"<span>{title}</span>"
                )
                said = "" if built else "planned; "
                said += (
                    f"builds on {', '.join(titles[parent] for parent in on)}"
                    if on
                    else "builds on no other"
                )
                kind = "pn-built" if built else "pn-planned"
                words = f'<i>{html.escape(chapter["idea"])}</i><span class="pn-sr">; {said}</span>'
                rows.append(
                    f'<li class="{kind}" data-slug="{slug}" data-on="{" ".join(on)}">{name}{words}</li>'
                )
            rows.append("</ul>")
        arcs = []
        for child, parent in builds:
            top, bottom = sorted((middle[child], middle[parent]))
            reach = 12 + 86 * ((bottom - top) / y) ** 0.5
            ends = f'data-ends="{parent} {child}"'
            turn = f"{100 - reach:.1f}"
            arcs.append(
                f'<path {ends} d="M100 {top:g}C{turn} {top:g} {turn} {bottom:g} 100 {bottom:g}"/>'
            )
        box = f'viewBox="0 0 100 {y:g}" preserveAspectRatio="none" style="height:{y:g}rem"'
        drawn = f'<svg {box} aria-hidden="true">{"".join(arcs)}</svg>'
        return [
            nodes.raw(
                "",
                f'<div class="pn-lineage">{drawn}{"".join(rows)}</div>',
                format="html",
            )
        ]


def pictures(
    cell: dict[str, Any], models: dict[str, Any]
) -> Iterator[tuple[str, str, bytes]]:
    """(kind, description, bytes) of the pictures that a cell shows, of a widget its
    first one."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        for kind in ("png", "jpeg"):
            if found := data.get(f"image/{kind}"):
                alt = output["metadata"].get(f"image/{kind}", {}).get("alt", "")
                yield kind, alt, base64.b64decode("".join(found))
        if VIEW in data and "frames" in (
            state := models[data[VIEW]["model_id"]]["state"]
        ):
            kind, encoded = re.fullmatch(
                r"data:image/(\w+);base64,(.*)", state["frames"][0]
            ).groups()
            yield kind, state["alts"][0], base64.b64decode(encoded)


def cover(notebook: dict[str, Any]) -> tuple[str, str, bytes] | None:
    """The picture that stands for a chapter: the first of the cell tagged ``cover``,
    else the first of all, if any."""
    models = notebook["metadata"].get("widgets", {}).get(WIDGETS, {}).get("state", {})
    cells = sorted(
        notebook["cells"],
        key=lambda cell: "cover" not in cell["metadata"].get("tags", []),
    )
    return next((picture for cell in cells for picture in pictures(cell, models)), None)


class Gallery(Directive):
    """One picture of every built chapter, from its own stored outputs, linked to it."""

    def run(self) -> list[nodes.Node]:
        """The gallery as HTML; its pictures are written beside the pages' other
        ones."""
        env = self.state.document.settings.env
        folder = Path(env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        cards = []
        for part, content in PARTS.items():
            for slug, chapter in content["chapters"].items():
                source = ROOT / "book" / part / f"{slug}.ipynb"
                if f"book/{part}/{slug}" not in env.found_docs:
                    continue
                env.note_dependency(str(source))
                picture = cover(json.loads(source.read_text()))
                # a chapter that was never executed; the tests say so
                if picture is None:
                    continue
                kind, alt, data = picture
                (folder / f"cover-{slug}.{kind}").write_bytes(data)
                image = f'<img src="../_images/cover-{slug}.{kind}" alt="{html.escape(alt, quote=True)}" loading="lazy">'
                words = f"<b>{chapter['title']}</b> {html.escape(chapter['idea'])}"
                cards.append(
                    f'<a class="pn-card" href="{part}/{slug}.html">{image}<span>{words}</span></a>'
                )
        return [
            nodes.raw(
                "", f'<div class="pn-gallery">{"".join(cards)}</div>', format="html"
            )
        ]


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
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
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
  content: ""; display: inline-block; width: 1em; height: 1em; vertical-align: -0.125em; background: currentColor;
  -webkit-mask: var(--icon) center / contain no-repeat; mask: var(--icon) center / contain no-repeat;
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
    text = (
        "".join(pages.values()) + (bundle.parent / "pydata-sphinx-theme.js").read_text()
    )
    used = set(re.findall(r"\bfa-([a-z-]+)", text))
    drawn = {"": ICON_RULE}  # the solid icons come last in the script and win
    for name, width, height, others, path in ICON.findall(bundle.read_text()):
        for alias in {name, *re.findall(r'"([a-z-]+)"', others)} & used:
            svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'><path d='{path}'/></svg>"
            drawn[alias] = (
                f'.fa-{alias}{{--icon:url("data:image/svg+xml,{quote(svg, safe="")}")}}'
            )
    (folder / "_static" / "icons.css").write_text("\n".join(drawn.values()))
    for file in (bundle, bundle.with_suffix(".js.map")):
        file.unlink(missing_ok=True)
    return r'<script defer src="([^"]*_static/)scripts/fontawesome.js[^"]*"></script>'


def finish_pages(app: Any, failure: Exception | None) -> None:
    """Light icons; names for what the theme left nameless; a theme that is known before
    anything is drawn."""
    if failure or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    pages = {path: path.read_text() for path in folder.rglob("*.html")}
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
        path.write_text(page.replace('role="doc-biblioentry"', 'role="listitem"'))


def setup(app: Any) -> dict[str, bool]:
    """Connect everything."""
    leave_out_thebe(app)
    NbElementRenderer.render_image = render_with_alt(NbElementRenderer.render_image)
    app.add_directive("lineage", Lineage)
    app.add_directive("gallery", Gallery)
    app.connect("config-inited", configure)
    app.connect("build-finished", finish_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
