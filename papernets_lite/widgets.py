"""Widgets that need no kernel: pictures drawn beforehand, chosen in the browser by
sliders and buttons.

They work in JupyterLab, in Colab and in the static page alike. They use the browser's
own controls, because those of ipywidgets have no names for a screen reader, lack
``Stack`` in Colab's version, and take more bytes than the pictures.
"""

import base64
import io
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from papernets_lite import plots
from papernets_lite.ops.checks import expect

Frame = Any  # (c, h, w) tensor, PIL image or matplotlib figure
SMALL = 160  # pictures up to this width are shown enlarged, so that every pixel counts
_JS = Path(__file__).parent / "js"

if "google.colab" in sys.modules:  # Colab draws anywidgets only with its custom manager
    from google.colab import output  # type: ignore[import-not-found]

    output.enable_custom_widget_manager()


class Frames(anywidget.AnyWidget):
    """What ``scrubber`` and ``picker`` return; ``chosen`` (one index for each axis) may
    be linked or set."""

    _esm = _JS / "frames.js"
    _css = _JS / "frames.css"
    axes: traitlets.List = traitlets.List().tag(sync=True)
    frames: traitlets.List = traitlets.List().tag(sync=True)
    alts: traitlets.List = traitlets.List().tag(sync=True)
    size: traitlets.List = traitlets.List().tag(sync=True)
    pixelated = traitlets.Bool(False).tag(sync=True)
    interval = traitlets.Int(0).tag(sync=True)
    chosen: traitlets.List = traitlets.List().tag(sync=True)

    def __repr__(self) -> str:
        axes = " by ".join(
            f"{len(axis['options'])} {axis['name']}" for axis in self.axes
        )
        return f"interactive figure, {axes}"


def scrubber(
    frames: Sequence[Frame],
    labels: Sequence[str],
    *,
    name: str = "step",
    alt: str | Sequence[str],
    scale: float = 1.0,
    interval: int = 700,
) -> Frames:
    """A film: a slider and a play button that choose one of ``frames``.

    Args:
        frames: pictures or figures of equal size; figures are closed.
        labels: what each shows, written beside the slider.
        name: the slider's.
        alt: a description, for all frames (each gets its label) or one each.
        scale: screen pixels per picture pixel.
        interval: milliseconds a frame when playing.

    Raises:
        ValueError: for no frames, another number of labels or descriptions, an empty
            one, or frames of unequal size.
    """
    alts = (
        [f"{alt}: {label}" for label in labels]
        if isinstance(alt, str) and alt.strip()
        else list(alt)
    )
    counts = (len(frames), len(labels), len(alts))
    expect(
        len(frames) and len(set(counts)) == 1,
        "frames, as many labels and as many alts",
        counts,
    )
    expect(interval >= 1, "interval >= 1", interval)
    axes = [{"name": name, "options": list(labels)}]
    return _frames(frames, alts, scale, axes, interval).add_class("pn-scrubber")


def picker(
    frames: Mapping[tuple[str, ...], Frame],
    names: Sequence[str],
    *,
    alt: str,
    scale: float = 1.0,
) -> Frames:
    """A choice on one or more axes, each a row of buttons (up to six options) or a
    slider (more).

    Args:
        frames: one for each combination of options, keyed by the options in the order
            of ``names``; of equal size.
        names: the axes.
        alt: a description; each frame's gets its options.
        scale: screen pixels per picture pixel.

    Raises:
        ValueError: when a combination is missing, a key has another length than
            ``names``, the description is empty, or frames differ in size.
    """
    fit = all(not isinstance(key, str) and len(key) == len(names) for key in frames)
    expect(
        frames and fit, f"frames with keys of {len(names)} options", list(frames)[:3]
    )
    options = [
        list(dict.fromkeys(key[axis] for key in frames)) for axis in range(len(names))
    ]
    keys = list(itertools.product(*options))
    missing = [key for key in keys if key not in frames]
    expect(
        not missing, f"a frame for each combination of options, missing {missing[:3]}"
    )
    alts = [f"{alt}: {', '.join(key)}" if alt.strip() else "" for key in keys]
    axes = [
        {"name": name, "options": chosen}
        for name, chosen in zip(names, options, strict=True)
    ]
    return _frames([frames[key] for key in keys], alts, scale, axes).add_class(
        "pn-picker"
    )


def _frames(
    frames: Sequence[Frame],
    alts: list[str],
    scale: float,
    axes: list[dict],
    interval: int = 0,
) -> Frames:
    expect(
        all(alt.strip() for alt in alts), "a description of every frame (alt), got none"
    )
    pictures = [_picture(frame) for frame in frames]
    sizes = {picture.size for picture in pictures}
    expect(len(sizes) == 1, "frames of one size", sorted(sizes))
    # Figures are as wide as their inches on the screen, as those of plots.finish.
    unit = plots.INCH / plots.DPI if isinstance(frames[0], Figure) else 1
    return Frames(
        axes=axes,
        frames=[data_url(picture) for picture in pictures],
        alts=alts,
        size=[round(side * scale * unit) for side in pictures[0].size],
        pixelated=scale > 1 and pictures[0].width <= SMALL,
        interval=interval,
        chosen=[0] * len(axes),
    )


def _picture(frame: Frame) -> Image.Image:
    if isinstance(frame, Figure):
        frame = plots.tensor(frame)
    return (
        frame
        if isinstance(frame, Image.Image)
        else Image.fromarray(plots.to_array(frame))
    ).convert("RGB")


def data_url(picture: Image.Image) -> str:
    """A picture as a ``data:`` URL of few bytes: WebP, without loss for drawings and
    with some for photographs."""
    small = picture.width <= SMALL
    drawing = picture if small else plots.flat(picture)
    # WebP halves the resolution of colour; doubled beforehand, a small picture keeps
    # the colour of each pixel.
    photograph = (
        ImageOps.scale(picture, 2, Image.Resampling.NEAREST) if small else picture
    )
    encodings = [_webp(photograph, quality=60, method=6)]
    if drawing:
        encodings.append(
            _webp(drawing.convert("RGB"), lossless=True, quality=50, method=4)
        )
    return (
        f"data:image/webp;base64,{base64.b64encode(min(encodings, key=len)).decode()}"
    )


def _webp(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", **options)
    return buffer.getvalue()


class LineIntegral(anywidget.AnyWidget):
    """What ``line_integral`` returns; every trait is sent once and read in the page."""

    _esm = _JS / "line_integral.js"
    _css = _JS / "line_integral.css"
    image = traitlets.Unicode().tag(sync=True)
    size: traitlets.List = traitlets.List().tag(sync=True)
    field = traitlets.Unicode().tag(sync=True)
    shape: traitlets.List = traitlets.List().tag(sync=True)
    stride = traitlets.Float().tag(sync=True)
    limbs: traitlets.List = traitlets.List().tag(sync=True)
    limb = traitlets.Int().tag(sync=True)
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
    samples: int = 10,
) -> LineIntegral:
    """Pick two joints, or drag the line's ends, and see the field's line integral
    between them.

    Args:
        image: the scene.
        field: one vector field for each limb, components (x, y) in [-1, 1], on a grid
            that covers the image.
        limbs: name -> (joint at its start, joint at its end), one for each field.
        points: candidates: ``{"joint": 3, "x": 12.5, "y": 40.0, "label": "right elbow
            of person 1"}``, pixels.
        alt: a description of the scene.
        limb: which is shown first.
        samples: points along the line, its ends included.

    Raises:
        ValueError: when fields and limbs differ in number, the grid does not divide the
            image evenly, a value is not finite, a limb has no candidate at one of its
            ends, or the description is empty.
    """
    count, _, rows, columns = field.shape
    expect(
        0 <= limb < count == len(limbs),
        f"a field per limb, got {count} fields, {len(limbs)} limbs, limb {limb}",
    )
    height, width = image.shape[-2:]
    stride = width / columns
    expect(
        height == rows * stride,
        f"a grid over the image, got {rows}x{columns} over {height}x{width}",
    )
    expect(
        samples >= 2 and alt.strip(),
        "samples >= 2 and a description (alt)",
        samples,
        alt,
    )
    finite = field.isfinite().all() and all(
        math.isfinite(point[k]) for point in points for k in ("x", "y")
    )
    expect(finite, "a finite field and finite points, got values that are not")
    there = {point["joint"] for point in points}
    lonely = [name for name, ends in limbs.items() if not there.issuperset(ends)]
    expect(
        not lonely, f"candidates for both ends of every limb, got none for {lonely[:3]}"
    )
    levels = (127 * field.detach().cpu().clamp(-1, 1)).round().to(torch.int8)
    return LineIntegral(
        image=data_url(_picture(image)),
        size=[width, height],
        field=base64.b64encode(levels.numpy().tobytes()).decode(),
        shape=list(field.shape),
        stride=stride,
        limbs=[{"name": name, "joints": list(ends)} for name, ends in limbs.items()],
        limb=limb,
        points=[dict(point) for point in points],
        samples=samples,
        alt=alt,
    ).add_class("pn-line-integral")
