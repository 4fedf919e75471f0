"""Synthesizing Images of Humans in Unseen Poses.

Guha Balakrishnan, Amy Zhao, Adrian V. Dalca, Frédo Durand, John Guttag. CVPR 2018,
arXiv 1804.07739.
Official code: balakg/posewarp-cvpr2018.

Idea: cut a person into body parts, move each part as the two skeletons say, and let
nets only cut, mend and blend.

Differs:
    1. A pixel's centre lies at +0.5 and layers are empty beyond the frame; the released
       code counts pixels from 0 and mirrors one pixel at the border.
    2. Features are enlarged by bilinear interpolation between pixel centres; the
       released code reads at half the coordinate, which shifts the maps by a quarter of
       a pixel.
    3. The pose maps' tails under 1 % are cut off: they slow convolutions on a CPU.
    4. ``tiny`` halves the size three times instead of five, starts with a 3x3
       convolution and trains with an L1 loss in one cycle of learning rates; the paper
       trains at a constant rate with VGG-19's features, then against a discriminator,
       both of which are below.
    5. In ``tiny`` the mask m, too, starts from the prior, at the target's pose; in the
       paper it starts at one half. From there, one in five of our short runs ended as a
       copy: m shut before the foreground could draw.

Guessed:
    What happens to a part whose joints coincide: it is moved but neither turned nor
    scaled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import expect
from papernets_lite.ops.heatmaps import cell_centres, gaussian_maps
from papernets_lite.pose import openpose

# head, neck, right shoulder, elbow, wrist, left ..., right hip, knee, ankle, left ...
NUM_JOINTS = 14
PARTS = {
    "head": (0, 1),
    "right upper arm": (2, 3),
    "right forearm": (3, 4),
    "left upper arm": (5, 6),
    "left forearm": (6, 7),
    "right thigh": (8, 9),
    "right shank": (9, 10),
    "left thigh": (11, 12),
    "left shank": (12, 13),
    "torso": (2, 5, 8, 11),
}
SIDE = 256  # of the paper's images; its pixel constants are scaled from here
ACROSS, TORSO_ACROSS, ALONG, LEAST_ALONG = 11.0, 13.0, 1.5, 5.0  # of the mask prior
EPSILON = 1e-10  # inside its logarithm
# of the pose maps: pixels per cell, and the Gaussian's deviation in cells
POSE_STRIDE, SIGMA = 2, 7 / 4
ADVERSARIAL_WEIGHT, STATISTICS_FLOOR = 0.1, 0.1


def fourteen(keypoints: Float[Tensor, "*b 18 2"]) -> Float[Tensor, "*b 14 2"]:
    """The paper's joints from OpenPose's: the head is the middle of the ears, the
    others are taken over."""
    return torch.cat(
        [keypoints[..., 16:, :].mean(-2, keepdim=True), keypoints[..., 1:14, :]], -2
    )


def similarity(
    start: Float[Tensor, "*b k 2"], end: Float[Tensor, "*b k 2"]
) -> Float[Tensor, "*b 2 3"]:
    r"""The similarity that moves ``start`` nearest to ``end`` (least squares), in
    closed form.

    With points as complex numbers and :math:`\bar p` their distances from the mean, it
    is :math:`q = a p + b`, :math:`a = \sum \bar p^* \bar q / \sum |\bar p|^2`.

    Args:
        start: k points; where they coincide, only the mean is moved.
        end: where they shall go.

    Returns:
        Matrices that take (x, y, 1) to (x', y').
    """
    p, q = (torch.view_as_complex(points.contiguous()) for points in (start, end))
    from_, to = p.mean(-1, keepdim=True), q.mean(-1, keepdim=True)
    spread = (p - from_).abs().square().sum(-1)
    turn = ((p - from_).conj() * (q - to)).sum(-1) / spread.clamp(min=1e-9)
    turn = torch.where(spread > 1e-6, turn, torch.ones_like(turn))
    shift = to[..., 0] - turn * from_[..., 0]
    rows = [turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def transforms(
    source: Float[Tensor, "b k 2"], target: Float[Tensor, "b k 2"]
) -> Float[Tensor, "b n 2 3"]:
    """Of every part, where each *target* pixel is to be read in the source: the warp is
    inverse."""
    parts = [list(joints) for joints in PARTS.values()]
    return torch.stack(
        [similarity(target[:, part], source[:, part]) for part in parts], 1
    )


def warp(
    layers: Float[Tensor, "b n c h w"], matrices: Float[Tensor, "b n 2 3"]
) -> Float[Tensor, "b n c h w"]:
    """Every layer read at its matrix times (x, y, 1), bilinearly; pixels, and nothing
    beyond the frame."""
    height, width = layers.shape[-2:]
    x, y = (cell_centres(count, 1.0).to(layers) for count in (width, height))
    m = matrices.flatten(0, 1)[..., None, None]
    where = [
        (row[:, 0] * x + row[:, 1] * y[:, None] + row[:, 2]) for row in m.unbind(1)
    ]
    grid = torch.stack([2 * where[0] / width - 1, 2 * where[1] / height - 1], -1)
    moved = functional.grid_sample(
        layers.flatten(0, 1), grid, padding_mode="zeros", align_corners=False
    )
    return moved.unflatten(0, layers.shape[:2])


def prior(
    joints: Float[Tensor, "b k 2"], size: Sequence[int]
) -> Float[Tensor, "b m h w"]:
    r"""A first guess of the masks: for each part a Gaussian along the limb, and what
    they leave as background.

    Its variance is :math:`\max(5, l^2 / 1.5)` along a limb of length l and :math:`11^2`
    across it (torso: :math:`13^2`), in pixels of images of 256.

    Args:
        joints: of the source, in pixels.
        size: rows and columns.

    Returns:
        Background, then the parts in the order of ``PARTS``; each in [0, 1], not
        normalised over them.
    """
    halves = [
        (list(part[: len(part) // 2]), list(part[len(part) // 2 :]))
        for part in PARTS.values()
    ]
    start, end = (
        torch.stack([joints[:, half].mean(1) for half in side], 1)
        for side in zip(*halves, strict=True)
    )
    scale = size[-1] / SIDE
    across = (
        torch.tensor(
            [TORSO_ACROSS if len(part) > 2 else ACROSS for part in PARTS.values()]
        ).to(joints)
        * scale
    )
    length = (end - start).norm(dim=-1, keepdim=True)
    variance = (length[..., 0] ** 2 / ALONG).clamp(min=LEAST_ALONG * scale**2)
    direction = torch.where(
        length > 1e-6,
        (end - start) / length.clamp(min=1e-6),
        joints.new_tensor([1.0, 0.0]),
    )
    ux, uy = direction[..., None, None].unbind(2)
    middle = ((start + end) / 2)[..., None, None]
    dx = cell_centres(size[1], 1.0).to(joints) - middle[:, :, 0]
    dy = cell_centres(size[0], 1.0).to(joints)[:, None] - middle[:, :, 1]
    forward, sideways = ux * dx + uy * dy, ux * dy - uy * dx
    parts = torch.exp(
        -(
            forward**2 / variance[..., None, None]
            + sideways**2 / across[:, None, None] ** 2
        )
        / 2
    )
    parts = parts / (parts.amax((2, 3), keepdim=True) + 1e-6)
    return torch.cat([1 - parts.amax(1, keepdim=True), parts], 1)


class UNet(nn.Module):
    """The net that the paper uses for everything: strided convolutions down, bilinear
    up, poses joined at half size.

    Args:
        in_channels: of the input.
        pose_channels: of the pose maps, which are half as large as the input.
        down: channels of the convolutions on the way down: one, then two for every
            halving, the first of which has stride 2. The pose maps come in after the
            first halving.
        up: channels of the convolution after each doubling.
        heads: channels of the outputs, each by a 3x3 convolution of its own.
        kernel: side of the first convolution.

    Raises:
        ValueError: unless there are as many widths as the halvings need.
    """

    def __init__(
        self,
        in_channels: int,
        pose_channels: int,
        *,
        down: Sequence[int],
        up: Sequence[int],
        heads: Sequence[int],
        kernel: int = 7,
    ) -> None:
        super().__init__()
        expect(
            len(down) == 2 * len(up) + 1,
            f"2 x {len(up)} + 1 widths on the way down",
            len(down),
        )
        extra = [0, 0, pose_channels, *[0] * (len(down) - 3)]
        above = [in_channels, *down[:-1]]
        self.multiple = 2 ** len(up)
        self.down = nn.ModuleList(
            nn.Conv2d(before + more, width, side, 1 + (n % 2), side // 2)
            for n, (before, more, width) in enumerate(
                zip(above, extra, down, strict=True)
            )
            for side in [3 if n else kernel]
        )
        skips = [*down[-3:1:-2], down[0]]
        self.up = nn.ModuleList(
            nn.Conv2d(below + skip, width, 3, padding=1)
            for below, skip, width in zip([down[-1], *up[:-1]], skips, up, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(up[-1], channels, 3, padding=1) for channels in heads
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], poses: Float[Tensor, "b k p q"]
    ) -> list[Tensor]:
        """The heads' outputs, as large as ``x``.

        Raises:
            ValueError: for no input, or sides that the halvings do not divide.
        """
        fits = len(x) and not any(side % self.multiple for side in x.shape[2:])
        expect(
            fits, f"at least one map with sides divisible by {self.multiple}", x.shape
        )
        skips = []
        for n, conv in enumerate(self.down):
            x = functional.leaky_relu(
                conv(torch.cat([x, poses], 1) if n == 2 else x), 0.2
            )
            if n % 2 == 0:
                skips.append(x)
        skips.pop()  # the lowest has nothing to skip
        for conv in self.up:
            x = functional.interpolate(
                x, scale_factor=2.0, mode="bilinear", align_corners=False
            )
            x = functional.leaky_relu(conv(torch.cat([x, skips.pop()], 1)), 0.2)
        return [head(x) for head in self.heads]


@dataclass(frozen=True)
class Stages:
    """What ``PoseWarp`` answers, stage by stage; pictures in [0, 1]."""

    image: Float[Tensor, "b 3 h w"]  # the composite
    # background and parts of the source; they sum to one
    masks: Float[Tensor, "b m h w"]
    # the parts, cut out and moved; in [-1, 1], 0 where there is nothing
    layers: Float[Tensor, "b n 3 h w"]
    foreground: Float[Tensor, "b 3 h w"]
    alpha: Float[Tensor, "b 1 h w"]  # where the foreground is shown
    background: Float[Tensor, "b 3 h w"]


class PoseWarp(nn.Module):
    """The five stages (Fig. 2 of the paper): cut, move, mend the foreground, fill the
    background, blend.

    Args:
        down: see ``UNet``; the same for the three nets.
        up: of the net that cuts.
        up_images: of the two nets that paint.
        kernel: of the first convolutions.
        sigma: of the pose maps, in their cells.
        moves: the parts; if not, each stays where it was in the source: the chapter's
            control.
        start: of m, before training, where the target's prior is one; 0.5 is the
            paper's, one half everywhere.

    Raises:
        ValueError: unless ``start`` is at least 0.5 and below 1.
    """

    def __init__(
        self,
        *,
        down: Sequence[int] = (64, 64, *[128] * 9),
        up: Sequence[int] = (*[128] * 4, 32),
        up_images: Sequence[int] = (*[128] * 4, 64),
        kernel: int = 7,
        sigma: float = SIGMA,
        moves: bool = True,
        start: float = 0.5,
    ) -> None:
        super().__init__()
        expect(0.5 <= start < 1, "0.5 <= start < 1", start)
        parts, self.sigma, self.moves, self.start = len(PARTS), sigma, moves, start
        self.segment = UNet(
            3, NUM_JOINTS, down=down, up=up, heads=(parts + 1,), kernel=kernel
        )
        self.foreground = UNet(
            3 * parts, NUM_JOINTS, down=down, up=up_images, heads=(3, 1), kernel=kernel
        )
        self.background = UNet(
            4, NUM_JOINTS, down=down, up=up_images, heads=(3,), kernel=kernel
        )
        initialise_(self)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        source: Float[Tensor, "b k 2"],
        target: Float[Tensor, "b k 2"],
    ) -> Stages:
        """The person of ``images`` in another pose.

        Args:
            images: the sources, in [0, 1].
            source: their joints, in pixels.
            target: the joints wanted.
        """
        pixels, size = 2 * images - 1, images.shape[-2:]
        from_, to = (pose_maps(joints, size, self.sigma) for joints in (source, target))
        (correction,) = self.segment(pixels, from_)
        masks = (correction + (prior(source, size) + EPSILON).log()).softmax(1)
        layers = warp(
            masks[:, 1:, None] * pixels[:, None],
            transforms(source, target if self.moves else source),
        )
        (background,) = self.background(
            torch.cat([masks[:, :1] * pixels, masks[:, :1]], 1), from_
        )
        foreground, blend = self.foreground(layers.flatten(1, 2), to)
        blend = (
            blend
            + (1 - prior(target, size)[:, :1]).clamp(1 - self.start, self.start).logit()
        )
        foreground, background, alpha = (
            foreground.tanh() / 2 + 0.5,
            background.tanh() / 2 + 0.5,
            blend.sigmoid(),
        )
        return Stages(
            alpha * foreground + (1 - alpha) * background,
            masks,
            layers,
            foreground,
            alpha,
            background,
        )


class Plain(nn.Module):
    """The paper's baseline: one U-Net sees the source and both poses, and paints.

    Args:
        down: see ``UNet``.
        up: likewise.
        kernel: of the first convolution.
        sigma: of the pose maps, in their cells.
    """

    def __init__(
        self,
        *,
        down: Sequence[int] = (64, 128, 128, 128, *[256] * 7),
        up: Sequence[int] = (256, 256, 256, 128, 64),
        kernel: int = 7,
        sigma: float = SIGMA,
    ) -> None:
        super().__init__()
        self.net, self.sigma = (
            UNet(3, 2 * NUM_JOINTS, down=down, up=up, heads=(3,), kernel=kernel),
            sigma,
        )
        initialise_(self)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        source: Float[Tensor, "b k 2"],
        target: Float[Tensor, "b k 2"],
    ) -> Float[Tensor, "b 3 h w"]:
        """The same question as ``PoseWarp``'s, answered in one go."""
        both = [
            pose_maps(joints, images.shape[-2:], self.sigma)
            for joints in (source, target)
        ]
        (out,) = self.net(2 * images - 1, torch.cat(both, 1))
        return out.tanh() / 2 + 0.5


def pose_maps(
    joints: Float[Tensor, "b k 2"], size: Sequence[int], sigma: float
) -> Float[Tensor, "b k p q"]:
    """A Gaussian for each joint, at half the image's size.

    Args:
        joints: in pixels.
        size: rows and columns of the image.
        sigma: deviation, in cells of the map.
    """
    cells, there = (
        (size[0] // POSE_STRIDE, size[1] // POSE_STRIDE),
        torch.ones_like(joints[:, None, :, 0]).bool(),
    )
    width = 2**0.5 * POSE_STRIDE * sigma  # of exp(-d^2 / width^2)
    return gaussian_maps(
        joints[:, None], there, size=cells, stride=float(POSE_STRIDE), sigma=width
    )


def initialise_(module: nn.Module) -> None:
    """He's weights, and heads that begin near zero: masks like the prior, grey
    pictures, half of each blended."""
    he_init_(module)
    for net in module.modules():
        if isinstance(net, UNet):
            for head in net.heads:
                nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]


def features() -> nn.ModuleList:
    """VGG-19 to its fourth block, with average pooling: 12 maps are taken, each after a
    ReLU. Weights are random."""
    layers = openpose.trunk((*openpose.VGG19, 512, 512), norm=False)
    return nn.ModuleList(
        nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer
        for layer in layers
    )


def loss(
    outputs: Float[Tensor, "b 3 h w"],
    images: Float[Tensor, "b 3 h w"],
    layers: nn.ModuleList | None = None,
    statistics: Sequence[Tensor] = (),
    scores: Float[Tensor, " b"] | None = None,
) -> dict[str, Tensor]:
    r"""L1 between pictures, or between features, and what a discriminator adds.

    :math:`L = \frac1J \sum_j \mathrm{mean} |\phi_j(I) - \phi_j(\hat I)| / (\sigma_j +
    0.1) + 0.1\, L_{adv}`

    Args:
        outputs: :math:`\hat I`, in [0, 1].
        images: :math:`I`, the target frames.
        layers: of a net whose ReLU outputs are the :math:`\phi_j`; none compares the
            pictures themselves.
        statistics: :math:`\sigma_j`, each channel's deviation over the training set,
            for every map.
        scores: a discriminator's logits for ``outputs``.

    Returns:
        ``l1`` of the pictures, ``features`` and ``fool`` where asked for, and ``loss``.
    """
    terms = {"l1": (outputs - images).abs().mean()}
    total = terms["l1"]
    if layers is not None:
        apart = [
            ((a - b).abs() / (std[:, None, None] + STATISTICS_FLOOR)).mean()
            for a, b, std in zip(
                maps(layers, outputs), maps(layers, images), statistics, strict=True
            )
        ]
        total = terms["features"] = torch.stack(apart).mean()
    if scores is not None:
        terms["fool"] = functional.binary_cross_entropy_with_logits(
            scores, torch.ones_like(scores)
        )
        total = total + ADVERSARIAL_WEIGHT * terms["fool"]
    return {"loss": total, **terms}


def step(
    net: nn.Module, rate: float, steps: int
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The first phase's step, for ``PoseWarp`` and ``Plain`` alike: all stages learn
    from the target frame alone.

    Args:
        net: takes ``images``, ``source`` and ``target`` joints of a batch, and shall
            answer its ``truth``.
        rate: Adam's learning rate at its peak; the paper keeps it constant.
        steps: of the one-cycle schedule.
    """
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.4
    )

    def update(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        answer = net(batch["images"], batch["source"], batch["target"])
        terms = loss(
            answer.image if isinstance(answer, Stages) else answer, batch["truth"]
        )
        terms["loss"].backward()
        optimizer.step()
        schedule.step()
        return terms

    return update


def maps(layers: nn.ModuleList, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
    """What comes out of every ReLU."""
    out, x = [], images
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            out.append(x)
    return out


class Discriminator(nn.Module):
    """The judge of the second phase: does a picture look real, *and* is it the person
    in that pose?"""

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        widths = [
            (3, 64, 5),
            (64 + 2 * NUM_JOINTS, 128, 5),
            (128, 256, 3),
            *[(256, 256, 3)] * 3,
        ]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b, kernel in widths
        )
        cells = (side // 2**5) ** 2
        self.head = nn.Sequential(
            *(
                nn.Flatten(),
                nn.Linear(256 * cells, 256),
                nn.ReLU(),
                nn.Linear(256, 256),
                nn.ReLU(),
            ),
            *(nn.Linear(256, 1), nn.Flatten(0)),
        )

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        source: Float[Tensor, "b k p q"],
        target: Float[Tensor, "b k p q"],
    ) -> Float[Tensor, " b"]:
        """Logits for pictures in [0, 1] that are said to show the pose maps ``target``,
        made from ``source``."""
        x = 2 * images - 1
        for n, conv in enumerate(self.convs):
            x = functional.leaky_relu(
                conv(torch.cat([x, source, target], 1) if n == 1 else x), 0.2
            )
            x = functional.max_pool2d(x, 2) if n < 5 else x
        return self.head(x)


def tiny(**overrides: object) -> PoseWarp:
    """The book's scale, for images of 48x48: three halvings and narrow layers."""
    settings: dict = {
        "down": (8, 12, 12, 16, 16, 24, 24),
        "up": (16, 12, 12),
        "up_images": (16, 12, 12),
    }
    return PoseWarp(
        **(settings | {"kernel": 3, "sigma": 0.8, "start": 0.95} | overrides)
    )


def tiny_plain(**overrides: object) -> Plain:
    """The rival of ``tiny``: as many parameters, within 0.1 %."""
    settings: dict = {
        "down": (16, 24, 24, 28, 32, 36, 36),
        "up": (28, 24, 18),
        "kernel": 3,
        "sigma": 0.8,
    }
    return Plain(**(settings | overrides))


def paper(**overrides: object) -> PoseWarp:
    """The paper's scale: images of 256x256."""
    return PoseWarp(**overrides)  # type: ignore[arg-type]
