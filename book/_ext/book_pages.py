"""Sphinx extension of the book: figures' alt text, the map of the chapters, the gallery, addresses."""

import base64
import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nbformat
import sphinx_thebe
import tomli
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from myst_nb.core.render import MimeData, NbElementRenderer

ROOT = Path(__file__).resolve().parents[2]


def lineage(root: Path = ROOT) -> list[tuple[str, str]]:
    """(chapter, what it builds on), from the imports that import-linter allows between papers."""
    settings = tomli.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    allowed = next(c["ignore_imports"] for c in settings["contracts"] if c["type"] == "independence")
    return [tuple(side.strip().split(".")[-1] for side in line.split("->")) for line in allowed]


def pictures(root: Path, document: Path) -> list[tuple[str, str]]:
    """(data URL, alt text) of a notebook's pictures, widgets' first frames included, in order."""
    notebook = nbformat.read(document, 4)
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    frames = re.compile(r'<img alt="([^"]*)" src="(data:[^"]+)"')
    found = []

    def first_frame(model: str) -> tuple[str, str] | None:
        state = states.get(model, {}).get("state", {})
        hit = frames.search(state.get("value", "")) if isinstance(state.get("value"), str) else None
        if hit:
            return hit[2], html.unescape(hit[1])
        children = (first_frame(child.removeprefix("IPY_MODEL_")) for child in state.get("children", []))
        return next((child for child in children if child), None)

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in ("image/png", "image/jpeg"):
                if kind in data:
                    alt = output.metadata.get(kind, {}).get("alt", "")
                    found.append((f"data:{kind};base64,{data[kind].strip()}".replace("\n", ""), alt))
            view = data.get("application/vnd.jupyter.widget-view+json")
            frame = first_frame(view["model_id"]) if view else None
            if frame:
                found.append(frame)
    return found


class Lineage(Directive):
    """The map: every chapter as a chip in its part, lines to what it builds on (drawn by lineage.js)."""

    def run(self) -> list[nodes.Node]:
        """The map as HTML that reads well without scripts."""
        env = self.state.document.settings.env
        parts = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())
        titles = {slug: c["title"] for part in parts.values() for slug, c in part["chapters"].items()}
        builds = lineage()
        rows = []
        for part, content in parts.items():
            chips = []
            for slug, chapter in content["chapters"].items():
                on = [parent for child, parent in builds if child == slug]
                words = f"builds on {', '.join(titles[p] for p in on)}" if on else "builds on no other chapter"
                text = f"{html.escape(chapter['title'])} <small>{chapter['year']}</small>"
                note = f'<span class="pn-sr">, {words}</span>'
                attributes = f'data-slug="{slug}" data-on="{" ".join(on)}" title="{words}"'
                if f"book/{part}/{slug}" in env.found_docs:
                    chips.append(
                        f'<li><a class="pn-chip" {attributes} href="{part}/{slug}.html">{text}{note}</a></li>'
                    )
                else:
                    planned = f'<span class="pn-sr">planned, </span>{text}{note}'
                    chips.append(f'<li><span class="pn-chip pn-planned" {attributes}>{planned}</span></li>')
            rows.append(f'<div class="pn-part"><p>{content["title"]}</p><ul>{"".join(chips)}</ul></div>')
        svg = '<svg class="pn-lines" aria-hidden="true"></svg>'
        return [nodes.raw("", f'<div class="pn-lineage">{svg}{"".join(rows)}</div>', format="html")]


class Gallery(Directive):
    """One picture of every built chapter, from its own stored outputs, linked to it."""

    def run(self) -> list[nodes.Node]:
        """The gallery as HTML; pictures are written beside the page's other images."""
        env = self.state.document.settings.env
        parts = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())
        folder = Path(env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        cards = []
        for part, content in parts.items():
            for slug, chapter in content["chapters"].items():
                path = ROOT / "book" / part / f"{slug}.ipynb"
                shown = pictures(ROOT, path) if f"book/{part}/{slug}" in env.found_docs and path.exists() else []
                if not shown:
                    continue
                number = nbformat.read(path, 4).metadata.get("papernets", {}).get("cover", 0)
                url, alt = shown[min(number, len(shown) - 1)]
                kind, data = re.match(r"data:image/(\w+);base64,(.*)", url).groups()
                (folder / f"cover-{slug}.{kind}").write_bytes(base64.b64decode(data))
                image = (
                    f'<img src="../_images/cover-{slug}.{kind}" alt="{html.escape(alt, quote=True)}" loading="lazy">'
                )
                cards.append(
                    f'<a class="pn-card" href="{part}/{slug}.html">{image}<span>{chapter["title"]}</span></a>'
                )
        return [nodes.raw("", f'<div class="pn-gallery">{"".join(cards)}</div>', format="html")]


def render_with_alt(render: Any) -> Any:
    """myst-nb's renderer of images, with the output's own alt text (it knows the cell's only)."""

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        found = render(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for node in found:
            for image in [node, *node.findall(nodes.image)]:
                if alt and isinstance(image, nodes.image):
                    image["alt"] = alt
        return found

    return render_image


def derive_addresses(app: Any, config: Any) -> None:
    """The site's own address, for Open Graph and the sitemap, from the repository's."""
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    owner, name = urlparse(url).path.strip("/").split("/")
    config.html_baseurl = config.ogp_site_url = f"https://{owner}.github.io/{name}/"
    config.ogp_image = f"{config.html_baseurl}_static/card.png"
    config.ogp_social_cards = {"enable": False}


def leave_out_thebe(app: Any) -> None:
    """Jupyter Book adds live code's script to every page, twice, which is an error; the book has no live code."""
    for listeners in app.events.listeners.values():
        listeners[:] = [listener for listener in listeners if listener.handler is not sphinx_thebe.init_thebe_core]


def setup(app: Any) -> dict[str, bool]:
    """Connect everything."""
    leave_out_thebe(app)
    NbElementRenderer.render_image = render_with_alt(NbElementRenderer.render_image)
    app.add_directive("lineage", Lineage)
    app.add_directive("gallery", Gallery)
    app.connect("config-inited", derive_addresses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
