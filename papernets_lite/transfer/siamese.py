"""Siamese networks and the contrastive loss: Dimensionality Reduction by Learning an
Invariant Mapping (DrLIM).

Raia Hadsell, Sumit Chopra, Yann LeCun. CVPR 2006, not on arXiv; A Metric Learning
Reality Check, arXiv 2003.08505, compares its loss with those that came after. Twin nets
and their name: Bromley and others, Signature Verification using a "Siamese" Time Delay
Neural Network, NIPS 1993. The loss before this one: Chopra, Hadsell, LeCun, CVPR 2005.
Official code: none.

Idea: train one net on pairs, so that the distance of two outputs says whether the
inputs belong together.

Differs:
    1. ``tiny`` uses ReLU, a stride of 2 in its first convolution and more than two
       outputs; it is trained by Adam.
    2. Pairs are drawn anew for every batch, half of them similar; the paper goes
       through a fixed list.
    3. The distance is the root of a square plus a tiny constant, so that equal outputs
       have a gradient (of zero).

Guessed:
    Inputs of 32x32 pixels and subsampling by 3, with which 9x9 kernels on 9x9 maps end
    in single values; C3 sees all maps of S2; subsampling has a weight and a bias per
    map, as LeNet's; tanh follows every layer but the last.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops.checks import expect

# The paper's net for shifted digits (its Section 3): maps and kernel sizes of C1 and
# C3.
CHANNELS, KERNELS = (15, 30), (6, 9)
EPSILON = 1e-12  # squared units of the output space
Tensors = dict[str, Tensor]  # a batch by its parts, or a loss and its terms


class Subsample(nn.Module):
    """LeNet's subsampling: the mean of ``size`` x ``size`` inputs, times a weight, plus
    a bias; one of each a map."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k l"]:
        """The smaller maps; rows and columns that do not fill a last cell are left
        out."""
        return (
            functional.avg_pool2d(x, self.size) * self.weight[:, None, None]
            + self.bias[:, None, None]
        )


class Mapping(nn.Module):
    r"""The function :math:`G_W`: a convolution, subsampling, a convolution, one linear
    layer.

    Args:
        side: of the square images, in pixels.
        channels: maps of the two convolutions.
        kernels: their sizes.
        stride: of the first.
        pool: how many times the subsampling makes its maps smaller.
        dim: outputs.
        squash: the activation after every layer but the last.

    Raises:
        ValueError: when the image is too small for the kernels.
    """

    def __init__(
        self,
        *,
        side: int = 32,
        channels: Sequence[int] = CHANNELS,
        kernels: Sequence[int] = KERNELS,
        stride: int = 1,
        pool: int = 3,
        dim: int = 2,
        squash: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        last = ((side - kernels[0]) // stride + 1) // pool - kernels[1] + 1
        expect(
            last >= 1,
            f"images larger than the kernels, got side {side}, kernels {tuple(kernels)}",
        )
        self.side, self.squash = side, squash()
        self.c1 = nn.Conv2d(1, channels[0], kernels[0], stride)
        self.s2 = Subsample(channels[0], pool)
        self.c3 = nn.Conv2d(channels[0], channels[1], kernels[1])
        self.f4 = nn.Linear(channels[1] * last**2, dim)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The embedding of each image.

        Raises:
            ValueError: for no images, or images of another size.
        """
        side, right = (
            self.side,
            len(images) > 0 and images.shape[2:] == (self.side, self.side),
        )
        expect(right, f"images of {side}x{side} pixels", images.shape)
        x = self.squash(self.c1(images))
        x = self.squash(self.s2(x))
        return self.f4(self.squash(self.c3(x)).flatten(1))


class Siamese(nn.Module):
    """Two nets with the same weights, which is one net: both images of all pairs pass
    through it in one batch.

    Args:
        mapping: the net.
    """

    def __init__(self, mapping: Mapping) -> None:
        super().__init__()
        self.mapping = mapping

    def forward(self, pairs: Float[Tensor, "b 2 c h w"]) -> Float[Tensor, "b 2 d"]:
        """The embeddings of each pair's images."""
        return self.mapping(pairs.flatten(0, 1)).unflatten(0, (-1, 2))

    @torch.no_grad()
    def embed(self, views: Float[Tensor, "n v c h w"]) -> Float[Tensor, "n v d"]:
        """The embeddings of samples in several views, computed where the weights are
        and returned on the CPU."""
        device = self.mapping.f4.weight.device
        return torch.stack(
            [self.mapping(view.to(device)).cpu() for view in views.unbind(1)], 1
        )


def distance(pairs: Float[Tensor, "b 2 d"]) -> Float[Tensor, " b"]:
    r"""The Euclidean distance :math:`D_W` within each pair, with a gradient of zero
    (not NaN) at zero."""
    return ((pairs[:, 0] - pairs[:, 1]).square().sum(1) + EPSILON).sqrt()


def loss(
    outputs: Float[Tensor, "b 2 d"], similar: Bool[Tensor, " b"], *, margin: float = 1.0
) -> Tensors:
    r"""The contrastive loss, Eq. 4 of the paper: a spring for similar pairs, a bumper
    for the others.

    The mean over pairs of :math:`\frac12 D_W^2` where similar and :math:`\frac12\max(0,
    m - D_W)^2` where not. Label conventions differ (the paper's Y is 1 for
    *dissimilar*, much code's is 1 for a match), hence the bool.

    Args:
        outputs: embeddings of each pair.
        similar: which pairs belong together.
        margin: the distance m from which on dissimilar pairs are left alone; 0 leaves
            them alone always.

    Returns:
        ``loss``, its parts ``pull`` and ``push``, and ``active``: the share of
        dissimilar pairs that still push.

    Raises:
        ValueError: for a negative margin.
    """
    expect(margin >= 0, "margin >= 0", margin)
    d = distance(outputs)
    short = (margin - d).clamp(min=0)
    pull = torch.where(similar, d.square() / 2, 0.0).mean()
    push = torch.where(similar, 0.0, short.square() / 2).mean()
    active = ((short > 0) & ~similar).sum() / (~similar).sum().clamp(min=1)
    return {"loss": pull + push, "pull": pull, "push": push, "active": active}


def energy_loss(
    outputs: Float[Tensor, "b 2 d"], similar: Bool[Tensor, " b"], *, bound: float
) -> Tensors:
    r"""The predecessor of 2005: energy :math:`E=\lVert\cdot\rVert_1`, and a push that
    fades but never ends.

    The mean over pairs of :math:`\frac2Q E^2` where similar and
    :math:`2Q\exp(-\frac{2.77}{Q}E)` where not.

    Args:
        outputs: embeddings of each pair.
        similar: which pairs belong together.
        bound: the largest energy Q that the net can put out.

    Returns:
        ``loss``, and its parts ``pull`` and ``push``.
    """
    energy = (outputs[:, 0] - outputs[:, 1]).abs().sum(1)
    pull = torch.where(similar, 2 / bound * energy.square(), 0.0).mean()
    push = torch.where(
        similar, 0.0, 2 * bound * torch.exp(-2.77 / bound * energy)
    ).mean()
    return {"loss": pull + push, "pull": pull, "push": push}


def pair_loss(
    outputs: Float[Tensor, "b 2 d"], batch: Tensors, *, margin: float = 1.0
) -> Tensors:
    """``loss`` of a batch of ``Pairs``.

    Args:
        outputs: embeddings of each pair.
        batch: from ``Pairs``.
        margin: see ``loss``.
    """
    return loss(outputs, batch["similar"], margin=margin)


class Classifier(nn.Module):
    """The rival: the same mapping below a linear layer that names classes; it looks at
    a pair's images one by one."""

    def __init__(self, mapping: Mapping, classes: int) -> None:
        super().__init__()
        self.twins, self.head = (
            Siamese(mapping),
            nn.Linear(mapping.f4.out_features, classes),
        )

    def forward(self, pairs: Float[Tensor, "b 2 c h w"]) -> Float[Tensor, "b 2 k"]:
        """Class scores of each pair's images."""
        return self.head(self.twins(pairs))


def class_loss(
    outputs: Float[Tensor, "b 2 k"], batch: Tensors, *, labels: Int[Tensor, " n"]
) -> Tensors:
    """Cross-entropy of both images of each pair: what the rival is trained by.

    Args:
        outputs: class scores.
        batch: from ``Pairs``.
        labels: of all samples.
    """
    truth = labels.to(outputs.device)[batch["sample"]]
    return {"loss": functional.cross_entropy(outputs.flatten(0, 1), truth.flatten())}


def make_step(
    module: nn.Module,
    objective: Callable[[Tensor, Tensors], Tensors],
    *,
    steps: int,
    rate: float = 5e-3,
) -> Callable[[Tensors], Tensors]:
    """One update by Adam, whose rate rises and falls once over ``steps``; a
    classifier's is made in the same way.

    Args:
        module: what is trained, called on a batch's pairs of images.
        objective: ``(outputs, batch) -> dict`` with ``"loss"``.
        steps: how many updates there will be.
        rate: the highest learning rate.
    """
    optimizer = torch.optim.Adam(module.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)

    def step(batch: Tensors) -> Tensors:
        losses = objective(module(batch["images"]), batch)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        optimizer.step()
        schedule.step()
        return losses

    return step


def shifted(
    images: Float[Tensor, "n c h w"],
    *,
    side: int = 32,
    shifts: Sequence[int] = (6, 3, 0, -3, -6),
) -> Float[Tensor, "n v c s s"]:
    """Each picture on black, moved to the right by each number of ``shifts`` pixels
    (one view each).

    Args:
        images: smaller than ``side``, by an even number of pixels.
        side: of the views.
        shifts: in pixels, those to the left negative.

    Raises:
        ValueError: when the sides differ by an odd number or the images are too large.
    """
    left, top = side - images.shape[3], side - images.shape[2]
    even = min(left, top) >= 0 and left % 2 == top % 2 == 0
    expect(even, f"images smaller than {side} by even numbers", images.shape[2:])
    return torch.stack(
        [
            functional.pad(images, (left // 2 + s, left // 2 - s, top // 2, top // 2))
            for s in shifts
        ],
        1,
    )


def same_class(labels: Int[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Similar is what bears the same label."""
    return labels[:, None] == labels


def neighbourhood(points: Float[Tensor, "n p"], k: int = 5) -> Bool[Tensor, "n n"]:
    """Similar is what is among the ``k`` nearest of the other, and the sample itself:
    no label is needed.

    Raises:
        ValueError: for fewer than ``k + 1`` points.
    """
    expect(0 < k < len(points), f"0 < k < {len(points)}, the number of points", k)
    nearest = (
        torch.cdist(points, points)
        .fill_diagonal_(-1.0)
        .topk(k + 1, largest=False)
        .indices
    )
    found = torch.zeros(
        len(points), len(points), dtype=torch.bool, device=points.device
    )
    found.scatter_(1, nearest, value=True)
    return found | found.T


class Pairs:
    """Endless batches of pairs, similar and dissimilar in turn.

    Args:
        views: each sample in every view that pairs may show it in, such as shifted
            copies.
        similar: which samples belong together, symmetric; each row needs at least one
            of both kinds.
        batch_size: pairs.
        generator: draws them.
        same_view: both images of a similar pair in one view. Else the views differ by
            chance, which declares them to be irrelevant.

    Raises:
        ValueError: for a row without a similar or without a dissimilar sample, or
            another number of rows than samples.
    """

    def __init__(
        self,
        views: Float[Tensor, "n v c h w"],
        similar: Bool[Tensor, "m m"],
        *,
        batch_size: int,
        generator: torch.Generator,
        same_view: bool = False,
    ) -> None:
        counts = similar.sum(1)
        both = (
            0 < len(similar) == len(views)
            and ((counts > 0) & (counts < len(similar))).all()
        )
        found = (
            f"{tuple(similar.shape)} with {counts.unique().tolist()[:5]} similar ones"
        )
        expect(
            both,
            f"similar and dissimilar samples for each of {len(views)}, got {found}",
        )
        self.views, self.same_view, self.batch_size, self.generator = (
            views,
            same_view,
            batch_size,
            generator,
        )
        # For dissimilar and similar partners: all of them row after row, where each row
        # starts, how many it has.
        tables = [
            (fits.nonzero()[:, 1].int(), fits.sum(1)) for fits in (~similar, similar)
        ]
        self.tables = [
            (partners, counts.cumsum(0) - counts, counts) for partners, counts in tables
        ]

    def __iter__(self) -> Iterator[Tensors]:
        return self

    def __next__(self) -> Tensors:
        """``images`` (b, 2, c, h, w), ``similar`` (b,), and which samples and views
        these are, (b, 2) each."""
        size, draw = self.batch_size, self.generator
        wanted = torch.arange(size) % 2 == 0
        first = torch.randint(len(self.views), (size,), generator=draw)
        chance = torch.rand(size, generator=draw, dtype=torch.float64)
        second = torch.empty_like(first)
        for kind, (partners, starts, counts) in enumerate(self.tables):
            mine = wanted == bool(kind)
            row = first[mine]
            second[mine] = partners[
                starts[row] + (chance[mine] * counts[row]).long()
            ].long()
        view = torch.randint(self.views.shape[1], (size, 2), generator=draw)
        if self.same_view:
            view[wanted, 1] = view[wanted, 0]
        sample = torch.stack([first, second], 1)
        return {
            "images": self.views[sample, view],
            "similar": wanted,
            "sample": sample,
            "view": view,
        }


def decode(
    known: Float[Tensor, "e c d"], asked: Float[Tensor, "e q d"]
) -> Int[Tensor, "e q"]:
    """One-shot recognition: which of the known embeddings, one per class, is nearest to
    each one asked about.

    Args:
        known: one example of each class, for each episode.
        asked: what is to be recognised.

    Returns:
        Indices of classes.
    """
    return torch.cdist(asked, known).argmin(2)


def episodes(
    labels: Int[Tensor, " n"], count: int, generator: torch.Generator
) -> Int[Tensor, "e c 2"]:
    """Random tasks of recognition from one example: for each class one known sample and
    another one to recognise.

    Args:
        labels: of the samples; all their classes take part in every episode.
        count: episodes.
        generator: draws them.

    Returns:
        Indices of samples, (known, asked).

    Raises:
        ValueError: for fewer than two samples of a class.
    """
    members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    counts = [len(m) for m in members]
    expect(min(counts, default=0) >= 2, "two samples of each class", counts)
    return torch.stack(
        [
            m[torch.rand(count, len(m), generator=generator).topk(2).indices]
            for m in members
        ],
        1,
    )


def hits(
    points: Float[Tensor, "n v d"],
    tasks: Int[Tensor, "e c 2"],
    views: Int[Tensor, "e c 2"],
) -> Bool[Tensor, "e c"]:
    """Which of the episodes' questions are answered rightly.

    Args:
        points: embeddings of all samples in all views.
        tasks: from ``episodes``.
        views: in which view each sample is shown.
    """
    known, asked = points[tasks, views].unbind(2)
    return decode(known, asked) == torch.arange(tasks.shape[1])


def view_share(points: Float[Tensor, "n v d"]) -> float:
    """The share of the points' variance that lies between views of one sample: 0 where
    the map ignores them."""
    within = points.var(1, correction=0).sum(1).mean()
    return (within / points.flatten(0, 1).var(0, correction=0).sum()).item()


def tiny(**overrides: object) -> Siamese:
    """The book's scale: 16 outputs, and a fifth of the paper's parameters."""
    settings: dict = {
        "channels": (10, 16),
        "kernels": (6, 5),
        "stride": 2,
        "pool": 2,
        "dim": 16,
        "squash": nn.ReLU,
    }
    return Siamese(Mapping(**(settings | overrides)))


def paper(**overrides: object) -> Siamese:
    """The paper's scale: its net for shifted digits, whose two outputs are a map."""
    return Siamese(Mapping(**overrides))  # type: ignore[arg-type]
