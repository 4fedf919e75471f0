"""Box AP and recall by hand; against pycocotools in tests/reference."""

import math

import pytest
import torch

from papernets_lite.metrics.detection import ap_by_image, ap_by_iou, box_ap, recall

BOXES = [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 50.0, 50.0]]


def known(boxes, labels=None):
    boxes = torch.tensor(boxes).reshape(1, -1, 4)
    labels = (
        torch.zeros(boxes.shape[:2], dtype=torch.long)
        if labels is None
        else torch.tensor([labels])
    )
    return {
        "boxes": boxes,
        "labels": labels,
        "valid": torch.ones(boxes.shape[:2], dtype=torch.bool),
    }


def found(boxes, scores=None, labels=None):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    scores = (
        torch.linspace(1, 0.5, len(boxes)) if scores is None else torch.tensor(scores)
    )
    labels = (
        torch.zeros(len(boxes), dtype=torch.long)
        if labels is None
        else torch.tensor(labels)
    )
    return [{"boxes": boxes, "scores": scores, "labels": labels}]


def test_perfect_boxes_score_one_and_none_zero():
    assert box_ap(found(BOXES), known(BOXES)) == pytest.approx(
        {"AP": 1, "AP50": 1, "AP75": 1, "AR": 1}
    )
    assert set(box_ap(found([]), known(BOXES)).values()) == {0.0}


def test_ap_counts_the_thresholds_that_a_box_passes():
    # 10 x 10 against 10 x 7: IoU 0.7, which passes 0.50 to 0.70, five of ten.
    score = box_ap(found([[0.0, 0.0, 10.0, 7.0]]), known(BOXES[:1]))
    assert score["AP"] == pytest.approx(0.5)
    assert (score["AP50"], score["AP75"]) == (pytest.approx(1), 0)


def test_ap_by_threshold():
    curve = ap_by_iou(found([[0.0, 0.0, 10.0, 7.0]]), known(BOXES[:1]))
    assert list(curve) == pytest.approx([0.5 + 0.05 * k for k in range(10)])
    assert list(curve.values()) == pytest.approx([1.0] * 5 + [0.0] * 5)


def test_ap_of_each_image_alone():
    # the second image's box overlaps by 0.7: five of ten thresholds
    one, two = known(BOXES[:1]), known(BOXES[:1])
    both = {name: torch.cat([one[name], two[name]]) for name in one}
    seen = found(BOXES[:1]) + found([[0.0, 0.0, 10.0, 7.0]])
    assert ap_by_image(seen, both) == pytest.approx([1, 0.5])
    with pytest.raises(ValueError, match=r"detections for 2 images, got 1"):
        ap_by_image(seen[:1], both)


def test_half_of_the_objects_and_a_surer_false_alarm():
    # recalls 0, 0.01, ..., 0.5
    assert box_ap(found(BOXES[:1]), known(BOXES))["AP"] == pytest.approx(51 / 101)
    alarm = [[80.0, 80.0, 90.0, 90.0], BOXES[0]]
    assert box_ap(found(alarm), known(BOXES[:1]))["AP"] == pytest.approx(0.5)


def test_a_wrong_label_is_a_miss_and_classes_are_averaged():
    score = box_ap(found(BOXES, labels=[0, 0]), known(BOXES, labels=[0, 1]))
    assert score["AP"] == pytest.approx(0.5)


def test_sizes_are_roots_of_areas():
    sizes = {"small": (0.0, 15.0), "large": (15.0, 100.0), "huge": (100.0, 200.0)}
    score = box_ap(found(BOXES[:1]), known(BOXES), sizes=sizes)
    assert score["AP small"] == pytest.approx(1)
    assert score["AP large"] == 0
    assert math.isnan(score["AP huge"])
    nothing = box_ap(found([]), known(BOXES), sizes=sizes)
    assert nothing["AP small"] == nothing["AP"] == nothing["AR"] == 0
    assert math.isnan(nothing["AP huge"])


def test_padding_does_not_count():
    truth = known([*BOXES, [0.0, 0.0, 0.0, 0.0]])
    truth["valid"][0, 2] = False
    assert box_ap(found(BOXES), truth)["AP"] == pytest.approx(1)


def test_recall_by_hand():
    proposals = [torch.tensor([[0.0, 0.0, 10.0, 6.0], [20.0, 20.0, 50.0, 50.0]])]
    assert recall(proposals, known(BOXES)) == 1.0
    assert recall(proposals, known(BOXES), iou=0.7) == 0.5
    assert recall(proposals, known(BOXES), most=1) == 0.5
    assert recall([torch.zeros(0, 4)], known(BOXES)) == 0.0


def test_bad_input():
    with pytest.raises(
        ValueError,
        match="expected detections for 1 images with objects, got 0 and 2 objects",
    ):
        box_ap([], known(BOXES))
    with pytest.raises(ValueError, match="got 1 and 0 objects"):
        box_ap(found(BOXES), known([]))
    with pytest.raises(ValueError, match="expected proposals for 1 images"):
        recall([], known(BOXES))


def test_nobody_must_find_a_crowd_and_nobody_is_wrong_there():
    truth = known([[10.0, 10.0, 30.0, 30.0], [35.0, 35.0, 64.0, 64.0]])
    seen = found([[10.0, 10.0, 30.0, 30.0], [40.0, 40.0, 60.0, 60.0]], [0.8, 0.9])
    assert box_ap(seen, truth)["AP"] < 0.5
    truth["crowd"] = torch.tensor([[False, True]])
    assert box_ap(seen, truth) == {"AP": 1, "AP50": 1, "AP75": 1, "AR": 1}
    assert set(box_ap(found([]), truth).values()) == {0.0}
    assert recall([seen[0]["boxes"]], truth) == 1
    truth["crowd"] = torch.tensor([[True, True]])
    with pytest.raises(ValueError, match="got 1 and 0 objects"):
        box_ap(seen, truth)


def test_a_mask_of_integers_masks():
    truth = known([*BOXES, [0.0, 0.0, 0.0, 0.0]])
    truth["valid"] = torch.tensor([[1, 1, 0]])
    assert box_ap(found(BOXES), truth)["AP"] == pytest.approx(1)
    assert recall([torch.tensor(BOXES)], truth) == 1
    truth["valid"] = torch.tensor([[1, 2, 0]])
    with pytest.raises(ValueError, match="expected `valid` of bool, or of 0 and 1"):
        box_ap(found(BOXES), truth)


def test_number_types_do_not_matter():
    truth = known(BOXES)
    truth["boxes"] = truth["boxes"].long()
    truth["labels"] = truth["labels"].int()
    seen = found(BOXES)
    seen[0]["boxes"] = seen[0]["boxes"].double()
    assert box_ap(seen, truth)["AP"] == pytest.approx(1)
    assert recall([seen[0]["boxes"]], truth) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad):
    wrong = [[0.0, 0.0, bad, 10.0], BOXES[1]]
    for truth, seen in (
        (known(wrong), found(BOXES)),
        (known(BOXES), found(wrong)),
        (known(BOXES), found(BOXES, [bad, 0.5])),
    ):
        for metric in (box_ap, ap_by_iou):
            with pytest.raises(ValueError, match="expected finite"):
                metric(seen, truth)
    with pytest.raises(ValueError, match="expected finite proposals of image 0"):
        recall([torch.tensor(wrong)], known(BOXES))


def test_corners_out_of_order_are_refused():
    # (x, y, width, height) of a box far from the corner
    wrong = [[30.0, 30.0, 10.0, 10.0]]
    with pytest.raises(ValueError, match=r"expected true boxes .* x0 < x1"):
        box_ap(found(BOXES), known(wrong))
    with pytest.raises(ValueError, match=r"expected boxes of image 0 .* x0 <= x1"):
        box_ap(found(wrong), known(BOXES))
    with pytest.raises(ValueError, match="a score and a label for every box"):
        box_ap([found(BOXES)[0] | {"scores": torch.ones(1)}], known(BOXES))
