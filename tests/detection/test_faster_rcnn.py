"""Every part of Faster R-CNN against cases small enough for the hand."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import nms, roi_pool

from papernets_lite.backbones import resnet
from papernets_lite.detection import faster_rcnn
from papernets_lite.ops.boxes import BACKGROUND, BETWEEN, encode


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def truth(boxes: list, labels: list | None = None) -> dict[str, torch.Tensor]:
    """One image."""
    known = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
    valid = torch.ones(known.shape[:2], dtype=torch.bool)
    names = (
        torch.zeros(known.shape[:2], dtype=torch.long)
        if labels is None
        else torch.tensor([labels])
    )
    return {"boxes": known, "labels": names, "valid": valid}


def test_anchors_by_hand() -> None:
    (boxes,) = faster_rcnn.anchors([(2, 2)], [8.0], [(8,)], [1.0])
    assert boxes.tolist() == [
        [0, 0, 8, 8],
        [8, 0, 16, 8],
        [0, 8, 8, 16],
        [8, 8, 16, 16],
    ]
    # height : width
    (boxes,) = faster_rcnn.anchors([(1, 1)], [16.0], [(8, 16)], [0.25, 4.0])
    sides = (boxes[:, 2:] - boxes[:, :2]).tolist()
    assert sides == [[16, 4], [32, 8], [4, 16], [8, 32]]
    assert torch.equal((boxes[:, 2:] + boxes[:, :2]) / 2, torch.full((4, 2), 8.0))


def test_levels_have_their_own_anchors() -> None:
    fine, coarse = faster_rcnn.anchors([(4, 4), (2, 2)], [4.0, 8.0], [(4,), (8,)])
    assert (len(fine), len(coarse)) == (48, 12)
    areas = [((b[:, 2:] - b[:, :2]).prod(1)) for b in (fine, coarse)]
    torch.testing.assert_close(areas[0], torch.full((48,), 16.0))
    torch.testing.assert_close(areas[1], torch.full((12,), 64.0))


def test_rpn_answers_in_the_order_of_the_anchors() -> None:
    net = faster_rcnn.RPN(4, 3)
    maps = [torch.randn(2, 4, 5, 6), torch.randn(2, 4, 2, 3)]
    scores, codes = net(maps)
    assert scores.shape == (2, 3 * 36)
    for start, x in ((0, maps[0]), (90, maps[1])):
        hidden = net.conv(x).relu()
        rows, columns = x.shape[-2:]
        for row, column, anchor in ((0, 0, 0), (1, 2, 1), (rows - 1, columns - 1, 2)):
            place = start + (row * columns + column) * 3 + anchor
            torch.testing.assert_close(
                scores[:, place], net.score(hidden)[:, anchor, row, column]
            )
            expected = net.code(hidden)[:, 4 * anchor : 4 * anchor + 4, row, column]
            torch.testing.assert_close(codes[:, place], expected)


def test_trunk_is_the_resnet_without_its_end() -> None:
    torch.manual_seed(0)
    whole = resnet.ResNet(blocks=(1, 2), widths=(4, 8)).eval()
    trunk = faster_rcnn.Trunk(whole, (1, 2))
    images = torch.rand(2, 3, 16, 16)
    maps = trunk(images)
    assert [tuple(x.shape) for x in maps] == [(2, 4, 16, 16), (2, 8, 8, 8)]
    assert trunk.channels == [4, 8]
    torch.testing.assert_close(whole.head(maps[-1].mean((2, 3))), whole(images))
    assert len(faster_rcnn.Trunk(whole, (1, 2), skip=1)(images)) == 1


def test_pyramid_adds_the_coarse_map_to_the_fine_one() -> None:
    net = faster_rcnn.FPN([1, 1], 1)
    for conv in (*net.lateral, *net.output):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        conv.weight.data[0, 0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    levels = net([fine, coarse])
    assert levels[0][0, 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]
    assert torch.equal(levels[1], coarse)
    assert levels[2].tolist() == [[[[1.0]]]]


def test_sample_balances() -> None:
    owner = torch.tensor([0] * 10 + [BETWEEN] * 10 + [BACKGROUND] * 100)
    positive, negative = faster_rcnn.sample(
        owner, count=16, share=0.25, generator=generator()
    )
    assert (len(positive), len(negative)) == (4, 12)
    assert (owner[positive] >= 0).all()
    assert (owner[negative] == BACKGROUND).all()
    assert len(set(negative.tolist())) == 12
    positive, negative = faster_rcnn.sample(
        owner[5:], count=16, share=0.5, generator=generator()
    )
    assert (len(positive), len(negative)) == (5, 11)  # background fills up
    positive, negative = faster_rcnn.sample(
        owner[:12], count=16, share=0.5, generator=generator()
    )
    assert (len(positive), len(negative)) == (8, 0)


def test_rpn_loss_by_hand() -> None:
    reference = torch.tensor([[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 50.0, 50.0]])
    known = truth([[1.0, 0.0, 11.0, 10.0]])  # IoU 9 / 11; shifted by a tenth of a side
    parts = faster_rcnn.rpn_loss(
        torch.zeros(1, 2), torch.zeros(1, 2, 4), reference, known, generator=generator()
    )
    assert parts["objectness"].item() == pytest.approx(math.log(2))
    # inside the parabola, two boxes sampled
    assert parts["rpn_box"].item() == pytest.approx(0.5 * 0.1**2 * 9 / 2)
    perfect = encode(known["boxes"][0], reference[:1])[None]
    # background's codes do not count
    codes = torch.cat([perfect, torch.full((1, 1, 4), 99.0)], 1)
    parts = faster_rcnn.rpn_loss(
        torch.tensor([[9.0, -9.0]]), codes, reference, known, generator=generator()
    )
    assert parts["objectness"] < 1e-3
    assert parts["rpn_box"].item() == 0


def test_every_object_gets_an_anchor_and_anchors_between_are_ignored() -> None:
    reference = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 20.0], [40.0, 40.0, 50.0, 50.0]]
    )
    known = truth([[0.0, 0.0, 10.0, 30.0]])  # IoU 1/3 and 2/3 and 0
    scores = torch.zeros(1, 3, requires_grad=True)
    parts = faster_rcnn.rpn_loss(
        scores, torch.zeros(1, 3, 4), reference, known, generator=generator()
    )
    parts["objectness"].backward()
    assert scores.grad[0].tolist() == pytest.approx([0, -0.25, 0.25])


def test_proposals_are_clipped_ranked_and_thinned_level_by_level() -> None:
    fine = torch.tensor(
        [[-4.0, 0.0, 6.0, 10.0], [0.0, 0.0, 6.0, 10.0], [20.0, 20.0, 30.0, 30.0]]
    )
    coarse = fine[1:2].clone()
    scores = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    found = faster_rcnn.proposals(
        scores, torch.zeros(1, 4, 4), [fine, coarse], (32, 32)
    )[0]
    # The first becomes a copy of the second, which is surer; the copy on another level
    # stays.
    assert found.tolist() == [[20, 20, 30, 30], [0, 0, 6, 10], [0, 0, 6, 10]]
    (found,) = faster_rcnn.proposals(
        scores, torch.zeros(1, 4, 4), [fine, coarse], (32, 32), before=1, after=5
    )
    assert found.tolist() == [[20, 20, 30, 30], [0, 0, 6, 10]]
    (found,) = faster_rcnn.proposals(
        scores, torch.zeros(1, 4, 4), [fine, coarse], (32, 32), after=1
    )
    assert len(found) == 1


def test_proposals_match_the_plain_loop() -> None:
    torch.manual_seed(0)
    reference = faster_rcnn.anchors([(4, 4)], [8.0], [(12,)])
    scores, codes = torch.randn(1, 48), 0.3 * torch.randn(1, 48, 4)
    (found,) = faster_rcnn.proposals(
        scores, codes, reference, (32, 32), before=20, after=10, iou=0.5
    )
    boxes = []
    for place in scores[0].argsort(descending=True)[:20].tolist():
        x0, y0, x1, y1 = reference[0][place].tolist()
        tx, ty, tw, th = codes[0, place].tolist()
        wide, tall = x1 - x0, y1 - y0
        x, y = (x0 + x1) / 2 + tx * wide, (y0 + y1) / 2 + ty * tall
        wide, tall = wide * math.exp(tw), tall * math.exp(th)
        corners = (x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2)
        boxes.append([min(max(v, 0.0), 32.0) for v in corners])
    kept = nms(torch.tensor(boxes), torch.arange(20.0, 0, -1), 0.5)[:10]
    torch.testing.assert_close(found, torch.tensor(boxes)[kept])


def test_empty_proposals_are_dropped() -> None:
    outside = torch.tensor([[40.0, 40.0, 50.0, 50.0], [0.0, 0.0, 8.0, 8.0]])
    (found,) = faster_rcnn.proposals(
        torch.tensor([[5.0, 0.0]]), torch.zeros(1, 2, 4), [outside], (32, 32)
    )
    assert found.tolist() == [[0, 0, 8, 8]]


def test_regions_contain_the_truth_with_zero_codes() -> None:
    known = truth([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]], [3, 7])
    found = [torch.tensor([[1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])]
    wanted = faster_rcnn.regions(
        found, known, generator=generator(), count=8, share=0.5
    )
    assert sorted(wanted.labels.tolist()) == [0, 4, 4, 8]
    for box, label, code in zip(
        wanted.boxes[0].tolist(), wanted.labels, wanted.codes, strict=True
    ):
        if box == [1, 0, 11, 10]:
            assert label == 4
            # a tenth of a side, in units of a tenth
            assert code.tolist() == pytest.approx([-1, 0, 0, 0])
        else:
            assert code.tolist() == [0, 0, 0, 0]


def test_no_objects_and_one_object_give_finite_losses() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny()
    known = truth([[4.0, 4.0, 20.0, 20.0]])
    for valid in (True, False):
        known["valid"][:] = valid
        parts = faster_rcnn.loss(
            net, net(torch.rand(1, 3, 64, 64)), known, generator=generator()
        )
        assert all(value.isfinite() for value in parts.values())
        assert parts["loss"].item() == pytest.approx(
            sum(v.item() for k, v in parts.items() if k != "loss")
        )
    assert parts["box"] == parts["rpn_box"] == 0


def test_the_level_follows_the_size() -> None:
    sides = torch.tensor([20.0, 111, 112, 223, 224, 447, 448, 2000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], 1)
    assert faster_rcnn.level_of(boxes, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert faster_rcnn.level_of(boxes, 2, side=224, level=1).tolist() == [
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        1,
    ]


def ramp(size: int, stride: int) -> torch.Tensor:
    """A map whose value is the x coordinate of its cells' centres, in pixels."""
    return ((torch.arange(size) + 0.5) * stride).expand(1, 1, size, size)


def test_aligned_reading_is_exact_and_rounding_is_not() -> None:
    box = [torch.tensor([[9.0, 10.0, 27.0, 30.0]])]
    found = faster_rcnn.read([ramp(16, 4)], [4.0], box, size=3)
    # the bins' centres
    assert found[0, 0].tolist() == [pytest.approx([12, 18, 24])] * 3
    found = faster_rcnn.read(
        [ramp(16, 4)], [4.0], box, size=3, pool=faster_rcnn.align_rounded
    )
    # 9 / 4 and 27 / 4 become 2 and 7: the box 8 to 28
    assert found[0, 0, 0].tolist() == pytest.approx([8 + 20 / 6, 18, 28 - 20 / 6])
    found = faster_rcnn.read([ramp(16, 4)], [4.0], box, size=3, pool=roi_pool)
    # cells 2 to 7, both included, the largest of each two
    assert found[0, 0, 0].tolist() == [14, 22, 30]


def test_boxes_are_read_from_their_own_image_and_level() -> None:
    maps = [torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1).expand(2, 1, 16, 16)]
    maps.append(10 * maps[0][:, :, ::2, ::2])
    boxes = [
        torch.tensor([[4.0, 4.0, 12.0, 12.0]]),
        torch.tensor([[8.0, 8.0, 40.0, 40.0], [4.0, 4.0, 12.0, 12.0]]),
    ]
    found = faster_rcnn.read(maps, [4.0, 8.0], boxes, size=2, side=24, level=1)
    assert found[:, 0, 0, 0].tolist() == [1, 20, 2]


def test_head_loss_by_hand() -> None:
    wanted = faster_rcnn.Regions(
        [], torch.tensor([0, 2]), torch.tensor([[0.0] * 4, [1.0, 0, 0, 0]])
    )
    codes = torch.full((2, 3, 4), 50.0)  # other classes' codes do not count
    codes[1, 2] = 0
    parts = faster_rcnn.head_loss(torch.zeros(2, 3), codes, wanted)
    assert parts["class"].item() == pytest.approx(math.log(3))
    # |1| - beta / 2, over two regions
    assert parts["box"].item() == pytest.approx((1 - 1 / 18) / 2)


def test_decode_by_hand() -> None:
    boxes = [
        torch.tensor(
            [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 30.0, 30.0]]
        )
    ]
    scores = torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.98, 0.01, 0.01]])
    codes = torch.zeros(3, 3, 4)
    codes[0, 1, 0] = 1  # a tenth of the width to the right
    (found,) = faster_rcnn.decode(scores.log(), codes, boxes, (32, 32))
    # Class 0: the second is a copy of the first. Class 1: likewise. The third is
    # background.
    torch.testing.assert_close(found["scores"], torch.tensor([0.8, 0.1]))
    assert found["labels"].tolist() == [0, 1]
    torch.testing.assert_close(found["boxes"][0], torch.tensor([1.0, 0, 11, 10]))
    (found,) = faster_rcnn.decode(
        scores.log(), codes, boxes, (32, 32), iou=1.0, least=0.5, most=1
    )
    assert found["labels"].tolist() == [0]
    (found,) = faster_rcnn.decode(scores.log(), codes, boxes, (32, 32), least=0.99)
    assert len(found["boxes"]) == 0


def test_images_without_proposals() -> None:
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 10.0, 10.0]])]
    found = faster_rcnn.decode(
        torch.tensor([[0.0, 9.0]]), torch.zeros(1, 2, 4), boxes, (32, 32)
    )
    assert [len(one["boxes"]) for one in found] == [0, 1]


def test_no_gradient_passes_through_the_proposals() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny()
    outputs = net(torch.rand(2, 3, 64, 64))
    assert not any(boxes.requires_grad for boxes in net.propose(outputs))


def test_training_and_test_keep_different_numbers() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny(before=(100, 20), after=(30, 10))
    outputs = net(torch.rand(1, 3, 64, 64))
    assert len(net.propose(outputs)[0]) == 30
    assert len(net.eval().propose(outputs)[0]) == 10


def test_detections_lie_in_the_image() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny().eval()
    for found in net.detect(torch.rand(2, 3, 64, 64), least=0.0):
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= 64).all()
        assert found["scores"].tolist() == sorted(
            found["scores"].tolist(), reverse=True
        )
        assert set(found["labels"].tolist()) <= set(range(10))
