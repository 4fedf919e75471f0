"""Gaussian maps, peaks and sampling against hand-computed values, plain loops and
torch's own sampler."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.nn import functional

from papernets_lite.ops.heatmaps import (
    TAIL,
    cell_centres,
    cells_of,
    gaussian_maps,
    peaks,
    pixels_of,
    sample_maps,
)
from papernets_lite.ops.warps import read


def maps(points, *, size=(6, 8), stride=4.0, sigma=3.5):
    """One image; ``points`` is people x kinds x (x, y)."""
    points = torch.tensor(points).float()[None]
    return gaussian_maps(
        points,
        torch.ones(points.shape[:-1], dtype=torch.bool),
        size=size,
        stride=stride,
        sigma=sigma,
    )


def test_a_cells_centre_is_half_a_cell_in():
    assert cell_centres(3, 4.0).tolist() == [2.0, 6.0, 10.0]


def test_values_by_hand():
    heat = maps([[(10.0, 6.0)]])[0, 0]  # the centre of column 2, row 1
    assert heat[1, 2] == 1
    assert heat[1, 3].item() == pytest.approx(math.exp(-(4**2) / 3.5**2))
    assert heat[2, 1].item() == pytest.approx(math.exp(-(4**2 + 4**2) / 3.5**2))
    assert heat[5, 7] == 0  # the tail


def test_people_meet_in_the_maximum_not_in_the_sum():
    alone, other = maps([[(9.0, 10.0)]]), maps([[(14.0, 10.0)]])
    both = maps([[(9.0, 10.0)], [(14.0, 10.0)]])
    assert torch.equal(both, torch.maximum(alone, other))
    assert both.max() <= 1


def test_no_value_between_zero_and_the_tail():
    heat = maps([[(9.0, 10.0), (31.0, 1.0)]], size=(30, 30), stride=1.0)
    assert heat[heat > 0].min() >= TAIL


def test_points_outside_reach_in_by_their_tail_only():
    near, far = maps([[(-2.0, 6.0)]])[0, 0], maps([[(-50.0, 6.0)]])[0, 0]
    assert near[1, 0].item() == pytest.approx(math.exp(-(4**2) / 3.5**2))
    assert near.max() == near[1, 0]
    assert far.max() == 0


def test_absent_points_may_hold_anything():
    points = torch.tensor([[[[math.nan, 3.0], [5.0, 5.0]]]])
    heat = gaussian_maps(
        points, torch.tensor([[[False, True]]]), size=(4, 4), stride=4.0, sigma=3.0
    )
    assert heat[0, 0].max() == 0
    assert heat[0, 1].max() == heat[0, 1, 1, 1] > 0


@pytest.mark.parametrize(("images", "people"), [(2, 0), (0, 3)])
def test_no_people_or_no_images_give_empty_maps(images, people):
    heat = gaussian_maps(
        torch.zeros(images, people, 5, 2),
        torch.zeros(images, people, 5, dtype=torch.bool),
        size=(3, 4),
        stride=4.0,
        sigma=3.0,
    )
    assert heat.shape == (images, 5, 3, 4)
    assert heat.sum() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_present_point_must_be_finite(bad):
    with pytest.raises(ValueError, match=r"finite points.*index \[0, 1, 0\]"):
        maps([[(1.0, 2.0)], [(bad, 2.0)]])


@pytest.mark.parametrize(("sigma", "stride"), [(0.0, 4.0), (3.0, -1.0)])
def test_sizes_must_be_positive(sigma, stride):
    with pytest.raises(ValueError, match="positive"):
        maps([[(1.0, 2.0)]], sigma=sigma, stride=stride)


@settings(max_examples=60, deadline=None)
@given(st.floats(6, 26), st.floats(6, 18), st.floats(3.0, 6.0))
def test_a_peak_comes_back_where_it_was_put(x, y, sigma):
    kind, where, height = peaks(maps([[(x, y)]], sigma=sigma)[0], stride=4.0)
    assert kind.tolist() == [0]
    assert where[0].tolist() == pytest.approx([x, y], abs=0.01)
    assert height[0] <= 1


def test_a_point_on_a_cells_corner_is_one_peak():
    # four cells share the highest value
    _, where, _ = peaks(maps([[(12.0, 8.0)]])[0], stride=4.0)
    assert where.shape == (1, 2)
    assert where[0].tolist() == pytest.approx([12.0, 8.0], abs=0.01)


def test_peaks_are_sorted_by_kind_and_stay_inside():
    kind, where, _ = peaks(
        maps([[(30.9, 23.0), (0.2, 9.0)], [(9.0, 9.0), (20.0, 4.0)]])[0], stride=4.0
    )
    assert kind.tolist() == [0, 0, 1, 1]
    assert (where >= 0).all()
    assert (where <= torch.tensor([32.0, 24.0])).all()
    # at the border: the cell's centre
    assert where[:, 0].tolist() == pytest.approx([9.0, 30.0, 20.0, 2.0], abs=0.02)


def test_low_peaks_do_not_count_and_a_threshold_is_positive():
    heat = 0.2 * maps([[(9.0, 9.0)]])[0]
    assert len(peaks(heat, stride=4.0, threshold=0.3)[0]) == 0
    assert len(peaks(torch.zeros(3, 5, 5), stride=4.0)[0]) == 0
    with pytest.raises(ValueError, match="positive"):
        peaks(heat, stride=4.0, threshold=0.0)
    with pytest.raises(ValueError, match="finite maps"):
        peaks(torch.full((1, 5, 5), math.nan), stride=4.0)


def test_one_cell_is_a_map_too():
    _, where, _ = peaks(torch.ones(1, 1, 1), stride=4.0)
    assert where.tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (5, 1), (1, 1)])
def test_sampling_equals_torchs_grid_sample(shape):
    generator = torch.Generator().manual_seed(0)
    heat = torch.rand(3, *shape, generator=generator)
    which = torch.tensor([0, 2, 1, 2])
    at = 40 * torch.rand(4, 9, 2, generator=generator) - 6  # some of them outside
    scale = 2 / (4.0 * torch.tensor([shape[1], shape[0]]))
    grid = (at * scale - 1)[:, None]
    expected = functional.grid_sample(
        heat[which][:, None], grid, padding_mode="border", align_corners=False
    )
    assert torch.allclose(
        sample_maps(heat, which, at, 4.0), expected[:, 0, 0], atol=1e-5
    )


def test_pixels_and_cells_are_each_others_inverse():
    assert pixels_of(torch.tensor([0, 1]), 4.0).tolist() == [2.0, 6.0]
    assert cells_of(torch.tensor([2.0, 6.0, 0.0]), 4.0).tolist() == [0.0, 1.0, -0.5]


def test_sampling_and_warps_read_at_the_same_half_pixel():
    generator = torch.Generator().manual_seed(0)
    heat = torch.rand(2, 5, 7, generator=generator)
    at = 8 * torch.rand(2, 9, 2, generator=generator) - 0.5
    found = sample_maps(heat, torch.tensor([0, 1]), at, 1.0)
    expected = read(heat[:, None], at[:, None], outside="border")
    torch.testing.assert_close(found, expected[:, 0, 0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float64])
def test_points_may_be_numpys_integers_and_doubles(dtype):
    points = torch.tensor([[[[9, 10], [31, 1]]]])
    there = torch.ones(1, 1, 2, dtype=torch.bool)
    lengths = {"size": (30, 30), "stride": 1.0, "sigma": 3.0}
    expected = gaussian_maps(points.float(), there, **lengths)
    found = gaussian_maps(points.to(dtype), there, **lengths)
    assert found.is_floating_point()
    torch.testing.assert_close(found.float(), expected)


def test_halves_lose_nothing_on_the_way():
    points = torch.tensor([[[[60.5, 3.5]]]])
    there = torch.ones(1, 1, 1, dtype=torch.bool)
    lengths = {"size": (16, 16), "stride": 4.0, "sigma": 3.0}
    heat = gaussian_maps(points.bfloat16(), there, **lengths)
    assert torch.equal(heat, gaussian_maps(points.bfloat16().float(), there, **lengths))
    _, where, _ = peaks(maps([[(9.0, 10.0)]])[0].bfloat16(), stride=4.0)
    assert where[0].tolist() == pytest.approx([9.0, 10.0], abs=0.1)


def test_what_does_not_fit_together_is_refused():
    points, there = torch.zeros(1, 2, 3, 2), torch.ones(1, 2, 3, dtype=torch.bool)
    lengths = {"size": (4, 4), "stride": 4.0, "sigma": 3.0}
    for wrong in (there[:, :1], there.int()):
        with pytest.raises((ValueError, TypeCheckError)):
            gaussian_maps(points, wrong, **lengths)
    for changes in ({"size": (0, 4)}, {"sigma": math.inf}, {"stride": math.nan}):
        with pytest.raises(ValueError, match="expected"):
            gaussian_maps(points, there, **{**lengths, **changes})
    with pytest.raises(ValueError, match="rows, columns"):
        peaks(torch.zeros(2, 0, 4), stride=4.0)
    at = torch.zeros(1, 1, 2)
    with pytest.raises(ValueError, match="maps from 0 to 1"):
        sample_maps(torch.zeros(2, 4, 4), torch.tensor([2]), at, 4.0)
    with pytest.raises(ValueError, match="finite positions"):
        sample_maps(torch.zeros(2, 4, 4), torch.tensor([1]), at / 0, 4.0)


def test_layout_does_not_change_peaks():
    heat = maps([[(9.0, 10.0), (20.0, 4.0)]])
    last = heat.to(memory_format=torch.channels_last)
    turned = heat.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (last, turned):
        for a, b in zip(
            peaks(heat[0], stride=4.0), peaks(other[0], stride=4.0), strict=True
        ):
            assert torch.equal(a, b)


def test_no_maps_have_no_peaks():
    kind, where, height = peaks(torch.zeros(0, 4, 4), stride=4.0)
    assert kind.shape == height.shape == (0,)
    assert where.shape == (0, 2)
