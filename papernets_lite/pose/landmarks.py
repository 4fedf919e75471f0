r"""Unsupervised Discovery of Object Landmarks as Structural Representations.

Yuting Zhang, Yijie Guo, Yixin Jin, Yijun Luo, Zhiyuan He, Honglak Lee. CVPR 2018,
arXiv 1804.04412. Official code: YutingZhang/lmdis-rep (TensorFlow 1). Layers and
numbers below are its own for images of 80 x 80 and ten landmarks.

Idea: an autoencoder whose code is a handful of points, with a few numbers about each,
finds landmarks by itself, if the points must be sharp, apart, and move with the image.

Differs:
    1. All lengths are in units of the image's side. The released code takes the
       equivariance on [-1, 1], so its weight of 1e4 is 4e4 here.
    2. A redrawn Gaussian is a density times the area of a cell; in the released code
       its height falls with the fourth power of its deviation.
    3. The smooth part of the warp is a coarse field of displacements, bicubic in
       between, as U-Net's; the released code has a thin-plate spline. ``augment`` also
       warps less than the paper, since the portraits fill the picture.
    4. The detector's margin repeats the border's pixels; the released code pads by a
       mean of the edge.
    5. The reconstruction's loss is the mean squared error, with one weight of our own;
       the released code has a Gaussian likelihood, whose weight grows in two steps.
    6. ``tiny`` folds 2 x 2 pixels into channels at the entrance and unfolds them at the
       exit, is narrow, and has skips of one convolution and no margin.

Guessed:
    Convolutions have no bias where batch normalisation follows; the last of a detector
    or decoder has a bias and no normalisation; a sigmoid brings colours to [0, 1]. The
    slope of the leaky ReLU. Initial weights of the landmarks' own linear maps. A window
    is at least half a cell wide.

Contract:
    ``augment`` adds to a batch ``warped``, the images after a random warp, and the warp
    itself, ``matrices`` and ``fields``. The net takes both pictures; ``loss`` looks up
    where the warp has taken the points.

Example:
    >>> from papernets_lite.pose import landmarks
    >>> landmarks.tiny().eval()(torch.rand(2, 3, 32, 32)).points.shape
    torch.Size([2, 10, 2])
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.ops import warps
from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_inputs,
    check_keys,
    check_same,
    expect,
)
from papernets_lite.ops.heatmaps import cell_centres
from papernets_lite.segmentation import unet

DESCRIPTOR = 8  # numbers about each landmark, and about the background
FEATURES = 64  # to which the decoder expands them
WIDTHS = tuple(2 ** (i / 2) / 8 for i in range(5))  # of the redrawn Gaussians
APART = 0.08  # deviation of the separation
SLOPE = 0.2  # of the leaky ReLU
TINY = 1e-6  # keeps a map without mass from dividing by zero
TRAINED = Path(__file__).with_name("landmarks_trained.pt")

# Weights of the released code, brought to units of the side; the last is our own.
CONCENTRATION = 100.0
SEPARATION = 20.0
EQUIVARIANCE = 4e4
RECONSTRUCTION = 600.0

# Channels of the layers of each level, the finest level first.
Levels = Sequence[Sequence[int]]
Places = Float[Tensor, "b k 2"]  # (x, y), in units of the image's side
leaky = partial(nn.LeakyReLU, SLOPE, inplace=True)


def convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    """A 3x3 convolution, batch normalisation and a leaky ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return conv_norm_act(conv, activation=leaky)


def chain(widths: Sequence[int], *, plain: bool = False) -> nn.Sequential:
    """Convolutions in a row.

    Args:
        widths: channels before the first, and after each.
        plain: the last has a bias, and neither normalisation nor activation.
    """
    layers = []
    for before, after in pairwise(widths):
        layers += convolution(before, after)
    if plain:
        layers[-3:] = [nn.Conv2d(before, after, 3, padding=1)]
    return nn.Sequential(*layers)


class Hourglass(nn.Module):
    """Down by max-pooling and up by repeated cells; on the way up each level adds what
    it had on the way down, after convolutions of its own.

    Args:
        in_channels: of the maps that enter.
        down: channels of the convolutions of each level, in the order of their work.
        up: for each convolution on the way down, what its mirror image on the way up
            makes. The very first entry is therefore what leaves.
        skip: convolutions of a skip.
        plain: for the very last convolution, see ``chain``.

    Raises:
        ValueError: for no level, or levels whose ways down and up differ in length, or
            a number that is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        down: Levels,
        skip: int,
        up: Levels,
        plain: bool = True,
    ) -> None:
        super().__init__()
        lengths = [len(level) for level in down], [len(level) for level in up]
        mirrored = lengths[0] == lengths[1] and len(down) > 0 and min(lengths[0]) > 0
        expect(mirrored, "a mirrored way up", *lengths)
        for widths in ([in_channels, skip], *down, *up):
            at_least(1, channels=min(widths))
        self.down, self.skips, self.up = (nn.ModuleList() for _ in range(3))
        above = in_channels
        for widths in down:
            self.down.append(chain([above, *widths]))
            above = widths[-1]
        made = above
        for level in reversed(range(len(down))):
            if level < len(down) - 1:
                fine = down[level][-1]
                inside = [max(fine, made)] * (skip - 1)
                self.skips.append(chain([fine, *inside, made]))
            backwards = [made, *reversed(up[level])]
            self.up.append(chain(backwards, plain=plain and level == 0))
            made = up[level][0]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Maps of the same size."""
        fine = []
        for level, down in enumerate(self.down):
            if level > 0:
                x = functional.max_pool2d(x, 2)
            x = down(x)
            fine.append(x)
        fine.pop()  # the coarsest has nothing to skip
        x = self.up[0](x)
        for skip, up in zip(self.skips, self.up[1:], strict=True):
            x = functional.interpolate(x, scale_factor=2.0)
            x = up(x + skip(fine.pop()))
        return x


class Own(nn.Module):
    """A linear map of its own for each landmark and the background.

    Args:
        shape: how many maps, and the features before and after each.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        count, before, after = shape
        weight = torch.randn(count, before, after)
        self.weight = nn.Parameter(weight / math.sqrt(before))
        self.bias = nn.Parameter(torch.zeros(count, after))

    def forward(self, x: Float[Tensor, "b k i"]) -> Float[Tensor, "b k o"]:
        """All maps at once."""
        return torch.einsum("bki,kio->bko", x, self.weight) + self.bias


class Points(NamedTuple):
    """What is read from heat maps, in units of the image's side."""

    places: Float[Tensor, "b k 2"]  # (x, y)
    deviations: Float[Tensor, "b k 2"]  # of the map's mass, along x and y


def soft_arg_max(maps: Float[Tensor, "b k h w"], *, margin: int = 0) -> Points:
    r"""Mean and standard deviation of each map's mass: :math:`p_k = \frac{1}{\zeta_k}
    \sum_u u D_k(u)` with :math:`\zeta_k = \sum_u D_k(u)`.

    Args:
        maps: not negative.
        margin: cells on each side that lie outside of the image.

    Raises:
        ValueError: for maps without a cell inside.
    """
    inside = [side - 2 * margin for side in maps.shape[-2:]]
    expect(maps.ndim == 4 and min(inside) > 0, "maps (b, k, h, w)", maps.shape)
    mass = maps.sum((2, 3)) + TINY
    means, deviations = [], []
    for axis, count in ((3, inside[1]), (2, inside[0])):
        cells = cell_centres(maps.shape[axis], 1.0) - margin
        where = (cells / count).to(maps)
        along = maps.sum(5 - axis)
        mean = along @ where / mass
        off = where - mean[..., None]
        variance = (along * off.square()).sum(2) / mass
        means.append(mean)
        deviations.append(variance.clamp(min=TINY).sqrt())
    return Points(torch.stack(means, 2), torch.stack(deviations, 2))


def gaussians(
    places: Float[Tensor, "b k 2"],
    deviation: float | Float[Tensor, "b k"],
    size: Sequence[int],
) -> Float[Tensor, "b k h w"]:
    """Round Gaussians, each with a mass of about 1 where it lies well inside.

    Args:
        places: (x, y) of their means, in units of the side.
        deviation: in the same units; of all, or of each.
        size: (rows, columns) of the maps.

    Raises:
        ValueError: for places that are not finite, or a size without cells.
    """
    check_finite(places, "places")
    at_least(1, rows=size[0], columns=size[1])
    width = torch.as_tensor(deviation).to(places)[..., None]
    sides = []
    for axis, count in ((1, size[0]), (0, size[1])):
        cells = cell_centres(count, 1 / count).to(places)
        off = (cells - places[..., axis, None]) / width
        height = 1 / (math.sqrt(2 * math.pi) * width * count)
        # no denormals, which slow convolutions on a CPU
        sides.append(height * torch.exp(-0.5 * off.square().clamp(max=60)))
    return sides[0].unsqueeze(-1) * sides[1].unsqueeze(-2)


def with_background(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b m h w"]:
    """The maps, and a last one that is the same everywhere and has a mass of 1."""
    cells = maps.shape[-2] * maps.shape[-1]
    return torch.cat([maps, torch.full_like(maps[:, :1], 1 / cells)], 1)


class Outputs(NamedTuple):
    """What the net makes of images, and of their warped copies."""

    images: Float[Tensor, "b 3 H W"]  # redrawn from the code
    points: Float[Tensor, "b k 2"]  # landmarks, (x, y) in units of the side
    descriptors: Float[Tensor, "b m d"]  # of the landmarks and, last, the background
    maps: Float[Tensor, "b m h w"]  # which landmark each cell votes for
    deviations: Float[Tensor, "n k 2"]  # of all maps, the warped images' included
    moved: Float[Tensor, "b k 2"] | None  # landmarks of the warped images


def ending(up: Levels, channels: int) -> Levels:
    """The way up with its last layer, which makes ``channels``."""
    return [(channels, *level) if k == 0 else level for k, level in enumerate(up)]


def _check_lengths(widths: Sequence[float], margin: int, *, levels: int) -> None:
    """Raise ``ValueError`` unless widths are positive, and a detector of so many levels
    can halve the margin."""
    expect(min(widths) > 0, "positive widths", widths)
    fits = margin >= 0 and margin % 2 ** max(levels - 1, 0) == 0
    expect(fits, "a margin that can be halved", margin)


class Autoencoder(nn.Module):
    """An image is encoded as landmarks and descriptors, and redrawn from them alone.

    Args:
        num_landmarks: K.
        detector: channels, down and up, of the hourglass that finds landmarks; the last
            layer, which makes K + 1 maps, is added to the way up.
        features: of the one that descriptors are read from.
        decoder: of the one that redraws the image; its last layer is added, too.
        skips: convolutions of a skip: of the detector, and of the other two.
        fold: side of the squares of pixels that enter as one cell.
        margin: cells by which the detector's picture is continued on each side.
        descriptor: numbers about each landmark and the background.
        expanded: channels to which the decoder expands them.
        widths: standard deviations of the redrawn Gaussians, in units of the side.

    Raises:
        ValueError: for a number that is not positive, a margin that the detector cannot
            halve as often as it must, and what ``Hourglass`` refuses.
    """

    def __init__(
        self,
        *,
        num_landmarks: int = 10,
        detector: tuple[Levels, Levels],
        features: tuple[Levels, Levels],
        decoder: tuple[Levels, Levels],
        skips: tuple[int, int],
        fold: int = 1,
        margin: int = 0,
        descriptor: int = DESCRIPTOR,
        expanded: int = FEATURES,
        widths: Sequence[float] = WIDTHS,
    ) -> None:
        super().__init__()
        at_least(1, landmarks=num_landmarks, fold=fold, widths=len(widths))
        at_least(1, descriptor=descriptor, expanded=expanded)
        _check_lengths(widths, margin, levels=len(detector[0]))
        self.fold, self.margin, self.widths = fold, margin, tuple(widths)
        count, pixels = num_landmarks + 1, 3 * fold**2
        down, up = detector[0], ending(detector[1], count)
        self.detector = Hourglass(pixels, down=down, up=up, skip=skips[0])
        down, up = features
        self.features = Hourglass(pixels, down=down, up=up, skip=skips[1], plain=False)
        self.describe_each = Own(count, up[0][0], descriptor)
        self.expand_each = Own(count, descriptor, expanded)
        down, up = decoder[0], ending(decoder[1], pixels)
        drawn = len(widths) * (count + expanded)
        self.decoder = Hourglass(drawn, down=down, up=up, skip=skips[1])
        deepest = max(len(levels) for levels, _ in (detector, features, decoder))
        self.multiple = fold * 2 ** (deepest - 1)

    def heat_maps(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b m h w"]:
        """For each cell the probabilities of the landmarks and, last, the background:
        the softmax runs over the maps.

        Raises:
            ValueError: for what are no images, or sides that cannot be halved.
        """
        check_inputs(images, self, multiple=self.multiple)
        sides = [self.fold * self.margin] * 4
        wide = functional.pad(images, sides, mode="replicate")
        return self.detector(functional.pixel_unshuffle(wide, self.fold)).softmax(1)

    def find(self, images: Float[Tensor, "b 3 H W"]) -> Points:
        """The landmarks of images, and how far their maps spread.

        Raises:
            ValueError: as ``heat_maps``.
        """
        return soft_arg_max(self.heat_maps(images)[:, :-1], margin=self.margin)

    def describe(
        self, images: Float[Tensor, "b 3 H W"], points: Points
    ) -> Float[Tensor, "b m d"]:
        """Descriptors: features averaged through a round window at each landmark, and
        over the whole picture for the background.

        Args:
            images: which they are read from.
            points: of these images.
        """
        features = self.features(functional.pixel_unshuffle(images, self.fold))
        size = features.shape[-2:]
        deviation = points.deviations.mean(2).clamp(min=0.5 / size[0])
        windows = with_background(gaussians(points.places, deviation, size))
        weights = windows.flatten(2)
        weights = weights / (weights.sum(2, keepdim=True) + TINY)
        averages = weights @ features.flatten(2).transpose(1, 2)
        return self.describe_each(averages)

    def draw(
        self,
        points: Float[Tensor, "b k 2"],
        descriptors: Float[Tensor, "b m d"],
        size: Sequence[int],
    ) -> Float[Tensor, "b 3 H W"]:
        """An image, from the code alone.

        Args:
            points: landmarks, (x, y) in units of the side.
            descriptors: of the landmarks and, last, the background.
            size: (rows, columns) of the image.

        Raises:
            ValueError: for points and descriptors that do not fit together, or a size
                that cannot be halved often enough.
        """
        wanted = len(points), points.shape[1] + 1
        fits = descriptors.shape[:2] == wanted
        expect(fits, f"descriptors {wanted}", descriptors.shape)
        even = all(side % self.multiple == 0 and side > 0 for side in size)
        expect(even, f"sides divisible by {self.multiple}", tuple(size))
        cells = [side // self.fold for side in size]
        colours = functional.leaky_relu(self.expand_each(descriptors), SLOPE)
        shares, layers = [], []
        for width in self.widths:
            maps = with_background(gaussians(points, width, cells))
            share = maps / maps.sum(1, keepdim=True)
            painted = colours.transpose(1, 2) @ share.flatten(2)
            shares.append(share)
            layers.append(painted.unflatten(2, cells))
        drawn = self.decoder(torch.cat(shares + layers, 1))
        return functional.pixel_shuffle(drawn, self.fold).sigmoid()

    def forward(
        self,
        images: Float[Tensor, "b 3 H W"],
        warped: Float[Tensor, "b 3 H W"] | None = None,
    ) -> Outputs:
        """Encode and redraw images, and find the landmarks of their warped copies.

        Args:
            images: in [0, 1].
            warped: their copies, see ``augment``; none outside of training.

        Raises:
            ValueError: for what are no images, sides that cannot be halved, or copies
                of another shape.
        """
        both = images
        if warped is not None:
            check_same(images, warped, "images and warped images")
            both = torch.cat([images, warped])
        maps = self.heat_maps(both)
        found = soft_arg_max(maps[:, :-1], margin=self.margin)
        count = len(images)
        mine = Points(found.places[:count], found.deviations[:count])
        descriptors = self.describe(images, mine)
        drawn = self.draw(mine.places, descriptors, images.shape[-2:])
        moved = None if warped is None else found.places[count:]
        rest = maps[:count], found.deviations, moved
        return Outputs(drawn, mine.places, descriptors, *rest)


def concentration(deviations: Float[Tensor, "b k 2"]) -> Float[Tensor, ""]:
    r"""How far maps spread: :math:`\sum_k 2 \pi e \bar\sigma_k^2`, the exponential of
    the entropy of a Gaussian of the same deviation, where :math:`\bar\sigma_k` is the
    mean of the two; averaged over images."""
    return 2 * math.pi * math.e * deviations.mean(2).square().sum(1).mean()


def separation(points: Places, apart: float = APART) -> Float[Tensor, ""]:
    r"""How close landmarks are: :math:`\sum_{k \ne k'} \exp(-\|p_k - p_{k'}\|^2 / 2
    \sigma_{sep}^2)`, averaged over images.

    Args:
        points: (x, y) in units of the side.
        apart: :math:`\sigma_{sep}`, in the same units.

    Raises:
        ValueError: for a deviation that is not positive.
    """
    expect(apart > 0, "a deviation > 0", apart)
    away = points[:, :, None] - points[:, None]
    close = torch.exp(-away.square().sum(3) / (2 * apart**2))
    return close.sum((1, 2)).mean() - points.shape[1]  # without each with itself


def equivariance(
    points: Places,
    moved: Places,
    matrices: Float[Tensor, "b 2 3"],
    fields: Float[Tensor, "b 2 h w"],
) -> Float[Tensor, ""]:
    r"""How badly landmarks follow a warp: :math:`\sum_k \|g(p'_k) - p_k\|^2`, averaged
    over images.

    Args:
        points: of the images, :math:`p_k`.
        moved: of the warped images, :math:`p'_k`.
        matrices: of the warp g, see ``source``.
        fields: of the warp.
    """
    check_same(points, moved, "points of images and of warped images")
    back = source(moved, matrices, fields)
    return (back - points).square().sum((1, 2)).mean()


def source(
    places: Float[Tensor, "b n 2"],
    matrices: Float[Tensor, "b 2 3"],
    fields: Float[Tensor, "b 2 h w"],
) -> Float[Tensor, "b n 2"]:
    r"""The warp :math:`g`: where in the image the content of places in the warped image
    comes from.

    A warped picture is made by asking at each of its pixels where to read, so that g
    leads back, and no inverse is ever needed.

    Args:
        places: (x, y) in the warped image, in units of the side.
        matrices: a similarity about the picture's middle.
        fields: (dx, dy), which are added after it, on a grid over the image.

    Raises:
        ValueError: for places that are not finite.
    """
    turned = (places - 0.5) @ matrices[..., :2].transpose(1, 2)
    turned = turned + 0.5 + matrices[:, None, :, 2]
    height, width = fields.shape[-2:]
    at = turned * turned.new_tensor([width, height])
    shift = warps.read(fields, at[:, None], outside="border")
    return turned + shift[:, :, 0].transpose(1, 2)


def warp(
    images: Float[Tensor, "b c h w"],
    matrices: Float[Tensor, "b 2 3"],
    fields: Float[Tensor, "b 2 h w"],
) -> Float[Tensor, "b c h w"]:
    """The pictures in which position x shows what is at g(x) in the images; beyond
    their border its pixels repeat.

    Args:
        images: of the fields' size.
        matrices: of g, see ``source``.
        fields: of g.

    Raises:
        ValueError: for fields or matrices that do not fit the images.
    """
    height, width = images.shape[-2:]
    fits = fields.shape == (len(images), 2, height, width)
    expect(fits, f"fields for images {tuple(images.shape)}", fields.shape)
    x = cell_centres(width, 1 / width).to(fields)
    y = cell_centres(height, 1 / height).to(fields)
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    pixels = pixels.flatten(0, 1).expand(len(images), -1, -1)
    read_at = source(pixels, matrices, fields) * pixels.new_tensor([width, height])
    read_at = read_at.unflatten(1, (height, width))
    return warps.read(images, read_at, outside="border")


def augment(
    batch: Mapping[str, Tensor],
    generator: torch.Generator,
    *,
    std: float = 0.03,
    angle: float = 0.2,
    scale: float = 0.12,
    shift: float = 0.075,
) -> dict[str, Tensor]:
    """Add a warped copy of each image, and its warp.

    Args:
        batch: ``images`` (b, c, h, w).
        generator: CPU generator.
        std: of the smooth displacements on a grid of 5 x 5, in units of the side.
        angle: standard deviation of the rotation, in radians.
        scale: of the logarithm of the enlargement.
        shift: the largest shift along x and y, in units of the side.

    Raises:
        ValueError: for a batch without images, or a number that is negative.
    """
    check_keys(batch, "images")
    images = batch["images"]
    expect(min(std, angle, scale, shift) >= 0, "no negative warp", std, angle, scale)
    count, size = len(images), images.shape[-2:]
    turn = angle * torch.randn(count, generator=generator)
    grow = torch.exp(scale * torch.randn(count, generator=generator))
    move = shift * (2 * torch.rand(count, 2, generator=generator) - 1)
    cos, sin = grow * turn.cos(), grow * turn.sin()
    rows = torch.stack([cos, -sin, move[:, 0], sin, cos, move[:, 1]], 1)
    matrices = rows.view(count, 2, 3).to(images)
    fields = unet.displacements(count, size, generator, std=std, grid=5).to(images)
    warped = warp(images, matrices, fields)
    return {**batch, "warped": warped, "matrices": matrices, "fields": fields}


def loss(
    outputs: Outputs,
    batch: Mapping[str, Tensor],
    *,
    concentrate: float = CONCENTRATION,
    separate: float = SEPARATION,
    follow: float = EQUIVARIANCE,
    redraw: float = RECONSTRUCTION,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The four losses; no label is read.

    Args:
        outputs: of the net, which was given ``warped`` as well.
        batch: ``images``, and ``matrices`` and ``fields`` of the warps, see
            ``augment``.
        concentrate: weight of ``concentration``.
        separate: of ``separation``.
        follow: of ``equivariance``.
        redraw: of ``reconstruction``, the mean squared error of the redrawn image.
        generator: nothing is drawn.

    Returns:
        ``loss``, the weighted sum, and its four terms.

    Raises:
        ValueError: for a batch without the above, outputs without the warped images'
            landmarks, or images of another shape than the redrawn ones.
    """
    check_keys(batch, "images", "matrices", "fields")
    expect(outputs.moved is not None, "landmarks of the warped images", None)
    check_same(outputs.images, batch["images"], "images and redrawn images")
    moved = cast("Tensor", outputs.moved)
    warp_of = batch["matrices"], batch["fields"]
    terms = {
        "concentration": concentration(outputs.deviations),
        "separation": separation(torch.cat([outputs.points, moved])),
        "equivariance": equivariance(outputs.points, moved, *warp_of),
        "reconstruction": (outputs.images - batch["images"]).square().mean(),
    }
    weights = concentrate, separate, follow, redraw
    parts = [w * term for w, term in zip(weights, terms.values(), strict=True)]
    return {"loss": torch.stack(parts).sum(), **terms}


@torch.no_grad()
def decode(outputs: Outputs, *, size: Sequence[int]) -> Float[Tensor, "b k 2"]:
    """Landmarks in pixels.

    Args:
        outputs: of the net.
        size: (rows, columns) of the images.

    Raises:
        ValueError: for a size without pixels.
    """
    at_least(1, rows=size[0], columns=size[1])
    return outputs.points * outputs.points.new_tensor([size[1], size[0]])


def linear_map(
    points: Float[Tensor, "n k 2"], truth: Float[Tensor, "n l 2"]
) -> Float[Tensor, "f e"]:
    """The linear map, with a constant, from discovered landmarks to true ones, by least
    squares: the only step at which anybody's labels are used.

    Args:
        points: discovered, of n images.
        truth: of the same images.

    Returns:
        Weights from the 2k coordinates and 1 to the 2l true ones.

    Raises:
        ValueError: for other numbers of images.
    """
    alike = len(points) == len(truth) > 0
    expect(alike, "as many points as truths", points.shape, truth.shape)
    # On a GPU the default expects full rank; this one does not.
    known, wanted = with_one(points).cpu(), truth.flatten(1).double().cpu()
    return torch.linalg.lstsq(known, wanted, driver="gelsd").solution


def with_one(points: Float[Tensor, "n k 2"]) -> Float[Tensor, "n f"]:
    """All coordinates of an image in a row of doubles, and a 1."""
    flat = points.flatten(1).double()
    return torch.cat([flat, torch.ones_like(flat[:, :1])], 1)


def apply_map(
    points: Float[Tensor, "n k 2"], weights: Float[Tensor, "f e"]
) -> Float[Tensor, "n l 2"]:
    """What ``linear_map`` makes of discovered landmarks."""
    answered = with_one(points).cpu() @ weights
    return answered.unflatten(1, (-1, 2)).float()


def normalised_error(
    found: Float[Tensor, "n l 2"], truth: Float[Tensor, "n l 2"]
) -> Float[Tensor, " n"]:
    """Mean distance to the true landmarks, in units of the distance between the eyes,
    which are the first two.

    Raises:
        ValueError: for other shapes, or eyes in one place.
    """
    check_same(found, truth, "found and true landmarks")
    eyes = (truth[:, 0] - truth[:, 1]).norm(dim=1)
    expect((eyes > 0).all(), "two eyes in two places")
    return (found - truth).norm(dim=2).mean(1) / eyes


def nearest_neighbour(points: Float[Tensor, "n k 2"]) -> Float[Tensor, " n"]:
    """How far it is from a landmark to the nearest other one, on average over those of
    an image.

    Raises:
        ValueError: for a single landmark.
    """
    count = points.shape[1]
    expect(count > 1, "at least two landmarks", count)
    away = torch.cdist(points, points)
    away = away + torch.full((count,), math.inf).diag().to(away)
    return away.amin(2).mean(1)


def dots(
    image: Float[Tensor, "3 h w"],
    points: Float[Tensor, "k 2"],
    *,
    scale: int = 4,
    radius: float = 0.03,
) -> Float[Tensor, "3 H W"]:
    """A picture with a disc on each landmark, whose colour tells which it is.

    Args:
        image: in [0, 1].
        points: (x, y) in units of the side.
        scale: enlargement of the picture.
        radius: of the discs, in units of the side.
    """
    large = functional.interpolate(image[None], scale_factor=float(scale))[0]
    height, width = large.shape[-2:]
    x = cell_centres(width, 1 / width).to(large)
    y = cell_centres(height, 1 / height).to(large)[:, None]
    thirds = torch.arange(3) / 3
    for k, (left, top) in enumerate(points.tolist()):
        away = ((x - left) ** 2 + (y - top) ** 2).sqrt()
        hue = 0.5 + 0.5 * torch.cos(2 * math.pi * (k / len(points) - thirds))
        for reach, paint in ((radius, torch.full((3,), 0.1)), (0.72 * radius, hue)):
            cover = ((reach - away) * width + 0.5).clamp(0, 1)
            large = large + cover * (paint[:, None, None].to(large) - large)
    return large


BLOCKS = {
    "detector": "detector",
    "features": "features",
    "describe_each": "descriptors",
    "expand_each": "expanded",
    "decoder": "decoder",
}


def tiny(**overrides: Any) -> Autoencoder:
    """The book's scale: three narrow hourglasses on maps of half the side, and two
    Gaussians for each landmark.

    Args:
        overrides: of ``Autoencoder``.
    """
    settings: dict = {
        "detector": ([[24], [32], [48]], [[], [24], [32]]),
        "features": ([[16], [24]], [[16], [16]]),
        "decoder": ([[24], [32], [32]], [[], [24], [32]]),
        "skips": (1, 1),
        "fold": 2,
        "expanded": 8,
        "widths": (0.06, 0.12),
    }
    return Autoencoder(**(settings | overrides))


def trained() -> Autoencoder:
    """The tiny net after 2,000 steps on 4,000 drawn faces of 32 x 32 pixels, with a
    larger weight of the reconstruction; in evaluation mode."""
    net = tiny()
    net.load_state_dict(torch.load(TRAINED, weights_only=True))
    return net.eval()


def paper(**overrides: Any) -> Autoencoder:
    """The released code's layers for images of 80 x 80 and ten landmarks.

    Args:
        overrides: of ``Autoencoder``.
    """
    settings: dict = {
        "detector": (
            [[32, 32], [64, 64], [64, 64], [64, 64]],
            [[32], [32, 64], [64, 64], [64, 64]],
        ),
        "features": (
            [[32, 64], [128], [256], [512]],
            [[64, 64], [64], [128], [256]],
        ),
        "decoder": (
            [[64, 64], [128], [256], [512], [512]],
            [[32], [64], [128], [256], [512]],
        ),
        "skips": (3, 2),
        "margin": 8,
    }
    return Autoencoder(**(settings | overrides))
