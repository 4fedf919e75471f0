"""Figures of the page: numbered and captioned, in the page's face and ink, their panels
side by side or below each other as the window allows.

``papernets_lite.vector`` says what a stored figure holds.
"""

import base64
import html
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from PIL import Image

from papernets_lite.panels import PIXEL, SPACE, Box, panels

SVG = "image/svg+xml"
VIEW = "application/vnd.jupyter.widget-view+json"
NARROW = 340  # pixels: what is wider may scroll on a phone


def caption(alt: str) -> str:
    """A description as a sentence."""
    words = alt.strip()
    end = "" if words[-1] in ".!?" else "."
    return html.escape(words[0].upper() + words[1:] + end, quote=False)


def is_wide(page: str) -> bool:
    """Whether a panel scrolls on a phone."""
    return any(int(least) > NARROW for least in re.findall(r"min-width:(\d+)px", page))


def label(number: int) -> str:
    """A figure's name, which is a link to it."""
    return f'<a class="pn-number" href="#figure-{number}">Figure {number}</a>'


def figure(svg: str, alt: str, number: int) -> str:
    """A figure of the page as HTML."""
    name = f"figure-{number}"
    drawn = panels(svg, f"f{number}-")
    stop = f' tabindex="0" role="group" aria-label="Figure {number}"'
    return (
        f'<figure class="pn-figure" id="{name}">'
        f'<div class="pn-scroll"{stop if is_wide(drawn) else ""}>'
        f'<div class="pn-panels" role="img" aria-labelledby="{name}-words">{drawn}'
        f"</div></div><figcaption>{label(number)} "
        f'<span id="{name}-words">{caption(alt)}</span></figcaption></figure>'
    )


def render(known: Any) -> Any:
    """myst-nb's renderer of images, with the output's own description (it knows the
    cell's only); drawings stand in the page itself."""

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        alt = data.output_metadata.get(data.mime_type, {}).get("alt", "")
        if data.mime_type == SVG:
            return [nodes.raw("", data.string, format="html", alt=alt)]
        found = known(self, data)
        for node in found:
            for image in node.findall(nodes.image):
                image["alt"] = alt or image.get("alt", "")
        return found

    return render_image


def is_output(node: Any) -> bool:
    """Whether a node is an output, in all the forms in which it is stored."""
    is_container = isinstance(node, nodes.container)
    return is_container and node.get("nb_element") == "mime_bundle"


def number_figures(app: Any, document: nodes.document) -> None:
    """Number a page's figures and widgets in one row."""
    number = 0
    for output in list(document.findall(is_output)):
        forms = {form["mime_type"]: form for form in output.children}
        if VIEW in forms:
            number += 1
            mark = f'class="pn-widget-number" id="figure-{number}"'
            page = f"<p {mark}>{label(number)}, interactive</p>"
            # The widget has a room of its own: a cell may show a figure beside it.
            room = nodes.container(classes=["pn-widget"])
            output.replace_self([nodes.raw("", page, format="html"), room])
            room += output
        elif SVG in forms:
            number += 1
            for drawing in forms[SVG].findall(nodes.raw):
                page = figure(drawing.astext(), drawing["alt"], number)
                drawing.replace_self(nodes.raw("", page, format="html"))


def embedded(svg: str) -> Iterator[tuple[Box, Image.Image]]:
    """The pictures in a drawing: where each lies, in pixels of the screen."""
    for place in ElementTree.fromstring(svg).iter(f"{SPACE}image"):
        data = base64.b64decode(place.get("href", "").partition(",")[2])
        sides = [float(place.get(key, 0)) for key in ("x", "y", "width", "height")]
        box = tuple(side / PIXEL for side in sides)
        yield box, Image.open(io.BytesIO(data)).convert("RGBA")


def picture(svg: str) -> bytes | None:
    """The pictures of a drawing as PNG, where cards and covers need one; None of a
    drawing without any."""
    parts = list(embedded(svg))
    if not parts:
        return None
    left, top = (min(box[axis] for box, _ in parts) for axis in (0, 1))
    right, end = (max(box[k] + box[k + 2] for box, _ in parts) for k in (0, 1))
    sheet = Image.new("RGB", (round(right - left), round(end - top)), "white")
    for (x, y, width, height), part in parts:
        way = Image.Resampling.NEAREST if part.width < width else None
        part = part.resize((max(1, round(width)), max(1, round(height))), way)
        sheet.paste(part, (round(x - left), round(y - top)), part)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def setup(app: Any) -> None:
    """Connect everything."""
    NbElementRenderer.render_image = render(NbElementRenderer.render_image)
    app.connect("doctree-read", number_figures)
    app.add_js_file("figures.js", loading_method="defer")
