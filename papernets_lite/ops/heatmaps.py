"""Points as Gaussian maps, and back.

A map with ``stride`` s has cells of s x s pixels; the centre of cell (row, column) is
the pixel position ((column + 0.5) s, (row + 0.5) s).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import expect

# smaller values become zero: they carry no signal, and denormals slow convolutions on a
# CPU six times
TAIL = 0.01
# where absent points go: so far away that their Gaussian is zero everywhere
FAR = 1e6


def pixels_of(cells: Real[Tensor, "*b"], stride: float) -> Float[Tensor, "*b"]:
    """Cells to pixels: cell i, counted from 0, has its centre at (i + 0.5) strides."""
    return (cells + 0.5) * stride


def cells_of(pixels: Float[Tensor, "*b"], stride: float) -> Float[Tensor, "*b"]:
    """Pixels to cells: the inverse of ``pixels_of``."""
    return pixels / stride - 0.5


def cell_centres(count: int, stride: float) -> Float[Tensor, " n"]:
    """Pixel positions of the centres of ``count`` cells along one axis."""
    return pixels_of(torch.arange(count), stride)


def floating(numbers: Real[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Numbers in which a pixel's position is exact: float32 for integers and halves,
    float32 and float64 as they are."""
    exact = numbers.dtype in (torch.float32, torch.float64)
    return numbers if exact else numbers.float()


def gaussian_maps(
    points: Real[Tensor, "b p k 2"],
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

    Returns:
        Maps in [0, 1]; float64 for points in float64, else float32.

    Raises:
        ValueError: for a present point that is not finite, points and ``present`` that
            do not fit together, or a size, sigma or stride that is not positive.
    """
    check_grid(size, stride=stride, sigma=sigma)
    check_present(points, present)
    points = floating(points)
    images, people, kinds, _ = points.shape
    if people == 0:
        return points.new_zeros(images, kinds, *size)
    rows, columns = (cell_centres(count, stride).to(points) for count in size)
    where = torch.where(present[..., None], points, FAR)
    x, y = where.split(1, -1)
    # exp(-(a^2 + b^2)) = exp(-a^2) exp(-b^2): two short vectors and one product per
    # map.
    across = torch.exp(-(((x - columns) / sigma) ** 2))
    down = torch.exp(-(((y - rows) / sigma) ** 2))
    maps = down[..., :, None] * across[..., None, :]
    highest = maps.amax(1)
    return highest.masked_fill_(highest < TAIL, 0)


def check_grid(size: Sequence[int], **lengths: float) -> None:
    """Raise ``ValueError`` unless maps have cells, and their lengths in pixels are
    positive and finite.

    Args:
        size: (rows, columns).
        lengths: such as ``stride`` and ``sigma``, by name.
    """
    expect(len(size) == 2 and min(size) > 0, "a size of (rows, columns)", size)
    positive = all(0 < length < float("inf") for length in lengths.values())
    expect(positive, f"positive {' and '.join(lengths)}", *lengths.values())


def check_present(points: Tensor, present: Tensor) -> None:
    """Raise ``ValueError`` unless points (image, person, kind, 2) have one bool each
    that says whether they are present, and the present ones are finite."""
    expect(
        points.ndim == 4 and points.shape[-1] == 2,
        "points (images, people, kinds, 2)",
        points.shape,
    )
    expect(
        present.shape == points.shape[:-1] and present.dtype == torch.bool,
        f"a bool for each point, {tuple(points.shape[:-1])}",
        present.shape,
        present.dtype,
    )
    bad = present & ~torch.isfinite(points).all(-1)
    if bad.any():
        index = bad.nonzero()[0].tolist()
        point = points[tuple(index)].tolist()
        came = f"got {point} at index {index}"
        raise ValueError(f"expected finite points where present, {came}")


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
        ValueError: for a threshold or stride that is not positive, maps without a cell,
            or maps that are not finite.
    """
    expect(maps.ndim == 3, "maps (kinds, rows, columns)", maps.shape)
    check_grid(maps.shape[1:], threshold=threshold, stride=stride)
    expect(maps.isfinite().all(), "finite maps, got some values that are not")
    maps = floating(maps)
    highest = local_maxima(maps, threshold)
    kind, row, column = highest.nonzero().unbind(1)
    height = maps[kind, row, column]
    lowest = TAIL * threshold
    x = refine(maps[kind, row], column, height, lowest)
    y = refine(maps[kind, :, column], row, height, lowest)
    cells = torch.stack([x, y], 1)
    return kind, pixels_of(cells, stride), height


def local_maxima(
    maps: Float[Tensor, "k h w"], threshold: float
) -> Bool[Tensor, "k h w"]:
    """Which cells are at least ``threshold``, above their neighbours that come earlier
    in reading order, and no lower than those that come later."""
    edge = functional.pad(maps, (1, 1, 1, 1), value=float("-inf"))
    triples = functional.max_pool2d(edge[:, None], (1, 3), stride=1)[:, 0]
    above = triples[:, :-2]
    below = triples[:, 2:]
    left = edge[:, 1:-1, :-2]
    right = edge[:, 1:-1, 2:]
    earlier = torch.maximum(above, left)
    later = torch.maximum(below, right)
    return (maps > earlier) & (maps >= later) & (maps >= threshold)


def refine(
    lines: Float[Tensor, "n m"],
    at: Int[Tensor, " n"],
    height: Float[Tensor, " n"],
    lowest: float,
) -> Float[Tensor, " n"]:
    """Along one axis, where the parabola through a peak and its neighbours' logarithms
    is highest.

    Args:
        lines: the row or column of cells through each peak.
        at: the peak's cell in it.
        height: of the peak.
        lowest: what a neighbour counts at least; above zero.

    Returns:
        Positions in cells, within half a cell of ``at``; ``at`` itself at the border.
    """
    last = lines.shape[1] - 1
    # mirrored at the border
    left = (at - 1).abs()
    right = last - (last - at - 1).abs()
    sides = torch.stack([left, right], 1).clamp(0, last)
    logarithms = lines.gather(1, sides).clamp(min=lowest).log()
    before, after = logarithms.unbind(1)
    bend = (2 * height.log() - before - after).clamp(min=1e-6)
    shift = (after - before) / (2 * bend)
    return at + shift.clamp(-0.5, 0.5)


def sample_maps(
    maps: Float[Tensor, "c h w"],
    which: Int[Tensor, " n"],
    at: Real[Tensor, "n s 2"],
    stride: float,
) -> Float[Tensor, "n s"]:
    """Bilinear values of one map of many at each position; outside, the nearest cell
    counts.

    What ``ops.warps.read`` does with whole maps; here each position reads a map of its
    own, which ``grid_sample`` could only do from a copy of that map.

    Args:
        maps: c maps.
        which: of n rows of positions, the map that they read, from 0 to c - 1.
        at: (x, y) in pixels, s positions in each row.
        stride: pixels per cell.

    Raises:
        ValueError: for positions that are not finite, or a map that does not exist.
    """
    expect(maps.ndim == 3, "maps (kinds, rows, columns)", maps.shape)
    check_grid(maps.shape[1:], stride=stride)
    known = (which >= 0) & (which < len(maps))
    expect(known.all(), f"maps from 0 to {len(maps) - 1}", which)
    at = floating(at)
    expect(at.isfinite().all(), "finite positions, got some that are not")
    height, width = maps.shape[-2:]
    x = cells_of(at[..., 0], stride).clamp(0, width - 1)
    y = cells_of(at[..., 1], stride).clamp(0, height - 1)
    column = x.floor().long().clamp(max=max(width - 2, 0))
    row = y.floor().long().clamp(max=max(height - 2, 0))
    right = min(1, width - 1)
    below = width * min(1, height - 1)
    a = x - column
    b = y - row
    corner = (which[:, None] * height + row) * width + column

    def across(left: Tensor) -> Tensor:
        return (1 - a) * maps.take(left) + a * maps.take(left + right)

    return (1 - b) * across(corner) + b * across(corner + below)
