"""Deep Residual Learning for Image Recognition, with Identity Mappings in Deep Residual
Networks.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. CVPR 2016, arXiv 1512.03385; ECCV
2016, arXiv 1603.05027.
Official code: KaimingHe/deep-residual-networks (models), KaimingHe/resnet-1k-layers.

Idea: let a block learn the change F(x) to its input instead of a whole new output, and
add: x + F(x).

Differs:
    1. ``stride_on_3x3`` puts a bottleneck's stride on its 3x3 convolution, as
       torchvision does, instead of the first 1x1 as in the paper: the same parameters,
       6 % more multiplications. The default is the paper's.
    2. ``stem_stride`` lets a net for CIFAR start at half the size, which the book uses
       to fit its minute.

Guessed:
    Where option A's new channels go: after the old ones. Which pixels it keeps: every
    second, from the first. With BN after the addition, a projection has none of its
    own: the shared one follows.

Example:
    >>> from papernets_lite.backbones import resnet
    >>> resnet.tiny(depth=20, num_classes=10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import check_images, expect
from papernets_lite.ops.losses import classification

# Blocks per stage (Table 1 of the first paper), and which block.
IMAGENET = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_FROM = 50
# The second paper's orderings (its Fig. 4): what happens in the branch, then what
# follows the addition.
ORDERINGS = {
    "original": ("conv bn relu conv bn", "relu"),
    "bn after addition": ("conv bn relu conv", "bn relu"),
    "relu before addition": ("conv bn relu conv bn relu", ""),
    "relu-only pre-activation": ("relu conv bn relu conv bn", ""),
    "full pre-activation": ("bn relu conv bn relu conv", ""),
}


class PadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zeros for the channels that are new. No
    parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        wider = out_channels >= in_channels
        expect(wider, "no fewer channels behind option A", in_channels, out_channels)
        self.extra = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """Subsample, then pad the channels."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.extra))


def shortcut(
    option: str, in_channels: int, out_channels: int, stride: int, *, norm: bool
) -> nn.Module:
    """The path around the branch.

    Args:
        option: ``"A"`` pads with zeros and ``"B"`` projects (1x1 convolution) where the
            shape changes, ``"C"`` always projects, ``"none"`` is a plain net's: there
            is no path.
        in_channels: of the input.
        out_channels: of the output.
        stride: of the unit.
        norm: a batch normalisation after a projection.

    Raises:
        ValueError: for another option.
    """
    known = option in ("A", "B", "C", "none")
    expect(known, "a shortcut 'A', 'B', 'C' or 'none'", option)
    same = in_channels == out_channels and stride == 1
    if option == "none" or (same and option != "C"):
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, out_channels, stride)
    layers = ["conv", "bn"] if norm else ["conv"]
    return sequence(layers, [(out_channels, 1, stride)], in_channels)


def sequence(
    words: Sequence[str], plan: Sequence[tuple[int, int, int]], in_channels: int
) -> nn.Sequential:
    """Layers by name. Convolutions keep the size, up to their stride; a bias would be
    removed by normalisation.

    Args:
        words: ``"conv"``, ``"bn"`` or ``"relu"``.
        plan: of each convolution (channels, kernel size, stride).
        in_channels: of the input.

    Raises:
        ValueError: for another word, or unequally many convolutions in ``words`` and
            ``plan``.
    """
    known = {"conv", "bn", "relu"}.issuperset(words)
    expect(known, "the words 'conv', 'bn' and 'relu'", words)
    convolutions = list(words).count("conv")
    expect(convolutions == len(plan), f"{len(plan)} convolutions", convolutions)
    layers: list[nn.Module] = []
    convs = iter(plan)
    for word in words:
        if word == "conv":
            channels, size, stride = next(convs)
            layers.append(
                nn.Conv2d(
                    in_channels, channels, size, stride, padding=size // 2, bias=False
                )
            )
            in_channels = channels
        elif word == "bn":
            layers.append(nn.BatchNorm2d(in_channels))
        else:
            # Not in place: in some orderings the input is also the shortcut's.
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def words(ordering: str) -> tuple[list[str], list[str], list[str]]:
    """An ordering's layers before the first convolution, from there to the addition,
    and after the addition.

    Raises:
        ValueError: for an unknown ordering.
    """
    expect(ordering in ORDERINGS, f"an ordering from {list(ORDERINGS)}", ordering)
    inside, behind = ORDERINGS[ordering]
    branch = inside.split()
    first = branch.index("conv")
    return branch[:first], branch[first:], behind.split()


def convolutions(
    channels: int, stride: int, bottleneck: bool, stride_on_3x3: bool
) -> list[tuple[int, int, int]]:
    """Channels, kernel size and stride of each of a unit's convolutions.

    Args:
        channels: inside; a bottleneck's output has four times as many.
        stride: of the unit.
        bottleneck: 1x1, 3x3, 1x1 instead of 3x3, 3x3.
        stride_on_3x3: where a bottleneck strides.
    """
    if not bottleneck:
        return [(channels, 3, stride), (channels, 3, 1)]
    first, second = (1, stride) if stride_on_3x3 else (stride, 1)
    return [(channels, 1, first), (channels, 3, second), (4 * channels, 1, 1)]


class Unit(nn.Module):
    r"""One residual unit: :math:`y_l = h(x_l) + F(x_l)`, :math:`x_{l+1} = f(y_l)`.

    Args:
        in_channels: of the input.
        channels: inside; a bottleneck's output has four times as many.
        stride: of the unit.
        ordering: a key of ``ORDERINGS``.
        bottleneck: 1x1, 3x3, 1x1 instead of 3x3, 3x3.
        option: the shortcut's, see ``shortcut``.
        stride_on_3x3: where a bottleneck strides.
        activated: the input is activated already, so a pre-activation is left out (a
            net's first unit).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        ordering: str = "original",
        bottleneck: bool = False,
        option: str = "B",
        stride_on_3x3: bool = False,
        activated: bool = False,
    ) -> None:
        super().__init__()
        pre, branch, after = words(ordering)
        plan = convolutions(channels, stride, bottleneck, stride_on_3x3)
        out = plan[-1][0]
        branch = ["conv", "bn", "relu"] * bottleneck + branch
        norm = branch[-1] != "conv"
        self.pre = sequence([] if activated else pre, [], in_channels)
        self.branch = sequence(branch, plan, in_channels)
        self.shortcut = shortcut(option, in_channels, out, stride, norm=norm)
        self.after = sequence(after, [], out)
        self.residual = option != "none"
        self.out_channels = out

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """The unit's output."""
        ready = self.pre(x)
        change = self.branch(ready)
        if not self.residual:
            return self.after(change)
        # A projection is also with pre-activation (appendix of the second paper); a
        # clean path takes x itself.
        projects = isinstance(self.shortcut, nn.Sequential)
        return self.after(self.shortcut(ready if projects else x) + change)


def first_layers(kind: str, channels: int, stride: int = 2) -> nn.Sequential:
    """The first layers: 7x7 of stride 2 and max-pooling for ``"imagenet"``, else one
    3x3.

    Args:
        kind: of the stem.
        channels: of the output.
        stride: of the 3x3.
    """
    words = ["conv", "bn", "relu"]
    if kind == "imagenet":
        layers = sequence(words, [(channels, 7, 2)], 3)
        return layers.append(nn.MaxPool2d(3, 2, 1))
    return sequence(words, [(channels, 3, stride)], 3)


def units_in_a_row(
    blocks: Sequence[int],
    widths: Sequence[int],
    strides: Sequence[int],
    **settings: Any,
) -> tuple[nn.Sequential, int]:
    """Units in a row behind a stem of ``widths[0]`` channels, and the channels of the
    last one's output.

    Args:
        blocks: units per stage.
        widths: channels inside the units of each stage.
        strides: of each stage's first unit.
        settings: of each ``Unit``.

    Raises:
        ValueError: for no stage, unequally many of them, or one that is not positive.
    """
    alike = len(blocks) == len(widths) == len(strides) > 0
    expect(alike, "as many widths and strides as stages", blocks, widths, strides)
    positive = min(*blocks, *widths, *strides) > 0
    expect(positive, "positive blocks, widths, strides", blocks, widths, strides)
    units = nn.Sequential()
    channels = widths[0]
    for count, width, first in zip(blocks, widths, strides, strict=True):
        for block in range(count):
            unit = Unit(
                channels,
                width,
                stride=1 if block else first,
                activated=not units,
                **settings,
            )
            units.append(unit)
            channels = unit.out_channels
    return units, channels


def check_net(
    stem: str,
    stem_stride: int,
    num_classes: int,
    widths: Sequence[int],
    blocks: Sequence[int],
) -> None:
    """Refuse what ``ResNet`` cannot be built from.

    Args:
        stem: of the net, and so below.
        stem_stride: positive.
        num_classes: positive.
        widths: positive, at least one.
        blocks: at least one.

    Raises:
        ValueError: for another stem, no stage, or a number that is not positive.
    """
    expect(stem in ("imagenet", "cifar"), "a stem 'imagenet' or 'cifar'", stem)
    expect(blocks and widths, "at least one stage", blocks, widths)
    numbers = stem_stride, num_classes, widths
    positive = min(stem_stride, num_classes, *widths) > 0
    expect(positive, "positive stem_stride, num_classes and widths", *numbers)


class ResNet(nn.Module):
    """A stem, stages of units, global average pooling and one linear layer.

    Args:
        blocks: units per stage; every stage but the first halves the size at its first
            unit.
        widths: channels inside the units of each stage.
        stem: ``"imagenet"`` (7x7 stride 2, then max-pooling) or ``"cifar"`` (one 3x3).
        stem_stride: of the CIFAR stem.
        num_classes: outputs.
        ordering: see ``Unit``.
        settings: ``bottleneck``, ``option`` and ``stride_on_3x3`` of each ``Unit``.

    Raises:
        ValueError: for another stem, ordering or option, unequally many ``blocks`` and
            ``widths``, or a number that is not positive.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: str = "cifar",
        stem_stride: int = 1,
        num_classes: int = 10,
        ordering: str = "original",
        **settings: Any,
    ) -> None:
        super().__init__()
        check_net(stem, stem_stride, num_classes, widths, blocks)
        # The first activation stands right after this convolution, before the paths
        # split, in every ordering; units that start with one need it again after the
        # last addition (appendix of the second paper).
        self.stem = first_layers(stem, widths[0], stem_stride)
        strides = [1] + [2] * (len(widths) - 1)
        self.units, channels = units_in_a_row(
            blocks, widths, strides, ordering=ordering, **settings
        )
        self.last = sequence(words(ordering)[0], [], channels)
        self.head = nn.Linear(channels, num_classes)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        return self.head(self.features(images).mean((2, 3)))

    def features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ k l"]:
        """The maps that are averaged for the classifier.

        Raises:
            ValueError: as ``forward``.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        return self.last(self.units(self.stem(images)))


class Stages(nn.Module):
    """A ResNet without its classifier, cut into its stages: the trunk of nets that read
    maps. The net's own layers are used, no new weights are drawn.

    Args:
        net: whose stem and units are taken; no layer may stand between its last unit
            and its classifier, as in the pre-activated orderings.
        blocks: its units per stage.
        skip: the maps of so many first stages are not given out.

    Attributes:
        stem: the net's first layers.
        stages: the units of each stage, the finest first.
        channels: of the maps that are given out.

    Raises:
        ValueError: unless ``blocks`` are the units of ``net``, for a ``skip`` that
            leaves no map, or a net with layers behind its last unit.
    """

    def __init__(self, net: ResNet, blocks: Sequence[int], *, skip: int = 0) -> None:
        super().__init__()
        fits = sum(blocks) == len(net.units) and all(count > 0 for count in blocks)
        expect(fits, f"stages with {len(net.units)} units in all", blocks)
        expect(0 <= skip < len(blocks), f"skip from 0 to {len(blocks) - 1}", skip)
        expect(not net.last, "no layer behind the last unit", net.last)
        self.stem, self.skip = net.stem, skip
        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        for start, end in pairwise([0, *accumulate(blocks)]):
            self.stages.append(nn.Sequential(*net.units[start:end]))
            self.channels.append(cast("Unit", net.units[end - 1]).out_channels)
        self.channels = self.channels[skip:]

    def forward(
        self, images: Float[Tensor, "b c h w"]
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The map at the end of each stage, the finest first.

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        x = self.stem(images)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[self.skip :]


loss = classification


@dataclass(frozen=True)
class TrunkStatistics:
    """What ``trunk_statistics`` measures, one value per unit, from the first to the
    last."""

    trunk: Float[Tensor, " u"]  # standard deviation of each unit's output
    # standard deviation of its branch F(x), before the addition
    branch: Float[Tensor, " u"]
    gradient: Float[Tensor, " u"]  # norm of the loss's gradient at each unit's output


def trunk_statistics(
    net: ResNet, images: Float[Tensor, "b c h w"], labels: Integer[Tensor, " b"]
) -> TrunkStatistics:
    """Run one batch forwards and backwards and record what passes along the trunk.

    Args:
        net: in the mode (train or eval) it is to be measured in; its weights are left
            alone, its batch norms' running statistics move in train mode.
        images: a batch.
        labels: its classes.

    Returns:
        The statistics, on the CPU.

    Raises:
        ValueError: what the net and ``loss`` refuse.
    """
    trunk: list[Tensor] = []
    branch: list[Tensor] = []
    handles: list[RemovableHandle] = []
    for unit in net.units:
        handles.append(_kept(unit, trunk))
        handles.append(_kept(unit.get_submodule("branch"), branch))
    try:
        value = loss(net(images), {"labels": labels})["loss"]
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(value, trunk)
    return TrunkStatistics(
        trunk=torch.stack([x.detach().std() for x in trunk]).cpu(),
        branch=torch.stack([x.detach().std() for x in branch]).cpu(),
        gradient=torch.stack([g.norm() for g in gradients]).cpu(),
    )


def _kept(module: nn.Module, to: list[Tensor]) -> RemovableHandle:
    """Let a module's outputs be appended to a list, until the handle is removed."""
    return module.register_forward_hook(
        lambda module, inputs, output: to.append(output)
    )


def imagenet_settings(depth: int) -> dict[str, Any]:
    """The settings of the ImageNet net of ``depth`` 18, 34, 50, 101 or 152 (Table 1).

    Raises:
        ValueError: for another depth.
    """
    expect(depth in IMAGENET, f"a depth from {list(IMAGENET)}", depth)
    return {
        "blocks": IMAGENET[depth],
        "widths": (64, 128, 256, 512),
        "bottleneck": depth >= BOTTLENECK_FROM,
        "stem": "imagenet",
        "num_classes": 1000,
    }


def cifar_settings(depth: int, *, bottleneck: bool = False) -> dict[str, Any]:
    """The settings of the CIFAR net of ``depth`` 6n + 2, or 9n + 2 with bottlenecks
    (Section 4.2).

    Raises:
        ValueError: for another depth.
    """
    step = 9 if bottleneck else 6
    fits = depth >= step + 2 and (depth - 2) % step == 0
    expect(fits, f"a depth of {step}n + 2", depth)
    return {
        "blocks": ((depth - 2) // step,) * 3,
        "widths": (16, 32, 64),
        "option": "A",
        "bottleneck": bottleneck,
    }


def imagenet(depth: int, **overrides: Any) -> ResNet:
    """The ImageNet net of ``depth`` 18, 34, 50, 101 or 152.

    Args:
        depth: layers with weights.
        overrides: of ``ResNet``.

    Raises:
        ValueError: for another depth.
    """
    return ResNet(**(imagenet_settings(depth) | overrides))


def cifar(depth: int, *, bottleneck: bool = False, **overrides: Any) -> ResNet:
    """The CIFAR net of ``depth`` 6n + 2, or 9n + 2 with bottlenecks.

    Args:
        depth: layers with weights.
        bottleneck: see ``Unit``.
        overrides: of ``ResNet``.

    Raises:
        ValueError: for another depth.
    """
    return ResNet(**(cifar_settings(depth, bottleneck=bottleneck) | overrides))


def tiny(*, depth: int = 8, **overrides: Any) -> ResNet:
    """The book's scale: a CIFAR net half as wide, on 32x32 images through a stem of
    stride 2.

    Args:
        depth: layers with weights, see ``cifar``.
        overrides: of ``ResNet``.

    Raises:
        ValueError: for another depth.
    """
    settings: dict = {"widths": (8, 16, 32), "stem_stride": 2, "num_classes": 8}
    return cifar(depth, **(settings | overrides))


def paper(*, depth: int = 50, **overrides: Any) -> ResNet:
    """The paper's scale: an ImageNet net.

    Args:
        depth: layers with weights, see ``imagenet``.
        overrides: of ``ResNet``.

    Raises:
        ValueError: for another depth.
    """
    return imagenet(depth, **overrides)
