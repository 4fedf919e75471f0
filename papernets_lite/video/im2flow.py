r"""Im2Flow: Motion Hallucination from Static Images for Action Recognition.

Ruohan Gao, Bo Xiong, Kristen Grauman. CVPR 2018, arXiv 1712.04109.
Official code: rhgao/Im2Flow (Lua Torch; its net is that of phillipi/pix2pix).

Idea: learn from unlabelled video which motion a single frame implies, and hand the
hallucinated optical flow to a second stream of an action classifier.

Differs:
    1. ``tiny`` reads blocks of 2x2 pixels and answers at half the resolution, with
       three halvings instead of eight and no dropout: what a CPU can train in seconds.
    2. The streams of the classifier are the net's own way down with a linear layer; the
       paper's are ResNet-18. So streams from scratch, pre-trained streams and the
       motion net of the content loss are all one architecture.
    3. ``vector_loss`` and ``picture_loss`` train the same net to say (u, v), and,
       without skips, to repeat the picture. Both are controls, not in the paper.
    4. The motion streams read the decoded flow, (u, v) and its length. The direction of
       what does not move is arbitrary; nothing forbids the classifier to look at it.

Guessed:
    The fusion: the streams' probabilities are averaged.

Contract:
    ``flow`` (b, 2, h, w) of a batch is in pixels of the outputs' resolution, which is
    that of the images at the paper's scale.

Example:
    >>> from papernets_lite.video import im2flow
    >>> im2flow.decode(im2flow.tiny()(torch.rand(2, 3, 32, 32))).shape
    torch.Size([2, 2, 16, 16])
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn import functional

from papernets_lite.layers.init import normal_init_
from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_inputs,
    check_keys,
    check_pictures,
    check_same,
    expect,
)

WIDTHS = (64, 128, 256, 512, 512, 512, 512, 512)  # of the released net
# The longest motion that is told apart, and the side of the pictures, both in pixels.
FASTEST, SIDE = 30.0, 256
PIXEL, CONTENT = 50.0, 1.0  # weights of the losses, as the released command has them
STD = 0.02  # of initial weights
SLOPE = 0.2  # of the leaky ReLUs

Maps = Float[Tensor, "b c h w"]
Flow = Float[Tensor, "b 2 h w"]


def fastest(size: int) -> float:
    """The magnitude that is encoded as 1, in pixels of pictures of this side: 30 at
    256."""
    return FASTEST * size / SIDE


def encode(flow: Flow) -> Float[Tensor, "b 3 h w"]:
    r"""Flow as a picture of three channels in [-1, 1] (Section 3.1): :math:`\sin
    \theta`, :math:`\cos \theta`, and the magnitude from 0 at -1 to the fastest at 1.

    Where nothing moves there is no direction: sine and cosine are 0.

    Args:
        flow: (dx, dy) in pixels; faster motion than ``fastest`` is cut off.

    Raises:
        ValueError: for no flow, or one that is not finite.
    """
    check_flow(flow)
    length = flow.norm(dim=1, keepdim=True)
    way = torch.where(length > 0, flow / length, 0.0)
    share = (length / fastest(flow.shape[-1])).clamp(max=1)
    return torch.cat([way.flip(1), 2 * share - 1], 1)


def check_flow(flow: Tensor) -> None:
    """Refuse what is no batch of flows.

    Raises:
        ValueError: for another shape, nothing, or values that are not finite.
    """
    fits = flow.ndim == 4 and flow.shape[1] == 2 and flow.numel() > 0
    expect(fits, "flow (b, 2, h, w)", flow.shape)
    check_finite(flow, "flow")


def decode(outputs: Float[Tensor, "b c h w"]) -> Flow:
    """The flow, (dx, dy) in pixels, that a net's outputs stand for.

    Args:
        outputs: three channels are an encoding, whose sine and cosine are brought to
            length 1 first; two are (u, v) as shares of the fastest motion.

    Raises:
        ValueError: for another number of channels.
    """
    known = outputs.ndim == 4 and outputs.shape[1] in (2, 3)
    expect(known, "outputs (b, 2 or 3, h, w)", outputs.shape)
    most = fastest(outputs.shape[-1])
    if outputs.shape[1] == 2:
        return most * outputs
    way = functional.normalize(outputs[:, :2].flip(1), dim=1)
    return way * (most / 2 * (outputs[:, 2:] + 1))


def down(widths: Sequence[int], in_channels: int) -> nn.ModuleList:
    """The way down: 4x4 convolutions of stride 2, each but the first behind a leaky
    ReLU and before batch normalisation.

    Args:
        widths: channels of each level.
        in_channels: of the input.
    """
    levels = nn.ModuleList()
    for before, after in pairwise((in_channels, *widths)):
        conv = nn.Conv2d(before, after, 4, 2, 1)
        if levels:
            norm = nn.BatchNorm2d(after)
            levels.append(nn.Sequential(nn.LeakyReLU(SLOPE), conv, norm))
        else:
            levels.append(nn.Sequential(conv))
    return levels


def up(widths: Sequence[int], out_channels: int, dropout: float) -> nn.ModuleList:
    """The way up: ReLU, 4x4 transposed convolution of stride 2, batch normalisation;
    dropout in the first three levels; nothing behind the last convolution.

    Args:
        widths: channels of each level of the way down, the finest first.
        out_channels: of the result.
        dropout: rate.
    """
    levels = nn.ModuleList()
    for before, after in pairwise((*reversed(widths), out_channels)):
        # Beside what comes from below lies the way down's map, of as many channels.
        inside = before if not levels else 2 * before
        conv = nn.ConvTranspose2d(inside, after, 4, 2, 1)
        level = nn.Sequential(nn.ReLU(), conv)
        if len(levels) < len(widths) - 1:
            level.append(nn.BatchNorm2d(after))
            if len(levels) < 3:
                level.append(nn.Dropout(dropout))
        levels.append(level)
    return levels


class Im2Flow(nn.Module):
    """The U-Net that hallucinates flow, of pix2pix: down to one pixel,
    and up again with the way down's maps beside.

    Args:
        widths: channels of each level of the way down.
        in_channels: of the pictures.
        out_channels: 3 for the encoding, 2 for (u, v).
        fold: side of the blocks of pixels that become channels first; the outputs are
            so many times smaller than the pictures.
        dropout: rate in the first three levels of the way up.
        skips: whether the way up sees the way down's maps; else it sees zeros there.

    Raises:
        ValueError: for fewer than two levels, a number of channels or a fold below 1,
            or a rate outside [0, 1].
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = WIDTHS,
        in_channels: int = 3,
        out_channels: int = 3,
        fold: int = 1,
        dropout: float = 0.5,
        skips: bool = True,
    ) -> None:
        super().__init__()
        at_least(1, channels=in_channels, out_channels=out_channels, fold=fold)
        expect(len(widths) >= 2 and min(widths) >= 1, "two widths or more", widths)
        expect(0 <= dropout <= 1, "a dropout from 0 to 1", dropout)
        self.in_channels, self.skips = in_channels, skips
        self.multiple = fold * 2 ** len(widths)
        self.fold = nn.PixelUnshuffle(fold)
        self.down = down(widths, in_channels * fold**2)
        self.up = up(widths, out_channels, dropout)
        normal_init_(self, STD)

    def forward(self, images: Maps) -> Float[Tensor, "b k _ _"]:
        """The outputs, in [-1, 1], of pictures in [0, 1].

        Raises:
            ValueError: for no images, other channels, another type than the weights
                have, or sides that the halvings do not divide.
        """
        size = {"channels": self.in_channels, "multiple": self.multiple}
        check_inputs(images, self, least=self.multiple, **size)
        x = self.fold(2 * images - 1)
        beside = []
        for level in self.down:
            x = level(x)
            beside.append(x if self.skips else torch.zeros_like(x))
        x = self.up[0](x)
        for level, maps in zip(self.up[1:], beside[-2::-1], strict=True):
            x = level(torch.cat([x, maps], 1))
        return x.tanh()


class Stream(nn.Module):
    """One stream of the classifier: the way down of ``Im2Flow``, the mean over what is
    left, and a linear layer.

    Args:
        widths: channels of each level.
        in_channels: of the input: 3 of pictures and of ``motion``.
        num_classes: actions.
        fold: as for ``Im2Flow``.
        start: a net whose way down the stream starts from; None for random weights.

    Raises:
        ValueError: for a number below 1, or a start of another shape.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = WIDTHS,
        in_channels: int = 3,
        num_classes: int = 101,
        fold: int = 1,
        start: Im2Flow | None = None,
    ) -> None:
        super().__init__()
        at_least(1, channels=in_channels, num_classes=num_classes, fold=fold)
        at_least(1, levels=len(widths), width=min(widths, default=0))
        self.in_channels = in_channels
        self.multiple = fold * 2 ** len(widths)
        self.fold = nn.PixelUnshuffle(fold)
        self.down = down(widths, in_channels * fold**2)
        self.head = nn.Linear(widths[-1], num_classes)
        normal_init_(self, STD)
        if start is not None:
            theirs, ours = start.down.state_dict(), self.down.state_dict()
            same = {name: w.shape for name, w in theirs.items()}
            fits = same == {name: w.shape for name, w in ours.items()}
            expect(fits, "a start with the same way down", tuple(widths))
            self.down.load_state_dict(theirs)

    def maps(self, x: Maps) -> list[Float[Tensor, "b _ _ _"]]:
        """Every level's map, the finest first.

        Raises:
            ValueError: as ``Im2Flow``.
        """
        size = {"channels": self.in_channels, "multiple": self.multiple}
        check_inputs(x, self, least=self.multiple, **size)
        x = self.fold(x)
        maps: list[Tensor] = []
        for level in self.down:
            x = level(x)
            maps.append(x)
        return maps

    def forward(self, x: Maps) -> Float[Tensor, "b k"]:
        """A score for each action.

        Raises:
            ValueError: as ``maps``.
        """
        return self.head(self.maps(x)[-1].relu().mean((2, 3)))


def motion(flow: Flow) -> Float[Tensor, "b 3 h w"]:
    """What a motion stream reads: u, v and the magnitude, as shares of the fastest.

    Args:
        flow: (dx, dy) in pixels.

    Raises:
        ValueError: as ``encode``.
    """
    check_flow(flow)
    shares = flow / fastest(flow.shape[-1])
    return torch.cat([shares, shares.norm(dim=1, keepdim=True)], 1)


def fuse(*scores: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Late fusion: the mean of the streams' probabilities.

    Args:
        scores: of each stream, for the same pictures and actions.

    Raises:
        ValueError: for no streams, or unequal shapes.
    """
    expect(scores, "the scores of at least one stream")
    for other in scores[1:]:
        check_same(scores[0], other, "the streams' scores")
    return torch.stack(scores).softmax(2).mean(0)


def weigh(outputs: Maps, weights: Maps) -> Maps:
    """The outputs, whose gradient is multiplied by weights on its way back.

    Args:
        outputs: of a net.
        weights: of the same shape.

    Raises:
        ValueError: for another shape.
    """
    check_same(outputs, weights, "outputs and weights")
    return weights * outputs + ((1 - weights) * outputs).detach()


def angle_weights(targets: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """What the gradients of sine and cosine are multiplied by: the true magnitude, from
    0 to 1; that of the magnitude by 1.

    Args:
        targets: encoded flow.
    """
    share = (targets[:, 2:] + 1) / 2
    return torch.cat([share, share, torch.ones_like(share)], 1)


def loss(
    outputs: Float[Tensor, "b 3 h w"],
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
    weighted: bool = True,
    judge: Stream | None = None,
) -> dict[str, Tensor]:
    """The objective: 50 times the pixels' squared error, and the content loss.

    The angle's gradient is weighted by the true magnitude, in both terms.

    Args:
        outputs: of the net.
        batch: ``flow`` (b, 2, h, w), in pixels of the outputs.
        generator: nothing is drawn.
        weighted: whether the angle's gradient is weighted.
        judge: a motion net, trained on flow from film, as for ``content_loss``; None
            leaves the content loss out.

    Returns:
        ``loss``; ``pixel``, the mean squared error; with a judge ``content``, too.

    Raises:
        ValueError: for flow of another shape, or that is not finite, and as
            ``content_loss``.
    """
    targets = encode(_flow(outputs, batch))
    expect(outputs.shape == targets.shape, "outputs (b, 3, h, w)", outputs.shape)
    if weighted:
        outputs = weigh(outputs, angle_weights(targets))
    terms = {"pixel": functional.mse_loss(outputs, targets)}
    total = PIXEL * terms["pixel"]
    if judge is not None:
        terms["content"] = content_loss(outputs, targets, judge)
        total = total + CONTENT * terms["content"]
    return {"loss": total} | terms


def _flow(outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The batch's flow, of the outputs' size. Raises ``ValueError`` as ``loss``."""
    check_keys(batch, "flow")
    flow = batch["flow"]
    check_flow(flow)
    places = outputs.shape[0], *outputs.shape[2:]
    fits = (flow.shape[0], *flow.shape[2:]) == places
    expect(fits, f"flow of {places}", flow.shape)
    return flow


def content_loss(
    outputs: Float[Tensor, "b 3 h w"],
    targets: Float[Tensor, "b 3 h w"],
    judge: Stream,
    *,
    level: int = 1,
) -> Float[Tensor, ""]:
    """How differently a motion net sees two encoded flows: the mean absolute difference
    of its maps, as in the released code.

    Args:
        outputs: hallucinated.
        targets: true.
        judge: reads ``motion`` of what is decoded; its weights are frozen.
        level: of its maps: the second, as the paper's ResNet-18 up to its second stage.

    Raises:
        ValueError: for unequal shapes, no such level, or weights that would learn.
    """
    check_same(outputs, targets, "outputs and targets")
    expect(0 <= level < len(judge.down), "a level of the motion net", level)
    learns = any(weight.requires_grad for weight in judge.parameters())
    expect(not learns, "a motion net with frozen weights")
    found = judge.maps(motion(decode(outputs)))[level]
    wanted = judge.maps(motion(decode(targets)))[level]
    return functional.l1_loss(found, wanted)


def vector_loss(
    outputs: Flow,
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
) -> dict[str, Tensor]:
    """The plain rival: the mean squared error of (u, v), as shares of the fastest.

    A wrong direction costs the more the faster the motion, so it needs no weights.

    Args:
        outputs: of a net with two channels.
        batch: ``flow``, as for ``loss``.
        generator: nothing is drawn.

    Raises:
        ValueError: as ``loss``.
    """
    targets = motion(_flow(outputs, batch))
    expect(outputs.shape[1] == 2, "outputs (b, 2, h, w)", outputs.shape)
    missed = functional.mse_loss(outputs, targets[:, :2])
    return {"loss": PIXEL * missed, "pixel": missed}


def picture_loss(
    outputs: Maps,
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
) -> dict[str, Tensor]:
    """Another use of the same frames, without their motion: an autoencoder's mean
    squared error.

    Args:
        outputs: of a net with 3 fold^2 channels: the folded picture.
        batch: ``images``, in [0, 1].
        generator: nothing is drawn.

    Raises:
        ValueError: for images of another shape than the outputs', or far outside [0,
            1].
    """
    check_keys(batch, "images")
    images = batch["images"]
    check_pictures(images, "images")
    fold = max(1, images.shape[-1] // outputs.shape[-1])
    targets = functional.pixel_unshuffle(2 * images - 1, fold)
    check_same(outputs, targets, "outputs and folded images")
    missed = functional.mse_loss(outputs, targets)
    return {"loss": PIXEL * missed, "pixel": missed}


def angle_errors(found: Flow, true: Flow, *, least: float) -> Float[Tensor, " n"]:
    """By how many degrees the directions differ, at every pixel that truly moves.

    Args:
        found: hallucinated.
        true: exact.
        least: pixels that move less are left out.

    Raises:
        ValueError: for unequal shapes, or no pixel that moves.
    """
    check_same(found, true, "found and true flow")
    moving = is_moving(true, least)
    cosine = functional.cosine_similarity(found, true, dim=1)[moving]
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


def is_moving(flow: Flow, least: float) -> Bool[Tensor, "b h w"]:
    """Where the motion is at least so long.

    Raises:
        ValueError: if it is so nowhere.
    """
    check_flow(flow)
    moving = flow.norm(dim=1) >= least
    expect(least > 0 and moving.any(), "motion of a positive least length", least)
    return moving


def endpoint_errors(found: Flow, true: Flow) -> Float[Tensor, "b h w"]:
    """EPE: how far apart the two motions end, in pixels.

    Raises:
        ValueError: for unequal shapes.
    """
    check_same(found, true, "found and true flow")
    return (found - true).norm(dim=1)


def agreement(found: Flow, true: Flow) -> Float[Tensor, " b"]:
    """How well the directions of each picture agree: the cosine of the angle between
    them, a mean weighted by the true magnitude; 0 where nothing truly moves.

    Raises:
        ValueError: for unequal shapes.
    """
    check_same(found, true, "found and true flow")
    cosine = functional.cosine_similarity(found, true, dim=1)
    mass = true.norm(dim=1)
    return (cosine * mass).sum((1, 2)) / mass.sum((1, 2)).clamp(min=1e-8)


def motion_potential(flow: Flow) -> Float[Tensor, " b"]:
    """How much is about to happen in each picture: the mean magnitude, in
    pixels.

    Raises:
        ValueError: as ``encode``.
    """
    check_flow(flow)
    return flow.norm(dim=1).mean((1, 2))


# How the map of the net calls its parts.
BLOCKS = {"fold": "fold", "down.*": "down *", "up.*": "up *"}


def tiny(**overrides: Any) -> Im2Flow:
    """The book's scale: pictures of 32 pixels, flow of 16, three halvings.

    Args:
        overrides: of ``Im2Flow``.
    """
    settings: dict = {"widths": (32, 64, 64), "fold": 2, "dropout": 0.0}
    return Im2Flow(**(settings | overrides))


def paper(**overrides: Any) -> Im2Flow:
    """The paper's scale: pictures and flow of 256 pixels, eight halvings.

    Args:
        overrides: of ``Im2Flow``.
    """
    return Im2Flow(**overrides)


def stream(**overrides: Any) -> Stream:
    """A stream for pictures at the book's scale.

    Args:
        overrides: of ``Stream``; for flow ``fold=1``.
    """
    settings: dict = {"widths": (32, 64, 64), "fold": 2, "num_classes": 5}
    return Stream(**(settings | overrides))
