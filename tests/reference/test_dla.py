"""Outputs against timm and pytorchcv, with their weights loaded into ours."""

import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from torch import nn

from papernets_lite.backbones import dla
from tests.helpers import randomise_

pytestmark = pytest.mark.reference
TIMM = {
    "34": "dla34",
    "46-C": "dla46_c",
    "X-46-C": "dla46x_c",
    "60": "dla60",
    "X-60-C": "dla60x_c",
    "102": "dla102",
}


@pytest.mark.parametrize("variant", TIMM)
@torch.no_grad()
def test_timms_weights_give_the_same_scores(variant: str) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(TIMM[variant], pretrained=False).eval()
    randomise_(theirs)
    ours = dla.paper(variant=variant).eval()
    mine, state = ours.state_dict(), theirs.state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    assert [tuple(value.shape) for value in mine.values()] == shapes
    ours.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    images = torch.rand(2, 3, 64, 96)
    expected = theirs(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)
    for found, other in zip(ours.trunk(images), levels(theirs, images), strict=True):
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-5)


def levels(net: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    x, out = net.base_layer(images), []
    for number in range(6):
        x = getattr(net, f"level{number}")(x)
        out.append(x)
    return out


@pytest.mark.parametrize(("variant", "name"), [("34", "dla34"), ("169", "dla169")])
def test_parameters_as_pytorchcv_counts_them(variant: str, name: str) -> None:
    with torch.device("meta"):
        theirs, ours = get_model(name), dla.paper(variant=variant)
    counts = [sum(p.numel() for p in net.parameters()) for net in (theirs, ours)]
    assert counts[0] == counts[1]
