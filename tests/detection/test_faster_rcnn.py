"""Every part of Faster R-CNN against cases small enough for the hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import vgg16
from torchvision.ops import nms, roi_pool

from papernets_lite.detection import faster_rcnn
from papernets_lite.ops.boxes import BACKGROUND, BETWEEN, encode
from papernets_lite.ops.pooling import align_rounded


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
        outputs = net(torch.rand(1, 3, 64, 64))
        parts = faster_rcnn.loss(outputs, known, generator=generator())
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
    found = faster_rcnn.patches([ramp(16, 4)], [4.0], box, size=3)
    # the bins' centres
    assert found[0, 0].tolist() == [pytest.approx([12, 18, 24])] * 3
    found = faster_rcnn.patches([ramp(16, 4)], [4.0], box, size=3, pool=align_rounded)
    # 9 / 4 and 27 / 4 become 2 and 7: the box 8 to 28
    assert found[0, 0, 0].tolist() == pytest.approx([8 + 20 / 6, 18, 28 - 20 / 6])
    found = faster_rcnn.patches([ramp(16, 4)], [4.0], box, size=3, pool=roi_pool)
    # cells 2 to 7, both included, the largest of each two
    assert found[0, 0, 0].tolist() == [14, 22, 30]


def test_boxes_are_read_from_their_own_image_and_level() -> None:
    maps = [torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1).expand(2, 1, 16, 16)]
    maps.append(10 * maps[0][:, :, ::2, ::2])
    boxes = [
        torch.tensor([[4.0, 4.0, 12.0, 12.0]]),
        torch.tensor([[8.0, 8.0, 40.0, 40.0], [4.0, 4.0, 12.0, 12.0]]),
    ]
    found = faster_rcnn.patches(maps, [4.0, 8.0], boxes, size=2, side=24, level=1)
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
    (found,) = faster_rcnn.detections(scores.log(), codes, boxes, (32, 32))
    # Class 0: the second is a copy of the first. Class 1: likewise. The third is
    # background.
    torch.testing.assert_close(found["scores"], torch.tensor([0.8, 0.1]))
    assert found["labels"].tolist() == [0, 1]
    torch.testing.assert_close(found["boxes"][0], torch.tensor([1.0, 0, 11, 10]))
    (found,) = faster_rcnn.detections(
        scores.log(), codes, boxes, (32, 32), iou=1.0, least=0.5, most=1
    )
    assert found["labels"].tolist() == [0]
    (found,) = faster_rcnn.detections(scores.log(), codes, boxes, (32, 32), least=0.99)
    assert len(found["boxes"]) == 0


def test_images_without_proposals() -> None:
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 10.0, 10.0]])]
    found = faster_rcnn.detections(
        torch.tensor([[0.0, 9.0]]), torch.zeros(1, 2, 4), boxes, (32, 32)
    )
    assert [len(one["boxes"]) for one in found] == [0, 1]


def test_no_gradient_passes_through_the_proposals() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny()
    outputs = net(torch.rand(2, 3, 64, 64))
    assert not any(boxes.requires_grad for boxes in outputs.proposals)


def test_training_and_test_keep_different_numbers() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny(kept=((100, 30), (20, 10)))
    outputs = net(torch.rand(1, 3, 64, 64))
    assert len(outputs.proposals[0]) == 30
    outputs = net.eval()(torch.rand(1, 3, 64, 64))
    assert len(outputs.proposals[0]) == 10


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


NAN = float("nan")


def one_loss(net: faster_rcnn.FasterRCNN, known: dict[str, torch.Tensor]) -> float:
    outputs = net(torch.rand(1, 3, 64, 64, generator=generator()))
    return faster_rcnn.loss(outputs, known, generator=generator())["loss"].item()


def test_boxes_and_labels_of_any_number_type_give_the_same_loss() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny().eval()
    known = truth([[4, 4, 20, 20]], [3])
    expected = one_loss(net, known)
    assert math.isfinite(expected)
    for boxes in (torch.int64, torch.int32, torch.float64):
        for labels in (torch.int32, torch.uint8):
            for valid in (torch.bool, torch.int64, torch.float32):
                other = {
                    "boxes": known["boxes"].to(boxes),
                    "labels": known["labels"].to(labels),
                    "valid": known["valid"].to(valid),
                }
                assert one_loss(net, other) == expected


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[4.0, 4, 4, 20]], [0], r"expected true boxes .* got \[4.0, 4.0, 4.0, 20.0\]"),
        ([[20.0, 4, 4, 20]], [0], "expected true boxes .* x0 < x1"),
        ([[30.0, 30, 10, 10]], [0], "expected true boxes .* x0 < x1"),
        ([[NAN, 4, 20, 20]], [0], "expected finite true boxes"),
        ([[4.0, 4, math.inf, 20]], [0], "expected finite true boxes"),
        ([[4.0, 4, 1e30, 20]], [0], "expected finite true boxes"),
        ([[4.0, 4, 20, 20]], [-1], "expected `labels` from 0 to 9, got -1"),
        ([[4.0, 4, 20, 20]], [10], "expected `labels` from 0 to 9, got 10"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(
    boxes: list, labels: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        one_loss(faster_rcnn.tiny(), truth(boxes, labels))


def test_a_truth_of_another_batch_is_refused() -> None:
    outputs = faster_rcnn.tiny()(torch.rand(2, 3, 64, 64))
    with pytest.raises(ValueError, match="expected a truth of 2 images, got 1"):
        faster_rcnn.loss(outputs, truth([[4.0, 4, 20, 20]]))


def test_padding_may_hold_anything() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny().eval()
    expected = one_loss(net, truth([[4.0, 4, 20, 20]], [3]))
    known = truth([[NAN, 0, 0, 0], [4.0, 4, 20, 20], [9.0, 9, 1, 1]], [255, 3, -1])
    known["valid"][0, [0, 2]] = False
    assert one_loss(net, known) == expected


@torch.no_grad()
def test_anchors_and_patches_keep_their_place_at_odd_sizes() -> None:
    """Three columns less: the stride stays 4, not 37 / 10, on both axes."""
    torch.manual_seed(0)
    net = faster_rcnn.tiny().eval()
    images = torch.rand(1, 3, 100, 40)
    whole, narrow = net(images), net(images[..., :37])
    assert [tuple(x.shape[-2:]) for x in narrow.maps] == [(25, 10)]
    assert torch.equal(narrow.anchors[0], whole.anchors[0])
    middle = (narrow.anchors[0][:, :2] + narrow.anchors[0][:, 2:]) / 2
    assert middle[-1].tolist() == [38, 98]
    box = [torch.tensor([[4.0, 76, 20, 96]])]
    found, expected = (net.head.cut(out.maps, [4.0], box) for out in (narrow, whole))
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("build", [faster_rcnn.tiny, faster_rcnn.paper])
@torch.no_grad()
def test_the_strides_are_those_of_the_convolutions(build: Callable) -> None:
    with torch.device("meta"):
        net = build()
        maps = net.trunk(torch.empty(1, 3, 192, 128))
    assert [tuple(x.shape[-2:]) for x in maps] == [
        (192 // stride, 128 // stride) for stride in net.grid.keywords["strides"]
    ]
    assert {x.shape[1] for x in maps} == {net.rpn.conv.in_channels}


def test_the_papers_net_has_its_parts() -> None:
    """VGG-16's shared convolutions as torchvision has them, nine anchors a place, and
    the output layers that the paper counts: (4 + 1) x 9 answers here, (4 + 2) x 9
    there."""
    with torch.device("meta"):
        net, theirs = faster_rcnn.paper(), vgg16(weights=None)
    shared = list(theirs.features[:30].state_dict().values())
    ours = list(net.trunk.state_dict().values())
    assert [x.shape for x in ours] == [x.shape for x in shared]
    assert net.rpn.conv.weight.shape == (512, 512, 3, 3)
    assert (net.rpn.score.out_channels, net.rpn.code.out_channels) == (9, 36)
    layers = [x for x in theirs.classifier if isinstance(x, nn.Linear)][:2]
    own = [x for x in net.head.layers if isinstance(x, nn.Linear)]
    assert [x.weight.shape for x in own] == [x.weight.shape for x in layers]
    assert (net.head.score.out_features, net.head.code.out_features) == (21, 84)


@torch.no_grad()
def test_other_proposals_can_be_read() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny().eval()
    outputs = net(torch.rand(2, 3, 64, 64))
    whole = faster_rcnn.decode(outputs, least=0.0)
    same = faster_rcnn.decode(outputs, boxes=outputs.proposals, least=0.0)
    first = [boxes[:1] for boxes in outputs.proposals]
    few = faster_rcnn.decode(outputs, boxes=first, least=0.0)
    assert all(
        torch.equal(a["boxes"], b["boxes"]) for a, b in zip(whole, same, strict=True)
    )
    assert [len(one["boxes"]) for one in few] == [10, 10]  # one for each class


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_nets_of_other_precisions_detect(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny().eval()
    images = torch.rand(2, 3, 64, 64)
    expected = net(images).scores
    found = net.to(dtype)(images.to(dtype))
    assert found.scores.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(
        found.scores, expected.to(found.scores), atol=0.05, rtol=0.1
    )
    seen = faster_rcnn.decode(found, least=0.0, most=5)
    assert [len(one["boxes"]) for one in seen] == [5, 5]


def test_training_under_autocast() -> None:
    torch.manual_seed(0)
    net = faster_rcnn.tiny()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(torch.rand(1, 3, 64, 64))
        parts = faster_rcnn.loss(outputs, truth([[4.0, 4, 20, 20]]))
    parts["loss"].backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@torch.no_grad()
def test_a_net_that_diverged_is_named() -> None:
    net = faster_rcnn.tiny().eval()
    net.head.score.weight.fill_(NAN)
    with pytest.raises(ValueError, match="expected finite logits and codes"):
        net.detect(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "at least one class"),
        ({"num_classes": -1}, "at least one class"),
        ({"sides": ((12,), (24,))}, "equally many sides for each of 1 levels"),
        (
            {"strides": (4, 8), "sides": ((12,), (12, 20))},
            "equally many sides for each of 2 levels",
        ),
    ],
)
def test_nets_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"expected {message}"):
        faster_rcnn.tiny(**settings)


def test_every_setting_reaches_the_net() -> None:
    kept = ((9, 7), (6, 5))
    for build in (faster_rcnn.tiny, faster_rcnn.paper, faster_rcnn.pyramid):
        with torch.device("meta"):
            net = build(num_classes=3, kept=kept, pool=align_rounded, ratios=(1.0,))
        assert net.head.score.out_features == 4
        assert net.kept == kept
        assert net.head.cut.keywords["pool"] is align_rounded
        per_place = len(net.grid.keywords["sides"][0])
        assert net.rpn.score.out_channels == per_place


def test_maps_and_strides_must_fit() -> None:
    box = [torch.tensor([[0.0, 0, 8, 8]])]
    for strides in ([4.0], [4.0, 0.0]):
        with pytest.raises(ValueError, match="a positive stride for each of 2 maps"):
            faster_rcnn.patches([ramp(8, 4)] * 2, strides, box)
