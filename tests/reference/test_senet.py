"""Counts and outputs against torchvision, timm and pytorchcv, with their weights loaded
into our nets."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from papernets_lite.backbones import resnet, senet
from tests.helpers import randomise_

pytestmark = pytest.mark.reference


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randomised(module: nn.Module) -> nn.Module:
    """In eval mode, with batch norms and gates whose every number matters."""
    randomise_(module)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            assert name
            nn.init.normal_(layer.weight, std=layer.in_channels**-0.5)
            nn.init.normal_(layer.bias)
    return module.eval()


def reordered(state: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """The state with a unit's projection (``last`` in its name) after the rest of the
    unit, as ours has it."""
    units = list(dict.fromkeys(k.split(".conv")[0] for k in state))
    out: dict[str, Tensor] = {}
    for key in state:
        start = next(
            (
                u
                for u in sorted(units, key=len, reverse=True)
                if key.startswith(f"{u}.")
            ),
            None,
        )
        mine = [k for k in state if start and k.startswith(f"{start}.")] or [key]
        out |= {k: state[k] for k in sorted(mine, key=lambda k: last in k)}
    return out


def assert_same_outputs(
    ours: senet.SEResNet, theirs: nn.Module, state: dict[str, Tensor], size: int
) -> None:
    """Load ``state``, whose tensors stand in our order, and compare logits."""
    mine = ours.state_dict()
    assert [tuple(v.shape) for v in mine.values()] == [
        tuple(v.shape) for v in state.values()
    ]
    ours.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected, found = theirs(x), ours.eval()(x)
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


def test_torchvisions_block_gives_the_same_maps() -> None:
    torch.manual_seed(0)
    theirs = torchvision.ops.SqueezeExcitation(32, 4)
    ours = senet.SqueezeExcitation(32, 8)
    names = {"fc1": "excite.0", "fc2": "excite.2"}
    ours.load_state_dict(
        {
            f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v
            for k, v in theirs.state_dict().items()
        }
    )
    x = torch.randn(2, 32, 7, 5)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "depth", "expected"),
    [
        ("legacy_seresnet18", 18, 11_778_592),
        ("legacy_seresnet50", 50, 28_088_024),
        ("legacy_seresnet101", 101, 49_326_872),
        ("legacy_seresnet152", 152, 66_821_848),
    ],
)
def test_imagenet_nets_have_the_released_models_parameters(
    name: str, depth: int, expected: int
) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        assert count(senet.paper(depth=depth)) == count(timm.create_model(name)) == expected


@pytest.mark.parametrize(
    ("name", "stride_on_3x3"), [("legacy_seresnet50", False), ("seresnet50", True)]
)
def test_timms_weights_give_the_same_logits(name: str, stride_on_3x3: bool) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name))
    # as in Caffe its pooling starts at the first pixel; ours has a border
    if name.startswith("legacy"):
        assert isinstance(theirs.pool0, nn.MaxPool2d)
        theirs.pool0 = nn.MaxPool2d(3, 2, 1)
    state = reordered(theirs.state_dict(), "downsample")
    assert_same_outputs(senet.paper(depth=50, stride_on_3x3=stride_on_3x3), theirs, state, 96)


def test_pytorchcvs_cifar_weights_give_the_same_logits() -> None:
    provider = pytest.importorskip("pytorchcv.model_provider")
    torch.manual_seed(0)
    theirs = randomised(provider.get_model("seresnet20_cifar10"))
    ours = senet.SEResNet(blocks=(3, 3, 3), widths=(16, 32, 64), option="B")
    assert count(ours) == count(theirs) == 274_847
    assert count(resnet.cifar(20, option="B")) == 272_474
    state = theirs.state_dict()
    units = list(
        dict.fromkeys(
            k.split(".body.")[0].split(".se.")[0].split(".identity_conv.")[0]
            for k in state
        )
    )
    ordered: dict[str, Tensor] = {}
    for unit in units:
        mine = [k for k in state if k == unit or k.startswith(f"{unit}.")]
        ordered |= {
            k: state[k] for k in sorted(mine, key=lambda k: ".identity_conv." in k)
        }
    assert_same_outputs(ours, theirs, ordered, 32)
