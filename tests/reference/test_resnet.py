"""Counts and outputs against torchvision, timm and pytorchcv, with their weights loaded
into our nets."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from papernets_lite.backbones import resnet
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randomised(module: nn.Module) -> nn.Module:
    """In eval mode, with batch norms whose every number matters (weights positive)."""
    randomise_(module)
    return module.eval()


def assert_same_outputs(
    ours: resnet.ResNet, theirs: nn.Module, state: dict[str, Tensor], size: int
) -> None:
    """Load ``state``, whose tensors stand in our order, and compare logits."""
    mine = ours.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in state.values()]
    ours.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected, found = theirs(x), ours.eval()(x)
    assert expected.std() > 0.01
    # Random nets of 50 to 164 layers give scores far from one: relative to their size.
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("depth", resnet.IMAGENET)
def test_imagenet_nets_have_torchvisions_parameters(depth: int) -> None:
    with torch.device("meta"):
        assert count(resnet.paper(depth=depth)) == count(
            getattr(torchvision.models, f"resnet{depth}")()
        )


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_weights_give_the_same_logits(depth: int) -> None:
    torch.manual_seed(0)
    theirs = randomised(getattr(torchvision.models, f"resnet{depth}")())
    assert_same_outputs(
        resnet.imagenet(depth, stride_on_3x3=True), theirs, theirs.state_dict(), 96
    )


def test_the_papers_stride_is_torchvisions_net_with_the_strides_moved() -> None:
    torch.manual_seed(0)
    theirs = randomised(torchvision.models.resnet50())
    for block in theirs.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    assert_same_outputs(resnet.imagenet(50), theirs, theirs.state_dict(), 96)


def test_timms_preactivated_weights_give_the_same_logits() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = randomised(timm.create_model("resnetv2_50"))
    ours = resnet.imagenet(50, ordering="full pre-activation", stride_on_3x3=True)
    assert count(ours) == count(theirs)
    # Theirs pools before the first norm and ReLU, ours after them: the same, as both
    # are monotone. Their projections come before a unit's branch, ours after it.
    state = theirs.state_dict()
    ordered = {
        k: state.pop(k)
        for k in list(state)
        if k.startswith(("stem.", "stages.0.blocks.0.norm1."))
    }
    for stage, blocks in enumerate(resnet.IMAGENET[50]):
        for block in range(blocks):
            start = f"stages.{stage}.blocks.{block}."
            keys = [k for k in state if k.startswith(start)]
            keys.sort(key=lambda k: ".downsample." in k)
            ordered |= {k: state.pop(k) for k in keys}
    state["head.fc.weight"] = state["head.fc.weight"].flatten(1)
    assert_same_outputs(ours, theirs, ordered | state, 96)


@pytest.mark.parametrize(
    ("name", "depth", "settings"),
    [
        ("resnet20_cifar10", 20, {}),
        ("resnet56_cifar10", 56, {}),
        ("resnet110_cifar10", 110, {}),
        ("preresnet110_cifar10", 110, {"ordering": "full pre-activation"}),
        (
            "preresnet164bn_cifar10",
            164,
            {"ordering": "full pre-activation", "bottleneck": True},
        ),
        (
            "preresnet1001_cifar10",
            1001,
            {"ordering": "full pre-activation", "bottleneck": True},
        ),
    ],
)
def test_cifar_nets_with_projections_have_pytorchcvs_parameters(
    name: str, depth: int, settings: dict
) -> None:
    provider = pytest.importorskip("pytorchcv.model_provider")
    with torch.device("meta"):
        assert count(resnet.cifar(depth, option="B", **settings)) == count(
            provider.get_model(name)
        )


@pytest.mark.parametrize(
    ("name", "depth", "settings"),
    [
        ("resnet20_cifar10", 20, {}),
        (
            "preresnet164bn_cifar10",
            164,
            {"ordering": "full pre-activation", "bottleneck": True},
        ),
    ],
)
def test_pytorchcvs_cifar_weights_give_the_same_logits(
    name: str, depth: int, settings: dict
) -> None:
    provider = pytest.importorskip("pytorchcv.model_provider")
    torch.manual_seed(0)
    theirs = randomised(provider.get_model(name))
    ours = resnet.cifar(depth, option="B", stride_on_3x3=True, **settings)
    assert_same_outputs(ours, theirs, theirs.state_dict(), 32)
