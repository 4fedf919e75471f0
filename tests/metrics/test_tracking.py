"""Identity switches by hand."""

import pytest
import torch

from papernets_lite.metrics.tracking import identity_switches

A, B, C = [0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [40.0, 0.0, 50.0, 10.0]


def frame(**tubes):
    """Boxes by name, and the number of each one's tube."""
    places = {"a": A, "b": B, "c": C}
    boxes = torch.tensor([places[name] for name in tubes]).reshape(-1, 4)
    return {
        "boxes": boxes,
        "tubes": torch.tensor(list(tubes.values()), dtype=torch.long),
    }


def still(frames, *, absent=()):
    """Objects at A and B in every frame, but for the (frame, object) that are
    absent."""
    valid = torch.ones(frames, 2, dtype=torch.bool)
    for place in absent:
        valid[place] = False
    return {"boxes": torch.tensor([[A, B]] * frames), "valid": valid}


def test_tubes_that_keep_their_object():
    found = [frame(a=0, b=1)] * 3
    assert identity_switches(found, still(3)) == {
        "switches": 0,
        "matched": 6,
        "objects": 6,
    }


def test_tubes_that_change_places_are_two_switches():
    found = [frame(a=0, b=1), frame(a=1, b=0), frame(a=1, b=0)]
    assert identity_switches(found, still(3)) == {
        "switches": 2,
        "matched": 6,
        "objects": 6,
    }


def test_weak_boxes_do_not_count_where_there_is_a_least_score():
    scores = torch.tensor([0.9, 0.5])
    found = [frame(a=0, b=1), frame(a=0, b=2), frame(a=3, b=2)]
    found = [one | {"scores": scores} for one in found]
    sure = {"switches": 1, "matched": 3, "objects": 6}
    assert identity_switches(found, still(3), least=0.5) == sure
    every = {"switches": 2, "matched": 6, "objects": 6}
    assert identity_switches(found, still(3)) == every
    assert identity_switches(found, still(3), least=0.4) == every


def test_a_new_name_is_a_switch_also_after_a_gap():
    found = [frame(a=0, b=1), frame(b=1), frame(a=2, b=1)]
    assert identity_switches(found, still(3)) == {
        "switches": 1,
        "matched": 5,
        "objects": 6,
    }
    found[2] = frame(a=0, b=1)
    assert identity_switches(found, still(3))["switches"] == 0
    absent = still(3, absent=[(1, 0)])
    assert identity_switches(found, absent) == {
        "switches": 0,
        "matched": 5,
        "objects": 5,
    }


def test_an_object_keeps_its_tube_though_another_fits_better():
    near = torch.tensor([[0.0, 0.0, 10.0, 8.0], A])
    found = [frame(a=0), {"boxes": near, "tubes": torch.tensor([0, 1])}]
    one = {
        "boxes": torch.tensor([[A]] * 2),
        "valid": torch.ones(2, 1, dtype=torch.bool),
    }
    assert identity_switches(found, one) == {"switches": 0, "matched": 2, "objects": 2}
    assert identity_switches(found, one, iou=0.9)["switches"] == 1


def test_boxes_elsewhere_and_no_boxes():
    assert identity_switches([frame(c=5), frame()], still(2)) == {
        "switches": 0,
        "matched": 0,
        "objects": 4,
    }
    with pytest.raises(ValueError, match="expected detections for 2 frames, got 1"):
        identity_switches([frame()], still(2))


def test_a_mask_of_integers_masks_and_nan_is_refused():
    found, truth = [frame(a=0, b=1)] * 2, still(2)
    expected = identity_switches(found, truth)
    truth["valid"] = truth["valid"].long()
    assert identity_switches(found, truth) == expected
    truth["boxes"] = truth["boxes"].clone()
    truth["boxes"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="expected finite true boxes"):
        identity_switches(found, truth)
    wrong = {"boxes": found[0]["boxes"] * float("inf"), "tubes": found[0]["tubes"]}
    with pytest.raises(ValueError, match="expected finite boxes of frame 0"):
        identity_switches([wrong, found[1]], still(2))
    wrong = {"boxes": found[0]["boxes"], "tubes": found[0]["tubes"][:1]}
    with pytest.raises(ValueError, match="expected 2 tubes, got 1"):
        identity_switches([wrong, found[1]], still(2))
