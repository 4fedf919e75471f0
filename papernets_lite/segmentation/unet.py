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
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.ops.checks import expect

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
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=padding),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def crop(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of ``maps`` (..., h, w), of rows and columns ``size``: as much goes on
    one side as on the other."""
    top, left = (
        (have - want) // 2 for have, want in zip(maps.shape[-2:], size, strict=True)
    )
    return maps[..., top : top + size[0], left : left + size[1]]


def margin(depth: int) -> int:
    """How many pixels valid convolutions take off each side of a tile: 92 for the
    paper's ``depth`` of 4."""
    return 6 * 2**depth - 4


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

    Raises:
        ValueError: for fewer than two levels or another padding.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        in_channels: int = 1,
        num_classes: int = 2,
        padding: int = 0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        expect(
            len(widths) >= 2 and padding in (0, 1),
            "two widths or more and padding 0 or 1",
            widths,
            padding,
        )
        self.depth, self.padding = len(widths) - 1, padding
        levels = list(zip([in_channels, *widths[:-1]], widths, strict=True))
        self.down = nn.ModuleList(
            block(above, width, padding) for above, width in levels
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(low, width, 2, stride=2)
            for width, low in reversed(levels[1:])
        )
        self.merge = nn.ModuleList(
            block(2 * width, width, padding) for width in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.dropout = nn.Dropout(dropout)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                # sqrt(2 / N), N the values that meet in one output: an up-convolution's
                # kernels do not overlap.
                taps = layer.kernel_size[0] ** 2 if isinstance(layer, nn.Conv2d) else 1
                nn.init.normal_(
                    layer.weight, std=(2 / (taps * layer.in_channels)) ** 0.5
                )
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def check(self, size: Sequence[int]) -> None:
        """Raise ``ValueError`` unless every pooling of an image of ``size`` sees an
        even size, and a pixel is left."""
        fold = 2**self.depth
        least, rest = (
            (fold, 0) if self.padding else (2 * margin(self.depth) + 1, -4 % fold)
        )
        fits = all(side >= least and side % fold == rest for side in size)
        expect(fits, f"sides of {rest} + k {fold} and at least {least}", tuple(size))

    def forward(self, images: Float[Tensor, "b c H W"]) -> Float[Tensor, "b k h w"]:
        """Class scores (logits) of the pixels in the middle of ``images``.

        Raises:
            ValueError: for a batch without images, or images of a size that does not
                fit, see ``check``.
        """
        expect(len(images) > 0, "at least one image", images.shape)
        self.check(images.shape[-2:])
        x, skips = images, []
        for level, down in enumerate(self.down):
            x = down(functional.max_pool2d(x, 2) if level else x)
            if level > self.depth - 2:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()  # the lowest has nothing to skip
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)
            x = merge(torch.cat([crop(skips.pop(), x.shape[-2:]), x], 1))
        return self.head(x)


def loss(
    outputs: Float[Tensor, "b k h w"],
    labels: Int[Tensor, "b H W"],
    weights: Float[Tensor, "b H W"] | None = None,
) -> dict[str, Tensor]:
    r"""The energy, Eq. 1 with its sign turned: the mean of :math:`-w(x) \log
    p_{\ell(x)}(x)`.

    Args:
        outputs: logits :math:`a_k(x)`; the softmax over k makes them :math:`p_k(x)`.
        labels: the true class of each pixel; where they are larger than the outputs,
            their middle counts.
        weights: :math:`w(x)`, of the labels' size; none stands for 1 everywhere.

    Returns:
        ``loss``, and ``accuracy``, the share of pixels that are right.
    """
    labels = crop(labels, outputs.shape[-2:])
    energy = functional.cross_entropy(outputs, labels, reduction="none")
    if weights is not None:
        energy = crop(weights, outputs.shape[-2:]) * energy
    return {
        "loss": energy.mean(),
        "accuracy": (outputs.detach().argmax(1) == labels).to(energy.dtype).mean(),
    }


def separate(instances: Int[Tensor, "b h w"]) -> Int[Tensor, "b h w"]:
    """Make way between cells that touch: where two meet in a pixel's 3x3 neighbourhood,
    it becomes background (0)."""
    number = instances[:, None].double()
    many = number.max() + 1
    highest = functional.max_pool2d(number, 3, stride=1, padding=1)
    lowest = many - functional.max_pool2d(
        torch.where(number > 0, many - number, 0), 3, stride=1, padding=1
    )
    return torch.where((highest == lowest)[:, 0], instances, 0)


def class_balance(labels: Int[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """w_c: background and cells get the same total weight in each image, and a pixel 1
    on average.

    Args:
        labels: 0 for background; everything else counts as cell.
    """
    share = (labels > 0).float().mean((1, 2), keepdim=True).expand(labels.shape)
    own = torch.where(labels > 0, share, 1 - share)
    return torch.where((share > 0) & (share < 1), 0.5 / own, 1.0)


def nearest_two(instances: Int[Tensor, "h w"]) -> Float[Tensor, "2 h w"]:
    """d_1 and d_2: from each background pixel to the nearest and the second nearest
    cell, in pixels.

    Args:
        instances: 0 for background, another number for each cell.

    Returns:
        Distances between centres of pixels; 0 inside cells, infinite where there is no
        such cell.
    """
    free = instances == 0
    here = free.nonzero().float()
    distances = [here.new_full((len(here),), float("inf")) for _ in range(2)]
    for number in instances[~free].unique():
        cell = instances == number
        # The nearest pixel of a cell is always one at its rim, where not all around is
        # cell.
        rim = cell & (functional.max_pool2d(1 - cell[None].float(), 3, 1, 1)[0] > 0)
        distances.append(
            torch.cdist(
                here, rim.nonzero().float(), compute_mode="donot_use_mm_for_euclid_dist"
            ).amin(1)
        )
    out = torch.zeros(2, *instances.shape, device=instances.device)
    out[:, free] = torch.stack(distances).topk(2, dim=0, largest=False).values
    return out


def weight_map(
    instances: Int[Tensor, "b h w"], w0: float = W0, sigma: float = SIGMA
) -> Float[Tensor, "b h w"]:
    r"""Eq. 2: :math:`w(x) = w_c(x) + w_0 \exp(-(d_1(x) + d_2(x))^2 / 2 \sigma^2)`, the
    second term outside cells.

    Args:
        instances: 0 for background, a number for each cell; see ``separate``.
        w0: weight of a border, in units of an average pixel's.
        sigma: reach, in pixels.

    Raises:
        ValueError: unless ``sigma > 0``.
    """
    expect(sigma > 0, "sigma > 0", sigma)
    reach = torch.stack([nearest_two(image).sum(0) for image in instances])
    border = w0 * torch.exp(-(reach**2) / (2 * sigma**2))
    return class_balance(instances) + torch.where(instances == 0, border, 0)


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
    """
    vectors = std * torch.randn(n, 2, grid, grid, generator=generator)
    return functional.interpolate(
        vectors, size=list(size), mode="bicubic", align_corners=True
    )


def deform(
    maps: Float[Tensor, "b c h w"],
    field: Float[Tensor, "b 2 h w"],
    mode: str = "bilinear",
) -> Float[Tensor, "b c h w"]:
    """What is at x + field(x) moves to x; beyond the image's border its mirror image is
    read.

    Args:
        maps: pictures, or labels and weights as pictures.
        field: (dx, dy) in pixels.
        mode: ``"bilinear"``, or ``"nearest"`` for labels.
    """
    height, width = maps.shape[-2:]
    x = torch.arange(width).to(field) + 0.5 + field[:, 0]
    y = torch.arange(height).to(field)[:, None] + 0.5 + field[:, 1]
    where = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    return functional.grid_sample(
        maps, where, mode, padding_mode="reflection", align_corners=False
    )


def jacobian(field: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h-1 w-1"]:
    """How much ``x + field(x)`` enlarges areas; where it is negative, the field
    folds."""
    across, down = (
        field[..., :-1, 1:] - field[..., :-1, :-1],
        field[..., 1:, :-1] - field[..., :-1, :-1],
    )
    return (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]


def augment(
    batch: dict[str, Tensor], generator: torch.Generator, *, std: float
) -> dict[str, Tensor]:
    """Deform pictures, labels and weights alike.

    Args:
        batch: ``images`` (b, c, h, w), ``labels`` and ``weights`` (b, h, w).
        generator: CPU generator; it is used alike for every ``std``, zero included.
        std: see ``displacements``.
    """
    images, sharp = (
        batch["images"],
        torch.stack([batch["labels"].float(), batch["weights"]], 1),
    )
    field = displacements(len(images), images.shape[-2:], generator, std=std).to(
        images.device
    )
    if std == 0:
        return batch
    labels, weights = deform(sharp, field, "nearest").unbind(1)
    return {
        "images": deform(images, field),
        "labels": labels.long(),
        "weights": weights,
    }


def mirror(maps: Tensor, before: int, after: int) -> Tensor:
    """``maps`` (..., h, w) continued beyond all borders by its mirror images; a
    border's own pixels occur once.

    Args:
        maps: of any type.
        before: rows above and columns left.
        after: rows below and columns right.
    """
    for axis in (-2, -1):
        size = maps.shape[axis]
        place = torch.arange(-before, size + after, device=maps.device) % max(
            2 * size - 2, 1
        )
        maps = maps.index_select(
            axis, torch.minimum(place, 2 * size - 2 - place) if size > 1 else place
        )
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
        ValueError: for a tile that ``net`` does not allow, or that is smaller than a
            cell of its coarsest grid.
    """
    around, (height, width) = margin(net.depth), images.shape[-2:]
    net.check([tile + 2 * around])
    # the pools' grid must not shift from tile to tile
    stride = tile - tile % 2**net.depth
    expect(stride > 0, f"a tile of at least {2**net.depth} pixels", tile)
    edges = (around, around + tile)  # before and after, along both axes
    wide = mirror(images, *edges) if mirrored else functional.pad(images, 2 * edges)
    rows = []
    for top in range(0, height, stride):
        side = slice(top, top + tile + 2 * around)
        row = [
            net(wide[:, :, side, left : left + tile + 2 * around])
            for left in range(0, width, stride)
        ]
        rows.append(torch.cat([scores[..., :stride, :stride] for scores in row], 3))
    return torch.cat(rows, 2)[..., :height, :width]


def tiny(**overrides: object) -> UNet:
    """The book's scale: two halvings, a quarter of the width, colour images, no
    dropout."""
    settings: dict = {"widths": (16, 32, 64), "in_channels": 3, "dropout": 0.0}
    return UNet(**(settings | overrides))


def paper(**overrides: object) -> UNet:
    """The paper's scale: from 572 x 572 to 388 x 388 pixels."""
    return UNet(**({"widths": WIDTHS} | overrides))  # type: ignore[arg-type]
