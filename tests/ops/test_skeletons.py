"""The skeletons' tables by hand, and COCO's people as OpenPose's."""

import pytest
import torch
from jaxtyping import TypeCheckError

from papernets_lite.data import people
from papernets_lite.metrics.keypoints import SIGMAS
from papernets_lite.ops.skeletons import COCO, OPENPOSE, from_coco
from papernets_lite.pose import openpose


def test_openposes_names_and_limbs():
    assert len(OPENPOSE) == len(OPENPOSE.joints) == 18
    assert OPENPOSE.joints[:3] == ("nose", "neck", "right shoulder")
    assert OPENPOSE.joints[-1] == "left ear"
    assert len(OPENPOSE.limbs) == 19
    assert OPENPOSE.limbs[0] == (1, 8)
    assert OPENPOSE.limbs[-1] == (15, 17)


def test_net_world_and_metric_read_the_same_skeleton():
    assert openpose.LIMBS is OPENPOSE.limbs
    assert openpose.NUM_JOINTS == 18
    assert people.JOINTS is OPENPOSE.joints
    assert SIGMAS is OPENPOSE.tolerances


@pytest.mark.parametrize("skeleton", [OPENPOSE, COCO])
def test_a_mirror_swaps_right_and_left(skeleton):
    assert [skeleton.flip[k] for k in skeleton.flip] == list(range(len(skeleton)))
    for joint, other in enumerate(skeleton.flip):
        name = skeleton.joints[joint].replace("left", "L").replace("right", "R")
        mirrored = skeleton.joints[other].replace("right", "L").replace("left", "R")
        assert name == mirrored


def test_flips_by_hand():
    assert OPENPOSE.flip == (
        *(0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16),
    )


def test_tolerances_are_cocos():
    # pycocotools, cocoeval.py: kpt_oks_sigmas
    tenths = (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62)
    tenths += (1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
    assert COCO.tolerances == pytest.approx([sigma / 10 for sigma in tenths])
    for name, sigma in zip(COCO.joints, COCO.tolerances, strict=True):
        assert OPENPOSE.tolerances[OPENPOSE.joints.index(name)] == sigma
    assert OPENPOSE.tolerances[1] == OPENPOSE.tolerances[2]


def test_limbs_join_joints_of_one_side_or_both():
    for skeleton in (OPENPOSE, COCO):
        for pair in skeleton.limbs:
            assert all(0 <= joint < len(skeleton) for joint in pair)
            assert pair[0] != pair[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_cocos_joints_come_in_openposes_order_with_a_neck(dtype):
    keypoints = torch.arange(34).reshape(17, 2).to(dtype) * 2
    known = torch.ones(17, dtype=torch.bool)
    points, there = from_coco(keypoints, known)
    assert there.all()
    for joint, name in enumerate(OPENPOSE.joints):
        if name != "neck":
            assert torch.equal(
                points[joint].to(dtype), keypoints[COCO.joints.index(name)]
            )
    # the middle of joints 5 and 6, (20, 22) and (24, 26)
    assert points[1].tolist() == [22, 24]


def test_the_neck_is_known_where_both_shoulders_are():
    keypoints = torch.rand(2, 3, 17, 2) + 1
    known = torch.ones(2, 3, 17, dtype=torch.bool)
    known[0, 1, COCO.joints.index("left shoulder")] = False
    points, there = from_coco(keypoints, known)
    assert points.shape == (2, 3, 18, 2)
    assert (~there).nonzero().tolist() == [[0, 1, 1], [0, 1, 5]]
    assert points[0, 1, 1].tolist() == [0, 0]
    assert (points[there] >= 1).all()


def test_other_joints_and_flags_are_refused():
    known = torch.ones(17, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"keypoints \(..., 17, 2\) in COCO's order"):
        from_coco(torch.zeros(18, 2), torch.ones(18, dtype=torch.bool))
    with pytest.raises((ValueError, TypeCheckError)):
        from_coco(torch.zeros(17, 2), known[:3])
    with pytest.raises((ValueError, TypeCheckError)):
        from_coco(torch.zeros(17, 2), known.int())
