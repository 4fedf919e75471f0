"""The paper's encoder against torchvision's ResNet-50, the eigenvector against
NumPy's."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from papernets_lite.transfer import taskonomy
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def test_the_encoder_is_torchvisions_resnet_with_a_last_stage_of_stride_one() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50()
    randomise_(theirs)
    theirs.layer4[0].conv2.stride = theirs.layer4[0].downsample[0].stride = (1, 1)
    trunk = nn.Sequential(*list(theirs.children())[:-2]).eval()
    ours = taskonomy.paper().encoder.eval()
    mine, state = nn.Sequential(ours.stem, ours.units), trunk.state_dict()
    assert [v.shape for v in mine.state_dict().values()] == [
        v.shape for v in state.values()
    ]
    mine.load_state_dict(dict(zip(mine.state_dict(), state.values(), strict=True)))
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected, found, code = trunk(images), mine(images), ours(images)
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )
        squeezed = torch.relu(ours.squeeze[1](ours.squeeze[0](expected)))
    assert code.shape == (2, 8, 4, 6)
    torch.testing.assert_close(
        code, squeezed, rtol=1e-3, atol=1e-4 * squeezed.abs().max().item()
    )


def test_ahp_is_numpys_principal_eigenvector() -> None:
    losses = torch.rand(9, 200, generator=torch.Generator().manual_seed(0))
    wins = taskonomy.win_rates(losses)
    values, vectors = np.linalg.eig((wins / wins.T).numpy())
    expected = np.abs(vectors[:, values.real.argmax()].real)
    np.testing.assert_allclose(
        taskonomy.ahp(wins).numpy(), expected / expected.sum(), rtol=1e-9
    )


def test_an_upsampling_convolution_is_torchs_interpolated_grid() -> None:
    """A transposed convolution of stride 2 is a convolution of the map with zeros
    between its pixels."""
    torch.manual_seed(0)
    conv = taskonomy.Decoder(plan=((5, True),), out_channels=1, code=3).layers[0]
    x = torch.rand(1, 3, 4, 4)
    spread = torch.zeros(1, 3, 8, 8)
    spread[:, :, ::2, ::2] = x
    assert isinstance(conv, nn.ConvTranspose2d)
    weight = conv.weight.transpose(0, 1).flip(2, 3)
    torch.testing.assert_close(
        conv(x), torch.nn.functional.conv2d(spread, weight, padding=1)
    )
