"""Widgets that need no kernel: frames drawn beforehand, linked in the browser to sliders and buttons.

They move in JupyterLab, in Colab and in the static page alike, because ``jslink`` connects the traits in the page.
"""

import base64
import html
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from papernets_lite import plots

Frame = Any  # (c, h, w) tensor, PIL image or matplotlib figure

if "google.colab" in sys.modules:  # Colab draws anywidgets only with its custom manager
    from google.colab import output  # type: ignore[import-not-found]

    output.enable_custom_widget_manager()


def data_url(frame: Frame, *, exact: bool | None = None) -> tuple[str, int]:
    """A frame as a ``data:`` URL of few bytes (WebP), and its width in pixels.

    Args:
        frame: what to show.
        exact: keep every pixel; by default small pictures (up to 160 pixels wide), which are shown enlarged.
    """
    picture = plots.render(frame) if isinstance(frame, Figure) else frame
    if isinstance(frame, Figure):
        plots.plt.close(frame)
    if isinstance(picture, Tensor):
        picture = Image.fromarray(plots.to_array(picture))
    picture = picture.convert("RGB")
    exact = picture.width <= 160 if exact is None else exact
    # Lines and flat colours are smallest with few colours and without loss, photographs with loss.
    few = picture.quantize(16, dither=Image.Dither.NONE).convert("RGB")
    encodings = [_webp(picture, lossless=True)] if exact else [_webp(few, lossless=True), _webp(picture, quality=60)]
    return f"data:image/webp;base64,{base64.b64encode(min(encodings, key=len)).decode()}", picture.width


def _webp(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", method=6, **options)
    return buffer.getvalue()


def _picture(frame: Frame, alt: str, caption: str, scale: float) -> ipywidgets.HTML:
    if not alt.strip():
        raise ValueError("expected a description of the frame (alt), got none")
    url, width = data_url(frame)
    style = f"width:{round(width * scale)}px;max-width:100%;height:auto"
    if scale > 1:
        style += ";image-rendering:pixelated"
    caption = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    image = f'<img alt="{html.escape(alt, quote=True)}" src="{url}" style="{style}">'
    return ipywidgets.HTML(f'<figure class="pn-frame">{image}{caption}</figure>')


def scrubber(
    frames: Sequence[Frame],
    labels: Sequence[str],
    *,
    name: str = "step",
    alt: str | Sequence[str],
    scale: float = 1,
    interval: int = 700,
) -> ipywidgets.Widget:
    """A film: a slider and a play button that choose one of ``frames``.

    Args:
        frames: pictures or figures of equal size.
        labels: what each shows, written under it.
        name: beside the slider.
        alt: a description, for all frames (each gets its label) or one each.
        scale: screen pixels per picture pixel.
        interval: milliseconds a frame when playing.

    Raises:
        ValueError: for no frames, or another number of labels or descriptions.
    """
    descriptions = [f"{alt}: {label}" for label in labels] if isinstance(alt, str) else list(alt)
    if not len(frames) or not len(frames) == len(labels) == len(descriptions):
        raise ValueError(
            f"expected frames and as many labels and alts, got {len(frames)}, {len(labels)}, {len(descriptions)}"
        )
    pictures = [_picture(f, a, label, scale) for f, a, label in zip(frames, descriptions, labels, strict=True)]
    stack = ipywidgets.Stack(pictures, selected_index=0)
    last = len(frames) - 1
    play = ipywidgets.Play(min=0, max=last, interval=interval, show_repeat=False)
    slider = ipywidgets.IntSlider(min=0, max=last, description=name, readout=False)
    ipywidgets.jslink((play, "value"), (slider, "value"))
    ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
    return _box([ipywidgets.HBox([play, slider]), stack], "pn-scrubber")


def picker(
    frames: Mapping[tuple[str, ...], Frame], names: Sequence[str], *, alt: str, scale: float = 1
) -> ipywidgets.Widget:
    """A choice on one or more axes, each a row of buttons (up to six options) or a slider (more).

    Args:
        frames: one for each combination of options, keyed by the options in the order of ``names``.
        names: the axes.
        alt: a description; each frame's gets its options.
        scale: screen pixels per picture pixel.

    Raises:
        ValueError: when a combination is missing, or a key has another length than ``names``.
    """
    if not frames or any(len(key) != len(names) for key in frames):
        raise ValueError(f"expected frames with keys of {len(names)} options, got {list(frames)[:3]}")
    options = [list(dict.fromkeys(key[axis] for key in frames)) for axis in range(len(names))]
    missing = [key for key in _product(options) if key not in frames]
    if missing:
        raise ValueError(f"expected a frame for each combination of options, missing {missing[:3]}")
    controls = [_control(name, choices) for name, choices in zip(names, options, strict=True)]

    def nest(prefix: tuple[str, ...]) -> ipywidgets.Widget:
        axis = len(prefix)
        if axis == len(names):
            return _picture(frames[prefix], f"{alt}: {', '.join(prefix)}", "", scale)
        stack = ipywidgets.Stack([nest((*prefix, choice)) for choice in options[axis]], selected_index=0)
        ipywidgets.jslink((controls[axis], "index"), (stack, "selected_index"))
        return stack

    return _box([*controls, nest(())], "pn-picker")


def _product(options: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = [()]
    for choices in options:
        keys = [(*key, choice) for key in keys for choice in choices]
    return keys


def _control(name: str, choices: Sequence[str]) -> ipywidgets.Widget:
    if len(choices) > 6:
        return ipywidgets.SelectionSlider(options=choices, description=name)
    return ipywidgets.ToggleButtons(options=choices, description=name, style={"button_width": "auto"})


def _box(children: list, kind: str) -> ipywidgets.Widget:
    box = ipywidgets.VBox(children)
    box.add_class(kind)
    return box


class LineIntegral(anywidget.AnyWidget):
    """The page's part of ``line_integral``; every trait is sent once and read there."""

    _esm = Path(__file__).parent / "js" / "line_integral.js"
    _css = Path(__file__).parent / "js" / "line_integral.css"
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
        return f"LineIntegral({self.alt!r})"  # without an address: stored outputs stay the same


def line_integral(
    image: Float[Tensor, "3 H W"],
    field: Float[Tensor, "c 2 h w"],
    *,
    limbs: Mapping[str, tuple[int, int]],
    points: Sequence[Mapping[str, Any]],
    alt: str,
    limb: int = 0,
    samples: int = 10,
) -> LineIntegral:
    """Pick two joints, or drag the line's ends, and see the field's line integral between them.

    Args:
        image: the scene.
        field: one vector field per limb, components (x, y) in [-1, 1], on a grid that covers the image.
        limbs: name -> (joint at its start, joint at its end), one per field.
        points: candidates: ``{"joint": 3, "x": 12.5, "y": 40.0, "label": "right wrist of person 1"}``, pixels.
        alt: a description of the scene.
        limb: which is shown first.
        samples: points along the line.

    Raises:
        ValueError: when fields and limbs differ in number, or the grid does not divide the image evenly.
    """
    count, _, rows, columns = field.shape
    if count != len(limbs):
        raise ValueError(f"expected one field per limb, got {count} fields and {len(limbs)} limbs")
    stride = image.shape[-1] / columns
    if image.shape[-2] != rows * stride:
        raise ValueError(f"expected a grid over the image, got {rows}x{columns} over {tuple(image.shape[-2:])}")
    levels = (127 * field.detach().cpu().clamp(-1, 1)).round().to(torch.int8)
    return LineIntegral(
        image=data_url(image, exact=False)[0],
        size=[image.shape[-1], image.shape[-2]],
        field=base64.b64encode(levels.numpy().tobytes()).decode(),
        shape=list(field.shape),
        stride=stride,
        limbs=[{"name": name, "joints": list(joints)} for name, joints in limbs.items()],
        limb=limb,
        points=[dict(point) for point in points],
        samples=samples,
        alt=alt,
    )
