"""Maps read at positions in pixels: the half pixel stands here, and nowhere else.

A position is (x, y) in pixels of the map, continuous: pixel i covers [i, i + 1) and has
its centre at i + 0.5, which is where a map's values lie.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import check_finite, check_images, expect
from papernets_lite.ops.heatmaps import cell_centres

Mode = Literal["bilinear", "nearest", "bicubic"]
Outside = Literal["zeros", "border", "reflection"]


def _single(x: Tensor) -> Tensor:
    """At least single precision: half precision tells no pixel from the next beyond
    position 2048, bfloat16 beyond 256."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


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

    Returns:
        The values, in the maps' type.

    Raises:
        ValueError: for maps without a pixel, positions that are not (b, k, l, 2), one
            grid for each map, or not finite.
    """
    check_images(maps)
    fits = positions.ndim == 4 and positions.shape[-1] == 2
    expect(fits, "positions (b, k, l, 2)", positions.shape)
    alike = len(maps) == len(positions)
    expect(alike, "positions for each map", maps.shape, positions.shape)
    check_finite(positions, "positions")
    height, width = maps.shape[-2:]
    x, y = _single(positions).unbind(-1)
    where = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    kind = torch.promote_types(maps.dtype, where.dtype)
    values = functional.grid_sample(
        maps.to(kind), where.to(kind), mode, padding_mode=outside, align_corners=False
    )
    return values.to(maps.dtype)


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
        flow: (dx, dy) in pixels, of the maps' size.
        mode: see ``read``.
        outside: see ``read``.

    Raises:
        ValueError: for a flow of another shape, and what ``read`` refuses.
    """
    check_images(maps)
    wanted = (len(maps), 2, *maps.shape[-2:])
    expect(flow.shape == wanted, f"a flow {wanted}", flow.shape)
    height, width = maps.shape[-2:]
    dx, dy = _single(flow).unbind(1)
    x = cell_centres(width, 1.0).to(dx) + dx
    y = cell_centres(height, 1.0).to(dy)[:, None] + dy
    return read(maps, torch.stack([x, y], -1), mode=mode, outside=outside)


def warp_affine(
    maps: Float[Tensor, "b c h w"], matrices: Float[Tensor, "b 2 3"]
) -> Float[Tensor, "b c h w"]:
    """What is at M (x, y, 1) moves to (x, y); nothing lies beyond the frame.

    Args:
        maps: what is moved.
        matrices: M of each map, from positions in the answer to positions in the maps,
            in pixels.

    Raises:
        ValueError: for matrices of another shape, and what ``read`` refuses.
    """
    check_images(maps)
    wanted = (len(maps), 2, 3)
    expect(matrices.shape == wanted, f"matrices {wanted}", matrices.shape)
    height, width = maps.shape[-2:]
    across, down = _single(matrices)[..., None, None].unbind(1)
    x = cell_centres(width, 1.0).to(across)
    y = cell_centres(height, 1.0).to(down)[:, None]
    from_x = across[:, 0] * x + across[:, 1] * y + across[:, 2]
    from_y = down[:, 0] * x + down[:, 1] * y + down[:, 2]
    return read(maps, torch.stack([from_x, from_y], -1))
