"""Determinism, the truth against pixels and by hand, and what changes when one factor
does."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from papernets_lite.data import faces

PARTS = faces.PARTS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(n: int = 1, **changes):
    """Portraits seen from the front, bare of everything that may hide or change a
    face."""
    scene = faces.sample(
        n,
        seeded(2),
        styles=["short"],
        glasses=["none"],
        beards=["none"],
        makeup=["none"],
        age=(0, 0.2),
        smile=(0, 0),
        opening=(0, 0),
        turn=(0, 0),
        scale=(0.3, 0.3),
        noise=0,
    )
    middle = {
        "centre": torch.full((n, 2), 0.5),
        "gaze": torch.zeros(n, 2),
        "light": torch.zeros(n),
    }
    return replace(scene, **middle, **changes)


def changed(before, **changes) -> Tensor:
    """Where a change of factors shows, (n, h, w)."""
    return (
        faces.render(before, 64) != faces.render(replace(before, **changes), 64)
    ).any(1)


def grown(mask: Tensor, by: int = 1) -> Tensor:
    return (
        torch.nn.functional.max_pool2d(mask[:, None].float(), 2 * by + 1, 1, by)[:, 0]
        > 0
    )


def test_names_and_flip():
    assert faces.LANDMARKS[:5] == (
        "right eye",
        "left eye",
        "nose",
        "right mouth corner",
        "left mouth corner",
    )
    assert [faces.FLIP[k] for k in faces.FLIP] == list(range(10))
    for k, name in enumerate(faces.LANDMARKS):
        other = name.replace("right", "L").replace("left", "right").replace("L", "left")
        assert faces.LANDMARKS[faces.FLIP[k]] == other


def test_landmarks_of_a_face_seen_from_the_front_by_hand():
    scene = plain(8)
    look = faces.appearance(scene.identity)
    at = dict(
        zip(
            faces.LANDMARKS,
            faces.annotate(scene, 100)["landmarks"].unbind(1),
            strict=True,
        )
    )
    # The middle of the image is the head's origin, 30 pixels are half of its height.
    torch.testing.assert_close(at["left eye"][:, 0], 50 + 30 * (0.32 + look["apart"]))
    torch.testing.assert_close(at["right eye"][:, 0], 50 - 30 * (0.32 + look["apart"]))
    torch.testing.assert_close(at["left eye"][:, 1], 50 + 30 * (0.02 + look["high"]))
    torch.testing.assert_close(at["nose"][:, 0], torch.full((8,), 50.0))
    torch.testing.assert_close(at["chin"], torch.tensor([[50.0, 77.0]]).expand(8, 2))
    corners = at["left mouth corner"] - at["right mouth corner"]
    torch.testing.assert_close(
        corners, torch.tensor([[14.4, 0.0]]).expand(8, 2), atol=1e-4, rtol=0
    )
    smiling = replace(scene, smile=torch.ones(8))
    up = (
        faces.annotate(smiling, 100)["landmarks"]
        - faces.annotate(scene, 100)["landmarks"]
    )
    torch.testing.assert_close(
        up[:, 3:5, 1], torch.full((8, 2), -30 * 0.09), atol=1e-4, rtol=0
    )


def test_the_eyes_are_where_they_are_said_to_be():
    scene = plain(16)
    truth = faces.annotate(scene, 128)
    for side in (0, 1):
        rows, columns = torch.meshgrid(
            torch.arange(128), torch.arange(128), indexing="ij"
        )
        eye = truth["part_labels"] == PARTS.index("eye")
        eye &= (columns >= 64) if side else (columns < 64)
        area = eye.sum((1, 2))
        assert (area > 20).all()
        centre = torch.stack(
            [(eye * (grid + 0.5)).sum((1, 2)) / area for grid in (columns, rows)], 1
        )
        assert (centre - truth["landmarks"][:, side]).abs().max() < 2


def test_a_turned_head_moves_the_nose_more_than_the_ears():
    still = plain(4)
    turned = replace(still, turn=torch.tensor([[0.4, 0.0, 0.0]]).expand(4, 3))
    moved = (
        faces.annotate(turned, 64)["landmarks"] - faces.annotate(still, 64)["landmarks"]
    )[..., 0]
    assert (moved[:, faces.LANDMARKS.index("nose")] > 5).all()
    assert (moved[:, faces.LANDMARKS.index("chin")] < 3).all()
    rolled = replace(still, turn=torch.tensor([[0.0, 0.0, 0.3]]).expand(4, 3))
    eyes = faces.annotate(rolled, 64)["landmarks"]
    slope = (eyes[:, 1] - eyes[:, 0]).flip(-1)
    torch.testing.assert_close(slope[:, 0] / slope[:, 1], torch.full((4,), 0.3).tan())


@pytest.mark.parametrize(
    ("factor", "before", "after", "parts"),
    [
        ("hair", 0, 2, {"hair", "brow", "beard"}),
        ("glasses", 0, 2, {"glasses", "hair"}),
        ("beard", 0, 2, {"beard"}),
        ("makeup", 0, 1, {"lips", "skin"}),
        ("opening", 0.0, 1.0, {"lips", "mouth", "brow"}),
    ],
)
def test_a_factor_changes_its_parts_and_nothing_else(factor, before, after, parts):
    scene = faces.sample(40, seeded(5), opening=(0, 0), noise=0.02)
    values = getattr(scene, factor)
    scene, other = (
        replace(scene, **{factor: torch.full_like(values, v)}) for v in (before, after)
    )
    shows = changed(scene, **{factor: getattr(other, factor)})
    numbers = torch.tensor([PARTS.index(name) for name in parts])
    labels = [
        torch.isin(faces.annotate(s, 64)["part_labels"], numbers)
        for s in (scene, other)
    ]
    assert shows.any((1, 2)).float().mean() > 0.7
    stray = shows & ~grown(labels[0] | labels[1])
    assert stray.float().mean() < 0.002, stray.sum()


def test_the_truth_shows_the_hairs_colour():
    scene = replace(plain(60), hair=torch.arange(60) % 4)
    images, labels = faces.render(scene, 64), faces.annotate(scene, 64)["part_labels"]
    inside = ~grown(labels != PARTS.index("hair"))
    palette = torch.tensor(faces._HAIR).float() / 255
    for image, where, answer in zip(images, inside, scene.hair, strict=True):
        colour = image[:, where].median(1).values
        assert torch.cdist(colour[None], palette).argmin() == answer


def test_age_brings_grey_hair_and_wrinkles():
    young, old = (replace(plain(10), age=torch.full((10,), a)) for a in (0.1, 1.0))
    skin = faces.annotate(young, 64)["part_labels"] == PARTS.index("skin")
    a, b = faces.render(young, 64), faces.render(old, 64)
    hair = faces.annotate(young, 64)["part_labels"] == PARTS.index("hair")
    saturation = [(x.amax(1) - x.amin(1))[hair].mean().item() for x in (a, b)]
    assert saturation[1] < 0.6 * saturation[0]
    darker = ((a - b).mean(1) > 0.02) & skin
    assert (darker.sum((1, 2)) > 10).all()


def test_dark_glasses_hide_the_eyes_and_nothing_hides_a_bare_face():
    bare = faces.annotate(plain(20), 64)
    assert bare["visible"].all()
    dark = faces.annotate(plain(20, glasses=torch.full((20,), 2)), 64)
    assert not dark["visible"][:, :2].any()
    assert dark["visible"][:, 2:5].all()
    assert dark["glasses"].eq(2).all()


def test_landmarks_out_of_the_frame_are_not_visible():
    scene = replace(
        plain(3), centre=torch.tensor([[0.5, 0.5], [1.4, 0.5], [0.5, -0.6]])
    )
    assert faces.annotate(scene, 64)["visible"].any(1).tolist() == [True, False, False]


def test_a_moved_face_leans_and_stands_aside_and_is_the_same_face():
    scene = faces.sample(200, seeded())
    moved = faces.move(scene, seeded(1), aside=0.05, lean=0.25)
    aside = moved.centre - scene.centre
    assert 0.045 < aside.abs().max() <= 0.05
    assert aside.mean().abs() < 0.01
    assert torch.equal(moved.turn[:, :2], scene.turn[:, :2])
    assert 0.2 < moved.turn[:, 2].abs().max() <= 0.25
    assert torch.equal(moved.identity, scene.identity)
    still = faces.move(scene, seeded(1), aside=0, lean=0)
    assert torch.equal(still.centre, scene.centre)
    assert not still.turn[:, 2].any()


@pytest.mark.parametrize("wrong", [{"aside": -0.1}, {"lean": -1}])
def test_a_move_by_less_than_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        faces.move(plain(), seeded(), **wrong)


def test_sizes_show_the_same_scene():
    scene = faces.sample(16, seeded(5), noise=0)
    small = faces.render(scene, 64)
    large = torch.nn.functional.avg_pool2d(faces.render(scene, 192), 3)
    assert (small - large).abs().mean() < 0.02
    torch.testing.assert_close(
        faces.annotate(scene, 192)["landmarks"],
        3 * faces.annotate(scene, 64)["landmarks"],
        atol=1e-3,
        rtol=0,
    )


def test_an_identity_looks_the_same_in_another_scene():
    look = faces.appearance(torch.arange(50))
    again = faces.appearance(torch.arange(7))
    assert all(torch.equal(values[:7], again[name]) for name, values in look.items())
    assert all(len(values.unique()) > 1 for values in look.values())


def test_factors_stay_in_their_ranges_and_are_independent():
    scene = faces.sample(
        2000,
        seeded(),
        identities=(5, 9),
        hair=["blond", "black"],
        styles=["bun"],
        smile=(0.5, 1),
        turn=(0.1, 0.3),
    )
    assert set(scene.identity.tolist()) == {5, 6, 7, 8}
    assert set(scene.hair.tolist()) == {0, 2}
    assert set(scene.style.tolist()) == {2}
    assert 0.5 <= scene.smile.min() <= scene.smile.max() <= 1
    assert 0.1 <= scene.turn[:, 0].abs().min() <= scene.turn[:, 0].abs().max() <= 0.3
    numbers = torch.stack(
        [scene.hair, scene.glasses, scene.beard, scene.age, scene.smile, scene.identity]
    ).float()
    off = torch.corrcoef(numbers) - torch.eye(6)
    assert off.abs().max() < 0.08


@pytest.mark.parametrize("identities", [(5, 5), (-1, 5), (0, 1.5)])
def test_no_identities_are_refused(identities):
    with pytest.raises((ValueError, TypeCheckError), match="identities"):
        faces.sample(1, seeded(), identities=identities)
