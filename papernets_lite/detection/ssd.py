"""SSD: Single Shot MultiBox Detector.

Wei Liu, Dragomir Anguelov, Dumitru Erhan, Christian Szegedy, Scott Reed, Cheng-Yang Fu,
Alexander C. Berg. ECCV 2016, arXiv 1512.02325. Official code: weiliu89/caffe, branch
ssd.

Idea: one convolution on each of several feature maps says for every one of thousands of
fixed boxes what is in it and how it must move: fine maps own the small objects, coarse
maps the large ones.

Differs:
    1. ``sources`` lets a map's boxes be read from another map, for the comparison with
       a single map: the default boxes stay the same, whatever they are read from.
    2. ``tiny`` has batch normalisation and learns from nothing; the paper fine-tunes
       VGG-16. Where every map is normalised, the L2 normalisation of the first has
       nothing to do: ``tiny`` leaves it out.
    3. Images stay in [0, 1]; the released net subtracts a mean colour from 0 to 255.
    4. Zooming out fills the canvas with the image's own mean colour, not the data
       set's.
    5. ``augment`` leaves out the photometric distortions.

Guessed:
    Default boxes longer than the image are cut to its sides before they are placed, as
    torchvision does it. What the last map's second square is the mean of:
    :math:`s_{m+1}`, by the same formula. A true box that shares its best default box
    with another gets its next best one, as in the released code; the text does not say.
    Also as released: a patch's size is the square root of its area, it need only
    overlap one of the objects, and where 50 tries find none, the image stays whole.

Example:
    >>> outputs = tiny()(torch.rand(1, 3, 64, 64))
    >>> truth = {"boxes": [[[8, 8, 30, 30]]], "labels": [[3]], "valid": [[True]]}
    >>> sorted(loss(outputs, truth))
    ['classes', 'codes', 'loss', 'negatives']
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Integer, Real
from torch import Generator, Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, clip_boxes_to_image

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import he_init_
from papernets_lite.ops import boxes as coding
from papernets_lite.ops.checks import expect

# of the boxes' codes; the released code calls them variances
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
BACKGROUND_CLASS = 0  # the first class; objects count from 1
CANDIDATES, OVERLAP, MOST = 400, 0.45, 200  # of `decode`, as released
# Least overlap of a patch with some object (Section 2.2). The first is out of reach:
# the image stays whole. The last lets any patch pass.
LEAST_OVERLAPS = (math.inf, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
TRIES = 50  # patches drawn for each image, as released
# SSD300 for COCO, as torchvision has it: scales and strides of conv4_3, fc7, conv8_2,
# conv9_2, conv10_2, conv11_2.
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
STRIDES = (8, 16, 32, 64, 100, 300)
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))


class Conv(NamedTuple):
    """A convolution in a stage's plan."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int | None = None  # by default the size is kept, up to the stride
    dilation: int = 1


Plan = Sequence[nn.Module | tuple[int, ...]]
POOL = nn.MaxPool2d(2, ceil_mode=True)
# Up to each map the convolutions, as `Conv` (Fig. 2). pool5 no longer strides, so fc6
# is dilated to see as far as before (a trous).
VGG: tuple[Plan, ...] = (
    (
        (64, 3),
        (64, 3),
        POOL,
        (128, 3),
        (128, 3),
        POOL,
        (256, 3),
        (256, 3),
        (256, 3),
        POOL,
        (512, 3),
        (512, 3),
        (512, 3),
    ),
    (
        POOL,
        (512, 3),
        (512, 3),
        (512, 3),
        nn.MaxPool2d(3, 1, 1),
        (1024, 3, 1, 6, 6),
        (1024, 1),
    ),
    ((256, 1), (512, 3, 2)),
    ((128, 1), (256, 3, 2)),
    ((128, 1), (256, 3, 1, 0)),
    ((128, 1), (256, 3, 1, 0)),
)


def scales(maps: int, *, smallest: float = 0.2, largest: float = 0.9) -> list[float]:
    r"""The scale of each map's boxes, in units of the image's side, and one more for
    the last map's second square.

    :math:`s_k = s_{min} + (s_{max} - s_{min}) (k - 1) / (m - 1)` for :math:`k = 1 \dots
    m + 1` (Eq. 4).

    Args:
        maps: how many, m.
        smallest: scale of the first.
        largest: scale of the last.

    Raises:
        ValueError: for fewer than two maps, or scales that do not grow from above 0.
    """
    expect(maps > 1, "at least two maps", maps)
    expect(0 < smallest <= largest, "0 < smallest <= largest", smallest, largest)
    return [smallest + (largest - smallest) * k / (maps - 1) for k in range(maps + 1)]


def box_shapes(
    scale: float, larger: float, ratios: Sequence[float]
) -> list[tuple[float, float]]:
    r"""Width and height of a cell's boxes: two squares, of sides :math:`s_k` and
    :math:`\sqrt{s_k s_{k+1}}`, and for each ratio a wide box and a tall one.

    Args:
        scale: of the map, :math:`s_k`.
        larger: of the next map, :math:`s_{k+1}`.
        ratios: width / height over 1; the inverse is added.
    """
    between = math.sqrt(scale * larger)
    shapes = [(scale, scale), (between, between)]
    for ratio in ratios:
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        shapes += [(long, short), (short, long)]
    return shapes


def default_boxes(
    shapes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    *,
    strides: Sequence[float],
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
) -> list[Float[Tensor, "n 4"]]:
    """The boxes of each map: in every cell those of ``box_shapes`` (Section 2.2).

    Args:
        shapes: rows and columns of each map.
        size: height and width of the image, in pixels.
        strides: pixels from one cell to the next; the first centre lies half a stride
            from the image's corner.
        scales: one for each map and one more, in units of the image's sides.
        ratios: of each map, width / height over 1; the inverse is added.

    Returns:
        xyxy in pixels, one tensor for each map, cell by cell along rows.

    Raises:
        ValueError: for settings that do not fit together.
    """
    counts = len(shapes), len(strides), len(ratios), len(scales) - 1
    wanted = "a shape, a stride and ratios for each map, and a scale more"
    expect(len(set(counts)) == 1, wanted, *counts)
    expect(min(strides, default=0) > 0, "positive strides", strides)
    height, width = size
    out = []
    for k, (rows, columns) in enumerate(shapes):
        sides = torch.tensor(box_shapes(scales[k], scales[k + 1], ratios[k]))
        half = sides.clamp(max=1) * torch.tensor([width, height]) / 2
        cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(1)
        centres = (strides[k] * (cells + 0.5))[:, None]
        boxes = torch.cat([centres - half, centres + half], -1)
        out.append(boxes.flatten(0, 1))
    return out


def match(
    iou: Float[Tensor, "*b g a"], *, threshold: float = 0.5
) -> Int[Tensor, "*b a"]:
    """For each default box the index of its true box, or -1.

    First every true box takes the default box that it overlaps most, the best pair
    first and each once; then every other default box goes to the true box that it
    overlaps most, if by at least ``threshold``.

    Args:
        iou: of every true box with every default box, of one picture or of several.
        threshold: the least overlap of the second round.
    """
    found = coding.assign(iou, foreground=threshold, background=threshold)
    if not iou.numel():
        return found
    boxes, defaults = iou.shape[-2:]
    left = iou.reshape(-1, boxes, defaults)
    own = found.reshape(-1, defaults)
    rows = torch.arange(boxes, device=iou.device)
    while True:
        most, place = left.max(-1)  # of each true box, and where
        # of all true boxes at the default box that one of them likes best
        rivals = left.gather(2, place[:, None].expand(-1, boxes, -1))
        # who is the best there takes it: of all pairs left, the best is one of these
        wants = most > 0
        takes = (rivals.max(1).indices == rows) & wants
        picture, box = takes.nonzero().unbind(1)
        default = place[picture, box]
        own[picture, default] = box
        if torch.equal(takes, wants):
            return own.view(found.shape)
        left = left.clone()
        left[picture, box] = -1
        left[picture, :, default] = -1


def targets(
    defaults: Float[Tensor, "n 4"],
    boxes: Real[Tensor, "b m 4"],
    labels: Integer[Tensor, "b m"],
    valid: Real[Tensor, "b m"] | Bool[Tensor, "b m"],
    *,
    num_classes: int | None = None,
) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n 4"]]:
    """What each default box shall answer.

    Args:
        defaults: of all maps, xyxy in pixels.
        boxes: true boxes, xyxy in pixels.
        labels: their classes, from 0.
        valid: which of them are there.
        num_classes: of objects; None: labels have no upper end.

    Returns:
        Classes, ``BACKGROUND_CLASS`` or 1 + label; codes, zero where there is no
        object.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses.
    """
    truth = {"boxes": boxes, "labels": labels, "valid": valid}
    truth = coding.pack(coding.check_truth(truth, num_classes))
    boxes = truth["boxes"].to(defaults)
    own = match(coding.overlaps(boxes, truth["valid"], defaults))
    picture, default = (own >= 0).nonzero().unbind(1)
    box = own[picture, default]
    classes = torch.full_like(own, BACKGROUND_CLASS)
    classes[picture, default] = 1 + truth["labels"][picture, box]
    codes = defaults.new_zeros(*own.shape, 4)
    codes[picture, default] = coding.encode(
        boxes[picture, box], defaults[default], deviations=DEVIATIONS
    )
    return classes, codes


def hard_negatives(
    losses: Float[Tensor, "b n"], positive: Bool[Tensor, "b n"], *, ratio: float = 3.0
) -> Bool[Tensor, "b n"]:
    """The negatives with the highest loss, in each image at most ``ratio`` for each of
    its positives.

    Args:
        losses: of the classes.
        positive: which boxes hold an object.
        ratio: negatives for each positive; infinite for all of them.
    """
    expect(losses.shape == positive.shape, "equal shapes", losses.shape, positive.shape)
    expect(ratio >= 0, "a ratio of at least 0", ratio)
    if math.isinf(ratio):
        return ~positive
    each = losses.detach().masked_fill(positive, -math.inf)
    ranked = each.argsort(dim=1, descending=True, stable=True)
    most = torch.minimum(ratio * positive.sum(1), (~positive).sum(1))
    places = torch.arange(positive.shape[1], device=most.device)
    return torch.zeros_like(positive).scatter(1, ranked, places < most[:, None])


class L2Norm(nn.Module):
    """Each position's vector of features, brought to length one and stretched by a
    learned factor per channel.

    Args:
        channels: of the map.
        scale: the factors' start.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The normalised map."""
        return self.weight[:, None, None] * functional.normalize(x, dim=1)


def stage(plan: Plan, in_channels: int, *, norm: bool = False) -> nn.Sequential:
    """Convolutions with ReLU, and what stands between them.

    Args:
        plan: of each convolution what ``Conv`` takes; or a module, which is copied.
        in_channels: of the input.
        norm: batch normalisation before each ReLU.
    """
    layers: list[nn.Module] = []
    for item in plan:
        if isinstance(item, nn.Module):
            layers.append(copy.deepcopy(item))
            continue
        spec = Conv(*item)
        same = spec.kernel_size // 2
        conv = nn.Conv2d(
            in_channels,
            spec.channels,
            spec.kernel_size,
            spec.stride,
            padding=same if spec.padding is None else spec.padding,
            dilation=spec.dilation,
            bias=not norm,
        )
        layers += conv_norm_act(conv, nn.BatchNorm2d if norm else None)
        in_channels = spec.channels
    return nn.Sequential(*layers)


def width(plan: Plan) -> int:
    """Channels of the map that a stage ends in."""
    return [Conv(*item) for item in plan if isinstance(item, tuple)][-1].channels


class Head(nn.Module):
    """One 3x3 convolution: for each box of each cell so many numbers.

    Args:
        in_channels: of the map that is read.
        boxes: of each cell.
        numbers: for each box.
        cells: of the boxes' own grid along one cell of the map: a place answers for
            ``cells * cells`` of them.
    """

    def __init__(
        self, in_channels: int, boxes: int, numbers: int, *, cells: int = 1
    ) -> None:
        super().__init__()
        self.cells, self.numbers = cells, numbers
        self.conv = nn.Conv2d(in_channels, cells**2 * boxes * numbers, 3, padding=1)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(
        self, x: Float[Tensor, "b c h w"], shape: tuple[int, int] | None = None
    ) -> Float[Tensor, "b n k"]:
        """The numbers of all boxes, in the order of ``default_boxes``.

        Args:
            x: the map.
            shape: rows and columns of the boxes' own grid, which may end inside the
                map's last cell; by default it does not.
        """
        i, k = self.cells, self.numbers
        grid = rearrange(self.conv(x), "b (i j n) h w -> b (h i) (w j) n", i=i, j=i)
        rows, columns = grid.shape[1:3] if shape is None else shape
        return rearrange(grid[:, :rows, :columns], "b h w (a k) -> b (h w a) k", k=k)


class Outputs(NamedTuple):
    """What the net says about every default box."""

    logits: Float[Tensor, "b n k"]  # of the background and the classes
    codes: Float[Tensor, "b n 4"]  # how the box must move
    defaults: Float[Tensor, "n 4"]  # the boxes, xyxy in pixels, one map after the other
    size: tuple[int, int]  # of the images (height, width)


class SSD(nn.Module):
    """Stages of convolutions, each ending in a map, and on every map a head for classes
    and one for boxes.

    Args:
        plans: of each stage, see ``stage``.
        channels: of each stage's map.
        strides: see ``default_boxes``.
        scales: see ``default_boxes``.
        ratios: see ``default_boxes``.
        num_classes: of objects; the background is one more.
        norm: batch normalisation in the stages.
        l2norm: the first map is read through ``L2Norm``.
        sources: which map each map's boxes are read from; by default their own.

    Raises:
        ValueError: for settings that do not fit together, or no classes.
    """

    def __init__(
        self,
        *,
        plans: Sequence[Plan],
        strides: Sequence[float],
        scales: Sequence[float],
        ratios: Sequence[Sequence[float]],
        num_classes: int,
        norm: bool = False,
        l2norm: bool = True,
        sources: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.sources = tuple(range(len(plans)) if sources is None else sources)
        self.strides, self.ratios = tuple(strides), tuple(ratios)
        self.scales = tuple(scales)
        self._check(len(plans), num_classes)
        widths = [3, *map(width, plans)]
        pairs = zip(plans, widths, strict=False)
        self.stages = nn.ModuleList(stage(*pair, norm=norm) for pair in pairs)
        he_init_(self)
        self.norm = L2Norm(widths[1]) if l2norm else nn.Identity()
        self.class_heads = self._heads(widths[1:], 1 + num_classes)
        self.code_heads = self._heads(widths[1:], 4)

    def _check(self, maps: int, num_classes: int) -> None:
        settings = (self.strides, self.ratios, self.sources, self.scales)
        given = list(map(len, settings))
        wanted = f"strides, ratios and sources for {maps} maps and {maps + 1} scales"
        expect(given == [maps, maps, maps, maps + 1], wanted, *given)
        known = all(0 <= source < maps for source in self.sources)
        expect(known, f"sources from 0 to {maps - 1}", self.sources)
        expect(num_classes > 0, "at least one class", num_classes)

    def _heads(self, widths: Sequence[int], numbers: int) -> nn.ModuleList:
        """One for each map's boxes, on the map that they are read from."""
        heads = nn.ModuleList()
        for own, ratio, source in zip(
            self.strides, self.ratios, self.sources, strict=True
        ):
            cells = max(1, math.ceil(self.strides[source] / own))
            boxes = 2 + 2 * len(ratio)
            heads.append(Head(widths[source], boxes, numbers, cells=cells))
        return heads

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The maps that the heads read, the finest first.

        Raises:
            ValueError: for a batch without images.
        """
        expect(images.numel(), "at least one image (b, 3, h, w)", images.shape)
        x, maps = images, []
        for number, part in enumerate(self.stages):
            x = part(x)
            maps.append(x if number else self.norm(x))
        return maps

    def defaults(
        self, size: tuple[int, int], shapes: Sequence[tuple[int, int]] | None = None
    ) -> list[Tensor]:
        """Each map's default boxes, in pixels, for images of ``size`` (height, width).

        Args:
            size: of the images.
            shapes: of the maps; by default found by a forward pass of an empty image.
        """
        if shapes is None:
            modes = {layer: layer.training for layer in self.modules()}
            with torch.no_grad():
                empty = next(self.parameters()).new_zeros(1, 3, *size)
                maps = self.eval().maps(empty)
            for layer, mode in modes.items():
                layer.training = mode
            shapes = [(x.shape[2], x.shape[3]) for x in maps]
        return default_boxes(
            shapes, size, strides=self.strides, scales=self.scales, ratios=self.ratios
        )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Outputs:
        """Logits and codes of all default boxes, map after map, at least in float32.

        Raises:
            ValueError: for a batch without images.
        """
        maps, size = self.maps(images), (images.shape[2], images.shape[3])
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        logits, codes = [], []
        for k, source in enumerate(self.sources):
            x = maps[source]
            if source < k:  # a map finer than the boxes' own grid comes down to it
                x = functional.adaptive_avg_pool2d(x, shapes[k])
            logits.append(self.class_heads[k](x, shapes[k]))
            codes.append(self.code_heads[k](x, shapes[k]))
        answers = coding.floating(torch.cat(logits, 1))
        moves = coding.floating(torch.cat(codes, 1))
        defaults = torch.cat(self.defaults(size, shapes)).to(moves)
        return Outputs(answers, moves, defaults, size)


def multibox_loss(
    outputs: Outputs,
    classes: Int[Tensor, "b n"],
    codes: Float[Tensor, "b n 4"],
    *,
    ratio: float = 3.0,
    rank: Float[Tensor, "b n"] | None = None,
) -> dict[str, Tensor]:
    r""":math:`L = (L_{conf} + L_{loc}) / N` (Eqs. 1 to 3), with N the boxes of the
    whole batch that hold an object.

    Args:
        outputs: of the net.
        classes: true ones, see ``targets``.
        codes: true ones.
        ratio: negatives for each positive of an image; infinite for all of them.
        rank: the negatives with the highest count; by default their own loss.

    Returns:
        As ``loss``.

    Raises:
        ValueError: for targets of another batch or of other default boxes.
    """
    wanted = outputs.logits.shape[:2]
    expect(classes.shape == wanted, f"classes {tuple(wanted)}", classes.shape)
    expect(codes.shape[:2] == wanted, f"codes {(*wanted, 4)}", codes.shape)
    positive = classes != BACKGROUND_CLASS
    count = positive.sum().clamp(min=1)
    each = functional.cross_entropy(outputs.logits.mT, classes, reduction="none")
    ranked = each if rank is None else rank
    negative = hard_negatives(ranked, positive, ratio=ratio)
    conf = each[positive | negative].sum() / count
    pair = outputs.codes[positive], codes[positive]
    loc = functional.smooth_l1_loss(*pair, reduction="sum") / count
    terms = {"classes": conf, "codes": loc, "negatives": negative.sum() / count}
    return {"loss": conf + loc, **terms}


def loss(
    outputs: Outputs,
    batch: Mapping[str, Any],
    *,
    generator: Generator | None = None,
    ratio: float = 3.0,
    mined: bool = True,
) -> dict[str, Tensor]:
    """Targets of all default boxes, and ``multibox_loss``.

    Args:
        outputs: of the net.
        batch: ``boxes`` (b, m, 4), xyxy in pixels, ``labels`` (b, m) from 0 and
            ``valid`` (b, m).
        generator: draws the negatives that are not mined; else nothing is drawn.
        ratio: negatives for each positive of an image; infinite for all of them.
        mined: False: as many negatives, drawn at random, for comparison.

    Returns:
        ``loss`` and its terms ``classes`` and ``codes``; and ``negatives``, how many
        count for each positive.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, or of another batch.
    """
    truth = coding.check_truth(batch, outputs.logits.shape[-1] - 1)
    known = truth["boxes"], truth["labels"], truth["valid"]
    classes, codes = targets(outputs.defaults, *known)
    rank = None
    if not mined:
        rank = torch.rand(classes.shape, generator=generator).to(codes)
    return multibox_loss(outputs, classes, codes, ratio=ratio, rank=rank)


@torch.no_grad()
def decode(
    outputs: Outputs, *, least: float = 0.01, iou: float = OVERLAP, most: int = MOST
) -> list[dict[str, Tensor]]:
    """The objects: moved boxes with a score, without those that overlap a better one of
    the same class.

    The best ``CANDIDATES`` of each class go into non-maximum suppression.

    Args:
        outputs: of the net; boxes are cut to its images.
        least: weaker answers are dropped.
        iou: of two boxes of a class that overlap by more, the weaker is dropped.
        most: kept for each image.

    Returns:
        For each image ``boxes`` (n, 4) in xyxy pixels, ``scores`` (n,) and ``labels``
        (n,) from 0, best first.

    Raises:
        ValueError: for logits or codes that are not finite.
    """
    sure = outputs.logits.isfinite().all() and outputs.codes.isfinite().all()
    expect(sure, "finite logits and codes", "nan or inf")
    every = coding.floating(outputs.logits).softmax(-1)
    found = []
    for scores, codes in zip(every, outputs.codes, strict=True):
        boxes = coding.decode(codes, outputs.defaults, deviations=DEVIATIONS)
        boxes = clip_boxes_to_image(boxes, outputs.size)
        score, where = scores[:, 1:].topk(min(CANDIDATES, len(boxes)), dim=0)
        rank, label = (score > least).nonzero().unbind(1)
        score, where = score[rank, label], where[rank, label]
        best = coding.suppress(boxes[where], score, label, iou)[:most]
        found.append(
            {"boxes": boxes[where[best]], "scores": score[best], "labels": label[best]}
        )
    return found


def random_patches(
    count: int, size: tuple[int, int], generator: Generator, *, smallest: float = 0.1
) -> Float[Tensor, "n 4"]:
    """Parts of an image of any size, any place and width / height from 1/2 to 2
    (Section 2.2).

    Args:
        count: how many.
        size: height and width of the image.
        generator: draws them.
        smallest: square root of a patch's area at least, in units of the image's.

    Returns:
        xyxy in pixels.

    Raises:
        ValueError: for a smallest size that is not above 0 and up to 1.
    """
    expect(0 < smallest <= 1, "a smallest patch above 0 and up to 1", smallest)
    scale, ratio, *place = torch.rand(4, count, generator=generator)
    scale = smallest + (1 - smallest) * scale
    flattest = scale.square().clamp(min=0.5)  # what still fits into the image
    longer = (flattest + (1 / flattest - flattest) * ratio).sqrt()
    sides = torch.stack([scale * longer, scale / longer], -1)
    corner = (1 - sides) * torch.stack(place, -1)
    height, width = size
    return torch.cat([corner, corner + sides], -1) * torch.tensor([width, height] * 2)


def patches(
    truth: Mapping[str, Any], size: tuple[int, int], generator: Generator
) -> Float[Tensor, "b 4"]:
    """The part of each image to train on: all of it, a patch that overlaps some object
    by at least 0.1, 0.3, 0.5, 0.7 or 0.9, or any patch; one of the seven at random
    (Section 2.2).

    Args:
        truth: ``boxes`` (b, m, 4), xyxy in pixels, and ``valid`` (b, m).
        size: height and width of the images.
        generator: decides.

    Returns:
        xyxy in pixels.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses.
    """
    boxes = coding.check_truth(truth)["boxes"]
    height, width = size
    chosen = boxes.new_tensor([0, 0, width, height]).repeat(len(boxes), 1)
    tried = random_patches(TRIES * len(boxes), size, generator).to(boxes)
    options = torch.randint(len(LEAST_OVERLAPS), (len(boxes),), generator=generator)
    for i, option in enumerate(options.tolist()):
        mine = tried[TRIES * i : TRIES * (i + 1)]
        overlap = functional.pad(box_iou(mine, boxes[i]), (0, 1)).amax(1)
        fits = overlap >= LEAST_OVERLAPS[option]
        if fits.any():
            chosen[i] = mine[fits][0]
    return chosen


def cut(
    batch: Mapping[str, Any],
    patches: Float[Tensor, "b 4"],
    flipped: Bool[Tensor, " b"],
) -> dict[str, Any]:
    """Of each image a patch, brought to the image's size, with what is left of its
    objects: those whose centre lies in the patch stay, cut to it (Section 2.2).

    Args:
        batch: ``images`` (b, c, h, w), ``boxes`` (b, m, 4) and ``valid`` (b, m).
        patches: xyxy in pixels.
        flipped: which are mirrored, left to right.

    Returns:
        The batch with other images, boxes and ``valid``.

    Raises:
        ValueError: for a truth that ``check_truth`` refuses, or patches of another
            batch; for no images.
    """
    images, truth = batch["images"], coding.check_truth(batch)
    expect(images.numel(), "at least one image (b, c, h, w)", images.shape)
    counts = len(images), len(truth["boxes"]), len(patches), len(flipped)
    expect(len(set(counts)) == 1, "a patch, boxes and a flip for each image", *counts)
    height, width = images.shape[2:]
    corner, end = patches[:, None].to(truth["boxes"]).split(2, -1)
    # where the images are read: patches as `affine_grid` has them, from -1 to 1
    sides = images.new_tensor([width, height])
    middle = ((corner + end)[:, 0] / sides - 1).to(images)
    part = ((end - corner)[:, 0] / sides).to(images)
    part[flipped, 0] *= -1
    where = torch.cat([torch.diag_embed(part), middle[..., None]], -1)
    grid = functional.affine_grid(where, list(images.shape), align_corners=False)
    seen = functional.grid_sample(
        images, grid, padding_mode="border", align_corners=False
    )
    low, high = truth["boxes"].split(2, -1)
    centre = (low + high) / 2
    inside = ((centre > corner) & (centre < end)).all(-1)
    ends = [((x - corner) / (end - corner)).clamp(0, 1) for x in (low, high)]
    boxes = torch.cat(ends, -1)
    boxes[flipped] = boxes[flipped][..., [2, 1, 0, 3]]
    boxes[flipped] = (boxes[flipped] - boxes.new_tensor([1, 0, 1, 0])).abs()
    boxes = boxes * boxes.new_tensor([width, height] * 2)
    valid = truth["valid"] & inside
    boxes = boxes.masked_fill(~valid[..., None], 0)
    return {**batch, "images": seen, "boxes": boxes, "valid": valid}


def augment(batch: Mapping[str, Any], generator: Generator) -> dict[str, Any]:
    """The paper's views of a batch: of each image a patch, every other one mirrored.

    Args:
        batch: see ``cut``.
        generator: decides.

    Raises:
        ValueError: as ``cut``.
    """
    height, width = batch["images"].shape[2:]
    parts = patches(batch, (height, width), generator)
    flipped = torch.rand(len(parts), generator=generator) < 0.5
    return cut(batch, parts, flipped.to(parts.device))


def zoom_out(
    images: Float[Tensor, "b c h w"],
    boxes: Real[Tensor, "_ m 4"],
    generator: torch.Generator,
    *,
    most: float = 4.0,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b m 4"]]:
    """Small objects from large ones: each image somewhere on a canvas up to ``most``
    times as wide and high.

    The canvas has the image's mean colour and is brought back to the image's size
    (Section 3.6).

    Args:
        images: to be zoomed out of; half of them are left as they are.
        boxes: xyxy in pixels.
        generator: decides which, by how much and where to.
        most: largest side of the canvas, in units of the image's.

    Raises:
        ValueError: for a canvas smaller than the image, or boxes of another batch.
    """
    expect(1 <= most < math.inf, "a canvas of at least the image's side", most)
    expect(len(images) == len(boxes), f"boxes of {len(images)} images", len(boxes))
    images, boxes = images.clone(), coding.floating(boxes).clone()
    height, width = images.shape[2:]
    draws = torch.rand(len(images), 4, generator=generator).tolist()
    for i, (chance, zoom, down, across) in enumerate(draws):
        if chance < 0.5:
            continue
        side = 1 + (most - 1) * zoom
        rows, columns = max(1, round(height / side)), max(1, round(width / side))
        top, left = int(down * (height - rows + 1)), int(across * (width - columns + 1))
        small = functional.interpolate(
            images[i : i + 1], size=(rows, columns), mode="area"
        )
        images[i] = images[i].mean((1, 2))[:, None, None]
        images[i, :, top : top + rows, left : left + columns] = small[0]
        moved = boxes[i] * boxes.new_tensor([columns / width, rows / height] * 2)
        boxes[i] = moved + boxes.new_tensor([left, top] * 2)
    return images, boxes


# How the map of the net calls its parts.
BLOCKS = {
    "stages.*": "stage *",
    "norm class_heads.0 code_heads.0": "heads 0",
    "class_heads.* code_heads.*": "heads *",
}


def tiny(**overrides: object) -> SSD:
    """The book's scale: three maps of 64x64 images, of 16, 8 and 4 cells a side."""
    settings: dict = {
        "plans": (
            ((16, 3, 2), (32, 3, 2), (32, 3)),
            ((48, 3, 2), (48, 3)),
            ((64, 3, 2), (64, 3)),
        ),
        "strides": (4, 8, 16),
        "scales": scales(3, smallest=0.16, largest=0.52),
        "ratios": ((2,), (2,), (2,)),
        "num_classes": 4,
        "norm": True,
        "l2norm": False,
    }
    return SSD(**(settings | overrides))


def paper(**overrides: object) -> SSD:
    """The paper's scale: SSD300 on VGG-16, for images of 300x300."""
    settings: dict = {
        "plans": VGG,
        "strides": STRIDES,
        "scales": SCALES,
        "ratios": RATIOS,
        "num_classes": 20,
    }
    return SSD(**(settings | overrides))
