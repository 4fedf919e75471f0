"""The films move as their truth says."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from papernets_lite.data import motion, shapes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def single(**changes):
    """One circle of radius 16 px that stands in the middle of two frames of 64 px."""
    film = motion.sample(
        1,
        seeded(),
        frames=2,
        objects=(1, 1),
        radius=(0.25, 0.25),
        classes=["circle"],
        clutter=0,
        noise=0,
        unclear=0,
    )
    still = {"centres": torch.full((1, 2, 1, 2), 0.5), "angles": torch.zeros(1, 2, 1)}
    return replace(film, **(still | {"radii": torch.full((1, 2, 1), 0.25)} | changes))


def test_a_frame_is_a_picture_of_shapes():
    film = motion.sample(3, seeded(), frames=4, unclear=0)
    scene = motion.stills(film)
    assert torch.equal(motion.render(film, 48).flatten(0, 1), shapes.render(scene, 48))
    truth, known = motion.annotate(film, 48), shapes.annotate(scene, 48)
    assert torch.equal(truth["boxes"].flatten(0, 1), known["boxes"])
    assert torch.equal(truth["labels"].flatten(0, 1), known["labels"])


def test_flow_by_hand():
    moved = torch.tensor([[[[0.5, 0.5]], [[0.5 + 3 / 64, 0.5 - 5 / 64]]]])
    flow = motion.annotate(single(centres=moved), 64)["flow"][0, 0]
    assert flow[:, 32, 32].tolist() == pytest.approx([3, -5], abs=1e-4)
    assert (flow[:, 2, 2] == 0).all()  # the ground
    # A quarter turn to the right (y points down): what is right of the centre goes
    # below it.
    quarter = torch.tensor([[[0.0], [torch.pi / 2]]])
    flow = motion.annotate(single(angles=quarter), 64)["flow"][0, 0]
    # pixel centre (41.5, 31.5)
    assert flow[:, 31, 41].tolist() == pytest.approx([-9.5 + 0.5, 9.5 + 0.5], abs=1e-4)
    flow = motion.annotate(single(radii=torch.tensor([[[0.25], [0.3]]])), 64)["flow"][
        0, 0
    ]
    assert flow[:, 31, 41].tolist() == pytest.approx([0.2 * 9.5, -0.2 * 0.5], abs=1e-4)


def test_flow_carries_every_object_onto_itself():
    film = motion.sample(
        12, seeded(5), frames=3, objects=(1, 1), unclear=0, spin=0.5, zoom=0.4
    )
    flow = motion.annotate(film, 64)["flow"].flatten(0, 1)
    masks = shapes.annotate(motion.stills(film), 64)["amodal_masks"][:, 0].unflatten(
        0, (12, 3)
    )
    now, then = masks[:, :-1].flatten(0, 1), masks[:, 1:].flatten(0, 1)
    centres = torch.stack(
        torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="xy")
    )
    target = ((centres + flow) / 32 - 1).permute(0, 2, 3, 1)
    inside = (target.abs() < 1).all(-1) & now
    there = functional.grid_sample(then[:, None].float(), target, align_corners=False)[
        :, 0
    ]
    assert inside.sum() > 5000
    assert (there[inside] > 0.5).float().mean() > 0.96  # the rim is rounded to pixels
    assert (flow.abs().sum(1)[~now] == 0).all()


def test_flow_carries_colours():
    film = motion.sample(
        20,
        seeded(6),
        frames=2,
        objects=(1, 1),
        radius=(0.2, 0.2),
        unclear=0,
        noise=0,
        zoom=0,
    )
    images, flow = motion.render(film, 64), motion.annotate(film, 64)["flow"][:, 0]
    masks = shapes.annotate(motion.stills(film), 64)["amodal_masks"][::2, :1].float()
    core = -functional.max_pool2d(-masks, 5, 1, 2)[:, 0] > 0  # away from the rim
    centres = torch.stack(
        torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="xy")
    )
    target = ((centres + flow) / 32 - 1).permute(0, 2, 3, 1)
    inside = core & (target.abs() < 0.95).all(-1)
    carried = functional.grid_sample(images[:, 1], target, align_corners=False)
    errors = [
        (a - images[:, 0]).abs().mean(1)[inside].mean() for a in (carried, images[:, 1])
    ]
    assert errors[0] < 0.5 * errors[1]


def test_visible_by_hand():
    truth = motion.annotate(single(), 128)
    assert truth["visible"].flatten().tolist() == pytest.approx([1, 1], abs=0.01)
    halfway = torch.tensor([[[[0.5, 0.5]], [[0.0, 0.5]]]])
    truth = motion.annotate(single(centres=halfway), 128)
    assert truth["visible"].flatten().tolist() == pytest.approx([1, 0.5], abs=0.02)
    assert truth["boxes"][0, 1, 0, 0] == 0
    away = torch.tensor([[[[0.5, 0.5]], [[2.0, 0.5]]]])
    truth = motion.annotate(single(centres=away), 128)
    assert truth["valid"].flatten().tolist() == [True, False]
    assert truth["visible"].flatten().tolist()[1] == 0
    film = motion.sample(
        1, seeded(), frames=2, objects=(2, 2), classes=["circle"], zoom=0
    )
    same = {
        "centres": torch.full((1, 2, 2, 2), 0.5),
        "radii": torch.tensor([0.1, 0.2]).expand(1, 2, 2),
    }
    truth = motion.annotate(replace(film, **same), 128)
    # the later object lies in front
    assert truth["visible"][0, 0].tolist() == pytest.approx([0, 1], abs=0.01)
    assert truth["valid"].all()


def test_objects_turn_back_or_pass():
    film = motion.sample(60, seeded(7), frames=40, leaving=0, speed=(0.05, 0.1), zoom=0)
    inside = film.scene.valid[:, None, :].expand(-1, 40, -1)
    reach = film.radii[..., None]
    assert (film.centres >= reach - 1e-4)[inside].all()
    assert (film.centres <= 1 - reach + 1e-4)[inside].all()
    steps = film.centres.diff(dim=1).norm(dim=-1)
    assert steps.max() <= 0.1 + 1e-4
    film = motion.sample(60, seeded(7), frames=40, leaving=1, speed=(0.05, 0.1))
    valid = motion.annotate(film[slice(0, 10)], 32)["valid"]
    there = film.scene.valid[:10]
    assert valid.any(1)[there].all()  # each object is in view at some time
    assert not valid.all(1)[there].any()  # and out of view at another


def test_unclear_frames():
    film = motion.sample(200, seeded(), unclear=0.3, blur=(0.02, 0.03))
    share = (film.blur > 0).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.03)
    assert 0.02 <= film.blur[film.blur > 0].min() <= film.blur.max() <= 0.03
    few = film[slice(0, 8)]
    rough = motion.render(few, 48).diff(dim=-1).abs().mean((2, 3, 4))
    assert rough[few.blur > 0].max() < rough[few.blur == 0].mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 1},
        {"leaving": 1.5},
        {"unclear": -0.1},
        {"zoom": 2},
        {"classes": ["blob"]},
        {"textures": ["dots"]},
    ],
)
def test_bad_requests_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        motion.sample(**{"n": 2, "generator": seeded(), **wrong})
