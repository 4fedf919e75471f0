r"""What have we learned from deep representations for action recognition?

Christoph Feichtenhofer, Axel Pinz, Richard P. Wildes, Andrew Zisserman. CVPR 2018,
arXiv 1801.01415.
Official code: none for the pictures; of the net, feichtenhofer/twostreamfusion
(MatConvNet).

Idea: start from noise and climb a unit of a two-stream net by changing its inputs,
picture and flow together; separate weights for smoothness in space and in time decide
which of the many inputs that a unit likes is seen.

Differs:
    1. One moment: a picture and a stack of flow. The released net reads five moments
       and fuses them by a convolution over space and time, which is one over space
       here.
    2. ``tiny`` has three stages, and its heads read the mean over a map's positions.
    3. The streams are learnt together; the released ones are trained alone first, and
       start from weights of ImageNet.
    4. Penalties are means over an input's places, so that their weights mean the same
       at any size; the receptive field does not divide the height.

Guessed:
    The update, Adam's; its rate and number of steps; how far the input is shifted; the
    exponent and the limit of the energy, 3 and 160 of 255: what the paper prints could
    not be looked up.

>>> net = tiny()
>>> net(torch.rand(2, 3, 24, 24), torch.zeros(2, 8, 2, 24, 24)).action.shape
torch.Size([2, 16])
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import (
    at_least,
    check_images,
    check_keys,
    check_labels,
    expect,
)
from papernets_lite.segmentation.fcn import VGG16, Stages, trunk

GREY = 0.5  # what is taken from every picture
ALPHA = 3.0  # exponent of the energy
LIMITS = 160 / 255, 1.0  # longest colour and longest flow: B
TRAINED = Path(__file__).with_name("two_stream_viz_net.pt")
BLOCKS = {
    "appearance": "picture",
    "motion": "flow",
    "fusion": "fusion",
    "action": "action",
    "motion_action": "by flow",
}


class Seen(NamedTuple):
    """What the net makes of a picture and its flow: scores, and the maps whose channels
    may be climbed."""

    action: Float[Tensor, "b k"]
    motion_action: Float[Tensor, "b k"]
    appearance: Float[Tensor, "b c h w"]
    motion: Float[Tensor, "b c h w"]
    fusion: Float[Tensor, "b c h w"]


class Inputs(NamedTuple):
    """What is climbed: pictures in [0, 1] and their flow, in time."""

    images: Float[Tensor, "b 3 h w"]
    flow: Float[Tensor, "b t 2 h w"]


class Head(nn.Module):
    """Scores from a map: VGG's last pooling, then its dense layers, or else the mean
    over all positions and one layer.

    Args:
        width: channels of the map.
        num_classes: outputs.
        side: of the pooled map that the dense layers read.
        hidden: their width; 0 for the mean.
        dropout: rate after each dense layer.
    """

    def __init__(
        self, width: int, num_classes: int, *, side: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.dense = nn.Sequential()
        self.side = side if hidden else 0
        inputs = width * side**2 if hidden else width
        for _ in range(2 * bool(hidden)):
            parts = nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout)
            self.dense.extend(parts)
            inputs = hidden
        self.score = nn.Linear(inputs, num_classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """A score for each class."""
        x = self.pool(x)
        x = x.flatten(1) if self.side else x.mean((2, 3))
        return self.score(self.dense(x))


class TwoStream(nn.Module):
    """Two VGGs, one for a picture and one for the flow around it. After their last
    convolution a third map is made of both, by one more convolution.

    Args:
        num_classes: actions.
        stages: width and number of convolutions of each stage, see ``fcn.trunk``.
        frames: fields of flow in a stack.
        side: of the square pictures and fields, in pixels.
        hidden: width of the heads' dense layers; 0 for none.
        dropout: rate after each of them.

    Raises:
        ValueError: for sizes below 1, another rate, or a side that the stages do not
            halve evenly.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        stages: Stages,
        hidden: int = 0,
        frames: int,
        side: int,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least(1, num_classes=num_classes, frames=frames, side=side)
        expect(hidden >= 0 and 0 <= dropout <= 1, "hidden, dropout", hidden, dropout)
        last, rest = divmod(side, 2 ** len(stages))
        expect(rest == 0, f"a side divisible by {2 ** len(stages)}", side)
        self.frames, self.side = frames, side
        self.appearance = stream(stages, 3)
        self.motion = stream(stages, 2 * frames)
        width = stages[-1][0]
        join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.fusion = nn.Sequential(join, nn.ReLU())
        settings: dict = {"side": last, "hidden": hidden, "dropout": dropout}
        self.action = Head(width, num_classes, **settings)
        self.motion_action = Head(width, num_classes, **settings)
        he_init_(self)

    def forward(
        self, images: Float[Tensor, "b 3 h w"], flow: Float[Tensor, "b t 2 h w"]
    ) -> Seen:
        """Scores and maps of pictures in [0, 1] and the flow around them.

        Raises:
            ValueError: for another size, another number of fields, or no pictures.
        """
        first = cast("nn.Sequential", self.appearance[0])[0]
        check_images(images, cast("nn.Conv2d", first))
        size = self.side, self.side
        expect(images.shape[2:] == size, f"pictures of {size}", images.shape)
        shape = len(images), self.frames, 2, *size
        expect(flow.shape == shape, f"flow {shape}", flow.shape)
        appearance = self.appearance(images - GREY)
        motion = self.motion(flow.flatten(1, 2))
        fusion = self.fusion(torch.cat([appearance, motion], 1))
        scores = self.action(fusion), self.motion_action(motion)
        return Seen(*scores, appearance, motion, fusion)


def stream(stages: Stages, in_channels: int) -> nn.Sequential:
    """VGG up to the ReLU of its last convolution.

    Args:
        stages: see ``fcn.trunk``.
        in_channels: 3 of a picture, or two for each field of flow.
    """
    *before, last = trunk(stages, in_channels=in_channels)
    return nn.Sequential(*before, cast("nn.Sequential", last)[:-1])


def loss(
    outputs: Seen,
    batch: Mapping[str, Tensor],
    *,
    generator: Generator | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy of both heads, as in the released code.

    Args:
        outputs: of the net.
        batch: ``actions`` (b,), class numbers.
        generator: nothing is drawn.

    Returns:
        ``loss``, the sum of ``fused`` and ``flow alone``; ``accuracy`` of the fusion.

    Raises:
        ValueError: for a batch without ``actions``, or labels out of range.
    """
    check_keys(batch, "actions")
    count, classes = outputs.action.shape
    labels = check_labels(batch["actions"], classes, shape=(count,))
    fused = functional.cross_entropy(outputs.action, labels)
    alone = functional.cross_entropy(outputs.motion_action, labels)
    right = (outputs.action.detach().argmax(1) == labels).to(fused.dtype)
    terms = {"fused": fused, "flow alone": alone, "accuracy": right.mean()}
    return {"loss": fused + alone, **terms}


def check_layer(layer: str) -> None:
    """Raise ``ValueError`` unless ``Seen`` has such a field."""
    expect(layer in Seen._fields, f"a layer of {Seen._fields}", layer)


def responses(outputs: Seen, layer: str) -> Float[Tensor, "b k"]:
    """How high each unit of a layer is: a score, or a channel's mean over its map.

    Raises:
        ValueError: for another layer.
    """
    check_layer(layer)
    values = getattr(outputs, layer)
    return values.flatten(2).mean(2) if values.ndim == 4 else values


def heights(outputs: Seen, layer: str, units: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """How strongly each input drives its unit, see ``responses``.

    Args:
        outputs: of the net.
        layer: a field of ``Seen``.
        units: of each input, the number of a class or a channel.

    Raises:
        ValueError: for another layer, or units that it lacks.
    """
    values = responses(outputs, layer)
    units = check_labels(units, values.shape[1], shape=(len(values),))
    return values.gather(1, units[:, None].to(values.device))[:, 0]


def variation(
    x: Float[Tensor, "b t d h w"], kappa: float | Tensor, chi: float | Tensor
) -> Float[Tensor, " b"]:
    r"""Total variation with weights of its own for space and time,

    .. math:: R_{TV} = \sum_{ijkd} \kappa \left((\nabla_x x)^2 + (\nabla_y x)^2\right)
        + \chi (\nabla_t x)^2,

    divided by the number of places (i, j, k). A gradient is the difference of
    neighbours; none reaches over the rim.

    Args:
        x: time before channels: the two components of flow are never each other's
            neighbours.
        kappa: weight of space, one or one for each input.
        chi: weight of time, likewise.

    Raises:
        ValueError: for another shape.
    """
    expect(x.ndim == 5 and x.numel(), "inputs (b, t, d, h, w)", x.shape)
    across, down, later = (
        x.diff(dim=axis).square().flatten(1).sum(1) for axis in (4, 3, 1)
    )
    return (kappa * (across + down) + chi * later) / x[0, :, 0].numel()


def energy(
    x: Float[Tensor, "b t d h w"], limit: float, *, alpha: float = ALPHA
) -> Float[Tensor, " b"]:
    r""":math:`R_B = \sum_{ijk} (\sum_d x^2)^{\alpha / 2}`, with the limit for a unit
    and divided by the number of places.

    Args:
        x: inputs.
        limit: B, the longest that a place's vector may be.
        alpha: exponent; a large one spares what is small.

    Raises:
        ValueError: for a limit or an exponent that is not positive.
    """
    expect(limit > 0 and alpha > 0, "a limit and an exponent > 0", limit, alpha)
    # the root's slope at 0 is infinite
    tiny_one = torch.finfo(x.dtype).tiny
    length = (x.square().sum(2) / limit**2 + tiny_one) ** (alpha / 2)
    return length.flatten(1).mean(1)


def project(x: Float[Tensor, "b t d h w"], limit: float) -> Float[Tensor, "b t d h w"]:
    """Vectors over the channels that are longer than the limit, shortened to it.

    Args:
        x: inputs.
        limit: B.

    Raises:
        ValueError: for a limit that is not positive.
    """
    expect(limit > 0, "a limit > 0", limit)
    return x * (limit / x.norm(dim=2, keepdim=True).clamp(min=limit))


def noise(
    count: int, net: TwoStream, generator: Generator, *, strength: float = 0.1
) -> Inputs:
    """Where a climb starts: grey pictures and no motion, each with normal noise.

    Args:
        count: how many.
        net: that will be climbed.
        generator: draws it, on the CPU.
        strength: its standard deviation.

    Raises:
        ValueError: for fewer than one.
    """
    at_least(1, count=count)
    size = net.side, net.side
    images = GREY + strength * torch.randn(count, 3, *size, generator=generator)
    flow = strength * torch.randn(count, net.frames, 2, *size, generator=generator)
    weight = next(net.parameters())
    return Inputs(images.to(weight), flow.to(weight))


def climb(
    net: TwoStream,
    layer: str,
    units: Int[Tensor, " b"],
    start: Inputs,
    *,
    best: float | Tensor = 1.0,
    kappa: float | Tensor = 0.0,
    chi: float | Tensor = 0.0,
    bound: float | Tensor = 0.0,
    steps: int = 60,
    rate: float = 0.05,
    jitter: int = 2,
    generator: Generator,
) -> tuple[Inputs, Float[Tensor, "steps b"]]:
    r"""Activation maximisation: change pictures and flow until they drive their units
    as much as the penalties allow,

    .. math:: x^* = \arg\max_x a(x) / \hat a - \lambda_B R_B(x) - R_{TV}(x),

    with :math:`R_{TV}` of the flow for both weights, and of the picture for ``kappa``
    alone, as it has no time. The net's weights and mode are left as they are; it
    should be in evaluation mode.

    Args:
        net: whose unit is climbed.
        layer, units: see ``heights``.
        start: where the climb begins; it is kept.
        best: the unit's greatest height on data, one or one for each input.
        kappa, chi: see ``variation``.
        bound: weight of the energy.
        steps: of Adam.
        rate: its learning rate.
        jitter: before each step all inputs are shifted by up to so many pixels, and
            what leaves on one side enters on the other.
        generator: draws the shifts.

    Returns:
        The inputs, and how high the units were before each step.

    Raises:
        ValueError: for no steps, a negative rate or shift, or what ``heights`` refuses.
    """
    at_least(1, steps=steps)
    expect(rate > 0 and jitter >= 0, "a rate > 0, jitter >= 0", rate, jitter)
    parts = [(start.images - GREY)[:, None], start.flow]
    # a place in memory of its own each: the start is kept
    parts = [part.detach().clone().requires_grad_() for part in parts]
    picture, flow = parts
    optimizer = torch.optim.Adam(parts, lr=rate)
    path = []
    for _ in range(steps):
        draws = torch.randint(-jitter, jitter + 1, (2,), generator=generator)
        shifted = [part.roll(draws.tolist(), (3, 4)) for part in parts]
        outputs = net(shifted[0][:, 0] + GREY, shifted[1])
        height = heights(outputs, layer, units)
        penalty = variation(picture, kappa, 0) + variation(flow, kappa, chi)
        for part, limit in zip(parts, LIMITS, strict=True):
            penalty = penalty + bound * energy(part, limit)
        objective = (height / best - penalty).sum()
        slopes = torch.autograd.grad(-objective, parts, allow_unused=True)
        with torch.no_grad():
            for part, slope in zip(parts, slopes, strict=True):
                part.grad = slope
            optimizer.step()
            for part, limit in zip(parts, LIMITS, strict=True):
                part.copy_(project(part, limit))
        path.append(height.detach())
    found = Inputs(picture.detach()[:, 0] + GREY, flow.detach())
    return found, torch.stack(path)


def tempo(flow: Float[Tensor, "b t d h w"]) -> Float[Tensor, " b"]:
    """The temporal frequency centroid: the mean frequency in time, in cycles a frame,
    each weighted by its share of the energy, over all places and both components.

    Args:
        flow: at least two fields.

    Raises:
        ValueError: for fewer fields, or another shape.
    """
    expect(flow.ndim == 5 and flow.shape[1] >= 2, "flow (b, t, d, h, w)", flow.shape)
    power = torch.fft.fft(flow, dim=1).abs().square().sum((2, 3, 4))
    frequency = torch.fft.fftfreq(flow.shape[1]).abs().to(power)
    return (power * frequency).sum(1) / power.sum(1).clamp(min=1e-12)


def roughness(x: Float[Tensor, "b t d h w"]) -> Float[Tensor, " b"]:
    """The share of the energy at high frequencies in space: above half of the highest
    that the grid can hold, along either axis.

    Args:
        x: inputs.

    Raises:
        ValueError: for another shape.
    """
    expect(x.ndim == 5 and x.numel(), "inputs (b, t, d, h, w)", x.shape)
    power = torch.fft.fft2(x).abs().square().sum((1, 2))
    down, across = (torch.fft.fftfreq(side).abs() for side in x.shape[3:])
    high = torch.maximum(down[:, None], across[None, :]) > 0.25
    return (power * high.to(power)).sum((1, 2)) / power.sum((1, 2)).clamp(min=1e-12)


def pairings(
    net: TwoStream,
    layer: str,
    images: Float[Tensor, "m r 3 h w"],
    flow: Float[Tensor, "n s t 2 h w"],
) -> Float[Tensor, "m n k"]:
    """Every kind of picture shown with every kind of flow.

    Args:
        net: that sees them.
        layer: a field of ``Seen``.
        images: r pictures of each of m kinds.
        flow: s stacks of each of n kinds.

    Returns:
        For each pair of kinds how high each unit of the layer is, averaged over all
        pairs of a picture and a stack.

    Raises:
        ValueError: for another layer, or what the net refuses.
    """
    check_layer(layer)
    pictures, stacks = images.flatten(0, 1), flow.flatten(0, 1)
    rows = []
    for picture in pictures:
        outputs = net(picture.expand(len(stacks), -1, -1, -1), stacks)
        rows.append(responses(outputs, layer))
    table = torch.stack(rows).unflatten(1, flow.shape[:2])
    return table.unflatten(0, images.shape[:2]).mean((1, 3))


def beyond(table: Float[Tensor, "m n *k"]) -> Float[Tensor, "m n *k"]:
    """What a pair brings beyond the sum of its parts: each height without the mean of
    its row and of its column, plus the mean of all. It is zero everywhere for a unit
    that adds what the two streams tell it.

    Args:
        table: from ``pairings``.

    Raises:
        ValueError: for no rows or columns.
    """
    expect(table.ndim >= 2 and table.numel(), "a table (m, n, ...)", table.shape)
    row, column = table.mean(1, keepdim=True), table.mean(0, keepdim=True)
    return table - row - column + table.mean((0, 1), keepdim=True)


def togetherness(table: Float[Tensor, "m n k"]) -> Float[Tensor, " k"]:
    """Of each unit's variance over a table the share that no sum of a number for the
    picture and one for the flow can give; 0 for a unit that never changes.

    Args:
        table: from ``pairings``.

    Raises:
        ValueError: for another shape.
    """
    expect(table.ndim == 3, "a table (m, n, k)", table.shape)
    apart = beyond(table).square().sum((0, 1))
    whole = (table - table.mean((0, 1))).square().sum((0, 1))
    return apart / whole.clamp(min=1e-12)


def trained() -> TwoStream:
    """A net that was trained beforehand on the clips of ``data.actions``, as the
    chapter trains its own, with seed 0 and four times as many steps
    (``book/_tools/climbed.py``)."""
    net = tiny()
    net.load_state_dict(torch.load(TRAINED, weights_only=True))
    return net.eval()


def tiny(**overrides: object) -> TwoStream:
    """The book's scale: three stages, 8 fields of flow, pictures of 24 pixels."""
    settings: dict = {
        "num_classes": 16,
        "stages": ((16, 1), (32, 1), (32, 1)),
        "frames": 8,
        "side": 24,
    }
    return TwoStream(**(settings | overrides))


def paper(**overrides: object) -> TwoStream:
    """The paper's scale: two VGG-16s, 10 fields of flow, the 101 classes of UCF101."""
    settings: dict = {
        "num_classes": 101,
        "stages": VGG16,
        "frames": 10,
        "side": 224,
        "hidden": 4096,
    }
    return TwoStream(**(settings | overrides))
