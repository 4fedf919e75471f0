import pytest
import torch
from torch import Tensor

from papernets_lite.ops import regions
from papernets_lite.ops.boxes import BACKGROUND, BETWEEN
from papernets_lite.ops.labels import NOTHING

BOXES = torch.tensor(
    [
        [
            [0.0, 0.0, 10.0, 10.0],
            [20.0, 20.0, 30.0, 34.0],
            [5.0, 0.0, 15.0, 10.0],
            [12.0, 0.0, 18.0, 9.0],
        ]
    ]
)


def truth() -> dict[str, Tensor]:
    boxes = torch.tensor(
        [[[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 0.0, 0.0]]]
    )
    return {"boxes": boxes, "valid": torch.tensor([[True, True, False]])}


def test_owners_and_what_is_asked_of_them():
    owner = regions.owners(BOXES, truth())
    assert owner.tolist() == [[0, 1, BETWEEN, BACKGROUND]]
    there = torch.tensor([[True, True, True, False]])
    for mask in (there, there.int()):
        found = regions.owners(BOXES, truth(), mask)
        assert found.tolist() == [[0, 1, BETWEEN, BETWEEN]]
    objects, attributes = torch.tensor([[4, 0, 9]]), torch.tensor([[2, 5, 9]])
    for kind in (torch.int64, torch.int32):
        labels, wanted = regions.targets(owner, objects.to(kind), attributes.to(kind))
        assert labels.tolist() == [[5, 1, NOTHING, 0]]
        assert wanted.tolist() == [[2, 5, NOTHING, NOTHING]]


def test_an_owner_is_known_by_its_place_whatever_stands_before_it():
    """An object that is not there does not move the numbers of the others."""
    flipped = {name: values.flip(1) for name, values in truth().items()}
    assert regions.owners(BOXES, flipped).tolist() == [[2, 1, BETWEEN, BACKGROUND]]


def test_without_objects_all_is_background():
    nobody = {"boxes": torch.zeros(1, 0, 4), "valid": torch.zeros(1, 0).bool()}
    for none in (nobody, {**truth(), "valid": torch.zeros(1, 3).bool()}):
        owner = regions.owners(BOXES, none)
        assert owner.tolist() == [[BACKGROUND] * 4]
        count = none["valid"].shape[1]
        labels, wanted = regions.targets(owner, *torch.zeros(2, 1, count).long())
        assert labels.tolist() == [[0] * 4]
        assert wanted.tolist() == [[NOTHING] * 4]


def test_integer_and_double_boxes_have_the_same_owners():
    expected = regions.owners(BOXES, truth())
    for kind in (torch.int32, torch.int64, torch.float64):
        other = {**truth(), "boxes": truth()["boxes"].to(kind)}
        assert torch.equal(regions.owners(BOXES.to(kind), other), expected)


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: regions.owners(BOXES * torch.nan, truth()), "expected finite boxes"),
        (lambda: regions.owners(BOXES.expand(2, 4, 4), truth()), "boxes of 1 pictures"),
        (lambda: regions.owners(BOXES.flip(2), truth()), "x0 <= x1"),
        (
            lambda: regions.owners(
                BOXES, {**truth(), "valid": torch.tensor([[1, 2, 0]])}
            ),
            "bool, or of 0 and 1",
        ),
        (
            lambda: regions.owners(BOXES, truth(), torch.full((1, 4), 2)),
            "`there` of bool",
        ),
        (
            lambda: regions.targets(
                torch.tensor([[3]]), *torch.zeros(2, 1, 2, dtype=torch.long)
            ),
            "labels from 0 to 1",
        ),
        (lambda: regions.windows(0, 48, 16), "at least one window"),
        (lambda: regions.windows(2, 48, 50), "windows within 48 pixels, got 50"),
    ],
)
def test_bad_boxes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
