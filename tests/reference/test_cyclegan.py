"""The PatchGAN against MONAI's, with its weights loaded into ours."""

import pytest
import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from papernets_lite.generative import cyclegan

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("size", [64, 70, 256])
def test_monais_weights_give_the_same_scores(size: int) -> None:
    torch.manual_seed(0)
    # MONAI pads a last 4x4 convolution by 1, as ours; a 3x3 or 1x1 one would change the
    # map.
    theirs = PatchDiscriminator(
        spatial_dims=2,
        channels=64,
        in_channels=3,
        num_layers_d=3,
        norm="INSTANCE",
        bias=True,
        last_conv_kernel_size=4,
    )
    ours = cyclegan.PatchDiscriminator()
    state, mine = theirs.state_dict(), ours.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in state.values()]
    ours.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    convs = [
        [m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (theirs, ours)
    ]
    for a, b in zip(*convs, strict=True):
        assert (a.stride, a.padding, a.kernel_size) == (
            b.stride,
            b.padding,
            b.kernel_size,
        )
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = theirs(2 * images - 1)[-1]
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5)
