"""Against torchvision: parts, parameters, and its whole detector's weights loaded into
ours."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import _utils, fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, roi_align

from papernets_lite.detection import faster_rcnn
from papernets_lite.layers.pyramid import FPN
from papernets_lite.ops import boxes as coding
from tests.helpers import randomise_

pytestmark = pytest.mark.reference
SIZE = 128


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's detector with random weights whose every number matters."""
    torch.manual_seed(0)
    net = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    randomise_(net, gain=(0.3, 0.7))
    for layer in (net.rpn.head.cls_logits, net.rpn.head.bbox_pred):
        nn.init.normal_(layer.weight, std=0.02)
        nn.init.normal_(layer.bias, std=0.2)
    # So that some regions are sure of a class, and the classes differ from region to
    # region.
    for layer, spread in (
        (net.roi_heads.box_predictor.cls_score, 3.0),
        (net.roi_heads.box_predictor.bbox_pred, 0.2),
    ):
        nn.init.normal_(layer.weight, std=spread)
        nn.init.normal_(layer.bias, std=0.2)
    return net.eval()


@pytest.fixture(scope="module")
def ours(theirs: nn.Module) -> faster_rcnn.FasterRCNN:
    """Ours with the same weights: part by part, whose tensors stand in the same
    order."""
    # torchvision reads its patches without the half-pixel correction.
    net = faster_rcnn.pyramid(
        pool=partial(roi_align, sampling_ratio=2, aligned=False)
    ).eval()
    pairs = (
        (net.trunk[0], theirs.backbone.body),
        (net.trunk[1], theirs.backbone.fpn),
        (net.rpn, theirs.rpn.head),
        (net.head, theirs.roi_heads),
    )
    for mine, other in pairs:
        state = mine.state_dict()
        assert [v.shape for v in state.values()] == [
            v.shape for v in other.state_dict().values()
        ]
        mine.load_state_dict(dict(zip(state, other.state_dict().values(), strict=True)))
    return net


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def their_anchors(
    theirs: nn.Module, ours: faster_rcnn.FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours with torchvision's anchors: rounded, and centred on the cells' corners."""

    def anchors(shapes: list) -> list[Tensor]:
        maps = [torch.zeros(1, 1, *shape) for shape in shapes]
        whole = theirs.rpn.anchor_generator(
            ImageList(torch.zeros(1, 3, SIZE, SIZE), [(SIZE, SIZE)]), maps
        )[0]
        return list(whole.split([3 * rows * columns for rows, columns in shapes]))

    monkeypatch.setattr(ours, "grid", anchors)


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.01
    torch.testing.assert_close(
        found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
    )


def test_parameters(theirs: nn.Module) -> None:
    assert count(faster_rcnn.pyramid()) == count(theirs) == 41_808_406


@pytest.mark.parametrize("sides", [(16,), (16, 64)])
def test_anchors(sides: tuple[int, ...]) -> None:
    ratios = (0.25, 1.0, 4.0)  # whose sides need no rounding
    theirs = AnchorGenerator((sides, (128,)), (ratios, ratios))
    maps = [torch.zeros(1, 1, 8, 6), torch.zeros(1, 1, 4, 3)]
    expected = theirs(ImageList(torch.zeros(1, 3, 64, 48), [(64, 48)]), maps)[0]
    found = faster_rcnn.anchors([(8, 6), (4, 3)], [8.0, 16.0], [sides, (128,)], ratios)
    moved = [level - stride / 2 for level, stride in zip(found, (8, 16), strict=True)]
    assert torch.equal(torch.cat(moved), expected)


@pytest.mark.parametrize("deviations", [(1.0, 1.0, 1.0, 1.0), faster_rcnn.DEVIATIONS])
def test_coding(deviations: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    corners, anchors = 50 * torch.rand(2, 200, 2)
    boxes, anchors = (
        torch.cat([x, x + 1 + 20 * torch.rand(200, 2)], 1) for x in (corners, anchors)
    )
    coder = _utils.BoxCoder(tuple(1 / d for d in deviations))
    codes = coder.encode_single(boxes, anchors)
    torch.testing.assert_close(
        coding.encode(boxes, anchors, deviations=deviations),
        codes,
        atol=1e-5,
        rtol=1e-5,
    )
    noisy = codes + torch.randn(200, 4)
    expected = coder.decode_single(noisy, anchors)
    torch.testing.assert_close(
        coding.decode(noisy, anchors, deviations=deviations),
        expected,
        atol=1e-3,
        rtol=1e-5,
    )


def test_pyramid() -> None:
    torch.manual_seed(0)
    theirs, ours = (
        FeaturePyramidNetwork([4, 8], 6),
        FPN([4, 8], 6, extra=False),
    )
    ours.load_state_dict(
        dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    )
    # the upper map is not exactly half as large
    maps = [torch.randn(2, 4, 9, 7), torch.randn(2, 8, 5, 4)]
    expected = theirs(OrderedDict(enumerate(maps)))
    for level, found in enumerate(ours(maps)):
        torch.testing.assert_close(found, expected[level])


def test_reading_from_levels() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 64 >> k, 64 >> k) for k in range(4)]
    corners = 150 * torch.rand(2, 40, 2)
    boxes = list(torch.cat([corners, corners + 2 + 100 * torch.rand(2, 40, 2) ** 3], 2))
    pool = MultiScaleRoIAlign(
        ["0", "1", "2", "3"], 7, 2, canonical_scale=32, canonical_level=3
    )
    expected = pool({str(k): x for k, x in enumerate(maps)}, boxes, [(256, 256)] * 2)
    unaligned = partial(roi_align, sampling_ratio=2, aligned=False)
    # Their level 3 has stride 8, our index 1.
    found = faster_rcnn.patches(
        maps, [4.0, 8.0, 16.0, 32.0], boxes, side=32, level=1, pool=unaligned
    )
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_first_stage(
    theirs: nn.Module, ours: faster_rcnn.FasterRCNN, images: Tensor
) -> None:
    outputs = ours(images)
    maps = list(theirs.backbone(images).values())
    for found, expected in zip(outputs.maps, maps, strict=True):
        close(found, expected)
    scores, codes = theirs.rpn.head(maps)
    flat = [s.permute(0, 2, 3, 1).flatten(1) for s in scores]
    close(outputs.scores, torch.cat(flat, 1))
    own = [c.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for c in codes]
    close(outputs.codes, torch.cat(own, 1))


@torch.no_grad()
def test_detections(
    theirs: nn.Module, ours: faster_rcnn.FasterRCNN, images: Tensor, their_anchors: None
) -> None:
    maps = theirs.backbone(images)
    sizes = [(SIZE, SIZE)] * 2
    expected, _ = theirs.rpn(ImageList(images, sizes), maps)
    outputs = ours(images)
    found = outputs.proposals
    for mine, other in zip(found, expected, strict=True):
        assert len(mine) == len(other) > 100
        # boxes of (nearly) equal scores may change places
        gaps = torch.cdist(mine, other, p=torch.inf)
        assert gaps.amin(0).max() < 0.01
        assert (gaps.diagonal() < 0.01).float().mean() > 0.98
    logits, codes = outputs.second(outputs.maps, expected)
    patches = theirs.roi_heads.box_roi_pool(maps, expected, sizes)
    scores, boxes = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(patches))
    close(logits, scores)
    close(codes.flatten(1), boxes)
    detections, _ = theirs.roi_heads(maps, expected, sizes)
    for mine, other in zip(ours.detect(images), detections, strict=True):
        assert len(other["boxes"]) > 10
        assert torch.equal(mine["labels"] + 1, other["labels"])
        torch.testing.assert_close(
            mine["scores"], other["scores"], atol=1e-3, rtol=1e-3
        )
        torch.testing.assert_close(mine["boxes"], other["boxes"], atol=0.1, rtol=1e-3)


def test_losses(
    theirs: nn.Module,
    ours: faster_rcnn.FasterRCNN,
    images: Tensor,
    their_anchors: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever samples everything does not depend on chance."""
    everything = _utils.BalancedPositiveNegativeSampler(10**6, 0.5)
    monkeypatch.setattr(theirs.rpn, "fg_bg_sampler", everything)
    monkeypatch.setattr(theirs.roi_heads, "fg_bg_sampler", everything)
    monkeypatch.setattr(ours, "sampled", (10**6, 10**6))
    monkeypatch.setattr(faster_rcnn, "regions", partial(faster_rcnn.regions, share=0.5))
    truth = {
        "boxes": torch.tensor(
            [[[8.0, 8, 60, 50], [70, 30, 120, 124]], [[20, 20, 90, 90], [0, 0, 0, 0]]]
        ),
        "labels": torch.tensor([[4, 17], [89, 0]]),
        "valid": torch.tensor([[True, True], [True, False]]),
    }
    targets = [
        {"boxes": boxes[valid], "labels": labels[valid] + 1}
        for boxes, labels, valid in zip(
            truth["boxes"], truth["labels"], truth["valid"], strict=True
        )
    ]
    sizes = [(SIZE, SIZE)] * 2
    with torch.no_grad():
        maps = theirs.backbone(images)
        for part in (theirs.rpn, theirs.roi_heads):
            monkeypatch.setattr(part, "training", True)
        found, first = theirs.rpn(ImageList(images, sizes), maps, targets)
        _, second = theirs.roi_heads(maps, found, sizes, targets)
        monkeypatch.setattr(ours, "kept", ((2000, 2000), (2000, 2000)))
        mine = faster_rcnn.loss(
            ours(images), truth, generator=torch.Generator().manual_seed(0)
        )
    for name, expected in (
        ("objectness", first["loss_objectness"]),
        ("rpn_box", first["loss_rpn_box_reg"]),
        ("class", second["loss_classifier"]),
        ("box", second["loss_box_reg"]),
    ):
        assert expected > 0
        assert mine[name].item() == pytest.approx(expected.item(), rel=1e-3)
