"""Convolutional Neural Networks with Alternately Updated Clique (CliqueNet).

Yibo Yang, Zhisheng Zhong, Tiancheng Shen, Zhouchen Lin. CVPR 2018, arXiv 1802.10419.
Official code: iboing/CliqueNet (TensorFlow for CIFAR and SVHN, PyTorch for ImageNet).

Idea: connect every two layers of a block in both directions, fill the layers once, and
then update each in turn from all the others, with the same kernels.

Differs:
    1. ``updates`` counts single updates of a layer after Stage I, so that less than a
       Stage II (the paper's X) and more than one are the same loop.
    2. ``alternate=False`` updates all layers at once from the stage before: the control
       for the updating in turn, not in the paper.
    3. ``stem_stride`` lets a net for CIFAR start at half the size, which the book uses
       to fit its minute.

Guessed:
    Initial weights are He's by fan-out, as in the released PyTorch code; the TensorFlow
    one draws the gates and the classifier by Xavier's rule.

Example:
    >>> from papernets_lite.backbones import cliquenet
    >>> cliquenet.tiny(num_classes=10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet, senet
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import at_least, check_images, expect
from papernets_lite.ops.losses import classification

STAGES = ("I+I", "I+II", "II+II")  # of the block's feature, and of what goes on
REDUCTION = 2  # of the gates in an attentional transition
# Layers and filters of the four blocks, from the released code.
IMAGENET = {
    "S0": ((5, 6, 6, 6), (36, 64, 100, 80)),
    "S1": ((5, 6, 6, 6), (36, 80, 120, 100)),
    "S2": ((5, 5, 6, 6), (36, 80, 150, 120)),
    "S3": ((6, 6, 6, 6), (40, 80, 160, 160)),
}


def ready(channels: int) -> nn.Sequential:
    """Normalise and activate: what stands before every convolution.

    Args:
        channels: of the input.
    """
    return resnet.sequence(["bn", "relu"], [], channels)


def norms(*channels: int) -> nn.ModuleList:
    """One ``ready`` before each of a layer's convolutions.

    Args:
        channels: of each convolution's input.
    """
    return nn.ModuleList(ready(count) for count in channels)


def weight(convolution: nn.Module) -> Float[Tensor, "k _ s s"]:
    """The kernels of a convolution, to be joined with others."""
    return cast("nn.Conv2d", convolution).weight


class CliqueBlock(nn.Module):
    r"""Layers that all read each other: a kernel :math:`W_{ij}` for every ordered pair
    and a :math:`W_{0j}` from the block's input.

    Args:
        in_channels: of the input, :math:`X_0`.
        channels: k, of every layer.
        layers: n, at least two; the paper's smallest net has four.
        updates: how many layers are updated after Stage I, one after the other and from
            the first again after the last; n, a whole Stage II, when None.
        alternate: an update reads the newest values; False reads what there was before
            the round.
        bottleneck: the kernels between layers are 1x1, and one 3x3 follows in every
            layer.
        dropout: the share of values set to zero after each convolution.

    Raises:
        ValueError: for fewer than two layers, or a size that is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        layers: int = 4,
        *,
        updates: int | None = None,
        alternate: bool = True,
        bottleneck: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        updates = layers if updates is None else updates
        at_least(1, in_channels=in_channels, channels=channels)
        at_least(2, layers=layers)
        at_least(0, updates=updates)
        self.channels, self.alternate = channels, alternate
        self.from_input, self.from_layers = nn.ModuleList(), nn.ModuleList()
        self.spread = nn.ModuleList()
        self.first, self.second = nn.ModuleList(), nn.ModuleList()
        self.dropout = nn.Dropout(dropout)
        size, others = 1 if bottleneck else 3, (layers - 1) * channels
        inner = [channels] if bottleneck else []
        for layer in range(layers):
            self.from_input.append(nn.Conv2d(in_channels, channels, size, bias=False))
            self.from_layers.append(nn.Conv2d(others, channels, size, bias=False))
            if bottleneck:
                wide = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
                self.spread.append(wide)
            self.first.append(norms(in_channels + layer * channels, *inner))
        # The stages share kernels and no norms: a layer's inputs are others in each.
        for _ in range(updates):
            self.second.append(norms(others, *inner))

    def fill(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b k h w"]]:
        r"""Stage I: :math:`X_j^{(1)} = \sum_{i<j} W_{ij} * g(X_i^{(1)})`, from the
        block's input on, where g is the norm and the ReLU.

        Args:
            x: :math:`X_0`.

        Returns:
            :math:`X_1^{(1)}, \dots, X_n^{(1)}`.
        """
        maps: list[Tensor] = []
        for j, norm in enumerate(self.first):
            known = weight(self.from_layers[j])[:, : j * self.channels]
            kernel = torch.cat([weight(self.from_input[j]), known], 1)
            maps.append(self.layer(j, [x, *maps], kernel, norm))
        return maps

    def refine(
        self, first: Sequence[Float[Tensor, "b k h w"]]
    ) -> list[Float[Tensor, "b k h w"]]:
        r"""Stage II: :math:`X_j^{(2)} = \sum_{i<j} W_{ij} * g(X_i^{(2)}) + \sum_{i>j}
        W_{ij} * g(X_i^{(1)})`. The block's input takes no part.

        Args:
            first: the layers after Stage I; the list is left as it is.

        Returns:
            The layers after the updates.
        """
        maps = before = list(first)
        for update, norm in enumerate(self.second):
            j = update % len(maps)
            if j == 0:
                before = list(maps)
            newest = maps if self.alternate else before
            others = newest[:j] + newest[j + 1 :]
            maps[j] = self.layer(j, others, weight(self.from_layers[j]), norm)
        return maps

    def forward(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b n h w"], Float[Tensor, "b n h w"]]:
        """The layers after Stage I and after Stage II, each as one tensor."""
        first = self.fill(x)
        second = self.refine(first)
        return torch.cat(first, 1), torch.cat(second, 1)

    def layer(
        self,
        j: int,
        maps: list[Float[Tensor, "b _ h w"]],
        kernel: Float[Tensor, "k _ s s"],
        norm: nn.Module,
    ) -> Float[Tensor, "b k h w"]:
        """A layer's new value: one convolution over all maps that it reads.

        Args:
            j: which layer, from 0.
            maps: what it reads.
            kernel: from these maps, side by side as they are.
            norm: before each of the layer's convolutions, from ``norms``.
        """
        outer, *inner = cast("nn.ModuleList", norm)
        x = outer(torch.cat(maps, 1))
        x = functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        x = self.dropout(x)
        for between in inner:
            x = self.dropout(self.spread[j](between(x)))
        return x

    def unused(self) -> int:
        """How many weights no update reads: from later layers to those that are never
        updated."""
        never = range(len(self.second), len(self.first))
        later = sum(len(self.first) - 1 - j for j in never)
        return later * self.channels * weight(self.from_layers[0])[:, 0].numel()


def transition(
    channels: int, *, attention: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Between two blocks: a 1x1 convolution of the same width, and half the size.

    Args:
        channels: of the input and the output.
        attention: weigh the channels by a squeeze-and-excitation block before the
            pooling.
        dropout: after the convolution.
    """
    layers = resnet.sequence(["bn", "relu", "conv"], [(channels, 1, 1)], channels)
    layers.append(nn.Dropout(dropout))
    if attention:
        layers.append(senet.SqueezeExcitation(channels, REDUCTION))
    return layers.append(nn.AvgPool2d(2))


def readout(
    channels: int, *, compression: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """What the classifier gets of a block's feature: its average over all positions.

    Args:
        channels: of the feature.
        compression: halve the channels by a 1x1 convolution first.
        dropout: after that convolution.
    """
    layers = nn.Sequential()
    if compression:
        plan = [(channels // 2, 1, 1)]
        layers = resnet.sequence(["bn", "relu", "conv"], plan, channels)
        layers.append(nn.Dropout(dropout))
        channels //= 2
    layers.extend(ready(channels))
    return layers.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())


def check_net(
    layers: Sequence[int],
    channels: Sequence[int],
    stem: str,
    stages: str,
    updates: int | None,
    dropout: float,
) -> None:
    """Refuse what ``CliqueNet`` cannot be built from.

    Args:
        layers: of each block, at least one block.
        channels: of each block, as many.
        stem: of the net, and so below.
        stages: from ``STAGES``.
        updates: none where Stage II is not wanted.
        dropout: below 1.

    Raises:
        ValueError: for the first that does not fit.
    """
    expect(stages in STAGES, f"stages from {STAGES}", stages)
    expect(stem in ("imagenet", "cifar"), "a stem 'imagenet' or 'cifar'", stem)
    alike = len(layers) == len(channels) > 0
    expect(alike, "as many channels as layers, for each block", layers, channels)
    fits = stages != "I+I" or not updates
    expect(fits, "no updates with stages 'I+I'", updates)
    expect(0 <= dropout < 1, "a dropout from 0 to 1", dropout)


class CliqueNet(nn.Module):
    """A stem, clique blocks with transitions between them, and one linear layer that
    reads the features of all blocks.

    Args:
        layers: n of each block.
        channels: k of each block.
        num_classes: outputs.
        stem: ``"cifar"`` (one bare 3x3 convolution) or ``"imagenet"`` (7x7 of stride 2,
            then max-pooling).
        stem_channels: of the first convolution.
        stem_stride: of the CIFAR stem.
        stages: whose features go to the classifier, and whose go on to the next block,
            from ``STAGES``.
        updates: of each block, see ``CliqueBlock``; none with ``"I+I"``.
        attention: in the transitions.
        compression: of the blocks' features.
        dropout: after each convolution but the first.
        settings: ``alternate`` and ``bottleneck`` of each ``CliqueBlock``.

    Raises:
        ValueError: for another stem or stages, unequally many layers and channels, or a
            number that is not positive.
    """

    def __init__(
        self,
        *,
        layers: Sequence[int],
        channels: Sequence[int],
        num_classes: int = 10,
        stem: str = "cifar",
        stem_channels: int = 64,
        stem_stride: int = 1,
        stages: str = "II+II",
        updates: int | None = None,
        attention: bool = False,
        compression: bool = False,
        dropout: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__()
        check_net(layers, channels, stem, stages, updates, dropout)
        at_least(1, stem_channels=stem_channels, stem_stride=stem_stride)
        at_least(1, num_classes=num_classes)
        if stem == "imagenet":
            self.stem = resnet.first_layers(stem, stem_channels)
        else:
            self.stem = resnet.sequence(["conv"], [(stem_channels, 3, stem_stride)], 3)
        settings |= {"updates": 0 if stages == "I+I" else updates, "dropout": dropout}
        self.stages = stages
        self.blocks, self.readouts = nn.ModuleList(), nn.ModuleList()
        self.transitions = nn.ModuleList()
        width, described = stem_channels, 0
        for count, k in zip(layers, channels, strict=True):
            self.blocks.append(CliqueBlock(width, k, count, **settings))
            whole = width + count * k
            read = readout(whole, compression=compression, dropout=dropout)
            self.readouts.append(read)
            described += whole // 2 if compression else whole
            width = count * k
            between = transition(width, attention=attention, dropout=dropout)
            is_last = len(self.blocks) == len(layers)
            self.transitions.append(nn.Identity() if is_last else between)
        self.head = nn.Linear(described, num_classes)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for what are no images, see ``checks.check_images``, or images
                too small for the transitions.
        """
        described = []
        for read, x, first, second in self._run(images):
            shown = first if self.stages == "I+II" else second
            described.append(read(torch.cat([x, shown], 1)))
        return self.head(torch.cat(described, 1))

    def features(
        self, images: Float[Tensor, "b c h w"]
    ) -> list[tuple[Float[Tensor, "b _ _ _"], Float[Tensor, "b _ _ _"]]]:
        """Each block's layers after Stage I and after Stage II.

        Raises:
            ValueError: as ``forward``.
        """
        return [(first, second) for _, _, first, second in self._run(images)]

    def _run(
        self, images: Tensor
    ) -> Iterator[tuple[nn.Module, Tensor, Tensor, Tensor]]:
        """Block by block its readout, its input, and its layers after both stages."""
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        x = self.stem(images)
        least = 2 ** (len(self.blocks) - 1)
        large = min(x.shape[2:]) >= least
        expect(large, f"maps of {least} x {least} or more behind the stem", x.shape)
        steps = zip(self.blocks, self.readouts, self.transitions, strict=True)
        for block, read, between in steps:
            first, second = block(x)
            yield read, x, first, second
            x = between(second)


def in_use(net: CliqueNet) -> int:
    """The parameters that a net reads: without Stage II, the kernels from later layers
    to earlier ones lie idle.

    Args:
        net: any.
    """
    idle = sum(cast("CliqueBlock", block).unused() for block in net.blocks)
    return sum(p.numel() for p in net.parameters()) - idle


loss = classification


# How the map of the net calls its parts.
BLOCKS = {
    "stem": "stem",
    "blocks.*": "block *",
    "transitions.*": "transition *",
    "readouts.*": "readout *",
    "head": "head",
}


def tiny(**overrides: Any) -> CliqueNet:
    """The book's scale: two blocks of four layers, behind a stem of stride 2.

    Args:
        overrides: of ``CliqueNet``.
    """
    settings: dict = {
        "layers": (4, 4),
        "channels": (8, 8),
        "stem_channels": 8,
        "stem_stride": 2,
        "num_classes": 8,
    }
    return CliqueNet(**(settings | overrides))


def paper(*, channels: int = 36, depth: int = 12, **overrides: Any) -> CliqueNet:
    """The paper's scale: a net of three blocks for CIFAR and SVHN.

    Args:
        channels: k, the same in every layer.
        depth: T, the layers of all three blocks.
        overrides: of ``CliqueNet``.

    Raises:
        ValueError: for a depth that three does not divide, or below 6.
    """
    fits = depth >= 6 and depth % 3 == 0
    expect(fits, "a depth that 3 divides, of at least 6", depth)
    settings: dict = {
        "layers": (depth // 3,) * 3,
        "channels": (channels,) * 3,
        "dropout": 0.2,
    }
    return CliqueNet(**(settings | overrides))


def imagenet(name: str, **overrides: Any) -> CliqueNet:
    """A net for ImageNet: four blocks with bottlenecks and compression.

    Args:
        name: ``"S0"`` to ``"S3"``.
        overrides: of ``CliqueNet``.

    Raises:
        ValueError: for another name.
    """
    expect(name in IMAGENET, f"a name from {list(IMAGENET)}", name)
    layers, channels = IMAGENET[name]
    settings: dict = {
        "layers": layers,
        "channels": channels,
        "stem": "imagenet",
        "num_classes": 1000,
        "bottleneck": True,
        "compression": True,
    }
    return CliqueNet(**(settings | overrides))
