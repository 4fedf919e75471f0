"""Box coding and assignment by hand, against loops and against torchvision's own."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import batched_nms, box_iou

from papernets_lite.ops.boxes import (
    BACKGROUND,
    BETWEEN,
    LARGEST,
    assign,
    check_boxes,
    check_truth,
    decode,
    encode,
    overlaps,
    pack,
    suppress,
)
from tests.unchecked import unchecked

WEIGHTS = {
    (1.0, 1.0, 1.0, 1.0): (1.0, 1.0, 1.0, 1.0),
    (0.1, 0.1, 0.2, 0.2): (10.0, 10.0, 5.0, 5.0),
}


def boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner, sides = (
        50 * torch.rand(count, 2, generator=generator),
        1 + 20 * torch.rand(count, 2, generator=generator),
    )
    return torch.cat([corner, corner + sides], 1)


def test_encode_by_hand():
    # The centre moves by (2, -3) from an anchor of 10 x 20; the width doubles, the
    # height halves.
    anchor, box = (
        torch.tensor([[0.0, 0.0, 10.0, 20.0]]),
        torch.tensor([[-3.0, 2.0, 17.0, 12.0]]),
    )
    assert encode(box, anchor)[0].tolist() == pytest.approx(
        [0.2, -0.15, math.log(2), math.log(0.5)]
    )
    assert encode(box, anchor, deviations=(0.1, 0.1, 0.2, 0.2))[
        0
    ].tolist() == pytest.approx([2.0, -1.5, 5 * math.log(2), 5 * math.log(0.5)])


@pytest.mark.parametrize("deviations", WEIGHTS)
def test_coding_equals_torchvision_and_decode_inverts(deviations):
    anchors, targets = boxes(100, 0), boxes(100, 1)
    coder = BoxCoder(WEIGHTS[deviations])
    codes = encode(targets, anchors, deviations=deviations)
    torch.testing.assert_close(
        codes, coder.encode_single(targets, anchors), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        decode(codes, anchors, deviations=deviations), targets, rtol=1e-4, atol=1e-4
    )
    noise = 3 * torch.randn(100, 4, generator=torch.Generator().manual_seed(2))
    ours = decode(noise, anchors, deviations=deviations)
    torch.testing.assert_close(
        ours, coder.decode_single(noise, anchors), rtol=1e-4, atol=1e-3
    )


def test_decode_does_not_overflow():
    grown = decode(
        torch.tensor([[0.0, 0.0, 500.0, 500.0]]), torch.tensor([[0.0, 0.0, 4.0, 8.0]])
    )
    assert (grown[0, 2] - grown[0, 0]).item() == pytest.approx(
        4 * math.exp(LARGEST), rel=1e-4
    )


def test_assign_by_hand():
    iou = torch.tensor([[0.8, 0.5, 0.1, 0.0], [0.1, 0.6, 0.2, 0.1]])
    assert assign(iou, foreground=0.7, background=0.3).tolist() == [
        0,
        BETWEEN,
        BACKGROUND,
        BACKGROUND,
    ]
    assert assign(iou, foreground=0.7, background=0.3, force=True).tolist() == [
        0,
        1,
        BACKGROUND,
        BACKGROUND,
    ]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("foreground", "background"), [(0.7, 0.3), (0.5, 0.5)])
def test_assign_equals_torchvision(foreground, background, force):
    iou = box_iou(boxes(6, 3), boxes(300, 4))
    matcher = Matcher(foreground, background, allow_low_quality_matches=force)
    assert torch.equal(
        assign(iou, foreground=foreground, background=background, force=force),
        matcher(iou),
    )


def test_assign_without_objects_and_with_one_that_no_anchor_touches():
    assert (
        assign(torch.zeros(0, 3), foreground=0.5, background=0.5).tolist()
        == [BACKGROUND] * 3
    )
    assert (
        assign(torch.zeros(1, 3), foreground=0.5, background=0.5, force=True).tolist()
        == [BACKGROUND] * 3
    )
    with pytest.raises(
        ValueError, match=r"expected background <= foreground, got 0.7, 0.3"
    ):
        assign(torch.zeros(1, 3), foreground=0.3, background=0.7)


def test_whole_numbers_and_half_precision_are_computed_in_float32():
    anchors, targets = boxes(20, 0).round() + 1, boxes(20, 1).round() + 1
    deviations = (0.1, 0.1, 0.2, 0.2)
    codes = encode(targets, anchors, deviations=deviations)
    whole = encode(targets.long(), anchors.int(), deviations=deviations)
    assert torch.equal(whole, codes)
    back = decode(codes.bfloat16(), anchors.long(), deviations=deviations)
    assert back.dtype == torch.float32
    assert torch.equal(
        back, decode(codes.bfloat16().float(), anchors, deviations=deviations)
    )


@pytest.mark.parametrize("force", [False, True])
def test_assign_of_a_batch_is_that_of_each_picture(force):
    true, anchors = torch.stack([boxes(6, 3), boxes(6, 5), boxes(6, 6)]), boxes(300, 4)
    valid = torch.tensor([[1, 0, 1, 1, 0, 1], [0] * 6, [1] * 6]).bool()
    settings = {"foreground": 0.5, "background": 0.3, "force": force}
    truth = pack({"boxes": true, "valid": valid})
    found = assign(overlaps(truth["boxes"], truth["valid"], anchors), **settings)
    for own, some, there in zip(found, true, valid, strict=True):
        assert torch.equal(own, assign(box_iou(some[there], anchors), **settings))


def test_assign_without_anchors_and_with_nan():
    settings = {"foreground": 0.7, "background": 0.3}
    for force in (False, True):
        assert assign(torch.zeros(2, 0), force=force, **settings).shape == (0,)
    with pytest.raises(ValueError, match="expected IoU without NaN"):
        assign(torch.full((1, 2), math.nan), **settings)


def test_suppress_equals_batched_nms_in_float32():
    some, names = boxes(40, 7), torch.arange(40) % 3
    scores = torch.rand(40, generator=torch.Generator().manual_seed(8))
    expected = batched_nms(some, scores, names, 0.4)
    assert torch.equal(suppress(some, scores, names, 0.4), expected)
    assert torch.equal(suppress(some.double(), scores.double(), names, 0.4), expected)
    # 2,000 pixels and more have no halves in half precision
    far = torch.tensor([[2048.0, 0, 2050, 2], [2050.0, 0, 2052, 2]]).bfloat16()
    assert len(suppress(far, torch.ones(2).half(), torch.zeros(2).int(), 0.5)) == 2
    assert suppress(some[:0], scores[:0], names[:0], 0.4).shape == (0,)


def test_suppress_refuses_what_the_compiled_operator_would_take():
    one, score, label = boxes(1, 0), torch.ones(1), torch.zeros(1).long()
    with pytest.raises(ValueError, match="expected finite scores"):
        suppress(one, score * math.nan, label, 0.5)
    with pytest.raises(ValueError, match="expected finite boxes"):
        suppress(one * math.inf, score, label, 0.5)
    with pytest.raises(ValueError, match="expected an IoU from 0 to 1, got 50"):
        suppress(one, score, label, 50)
    with pytest.raises(
        ValueError, match="a score and a label for every box, got 1, 2, 1"
    ):
        suppress(one, torch.ones(2), label, 0.5)


def test_truth_in_the_types_that_papers_compute_with():
    truth = {
        "boxes": torch.tensor([[[4, 4, 20, 20], [9, 9, 1, 1]]]),
        "labels": torch.tensor([[3, 255]], dtype=torch.uint8),
        "valid": torch.tensor([[1, 0]]),
        "areas": torch.zeros(1, 2),
    }
    found = check_truth(truth, num_classes=4)
    assert set(found) == {"boxes", "labels", "valid"}
    assert [v.dtype for v in (found["boxes"], found["labels"], found["valid"])] == [
        torch.float32,
        torch.int64,
        torch.bool,
    ]
    assert found["boxes"].tolist() == [[[4, 4, 20, 20], [0, 0, 0, 0]]]
    assert found["labels"].tolist() == [[3, 0]]
    again = check_truth(found, num_classes=4)
    assert all(torch.equal(again[name], found[name]) for name in found)
    arrays = {name: value.numpy() for name, value in truth.items()}
    assert torch.equal(check_truth(arrays)["boxes"], found["boxes"])
    assert check_truth({"boxes": [[[4.0, 4, 20, 20]]], "valid": [[1]]})["valid"].all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"boxes": torch.tensor([[4.0, 4, 4, 20]])}, "with x0 < x1 and y0 < y1"),
        ({"boxes": torch.tensor([[4.0, 4, math.nan, 20]])}, "finite true boxes"),
        ({"boxes": torch.tensor([[4.0, 4, -math.inf, 20]])}, "finite true boxes"),
        ({"boxes": torch.tensor([[4.0, 4, 2e6, 20]])}, "at most 1000000 pixels away"),
        ({"boxes": torch.zeros(2, 4)}, "`boxes` (..., k, 4) and `valid` (..., k)"),
        ({"labels": torch.tensor([4])}, "`labels` from 0 to 3, got [4], (0,)"),
        ({"labels": torch.tensor([-1])}, "`labels` from 0 to 3"),
        ({"labels": torch.tensor([1.0])}, "`labels` as integers, got torch.float32"),
        ({"labels": torch.tensor([1, 1])}, "`labels` and `valid` of one shape"),
        (
            {"valid": torch.tensor([2])},
            "`valid` of bool, or of 0 and 1, got torch.int64, [2]",
        ),
        ({"valid": torch.tensor([math.nan])}, "`valid` of bool, or of 0 and 1"),
    ],
)
def test_a_truth_that_cannot_be_is_refused_by_name(wrong, message):
    truth = {
        "boxes": torch.tensor([[4.0, 4, 20, 20]]),
        "labels": torch.tensor([3]),
        "valid": torch.tensor([True]),
    }
    check_truth(truth, 4)
    with pytest.raises(ValueError, match="expected") as error:
        check_truth(truth | wrong, 4)
    assert message.replace("[", "").replace("]", "") in str(error.value).replace(
        "[", ""
    ).replace("]", "")


def test_a_truth_without_boxes_or_valid_is_refused():
    with pytest.raises(ValueError, match="expected a batch with `boxes`, `valid`"):
        check_truth({"boxes": torch.zeros(1, 4)})


def test_thin_boxes_pass_where_they_may_and_masks_are_bool():
    thin = torch.tensor([[4.0, 4, 4, 20]])
    assert torch.equal(check_boxes(thin, thin=True), thin)
    with pytest.raises(ValueError, match=r"expected boxes .* x0 < x1"):
        check_boxes(thin)
    with pytest.raises(ValueError, match=r"expected boxes .*xyxy in pixels, got"):
        check_boxes(torch.zeros(3, 5))


def test_packing_puts_what_is_there_first_in_its_order():
    valid = torch.tensor([[False, True, True, False], [False, False, False, True]])
    boxes = torch.arange(8.0).reshape(2, 4, 1).expand(2, 4, 4)
    found = pack({"boxes": boxes, "valid": valid})
    assert found["valid"].tolist() == [[True, True], [True, False]]
    assert found["boxes"][0, :, 0].tolist() == [1, 2]
    assert found["boxes"][1, 0, 0].item() == 7
    assert pack({"boxes": boxes[:0], "valid": valid[:0]})["boxes"].shape == (0, 0, 4)


def test_one_anchor_is_not_repeated_for_many_boxes() -> None:
    boxes = torch.tensor([[1.0, 1, 9, 9], [4, 4, 20, 22]])
    with unchecked():
        for code in (encode, decode):
            with pytest.raises(ValueError, match="of the same shape"):
                code(boxes, boxes[:1])
