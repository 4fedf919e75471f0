"""Tensor to image tensor: boxes, masks, skeletons, heatmaps and vector fields drawn
over pictures.

Images are (3, h, w) in [0, 1]; positions are pixels of the input image, whose centres
lie at +0.5. ``scale`` draws on an enlarged copy, so that lines over small pictures stay
crisp.
"""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import expect
from papernets_lite.ops.heatmaps import local_maxima

# Oklab's matrix from (a, b) to the cube roots of what the three cones answer.
_CONES = (
    (0.3963377774, 0.2158037573),
    (-0.1055613458, -0.0638541728),
    (-0.0894841775, -1.291485548),
)
# Okabe and Ito's colours, told apart by colour-blind readers too; the yellow one is
# left out: too pale on white.
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#5d5d5d",
    "#7b4fa3",
)
# the same, red, green and blue in 0..255
PAINTS = [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS]
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
# of a joint: radius in pixels, colour
_DISC, _RING = ((0.62, _INK), (0.38, _PAPER)), ((0.62, _PAPER), (0.4, _INK))
_PEAK = ((1.1, _INK), (0.75, (0, 255, 255)))
_SHIFT = 4  # OpenCV's fixed point: 1/16 pixel
_FAR = 1e5  # enlarged pixels; beyond it OpenCV's integers overflow


def in_range(image: Tensor) -> Tensor:
    """The image itself, if it is one in [0, 1].

    Args:
        image: Of any shape, floating or bool. A net's answer may lie a little outside.

    Returns:
        The image.

    Raises:
        ValueError: For integers and for values below -2 or above 3, such as pictures in
            [0, 255].
    """
    wanted = "an image in [0, 1]"
    is_number = image.is_floating_point() or image.dtype == torch.bool
    expect(is_number, f"{wanted}, floating", image.dtype)
    if image.numel():
        least, most = image.detach().float().aminmax()
        far = bool(least < -2) or bool(most > 3)
        expect(not far, wanted, f"values from {least:.4g} to {most:.4g}")
    return image


def resize(
    image: Float[Tensor, "c h w"], scale: int, *, smooth: bool = False
) -> Float[Tensor, "c H W"]:
    """The image enlarged, its pixels kept as squares.

    Args:
        image: In [0, 1].
        scale: How many times larger, at least 1.
        smooth: Whether pixels flow into each other instead.

    Returns:
        The larger image, in [0, 1].

    Raises:
        ValueError: For ``scale < 1``.
    """
    expect(scale >= 1, "scale >= 1", scale)
    mode = "bicubic" if smooth else "nearest"
    large = functional.interpolate(image[None], scale_factor=float(scale), mode=mode)
    return large[0].clamp(0, 1)


def hues(angle: np.ndarray) -> np.ndarray:
    """The colours of directions: a circle of equal lightness and chroma in the Oklab
    space.

    Args:
        angle: radians, of any shape (...).

    Returns:
        Red, green and blue in [0, 1], (..., 3).
    """
    a = 0.13 * np.cos(angle)
    b = 0.13 * np.sin(angle)
    long, middle, short = [(0.72 + x * a + y * b) ** 3 for x, y in _CONES]
    red = 4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * middle + 1.707614701 * short
    linear = np.stack([red, green, blue], -1).clip(0, 1)
    dark = 12.92 * linear
    light = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, dark, light)


def boxes(
    image: Float[Tensor, "3 h w"],
    boxes: Float[Tensor, "n 4"],
    *,
    scale: int = 4,
    colour: tuple[int, int, int] = (255, 220, 0),
) -> Float[Tensor, "3 H W"]:
    """Boxes as outlines.

    Args:
        image: The picture, in [0, 1].
        boxes: xyxy, in its pixels.
        scale: How many times larger the result is.
        colour: Red, green and blue in 0..255.

    Returns:
        The enlarged picture with the boxes on it.

    Raises:
        ValueError: For a coordinate that is not finite.
    """
    finite = boxes.isfinite().all(1)
    expect(finite.all(), "finite boxes", boxes[~finite][:3].tolist())
    canvas = _canvas(image, scale)
    for x0, y0, x1, y1 in boxes.tolist():
        corner = _fixed((x0, y0), scale)
        opposite = _fixed((x1, y1), scale)
        for paint, thick in ((_INK, 4), (colour, 2)):
            cv2.rectangle(canvas, corner, opposite, paint, thick, cv2.LINE_AA, _SHIFT)
    return _tensor(canvas)


def masks(
    image: Float[Tensor, "3 h w"], masks: Bool[Tensor, "n h w"], *, scale: int = 4
) -> Float[Tensor, "3 H W"]:
    """``masks`` as translucent colours, one each; where they overlap, the last lies on
    top."""
    out = in_range(image).detach().float().cpu().clone()
    for number, mask in enumerate(masks.cpu()):
        paint = torch.tensor(PAINTS[number % len(PAINTS)])[:, None] / 255
        out[:, mask] = 0.45 * out[:, mask] + 0.55 * paint
    return resize(out, scale)


def heatmap(
    image: Float[Tensor, "c h w"],
    heat: Float[Tensor, "H W"],
    *,
    scale: int = 4,
    threshold: float = 0.15,
    dots: bool = True,
) -> Float[Tensor, "3 A B"]:
    """A ``heat`` map of any resolution over the greyed image, with a dot on each of its
    ``summits``: so many can be counted.

    Args:
        image: the picture.
        heat: its values; up to ``threshold`` they show nothing, from 1 on the full
            colour, through which the picture still shines.
        scale: enlargement of the picture.
        threshold: the lowest value that shows.
        dots: whether the peaks get theirs.

    Raises:
        ValueError: for values that are not finite.
    """
    bad = int((~heat.isfinite()).sum())
    expect(not bad, f"a finite heat map, got {bad} values that are not")
    # colour is left to the heat
    base = 0.3 + 0.5 * _tensor(_canvas(image, scale)).mean(0, keepdim=True)
    values = functional.interpolate(
        heat.detach().float().cpu()[None, None],
        size=base.shape[1:],
        mode="bilinear",
        align_corners=False,
    )
    values = values[0, 0].clamp(0, 1)
    coloured = matplotlib.colormaps["inferno"](values.numpy())[..., :3]
    colour = torch.from_numpy(coloured).permute(2, 0, 1).float()
    # a soft edge at the threshold, which would else be a line
    shown = ((values - threshold) / (1 - threshold)).clamp(min=0)
    opacity = 0.75 * shown.sqrt()
    warm = base * (1 - opacity) + colour * opacity
    if not dots:
        return warm
    canvas = np.ascontiguousarray((255 * warm.permute(1, 2, 0)).round().byte().numpy())
    stride = image.shape[-1] / heat.shape[-1]
    for point in stride * summits(heat, threshold):
        _joint(canvas, point.tolist(), scale, _PEAK)
    return _tensor(canvas)


def summits(
    heat: Float[Tensor, "h w"], threshold: float = 0.15
) -> Float[Tensor, "n 2"]:
    """The peaks of a map that stand apart, as ``heatmap`` marks them.

    Args:
        heat: Its values.
        threshold: Half of the lowest peak: what is but a ripple has none.

    Returns:
        Their places (x, y), in cells of the map; a cell's centre lies at +0.5.
    """
    values = heat.detach().float().cpu()
    found = local_maxima(values[None], 2 * threshold)[0].nonzero()
    return found.flip(1) + 0.5


def skeleton(
    image: Float[Tensor, "3 h w"],
    keypoints: Float[Tensor, "p k 2"],
    visible: Bool[Tensor, "p k"],
    limbs: Sequence[tuple[int, int]],
    *,
    hidden: Bool[Tensor, "p k"] | None = None,
    scale: int = 4,
    by_person: bool = False,
    fade: float = 0.45,
) -> Float[Tensor, "3 H W"]:
    """Limbs and joints of people.

    Args:
        image: the picture.
        keypoints: (x, y) in its pixels; those that are not finite are left out.
        visible: joints drawn as discs; limbs are drawn between two of them.
        limbs: pairs of joints.
        hidden: joints drawn as rings: there, but covered.
        scale: enlargement.
        by_person: colour by person (whose limb is it?) instead of by limb (which limb
            is it?).
        fade: how far the picture gives way to white, for contrast.
    """
    canvas = _canvas(fade + (1 - fade) * in_range(image), scale)
    finite = keypoints.isfinite().all(-1)
    covered = torch.zeros_like(visible) if hidden is None else hidden & ~visible
    shown = (visible & finite).tolist()
    hollow = (covered & finite).tolist()
    rainbow = _rainbow(len(limbs))
    for person, points in enumerate(keypoints.tolist()):
        for number, (a, b) in enumerate(limbs):
            if shown[person][a] and shown[person][b]:
                paint = PAINTS[person % len(PAINTS)] if by_person else rainbow[number]
                _limb(canvas, points[a], points[b], scale, paint)
        for joint, point in enumerate(points):
            if shown[person][joint]:
                _joint(canvas, point, scale, _DISC)
            elif hollow[person][joint]:
                _joint(canvas, point, scale, _RING)
    return _tensor(canvas)


def _rainbow(count: int) -> list[list[int]]:
    """That many colours, evenly around the circle of hues."""
    angles = 2 * np.pi * np.arange(count) / max(1, count)
    return (255 * hues(angles)).round().astype(int).tolist()


def _limb(
    canvas: np.ndarray,
    start: Sequence[float],
    end: Sequence[float],
    scale: int,
    paint: Sequence[int],
) -> None:
    ends = _fixed(start, scale), _fixed(end, scale)
    thick = max(1, round(0.6 * scale))
    cv2.line(canvas, *ends, _INK, thick + 2, cv2.LINE_AA, _SHIFT)
    cv2.line(canvas, *ends, paint, thick, cv2.LINE_AA, _SHIFT)


def _joint(
    canvas: np.ndarray, point: Sequence[float], scale: int, discs: Sequence[tuple]
) -> None:
    centre = _fixed(point, scale)
    for radius, paint in discs:
        size = round(radius * scale * (1 << _SHIFT))
        cv2.circle(canvas, centre, size, paint, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def labels(image: Integer[Tensor, "h w"], *, scale: int = 4) -> Float[Tensor, "3 H W"]:
    """A label map as colours.

    Args:
        image: Labels from 0, of any integer type; 0 is white, and after the last colour
            comes the first again.
        scale: How many times larger the result is.

    Returns:
        The picture.

    Raises:
        ValueError: For a negative label.
    """
    least = int(image.min()) if image.numel() else 0
    expect(least >= 0, "labels from 0", least)
    table = torch.tensor([_PAPER, *PAINTS]) / 255
    wide = image.long().cpu()  # bytes would index as a mask
    index = torch.where(wide > 0, (wide - 1) % len(PAINTS) + 1, 0)
    return resize(table[index].permute(2, 0, 1), scale)


def grid(
    images: Sequence[Tensor], columns: int, *, pad: int = 2
) -> Float[Tensor, "3 H W"]:
    """Equally large images in rows, on white.

    Args:
        images: (c, h, w) of one or three channels, in [0, 1].
        columns: How many stand in a row.
        pad: White pixels between two.

    Returns:
        One picture of them all.

    Raises:
        ValueError: For no images, images of different sizes or ``columns < 1``.
    """
    some = len(images) and columns >= 1
    expect(some, "at least one image and column", len(images), columns)
    sizes = {tuple(image.shape[1:]) for image in images}
    expect(len(sizes) == 1, "images of one size", *sorted(sizes))
    tiles = torch.stack(
        [in_range(image).detach().float().cpu().expand(3, -1, -1) for image in images]
    )
    # White to the right of each tile, below it, and after the last one.
    tiles = functional.pad(
        tiles, (0, pad, 0, pad, 0, 0, 0, -len(images) % columns), value=1.0
    )
    out = rearrange(
        tiles, "(rows columns) c h w -> c (rows h) (columns w)", columns=columns
    )
    return out[:, : out.shape[1] - pad, : out.shape[2] - pad].clamp(0, 1)


def _canvas(image: Tensor, scale: int) -> np.ndarray:
    large = resize(
        in_range(image).detach().float().cpu().expand(3, -1, -1), scale, smooth=True
    )
    return np.ascontiguousarray((255 * large.permute(1, 2, 0)).round().byte().numpy())


def _tensor(canvas: np.ndarray) -> Tensor:
    return torch.from_numpy(canvas).permute(2, 0, 1).float() / 255


def _fixed(point: Sequence[float], scale: int) -> tuple[int, int]:
    """A position as OpenCV's fixed-point number, whose integers are pixel centres."""
    fixed = []
    for value in point:
        enlarged = min(max(float(value) * scale - 0.5, -_FAR), _FAR)
        fixed.append(round(enlarged * (1 << _SHIFT)))
    x, y = fixed
    return x, y
