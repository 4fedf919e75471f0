"""Boxes, matching, outputs, loss and detections against torchvision's SSD300."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import _utils, ssd300_vgg16
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from papernets_lite.detection import ssd

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    net = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.05)
    nn.init.uniform_(net.backbone.scale_weight, 10, 30)
    return net


@pytest.fixture(scope="module")
def ours(theirs: nn.Module) -> ssd.SSD:
    state = theirs.state_dict()
    net = ssd.paper()
    scale = state.pop("backbone.scale_weight")
    mine = net.state_dict()
    ordered = {name: None for name in mine if name != "norm.weight"}
    assert [mine[name].shape for name in ordered] == [
        value.shape for value in state.values()
    ]
    net.load_state_dict(
        dict(zip(ordered, state.values(), strict=True)) | {"norm.weight": scale}
    )
    return net.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 300, 300, generator=torch.Generator().manual_seed(1))


def both(
    theirs: nn.Module, ours: ssd.SSD, images: Tensor
) -> tuple[dict[str, Tensor], list[Tensor], ssd.Outputs]:
    with torch.no_grad():
        features = list(theirs.backbone(images).values())
        anchors = theirs.anchor_generator(
            ImageList(images, [(300, 300)] * len(images)), features
        )
        return theirs.head(features), anchors, ours(images)


def truth() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    corner, sides = torch.rand(2, 2, 6, 2, generator=generator)
    boxes = 300 * torch.cat([0.7 * corner, 0.7 * corner + 0.05 + 0.25 * sides], -1)
    valid = torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    return boxes, torch.randint(20, (2, 6), generator=generator), valid


def test_parameters() -> None:
    for classes in (21, 91):
        with torch.device("meta"):
            net = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes)
            mine = ssd.paper(num_classes=classes - 1)
        assert sum(p.numel() for p in mine.parameters()) == sum(
            p.numel() for p in net.parameters()
        )


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_default_boxes(size: tuple[int, int]) -> None:
    maps = [(size[0] // s, size[1] // s) for s in (4, 8, 16)]
    ratios, scales = [[2], [2, 3], [2]], ssd.scales(3, smallest=0.15, largest=0.8)
    generator = DefaultBoxGenerator(ratios, scales=scales, steps=[4, 8, 16])
    features = [torch.zeros(1, 1, *shape) for shape in maps]
    (expected,) = generator(ImageList(torch.zeros(1, 3, *size), [size]), features)
    found = ssd.default_boxes(
        maps, size, strides=(4, 8, 16), scales=scales, ratios=ratios
    )
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-5, atol=1e-4)


def test_torchvisions_scales_follow_the_formula() -> None:
    """But for the last, which it sets to one."""
    generator = DefaultBoxGenerator([[2]] * 6, min_ratio=0.2, max_ratio=0.9)
    assert generator.scales[:-1] == pytest.approx(ssd.scales(6)[:-1])


def test_matching_where_no_two_true_boxes_want_the_same_default_box() -> None:
    defaults = torch.cat(ssd.tiny().defaults((64, 64)))
    compared = 0
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        corner, sides = torch.rand(2, 4, 2, generator=generator)
        iou = box_iou(
            64 * torch.cat([0.6 * corner, 0.6 * corner + 0.1 + 0.3 * sides], 1),
            defaults,
        )
        if len(set(iou.argmax(1).tolist())) == 4:
            compared += 1
            assert torch.equal(ssd.match(iou), _utils.SSDMatcher(0.5)(iou))
    assert compared > 20


def test_torchvision_loses_a_true_box_that_shares_its_best_default_box() -> None:
    iou = torch.tensor([[0.45, 0.30, 0.0, 0.1], [0.40, 0.10, 0.0, 0.2]])
    assert _utils.SSDMatcher(0.5)(iou).tolist() == [1, -1, -1, -1]
    assert ssd.match(iou).tolist() == [0, -1, -1, 1]


def test_torchvisions_weights_give_the_same_outputs(
    theirs: nn.Module, ours: ssd.SSD, images: Tensor
) -> None:
    expected, anchors, found = both(theirs, ours, images)
    assert expected["cls_logits"].std() > 0.01
    for mine, other in (
        (found.logits, expected["cls_logits"]),
        (found.codes, expected["bbox_regression"]),
    ):
        assert (mine - other).abs().max() <= 1e-4 * other.abs().max().clamp(min=1)
    torch.testing.assert_close(found.defaults, anchors[0], rtol=1e-5, atol=1e-3)


def test_the_same_loss(theirs: nn.Module, ours: ssd.SSD, images: Tensor) -> None:
    expected, anchors, found = both(theirs, ours, images)
    boxes, labels, valid = truth()
    records = [
        {"boxes": b[v], "labels": 1 + k[v]}
        for b, k, v in zip(boxes, labels, valid, strict=True)
    ]
    matched = [
        theirs.proposal_matcher(box_iou(r["boxes"], a))
        for r, a in zip(records, anchors, strict=True)
    ]
    other = theirs.compute_loss(records, expected, anchors, matched)
    mine = ssd.loss(found, {"boxes": boxes, "labels": labels, "valid": valid})
    assert mine["classes"].item() == pytest.approx(
        other["classification"].item(), rel=1e-4
    )
    assert mine["codes"].item() == pytest.approx(
        other["bbox_regression"].item(), rel=1e-4
    )


def test_the_same_detections(theirs: nn.Module, ours: ssd.SSD, images: Tensor) -> None:
    expected, anchors, found = both(theirs, ours, images)
    # Random nets are sure of nothing: sharper logits, smaller codes, the same for both.
    expected = {
        "cls_logits": 3 * expected["cls_logits"],
        "bbox_regression": 0.3 * expected["bbox_regression"],
    }
    others = theirs.postprocess_detections(expected, anchors, [(300, 300)] * 2)
    mine = ssd.decode(found._replace(logits=3 * found.logits, codes=0.3 * found.codes))
    for one, other in zip(mine, others, strict=True):
        assert len(one["scores"]) == len(other["scores"]) > 20
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-3, atol=1e-5)
        # near ties may change places
        assert (one["labels"] + 1 == other["labels"]).float().mean() > 0.97
        same = one["labels"] + 1 == other["labels"]
        assert (
            (one["boxes"] - other["boxes"])[same].abs().max(1).values < 0.1
        ).float().mean() > 0.97
