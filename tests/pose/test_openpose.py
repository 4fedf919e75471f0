"""OpenPose: targets against the plain loop and by hand, the mask, and the parser on
maps whose people are known."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from papernets_lite.data import people
from papernets_lite.ops.matching import greedy, optimal
from papernets_lite.ops.skeletons import from_coco
from papernets_lite.pose import openpose

NUM_LIMBS = len(openpose.LIMBS)


def one_limb(start, end, *, size=(8, 8), stride=4.0, width=2.5):
    """The field of a single limb, (2, h, w)."""
    keypoints = torch.tensor([[[start, end]]], dtype=torch.float32)
    present = torch.ones(1, 1, 2, dtype=torch.bool)
    fields = openpose.affinity_fields(
        keypoints, present, size=size, stride=stride, width=width, limbs=((0, 1),)
    )
    return fields[0, 0]


def crowd(images, seed=0, *, side=64, **options):
    """Keypoints and presence of a world's people."""
    scene = people.sample(images, torch.Generator().manual_seed(seed), **options)
    truth = people.annotate(scene, side)
    return truth["keypoints"], truth["in_frame"]


def loop(keypoints, present, *, size, stride, sigma, width):
    """The targets as the paper's equations read: over images, people, joints or limbs,
    and cells."""
    images, count = keypoints.shape[:2]
    heats = torch.zeros(images, openpose.NUM_JOINTS + 1, *size)
    fields = torch.zeros(images, NUM_LIMBS, 2, *size)
    points, known = keypoints.tolist(), present.tolist()
    for b in range(images):
        overlaps = torch.zeros(NUM_LIMBS, *size)
        for row in range(size[0]):
            for column in range(size[1]):
                px, py = (column + 0.5) * stride, (row + 0.5) * stride
                for k in range(count):
                    for j in range(openpose.NUM_JOINTS):
                        if known[b][k][j]:
                            x, y = points[b][k][j]
                            value = math.exp(
                                -((px - x) ** 2 + (py - y) ** 2) / sigma**2
                            )
                            if value >= 0.01:
                                heats[b, j, row, column] = max(
                                    float(heats[b, j, row, column]), value
                                )
                    for c, (first, last) in enumerate(openpose.LIMBS):
                        if not (known[b][k][first] and known[b][k][last]):
                            continue
                        (x1, y1), (x2, y2) = points[b][k][first], points[b][k][last]
                        length = math.hypot(x2 - x1, y2 - y1)
                        if length <= 1e-3:
                            continue
                        vx, vy = (x2 - x1) / length, (y2 - y1) / length
                        forward = vx * (px - x1) + vy * (py - y1)
                        sideways = vx * (py - y1) - vy * (px - x1)
                        slack = max(0.0, (stride - length) / 2)
                        if (
                            -slack <= forward <= length + slack
                            and abs(sideways) <= width
                        ):
                            fields[b, c, 0, row, column] += vx
                            fields[b, c, 1, row, column] += vy
                            overlaps[c, row, column] += 1
        fields[b] /= overlaps.clamp(min=1)[:, None]
    heats[:, -1] = 1 - heats[:, :-1].amax(1)
    return heats, fields.flatten(1, 2)


def test_the_trees_limbs_reach_every_joint_once():
    assert len(openpose.TREE) == openpose.NUM_JOINTS - 1
    reached = {openpose.LIMBS[openpose.TREE[0]][0]}
    for k in openpose.TREE:
        a, b = openpose.LIMBS[k]
        assert (a in reached) != (b in reached)  # each limb adds one joint: a tree
        reached |= {a, b}
    assert len(reached) == openpose.NUM_JOINTS


def test_targets_equal_the_loop():
    keypoints, present = crowd(2, people=(4, 4), spacing=(0.1, 0.15))
    settings = {"size": (16, 16), "stride": 4.0, "sigma": 3.5, "width": 2.5}
    slow_heats, slow_fields = loop(keypoints, present, **settings)
    heats, fields = openpose.targets(keypoints, present, **settings)
    assert torch.allclose(heats, slow_heats, atol=1e-6)
    assert torch.allclose(fields, slow_fields, atol=1e-5)


def test_a_limbs_field_by_hand():
    # From (2, 14) to (30, 14): the row whose centres are at y = 14, and rows at 10 and
    # 18 if the limb is wide enough.
    field = one_limb((2.0, 14.0), (30.0, 14.0))
    # cell centres 2, 6, ..., 30: both ends belong to the limb
    assert field[0, 3].tolist() == [1.0] * 8
    assert field[0].sum() == 8
    assert field[1].abs().max() == 0
    assert one_limb((2.0, 14.0), (30.0, 14.0), width=4.0)[0].sum() == 24
    assert one_limb((2.5, 14.0), (29.5, 14.0))[0].sum() == 6


def test_a_field_points_from_start_to_end():
    field = one_limb((6.0, 22.0), (22.0, 10.0))  # a 3-4-5 triangle, y down
    on = field.norm(dim=0) > 0
    assert on.any()
    assert torch.allclose(
        field[:, on].T, torch.tensor([0.8, -0.6]).expand(int(on.sum()), 2)
    )
    assert torch.allclose(one_limb((22.0, 10.0), (6.0, 22.0)), -field)


def test_limbs_of_two_people_are_averaged_where_they_overlap():
    keypoints = torch.tensor(
        [[[[2.0, 14.0], [30.0, 14.0]], [[14.0, 2.0], [14.0, 30.0]]]]
    )
    present = torch.ones(1, 2, 2, dtype=torch.bool)
    field = openpose.affinity_fields(
        keypoints, present, size=(8, 8), stride=4.0, width=1.0, limbs=((0, 1),)
    )[0, 0]
    assert field[:, 3, 3].tolist() == [0.5, 0.5]  # the crossing
    assert field[:, 3, 0].tolist() == [1.0, 0.0]
    assert field[:, 0, 3].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("end", [(13.0, 9.0), (13.0005, 9.0)])
def test_a_limb_without_length_has_no_field(end):
    assert one_limb((13.0, 9.0), end).abs().max() == 0


def test_a_limb_within_a_cell_is_drawn_one_cell_long():
    # no centre lies between 12.5 and 13.5; 14 is within 11 to 15
    field = one_limb((12.5, 10.0), (13.5, 10.0))
    assert field[0, 2].tolist() == [0, 0, 0, 1.0, 0, 0, 0, 0]
    assert field[0].sum() == 1


def test_a_limb_that_leaves_the_image_is_drawn_inside():
    field = one_limb((-10.0, 14.0), (10.0, 14.0))
    assert field[0, 3].tolist() == [1.0, 1.0, 1.0, 0, 0, 0, 0, 0]


def test_no_people_leave_background_only():
    nobody = torch.zeros(2, 0, 18, 2), torch.zeros(2, 0, 18, dtype=torch.bool)
    heats, fields = openpose.targets(
        *nobody, size=(4, 4), stride=4.0, sigma=3.0, width=2.0
    )
    assert heats[:, :-1].max() == 0
    assert heats[:, -1].min() == 1
    assert fields.abs().max() == 0
    assert (
        openpose.midpoint_maps(*nobody, size=(4, 4), stride=4.0, sigma=3.0).max() == 0
    )


def test_unknown_joints_may_be_nan_and_known_ones_may_not():
    keypoints, present = crowd(1)
    settings = {"size": (16, 16), "stride": 4.0, "sigma": 3.5, "width": 2.5}
    present[0, 0, 4] = False
    expected = openpose.targets(keypoints, present, **settings)
    keypoints[0, 0, 4] = math.nan
    found = openpose.targets(keypoints, present, **settings)
    middles = openpose.midpoint_maps(
        keypoints, present, size=(16, 16), stride=4.0, sigma=3.5
    )
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.isfinite(middles).all()
    present[0, 0, 4] = True
    with pytest.raises(ValueError, match=r"finite points.*\[0, 0, 4\]"):
        openpose.affinity_fields(
            keypoints, present, size=(16, 16), stride=4.0, width=2.5
        )


def test_channels_are_limb_by_limb_then_midpoints():
    keypoints, present = crowd(2)
    settings = {"size": (16, 16), "stride": 4.0}
    heats, fields = openpose.targets(
        keypoints, present, sigma=3.5, width=2.5, middles=True, **settings
    )
    alone = openpose.affinity_fields(keypoints, present, width=2.5, **settings)
    assert fields.shape[1] == 3 * NUM_LIMBS
    assert torch.equal(fields[:, 10:12], alone[:, 5])
    assert torch.equal(
        fields[:, 2 * NUM_LIMBS :],
        openpose.midpoint_maps(keypoints, present, sigma=3.5, **settings),
    )
    assert torch.equal(heats[:, -1], 1 - heats[:, :-1].amax(1))


def test_a_midpoint_map_peaks_between_the_joints():
    keypoints, present = (
        torch.zeros(1, 1, 18, 2),
        torch.zeros(1, 1, 18, dtype=torch.bool),
    )
    keypoints[0, 0, 3], keypoints[0, 0, 4] = (
        torch.tensor([2.0, 4.0]),
        torch.tensor([18.0, 24.0]),
    )
    present[0, 0, 3:5] = True
    maps = openpose.midpoint_maps(
        keypoints, present, size=(8, 8), stride=4.0, sigma=3.0
    )[0]
    assert maps[8, 3, 2] == maps.max() == 1  # (10, 14)
    assert maps[:8].max() == maps[9:].max() == 0


def test_parameters_are_the_papers():
    net = openpose.paper()
    count = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in net.named_children()
    }
    assert count["trunk"] == 5_865_536 + 1_474_944
    assert count["field_stages"] + count["heat_stages"] == 1_046_841 + 5 * 8_784_825
    assert sum(count.values()) == 52_311_446
    assert net.stride == 8


def test_every_stage_answers_at_the_trunks_stride():
    net = openpose.tiny().eval()
    outputs = net(torch.rand(2, 3, 64, 48))
    assert len(outputs) == len(net.heat_stages)
    for heats, fields in outputs:
        assert heats.shape == (2, 19, 16, 12)
        assert fields.shape == (2, 38, 16, 12)


@pytest.mark.parametrize("shape", [(1, 3, 62, 64), (1, 3, 64, 63), (0, 3, 64, 64)])
def test_sizes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="sides divisible by 4"):
        openpose.tiny()(torch.zeros(shape))


def test_loss_by_hand():
    heats, fields = torch.zeros(2, 19, 1, 1), torch.zeros(2, 38, 1, 1)
    heats[0, 0] = 0.5
    outputs = [(heats + 1, fields), (heats, fields - 2)]
    batch = {"heats": heats, "fields": fields}
    found = openpose.loss(outputs, batch)
    assert {name: value.item() for name, value in found.items()} == {
        "loss": 19 + 38 * 4,
        "heat1": 19,
        "field1": 0,
        "heat2": 0,
        "field2": 38 * 4,
    }
    weighted = openpose.loss(outputs, batch, positive_weight=4.0)
    # one cell of one image counts 1 + 4 * 0.5 times
    assert weighted["heat1"].item() == (18 + 3 + 19) / 2


@pytest.mark.parametrize("middles", [False, True])
def test_loss_draws_the_targets_that_the_batch_does_not_hold(middles):
    keypoints, present = crowd(3)
    lengths = {"stride": 4.0, "sigma": 3.5, "width": 3.0}
    heats, fields = openpose.targets(
        keypoints, present, size=(16, 16), middles=middles, **lengths
    )
    outputs = [(torch.rand_like(heats), torch.rand_like(fields))]
    drawn = openpose.loss(
        outputs, {"keypoints": keypoints, "in_frame": present}, **lengths
    )
    held = openpose.loss(outputs, {"heats": heats, "fields": fields})
    assert drawn["loss"] == held["loss"]


def test_outputs_and_targets_of_unequal_shapes_are_refused():
    heats, fields = torch.zeros(4, 19, 8, 8), torch.zeros(4, 38, 8, 8)
    for wrong in (
        {"heats": heats[:1], "fields": fields[:1]},
        {"heats": heats, "fields": fields[:1]},
        {"heats": heats[..., :1], "fields": fields},
    ):
        with pytest.raises(ValueError, match=r"expected (maps|fields) \(.*got \(4, "):
            openpose.loss([(heats, fields)], wrong)
    with pytest.raises(ValueError, match="expected a mask for maps"):
        openpose.loss(
            [(heats, fields)],
            {"heats": heats, "fields": fields, "mask": torch.ones(1, 1, 8, 8)},
        )


def test_cocos_seventeen_joints_are_refused_by_name():
    seventeen = torch.rand(1, 1, 17, 2), torch.ones(1, 1, 17, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"18 joints \(COCO's 17: .*from_coco"):
        openpose.targets(*seventeen, size=(4, 4), stride=4.0, sigma=4.0, width=4.0)
    eighteen = from_coco(*seventeen)
    heats, _ = openpose.targets(
        *eighteen, size=(4, 4), stride=4.0, sigma=4.0, width=4.0
    )
    assert heats.shape == (1, 19, 4, 4)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float64])
def test_keypoints_may_be_numpys_integers_and_doubles(dtype):
    keypoints, present = crowd(2)
    keypoints = keypoints.round()
    settings = {"size": (64, 64), "stride": 1.0, "sigma": 3.5, "width": 2.5}
    expected = openpose.targets(keypoints, present, **settings)
    found = openpose.targets(keypoints.to(dtype), present, **settings)
    for a, b in zip(found, expected, strict=True):
        # in another precision a cell at a limb's edge may fall on its other side
        off = (a - b).abs() > 1e-5
        assert off.float().mean() < 1e-3


@pytest.mark.parametrize(
    "wrong", [{"stride": 0.0}, {"width": math.nan}, {"size": (0, 4)}]
)
def test_lengths_must_be_positive(wrong):
    settings = {"size": (16, 16), "stride": 4.0, "width": 2.5}
    with pytest.raises(ValueError, match="expected"):
        openpose.affinity_fields(*crowd(1), **{**settings, **wrong})


def test_where_the_mask_is_zero_no_gradient_flows():
    torch.manual_seed(0)
    outputs = [
        (
            torch.randn(1, 19, 4, 4, requires_grad=True),
            torch.randn(1, 38, 4, 4, requires_grad=True),
        )
    ]
    mask = torch.ones(1, 1, 4, 4)
    mask[..., :2] = 0
    batch = {
        "heats": torch.zeros(1, 19, 4, 4),
        "fields": torch.zeros(1, 38, 4, 4),
        "mask": mask,
    }
    openpose.loss(outputs, batch)["loss"].backward()
    for maps in outputs[0]:
        assert maps.grad[..., :2].abs().max() == 0
        assert (maps.grad[..., 2:] != 0).all()


@pytest.mark.parametrize(
    ("degrees", "expected"), [(0, 1.0), (60, 0.5), (90, 0.0), (180, 0.0)]
)
def test_line_integral_by_hand(degrees, expected):
    # A field of (1, 0) everywhere: the integral is the cosine; where it is negative no
    # sample agrees.
    fields = torch.zeros(2, 16, 16)
    fields[0] = 1
    turn = math.radians(degrees)
    end = torch.tensor([[30 + 16 * math.cos(turn), 30 + 16 * math.sin(turn)]])
    score = openpose.line_integral(fields, stride=4.0)(
        torch.tensor([0]), torch.tensor([[30.0, 30.0]]), end
    )
    assert score.item() == pytest.approx(expected, abs=1e-5)


def test_line_integral_wants_agreement_nearly_everywhere():
    # The field ends half-way: the mean over the samples that agree is 1, but only half
    # of them do.
    field = torch.zeros(2, 16, 16)
    field[0, :, :8] = 1
    integral = openpose.line_integral(field, stride=4.0)
    row, limb = 30.0, torch.tensor([0])
    half = integral(limb, torch.tensor([[20.0, row]]), torch.tensor([[44.0, row]]))
    # nine of ten samples
    most = integral(limb, torch.tensor([[12.0, row]]), torch.tensor([[36.0, row]]))
    assert half.item() == 0
    assert 0.8 < most.item() < 1


def test_long_limbs_pay():
    fields = torch.zeros(2, 16, 16)
    fields[0] = 1
    integral = openpose.line_integral(fields, stride=4.0)
    ends = torch.tensor([[32.0, 8.0], [50.0, 8.0]])  # 32 pixels is half the height
    scores = integral(
        torch.tensor([0, 0]), torch.tensor([[2.0, 8.0], [2.0, 8.0]]), ends
    )
    assert scores.tolist() == pytest.approx([1.0, 1 + 32 / 48 - 1])


def test_two_ends_in_one_place_do_not_divide_by_zero():
    fields, point = torch.ones(2, 8, 8), torch.tensor([[9.0, 9.0]])
    assert torch.isfinite(
        openpose.line_integral(fields, stride=4.0)(torch.tensor([0]), point, point)
    ).all()


def test_rivals_affinities_by_hand():
    limb, start, end = (
        torch.tensor([0, 1]),
        torch.tensor([[2.0, 2.0]] * 2),
        torch.tensor([[10.0, 2.0]] * 2),
    )
    eight = torch.zeros(2, 8, 8)  # maps of an image of 32 pixels
    near = openpose.nearness(eight, stride=4.0)
    assert near(limb, start, end).tolist() == [0.75, 0.75]
    near = openpose.nearness(eight, stride=4.0, reach=6.0)
    assert near(limb, start, end).tolist() == [0.0, 0.0]
    maps = torch.zeros(3 * NUM_LIMBS, 4, 4)
    maps[2 * NUM_LIMBS, 0, 1] = 0.7  # the cell of the middle, (6, 2)
    maps[2 * NUM_LIMBS + 1, 0, 1] = 0.05  # under the threshold
    assert openpose.midpoint(maps, stride=4.0)(
        limb, start, end
    ).tolist() == pytest.approx([0.7, 0.0])


def wrong_joints(found, keypoints, present):
    """How many joints of the true people are wrong or missing in the found person who
    fits best."""
    off = (found.keypoints[:, None] - keypoints).norm(dim=-1) > 1.5
    return int(((off | ~found.found[:, None]) & present).sum(-1).amin(0).sum())


@pytest.mark.parametrize("matching", [greedy, optimal])
def test_true_maps_give_back_the_people(matching):
    keypoints, present = crowd(12, seed=1, people=(2, 4), spacing=(0.24, 0.3), side=128)
    heats, fields = openpose.targets(
        keypoints, present, size=(64, 64), stride=2.0, sigma=2.5, width=2.0
    )
    wrong = 0
    people_found = openpose.decode(
        [(heats, fields)], stride=2.0, threshold=0.3, matching=matching
    )
    for found, points, known in zip(people_found, keypoints, present, strict=True):
        assert len(found.keypoints) == int(known.any(-1).sum())
        wrong += wrong_joints(found, points, known)
    assert wrong <= 0.02 * int(present.sum())  # two joints in one place are one peak


def test_crossing_arms_need_the_field():
    """Two forearms cross: distance joins the wrong ends, the field the right ones."""
    a, b = openpose.LIMBS[8]  # right elbow to wrist
    keypoints, present = (
        torch.zeros(1, 2, 18, 2),
        torch.zeros(1, 2, 18, dtype=torch.bool),
    )
    keypoints[0, :, a] = torch.tensor([[20.0, 20.0], [44.0, 20.0]])
    keypoints[0, :, b] = torch.tensor([[40.0, 44.0], [24.0, 44.0]])
    present[0, :, [a, b]] = True
    heats, fields = openpose.targets(
        keypoints, present, size=(64, 64), stride=1.0, sigma=3.0, width=1.5
    )
    joined = {}
    for name, rule in (
        ("field", openpose.line_integral),
        ("distance", openpose.nearness),
    ):
        (found,) = openpose.decode(
            [(heats, fields)], stride=1.0, affinity=rule, least_joints=2
        )
        joined[name] = found.keypoints[:, [a, b], 0].round().tolist()
    assert sorted(joined["field"]) == [[20.0, 40.0], [44.0, 24.0]]
    assert sorted(joined["distance"]) == [[20.0, 24.0], [44.0, 40.0]]


def test_empty_maps_give_nobody():
    heats, fields = torch.zeros(1, 19, 16, 16), torch.zeros(1, 2 * NUM_LIMBS, 16, 16)
    (found,) = openpose.decode([(heats, fields)], stride=4.0)
    assert found.keypoints.shape == (0, 18, 2)
    assert found.found.shape == (0, 18)
    assert found.scores.shape == (0,)


def test_groups_with_few_joints_are_dropped():
    keypoints, present = crowd(1, people=(1, 1))
    present[..., 5:] = False
    heats, fields = openpose.targets(
        keypoints, present, size=(64, 64), stride=1.0, sigma=2.0, width=1.5
    )
    for least, people_left in ((5, 1), (6, 0)):
        (found,) = openpose.decode(
            [(heats, fields)], stride=1.0, least_joints=least, least_score=0.0
        )
        assert len(found.scores) == people_left


def without_a_neck():
    """One person of 160 pixels, everything but the neck known."""
    places = {
        0: (0, 0),
        2: (-0.12, 0.15),
        3: (-0.2, 0.35),
        4: (-0.2, 0.5),
        5: (0.12, 0.15),
        6: (0.2, 0.35),
        7: (0.2, 0.5),
        8: (-0.08, 0.5),
        9: (-0.08, 0.75),
        10: (-0.08, 1),
        11: (0.08, 0.5),
        12: (0.08, 0.75),
        13: (0.08, 1),
        14: (-0.03, -0.03),
        15: (0.03, -0.03),
        16: (-0.06, 0),
        17: (0.06, 0),
    }
    keypoints = torch.zeros(1, 1, 18, 2)
    present = torch.zeros(1, 1, 18, dtype=torch.bool)
    for joint, (x, y) in places.items():
        keypoints[0, 0, joint] = torch.tensor([128 + 160 * x, 40 + 160 * y])
        present[0, 0, joint] = True
    return openpose.targets(
        keypoints, present, size=(64, 64), stride=4.0, sigma=7.0, width=4.0
    )


def test_fragments_are_dropped_as_the_released_parser_does():
    # Arms and legs of three joints hang on the neck; the face has five.
    maps = [without_a_neck()]
    (released,) = openpose.decode(maps, stride=4.0)
    assert released.found.sum(1).tolist() == [5]
    (loose,) = openpose.decode(maps, stride=4.0, least_joints=3, least_score=0.0)
    assert loose.found.sum(1).tolist() == [3, 3, 3, 3, 5]


def test_people_of_low_mean_score_are_dropped():
    keypoints, present = crowd(1, people=(1, 1))
    heats, fields = openpose.targets(
        keypoints, present, size=(64, 64), stride=1.0, sigma=2.0, width=1.5
    )
    # peaks of 0.2, and less than one limb of 0.15 a joint
    faint = [(0.2 * heats, 0.15 * fields)]
    assert len(openpose.decode(faint, stride=1.0)[0].scores) == 0
    (found,) = openpose.decode(faint, stride=1.0, least_score=0.0)
    assert len(found.scores) == 1
    assert 0.2 < found.scores.item() < 0.4


def test_decode_reads_the_last_stage_without_gradients():
    keypoints, present = crowd(2)
    settings = {"size": (64, 64), "stride": 1.0, "sigma": 2.0, "width": 1.5}
    heats, fields = openpose.targets(keypoints, present, **settings)
    heats.requires_grad_()
    nothing = torch.zeros_like(heats), torch.zeros_like(fields)
    first, second = openpose.decode([nothing, (heats, fields)], stride=1.0)
    assert len(first.scores) > 0
    assert not second.scores.requires_grad
    assert len(openpose.decode([(heats, fields), nothing], stride=1.0)[0].scores) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_maps_that_are_not_finite_are_refused(bad):
    heats, fields = torch.zeros(1, 19, 8, 8), torch.zeros(1, 38, 8, 8)
    heats[0, 3, 1, 1] = bad
    with pytest.raises(ValueError, match="finite maps"):
        openpose.decode([(heats, fields)])
    fields[0, 3, 1, 1] = bad
    with pytest.raises(ValueError, match="finite fields"):
        openpose.decode([(torch.zeros_like(heats), fields)])


def test_maps_of_another_net_are_refused():
    with pytest.raises(ValueError, match=r"maps .*18 joints and background"):
        openpose.decode([(torch.zeros(1, 17, 8, 8), torch.zeros(1, 38, 8, 8))])
    with pytest.raises(ValueError, match="midpoint maps after the fields"):
        openpose.midpoint(torch.zeros(38, 8, 8), stride=4.0)


def test_the_net_in_bfloat16_trains_and_decodes():
    net = openpose.tiny().bfloat16()
    keypoints, present = crowd(2)
    outputs = net(torch.rand(2, 3, 64, 64).bfloat16())
    batch = {"keypoints": keypoints, "in_frame": present}
    openpose.loss(outputs, batch, stride=4.0)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert len(openpose.decode(outputs, stride=4.0)) == 2


@pytest.mark.parametrize(
    "wrong", [torch.rand(1, 3, 64, 64).double(), torch.zeros(1, 3, 64, 64).byte()]
)
def test_images_in_another_type_are_refused(wrong):
    with pytest.raises((ValueError, TypeCheckError), match=r"images"):
        openpose.tiny()(wrong)


@pytest.mark.parametrize(
    "wrong", [{"stages": 0}, {"first": (-1, 4)}, {"later": (4,)}, {"kernel": 4}]
)
def test_counts_below_one_and_even_kernels_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        openpose.tiny(**wrong)


def test_overrides_reach_the_paper_and_the_tiny_net():
    small = {"plan": (4, "M"), "features": (4,), "stages": 2}
    for build in (openpose.tiny, openpose.paper):
        net = build(first=(4, 4), later=(4, 4), **small)
        assert type(net) is openpose.OpenPose
        assert net.stride == 2
        assert len(net.heat_stages) == 2


def test_ten_people_are_all_found():
    keypoints, present = crowd(
        1, people=(10, 10), spacing=(0.085, 0.095), height=(0.3, 0.4), side=368
    )
    heats, fields = openpose.targets(
        keypoints, present, size=(46, 46), stride=8.0, sigma=7.0, width=6.0
    )
    (found,) = openpose.decode([(heats, fields)], stride=8.0)
    assert len(found.scores) >= 10


def test_length_odds_by_hand():
    keypoints = torch.zeros(1, 2, openpose.NUM_JOINTS, 2)
    keypoints[0, 0, 3], keypoints[0, 0, 4] = torch.tensor([[0.0, 0], [3, 4]])
    keypoints[0, 1, 3], keypoints[0, 1, 4] = torch.tensor([[0.0, 0], [0, 25]])
    present = torch.zeros(1, 2, openpose.NUM_JOINTS).bool()
    present[0, :, 3:5] = True
    keypoints[~present] = math.nan
    odds = openpose.length_odds(keypoints, present, step=2.0, bins=16)
    forearm = openpose.LIMBS.index((3, 4))
    # two of four pairs are five pixels apart, one of them within a person
    assert odds.shape == (NUM_LIMBS, 16)
    assert odds[forearm, 2].item() == pytest.approx(1 / 2)
    assert odds[forearm, 12].item() == pytest.approx(1 / 2)
    assert odds.sum(1).nonzero()[:, 0].tolist() == [forearm]
    blank = torch.zeros(1, 1, 1)
    rule = openpose.typical_length(blank, stride=1.0, odds=odds, step=2.0)
    limb = torch.tensor([forearm, forearm, 0])
    ends = torch.tensor([[0.0, 5.0], [0.0, 90.0], [0.0, 5.0]])
    found = rule(limb, torch.zeros(3, 2), ends)
    assert found.tolist() == [odds[forearm, 2], odds[forearm, 15], 0]


def test_the_released_sigma_in_the_papers_form():
    # exp(-d^2 / 2 sigma^2) with 7, in the paper's form exp(-d^2 / sigma^2)
    assert pytest.approx(2 * 7**2) == openpose.SIGMA**2
