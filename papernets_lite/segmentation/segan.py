"""SeGAN: Segmenting and Generating the Invisible.

Kiana Ehsani, Roozbeh Mottaghi, Ali Farhadi. CVPR 2018, arXiv 1703.10239.
Official code: ehsanik/SeGAN (Torch 7; its painter adapts phillipi/pix2pix).

Idea: given what is seen of an object, one net says how far the object goes on behind
what hides it, and a second net paints that part, told by a picture that is red where
to paint and blue where the object ends.

Differs:
    1. The tiny segmentor is a U-Net on the whole picture, in place of a trunk, a
       pooled box and one large convolution.
    2. The box is read by RoIAlign, not by max-pooling over rounded cells, and the map
       of 58x58 logits is laid into the picture before the loss, not after it.
    3. The painter's tanh is a change to the mean visible colour, and visible pixels
       are copied. As released, tanh is the whole picture.
    4. The two nets are trained one after the other. As released, a tenth of the
       painter's gradient in the red channel also reaches the segmentor.
    5. Biases of the painter and of its judge learn; as released, those of convolutions
       are set back to zero at every step.

Guessed:
    How the weights of the three regions belong to their names: as the released code
    multiplies them, not as its help calls them. Which pixels overlap enough to say who
    hides whom: the paper gives no rule.

Contract:
    The segmentor's ``loss`` is the plain one. The painter plays against a judge, so
    that there are two more losses, which take the net, and a step of their own.

Example:
    >>> from papernets_lite.segmentation import segan
    >>> net, pictures = segan.tiny(), torch.rand(2, 3, 32, 32)
    >>> net(pictures, pictures[:, 0] > 0.5).painted.shape
    torch.Size([2, 3, 32, 32])
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.backbones import resnet
from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import normal_init_
from papernets_lite.ops import pooling, warps
from papernets_lite.ops.checks import (
    at_least,
    check_images,
    check_inputs,
    check_keys,
    check_mask,
    check_pictures,
    check_same,
    expect,
)
from papernets_lite.ops.losses import l1
from papernets_lite.ops.updates import Optimizers, Schedules, update
from papernets_lite.segmentation import unet

OUTSIDE, VISIBLE, HIDDEN = 0, 1, 2  # regions of a picture, as one object sees it
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)  # Eq. 1
EQUAL = (1.0, 1.0, 1.0)
# Released: of the three regions, weight over normaliser, in units of the first.
RELEASED = (1.0, 5 * 37 / 27, 3 * 37 / 12)
ENLARGE = 0.2  # by which share of its sides the visible part's box grows
CELLS, SIDE = 6, 58  # of the pooled box, and of the map that is made from it
L1_WEIGHT = 100.0
NOWHERE = -12.0  # logit outside the box
SLOPE = 0.2  # of LeakyReLU below zero
WIDEST = 8  # times the first layer's channels

Images = Float[Tensor, "b 3 h w"]
Masks = Shaped[Tensor, "b h w"]  # bool, or 0 and 1
Batch = Mapping[str, Tensor]


def regions(
    visible: Shaped[Tensor, "b h w"], full: Shaped[Tensor, "b h w"]
) -> Int[Tensor, "b h w"]:
    """Which pixels are outside an object, visible, or hidden.

    Args:
        visible: SV, the mask of what is seen: bool, or 0 and 1.
        full: SF, the mask of the whole object; visible pixels belong to it.

    Raises:
        ValueError: for masks of unequal shape, or other numbers.
    """
    check_same(visible, full, "masks")
    seen, whole = check_mask(visible), check_mask(full)
    return torch.where(seen, VISIBLE, torch.where(whole, HIDDEN, OUTSIDE))


def encode(images: Images, visible: Masks, full: Masks) -> Images:
    """The painter's input, I_p (Eq. 1): the picture where the object is visible, red
    where it is hidden, blue where it is not.

    Args:
        images: in [0, 1].
        visible: SV.
        full: SF, predicted or true.

    Raises:
        ValueError: for what are no images, or masks of another size.
    """
    check_images(images)
    size = (len(images), *images.shape[2:])
    expect(visible.shape == size, f"masks {size}", visible.shape)
    region = regions(visible, full)[:, None]
    red, blue = (images.new_tensor(code)[:, None, None] for code in (RED, BLUE))
    coded = torch.where(region == HIDDEN, red, blue)
    return torch.where(region == VISIBLE, images, coded)


def visible_colour(images: Images, visible: Masks) -> Float[Tensor, "b 3 1 1"]:
    """The mean colour of what is seen of each object; black where nothing is."""
    inside = visible[:, None].to(images.dtype)
    total = (images * inside).sum((2, 3), keepdim=True)
    return total / inside.sum((2, 3), keepdim=True).clamp(min=1)


def enclosing(masks: Masks, enlarge: float = ENLARGE) -> Float[Tensor, "b 4"]:
    """The box of each mask, enlarged; the whole picture for an empty mask.

    Args:
        masks: what is seen of each object.
        enlarge: share of each side that is added to it.

    Returns:
        xyxy in pixels; it may reach beyond the picture.

    Raises:
        ValueError: for a negative share.
    """
    expect(0 <= enlarge < float("inf"), "a share >= 0", enlarge)
    ends = []
    for axis in (1, 2):  # columns under the rows, rows beside the columns
        line = masks.any(axis) | ~masks.any((1, 2))[:, None]
        first = line.float().argmax(1)
        last = line.shape[1] - line.flip(1).float().argmax(1)
        more = enlarge / 2 * (last - first)
        ends.append((first - more, last + more))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], 1)


def boxed(masks: Masks, enlarge: float = ENLARGE) -> Masks:
    """The pixels whose centres lie in each mask's enlarged box.

    Args:
        masks: see ``enclosing``.
        enlarge: see ``enclosing``.
    """
    left, top, right, bottom = enclosing(masks, enlarge).T[..., None]
    rows, columns = (torch.arange(side) + 0.5 for side in masks.shape[1:])
    down = (rows > top) & (rows < bottom)
    across = (columns > left) & (columns < right)
    return down[:, :, None] & across[:, None]


def lay(
    maps: Float[Tensor, "b 1 s s"], boxes: Float[Tensor, "b 4"], size: Sequence[int]
) -> Float[Tensor, "b 1 h w"]:
    """Each map stretched over its box, bilinearly; ``NOWHERE`` outside.

    Args:
        maps: logits.
        boxes: xyxy in pixels of the picture.
        size: rows and columns of the picture.
    """
    places = []
    for axis in (0, 1):
        length = size[1 - axis]
        start, end = boxes[:, axis, None], boxes[:, 2 + axis, None]
        centres = torch.arange(length, device=boxes.device) + 0.5
        places.append((centres - start) / (end - start))
    across = places[0][:, None].expand(-1, size[0], -1)
    down = places[1][:, :, None].expand(-1, -1, size[1])
    where = torch.stack([across, down], -1)
    read = warps.read(maps, where * maps.shape[-1], outside="border")
    inside = ((where >= 0) & (where < 1)).all(-1)[:, None]
    return torch.where(inside, read, NOWHERE)


class BoxSegmentor(nn.Module):
    """The paper's segmentor: a trunk reads picture and visible mask, the enlarged box
    is pooled, and one convolution as large as the patch makes a map of the mask.

    Args:
        trunk: takes (b, 4, h, w) and gives maps, the coarsest last.
        channels: of that map.
        cells: of the patch, down and across.
        side: of the map of the mask.
        enlarge: see ``enclosing``.

    Raises:
        ValueError: for no channels, cells or side.
    """

    def __init__(
        self,
        trunk: nn.Module,
        channels: int,
        *,
        cells: int = CELLS,
        side: int = SIDE,
        enlarge: float = ENLARGE,
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, cells=cells, side=side)
        self.trunk, self.cells, self.side, self.enlarge = trunk, cells, side, enlarge
        self.head = nn.Conv2d(channels, side**2, cells)

    def forward(self, inputs: Float[Tensor, "b 4 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits of the full mask.

        Args:
            inputs: picture and visible mask.
        """
        features = self.trunk(inputs)[-1]
        boxes = enclosing(inputs[:, 3] > 0, self.enlarge)
        scale = features.shape[-1] / inputs.shape[-1]
        numbers = torch.arange(len(boxes), device=boxes.device)[:, None]
        rows = torch.cat([numbers, boxes], 1)
        patches = pooling.align(features, rows, self.cells, spatial_scale=scale)
        flat = self.head(patches)
        maps = rearrange(flat, "b (r c) 1 1 -> b 1 r c", r=self.side)
        return lay(maps, boxes, inputs.shape[2:]).to(inputs.dtype)


def four_channels(conv: nn.Conv2d) -> nn.Conv2d:
    """A first convolution for picture and mask: the mask's filters start as copies of
    red's (released code).

    Args:
        conv: the trained one, of three channels.
    """
    size = cast("tuple[int, int]", conv.kernel_size)
    settings: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding}
    wider = nn.Conv2d(4, conv.out_channels, size, bias=False, **settings)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([conv.weight, conv.weight[:, :1]], 1))
    return wider


def box_segmentor(depth: int = 18, **settings: Any) -> BoxSegmentor:
    """The paper's segmentor on a ResNet for ImageNet, without its classifier.

    Args:
        depth: of the ResNet.
        settings: of ``BoxSegmentor``.
    """
    trunk = resnet.Stages(resnet.imagenet(depth), resnet.IMAGENET[depth], skip=3)
    trunk.stem[0] = four_channels(cast("nn.Conv2d", trunk.stem[0]))
    return BoxSegmentor(trunk, trunk.channels[-1], **settings)


class Painter(nn.Module):
    """pix2pix's U-Net: strided 4x4 convolutions down to a map of a few cells,
    transposed ones up, and each size's map laid beside the other way's.

    Args:
        channels: of the first layer; they double up to eight times as many.
        halvings: convolutions down, and up.
        dropped: so many of the first layers up have dropout, which stays on noise's
            behalf in training.

    Raises:
        ValueError: for fewer than two halvings, or no channels.
    """

    def __init__(
        self, *, channels: int = 64, halvings: int = 8, dropped: int = 3
    ) -> None:
        super().__init__()
        at_least(1, channels=channels)
        at_least(2, halvings=halvings)
        self.multiple = 2**halvings
        widths = [channels * min(2**k, WIDEST) for k in range(halvings)]
        leaky = partial(nn.LeakyReLU, SLOPE)
        self.down = nn.ModuleList([nn.Conv2d(3, widths[0], 4, 2, 1)])
        for k in range(1, halvings):
            conv = nn.Conv2d(widths[k - 1], widths[k], 4, 2, 1)
            self.down.append(
                nn.Sequential(leaky(), *conv_norm_act(conv, activation=None))
            )
        self.up = nn.ModuleList()
        for k in reversed(range(1, halvings)):
            joined = widths[k] if k == halvings - 1 else 2 * widths[k]
            back = nn.ConvTranspose2d(joined, widths[k - 1], 4, 2, 1)
            noise = partial(nn.Dropout, 0.5) if halvings - k <= dropped else None
            self.up.append(
                nn.Sequential(nn.ReLU(), *conv_norm_act(back, activation=noise))
            )
        last = nn.ConvTranspose2d(2 * widths[0], 3, 4, 2, 1)
        self.up.append(nn.Sequential(nn.ReLU(), last, nn.Tanh()))
        normal_init_(self, 0.02)

    def forward(self, coded: Images) -> Images:
        """A picture in [-1, 1], from one in [0, 1] of Eq. 1.

        Raises:
            ValueError: for what are no images, or sides that the halvings do not
                divide.
        """
        check_inputs(coded, self, least=self.multiple, multiple=self.multiple)
        x = 2 * coded - 1
        skips: list[Tensor] = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = skips.pop()
        for up in self.up[:-1]:
            x = torch.cat([up(x), skips.pop()], 1)
        return self.up[-1](x)


class Judge(nn.Module):
    """PatchGAN with batch normalisation: it sees the coded input and a painted or true
    object, and gives a logit for every overlapping patch (70x70 pixels with three
    halvings).

    Args:
        channels: of the first layer.
        halvings: strided convolutions; two of stride 1 follow.

    Raises:
        ValueError: for none of either.
    """

    def __init__(self, *, channels: int = 64, halvings: int = 3) -> None:
        super().__init__()
        at_least(1, channels=channels, halvings=halvings)
        self.least = 3 * 2**halvings  # the layers of stride 1 take a cell each
        leaky = partial(nn.LeakyReLU, SLOPE)
        layers: list[nn.Module] = [nn.Conv2d(6, channels, 4, 2, 1), leaky()]
        for level in range(1, halvings + 1):
            narrow, wide = (channels * min(2**k, WIDEST) for k in (level - 1, level))
            stride = 2 if level < halvings else 1
            conv = nn.Conv2d(narrow, wide, 4, stride, 1)
            layers += conv_norm_act(conv, activation=leaky)
        self.net = nn.Sequential(*layers, nn.Conv2d(wide, 1, 4, 1, 1))
        normal_init_(self, 0.02)

    def forward(self, coded: Images, objects: Images) -> Float[Tensor, "b 1 k l"]:
        """Logits of the patches: above zero for what looks true.

        Raises:
            ValueError: for unequal shapes, or pictures smaller than a score needs.
        """
        check_same(coded, objects, "pictures")
        both = torch.cat([coded, objects], 1)
        check_inputs(both, self, channels=6, least=self.least)
        return self.net(2 * both - 1)


class Completed(NamedTuple):
    """What SeGAN says of objects."""

    logits: Float[Tensor, "b 1 h w"]  # of the full mask
    full: Masks  # SF: what is visible, and what the logits add
    coded: Images  # what the painter was told (Eq. 1)
    painted: Images  # the whole object, on blue


class SeGAN(nn.Module):
    """Segmentor, painter, and the judge that the painter is trained against.

    Args:
        segmentor: takes picture and visible mask, (b, 4, h, w), and gives logits of the
            full mask, (b, 1, h, w).
        painter: takes the coded picture and gives the change to the visible colour.
        judge: takes the coded picture and an object.
    """

    def __init__(self, segmentor: nn.Module, painter: Painter, judge: Judge) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.painter = painter
        self.judge = judge

    def segment(self, images: Images, visible: Masks) -> Float[Tensor, "b 1 h w"]:
        """Logits of the full mask, SF.

        Args:
            images: in [0, 1].
            visible: SV; it says which object is meant.

        Raises:
            ValueError: for what are no images, or masks of another size.
        """
        check_images(images)
        size = (len(images), *images.shape[2:])
        seen = check_mask(visible, "visible masks", shape=size)
        return self.segmentor(torch.cat([images, seen[:, None].to(images)], 1))

    def paint(self, coded: Images, visible: Masks) -> Images:
        """The object: its visible pixels as they are, painted where ``coded`` is red,
        and blue outside.

        Args:
            coded: from ``encode``.
            visible: SV.
        """
        seen = check_mask(visible, "visible masks")[:, None]
        blue = coded.new_tensor(BLUE)[:, None, None]
        outside = (coded == blue).all(1, keepdim=True) & ~seen
        fill = visible_colour(coded, seen[:, 0]) + self.painter(coded)
        return torch.where(seen | outside, coded, fill)

    def forward(self, images: Images, visible: Masks) -> Completed:
        """From a picture and what is seen of an object to the whole object.

        Args:
            images: in [0, 1].
            visible: SV.
        """
        logits = self.segment(images, visible)
        full = decode(logits) | check_mask(visible)
        coded = encode(images, visible, full)
        return Completed(logits, full, coded, self.paint(coded, visible))


def loss(
    outputs: Float[Tensor, "b 1 h w"],
    batch: Batch,
    *,
    weights: Sequence[float] = RELEASED,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""The segmentor's: cross-entropy whose pixels weigh by their region,
    :math:`\frac1n \sum_x \lambda_{r(x)} \ell(x)`.

    Args:
        outputs: logits of the full mask.
        batch: ``visible`` and ``full`` (b, h, w), the true masks SV and SF.
        weights: of a pixel outside, a visible one, and a hidden one.
        generator: nothing is drawn.

    Returns:
        ``loss``.

    Raises:
        ValueError: for masks that are missing or of another shape, or weights that are
            not three numbers >= 0.
    """
    check_keys(batch, "visible", "full")
    three = len(weights) == 3 and min(weights) >= 0
    expect(three, "three weights >= 0", tuple(weights))
    full = check_mask(batch["full"], "full masks", shape=outputs[:, 0].shape)
    expect(full.numel() > 0, "at least one pixel", full.shape)
    region = regions(batch["visible"], full)
    missed = functional.binary_cross_entropy_with_logits(
        outputs[:, 0], full.to(outputs), reduction="none"
    )
    return {"loss": (outputs.new_tensor(weights)[region] * missed).mean()}


@torch.no_grad()
def decode(
    outputs: Float[Tensor, "b 1 h w"], *, threshold: float = 0.5
) -> Bool[Tensor, "b h w"]:
    """Logits as masks.

    Args:
        outputs: of the segmentor.
        threshold: probability from which a pixel belongs to the object.
    """
    return outputs[:, 0].sigmoid() > threshold


def believed(scores: Tensor, real: bool) -> Float[Tensor, ""]:
    """Cross-entropy of a judge's logits with what it should say."""
    target = torch.full_like(scores, float(real))
    return functional.binary_cross_entropy_with_logits(scores, target)


def generator_loss(
    net: SeGAN,
    batch: Batch,
    painted: Images,
    *,
    game_weight: float = 1.0,
    l1_weight: float = L1_WEIGHT,
) -> dict[str, Tensor]:
    r"""The painter's: :math:`L_{GAN} + 100\,L_1`.

    Args:
        net: whose judge is asked.
        batch: ``coded``, what the painter was told, and ``objects``, the true pictures
            of the whole objects on blue.
        painted: from ``net.paint``.
        game_weight: of the judge's opinion; 0 leaves the judge out.
        l1_weight: of the distance to the true object.

    Returns:
        ``loss`` and its terms, ``l1`` and ``fool``, not yet weighted.

    Raises:
        ValueError: for pictures that are missing or of another shape.
    """
    check_keys(batch, "coded", "objects")
    terms = {"l1": l1(painted, batch["objects"])}
    total = l1_weight * terms["l1"]
    if game_weight:
        terms["fool"] = believed(net.judge(batch["coded"], painted), True)
        total = total + game_weight * terms["fool"]
    return {"loss": total, **terms}


def discriminator_loss(net: SeGAN, batch: Batch, painted: Images) -> dict[str, Tensor]:
    """The judge's: half the cross-entropy on true objects and half that on painted
    ones, which may be of another number.

    Args:
        net: whose judge learns.
        batch: ``coded`` and ``objects``, see ``generator_loss``.
        painted: from ``net.paint``, without a gradient.

    Returns:
        ``loss``.

    Raises:
        ValueError: for pictures that are missing or of another shape.
    """
    check_keys(batch, "coded", "objects")
    real = believed(net.judge(batch["coded"], batch["objects"]), True)
    fake = believed(net.judge(batch["coded"], painted), False)
    return {"loss": (real + fake) / 2}


def adversarial_step(
    net: SeGAN,
    optimizers: Optimizers,
    *,
    schedules: Schedules = (),
    game_weight: float = 1.0,
    l1_weight: float = L1_WEIGHT,
) -> Callable[[Batch], dict[str, Tensor]]:
    """One move of the judge, on what is painted now, then one of the painter.

    Args:
        net: its segmentor stays as it is.
        optimizers: of the painter, of the judge.
        schedules: stepped once a step.
        game_weight: see ``generator_loss``; with 0 the judge does not learn either.
        l1_weight: see ``generator_loss``.

    Returns:
        A step for ``training.train`` on batches with ``coded``, ``visible`` and
        ``objects``.
    """

    def step(batch: Batch) -> dict[str, Tensor]:
        check_keys(batch, "coded", "visible", "objects")
        check_pictures(batch["objects"], "objects")
        painted = net.paint(batch["coded"], batch["visible"])
        told = {}
        if game_weight:
            net.judge.requires_grad_(True)
            told["tell"] = discriminator_loss(net, batch, painted.detach())["loss"]
            update(optimizers[1], told["tell"])
            net.judge.requires_grad_(False)
        weights = {"game_weight": game_weight, "l1_weight": l1_weight}
        making = generator_loss(net, batch, painted, **weights)
        update(optimizers[0], making["loss"])
        for schedule in schedules:
            schedule.step()
        return making | told

    return step


def hides(
    visible: Bool[Tensor, "m h w"], full: Bool[Tensor, "m h w"], *, least: int = 4
) -> Bool[Tensor, "m m"]:
    """Who hides whom: i hides j where more of j's hidden part lies under visible i than
    the other way round.

    Args:
        visible: SV of each object of one picture.
        full: SF of each, predicted or true.
        least: pixels that must lie under it.

    Returns:
        True in row i and column j where i lies in front of j.

    Raises:
        ValueError: for masks of unequal shape.
    """
    region = regions(visible, full)
    hidden = (region == HIDDEN).flatten(1).double()
    seen = (region == VISIBLE).flatten(1).double()
    under = seen @ hidden.T  # pixels of j's hidden part under visible i
    return (under >= least) & (under > under.T)


# How the map of the painter calls its parts.
BLOCKS = {"down.*": "down *", "up.*": "up *"}


def tiny(
    *, widths: Sequence[int] = (16, 32, 64), channels: int = 24, halvings: int = 3
) -> SeGAN:
    """The book's scale, for pictures of 32x32: a U-Net as segmentor.

    Args:
        widths: of the U-Net.
        channels: of the painter's and the judge's first layers.
        halvings: of the painter.
    """
    segmentor = unet.tiny(widths=widths, in_channels=4, num_classes=1, padding=1)
    painter = Painter(channels=channels, halvings=halvings, dropped=0)
    return SeGAN(segmentor, painter, Judge(channels=16, halvings=1))


def paper(*, depth: int = 18, channels: int = 64) -> SeGAN:
    """The paper's scale: a ResNet-18 with a map of 58x58 as segmentor, pix2pix's
    U-Net for 256x256 pixels, and a judge of patches of 70x70.

    Args:
        depth: of the ResNet.
        channels: of the painter's and the judge's first layers.
    """
    painter, judge = Painter(channels=channels), Judge(channels=channels)
    return SeGAN(box_segmentor(depth), painter, judge)
