from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from papernets_lite.data import rooms

# The camera's rays through the centres of a 64-pixel image: to the right and down, for
# each metre ahead.
RIGHT = ((torch.arange(64) + 0.5) / 64 - 0.5) / rooms.FOCAL
DOWN = ((torch.arange(64) + 0.5) / 64 - rooms.HORIZON) / rooms.FOCAL


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def room(kind: str = "table", **changes) -> rooms.Scene:
    """4 m x 5 m x 2.5 m, seen from (1, 2) along x; empty unless ``valid``, else with an
    object of 1 m x 1 m x 1 m."""
    scene = rooms.sample(1, seeded(), objects=(1, 1), kinds=[kind], noise=0)
    fixed = {
        "sizes": torch.tensor([[4.0, 5.0, 2.5]]),
        "poses": torch.tensor([[1.0, 2.0, 0.0]]),
        "valid": torch.zeros(1, 1, dtype=torch.bool),
        "centres": torch.tensor([[[3.0, 2.0]]]),
        "extents": torch.ones(1, 1, 3),
        "angles": torch.zeros(1, 1),
        "lights": torch.tensor([[2.0, 2.5, 2.2]]),
    }
    return replace(scene, **(fixed | changes))


FULL = {"valid": torch.ones(1, 1, dtype=torch.bool)}


def test_an_empty_room_by_hand():
    truth = rooms.annotate(room(), 64)
    depth, normals = truth["depth"][0], truth["normals"][0]
    # Ahead is the wall x = 4, at 3 m. To the left y = 5 is 3 m away, to the right y = 0
    # is 2 m away.
    walls = torch.minimum(
        torch.tensor(3.0), torch.where(RIGHT > 0, 2.0, 3.0) / RIGHT.abs()
    )
    level = torch.where(DOWN > 0, rooms.EYE, 2.5 - rooms.EYE) / DOWN.abs()
    torch.testing.assert_close(
        depth, torch.minimum(walls[None], level[:, None]), rtol=1e-5, atol=1e-5
    )
    for (row, column), normal, label in (
        ((28, 32), (0, 0, -1), "wall"),
        ((28, 63), (-1, 0, 0), "wall"),
        ((63, 32), (0, -1, 0), "floor"),
        ((0, 32), (0, 1, 0), "ceiling"),
    ):
        torch.testing.assert_close(
            normals[:, row, column], torch.tensor(normal).float(), rtol=0, atol=1e-6
        )
        assert rooms.CLASSES[truth["labels"][0, row, column]] == label
    assert not truth["objects"].any()


def test_a_table_by_hand():
    truth = rooms.annotate(room(**FULL), 64)
    seen = truth["objects"][0] == 1
    # Its top, 0.45 m under the eye, spans depths of 1.5 to 2.5 m; 0.09 m of its edge
    # show below the front edge.
    rows = torch.arange(64)[seen[:, 32]]
    # Between the legs one sees the wall behind, so only the top is looked at here.
    assert DOWN[rows[0] - 1] < 0.45 / 2.5 <= DOWN[rows[0]]
    on_top = rows[DOWN[rows] <= 0.45 / 1.5]
    torch.testing.assert_close(
        truth["depth"][0, on_top, 32], 0.45 / DOWN[on_top], rtol=1e-5, atol=1e-5
    )
    assert (truth["normals"][0, 1, on_top, 32] < -0.99).all()
    edge = rows[(DOWN[rows] > 0.45 / 1.5) & (DOWN[rows] < 0.54 / 1.5)]
    torch.testing.assert_close(
        truth["depth"][0, edge, 32], torch.full((len(edge),), 1.5), rtol=1e-5, atol=1e-5
    )
    row = on_top[-1]
    columns = torch.arange(64)[seen[row]]
    depth = truth["depth"][0, row, 32]
    assert (
        RIGHT[columns].abs().max() * depth
        <= 0.5
        < (RIGHT[columns].abs().max() + RIGHT[1] - RIGHT[0]) * depth
    )
    assert (truth["labels"][0][seen] == rooms.CLASSES.index("table")).all()


def test_turning_room_agent_and_furniture_together_changes_nothing():
    angle = torch.tensor(0.3)
    turned = room(
        **FULL, angles=angle.expand(1, 1), poses=torch.tensor([[1.8, 2.0, 0.0]])
    )
    around = turned.centres[0, 0] + torch.tensor([[0, -1.0], [1, 0]]) @ (
        turned.poses[0, :2] - turned.centres[0, 0]
    )
    quarter = replace(turned, angles=turned.angles + torch.pi / 2)
    quarter = replace(
        quarter, poses=torch.cat([around, torch.tensor([torch.pi / 2])])[None]
    )
    one, other = rooms.annotate(turned, 64), rooms.annotate(quarter, 64)
    both = (one["objects"] == 1) & (other["objects"] == 1)
    assert ((one["objects"] == 1) != (other["objects"] == 1)).sum() < 5
    torch.testing.assert_close(
        one["depth"][both], other["depth"][both], rtol=1e-3, atol=1e-3
    )
    close = (one["normals"] - other["normals"]).abs().amax(1)[both] < 1e-3
    assert close.float().mean() > 0.98


def test_normals_face_the_camera_and_have_length_one_and_planes_are_flat():
    truth = rooms.annotate(rooms.sample(40, seeded(1)), 64)
    rays = torch.stack(
        [RIGHT.expand(64, 64), DOWN[:, None].expand(64, 64), torch.ones(64, 64)]
    )
    assert ((truth["normals"] * rays).sum(1) < 0).all()
    torch.testing.assert_close(truth["normals"].norm(dim=1), torch.ones(40, 64, 64))
    # Depth's change between neighbours that no edge parts is that of the plane n . X =
    # constant.
    offset = (truth["normals"] * rays * truth["depth"][:, None]).sum(1)
    smooth = ~truth["edges"][:, :, :-1]
    assert offset.diff(dim=2).abs()[smooth].max() < 0.025
    assert 0.02 < truth["edges"].float().mean() < 0.25


def test_the_image_shows_the_objects_where_the_truth_says():
    scene = rooms.sample(40, seeded(8), noise=0)
    repainted = replace(scene, colours=(scene.colours + 3) % len(rooms.COLOURS))
    changed = (rooms.render(scene, 64) - rooms.render(repainted, 64)).abs().amax(
        1
    ) > 0.02
    there = (rooms.annotate(scene, 64)["objects"] > 0).float()[:, None]
    grown = torch.nn.functional.max_pool2d(there, 3, 1, 1)[:, 0] > 0
    # A sliver that shows between two others may cover no pixel's centre.
    assert (changed & ~grown).sum() < 0.003 * there.sum()
    # the rest is wood and linen
    assert (changed & (there[:, 0] > 0)).sum() > 0.4 * there.sum()


def test_edges_in_brightness_by_hand():
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    found = rooms.edges2d(step)[0]
    torch.testing.assert_close(found[3], torch.tensor([0, 0, 1, 2, 2, 1, 0, 0]) / 6)
    assert torch.equal(found[0], found[7])


def test_edges_are_those_of_pictures_from_0_to_1():
    for wrong in (torch.full((1, 3, 8, 8), 255.0), torch.full((1, 3, 8, 8), -0.1)):
        with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
            rooms.edges2d(wrong)
    with pytest.raises((ValueError, TypeCheckError), match="3"):
        rooms.edges2d(torch.zeros(2, 1, 8, 8))


def test_each_agent_has_an_action():
    scene = rooms.sample(2, seeded())
    with pytest.raises((ValueError, TypeCheckError), match="actions"):
        rooms.step(scene, torch.tensor([0]))


def test_agents_walk_turn_and_bump():
    scene = room(**FULL)
    for _ in range(2):
        scene, bumped = rooms.step(scene, torch.tensor([0]))
        assert not bumped
    assert scene.poses.tolist() == [[1.5, 2.0, 0.0]]
    stuck = replace(scene, poses=torch.tensor([[2.1, 2.0, 0.0]]))
    # at 2.35 it would touch the table, which begins at 2.5
    after, bumped = rooms.step(stuck, torch.tensor([0]))
    assert bumped.all()
    assert torch.equal(after.poses, stuck.poses)
    left, _ = rooms.step(stuck, torch.tensor([1]))
    back, _ = rooms.step(left, torch.tensor([2]))
    assert left.poses[0, 2] == pytest.approx(rooms.TURN)
    assert torch.allclose(back.poses, stuck.poses)
    walls = torch.tensor([[0.2, 2.0], [1.0, 4.8], [1.0, 1.0]])
    assert [bool(rooms.free(scene, point[None])) for point in walls] == [
        False,
        False,
        True,
    ]
    with pytest.raises(ValueError, match="expected actions"):
        rooms.step(scene, torch.tensor([3]))


def test_agents_begin_where_they_fit_and_furniture_does_not_overlap():
    scene = rooms.sample(500, seeded(2))
    assert rooms.free(scene, scene.poses[:, :2]).float().mean() > 0.97
    reach = (
        torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        * scene.extents[:, :, None, :2]
    )
    cos, sin = scene.angles.cos()[..., None], scene.angles.sin()[..., None]
    x = scene.centres[..., :1] + cos * reach[..., 0] - sin * reach[..., 1]
    y = scene.centres[..., 1:] + sin * reach[..., 0] + cos * reach[..., 1]
    corners = torch.stack([x, y], -1)[scene.valid]
    limits = scene.sizes[:, None, None, :2].expand(-1, scene.valid.shape[1], 4, -1)[
        scene.valid
    ]
    assert (corners > 0).all()
    assert (corners < limits).all()
    for i, j in torch.combinations(torch.arange(scene.valid.shape[1])).tolist():
        both = scene.valid[:, i] & scene.valid[:, j]
        apart = (scene.centres[both, i] - scene.centres[both, j]).norm(dim=1)
        narrow = (scene.extents[both][:, [i, j], :2].amin(2) / 2).sum(1)
        assert (apart > narrow).all()


def test_questions_are_answered_by_the_room():
    scene = rooms.sample(400, seeded(5))
    asked = rooms.ask(scene, seeded(6))
    assert set(asked["questions"].tolist()) == {0, 1}
    for i in range(400):
        kind, answer = asked["kinds"][i], rooms.ANSWERS[asked["answers"][i]]
        these = scene.colours[i][scene.valid[i] & (scene.kinds[i] == kind)]
        if rooms.QUESTIONS[asked["questions"][i]].startswith("how many"):
            assert int(answer) == len(these)
        else:
            assert [rooms.COLOURS[c] for c in these] == [answer]
    assert torch.equal(asked["answers"], rooms.ask(scene, seeded(6))["answers"])
