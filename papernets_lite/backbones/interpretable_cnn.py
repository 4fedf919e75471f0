"""Interpretable Convolutional Neural Networks.

Quanshi Zhang, Ying Nian Wu, Song-Chun Zhu. CVPR 2018, arXiv 1710.00935.
Official code: zqs1022/interpretableCNN (MATLAB).

Idea: give each filter of the top layers a loss of its own, the mutual information
between its maps and templates with one peak, so that it answers to one place of one
category, and nobody has to label parts.

Differs:
    1. The mask's values reach from 1 to -1, as in the released code, so that it leaves
       the peak's height alone; the paper's carry the factor tau.
    2. ``pull="templates"`` is the released code's gradient, which does not follow the
       paper's Eq. 4 to the letter: traces are means over the map, a temperature stands
       for tau, the weights have the mean 1. Its weight here is constant; there it
       falls with each epoch. ``mutual_information`` and ``gradient`` are the paper's.
    3. Each filter's category is found once, before the fine-tuning, not all along.
    4. ``pull="shrink"`` is a control of equal strength without templates, an L1
       penalty, not in the paper; ``masked=False`` is the ordinary net.
    5. beta stays 4, as in the paper; the released code learns one for each filter.
    6. The tiny net normalises its trunk's batches below the top layer, for it starts
       from nothing; VGG-16 came trained on ImageNet.

Guessed:
    Both masks stand right after the ReLU, as in the paper's text; the released VGG-16
    pools before the second. The new layers start from He's weights.

Example:
    >>> from papernets_lite.backbones import interpretable_cnn
    >>> interpretable_cnn.tiny().observe(torch.rand(2, 3, 48, 48)).logits.shape
    torch.Size([2, 4])
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_images,
    check_keys,
    check_mask,
    expect,
)

# Channels and convolutions of each stage of VGG-16; a pooling stands between two.
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
MEAN, DEVIATION = 0.45, 0.225  # of ImageNet's pictures, about
BETA = 4.0  # Section 5
TEMPERATURE = 0.5  # of the released code
TOP = 100  # the strongest answers, for which instability is measured, Section 5.2.2


class Outputs(NamedTuple):
    """What the net answers, and what its filters saw."""

    logits: Float[Tensor, "b k"]  # one for each category, independent of the others
    # after the ReLU and before the mask: of the top layer, of the added one
    maps: tuple[Float[Tensor, "b c n n"], ...]


def positive(side: int, beta: float = BETA) -> Float[Tensor, "t n n"]:
    r"""Templates with a peak at each cell, in reading order: :math:`\max(1 - \beta
    \lVert [i,j] - \mu \rVert_1 / n, -1)` (Section 3), without the factor tau.

    Args:
        side: n, of the maps.
        beta: how steeply they fall from 1 to -1.

    Raises:
        ValueError: for no cells, or a beta that is not positive and finite.
    """
    at_least(1, side=side)
    expect(0 < beta < math.inf, "a positive beta", beta)
    along = torch.arange(side)
    steps = (along[:, None] - along).abs()  # from a peak's row to each row
    far = steps[:, None, :, None] + steps[None, :, None, :]
    return (1 - beta / side * far).clamp(min=-1).flatten(0, 1)


def templates(
    side: int, *, beta: float = BETA, tau: float | None = None
) -> Float[Tensor, "t n n"]:
    """All n^2 + 1 templates: a peak at each cell, and the last one for "not here",
    which is -tau everywhere.

    Args:
        side: n.
        beta: see ``positive``.
        tau: height of the peaks; the paper's 0.5 / n^2 when None.

    Raises:
        ValueError: as ``positive``, or for a tau that is not positive and finite.
    """
    height = 0.5 / side**2 if tau is None else tau
    expect(0 < height < math.inf, "a positive tau", height)
    peaked = positive(side, beta)
    return height * torch.cat([peaked, -torch.ones(1, side, side)])


def check_maps(maps: Tensor) -> None:
    """Refuse what is no batch of square, finite maps."""
    square = maps.ndim == 4 and maps.shape[2] == maps.shape[3] and maps.numel() > 0
    expect(square, "square maps (b, c, n, n)", maps.shape)
    check_finite(maps, "maps")


def strongest(maps: Float[Tensor, "b c h w"]) -> Int[Tensor, "b c"]:
    r""":math:`\hat\mu`, each map's highest cell, counted in reading order.

    Raises:
        ValueError: unless the maps are square and finite.
    """
    check_maps(maps)
    return maps.flatten(2).argmax(2)


def at_peak(
    maps: Float[Tensor, "b c n n"], beta: float = BETA
) -> Float[Tensor, "b c n n"]:
    """The template that has its peak where the map has it, from 1 to -1.

    Raises:
        ValueError: as ``strongest`` and ``positive``.
    """
    every = positive(maps.shape[-1], beta).to(maps)
    return every[strongest(maps)]


class Mask(nn.Module):
    r"""Cut off what is far from the peak: :math:`\max(x \circ T_{\hat\mu}, 0)`. To the
    gradient the template is a constant.

    Args:
        beta: see ``positive``.
    """

    def __init__(self, beta: float = BETA) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Float[Tensor, "b c n n"]) -> Float[Tensor, "b c n n"]:
        """The masked maps."""
        return (x * at_peak(x, self.beta)).relu()


def traces(
    maps: Float[Tensor, "m n n"], templates: Float[Tensor, "t n n"]
) -> Float[Tensor, "t m"]:
    r""":math:`tr(x \cdot T) = \sum_{ij} x_{ij} t_{ij}`, how well each map fits each
    template."""
    return torch.einsum("tij,mij->tm", templates.to(maps), maps)


def joint(
    maps: Float[Tensor, "m h w"], templates: Float[Tensor, "t n n"]
) -> tuple[Float[Tensor, "t m"], Float[Tensor, "t m"]]:
    r"""Logarithms of p(x|T) and of p(T, x), for one filter's maps of many images
    (Eq. 2). With the paper's :math:`\alpha = n^2 / (1 + n^2)` all templates are equally
    likely.

    Args:
        maps: x, one for each image.
        templates: T, see ``templates``.

    Raises:
        ValueError: for maps or templates that are not finite, or of another size.
    """
    check_finite(maps, "maps")
    fits = maps.ndim == 3 and maps.shape[1:] == templates.shape[1:] and len(maps) > 0
    expect(fits, f"maps (m, n, n) as {tuple(templates.shape)}", maps.shape)
    given = traces(maps, templates).log_softmax(1)  # Z_T sums over the images
    return given, given - math.log(len(templates))


def mutual_information(
    maps: Float[Tensor, "m n n"], templates: Float[Tensor, "t n n"]
) -> Float[Tensor, ""]:
    r"""What a filter's maps tell about the templates, and these about the maps:
    :math:`\sum_T p(T) \sum_x p(x|T) \log \frac{p(x|T)}{p(x)}` in nats. The filter's
    loss is this with a minus (Eq. 1).

    Args:
        maps: one filter's, of many images.
        templates: see ``templates``.

    Raises:
        ValueError: as ``joint``.
    """
    given, both = joint(maps, templates)
    return (both.exp() * (given - both.logsumexp(0))).sum()


def entropies(
    maps: Float[Tensor, "m n n"], templates: Float[Tensor, "t n n"]
) -> dict[str, Float[Tensor, ""]]:
    """The three terms of Eq. 5, in nats: mutual information is ``prior - category -
    place``.

    Args:
        maps: one filter's, of many images.
        templates: the last one is the negative, see ``templates``.

    Returns:
        ``prior``, of the templates; ``category``, whether the part is there, given the
        map; ``place``, where it is, given the map and that it is there.

    Raises:
        ValueError: as ``joint``.
    """
    _, both = joint(maps, templates)
    seen = both.logsumexp(0)  # log p(x)
    there = both[:-1].logsumexp(0)  # log p(T+, x)
    sides = torch.stack([there, both[-1]])
    where = both[:-1] - there
    at_each = -(where.exp() * where).sum(0)
    return {
        "prior": maps.new_tensor(math.log(len(templates))),
        "category": -(sides.exp() * (sides - seen)).sum(),
        "place": (there.exp() * at_each).sum(),
    }


def gradient(
    maps: Float[Tensor, "m n n"],
    templates: Float[Tensor, "t n n"],
    chosen: Int[Tensor, " m"] | None = None,
) -> Float[Tensor, "m n n"]:
    """The loss's gradient by the maps with each Z_T held constant (Eq. 4, first line),
    or with one template alone (its second line). The paper prints it without the minus
    that its loss has.

    Args:
        maps: one filter's, of many images.
        templates: see ``templates``.
        chosen: the template of each map; None takes all.

    Raises:
        ValueError: as ``joint``.
    """
    given, both = joint(maps, templates)
    pulls = both.exp() * (given - both.logsumexp(0))
    if chosen is not None:
        pulls = pulls * functional.one_hot(chosen, len(templates)).T
    return -torch.einsum("tm,tij->mij", pulls, templates.to(maps))


def categories(
    maps: Float[Tensor, "b c n n"], labels: Bool[Tensor, "m k"]
) -> Int[Tensor, " c"]:
    """For each filter the category whose images excite it most (Section 3.1).

    Args:
        maps: of many images.
        labels: which categories each image belongs to; one or several.

    Raises:
        ValueError: for maps that are not square or finite, no images of a category, or
            labels of other images.
    """
    check_maps(maps)
    expect(labels.ndim == 2, "labels (b, k)", labels.shape)
    labels = check_mask(labels, "labels", shape=(len(maps), labels.shape[1]))
    member = labels.to(maps)
    count = member.sum(0)
    expect((count > 0).all(), "images of every category", count.tolist())
    mean = member.T @ maps.sum((2, 3)) / count[:, None]
    return mean.argmax(0)


def template_pull(
    maps: Float[Tensor, "b c n n"], fits: Bool[Tensor, "b c"]
) -> Float[Tensor, "b c n n"]:
    """The filter loss's gradient as the released code computes it, per cell and without
    its weight.

    An image of the filter's category is pulled towards the template at its own peak,
    another one down everywhere; each the more, the better it fits already.

    Args:
        maps: of both kinds of images.
        fits: which images belong to each filter's category.

    Raises:
        ValueError: unless the maps are square and finite.
    """
    mask = at_peak(maps)
    here = (maps * mask).mean((2, 3))
    # What a map fits by chance: the templates of other images and filters.
    other = (maps * mask.flip(0, 1)).mean((2, 3))
    up = _weights(here, other, fits)
    away = -maps.mean((2, 3))
    down = _weights(away, away, ~fits)
    return down[..., None, None] - up[..., None, None] * mask


def _weights(
    trace: Float[Tensor, "b c"], base: Float[Tensor, "b c"], among: Bool[Tensor, "b c"]
) -> Float[Tensor, "b c"]:
    """Each image's share in a filter's gradient: with a mean of 1 among those it is
    about, 0 elsewhere."""
    scaled = base / TEMPERATURE
    level = scaled.logsumexp(0) - math.log(len(base))
    fit = trace / TEMPERATURE
    raw = (fit - fit.amax(0)).exp() * (fit - level + 1)
    raw = raw.clamp(min=0) * among
    mean = raw.sum(0) / among.sum(0).clamp(min=1)
    return raw / mean.clamp(min=1e-12)


def shrink_pull(
    maps: Float[Tensor, "b c n n"], fits: Bool[Tensor, "b c"]
) -> Float[Tensor, "b c n n"]:
    """The control that knows no template: every cell of every map is pulled down, which
    is the gradient of an L1 penalty."""
    return torch.ones_like(maps)


Pull = Callable[[Tensor, Tensor], Tensor]
PULLS: dict[str, Pull] = {"templates": template_pull, "shrink": shrink_pull}


def conv(in_channels: int, out_channels: int, *, norm: bool = False) -> list[nn.Module]:
    """A 3x3 convolution that keeps the size, and its ReLU.

    Args:
        in_channels: of the input.
        out_channels: filters.
        norm: batch normalisation between the two.
    """
    filters = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    between = [nn.BatchNorm2d(out_channels)] if norm else []
    return [filters, *between, nn.ReLU()]


def init_(net: nn.Module) -> None:
    """He's normal weights by fan-in and zero biases in every convolution, in place."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(cast("Tensor", layer.bias))


class InterpretableCNN(nn.Module):
    """VGG's convolutions, one more at their top, and fully connected layers; the maps
    of the top two are masked (Section 5).

    Args:
        side: of the square images, divisible by 2 for each stage.
        stages: channels and number of convolutions of each stage.
        hidden: units of both fully connected layers.
        num_classes: categories, independent of each other.
        beta: of the masks, see ``positive``.
        dropout: share of the hidden units that are dropped.
        norm: batch normalisation in the trunk, below its top layer.
        masked: False leaves the masks out: an ordinary net of the same size.

    Raises:
        ValueError: for no stages, or a size that is not positive or does not fit.
    """

    def __init__(
        self,
        *,
        side: int,
        stages: Sequence[tuple[int, int]] = VGG16,
        hidden: int = 4096,
        num_classes: int = 1,
        beta: float = BETA,
        dropout: float = 0.5,
        norm: bool = False,
        masked: bool = True,
    ) -> None:
        super().__init__()
        expect(len(stages), "at least one stage", stages)
        at_least(1, side=side, hidden=hidden, num_classes=num_classes)
        fits = side % 2 ** len(stages) == 0
        expect(fits, f"a side divisible by {2 ** len(stages)}", side)
        self.side, self.masked = side, masked
        self.trunk = nn.Sequential()
        channels = 3
        for number, (width, count) in enumerate(stages):
            stage: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
            for left in reversed(range(count)):
                is_top = number == len(stages) - 1 and left == 0
                stage += conv(channels, width, norm=norm and not is_top)
                channels = width
            self.trunk.append(nn.Sequential(*stage))
        self.added = nn.Sequential(*conv(channels, channels))
        self.masks = nn.ModuleList([Mask(beta), Mask(beta)])
        self.head = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Conv2d(channels, hidden, side // 2 ** len(stages)),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, num_classes, 1),
        )
        init_(self)

    def observe(self, images: Float[Tensor, "b c h w"]) -> Outputs:
        """Scores, and the maps that led to them.

        Raises:
            ValueError: for what are no images of ``side``.
        """
        first = cast("nn.Conv2d", cast("nn.Sequential", self.trunk[0])[0])
        check_images(images, first)
        fits = images.shape[2:] == (self.side, self.side)
        expect(fits, f"images of {self.side} x {self.side}", images.shape)
        top = self.trunk((images - MEAN) / DEVIATION)
        higher = self.added(self.masks[0](top) if self.masked else top)
        last = self.masks[1](higher) if self.masked else higher
        return Outputs(self.head(last).flatten(1), (top, higher))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Scores (logits), one for each category."""
        return self.observe(images).logits


def observe(net: InterpretableCNN, batch: Mapping[str, Tensor]) -> Outputs:
    """What ``loss`` needs of a net and a batch: ``inputs`` of ``training.compare``."""
    return net.observe(batch["images"])


def warm(trained: InterpretableCNN, *, masked: bool) -> InterpretableCNN:
    """A copy of a trained net, with or without masks, to be trained on."""
    net = deepcopy(trained)
    net.masked = masked
    return net


def loss(
    outputs: Outputs,
    batch: Mapping[str, Tensor],
    *,
    pull: str | None = None,
    weight: float = 0.0,
    belongs: Sequence[Int[Tensor, " c"]] = (),
    generator: Generator | None = None,
) -> dict[str, Tensor]:
    """Logistic loss of each category, and the filters' loss on each layer's maps
    (Eq. 3).

    Args:
        outputs: of ``observe``.
        batch: ``labels`` (b, k), the categories that each image belongs to.
        pull: of ``PULLS``; None leaves the filters alone.
        weight: lambda, of the mean over images and cells, summed over the filters.
        belongs: for each layer its filters' categories, see ``categories``.
        generator: nothing is drawn.

    Returns:
        ``loss``; ``class``, the logistic loss; ``accuracy``, of single answers; and
        with a pull ``filters``, whose gradient counts and whose value does not.

    Raises:
        ValueError: for no labels, labels of another shape, an unknown pull, or
            categories for another number of layers.
    """
    check_keys(batch, "labels")
    shape = outputs.logits.shape
    labels = check_mask(batch["labels"], "labels", shape=shape)
    truth = labels.to(outputs.logits)
    missed = functional.binary_cross_entropy_with_logits(outputs.logits, truth)
    right = (outputs.logits.detach() > 0) == labels
    found = {"class": missed, "accuracy": right.to(missed.dtype).mean()}
    if pull is None:
        return {"loss": missed, **found}
    expect(pull in PULLS, f"a pull of {tuple(PULLS)}", pull)
    layers = len(outputs.maps)
    expect(len(belongs) == layers, f"categories for {layers} layers", len(belongs))
    total = missed.new_zeros(())
    for maps, mine in zip(outputs.maps, belongs, strict=True):
        fits = labels[:, mine.to(labels.device)]
        with torch.no_grad():
            slope = PULLS[pull](maps.detach(), fits)
        total = total + (maps * slope).mean((0, 2, 3)).sum()
    return {"loss": missed + weight * total, **found, "filters": total}


def spatial_entropy(maps: Float[Tensor, "b c n n"]) -> Float[Tensor, "b c"]:
    """How spread each map is, in nats: 0 for one cell, log(n^2) for all alike. NaN for
    a map without activation."""
    share = maps.flatten(2)
    share = share / share.sum(2, keepdim=True)
    return -torch.special.xlogy(share, share).sum(2)


def deviations(
    maps: Float[Tensor, "b c n n"],
    landmarks: Float[Tensor, "m k 2"],
    *,
    side: int,
    top: int = TOP,
) -> Float[Tensor, "c k"]:
    """How steadily each filter's peak keeps its distance to each landmark: D_{f,k}, the
    standard deviation of that distance in diagonals of the image (Section 5.2.2). Their
    mean is the net's location instability.

    Args:
        maps: of one layer.
        landmarks: (x, y) in pixels.
        side: of the square images.
        top: so many images count for a filter, those on which its peak is highest.

    Returns:
        NaN for a filter that is silent in one of them.

    Raises:
        ValueError: for fewer images than ``top``, fewer than two, or maps or landmarks
            that do not fit.
    """
    check_maps(maps)
    expect(2 <= top <= len(maps), f"a top from 2 to {len(maps)} images", top)
    fits = landmarks.ndim == 3 and len(landmarks) == len(maps)
    expect(fits, f"landmarks of {len(maps)} images", landmarks.shape)
    check_finite(landmarks, "landmarks")
    heights, cells = maps.flatten(2).max(2)
    rows, columns = cells // maps.shape[-1], cells % maps.shape[-1]
    peaks = (torch.stack([columns, rows], -1) + 0.5) * (side / maps.shape[-1])
    far = (peaks[:, :, None] - landmarks[:, None]).norm(dim=-1)
    best, chosen = heights.topk(top, 0)
    kept = far.gather(0, chosen[..., None].expand(-1, -1, far.shape[2]))
    spread = kept.std(0) / (side * math.sqrt(2))
    return torch.where((best[-1] > 0)[:, None], spread, math.nan)


BLOCKS = {
    "trunk.*": "stage *",
    "added": "added",
    "head": "head",
}


def tiny(**overrides: Any) -> InterpretableCNN:
    """The book's scale: maps of 12x12 cells and 32 filters in both layers."""
    settings: dict[str, Any] = {
        "side": 48,
        "stages": ((12, 1), (24, 1), (32, 2)),
        "hidden": 64,
        "num_classes": 4,
        "dropout": 0.0,
        "norm": True,
    }
    return InterpretableCNN(**(settings | overrides))


def paper(**overrides: Any) -> InterpretableCNN:
    """The paper's scale: VGG-16 for pictures of 224x224, one category."""
    settings: dict[str, Any] = {"side": 224}
    return InterpretableCNN(**(settings | overrides))
