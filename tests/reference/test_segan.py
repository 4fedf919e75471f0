"""The segmentor's trunk against torchvision's ResNet-18, with its weights."""

import pytest
import torch
import torchvision

from papernets_lite.segmentation import segan
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def test_torchvisions_weights_give_the_same_map() -> None:
    """With an empty mask in the fourth channel."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    randomise_(theirs)
    trunk = segan.box_segmentor(side=2).trunk.eval()
    state = {}
    mine, given = trunk.state_dict(), theirs.state_dict()
    kept = [value for name, value in given.items() if not name.startswith("fc")]
    for (name, ours), value in zip(mine.items(), kept, strict=True):
        if name == "stem.0.weight":
            value = torch.cat([value, torch.rand(64, 1, 7, 7)], 1)
        assert ours.shape == value.shape, name
        state[name] = value
    trunk.load_state_dict(state)
    layers = list(theirs.children())[:-2]
    x = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        expected = torch.nn.Sequential(*layers)(x)
        found = trunk(torch.cat([x, torch.zeros(2, 1, 96, 64)], 1))[-1]
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_box_is_torchvisions_roi_align_and_one_convolution() -> None:
    torch.manual_seed(0)
    net = segan.box_segmentor(side=4).eval()
    x = torch.rand(1, 4, 96, 128)
    x[:, 3] = 0
    x[:, 3, 30:70, 20:80] = 1
    box = torch.tensor([[0.0, 14.0, 26.0, 86.0, 74.0]])
    with torch.no_grad():
        features = net.trunk(x)[-1]
        patch = torchvision.ops.roi_align(
            features, box, 6, 1 / 32, sampling_ratio=2, aligned=True
        )
        maps = (patch.flatten() @ net.head.weight.flatten(1).T) + net.head.bias
        inside = net(x)[0, 0, 26:74, 14:86]
        # 4x4 cells over 48x72 pixels: bilinear, edges repeated
        expected = torch.nn.functional.interpolate(
            maps.reshape(1, 1, 4, 4), (48, 72), mode="bilinear"
        )
    torch.testing.assert_close(inside, expected[0, 0], rtol=1e-4, atol=1e-4)
