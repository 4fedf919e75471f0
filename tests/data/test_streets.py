from dataclasses import replace

import pytest
import torch

from papernets_lite.data import streets
from papernets_lite.data.streets import CLASSES, EYE, FAR, FOCAL

SLOTS = sum(streets.THINGS.values())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def empty(n: int = 1, seed: int = 0, **changes) -> streets.Scene:
    """A street without anything on it, straight ahead in the middle of the picture."""
    nothing = dict.fromkeys(("houses", "trees", "cars", "people"), (0, 0))
    scene = streets.sample(n, seeded(seed), **nothing, noise=0)
    return replace(scene, **{"centres": torch.full((n, 2), 0.5), **changes})


def only(slot: int, **changes) -> streets.Scene:
    valid = torch.zeros(1, SLOTS, dtype=torch.bool)
    valid[0, slot] = True
    return empty(valid=valid, **changes)


@pytest.fixture(scope="module")
def town():
    scene = streets.sample(120, seeded(1))
    return scene, streets.annotate(scene, 64)


def test_ground_and_its_distance_are_those_of_the_pinhole():
    truth = streets.annotate(empty(clouds=torch.zeros(1, 6, 4)), 64)
    labels, depth = truth["labels"][0], truth["depth"][0]
    # In row 47 (centre 47.5): z = f H / (47.5/64 - 1/2).
    z = FOCAL * EYE / (47.5 / 64 - 0.5)
    assert depth[47].tolist() == pytest.approx([z] * 64, rel=1e-5)
    half = FOCAL * 2.9 / z * 64  # pixels from the middle to the kerb
    road = (labels[47] == CLASSES.index("road")).nonzero()[:, 0] + 0.5
    assert road.min().item() == pytest.approx(32 - half, abs=1)
    assert road.max().item() == pytest.approx(32 + half, abs=1)
    assert (labels[0] == CLASSES.index("sky")).all()
    assert (depth[0] == FAR).all()
    assert set(truth["instances"].unique().tolist()) <= {0, 1, 2, 3}
    assert torch.equal(truth["instances"][0], labels)


def test_a_car_stands_where_it_is_said_to():
    slot = 13
    places = torch.full((1, SLOTS, 2), 10.0)
    places[0, slot] = torch.tensor([0.0, 8.0])
    truth = streets.annotate(
        only(slot, places=places, sizes=torch.ones(1, SLOTS, 2)), 128
    )
    mask = truth["instances"][0] == slot + 4
    assert (truth["labels"][0][mask] == CLASSES.index("car")).all()
    assert (truth["depth"][0][mask] == 8).all()
    assert truth["areas"][0, slot] == mask.sum()
    assert truth["areas"].sum() == mask.sum()
    rows, columns = mask.nonzero().T
    unit = 128 * FOCAL / 8  # pixels of a metre at that distance
    assert columns.min().item() == pytest.approx(64 - 0.94 * unit, abs=1.5)
    assert columns.max().item() + 1 == pytest.approx(64 + 0.94 * unit, abs=1.5)
    assert rows.max().item() + 1 == pytest.approx(64 + EYE * unit, abs=1.5)
    # the roof's far end
    assert rows.min().item() == pytest.approx(
        64 + (EYE - 1.44) * 128 * FOCAL / 10, abs=1.5
    )


def test_walls_recede_between_where_they_begin_and_end():
    slot = 0
    places = torch.full((1, SLOTS, 2), 10.0)
    places[0, slot] = torch.tensor([12.0, 20.0])
    truth = streets.annotate(only(slot, places=places), 128)
    mask = truth["instances"][0] == slot + 4
    assert (truth["labels"][0][mask] == CLASSES.index("house")).all()
    distances = truth["depth"][0][mask]
    assert distances.min() >= 12
    assert distances.max() <= 20
    columns = mask.nonzero()[:, 1]
    assert columns.max().item() < 64, "slot 0 is on the left"
    # the eaves
    assert columns.max().item() + 1 == pytest.approx(
        64 - 128 * FOCAL * 5.85 / 20, abs=1.5
    )


def test_repainting_an_object_changes_only_its_own_pixels():
    scene = streets.sample(60, seeded(8), noise=0)
    truth = streets.annotate(scene, 64)
    for slot in (2, 9, 14, 20):
        colours = scene.colours.clone()
        colours[:, slot, 0] = (colours[:, slot, 0] + 1) % 7
        changed = (
            streets.render(scene, 64)
            != streets.render(replace(scene, colours=colours), 64)
        ).any(1)
        mask = truth["instances"] == slot + 4
        around = (
            torch.nn.functional.max_pool2d(mask[:, None].float(), 3, 1, 1)[:, 0] > 0
        )
        assert changed.any()
        assert (changed & ~around).sum() < 0.01 * mask.sum(), CLASSES[
            truth["labels"][mask][0]
        ]
        hidden = ~scene.valid[:, slot]
        assert not changed[hidden].any()


def test_objects_are_in_front_of_what_is_further_away(town):
    scene, truth = town
    assert torch.equal(truth["instances"] < 4, truth["labels"] < 4)
    assert truth["areas"].sum() == (truth["labels"] >= 4).sum()
    assert not truth["areas"][~scene.valid].any()
    assert (truth["depth"] > 0).all()
    assert (truth["depth"] <= FAR).all()
    moved = scene.places.clone()
    moved[:, 13, 1] = 5.0  # the nearest of all
    first = streets.annotate(
        replace(scene, places=moved, valid=scene.valid | (torch.arange(SLOTS) == 13)),
        64,
    )
    alone = streets.annotate(
        replace(scene, places=moved, valid=(torch.arange(SLOTS) == 13).expand(120, -1)),
        64,
    )
    assert torch.equal(first["areas"][:, 13], alone["areas"][:, 13]), "nothing hides it"


def test_things_of_one_class_touch_in_most_pictures(town):
    _, truth = town
    labels, instances = truth["labels"], truth["instances"]
    same = (labels[:, :, 1:] == labels[:, :, :-1]) & (
        instances[:, :, 1:] != instances[:, :, :-1]
    )
    for name in CLASSES[4:]:
        touching = (
            (same & (labels[:, :, 1:] == CLASSES.index(name)))
            .any((1, 2))
            .float()
            .mean()
            .item()
        )
        assert touching > 0.3, name
    assert set(labels.unique().tolist()) == set(range(8))


def test_a_dark_line_runs_where_objects_meet(town):
    scene, truth = town
    images, instances = streets.render(scene, 64).mean(1), truth["instances"]
    meet = (
        (instances[:, :, 1:] != instances[:, :, :-1])
        & (instances[:, :, 1:] > 3)
        & (instances[:, :, :-1] > 3)
    )
    line = torch.minimum(images[:, :, 1:], images[:, :, :-1])[meet]
    inside = images[:, :, 1:][
        (instances[:, :, 1:] == instances[:, :, :-1]) & (instances[:, :, 1:] > 3)
    ]
    assert line.mean() < 0.75 * inside.mean()
    assert (line < 0.35).float().mean() > 0.8


def test_factors_stay_in_their_ranges():
    scene = streets.sample(
        200,
        seeded(),
        houses=(1, 2),
        trees=(0, 0),
        cars=(6, 6),
        people=(0, 3),
        skies=("noon",),
    )
    kinds = scene.valid.split(list(streets.THINGS.values()), 1)
    counts = [set(kind.sum(1).tolist()) for kind in kinds]
    assert counts == [{1, 2}, {0}, {6}, {0, 1, 2, 3}]
    assert (scene.skies == 0).all()
    everything = streets.sample(300, seeded())
    assert len(everything.skies.unique()) == 4
    assert len(everything[:5]) == 5


def test_a_refusal_names_the_request():
    with pytest.raises(ValueError, match=r"expected cars=\(low, high\)"):
        streets.sample(1, seeded(), cars=(3, 2))


def test_the_largest_object_of_a_kind_is_that_of_which_most_is_seen(town):
    _, truth = town
    start = 0
    for kind, count in streets.THINGS.items():
        best = streets.largest(truth, kind)
        seen = truth["areas"][:, start : start + count].amax(1)
        assert torch.equal(truth["areas"].gather(1, best[:, None])[:, 0], seen)
        start += count
    with pytest.raises(ValueError, match=r"a kind from .*, got 'tram'"):
        streets.largest(truth, "tram")
