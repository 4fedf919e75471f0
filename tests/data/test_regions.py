import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from papernets_lite.data import regions
from papernets_lite.ops.boxes import BACKGROUND, BETWEEN


def truth() -> dict[str, Tensor]:
    boxes = torch.tensor(
        [[[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 0.0, 0.0]]]
    )
    return {"boxes": boxes, "valid": torch.tensor([[True, True, False]])}


def test_owners_and_what_is_asked_of_them():
    boxes = torch.tensor(
        [
            [
                [0.0, 0.0, 10.0, 10.0],
                [20.0, 20.0, 30.0, 34.0],
                [5.0, 0.0, 15.0, 10.0],
                [12, 0, 18, 9],
            ]
        ]
    )
    owner = regions.owners(boxes, truth())
    assert owner.tolist() == [[0, 1, BETWEEN, BACKGROUND]]
    there = torch.tensor([[True, True, True, False]])
    assert regions.owners(boxes, truth(), there).tolist() == [[0, 1, BETWEEN, BETWEEN]]
    best = regions.reach(boxes[:, 1:3], truth())
    assert best[0, :2].tolist() == pytest.approx([1 / 3, 10 / 14])
    assert best[0, 2].isnan()
    labels, wanted = regions.targets(
        owner, torch.tensor([[4, 0, 9]]), torch.tensor([[2, 5, 9]])
    )
    assert labels.tolist() == [[5, 1, regions.NOTHING, 0]]
    assert wanted.tolist() == [[2, 5, regions.NOTHING, regions.NOTHING]]


def test_proposals_are_the_true_boxes_and_as_large_ones_elsewhere():
    many = {
        name: value.repeat(200, *[1] * (value.ndim - 1))
        for name, value in truth().items()
    }
    boxes, valid = regions.proposals(
        many, size=48, generator=torch.Generator().manual_seed(0), jitter=0.5
    )
    assert boxes.shape == (200, 7, 4)
    counts = valid.sum(1)
    assert set(counts.tolist()) == {4, 5, 6}, "two true ones and two to four others"
    sides = boxes[valid][:, 2:] - boxes[valid][:, :2]
    assert (sides - 10).abs().max() < 4
    iou = torch.stack(
        [
            box_iou(a[v], b)
            for a, b, v in zip(many["boxes"], boxes, many["valid"], strict=True)
        ]
    )
    assert (iou.max(2).values > 0.6).all()
    assert (boxes[valid] >= -3).all()
    assert (boxes[valid] <= 51).all()
    first = valid.float().mean(0)
    assert (first - first.mean()).abs().max() < 0.15, "in random order"


def test_windows_tile_the_picture_or_overlap_within_it():
    boxes = regions.windows(3, 48, 16)
    assert boxes[1].tolist() == [16, 0, 32, 16]
    assert boxes[5].tolist() == [32, 16, 48, 32]
    assert ((boxes[:, 2:] - boxes[:, :2]).prod(1).sum()).item() == 48**2
    assert regions.windows(5, 48, 16)[:3].tolist() == [
        [0, 0, 16, 16],
        [8, 0, 24, 16],
        [16, 0, 32, 16],
    ]
    assert regions.windows(1, 48, 16).tolist() == [[0, 0, 48, 48]]


def test_pointing_by_hand():
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [10.0, 10.0, 30.0, 30.0]]]).expand(
        3, 2, 4
    )
    weights = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    goals = torch.tensor(
        [[4.0, 4.0, 6.0, 6.0], [4.0, 4.0, 6.0, 6.0], [19.0, 19.0, 21.0, 21.0]]
    )
    assert regions.pointed(boxes, weights, goals).tolist() == [True, False, True]
