"""The surgery on torchvision's VGG, and its own FCN's last step."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import segmentation, vgg

from papernets_lite.segmentation import fcn

pytestmark = pytest.mark.reference

WIDTHS = (4, 8, 8, 16, 16)


def narrow_vgg() -> nn.Module:
    """Torchvision's VGG-16 with few channels; its dense layers are rebuilt."""
    plan: list[str | int] = []
    for width, (_, depth) in zip(WIDTHS, fcn.VGG16, strict=True):
        plan += [*[width] * depth, "M"]
    with torch.device("meta"):  # its own dense layers would take half a gigabyte
        theirs = torchvision.models.VGG(nn.Sequential(), init_weights=False)
    theirs.features = vgg.make_layers(plan)
    sizes = [(WIDTHS[-1] * 49, 32), (32, 32), (32, 10)]
    dense = [nn.Linear(*size) for size in sizes]
    first, second, third = dense
    parts = [first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), third]
    theirs.classifier = nn.Sequential(*parts)
    return theirs.eval()


def surgery(theirs: nn.Module, **settings: object) -> fcn.FCN:
    """Its weights in our net: convolutions in order, then the dense layers."""
    stages = [(w, depth) for w, (_, depth) in zip(WIDTHS, fcn.VGG16, strict=True)]
    net = fcn.paper(stages=stages, hidden=32, num_classes=10, skips=0, **settings)
    given = [m for m in theirs.features if isinstance(m, nn.Conv2d)]
    for kernel, place in ((7, 0), (1, 3), (1, 6)):
        given.append(fcn.convolution(theirs.classifier[place], kernel))
    mine = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for ours, their in zip(mine, given, strict=True):
        ours.load_state_dict(their.state_dict())
    return net.eval()


def test_a_dense_vgg_says_what_the_classifier_says() -> None:
    torch.manual_seed(0)
    theirs = narrow_vgg()
    net = surgery(theirs, padding=1)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(images)
        (found,) = net.maps(images)
        (wide,) = net.maps(torch.rand(1, 3, 256, 256))
    assert expected.std() > 1e-3
    assert found.shape == (2, 10, 1, 1)
    assert wide.shape == (1, 10, 2, 2)
    assert (found[..., 0, 0] - expected).abs().max() < 1e-6


def test_the_trunk_has_vggs_parameters() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vgg16()
        ours = fcn.paper(padding=1, num_classes=1000, skips=0)
        small = fcn.Classifier(
            stages=fcn.VGG16, hidden=fcn.HIDDEN, kernel=fcn.KERNEL, num_classes=1000
        )
        counts = [sum(p.numel() for p in m.parameters()) for m in (theirs, ours, small)]
    assert counts == [138_357_544] * 3


def test_torchvisions_fcn_ends_in_the_same_upsampling() -> None:
    """Its head is another one, a 3x3 convolution on a map of stride 8 without skips;
    what follows is ours."""
    torch.manual_seed(0)
    theirs = segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=5
    ).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(images)["out"]
        coarse = theirs.classifier(theirs.backbone(images)["out"])
        assert coarse.shape == (1, 5, 8, 12)
        found = fcn.cut(fcn.Upsampling(5, 8)(coarse), 4, (64, 96))
    inside = (..., slice(4, -4), slice(4, -4))
    difference = (found - expected)[inside].abs().max()
    assert difference < 1e-5 * expected.abs().max().clamp(min=1)


def test_torchvisions_fcn_has_the_sheets_parameters() -> None:
    with torch.device("meta"):
        for auxiliary, expected in ((False, 32_957_013), (True, 35_322_218)):
            theirs = segmentation.fcn_resnet50(
                weights=None,
                weights_backbone=None,
                num_classes=21,
                aux_loss=auxiliary,
            )
            assert sum(p.numel() for p in theirs.parameters()) == expected
