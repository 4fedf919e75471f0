"""Figures. Every function takes ``ax=None`` and returns it; ``finish`` shows a figure
with its alt text.

Importing this module sets matplotlib's defaults to the book's style, so that titles and
legends which a chapter adds to a figure take it too.
"""

import io
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from cycler import cycler
from jaxtyping import Float, Real
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from papernets_lite.display import display, in_jupyter
from papernets_lite.draw import COLOURS, hues, in_range
from papernets_lite.ops.checks import expect

INK, MUTED, GRID = "#24292f", "#57606a", "#d8dee4"
DPI = 110
POINTS = 80  # of a curve: no more can be told apart
INCH = 96  # screen pixels of an inch: how wide a figure is shown
SHARP = 5 * INCH // 4  # dots of an inch of a drawing: dense screens show more
# a widget draws dozens before it shows one
plt.rc("figure", dpi=DPI, facecolor="white", max_open_warning=0)
plt.rc("figure.constrained_layout", use=True)
plt.rc("font", size=11, family="DejaVu Sans")
plt.rc("axes", titlesize=11.5, titleweight="bold", titlelocation="left", titlecolor=INK)
plt.rc(
    "axes",
    labelcolor=INK,
    edgecolor=MUTED,
    grid=True,
    axisbelow=True,
    prop_cycle=cycler(color=COLOURS),
)
plt.rc("axes.spines", top=False, right=False)
plt.rc("grid", color=GRID, linewidth=0.7)
plt.rc("xtick", color=MUTED, labelsize=10)
plt.rc("ytick", color=MUTED, labelsize=10)
plt.rc("text", color=INK)
plt.rc("legend", frameon=False, fontsize=10, handlelength=1.4)
plt.rc("lines", linewidth=1.8)
# squares when enlarged, smooth when reduced
plt.rc("image", interpolation="antialiased")


def axes(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 2.8
) -> tuple[Figure, Any]:
    """A figure and its axes (one, or an array); sizes in inches."""
    return plt.subplots(rows, columns, figsize=(width, height))


def render(figure: Figure, dpi: int = DPI) -> Image.Image:
    """The figure as a picture.

    Args:
        figure: From ``axes``; it stays open.
        dpi: Dots of an inch.

    Returns:
        The picture in RGB.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Image.open(buffer).convert("RGB")


def tensor(figure: Figure) -> Float[Tensor, "3 h w"]:
    """The figure as an image tensor; closes it."""
    picture = render(figure)
    plt.close(figure)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


def flat(picture: Image.Image) -> Image.Image | None:
    """A drawing reduced to few colours.

    Args:
        picture: In RGB.

    Returns:
        The picture with a palette; None where that would show, as in photographs.
    """
    before = np.asarray(picture, np.float32)
    for colours in (40, 96):
        reduced = picture.quantize(colours, dither=Image.Dither.NONE)
        after = np.asarray(reduced.convert("RGB"), np.float32)
        if np.square(after - before).mean() < 3**2:
            return reduced
    return None


def compress(picture: Image.Image) -> tuple[str, bytes]:
    """A picture in few bytes, in a format that every viewer of notebooks knows.

    Args:
        picture: In RGB.

    Returns:
        The MIME type and the bytes: a drawing as PNG of few colours, a photograph as
        JPEG.
    """
    photograph = io.BytesIO()
    picture.save(photograph, "JPEG", quality=52, optimize=True, progressive=True)
    size = photograph.tell()
    if drawing := flat(picture):
        sharp = io.BytesIO()
        drawing.save(sharp, "PNG", optimize=True)
        # Some photographs have few colours too: they are many bytes as a drawing.
        if sharp.tell() <= 1.6 * size:
            return "image/png", sharp.getvalue()
    return "image/jpeg", photograph.getvalue()


def encode(figure: Figure) -> tuple[str, bytes]:
    """The figure as MIME type and bytes: drawings as a sharp PNG of few colours,
    photographs as JPEG."""
    kind, data = compress(render(figure, SHARP))
    if kind == "image/png":
        return kind, data
    return compress(render(figure, INCH))


def finish(figure: Figure, alt: str) -> None:
    """Show a figure, small and with its description, and close it.

    Args:
        figure: from ``axes``.
        alt: what a reader who cannot see it should know.

    Raises:
        ValueError: without a description.
    """
    expect(alt.strip(), "a description of the figure (alt)", alt)
    kind, data = encode(figure)
    plt.close(figure)
    width = round(INCH * figure.get_figwidth())
    display(
        {kind: data, "text/plain": alt},
        metadata={kind: {"alt": alt, "width": width}},
        raw=True,
    )


class Live:
    """Loss curves that are redrawn at most once a second while ``training.train`` runs,
    and vanish at the end: the chapter draws the curves itself.

    Args:
        title: Written above them.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.drawn = 0.0
        self.handle: Any = None
        if in_jupyter():
            from IPython.display import DisplayHandle

            self.handle = DisplayHandle()
            self.handle.display({"text/plain": ""}, raw=True)

    def update(self, history: Any) -> None:
        """Redraw, if the last drawing is old enough.

        Args:
            history: A ``training.History``.
        """
        if self.handle is None or time.perf_counter() - self.drawn < 1:
            return
        ax = Figure(figsize=(6, 2.5), layout="constrained").subplots()
        for key, values in history.columns.items():
            ax.plot(values, label=key)
        ax.set(xlabel="step", title=self.title)
        ax.legend()
        self.handle.update(ax.figure)
        self.drawn = time.perf_counter()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.handle is not None:
            self.handle.update({"text/plain": ""}, raw=True)


def curves(
    histories: Mapping[str, Any],
    key: str = "loss",
    *,
    smooth: int = 15,
    log: bool = False,
    ax: Axes | None = None,
    ylabel: str | None = None,
) -> Axes:
    """One curve per run: the running mean over ``smooth`` steps, and a band from its
    10th to its 90th percentile.

    Args:
        histories: name -> ``training.History`` (its column ``key``) or a 1-d tensor.
        key: the column.
        smooth: window of the mean, in steps.
        log: logarithmic y axis.
        ax: where to draw.
        ylabel: defaults to ``key``.

    Raises:
        ValueError: for no values, values that are not finite, or values up to zero on a
            logarithmic axis.
    """
    ax = ax if ax is not None else axes()[1]
    for number, (name, history) in enumerate(histories.items()):
        raw = history if isinstance(history, Tensor) else history[key]
        values = _finite(f"{name}/{key}", raw.detach().cpu().double().numpy())
        got = f"{len(values)} of {name} and smooth {smooth}"
        expect(len(values) and smooth >= 1, "values and smooth >= 1", got)
        least = float(values.min())
        positive = not log or least > 0
        expect(positive, "positive values on a logarithmic axis", least, name)
        _curve(ax, name, values, smooth, COLOURS[number % len(COLOURS)])
    ax.set(xlabel="step", ylabel=ylabel or key)
    if log:
        ax.set_yscale("log")
    if len(histories) > 1:
        ax.legend()
    return ax


def _curve(ax: Axes, name: str, values: np.ndarray, smooth: int, colour: str) -> None:
    """A running mean, and a band around it."""
    window = min(smooth, len(values))
    seen = np.lib.stride_tricks.sliding_window_view(values, window)
    steps = np.arange(len(seen)) + (window - 1) / 2
    some = np.linspace(0, len(seen) - 1, min(len(seen), POINTS)).round().astype(int)
    low, high = np.quantile(seen[some], (0.1, 0.9), axis=1)
    ax.fill_between(steps[some], low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(steps[some], seen[some].mean(1), color=colour, label=name)


def bars(
    values: Mapping[str, float], *, ax: Axes | None = None, ylabel: str = ""
) -> Axes:
    """Bars with their values written on them.

    Args:
        values: name -> height.
        ax: where to draw.
        ylabel: what the height is.

    Raises:
        ValueError: for no bars, or values that are not finite.
    """
    expect(values, "bars", values)
    ax = ax if ax is not None else axes()[1]
    heights = _finite("bars", np.array(list(values.values()), float))
    where = np.arange(len(values))
    ax.bar_label(
        ax.bar(where, heights, 0.62, color=COLOURS), fmt="%.2f", padding=2, fontsize=10
    )
    ax.set_xticks(where, [textwrap.fill(name, 14) for name in values])
    ax.set_ylabel(ylabel)
    ax.grid(axis="x", visible=False)
    ax.margins(y=0.15)
    return ax


def images(
    pictures: Sequence[Tensor] | Tensor,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    size: float = 1.1,
) -> Figure:
    """Pictures (c, h, w) in rows of ``columns``, each ``size`` inches wide.

    Raises:
        ValueError: for no pictures, another number of titles, or ``columns < 1``.
    """
    expect(
        len(pictures) and columns >= 1,
        "pictures and columns >= 1",
        len(pictures),
        columns,
    )
    expect(
        titles is None or len(titles) == len(pictures),
        f"pictures and as many titles, {len(pictures)}",
        titles,
    )
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    ratio = pictures[0].shape[-2] / pictures[0].shape[-1]
    extra = 0.24 if titles else 0.04
    figure, _ = axes(
        rows, columns, width=columns * size, height=rows * (size * ratio + extra)
    )
    for ax in figure.axes:
        ax.axis("off")
    for ax, picture, title in zip(
        figure.axes, pictures, titles or [""] * len(pictures), strict=False
    ):
        ax.imshow(to_array(picture))
        ax.set_title(title, fontsize=9, loc="center", weight="normal", pad=2)
    return figure


def boxes(
    picture: Float[Tensor, "c h w"],
    boxes: Float[Tensor, "n 4"],
    *,
    texts: Sequence[str] = (),
    colours: Sequence[str] = (),
    weights: Float[Tensor, " n"] | Sequence[float] = (),
    ax: Axes | None = None,
) -> Axes:
    """A picture with boxes on it, each in its own colour and with a word at its upper
    left corner.

    Args:
        picture: the picture.
        boxes: xyxy, in its pixels.
        texts: one for each box, or none.
        colours: one for each box, or none: then each gets the next of the book's.
        weights: how strongly each box is drawn, in [0, 1], or none: then all are
            opaque.
        ax: where to draw.

    Raises:
        ValueError: for another number of texts, colours or weights, weights outside [0,
            1], or a coordinate that is not finite.
    """
    counts = [len(marks) for marks in (texts, colours, weights)]
    expect(
        {*counts} <= {0, len(boxes)},
        f"{len(boxes)} texts, colours and weights or none",
        *counts,
    )
    corners = _finite("boxes", boxes.detach().float().cpu().numpy())
    ax = ax if ax is not None else axes(width=2.6, height=2.6)[1]
    height, width = picture.shape[-2:]
    ax.imshow(to_array(picture), extent=(0, width, height, 0))
    for number, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        colour = colours[number] if colours else COLOURS[number % len(COLOURS)]
        strength = float(weights[number]) if len(weights) else None
        ax.plot(
            [x0, x1, x1, x0, x0],
            [y0, y0, y1, y1, y0],
            color=colour,
            lw=2,
            alpha=strength,
        )
        if texts:
            face = {"fc": colour, "ec": "none", "pad": 1}
            where = max(x0, 0) + 0.01 * width, max(y0, 0) + 0.01 * height
            ax.text(
                *where, texts[number], color="white", fontsize=8, va="top", bbox=face
            )
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return ax


def detections(
    picture: Float[Tensor, "c h w"],
    found: Mapping[str, Tensor],
    *,
    names: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """A picture with a detector's surer boxes, each with class and score, coloured by
    its tube where it has one.

    Args:
        picture: the picture.
        found: ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,) and, if linked,
            ``tubes`` (n,). Scores up to 0.3 are left out.
        names: of the classes.
        ax: where to draw.
    """
    sure = found["scores"] > 0.3
    labels, scores = found["labels"][sure].tolist(), found["scores"][sure].tolist()
    words = [f"{names[k]} {score:.1f}" for k, score in zip(labels, scores, strict=True)]
    tubes = found["tubes"][sure].tolist() if "tubes" in found else [6] * len(words)
    paint = [COLOURS[k % len(COLOURS)] for k in tubes]
    return boxes(picture, found["boxes"][sure], texts=words, colours=paint, ax=ax)


def attention(
    picture: Float[Tensor, "c h w"],
    frames: Float[Tensor, "n 4"],
    weights: Float[Tensor, " n"] | Sequence[float],
    shares: Mapping[str, float],
    *,
    xlabel: str,
    title: str = "",
) -> Figure:
    """A picture whose boxes are drawn as strongly as they are weighed, beside bars from
    0 to 1.

    Args:
        picture: the picture.
        frames: boxes, xyxy, in its pixels.
        weights: of each box, in [0, 1].
        shares: what the bars show, by name, from top to bottom.
        xlabel: what the bars' length is.
        title: above both.

    Returns:
        The figure.

    Raises:
        ValueError: for no bars, bars that are not finite, or what ``boxes`` refuses.
    """
    expect(shares, "bars", shares)
    lengths = _finite("bars", np.array(list(shares.values()), float))
    figure, (left, right) = axes(1, 2, width=4.5, height=1.9)
    gold = ["gold"] * len(frames)
    boxes(picture, frames, weights=weights, colours=gold, ax=left)
    right.barh(list(shares), lengths)
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel=xlabel)
    figure.suptitle(title, size=10, x=0.02, ha="left")
    return figure


def to_array(picture: Tensor) -> np.ndarray:
    """A picture as matplotlib and Pillow take it.

    Args:
        picture: (c, h, w) in [0, 1], of one or three channels; what lies a little
            outside is clipped.

    Returns:
        (h, w, 3), uint8.

    Raises:
        ValueError: For another shape, values that are not finite, and pictures in
            [0, 255].
    """
    is_image = picture.ndim == 3 and len(picture) in (1, 3)
    expect(is_image, "an image of 1 or 3 channels, (c, h, w)", picture.shape)
    rgb = in_range(picture).detach().float().cpu()
    bad = int((~rgb.isfinite()).sum())
    expect(not bad, f"a finite image, got {bad} values that are not")
    pixels = 255 * rgb.clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0)
    return pixels.round().byte().numpy()


def quiver(
    field: Float[Tensor, "2 h w"],
    image: Float[Tensor, "c H W"] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """A vector field as arrows, coloured by direction, over a greyed picture of the
    same view.

    Args:
        field: (x, y) components, y down; vectors up to 0.1 long are left out.
        image: the picture behind; its resolution sets the axes' units.
        ax: where to draw.

    Raises:
        ValueError: for values that are not finite.
    """
    x, y = _finite("field", field.detach().float().cpu().numpy())
    ax = ax if ax is not None else axes(width=3.5, height=3.5)[1]
    height, width = (image if image is not None else field).shape[-2:]
    if image is not None:
        # dark, so that every hue stands out
        grey = 0.08 + 0.5 * to_array(image).mean(-1) / 255
        ax.imshow(
            grey,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(0, width, height, 0),
            interpolation="bicubic",
        )
    keep = np.hypot(x, y) > 0.1  # shorter ones would be dots
    rows, columns = keep.nonzero()
    across, down = width / field.shape[2], height / field.shape[1]
    unit = {
        "angles": "xy",
        "scale_units": "xy",
        "scale": 1 / (1.3 * across),
        "width": 0.011,
        "pivot": "mid",
    }
    colour = hues(np.arctan2(y, x)[keep])
    ax.quiver(
        (columns + 0.5) * across,
        (rows + 0.5) * down,
        x[keep],
        y[keep],
        color=colour,
        **unit,
    )
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    return ax


def heat(
    matrix: Real[Tensor, "r c"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    ax: Axes | None = None,
    xlabel: str = "",
    ylabel: str = "",
) -> Axes:
    """A matrix as colours with its numbers, such as a confusion matrix.

    Raises:
        ValueError: for values that are not finite, or another number of names.
    """
    names = (
        f"{tuple(matrix.shape)} names, got {len(rows)} rows and {len(columns)} columns"
    )
    expect(matrix.shape == (len(rows), len(columns)), names)
    values = _finite("matrix", matrix.detach().double().cpu().numpy())
    ax = ax if ax is not None else axes(width=3.5, height=3.2)[1]
    ax.imshow(values, cmap="Blues", aspect="auto")
    ax.set_xticks(range(len(columns)), list(columns))
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(visible=False)
    middle = (values.max() + values.min()) / 2
    for (r, c), value in np.ndenumerate(values):
        text = f"{value:.2f}" if matrix.is_floating_point() else f"{value:.0f}"
        ax.text(
            c,
            r,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color="white" if value > middle else INK,
        )
    return ax


def graph(
    nodes: Mapping[str, bool],
    arrows: Sequence[tuple[str, str, float]],
    *,
    ax: Axes | None = None,
) -> Axes:
    """A directed graph, its nodes clockwise on a circle, the first on top.

    Args:
        nodes: name -> whether it is drawn full.
        arrows: (from, to, thickness in points).
        ax: where to draw.

    Raises:
        ValueError: for no nodes, or an arrow whose ends are not two of them.
    """
    known = all(a in nodes and b in nodes for a, b, _ in arrows)
    joined = known and all(a != b for a, b, _ in arrows)
    wanted = "nodes and arrows between two of them"
    expect(nodes and joined, wanted, list(nodes), list(arrows))
    ax = ax if ax is not None else axes(width=4.6, height=3)[1]
    turn = np.pi / 2 - np.arange(len(nodes)) * 2 * np.pi / len(nodes)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    places = dict(zip(nodes, circle, strict=True))
    look: dict[str, Any] = {
        "arrowstyle": "-|>",
        "connectionstyle": "arc3,rad=0.15",
        "color": COLOURS[1],
        "shrinkA": 12,
        "shrinkB": 12,
        "mutation_scale": 12,
    }
    for a, b, thick in arrows:
        ax.annotate("", places[b], places[a], arrowprops=look | {"lw": thick})
    for name, is_full in nodes.items():
        _node(ax, name, places[name], COLOURS[0] if is_full else "white")
    ax.set(xlim=(-2.1, 2.1), ylim=(-1.4, 1.4), aspect="equal")
    ax.axis("off")
    return ax


def _node(ax: Axes, name: str, place: np.ndarray, fill: str) -> None:
    """A disc, and its name on the side that looks away from the circle's centre."""
    x, y = place
    ax.plot(x, y, "o", ms=17, mec=COLOURS[0], mew=1.8, color=fill)
    across, up = "center", "center"
    if abs(x) >= 0.2:
        across = "left" if x > 0 else "right"
    if abs(y) >= 0.9:
        up = "bottom" if y > 0 else "top"
    ax.annotate(
        name,
        (x, y),
        (14 * x, 13 * y),
        textcoords="offset points",
        ha=across,
        va=up,
        fontsize=10,
    )


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{name} holds {bad} values that are not finite")
    return values
