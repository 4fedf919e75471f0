"""Taskonomy: Disentangling Task Transfer Learning.

Amir R. Zamir, Alexander Sax, William Shen, Leonidas Guibas, Jitendra Malik, Silvio
Savarese. CVPR 2018, arXiv 1804.08328. Official code: StanfordVL/taskonomy.

Idea: measure how well each task's frozen features serve each other task, and let an
integer programme choose from that graph which tasks deserve labels.

Differs:
    1. Six tasks instead of 26, all with maps as outputs, on drawn rooms.
    2. No adversarial term in any loss, and no tanh after the decoder.
    3. A stage's stride stands in its first unit, as in the ResNet paper; the released
       encoder has it in the last.
    4. An upsampling convolution pads at the right and below, where the released one
       pads at the left and above.
    5. A transfer is two convolutions; the released template has three fully connected
       layers and a residual link.
    6. Transfers of higher order go through every combination of the best few sources,
       for any order.

Guessed:
    Which loss each dense task has: L1, but cross-entropy for segmentation and, as two
    classes, for 3D edges. Ties between two losses count half a win.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.layers.init import he_init_
from papernets_lite.ops import programmes
from papernets_lite.ops.checks import expect

# The released decoder: channels of each layer, and whether it doubles the size.
DECODER = (
    *((channels, False) for channels in (1024, 1024, 512, 256, 256, 128)),
    *(
        (64, True),
        (64, False),
        (32, True),
        (32, False),
        (16, True),
        (32, False),
        (16, True),
    ),
)
CODE = 8  # channels of a code, 16 x 16 positions for an image of 256 x 256
CLIP = 1e-3  # a win rate stays this far from 0 and 1


class Encoder(nn.Module):
    """A ResNet without pooling and classes; a 3x3 convolution squeezes its features
    into a small code.

    Args:
        blocks, widths: units of each stage, and channels inside them.
        strides: of each stage.
        stem: ``"imagenet"`` (7x7 of stride 2, then max-pooling) or ``"small"`` (3x3 of
            stride 2).
        bottleneck: see ``resnet.Unit``; the stride is its 3x3 convolution's.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        stem: str = "imagenet",
        bottleneck: bool = True,
    ) -> None:
        super().__init__()
        self.stem = resnet.first_layers(stem, widths[0])
        self.units, channels = resnet.stages(
            blocks, widths, strides, bottleneck=bottleneck, stride_on_3x3=True
        )
        self.squeeze = resnet.sequence(["conv", "bn", "relu"], [(CODE, 3, 1)], channels)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d k l"]:
        """The images' codes.

        Raises:
            ValueError: for a batch without images.
        """
        expect(len(images) > 0, "at least one image", images.shape)
        return self.squeeze(self.units(self.stem(images)))


class Decoder(nn.Module):
    """From a code to a map of the image's size.

    Args:
        plan: of each layer, its channels and whether it doubles the size.
        out_channels: of the map.
        shuffle: the last convolution predicts squares of so many pixels at once.
        code: channels of the code.
    """

    def __init__(
        self,
        *,
        plan: Sequence[tuple[int, bool]],
        out_channels: int,
        shuffle: int = 1,
        code: int = CODE,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for channels, doubles in plan:
            conv: nn.Module = nn.Conv2d(code, channels, 3, padding=1, bias=False)
            if doubles:
                conv = nn.ConvTranspose2d(
                    code, channels, 3, 2, padding=1, output_padding=1, bias=False
                )
            self.layers.extend([conv, nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)])
            code = channels
        self.head = nn.Sequential(
            nn.Conv2d(code, out_channels * shuffle**2, 3, padding=1),
            nn.PixelShuffle(shuffle),
        )

    def forward(self, codes: Float[Tensor, "b d k l"]) -> Float[Tensor, "b c h w"]:
        """The map."""
        return self.head(self.layers(codes))


class TaskNet(nn.Module):
    """A net for one task: an encoder that is built alike for all tasks, and a decoder
    that fits the task's output."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """The map that the task asks for."""
        return self.decoder(self.encoder(images))


class Transfer(nn.Module):
    r"""The function :math:`D_{s \to t}`: two convolutions on the codes of frozen
    encoders, then the target's decoder.

    Args:
        sources: how many codes it reads, its order; they are concatenated.
        hidden: channels between the two convolutions.
        decoder: for the target, freshly initialised.
    """

    def __init__(self, sources: int, decoder: Decoder, *, hidden: int) -> None:
        super().__init__()
        layers = resnet.sequence(
            ["bn", "conv", "bn", "relu", "conv"],
            [(hidden, 3, 1), (CODE, 3, 1)],
            sources * CODE,
        )
        self.bridge, self.decoder = layers, decoder

    def forward(self, codes: Float[Tensor, "b d k l"]) -> Float[Tensor, "b c h w"]:
        """The target's map."""
        return self.decoder(self.bridge(codes))


@torch.no_grad()
def encode(
    encoder: Encoder, images: Float[Tensor, "n 3 h w"], batch_size: int = 250
) -> Float[Tensor, "n d k l"]:
    """The codes of a frozen encoder, its batch norms included; computed where its
    weights are, returned on the CPU.

    Args:
        encoder: is put into evaluation mode.
        images: of any number.
        batch_size: of one pass.
    """
    device = next(encoder.parameters()).device
    return torch.cat(
        [encoder.eval()(some.to(device)).cpu() for some in images.split(batch_size)]
    )


def errors(outputs: Float[Tensor, "b c h w"], targets: Tensor) -> Float[Tensor, " b"]:
    """The loss of each image: cross-entropy where the targets are labels (b, h, w),
    else L1; means over the pixels.

    Args:
        outputs: of a net.
        targets: integers (b, h, w), or a map like ``outputs``.
    """
    if targets.is_floating_point():
        return (outputs - targets).abs().flatten(1).mean(1)
    return (
        functional.cross_entropy(outputs, targets, reduction="none").flatten(1).mean(1)
    )


def loss(outputs: Float[Tensor, "b c h w"], targets: Tensor) -> dict[str, Tensor]:
    """The mean of ``errors``."""
    return {"loss": errors(outputs, targets).mean()}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    inputs: Float[Tensor, "n d k l"],
    targets: Tensor,
    batch_size: int = 250,
) -> Float[Tensor, " n"]:
    """``errors`` of a trained net on held-out images (or codes), on the CPU.

    Args:
        model: is put into evaluation mode.
        inputs: images, or codes for a transfer.
        targets: the truth.
        batch_size: of one pass.
    """
    device, model = next(model.parameters()).device, model.eval()
    pairs = zip(inputs.split(batch_size), targets.split(batch_size), strict=True)
    return torch.cat(
        [errors(model(x.to(device)), y.to(device)).cpu() for x, y in pairs]
    )


def win_rates(losses: Float[Tensor, "s n"]) -> Float[Tensor, "s s"]:
    """The tournament: entry (i, j) is the share of images on which i's loss is smaller
    than j's; ties are halved.

    Args:
        losses: of each competitor on the same images.
    """
    a, b = losses[:, None], losses[None]
    return ((a < b).double() + (a == b).double() / 2).mean(2)


def beats(losses: Float[Tensor, " n"], others: Float[Tensor, " n"]) -> float:
    """The win rate of one against another: the paper's Gain where that is training from
    scratch."""
    return win_rates(torch.stack([losses, others]))[0, 1].item()


def ahp(wins: Float[Tensor, "s s"], clip: float = CLIP) -> Float[Tensor, " s"]:
    """Saaty's analytic hierarchy process: from pairwise comparisons to one number each,
    summing to one.

    Ratios w_ij / w_ji say how many times better i is than j. If they were consistent,
    that is p_i / p_j, then p would be the only eigenvector with an eigenvalue other
    than zero; else the one with the largest eigenvalue comes closest.

    Args:
        wins: from ``win_rates``.
        clip: keeps rates from 0 and 1, whose ratio would be infinite.
    """
    kept = wins.double().clamp(clip, 1 - clip)
    values, vectors = torch.linalg.eig(kept / kept.T)
    principal = vectors[:, values.real.argmax()].real.abs()
    return principal / principal.sum()


def affinities(losses: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, " s"]:
    """``ahp`` of the tournament between all transfers to one target."""
    return ahp(win_rates(torch.stack(list(losses))))


@dataclass(frozen=True)
class Edge:
    """A transfer: from which tasks, to which; one that has its target as its only
    source is the task's own net."""

    sources: tuple[int, ...]
    target: int


@dataclass(frozen=True)
class Taxonomy:
    """What the programme chose."""

    labelled: Bool[Tensor, " v"]  # tasks that get full supervision
    chosen: tuple[int, ...]  # one edge per target, as indices
    value: float  # of the objective


def programme(
    edges: Sequence[Edge],
    affinity: Float[Tensor, " e"],
    *,
    budget: float,
    costs: Float[Tensor, " v"],
    importance: Float[Tensor, " v"] | None = None,
) -> Taxonomy:
    """The Boolean integer programme: one bit per edge, then one per task, 1 for a task
    that gets labels.

    Maximise the affinities of the edges taken, weighted by their targets' importance.
    An edge needs all its sources; every target has exactly one edge; the labelled
    tasks' costs stay within the budget.

    Args:
        edges: transfers to choose from.
        affinity: of each, from ``ahp``.
        budget: for labels.
        costs: of labelling each task.
        importance: of each task as a target; one where None.

    Raises:
        ValueError: when the budget is too small to serve all targets.
    """
    weights = torch.ones(len(costs)) if importance is None else importance
    count, tasks = len(edges), len(costs)
    targets = sorted({edge.target for edge in edges})
    gain = torch.cat(
        [affinity * weights[[edge.target for edge in edges]], torch.zeros(tasks)]
    )
    needs, serves = (
        torch.zeros(count, count + tasks),
        torch.zeros(len(targets), count + tasks),
    )
    for number, edge in enumerate(edges):
        needs[number, number] = len(edge.sources)
        needs[number, [count + source for source in edge.sources]] = -1
        serves[targets.index(edge.target), number] = 1
    rows = torch.cat(
        [needs, serves, torch.cat([torch.zeros(count), costs])[None].float()]
    )
    low = torch.cat(
        [
            torch.full((count,), -torch.inf),
            torch.ones(len(targets)),
            torch.tensor([-torch.inf]),
        ]
    )
    high = torch.cat(
        [torch.zeros(count), torch.ones(len(targets)), torch.tensor([float(budget)])]
    )
    bits = programmes.binary(gain, rows, low, high)
    value = gain[:count][bits[:count]].sum().item()
    return Taxonomy(bits[count:], tuple(bits[:count].nonzero()[:, 0].tolist()), value)


def best_edges(
    edges: Sequence[Edge], affinity: Float[Tensor, " e"], labelled: Iterable[int]
) -> tuple[int, ...]:
    """For each target the edge of the highest affinity whose sources are all
    ``labelled``, as indices.

    Args:
        edges: transfers to choose from.
        affinity: of each.
        labelled: tasks with labels.
    """
    allowed, best = set(labelled), dict[int, int]()
    # the best comes last and stays
    for number in affinity.argsort(stable=True).tolist():
        if allowed.issuperset(edges[number].sources):
            best[edges[number].target] = number
    return tuple(best[target] for target in sorted(best))


def gain_and_quality(
    chosen: Iterable[Edge], losses: Mapping[Edge, Float[Tensor, " n"]]
) -> tuple[float, float]:
    """How well transfers serve: mean win rates against training from scratch, and
    against the targets' own nets.

    Args:
        chosen: transfers.
        losses: of each on the same images; ``Edge((), t)`` is training from scratch,
            ``Edge((t,), t)`` t's own net.
    """
    rivals = [
        (losses[e], losses[Edge((), e.target)], losses[Edge((e.target,), e.target)])
        for e in chosen
    ]
    gains, qualities = ([beats(rival[0], rival[k]) for rival in rivals] for k in (1, 2))
    return sum(gains) / len(gains), sum(qualities) / len(qualities)


def higher_order(
    singles: Sequence[Edge],
    losses: Mapping[Edge, Float[Tensor, " n"]],
    *,
    order: int,
    beam: int,
) -> list[Edge]:
    """Transfers of a higher order to try: every combination of the best ``beam`` single
    sources.

    Args:
        singles: transfers of first order to one target.
        losses: of each on the same images; ``affinities`` of these say which are the
            best.
        order: how many sources each.
        beam: how many single sources are considered.

    Raises:
        ValueError: for an order above the beam.
    """
    most = min(beam, len(singles))
    expect(1 <= order <= most, f"an order from 1 to {most}", order)
    best = (
        affinities([losses[edge] for edge in singles])
        .argsort(descending=True, stable=True)[:beam]
        .tolist()
    )
    chosen = itertools.combinations([singles[k] for k in best], order)
    return [
        Edge(tuple(edge.sources[0] for edge in some), some[0].target) for some in chosen
    ]


def tiny(out_channels: int = 3) -> TaskNet:
    """The book's scale: images of 32x32 pixels, codes of 8x8 positions."""
    encoder = Encoder(
        blocks=(1, 1), widths=(24, 32), strides=(2, 1), stem="small", bottleneck=False
    )
    return TaskNet(encoder, tiny_decoder(out_channels))


def tiny_decoder(out_channels: int) -> Decoder:
    """The decoder of ``tiny``."""
    return Decoder(plan=((32, False), (24, True)), out_channels=out_channels, shuffle=2)


def tiny_transfer(sources: int, out_channels: int) -> Transfer:
    """A transfer between nets of ``tiny``."""
    return Transfer(sources, tiny_decoder(out_channels), hidden=24)


def paper(out_channels: int = 3) -> TaskNet:
    """The paper's scale: ResNet-50 with codes of 16x16x8 for images of 256x256, and the
    released decoder."""
    encoder = Encoder(
        blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), strides=(1, 2, 2, 1)
    )
    return TaskNet(encoder, Decoder(plan=DECODER, out_channels=out_channels))


def paper_transfer(sources: int, out_channels: int) -> Transfer:
    """A transfer between nets of ``paper``."""
    return Transfer(
        sources, Decoder(plan=DECODER, out_channels=out_channels), hidden=1024
    )
