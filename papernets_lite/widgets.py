"""Widgets that need no kernel: pictures drawn beforehand, chosen in the browser by
sliders and buttons. Below the picture a sentence says what is seen in it.

They work in JupyterLab, in Colab and in the static page alike. They use the browser's
own controls, because those of ipywidgets have no names for a screen reader, lack
``Stack`` in Colab's version, and take more bytes than the pictures.
"""

import base64
import hashlib
import io
import itertools
import json
import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from papernets_lite import panels, plots
from papernets_lite.ops.checks import expect

Frame = Any  # (c, h, w) tensor, PIL image or matplotlib figure
SMALL = 160  # pictures up to this width are shown enlarged, so that every pixel counts
STAGE = 420  # screen pixels: how wide the line integral's scene is at most
_JS = Path(__file__).parent / "js"

if "google.colab" in sys.modules:  # Colab draws anywidgets only with its custom manager
    from google.colab import output  # type: ignore[import-not-found]

    output.enable_custom_widget_manager()


def _slim(name: str) -> str:
    """A script or style sheet without comments and indentation: every widget of a
    notebook stores its own copy."""
    lines = (_JS / name).read_text(encoding="utf-8").splitlines()
    bare = [line.strip() for line in lines]
    return "\n".join(line for line in bare if line and not line.startswith("//"))


class Still(anywidget.AnyWidget):
    """A widget whose output carries a picture too, for where its script does not run:
    GitHub, an editor before a run, print, a page without JavaScript."""

    still: tuple[str, bytes] | None = None  # MIME type and bytes
    still_alt = ""
    still_width = 0

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None or self.still is None:
            return bundle
        data, metadata = bundle
        kind, content = self.still
        encoded = base64.b64encode(content).decode()
        look = {"alt": self.still_alt, "width": self.still_width}
        return {**data, kind: encoded}, {**metadata, kind: look}


class Frames(Still):
    """What ``scrubber`` and ``picker`` return.

    ``chosen`` (one index for each axis) may be linked or set. Pictures are URLs in
    ``frames``; one that looks like an earlier one is stored as that one's number.
    Figures are HTML, packed in ``drawn``.
    """

    _esm = _slim("frames.js")
    _css = _slim("frames.css")
    axes: traitlets.List = traitlets.List().tag(sync=True)
    frames: traitlets.List = traitlets.List().tag(sync=True)
    drawn = traitlets.Unicode().tag(sync=True)
    alts: traitlets.List = traitlets.List().tag(sync=True)
    size: traitlets.List = traitlets.List().tag(sync=True)
    pixelated = traitlets.Bool(False).tag(sync=True)
    interval = traitlets.Int(0).tag(sync=True)
    chosen: traitlets.List = traitlets.List().tag(sync=True)

    def __repr__(self) -> str:
        counts = [f"{len(axis['options'])} {axis['name']}" for axis in self.axes]
        return f"interactive figure, {' by '.join(counts)}; at first, {self.still_alt}"


def scrubber(
    frames: Sequence[Frame],
    labels: Sequence[str],
    *,
    name: str = "step",
    alt: str | Sequence[str],
    scale: float = 1.0,
    interval: int = 700,
    start: int = 0,
) -> Frames:
    """A film: a slider and a play button that choose one of ``frames``.

    Args:
        frames: Pictures or figures of equal size; figures are closed.
        labels: What each shows, written beside the slider.
        name: The slider's.
        alt: What is seen: a sentence for each frame, written under it; or one
            description of all, to which each adds its label.
        scale: Screen pixels per picture pixel.
        interval: Milliseconds a frame when playing.
        start: The frame that it opens on, counted from 0.

    Returns:
        The widget; as a cell's last line it shows itself.

    Raises:
        ValueError: For no frames, another number of labels or descriptions, an empty
            one, frames of unequal size, or a start that is none of them.
    """
    alts = [_described(alt, label) for label in labels]
    if not isinstance(alt, str):
        alts = list(alt)
    counts = (len(frames), len(labels), len(alts))
    equal = len(frames) and len(set(counts)) == 1
    expect(equal, "frames, as many labels and as many alts", counts)
    expect(interval >= 1, "interval >= 1", interval)
    expect(0 <= start < len(frames), f"a start below {len(frames)}", start)
    axes = [{"name": name, "options": list(labels)}]
    film = _frames(frames, alts, scale, axes, [start], interval)
    return film.add_class("pn-scrubber")


def picker(
    frames: Mapping[tuple[str, ...], Frame],
    names: Sequence[str],
    *,
    alt: str | Mapping[tuple[str, ...], str],
    scale: float = 1.0,
    start: tuple[str, ...] | None = None,
) -> Frames:
    """A choice on one or more axes, each a row of buttons (up to six options) or a
    slider (more).

    Args:
        frames: One for each combination of options, keyed by the options in the order
            of ``names``; of equal size.
        names: The axes.
        alt: What is seen: a sentence for each key, written under its frame; or one
            description of all, to which each adds its options.
        scale: Screen pixels per picture pixel.
        start: The key of the frame that it opens on; the first when None.

    Returns:
        The widget; as a cell's last line it shows itself.

    Raises:
        ValueError: When a combination or its sentence is missing, a key has another
            length than ``names``, a description is empty, frames differ in size, or
            the start is none of them.
    """
    fit = all(not isinstance(key, str) and len(key) == len(names) for key in frames)
    some = list(frames)[:3]
    expect(frames and fit, f"frames with keys of {len(names)} options", some)
    options = []
    for axis in range(len(names)):
        # in the order in which they come
        options.append(list(dict.fromkeys(key[axis] for key in frames)))
    keys = list(itertools.product(*options))
    missing = [key for key in keys if key not in frames]
    wanted = f"a frame for each combination of options, missing {missing[:3]}"
    expect(not missing, wanted)
    expect(start is None or start in frames, "a start among the frames", start)
    if isinstance(alt, str):
        alts = [_described(alt, ", ".join(key)) for key in keys]
    else:
        silent = [key for key in keys if key not in alt]
        expect(not silent, f"a sentence (alt) for each frame, missing {silent[:3]}")
        alts = [alt[key] for key in keys]
    axes = []
    opening = []
    for axis, name in enumerate(names):
        axes.append({"name": name, "options": options[axis]})
        opening.append(options[axis].index(start[axis]) if start else 0)
    choice = _frames([frames[key] for key in keys], alts, scale, axes, opening)
    return choice.add_class("pn-picker")


def _described(alt: Any, words: str) -> str:
    return f"{alt}: {words}" if str(alt).strip() else ""


def _frames(
    frames: Sequence[Frame],
    alts: list[str],
    scale: float,
    axes: list[dict],
    opening: list[int],
    interval: int = 0,
) -> Frames:
    described = all(alt.strip() for alt in alts)
    expect(described, "a description of every frame (alt), got none")
    at = 0
    for axis, index in zip(axes, opening, strict=True):
        at = at * len(axis["options"]) + index
    made = Frames(axes=axes, alts=alts, interval=interval, chosen=opening)
    made.still_alt = alts[at]
    if all(isinstance(frame, Figure) for frame in frames):
        _hold_drawings(made, frames, at)
    else:
        _hold_pictures(made, frames, at, scale)
    made.still_width = made.size[0]
    return made


def _hold_drawings(made: Frames, figures: Sequence[Figure], at: int) -> None:
    sizes = {tuple(figure.get_size_inches()) for figure in figures}
    expect(len(sizes) == 1, "figures of one size", sorted(sizes))
    # as wide as its inches on the screen, as those of plots.finish
    made.size = [round(plots.INCH * side) for side in figures[0].get_size_inches()]
    named = zip(figures, made.alts, strict=True)
    made.drawn = pack([plots.drawing(figure, alt) for figure, alt in named])
    figures[at].set_layout_engine("none")  # to save one gives it a layout anew
    made.still = plots.compress(plots.render(figures[at], plots.INCH))


def _hold_pictures(
    made: Frames, frames: Sequence[Frame], at: int, scale: float
) -> None:
    pictures = [_picture(frame) for frame in frames]
    sizes = {picture.size for picture in pictures}
    expect(len(sizes) == 1, "frames of one size", sorted(sizes))
    width, height = pictures[0].size
    made.size = [round(width * scale), round(height * scale)]
    is_small = width <= SMALL
    made.pixelated = scale > 1 and (is_small or float(scale).is_integer())
    made.frames = _without_repeats([data_url(picture) for picture in pictures])
    is_sharp = made.pixelated and is_small
    made.still = _still(pictures[at], made.size if is_sharp else pictures[at].size)


def pack(drawings: Sequence[str]) -> str:
    """Drawings that are shown in turn, as a widget stores them.

    Args:
        drawings: From ``plots.drawing``, of one size.

    Returns:
        Base64 of zlib of a JSON list: the HTML of each (``panels.panels``).
    """
    name = hashlib.sha256("".join(drawings).encode()).hexdigest()[:4]
    pages = [panels.panels(one, f"w{name}-") for one in panels.steady(drawings)]
    packed = zlib.compress(json.dumps(pages).encode(), level=9)
    return base64.b64encode(packed).decode()


def _without_repeats(urls: list[str]) -> list[str | int]:
    """Each URL once, and where it comes again the index of the first."""
    first: dict[str, int] = {}
    out: list[str | int] = []
    for index, url in enumerate(urls):
        out.append(first.get(url, url))
        first.setdefault(url, index)
    return out


def _still(picture: Image.Image, size: Sequence[int]) -> tuple[str, bytes]:
    """A picture as every viewer of notebooks knows it: MIME type and bytes."""
    sharp = picture.resize((size[0], size[1]), Image.Resampling.NEAREST)
    return plots.compress(sharp)


def _picture(frame: Frame) -> Image.Image:
    if isinstance(frame, Figure):
        picture = plots.render(frame, plots.INCH)
        plt.close(frame)
        return picture
    if isinstance(frame, Image.Image):
        return frame.convert("RGB")
    return Image.fromarray(plots.to_array(frame))


def data_url(picture: Image.Image) -> str:
    """A picture as a ``data:`` URL of few bytes.

    Args:
        picture: In RGB.

    Returns:
        WebP, without loss for drawings and with some for photographs.
    """
    if picture.width <= SMALL:
        drawing: Image.Image | None = picture
        # WebP halves the resolution of colour; doubled beforehand, a small picture
        # keeps the colour of each pixel.
        doubled = ImageOps.scale(picture, 2, Image.Resampling.NEAREST)
        encodings = [_webp(doubled, quality=60, method=6)]
    else:
        drawing = plots.flat(picture)
        encodings = [_webp(picture, quality=40, method=6)]
    if drawing:
        flat = drawing.convert("RGB")
        encodings.append(_webp(flat, lossless=True, quality=90, method=5))
    smallest = min(encodings, key=len)
    return f"data:image/webp;base64,{base64.b64encode(smallest).decode()}"


def _webp(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", **options)
    return buffer.getvalue()


class LineIntegral(Still):
    """What ``line_integral`` returns; every trait is sent once and read in the page."""

    _esm = _slim("line_integral.js")
    _css = _slim("line_integral.css")
    image = traitlets.Unicode().tag(sync=True)
    size: traitlets.List = traitlets.List().tag(sync=True)
    field = traitlets.Unicode().tag(sync=True)
    shape: traitlets.List = traitlets.List().tag(sync=True)
    stride = traitlets.Float().tag(sync=True)
    limbs: traitlets.List = traitlets.List().tag(sync=True)
    limb = traitlets.Int().tag(sync=True)
    start: traitlets.List = traitlets.List().tag(sync=True)
    points: traitlets.List = traitlets.List().tag(sync=True)
    samples = traitlets.Int(10).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)

    def __repr__(self) -> str:
        return f"interactive figure, {self.alt}"


def line_integral(
    image: Float[Tensor, "c H W"],
    field: Float[Tensor, "n 2 h w"],
    *,
    limbs: Mapping[str, Sequence[int]],
    points: Sequence[Mapping[str, Any]],
    alt: str,
    limb: int = 0,
    start: tuple[int, int] = (0, 0),
    samples: int = 10,
) -> LineIntegral:
    """Pick two joints, or drag the line's ends, and see the field's line integral
    between them.

    Args:
        image: The scene, in [0, 1].
        field: One vector field for each limb, components (x, y) in [-1, 1], on a grid
            that covers the image.
        limbs: By name, the joints at the limb's start and end; one for each field.
        points: Candidates: ``{"joint": 3, "x": 12.5, "y": 40.0, "label": "right elbow
            of person 1"}``, pixels.
        alt: A description of the scene.
        limb: Which is shown first.
        start: Which candidates the line joins first, counted from 0 at either end.
        samples: Points along the line, its ends included.

    Returns:
        The widget; as a cell's last line it shows itself.

    Raises:
        ValueError: When fields and limbs differ in number, the grid does not divide the
            image evenly, a value is not finite, a limb has no candidate at one of its
            ends or none with the start's number, or the description is empty.
    """
    count, _, rows, columns = field.shape
    complete = 0 <= limb < count == len(limbs)
    got = f"got {count} fields, {len(limbs)} limbs, limb {limb}"
    expect(complete, f"a field per limb, {got}")
    height, width = image.shape[-2:]
    stride = width / columns
    got = f"got {rows}x{columns} over {height}x{width}"
    expect(height == rows * stride, f"a grid over the image, {got}")
    told = samples >= 2 and alt.strip()
    expect(told, "samples >= 2 and a description (alt)", samples, alt)
    places = [(point["x"], point["y"]) for point in points]
    finite = all(math.isfinite(x) and math.isfinite(y) for x, y in places)
    finite = finite and bool(field.isfinite().all())
    expect(finite, "a finite field and finite points, got values that are not")
    there = {point["joint"] for point in points}
    lonely = [name for name, ends in limbs.items() if not there.issuperset(ends)]
    wanted = f"candidates for both ends of every limb, got none for {lonely[:3]}"
    expect(not lonely, wanted)
    for end, first in zip(list(limbs.values())[limb], start, strict=True):
        choices = sum(point["joint"] == end for point in points)
        expect(0 <= first < choices, f"a start below {choices}", start)
    levels = (127 * field.detach().cpu().clamp(-1, 1)).round().to(torch.int8)
    scene = _picture(image)
    made = LineIntegral(
        image=data_url(scene),
        size=[width, height],
        field=base64.b64encode(levels.numpy().tobytes()).decode(),
        shape=list(field.shape),
        stride=stride,
        limbs=[{"name": name, "joints": list(ends)} for name, ends in limbs.items()],
        limb=limb,
        start=list(start),
        points=[dict(point) for point in points],
        samples=samples,
        alt=alt,
    )
    # half the screen pixels: enlarged squares are many bytes
    factor = max(1, STAGE // 2 // width)
    made.still = _still(scene, (factor * width, factor * height))
    made.still_alt = alt
    made.still_width = STAGE
    return made.add_class("pn-line-integral")
