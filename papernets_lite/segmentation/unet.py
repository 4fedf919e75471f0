"""U-Net: Convolutional Networks for Biomedical Image Segmentation.

Olaf Ronneberger, Philipp Fischer, Thomas Brox. MICCAI 2015, arXiv 1505.04597.
Official code: a Caffe archive on the group's page,
lmb.informatik.uni-freiburg.de/people/ronneber/u-net.

Idea: on the way up, lay each level's fine features from the way down beside the coarse
ones, and tell the loss where cells touch.

Differs:
    1. ``padding=1`` keeps the size, as most later users of the net do; the default is
       the paper's valid convolutions.
    2. The energy is the mean over pixels, not the sum: the learning rate then does not
       depend on the tile's size.
    3. Tiles advance by multiples of the pooling's grid (384 instead of 388 pixels at
       the paper's scale), so that the result does not depend on their size.

Guessed:
    Which two places "at the end of the contracting path" have dropout (after the two
    lowest blocks), and its rate. No ReLU after an up-convolution. Which bicubic kernel:
    Keys' with a = -0.75, torch's. The class balance: every class weighs the same in an
    image, and a pixel 1 on average. The border term is zero inside cells, where "the
    nearest cell" would be the pixel's own.

Example:
    >>> from papernets_lite.segmentation import unet
    >>> unet.tiny(padding=1, num_classes=3)(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 3, 64, 64])
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops import warps
from papernets_lite.ops.checks import (
    check_images,
    check_keys,
    check_labels,
    check_objects,
    check_same,
    expect,
)

WIDTHS = (64, 128, 256, 512, 1024)  # channels of each level, Fig. 1
W0, SIGMA = 10.0, 5.0  # Eq. 2, sigma in pixels
STD = 10.0  # of the displacements, in pixels of images of 512 (Section 3.1)


def block(in_channels: int, out_channels: int, padding: int) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by a ReLU.

    Args:
        in_channels: of the input.
        out_channels: of both convolutions.
        padding: zeros around the maps; without, a convolution takes a pixel off each
            side.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=padding),
        nn.ReLU(inplace=True),
    )


def crop(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of ``maps`` (..., h, w), of rows and columns ``size``: as much goes on
    one side as on the other.

    Raises:
        ValueError: for maps that are smaller, or larger by an odd number of pixels.
    """
    height, width = maps.shape[-2:]
    rows, columns = size
    down, across = height - rows, width - columns
    even = down >= 0 and across >= 0 and down % 2 == across % 2 == 0
    expect(even, f"{rows} x {columns} pixels and as many on each side", maps.shape)
    top, left = down // 2, across // 2
    return maps[..., top : top + rows, left : left + columns]


def margin(depth: int) -> int:
    """How many pixels valid convolutions take off each side of a tile: 92 for the
    paper's ``depth`` of 4."""
    return 6 * 2**depth - 4


def start(layer: nn.Module) -> None:
    """Initial weights: Gaussian, deviation sqrt(2 / N), where N values meet in one
    output (Section 3); no biases."""
    if isinstance(layer, nn.Conv2d):
        meet = layer.kernel_size[0] ** 2 * layer.in_channels
    elif isinstance(layer, nn.ConvTranspose2d):
        meet = layer.in_channels  # an up-convolution's kernels do not overlap
    else:
        return
    nn.init.normal_(layer.weight, std=(2 / meet) ** 0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _check(channels: Sequence[int], padding: int, dropout: float) -> None:
    """Raise ``ValueError`` for settings that make no net; the images' channels come
    first, the classes last."""
    fits = len(channels) >= 4 and padding in (0, 1)
    expect(fits, "two widths or more and padding 0 or 1", channels[1:-1], padding)
    expect(min(channels) > 0, "positive numbers of channels and classes", channels)
    expect(0 <= dropout <= 1, "a dropout from 0 to 1", dropout)


class UNet(nn.Module):
    """The contracting path, the expanding path, and a 1x1 convolution to the classes.

    Args:
        widths: channels of each level, from the image's resolution down; each further
            level halves the size.
        in_channels: of the images.
        num_classes: outputs.
        padding: 0 for valid convolutions, which take ``margin(depth)`` pixels off each
            side; 1 keeps the size.
        dropout: rate after the two lowest blocks of the contracting path.
        skips: whether the way up gets the fine maps; without, it has the coarse alone.

    Raises:
        ValueError: for fewer than two levels, a number of channels or classes that is
            not positive, another padding, or a rate outside [0, 1].
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        in_channels: int = 1,
        num_classes: int = 2,
        padding: int = 0,
        dropout: float = 0.5,
        skips: bool = True,
    ) -> None:
        super().__init__()
        _check((in_channels, *widths, num_classes), padding, dropout)
        self.depth, self.padding, self.skips = len(widths) - 1, padding, skips
        self.down = nn.ModuleList()
        for above, width in pairwise((in_channels, *widths)):
            self.down.append(block(above, width, padding))
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        for low, width in pairwise(reversed(widths)):
            self.up.append(nn.ConvTranspose2d(low, width, 2, stride=2))
            joined = 2 * width if skips else width
            self.merge.append(block(joined, width, padding))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.dropout = nn.Dropout(dropout)
        self.apply(start)

    def check(self, size: Sequence[int]) -> None:
        """Raise ``ValueError`` unless every pooling of an image of ``size`` sees an
        even size, and a pixel is left."""
        fold = 2**self.depth
        if self.padding:
            least, rest = fold, 0
        else:
            least = 2 * margin(self.depth) + 1
            rest = -4 % fold
        fits = all(side >= least and side % fold == rest for side in size)
        expect(fits, f"sides of {rest} + k {fold} and at least {least}", tuple(size))

    def forward(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k h w"]:
        """Class scores (logits) of the pixels in the middle of ``images``.

        Raises:
            ValueError: for what are no images, see ``checks.check_images``, or images
                of a size that does not fit, see ``check``.
        """
        check_images(images, cast("nn.Conv2d", self.down.get_submodule("0.0")))
        self.check(images.shape[-2:])
        x = images
        skips = []
        for level, down in enumerate(self.down):
            if level > 0:
                x = functional.max_pool2d(x, 2)
            x = down(x)
            if level > self.depth - 2:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()  # the lowest has nothing to skip
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)
            fine = crop(skips.pop(), x.shape[-2:])
            x = merge(torch.cat([fine, x], 1) if self.skips else x)
        return self.head(x)


def cut(net: UNet, level: int) -> UNet:
    """A copy of a trained net that gets zeros in place of a level's skip.

    Args:
        net: with skips; it stays as it is.
        level: of the skip: 0 at the image's resolution, ``net.depth - 1`` the lowest.

    Raises:
        ValueError: for a net without skips, or no such level.
    """
    expect(net.skips, "a net with skips")
    expect(0 <= level < net.depth, f"a level from 0 to {net.depth - 1}", level)
    out = deepcopy(net)
    first = out.merge.get_submodule(f"{net.depth - 1 - level}.0")
    width = first.out_channels
    with torch.no_grad():
        # The fine maps are the first half.
        first.weight[:, :width] = 0  # type: ignore[operator]
    return out


def loss(
    outputs: Float[Tensor, "b k h w"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""The energy, Eq. 1 with its sign turned: the mean of :math:`-w(x) \log
    p_{\ell(x)}(x)`.

    Args:
        outputs: logits :math:`a_k(x)`; the softmax over k makes them :math:`p_k(x)`.
        batch: ``labels`` (b, H, W), the true class of each pixel, from 0 to k - 1;
            where they are larger than the outputs, their middle counts. ``weights``,
            :math:`w(x)`, of the labels' size and not negative; none stands for 1
            everywhere.
        generator: nothing is drawn.

    Returns:
        ``loss``, and ``accuracy``, the share of pixels that are right.

    Raises:
        ValueError: for labels or weights of another shape, labels that are no class, or
            weights that are negative or not finite.
    """
    _check_labels(outputs, batch)
    size = outputs.shape[-2:]
    true = crop(batch["labels"], size).long()
    energy = functional.cross_entropy(outputs, true, reduction="none")
    if "weights" in batch:
        energy = crop(batch["weights"], size) * energy
    right = outputs.detach().argmax(1) == true
    return {"loss": energy.mean(), "accuracy": right.to(energy.dtype).mean()}


def _check_labels(outputs: Tensor, batch: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` unless the labels are classes of the outputs, and weights,
    if any, fit them."""
    check_keys(batch, "labels")
    labels = check_labels(batch["labels"], outputs.shape[1])
    alike = labels.ndim == 3 and len(labels) == len(outputs)
    expect(alike, f"labels ({len(outputs)}, h, w)", labels.shape)
    crop(labels, outputs.shape[-2:])
    if "weights" in batch:
        weights = batch["weights"]
        check_same(labels, weights, "labels and weights")
        sound = (weights >= 0) & weights.isfinite()
        expect(sound.all(), "finite weights >= 0")


def separate(instances: Integer[Tensor, "b h w"]) -> Integer[Tensor, "b h w"]:
    """Make way between cells that touch: where two meet in a pixel's 3x3 neighbourhood,
    it becomes background (0).

    Raises:
        ValueError: for no pixels, or a negative number.
    """
    check_objects(instances, dims=3)
    number = instances[:, None].double()
    many = number.max() + 1
    # Numbers turned round, background left at 0: the maximum is the lowest number.
    turned = torch.where(number > 0, many - number, 0)
    highest = functional.max_pool2d(number, 3, stride=1, padding=1)
    lowest = many - functional.max_pool2d(turned, 3, stride=1, padding=1)
    return torch.where((highest == lowest)[:, 0], instances, 0)


def class_balance(labels: Integer[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """w_c: background and cells get the same total weight in each image, and a pixel 1
    on average.

    Args:
        labels: 0 for background; everything above counts as cell.

    Raises:
        ValueError: for no pixels, or a negative label.
    """
    check_objects(labels, dims=3)
    cell = labels > 0
    share = cell.float().mean((1, 2), keepdim=True).expand(labels.shape)
    own = torch.where(cell, share, 1 - share)
    both = (share > 0) & (share < 1)
    return torch.where(both, 0.5 / own, 1.0)


def nearest_two(instances: Integer[Tensor, "h w"]) -> Float[Tensor, "2 h w"]:
    """d_1 and d_2: from each background pixel to the nearest and the second nearest
    cell, in pixels.

    Args:
        instances: 0 for background, another number for each cell.

    Returns:
        Distances between centres of pixels; 0 inside cells, infinite where there is no
        such cell.

    Raises:
        ValueError: for no pixels, or a negative number.
    """
    check_objects(instances, dims=2)
    out = torch.zeros(2, *instances.shape, device=instances.device)
    free = instances == 0
    if not free.any():
        return out
    here = free.nonzero().float()
    nowhere = here.new_full((len(here),), float("inf"))
    distances = [nowhere, nowhere]
    for number in instances[~free].unique():
        distances.append(_distance(here, instances == number))
    out[:, free] = torch.stack(distances).topk(2, dim=0, largest=False).values
    return out


def _distance(
    here: Float[Tensor, "n 2"], cell: Bool[Tensor, "h w"]
) -> Float[Tensor, " n"]:
    """From places (row, column) outside a cell to its nearest pixel: always one at its
    rim, where not all around is cell."""
    outside = functional.max_pool2d(1 - cell[None].float(), 3, 1, 1)[0] > 0
    rim = (cell & outside).nonzero().float()
    # By differences: the faster way with products loses digits.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(here, rim, compute_mode=mode).amin(1)


def weight_map(
    instances: Integer[Tensor, "b h w"], w0: float = W0, sigma: float = SIGMA
) -> Float[Tensor, "b h w"]:
    r"""Eq. 2: :math:`w(x) = w_c(x) + w_0 \exp(-(d_1(x) + d_2(x))^2 / 2 \sigma^2)`, the
    second term outside cells.

    Args:
        instances: 0 for background, a number for each cell; see ``separate``.
        w0: weight of a border, in units of an average pixel's.
        sigma: reach, in pixels.

    Raises:
        ValueError: unless ``sigma > 0`` and ``w0 >= 0``, both finite; for no pixels, or
            a negative number.
    """
    expect(0 < sigma < math.inf, "sigma > 0, finite", sigma)
    expect(0 <= w0 < math.inf, "a finite w0 >= 0", w0)
    balance = class_balance(instances)
    reach = torch.stack([nearest_two(image).sum(0) for image in instances])
    border = w0 * torch.exp(-(reach**2) / (2 * sigma**2))
    return balance + torch.where(instances == 0, border, 0)


def displacements(
    n: int,
    size: Sequence[int],
    generator: torch.Generator,
    *,
    std: float = STD,
    grid: int = 3,
) -> Float[Tensor, "n 2 h w"]:
    """Smooth random fields: normal vectors on a coarse grid, whose corners are the
    image's, and bicubic between them.

    Args:
        n: how many.
        size: rows and columns.
        generator: CPU generator.
        std: of a vector's x and y, in pixels.
        grid: vectors along each side.

    Returns:
        (dx, dy) in pixels.

    Raises:
        ValueError: unless ``n``, ``size`` and ``grid`` are positive, and ``std`` is
            finite and at least 0.
    """
    positive = min(n, *size, grid) > 0
    expect(positive, "positive n, sides and grid", n, tuple(size), grid)
    expect(0 <= std < math.inf, "a finite std >= 0", std)
    vectors = std * torch.randn(n, 2, grid, grid, generator=generator)
    return functional.interpolate(
        vectors, size=list(size), mode="bicubic", align_corners=True
    )


def deform(
    maps: Float[Tensor, "b c h w"],
    field: Float[Tensor, "b 2 h w"],
    mode: warps.Mode = "bilinear",
) -> Float[Tensor, "b c h w"]:
    """What is at x + field(x) moves to x; beyond the image's border its mirror image is
    read.

    Args:
        maps: pictures, or labels and weights as pictures.
        field: (dx, dy) in pixels.
        mode: ``"bilinear"``, or ``"nearest"`` for labels.

    Raises:
        ValueError: for a field of another shape, or that is not finite.
    """
    return warps.warp_flow(maps, field, mode=mode, outside="reflection")


def jacobian(field: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h-1 w-1"]:
    """How much ``x + field(x)`` enlarges areas; where it is negative, the field
    folds.

    Raises:
        ValueError: for a field without two rows and columns.
    """
    fits = field.ndim == 4 and field.shape[1] == 2 and min(field.shape[-2:]) >= 2
    expect(fits, "a field (b, 2, h, w) of at least two rows and columns", field.shape)
    corner = field[..., :-1, :-1]
    across = field[..., :-1, 1:] - corner
    down = field[..., 1:, :-1] - corner
    return (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]


def augment(
    batch: Mapping[str, Tensor], generator: torch.Generator, *, std: float
) -> Mapping[str, Tensor]:
    """Deform pictures, labels and weights alike.

    Args:
        batch: ``images`` (b, c, h, w), ``labels`` (b, h, w) and perhaps ``weights``
            (b, h, w).
        generator: CPU generator; it is used alike for every ``std``, zero included.
        std: see ``displacements``.

    Returns:
        What ``batch`` has of these, deformed; ``batch`` itself for ``std`` 0.

    Raises:
        ValueError: for labels or weights of another size than the images.
    """
    check_keys(batch, "images")
    images = batch["images"]
    check_images(images)
    size = images.shape[-2:]
    sharp = {name: batch[name] for name in ("labels", "weights") if name in batch}
    for name, maps in sharp.items():
        wanted = (len(images), *size)
        expect(maps.shape == wanted, f"{name} {wanted}", maps.shape)
    field = displacements(len(images), size, generator, std=std).to(images.device)
    if std == 0:
        return batch
    out = {"images": deform(images, field)}
    for name, maps in sharp.items():
        moved = deform(maps[:, None].float(), field, "nearest")[:, 0]
        out[name] = moved.long() if name == "labels" else moved
    return out


def turns(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each picture in its eight positions: four quarter turns, as it is and flipped.

    Args:
        batch: maps (..., h, w) of square pictures by name: images, labels, weights.

    Returns:
        The same maps, eight times as many along the first axis.

    Raises:
        ValueError: for maps that are not square.
    """
    out = {}
    for name, maps in batch.items():
        square = maps.ndim >= 3 and maps.shape[-1] == maps.shape[-2]
        expect(square, f"{name} of square pictures", maps.shape)
        positions = []
        for side in (maps, maps.flip(-1)):
            positions += [side.rot90(k, (-2, -1)) for k in range(4)]
        out[name] = torch.cat(positions)
    return out


def mirror(maps: Tensor, before: int, after: int) -> Tensor:
    """``maps`` (..., h, w) continued beyond all borders by its mirror images; a
    border's own pixels occur once.

    Args:
        maps: of any type.
        before: rows above and columns left.
        after: rows below and columns right.

    Raises:
        ValueError: for maps without a pixel, or negative margins.
    """
    filled = maps.ndim >= 2 and min(maps.shape[-2:]) > 0
    expect(filled, "maps (..., h, w) with a pixel", maps.shape)
    expect(min(before, after) >= 0, "margins >= 0", before, after)
    for axis in (-2, -1):
        size = maps.shape[axis]
        # There and back: 0 1 2 3 2 1 for a size of 4.
        period = max(2 * size - 2, 1)
        place = torch.arange(-before, size + after, device=maps.device) % period
        place = torch.minimum(place, period - place) if size > 1 else place
        maps = maps.index_select(axis, place)
    return maps


def predict(
    net: UNet, images: Float[Tensor, "b c h w"], tile: int, *, mirrored: bool = True
) -> Float[Tensor, "b k h w"]:
    """The overlap-tile strategy (Fig. 2): scores of whole images of any size, tile by
    tile, without a seam.

    Args:
        net: with valid convolutions, in evaluation mode.
        images: the images.
        tile: side of a tile of the output, of those sizes that ``net`` allows: 388 in
            the paper.
        mirrored: beyond the border, the mirrored image; zeros else.

    Raises:
        ValueError: for a net that keeps the size, a tile that it does not allow, or one
            that is smaller than a cell of its coarsest grid.
    """
    around, stride = margin(net.depth), _stride(net, images, tile)
    edge = around, around + tile  # before and after, along both axes
    wide = mirror(images, *edge) if mirrored else functional.pad(images, 2 * edge)
    whole = tile + 2 * around
    height, width = images.shape[-2:]
    rows = []
    for top in range(0, height, stride):
        row = []
        for left in range(0, width, stride):
            scores = net(wide[..., top : top + whole, left : left + whole])
            row.append(scores[..., :stride, :stride])
        rows.append(torch.cat(row, 3))
    return torch.cat(rows, 2)[..., :height, :width]


def _stride(net: UNet, images: Tensor, tile: int) -> int:
    """By how many pixels tiles advance: the pools' grid must not shift from tile to
    tile. Raises ``ValueError`` where ``predict`` says."""
    expect(net.padding == 0, "a net with valid convolutions, padding 0", net.padding)
    check_images(images)
    net.check([tile + 2 * margin(net.depth)])
    stride = tile - tile % 2**net.depth
    expect(stride > 0, f"a tile of at least {2**net.depth} pixels", tile)
    return stride


# How the map of the net calls its parts.
BLOCKS = {
    "down.*": "down *",
    "up.* merge.*": "up *",
    "head": "head",
}


def tiny(**overrides: Any) -> UNet:
    """The book's scale: two halvings, a quarter of the width, colour images, no
    dropout.

    Args:
        overrides: of ``UNet``.
    """
    settings: dict = {"widths": (16, 32, 64), "in_channels": 3, "dropout": 0.0}
    return UNet(**(settings | overrides))


def paper(**overrides: Any) -> UNet:
    """The paper's scale: from 572 x 572 to 388 x 388 pixels.

    Args:
        overrides: of ``UNet``.
    """
    settings: dict = {"widths": WIDTHS}
    return UNet(**(settings | overrides))
