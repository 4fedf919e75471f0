r"""UNet++: A Nested U-Net Architecture for Medical Image Segmentation.

Zongwei Zhou, Md Mahfuzur Rahman Siddiquee, Nima Tajbakhsh, Jianming Liang. DLMIA
workshop at MICCAI 2018, arXiv 1807.10165; journal version TMI 2020, arXiv 1912.05074.
Official code: github.com/MrGiovanni/UNetPlusPlus.

Idea: fill the triangle between a U-Net's way down and its way up with nodes, so that it
holds a U-Net of every depth, and give each of them a head.

Differs:
    1. Both halves of the cross-entropy count; the paper's equation prints the half of
       the foreground alone. The released code has both.
    2. No dropout and no weight decay: the released code drops half of the values after
       every convolution and decays weights; the paper speaks of neither.

Guessed:
    How a node upsamples (a transposed convolution to the row's width) and that a node
    has two convolutions with biases: so in the released code, and so its number of
    parameters. The smoothing of Dice, 1, as there, but for each image as in the
    equation, where the code counts a batch as one image. Weights start as U-Net's.

Example:
    >>> from papernets_lite.segmentation import unetpp
    >>> unetpp.tiny()(torch.rand(2, 3, 48, 48)).shape
    torch.Size([2, 3, 1, 48, 48])
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from papernets_lite.ops.checks import (
    check_inputs,
    check_keys,
    check_mask,
    expect,
)
from papernets_lite.segmentation import unet

WIDTHS = (32, 64, 128, 256, 512)  # channels of each row, as its U-Net's (Table 2)
SMOOTH = 1.0  # keeps Dice defined where neither mask has a pixel

Place = tuple[int, int]  # row i, 0 at the image's resolution, and column j


def triangle(depth: int) -> list[Place]:
    """The nodes (i, j) of a net of a depth, i + j <= depth, each after all that it
    reads: diagonal after diagonal, so that a shallower net is the list's beginning."""
    return [(d - j, j) for d in range(depth + 1) for j in range(d + 1)]


def enlarge(low: int, width: int) -> nn.ConvTranspose2d:
    """U: twice the size, and from the lower row's channels to ``width``."""
    return nn.ConvTranspose2d(low, width, 2, stride=2)


class UNetPP(nn.Module):
    """The triangle, and a 1x1 convolution on each node of its top row that has a head.

    Args:
        widths: channels of each row, from the image's resolution down.
        in_channels: of the images.
        num_classes: maps of a head; each is a mask of its own.
        heads: depths that have a head, in order, from 1 to ``len(widths) - 1``. All of
            them when None, which is deep supervision; the last alone is none.
        convs: 3x3 convolutions of a node, 1 or 2.
        nested: whether the skips hold nodes; without, what is left is a plain U-Net of
            the same parts, with one head.

    Raises:
        ValueError: for fewer than two rows, a number of channels, classes or
            convolutions that makes no net, or heads that are not there or out of order.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        in_channels: int = 1,
        num_classes: int = 1,
        heads: Sequence[int] | None = None,
        convs: int = 2,
        nested: bool = True,
    ) -> None:
        super().__init__()
        self.depth, self.nested, self.in_channels = len(widths) - 1, nested, in_channels
        _check((in_channels, *widths, num_classes), convs)
        depths = _headed(heads, self.depth, nested=nested)
        self.nodes, self.ups = nn.ModuleDict(), nn.ModuleDict()
        for i, j in self.places():
            name, above = f"x{i}{j}", (in_channels, *widths)[i]
            read = len(self.sources(i, j)) * widths[i] if j else above
            self.nodes[name] = unet.block(read, widths[i], padding=1)[: 2 * convs]
            if j:
                self.ups[name] = enlarge(widths[i + 1], widths[i])
        heads_of = {f"L{d}": nn.Conv2d(widths[0], num_classes, 1) for d in depths}
        self.heads = nn.ModuleDict(heads_of)
        self.apply(unet.start)

    def places(self) -> list[Place]:
        """Its nodes, each after all that it reads."""
        all_of_them = triangle(self.depth)
        if self.nested:
            return all_of_them
        return [(i, j) for i, j in all_of_them if j == 0 or i + j == self.depth]

    def sources(self, i: int, j: int) -> list[Place]:
        """Which nodes node (i, j) reads, Eq. 1: all before it in its row, and the one
        to its lower left, enlarged; on the way down, the one above."""
        if j == 0:
            return [(i - 1, 0)] if i > 0 else []
        row = range(j) if self.nested else range(1)
        return [*((i, k) for k in row), (i + 1, j - 1)]

    def features(self, images: Float[Tensor, "b c h w"]) -> dict[Place, Tensor]:
        """What every node makes, x^{i,j} of Eq. 1.

        Raises:
            ValueError: for what are no images of this net, or sides that the poolings
                cannot halve.
        """
        fold = 2**self.depth
        check_inputs(images, self, channels=self.in_channels, least=fold, multiple=fold)
        x: dict[Place, Tensor] = {}
        for i, j in self.places():
            name = f"x{i}{j}"
            if j > 0:
                *row, below = [x[place] for place in self.sources(i, j)]
                read = torch.cat([*row, self.ups[name](below)], 1)
            else:
                read = functional.max_pool2d(x[i - 1, 0], 2) if i > 0 else images
            x[i, j] = self.nodes[name](read)
        return x

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k h w"]:
        """The heads' scores (logits), the shallowest first.

        Raises:
            ValueError: as ``features``.
        """
        x = self.features(images)
        outputs = []
        for name, head in self.heads.items():
            outputs.append(head(x[0, int(name[1:])]))
        return torch.stack(outputs, 1)


def _check(channels: Sequence[int], convs: int) -> None:
    """Raise ``ValueError`` for settings that make no net; the images' channels come
    first, the classes last."""
    expect(len(channels) >= 4, "two widths or more", channels[1:-1])
    expect(min(channels) > 0, "positive numbers of channels and classes", channels)
    expect(convs in (1, 2), "1 or 2 convolutions a node", convs)


def _headed(heads: Sequence[int] | None, depth: int, *, nested: bool) -> Sequence[int]:
    """The depths that have a head; raise ``ValueError`` unless there is one, each has a
    node, and they rise."""
    first = 1 if nested else depth
    if heads is None:
        return range(first, depth + 1)
    rising = all(shallow < deep for shallow, deep in pairwise(heads))
    there = len(heads) > 0 and all(first <= d <= depth for d in heads)
    expect(rising and there, f"rising heads from {first} to {depth}", tuple(heads))
    return heads


def prune(net: UNetPP, depth: int) -> UNetPP:
    """L^d: a copy with the nodes i + j <= d and the head of x^{0,d} alone. It answers
    what that head of the whole net answers.

    Args:
        net: trained with a head at that depth; it stays as it is.
        depth: d.

    Raises:
        ValueError: for a depth without a head.
    """
    expect(f"L{depth}" in net.heads, f"a depth of {list(net.heads)}", depth)
    out = deepcopy(net)
    out.depth = depth
    kept = {f"x{i}{j}" for i, j in triangle(depth)}
    for name in set(net.nodes) - kept:
        del out.nodes[name]
        if name in out.ups:
            del out.ups[name]
    for name in set(net.heads) - {f"L{depth}"}:
        del out.heads[name]
    return out


class Cost(NamedTuple):
    """What a node takes."""

    parameters: int
    operations: int  # multiply-adds for one image


def costs(net: UNetPP, size: Sequence[int]) -> dict[Place, Cost]:
    """What each node takes, with its upsampling; counted by running the net on shapes
    alone. The heads, some dozens of weights, are left out.

    Args:
        net: of any depth.
        size: rows and columns of an image.

    Raises:
        ValueError: for a size that does not fit, see ``UNetPP.features``.
    """
    ghost = deepcopy(net).to("meta")
    images = next(ghost.parameters()).new_empty(1, net.in_channels, *size)
    with FlopCounterMode(display=False) as counter:
        ghost(images)
    counts = counter.get_flop_counts()
    out = {}
    for i, j in net.places():
        parameters = operations = 0
        for part in ("nodes", "ups") if j else ("nodes",):
            name = f"{part}.x{i}{j}"
            module = net.get_submodule(name)
            parameters += sum(p.numel() for p in module.parameters())
            flops = counts[f"{type(net).__name__}.{name}"]
            operations += sum(flops.values()) // 2
        out[i, j] = Cost(parameters, operations)
    return out


def dice(
    probabilities: Float[Tensor, "b *s"], masks: Float[Tensor, "b *s"]
) -> Float[Tensor, " b"]:
    r"""The soft Dice coefficient of each image, :math:`(2 \sum Y \hat Y + 1) / (\sum Y
    + \sum \hat Y + 1)`.

    Raises:
        ValueError: for unequal shapes.
    """
    same = probabilities.shape == masks.shape
    expect(same, "as many probabilities", masks.shape, probabilities.shape)
    both = (probabilities * masks).flatten(1).sum(1)
    either = (probabilities + masks).flatten(1).sum(1)
    return (2 * both + SMOOTH) / (either + SMOOTH)


def loss(
    outputs: Float[Tensor, "b *d k h w"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""Eq. 2 plus one, averaged over the heads: half the binary cross-entropy, and 1 -
    Dice.

    Args:
        outputs: logits of the heads (b, d, k, h, w), or of a net with one answer (b, k,
            h, w).
        batch: ``masks`` (b, k, h, w), bool or numbers that are 0 or 1.
        generator: nothing is drawn.

    Returns:
        ``loss``, and each head's share of it before the average, ``head 1``, ....

    Raises:
        ValueError: for masks of another shape, or other numbers.
    """
    check_keys(batch, "masks")
    answers = _by_head(outputs)
    b, _, *rest = answers.shape
    masks = check_mask(batch["masks"], "masks", shape=(b, *rest)).to(answers)
    terms = {}
    for number, logits in enumerate(answers.unbind(1), start=1):
        entropy = functional.binary_cross_entropy_with_logits(logits, masks)
        overlap = dice(logits.sigmoid(), masks).mean()
        terms[f"head {number}"] = 0.5 * entropy + 1 - overlap
    mean = torch.stack(list(terms.values())).mean()
    return {"loss": mean, **terms}


def _by_head(outputs: Tensor) -> Float[Tensor, "b d k h w"]:
    """The same, where a net with one answer has one head."""
    answers = outputs[:, None] if outputs.ndim == 4 else outputs
    fits = answers.ndim == 5 and answers.numel() > 0
    expect(fits, "outputs (b, d, k, h, w) or (b, k, h, w), not empty", outputs.shape)
    return answers


def decode(
    outputs: Float[Tensor, "b *d k h w"],
    *,
    head: int | None = None,
    threshold: float = 0.5,
) -> Bool[Tensor, "b k h w"]:
    """The masks.

    Args:
        outputs: as for ``loss``.
        head: number of the one that is read, from 1 on: the paper's fast mode. The
            average of all heads' probabilities when None: its accurate mode.
        threshold: of the probability.

    Raises:
        ValueError: for a head that is not there, or a threshold outside [0, 1].
    """
    expect(0 <= threshold <= 1, "a threshold from 0 to 1", threshold)
    chances = _by_head(outputs).detach().sigmoid()
    if head is None:
        return chances.mean(1) > threshold
    count = chances.shape[1]
    expect(1 <= head <= count, f"a head from 1 to {count}", head)
    return chances[:, head - 1] > threshold


# How the map calls the net's parts.
BLOCKS = {
    "nodes.x0* ups.x0* heads.L*": "x 0*",
    "nodes.x* ups.x*": "x *",
}


def tiny(**overrides: Any) -> UNetPP:
    """The book's scale: three halvings, narrow, colour images.

    Args:
        overrides: of ``UNetPP``.
    """
    settings: dict[str, Any] = {"widths": (12, 24, 32, 48), "in_channels": 3}
    return UNetPP(**(settings | {"convs": 1} | overrides))


def paper(**overrides: Any) -> UNetPP:
    """The paper's scale: four halvings, one grey channel, one class, four heads.

    Args:
        overrides: of ``UNetPP``.
    """
    settings: dict[str, Any] = {"widths": WIDTHS}
    return UNetPP(**(settings | overrides))
