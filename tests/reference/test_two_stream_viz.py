"""The picture's tower and its head are torchvision's VGG-16."""

import pytest
import torch
import torchvision
from torch import nn

from papernets_lite.video import two_stream_viz

pytestmark = pytest.mark.reference


def port(theirs: nn.Sequential, ours: nn.Module) -> None:
    """Convolutions in their order."""
    given = [m for m in theirs.modules() if isinstance(m, nn.Conv2d)]
    mine = [m for m in ours.modules() if isinstance(m, nn.Conv2d)]
    for one, other in zip(mine, given, strict=True):
        one.load_state_dict(other.state_dict())


def test_vggs_maps_and_scores() -> None:
    """Torchvision's own VGG-16 without weights, with narrow dense layers in its place
    for memory's sake: maps of its last ReLU, and scores."""
    torch.manual_seed(0)
    theirs = torchvision.models.vgg16(weights=None, init_weights=False).features.eval()
    net = two_stream_viz.paper(hidden=8, num_classes=5).eval()
    port(theirs, net.appearance)
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs[:-1](images - two_stream_viz.GREY)
        outputs = net(images, torch.zeros(1, 10, 2, 224, 224))
        assert expected.shape == (1, 512, 14, 14)
        assert expected.std() > 1e-4
        difference = (outputs.appearance - expected).abs().max()
        assert difference < 1e-5 * expected.abs().max()
        # the head on those maps is VGG's pooling and dense layers
        head = net.action
        dense = [m for m in head.modules() if isinstance(m, nn.Linear)]
        x = theirs(images - two_stream_viz.GREY).flatten(1)
        for layer in dense[:-1]:
            x = layer(x).relu()
        torch.testing.assert_close(head(outputs.appearance), dense[-1](x))


def test_counts_are_torchvisions() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(num_classes=101)
        flow = torchvision.models.vgg16(num_classes=101)
        flow.features[0] = nn.Conv2d(20, 64, 3, padding=1)
        ours = two_stream_viz.paper()
        fusion = nn.Conv2d(1024, 512, 3)
        parts = [theirs, flow, fusion, ours]
        counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert sum(counts[:3]) == counts[3] == 274_077_578
