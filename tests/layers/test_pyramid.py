"""The pyramid by hand, and strides against the sizes of maps."""

import pytest
import torch
from torch import nn

from papernets_lite.backbones import resnet
from papernets_lite.layers.pyramid import FPN, stride, strides


def test_pyramid_adds_the_coarse_map_to_the_fine_one() -> None:
    net = FPN([1, 1], 1)
    for conv in (*net.lateral, *net.output):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        conv.weight.data[0, 0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    levels = net([fine, coarse])
    assert levels[0][0, 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]
    assert torch.equal(levels[1], coarse)
    assert levels[2].tolist() == [[[[1.0]]]]


def test_another_number_of_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 maps, got 1"):
        FPN([1, 1], 1)([torch.zeros(1, 1, 4, 4)])
    with pytest.raises(ValueError, match="expected at least one map"):
        FPN([], 1)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_strides_are_those_of_the_maps(stem: str, bottleneck: bool) -> None:
    blocks = (1, 2, 1)
    net = resnet.ResNet(
        blocks=blocks, widths=(4, 4, 4), stem=stem, bottleneck=bottleneck
    )
    trunk = resnet.Stages(net, blocks).eval()
    sizes = [x.shape[-1] for x in trunk(torch.zeros(1, 3, 64, 64))]
    assert strides(trunk.stem, trunk.stages) == [64 // size for size in sizes]


def test_strides_multiply_in_a_row() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.ReLU(), nn.MaxPool2d(3))
    assert stride(layers) == 6
