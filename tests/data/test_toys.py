from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from papernets_lite.data import toys


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one(kind: str, pose: int = 0, **changes):
    """A toy with its usual proportions, without noise."""
    scene = toys.sample(1, seeded(1), classes=[kind], poses=(pose, pose), noise=0)
    plain = {"scales": torch.ones(1, 3), "knees": torch.zeros(1)}
    return replace(scene, **plain | changes)


def test_turned_toys_differ_in_nothing_else():
    scene = toys.sample(6, seeded())
    other = toys.turned(scene, scene.poses + 5)
    assert other.poses.equal((scene.poses + 5) % 12)
    for field in fields(scene):
        if field.name != "poses":
            before, after = (getattr(s, field.name) for s in (scene, other))
            assert before.equal(after), field.name
    assert toys.turned(scene, 12).poses.eq(0).all()


def test_around_shows_each_toy_from_all_sides():
    scene = toys.around(toys.sample(3, seeded()))
    assert len(scene) == 36
    assert scene.poses.equal(torch.arange(12).repeat(3))
    assert scene.labels.view(3, 12).unique(dim=1).shape == (3, 1)
    pictures = toys.render(scene, 32).view(3, 12, -1)
    for toy in pictures:
        assert torch.cdist(toy, toy).add(100 * torch.eye(12)).min() > 0.1


def test_blocks_of_a_kind_do_not_cross():
    for name, ends in zip(toys.CLASSES, toys._ENDS, strict=True):
        assert (ends[..., 0] < ends[..., 1]).all(), name
        for i, block in enumerate(ends):
            low = np.maximum(ends[:i, :, 0], block[:, 0])
            high = np.minimum(ends[:i, :, 1], block[:, 1])
            assert not (high > low).all(1).any(), name


def test_what_is_nearer_is_drawn_over_what_it_hides():
    # a television: its dark screen lies in front, and is hidden from behind
    scene = one("television", colours=torch.tensor([[7, 7]]))
    screen = 2
    for pose, seen in ((0, True), (6, False)):
        inks = toys._inks(toys.turned(scene, pose), 0, 64)
        block = (inks[inks >= 2].astype(int) - 2) // 5
        assert (block == screen).any() == seen


def test_a_view_from_the_left_mirrors_one_from_the_right():
    # the bench is the same on both sides; its silhouette is mirrored
    scene = toys.around(one("bench"))
    masks = toys.annotate(scene, 64)["masks"]
    for turn in (1, 2, 4):
        mirrored = masks[12 - turn].flip(1)
        assert (masks[turn] != mirrored).float().mean() < 0.01


def test_toys_lie_within_the_picture():
    scene = toys.around(toys.sample(80, seeded(2)))
    masks = toys.annotate(scene, 32)["masks"]
    assert not masks[:, :, [0, -1]].any()
    assert not masks[:, [0, -1]].any()
    assert masks.flatten(1).sum(1).min() > 20


def test_the_light_comes_from_the_left_wherever_a_toy_is_turned():
    ahead, aside = (toys._shades(angle)[:, 0] for angle in (0.0, np.pi / 2))
    # sides: back, front, its right, its left, top; its right is the camera's left
    assert ahead[2] > ahead[3]
    assert ahead[4] == ahead.max()
    # with its left to the camera, its front is where its right was
    assert aside[1] == pytest.approx(ahead[2])
    assert aside[3] == pytest.approx(ahead[1])


def test_annotations_name_kind_and_pose():
    scene = toys.sample(5, seeded(), classes=["car", "dog"], poses=(2, 4))
    truth = toys.annotate(scene, 16)
    known = {toys.CLASSES.index("car"), toys.CLASSES.index("dog")}
    assert set(truth["labels"].tolist()) <= known
    assert truth["poses"].equal(scene.poses)
    assert 2 <= truth["poses"].min() <= truth["poses"].max() <= 4
    with pytest.raises(ValueError, match="expected"):
        toys.sample(1, seeded(), poses=(0, 12))
