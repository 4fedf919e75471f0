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
    5. A transfer is two convolutions, as the paper says; the released template has
       three fully connected layers and a residual link.
    6. Transfers of higher order go through every combination of the best few sources,
       for any order.

Guessed:
    Which loss each dense task has: L1, but cross-entropy for segmentation and, as two
    classes, for 3D edges. Ties between two losses count half a win.

Contract:
    A batch's ``target`` is the map of one task, whichever that is. There is no
    ``decode``: the outputs are the maps; what is read off in the end is the
    ``programme``.

Example:
    >>> from papernets_lite.transfer import taskonomy
    >>> taskonomy.tiny(out_channels=2)(torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 2, 32, 32])
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops import programmes
from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import check_images, check_keys, check_labels, expect

# The released decoder: channels of each layer, and whether it doubles the size.
DECODER = (
    (1024, False),
    (1024, False),
    (512, False),
    (256, False),
    (256, False),
    (128, False),
    (64, True),
    (64, False),
    (32, True),
    (32, False),
    (16, True),
    (32, False),
    (16, True),
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
        self.units, channels = resnet.units_in_a_row(
            blocks, widths, strides, bottleneck=bottleneck, stride_on_3x3=True
        )
        self.squeeze = resnet.sequence(["conv", "bn", "relu"], [(CODE, 3, 1)], channels)
        he_init_(self)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d k l"]:
        """The images' codes.

        Args:
            images: in [0, 1], of the weights' type.

        Raises:
            ValueError: for a batch without images, or images of another shape or type.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        return self.squeeze(self.units(self.stem(images)))


class Decoder(nn.Module):
    """From a code to a map of the image's size.

    Args:
        plan: of each layer, its channels and whether it doubles the size; at least one.
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
        expect(len(plan) and out_channels >= 1, "layers and channels", out_channels)
        self.layers = nn.Sequential()
        for channels, doubles in plan:
            conv: nn.Conv2d | nn.ConvTranspose2d
            conv = nn.Conv2d(code, channels, 3, padding=1, bias=False)
            if doubles:
                conv = nn.ConvTranspose2d(
                    code, channels, 3, 2, padding=1, output_padding=1, bias=False
                )
            layers = conv_norm_act(conv, activation=partial(nn.LeakyReLU, 0.2))
            self.layers.extend(layers)
            code = channels
        self.head = nn.Sequential(
            nn.Conv2d(code, out_channels * shuffle**2, 3, padding=1),
            nn.PixelShuffle(shuffle),
        )

    def forward(self, codes: Float[Tensor, "b d k l"]) -> Float[Tensor, "b c h w"]:
        """The map.

        Raises:
            ValueError: for no codes, or codes of another number of channels or type.
        """
        check_images(codes, cast("nn.Conv2d", self.layers[0]))
        return self.head(self.layers(codes))


class TaskNet(nn.Module):
    """A net for one task: an encoder that is built alike for all tasks, and a decoder
    that fits the task's output."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """The map that the task asks for.

        Args:
            images: in [0, 1], of the weights' type.

        Raises:
            ValueError: for sides that are no multiples of the encoder's stride, or what
                the encoder refuses.
        """
        maps = self.decoder(self.encoder(images))
        whole = maps.shape[2:] == images.shape[2:]
        expect(whole, f"sides such as {tuple(maps.shape[2:])}", images.shape[2:])
        return maps


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
        expect(sources >= 1, "sources >= 1", sources)
        self.bridge = resnet.sequence(
            ["bn", "conv", "bn", "relu", "conv"],
            [(hidden, 3, 1), (CODE, 3, 1)],
            sources * CODE,
        )
        self.decoder = decoder

    def forward(self, codes: Float[Tensor, "b d k l"]) -> Float[Tensor, "b c h w"]:
        """The target's map.

        Args:
            codes: of the encoders in their order, side by side.

        Raises:
            ValueError: for no codes, or those of another number of sources.
        """
        check_images(codes, cast("nn.Conv2d", self.bridge[1]))
        return self.decoder(self.bridge(codes))


def errors(outputs: Float[Tensor, "b c h w"], target: Tensor) -> Float[Tensor, " b"]:
    """The loss of each image: cross-entropy where the targets are labels (b, h, w),
    else L1; means over the pixels.

    Args:
        outputs: of a net; half precision is computed in float32.
        target: integers (b, h, w) below c, or a map like ``outputs``.

    Raises:
        ValueError: for no pixels, a target of another shape, or labels that are no
            classes.
    """
    outputs = floating(outputs)
    expect(outputs.ndim == 4 and outputs.numel(), "maps (b, c, h, w)", outputs.shape)
    if target.is_floating_point():
        like = target.shape == outputs.shape
        expect(like, f"target {tuple(outputs.shape)}", target.shape)
        pixels = (outputs - target.to(outputs)).abs()
    else:
        places = (len(outputs), *outputs.shape[2:])
        labels = check_labels(target, outputs.shape[1], shape=places)
        pixels = functional.cross_entropy(outputs, labels, reduction="none")
    return pixels.flatten(1).mean(1)


def loss(
    outputs: Float[Tensor, "b c h w"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The mean of ``errors``.

    Args:
        outputs: of a net.
        batch: ``target``: integers (b, h, w), or a map like ``outputs``.
        generator: not used.
    """
    check_keys(batch, "target")
    return {"loss": errors(outputs, batch["target"]).mean()}


def win_rates(losses: Real[Tensor, "s n"]) -> Float[Tensor, "s s"]:
    """The tournament: entry (i, j) is the share of images on which i's loss is smaller
    than j's; ties are halved.

    Args:
        losses: of each competitor on the same images.

    Raises:
        ValueError: for no losses, or some that are not finite.
    """
    expect(losses.ndim == 2 and losses.numel(), "losses (s, n)", losses.shape)
    bad = (~losses.isfinite()).sum(1).tolist()
    expect(not any(bad), "finite losses", bad, "that are not")
    a, b = losses[:, None], losses[None]
    return ((a < b).double() + (a == b).double() / 2).mean(2)


def beats(losses: Real[Tensor, " n"], others: Real[Tensor, " n"]) -> float:
    """The win rate of one against another: the paper's Gain where that is training from
    scratch.

    Args:
        losses: of the one, on each image.
        others: of the other, on the same images.

    Raises:
        ValueError: for unequal numbers, or what ``win_rates`` refuses.
    """
    same = losses.shape == others.shape
    expect(same, "losses on the same images", losses.shape, others.shape)
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

    Raises:
        ValueError: for no square table of rates in [0, 1], or a clip outside (0, 0.5).
    """
    square = wins.ndim == 2 and len(wins) == wins.shape[1] > 0
    expect(square, "rates (s, s)", wins.shape)
    expect(((wins >= 0) & (wins <= 1)).all(), "rates in [0, 1]", wins.tolist())
    expect(0 < clip < 0.5, "a clip between 0 and 0.5", clip)
    kept = wins.double().clamp(clip, 1 - clip)
    values, vectors = torch.linalg.eig(kept / kept.T)
    principal = vectors[:, values.real.argmax()].real.abs()
    return principal / principal.sum()


def affinities(losses: Sequence[Real[Tensor, " n"]]) -> Float[Tensor, " s"]:
    """``ahp`` of the tournament between all transfers to one target.

    Args:
        losses: of each transfer on the same images.

    Raises:
        ValueError: for no transfers, unequal numbers of images, or what ``win_rates``
            refuses.
    """
    sizes = {tuple(one.shape) for one in losses}
    expect(len(sizes) == 1, "losses on the same images", *sorted(sizes))
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
    affinity: Real[Tensor, " e"],
    *,
    budget: float,
    costs: Real[Tensor, " v"],
    importance: Real[Tensor, " v"] | None = None,
) -> Taxonomy:
    """The Boolean integer programme: of all choices that the ``constraints`` allow,
    the one with the largest sum of affinities, weighted by their targets' importance.

    Args:
        edges: transfers to choose from.
        affinity: of each, from ``ahp``.
        budget: for labels.
        costs: of labelling each task.
        importance: of each task as a target; one where None.

    Raises:
        ValueError: for no edges, unequal numbers, tasks that are not there, numbers
            that are not finite, or a budget too small to serve all targets.
    """
    _check_edges(edges, affinity, len(costs))
    expect(not math.isnan(budget), "a budget", budget)
    weights = torch.ones(len(costs)) if importance is None else importance
    expect(weights.shape == costs.shape, "an importance a task", weights.shape)
    values = floating(affinity) * weights[[edge.target for edge in edges]]
    gain = torch.cat([values, torch.zeros(len(costs))])
    bits = programmes.binary(gain, *constraints(edges, costs, budget))
    taken, labelled = bits.split([len(edges), len(costs)])
    chosen = tuple(taken.nonzero()[:, 0].tolist())
    return Taxonomy(labelled, chosen, values[taken].sum().item())


def constraints(
    edges: Sequence[Edge], costs: Real[Tensor, " v"], budget: float
) -> tuple[Float[Tensor, "r x"], Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Rows over the bits, one for each edge and then one for each task that may get
    labels, with the least and the most that each row may come to.

    An edge needs all its sources; each target is served once; labels keep the budget.

    Args:
        edges: transfers to choose from.
        costs: of labelling each task.
        budget: for labels.
    """
    count, targets = len(edges), sorted({edge.target for edge in edges})
    rows = torch.zeros(count + len(targets) + 1, count + len(costs))
    low, high = torch.full((2, len(rows)), -torch.inf)
    for number, edge in enumerate(edges):
        rows[number, number] = len(edge.sources)
        rows[number, [count + source for source in edge.sources]] = -1
        rows[count + targets.index(edge.target), number] = 1
    rows[-1, count:] = costs
    low[count:-1] = high[count:-1] = 1
    high[:count], high[-1] = 0, float(budget)
    return rows, low, high


def _check_edges(
    edges: Sequence[Edge], affinity: Real[Tensor, " e"], tasks: int | None = None
) -> None:
    """Refuse edges without an affinity, or between tasks that are not there."""
    same = len(edges) == len(affinity) > 0
    expect(same, "edges, and an affinity of each", len(edges), len(affinity))
    expect(affinity.isfinite().all(), "finite affinities")
    if tasks is not None:
        known = range(tasks)
        for edge in edges:
            there = edge.target in known and all(s in known for s in edge.sources)
            expect(there, f"tasks from 0 to {tasks - 1}", edge)


def best_edges(
    edges: Sequence[Edge], affinity: Real[Tensor, " e"], labelled: Iterable[int]
) -> tuple[int, ...]:
    """For each target the edge of the highest affinity whose sources are all
    ``labelled``, as indices.

    Args:
        edges: transfers to choose from.
        affinity: of each.
        labelled: tasks with labels.

    Raises:
        ValueError: for no edges, or not one finite affinity for each.
    """
    _check_edges(edges, affinity)
    allowed = set(labelled)
    best: dict[int, int] = {}
    # the best comes last and stays
    for number in affinity.argsort(stable=True).tolist():
        if allowed.issuperset(edges[number].sources):
            best[edges[number].target] = number
    return tuple(best[target] for target in sorted(best))


def gain_and_quality(
    chosen: Iterable[Edge], losses: Mapping[Edge, Real[Tensor, " n"]]
) -> tuple[float, float]:
    """How well transfers serve: mean win rates against training from scratch, and
    against the targets' own nets.

    Args:
        chosen: transfers.
        losses: of each on the same images; ``Edge((), t)`` is training from scratch,
            ``Edge((t,), t)`` t's own net.

    Raises:
        ValueError: for no transfers, or missing losses of one or of its rivals.
    """
    gains, qualities = [], []
    for edge in chosen:
        scratch, own = Edge((), edge.target), Edge((edge.target,), edge.target)
        for one in (edge, scratch, own):
            expect(one in losses, f"losses of {one}")
        gains.append(beats(losses[edge], losses[scratch]))
        qualities.append(beats(losses[edge], losses[own]))
    expect(gains, "at least one transfer")
    return sum(gains) / len(gains), sum(qualities) / len(qualities)


def standing(
    scores: Mapping[tuple[int, ...], float], choice: tuple[int, ...]
) -> tuple[int, int]:
    """The rank of a choice of tasks among all choices of as many, 1 the best, and how
    many there are.

    Args:
        scores: of each choice; higher is better.
        choice: one of them.

    Raises:
        ValueError: for a choice without a score.
    """
    expect(choice in scores, f"one of {list(scores)}", choice)
    rivals = [score for some, score in scores.items() if len(some) == len(choice)]
    better = sum(score > scores[choice] for score in rivals)
    return better + 1, len(rivals)


def higher_order(
    singles: Sequence[Edge],
    losses: Mapping[Edge, Real[Tensor, " n"]],
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
        ValueError: for an order above the beam, transfers that are no single ones to
            one target, or whose losses are missing.
    """
    most = min(beam, len(singles))
    expect(1 <= order <= most, f"an order from 1 to {most}", order)
    target = singles[0].target
    for edge in singles:
        single = len(edge.sources) == 1 and edge.target == target
        expect(single, f"transfers from one task to {target}", edge)
        expect(edge in losses, f"losses of {edge}")
    affinity = affinities([losses[edge] for edge in singles])
    best = affinity.argsort(descending=True, stable=True)[:beam].tolist()
    sources = [singles[number].sources[0] for number in best]
    return [Edge(some, target) for some in itertools.combinations(sources, order)]


def tiny(*, out_channels: int = 3) -> TaskNet:
    """The book's scale: images of 32x32 pixels, codes of 8x8 positions.

    Args:
        out_channels: of the task's map.
    """
    encoder = Encoder(
        blocks=(1, 1), widths=(24, 32), strides=(2, 1), stem="small", bottleneck=False
    )
    return TaskNet(encoder, tiny_decoder(out_channels=out_channels))


def tiny_decoder(*, out_channels: int) -> Decoder:
    """The decoder of ``tiny``.

    Args:
        out_channels: of the task's map.
    """
    return Decoder(plan=((32, False), (24, True)), out_channels=out_channels, shuffle=2)


def tiny_transfer(*, sources: int, out_channels: int) -> Transfer:
    """A transfer between nets of ``tiny``.

    Args:
        sources: how many.
        out_channels: of the target's map.
    """
    return Transfer(sources, tiny_decoder(out_channels=out_channels), hidden=24)


def paper(*, out_channels: int = 3) -> TaskNet:
    """The paper's scale: ResNet-50 with codes of 16x16x8 for images of 256x256, and the
    released decoder.

    Args:
        out_channels: of the task's map.
    """
    encoder = Encoder(
        blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), strides=(1, 2, 2, 1)
    )
    return TaskNet(encoder, Decoder(plan=DECODER, out_channels=out_channels))


def paper_transfer(*, sources: int, out_channels: int) -> Transfer:
    """A transfer between nets of ``paper``.

    Args:
        sources: how many.
        out_channels: of the target's map.
    """
    decoder = Decoder(plan=DECODER, out_channels=out_channels)
    return Transfer(sources, decoder, hidden=1024)
