"""Squeeze-and-Excitation Networks.

Jie Hu, Li Shen, Samuel Albanie, Gang Sun, Enhua Wu. CVPR 2018; TPAMI 2019,
arXiv 1709.01507.
Official code: hujie-frank/SENet (Caffe models).

Idea: let one vector that describes the whole picture decide, through a small gate, how
much each channel counts.

Differs:
    1. ``squeeze="none"`` gates every position by itself: the paper's NoSqueeze, the
       control with equal parameters. ``merge="add"`` adds what the block makes of the
       squeezed picture instead of gating by it: context without a gate, not in the
       paper.
    2. ``per_position`` answers at every position instead of once a picture, for tasks
       whose answer is local and whose context is not. A net that averages before its
       last layer has global context there without any gate.
    3. SE-Inception is a small net of units in BN-Inception's form, all of one width,
       and its stem has a block too: the block may follow any transformation (Eq. 1),
       and in so small a net the stem is one of three.

Guessed:
    The gate's layers have biases, as the released models do; the journal version leaves
    them out in its ResNets (``bias=False``). The gates start from He's weights. In
    SE-PRE the shortcut takes the input before its gate.

Example:
    >>> from papernets_lite.backbones import senet
    >>> senet.tiny(depth=8, num_classes=10)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papernets_lite.backbones import resnet
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import at_least, check_images, check_keys, expect
from papernets_lite.ops.labels import cross_entropy

REDUCTION = 16  # r, Table 10
SQUEEZES = ("mean", "max", "none")  # Tables 11 and 16
MERGES = ("scale", "add")
PLACEMENTS = ("standard", "pre", "post", "identity")  # Fig. 7, Table 14
UNKNOWN = -1  # positions that have no label


class SqueezeExcitation(nn.Module):
    r"""The block: :math:`\tilde x_c = s_c u_c` with :math:`s = \sigma(W_2\,\delta(W_1
    z))` (Eqs. 2 to 4).

    Args:
        channels: C, of the input.
        reduction: r; the gate has C/r units inside (at least one).
        squeeze: what makes z of the maps: their ``"mean"`` (the paper's choice), their
            ``"max"``, or ``"none"``: each position's own channels, which gives each
            position its own gate.
        merge: ``"scale"`` the maps by the gates, the paper's; ``"add"`` leaves out the
            sigmoid and adds what would have been its input.
        bias: of the gate's two layers.

    Raises:
        ValueError: for another squeeze or merge, or channels or a reduction below 1.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = REDUCTION,
        *,
        squeeze: str = "mean",
        merge: str = "scale",
        bias: bool = True,
    ) -> None:
        super().__init__()
        expect(squeeze in SQUEEZES, f"a squeeze from {SQUEEZES}", squeeze)
        expect(merge in MERGES, f"a merge from {MERGES}", merge)
        at_least(1, channels=channels, reduction=reduction)
        self.squeeze = squeeze
        self.merge = merge
        hidden = max(1, channels // reduction)
        # On a map of one position a 1x1 convolution is a fully connected layer.
        down = nn.Conv2d(channels, hidden, 1, bias=bias)
        up = nn.Conv2d(hidden, channels, 1, bias=bias)
        last = nn.Sigmoid() if merge == "scale" else nn.Identity()
        self.excite = nn.Sequential(down, nn.ReLU(), up, last)
        he_init_(self)

    def gate(self, u: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k l"]:
        """s, one per channel (k = l = 1), without a squeeze per position too."""
        z = u
        if self.squeeze == "mean":
            z = u.mean((2, 3), keepdim=True)
        elif self.squeeze == "max":
            z = u.amax((2, 3), keepdim=True)
        return self.excite(z)

    def forward(self, u: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The maps, scaled by their gates."""
        s = self.gate(u)
        return u * s if self.merge == "scale" else u + s


def place(unit: resnet.Unit, where: str, **settings: Any) -> None:
    """Put a block into a residual unit (Fig. 7).

    Args:
        unit: changed in place.
        where: ``"standard"`` at the branch's end, before the addition; ``"pre"`` at the
            branch's start; ``"post"`` after the addition and its ReLU; ``"identity"``
            on the shortcut.
        settings: the block's.

    Raises:
        ValueError: for another place.
    """
    expect(where in PLACEMENTS, f"a place from {PLACEMENTS}", where)
    channels = unit.out_channels
    if where == "pre":
        convolutions = (m for m in unit.branch if isinstance(m, nn.Conv2d))
        channels = next(convolutions).in_channels
    block = SqueezeExcitation(channels, **settings)
    if where == "standard":
        unit.branch.append(block)
    elif where == "pre":
        unit.branch.insert(0, block)
    elif where == "post":
        unit.after.append(block)
    else:
        unit.shortcut = nn.Sequential(unit.shortcut, block)


def answer(
    head: nn.Linear, features: Float[Tensor, "b c h w"], *, per_position: bool
) -> Float[Tensor, "b k ..."]:
    """The last layer.

    Args:
        head: from features to class scores.
        features: of the last unit.
        per_position: apply it at every position (b, k, h, w) instead of to the
            features' average (b, k).
    """
    if per_position:
        return head(features.movedim(1, -1)).movedim(-1, 1)
    return head(features.mean((2, 3)))


class SEResNet(resnet.ResNet):
    """A residual net with a block in every unit. Without its blocks it is the residual
    net of the same seed.

    Args:
        gated: False leaves the blocks out.
        placement: of the blocks, see ``place``.
        reduction, squeeze, bias: see ``SqueezeExcitation``.
        per_position: answer at every position.
        settings: of ``resnet.ResNet``; the ordering is the original one.

    Raises:
        ValueError: for a wrong placement, squeeze or reduction, and what
            ``resnet.ResNet`` refuses.
    """

    def __init__(
        self,
        *,
        gated: bool = True,
        placement: str = "standard",
        reduction: int = REDUCTION,
        squeeze: str = "mean",
        bias: bool = True,
        per_position: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.per_position = per_position
        if not gated:
            return
        block = {"reduction": reduction, "squeeze": squeeze, "bias": bias}
        for unit in self.units:
            place(cast("resnet.Unit", unit), placement, **block)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k ..."]:
        """Class scores (logits), of the picture or of every position.

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        features = self.features(images)
        return answer(self.head, features, per_position=self.per_position)


class Inception(nn.Module):
    """Four ways to look, side by side: 1x1, 3x3, two 3x3, and an average over 3x3; then
    ``block``, which may be set.

    Args:
        in_channels: of the input.
        channels: of the output, a quarter from each way.

    Raises:
        ValueError: for channels that four does not divide.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        quarters = channels > 0 and channels % 4 == 0
        expect(quarters, "a multiple of 4 channels", channels)
        ways = []
        for sizes in ((1,), (1, 3), (1, 3, 3), (1,)):
            plan = [(channels // 4, size, 1) for size in sizes]
            words = ["conv", "bn", "relu"] * len(plan)
            ways.append(resnet.sequence(words, plan, in_channels))
        ways[3].insert(0, nn.AvgPool2d(3, 1, 1, count_include_pad=False))
        self.ways = nn.ModuleList(ways)
        self.block: nn.Module = nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """The concatenation, gated."""
        return self.block(torch.cat([way(x) for way in self.ways], 1))


class SEInception(nn.Module):
    """A strided 3x3 stem and Inception units of one width, each followed by a block.

    Args:
        depth: how many units.
        channels: of the stem and of every unit.
        gated, per_position: see ``SEResNet``.
        num_classes: outputs.
        settings: of each ``SqueezeExcitation``.

    Raises:
        ValueError: for a wrong squeeze or reduction, channels that four does not
            divide, or a size that is not positive.
    """

    def __init__(
        self,
        *,
        depth: int,
        channels: int,
        gated: bool = True,
        per_position: bool = False,
        num_classes: int = 10,
        **settings: Any,
    ) -> None:
        super().__init__()
        at_least(1, depth=depth, channels=channels, num_classes=num_classes)
        units = [Inception(channels, channels) for _ in range(depth)]
        self.stem = resnet.first_layers("cifar", channels)
        self.units = nn.Sequential(*units)
        self.head = nn.Linear(channels, num_classes)
        self.per_position = per_position
        he_init_(self)
        # Last, so that a net without blocks starts from the same weights.
        if not gated:
            return
        self.stem.append(SqueezeExcitation(channels, **settings))
        for unit in units:
            unit.block = SqueezeExcitation(channels, **settings)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k ..."]:
        """Class scores (logits), of the picture or of every position.

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        features = self.units(self.stem(images))
        return answer(self.head, features, per_position=self.per_position)


def loss(
    outputs: Float[Tensor, "b k *s"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy, and the share of correct answers, over what has a label.

    Args:
        outputs: logits, of pictures or of positions.
        batch: ``labels`` (b, *s), the true classes, from 0 to k - 1; ``UNKNOWN`` (-1)
            has none.
        generator: nothing is drawn.

    Returns:
        ``loss`` and ``accuracy``; both are 0 where nothing has a label.

    Raises:
        ValueError: for labels of another shape, or that are no class.
    """
    check_keys(batch, "labels")
    labels = batch["labels"]
    missed = cross_entropy(outputs.movedim(1, -1), labels, unknown=UNKNOWN)
    known = labels != UNKNOWN
    right = (outputs.detach().argmax(1) == labels) & known
    return {"loss": missed, "accuracy": right.sum() / known.sum().clamp(min=1)}


@torch.no_grad()
def regated(
    net: nn.Module, images: Float[Tensor, "b c h w"], change: Callable[[Tensor], Tensor]
) -> Tensor:
    """What a net answers when it gets other gates: exchanged between the images, say,
    or their average.

    Args:
        net: in the mode it is to be looked at in.
        images: a batch.
        change: takes a block's gates (b, c, k, l) and returns those that it is to use.

    Returns:
        The net's outputs.
    """
    handles = []
    for block in net.modules():
        if isinstance(block, SqueezeExcitation):
            handles.append(
                block.excite.register_forward_hook(lambda module, inputs, s: change(s))
            )
    try:
        return net(images)
    finally:
        for handle in handles:
            handle.remove()


def gates(
    net: nn.Module, images: Float[Tensor, "b c h w"]
) -> list[Float[Tensor, "b _"]]:
    """Each block's gates for these images, from the first block to the last; over
    positions, their average.

    Args:
        net: in the mode it is to be looked at in.
        images: a batch.

    Returns:
        One tensor per block, on the CPU.
    """
    found: list[Tensor] = []

    def keep(s: Tensor) -> Tensor:
        found.append(s.mean((2, 3)).cpu())
        return s

    regated(net, images, keep)
    return found


def tiny(*, depth: int = 8, **overrides: Any) -> SEResNet:
    """The book's scale: a CIFAR net half as wide, with a stem of stride 2 and a wide
    gate (r = 2).

    Args:
        depth: layers with weights, see ``resnet.cifar``.
        overrides: of ``SEResNet``.

    Raises:
        ValueError: for another depth.
    """
    settings: dict = {
        "widths": (8, 16, 32),
        "stem_stride": 2,
        "num_classes": 8,
        "reduction": 2,
    }
    bottleneck = bool(overrides.get("bottleneck"))
    table = resnet.cifar_settings(depth, bottleneck=bottleneck)
    return SEResNet(**(table | settings | overrides))


def tiny_inception(*, depth: int = 2, **overrides: Any) -> SEInception:
    """The book's scale without paths around: narrow Inception units that answer at
    every second pixel; r = 2.

    Args:
        depth: how many units.
        overrides: of ``SEInception``.
    """
    settings: dict = {
        "channels": 32,
        "reduction": 2,
        "num_classes": 8,
        "per_position": True,
    }
    return SEInception(depth=depth, **(settings | overrides))


def paper(*, depth: int = 50, **overrides: Any) -> SEResNet:
    """The paper's scale: an SE-ResNet for ImageNet.

    Args:
        depth: 18, 34, 50, 101 or 152.
        overrides: of ``SEResNet``.

    Raises:
        ValueError: for another depth.
    """
    return SEResNet(**(resnet.imagenet_settings(depth) | overrides))
