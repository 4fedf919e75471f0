"""Tensor to image tensor: boxes, masks, skeletons, heatmaps and vector fields drawn over pictures.

Images are (3, h, w) in [0, 1]; positions are pixels of the input image, whose centres lie at +0.5. ``scale`` draws on
an enlarged copy, so that lines over small pictures stay crisp.
"""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

SHIFT = 4  # OpenCV's fixed point: 1/16 pixel
_TABLEAU = [
    tuple(round(255 * v) for v in colour) for colour in matplotlib.colormaps["tab10"](np.arange(10))[:, :3].tolist()
]


def resize(image: Float[Tensor, "c h w"], scale: int, *, smooth: bool = False) -> Float[Tensor, "c H W"]:
    """The image ``scale`` times larger, its pixels kept as squares (or smoothed).

    Raises:
        ValueError: for ``scale < 1``.
    """
    if scale < 1:
        raise ValueError(f"expected scale >= 1, got {scale}")
    mode = "bicubic" if smooth else "nearest"
    return functional.interpolate(image[None], scale_factor=float(scale), mode=mode)[0].clamp(0, 1)


def _canvas(image: Tensor, scale: int) -> np.ndarray:
    if image.shape[0] == 1:
        image = image.expand(3, -1, -1)
    large = resize(image.detach().float().cpu(), scale)
    return np.ascontiguousarray((255 * large.permute(1, 2, 0)).round().byte().numpy())


def _tensor(canvas: np.ndarray) -> Tensor:
    return torch.from_numpy(canvas).permute(2, 0, 1).float() / 255


def _fixed(point: Sequence[float], scale: int) -> tuple[int, int]:
    x, y = ((float(v) * scale - 0.5) * (1 << SHIFT) for v in point)
    return round(x), round(y)


def hue(angle: float) -> tuple[int, int, int]:
    """A direction's colour: the hue circle, at equal brightness as far as screens go."""
    red, green, blue = matplotlib.colormaps["hsv"](angle / (2 * np.pi) % 1.0)[:3]
    return round(255 * red), round(255 * green), round(255 * blue)


def boxes(
    image: Float[Tensor, "3 h w"], boxes: Float[Tensor, "n 4"], *, scale: int = 4, colour: tuple = (255, 220, 0)
) -> Float[Tensor, "3 H W"]:
    """``boxes`` (xyxy, pixels) as outlines."""
    canvas = _canvas(image, scale)
    for x0, y0, x1, y1 in boxes.tolist():
        cv2.rectangle(canvas, _fixed((x0, y0), scale), _fixed((x1, y1), scale), colour, 2, cv2.LINE_AA, SHIFT)
    return _tensor(canvas)


def masks(
    image: Float[Tensor, "3 h w"], masks: Bool[Tensor, "n h w"], *, scale: int = 4, alpha: float = 0.55
) -> Float[Tensor, "3 H W"]:
    """``masks`` as translucent colours, one each."""
    out = image.detach().cpu().clone()
    for mask, colour in zip(masks.cpu(), _TABLEAU * (1 + len(masks) // len(_TABLEAU)), strict=False):
        paint = torch.tensor(colour)[:, None] / 255
        out[:, mask] = (1 - alpha) * out[:, mask] + alpha * paint
    return resize(out, scale)


def heatmap(
    image: Float[Tensor, "3 h w"],
    heat: Float[Tensor, "H W"],
    *,
    scale: int = 4,
    alpha: float = 0.65,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Float[Tensor, "3 A B"]:
    """A ``heat`` map of any resolution over the image: transparent where it is low.

    Args:
        image: the picture.
        heat: its values; ``limits`` map to transparent and opaque.
        scale: enlargement of the picture.
        alpha: opacity at the upper limit.
        limits: values shown as nothing and as full colour.
    """
    base = torch.from_numpy(_canvas(image, scale)).permute(2, 0, 1).float() / 255
    # Dim and grey the picture: colour is left to the heat.
    base = 0.35 + 0.5 * base.mean(0, keepdim=True).expand_as(base)
    values = heat.detach().float().cpu()[None, None]
    values = functional.interpolate(values, size=base.shape[1:], mode="bilinear", align_corners=False)[0, 0]
    values = ((values - limits[0]) / (limits[1] - limits[0])).clamp(0, 1)
    colour = torch.from_numpy(matplotlib.colormaps["inferno"](values.numpy())[..., :3]).permute(2, 0, 1).float()
    opacity = alpha * values.sqrt()
    return base * (1 - opacity) + colour * opacity


def vectors(field: Float[Tensor, "2 h w"], *, scale: int = 4, limit: float = 1.0) -> Float[Tensor, "3 H W"]:
    """A vector field as colour: direction is hue, length is strength on white."""
    x, y = field.detach().float().cpu()
    angle = torch.atan2(y, x).numpy()
    rgb = torch.from_numpy(matplotlib.colormaps["hsv"](angle / (2 * np.pi) % 1.0)[..., :3]).permute(2, 0, 1).float()
    strength = (torch.hypot(x, y) / limit).clamp(0, 1)
    return resize(1 - strength * (1 - rgb), scale)


def skeleton(
    image: Float[Tensor, "3 h w"],
    keypoints: Float[Tensor, "p k 2"],
    visible: Bool[Tensor, "p k"],
    limbs: Sequence[tuple[int, int]],
    *,
    scale: int = 4,
    by_person: bool = False,
) -> Float[Tensor, "3 H W"]:
    """Limbs and joints of people.

    Args:
        image: the picture.
        keypoints: (x, y) in its pixels; rows that are not finite are left out.
        visible: joints and limbs are drawn only between visible ends.
        limbs: pairs of joints.
        scale: enlargement.
        by_person: colour by person (whose limb is it?) instead of by limb (which limb is it?).
    """
    canvas = _canvas(image, scale)
    thick = max(1, round(0.6 * scale))
    for person, (points, shown) in enumerate(zip(keypoints.tolist(), visible.tolist(), strict=True)):
        for number, (a, b) in enumerate(limbs):
            if not (shown[a] and shown[b]):
                continue
            colour = _TABLEAU[person % len(_TABLEAU)] if by_person else hue(2 * np.pi * number / len(limbs))
            ends = _fixed(points[a], scale), _fixed(points[b], scale)
            cv2.line(canvas, *ends, (20, 20, 20), thick + 2, cv2.LINE_AA, SHIFT)
            cv2.line(canvas, *ends, colour, thick, cv2.LINE_AA, SHIFT)
        for point, seen in zip(points, shown, strict=True):
            if seen:
                at = _fixed(point, scale)
                cv2.circle(canvas, at, round(0.62 * scale * 16), (20, 20, 20), -1, cv2.LINE_AA, SHIFT)
                cv2.circle(canvas, at, round(0.38 * scale * 16), (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
    return _tensor(canvas)


def labels(image: Int[Tensor, "h w"], *, scale: int = 4) -> Float[Tensor, "3 H W"]:
    """A label map as colours; 0 is white."""
    table = torch.tensor([(255, 255, 255), *_TABLEAU * (1 + int(image.max()) // 10)]) / 255
    return resize(table[image].permute(2, 0, 1), scale)


def grid(images: Sequence[Tensor], columns: int, *, pad: int = 2) -> Float[Tensor, "3 H W"]:
    """Equally large images in rows of ``columns``, on white.

    Raises:
        ValueError: for no images or ``columns < 1``.
    """
    if not len(images) or columns < 1:
        raise ValueError(f"expected at least one image and column, got {len(images)} images and {columns} columns")
    tiles = [i.detach().float().cpu().expand(3, -1, -1) for i in images]
    height, width = tiles[0].shape[1:]
    rows = -(-len(tiles) // columns)
    out = torch.ones(3, rows * (height + pad) - pad, columns * (width + pad) - pad)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + pad), number % columns * (width + pad)
        out[:, top : top + height, left : left + width] = tile
    return out.clamp(0, 1)
