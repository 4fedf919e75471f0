"""Movements that postures give away, and their exact flow."""

import pytest
import torch

from papernets_lite.data import leaps, people
from tests.unchecked import unchecked


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many():
    leap = leaps.sample(200, seeded(1))
    return leap, leaps.annotate(leap, 64)


def of(leap, name):
    return leap.actions == leaps.ACTIONS.index(name)


def test_same_seed_same_bytes_and_images_do_not_depend_on_their_number():
    few, several = leaps.sample(3, seeded(3)), leaps.sample(40, seeded(3))
    once, again = leaps.render(few, 32), leaps.render(several[:3], 32)
    assert torch.equal(once, again)
    assert once.shape == (3, 3, 32, 32)
    truth = leaps.annotate(several, 32)
    for name, values in leaps.annotate(few, 32).items():
        assert torch.equal(values, truth[name][:3]), name


def test_every_action_is_drawn_and_a_few_move_against_their_posture(many):
    leap, truth = many
    assert leap.actions.bincount(minlength=5).min() > 20
    assert 0.08 < leap.backwards.float().mean() < 0.25
    assert torch.equal(truth["labels"], leap.actions)
    assert not leaps.sample(30, seeded(), against=0.0).backwards.any()


def test_flow_is_that_of_the_figure_and_points_where_the_action_goes(many):
    leap, truth = many
    flow, masks = truth["flow"], truth["masks"]
    assert (flow.movedim(1, -1)[~masks] == 0).all()
    assert (flow[of(leap, "stand")] == 0).all()
    mean = flow.sum((2, 3)) / masks.sum((1, 2))[:, None]
    ahead = ~leap.backwards
    assert (mean[of(leap, "jump") & ahead, 1] < 0).all()
    assert (mean[of(leap, "squat") & ahead, 1] > 0).all()
    assert (mean[of(leap, "jump") & leap.backwards, 1] > 0).all()
    # who runs looks where he goes, and who topples leans there
    facing = leap.person.facing[:, 0, 0]
    running = of(leap, "run") & ahead
    assert (mean[running, 0] * facing[running] > 0).all()
    joints = leap.person.joints[:, 0, :, 0]
    lean = joints[:, 1] - joints[:, [8, 11]].mean(1)
    falling = of(leap, "topple") & ahead
    assert (mean[falling, 0] * lean[falling] > 0).all()


def test_flow_by_hand(many):
    leap, truth = many
    i = int(of(leap, "run").nonzero()[0])
    inside = truth["masks"][i]
    expected = 64 * leap.motion[i]
    found = truth["flow"][i][:, inside]
    torch.testing.assert_close(found, expected[:, None].expand_as(found))
    # a rooted figure: in proportion to the height above the ground
    i = int(of(leap, "squat").nonzero()[0])
    row = int(truth["masks"][i].any(1).nonzero()[3])
    column = int(truth["masks"][i, row].nonzero()[0])
    person = leap.person
    above = (person.ground[i, 0] - (row + 0.5) / 64) / person.heights[i, 0]
    wanted = 64 * leap.motion[i] * above.clamp(0, 1)
    torch.testing.assert_close(truth["flow"][i, :, row, column], wanted)


def test_the_more_it_bends_the_faster_it_goes(many):
    leap, _ = many
    pace = leap.motion.norm(dim=1)[~of(leap, "stand")]
    vigour = leap.vigour[~of(leap, "stand")]
    assert torch.corrcoef(torch.stack([pace, vigour]))[0, 1] > 0.8


def test_other_poses_leave_place_and_look_alone():
    leap = leaps.sample(20, seeded())
    person = leap.person
    hips = person.joints[:, 0, [8, 11], 0].mean(1)
    assert (hips > 0).all()
    assert (hips < 1).all()
    again = people.sample(20, seeded(), people=(1, 1), height=(0.8, 0.92))
    assert torch.equal(person.identity, again.identity)
    torch.testing.assert_close(hips, again.joints[:, 0, [8, 11], 0].mean(1))


def test_an_estimate_errs_everywhere_alike(many):
    true = many[1]["flow"]
    error = leaps.estimate(true, seeded(), std=0.2) - true
    assert error.std().item() == pytest.approx(0.2, rel=0.01)
    assert torch.equal(leaps.estimate(true, seeded(), std=0.0), true)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: leaps.sample(0, seeded()),
        lambda: leaps.sample(2, seeded(), speed=(0.1, 0.05)),
        lambda: leaps.sample(2, seeded(), against=1.2),
        lambda: leaps.sample(2, seeded(), domains=(7,)),
        lambda: leaps.annotate(leaps.sample(2, seeded()), 8),
        lambda: leaps.estimate(torch.zeros(1, 2, 4, 4), seeded(), std=-1.0),
        lambda: leaps.estimate(torch.full((1, 2, 4, 4), torch.nan), seeded(), std=0.1),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong):
    with unchecked(), pytest.raises(ValueError, match="expected"):
        wrong()


def test_painted_flow_is_white_where_still_and_opposite_ways_differ():
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0] = torch.tensor([0.0, 1.0, -1.0, 3.0])
    painted = leaps.paint(flow, most=1.0)[0, :, 0]
    assert torch.equal(painted[:, 0], torch.ones(3))
    assert (painted[:, 1] - painted[:, 2]).abs().max() > 0.3
    assert torch.equal(painted[:, 1], painted[:, 3])
    with unchecked(), pytest.raises(ValueError, match="expected"):
        leaps.paint(flow, most=0.0)
