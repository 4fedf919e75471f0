from dataclasses import replace

import pytest
import torch
from scipy import ndimage

from papernets_lite.data import cells


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lonely(**changes):
    """One round cell in the middle, its radius half a step of the grid, of which four
    span the image."""
    scene = cells.sample(1, seeded(), across=(4, 4), stretch=(1, 1), noise=0)
    middle = scene.radii.shape[1] // 2
    there = torch.zeros_like(scene.there)
    there[:, middle] = True
    plain = {
        "offsets": 0 * scene.offsets,
        "wobble": 0 * scene.wobble,
        "shift": 0 * scene.shift,
        "there": there,
    }
    # A phase of zero at both harmonics and no strength: a circle.
    return replace(scene, **plain, radii=0 * scene.radii + 0.5, **changes)


def test_one_cell_alone_is_a_disc_in_the_middle():
    seen = cells.annotate(lonely(), 64)
    mask = seen["instances"][0] > 0
    assert seen["count"].tolist() == [1]
    assert mask.sum().item() == pytest.approx(torch.pi * 8**2, rel=0.05)
    rows, columns = mask.nonzero().double().T + 0.5
    assert (rows.mean().item(), columns.mean().item()) == pytest.approx(
        (32, 32), abs=0.1
    )
    long = (
        cells.annotate(lonely(stretch=torch.tensor([1.44]), turns=torch.zeros(1)), 64)[
            "instances"
        ][0]
        > 0
    )
    # along x, and by the same factor less along y
    assert long.any(0).sum().item() == pytest.approx(16 * 1.2, abs=1)
    assert long.any(1).sum().item() == pytest.approx(16 / 1.2, abs=1)


def test_neighbours_touch_along_their_bisector_and_never_overlap():
    scene = lonely()
    k = round(scene.there.shape[1] ** 0.5)
    there = scene.there.clone()
    # the next to the right, one step away
    there[:, scene.there.shape[1] // 2 + 1] = True
    scene = replace(
        scene, there=there, radii=0 * scene.radii + 0.6, turns=torch.zeros(1)
    )
    seen = cells.annotate(scene, 64)["instances"][0]
    assert k % 2 == 1
    columns = [torch.where((seen == number).any(0))[0] for number in (1, 2)]
    first, second = sorted(columns, key=lambda c: c.min())
    # steps of 16 from 32: the bisector is at 40
    assert (first.max().item(), second.min().item()) == (39, 40)


def test_cells_are_whole_numbered_and_crowded():
    scene = cells.sample(60, seeded(1))
    truth = cells.annotate(scene, 96)
    pieces = touching = 0
    for image, count in zip(
        truth["instances"].numpy(), truth["count"].tolist(), strict=True
    ):
        assert set(image.ravel()) - {0} == set(range(1, count + 1))
        pieces += sum(
            ndimage.label(image == number)[1] for number in range(1, count + 1)
        )
        touching += ndimage.label(image > 0)[1] < count
    assert pieces <= 1.01 * truth["count"].sum()
    assert touching == 60
    assert 0.5 < (truth["instances"] > 0).float().mean() < 0.85


def test_the_mask_is_where_the_cells_show():
    # far outside
    scene = replace(
        cells.sample(20, seeded(5), noise=0), fibres=torch.full((20, 16, 5), 2.0)
    )
    empty = replace(scene, there=torch.zeros_like(scene.there))
    changed = (cells.render(scene, 64) - cells.render(empty, 64)).abs().amax(1) > 1e-6
    mask = cells.annotate(scene, 64)["instances"] > 0
    around = torch.nn.functional.max_pool2d(mask[:, None].float(), 3, 1, 1)[:, 0] > 0
    # a cell that ends within a pixel of the frame may cover no centre
    inside = slice(1, -1)
    assert not (changed & ~around)[:, inside, inside].any()
    assert (mask & ~changed).sum() < 0.02 * mask.sum()
    assert not cells.annotate(empty, 64)["instances"].any()
    assert cells.annotate(empty, 64)["count"].tolist() == [0] * 20


def test_a_membrane_is_darker_than_the_body_it_encloses():
    scene = replace(
        lonely(),
        tones=torch.tensor([cells.TONES - 1, 4, 0]).expand(
            1, lonely().there.shape[1], 3
        ),
    )
    faint = replace(scene, tones=scene.tones * torch.tensor([0, 1, 1]))
    strong, weak = (
        cells.render(scene, 64)[0].mean(0),
        cells.render(faint, 64)[0].mean(0),
    )
    rim, body = slice(24, 25), slice(26, 28)  # the disc spans columns 24 to 39
    assert strong[31:33, rim].mean() < strong[31:33, body].mean() - 0.1
    assert abs(weak[31:33, rim].mean() - weak[31:33, body].mean()) < 0.1
    assert cells.sample(9, seeded(), membranes=(1, 1)).tones[
        ..., 0
    ].unique().tolist() == [cells.TONES - 1]
    assert cells.sample(9, seeded(), membranes=(0, 0)).tones[
        ..., 0
    ].unique().tolist() == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"density": 1.2},
        {"density": -0.1},
    ],
)
def test_bad_requests_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        cells.sample(**{"n": 2, "generator": seeded(), **wrong})
