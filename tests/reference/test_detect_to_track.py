"""Against torchvision: correlation (RAFT's), the trunk, and position-sensitive
pooling."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet101
from torchvision.models.optical_flow.raft import CorrBlock
from torchvision.ops import ps_roi_pool

from papernets_lite.ops.pooling import vote
from papernets_lite.video import detect_to_track

pytestmark = pytest.mark.reference


def test_correlation_equals_rafts_in_the_interior() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 16, 24, 20)
    reach = 3
    block = CorrBlock(num_levels=1, radius=reach)
    block.build_pyramid(first, second)
    rows, columns = torch.meshgrid(
        torch.arange(24.0), torch.arange(20.0), indexing="ij"
    )
    theirs = block.index_pyramid(torch.stack([columns, rows]).expand(2, -1, -1, -1))
    # Theirs runs over columns first, and divides by the root of the channels.
    theirs = theirs.unflatten(1, (7, 7)).transpose(1, 2).flatten(1, 2) * 4
    ours = detect_to_track.correlation(first, second, reach=reach)
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    assert ours[inner].std() > 1
    torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_trunk_equals_torchvisions_dilated_resnet() -> None:
    torch.manual_seed(0)
    theirs = resnet101(
        weights=None, replace_stride_with_dilation=[False, False, True]
    ).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.3, 0.7)
            layer.running_var.uniform_(0.5, 2)
    own = detect_to_track.paper().trunk.eval()
    assert sum(p.numel() for p in own.parameters()) == 42_500_160
    state = {
        name: value
        for name, value in theirs.state_dict().items()
        if not name.startswith("fc")
    }
    own.load_state_dict(dict(zip(own.state_dict(), state.values(), strict=True)))
    images = torch.rand(1, 3, 64, 96)
    # torchvision strides on the 3x3, the paper on the 1x1
    for stage in theirs.layer4, theirs.layer3, theirs.layer2:
        first = stage[0]
        first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
    # torchvision leaves this one as it is
    theirs.layer4[0].conv2.dilation = theirs.layer4[0].conv2.padding = (2, 2)
    x, expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images)))), []
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        x = stage(x)
        expected.append(x)
    found = own(images)
    assert [tuple(x.shape[1:]) for x in found] == [
        (512, 8, 12),
        (1024, 4, 6),
        (2048, 4, 6),
    ]
    for mine, other in zip(found, expected[1:], strict=True):
        torch.testing.assert_close(
            mine, other, rtol=1e-4, atol=1e-4 * other.abs().max().item()
        )


def test_vote_equals_pooling_of_whole_cells() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 2 * 9, 12, 12)
    # Boxes whose bins are single cells: nothing to round, nothing to interpolate.
    boxes = [
        torch.tensor([[8.0, 12.0, 20.0, 24.0]]),
        torch.tensor([[0.0, 0.0, 12.0, 12.0], [24.0, 20.0, 36.0, 32.0]]),
    ]
    expected = ps_roi_pool(maps, boxes, 3, 1 / 4).mean((2, 3))
    found = vote(maps, boxes, bins=3, stride=4.0)
    assert found.shape == expected.shape == (3, 2)
    # Two samples a side, a quarter of a cell from its centre, see the neighbours too:
    # equal where maps are smooth.
    smooth = (
        torch.arange(12.0).expand(2, 18, 12, 12) + torch.arange(18.0)[:, None, None]
    )
    expected = ps_roi_pool(smooth, boxes, 3, 1 / 4).mean((2, 3))
    torch.testing.assert_close(vote(smooth, boxes, bins=3, stride=4.0)[0], expected[0])
    torch.testing.assert_close(vote(smooth, boxes, bins=3, stride=4.0)[2], expected[2])
