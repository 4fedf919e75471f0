"""Figures. Every function takes ``ax=None`` and returns it; ``finish`` shows a figure
with its alt text.

Importing this module sets matplotlib's defaults to the book's style, so that titles and
legends which a chapter adds to a figure take it too.
"""

import io
import math
import re
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from cycler import cycler
from jaxtyping import Float, Real
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogFormatter
from PIL import Image
from torch import Tensor

from papernets_lite import vector
from papernets_lite.display import display, in_jupyter
from papernets_lite.draw import COLOURS, hues, in_range
from papernets_lite.ops.checks import expect
from papernets_lite.vector import keep_together as keep_together

INK, MUTED, GRID = "#24292f", "#57606a", "#d8dee4"
DPI = 110
POINTS = 80  # of a curve: no more can be told apart
INCH = 96  # screen pixels of an inch: how wide a figure is shown
PAGE = 672  # screen pixels: how wide a page is on a laptop
LEAST = 8.5  # points of the smallest words: 11 screen pixels
ARROW = 14, 20  # screen pixels: how long the weakest arrow is, and the strongest
GAP, LINE = 6, 18  # screen pixels: between pictures, and a line of their words
SMALL: dict[str, Any] = {"size": 9.5, "weight": "normal"}
COARSE = 96  # colours of a drawing at least
MARK = 6  # pixels: what has one colour in so many is seen by it
TINTS = 6000  # colours of a drawing at most, the blends along its lines included
# from what is behind to the book's blue: a page may be dark
DEEPER = LinearSegmentedColormap.from_list("deeper", [COLOURS[0] + "00", COLOURS[0]])
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
    rows: int = 1, columns: int = 1, *, width: float = 4.4, height: float = 2.6
) -> tuple[Figure, Any]:
    """A figure and its axes (one, or an array); sizes in inches.

    A page is 7 inches wide, a phone 3.7, and shows up to 4.4 without scrolling. On a
    phone several axes stand below each other, unless ``keep_together`` forbids it.
    """
    return plt.subplots(rows, columns, figsize=(width, height))


def render(figure: Figure, dpi: int = DPI) -> Image.Image:
    """The figure as a picture.

    Args:
        figure: From ``axes``; it stays open.
        dpi: Dots of an inch.

    Returns:
        The picture in RGB.
    """
    _typeset(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Image.open(buffer).convert("RGB")


def tensor(figure: Figure) -> Float[Tensor, "3 h w"]:
    """The figure as an image tensor; closes it."""
    picture = render(figure)
    plt.close(figure)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


def flat(picture: Image.Image) -> Image.Image | None:
    """A drawing reduced to a palette that holds every colour of a mark: a line, a dot
    and an entry of a legend keep theirs, only blends along edges change.

    Args:
        picture: In RGB.

    Returns:
        The picture with a palette; None where that would show, as in photographs.
    """
    pixels = np.asarray(picture).reshape(-1, 3)
    codes = pixels.astype(np.int64) @ (65536, 256, 1)
    tints, where, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if len(tints) > TINTS:
        return None
    tints = np.stack([tints >> 16, tints >> 8 & 255, tints & 255], 1)
    order = np.argsort(-counts, kind="stable")
    palette = tints[order[: max(COARSE, int((counts >= MARK).sum()))]]
    if len(palette) > 256:
        return None
    steps = np.abs(tints[:, None] - palette[None].astype(np.int32)).sum(-1)
    nearest = steps.argmin(1)
    change = np.square(palette[nearest] - tints).mean(1)
    if (change * counts).sum() / counts.sum() >= 3**2:
        return None
    reduced = Image.fromarray(
        nearest.astype(np.uint8)[where].reshape(picture.size[::-1]), "P"
    )
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    return reduced


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


def finish(figure: Figure, alt: str) -> None:
    """Show a figure with its description, as SVG, and close it.

    Args:
        figure: from ``axes``.
        alt: what it shows, in words that say the finding: the page's caption, and what
            a reader who cannot see it knows.

    Raises:
        ValueError: without a description, or for bars that do not start at zero.
    """
    expect(alt.strip(), "a description of the figure (alt)", alt)
    drawn = drawing(figure, alt)
    kind = "image/svg+xml"
    look = {"alt": alt, "width": round(INCH * figure.get_figwidth())}
    display({kind: drawn, "text/plain": alt}, metadata={kind: look}, raw=True)


def drawing(figure: Figure, title: str) -> str:
    """A figure as SVG (``vector.drawing``), readable and honest; closes it.

    Args:
        figure: from ``axes``.
        title: what a reader who cannot see it should know.

    Returns:
        The file's text.

    Raises:
        ValueError: for bars that do not start at zero.
    """
    _typeset(figure)
    drawn = vector.drawing(figure, title)
    plt.close(figure)
    return drawn


def _typeset(figure: Figure) -> None:
    """Words that can be read, true minus signs, plain numbers, honest bars."""
    for ax in figure.axes:
        for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            if axis.get_scale() == "log" and not _is_named(axis):
                axis.set_major_formatter(Plain())
                axis.set_minor_formatter(Plain())
            _check_bars(ax, name)
    for text in figure.findobj(Text):
        text.set_fontsize(max(LEAST, text.get_fontsize()))
        text.set_text(re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text.get_text()))


def _is_named(axis: Any) -> bool:
    return not isinstance(axis.get_major_formatter(), LogFormatter)


def _check_bars(ax: Axes, name: str) -> None:
    """A bar's length says its value only where it starts at zero."""
    upright = "vertical" if name == "y" else "horizontal"
    for bars in ax.containers:
        if not isinstance(bars, BarContainer) or bars.orientation != upright:
            continue
        low, high = sorted(getattr(ax, f"get_{name}lim")())
        is_log = getattr(ax, f"get_{name}scale")() == "log"
        expect(is_log or low <= 0 <= high, "bars that start at zero", (low, high))


class Plain(LogFormatter):
    """Numbers of a logarithmic axis, written out up to 1000."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """A tick's words; none where matplotlib leaves it without."""
        if not super().__call__(x, pos):
            return ""
        if 1e-3 < x < 1e4:
            return f"{x:g}"
        power = str(round(math.log10(x))).replace("-", "\N{MINUS SIGN}")
        return f"$\\mathdefault{{10^{{{power}}}}}$"


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
    colours: Mapping[str, str] | None = None,
    styles: Mapping[str, str] | None = None,
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
        colours: name -> colour; the book's in their order when None.
        styles: name -> line style; solid when None.

    Raises:
        ValueError: for no values, values that are not finite, or values up to zero on a
            logarithmic axis.
    """
    ax = ax if ax is not None else axes()[1]
    paint = paints(histories) if colours is None else colours
    for name, history in histories.items():
        raw = history if isinstance(history, Tensor) else history[key]
        values = _finite(f"{name}/{key}", raw.detach().cpu().double().numpy())
        got = f"{len(values)} of {name} and smooth {smooth}"
        expect(len(values) and smooth >= 1, "values and smooth >= 1", got)
        least = float(values.min())
        positive = not log or least > 0
        expect(positive, "positive values on a logarithmic axis", least, name)
        _curve(ax, name, values, smooth, paint[name], (styles or {}).get(name, "-"))
    ax.set(xlabel="step", ylabel=ylabel or key)
    if log:
        ax.set_yscale("log")
    if len(histories) > 1:
        ax.legend()
    return ax


def paints(names: Iterable[str]) -> dict[str, str]:
    """The book's colours for a chapter's arms: treatment, control, others.

    Args:
        names: The arms, always in this order, so that each keeps its colour.

    Returns:
        name -> colour.
    """
    return {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}


def _curve(
    ax: Axes, name: str, values: np.ndarray, smooth: int, colour: str, style: str
) -> None:
    """A running mean, and a band around it."""
    window = min(smooth, len(values))
    seen = np.lib.stride_tricks.sliding_window_view(values, window)
    steps = np.arange(len(seen)) + (window - 1) / 2
    some = np.linspace(0, len(seen) - 1, min(len(seen), POINTS)).round().astype(int)
    low, high = np.quantile(seen[some], (0.1, 0.9), axis=1)
    ax.fill_between(steps[some], low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(steps[some], seen[some].mean(1), style, color=colour, label=name)


def bars(
    values: Mapping[str, float],
    *,
    ax: Axes | None = None,
    ylabel: str = "",
    colours: Mapping[str, str] | None = None,
) -> Axes:
    """Bars with their values written on them.

    Args:
        values: name -> height.
        ax: where to draw.
        ylabel: what the height is.
        colours: name -> colour, where the bars are arms of the chapter; one colour for
            all when None.

    Raises:
        ValueError: for no bars, or values that are not finite.
    """
    expect(values, "bars", values)
    ax = ax if ax is not None else axes()[1]
    heights = _finite("bars", np.array(list(values.values()), float))
    where = np.arange(len(values))
    paint = [colours[name] for name in values] if colours else COLOURS[0]
    drawn = ax.bar(where, heights, 0.62, color=paint)
    digits = 2 if np.abs(heights).max() < 10 else 1
    ax.bar_label(drawn, fmt=f"%.{digits}f", padding=2, fontsize=10)
    ax.set_xticks(where, [textwrap.fill(name, 14) for name in values])
    ax.set_ylabel(ylabel)
    ax.grid(axis="x", visible=False)
    ax.margins(y=0.15)
    return ax


def images(
    pictures: Sequence[Tensor] | Tensor,
    *,
    titles: Sequence[str] | None = None,
    rows: Sequence[str] = (),
    columns: int | Sequence[str] = 8,
    size: float = 1.0,
) -> Figure:
    """Pictures in rows, at whole multiples of their pixels.

    Args:
        pictures: (c, h, w) in [0, 1], of one size.
        titles: One over each picture, or none.
        rows: What each row shows, or nothing: then a page may break rows elsewhere.
        columns: How many stand in a row, or what each column shows. Where nothing is
            said of rows and columns, no more than a page is wide.
        size: How wide each is about, in inches.

    Returns:
        The figure.

    Raises:
        ValueError: For no pictures, another number of titles or rows, or
            ``columns < 1``.
    """
    heads = [] if isinstance(columns, int) else list(columns)
    across = columns if isinstance(columns, int) else len(columns)
    some = len(pictures) and across >= 1
    expect(some, "pictures and columns >= 1", len(pictures), across)
    counted = titles is None or len(titles) == len(pictures)
    expect(counted, f"pictures and as many titles, {len(pictures)}", titles)
    height, width = pictures[0].shape[-2:]
    wide = _whole(width, size * INCH)
    high = round(wide * height / width)
    across = min(across, len(pictures))
    if not rows and not heads:
        fitting = max(1, (PAGE + GAP) // (wide + GAP))
        across = -(-len(pictures) // -(-len(pictures) // min(across, fitting)))
    down = -(-len(pictures) // across)
    expect(not rows or len(rows) == down, f"names of {down} rows", rows)
    above = LINE * max((title.count("\n") + 1 for title in titles or ()), default=0)
    top = LINE * max((head.count("\n") + 1 for head in heads), default=0)
    wanted = max((_width(name) for name in rows), default=0) + GAP
    is_beside = across * (wide + GAP) + wanted <= PAGE
    left = (wanted if is_beside else LINE) + GAP if rows else 0
    whole = left + across * (wide + GAP) - GAP, top + down * (high + GAP + above) - GAP
    figure = plt.figure(figsize=(whole[0] / INCH, whole[1] / INCH), layout="none")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, across)
        x = left + column * (wide + GAP)
        y = whole[1] - top - (row + 1) * (high + GAP + above) + GAP
        place = x / whole[0], y / whole[1], wide / whole[0], high / whole[1]
        ax = figure.add_axes(place)
        ax.imshow(to_array(picture), aspect="auto")
        ax.set_axis_off()
        if titles and titles[number]:
            ax.set_title(titles[number], loc="center", pad=3, **SMALL)
        if heads and row == 0:
            spot = (x + wide / 2) / whole[0], 1 - top / 2 / whole[1]
            figure.text(*spot, heads[column], ha="center", va="center", **SMALL)
        if rows and column == 0:
            turned = 0 if is_beside else 90
            side = {"ha": "right" if is_beside else "center", "rotation": turned}
            spot = (left - GAP if is_beside else LINE / 2), y + high / 2
            spot = spot[0] / whole[0], spot[1] / whole[1]
            figure.text(*spot, rows[row], va="center", **side, **SMALL)
    return keep_together(figure) if rows or heads else figure


def _whole(pixels: int, wanted: float) -> int:
    """How wide a picture of ``pixels`` is shown: about ``wanted`` screen pixels, a
    whole multiple where it is enlarged, a whole fraction where one is near."""
    if pixels <= wanted:
        times = round(wanted / pixels)
        least = INCH if wanted >= INCH else 0.8 * wanted
        return pixels * (times if times * pixels >= least else times + 1)
    part = round(pixels / wanted)
    near = pixels % part == 0 and abs(pixels / part / wanted - 1) < 0.2
    return pixels // part if near else round(wanted)


def _width(words: str) -> float:
    """How wide small words are, in screen pixels."""
    path = TextPath((0, 0), words, size=SMALL["size"] * INCH / 72)
    return float(path.get_extents().width)


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
    # at fixed places, so that a film of them does not jump with the bars' names
    figure = plt.figure(figsize=(4.5, 1.9), layout="none")
    left = figure.add_axes((0.02, 0.04, 0.36, 0.82))
    right = figure.add_axes((0.58, 0.26, 0.4, 0.6))
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

    Only the strongest vector of every block that is wide enough for an arrow is drawn,
    from 14 pixels of the screen (weak) to 20 (of length 1 and more).

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
    across, down = width / field.shape[2], height / field.shape[1]
    strength = np.hypot(x, y)
    # one arrow in each block that is wide enough for it: the strongest there
    cell = ax.bbox.width / ax.figure.dpi * INCH / field.shape[2]
    block = max(1, math.ceil(ARROW[0] / cell))
    rows, columns = _strongest(strength, block)
    keep = strength[rows, columns] > 0.1
    rows, columns = rows[keep], columns[keep]
    x, y, strength = x[rows, columns], y[rows, columns], strength[rows, columns]
    reach = ARROW[0] + (ARROW[1] - ARROW[0]) * strength.clip(max=1)
    scale = reach / INCH / strength
    unit = {"angles": "xy", "scale_units": "inches", "scale": 1, "pivot": "mid"}
    thin = {"units": "inches", "width": 0.024, "headwidth": 3.4, "headlength": 3.4}
    ax.quiver(
        (columns + 0.5) * across,
        (rows + 0.5) * down,
        x * scale,
        y * scale,
        color=hues(np.arctan2(y, x)),
        **unit,
        **thin,
    )
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    return ax


def _strongest(strength: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the highest value of every block."""
    rows, columns = strength.shape
    places = []
    for top in range(0, rows, block):
        for left in range(0, columns, block):
            part = strength[top : top + block, left : left + block]
            row, column = np.unravel_index(part.argmax(), part.shape)
            places.append((top + row, left + column))
    found = np.array(places, int).reshape(-1, 2)
    return found[:, 0], found[:, 1]


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
    ax.imshow(values, cmap=DEEPER, aspect="auto")
    ax.set_xticks(range(len(columns)), list(columns))
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(visible=False)
    middle = 0.6 * values.max() + 0.4 * values.min()
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
    ax = ax if ax is not None else axes(width=4.3, height=2.8)[1]
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
