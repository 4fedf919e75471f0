"""Counts and outputs against timm and pytorchcv, with their weights loaded into our
nets."""

import pytest
import torch
from torch import nn

from papernets_lite.backbones import mobilenet_v1
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def port(ours: nn.Module, theirs: nn.Module) -> None:
    """Load weights that stand in the same order."""
    mine, state = ours.state_dict(), theirs.state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    assert [tuple(value.shape) for value in mine.values()] == shapes
    ours.load_state_dict(dict(zip(mine, state.values(), strict=True)))


@pytest.mark.parametrize(
    ("name", "alpha", "expected"),
    [
        ("mobilenet_w1", 1.0, 4_231_976),
        ("mobilenet_w3d4", 0.75, 2_585_560),
        ("mobilenet_wd2", 0.5, 1_331_592),
        ("mobilenet_wd4", 0.25, 470_072),
    ],
)
def test_pytorchcvs_weights_give_the_same_logits(
    name: str, alpha: float, expected: int
) -> None:
    provider = pytest.importorskip("pytorchcv.model_provider")
    torch.manual_seed(0)
    theirs = provider.get_model(name).eval()
    randomise_(theirs)
    ours = mobilenet_v1.paper(alpha=alpha).eval()
    assert count(ours) == count(theirs) == expected
    port(ours, theirs)
    # theirs averages 7x7 positions, so that the size is the paper's
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected_logits, found = theirs(x), ours(x)
    assert expected_logits.std() > 0.01
    torch.testing.assert_close(found, expected_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "alpha"),
    [("mobilenetv1_100", 1.0), ("mobilenetv1_125", 1.25)],
)
def test_timms_weights_give_the_same_logits(name: str, alpha: float) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    randomise_(theirs)
    ours = mobilenet_v1.paper(alpha=alpha, activation=nn.ReLU6).eval()
    assert count(ours) == count(theirs)
    port(ours, theirs)
    x = torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.5, 0.25])
def test_multiply_adds_are_torchs_own_count(alpha: float) -> None:
    counter = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
    with torch.device("meta"):
        net = mobilenet_v1.paper(alpha=alpha).eval()
        x = torch.rand(1, 3, 160, 160)
        with counter(display=False) as counted:
            net(x)
        found = mobilenet_v1.profile(net, x, repeats=1)
    assert 2 * sum(layer.operations for layer in found) == counted.get_total_flops()
