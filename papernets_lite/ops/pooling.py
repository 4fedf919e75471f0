"""What a map says about boxes: the compiled readers of ``torchvision.ops``, reached
only by input that they survive. A NaN or infinite box ends the Python process
otherwise.

All compute in float32 (float64 stays), whatever type the map has.
"""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torchvision.ops import ps_roi_align, roi_align

from papernets_lite.ops.boxes import check_boxes, floating
from papernets_lite.ops.checks import expect

Boxes = Sequence[Tensor | np.ndarray] | Tensor
SAMPLES = 2  # points of a bin, down and across


def regions(boxes: Boxes, images: int) -> Float[Tensor, "n 5"]:
    """The boxes of a batch in a row, each behind the number of its image.

    Args:
        boxes: of each image (n, 4), xyxy in pixels; or such rows already.
        images: how many there are.

    Raises:
        ValueError: for boxes that ``check_boxes`` refuses (sides of 0 are allowed), or
            for other images.
    """
    if not isinstance(boxes, Tensor):
        expect(len(boxes) == images, f"boxes of {images} images", len(boxes))
        numbered = []
        for k, one in enumerate(boxes):
            numbered.append(functional.pad(torch.as_tensor(one), (1, 0), value=k))
        boxes = torch.cat(numbered) if numbered else torch.zeros(0, 5)
    rows = boxes.ndim == 2 and boxes.shape[1] == 5
    expect(rows, "rows of an image's number and its box, xyxy", boxes.shape)
    corners = check_boxes(boxes[:, 1:], thin=True)
    numbers = boxes[:, 0]
    known = (numbers >= 0) & (numbers < images) & (numbers == numbers.floor())
    came = numbers[~known][:1].tolist()
    expect(known.all(), f"numbers of images from 0 to {images - 1}", *came)
    return torch.cat([numbers[:, None].to(corners), corners], 1)


def align(
    features: Float[Tensor, "b c h w"],
    boxes: Boxes,
    size: int | tuple[int, int],
    *,
    spatial_scale: float,
) -> Float[Tensor, "n c s t"]:
    """RoIAlign (Mask R-CNN): a patch of every box, interpolated between cell centres.

    Args:
        features: the map.
        boxes: see ``regions``.
        size: of a patch, in cells.
        spatial_scale: cells per pixel.

    Raises:
        ValueError: for boxes that ``regions`` refuses, a scale that is not positive, a
            patch or a map without cells, or a map of integers.
    """
    _check(features, size, spatial_scale)
    rois = regions(boxes, len(features))
    maps = floating(features)
    patches = roi_align(maps, rois.to(maps), size, spatial_scale, SAMPLES, aligned=True)
    return patches.to(features.dtype)


def align_rounded(
    features: Float[Tensor, "b c h w"],
    boxes: Boxes,
    size: int | tuple[int, int],
    *,
    spatial_scale: float,
) -> Float[Tensor, "n c s t"]:
    """RoIAlign of boxes moved to the map's cells, as RoIPool moves them: what rounding
    alone costs.

    Args:
        features: the map.
        boxes: see ``regions``.
        size: of a patch, in cells.
        spatial_scale: cells per pixel.

    Raises:
        ValueError: as ``align``.
    """
    _check(features, size, spatial_scale)
    rois = regions(boxes, len(features))
    corners = (rois[:, 1:] * spatial_scale).round()
    # at least a cell
    ends = torch.maximum(corners[:, 2:], corners[:, :2] + 1)
    corners = torch.cat([corners[:, :2], ends], 1)
    moved = torch.cat([rois[:, :1], corners / spatial_scale], 1)
    return align(features, moved, size, spatial_scale=spatial_scale)


def vote(
    maps: Float[Tensor, "b c h w"], boxes: Boxes, *, bins: int, stride: float
) -> Float[Tensor, "n d"]:
    """Position-sensitive pooling (R-FCN): the bin in row i and column j of a box reads
    only maps made for that bin.

    Args:
        maps: ``bins`` squared maps for each of d answers, answer by answer.
        boxes: see ``regions``.
        bins: of a box, down and across.
        stride: of the maps, in pixels.

    Returns:
        The mean over the bins, each the mean of its own map inside the bin; at least in
        float32.

    Raises:
        ValueError: for boxes that ``regions`` refuses, a stride that is not positive,
            no bins, maps without cells or of integers, or a number of them that is no
            multiple of ``bins`` squared.
    """
    expect(stride > 0, "a positive stride", stride)
    _check(maps, bins, 1 / stride)
    expect(
        maps.shape[1] % bins**2 == 0,
        f"a multiple of {bins} x {bins} maps",
        maps.shape[1],
    )
    maps = floating(maps)
    rois = regions(boxes, len(maps)).to(maps)
    return ps_roi_align(maps, rois, bins, 1 / stride, SAMPLES).mean((2, 3))


def _check(maps: Tensor, size: int | tuple[int, int], spatial_scale: float) -> None:
    # torchvision reads beside a map without cells, which ends the process
    filled = maps.ndim == 4 and min(maps.shape[1:]) > 0
    expect(filled, "maps (b, c, h, w) with at least a cell", maps.shape)
    expect(maps.is_floating_point(), "maps of a floating type", maps.dtype)
    sides = size if isinstance(size, tuple) else (size,)
    whole = all(isinstance(side, Integral) and side >= 1 for side in sides)
    expect(whole, "a patch of at least one cell, in whole cells", size)
    expect(0 < spatial_scale < float("inf"), "a positive scale", spatial_scale)
