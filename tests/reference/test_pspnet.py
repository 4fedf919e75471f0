"""The pyramid against the one of segmentation_models_pytorch, with its weights."""

import pytest
import torch
from torch import nn

from papernets_lite.segmentation import pspnet

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("size", [(12, 12), (13, 13), (60, 60), (9, 17)])
def test_the_pyramid_gives_the_same_maps(size: tuple[int, int]) -> None:
    """Theirs has no normalisation in its first level, and the map itself comes last."""
    decoder = pytest.importorskip("segmentation_models_pytorch.decoders.pspnet.decoder")
    torch.manual_seed(0)
    theirs = decoder.PSPModule(32, sizes=pspnet.BINS, use_norm="identity").eval()
    ours = pspnet.PyramidPooling(32).eval()
    for level, other in zip(ours.levels, theirs.blocks, strict=True):
        convs = [m for m in other.modules() if isinstance(m, nn.Conv2d)]
        assert len(convs) == 1
        level[1].weight.data.copy_(convs[0].weight.data)
        # Ours has a normalisation and no bias: as a shift it is theirs, if it scales
        # by one.
        level[2].weight.data.fill_((1 + level[2].eps) ** 0.5)
        if convs[0].bias is not None:
            level[2].bias.data.copy_(convs[0].bias.data)
    maps = torch.randn(2, 32, *size)
    with torch.no_grad():
        expected, found = theirs(maps), ours(maps)
    expected = torch.cat([expected[:, -32:], expected[:, :-32]], 1)
    assert expected[:, 32:].std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_their_net_is_another_one() -> None:
    """Why only the pyramid is compared: their encoder stops at 512 channels."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    with torch.device("meta"):
        theirs = smp.PSPNet("resnet50", encoder_weights=None, classes=21)
        ours = pspnet.paper(num_classes=21)
    assert sum(p.numel() for p in theirs.parameters()) == 24_393_173
    assert sum(p.numel() for p in ours.parameters()) == 49_081_578
