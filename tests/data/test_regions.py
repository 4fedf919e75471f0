import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from papernets_lite.data import regions


def truth() -> dict[str, Tensor]:
    boxes = torch.tensor(
        [[[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 0.0, 0.0]]]
    )
    return {"boxes": boxes, "valid": torch.tensor([[True, True, False]])}


def repeated(count: int) -> dict[str, Tensor]:
    """The same picture many times."""
    boxes, valid = truth()["boxes"], truth()["valid"]
    return {"boxes": boxes.repeat(count, 1, 1), "valid": valid.repeat(count, 1)}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_proposals_are_the_true_boxes_and_as_large_ones_elsewhere():
    many = repeated(200)
    boxes, valid = regions.proposals(many, size=48, generator=seeded(), jitter=0.5)
    assert boxes.shape == (200, 7, 4)
    counts = valid.sum(1)
    assert set(counts.tolist()) == {4, 5, 6}, "two true ones and two to four others"
    sides = boxes[valid][:, 2:] - boxes[valid][:, :2]
    assert (sides - 10).abs().max() < 4
    for true, box in zip(many["boxes"][:, :2], boxes, strict=True):
        assert (box_iou(true, box).max(1).values > 0.6).all()
    assert (boxes[valid] >= -3).all()
    assert (boxes[valid] <= 51).all()
    first = valid.float().mean(0)
    assert (first - first.mean()).abs().max() < 0.15, "in random order"


def test_distractors_have_an_objects_sides_wherever_it_stands_in_its_row():
    many = repeated(50)
    many = {name: values.flip(1) for name, values in many.items()}
    boxes, valid = regions.proposals(many, size=48, generator=seeded(), jitter=0.0)
    sides = boxes[valid][:, 2:] - boxes[valid][:, :2]
    torch.testing.assert_close(sides, torch.full_like(sides, 10.0))


def test_what_is_there_has_an_area_however_much_it_jitters():
    boxes, valid = regions.proposals(
        repeated(100), size=48, generator=seeded(), jitter=30.0
    )
    sides = boxes[valid][:, 2:] - boxes[valid][:, :2]
    assert sides.min() > 0.99


def test_integer_boxes_and_masks_are_taken():
    whole = {"boxes": truth()["boxes"].int(), "valid": truth()["valid"].long()}
    for some in (whole, truth()):
        boxes, valid = regions.proposals(some, size=48, generator=seeded())
        assert boxes.dtype == torch.float32
        assert valid.dtype == torch.bool
    first, second = (
        regions.proposals(some, size=48, generator=seeded())
        for some in (whole, truth())
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid": torch.zeros(1, 3).bool()}, r"one object in each picture, got \[0\]"),
        ({"valid": torch.ones(1, 3).bool()}, "expected true boxes"),
        ({"boxes": torch.full((1, 3, 4), torch.nan)}, "expected finite true boxes"),
    ],
)
def test_pictures_without_objects_and_objects_without_boxes_are_refused(
    changes, message
):
    with pytest.raises(ValueError, match=message):
        regions.proposals({**truth(), **changes}, size=48, generator=seeded())


def test_negative_numbers_are_refused():
    for wrong in ({"jitter": -1.0}, {"distractors": -1}):
        with pytest.raises(ValueError, match="no less than 0"):
            regions.proposals(truth(), size=48, generator=seeded(), **wrong)
