"""Box coding and assignment by hand, against loops and against torchvision's own."""

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from papernets_lite.ops.boxes import (
    BACKGROUND,
    BETWEEN,
    LARGEST,
    assign,
    decode,
    encode,
)

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
