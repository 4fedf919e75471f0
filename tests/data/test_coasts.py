from dataclasses import replace

import pytest
import torch

from papernets_lite.data import coasts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def straight(**changes):
    """A coast down the middle, the sea on the right."""
    scene = coasts.sample(1, seeded(1), noise=0)
    plain = {
        "seaward": torch.zeros(1),
        "offsets": torch.zeros(1),
        "bends": torch.zeros(1, 2),
    }
    return replace(scene, **plain | changes)


def test_the_sea_lies_where_the_coast_says():
    scene = straight()
    points = torch.tensor([[[0.9, 0.3], [0.1, 0.8], [0.5, 0.5]]])
    assert coasts.seawards(scene, points)[0].tolist() == pytest.approx([0.4, -0.4, 0])
    sea = coasts.annotate(scene, 32)["sea"][0]
    assert sea[:, 16:].all()
    assert not sea[:, :16].any()
    below = straight(seaward=torch.full((1,), torch.pi / 2))
    assert coasts.annotate(below, 32)["sea"][0, 17:].all()


def test_sea_and_land_differ_in_shares_alone():
    truth = coasts.annotate(coasts.sample(200, seeded()), 48)
    labels, sea = truth["labels"], truth["sea"]
    terrain = labels < 2
    shares = [(labels == 0)[terrain & side].float().mean() for side in (sea, ~sea)]
    assert 0.62 < shares[0] < 0.75
    assert 0.25 < shares[1] < 0.38
    flat = coasts.annotate(coasts.sample(200, seeded(), contrast=(0, 0)), 48)
    labels, sea = flat["labels"], flat["sea"]
    terrain = labels < 2
    shares = [(labels == 0)[terrain & side].float().mean() for side in (sea, ~sea)]
    assert abs(shares[0] - shares[1]) < 0.03


def test_vehicles_are_named_by_their_side_and_drawn_alike():
    scene = coasts.sample(60, seeded(2))
    truth = coasts.annotate(scene, 96)
    vehicle = truth["stands"] == 0
    assert 2 < vehicle.sum(1).float().mean() < 4
    share = truth["at_sea"][vehicle].float().mean()
    assert 0.4 < share < 0.6
    boat, car = (coasts.CLASSES.index(name) for name in ("boat", "car"))
    for i, k in vehicle.nonzero().tolist():
        named = truth["labels"][i][truth["instances"][i] == k + 1].unique().tolist()
        assert named == [boat if truth["at_sea"][i, k] else car]
    # the sea on the other side: the pads and what stands on them stay as they were
    turned = replace(scene, seaward=scene.seaward + torch.pi, offsets=-scene.offsets)
    turned = replace(turned, bends=scene.bends * torch.tensor([0.0, 1]))
    scene = replace(scene, bends=scene.bends * torch.tensor([0.0, 1]))
    before, after = (coasts.annotate(s, 96) for s in (scene, turned))
    assert before["stands"].equal(after["stands"])
    pads = before["labels"] == coasts.CLASSES.index("concrete")
    hull = (before["labels"] == boat) | (before["labels"] == car)
    pictures = [coasts.render(s, 96) for s in (scene, turned)]
    same = (pictures[0] - pictures[1]).abs().amax(1)
    inside = torch.nn.functional.avg_pool2d((pads | hull).float()[:, None], 3, 1, 1)
    assert same[inside[:, 0] > 0.99].max() < 0.02
    swapped = after["labels"] == torch.where(hull, 7 - before["labels"], -1)
    assert swapped[hull].all()


def test_nothing_that_needs_a_side_stands_on_the_coast():
    scene = coasts.sample(300, seeded(3))
    truth = coasts.annotate(scene, 32)
    far = coasts.seawards(scene, scene.places).abs()
    assert far[truth["stands"] == 0].min() >= 0.1
    assert (far[scene.kinds == 0] < 0.1).any()


def test_every_kind_shows_its_class():
    scene = coasts.sample(40, seeded(4))
    truth = coasts.annotate(scene, 96)
    for kind, name in ((1, "house"), (2, "hall"), (3, "raft")):
        for i, k in (truth["stands"] == kind).nonzero().tolist():
            seen = truth["labels"][i][truth["instances"][i] == k + 1]
            assert seen.numel() > 10
            assert seen.unique().tolist() == [coasts.CLASSES.index(name)]
    assert set(truth["labels"].unique().tolist()) == set(range(8))


def test_heights_are_the_terrains_and_water_is_below():
    scene = straight()
    heights = coasts.heights(scene, 48)
    labels = coasts.annotate(scene, 48)["labels"]
    terrain = labels < 2
    assert ((heights > 0).long() == labels)[terrain].all()
    with pytest.raises(ValueError, match="at least 16 pixels"):
        coasts.heights(scene, 8)
