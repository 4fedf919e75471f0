"""Scores and maps against timm, with its weights loaded into ours."""

from functools import partial

import pytest
import torch
from torch import nn

from papernets_lite.pose import hrnet
from tests.helpers import randomise_

pytestmark = pytest.mark.reference
timm = pytest.importorskip("timm")
classifier = partial(hrnet.Classes, num_classes=1000)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("width", [18, 30, 32, 40, 44, 48, 64])
def test_parameters_as_timm_counts_them(width: int) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(f"hrnet_w{width}")
        ours = hrnet.paper(width=width, head=classifier)
    assert count(ours) == count(theirs)


@pytest.mark.parametrize("width", [32, 48])
@torch.no_grad()
def test_timms_weights_give_the_same_scores(width: int) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(f"hrnet_w{width}").eval()
    # gains below 1: the sums of 8 exchanges would grow beyond what floats resolve
    randomise_(theirs, gain=(0.3, 0.9))
    ours = hrnet.paper(width=width, head=classifier).eval()
    mine, state = ours.state_dict(), theirs.state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    assert [tuple(value.shape) for value in mine.values()] == shapes
    ours.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    images = torch.rand(2, 3, 64, 96)
    maps: list[list[torch.Tensor]] = []
    theirs.stage4.register_forward_hook(lambda net, given, made: maps.append(made))
    expected = theirs(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)
    for found, other in zip(ours.trunk(images), maps[0], strict=True):
        assert other.std() > 0.01
        torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_pose_nets_trunk_takes_the_classifiers_weights() -> None:
    """All but the last exchange's ways to coarser streams, as in the released nets."""
    torch.manual_seed(0)
    whole = hrnet.paper(head=classifier).eval()
    pose = hrnet.paper().eval()
    state, wanted = whole.trunk.state_dict(), pose.trunk.state_dict()
    assert set(wanted) < set(state)
    pose.trunk.load_state_dict({key: state[key] for key in wanted})
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(pose.trunk(images)[0], whole.trunk(images)[0])
