"""Reading between pixels, with paper and pencil."""

import pytest
import torch
from torch import Tensor

from papernets_lite.ops import warps
from tests.unchecked import unchecked


def row(*values: float) -> Tensor:
    """A map of one row."""
    return torch.tensor(values).float().reshape(1, 1, 1, -1)


def at(*places: float) -> Tensor:
    """Positions along that row, at its middle."""
    x = torch.tensor(places)
    return torch.stack([x, torch.full_like(x, 0.5)], -1)[None, None]


def test_a_pixels_value_lies_at_its_centre() -> None:
    maps = row(10, 20, 40)
    assert warps.read(maps, at(0.5, 1.5, 2.5)).flatten().tolist() == [10, 20, 40]
    # half way, and a quarter of the way
    assert warps.read(maps, at(1.0, 1.75)).flatten().tolist() == [15, 25]
    nearest = warps.read(maps, at(0.9, 1.1, 2.9), mode="nearest")
    assert nearest.flatten().tolist() == [10, 20, 40]


@pytest.mark.parametrize(
    ("outside", "expected"),
    [("zeros", [0, 0]), ("border", [10, 40]), ("reflection", [20, 20])],
)
def test_what_lies_beyond_the_border(
    outside: warps.Outside, expected: list[float]
) -> None:
    # Positions -1.5 and 4.5: the mirror stands at the border, 0 and 3.
    found = warps.read(row(10, 20, 40), at(-1.5, 4.5), outside=outside)
    torch.testing.assert_close(found.flatten(), torch.tensor(expected).float())


def test_rows_and_columns_are_not_exchanged() -> None:
    maps = torch.tensor([[1.0, 2, 3], [4, 5, 6]])[None, None]
    positions = torch.tensor([[[[2.5, 0.5], [0.5, 1.5]]]])
    assert warps.read(maps, positions).flatten().tolist() == [3, 4]


def test_a_flow_reads_where_it_points() -> None:
    maps = torch.tensor([[1.0, 2, 3], [4, 5, 6]])[None, None]
    flow = torch.zeros(1, 2, 2, 3)
    flow[:, 0] = 1
    assert warps.warp_flow(maps, flow).tolist() == [[[[2, 3, 0], [5, 6, 0]]]]
    flow[:, 0], flow[:, 1] = 0, -1
    assert warps.warp_flow(maps, flow).tolist() == [[[[0, 0, 0], [1, 2, 3]]]]
    flow[:, 0], flow[:, 1] = 0.5, 0
    assert warps.warp_flow(maps, flow)[0, 0, 0].tolist() == [1.5, 2.5, 1.5]


def test_matrices_act_on_positions_not_on_indices() -> None:
    maps = torch.tensor([[1.0, 2, 3, 4]])[None, None]
    same = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    assert warps.warp_affine(maps, same).equal(maps)
    shift = torch.tensor([[[1.0, 0, 1], [0, 1, 0]]])
    assert warps.warp_affine(maps, shift)[0, 0, 0].tolist() == [2, 3, 4, 0]
    # x -> 4 - x turns centres into centres: no half pixel is left over.
    turned = torch.tensor([[[-1.0, 0, 4], [0, 1, 0]]])
    assert warps.warp_affine(maps, turned)[0, 0, 0].tolist() == [4, 3, 2, 1]
    # x -> x / 2: centres 0.5, 1.5, 2.5, 3.5 are read at 0.25, 0.75, 1.25, 1.75.
    half = torch.tensor([[[0.5, 0, 0], [0, 1, 0]]])
    found = warps.warp_affine(maps, half)[0, 0, 0].tolist()
    assert found == [0.75, 1.25, 1.75, 2.25]


def test_in_bfloat16_pixels_beyond_256_are_told_apart() -> None:
    maps = torch.arange(400).remainder(2).bfloat16().reshape(1, 1, 1, 400)
    flow = torch.zeros(1, 2, 1, 400, dtype=torch.bfloat16)
    found = warps.warp_flow(maps, flow)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-3)


def test_the_answer_has_the_maps_type() -> None:
    positions = at(1.0).double()
    assert warps.read(row(1, 2), positions).dtype == torch.float32
    assert warps.read(row(1, 2).double(), at(1.0)).dtype == torch.float64


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_positions_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="expected finite positions, got '1 NaN"):
        warps.read(row(1, 2), at(0.5, bad))
    flow = torch.zeros(1, 2, 1, 2)
    flow[0, 0, 0, 1] = bad
    with pytest.raises(ValueError, match="expected finite positions"):
        warps.warp_flow(row(1, 2), flow)


def test_what_would_only_fit_after_broadcasting_is_refused() -> None:
    maps = torch.rand(2, 1, 3, 4)
    with unchecked():
        with pytest.raises(ValueError, match="positions for each map"):
            warps.read(maps, torch.zeros(1, 3, 4, 2))
        with pytest.raises(ValueError, match=r"a flow \(2, 2, 3, 4\), got \(1,"):
            warps.warp_flow(maps, torch.zeros(1, 2, 3, 4))
        with pytest.raises(ValueError, match=r"matrices \(2, 2, 3\), got \(1,"):
            warps.warp_affine(maps, torch.zeros(1, 2, 3))
        with pytest.raises(ValueError, match=r"positions \(b, k, l, 2\)"):
            warps.read(maps, torch.zeros(2, 3, 4, 3))
        with pytest.raises(ValueError, match="at least one image"):
            warps.read(maps[..., :0], torch.zeros(2, 3, 4, 2))
