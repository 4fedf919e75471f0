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

Guessed:
    The paper does not say how limbs shorter than a cell are treated (here: drawn one
    cell long; the released code widens every limb's box by a cell), nor how groups that
    share a limb are merged (here: when no joints clash).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.layers.init import he_init_
from papernets_lite.ops.heatmaps import (
    cell_centres,
    check_present,
    gaussian_maps,
    peaks,
    sample_maps,
)
from papernets_lite.ops.matching import greedy

NUM_JOINTS = 18
# Pairs of joints, in the released order (counted from 0): neck to hip, knee, ankle;
# neck to elbow, wrist; head.
LIMBS = (
    *(
        (1, 8),
        (8, 9),
        (9, 10),
        (1, 11),
        (11, 12),
        (12, 13),
        (1, 2),
        (2, 3),
        (3, 4),
        (2, 16),
    ),
    *((1, 5), (5, 6), (6, 7), (5, 17), (1, 0), (0, 14), (0, 15), (14, 16), (15, 17)),
)
# these two close a loop
TREE = tuple(k for k, limb in enumerate(LIMBS) if limb not in ((2, 16), (5, 17)))
# its first ten convolutions
VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512)
# the released parser's constants
THRESHOLD, SAMPLES, SAMPLE_THRESHOLD, SAMPLE_SHARE = 0.1, 10, 0.05, 0.8


def affinity_fields(
    keypoints: Float[Tensor, "b p k 2"],
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
        ValueError: for a present joint that is not finite.
    """
    check_present(keypoints, present)
    first, last = torch.tensor(limbs, device=keypoints.device).T
    start, end = keypoints[:, :, first], keypoints[:, :, last]
    drawn = present[:, :, first] & present[:, :, last]
    start = torch.where(drawn[..., None], start, 0)
    along = torch.where(drawn[..., None], end, 0) - start
    length = along.norm(dim=-1)
    drawn &= length > 1e-3  # no direction otherwise
    slack = ((stride - length) / 2).clamp(min=0)[..., None, None]
    vx, vy = (along / length.clamp(min=1e-3)[..., None])[..., None, None].unbind(-3)
    dx = cell_centres(size[1], stride).to(keypoints) - start[..., 0:1, None]
    dy = cell_centres(size[0], stride).to(keypoints)[:, None] - start[..., 1:2, None]
    forward = vx * dx + vy * dy
    sideways = vx * dy - vy * dx
    on = (
        (forward >= -slack)
        & (forward <= length[..., None, None] + slack)
        & (sideways.abs() <= width)
    )
    on &= drawn[..., None, None]
    return (
        torch.stack([(vx * on).sum(1), (vy * on).sum(1)], 2)
        / on.sum(1).clamp(min=1)[:, :, None]
    )


def midpoint_maps(
    keypoints: Float[Tensor, "b p k 2"],
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
    first, last = torch.tensor(LIMBS, device=keypoints.device).T
    middle = (keypoints[:, :, first] + keypoints[:, :, last]) / 2
    both = present[:, :, first] & present[:, :, last]
    return gaussian_maps(middle, both, size=size, stride=stride, sigma=sigma)


def targets(
    keypoints: Float[Tensor, "b p k 2"],
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
        keypoints: (x, y) in pixels.
        present: which joints are annotated.
        size: (rows, columns) of the maps.
        stride: pixels per cell.
        sigma: of the confidence maps, in pixels.
        width: half-width of the limbs, in pixels.
        middles: also the rival's midpoint maps, as further channels of the fields.

    Returns:
        Confidence maps, joints then background :math:`1 - \max_j S_j`; fields, x and y
        of limb 0, of limb 1, ...
    """
    heats = gaussian_maps(keypoints, present, size=size, stride=stride, sigma=sigma)
    fields = affinity_fields(
        keypoints, present, size=size, stride=stride, width=width
    ).flatten(1, 2)
    if middles:
        fields = torch.cat(
            [
                fields,
                midpoint_maps(
                    keypoints, present, size=size, stride=stride, sigma=sigma
                ),
            ],
            1,
        )
    return torch.cat([heats, 1 - heats.amax(1, keepdim=True)], 1), fields


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
    for item in plan:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(
            nn.Conv2d(in_channels, item, kernel, padding=kernel // 2, bias=not norm)
        )
        layers += (
            [nn.BatchNorm2d(item), nn.ReLU(inplace=True)]
            if norm
            else [nn.ReLU(inplace=True)]
        )
        in_channels = item
    return layers


def trunk(plan: Sequence[int | str], *, norm: bool) -> nn.Sequential:
    """VGG-like features: 3x3 convolutions, ``"M"`` halves the size."""
    return nn.Sequential(*convs(plan, 3, in_channels=3, norm=norm))


def branch(
    in_channels: int,
    hidden: Sequence[int],
    last: int,
    out: int,
    *,
    kernel: int,
    norm: bool,
) -> nn.Sequential:
    """One branch of one stage.

    Args:
        in_channels: of what it sees.
        hidden: channels of its wide convolutions.
        last: channels between the two 1x1 convolutions that follow.
        out: channels of its answer.
        kernel: side of the wide convolutions.
        norm: batch normalisation after every hidden convolution.
    """
    body = convs(hidden, kernel, in_channels=in_channels, norm=norm)
    return nn.Sequential(
        *body,
        *convs([last], 1, in_channels=hidden[-1], norm=norm),
        nn.Conv2d(last, out, 1),
    )


class OpenPose(nn.Module):
    """The two-branch, multi-stage net (Fig. 3): every later stage sees the features and
    the maps before it.

    Args:
        plan: the trunk's convolutions, ``"M"`` for a pooling that halves the size.
        features: channels of the trunk's last layers; the very last is F, which all
            stages see.
        stages: how many.
        hidden: channels inside a branch.
        first_layers: 3x3 convolutions per branch of stage 1.
        first_last: channels of stage 1's last hidden layer.
        layers: wide convolutions per branch of the later stages.
        kernel: of the later stages.
        field_channels: of the field branch; two per limb.
        norm: batch normalisation after every hidden convolution.
    """

    def __init__(
        self,
        *,
        plan: Sequence[int | str] = VGG19,
        features: Sequence[int] = (256, 128),
        stages: int = 6,
        hidden: int = 128,
        first_layers: int = 3,
        first_last: int = 512,
        layers: int = 5,
        kernel: int = 7,
        field_channels: int = 2 * len(LIMBS),
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.stride = 2 ** plan.count("M")
        self.trunk = trunk((*plan, *features), norm=norm)
        self.field_stages, self.heat_stages = nn.ModuleList(), nn.ModuleList()
        for modules, out in (
            (self.field_stages, field_channels),
            (self.heat_stages, NUM_JOINTS + 1),
        ):
            modules.append(
                branch(
                    features[-1],
                    [hidden] * first_layers,
                    first_last,
                    out,
                    kernel=3,
                    norm=norm,
                )
            )
            seen, wide = (
                features[-1] + field_channels + NUM_JOINTS + 1,
                [hidden] * layers,
            )
            modules.extend(
                branch(seen, wide, hidden, out, kernel=kernel, norm=norm)
                for _ in range(stages - 1)
            )

    def forward(
        self, images: Float[Tensor, "b 3 H W"]
    ) -> list[tuple[Float[Tensor, "b k h w"], Float[Tensor, "b c h w"]]]:
        """Confidence maps and fields (channels x, y of limb 0, x, y of limb 1, ...)
        after each stage.

        Raises:
            ValueError: when the image's sides are no multiples of the stride, or there
                is no image.
        """
        if (
            not len(images)
            or images.shape[-1] % self.stride
            or images.shape[-2] % self.stride
        ):
            raise ValueError(
                f"expected images with sides divisible by {self.stride}, got {tuple(images.shape)}"
            )
        features = self.trunk(images - 0.5)
        seen, outputs = features, []
        for fields, heats in zip(self.field_stages, self.heat_stages, strict=True):
            outputs.append((heats(seen), fields(seen)))
            seen = torch.cat([outputs[-1][1], outputs[-1][0], features], 1)
        return outputs


def loss(
    outputs: Sequence[tuple[Tensor, Tensor]],
    heats: Float[Tensor, "b k h w"],
    fields: Float[Tensor, "b c h w"],
    mask: Float[Tensor, "b 1 h w"] | float = 1.0,
    *,
    positive_weight: float = 0.0,
) -> dict[str, Tensor]:
    r"""Intermediate supervision: :math:`\sum_t \sum_p W(p) (\|S^t - S^*\|^2 + \|L^t -
    L^*\|^2)` (Eq. 3-5).

    Args:
        outputs: of every stage that is supervised.
        heats: target confidence maps, background last.
        fields: target fields.
        mask: W, zero where people are not annotated; by default one everywhere.
        positive_weight: a cell counts ``1 + positive_weight * |target|`` times (the
            background map counts once).

    Returns:
        ``loss``, the sum over stages, per image; and every stage's ``heat1``,
        ``field1``, ...
    """
    weight = 1 + positive_weight * heats.abs()
    weight[:, -1:] = 1
    field_weight = 1 + positive_weight * fields.abs()
    parts: dict[str, Tensor] = {}
    for stage, (heat, field) in enumerate(outputs, 1):
        parts[f"heat{stage}"] = (mask * weight * (heat - heats) ** 2).sum() / len(heats)
        parts[f"field{stage}"] = (
            mask * field_weight * (field - fields) ** 2
        ).sum() / len(heats)
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


# (limb (n,), start (n, 2), end (n, 2)) -> score (n,)
Affinity = Callable[[Tensor, Tensor, Tensor], Tensor]


def line_integral(
    fields: Float[Tensor, "c h w"], *, stride: float, samples: int = SAMPLES
) -> Affinity:
    r"""The paper's affinity: :math:`E = \int_0^1 L_c(p(u)) \cdot \frac{d_2 - d_1}{\|d_2
    - d_1\|} du` (Eq. 10-11).

    As released, E is the mean over samples that agree (above 0.05), pairs with fewer
    than 80 % of such samples score zero, and limbs longer than half the image's height
    pay for it.

    Args:
        fields: what the field branch answers for one image.
        stride: pixels per cell.
        samples: of u, evenly from 0 to 1.
    """
    x_map, y_map = fields[0 : 2 * len(LIMBS) : 2], fields[1 : 2 * len(LIMBS) : 2]
    u = torch.linspace(0, 1, samples, device=fields.device)[None, :, None]
    height = fields.shape[-2] * stride

    def affinity(limb: Tensor, start: Tensor, end: Tensor) -> Tensor:
        direction = functional.normalize(end - start, eps=1e-6)
        at = (1 - u) * start[:, None] + u * end[:, None]
        x, y = (
            sample_maps(x_map, limb, at, stride),
            sample_maps(y_map, limb, at, stride),
        )
        dot = x * direction[:, :1] + y * direction[:, 1:]
        agrees = dot > SAMPLE_THRESHOLD
        mean = (dot * agrees).sum(1) / agrees.sum(1).clamp(min=1)
        return torch.where(
            agrees.float().mean(1) >= SAMPLE_SHARE,
            mean + long_limb(start, end, height),
            0.0,
        )

    return affinity


def long_limb(
    start: Float[Tensor, "n 2"], end: Float[Tensor, "n 2"], height: float
) -> Float[Tensor, " n"]:
    """What a limb's score loses by its length: nothing up to half the image's height
    (as released).

    Args:
        start, end: of the limbs, in pixels.
        height: of the image, in pixels.
    """
    return (height / 2 / (end - start).norm(dim=-1).clamp(min=1e-6) - 1).clamp(max=0)


def midpoint(fields: Float[Tensor, "c h w"], *, stride: float) -> Affinity:
    """The rival's affinity: the height of the midpoint map half-way, if above the
    peaks' threshold; long limbs pay.

    Args:
        fields: what the field branch answers for one image, midpoint maps last.
        stride: pixels per cell.
    """
    maps, height = fields[2 * len(LIMBS) :], fields.shape[-2] * stride

    def affinity(limb: Tensor, start: Tensor, end: Tensor) -> Tensor:
        score = sample_maps(maps, limb, ((start + end) / 2)[:, None], stride)[:, 0]
        return torch.where(
            score > THRESHOLD, score + long_limb(start, end, height), 0.0
        )

    return affinity


def nearness(reach: float) -> Affinity:
    """The control's affinity: the nearer the better, falling evenly to nothing at
    ``reach`` pixels."""
    return lambda limb, start, end: (1 - (end - start).norm(dim=-1) / reach).clamp(
        min=0
    )


@dataclass(frozen=True)
class People:
    """Assembled people: ``keypoints`` (n, 18, 2) in pixels, ``found`` (n, 18),
    ``scores`` (n,)."""

    keypoints: Float[Tensor, "n k 2"]
    found: Bool[Tensor, "n k"]
    scores: Float[Tensor, " n"]


def decode(
    heats: Float[Tensor, "k h w"],
    affinity: Affinity,
    *,
    stride: float,
    threshold: float = THRESHOLD,
    matching: Callable[..., list[tuple[int, int]]] = greedy,
    least_joints: int = 3,
) -> People:
    """From maps to people: peaks, scored pairs, a matching per limb, assembly along the
    skeleton.

    Args:
        heats: confidence maps of one image; a background map at the end is ignored.
        affinity: scores candidate limbs; zero forbids a pair. ``line_integral(fields)``
            is the paper's.
        stride: pixels per cell.
        threshold: lowest peak.
        matching: ``ops.matching.greedy`` as released, or ``optimal``.
        least_joints: people with fewer are dropped.
    """
    kind, where, height = peaks(heats[:NUM_JOINTS], stride=stride, threshold=threshold)
    by_joint = [(kind == joint).nonzero()[:, 0] for joint in range(NUM_JOINTS)]
    pairs = [
        torch.cartesian_prod(by_joint[a], by_joint[b]).reshape(-1, 2)
        for a, b in (LIMBS[k] for k in TREE)
    ]
    limb = torch.cat(
        [
            torch.full((len(p),), k, device=kind.device)
            for k, p in zip(TREE, pairs, strict=True)
        ]
    )
    start, end = torch.cat(pairs).T
    # all limbs in one go
    scores = affinity(limb, where[start], where[end]).split([len(p) for p in pairs])

    people: list[dict[int, int]] = []  # joint -> peak
    total: list[float] = []
    owner: dict[int, int] = {}  # peak -> index into people
    heights = height.tolist()
    for k, table in zip(TREE, scores, strict=True):
        a, b = LIMBS[k]
        table = table.reshape(len(by_joint[a]), len(by_joint[b])).cpu()
        first, last = by_joint[a].tolist(), by_joint[b].tolist()
        for row, column in matching(table) if table.numel() else []:
            i, j, score = first[row], last[column], float(table[row, column])
            mine, theirs = owner.get(i), owner.get(j)
            if mine is None and theirs is None:
                owner[i] = owner[j] = len(people)
                people.append({a: i, b: j})
                total.append(score + heights[i] + heights[j])
            elif mine is None or theirs is None:
                known, joint, peak = (
                    (mine, b, j) if mine is not None else (owner[j], a, i)
                )
                if joint not in people[known]:
                    people[known][joint] = peak
                    owner[peak] = known
                    total[known] += score + heights[peak]
            elif mine != theirs and not people[mine].keys() & people[theirs].keys():
                people[mine] |= people[theirs]
                total[mine] += total[theirs] + score
                owner |= dict.fromkeys(people[theirs].values(), mine)
                people[theirs] = {}
    kept = [
        (joints, s / len(joints))
        for joints, s in zip(people, total, strict=True)
        if len(joints) >= least_joints
    ]
    rows = [
        [joints.get(joint, -1) for joint in range(NUM_JOINTS)] for joints, _ in kept
    ]
    peak = torch.tensor(rows, dtype=torch.long, device=where.device).reshape(
        -1, NUM_JOINTS
    )
    keypoints = where[peak].masked_fill(peak[..., None] < 0, 0)
    return People(keypoints, peak >= 0, where.new_tensor([score for _, score in kept]))


def tiny(**overrides: object) -> OpenPose:
    """The book's scale: 64x64 images, maps at stride 4, three narrow stages with batch
    normalisation."""
    settings: dict = {
        "plan": (16, "M", 32, "M", 64),
        "features": (48,),
        "stages": 3,
        "hidden": 32,
        "norm": True,
    }
    settings |= {"first_layers": 1, "first_last": 64, "layers": 4, "kernel": 3}
    net = OpenPose(**(settings | overrides))
    he_init_(net)
    for stage in (*net.field_stages, *net.heat_stages):
        # nearly all targets are zero: start there
        nn.init.normal_(list(stage.children())[-1].weight, std=0.01)
    return net


def paper(**overrides: object) -> OpenPose:
    """The paper's scale: 368x368 crops, VGG-19 trunk, six stages, 52.3 M parameters."""
    return OpenPose(**overrides)  # type: ignore[arg-type]
