"""Points as Gaussian maps, and back.

A map with ``stride`` s has cells of s x s pixels; the centre of cell (row, column) is
the pixel position ((column + 0.5) s, (row + 0.5) s).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import expect

# smaller values become zero: they carry no signal, and denormals slow convolutions on a
# CPU six times
TAIL = 0.01


def cell_centres(count: int, stride: float) -> Float[Tensor, " n"]:
    """Pixel positions of the centres of ``count`` cells along one axis."""
    return (torch.arange(count) + 0.5) * stride


def gaussian_maps(
    points: Float[Tensor, "b p k 2"],
    present: Bool[Tensor, "b p k"],
    *,
    size: tuple[int, int],
    stride: float,
    sigma: float,
) -> Float[Tensor, "b k h w"]:
    r"""One map per kind of point: :math:`\max_p \exp(-\|x - x_p\|^2 / \sigma^2)`.

    The maximum over people, not the sum or mean, keeps neighbouring peaks apart and
    each of height one.

    Args:
        points: (x, y) in pixels; those that are not ``present`` may hold anything.
        present: which to draw.
        size: (rows, columns) of the maps.
        stride: pixels per cell.
        sigma: in pixels.

    Raises:
        ValueError: for a present point that is not finite, or a sigma or stride that is
            not positive.
    """
    expect(sigma > 0 and stride > 0, "positive sigma and stride", sigma, stride)
    check_present(points, present)
    # far away: its Gaussian is zero everywhere
    where = torch.where(present[..., None], points, 1e6)
    across = (where[..., 0:1] - cell_centres(size[1], stride).to(points)) / sigma
    down = (where[..., 1:2] - cell_centres(size[0], stride).to(points)) / sigma
    # exp(-(a^2 + b^2)) = exp(-a^2) exp(-b^2): two short vectors and one product per
    # map.
    maps = torch.exp(-(down**2))[..., :, None] * torch.exp(-(across**2))[..., None, :]
    if points.shape[1] == 0:
        return maps.new_zeros(len(points), points.shape[2], *size)
    highest = maps.amax(1)
    return highest.masked_fill_(highest < TAIL, 0)


def check_present(points: Tensor, present: Tensor) -> None:
    """Raise ``ValueError`` when a present point is not finite."""
    if not torch.isfinite(points[present]).all():
        bad = (present & ~torch.isfinite(points).all(-1)).nonzero()[0].tolist()
        raise ValueError(
            f"expected finite points where present, got {points[tuple(bad)].tolist()} at index {bad}"
        )


def peaks(
    maps: Float[Tensor, "k h w"], *, stride: float, threshold: float = 0.1
) -> tuple[Int[Tensor, " n"], Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    r"""Local maxima over 3x3 cells, placed between cells by a parabola through the
    neighbours' logarithms.

    A Gaussian's logarithm *is* a parabola: single points of ``gaussian_maps`` with a
    sigma of at least 3/4 of a cell come back exactly. At the map's border a peak stays
    at its cell's centre. Where neighbouring cells tie, only the first in reading order
    counts.

    Args:
        maps: one kind of point each.
        stride: pixels per cell.
        threshold: lowest height that counts, above zero.

    Returns:
        The map of each peak (sorted), its position (x, y) in pixels and the height of
        its cell.

    Raises:
        ValueError: for a threshold that is not positive, or maps that are not finite.
    """
    expect(threshold > 0, "a positive threshold", threshold)
    expect(maps.isfinite().all(), "finite maps, got some values that are not")
    edge = functional.pad(maps, (1, 1, 1, 1), value=float("-inf"))
    above = functional.max_pool2d(edge[None, :, :-2], (1, 3), stride=1)[0]
    below = functional.max_pool2d(edge[None, :, 2:], (1, 3), stride=1)[0]
    earlier, later = (
        torch.maximum(above, edge[:, 1:-1, :-2]),
        torch.maximum(below, edge[:, 1:-1, 2:]),
    )
    kind, row, column = (
        ((maps > earlier) & (maps >= later) & (maps >= threshold)).nonzero().unbind(1)
    )
    height = maps[kind, row, column]

    def refine(line: Float[Tensor, "n m"], at: Int[Tensor, " n"]) -> Tensor:
        last = line.shape[1] - 1
        # mirrored at the border
        sides = torch.stack([(at - 1).abs(), last - (last - at - 1).abs()], 1).clamp(
            0, last
        )
        before, after = (
            line.gather(1, sides).clamp(min=TAIL * threshold).log().unbind(1)
        )
        bend = (2 * height.log() - before - after).clamp(min=1e-6)
        return at + ((after - before) / (2 * bend)).clamp(-0.5, 0.5)

    x, y = refine(maps[kind, row], column), refine(maps[kind, :, column], row)
    return kind, (torch.stack([x, y], 1) + 0.5) * stride, height


def sample_maps(
    maps: Float[Tensor, "c h w"],
    which: Int[Tensor, " n"],
    at: Float[Tensor, "n s 2"],
    stride: float,
) -> Float[Tensor, "n s"]:
    """Bilinear values of map ``which[i]`` at the pixel positions ``at[i]``; outside,
    the nearest cell counts."""
    height, width = maps.shape[-2:]
    x = (at[..., 0] / stride - 0.5).clamp(0, width - 1)
    y = (at[..., 1] / stride - 0.5).clamp(0, height - 1)
    column, row = (
        x.floor().long().clamp(max=max(width - 2, 0)),
        y.floor().long().clamp(max=max(height - 2, 0)),
    )
    right, below = min(1, width - 1), width * min(1, height - 1)
    a, b = x - column, y - row
    corner = (which[:, None] * height + row) * width + column
    top = (1 - a) * maps.take(corner) + a * maps.take(corner + right)
    bottom = (1 - a) * maps.take(corner + below) + a * maps.take(corner + below + right)
    return (1 - b) * top + b * bottom
