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
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import expect

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
        self.extra, self.stride = out_channels - in_channels, stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """Subsample, then pad the channels."""
        return functional.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra)
        )


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
    expect(
        option in ("A", "B", "C", "none"), "a shortcut 'A', 'B', 'C' or 'none'", option
    )
    same = in_channels == out_channels and stride == 1
    if option == "none" or (same and option != "C"):
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, out_channels, stride)
    return sequence(
        ["conv", "bn"] if norm else ["conv"], [(out_channels, 1, stride)], in_channels
    )


def sequence(
    words: Sequence[str], plan: Sequence[tuple[int, int, int]], in_channels: int
) -> nn.Sequential:
    """Layers by name. Convolutions keep the size, up to their stride; a bias would be
    removed by normalisation.

    Args:
        words: ``"conv"``, ``"bn"`` or ``"relu"``.
        plan: of each convolution (channels, kernel size, stride).
        in_channels: of the input.
    """
    layers: list[nn.Module] = []
    convs = iter(plan)
    for word in words:
        if word == "conv":
            channels, kernel_size, stride = next(convs)
            layers.append(
                nn.Conv2d(
                    in_channels,
                    channels,
                    kernel_size,
                    stride,
                    kernel_size // 2,
                    bias=False,
                )
            )
            in_channels = channels
        else:
            # Not in place: in some orderings the input is also the shortcut's.
            layers.append(nn.BatchNorm2d(in_channels) if word == "bn" else nn.ReLU())
    return nn.Sequential(*layers)


def words(ordering: str) -> tuple[list[str], list[str], list[str]]:
    """An ordering's layers before the first convolution, from there to the addition,
    and after the addition.

    Raises:
        ValueError: for an unknown ordering.
    """
    expect(ordering in ORDERINGS, f"an ordering from {list(ORDERINGS)}", ordering)
    branch, after = (layers.split() for layers in ORDERINGS[ordering])
    first = branch.index("conv")
    return branch[:first], branch[first:], after


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
        if bottleneck:
            out, first = 4 * channels, 1 if stride_on_3x3 else stride
            plan = [(channels, 1, first), (channels, 3, stride // first), (out, 1, 1)]
            branch = ["conv", "bn", "relu", *branch]
        else:
            out, plan = channels, [(channels, 3, stride), (channels, 3, 1)]
        self.pre = sequence([] if activated else pre, [], in_channels)
        self.branch = sequence(branch, plan, in_channels)
        self.shortcut = shortcut(
            option, in_channels, out, stride, norm=branch[-1] != "conv"
        )
        self.after = sequence(after, [], out)
        self.residual, self.out_channels = option != "none", out

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
    if kind == "imagenet":
        return sequence(["conv", "bn", "relu"], [(channels, 7, 2)], 3).append(
            nn.MaxPool2d(3, 2, 1)
        )
    return sequence(["conv", "bn", "relu"], [(channels, 3, stride)], 3)


def stages(
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
        ValueError: for unequally many of them.
    """
    units, channels = nn.Sequential(), widths[0]
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
        ValueError: for another stem, ordering or option, or unequally many ``blocks``
            and ``widths``.
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
        expect(stem in ("imagenet", "cifar"), "a stem 'imagenet' or 'cifar'", stem)
        # The first activation stands right after this convolution, before the paths
        # split, in every ordering; units that start with one need it again after the
        # last addition (appendix of the second paper).
        self.stem = first_layers(stem, widths[0], stem_stride)
        strides = [1] + [2] * (len(widths) - 1)
        self.units, channels = stages(
            blocks, widths, strides, ordering=ordering, **settings
        )
        self.last = sequence(words(ordering)[0], [], channels)
        self.head = nn.Linear(channels, num_classes)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for a batch without images.
        """
        expect(len(images) > 0, "at least one image", images.shape)
        x = self.units(self.stem(images))
        return self.head(self.last(x).mean((2, 3)))


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
        """The map at the end of each stage, the finest first."""
        x, maps = self.stem(images), list[Tensor]()
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[self.skip :]


def loss(outputs: Float[Tensor, "b k"], labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
    """Cross-entropy, and the share of correct answers.

    Args:
        outputs: logits.
        labels: the true classes.

    Returns:
        ``loss`` and ``accuracy``.
    """
    accuracy = (outputs.detach().argmax(1) == labels).float().mean()
    return {"loss": functional.cross_entropy(outputs, labels), "accuracy": accuracy}


@dataclass(frozen=True)
class Trunk:
    """What ``trunk_statistics`` measures, one value per unit, from the first to the
    last."""

    trunk: Float[Tensor, " u"]  # standard deviation of each unit's output
    # standard deviation of its branch F(x), before the addition
    branch: Float[Tensor, " u"]
    gradient: Float[Tensor, " u"]  # norm of the loss's gradient at each unit's output


def trunk_statistics(
    net: ResNet, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]
) -> Trunk:
    """Run one batch forwards and backwards and record what passes along the trunk.

    Args:
        net: in the mode (train or eval) it is to be measured in; its weights are left
            alone, its batch norms' running statistics move in train mode.
        images: a batch.
        labels: its classes.

    Returns:
        The statistics, on the CPU.
    """
    trunk, branch, handles = list[Tensor](), list[Tensor](), []
    for unit in net.units:
        for part, outputs in ((unit, trunk), (unit.get_submodule("branch"), branch)):
            handles.append(
                part.register_forward_hook(
                    lambda module, inputs, output, to=outputs: to.append(output)
                )
            )
    try:
        value = loss(net(images), labels)["loss"]
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(value, trunk)
    outputs_std, changes_std = (
        torch.stack([x.detach().std() for x in outputs]).cpu()
        for outputs in (trunk, branch)
    )
    return Trunk(
        outputs_std, changes_std, torch.stack([g.norm() for g in gradients]).cpu()
    )


def table(depth: int) -> dict[str, Any]:
    """The settings of the ImageNet net of ``depth`` 18, 34, 50, 101 or 152 (Table 1).

    Raises:
        ValueError: for another depth.
    """
    expect(depth in IMAGENET, f"a depth from {list(IMAGENET)}", depth)
    settings = {
        "blocks": IMAGENET[depth],
        "widths": (64, 128, 256, 512),
        "bottleneck": depth >= BOTTLENECK_FROM,
    }
    return {**settings, "stem": "imagenet", "num_classes": 1000}


def imagenet(depth: int, **overrides: object) -> ResNet:
    """The ImageNet net of ``depth`` 18, 34, 50, 101 or 152.

    Raises:
        ValueError: for another depth.
    """
    return ResNet(**(table(depth) | overrides))


def cifar(depth: int, **overrides: object) -> ResNet:
    """The CIFAR net of ``depth`` 6n + 2 (or 9n + 2 with ``bottleneck=True``).

    Raises:
        ValueError: for another depth.
    """
    step = 9 if overrides.get("bottleneck") else 6
    expect(
        depth >= step + 2 and (depth - 2) % step == 0, f"a depth of {step}n + 2", depth
    )
    settings: dict = {
        "blocks": ((depth - 2) // step,) * 3,
        "widths": (16, 32, 64),
        "option": "A",
    }
    return ResNet(**(settings | overrides))


def tiny(depth: int = 8, **overrides: object) -> ResNet:
    """The book's scale: a CIFAR net half as wide, on 32x32 images through a stem of
    stride 2."""
    settings: dict = {"widths": (8, 16, 32), "stem_stride": 2, "num_classes": 8}
    return cifar(depth, **(settings | overrides))


def paper(depth: int = 50, **overrides: object) -> ResNet:
    """The paper's scale: an ImageNet net."""
    return imagenet(depth, **overrides)
