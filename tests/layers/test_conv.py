from torch import nn

from papernets_lite.layers.conv import conv_norm_act


def kinds(layers: list[nn.Module]) -> list[str]:
    return [type(layer).__name__ for layer in layers]


def test_what_follows_a_convolution() -> None:
    conv = nn.Conv2d(3, 8, 1)
    layers = conv_norm_act(conv)
    assert layers[0] is conv
    assert kinds(layers) == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert layers[1].num_features == 8
    assert kinds(conv_norm_act(conv, activation=None)) == ["Conv2d", "BatchNorm2d"]
    assert kinds(conv_norm_act(conv, norm=None, activation=nn.Tanh)) == [
        "Conv2d",
        "Tanh",
    ]


def test_an_up_convolutions_norm_has_its_output_channels() -> None:
    up = nn.ConvTranspose2d(3, 8, 2, stride=2)
    assert conv_norm_act(up, nn.InstanceNorm2d)[1].num_features == 8
