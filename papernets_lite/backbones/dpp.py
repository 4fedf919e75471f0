"""Detail-Preserving Pooling in Deep Networks (DPP).

Faraz Saeedan, Nicolas Weber, Michael Goesele, Stefan Roth. CVPR 2018, arXiv 1804.04076.
Official code: visinf/dpp (Lua Torch, CUDA).

Idea: pool by a weighted average in which a pixel weighs the more, the more it differs
from its surroundings, and let each channel learn how much more.

Differs:
    1. The reward's square is divided by its mean over the window before the power. The
       paper's formula does not say so; the released CIFAR code does. Without it, alpha
       would mean something else in each layer.
    2. Full has no bias: the paper's filter is a plain sum. The released layer is made
       with one, and the net's own start removes it.
    3. S3 slides one pool over the map, so Full's filter is one for all four positions,
       and zeros stand around the whole map. The released code runs four pools side by
       side; they share alpha and lambda, not the filters.
    4. The exponent is held below exp(4), that its power stays finite. The released code
       holds alpha alone.
    5. The last row or column of an odd map is dropped, as torch's pools do.

Guessed:
    How rows that do not divide by four are sampled: the lower half then gives one more.
    Where the paper's ImageNet nets take their reference from: here the 2x2 window, as
    its Lite; the released bottleneck nets take a 3x3 average of stride 2.

Example:
    >>> from papernets_lite.backbones import dpp
    >>> dpp.DPP(8)(torch.rand(2, 8, 32, 32)).shape
    torch.Size([2, 8, 16, 16])
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.ops.checks import at_least, check_images, expect
from papernets_lite.ops.losses import classification

EPSILON2 = 1e-3  # epsilon squared, added to a squared difference, as released
# The logarithms' highest values: alpha's as released.
MOST_LOG_ALPHA, MOST_LOG_LAMBDA = 10.0, 4.0

Scale = float | Tensor  # one number for all maps, or (c, 1, 1)


def windows(
    x: Float[Tensor, "b c h w"], size: int = 2, stride: int | None = None
) -> Float[Tensor, "n b c k l"]:
    r"""The pixels of each window :math:`\Omega_p`.

    Args:
        x: maps.
        size: of a window's side.
        stride: from window to window; the size when None.

    Returns:
        First the window's top left pixel, last its bottom right one.

    Raises:
        ValueError: for a size or stride below 1, or maps that hold no window.
    """
    stride = size if stride is None else stride
    at_least(1, size=size, stride=stride)
    expect(min(x.shape[2:]) >= size, f"sides of {size} or more", x.shape)
    cut = x.unfold(2, size, stride).unfold(3, size, stride)
    return rearrange(cut, "b c k l i j -> (i j) b c k l")


def reward(
    difference: Float[Tensor, "n b c k l"], exponent: Scale, *, asymmetric: bool = False
) -> Float[Tensor, "n b c k l"]:
    r"""What a pixel earns for being different: :math:`\rho(x) = (\sqrt{x^2 +
    \epsilon^2})^\lambda`, relative to its window.

    Args:
        difference: x, each pixel of a window less the reference.
        exponent: lambda, at least 0; with 0 all earn 1.
        asymmetric: only pixels above the reference earn more.

    Returns:
        The rewards, of the same shape; unless lambda is 0, they depend on a window's
        differences relative to each other.
    """
    if asymmetric:
        difference = difference.relu()
    square = difference**2 + EPSILON2
    relative = square / square.mean(0)
    return (relative.log() * (exponent / 2)).exp()


def average(
    pixels: Float[Tensor, "n b c k l"],
    reference: Float[Tensor, "b c k l"],
    *,
    alpha: Scale,
    exponent: Scale,
    asymmetric: bool = False,
) -> tuple[Float[Tensor, "b c k l"], Float[Tensor, "n b c k l"]]:
    r"""The weighted average of each window, with the weights :math:`w = \alpha +
    \rho_\lambda(I - \tilde I)`.

    Args:
        pixels: I, see ``windows``.
        reference: what a window's pixels are held against.
        alpha: what every pixel weighs, at least 0; much of it makes a plain average.
        exponent: lambda, see ``reward``.
        asymmetric: see ``reward``.

    Returns:
        The averages, and the weights, which add up to 1 in each window.
    """
    weights = alpha + reward(pixels - reference, exponent, asymmetric=asymmetric)
    weights = weights / weights.sum(0)
    return (weights * pixels).sum(0), weights


def pool(
    x: Float[Tensor, "b c h w"],
    *,
    alpha: Scale,
    exponent: Scale,
    asymmetric: bool = False,
    size: int = 2,
) -> tuple[Float[Tensor, "b c k l"], Float[Tensor, "n b c k l"]]:
    """Lite pooling with numbers set by hand; windows are held against their mean.

    Args:
        x: maps.
        alpha: what every pixel weighs, at least 0.
        exponent: lambda, at least 0.
        asymmetric: only pixels above the reference weigh more.
        size: of a window's side, and the stride.

    Returns:
        The smaller maps, and the weights of each window's pixels, see ``windows``.

    Raises:
        ValueError: for what are no maps, negative numbers, or a lambda above exp(4).
    """
    check_images(x)
    known = alpha if isinstance(alpha, Tensor) else torch.tensor(float(alpha))
    power = exponent if isinstance(exponent, Tensor) else torch.tensor(float(exponent))
    expect((known >= 0).all() and known.isfinite().all(), "alpha >= 0", alpha)
    most = math.exp(MOST_LOG_LAMBDA)
    fits = ((power >= 0) & (power <= most)).all()
    expect(fits, f"a lambda from 0 to {most:.0f}", exponent)
    pixels = windows(x, size)
    return average(
        pixels, pixels.mean(0), alpha=alpha, exponent=exponent, asymmetric=asymmetric
    )


def dpid(
    images: Float[Tensor, "b c h w"], times: int, *, exponent: float = 1.0
) -> Float[Tensor, "b c k l"]:
    r"""Detail-preserving image downscaling, from which the pooling comes: :math:`O[p] =
    \frac1{k_p} \sum_q I[q] \lVert I[q] - \tilde I[p] \rVert^\lambda`.

    Args:
        images: in any colours; their distance is taken over all channels.
        times: how many times smaller each side becomes.
        exponent: lambda, at least 0.

    Returns:
        The small images.

    Raises:
        ValueError: for what are no images, a negative lambda, or fewer than one time.
    """
    check_images(images)
    expect(0 <= exponent < math.inf, "a lambda >= 0", exponent)
    pixels = windows(images, times)
    small = functional.pad(pixels.mean(0), (1, 1, 1, 1), mode="replicate")
    bell = images.new_tensor([1.0, 2.0, 1.0]) / 4
    near = windows(small, 3, stride=1)
    reference = torch.einsum("n,nbckl->bckl", torch.outer(bell, bell).flatten(), near)
    distance = (pixels - reference).norm(dim=2, keepdim=True)
    # a window of one colour alone weighs all its pixels alike
    weights = distance.clamp(min=1e-6) ** exponent
    return (weights * pixels).sum(0) / weights.sum(0)


class DPP(nn.Module):
    r"""Detail-preserving pooling of 2x2 windows, :math:`\mathcal D_{\alpha,\lambda}`.

    Args:
        channels: of the maps; each learns its own two numbers.
        asymmetric: only pixels above the reference weigh more (Asym), not those below
            it as well (Sym).
        full: the reference is a learned 3x3 filter of each channel (Full), not the
            window's mean (Lite).

    Raises:
        ValueError: for no channels.
    """

    def __init__(
        self, channels: int, *, asymmetric: bool = False, full: bool = False
    ) -> None:
        super().__init__()
        at_least(1, channels=channels)
        self.asymmetric = asymmetric
        # Logarithms, so that both numbers stay positive whatever is learnt.
        self.log_alpha = nn.Parameter(torch.empty(channels, 1, 1))
        self.log_lambda = nn.Parameter(torch.empty(channels, 1, 1))
        near_zero = 1 / math.sqrt(channels)
        nn.init.uniform_(self.log_alpha, -near_zero, near_zero)
        nn.init.uniform_(self.log_lambda, -near_zero, near_zero)
        self.filter: nn.Conv2d | None = None
        if full:
            self.filter = nn.Conv2d(
                channels, channels, 3, padding=1, groups=channels, bias=False
            )
            nn.init.normal_(self.filter.weight, std=math.sqrt(2 / 9))

    @property
    def alpha(self) -> Float[Tensor, "c 1 1"]:
        """What every pixel weighs."""
        return self.log_alpha.clamp(max=MOST_LOG_ALPHA).exp()

    @property
    def exponent(self) -> Float[Tensor, "c 1 1"]:
        """lambda: how strongly a difference is rewarded."""
        return self.log_lambda.clamp(max=MOST_LOG_LAMBDA).exp()

    def slide(
        self, x: Float[Tensor, "b c h w"], stride: int
    ) -> Float[Tensor, "b c k l"]:
        """Pool windows that stand ``stride`` pixels apart.

        Args:
            x: maps.
            stride: 2 halves them; 1 would need one more row and column, which repeats
                the last.
        """
        inside = functional.pad(x, (0, 1, 0, 1), "replicate") if stride == 1 else x
        pixels = windows(inside, 2, stride)
        if self.filter is None:
            reference = pixels.mean(0)
        else:
            down, across = pixels.shape[3:]
            reference = self.filter(x)[..., ::stride, ::stride][..., :down, :across]
        pooled, _ = average(
            pixels,
            reference,
            alpha=self.alpha,
            exponent=self.exponent,
            asymmetric=self.asymmetric,
        )
        return pooled

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k l"]:
        """Maps of half the size.

        Raises:
            ValueError: for other channels, or maps below 2x2.
        """
        check_images(x)
        channels = len(self.log_alpha)
        expect(x.shape[1] == channels, f"{channels} channels", x.shape)
        return self.slide(x, 2)


def chosen(count: int) -> Int[Tensor, " k"]:
    """Which rows S3 keeps: half of them by chance, from each half of the map, in order.

    Args:
        count: rows of the map, at least 2.

    Raises:
        ValueError: for fewer rows.
    """
    at_least(2, count=count)
    middle = count // 2
    upper = torch.randperm(middle)[: middle // 2]
    lower = middle + torch.randperm(count - middle)[: middle - middle // 2]
    return torch.cat([upper, lower]).sort().values


class S3DPP(DPP):
    """DPP with stochastic spatial sampling: pooled at every pixel, then half of the
    rows and columns are kept by chance; in evaluation 2x2 averages instead.

    Args:
        channels: see ``DPP``, and so are the others.
    """

    def slide(
        self, x: Float[Tensor, "b c h w"], stride: int
    ) -> Float[Tensor, "b c k l"]:
        """As ``DPP``'s, in two steps where the size is halved."""
        if stride == 1:
            return super().slide(x, 1)
        everywhere = super().slide(x, 1)
        if not self.training:
            return functional.avg_pool2d(everywhere, 2)
        rows, columns = (chosen(side).to(x.device) for side in x.shape[2:])
        return everywhere[:, :, rows][..., columns]


class Mixture(nn.Module):
    """A rival as free as Lite: a learned mixture of a window's maximum, mean and
    minimum, with three shares in each channel that add up to 1.

    Args:
        channels: of the maps.

    Raises:
        ValueError: for no channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        at_least(1, channels=channels)
        self.logits = nn.Parameter(torch.zeros(3, channels, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c k l"]:
        """Maps of half the size."""
        most, least = functional.max_pool2d(x, 2), -functional.max_pool2d(-x, 2)
        shares = self.logits.softmax(0)
        return (
            shares[0] * most
            + shares[1] * functional.avg_pool2d(x, 2)
            + shares[2] * least
        )


class MaxMin(nn.Module):
    """A rival with twice the maps: each window's maximum beside its minimum."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """Twice as many maps, of half the size."""
        return torch.cat(
            [functional.max_pool2d(x, 2), -functional.max_pool2d(-x, 2)], 1
        )


def strided(channels: int) -> nn.Conv2d:
    """A rival that is linear: a learned 3x3 filter of each channel, with stride 2. It
    starts as an average.

    Args:
        channels: of the maps.
    """
    conv = nn.Conv2d(channels, channels, 3, 2, padding=1, groups=channels, bias=False)
    nn.init.constant_(conv.weight, 1 / 9)
    return conv


Pool = Callable[[int], nn.Module]  # from the channels of its maps


class Reader(nn.Module):
    """The book's own, to see what a pool hands on: two pools that meet the pixels
    before any filter has, then two convolutions, an average and a linear layer.

    Args:
        pool: makes each of the two pools.
        width: channels of the convolutions.
        num_classes: outputs.

    Raises:
        ValueError: for a number below 1.
    """

    def __init__(
        self, *, pool: Pool = DPP, width: int = 16, num_classes: int = 4
    ) -> None:
        super().__init__()
        at_least(1, width=width, num_classes=num_classes)
        self.pools = nn.Sequential(pool(1))
        self.pools.append(pool(self._maps()))
        plan = [(width, 3, 1)] * 2
        self.layers = resnet.sequence(["conv", "bn", "relu"] * 2, plan, self._maps())
        self.head = nn.Linear(width, num_classes)

    def _maps(self) -> int:
        """How many maps the pools make of one."""
        return self.pools(torch.zeros(1, 1, 8, 8)).shape[1]

    def forward(self, images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits) of grey images.

        Raises:
            ValueError: for what are no images.
        """
        check_images(images)
        return self.head(self.layers(self.pools(images)).mean((2, 3)))


def unstride_(unit: nn.Module) -> bool:
    """Set all strides of a unit to 1, in place.

    Args:
        unit: of a ResNet.

    Returns:
        Whether there was another one.
    """
    kinds = (nn.Conv2d, resnet.PadShortcut)
    layers = [layer for layer in unit.modules() if isinstance(layer, kinds)]
    strided = any(layer.stride not in (1, (1, 1)) for layer in layers)
    for layer in layers:
        layer.stride = (1, 1) if isinstance(layer, nn.Conv2d) else 1
    return strided


class PooledResNet(nn.Module):
    """A ResNet in which nothing strides behind the stem: where a unit did, it keeps the
    size, and a pool follows its last ReLU.

    Args:
        pool: makes a pool from its channels; its maps must stay as many.
        settings: of ``resnet.ResNet``, in its original ordering.

    Raises:
        ValueError: for another ordering, and as ``resnet.ResNet``.
    """

    def __init__(self, *, pool: Pool = DPP, **settings: Any) -> None:
        super().__init__()
        net = resnet.ResNet(**settings)
        expect(not net.last, "an ordering that ends with a ReLU", settings)
        self.stem, self.head = net.stem, net.head
        self.layers = nn.Sequential()
        for unit in net.units:
            self.layers.append(unit)
            if unstride_(unit):
                self.layers.append(pool(cast("resnet.Unit", unit).out_channels))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Class scores (logits).

        Raises:
            ValueError: for what are no images, see ``checks.check_images``.
        """
        check_images(images, cast("nn.Conv2d", self.stem[0]))
        return self.head(self.layers(self.stem(images)).mean((2, 3)))


loss = classification


def decay_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: alpha and lambda do not decay, for their
    logarithms would be drawn to 0, which is a mild average.

    Args:
        net: whose parameters they are.
        weight_decay: of all others.

    Raises:
        ValueError: for a decay below 0.
    """
    expect(weight_decay >= 0, "a weight decay >= 0", weight_decay)
    named = dict(net.named_parameters())
    free = [name for name in named if name.endswith(("log_alpha", "log_lambda"))]
    rest = [value for name, value in named.items() if name not in free]
    groups = [
        {"params": rest, "weight_decay": weight_decay},
        {"params": [named[name] for name in free], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Diary:
    """Notes what the pools of a net have learnt while it learns: a ``look`` for
    ``train``.

    Args:
        net: whose pools they are.

    Attributes:
        steps: when it looked.
        exponents: lambda then, the mean over channels, one number for each pool.
        alphas: as many.

    Raises:
        ValueError: for a net without such pools.
    """

    def __init__(self, net: nn.Module) -> None:
        self.pools = [layer for layer in net.modules() if isinstance(layer, DPP)]
        expect(self.pools, "a net with DPP layers", type(net).__name__)
        self.steps: list[int] = []
        self.exponents: list[list[float]] = []
        self.alphas: list[list[float]] = []

    def __call__(self, step: int) -> None:
        """Look.

        Args:
            step: how many were done.
        """
        self.steps.append(step)
        self.exponents.append([pool.exponent.mean().item() for pool in self.pools])
        self.alphas.append([pool.alpha.mean().item() for pool in self.pools])


def cifar(*, depth: int = 110, **overrides: Any) -> PooledResNet:
    """The paper's net for CIFAR: ResNet-110 with projections, and two pools.

    Args:
        depth: layers with weights, 6n + 2.
        overrides: of ``PooledResNet``.

    Raises:
        ValueError: for another depth.
    """
    settings = resnet.cifar_settings(depth) | {"option": "B"}
    return PooledResNet(**(settings | overrides))


def tiny(*, depth: int = 8, **overrides: Any) -> PooledResNet:
    """The book's scale: a CIFAR net half as wide, on 32x32 images through a stem of
    stride 2.

    Args:
        depth: layers with weights, 6n + 2.
        overrides: of ``PooledResNet``.

    Raises:
        ValueError: for another depth.
    """
    settings: dict = {"widths": (8, 16, 32), "stem_stride": 2, "num_classes": 8}
    return cifar(depth=depth, **(settings | overrides))


def paper(*, depth: int = 50, **overrides: Any) -> PooledResNet:
    """The paper's scale: an ImageNet net with three pools; the stem keeps its own.

    Args:
        depth: layers with weights, see ``resnet.imagenet``.
        overrides: of ``PooledResNet``.

    Raises:
        ValueError: for another depth.
    """
    return PooledResNet(**(resnet.imagenet_settings(depth) | overrides))
