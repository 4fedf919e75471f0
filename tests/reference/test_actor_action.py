"""I3D's blocks against torchvision's GoogLeNet, from which I3D is inflated."""

import pytest
import torch
from torchvision.models import GoogLeNet

from papernets_lite.video import actor_action
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("frames", [3, 16])
def test_a_film_that_stands_still_is_read_as_a_picture(frames: int) -> None:
    """GoogLeNet's filters in the middle frame of each 3-D filter: whatever the number
    of frames, each says what GoogLeNet says of the picture, down to its last block but
    two."""
    torch.manual_seed(0)
    theirs = GoogLeNet(aux_logits=False, init_weights=False).eval()
    randomise_(theirs)
    ours = actor_action.Trunk(actor_action.I3D).eval()
    mine = ours.state_dict()
    for name, given in zip(mine, theirs.state_dict().values(), strict=False):
        if given.ndim == 4:
            filters = torch.zeros_like(mine[name])
            filters[:, :, filters.shape[2] // 2] = given
            given = filters
        assert given.shape == mine[name].shape
        mine[name] = given
    ours.load_state_dict(mine)
    picture = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        expected = picture
        for name, layer in theirs.named_children():
            expected = layer(expected)
            if name == "inception4e":
                break
        found = ours(picture[:, :, None].expand(-1, -1, frames, -1, -1))
    assert expected.shape == (1, 832, 6, 4)
    assert expected.std() > 1e-2
    assert (found - expected[:, :, None]).abs().max() < 1e-6
