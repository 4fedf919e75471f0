"""Readers of boxes by hand, against torchvision, and what must not reach them."""

import math

import pytest
import torch
from torchvision.ops import roi_align

from papernets_lite.ops.pooling import align, align_rounded, regions, vote
from tests.unchecked import unchecked

NAN = float("nan")
BAD = (
    [NAN, 1.0, 5.0, 5.0],
    [1.0, 1.0, math.inf, 5.0],
    [1.0, 1.0, 1e30, 5.0],
    [5.0, 1.0, 1.0, 5.0],
)


def test_regions_carry_the_number_of_their_image() -> None:
    boxes = [torch.tensor([[1, 2, 3, 4]]), torch.zeros(0, 4), torch.ones(1, 4)]
    assert regions(boxes, 3).tolist() == [[0, 1, 2, 3, 4], [2, 1, 1, 1, 1]]
    assert regions(regions(boxes, 3), 3).tolist() == regions(boxes, 3).tolist()
    assert regions([], 0).shape == (0, 5)


def test_align_equals_torchvision() -> None:
    torch.manual_seed(0)
    maps, boxes = torch.rand(2, 3, 8, 8), [torch.tensor([[3.0, 5, 20, 30]])] * 2
    expected = roi_align(maps, boxes, (3, 2), 0.25, 2, aligned=True)
    assert torch.equal(align(maps, boxes, (3, 2), spatial_scale=0.25), expected)
    half = align(maps.bfloat16(), boxes, (3, 2), spatial_scale=0.25)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.02, rtol=0)
    assert align(maps, [torch.zeros(0, 4)] * 2, 3, spatial_scale=1.0).shape[0] == 0


def test_rounding_moves_a_box_to_whole_cells() -> None:
    maps = torch.rand(1, 1, 8, 8)
    near, whole = torch.tensor([[9.0, 7, 22, 15]]), torch.tensor([[8.0, 8, 24, 16]])
    found = align_rounded(maps, [near], 2, spatial_scale=0.25)
    assert torch.equal(found, align(maps, [whole], 2, spatial_scale=0.25))


def test_vote_reads_each_bins_own_map() -> None:
    # Two answers, 2 x 2 bins: map c 4 + i 2 + j is constant c 100 + i 10 + j, so their
    # means are known.
    values = torch.tensor([0.0, 1, 10, 11, 100, 101, 110, 111])
    maps = values[None, :, None, None].expand(1, 8, 8, 8)
    box = [torch.tensor([[8, 8, 24, 24]])]
    assert vote(maps, box, bins=2, stride=4.0)[0].tolist() == [5.5, 105.5]
    assert vote(maps.bfloat16(), box, bins=2, stride=4.0)[0].tolist() == [5.5, 105.5]
    # Only the upper left part of the map of the upper left bin is read by it.
    maps = torch.zeros(1, 4, 8, 8)
    maps[0, 0, :4, :4], maps[0, 3, :4, :4] = 4.0, 4.0
    found = vote(maps, [torch.tensor([[4.0, 4.0, 28.0, 28.0]])], bins=2, stride=4.0)
    assert found.item() == 1.0


@pytest.mark.parametrize("box", BAD)
def test_boxes_that_end_a_process_are_refused(box: list) -> None:
    maps, boxes = torch.rand(1, 18, 8, 8), [torch.tensor([box])]
    for pool in (align, align_rounded):
        with pytest.raises(ValueError, match=r"expected .*boxes"):
            pool(maps, boxes, 3, spatial_scale=0.25)
    with pytest.raises(ValueError, match=r"expected .*boxes"):
        vote(maps, boxes, bins=3, stride=4.0)


def test_settings_that_end_a_process_are_refused() -> None:
    maps, boxes = torch.rand(1, 18, 8, 8), [torch.tensor([[1.0, 1, 5, 5]])]
    for scale in (0.0, -1.0, NAN, math.inf):
        for pool in (align, align_rounded):
            with pytest.raises(ValueError, match="expected a positive scale"):
                pool(maps, boxes, 3, spatial_scale=scale)
    for size in (0, (3, 0), 2.5):
        with (
            unchecked(),
            pytest.raises(ValueError, match="expected a patch of at least one cell"),
        ):
            align(maps, boxes, size, spatial_scale=1.0)
    with pytest.raises(ValueError, match="expected a patch of at least one cell"):
        vote(maps, boxes, bins=0, stride=4.0)
    with pytest.raises(ValueError, match="expected a positive stride"):
        vote(maps, boxes, bins=3, stride=0.0)
    with pytest.raises(ValueError, match="expected a multiple of 4 x 4 maps"):
        vote(maps, boxes, bins=4, stride=4.0)


def test_images_that_are_not_there_are_refused() -> None:
    maps = torch.rand(1, 18, 8, 8)
    with pytest.raises(ValueError, match="expected boxes of 1 images, got 2"):
        align(maps, [torch.ones(1, 4)] * 2, 3, spatial_scale=1.0)
    for number in (-1.0, 1.0, 0.5, NAN):
        with pytest.raises(ValueError, match="expected numbers of images from 0 to 0"):
            align(maps, torch.tensor([[number, 1, 1, 5, 5]]), 3, spatial_scale=1.0)


def test_maps_without_cells_that_end_a_process_are_refused() -> None:
    boxes = [torch.tensor([[1.0, 1, 5, 5]])]
    for shape in ((1, 18, 0, 8), (1, 18, 8, 0), (1, 0, 8, 8), (18, 8, 8)):
        maps = torch.rand(shape)
        for pool in (align, align_rounded):
            with unchecked(), pytest.raises(ValueError, match="with at least a cell"):
                pool(maps, boxes, 3, spatial_scale=0.25)
        with unchecked(), pytest.raises(ValueError, match="with at least a cell"):
            vote(maps, boxes, bins=3, stride=4.0)


def test_maps_of_integers_would_lose_the_fractions_and_are_refused() -> None:
    maps, boxes = torch.ones(1, 18, 8, 8).long(), [torch.tensor([[1.0, 1, 5, 5]])]
    with unchecked(), pytest.raises(ValueError, match="maps of a floating type"):
        align(maps, boxes, 3, spatial_scale=0.25)


def test_boxes_may_be_numpys() -> None:
    maps, boxes = torch.rand(1, 4, 8, 8), torch.tensor([[1.0, 1, 5, 5]])
    found = align(maps, [boxes.numpy()], 2, spatial_scale=0.25)
    assert torch.equal(found, align(maps, [boxes], 2, spatial_scale=0.25))
