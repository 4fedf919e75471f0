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

Contract:
    A batch holds pairs, ``images`` (b, 2, c, h, w) and ``similar`` (b,); ``Pairs``
    makes them from samples.

Example:
    >>> from papernets_lite.transfer import siamese
    >>> outputs = siamese.tiny()(torch.rand(4, 2, 1, 32, 32))
    >>> siamese.loss(outputs, {"similar": torch.tensor([1, 0, 1, 0])})["loss"].shape
    torch.Size([])
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int, Integer, Real, Shaped
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops.boxes import floating
from papernets_lite.ops.checks import (
    check_finite,
    check_images,
    check_keys,
    check_labels,
    check_mask,
    expect,
)
from papernets_lite.ops.labels import cross_entropy

# The paper's net for shifted digits (its Section 3): maps and kernel sizes of C1 and
# C3.
CHANNELS, KERNELS = (15, 30), (6, 9)
EPSILON = 1e-12  # squared units of the output space
FADE = 2.77  # of the push of 2005
Tensors = dict[str, Tensor]  # a batch by its parts, or a loss and its terms


class Subsample(nn.Module):
    """LeNet's subsampling: the mean of ``size`` x ``size`` inputs, times a weight, plus
    a bias; one of each a map."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k l"]:
        """The smaller maps; rows and columns that do not fill a last cell are left
        out."""
        least = self.size
        expect(min(x.shape[2:]) >= least, f"maps of {least} cells or more", x.shape)
        means = functional.avg_pool2d(x, least)
        return means * self.weight[:, None, None] + self.bias[:, None, None]


class Whitening(nn.Module):
    """The push's rival: outputs of mean 0 and variance 1 that are not correlated, over
    the batch in training and by running averages later.

    Nothing can fall to a point, or to a line, that has to keep its spread in every
    direction: so Laplacian eigenmaps are kept from collapse.

    Args:
        dim: outputs.
        momentum: how far the averages move with each batch.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, dim: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("covariance", torch.eye(dim))

    def forward(self, points: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """The points, whitened; half precision is computed in float32.

        Raises:
            ValueError: in training, for no more points than outputs.
        """
        points = floating(points)
        mean, covariance = self.mean.to(points), self.covariance.to(points)
        if self.training:
            least = len(mean) + 1
            expect(len(points) >= least, f"{least} points or more", points.shape)
            mean, covariance = points.mean(0), torch.cov(points.T, correction=0)
            covariance = covariance.reshape(len(mean), len(mean))
            self.mean.lerp_(mean.detach().to(self.mean), self.momentum)
            found = covariance.detach().to(self.covariance)
            self.covariance.lerp_(found, self.momentum)
        tiny = 1e-6 * torch.eye(len(mean)).to(points)
        root = torch.linalg.cholesky(covariance + tiny)
        return torch.linalg.solve_triangular(root, (points - mean).T, upper=False).T


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
        whiten: put the outputs through ``Whitening``.

    Raises:
        ValueError: for a size that is not positive, or an image that is too small for
            the kernels.
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
        whiten: bool = False,
    ) -> None:
        super().__init__()
        sizes = (*channels, *kernels, stride, pool, dim)
        two = len(channels) == len(kernels) == 2
        expect(two and min(sizes) >= 1, "positive sizes of two convolutions", sizes)
        rows = (side - kernels[0]) // stride + 1
        last = rows // pool - kernels[1] + 1
        expect(last >= 1, f"images larger than kernels {tuple(kernels)}", side)
        self.side, self.squash = side, squash()
        self.c1 = nn.Conv2d(1, channels[0], kernels[0], stride)
        self.s2 = Subsample(channels[0], pool)
        self.c3 = nn.Conv2d(channels[0], channels[1], kernels[1])
        self.f4 = nn.Linear(channels[1] * last**2, dim)
        self.hold = Whitening(dim) if whiten else nn.Identity()

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The embedding of each image.

        Args:
            images: of the weights' type; one channel, ``side`` x ``side`` pixels.

        Raises:
            ValueError: for no images, or images of another size or type.
        """
        check_images(images, self.c1)
        side = self.side
        expect(
            images.shape[2:] == (side, side),
            f"images of {side}x{side} pixels",
            images.shape,
        )
        x = self.squash(self.c1(images))
        x = self.squash(self.s2(x))
        return self.hold(self.f4(self.squash(self.c3(x)).flatten(1)))


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
        """The embeddings of each pair's images.

        Raises:
            ValueError: for another shape, or what ``Mapping`` refuses.
        """
        two = pairs.ndim == 5 and pairs.shape[1] == 2
        expect(two, "pairs of images (b, 2, c, h, w)", pairs.shape)
        return self.mapping(pairs.flatten(0, 1)).unflatten(0, (-1, 2))

    @torch.no_grad()
    def embed(self, views: Float[Tensor, "n v c h w"]) -> Float[Tensor, "n v d"]:
        """The embeddings of samples in several views, computed as after training where
        the weights are, and returned on the CPU.

        Raises:
            ValueError: for no views, or what ``Mapping`` refuses.
        """
        some = views.ndim == 5 and views.shape[1]
        expect(some, "samples in views (n, v, c, h, w)", views.shape)
        device = self.mapping.f4.weight.device
        was_training = self.training
        self.eval()
        points = [self.mapping(view.to(device)).cpu() for view in views.unbind(1)]
        self.train(was_training)
        return torch.stack(points, 1)


def distance(pairs: Float[Tensor, "b 2 d"]) -> Float[Tensor, " b"]:
    r"""The Euclidean distance :math:`D_W` within each pair, with a gradient of zero
    (not NaN) at zero.

    Args:
        pairs: points; half precision is computed in float32.

    Raises:
        ValueError: for another shape.
    """
    whole = pairs.ndim == 3 and pairs.shape[1] == 2
    expect(whole, "pairs of points (b, 2, d)", pairs.shape)
    points = floating(pairs)
    between = points[:, 0] - points[:, 1]
    return (between.square().sum(1) + EPSILON).sqrt()


def loss(
    outputs: Float[Tensor, "b 2 d"],
    batch: Tensors,
    *,
    margin: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensors:
    r"""The contrastive loss, Eq. 4 of the paper: a spring for similar pairs, a bumper
    for the others.

    The mean over pairs of :math:`\frac12 D_W^2` where similar and :math:`\frac12\max(0,
    m - D_W)^2` where not. Label conventions differ (the paper's Y is 1 for
    *dissimilar*, much code's is 1 for a match), hence the name.

    Args:
        outputs: embeddings of each pair.
        batch: ``similar`` (b,): which pairs belong together, bool or 0 and 1.
        margin: the distance m from which on dissimilar pairs are left alone; 0 leaves
            them alone always.
        generator: not used.

    Returns:
        ``loss``, its parts ``pull`` and ``push``, and ``active``: the share of
        dissimilar pairs that still push.

    Raises:
        ValueError: for a negative margin, no pairs, or a ``similar`` that is no mask of
            the pairs.
    """
    expect(margin >= 0, "margin >= 0", margin)
    similar = _similar(outputs, batch)
    d = distance(outputs)
    short = (margin - d).clamp(min=0)
    pull = torch.where(similar, d.square() / 2, 0.0).mean()
    push = torch.where(similar, 0.0, short.square() / 2).mean()
    active = ((short > 0) & ~similar).sum() / (~similar).sum().clamp(min=1)
    return {"loss": pull + push, "pull": pull, "push": push, "active": active}


def _similar(outputs: Float[Tensor, "b 2 d"], batch: Tensors) -> Bool[Tensor, " b"]:
    """Which pairs belong together."""
    pairs = outputs.ndim == 3 and outputs.shape[1] == 2 and len(outputs)
    expect(pairs, "embeddings of pairs (b, 2, d)", outputs.shape)
    check_keys(batch, "similar")
    return check_mask(batch["similar"], "`similar`", shape=outputs.shape[:1])


def energy_loss(
    outputs: Float[Tensor, "b 2 d"],
    batch: Tensors,
    *,
    bound: float,
    generator: torch.Generator | None = None,
) -> Tensors:
    r"""The predecessor of 2005: energy :math:`E=\lVert\cdot\rVert_1`, and a push that
    fades but never ends.

    The mean over pairs of :math:`\frac2Q E^2` where similar and
    :math:`2Q\exp(-\frac{2.77}{Q}E)` where not.

    Args:
        outputs: embeddings of each pair.
        batch: ``similar`` (b,), see ``loss``.
        bound: the largest energy Q that the net can put out.
        generator: not used.

    Returns:
        ``loss``, and its parts ``pull`` and ``push``.

    Raises:
        ValueError: for a bound that is not positive, or as ``loss``.
    """
    expect(bound > 0, "a positive bound", bound)
    similar = _similar(outputs, batch)
    points = floating(outputs)
    energy = (points[:, 0] - points[:, 1]).abs().sum(1)
    close = 2 / bound * energy.square()
    apart = 2 * bound * torch.exp(-FADE / bound * energy)
    pull = torch.where(similar, close, 0.0).mean()
    push = torch.where(similar, 0.0, apart).mean()
    return {"loss": pull + push, "pull": pull, "push": push}


@torch.no_grad()
def decode(
    outputs: Float[Tensor, "b 2 d"], *, threshold: float = 0.5
) -> Bool[Tensor, " b"]:
    """Which pairs belong together: those whose images are nearer than a threshold.

    Args:
        outputs: embeddings of each pair.
        threshold: the distance; by default halfway to the usual margin.
    """
    return distance(outputs) < threshold


class Classifier(nn.Module):
    """The rival: the same mapping below a linear layer that names classes; it looks at
    a pair's images one by one."""

    def __init__(self, mapping: Mapping, classes: int) -> None:
        super().__init__()
        expect(classes >= 1, "classes >= 1", classes)
        self.twins = Siamese(mapping)
        self.head = nn.Linear(mapping.f4.out_features, classes)

    def forward(self, pairs: Float[Tensor, "b 2 c h w"]) -> Float[Tensor, "b 2 k"]:
        """Class scores of each pair's images."""
        return self.head(self.twins(pairs))


def class_loss(
    outputs: Float[Tensor, "b 2 k"],
    batch: Tensors,
    *,
    labels: Integer[Tensor, " n"],
    generator: torch.Generator | None = None,
) -> Tensors:
    """Cross-entropy of both images of each pair: what the rival is trained by.

    Args:
        outputs: class scores.
        batch: ``sample`` (b, 2), which samples the pairs show, from ``Pairs``.
        labels: of all samples.
        generator: not used.

    Raises:
        ValueError: for samples or labels that are not there, or another shape.
    """
    check_keys(batch, "sample")
    sample = check_labels(batch["sample"], len(labels), shape=outputs.shape[:2])
    return {"loss": cross_entropy(outputs, labels.to(outputs.device)[sample])}


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
    expect(images.ndim == 4, "images (n, c, h, w)", images.shape)
    left, top = side - images.shape[3], side - images.shape[2]
    even = min(left, top) >= 0 and left % 2 == top % 2 == 0
    expect(even, f"images smaller than {side} by even numbers", images.shape[2:])
    left, top = left // 2, top // 2
    far = left + images.shape[3]  # out of sight
    near = len(shifts) and max(map(abs, shifts)) < far
    expect(near, f"shifts of less than {far} pixels", shifts)
    views = [
        functional.pad(images, (left + shift, left - shift, top, top))
        for shift in shifts
    ]
    return torch.stack(views, 1)


def same_class(labels: Integer[Tensor, " n"]) -> Bool[Tensor, "n n"]:
    """Similar is what bears the same label."""
    expect(labels.ndim == 1, "labels of samples (n,)", labels.shape)
    return labels[:, None] == labels


def neighbourhood(points: Real[Tensor, "n p"], k: int = 5) -> Bool[Tensor, "n n"]:
    """Similar is what is among the ``k`` nearest of the other, and the sample itself:
    no label is needed.

    Args:
        points: such as pixels of each sample.
        k: how many neighbours each has.

    Raises:
        ValueError: for fewer than ``k + 1`` points, or points that are not finite.
    """
    expect(points.ndim == 2, "points (n, p)", points.shape)
    count = len(points)
    expect(0 < k < count, f"0 < k < {count}, the number of points", k)
    expect(points.isfinite().all(), "finite points")
    points = floating(points)
    apart = torch.cdist(points, points).fill_diagonal_(-1.0)
    nearest = apart.topk(k + 1, largest=False).indices
    found = torch.zeros(count, count, dtype=torch.bool, device=points.device)
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
        ValueError: for a row without a similar or without a dissimilar sample, another
            number of rows than samples, or no pairs.
    """

    def __init__(
        self,
        views: Float[Tensor, "n v c h w"],
        similar: Shaped[Tensor, "m m"],
        *,
        batch_size: int,
        generator: torch.Generator,
        same_view: bool = False,
    ) -> None:
        expect(batch_size >= 1, "batch_size >= 1", batch_size)
        seen = views.ndim == 5 and views.shape[1]
        expect(seen, "samples in views (n, v, c, h, w)", views.shape)
        similar = check_mask(similar, "`similar`", shape=(len(similar), len(similar)))
        counts = similar.sum(1)
        both = ((counts > 0) & (counts < len(similar))).all()
        found = f"{tuple(similar.shape)} with {counts.unique().tolist()[:5]} similar"
        kinds = f"similar and dissimilar samples for each of {len(views)}"
        expect(
            0 < len(similar) == len(views) and both,
            f"{kinds}, got {found} ones",
        )
        self.views, self.same_view = views, same_view
        self.batch_size, self.generator = batch_size, generator
        self.partners = (_Partners(~similar), _Partners(similar))

    def __iter__(self) -> Iterator[Tensors]:
        return self

    def __next__(self) -> Tensors:
        """``images`` (b, 2, c, h, w), ``similar`` (b,), and which samples and views
        these are, (b, 2) each."""
        size, draw = self.batch_size, self.generator
        wanted = torch.arange(size) % 2 == 0
        first = torch.randint(len(self.views), (size,), generator=draw)
        chance = torch.rand(size, generator=draw, dtype=torch.float64)
        apart, together = self.partners
        second = torch.where(
            wanted, together.pick(first, chance), apart.pick(first, chance)
        )
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


class _Partners:
    """Who may stand beside each sample: all partners row after row, where each row
    starts, how many it has."""

    def __init__(self, fits: Bool[Tensor, "n n"]) -> None:
        self.all = fits.nonzero()[:, 1].int()
        self.counts = fits.sum(1)
        self.starts = self.counts.cumsum(0) - self.counts

    def pick(
        self, rows: Int[Tensor, " b"], chance: Float[Tensor, " b"]
    ) -> Int[Tensor, " b"]:
        """One of each row's partners."""
        place = self.starts[rows] + (chance * self.counts[rows]).long()
        return self.all[place].long()


def nearest(
    known: Float[Tensor, "e c d"], asked: Float[Tensor, "e q d"]
) -> Int[Tensor, "e q"]:
    """One-shot recognition: which of the known embeddings, one per class, is nearest to
    each one asked about.

    Args:
        known: one example of each class, for each episode.
        asked: what is to be recognised.

    Returns:
        Indices of classes.

    Raises:
        ValueError: for unequal numbers of episodes or dimensions, no classes, or points
            that are not finite.
    """
    same = len(known) == len(asked) and known.shape[2] == asked.shape[2]
    expect(
        same and known.shape[1],
        "known and asked points of the same episodes",
        known.shape,
        asked.shape,
    )
    check_finite(known, "known points")
    check_finite(asked, "asked points")
    known = floating(known)
    return torch.cdist(floating(asked).to(known), known).argmin(2)


def episodes(
    labels: Integer[Tensor, " n"], count: int, generator: torch.Generator
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
    expect(count >= 1, "count >= 1", count)
    members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    counts = [len(m) for m in members]
    expect(min(counts, default=0) >= 2, "two samples of each class", counts)
    drawn = []
    for samples in members:
        chance = torch.rand(count, len(samples), generator=generator)
        drawn.append(samples[chance.topk(2).indices])
    return torch.stack(drawn, 1)


def hits(
    points: Float[Tensor, "n v d"],
    tasks: Integer[Tensor, "e c 2"],
    views: Integer[Tensor, "e c 2"],
) -> Bool[Tensor, "e c"]:
    """Which of the episodes' questions are answered rightly.

    Args:
        points: embeddings of all samples in all views.
        tasks: from ``episodes``.
        views: in which view each sample is shown.

    Raises:
        ValueError: for samples or views that are not there, or unequal shapes.
    """
    tasks = check_labels(tasks, points.shape[0])
    views = check_labels(views, points.shape[1], shape=tasks.shape)
    known, asked = points[tasks, views].unbind(2)
    return nearest(known, asked) == torch.arange(tasks.shape[1])


def view_share(points: Float[Tensor, "n v d"]) -> float:
    """The share of the points' variance that lies between views of one sample: 0 where
    the map ignores them, and where there is no variance at all.

    Raises:
        ValueError: for no points, or points that are not finite.
    """
    some = points.ndim == 3 and points.numel() and points.isfinite().all()
    expect(some, "finite points (n, v, d)", points.shape)
    points = floating(points)
    within = points.var(1, correction=0).sum(1).mean()
    everything = points.flatten(0, 1).var(0, correction=0).sum()
    return (within / everything).item() if everything > 0 else 0.0


def tiny(**overrides: object) -> Siamese:
    """The book's scale: 16 outputs, and a fifth of the paper's parameters.

    Args:
        overrides: of ``Mapping``'s arguments.
    """
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
    """The paper's scale: its net for shifted digits, whose two outputs are a map.

    Args:
        overrides: of ``Mapping``'s arguments.
    """
    return Siamese(Mapping(**overrides))  # type: ignore[arg-type]
