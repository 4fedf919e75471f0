from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from papernets_lite.data import people

PARTS = people.PARTS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def crowd():
    scene = people.sample(120, seeded(1), people=(1, 5), spacing=(0.08, 0.3))
    return scene, people.annotate(scene, 64)


def test_names_are_openposes():
    assert len(people.JOINTS) == 18
    assert people.JOINTS[:3] == ("nose", "neck", "right shoulder")


def test_same_seed_same_bytes_and_images_do_not_depend_on_their_number():
    few, many = people.sample(4, seeded(3)), people.sample(70, seeded(3))
    once, again, more = (people.render(scene, 64) for scene in (few, few, many))
    assert torch.equal(once, again)
    assert torch.equal(once, more[:4])
    for name, values in people.annotate(few, 64).items():
        assert torch.equal(values, people.annotate(many, 64)[name][:4]), name
    assert not torch.equal(once, people.render(people.sample(4, seeded(4)), 64))


def test_global_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    people.render(people.sample(2, seeded()), 32)
    assert torch.equal(before, torch.get_rng_state())


def test_images_are_pictures():
    images = people.render(people.sample(8, seeded()), 64)
    assert images.shape == (8, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.flatten(1).std(1) > 0.05).all()


def test_sizes_show_the_same_scene():
    scene = people.sample(16, seeded(5))
    small = people.render(scene, 64)
    large = torch.nn.functional.avg_pool2d(people.render(scene, 192), 3)
    assert (small - large).abs().mean() < 0.03
    factor = (
        people.annotate(scene, 192)["keypoints"]
        / people.annotate(scene, 64)["keypoints"]
    )
    torch.testing.assert_close(factor, torch.full_like(factor, 3.0))


def test_visible_joints_lie_on_their_persons_own_part(crowd):
    _, truth = crowd
    image, person, joint = truth["visible"].nonzero().T
    column, row = truth["keypoints"][image, person, joint].long().T
    assert truth["person_masks"][image, person, row, column].all()
    part = truth["part_labels"][image, row, column]
    for name, own in (
        ("right wrist", {"right_forearm"}),
        ("left elbow", {"left_upper_arm", "left_forearm"}),
        ("right knee", {"right_thigh", "right_shank"}),
        ("nose", {"head"}),
    ):
        found = {PARTS[k] for k in part[joint == people.JOINTS.index(name)].unique()}
        assert found == own, name


def test_a_visible_wrist_shows_the_hands_skin():
    # daylight: true colours
    scene = people.sample(200, seeded(2), people=(1, 1), domains=(0,))
    truth, images = people.annotate(scene, 128), people.render(scene, 128)
    wrist = people.JOINTS.index("left wrist")
    image = truth["visible"][:, 0, wrist].nonzero()[:, 0]
    column, row = truth["keypoints"][image, 0, wrist].long().T
    seen = images[image, :, row, column]
    skin = (
        torch.tensor(people._SKIN)[people.appearance(scene.identity)["skin"][image, 0]]
        / 255
    )
    assert len(image) > 100
    # Lighter or darker with the light, but of the skin's hue.
    alike = torch.nn.functional.cosine_similarity(seen, skin.float())
    assert alike.mean() > 0.98
    assert (alike > 0.93).float().mean() > 0.95


def test_masks_boxes_and_areas_agree(crowd):
    scene, truth = crowd
    seen, whole = truth["person_masks"], truth["amodal_masks"]
    assert (whole | ~seen).all(), "what is seen is part of the whole"
    assert (seen.sum(1) <= 1).all()
    assert torch.equal(seen.any(1), truth["part_labels"] > 0)
    assert not whole[~scene.valid].any()
    assert torch.equal(truth["areas"], whole.sum((-1, -2)).float())
    for i, p in scene.valid.nonzero().tolist():
        rows, columns = whole[i, p].nonzero().T
        if len(rows):
            x0, y0, x1, y1 = truth["boxes"][i, p].tolist()
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (
                x0,
                y0,
                x1,
                y1,
            )


def test_who_is_later_hides_who_is_earlier(crowd):
    scene, truth = crowd
    seen, whole = truth["person_masks"], truth["amodal_masks"]
    later = whole.flip(1).cumsum(1).flip(1) - whole.long() > 0
    assert torch.equal(seen, whole & ~later)
    assert (later & whole).any(), "somebody is hidden"
    tall = torch.where(scene.valid, scene.ground, torch.inf)
    assert (tall.diff(dim=1)[scene.valid[:, 1:]] >= 0).all(), (
        "who is in front stands lower in the image"
    )


def test_a_joint_behind_somebody_is_not_visible(crowd):
    scene, truth = crowd
    column, row = truth["keypoints"].long().clamp(0, 63).unbind(-1)
    image = torch.arange(len(scene))[:, None, None]
    for p in range(scene.valid.shape[1] - 1):
        hidden = truth["amodal_masks"][:, p + 1 :].any(1)[
            image[:, 0], row[:, p], column[:, p]
        ]
        assert not (hidden & truth["visible"][:, p]).any()
    assert not (truth["visible"] & ~truth["in_frame"]).any()
    assert not truth["in_frame"][~scene.valid].any()


def test_who_looks_away_shows_no_face_and_sides_follow_from_the_turn():
    scene = people.sample(400, seeded(6), people=(1, 1))
    truth = people.annotate(scene, 64)
    towards = scene.facing[:, 0, 1]
    face = truth["visible"][:, 0][:, [0, 14, 15]]
    assert not face[towards < -0.6].any()
    assert face[towards > 0.9].float().mean() > 0.8
    shoulders = scene.joints[:, 0, 5, 0] - scene.joints[:, 0, 2, 0]
    assert (shoulders[towards > 0.95] > 0).all(), (
        "seen from the front, left is at the right"
    )
    assert (shoulders[towards < -0.95] < 0).all()


def test_an_identity_looks_the_same_in_another_scene():
    ids = torch.arange(50)
    look = people.appearance(ids)
    assert all(
        torch.equal(values[:7], people.appearance(ids[:7])[name])
        for name, values in look.items()
    )
    assert all(len(values.unique()) > 1 for values in look.values())
    scene = people.sample(3, seeded(), identities=(5, 6), people=(1, 1))
    assert (scene.identity == 5).all()
    other = replace(scene, identity=scene.identity + 1)
    changed = (people.render(scene, 64) != people.render(other, 64)).any(1)
    figures = (
        people.annotate(scene, 64)["amodal_masks"]
        | people.annotate(other, 64)["amodal_masks"]
    )
    near = torch.nn.functional.max_pool2d(figures.any(1).float(), 3, 1, 1) > 0
    assert changed.any()
    assert not (changed & ~near).any(), "only the figure changes"


def test_factors_stay_in_their_ranges():
    scene = people.sample(
        200,
        seeded(),
        people=(2, 3),
        identities=(10, 20),
        domains=(1, 3),
        spacing=(0.2, 0.2),
    )
    assert set(scene.valid.sum(1).tolist()) == {2, 3}
    assert set(scene.domain.tolist()) == {1, 3}
    assert scene.identity.min() >= 10
    assert scene.identity.max() < 20
    pair = scene.joints[scene.valid.sum(1) == 2][:, :2, 8:12:3, 0].mean(-1)
    torch.testing.assert_close(
        (pair[:, 0] - pair[:, 1]).abs(), torch.full((len(pair),), 0.2)
    )
    assert len(scene[:5]) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"n": -1},
        {"people": (4, 2)},
        {"people": (0, 2)},
        {"people": (1, 16)},
        {"spacing": (0.3, 0.1)},
        {"height": (0, 0.5)},
        {"identities": (5, 5)},
        {"domains": (4,)},
        {"domains": ()},
    ],
)
def test_bad_requests_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        people.sample(**{"n": 2, "generator": seeded(), **wrong})


def test_bad_generators_and_sizes_are_refused():
    with pytest.raises((ValueError, TypeCheckError), match="enerator"):
        people.sample(2, None)
    scene = people.sample(1, seeded())
    for ask in (people.render, people.annotate):
        with pytest.raises(ValueError, match="at least 16 pixels, got 8"):
            ask(scene, 8)


def performed(frames: int = 8, size: int = 64):
    """One person in each picture, each at another action, once through it."""
    scene = people.sample(
        len(people.ACTIONS), seeded(3), people=(1, 1), height=(0.6, 0.75), domains=(0,)
    )
    moments = (torch.arange(frames) / frames).expand(len(scene), frames)
    film = people.act(scene, torch.arange(len(scene)), moments)
    return scene, film, people.annotate(film, size)


def test_a_film_shows_the_same_people_before_the_same_background():
    scene, film, truth = performed()
    images = people.render(film, 64).unflatten(0, (len(scene), 8))
    assert torch.equal(
        images, people.render(performed()[1], 64).unflatten(0, (len(scene), 8))
    )
    assert torch.equal(film.identity, scene.identity.repeat_interleave(8, 0))
    # What no frame's figure or shadow covers stands still.
    figure = truth["amodal_masks"].any(1).unflatten(0, (-1, 8)).any(1)
    still = (images == images[:, :1]).all(2).all(1)
    rows = torch.arange(64)[:, None] / 64
    above = (
        rows
        < truth["keypoints"][:, 0, [10, 13], 1]
        .unflatten(0, (-1, 8))
        .amin((1, 2))[:, None, None]
        / 64
        - 0.05
    )
    near = torch.nn.functional.max_pool2d(figure.float()[:, None], 5, 1, 2)[:, 0] > 0
    assert still[above & ~near].all()
    assert (~still & figure).flatten(1).any(1).all(), "and everybody moves"


def test_a_bones_length_stays_and_joints_lie_on_their_parts_in_every_frame():
    _, film, truth = performed()
    bones = torch.tensor(
        [(2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13)]
    )
    scaled = torch.cat(
        [film.joints, film.depths[..., None] * film.heights[..., None, None]], -1
    )
    lengths = (scaled[:, 0, bones[:, 0]] - scaled[:, 0, bones[:, 1]]).norm(
        dim=-1
    ) / film.heights
    torch.testing.assert_close(
        lengths,
        torch.tensor([0.16, 0.145, 0.16, 0.145, *4 * [0.22]]).expand_as(lengths),
    )
    image, person, joint = truth["visible"].nonzero().T
    column, row = truth["keypoints"][image, person, joint].long().T
    assert truth["person_masks"][image, person, row, column].all()


def test_actions_do_what_they_say():
    _, film, _ = performed()
    joints = dict(
        zip(people.ACTIONS, film.joints[:, 0].unflatten(0, (-1, 8)), strict=True)
    )
    sole = film.ground.unflatten(0, (-1, 8))[..., 0]
    heights = dict(
        zip(
            people.ACTIONS,
            film.heights.unflatten(0, (-1, 8))[:, 0, 0].tolist(),
            strict=True,
        )
    )
    hips = {
        name: (sole[k] - points[:, 8, 1]) / heights[name]
        for k, (name, points) in enumerate(joints.items())
    }
    assert hips["squat"].argmin() == 4, "lowest in the middle"
    assert hips["squat"].min() < 0.8 * hips["squat"].max()
    lowest = {
        name: (sole[k] - points[:, [10, 13], 1].amax(1)) / heights[name]
        for k, (name, points) in enumerate(joints.items())
    }
    assert lowest["jump"][4] > 0.09, "off the ground"
    assert all(values.max() < 0.09 for name, values in lowest.items() if name != "jump")
    wrists, nose = joints["jump"][:, [4, 7], 1], joints["jump"][:, 0, 1]
    assert (wrists[4] < nose[4]).all(), "both hands above the head"
    assert (wrists[0] > nose[0]).all()
    assert (
        joints["wave"][:, [4, 7], 1].amin(1)
        < joints["wave"][:, [2, 5], 1].amin(1) + 0.05
    ).all(), "a hand is up"
    apart = (joints["walk"][:, 10] - joints["walk"][:, 13]).norm(dim=1)
    assert apart.max() > 2 * apart.min()


def test_a_cycle_ends_where_it_began_and_every_frame_stands_alone():
    scene = people.sample(4, seeded(1), people=(1, 3))
    some = torch.tensor([0, 2, 5, 6])
    once, again = (
        people.act(scene, some, torch.full((4, 1), moment)) for moment in (0.3, 1.3)
    )
    torch.testing.assert_close(once.joints[1:2], again.joints[1:2], rtol=0, atol=1e-5)
    together = people.act(scene, some, torch.tensor([[0.1, 0.3]]).expand(4, 2))
    assert torch.equal(together.joints[1::2], once.joints)
    assert torch.equal(
        people.act(scene[:2], some[:2], torch.full((2, 1), 0.3)).joints, once.joints[:2]
    )


def test_cloth_patterns_move_with_the_person():
    scene = people.sample(300, seeded(2), people=(1, 1), domains=(0,))
    look = people.appearance(scene.identity[:, 0])
    dressed = int(
        (
            (look["pattern"] == 1)
            & (scene.facing[:, 0, 1] > 0.8)
            & (look["placket"] == 0)
        ).nonzero()[0]
    )
    still = people.act(
        scene[dressed : dressed + 1], torch.tensor([1]), torch.zeros(1, 1)
    )
    step = torch.tensor([3 / 96, 0.0])
    right = replace(still, joints=still.joints + step, feet=still.feet + step)
    hung = replace(right, weave=right.weave + step)
    flat = {
        "backgrounds": torch.zeros(1, 4),
        "grain": torch.zeros(1, 2, dtype=torch.long),
    }
    before, left, moved = (
        people.render(replace(s, **flat), 96) for s in (still, right, hung)
    )
    mask = people.annotate(hung, 96)["part_labels"] == 2
    shifted = before.roll(3, -1)
    assert (moved - shifted).abs().mean(1)[mask].mean() < 0.4 * (
        left - shifted
    ).abs().mean(1)[mask].mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": torch.tensor([99])},
        {"moments": torch.zeros(1, 0)},
        {"moments": torch.full((1, 1), torch.nan)},
        {"actions": torch.tensor([0, 0]), "moments": torch.zeros(2, 1)},
    ],
)
def test_bad_actions_are_refused(wrong):
    scene = people.sample(1, seeded())
    with pytest.raises(ValueError, match="expected"):
        people.act(
            scene,
            **{"actions": torch.tensor([0]), "moments": torch.zeros(1, 1), **wrong},
        )
