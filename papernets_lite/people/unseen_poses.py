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

Contract:
    Nets answer pictures, so there is no ``decode``; they take two poses beside the
    images, of 14 joints (``fourteen`` makes them). ``Plain`` is the paper's rival;
    ``tiny_plain`` is guided, beyond the paper, by the prior that our net starts from.

Example:
    >>> joints = 48 * torch.rand(1, NUM_JOINTS, 2)
    >>> picture = tiny()(torch.rand(1, 3, 48, 48), source=joints, target=joints).image
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import check_keys, expect
from papernets_lite.ops.heatmaps import cell_centres, floating, gaussian_maps
from papernets_lite.ops.skeletons import OPENPOSE
from papernets_lite.ops.warps import warp_affine
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


def fourteen(keypoints: Real[Tensor, "*b 18 2"]) -> Float[Tensor, "*b 14 2"]:
    """The paper's joints from OpenPose's: the head is the middle of the ears, the
    others are taken over.

    Args:
        keypoints: (x, y) of OpenPose's 18 joints.

    Raises:
        ValueError: for another number of joints.
    """
    expect(
        keypoints.shape[-2:] == (len(OPENPOSE), 2),
        f"OpenPose's joints (..., {len(OPENPOSE)}, 2)",
        keypoints.shape,
    )
    keypoints = floating(keypoints)
    head = keypoints[..., 16:, :].mean(-2, keepdim=True)
    return torch.cat([head, keypoints[..., 1:14, :]], -2)


def similarity(
    start: Real[Tensor, "*b k 2"], end: Real[Tensor, "*b k 2"]
) -> Float[Tensor, "*b 2 3"]:
    r"""The similarity that moves ``start`` nearest to ``end`` (least squares), in
    closed form.

    With points as complex numbers and :math:`\bar p` their distances from the mean, it
    is :math:`q = a p + b`, :math:`a = \sum \bar p^* \bar q / \sum |\bar p|^2`.

    Args:
        start: k points; where they coincide, only the mean is moved.
        end: where they shall go.

    Returns:
        Matrices that take (x, y, 1) to (x', y'); float64 for float64, else float32.

    Raises:
        ValueError: for points of unequal shapes, or that are not finite.
    """
    expect(start.shape == end.shape, f"points {tuple(start.shape)}", end.shape)
    p = torch.view_as_complex(finite(start).contiguous())
    q = torch.view_as_complex(finite(end).contiguous())
    from_ = p.mean(-1, keepdim=True)
    to = q.mean(-1, keepdim=True)
    spread = (p - from_).abs().square().sum(-1)
    turn = ((p - from_).conj() * (q - to)).sum(-1) / spread.clamp(min=1e-9)
    turn = torch.where(spread > 1e-6, turn, torch.ones_like(turn))
    shift = to[..., 0] - turn * from_[..., 0]
    x_row = torch.stack([turn.real, -turn.imag, shift.real], -1)
    y_row = torch.stack([turn.imag, turn.real, shift.imag], -1)
    return torch.stack([x_row, y_row], -2)


def finite(joints: Real[Tensor, "*b 2"]) -> Float[Tensor, "*b 2"]:
    """Positions (x, y) as float32 or float64; ``ValueError`` where they are not
    finite."""
    expect(joints.shape[-1:] == (2,), "joints (x, y)", joints.shape)
    expect(joints.isfinite().all(), "finite joints, got some that are not")
    return floating(joints)


def check_joints(joints: Tensor, images: int) -> None:
    """Raise ``ValueError`` unless there are the paper's 14 joints for each of so many
    images, finite."""
    wanted = (images, NUM_JOINTS, 2)
    expect(joints.shape == wanted, f"joints {wanted}", joints.shape)
    finite(joints)


def transforms(
    source: Real[Tensor, "b k 2"], target: Real[Tensor, "b k 2"]
) -> Float[Tensor, "b n 2 3"]:
    """Of every part, where each *target* pixel is to be read in the source: the warp is
    inverse.

    Args:
        source: the paper's 14 joints, in pixels.
        target: the same, in another pose.

    Raises:
        ValueError: for another number of joints, or joints that are not finite.
    """
    for joints in (source, target):
        check_joints(joints, len(source))
    matrices = []
    for part in PARTS.values():
        own = list(part)
        matrices.append(similarity(target[:, own], source[:, own]))
    return torch.stack(matrices, 1)


def warp(
    layers: Float[Tensor, "b n c h w"], matrices: Float[Tensor, "b n 2 3"]
) -> Float[Tensor, "b n c h w"]:
    """Every layer read at its matrix times (x, y, 1), bilinearly; nothing lies beyond
    the frame.

    Args:
        layers: n pictures of each image.
        matrices: of each layer, from positions in the answer to positions in the layer,
            in pixels.

    Returns:
        The moved layers, in the type of ``layers``.

    Raises:
        ValueError: unless there is one finite matrix for each layer.
    """
    wanted = (*layers.shape[:2], 2, 3)
    expect(matrices.shape == wanted, f"matrices {wanted}", matrices.shape)
    expect(matrices.isfinite().all(), "finite matrices, got some that are not")
    exact = floating(layers).flatten(0, 1)
    moved = warp_affine(exact, matrices.flatten(0, 1).to(exact.dtype))
    return moved.unflatten(0, layers.shape[:2]).to(layers.dtype)


def limb_ends(joints: Float[Tensor, "b k 2"]) -> tuple[Tensor, Tensor]:
    """Where the parts begin and end, (b, parts, 2) each: a part's first half of joints,
    on average, and its second half."""
    starts = []
    ends = []
    for part in PARTS.values():
        half = len(part) // 2
        starts.append(joints[:, list(part[:half])].mean(1))
        ends.append(joints[:, list(part[half:])].mean(1))
    return torch.stack(starts, 1), torch.stack(ends, 1)


def prior(
    joints: Real[Tensor, "b k 2"], size: Sequence[int]
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

    Raises:
        ValueError: for another number of joints, or joints that are not finite.
    """
    check_joints(joints, len(joints))
    start, end = limb_ends(floating(joints))
    scale = size[-1] / SIDE
    widths = [TORSO_ACROSS if len(part) > 2 else ACROSS for part in PARTS.values()]
    across = torch.tensor(widths).to(start) * scale
    length = (end - start).norm(dim=-1, keepdim=True)
    along = (length[..., 0] ** 2 / ALONG).clamp(min=LEAST_ALONG * scale**2)
    ahead = (end - start) / length.clamp(min=1e-6)
    direction = torch.where(length > 1e-6, ahead, start.new_tensor([1.0, 0.0]))
    # each of these is (image, part, row, column), or may be spread to it
    ux, uy = direction[..., None, None].unbind(2)
    middle = ((start + end) / 2)[..., None, None]
    dx = cell_centres(size[1], 1.0).to(start) - middle[:, :, 0]
    dy = cell_centres(size[0], 1.0).to(start)[:, None] - middle[:, :, 1]
    forward = ux * dx + uy * dy
    sideways = ux * dy - uy * dx
    lengthwise = forward**2 / along[..., None, None]
    crosswise = sideways**2 / across[:, None, None] ** 2
    parts = torch.exp(-(lengthwise + crosswise) / 2)
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
        wanted = 2 * len(up) + 1
        expect(len(up), "at least one doubling", up)
        expect(
            len(down) == wanted,
            f"2 x {len(up)} + 1 widths on the way down",
            len(down),
        )
        self.multiple = 2 ** len(up)
        self.channels = in_channels, pose_channels
        self.down = nn.ModuleList()
        before = in_channels
        for n, width in enumerate(down):
            side = 3 if n else kernel
            stride = 1 + n % 2
            poses = pose_channels if n == 2 else 0
            conv = nn.Conv2d(before + poses, width, side, stride, side // 2)
            self.down.append(conv)
            before = width
        self.up = nn.ModuleList()
        skips = [*down[-3:1:-2], down[0]]
        for skip, width in zip(skips, up, strict=True):
            self.up.append(nn.Conv2d(before + skip, width, 3, padding=1))
            before = width
        self.heads = nn.ModuleList()
        for channels in heads:
            self.heads.append(nn.Conv2d(before, channels, 3, padding=1))

    def forward(
        self, x: Float[Tensor, "b c h w"], poses: Float[Tensor, "b k p q"]
    ) -> list[Tensor]:
        """The heads' outputs, as large as ``x``.

        Args:
            x: what is seen.
            poses: pose maps, half as large.

        Raises:
            ValueError: for no input, sides that the halvings do not divide, or pose
                maps that do not fit.
        """
        channels, pose_channels = self.channels
        rows, columns = x.shape[2:]
        whole = rows % self.multiple == 0 and columns % self.multiple == 0
        expect(
            len(x) and whole and x.shape[1] == channels,
            f"at least one map of {channels} channels with sides divisible by "
            f"{self.multiple}",
            x.shape,
        )
        wanted = (len(x), pose_channels, rows // 2, columns // 2)
        expect(poses.shape == wanted, f"pose maps {wanted}", poses.shape)
        skips = []
        for n, conv in enumerate(self.down):
            if n == 2:
                x = torch.cat([x, poses], 1)
            x = functional.leaky_relu(conv(x), 0.2)
            if n % 2 == 0:
                skips.append(x)
        skips.pop()  # the lowest has nothing to skip
        for conv in self.up:
            x = functional.interpolate(
                x, scale_factor=2.0, mode="bilinear", align_corners=False
            )
            x = torch.cat([x, skips.pop()], 1)
            x = functional.leaky_relu(conv(x), 0.2)
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
        self.sigma, self.moves, self.start = sigma, moves, start
        net = partial(UNet, pose_channels=NUM_JOINTS, down=down, kernel=kernel)
        parts = len(PARTS)
        self.segment = net(3, up=up, heads=(parts + 1,))
        self.foreground = net(3 * parts, up=up_images, heads=(3, 1))
        self.background = net(4, up=up_images, heads=(3,))
        initialise_(self)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        source: Real[Tensor, "b k 2"],
        target: Real[Tensor, "b k 2"],
    ) -> Stages:
        """The person of ``images`` in another pose.

        Args:
            images: the sources, in [0, 1].
            source: their joints, in pixels.
            target: the joints wanted.

        Raises:
            ValueError: for joints that do not fit the images or are not finite, and
                images that the nets cannot take.
        """
        pixels = 2 * images - 1
        from_ = pose_maps(source, images, self.sigma)
        to = pose_maps(target, images, self.sigma)
        masks = self.cut(pixels, from_, source)
        elsewhere = target if self.moves else source
        parts = masks[:, 1:, None] * pixels[:, None]
        layers = warp(parts, transforms(source, elsewhere))
        foreground, alpha = self.mend(layers, to, target)
        background = self.fill(pixels, masks[:, :1], from_)
        image = alpha * foreground + (1 - alpha) * background
        return Stages(image, masks, layers, foreground, alpha, background)

    def cut(self, pixels: Tensor, poses: Tensor, joints: Tensor) -> Tensor:
        """The masks (b, parts + 1, h, w): the prior, corrected in log space."""
        (correction,) = self.segment(pixels, poses)
        guess = prior(joints, pixels.shape[-2:]) + EPSILON
        return (correction + guess.log()).softmax(1).to(pixels.dtype)

    def mend(
        self, layers: Tensor, poses: Tensor, joints: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The foreground (b, 3, h, w), and its mask m (b, 1, h, w)."""
        foreground, blend = self.foreground(layers.flatten(1, 2), poses)
        person = 1 - prior(joints, layers.shape[-2:])[:, :1]
        first = person.clamp(1 - self.start, self.start).logit()
        alpha = (blend + first.to(blend.dtype)).sigmoid()
        return foreground.tanh() / 2 + 0.5, alpha

    def fill(self, pixels: Tensor, mask: Tensor, poses: Tensor) -> Tensor:
        """The background (b, 3, h, w), from what is left of it and its mask."""
        (background,) = self.background(torch.cat([mask * pixels, mask], 1), poses)
        return background.tanh() / 2 + 0.5


class Plain(nn.Module):
    """The paper's baseline: one U-Net sees the source and both poses, and paints.

    Args:
        down: see ``UNet``.
        up: likewise.
        kernel: of the first convolution.
        sigma: of the pose maps, in their cells.
        guided: it also sees, as further channels, the prior of both poses, from which
            ``PoseWarp`` starts; the paper's does not.
    """

    def __init__(
        self,
        *,
        down: Sequence[int] = (64, 128, 128, 128, *[256] * 7),
        up: Sequence[int] = (256, 256, 256, 128, 64),
        kernel: int = 7,
        sigma: float = SIGMA,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.sigma, self.guided = sigma, guided
        seen = 3 + 2 * (1 + len(PARTS)) * guided
        poses = 2 * NUM_JOINTS
        self.net = UNet(seen, poses, down=down, up=up, heads=(3,), kernel=kernel)
        initialise_(self)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        source: Real[Tensor, "b k 2"],
        target: Real[Tensor, "b k 2"],
    ) -> Float[Tensor, "b 3 h w"]:
        """The same question as ``PoseWarp``'s, answered in one go.

        Args:
            images: the sources, in [0, 1].
            source: their joints, in pixels.
            target: the joints wanted.
        """
        both = source, target
        poses = torch.cat([pose_maps(one, images, self.sigma) for one in both], 1)
        seen = [2 * images - 1]
        if self.guided:
            seen += [prior(one, images.shape[-2:]).to(images.dtype) for one in both]
        (out,) = self.net(torch.cat(seen, 1), poses)
        return out.tanh() / 2 + 0.5


def by_formula(
    images: Float[Tensor, "b 3 h w"],
    source: Real[Tensor, "b k 2"],
    target: Real[Tensor, "b k 2"],
) -> Float[Tensor, "b 3 h w"]:
    """The same question answered with nothing learnt: the prior cuts, a blur of what is
    left of the room fills; the chapter's control.

    Args:
        images: the sources, in [0, 1].
        source: their joints, in pixels.
        target: the joints wanted.
    """
    size = images.shape[-2:]
    guess = prior(source, size).to(images.dtype)
    masks = functional.normalize(guess, p=1.0, dim=1)[:, 1:, None]
    parts = torch.cat([masks * images[:, None], masks], 2)
    moved = warp(parts, transforms(source, target)).sum(1)
    alpha = moved[:, 3:].clamp(max=1.0)
    person = moved[:, :3] / moved[:, 3:].clamp(min=1e-3)
    reach = size[-1] // 10
    keep = guess[:, :1]
    around = functional.avg_pool2d(
        torch.cat([keep**3 * images, keep**3], 1), 2 * reach + 1, 1, reach
    )
    filled = around[:, :3] / around[:, 3:].clamp(min=1e-4)
    room = keep * images + (1 - keep) * filled
    return alpha * person + (1 - alpha) * room


def pose_maps(
    joints: Real[Tensor, "b k 2"], images: Float[Tensor, "b c h w"], sigma: float
) -> Float[Tensor, "b k p q"]:
    """A Gaussian for each joint, at half the images' size and in their type.

    Args:
        joints: the paper's 14 joints of each image, in pixels.
        images: only their size and type count.
        sigma: deviation, in cells of the map.

    Raises:
        ValueError: for joints that do not fit the images or are not finite.
    """
    expect(images.ndim == 4, "images (b, c, h, w)", images.shape)
    check_joints(joints, len(images))
    rows, columns = (side // POSE_STRIDE for side in images.shape[2:])
    everywhere = torch.ones_like(joints[:, None, :, 0], dtype=torch.bool)
    maps = gaussian_maps(
        joints[:, None],
        everywhere,
        size=(rows, columns),
        stride=float(POSE_STRIDE),
        sigma=2**0.5 * POSE_STRIDE * sigma,  # of exp(-d^2 / sigma^2)
    )
    return maps.to(images.dtype)


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
    outputs: Stages | Float[Tensor, "b 3 h w"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
    layers: nn.ModuleList | None = None,
    statistics: Sequence[Tensor] = (),
    scores: Float[Tensor, " b"] | None = None,
) -> dict[str, Tensor]:
    r"""L1 of pictures, or of features, and what a judge adds.

    Args:
        outputs: of ``PoseWarp`` or ``Plain``: :math:`\hat I`, in [0, 1].
        batch: ``truth`` (b, 3, h, w): :math:`I`, the target frames. (The nets took its
            ``images`` and the joints ``source`` and ``target``.)
        generator: nothing is drawn at random.
        layers: of a net whose ReLU outputs are the :math:`\phi_j`; none compares the
            pictures themselves.
        statistics: :math:`\sigma_j`, each channel's deviation over the training set,
            for every map.
        scores: a discriminator's logits for ``outputs``.

    Returns:
        ``l1`` of the pictures, ``features`` and ``fool`` where asked for, and ``loss``.

    Raises:
        ValueError: for pictures of unequal shapes, or another number of statistics than
            of maps.
    """
    ours = outputs.image if isinstance(outputs, Stages) else outputs
    check_keys(batch, "truth")
    truth = batch["truth"]
    expect(ours.shape == truth.shape, f"pictures {tuple(truth.shape)}", ours.shape)
    terms = {"l1": (ours - truth).abs().mean()}
    total = terms["l1"]
    if layers is not None:
        total = terms["features"] = feature_loss(ours, truth, layers, statistics)
    if scores is not None:
        real = torch.ones_like(scores)
        terms["fool"] = functional.binary_cross_entropy_with_logits(scores, real)
        total = total + ADVERSARIAL_WEIGHT * terms["fool"]
    return {"loss": total, **terms}


def feature_loss(
    ours: Float[Tensor, "b 3 h w"],
    truth: Float[Tensor, "b 3 h w"],
    layers: nn.ModuleList,
    statistics: Sequence[Tensor],
) -> Float[Tensor, ""]:
    r"""How far apart two pictures' features are, each channel in its own unit.

    :math:`\frac1J \sum_j \mathrm{mean} |\phi_j(I) - \phi_j(\hat I)| / (\sigma_j + 0.1)`

    Args:
        ours: pictures in [0, 1].
        truth: likewise.
        layers: see ``loss``.
        statistics: see ``loss``.
    """
    found = maps(layers, ours)
    wanted = maps(layers, truth)
    expect(
        len(statistics) == len(found),
        f"deviations for {len(found)} maps",
        len(statistics),
    )
    apart = []
    for a, b, deviation in zip(found, wanted, statistics, strict=True):
        scale = deviation[:, None, None] + STATISTICS_FLOOR
        apart.append(((a - b).abs() / scale).mean())
    return torch.stack(apart).mean()


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
    in that pose?

    Args:
        side: of the pictures, in pixels.

    Raises:
        ValueError: for a side that five halvings bring to nothing.
    """

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        expect(side >= 2**5, f"a side of at least {2**5}", side)
        self.side = side
        self.convs = nn.ModuleList()
        before = 3
        for n, width in enumerate((64, 128, 256, 256, 256, 256)):
            kernel = 5 if n < 2 else 3
            poses = 2 * NUM_JOINTS if n == 1 else 0
            conv = nn.Conv2d(before + poses, width, kernel, padding=kernel // 2)
            self.convs.append(conv)
            before = width
        cells = (side // 2**5) ** 2
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(256 * cells, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 1),
            nn.Flatten(0),
        )

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        source: Float[Tensor, "b k p q"],
        target: Float[Tensor, "b k p q"],
    ) -> Float[Tensor, " b"]:
        """Logits for pictures in [0, 1] that are said to show the pose maps ``target``,
        made from ``source``.

        Args:
            images: pictures, in [0, 1].
            source: pose maps of the picture they were made from, half as large.
            target: pose maps that they are said to show.

        Raises:
            ValueError: for pictures of another size.
        """
        side = self.side
        fits = images.shape[1:] == (3, side, side)
        expect(fits, f"pictures (b, 3, {side}, {side})", images.shape)
        x = 2 * images - 1
        for n, conv in enumerate(self.convs):
            if n == 1:
                x = torch.cat([x, source, target], 1)
            x = functional.leaky_relu(conv(x), 0.2)
            if n < 5:
                x = functional.max_pool2d(x, 2)
        return self.head(x)


# How the map of the net calls its parts.
BLOCKS = {
    "segment": "cut",
    "foreground": "mend",
    "background": "fill",
}


def tiny(**overrides: Any) -> PoseWarp:
    """The book's scale, for images of 48x48: three halvings and narrow layers.

    Args:
        overrides: of ``PoseWarp``'s arguments.
    """
    settings: dict[str, Any] = {
        "down": (8, 12, 12, 16, 16, 24, 24),
        "up": (16, 12, 12),
        "up_images": (16, 12, 12),
        "kernel": 3,
        "sigma": 0.8,
        "start": 0.95,
    }
    return PoseWarp(**(settings | overrides))


def tiny_plain(**overrides: Any) -> Plain:
    """The rival of ``tiny``: the paper's baseline, guided by the same prior, with as
    many parameters, within 0.1 %.

    Args:
        overrides: of ``Plain``'s arguments.
    """
    settings: dict[str, Any] = {
        "down": (16, 24, 24, 28, 32, 36, 32),
        "up": (28, 24, 16),
        "kernel": 3,
        "sigma": 0.8,
        "guided": True,
    }
    return Plain(**(settings | overrides))


def paper(**overrides: Any) -> PoseWarp:
    """The paper's scale: images of 256x256.

    Args:
        overrides: of ``PoseWarp``'s arguments.
    """
    return PoseWarp(**overrides)
