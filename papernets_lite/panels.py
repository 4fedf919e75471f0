"""A figure's drawing, cut into its panels: HTML that a page lays side by side or below
each other, in its own face and ink.

``papernets_lite.vector`` says what a drawing holds. The site's build imports this
module too: it needs nothing but Python.
"""

import base64
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

SPACE = "{http://www.w3.org/2000/svg}"
PIXEL = 0.75  # the drawing's units in a pixel of the screen
LEAST = 11  # pixels of the smallest words, however small the window
# What the package draws with (papernets_lite.draw and plots), as variables of book.css.
INKS = {
    "#000000": "ink",
    "#24292f": "ink",
    "#57606a": "muted",
    "#d8dee4": "grid",
    "#0072b2": "c0",
    "#d55e00": "c1",
    "#009e73": "c2",
    "#cc79a7": "c3",
    "#56b4e9": "c4",
    "#e69f00": "c5",
    "#5d5d5d": "c6",
    "#7b4fa3": "c7",
}
Box = tuple[float, ...]  # left, top, width, height
SHOWN = re.compile(r'data-panel="(\d+)" data-box="([^"]+)"')


def in_ink(style: str) -> str:
    """A drawing's rules with the page's colours; white words stay white, as they stand
    on colours."""
    for colour, name in INKS.items():
        style = re.sub(colour, f"var(--pn-{name})", style, flags=re.IGNORECASE)
    rules = []
    for rule in style.split("}"):
        if "font-size" not in rule:
            rule = re.sub("(?i)fill:(#ffffff|white)", "fill:var(--pn-paper)", rule)
        rules.append(rule)
    return "}".join(rules)


def parsed(box: str) -> Box:
    """What a panel shows, from its ``data-box``."""
    return tuple(float(number) for number in box.split())


def box_of(group: Any) -> Box:
    """What a panel shows."""
    return parsed(group.get("data-box"))


def steady(svgs: Sequence[str]) -> list[str]:
    """Drawings of one size that are shown in turn: each panel has one box in all of
    them, so that nothing jumps.

    Args:
        svgs: From ``vector.drawing``.

    Returns:
        The same, their panels' boxes joined.
    """
    joined: dict[str, Box] = {}
    for svg in svgs:
        for panel, box in SHOWN.findall(svg):
            x, y, wide, high = parsed(box)
            left, top, width, height = joined.get(panel, (x, y, wide, high))
            right, end = max(x + wide, left + width), max(y + high, top + height)
            x, y = min(x, left), min(y, top)
            joined[panel] = (x, y, right - x, end - y)

    def told(match: re.Match[str]) -> str:
        box = " ".join(f"{number:.1f}" for number in joined[match[1]])
        return f'data-panel="{match[1]}" data-box="{box}"'

    return [SHOWN.sub(told, svg) for svg in svgs]


def in_rows(groups: list[Any]) -> list[list[Any]]:
    """Panels from top to bottom; those that stand beside each other from left to
    right."""
    rows: list[list[Any]] = []
    for group in sorted(groups, key=lambda one: box_of(one)[1]):
        _, top, _, height = box_of(group)
        for row in rows:
            _, other, _, tall = box_of(row[0])
            shared = min(top + height, other + tall) - max(top, other)
            if shared > min(height, tall) / 2:
                row.append(group)
                break
        else:
            rows.append([group])
    return [sorted(row, key=lambda one: box_of(one)[0]) for row in rows]


def smallest(group: Any, style: str) -> float:
    """The smallest words of a panel, in pixels of the screen."""
    sizes = dict(re.findall(r"\.([\w-]+)\{[^}]*font-size:([\d.]+)px", style))
    used = [sizes[key] for one in group.iter() if (key := one.get("class")) in sizes]
    return min(map(float, used), default=LEAST * PIXEL) / PIXEL


def panels(svg: str, mark: str) -> str:
    """A drawing as HTML: one ``svg`` for each panel, in rows.

    Args:
        svg: From ``vector.drawing``.
        mark: With which the names of its classes begin; no other's in the page.

    Returns:
        Rows of panels; each is as wide as its words allow, at least.
    """
    if known := re.search(r"\.(k[0-9a-f]{4})0\{", svg):
        svg = svg.replace(known[1], mark)
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SPACE)
    style = root.findtext("style") or ""
    groups = [one for one in root if one.get("data-box")]
    shared = [ElementTree.tostring(one, "unicode") for one in root.iter("style")]
    shared += [ElementTree.tostring(one, "unicode") for one in root.findall("defs")]
    lines = []
    for row in in_rows(groups):
        tops = [box_of(group)[1] for group in row]
        ends = [box_of(group)[1] + box_of(group)[3] for group in row]
        drawn = []
        for group in row:
            x, _, wide, _ = box_of(group)
            view = (x, min(tops), wide, max(ends) - min(tops))
            width = wide / PIXEL
            least = width * min(1, LEAST / smallest(group, style))
            if group.find(".//image") is not None:
                least = width  # whole multiples of a picture's pixels
            size = f"width:{width:.0f}px;min-width:{least:.0f}px"
            group.attrib.clear()
            content = "".join(shared) + ElementTree.tostring(group, "unicode")
            shared = []
            told = " ".join(f"{value:.1f}" for value in view)
            drawn.append(f'<svg viewBox="{told}" style="{size}">{content}</svg>')
        lines.append(f'<div class="pn-row">{"".join(drawn)}</div>')
    text = "".join(lines)
    return text.replace(f"<style>{style}</style>", f"<style>{in_ink(style)}</style>")


def unpack(packed: str) -> list[str]:
    """What a widget stores of its drawings (``widgets.pack``), as frames.js reads it.

    Args:
        packed: Base64 of zlib of a JSON list.

    Returns:
        The HTML of each drawing.
    """
    return json.loads(zlib.decompress(base64.b64decode(packed)))
