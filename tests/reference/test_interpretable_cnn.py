"""The trunk against torchvision's VGG-16, with its weights loaded into ours."""

import pytest
import torch
from torch import nn

from papernets_lite.backbones import interpretable_cnn
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def test_torchvisions_weights_give_the_same_conv5_3() -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = models.vgg16(weights=None).eval()
    randomise_(theirs)
    ours = interpretable_cnn.paper().eval()
    state = theirs.features.state_dict()
    mine = ours.trunk.state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    assert [tuple(value.shape) for value in mine.values()] == shapes
    ours.trunk.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    x = torch.rand(2, 3, 224, 224)
    centred = (x - interpretable_cnn.MEAN) / interpretable_cnn.DEVIATION
    with torch.no_grad():
        # all but the last pooling: up to the ReLU of conv5_3
        expected = theirs.features[:-1](centred)
        found = ours.observe(x).maps[0]
    assert expected.std() > 1e-4
    assert found.shape == (2, 512, 14, 14)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    count = sum(p.numel() for p in theirs.parameters())
    last = theirs.classifier[-1]
    assert isinstance(last, nn.Linear)
    answers = sum(p.numel() for p in last.parameters()) - (4096 + 1)
    added = sum(p.numel() for p in ours.added.parameters())
    whole = sum(p.numel() for p in ours.parameters())
    assert whole == count - answers + added == 136_624_449
