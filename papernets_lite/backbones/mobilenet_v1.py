"""MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.

Andrew G. Howard, Menglong Zhu, Bo Chen, Dmitry Kalenichenko, Weijun Wang, Tobias
Weyand, Marco Andreetto, Hartwig Adam. 2017, arXiv 1704.04861.
Official code: tensorflow/models, research/slim/nets/mobilenet_v1 (TensorFlow).

Idea: filter each channel alone (depthwise), then mix the channels at each pixel
(pointwise): nearly what a full convolution does, at an eighth of its cost.

Differs:
    1. The last block keeps its map's size. The paper's Table 1 prints a stride of 2 and
       an input of 7x7 to both of the last blocks; only stride 1 fits both, and so do
       its counts and all released code.
    2. Strided convolutions pad one pixel on each side, not at the bottom and the right
       alone as TensorFlow does. Weights trained there would see a shifted grid.
    3. ``separable=False`` builds the paper's control, with a full convolution in place
       of each block (its Table 4).

Guessed:
    The initial weights, He's by fan-in, which for a depthwise filter of 3x3 is 9; by
    fan-out torch would count all channels, as if each filter fed them all. Batch
    normalisation has torch's settings. Odd widths are rounded down, to no fewer than 8
    channels, as in the released code.

Example:
    >>> from papernets_lite.backbones import mobilenet_v1
    >>> mobilenet_v1.tiny(alpha=0.5, num_classes=10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.ops.checks import (
    at_least,
    check_images,
    expect,
)
from papernets_lite.ops.losses import classification

# Output channels and stride of each block (Table 1).
BODY = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
# Without the five blocks of one shape, the paper's rival to a thin net (Table 5).
SHALLOW = (*BODY[:6], *BODY[11:])
FIRST = 32  # channels of the first convolution
LEAST = 8  # channels of the thinnest layer, as in the released code
# The kinds of layers that ``profile`` tells apart, in the order of Table 2.
KINDS = ("1x1", "depthwise", "full", "linear", "norm, ReLU")

Activation = Callable[[], nn.Module] | None


def scaled(channels: int, alpha: float) -> int:
    r"""A layer's width under the width multiplier, :math:`\alpha M` (Section 3.3).

    Args:
        channels: M, of the full net.
        alpha: the multiplier, above 0.

    Returns:
        The product, rounded down; no fewer than ``LEAST``, unless M is.

    Raises:
        ValueError: for a multiplier that is not positive and finite, or no channels.
    """
    expect(0 < alpha < float("inf"), "a positive alpha", alpha)
    at_least(1, channels=channels)
    return max(min(LEAST, channels), int(channels * alpha))


class Depthwise(nn.Conv2d):
    r"""One filter for each channel: :math:`\hat G_{k,l,m} = \sum_{i,j} \hat K_{i,j,m}\,
    F_{k+i-1,l+j-1,m}` (Eq. 3). It keeps the size, up to its stride.

    Args:
        channels: M, of the input and of the output.
        stride: 1, or 2 to halve the map.
        kernel_size: D_K, odd.

    Raises:
        ValueError: for an even kernel, or a size below 1.
    """

    def __init__(self, channels: int, stride: int = 1, kernel_size: int = 3) -> None:
        at_least(1, channels=channels, stride=stride, kernel_size=kernel_size)
        expect(kernel_size % 2, "an odd kernel_size", kernel_size)
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=channels,
            bias=False,
        )


def full(
    in_channels: int, out_channels: int, stride: int = 1, kernel_size: int = 3
) -> nn.Conv2d:
    """A full convolution (Eq. 1) without a bias, which normalisation would remove. It
    keeps the size, up to its stride; with ``kernel_size=1`` it is the pointwise one.

    Args:
        in_channels: M.
        out_channels: N.
        stride: 1, or 2 to halve the map.
        kernel_size: D_K, odd.

    Raises:
        ValueError: for an even kernel, or a size below 1.
    """
    at_least(1, in_channels=in_channels, out_channels=out_channels, stride=stride)
    expect(kernel_size > 0 and kernel_size % 2, "an odd kernel_size", kernel_size)
    around = kernel_size // 2
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=around, bias=False
    )


def unit(conv: nn.Conv2d, activation: Activation = nn.ReLU) -> nn.Sequential:
    """A convolution, batch normalisation and a ReLU (Fig. 3).

    Args:
        conv: full, depthwise or pointwise.
        activation: makes the last layer; None leaves it out.
    """
    return nn.Sequential(*conv_norm_act(conv, activation=activation))


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, each with its normalisation and ReLU
    (Fig. 3, right): in place of one full convolution.

    Args:
        in_channels: M.
        out_channels: N.
        kernel_size: D_K, odd.
        stride: of the depthwise convolution.
        activation: see ``unit``.

    Raises:
        ValueError: for an even kernel, or a size below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        filters = Depthwise(in_channels, stride, kernel_size)
        self.depthwise = unit(filters, activation)
        mixture = full(in_channels, out_channels, kernel_size=1)
        self.pointwise = unit(mixture, activation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """Filter each channel, then mix them at each position."""
        return self.pointwise(self.depthwise(x))


def block(
    separable: bool, stride: int, activation: Activation
) -> Callable[[int, int], nn.Module]:
    """What makes a block of the net from its input's and output's channels.

    Args:
        separable: two steps, or one full 3x3 convolution (Fig. 3, right and left).
        stride: of the block.
        activation: see ``unit``.
    """
    if separable:
        return partial(Separable, stride=stride, activation=activation)
    return lambda m, n: unit(full(m, n, stride), activation)


def init_(net: nn.Module) -> None:
    """He's normal weights by fan-in in every convolution, in place: 9 inputs for a
    depthwise filter of 3x3."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")


class MobileNet(nn.Module):
    """A full convolution of stride 2, separable blocks, an average over the map, and a
    linear layer (Table 1).

    Args:
        body: output channels and stride of each block, of the net of alpha 1.
        first: channels of the first convolution, of the net of alpha 1.
        alpha: width multiplier of every layer. The resolution multiplier rho has no
            argument: it is the size of the images.
        separable: False puts a full 3x3 convolution in each block's place.
        num_classes: outputs.
        activation: see ``unit``; the released models have ``nn.ReLU6``.

    Raises:
        ValueError: for no blocks, or a size that is not positive.
    """

    def __init__(
        self,
        *,
        body: Sequence[tuple[int, int]] = BODY,
        first: int = FIRST,
        alpha: float = 1.0,
        separable: bool = True,
        num_classes: int = 1000,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        expect(len(body), "at least one block", body)
        at_least(1, num_classes=num_classes)
        channels = scaled(first, alpha)
        self.stem = unit(full(3, channels, stride=2), activation)
        self.blocks = nn.Sequential()
        for width, stride in body:
            out = scaled(width, alpha)
            plan = block(separable, stride, activation)
            self.blocks.append(plan(channels, out))
            channels = out
        self.head = nn.Linear(channels, num_classes)
        init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        features = self.blocks(self.stem(images))
        return self.head(features.mean((2, 3)))


loss = classification


def decay_groups(
    net: nn.Module, weight_decay: float, *, depthwise: float = 0.0
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: the filters of depthwise convolutions have
    their own weight decay, little or none (Section 3.2).

    Args:
        net: whose parameters they are.
        weight_decay: of all other parameters.
        depthwise: of the depthwise filters.

    Raises:
        ValueError: for a decay below 0.
    """
    decays = weight_decay >= 0 and depthwise >= 0
    expect(decays, "weight decays >= 0", weight_decay, depthwise)
    filters = [m.weight for m in net.modules() if isinstance(m, Depthwise)]
    known = {id(weight) for weight in filters}
    rest = [weight for weight in net.parameters() if id(weight) not in known]
    groups = [
        {"params": rest, "weight_decay": weight_decay},
        {"params": filters, "weight_decay": depthwise},
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of a layer, built either way."""

    full: int
    depthwise: int
    pointwise: int

    @property
    def separable(self) -> int:
        """Both of its steps."""
        return self.depthwise + self.pointwise

    @property
    def ratio(self) -> float:
        """Separable over full: 1/N + 1/D_K^2."""
        return self.separable / self.full


def cost(
    in_channels: int,
    out_channels: int,
    side: int,
    *,
    kernel_size: int = 3,
    alpha: float = 1.0,
    rho: float = 1.0,
) -> Cost:
    r"""What a layer costs under both multipliers, :math:`D_K^2\,\alpha M (\rho D_F)^2 +
    \alpha M\,\alpha N (\rho D_F)^2` (Eq. 7), beside the full convolution of the same
    widths.

    Args:
        in_channels: M.
        out_channels: N.
        side: D_F, of the map that comes out.
        kernel_size: D_K.
        alpha: width multiplier, see ``scaled``.
        rho: resolution multiplier; the side is rounded to whole pixels.

    Raises:
        ValueError: for a size or a multiplier that is not positive.
    """
    at_least(1, side=side, kernel_size=kernel_size)
    expect(0 < rho < float("inf"), "a positive rho", rho)
    m, n = scaled(in_channels, alpha), scaled(out_channels, alpha)
    window, area = kernel_size**2, max(1, round(rho * side)) ** 2
    return Cost(window * m * n * area, window * m * area, m * n * area)


@dataclass(frozen=True)
class Layer:
    """One layer of a net in numbers, for one image."""

    name: str
    kind: str  # of KINDS
    parameters: int
    operations: int  # multiply-adds; of norms and ReLUs none are counted
    seconds: float  # the shortest of the runs


def kind(layer: nn.Module) -> str:
    """Which of ``KINDS`` a layer is; empty for a module that only holds others."""
    if isinstance(layer, nn.Linear):
        return "linear"
    if isinstance(layer, nn.Conv2d):
        if layer.groups == layer.in_channels > 1:
            return "depthwise"
        return "1x1" if layer.kernel_size == (1, 1) else "full"
    small = isinstance(layer, (nn.BatchNorm2d, nn.ReLU, nn.ReLU6))
    return "norm, ReLU" if small else ""


def operations(layer: nn.Module, output: Tensor) -> int:
    """Multiply-adds of a convolution or a linear layer, for one image.

    Args:
        layer: any; others count nothing.
        output: what came out of it, the first axis counting images.
    """
    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return 0
    per_number = layer.weight[0].numel()
    return per_number * output[0].numel()


def _wait(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize()


@torch.no_grad()
def profile(
    net: nn.Module, images: Float[Tensor, "b c h w"], *, repeats: int = 5
) -> list[Layer]:
    """Run a net and note each layer's parameters, multiply-adds and time.

    Args:
        net: in evaluation mode, as it is to be measured.
        images: a batch; times are divided by their number.
        repeats: how often; of each layer the fastest run counts.

    Returns:
        The layers in the order in which they run.

    Raises:
        ValueError: for no repeats, and what the net refuses.
    """
    at_least(1, repeats=repeats)
    found: dict[str, tuple[nn.Module, int]] = {}
    began: dict[str, float] = {}
    seconds: dict[str, float] = {}

    def start(name: str) -> None:
        _wait(images)
        began[name] = time.perf_counter()

    def stop(name: str, layer: nn.Module, output: Tensor) -> None:
        _wait(images)
        spent = time.perf_counter() - began[name]
        seconds[name] = min(spent, seconds.get(name, spent))
        found[name] = layer, operations(layer, output)

    handles = []
    for name, layer in _layers(net):
        handles.append(
            layer.register_forward_pre_hook(lambda m, x, name=name: start(name))
        )
        handles.append(
            layer.register_forward_hook(lambda m, x, y, name=name: stop(name, m, y))
        )
    try:
        for _ in range(repeats):
            net(images)
    finally:
        for handle in handles:
            handle.remove()
    layers = []
    for name, (layer, count) in found.items():
        weights = sum(p.numel() for p in layer.parameters())
        spent = seconds[name] / len(images)
        layers.append(Layer(name, kind(layer), weights, count, spent))
    return layers


def counted(build: Callable[[], nn.Module], side: int) -> list[Layer]:
    """Count a net's layers on shapes alone: nothing is computed, and the times mean
    nothing.

    Args:
        build: makes the net.
        side: of one square image of three channels, in pixels.

    Returns:
        What ``profile`` would, up to the times.

    Raises:
        ValueError: for a side below 1, and what the net refuses.
    """
    at_least(1, side=side)
    with torch.device("meta"):
        net = build().eval()
        return profile(net, torch.empty(1, 3, side, side), repeats=1)


def multiply_adds(layers: Sequence[Layer]) -> int:
    """All layers' multiply-adds."""
    return sum(layer.operations for layer in layers)


def _layers(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that have a kind, by name."""
    for name, layer in net.named_modules():
        if kind(layer):
            yield name, layer


def tiny(*, width: int = 16, **overrides: Any) -> MobileNet:
    """The book's scale: five blocks, for images of 32x32.

    Args:
        width: of the first convolution; the blocks have 2, 4 and 8 times as many
            channels.
        overrides: of ``MobileNet``.
    """
    at_least(1, width=width)
    body = [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1)]
    settings: dict = {
        "body": [(times * width, stride) for times, stride in body],
        "first": width,
        "num_classes": 8,
    }
    return MobileNet(**(settings | overrides))


def paper(**overrides: Any) -> MobileNet:
    """The paper's scale: Table 1, for 1,000 classes and images of 224x224.

    Args:
        overrides: of ``MobileNet``.
    """
    return MobileNet(**overrides)
