"""Maps read at positions in pixels: the half pixel stands here, and nowhere else.

A position is (x, y) in pixels of the map, continuous: pixel i covers [i, i + 1) and has
its centre at i + 0.5, which is where a map's values lie.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.heatmaps import cell_centres

Mode = Literal["bilinear", "nearest", "bicubic"]
Outside = Literal["zeros", "border", "reflection"]


def read(
    maps: Float[Tensor, "b c h w"],
    positions: Float[Tensor, "b k l 2"],
    *,
    mode: Mode = "bilinear",
    outside: Outside = "zeros",
) -> Float[Tensor, "b c k l"]:
    """The maps' values at any positions, interpolated between pixel centres.

    Args:
        maps: what is read.
        positions: (x, y) in pixels of the maps, one for each pixel of the answer.
        mode: of the interpolation; ``"nearest"`` keeps labels whole.
        outside: what lies beyond the border: nothing, the border's pixels, or the
            mirror image.
    """
    height, width = maps.shape[-2:]
    x, y = positions.unbind(-1)
    normalised = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    return functional.grid_sample(
        maps, normalised, mode, padding_mode=outside, align_corners=False
    )


def warp_flow(
    maps: Float[Tensor, "b c h w"],
    flow: Float[Tensor, "b 2 h w"],
    *,
    mode: Mode = "bilinear",
    outside: Outside = "zeros",
) -> Float[Tensor, "b c h w"]:
    """What is at x + flow(x) moves to x (a backward warp).

    Args:
        maps: what is moved.
        flow: (dx, dy) in pixels.
        mode: see ``read``.
        outside: see ``read``.
    """
    height, width = maps.shape[-2:]
    x = cell_centres(width, 1.0).to(flow) + flow[:, 0]
    y = cell_centres(height, 1.0).to(flow)[:, None] + flow[:, 1]
    return read(maps, torch.stack([x, y], -1), mode=mode, outside=outside)


def warp_affine(
    maps: Float[Tensor, "b c h w"], matrices: Float[Tensor, "b 2 3"]
) -> Float[Tensor, "b c h w"]:
    """What is at M (x, y, 1) moves to (x, y); nothing lies beyond the frame.

    Args:
        maps: what is moved.
        matrices: M of each map, from positions in the answer to positions in the maps,
            in pixels.
    """
    height, width = maps.shape[-2:]
    x = cell_centres(width, 1.0).to(maps)
    y = cell_centres(height, 1.0).to(maps)[:, None]
    rows = matrices[..., None, None].unbind(1)
    from_x, from_y = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in rows)
    return read(maps, torch.stack([from_x, from_y], -1))
