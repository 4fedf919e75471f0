from dataclasses import replace

import pytest
import torch

from papernets_lite.data import shapes
from tests.unchecked import unchecked


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def single(label: str, **changes):
    """One plain object of radius 16 px in the middle of a 64-px image."""
    scene = shapes.sample(
        1,
        seeded(),
        objects=(1, 1),
        radius=(0.25, 0.25),
        classes=[label],
        textures=["plain"],
        clutter=0,
        noise=0,
    )
    middle = {"centres": torch.full((1, 1, 2), 0.5), "angles": torch.zeros(1, 1)}
    return replace(scene, **middle, **changes)


def test_areas_of_the_outlines_are_those_of_geometry():
    # In units of the radius: pi 0.95^2, (1.1 sqrt 2)^2 ..., counted in pixels of a
    # radius of 64.
    expected = {
        "circle": 2.835,
        "square": 2.42,
        "triangle": 1.299,
        "hexagon": 2.495,
        "ring": 2.05,
        "cross": 2.09,
    }
    for label, area in expected.items():
        measured = shapes.annotate(single(label), 256)["areas"].item() / 64**2
        assert measured == pytest.approx(area, rel=0.03), label


@pytest.mark.parametrize("label", shapes.CLASSES)
def test_upright_objects_are_symmetric_about_their_centre(label):
    mask = shapes.annotate(single(label), 64)["amodal_masks"][0, 0]
    assert (mask != mask.flip(1)).float().mean() < 0.01
    assert mask.any()


def test_the_image_shows_the_objects_colour_inside_its_mask():
    for k, colour in enumerate(shapes.COLOURS):
        scene = single("circle", colours=torch.tensor([[k]]))
        image, mask = (
            shapes.render(scene, 64)[0],
            shapes.annotate(scene, 64)["masks"][0, 0],
        )
        palette = torch.tensor(list(shapes.PALETTE.values())).float()
        distance = torch.cdist(
            torch.nn.functional.normalize(image[:, mask].T),
            torch.nn.functional.normalize(palette),
        )
        assert distance.argmin(1).mode().values == k, colour


def test_the_mask_is_where_the_object_shows():
    scene = shapes.sample(60, seeded(8), objects=(3, 3), clutter=0, noise=0)
    repainted = scene.colours.clone()
    repainted[:, 0] = (repainted[:, 0] + 1) % len(shapes.COLOURS)
    changed = shapes.render(scene, 64) != shapes.render(
        replace(scene, colours=repainted), 64
    )
    truth = shapes.annotate(scene, 64)
    changed, mask = changed.any(1), truth["masks"][:, 0]  # others are in front of it
    around, near_whole = (
        torch.nn.functional.max_pool2d(m[:, None].float(), 3, 1, 1)[:, 0] > 0
        for m in (mask, truth["amodal_masks"][:, 0])
    )
    assert not (changed & ~near_whole).any()
    # A sliver that shows between two others may cover no pixel's centre.
    assert (changed & ~around).sum() < 0.002 * mask.sum()
    assert (mask & ~changed).sum() < 0.002 * mask.sum()


def test_masks_boxes_and_order_agree():
    scene = shapes.sample(100, seeded(1), objects=(1, 6))
    truth = shapes.annotate(scene, 64)
    seen, whole = truth["masks"], truth["amodal_masks"]
    later = whole.flip(1).cumsum(1).flip(1) - whole.long() > 0
    assert torch.equal(seen, whole & ~later)
    assert (later & whole).any()
    assert torch.equal(truth["areas"], whole.sum((-1, -2)).float())
    for i, j in scene.valid.nonzero().tolist():
        rows, columns = whole[i, j].nonzero().T
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert truth["boxes"][i, j].tolist() == [float(v) for v in box]
    assert not whole[~scene.valid].any()
    assert (truth["boxes"][scene.valid] >= 0).all()
    assert (truth["boxes"] <= 64).all()
    assert (truth["depth_order"].diff(dim=1) > 0).all()


def test_everything_may_occur():
    everything = shapes.sample(400, seeded())
    assert len(everything.labels.unique()) == len(everything.colours.unique()) == 8
    assert set(everything.valid.sum(1).tolist()) == {1, 2, 3, 4}


def test_bright_skies_stay_bright():
    scene = shapes.sample(64, seeded(), grounds=["photo"])
    paled = shapes._grounds(replace(scene, tints=torch.ones_like(scene.tints)), 32)
    assert paled.max() == 255, "some sky is as bright as can be"
    assert paled.min() >= 90, "and none wraps round to black"


def test_plain_ground_is_plain_and_without_objects_on_it_noise_is_all():
    scene = shapes.sample(
        8,
        seeded(),
        grounds=["plain"],
        objects=(1, 1),
        radius=(0.1, 0.1),
        clutter=0,
        noise=0,
    )
    images, masks = (
        shapes.render(scene, 64),
        shapes.annotate(scene, 64)["amodal_masks"][:, 0],
    )
    away = torch.nn.functional.max_pool2d(masks.float(), 21, 1, 10) == 0
    for image, free in zip(images, away, strict=True):
        assert image[:, free].std(1).max() < 0.08
    noisy = shapes.render(replace(scene, noise=torch.full((8,), 0.1)), 64)
    assert (noisy - images).std() == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(
    "wrong",
    [
        {"clutter": -1},
        {"distinct": True, "objects": (2, 9)},
        {"distinct": True, "held_out": [("ring", "red")]},
        {"classes": ["ring"], "colours": ["red"], "held_out": [("ring", "red")]},
    ],
)
def test_bad_requests_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        shapes.sample(**{"n": 2, "generator": seeded(), **wrong})


def test_an_object_alone_is_what_it_looks_like_unhidden():
    scene = shapes.sample(6, seeded(), objects=(3, 3), noise=0, clutter=0)
    which = torch.tensor([0, 1, 2, 0, 1, 2])
    single_scene = shapes.alone(scene, which)
    truth, kept = shapes.annotate(scene, 64), shapes.annotate(single_scene, 64)
    image = torch.arange(6)
    whole = truth["amodal_masks"][image, which]
    assert kept["masks"][:, 0].equal(whole)
    # inside what is seen of it, the picture is the same but for edges
    crowd, only = shapes.render(scene, 64), shapes.render(single_scene, 64)
    change = (crowd - only).abs().mean(1)
    seen = truth["masks"][image, which]
    hidden = whole & ~seen
    assert change[seen].median() < 1e-6
    assert change[hidden].mean() > 0.1
    for wrong in (which[:5], which + 1):
        with unchecked(), pytest.raises(ValueError, match="expected"):
            shapes.alone(scene, wrong)
