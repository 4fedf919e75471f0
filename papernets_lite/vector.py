"""Figures as SVG: the same bytes on every run, few of them, and in panels that a page
may stack.

Text stays text, so that a page sets it in its own face. Each panel is one group with
``data-panel`` (its number) and ``data-box`` (x, y, width and height of what it shows,
its legend and colour bar included, in the drawing's units: points). Pictures are stored
at their own resolution, as WebP.
"""

import base64
import hashlib
import io
import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image, ImageOps

from papernets_lite.panels import PIXEL

POINT = 72  # units of an inch
DENSE = 1.25  # dots of a pixel of the screen, at most
SHRINK = 0.7  # by how much a picture may give way to whole multiples of its pixels
FACE = "'Source Sans 3',sans-serif"
TOGETHER = "panel-0"
SLACK = 3  # a line may reach over the edge of its axes by its own width
LINK = "{http://www.w3.org/1999/xlink}href"
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
UNSAID = {  # what an element is without being told
    "stroke-linejoin": "round",
    "stroke-linecap": "butt",
    "stroke-miterlimit": "100000",
    "font-family": "*",  # said once, for all
    "font-style": "normal",
    "font-weight": "400",
    "text-anchor": "start",
    "fill-opacity": "1",
    "stroke-opacity": "1",
    "opacity": "1",
    "stroke-dashoffset": "0",
}
plt.rc("svg", fonttype="none", hashsalt="papernets-lite")


def keep_together(figure: Figure) -> Figure:
    """Make one panel of a figure whose rows or columns mean something.

    Args:
        figure: Of several axes.

    Returns:
        The figure.
    """
    for artist in _parts(figure):
        artist.set_gid(TOGETHER)
    return figure


def drawing(figure: Figure, title: str) -> str:
    """The figure as SVG.

    Args:
        figure: It stays open, at another resolution.
        title: What a reader who cannot see it should know.

    Returns:
        The file's text, on white, as wide as the figure's inches.
    """
    boxes = _panels(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    ids = {name: one for one in root.iter() if (name := one.get("id"))}
    width, height = figure.get_size_inches() * POINT
    made = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg")
    made.set("width", f"{width / PIXEL:.0f}")
    made.set("height", f"{height / PIXEL:.0f}")
    made.set("viewBox", f"0 0 {width:g} {height:g}")
    made.set("font-family", FACE)
    made.set("stroke-linejoin", "round")
    ElementTree.SubElement(made, "title").text = title
    style = ElementTree.SubElement(made, "style")
    ground = {"class": "pn-ground", "width": "100%", "height": "100%", "fill": "#fff"}
    ElementTree.SubElement(made, "rect", ground)
    groups: dict[str, ElementTree.Element] = {}
    for drawn in next(one for one in root if one.tag == "g"):
        name = drawn.get("id", "")
        if name not in boxes:
            continue  # the ground
        if name not in groups:
            told = {"data-panel": name.removeprefix("panel-"), "data-box": boxes[name]}
            groups[name] = ElementTree.SubElement(made, "g", told)
        groups[name].append(drawn)
    for place in ElementTree.ElementTree(made).iter("image"):
        _recode(place)
    clips = {key: _box(clip[0]) for key, clip in ids.items() if clip.tag == "clipPath"}
    for group in groups.values():
        _simplify(group, clips)
    used = set(re.findall(r"url\(#(\w+)\)", ElementTree.tostring(made, "unicode")))
    kept = ElementTree.SubElement(made, "defs")
    for key in clips:
        if key in used:
            _trim(ids[key][0], {})
            ids[key].text = ids[key].tail = ids[key][0].tail = None
            kept.append(ids[key])
    if not len(kept):
        made.remove(kept)
    style.text = _dress(made)
    return _named(ElementTree.tostring(made, "unicode"))


def webp(picture: Image.Image, *, enlarged: bool) -> bytes:
    """A picture in few bytes.

    Args:
        picture: In RGB or RGBA.
        enlarged: Whether its pixels are seen as squares. WebP halves the resolution of
            colour; doubled beforehand, each pixel keeps its own.

    Returns:
        WebP: with some loss for photographs, without where that is no larger.
    """
    quality = 40
    lossy = picture
    if enlarged:
        quality = 60
        lossy = ImageOps.scale(picture, 2, Image.Resampling.NEAREST)
    encodings = []
    for source, options in (
        (picture, {"lossless": True, "quality": 90}),
        (lossy, {"quality": quality}),
    ):
        buffer = io.BytesIO()
        source.save(buffer, "WEBP", method=6, **options)
        encodings.append(buffer.getvalue())
    return min(encodings, key=len)


# Panels


def _parts(figure: Figure) -> Iterator[Any]:
    """What stands in a figure by itself: axes, its legends and its words."""
    for artist in figure.get_children():
        if artist is not figure.patch and artist.get_visible():
            yield artist


def _panels(figure: Figure) -> dict[str, str]:
    """Give each part its panel's name; what each panel shows, as ``x y w h``."""
    figure.set_dpi(POINT)
    for picture in _pictures(figure):
        smooth = picture.get_interpolation() == "bicubic"
        picture.set_gid("smooth" if smooth else None)
        picture.set_interpolation("none")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        _fit(ax)
        ax.patch.set_visible(ax.get_facecolor()[:3] != (1, 1, 1))
    figure.draw_without_rendering()
    parts = list(_parts(figure))
    for number, part in enumerate(parts, start=1):
        if part.get_gid() is None:
            part.set_gid(f"panel-{number}")
    for part in parts:  # a colour bar belongs to what it explains
        bar = getattr(part, "_colorbar", None)
        if bar is not None:
            part.set_gid(bar.mappable.axes.get_gid())
    shown: dict[str, list[Bbox]] = {}
    for part in parts:
        if isinstance(part, Axes) and not part.axison and not part.has_data():
            part.set_gid("nothing")
            continue
        box = part.get_tightbbox()
        if box is not None and box.width > 0:
            shown.setdefault(part.get_gid(), []).append(box)
    height = figure.get_figheight() * POINT
    boxes = {}
    for name, several in shown.items():
        x0, y0, x1, y1 = Bbox.union(several).padded(2).extents
        numbers = (x0, height - y1, x1 - x0, y1 - y0)
        boxes[name] = " ".join(f"{number:.1f}" for number in numbers)
    return boxes


def _pictures(figure: Figure) -> Iterator[Any]:
    for ax in figure.axes:
        yield from ax.images


def _fit(ax: Axes) -> None:
    """Shrink axes until their picture's pixels are whole pixels of the screen."""
    if not ax.images or ax.get_aspect() == "auto":
        return
    picture: Any = ax.images[0]
    columns = picture.get_array().shape[1]
    left, right, *_ = picture.get_extent()
    x0, x1 = ax.get_xlim()
    shown = ax.get_window_extent()
    scale = shown.width / PIXEL * abs((right - left) / (x1 - x0)) / columns
    wanted = math.floor(scale + 0.02) / scale if scale >= 1 else 1
    if not SHRINK <= wanted < 0.999:
        return
    place = ax.get_position()
    ax.set_position(place.shrunk(wanted, wanted).anchored("C", place))


# Bytes


def _rounded(text: str) -> str:
    """Numbers with one digit after the point: an eighth of a pixel of the screen."""
    text = NUMBER.sub(lambda match: _short(float(match[0])), text)
    text = re.sub(r"\s*([A-Za-z])\s*", r"\1", " ".join(text.split()))
    return text.replace(" -", "-")


def _short(number: float) -> str:
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _relative(path: str) -> str:
    """A path of straight lines, each point told from the one before."""
    out, before, x, y = "", "", 0.0, 0.0
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        if letter not in "MLz":
            return path
        if letter == "z":
            out += "z"
            continue
        to_x, to_y = (float(number) for number in NUMBER.findall(numbers))
        across, down = _short(to_x - x), _short(to_y - y)
        if letter == "M":
            step = f"M{_short(to_x)} {_short(to_y)}"
        elif "0" in (across, down):
            step = f"v{down}" if across == "0" else f"h{across}"
        else:
            step = f"{' ' if before == 'l' else 'l'}{across} {down}"
        out += step
        before, x, y = "l" if step[0] == " " else step[0], to_x, to_y
    return out.replace(" -", "-")


def _box(element: Any) -> tuple[float, float, float, float] | None:
    """Where an element lies, as far as its numbers say: left, top, right, bottom."""
    if element.tag == "rect":
        x, y, w, h = (float(element.get(k, 0)) for k in ("x", "y", "width", "height"))
        return x, y, x + w, y + h
    if element.tag == "use":
        x, y = float(element.get("x", 0)), float(element.get("y", 0))
        return x, y, x, y
    numbers = [float(n) for n in NUMBER.findall(element.get("d", ""))]
    if not numbers or "A" in element.get("d", "") or element.get("transform"):
        return None
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def _is_cut(element: Any, clip: tuple[float, ...] | None) -> bool:
    """Whether a clip path may cut something off."""
    box = _box(element)
    if box is None or clip is None:
        return True
    near = [inner - outer for inner, outer in zip(box, clip, strict=True)]
    return min(near[:2]) < -SLACK or max(near[2:]) > SLACK


def _simplify(group: Any, clips: dict[str, Any]) -> None:
    """Drop what draws nothing, groups that say nothing, and digits."""
    is_axis = "axis_" in group.attrib.pop("id", "")
    kept: list[Any] = []
    for element in list(group):
        if element.tag in ("g", "defs"):
            _simplify(element, clips)
        elif element.tag == "path" and not element.get("d", "").strip():
            continue
        _trim(element, clips)
        kept += element if element.tag == "g" and not element.attrib else [element]
    group[:] = _merged(kept) if is_axis else kept
    group.text = None
    for element in group:
        element.tail = None


def _merged(elements: list[Any]) -> list[Any]:
    """What an axis is drawn with: lines of one look as one path, then marks, then
    words."""
    lines: dict[tuple, Any] = {}
    others = []
    for element in elements:
        if element.tag != "path":
            others.append(element)
            continue
        look = tuple(sorted((k, v) for k, v in element.items() if k != "d"))
        if look in lines:
            lines[look].set("d", lines[look].get("d") + element.get("d"))
        else:
            lines[look] = element
    return [*lines.values(), *others]


def _trim(element: Any, clips: dict[str, Any]) -> None:
    """Say an element in fewer characters."""
    clip = re.findall(r"#(\w+)", element.get("clip-path", ""))
    if clip and not _is_cut(element, clips.get(clip[0])):
        del element.attrib["clip-path"]
    if look := _look(element):
        element.set("style", look)
    if link := element.attrib.pop(LINK, None):
        element.set("href", link)
    if re.match(r"rotate\(-?0 ", element.get("transform", "")):
        del element.attrib["transform"]
    for key in ("d", "x", "y", "width", "height", "transform"):
        if key in element.attrib and element.tag != "image":
            element.set(key, _rounded(element.get(key)))
    if "d" in element.attrib:
        element.set("d", _relative(element.get("d")))
    if element.tag == "text" and len(element):
        element.text = None
        for part in element:
            part.tail = None
            _trim(part, clips)


def _look(element: Any) -> str:
    """An element's style, taken from it, without what goes without saying."""
    rules = {}
    for rule in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in rule.partition(":"))
        if key and UNSAID.get(key) not in (value, "*"):
            rules[key] = value
    return ";".join(f"{key}:{value}" for key, value in rules.items())


def _recode(place: Any) -> None:
    """A picture as WebP, at no more than ``DENSE`` times what the screen shows."""
    link = place.attrib.pop(LINK)
    data = base64.b64decode(re.sub(r"\s", "", link.partition(",")[2]))
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    if picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    numbers = [float(n) for n in NUMBER.findall(place.get("transform", ""))]
    x, y = float(place.get("x", 0)), float(place.get("y", 0))
    w, h = float(place.get("width")), float(place.get("height"))
    if place.get("transform", "").startswith("matrix"):
        across, _, _, down, left, top = numbers
        x, y, w, h = across * x + left, down * y + top, across * w, down * h
        if h < 0:  # of axes whose y runs up
            picture = ImageOps.flip(picture)
            y, h = y + h, -h
        del place.attrib["transform"]
    is_smooth = place.attrib.pop("id", "") == "smooth"
    most = math.ceil(DENSE * w / PIXEL)
    if picture.width > most:
        size = (most, max(1, round(most * picture.height / picture.width)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    enlarged = picture.width * PIXEL < 1.02 * w and not is_smooth
    if enlarged:
        place.set("style", "image-rendering:pixelated")
    else:
        place.attrib.pop("style", None)
    for key, value in (("x", x), ("y", y), ("width", w), ("height", h)):
        place.set(key, f"{value:.2f}")
    place.set("preserveAspectRatio", "none")
    encoded = base64.b64encode(webp(picture, enlarged=enlarged)).decode()
    place.set("href", f"data:image/webp;base64,{encoded}")


def _dress(root: Any) -> str:
    """Move what several elements look like into classes; the rules."""
    classes: dict[str, str] = {}
    for element in root.iter():
        if rules := element.attrib.pop("style", None):
            name = classes.setdefault(rules, f"@{len(classes)}")
            element.set("class", name)
    return "".join(f".{name}{{{rules}}}" for rules, name in classes.items())


def _named(text: str) -> str:
    """Names of classes and elements that no other figure has."""
    mark = "k" + hashlib.sha256(text.encode()).hexdigest()[:4]
    for number, name in enumerate(dict.fromkeys(re.findall(r' id="(\w+)"', text))):
        text = re.sub(rf'(["#]){name}(?=[")])', rf"\g<1>@i{number}", text)
    return re.sub(r'(?<=["#.])@', mark, text)
