"""Keypoint scores by hand, and AP against the reference COCO evaluation in `tests/reference`."""

import math

import pytest
import torch

from papernets_lite.metrics.keypoints import SIGMAS, oks_ap, pck, torso_lengths


def person(x=0.0, y=0.0):
    """Eighteen joints on a line, three pixels apart."""
    return torch.stack([torch.arange(18) * 3.0 + x, torch.full((18,), y)], -1)


def score(predictions, truth, *, visible=None, area=400.0):
    """One image."""
    truth = torch.stack(truth)
    visible = torch.ones(truth.shape[:2], dtype=torch.bool) if visible is None else visible
    predictions = (torch.stack(predictions), torch.linspace(1, 0.5, len(predictions)))
    return oks_ap([predictions], [truth], [visible], [torch.full((len(truth),), area)])


def test_torso_is_neck_to_the_middle_of_the_hips():
    keypoints = torch.zeros(2, 18, 2)
    keypoints[:, 1] = torch.tensor([5.0, 1.0])
    keypoints[:, [8, 11]] = torch.tensor([[4.0, 13.0], [6.0, 13.0]])
    assert torso_lengths(keypoints).tolist() == [12.0, 12.0]


def test_pck_counts_each_detection_once():
    truth, seen = torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]]]), torch.ones(2, 1, dtype=torch.bool)
    kinds, scales = torch.tensor([0]), torch.tensor([8.0, 8.0])
    assert pck(torch.tensor([[1.0, 0.0]]), kinds, truth, seen, scales) == (1, 2)
    assert pck(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), kinds.repeat(2), truth, seen, scales) == (2, 2)


@pytest.mark.parametrize(("away", "correct"), [(3.99, 1), (4.01, 0)])
def test_pck_tolerates_a_share_of_the_scale(away, correct):
    found, kinds = torch.tensor([[10.0 + away, 5.0]]), torch.tensor([0])
    truth, seen = torch.tensor([[[10.0, 5.0]]]), torch.ones(1, 1, dtype=torch.bool)
    assert pck(found, kinds, truth, seen, torch.tensor([8.0])) == (correct, 1)


def test_pck_pairs_so_that_most_are_correct():
    # The nearest detection of both people is the one at 2; only the other choice lets both be correct.
    truth, seen = torch.tensor([[[0.0, 0.0]], [[5.0, 0.0]]]), torch.ones(2, 1, dtype=torch.bool)
    found = torch.tensor([[2.0, 0.0], [-3.0, 0.0]])
    assert pck(found, torch.tensor([0, 0]), truth, seen, torch.tensor([8.0, 8.0])) == (2, 2)


def test_pck_ignores_hidden_joints_and_other_kinds():
    truth = torch.zeros(1, 2, 2)
    seen = torch.tensor([[True, False]])
    assert pck(torch.zeros(1, 2), torch.tensor([1]), truth, seen, torch.tensor([8.0])) == (0, 1)
    assert pck(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), truth, seen, torch.tensor([8.0])) == (0, 1)


def test_perfect_people_score_one_and_absent_ones_zero():
    people = [person(y=10.0), person(y=40.0)]
    assert score(people, people)["AP"] == pytest.approx(1)
    assert score([person(y=900.0)], people)["AP"] == 0
    empty = oks_ap([(torch.zeros(0, 18, 2), torch.zeros(0))], [torch.stack(people)], [torch.ones(2, 18) > 0],
                   [torch.ones(2)])  # fmt: skip
    assert set(empty.values()) == {0.0}


def test_half_of_the_people_give_half_of_the_recall():
    found = score([person(y=10.0)], [person(y=10.0), person(y=40.0)])
    assert found["AR"] == pytest.approx(0.5)
    assert found["AP"] == pytest.approx(51 / 101)  # precision 1 at recalls 0, 0.01, ..., 0.5 of 101


def test_oks_by_hand():
    # All joints are off by d: OKS = mean_i exp(-d^2 / (2 area (2 sigma_i)^2)); AP counts the thresholds it passes.
    area, d = 400.0, 2.0
    oks = sum(math.exp(-(d**2) / (2 * area * (2 * s) ** 2)) for s in SIGMAS) / len(SIGMAS)
    passed = sum(oks >= 0.5 + 0.05 * k for k in range(10))
    assert 0 < passed < 10
    assert score([person(y=10.0 + d)], [person(y=10.0)], area=area)["AP"] == pytest.approx(passed / 10)


def test_hidden_joints_do_not_count():
    visible = torch.ones(1, 18, dtype=torch.bool)
    visible[0, 9:] = False
    wrong = person(y=10.0)
    wrong[9:] += 500
    assert score([wrong], [person(y=10.0)], visible=visible)["AP"] == pytest.approx(1)


def test_false_alarms_cost_only_if_they_are_surer():
    people = [person(y=10.0)]
    assert score([*people, person(y=900.0)], people)["AP"] == pytest.approx(1)
    assert score([person(y=900.0), *people], people)["AP"] == pytest.approx(0.5)


def test_bad_input():
    with pytest.raises(ValueError, match="as many predictions as images, got 0, 1, 1, 1"):
        oks_ap([], [person()[None]], [torch.ones(1, 18) > 0], [torch.ones(1)])
    with pytest.raises(ValueError, match="at least one labelled person"):
        oks_ap([(person()[None], torch.ones(1))], [person()[None]], [torch.zeros(1, 18) > 0], [torch.ones(1)])
