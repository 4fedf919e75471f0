"""Figures. Every function takes ``ax=None`` and returns it; ``finish`` shows a figure with its alt text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from jaxtyping import Float, Num
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

INK, MUTED, GRID = "#24292f", "#57606a", "#d8dee4"
COLOURS = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a", "#976d57", "#787774", "#cb912f")
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def axes(rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 2.8) -> tuple[Figure, Any]:
    """A figure in the book's style and its axes (one, or an array); sizes in inches."""
    with plt.rc_context(STYLE | {"figure.max_open_warning": 0}):  # a widget draws dozens before it shows one
        return plt.subplots(rows, columns, figsize=(width, height))


def render(figure: Figure) -> Image.Image:
    """The figure as a picture."""
    with plt.rc_context(STYLE):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=STYLE["figure.dpi"])
    return Image.open(buffer).convert("RGB")


def png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 48 colours: a quarter of the bytes, no visible loss."""
    return small_png(render(figure))


def small_png(picture: Image.Image, colours: int = 48) -> bytes:
    """A picture as a paletted PNG."""
    buffer = io.BytesIO()
    picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg(picture: Image.Image) -> bytes:
    """A picture as a JPEG without colour subsampling, for photographs."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=84, subsampling=0)
    return buffer.getvalue()


def finish(figure: Figure, alt: str) -> None:
    """Show a figure, small and with its description, and close it.

    Args:
        figure: from ``axes``.
        alt: what a reader who cannot see it should know.

    Raises:
        ValueError: without a description.
    """
    if not alt.strip():
        raise ValueError("expected a description of the figure (alt), got none")
    data, kind = png(figure), "image/png"
    # Lines and flat colours are small as PNG; photographs are smaller as JPEG.
    photographic = jpeg(render(figure))
    if len(photographic) < 0.85 * len(data):
        data, kind = photographic, "image/jpeg"
    plt.close(figure)
    display({kind: data, "text/plain": alt}, metadata={kind: {"alt": alt}}, raw=True)


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    return values


def curves(
    histories: Mapping[str, Any],
    key: str = "loss",
    *,
    smooth: int = 15,
    log: bool = False,
    ax: Axes | None = None,
    ylabel: str | None = None,
) -> Axes:
    """One curve per run: a running mean over ``smooth`` steps, the raw values faint behind it.

    Args:
        histories: name -> ``training.History`` (its column ``key``) or a 1-d tensor.
        key: the column.
        smooth: window of the mean, in steps.
        log: logarithmic y axis.
        ax: where to draw.
        ylabel: defaults to ``key``.

    Raises:
        ValueError: for values that are not finite.
    """
    ax = ax if ax is not None else axes()[1]
    for number, (name, history) in enumerate(histories.items()):
        raw = history if isinstance(history, Tensor) else history[key]
        values = _finite(f"{name}/{key}", raw.double().numpy())
        window = min(smooth, len(values))
        mean = np.convolve(values, np.ones(window) / window, "valid")
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(values, color=colour, alpha=0.18, linewidth=0.8)
        ax.plot(np.arange(len(mean)) + (window - 1) / 2, mean, color=colour, linewidth=1.8, label=name)
    ax.set(xlabel="step", ylabel=ylabel or key)
    if log:
        ax.set_yscale("log")
    if len(histories) > 1:
        ax.legend()
    return ax


def bars(
    values: Mapping[str, float],
    *,
    errors: Mapping[str, float] | None = None,
    reference: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    ylabel: str = "",
    digits: int = 2,
) -> Axes:
    """Bars with their values written on them.

    Args:
        values: name -> height.
        errors: name -> half length of an error bar.
        reference: name -> another value (the paper's), as a diamond.
        ax: where to draw.
        ylabel: what the height is.
        digits: decimals of the written values.

    Raises:
        ValueError: for values that are not finite.
    """
    ax = ax if ax is not None else axes()[1]
    heights = _finite("bars", np.array(list(values.values()), float))
    where = np.arange(len(values))
    error = [errors.get(name, 0.0) for name in values] if errors else None
    colours = [COLOURS[i % len(COLOURS)] for i in where]
    drawn = ax.bar(where, heights, 0.62, yerr=error, color=colours, ecolor=INK, capsize=3)
    ax.bar_label(drawn, fmt=f"%.{digits}f", padding=2, fontsize=9)
    if reference:
        ax.plot(where, [reference.get(name, np.nan) for name in values], "D", color=INK, ms=5, ls="", label="paper")
        ax.legend()
    ax.set_xticks(where, list(values))
    ax.set_ylabel(ylabel)
    ax.grid(axis="x", visible=False)
    ax.margins(y=0.15)
    return ax


def images(
    pictures: Sequence[Tensor] | Tensor, *, titles: Sequence[str] | None = None, columns: int = 8, size: float = 1.1
) -> Figure:
    """Pictures (c, h, w) in rows of ``columns``, each ``size`` inches wide.

    Raises:
        ValueError: for no pictures, or another number of titles.
    """
    if not len(pictures) or (titles is not None and len(titles) != len(pictures)):
        raise ValueError(f"expected pictures and as many titles, got {len(pictures)} and {titles and len(titles)}")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    ratio = pictures[0].shape[-2] / pictures[0].shape[-1]
    extra = 0.24 if titles else 0.04
    figure, grid = axes(rows, columns, width=columns * size, height=rows * (size * ratio + extra))
    for number, ax in enumerate(np.array(grid).flat):
        ax.axis("off")
        if number < len(pictures):
            ax.imshow(to_array(pictures[number]))
            if titles:
                ax.set_title(titles[number], fontsize=8.5, loc="center", weight="normal", pad=2)
    return figure


def to_array(picture: Tensor) -> np.ndarray:
    """(c, h, w) in [0, 1] -> (h, w, 3) uint8."""
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"expected an image of 1 or 3 channels, (c, h, w), got {tuple(picture.shape)}")
    rgb = picture.detach().float().cpu().clamp(0, 1).expand(3, -1, -1)
    return (255 * rgb.permute(1, 2, 0)).round().byte().numpy()


def quiver(
    field: Float[Tensor, "2 h w"],
    image: Float[Tensor, "3 H W"] | None = None,
    *,
    every: int = 1,
    least: float = 0.1,
    ax: Axes | None = None,
) -> Axes:
    """A vector field as arrows, coloured by direction, over a greyed picture of the same view.

    Args:
        field: (x, y) components, y down.
        image: the picture behind; its resolution sets the axes' units.
        every: draw each n-th cell.
        least: shorter vectors are left out.
        ax: where to draw.
    """
    ax = ax if ax is not None else axes(width=3.5, height=3.5)[1]
    height, width = (image if image is not None else field).shape[-2:]
    if image is not None:
        ax.imshow(
            0.45 + 0.5 * to_array(image).mean(-1) / 255, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0)
        )
    x, y = field.detach().float().cpu()[:, ::every, ::every].numpy()
    rows, columns = np.mgrid[0 : field.shape[1] : every, 0 : field.shape[2] : every]
    length = np.hypot(x, y)
    keep = length > least
    cell = width / field.shape[2]
    colour = matplotlib.colormaps["hsv"](np.arctan2(y, x)[keep] / (2 * np.pi) % 1.0)
    unit = {"angles": "xy", "scale_units": "xy", "scale": 1 / (1.3 * cell * every), "width": 0.008}
    ax.quiver((columns + 0.5)[keep] * cell, (rows + 0.5)[keep] * cell, x[keep], y[keep], color=colour, **unit)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    return ax


def heat(
    matrix: Num[Tensor, "r c"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    ax: Axes | None = None,
    xlabel: str = "",
    ylabel: str = "",
    numbers: bool = True,
) -> Axes:
    """A matrix as colours with its numbers, such as a confusion matrix.

    Raises:
        ValueError: for values that are not finite.
    """
    ax = ax if ax is not None else axes(width=3.5, height=3.2)[1]
    values = _finite("matrix", matrix.detach().double().cpu().numpy())
    ax.imshow(values, cmap="Blues", aspect="auto")
    ax.set_xticks(range(len(columns)), list(columns))
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(visible=False)
    if numbers:
        middle = (values.max() + values.min()) / 2
        for (r, c), value in np.ndenumerate(values):
            ink = "white" if value > middle else INK
            text = f"{value:.2f}" if matrix.is_floating_point() else f"{value:.0f}"
            ax.text(c, r, text, ha="center", va="center", fontsize=8, color=ink)
    return ax


def tensor(figure: Figure) -> Float[Tensor, "3 h w"]:
    """A figure as an image tensor, for use as a widget's frame; closes it."""
    picture = render(figure)
    plt.close(figure)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
