import pytest
import torch
from torch import Tensor

from papernets_lite.metrics import grounding


def truth() -> dict[str, Tensor]:
    boxes = torch.tensor(
        [[[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 0.0, 0.0, 0.0]]]
    )
    return {"boxes": boxes, "valid": torch.tensor([[True, True, False]])}


def test_reach_is_the_best_overlap_and_nan_without_an_object():
    boxes = torch.tensor([[[20.0, 20.0, 30.0, 34.0], [5.0, 0.0, 15.0, 10.0]]])
    best = grounding.reach(boxes, truth())
    assert best[0, :2].tolist() == pytest.approx([1 / 3, 10 / 14])
    assert best[0, 2].isnan()
    whole = {"boxes": truth()["boxes"].int(), "valid": truth()["valid"].int()}
    assert torch.equal(grounding.reach(boxes.int(), whole)[0, :2], best[0, :2])


BOXES = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [10.0, 10.0, 30.0, 30.0]]])
WEIGHTS = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
GOALS = torch.tensor(
    [[4.0, 4.0, 6.0, 6.0], [4.0, 4.0, 6.0, 6.0], [19.0, 19.0, 21.0, 21.0]]
)


def test_pointing_by_hand():
    found = grounding.pointed(BOXES.expand(3, 2, 4), WEIGHTS, GOALS)
    assert found.tolist() == [True, False, True]
    whole = grounding.pointed(BOXES.expand(3, 2, 4).int(), WEIGHTS, GOALS.double())
    assert whole.tolist() == found.tolist()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: grounding.reach(torch.zeros(1, 0, 4), truth()), "at least one box"),
        (
            lambda: grounding.reach(torch.full((1, 1, 4), torch.nan), truth()),
            "expected finite boxes",
        ),
        (
            lambda: grounding.pointed(
                torch.zeros(1, 0, 4), torch.zeros(1, 0), torch.zeros(1, 4)
            ),
            "a weight for each",
        ),
        (
            lambda: grounding.pointed(
                BOXES.expand(3, 2, 4), WEIGHTS * torch.nan, GOALS
            ),
            "weights without NaN",
        ),
        (
            lambda: grounding.pointed(BOXES.expand(3, 2, 4), WEIGHTS, 0 * GOALS),
            "expected goals",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
