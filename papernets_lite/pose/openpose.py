"""Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields.

Zhe Cao, Tomas Simon, Shih-En Wei, Yaser Sheikh. CVPR 2017, arXiv 1611.08050.
Official code: ZheC/Realtime_Multi-Person_Pose_Estimation.

Idea: one net finds the joints of all people at once and, for every limb, a field of
vectors that points along it; the line integral of that field between two joints says
whether they belong to the same body.

Differs:
    1. Targets take the maximum over people and the average of overlapping limbs, as the
       paper writes; the released code adds Gaussians and clips, and lets a later limb
       overwrite.
    2. Peaks are refined between cells by a parabola; the released code enlarges the
       maps eight times and averages over four scales.
    3. ``loss`` can weight cells near joints and limbs (``positive_weight``); the
       paper's sum of squares has weight 0. In a minute of training the maps stay faint
       without it.
    4. ``tiny`` has three narrow stages with batch normalisation on a trunk of stride 4,
       trained from scratch with AdamW; the paper's has none and starts from VGG-19's
       ImageNet weights.
    5. The parser joins limbs along a tree; the released code also lets the two limbs
       from shoulder to ear join groups. People are dropped as released: under four
       joints, or a mean score under 0.4.

Guessed:
    The paper does not say how limbs shorter than a cell are treated (here: drawn one
    cell long; the released code widens every limb's box by a cell), nor how groups that
    share a limb are merged (here: when no joints clash).

Contract:
    ``decode`` takes, beside its thresholds, the ``stride`` of the maps and, in
    ``affinity``, the rule that groups joints.

Example:
    >>> net = tiny().eval()
    >>> people = decode(net(torch.zeros(1, 3, 64, 64)), stride=net.stride)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops.checks import check_keys, expect
from papernets_lite.ops.heatmaps import (
    cell_centres,
    check_grid,
    check_present,
    floating,
    gaussian_maps,
    peaks,
    sample_maps,
)
from papernets_lite.ops.matching import greedy
from papernets_lite.ops.skeletons import OPENPOSE

NUM_JOINTS = len(OPENPOSE)
LIMBS = OPENPOSE.limbs
# shoulder to ear: these two close a loop
LOOPS = ((2, 16), (5, 17))
TREE = tuple(k for k, limb in enumerate(LIMBS) if limb not in LOOPS)
# its first ten convolutions
VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512)
# the released targets' constants, in pixels; their 7 stands for exp(-d^2 / 2 sigma^2)
STRIDE, SIGMA, WIDTH = 8.0, 7.0 * 2**0.5, 8.0
# the released parser's constants
THRESHOLD, SAMPLES, SAMPLE_THRESHOLD, SAMPLE_SHARE = 0.1, 10, 0.05, 0.8
LEAST_JOINTS, LEAST_SCORE = 4, 0.4


def affinity_fields(
    keypoints: Real[Tensor, "b p k 2"],
    present: Bool[Tensor, "b p k"],
    *,
    size: tuple[int, int],
    stride: float,
    width: float,
    limbs: Sequence[tuple[int, int]] = LIMBS,
) -> Float[Tensor, "b c 2 h w"]:
    r"""Part affinity fields: on limb c the unit vector along it, zero elsewhere (Eq.
    8-9 of the paper).

    A cell p is on a limb from :math:`x_1` to :math:`x_2` of length l and direction v
    when :math:`0 \le v \cdot (p - x_1) \le l` and :math:`|v_\perp \cdot (p - x_1)| \le`
    ``width``. Where limbs of the same kind overlap, their vectors are averaged. Limbs
    shorter than a cell (nose to eye, a foreshortened shoulder) are drawn one cell long
    about their middle: most of them would otherwise fall between the cells and be lost.

    Args:
        keypoints: (x, y) in pixels, people by joints.
        present: which are known; a limb needs both its ends.
        size: (rows, columns) of the fields.
        stride: pixels per cell.
        width: half-width of a limb in pixels.
        limbs: pairs of joints.

    Raises:
        ValueError: for a present joint that is not finite, limbs between joints that do
            not exist, or a size, stride or width that is not positive.
    """
    check_grid(size, stride=stride, width=width)
    check_present(keypoints, present)
    keypoints = floating(keypoints)
    first, last = torch.tensor(limbs, device=keypoints.device).T
    highest = int(torch.maximum(first, last).max())
    expect(highest < keypoints.shape[2], f"joint {highest}", keypoints.shape)
    drawn = present[:, :, first] & present[:, :, last]
    start = torch.where(drawn[..., None], keypoints[:, :, first], 0)
    end = torch.where(drawn[..., None], keypoints[:, :, last], 0)
    along = end - start
    length = along.norm(dim=-1)[..., None, None]
    drawn = drawn[..., None, None] & (length > 1e-3)  # no direction otherwise
    v = along[..., None, None] / length[..., None, :, :].clamp(min=1e-3)
    dx = cell_centres(size[1], stride).to(keypoints) - start[..., 0:1, None]
    dy = cell_centres(size[0], stride).to(keypoints)[:, None] - start[..., 1:2, None]
    on = drawn & on_limb(v, dx, dy, length, width=width, stride=stride)
    total = (v * on[:, :, :, None]).sum(1)
    return total / on.sum(1).clamp(min=1)[:, :, None]


def on_limb(
    v: Tensor, dx: Tensor, dy: Tensor, length: Tensor, *, width: float, stride: float
) -> Bool[Tensor, "b p c h w"]:
    """Which cells are on which limbs.

    Args:
        v: unit vectors (b, p, c, 2, 1, 1) along the limbs.
        dx: from a limb's start to the cells, (b, p, c, 1, w) in pixels.
        dy: the same downwards, (b, p, c, h, 1).
        length: of the limbs, (b, p, c, 1, 1).
        width: half-width of a limb in pixels.
        stride: pixels per cell.
    """
    vx, vy = v.unbind(-3)
    forward = vx * dx + vy * dy
    sideways = vx * dy - vy * dx
    slack = ((stride - length) / 2).clamp(min=0)
    within = (forward >= -slack) & (forward <= length + slack)
    return within & (sideways.abs() <= width)


def midpoint_maps(
    keypoints: Real[Tensor, "b p k 2"],
    present: Bool[Tensor, "b p k"],
    *,
    size: tuple[int, int],
    stride: float,
    sigma: float,
) -> Float[Tensor, "b c h w"]:
    """The rival representation (Fig. 5b of the paper): a confidence map of every limb's
    midpoint.

    Args:
        keypoints: (x, y) in pixels.
        present: which are known; a limb needs both its ends.
        size: (rows, columns) of the maps.
        stride: pixels per cell.
        sigma: of a peak, in pixels.
    """
    check_joints(keypoints, present)
    keypoints = floating(keypoints)
    first, last = torch.tensor(LIMBS, device=keypoints.device).T
    middle = (keypoints[:, :, first] + keypoints[:, :, last]) / 2
    both = present[:, :, first] & present[:, :, last]
    return gaussian_maps(middle, both, size=size, stride=stride, sigma=sigma)


def check_joints(keypoints: Tensor, present: Tensor) -> None:
    """Raise ``ValueError`` unless the keypoints are OpenPose's 18, finite where
    present."""
    check_present(keypoints, present)
    expect(
        keypoints.shape[2] == NUM_JOINTS,
        f"OpenPose's {NUM_JOINTS} joints (COCO's 17: see ops.skeletons.from_coco)",
        keypoints.shape,
    )


def targets(
    keypoints: Real[Tensor, "b p k 2"],
    present: Bool[Tensor, "b p k"],
    *,
    size: tuple[int, int],
    stride: float,
    sigma: float,
    width: float,
    middles: bool = False,
) -> tuple[Float[Tensor, "b k+1 h w"], Float[Tensor, "b c h w"]]:
    r"""What the net shall answer, channel by channel: confidence maps (Eq. 6-7) and
    part affinity fields (Eq. 8-9).

    Args:
        keypoints: (x, y) in pixels, people by 18 joints.
        present: which joints are annotated.
        size: (rows, columns) of the maps.
        stride: pixels per cell.
        sigma: of the confidence maps, in pixels.
        width: half-width of the limbs, in pixels.
        middles: also the rival's midpoint maps, as further channels of the fields.

    Returns:
        Confidence maps, joints then background :math:`1 - \max_j S_j`; fields, x and y
        of limb 0, of limb 1, ...

    Raises:
        ValueError: for another number of joints, a present joint that is not finite, or
            a length that is not positive.
    """
    check_joints(keypoints, present)
    grid: dict[str, Any] = {"size": size, "stride": stride}
    heats = gaussian_maps(keypoints, present, sigma=sigma, **grid)
    background = 1 - heats.amax(1, keepdim=True)
    fields = affinity_fields(keypoints, present, width=width, **grid).flatten(1, 2)
    if middles:
        between = midpoint_maps(keypoints, present, sigma=sigma, **grid)
        fields = torch.cat([fields, between], 1)
    return torch.cat([heats, background], 1), fields


def convs(
    plan: Sequence[int | str], kernel: int, *, in_channels: int, norm: bool
) -> list[nn.Module]:
    """Convolutions that keep the size, each followed by ReLU, or by batch normalisation
    and ReLU.

    Args:
        plan: channels of each convolution's output; ``"M"`` is a pooling that halves
            the size.
        kernel: side of all, odd.
        in_channels: of the first one's input.
        norm: with batch normalisation.
    """
    layers: list[nn.Module] = []
    relu = partial(nn.ReLU, inplace=True)
    for item in plan:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(in_channels, item, kernel, padding=kernel // 2, bias=not norm)
        layers += conv_norm_act(conv, nn.BatchNorm2d if norm else None, relu)
        in_channels = item
    return layers


def trunk(plan: Sequence[int | str], *, norm: bool) -> nn.Sequential:
    """VGG-like features: 3x3 convolutions, ``"M"`` halves the size."""
    return nn.Sequential(*convs(plan, 3, in_channels=3, norm=norm))


def branch(
    in_channels: int, plan: Sequence[int], out: int, *, kernel: int, norm: bool
) -> nn.Sequential:
    """One branch of one stage.

    Args:
        in_channels: of what it sees.
        plan: channels of its wide convolutions, then those between the two 1x1
            convolutions that follow.
        out: channels of its answer.
        kernel: side of the wide convolutions.
        norm: batch normalisation after every hidden convolution.
    """
    *hidden, last = plan
    wide = convs(hidden, kernel, in_channels=in_channels, norm=norm)
    narrow = convs([last], 1, in_channels=hidden[-1], norm=norm)
    return nn.Sequential(*wide, *narrow, nn.Conv2d(last, out, 1))


class OpenPose(nn.Module):
    """The two-branch, multi-stage net (Fig. 3): every later stage sees the features and
    the maps before it.

    Args:
        plan: the trunk's convolutions, ``"M"`` for a pooling that halves the size.
        features: channels of the trunk's last layers; the very last is F, which all
            stages see.
        first: of a branch of stage 1, channels of its 3x3 convolutions and, last, of
            the 1x1 convolution that follows.
        later: the same of every later stage.
        stages: how many.
        kernel: side of the later stages' wide convolutions.
        field_channels: of the field branch; two per limb.
        norm: batch normalisation after every hidden convolution.

    Raises:
        ValueError: for a count below one, a branch of one layer or an even kernel.
    """

    def __init__(
        self,
        *,
        plan: Sequence[int | str] = VGG19,
        features: Sequence[int] = (256, 128),
        first: Sequence[int] = (128, 128, 128, 512),
        later: Sequence[int] = (128, 128, 128, 128, 128, 128),
        stages: int = 6,
        kernel: int = 7,
        field_channels: int = 2 * len(LIMBS),
        norm: bool = False,
    ) -> None:
        super().__init__()
        _check_plans(features, first, later, stages, kernel)
        self.stride = 2 ** plan.count("M")
        self.trunk = trunk((*plan, *features), norm=norm)
        seen = features[-1] + field_channels + NUM_JOINTS + 1
        stage_1 = partial(branch, features[-1], first, kernel=3, norm=norm)
        stage_t = partial(branch, seen, later, kernel=kernel, norm=norm)
        self.field_stages, self.heat_stages = nn.ModuleList(), nn.ModuleList()
        for stage in range(stages):
            make = stage_t if stage else stage_1
            self.field_stages.append(make(field_channels))
            self.heat_stages.append(make(NUM_JOINTS + 1))

    def forward(
        self, images: Float[Tensor, "b 3 H W"]
    ) -> list[tuple[Float[Tensor, "b k h w"], Float[Tensor, "b c h w"]]]:
        """Confidence maps and fields (channels x, y of limb 0, x, y of limb 1, ...)
        after each stage.

        Args:
            images: in [0, 1], with sides that the stride divides.

        Raises:
            ValueError: when the image's sides are no multiples of the stride, there
                is no image, or its numbers are not of the net's type.
        """
        self.check(images)
        features = self.trunk(images - 0.5)
        seen = features
        outputs = []
        stages = zip(self.heat_stages, self.field_stages, strict=True)
        for heat_stage, field_stage in stages:
            heats, fields = heat_stage(seen), field_stage(seen)
            outputs.append((heats, fields))
            seen = torch.cat([fields, heats, features], 1)
        return outputs

    def check(self, images: Tensor) -> None:
        """Raise ``ValueError`` unless these are images that ``forward`` can take."""
        known = images.ndim == 4 and len(images) and images.shape[1] == 3
        fits = known and not any(side % self.stride for side in images.shape[2:])
        sides = f"images (b, 3, h, w) with sides divisible by {self.stride}"
        expect(fits, sides, images.shape)
        dtype = next(self.parameters()).dtype
        expect(images.dtype == dtype, f"images in {dtype}, as the net", images.dtype)


def _check_plans(
    features: Sequence[int],
    first: Sequence[int],
    later: Sequence[int],
    stages: int,
    kernel: int,
) -> None:
    counts = stages, kernel, *features, *first, *later
    expect(min(counts) > 0, "counts of at least one", *counts)
    layers = min(len(first), len(later))
    expect(layers > 1, "two layers or more in a branch", first, later)
    expect(kernel % 2 == 1, "an odd kernel, which keeps the size", kernel)


Outputs = Sequence[tuple[Tensor, Tensor]]


def loss(
    outputs: Outputs,
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
    stride: float = STRIDE,
    sigma: float = SIGMA,
    width: float = WIDTH,
    positive_weight: float = 0.0,
) -> dict[str, Tensor]:
    r"""Intermediate supervision: :math:`\sum_t \sum_p W(p) (\|S^t - S^*\|^2 + \|L^t -
    L^*\|^2)` (Eq. 3-5).

    Args:
        outputs: of every stage that is supervised: confidence maps (b, 19, h, w) and
            fields (b, 38, h, w), or (b, 57, h, w) with the rival's midpoint maps.
        batch: ``keypoints`` (b, p, 18, 2) in pixels and ``in_frame`` (b, p, 18), which
            of them are annotated: the targets are drawn from these. Where they were
            drawn before, ``heats`` and ``fields``, as ``targets`` gives them. And, if
            there, ``mask`` (b, 1, h, w): W, zero where people are not annotated.
        generator: nothing is drawn at random.
        stride: pixels per cell.
        sigma: of the target maps, in pixels.
        width: half-width of the target limbs, in pixels.
        positive_weight: a cell counts ``1 + positive_weight * |target|`` times (the
            background map counts once).

    Returns:
        ``loss``, the sum over stages, per image; and every stage's ``heat1``,
        ``field1``, ...

    Raises:
        ValueError: for outputs and targets of unequal shapes.
    """
    heats, fields = wanted_maps(outputs, batch, stride, sigma, width)
    mask = _mask(outputs, batch, heats, fields)
    weight = 1 + positive_weight * heats.abs()
    weight[:, -1:] = 1
    field_weight = 1 + positive_weight * fields.abs()
    parts: dict[str, Tensor] = {}
    for stage, (heat, field) in enumerate(outputs, 1):
        apart = mask * weight * (heat - heats) ** 2
        parts[f"heat{stage}"] = apart.sum() / len(heats)
        apart = mask * field_weight * (field - fields) ** 2
        parts[f"field{stage}"] = apart.sum() / len(heats)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def _mask(
    outputs: Outputs, batch: Mapping[str, Tensor], heats: Tensor, fields: Tensor
) -> Tensor:
    """W, or 1 where the batch has none; ``ValueError`` where anything does not fit the
    targets."""
    mask = batch.get("mask", torch.ones((), device=heats.device))
    fits = mask.ndim == 0 or mask.shape == (len(heats), 1, *heats.shape[2:])
    expect(fits, f"a mask for maps {tuple(heats.shape)}", mask.shape)
    for heat, field in outputs:
        expect(heat.shape == heats.shape, f"maps {tuple(heats.shape)}", heat.shape)
        wanted = tuple(fields.shape)
        expect(field.shape == wanted, f"fields {wanted}", field.shape)
    return mask


def wanted_maps(
    outputs: Outputs,
    batch: Mapping[str, Tensor],
    stride: float,
    sigma: float,
    width: float,
) -> tuple[Tensor, Tensor]:
    """The targets of a batch: those that it holds, or else drawn as large as the
    outputs, with midpoint maps where these have channels for them.

    Args:
        outputs: see ``loss``.
        batch: see ``loss``.
        stride: pixels per cell.
        sigma: of the target maps, in pixels.
        width: half-width of the target limbs, in pixels.
    """
    if "heats" in batch:
        check_keys(batch, "heats", "fields")
        return batch["heats"], batch["fields"]
    check_keys(batch, "keypoints", "in_frame")
    heats, fields = outputs[0]
    return targets(
        batch["keypoints"],
        batch["in_frame"],
        size=(heats.shape[2], heats.shape[3]),
        stride=stride,
        sigma=sigma,
        width=width,
        middles=fields.shape[1] == 3 * len(LIMBS),
    )


# (limb (n,), start (n, 2), end (n, 2)) -> score (n,)
Affinity = Callable[[Tensor, Tensor, Tensor], Tensor]


def line_integral(
    fields: Float[Tensor, "c h w"], *, stride: float, samples: int = SAMPLES
) -> Affinity:
    r"""The paper's affinity: :math:`E = \int_0^1 L_c(p(u)) \cdot \frac{d_2 - d_1}{\|d_2
    - d_1\|} du` (Eq. 10-11).

    Args:
        fields: what the field branch answers for one image.
        stride: pixels per cell.
        samples: of u, evenly from 0 to 1.

    Returns:
        As released, the mean over samples that agree (above 0.05); pairs with fewer
        than 80 % of such samples score zero, and limbs longer than half the image's
        height pay for it.

    Raises:
        ValueError: for fields that are not finite.
    """
    check_fields(fields)
    x_map = fields[0 : 2 * len(LIMBS) : 2]
    y_map = fields[1 : 2 * len(LIMBS) : 2]
    u = torch.linspace(0, 1, samples, device=fields.device)[None, :, None]
    height = fields.shape[-2] * stride

    def affinity(limb: Tensor, start: Tensor, end: Tensor) -> Tensor:
        direction = functional.normalize(end - start, eps=1e-6)
        at = (1 - u) * start[:, None] + u * end[:, None]
        x = sample_maps(x_map, limb, at, stride)
        y = sample_maps(y_map, limb, at, stride)
        dot = x * direction[:, :1] + y * direction[:, 1:]
        agrees = dot > SAMPLE_THRESHOLD
        mean = (dot * agrees).sum(1) / agrees.sum(1).clamp(min=1)
        score = mean + long_limb(start, end, height)
        return torch.where(agrees.float().mean(1) >= SAMPLE_SHARE, score, 0.0)

    return affinity


def long_limb(
    start: Float[Tensor, "n 2"], end: Float[Tensor, "n 2"], height: float
) -> Float[Tensor, " n"]:
    """What a limb's score loses by its length: nothing up to half the image's height
    (as released).

    Args:
        start: of the limbs, in pixels.
        end: of the limbs, in pixels.
        height: of the image, in pixels.
    """
    length = (end - start).norm(dim=-1).clamp(min=1e-6)
    return (height / 2 / length - 1).clamp(max=0)


def midpoint(fields: Float[Tensor, "c h w"], *, stride: float) -> Affinity:
    """The rival's affinity: the height of the midpoint map half-way, if above the
    peaks' threshold; long limbs pay.

    Args:
        fields: what the field branch answers for one image, midpoint maps last.
        stride: pixels per cell.

    Raises:
        ValueError: for fields that are not finite or without midpoint maps.
    """
    check_fields(fields)
    maps = fields[2 * len(LIMBS) :]
    expect(len(maps), "midpoint maps after the fields", fields.shape)
    height = fields.shape[-2] * stride

    def affinity(limb: Tensor, start: Tensor, end: Tensor) -> Tensor:
        middle = (start + end) / 2
        score = sample_maps(maps, limb, middle[:, None], stride)[:, 0]
        paid = score + long_limb(start, end, height)
        return torch.where(score > THRESHOLD, paid, 0.0)

    return affinity


def nearness(
    fields: Float[Tensor, "c h w"], *, stride: float, reach: float | None = None
) -> Affinity:
    """The control's affinity: the nearer the better, falling evenly to nothing.

    Args:
        fields: only their size counts.
        stride: pixels per cell.
        reach: the distance, in pixels, that scores nothing; None for the image's width.
    """
    most = fields.shape[-1] * stride if reach is None else reach

    def affinity(limb: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return (1 - (end - start).norm(dim=-1) / most).clamp(min=0)

    return affinity


def length_odds(
    keypoints: Real[Tensor, "b p k 2"],
    present: Bool[Tensor, "b p k"],
    *,
    step: float,
    bins: int = 32,
) -> Float[Tensor, "limbs steps"]:
    """What the length alone says: of all pairs of a limb's two joints that are so far
    apart, the share that belongs to one person.

    Args:
        keypoints: of a training set, (x, y) in pixels.
        present: which are known.
        step: of the lengths that are told apart, in pixels; counts are summed over
            three neighbouring steps.
        bins: how many steps; the last one holds all that is longer.
    """
    check_joints(keypoints, present)
    first, last = torch.tensor(LIMBS, device=keypoints.device).T
    points = torch.where(present[..., None], floating(keypoints), 0)
    apart = points[:, None, :, last] - points[:, :, None, first]
    known = present[:, None, :, last] & present[:, :, None, first]
    place = (apart.norm(dim=-1) / step).long().clamp(max=bins - 1)
    place += bins * torch.arange(len(LIMBS), device=place.device)
    own = known & torch.eye(known.shape[1], device=place.device).bool()[..., None]
    counts = []
    for pairs in (own, known):
        number = torch.bincount(place[pairs], minlength=bins * len(LIMBS)).float()
        number = number.reshape(1, len(LIMBS), bins)
        counts.append(3 * functional.avg_pool1d(number, 3, 1, 1)[0])
    return counts[0] / counts[1].clamp(min=1)


def typical_length(
    fields: Float[Tensor, "c h w"],
    *,
    stride: float,
    odds: Float[Tensor, "limbs steps"],
    step: float,
) -> Affinity:
    """The sceptic's affinity: how often two joints so far apart were one limb.

    Args:
        fields: do not count.
        stride: does not count.
        odds: of ``length_odds``.
        step: of ``length_odds``.
    """

    def affinity(limb: Tensor, start: Tensor, end: Tensor) -> Tensor:
        place = ((end - start).norm(dim=-1) / step).long()
        return odds[limb, place.clamp(max=odds.shape[1] - 1)]

    return affinity


def check_fields(fields: Tensor) -> None:
    """Raise ``ValueError`` unless these are the finite fields of one image."""
    expect(fields.ndim == 3, "fields of one image (c, h, w)", fields.shape)
    expect(fields.isfinite().all(), "finite fields, got some values that are not")


@dataclass(frozen=True)
class People:
    """Assembled people: ``keypoints`` (n, 18, 2) in pixels, ``found`` (n, 18),
    ``scores`` (n,)."""

    keypoints: Float[Tensor, "n k 2"]
    found: Bool[Tensor, "n k"]
    scores: Float[Tensor, " n"]


# One-to-one pairs of a table of scores, as ``ops.matching.greedy`` and ``optimal``
Matching = Callable[[Tensor], list[tuple[int, int]]]
# The kind, position and height of every peak, as ``ops.heatmaps.peaks`` finds them
Spots = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def decode(
    outputs: Outputs,
    *,
    stride: float = STRIDE,
    affinity: Callable[..., Affinity] = line_integral,
    threshold: float = THRESHOLD,
    matching: Matching = greedy,
    least_joints: int = LEAST_JOINTS,
    least_score: float = LEAST_SCORE,
) -> list[People]:
    """From maps to people: peaks, scored pairs, a matching per limb, assembly along the
    skeleton.

    Args:
        outputs: of the net, or target maps as one stage, ``[(heats, fields)]``; the
            last stage is read.
        stride: pixels per cell.
        affinity: ``line_integral`` is the paper's; ``midpoint`` and ``nearness`` are
            its rivals.
        threshold: lowest peak.
        matching: see ``assemble``.
        least_joints: see ``assemble``.
        least_score: see ``assemble``.

    Returns:
        The people of each image.

    Raises:
        ValueError: for maps of another number of joints, or that are not finite.
    """
    heats, fields = outputs[-1]
    _check_maps(heats, fields)
    least: dict[str, Any] = dict(least_joints=least_joints, least_score=least_score)
    people = []
    for heat, field in zip(heats, fields, strict=True):
        spots = peaks(heat[:NUM_JOINTS], stride=stride, threshold=threshold)
        rule = affinity(field, stride=stride)
        people.append(assemble(spots, rule, matching=matching, **least))
    return people


def _check_maps(heats: Tensor, fields: Tensor) -> None:
    known = heats.ndim == 4 and heats.shape[1] in (NUM_JOINTS, NUM_JOINTS + 1)
    wanted = f"maps (images, {NUM_JOINTS} joints and background, h, w)"
    expect(known, wanted, heats.shape)
    expect(len(heats) == len(fields), f"{len(heats)} images' fields", fields.shape)


def assemble(
    spots: Spots,
    affinity: Affinity,
    *,
    matching: Matching = greedy,
    least_joints: int = LEAST_JOINTS,
    least_score: float = LEAST_SCORE,
) -> People:
    """From the joints of one image to its people: the second half of ``decode``.

    Args:
        spots: kind, position and height of the peaks, as ``ops.heatmaps.peaks`` gives
            them.
        affinity: scores candidate limbs; zero forbids a pair.
        matching: ``ops.matching.greedy`` as released, or ``optimal``.
        least_joints: people with fewer are dropped.
        least_score: people whose peaks and limbs score less than this, in all and
            divided by the number of joints, are dropped.
    """
    kind, where, height = spots
    by_joint = [(kind == joint).nonzero()[:, 0] for joint in range(NUM_JOINTS)]
    tables = score_pairs(by_joint, where, affinity)
    assembly = Assembly(height.tolist())
    for k, table in zip(TREE, tables, strict=True):
        first, last = LIMBS[k]
        for row, column in matching(table):
            start, end = int(by_joint[first][row]), int(by_joint[last][column])
            assembly.join(first, start, last, end, float(table[row, column]))
    kept = []
    for person in assembly.people:
        score = person.total / len(person.peaks)
        if len(person.peaks) >= least_joints and score >= least_score:
            kept.append((score, person.peaks))
    return _people(kept, where)


def _people(kept: Sequence[tuple[float, Mapping[int, int]]], where: Tensor) -> People:
    """Scores and peaks of people as one ``People``."""
    rows = []
    for _, of_joint in kept:
        rows.append([of_joint.get(joint, -1) for joint in range(NUM_JOINTS)])
    peak = torch.tensor(rows, dtype=torch.long, device=where.device)
    peak = peak.reshape(-1, NUM_JOINTS)
    keypoints = where[peak].masked_fill(peak[..., None] < 0, 0)
    scores = where.new_tensor([score for score, _ in kept])
    return People(keypoints, peak >= 0, scores)


def score_pairs(
    by_joint: Sequence[Tensor], where: Float[Tensor, "n 2"], affinity: Affinity
) -> list[Float[Tensor, "a b"]]:
    """How well each pair of peaks makes each limb of the tree; all limbs in one go.

    Args:
        by_joint: the peaks of each joint, indices into ``where``.
        where: positions in pixels.
        affinity: scores candidate limbs.

    Returns:
        For each limb of ``TREE``, on the CPU, the peaks of its first joint by those of
        its second.
    """
    shapes, limbs, starts, ends = [], [], [], []
    for k in TREE:
        first, last = (by_joint[joint] for joint in LIMBS[k])
        shapes.append((len(first), len(last)))
        limbs.append(torch.full((len(first) * len(last),), k, device=where.device))
        starts.append(first.repeat_interleave(len(last)))
        ends.append(last.repeat(len(first)))
    start = where[torch.cat(starts)]
    end = where[torch.cat(ends)]
    scores = affinity(torch.cat(limbs), start, end).cpu()
    parts = scores.split([rows * columns for rows, columns in shapes])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(eq=False)
class Person:
    """A group of joints in the making."""

    peaks: dict[int, int]  # joint -> its peak
    total: float  # of its peaks' heights and its limbs' scores


class Assembly:
    """Limbs, one after the other, made into people.

    Args:
        heights: of all peaks.
    """

    def __init__(self, heights: Sequence[float]) -> None:
        self.heights = heights
        self.people: list[Person] = []
        self.owner: dict[int, Person] = {}  # of each peak that is taken

    def join(self, first: int, start: int, last: int, end: int, score: float) -> None:
        """A limb starts a person, lengthens one, or makes two people one.

        Args:
            first: the joint at its start.
            start: the peak there.
            last: the joint at its end.
            end: the peak there.
            score: of the limb.
        """
        mine = self.owner.get(start)
        theirs = self.owner.get(end)
        if mine and theirs:
            if mine is not theirs and not mine.peaks.keys() & theirs.peaks.keys():
                self._merge(mine, theirs, score)
        elif mine:
            self._lengthen(mine, last, end, score)
        elif theirs:
            self._lengthen(theirs, first, start, score)
        else:
            total = score + self.heights[start] + self.heights[end]
            person = Person({first: start, last: end}, total)
            self.people.append(person)
            self.owner[start] = person
            self.owner[end] = person

    def _lengthen(self, person: Person, joint: int, peak: int, score: float) -> None:
        if joint not in person.peaks:
            person.peaks[joint] = peak
            person.total += score + self.heights[peak]
            self.owner[peak] = person

    def _merge(self, mine: Person, theirs: Person, score: float) -> None:
        mine.peaks |= theirs.peaks
        mine.total += theirs.total + score
        for peak in theirs.peaks.values():
            self.owner[peak] = mine
        self.people.remove(theirs)


# How the map of the net calls its parts.
BLOCKS = {
    "trunk": "trunk",
    "field_stages.*": "fields *",
    "heat_stages.*": "joints *",
}


def tiny(**overrides: object) -> OpenPose:
    """The book's scale: 64x64 images, maps at stride 4, three narrow stages with batch
    normalisation.

    Args:
        overrides: of ``OpenPose``'s arguments.
    """
    settings: dict[str, Any] = {
        "plan": (16, "M", 32, "M", 64),
        "features": (48,),
        "first": (32, 64),
        "later": (32, 32, 32, 32, 32),
        "stages": 3,
        "kernel": 3,
        "norm": True,
    }
    net = OpenPose(**(settings | overrides))
    he_init_(net)
    for stage in (*net.field_stages, *net.heat_stages):
        # nearly all targets are zero: start there
        nn.init.normal_(stage[-1].weight, std=0.01)
    return net


def paper(**overrides: Any) -> OpenPose:
    """The paper's scale: 368x368 crops, VGG-19 trunk, six stages, 52.3 M parameters.

    Args:
        overrides: of ``OpenPose``'s arguments.
    """
    return OpenPose(**overrides)
