"""Counts and outputs against torchvision and timm, with their weights loaded into our
blocks, nets and heads."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import ssdlite
from torchvision.models.mobilenetv2 import InvertedResidual

from papernets_lite.backbones import mobilenet_v2 as v2
from papernets_lite.detection import ssd
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def port(theirs: nn.Module, ours: nn.Module) -> None:
    """Weights that matter, every one, handed over in order: the names differ."""
    randomise_(theirs)
    mine, given = ours.state_dict(), list(theirs.state_dict().values())
    assert [v.shape for v in mine.values()] == [v.shape for v in given]
    ours.load_state_dict(dict(zip(mine, given, strict=True)))
    theirs.eval()
    ours.eval()


@torch.no_grad()
def assert_same(theirs: nn.Module, ours: nn.Module, x: Tensor) -> None:
    expected, found = theirs(x), ours(x)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("expansion", [1, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [16, 24])
def test_torchvisions_block_gives_the_same_maps(
    channels: int, stride: int, expansion: int
) -> None:
    torch.manual_seed(0)
    theirs = InvertedResidual(16, channels, stride, expansion)
    ours = v2.Bottleneck(16, channels, stride=stride, expansion=expansion)
    port(theirs, ours)
    assert_same(theirs, ours, torch.randn(2, 16, 9, 14))


def test_torchvisions_net_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    theirs, ours = torchvision.models.mobilenet_v2(), v2.paper()
    assert count(ours) == count(theirs) == 3_504_872
    port(theirs, ours)
    assert_same(theirs, ours, torch.rand(2, 3, 96, 128))


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [("mobilenetv2_100", 1.0, 3_504_872), ("mobilenetv2_140", 1.4, 6_108_776)],
)
def test_timms_nets_give_the_same_logits(
    name: str, width: float, expected: int
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs, ours = timm.create_model(name), v2.paper(width=width)
    assert count(ours) == count(theirs) == expected
    port(theirs, ours)
    assert_same(theirs, ours, torch.rand(2, 3, 96, 96))


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75])
def test_torchvisions_thinner_nets_have_as_many_parameters(width: float) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(width_mult=width)
        assert count(v2.paper(width=width)) == count(theirs)


def test_torchvisions_ssdlite_head_gives_the_same_scores() -> None:
    torch.manual_seed(0)
    theirs = ssdlite.SSDLiteClassificationHead([32], [4], 5, nn.BatchNorm2d)
    net = v2.separate_(ssd.tiny())
    ours = net.class_heads[0]
    port(theirs, ours)
    x = torch.randn(2, 32, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs([x]))


def test_torchvisions_further_map_is_the_same() -> None:
    torch.manual_seed(0)
    theirs = ssdlite._extra_block(64, 32, nn.BatchNorm2d)
    ours = v2.further(64, 32, lite=True)
    port(theirs, ours)
    assert_same(theirs, ours, torch.randn(2, 64, 10, 7))
