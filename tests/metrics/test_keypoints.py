"""Keypoint scores by hand, and AP against the reference COCO evaluation in
`tests/reference`."""

import math
from types import SimpleNamespace

import pytest
import torch

from papernets_lite.metrics.keypoints import (
    SIGMAS,
    limb_scores,
    oks_ap,
    pck,
    torso_lengths,
)


def person(x=0.0, y=0.0):
    """Eighteen joints on a line, three pixels apart."""
    return torch.stack([torch.arange(18) * 3.0 + x, torch.full((18,), y)], -1)


def people(points, scores=None):
    """What a decoder finds in one image."""
    points = torch.stack(points) if points else torch.zeros(0, 18, 2)
    return SimpleNamespace(keypoints=points, scores=torch.linspace(1, 0.5, len(points)))


def known(truth, *, visible=None, area=400.0):
    """The truth of one image."""
    truth = torch.stack(truth)[None]
    visible = (
        torch.ones(truth.shape[:3], dtype=torch.bool)
        if visible is None
        else visible[None]
    )
    return {
        "keypoints": truth,
        "visible": visible,
        "areas": torch.full(truth.shape[:2], area),
    }


def score(found, truth, **options):
    """One image."""
    return oks_ap([people(found)], known(truth, **options))


def test_torso_is_neck_to_the_middle_of_the_hips():
    keypoints = torch.zeros(2, 18, 2)
    keypoints[:, 1] = torch.tensor([5.0, 1.0])
    keypoints[:, [8, 11]] = torch.tensor([[4.0, 13.0], [6.0, 13.0]])
    assert torso_lengths(keypoints).tolist() == [12.0, 12.0]


def pck1(positions, kinds, truth, *, visible=None, scale=8.0):
    """One image: truth (p, k, 2)."""
    truth = torch.tensor(truth)[None]
    visible = (
        torch.ones(truth.shape[:3], dtype=torch.bool)
        if visible is None
        else torch.tensor(visible)[None]
    )
    found = [
        (torch.tensor(kinds, dtype=torch.long), torch.tensor(positions).reshape(-1, 2))
    ]
    return pck(found, truth, visible, torch.full(truth.shape[:2], scale))


def test_pck_counts_each_detection_once():
    two = [[[0.0, 0.0]], [[3.0, 0.0]]]
    assert pck1([[1.0, 0.0]], [0], two) == (0.5, 1.0)
    assert pck1([[1.0, 0.0], [2.0, 0.0]], [0, 0], two) == (1.0, 1.0)
    assert pck1([[1.0, 0.0], [2.0, 0.0], [90.0, 0.0], [1.0, 1.0]], [0] * 4, two) == (
        1.0,
        0.5,
    )


@pytest.mark.parametrize(("away", "correct"), [(3.99, 1.0), (4.01, 0.0)])
def test_pck_tolerates_a_share_of_the_scale(away, correct):
    assert pck1([[10.0 + away, 5.0]], [0], [[[10.0, 5.0]]]) == (correct, correct)
    assert pck1([[10.0 + away, 5.0]], [0], [[[10.0, 5.0]]], scale=9.0) == (1.0, 1.0)


def test_pck_pairs_so_that_most_are_correct():
    # The nearest detection of both people is the one at 2; only the other choice lets
    # both be correct.
    assert pck1([[2.0, 0.0], [-3.0, 0.0]], [0, 0], [[[0.0, 0.0]], [[5.0, 0.0]]]) == (
        1.0,
        1.0,
    )


def test_pck_ignores_hidden_joints_and_other_kinds():
    truth, seen = [[[0.0, 0.0], [0.0, 0.0]]], [[True, False]]
    assert pck1([[0.0, 0.0]], [1], truth, visible=seen) == (0.0, 0.0)
    assert pck1([], [], truth, visible=seen) == (0.0, 0.0)


def test_pck_adds_up_over_images_and_their_own_scales():
    truth = torch.zeros(2, 1, 1, 2)
    found = [(torch.tensor([0]), torch.tensor([[3.0, 0.0]]))] * 2
    assert pck(found, truth, torch.ones(2, 1, 1) > 0, torch.tensor([[8.0], [4.0]])) == (
        0.5,
        0.5,
    )
    with pytest.raises(
        ValueError,
        match="expected detections for 2 images with visible keypoints, got 1 and 2",
    ):
        pck(found[:1], truth, torch.ones(2, 1, 1) > 0, torch.ones(2, 1))
    with pytest.raises(ValueError, match="got 2 and 0 keypoints"):
        pck(found, truth, torch.zeros(2, 1, 1) > 0, torch.ones(2, 1))


def test_perfect_people_score_one_and_absent_ones_zero():
    two = [person(y=10.0), person(y=40.0)]
    assert score(two, two)["AP"] == pytest.approx(1)
    assert score([person(y=900.0)], two)["AP"] == 0
    assert set(score([], two).values()) == {0.0}


def test_half_of_the_people_give_half_of_the_recall():
    found = score([person(y=10.0)], [person(y=10.0), person(y=40.0)])
    assert found["AR"] == pytest.approx(0.5)
    # precision 1 at recalls 0, 0.01, ..., 0.5 of 101
    assert found["AP"] == pytest.approx(51 / 101)


def test_oks_by_hand():
    # All joints are off by d: OKS = mean_i exp(-d^2 / (2 area (2 sigma_i)^2)); AP
    # counts the thresholds it passes.
    area, d = 400.0, 2.0
    oks = sum(math.exp(-(d**2) / (2 * area * (2 * s) ** 2)) for s in SIGMAS) / len(
        SIGMAS
    )
    passed = sum(oks >= 0.5 + 0.05 * k for k in range(10))
    assert 0 < passed < 10
    assert score([person(y=10.0 + d)], [person(y=10.0)], area=area)[
        "AP"
    ] == pytest.approx(passed / 10)


def test_hidden_joints_do_not_count():
    visible = torch.ones(1, 18, dtype=torch.bool)
    visible[0, 9:] = False
    wrong = person(y=10.0)
    wrong[9:] += 500
    assert score([wrong], [person(y=10.0)], visible=visible)["AP"] == pytest.approx(1)


def test_false_alarms_cost_only_if_they_are_surer():
    one = [person(y=10.0)]
    assert score([*one, person(y=900.0)], one)["AP"] == pytest.approx(1)
    assert score([person(y=900.0), *one], one)["AP"] == pytest.approx(0.5)


def test_bad_input():
    with pytest.raises(
        ValueError, match="as many predictions as images, got 0, 1, 1, 1"
    ):
        oks_ap([], known([person()]))
    with pytest.raises(ValueError, match="at least one labelled person"):
        score([person()], [person()], visible=torch.zeros(1, 18) > 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_and_not_a_miss(bad):
    spoilt = person(y=10.0)
    spoilt[3, 0] = bad
    with pytest.raises(ValueError, match=r"finite points.*index \[0, 0, 3\]"):
        score([person()], [spoilt])
    with pytest.raises(ValueError, match="finite areas"):
        score([person()], [person()], area=bad)
    with pytest.raises(ValueError, match="finite people"):
        score([spoilt], [person()])
    unsure = SimpleNamespace(keypoints=person()[None], scores=torch.tensor([bad]))
    with pytest.raises(ValueError, match="finite scores"):
        oks_ap([unsure], known([person()]))
    with pytest.raises(ValueError, match="finite points"):
        pck1([[0.0, 0.0]], [0], [[[bad, 0.0]]])
    with pytest.raises(ValueError, match="finite detections"):
        pck1([[bad, 0.0]], [0], [[[0.0, 0.0]]])
    with pytest.raises(ValueError, match="finite scales"):
        pck1([[0.0, 0.0]], [0], [[[0.0, 0.0]]], scale=bad)


def test_joints_that_do_not_count_may_hold_anything():
    truth, visible = person(y=10.0), torch.ones(1, 18, dtype=torch.bool)
    truth[9], visible[0, 9] = math.nan, False
    assert score([person(y=10.0)], [truth], visible=visible)["AP"] == pytest.approx(1)
    seen = [[True, False]]
    assert pck1([[0.0, 0.0]], [0], [[[0.0, 0.0], [math.nan, 0.0]]], visible=seen) == (
        1.0,
        1.0,
    )


def test_another_number_of_joints_is_refused_by_name():
    seventeen = person()[:17]
    with pytest.raises(ValueError, match=r"expected 18 joints, got \(1, 1, 17, 2\)"):
        oks_ap([people([seventeen])], known([seventeen]))
    with pytest.raises(ValueError, match=r"people \(1, 18, 2\).*got \(1, 17, 2\)"):
        oks_ap([people([seventeen])], known([person()]))
    perfect = oks_ap([people([seventeen])], known([seventeen]), sigmas=SIGMAS[:17])
    assert perfect["AP"] == pytest.approx(1)
    with pytest.raises(ValueError, match="18, 2"):
        torso_lengths(torch.zeros(1, 17, 2))


def test_labelled_joints_count_even_where_they_are_hidden():
    labelled = torch.ones(1, 1, 18, dtype=torch.bool)
    truth = known([person(y=10.0)], visible=torch.arange(18)[None] < 8)
    wrong = person(y=10.0)
    wrong[8:] += 500
    assert oks_ap([people([wrong])], truth)["AP"] == pytest.approx(1)
    assert oks_ap([people([wrong])], truth | {"labelled": labelled})["AP"] == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int64])
def test_truth_may_be_numpys_doubles_and_integers(dtype):
    truth = known([person(y=10.0)])
    same = truth | {
        "keypoints": truth["keypoints"].to(dtype),
        "areas": truth["areas"].to(dtype),
    }
    found = [people([person(y=12.0)])]
    assert oks_ap(found, same) == oks_ap(found, truth)
    spots = [(torch.arange(18), person(y=12.0))]
    scales = torch.full((1, 1), 8.0)
    visible = truth["visible"]
    assert pck(spots, same["keypoints"], visible, scales) == (1.0, 1.0)


def two_arms(swapped: bool, *, missing: bool = False):
    """Two people with an elbow and a wrist each, detected a pixel off, joined rightly
    or across; without the second one's wrist, if ``missing``."""
    keypoints = torch.full((1, 2, 18, 2), math.nan)
    keypoints[0, 0, 3:5] = torch.tensor([[10.0, 10.0], [10.0, 20.0]])
    keypoints[0, 1, 3:5] = torch.tensor([[30.0, 10.0], [30.0, 20.0]])
    there = torch.zeros(1, 2, 18, dtype=torch.bool)
    there[0, :, 3:5] = True
    kinds = torch.tensor([3, 3, 4, 4])
    where = torch.tensor([[11.0, 10.0], [31.0, 10.0], [10.0, 21.0], [30.0, 21.0]])
    spots = (kinds[:3], where[:3]) if missing else (kinds, where)
    joints = torch.zeros(2, 18, 2)
    joints[:, 3] = where[:2]
    joints[:, 4] = where[2:].flip(0) if swapped else where[2:]
    found = torch.zeros(2, 18, dtype=torch.bool)
    found[:, 3:5] = True
    if missing:
        found[1, 4] = False
    people = SimpleNamespace(keypoints=joints, found=found, scores=torch.ones(2))
    truth = {"keypoints": keypoints, "in_frame": there}
    return limb_scores(
        [people], [spots], truth, limbs=((3, 4),), scales=torch.full((1, 2), 6.0)
    )


def test_limbs_that_are_joined_rightly_or_across():
    assert two_arms(False) == {"recall": 1, "precision": 1, "f1": 1}
    assert two_arms(True) == {"recall": 0, "precision": 0, "f1": 0}
    # only limbs with two detected ends are asked for
    assert two_arms(False, missing=True) == {"recall": 1, "precision": 1, "f1": 1}


def test_limbs_want_as_many_images_each():
    truth = {
        "keypoints": torch.zeros(1, 1, 18, 2),
        "in_frame": torch.ones(1, 1, 18, dtype=torch.bool),
    }
    with pytest.raises(ValueError, match="as many images each, got 0, 0, 1"):
        limb_scores([], [], truth, limbs=((0, 1),), scales=torch.ones(1, 1))
