"""High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs
(pix2pixHD).

Ting-Chun Wang, Ming-Yu Liu, Jun-Yan Zhu, Andrew Tao, Jan Kautz, Bryan Catanzaro. CVPR
2018, arXiv 1711.11585.
Official code: NVIDIA/pix2pixHD.

Idea: from a label map to a large photograph by a generator wrapped around a trained
smaller one, discriminators at several scales whose features must match too, a map of
instance boundaries, and a small style vector per instance.

Differs:
    1. ``tiny`` works on 64x64 images, with fewer and thinner layers, first and last
       kernels of 3x3 instead of 7x7, and discriminators with two halvings instead of
       three.
    2. The perceptual loss on VGG features, which needs downloaded weights, is left out,
       as in one arm of the paper's ablation.
    3. The tiny discriminators' initial weights are three times as large. Their first
       layer, the only one whose features keep brightness, has a third of the inputs,
       and so starts with the paper's gain.
    4. Biases start at zero; as released, they start as PyTorch draws them. Nearly all
       stand before a norm.
    5. When G1 thaws, the discriminators' optimizer starts anew too; as released, only
       the generator's.

Guessed:
    How G1 sees its conditions before there is a G2: here pooled as G2's pyramid pools
    them, so that it goes on seeing what it knows. (Released: label maps resized to the
    nearest pixel in its own training, pooled inside G2.)

Contract:
    Generator and discriminators play against each other, so that there are two losses,
    which take the nets, and a step of their own. A batch holds ``conditions``, made
    once by ``encode`` from a world's ``labels`` and ``instances``.

Example:
    >>> import torch
    >>> from papernets_lite.generative import pix2pixhd
    >>> pix2pixhd.tiny(num_classes=4, styles=False)(torch.rand(2, 5, 64, 64)).shape
    torch.Size([2, 3, 64, 64])
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Integer, Real
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.generative.cyclegan import (
    Maps,
    check_plan,
    down,
    least_side,
    residual,
    up,
    wide,
)
from papernets_lite.layers.init import normal_init_
from papernets_lite.ops import clusters
from papernets_lite.ops.checks import (
    at_least,
    check_inputs,
    check_keys,
    check_labels,
    check_pictures,
    expect,
)
from papernets_lite.ops.losses import l1, lsgan
from papernets_lite.ops.updates import (
    Optimizers,
    Schedules,
    linear_decay,
    update,
)

MATCHING_WEIGHT = 10.0
# numbers per instance: as many as a picture has channels, so that E ends as G1 does
STYLES = 3
CLUSTERS, LEAST = 10, 1 / 64  # centres per class; smallest instance that votes
WIDEST = 512  # channels of a discriminator
STAGES = ("G1", "G2", "both")
# the class of each pixel, or the instance that it belongs to
Labels = Integer[Tensor, "b h w"]
Images = Float[Tensor, "b 3 h w"]
# of the discriminators: scale by scale, layer by layer, the scores last
Features = list[list[Tensor]]
Batch = Mapping[str, Tensor]  # "conditions", "images" and, with an encoder, "instances"
Step = Callable[[Batch], dict[str, Tensor]]
Maker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Sizes = Mapping[str, int]
AS_IN_PAPER: Sizes = {}


def check_map(numbers: Labels, name: str) -> None:
    """A number for each pixel of at least one picture.

    Args:
        numbers: classes or instances.
        name: of the map, for the error.

    Raises:
        ValueError: for another number of axes, no pixels, or numbers that are not
            whole.
    """
    shaped = numbers.ndim == 3 and numbers.numel() > 0
    expect(shaped, f"at least one map of {name}, (b, h, w)", numbers.shape)
    whole = not numbers.is_floating_point() and numbers.dtype != torch.bool
    expect(whole, f"{name} of an integer type", numbers.dtype)


def boundary_map(instances: Labels) -> Float[Tensor, "b 1 h w"]:
    """1 where one of a pixel's four neighbours belongs to another instance: both sides
    of a border are marked.

    Raises:
        ValueError: for no instances, or numbers that are not whole.
    """
    check_map(instances, "instances")
    across = instances[:, :, 1:] != instances[:, :, :-1]
    below = instances[:, 1:] != instances[:, :-1]
    edge = torch.zeros_like(instances, dtype=torch.bool)
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= below
    edge[:, :-1] |= below
    return edge[:, None].float()


def encode(
    labels: Labels, instances: Labels, *, num_classes: int, boundary: bool = True
) -> Maps:
    """What generator and discriminators are told: the label map, one-hot, and the
    boundary map.

    Args:
        labels: the class of each pixel, 0 to ``num_classes - 1``. Pixels without a
            class (255 or -1 in many data sets) need one of their own.
        instances: which object it belongs to. The numbers mean nothing, so only where
            they change is told.
        num_classes: channels of the one-hot map.
        boundary: with the boundary map, as the last channel.

    Raises:
        ValueError: for labels out of range, or instances of other pictures.
    """
    check_map(labels, "labels")
    expect(
        labels.shape == instances.shape,
        f"instances of {tuple(labels.shape)}, as the labels are",
        instances.shape,
    )
    classes = check_labels(labels, num_classes)
    onehot = functional.one_hot(classes, num_classes).permute(0, 3, 1, 2).float()
    if not boundary:
        return onehot
    return torch.cat([onehot, boundary_map(instances)], 1)


def halve(maps: Maps) -> Float[Tensor, "b c k l"]:
    """The pyramid's next level: a mean over 3x3 pixels, every second one; pixels
    outside do not count.

    Raises:
        ValueError: for no pixels, or numbers that have no mean.
    """
    some = maps.is_floating_point() and maps.numel() > 0
    expect(some, "at least one map of floats", maps.shape, maps.dtype)
    return functional.avg_pool2d(maps, 3, 2, 1, count_include_pad=False)


def back_half(channels: int, halvings: int, blocks: int) -> nn.Sequential:
    """Residual blocks, and the way up by transposed convolutions.

    Args:
        channels: of the result; the input has them doubled with every halving.
        halvings: transposed convolutions.
        blocks: residual blocks before them.
    """
    before = [residual(channels * 2**halvings) for _ in range(blocks)]
    return nn.Sequential(*before, *up(channels, halvings))


def head(channels: int, kernel_size: int) -> nn.Sequential:
    """The last layers: a wide convolution to a picture's three channels, or a style's
    three numbers, and tanh."""
    return nn.Sequential(*wide(channels, 3, kernel_size), nn.Tanh())


def check_sides(net: "GlobalGenerator | LocalEnhancer", inputs: Maps) -> None:
    """Inputs of a generator's channels, with sides that it can halve.

    Args:
        net: the generator.
        inputs: conditions and styles.

    Raises:
        ValueError: for others.
    """
    sides = {"least": net.least, "multiple": net.multiple}
    check_inputs(inputs, net, channels=net.in_channels, **sides)


class GlobalGenerator(nn.Module):
    """G1: down, residual blocks, up; at half the final resolution.

    Args:
        in_channels: of the conditions, and of the styles if there are any.
        channels: of the first layer; they double with every halving.
        halvings: strided convolutions on the way down, transposed ones on the way up.
        blocks: residual blocks at the smallest size.
        kernel_size: of the first and last layer; odd.

    Raises:
        ValueError: for numbers of which no net can be built.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int = 64,
        halvings: int = 4,
        blocks: int = 9,
        kernel_size: int = 7,
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels)
        check_plan(channels, blocks, kernel_size, halvings)
        self.in_channels = in_channels
        self.channels = channels
        self.multiple = 2**halvings
        self.least = least_side(self.multiple, kernel_size)
        front = nn.Sequential(*down(in_channels, channels, halvings, kernel_size))
        back = back_half(channels, halvings, blocks)
        self.features = nn.Sequential(front, back)
        self.head = head(channels, kernel_size)
        normal_init_(self, 0.02)

    def forward(self, inputs: Maps) -> Float[Tensor, "b d h w"]:
        """The picture, in [-1, 1].

        Raises:
            ValueError: for no inputs, another number of channels, or sides that are too
                short or that the halvings do not divide.
        """
        check_sides(self, inputs)
        return self.head(self.features(inputs))


class LocalEnhancer(nn.Module):
    """G2 around G1: its front half sees the full resolution, and its back half the sum
    with G1's last features.

    Args:
        in_channels: as G1's.
        coarse: G1; its head, the last three layers, is cut off. It stays the same
            module, with what it has learnt.
        channels: of the first layer; half of G1's, so that the features can be added.
        blocks: residual blocks between front and back.
        kernel_size: as G1's.

    Raises:
        ValueError: for numbers of which no net can be built.
    """

    def __init__(
        self,
        in_channels: int,
        coarse: GlobalGenerator,
        *,
        channels: int = 32,
        blocks: int = 3,
        kernel_size: int = 7,
    ) -> None:
        super().__init__()
        expected = coarse.in_channels
        expect(in_channels == expected, f"{expected} in_channels, as G1", in_channels)
        check_plan(channels, blocks, kernel_size)
        expect(coarse.channels == 2 * channels, "half of G1's channels", channels)
        self.in_channels = in_channels
        self.multiple = 2 * coarse.multiple
        self.least = max(2 * coarse.least, kernel_size // 2 + 1)
        self.front = nn.Sequential(*down(in_channels, channels, 1, kernel_size))
        self.back = back_half(channels, 1, blocks)
        self.head = head(channels, kernel_size)
        normal_init_(self, 0.02)
        self.coarse = coarse.features

    def freeze(self, frozen: bool = True) -> None:
        """Keep G1 as it is, as in the first epochs of G2, or let it learn on."""
        self.coarse.requires_grad_(not frozen)

    def forward(self, inputs: Maps) -> Images:
        """The picture, in [-1, 1].

        Raises:
            ValueError: for no inputs, another number of channels, or sides that are too
                short or that the halvings do not divide.
        """
        check_sides(self, inputs)
        features = self.front(inputs) + self.coarse(halve(inputs))
        return self.head(self.back(features))


class PatchDiscriminator(nn.Module):
    """A PatchGAN that also shows its features; padded by 2, so that the score map is
    larger than pix2pix's.

    Args:
        in_channels: of the conditions and the image.
        channels: of the first layer, which has no norm; they double up to 512.
        halvings: strided convolutions; one of stride 1 and the scores follow.

    Raises:
        ValueError: for fewer than one of either.
    """

    def __init__(
        self, in_channels: int, *, channels: int = 64, halvings: int = 3
    ) -> None:
        super().__init__()
        at_least(1, in_channels=in_channels, channels=channels, halvings=halvings)
        first = nn.Conv2d(in_channels, channels, 4, 2, 2)
        self.layers = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(0.2))])
        for stride in [2] * (halvings - 1) + [1]:
            conv = nn.Conv2d(channels, min(2 * channels, WIDEST), 4, stride, 2)
            channels = conv.out_channels
            layer = nn.Sequential(conv, nn.InstanceNorm2d(channels), nn.LeakyReLU(0.2))
            self.layers.append(layer)
        self.layers.append(nn.Conv2d(channels, 1, 4, 1, 2))

    def forward(self, inputs: Maps) -> list[Tensor]:
        """The outputs of all layers, the scores of the patches last."""
        outputs = []
        for layer in self.layers:
            inputs = layer(inputs)
            outputs.append(inputs)
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """The same architecture, with weights of its own, at each level of the image
    pyramid.

    Args:
        in_channels: of the conditions and the image.
        scales: levels, from the full resolution down.
        settings: of each ``PatchDiscriminator``.

    Raises:
        ValueError: for no scales.
    """

    def __init__(self, in_channels: int, *, scales: int = 3, **settings: int) -> None:
        super().__init__()
        at_least(1, scales=scales)
        self.in_channels = in_channels
        self.scales = nn.ModuleList(
            PatchDiscriminator(in_channels, **settings) for _ in range(scales)
        )
        normal_init_(self, 0.02)

    def forward(self, inputs: Maps) -> Features:
        """Features of all layers at all scales.

        Raises:
            ValueError: for no inputs, or another number of channels.
        """
        check_inputs(inputs, self, channels=self.in_channels)
        outputs = []
        for level, discriminator in enumerate(self.scales):
            inputs = halve(inputs) if level else inputs
            outputs.append(discriminator(inputs))
        return outputs


def number(instances: Labels) -> tuple[Labels, Int[Tensor, " k"]]:
    """Instances of a whole batch as 0, 1, ..., k - 1, and how many pixels each has.

    Raises:
        ValueError: for no picture, or numbers that are not whole or too far apart to
            tell the pictures' instances apart.
    """
    check_map(instances, "instances")
    instances = instances.long()
    first = instances.amin()
    spread = int(instances.amax()) - int(first) + 1
    near = spread * len(instances) < 2**63
    expect(near, "instances within 2**63 over all pictures", spread, len(instances))
    image = torch.arange(len(instances), device=instances.device)[:, None, None]
    apart = instances - first + image * spread
    _, index, counts = apart.unique(return_inverse=True, return_counts=True)
    return index, counts


def instance_means(
    maps: Real[Tensor, "b c h w"], index: Labels, counts: Int[Tensor, " k"]
) -> Float[Tensor, "k c"]:
    """The mean over each instance.

    Args:
        maps: what is averaged.
        index: which instance each pixel belongs to, from ``number``.
        counts: how many pixels each has.

    Raises:
        ValueError: for maps of other pictures.
    """
    batch, channels, height, width = maps.shape
    expected = (batch, height, width)
    expect(index.shape == expected, f"instances of {expected}", index.shape)
    # Halves cannot add up many pixels: from 256 on, one more changes nothing.
    exact = torch.promote_types(maps.dtype, torch.float32)
    values = maps.permute(0, 2, 3, 1).flatten(0, 2).to(exact)
    sums = values.new_zeros(len(counts), channels)
    sums.index_add_(0, index.flatten(), values)
    means = sums / counts[:, None]
    return means.to(maps.dtype) if maps.is_floating_point() else means


def spread(vectors: Float[Tensor, "k c"], index: Labels) -> Float[Tensor, "b c h w"]:
    """Maps on which each instance has its vector all over.

    Args:
        vectors: of each instance.
        index: which instance each pixel belongs to, from ``number``.
    """
    return vectors[index].permute(0, 3, 1, 2)


def instance_classes(
    labels: Labels, index: Labels, counts: Int[Tensor, " k"]
) -> Integer[Tensor, " k"]:
    """The class of each instance.

    Args:
        labels: the class of each pixel.
        index: which instance each pixel belongs to, from ``number``.
        counts: how many pixels each has.

    Raises:
        ValueError: for labels of other pictures, or that are not whole.
    """
    check_map(labels, "labels")
    shape = tuple(labels.shape)
    expect(index.shape == shape, f"instances of {shape}, as the labels", index.shape)
    classes = labels.new_zeros(len(counts))
    return classes.index_put_((index.flatten(),), labels.flatten())


class InstanceEncoder(nn.Module):
    """E: G1's layers without residual blocks on the real picture, then a mean over each
    instance.

    Args:
        channels: of the first layer.
        blocks: residual blocks; none in the paper.
        settings: further ones of its ``GlobalGenerator``.
    """

    def __init__(self, *, channels: int = 16, blocks: int = 0, **settings: int) -> None:
        super().__init__()
        self.net = GlobalGenerator(3, channels=channels, blocks=blocks, **settings)

    def forward(self, images: Images, instances: Labels) -> Float[Tensor, "b s h w"]:
        """Style maps in [-1, 1]: the same few numbers all over an instance.

        Args:
            images: in [0, 1].
            instances: which pixels belong together.

        Raises:
            ValueError: for instances of other pictures, or pictures that the net does
                not take.
        """
        index, counts = number(instances)
        return spread(instance_means(self.net(2 * images - 1), index, counts), index)


def style_centres(
    styles: Maps,
    labels: Labels,
    instances: Labels,
    *,
    generator: torch.Generator,
    least: float = LEAST,
) -> dict[int, Float[Tensor, "k s"]]:
    """K-means centres of the instances' styles, ten for each class.

    Args:
        styles: the encoder's maps of training pictures.
        labels: their classes.
        instances: of the same pictures.
        generator: of ``clusters.kmeans``.
        least: instances that cover a smaller share of a picture are left out.

    Returns:
        Class -> centres, for each class with an instance large enough.

    Raises:
        ValueError: for styles, labels and instances of different pictures, or styles
            that are not finite.
    """
    index, counts = number(instances)
    large = counts >= least * instances[0].numel()
    vectors = instance_means(styles, index, counts)[large]
    classes = instance_classes(labels, index, counts)[large]
    centres = {}
    for k in classes.unique().tolist():
        mine = vectors[classes == k]
        centres[k] = clusters.kmeans(mine, CLUSTERS, generator=generator)
    return centres


def sample_styles(
    labels: Labels,
    instances: Labels,
    centres: Mapping[int, Float[Tensor, "k s"]],
    *,
    generator: torch.Generator,
) -> Float[Tensor, "b s h w"]:
    """Style maps without a picture: each instance gets a random centre of its class,
    zeros where there is none.

    Args:
        labels: the class of each pixel.
        instances: which pixels belong together.
        centres: from ``style_centres``.
        generator: chooses, on the CPU.

    Raises:
        ValueError: without centres (no instance was large enough for
            ``style_centres``), or for centres of different lengths.
    """
    lengths = sorted({choices.shape[1] for choices in centres.values()})
    expect(len(lengths) == 1, "centres of a class or more, all of one length", lengths)
    index, counts = number(instances)
    classes = instance_classes(labels, index, counts)
    some = next(iter(centres.values()))
    vectors = some.new_zeros(len(counts), lengths[0])
    for k, choices in centres.items():
        mine = classes == k
        chosen = torch.randint(len(choices), (int(mine.sum()),), generator=generator)
        vectors[mine] = choices[chosen]
    return spread(vectors, index)


def donors(
    classes: Integer[Tensor, " k"],
    some: Bool[Tensor, " k"],
    *,
    generator: torch.Generator,
) -> Int[Tensor, " k"]:
    """For each instance another of its class at random, whose style it may take.

    Args:
        classes: from ``instance_classes``.
        some: which give and take; the others keep their own.
        generator: shuffles, on the CPU.
    """
    donor = torch.arange(len(classes))
    for k in classes[some].unique().tolist():
        mine = (some & (classes == k)).nonzero()[:, 0]
        donor[mine] = mine[torch.randperm(len(mine), generator=generator)]
    return donor


def beside(
    conditions: Maps, others: Float[Tensor, "n d k l"]
) -> Float[Tensor, "b _ h w"]:
    """Conditions, then others, as the channels of one map.

    Args:
        conditions: from ``encode``.
        others: styles or pictures, floats of the same number and size.

    Raises:
        ValueError: for others of another number, size or type.
    """
    expect(others.is_floating_point(), "styles or pictures of floats", others.dtype)
    whole = (len(conditions), *conditions.shape[2:])
    came = (len(others), *others.shape[2:])
    expect(came == whole, f"maps of {whole} without channels, as conditions are", came)
    return torch.cat([conditions, others], 1)


class Pix2PixHD(nn.Module):
    """Generator, discriminators and, where instances have a style, their encoder.

    The discriminators see the conditions and a picture, but not the styles.

    Args:
        num_classes: of the label maps.
        boundary: the conditions include a boundary map.
        styles: with an instance encoder.
        coarse: G1 alone, for the first stage, instead of G2 around it.
        global_generator: sizes of G1, by the names of ``GlobalGenerator``'s arguments;
            what is not said is the paper's, here and below.
        enhancer: of G2, by those of ``LocalEnhancer``.
        discriminator: of ``MultiscaleDiscriminator``; two scales are enough up to
            1024x512.
        encoder: of ``InstanceEncoder``.

    Raises:
        ValueError: for numbers of which no net can be built.
    """

    def __init__(
        self,
        *,
        num_classes: int = 35,
        boundary: bool = True,
        styles: bool = False,
        coarse: bool = False,
        global_generator: Sizes = AS_IN_PAPER,
        enhancer: Sizes = AS_IN_PAPER,
        discriminator: Sizes = AS_IN_PAPER,
        encoder: Sizes = AS_IN_PAPER,
    ) -> None:
        super().__init__()
        at_least(1, num_classes=num_classes)
        told = num_classes + boundary
        inputs = told + STYLES * styles
        first = GlobalGenerator(inputs, **global_generator)
        self.generator = first if coarse else LocalEnhancer(inputs, first, **enhancer)
        self.discriminator = MultiscaleDiscriminator(told + 3, **discriminator)
        self.encoder = InstanceEncoder(**encoder) if styles else None

    def forward(
        self, conditions: Maps, styles: Float[Tensor, "b s h w"] | None = None
    ) -> Images:
        """Pictures in [0, 1] for conditions from ``encode`` and, with an encoder, style
        maps.

        Raises:
            ValueError: for styles of other pictures, or inputs that the generator does
                not take (with an encoder it needs styles, without one it has none).
        """
        inputs = conditions if styles is None else beside(conditions, styles)
        return self.generator(inputs) / 2 + 0.5

    def take_over(self, first: "Pix2PixHD") -> None:
        """Begin the second stage with what the first has learnt: G1 inside G2, and the
        encoder, from now on frozen.

        Args:
            first: built with ``coarse=True``, and otherwise as this one.

        Raises:
            ValueError: unless this one has a G2, and the first a G1 that fits.
        """
        ours, theirs = self.generator, first.generator
        stages = isinstance(ours, LocalEnhancer) and isinstance(theirs, GlobalGenerator)
        expect(stages, "G2 to take over G1", type(ours).__name__, type(theirs).__name__)
        same = theirs.in_channels == ours.in_channels
        wanted = f"a G1 of {ours.in_channels} in_channels, as G2"
        expect(same, wanted, theirs.in_channels)
        self.generator.coarse = first.generator.features
        self.encoder = first.encoder
        if self.encoder is not None:
            self.encoder.requires_grad_(False)

    def judge(self, conditions: Maps, images: Images) -> Features:
        """What the discriminators make of pictures in [0, 1].

        Raises:
            ValueError: for conditions of other pictures.
        """
        return self.discriminator(beside(conditions, 2 * images - 1))


def matching_loss(real: Features, fake: Features) -> Float[Tensor, "scales layers"]:
    r"""Mean distance of the discriminators' features of a real and a made picture, by
    scale and layer.

    The scores, the last layer, are left out, and no gradient reaches the real side.

    Args:
        real: features of the real pictures, from ``Pix2PixHD.judge``.
        fake: of the made ones.

    Raises:
        ValueError: for features of different shapes.
    """
    scales = []
    for of_real, of_fake in zip(real, fake, strict=True):
        layers = []
        for a, b in zip(of_real[:-1], of_fake[:-1], strict=True):
            layers.append(l1(b, a.detach()))
        scales.append(torch.stack(layers))
    return torch.stack(scales)


def generator_loss(
    nets: Pix2PixHD,
    batch: Batch,
    fakes: Images,
    *,
    matching_weight: float = MATCHING_WEIGHT,
    pixel_weight: float = 0.0,
) -> dict[str, Tensor]:
    """What generator and encoder minimise (Eq. 5): fool the discriminators at all
    scales, and match their features.

    Args:
        nets: generator, discriminators, encoder.
        batch: ``conditions`` from ``encode``, and the real ``images``, in [0, 1].
        fakes: the generator's.
        matching_weight: of the features' distance; 0 leaves it out.
        pixel_weight: of the pictures' mean distance in [-1, 1], pix2pix's term, which
            matching replaces; 100 there.

    Returns:
        ``fool``, ``match`` and ``pixels``, already weighted, and ``loss``, their sum.
    """
    check_keys(batch, "conditions", "images")
    fake = nets.judge(batch["conditions"], fakes)
    terms = {"fool": torch.stack([lsgan(scale[-1], 1.0) for scale in fake]).sum()}
    if matching_weight:
        with torch.no_grad():
            real = nets.judge(batch["conditions"], batch["images"])
        # Released: mean over scales, layers weighted 4 / layers: four times the mean.
        terms["match"] = 4 * matching_weight * matching_loss(real, fake).mean()
    if pixel_weight:
        terms["pixels"] = 2 * pixel_weight * l1(fakes, batch["images"])
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def discriminator_loss(
    nets: Pix2PixHD, batch: Batch, fakes: Images
) -> dict[str, Tensor]:
    """What the discriminators minimise: half the sum of squares over all scales.
    Matching features is not their task.

    Args:
        nets: generator, discriminators, encoder.
        batch: ``conditions`` from ``encode``, and the real ``images``, in [0, 1].
        fakes: the generator's; no gradient reaches it.

    Returns:
        ``loss``.
    """
    check_keys(batch, "conditions", "images")
    real = nets.judge(batch["conditions"], batch["images"])
    fake = nets.judge(batch["conditions"], fakes.detach())
    terms = []
    for of_real, of_fake in zip(real, fake, strict=True):
        terms.append(0.5 * (lsgan(of_real[-1], 1.0) + lsgan(of_fake[-1], 0.0)))
    return {"loss": torch.stack(terms).sum()}


def optimizers(nets: Pix2PixHD, make: Maker) -> Optimizers:
    """One for what learns of generator and encoder, one for the discriminators."""
    makers = list(nets.generator.parameters())
    if nets.encoder is not None:
        makers += nets.encoder.parameters()
    learning = [parameter for parameter in makers if parameter.requires_grad]
    return make(learning), make(list(nets.discriminator.parameters()))


def adversarial_step(
    nets: Pix2PixHD,
    optimizers: Optimizers,
    *,
    coarse: bool = False,
    schedules: Schedules = (),
    **weights: float,
) -> Step:
    """One update of generator and encoder, with the discriminators frozen, then one of
    the discriminators.

    Args:
        nets: generator, discriminators, encoder.
        optimizers: of generator and encoder, and of the discriminators.
        coarse: play at half the resolution, as G1 does before there is a G2.
        schedules: stepped once a step.
        weights: see ``generator_loss``.

    Returns:
        A step for ``training.train`` on batches of ``conditions``, ``images`` and, with
        an encoder, ``instances``.

    Raises:
        ValueError: in the step, for images or conditions far outside [0, 1].
    """
    for_generator, for_discriminator = optimizers

    def step(batch: Batch) -> dict[str, Tensor]:
        check_keys(batch, "conditions", "images")
        conditions, images = batch["conditions"], batch["images"]
        check_pictures(images, "images")
        check_pictures(conditions, "conditions")
        styles = None
        if nets.encoder is not None:
            check_keys(batch, "instances")
            styles = nets.encoder(images, batch["instances"])
        if coarse:
            conditions = halve(conditions)
            images = halve(images)
            styles = None if styles is None else halve(styles)
        played = {"conditions": conditions, "images": images}

        nets.discriminator.requires_grad_(False)
        fakes = nets(conditions, styles)
        fooling = generator_loss(nets, played, fakes, **weights)
        update(for_generator, fooling["loss"])

        nets.discriminator.requires_grad_(True)
        telling = discriminator_loss(nets, played, fakes)["loss"]
        update(for_discriminator, telling)
        for schedule in schedules:
            schedule.step()
        return {**fooling, "tell": telling}

    return step


def two_stages(build: Callable[..., Pix2PixHD], **overrides: Any) -> nn.ModuleDict:
    """G1 alone, and G2 around another G1 that waits for what the first will learn.

    Args:
        build: ``tiny`` or ``paper``.
        overrides: of ``Pix2PixHD``'s arguments, for both.

    Returns:
        ``"G1"`` and ``"G2"``, each with discriminators of its own.
    """
    first = build(coarse=True, **overrides)
    return nn.ModuleDict({"G1": first, "G2": build(coarse=False, **overrides)})


def stage_step(
    nets: nn.ModuleDict, stage: str, make: Maker, *, steps: int, **weights: float
) -> Step:
    """Begin one of the three stages: G1 alone at half the size, G2 around a frozen G1,
    both together, when the rate falls to zero in the second half.

    Args:
        nets: from ``two_stages``. G2 takes over a copy of G1 at its start.
        stage: ``"G1"``, ``"G2"`` or ``"both"``; each begins where the last ended.
            ``"both"`` alone trains everything at once.
        make: a new optimizer for each stage.
        steps: of this stage.
        weights: see ``generator_loss``.

    Returns:
        As ``adversarial_step``.

    Raises:
        ValueError: for another stage.
    """
    expect(stage in STAGES, f"a stage from {STAGES}", stage)
    first = cast("Pix2PixHD", nets["G1"])
    players = first if stage == "G1" else cast("Pix2PixHD", nets["G2"])
    if stage == "G2":
        players.take_over(deepcopy(first))
    if isinstance(players.generator, LocalEnhancer):
        players.generator.freeze(stage == "G2")
    pair = optimizers(players, make)
    schedules = [linear_decay(one, steps) for one in pair if stage == "both"]
    plan: dict[str, Any] = {"coarse": stage == "G1", "schedules": schedules}
    return adversarial_step(players, pair, **plan | weights)


# How the map of the net calls its parts.
BLOCKS = {
    "front": "G2 in",
    "coarse.0": "G1 in",
    "coarse.1.*": "",
    "back.*": "",
    "head": "head",
}


def tiny(**overrides: Any) -> Pix2PixHD:
    """The book's scale, for 64x64 images.

    Args:
        overrides: of ``Pix2PixHD``'s arguments.
    """
    sizes = dict(halvings=1, kernel_size=3)
    settings: dict[str, Any] = dict(num_classes=8, styles=True)
    settings |= dict(global_generator=dict(channels=32, blocks=2, **sizes))
    settings |= dict(enhancer=dict(channels=16, blocks=1, kernel_size=3))
    settings |= dict(discriminator=dict(channels=16, halvings=2, scales=2))
    settings |= dict(encoder=dict(channels=8, **sizes))
    nets = Pix2PixHD(**(settings | overrides))
    normal_init_(nets.discriminator, 0.06)
    return nets


def paper(**overrides: Any) -> Pix2PixHD:
    """The paper's scale, for Cityscapes at 2048x1024.

    Args:
        overrides: of ``Pix2PixHD``'s arguments.
    """
    return Pix2PixHD(**overrides)
