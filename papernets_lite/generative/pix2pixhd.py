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
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.generative import cyclegan
from papernets_lite.generative.cyclegan import (
    Maps,
    ResidualBlock,
    check_sides,
    learn,
    lsgan,
    normed,
)
from papernets_lite.layers.init import normal_init_
from papernets_lite.ops.checks import expect

MATCHING_WEIGHT = 10.0
# numbers per instance: as many as a picture has channels, so that E ends as G1 does
STYLES = 3
CLUSTERS, LEAST = 10, 1 / 64  # centres per class; smallest instance that votes
WIDEST = 512  # channels of a discriminator
# the class of each pixel, or the instance that it belongs to
Labels = Int[Tensor, "b h w"]
Images = Float[Tensor, "b 3 h w"]
# of the discriminators: scale by scale, layer by layer, the scores last
Features = list[list[Tensor]]


def boundary_map(instances: Labels) -> Float[Tensor, "b 1 h w"]:
    """1 where one of a pixel's four neighbours belongs to another instance: both sides
    of a border are marked."""
    edge = torch.zeros_like(instances, dtype=torch.bool)
    across, down = (
        instances[:, :, 1:] != instances[:, :, :-1],
        instances[:, 1:] != instances[:, :-1],
    )
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge[:, None].float()


def encode(
    labels: Labels, instances: Labels, *, num_classes: int, boundary: bool = True
) -> Maps:
    """What generator and discriminators are told: the label map, one-hot, and the
    boundary map.

    Args:
        labels: the class of each pixel.
        instances: which object it belongs to. The numbers mean nothing, so only where
            they change is told.
        num_classes: channels of the one-hot map.
        boundary: with the boundary map, as the last channel.
    """
    onehot = functional.one_hot(labels, num_classes).permute(0, 3, 1, 2).float()
    return torch.cat([onehot, boundary_map(instances)], 1) if boundary else onehot


def halve(maps: Maps) -> Float[Tensor, "b c k l"]:
    """The pyramid's next level: a mean over 3x3 pixels, every second one; pixels
    outside do not count."""
    return functional.avg_pool2d(maps, 3, 2, 1, count_include_pad=False)


def wide(
    in_channels: int, channels: int, kernel_size: int
) -> tuple[nn.Module, nn.Conv2d]:
    """Reflected borders and a wide convolution: a generator's first and last layer.

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel_size: odd.
    """
    return nn.ReflectionPad2d(kernel_size // 2), nn.Conv2d(
        in_channels, channels, kernel_size
    )


def front(
    in_channels: int, channels: int, halvings: int, kernel_size: int
) -> nn.Sequential:
    """The way down: a wide convolution, then strided ones that double the channels.

    Args:
        in_channels: of the input.
        channels: after the first layer.
        halvings: strided convolutions.
        kernel_size: of the first layer.
    """
    pad, conv = wide(in_channels, channels, kernel_size)
    layers = [pad, *normed(conv)]
    for level in range(halvings):
        layers += normed(nn.Conv2d(channels << level, channels << level + 1, 3, 2, 1))
    return nn.Sequential(*layers)


def back(channels: int, halvings: int, blocks: int) -> nn.Sequential:
    """Residual blocks, and the way up by transposed convolutions.

    Args:
        channels: of the result; the input has them doubled with every halving.
        halvings: transposed convolutions.
        blocks: residual blocks before them.
    """
    layers: list[nn.Module] = [
        ResidualBlock(channels << halvings) for _ in range(blocks)
    ]
    for level in reversed(range(halvings)):
        layers += normed(
            nn.ConvTranspose2d(
                channels << level + 1, channels << level, 3, 2, 1, output_padding=1
            )
        )
    return nn.Sequential(*layers)


def head(channels: int, kernel_size: int) -> nn.Sequential:
    """The last layers: a wide convolution to a picture's three channels, or a style's
    three numbers, and tanh."""
    return nn.Sequential(*wide(channels, 3, kernel_size), nn.Tanh())


class GlobalGenerator(nn.Module):
    """G1: down, residual blocks, up; at half the final resolution.

    Args:
        in_channels: of the conditions, and of the styles if there are any.
        channels: of the first layer; they double with every halving.
        halvings: strided convolutions on the way down, transposed ones on the way up.
        blocks: residual blocks at the smallest size.
        kernel_size: of the first and last layer.
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
        self.multiple = 1 << halvings
        down = front(in_channels, channels, halvings, kernel_size)
        self.features = nn.Sequential(down, back(channels, halvings, blocks))
        self.head = head(channels, kernel_size)
        normal_init_(self, 0.02)

    def forward(self, inputs: Maps) -> Float[Tensor, "b d h w"]:
        """The picture, in [-1, 1].

        Raises:
            ValueError: for no inputs, or sides that the halvings do not divide.
        """
        check_sides(inputs, self.multiple)
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
        self.multiple = 2 * coarse.multiple
        self.front, self.back = (
            front(in_channels, channels, 1, kernel_size),
            back(channels, 1, blocks),
        )
        self.head = head(channels, kernel_size)
        normal_init_(self, 0.02)
        self.coarse = coarse.features

    def freeze(self, frozen: bool = True) -> None:
        """Keep G1 as it is, as in the first epochs of G2, or let it learn on."""
        self.coarse.requires_grad_(not frozen)

    def forward(self, inputs: Maps) -> Images:
        """The picture, in [-1, 1].

        Raises:
            ValueError: for no inputs, or sides that the halvings do not divide.
        """
        check_sides(inputs, self.multiple)
        return self.head(self.back(self.front(inputs) + self.coarse(halve(inputs))))


class PatchDiscriminator(nn.Module):
    """A PatchGAN that also shows its features; padded by 2, so that the score map is
    larger than pix2pix's.

    Args:
        in_channels: of the conditions and the image.
        channels: of the first layer, which has no norm; they double up to 512.
        halvings: strided convolutions; one of stride 1 and the scores follow.
    """

    def __init__(
        self, in_channels: int, *, channels: int = 64, halvings: int = 3
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(in_channels, channels, 4, 2, 2), nn.LeakyReLU(0.2)
                )
            ]
        )
        for stride in [2] * (halvings - 1) + [1]:
            conv = nn.Conv2d(channels, min(2 * channels, WIDEST), 4, stride, 2)
            channels = conv.out_channels
            self.layers.append(
                nn.Sequential(conv, nn.InstanceNorm2d(channels), nn.LeakyReLU(0.2))
            )
        self.layers.append(nn.Conv2d(channels, 1, 4, 1, 2))

    def forward(self, inputs: Maps) -> list[Tensor]:
        """The outputs of all layers, the scores of the patches last."""
        outputs = [inputs]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        return outputs[1:]


class MultiscaleDiscriminator(nn.Module):
    """The same architecture, with weights of its own, at each level of the image
    pyramid.

    Args:
        in_channels: of the conditions and the image.
        scales: levels, from the full resolution down.
        settings: of each ``PatchDiscriminator``.
    """

    def __init__(self, in_channels: int, *, scales: int = 2, **settings: Any) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(in_channels, **settings) for _ in range(scales)
        )
        normal_init_(self, 0.02)

    def forward(self, inputs: Maps) -> Features:
        """Features of all layers at all scales.

        Raises:
            ValueError: for no inputs.
        """
        expect(len(inputs) > 0, "at least one picture", inputs.shape)
        outputs = []
        for level, discriminator in enumerate(self.scales):
            inputs = halve(inputs) if level else inputs
            outputs.append(discriminator(inputs))
        return outputs


def number(instances: Labels) -> tuple[Labels, Int[Tensor, " k"]]:
    """Instances of a whole batch as 0, 1, ..., k - 1, and how many pixels each has.

    Raises:
        ValueError: for no picture.
    """
    expect(len(instances) > 0, "at least one map of instances", instances.shape)
    first = instances.amin()
    image = torch.arange(len(instances), device=instances.device)[:, None, None]
    apart = instances - first + image * (instances.amax() - first + 1)
    _, index, counts = apart.unique(return_inverse=True, return_counts=True)
    return index, counts


def instance_means(
    maps: Maps, index: Labels, counts: Int[Tensor, " k"]
) -> Float[Tensor, "k c"]:
    """The mean over each instance.

    Args:
        maps: what is averaged.
        index: which instance each pixel belongs to, from ``number``.
        counts: how many pixels each has.
    """
    values = maps.permute(0, 2, 3, 1).flatten(0, 2)
    sums = values.new_zeros(len(counts), values.shape[1]).index_add_(
        0, index.flatten(), values
    )
    return sums / counts[:, None]


def instance_classes(
    labels: Labels, index: Labels, counts: Int[Tensor, " k"]
) -> Int[Tensor, " k"]:
    """The class of each instance.

    Args:
        labels: the class of each pixel.
        index: which instance each pixel belongs to, from ``number``.
        counts: how many pixels each has.
    """
    return labels.new_zeros(len(counts)).index_put_(
        (index.flatten(),), labels.flatten()
    )


class InstanceEncoder(nn.Module):
    """E: G1's layers without residual blocks on the real picture, then a mean over each
    instance.

    Args:
        settings: of its ``GlobalGenerator``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.net = GlobalGenerator(3, **{"channels": 16, "blocks": 0, **settings})

    def forward(self, images: Images, instances: Labels) -> Float[Tensor, "b s h w"]:
        """Style maps in [-1, 1]: the same few numbers all over an instance.

        Args:
            images: in [0, 1].
            instances: which pixels belong together.
        """
        index, counts = number(instances)
        return instance_means(self.net(2 * images - 1), index, counts)[index].permute(
            0, 3, 1, 2
        )


def kmeans(
    points: Float[Tensor, "n d"],
    clusters: int,
    *,
    generator: torch.Generator,
    rounds: int = 20,
) -> Float[Tensor, "k d"]:
    """Centres of clusters: far-apart points to start with (k-means++), then Lloyd's
    rounds.

    Args:
        points: at least one.
        clusters: how many; fewer come back where there are fewer different points.
        generator: draws the first centres, on the CPU.
        rounds: of assigning points and moving centres.
    """
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < clusters:
        far = torch.cdist(points, centres).amin(1).square().cpu()
        if not far.sum() > 0:
            break
        centres = torch.cat(
            [centres, points[torch.multinomial(far, 1, generator=generator)]]
        )
    for _ in range(rounds):
        nearest = functional.one_hot(
            torch.cdist(points, centres).argmin(1), len(centres)
        ).to(points)
        sizes = nearest.sum(0)[:, None]
        centres = torch.where(
            sizes > 0, nearest.T @ points / sizes.clamp(min=1), centres
        )
    return centres


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
        generator: of ``kmeans``.
        least: instances that cover a smaller share of a picture are left out.

    Returns:
        Class -> centres, for each class with an instance large enough.
    """
    index, counts = number(instances)
    vectors = instance_means(styles, index, counts)
    large = counts >= least * labels[0].numel()
    vectors, classes = vectors[large], instance_classes(labels, index, counts)[large]
    return {
        k: kmeans(vectors[classes == k], CLUSTERS, generator=generator)
        for k in classes.unique().tolist()
    }


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
    """
    index, counts = number(instances)
    classes = instance_classes(labels, index, counts)
    some = next(iter(centres.values()))
    vectors = some.new_zeros(len(counts), some.shape[1])
    for k, choices in centres.items():
        mine: Bool[Tensor, " k"] = classes == k
        vectors[mine] = choices[
            torch.randint(len(choices), (int(mine.sum()),), generator=generator)
        ]
    return vectors[index].permute(0, 3, 1, 2)


class Pix2PixHD(nn.Module):
    """Generator, discriminators and, where instances have a style, their encoder.

    Args:
        generator: G1, or G2 around it.
        discriminator: sees the conditions and a picture, but not the styles.
        encoder: E, or None.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        encoder: InstanceEncoder | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator, self.encoder = (
            generator,
            discriminator,
            encoder,
        )

    def forward(
        self, conditions: Maps, styles: Float[Tensor, "b s h w"] | None = None
    ) -> Images:
        """Pictures in [0, 1] for conditions from ``encode`` and, with an encoder, style
        maps."""
        inputs = conditions if styles is None else torch.cat([conditions, styles], 1)
        return self.generator(inputs) / 2 + 0.5

    def take_over(self, first: "Pix2PixHD") -> None:
        """Begin the second stage with what the first has learnt: G1 inside G2, and the
        encoder, from now on frozen."""
        self.generator.coarse, self.encoder = first.generator.features, first.encoder
        if self.encoder is not None:
            self.encoder.requires_grad_(False)

    def judge(self, conditions: Maps, images: Images) -> Features:
        """What the discriminators make of pictures in [0, 1]."""
        return self.discriminator(torch.cat([conditions, 2 * images - 1], 1))


def matching_loss(real: Features, fake: Features) -> Float[Tensor, "scales layers"]:
    r"""Mean distance of the discriminators' features of a real and a made picture, by
    scale and layer.

    The scores, the last layer, are left out, and no gradient reaches the real side.
    """
    pairs = (zip(r[:-1], f[:-1], strict=True) for r, f in zip(real, fake, strict=True))
    return torch.stack(
        [
            torch.stack([(b - a.detach()).abs().mean() for a, b in pair])
            for pair in pairs
        ]
    )


def generator_loss(
    nets: Pix2PixHD,
    conditions: Maps,
    images: Images,
    fakes: Images,
    *,
    matching_weight: float = MATCHING_WEIGHT,
) -> dict[str, Tensor]:
    """What generator and encoder minimise (Eq. 5): fool the discriminators at all
    scales, and match their features.

    Args:
        nets: generator, discriminators, encoder.
        conditions: from ``encode``.
        images: the real pictures, in [0, 1].
        fakes: the generator's.
        matching_weight: of the features' distance, the sum over layers and mean over
            scales; 0 leaves it out.

    Returns:
        ``fool`` and ``match``, already weighted, and ``loss``, their sum.
    """
    fake = nets.judge(conditions, fakes)
    terms = {"fool": torch.stack([lsgan(scale[-1], 1.0) for scale in fake]).sum()}
    if matching_weight:
        with torch.no_grad():
            real = nets.judge(conditions, images)
        # As released: layers weigh 4 / (halvings + 1), so that they sum to 4 however
        # many there are.
        distances = matching_loss(real, fake)
        terms["match"] = (
            matching_weight * 4 / distances.shape[1] * distances.sum(1).mean()
        )
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def discriminator_loss(
    nets: Pix2PixHD, conditions: Maps, images: Images, fakes: Images
) -> dict[str, Tensor]:
    """What the discriminators minimise: half the sum of squares over all scales.
    Matching features is not their task.

    Args:
        nets: generator, discriminators, encoder.
        conditions: from ``encode``.
        images: the real pictures, in [0, 1].
        fakes: the generator's; no gradient reaches it.
    """
    real, fake = nets.judge(conditions, images), nets.judge(conditions, fakes.detach())
    each = [
        0.5 * (lsgan(a[-1], 1.0) + lsgan(b[-1], 0.0))
        for a, b in zip(real, fake, strict=True)
    ]
    return {"loss": torch.stack(each).sum()}


def optimizers(
    nets: Pix2PixHD, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
) -> cyclegan.Optimizers:
    """One for what learns of generator and encoder, one for the discriminators."""
    players = [
        p
        for part in (nets.generator, nets.encoder)
        if part is not None
        for p in part.parameters()
    ]
    return make([p for p in players if p.requires_grad]), make(
        list(nets.discriminator.parameters())
    )


def alternating_step(
    nets: Pix2PixHD,
    pair: cyclegan.Optimizers,
    *,
    coarse: bool = False,
    matching_weight: float = MATCHING_WEIGHT,
    schedules: cyclegan.Schedules = (),
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """One update of generator and encoder, with the discriminators frozen, then one of
    the discriminators.

    Args:
        nets: generator, discriminators, encoder.
        pair: the optimizers, of generator and encoder, and of the discriminators.
        coarse: play at half the resolution, as G1 does before there is a G2.
        matching_weight: see ``generator_loss``.
        schedules: stepped once a step.

    Returns:
        A step for ``training.train`` on batches of ``conditions``, ``images`` and, with
        an encoder, ``instances``.
    """
    for_generator, for_discriminator = pair

    def step(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        conditions, images = batch["conditions"], batch["images"]
        styles = (
            None if nets.encoder is None else nets.encoder(images, batch["instances"])
        )
        if coarse:
            conditions, images = halve(conditions), halve(images)
            styles = None if styles is None else halve(styles)
        nets.discriminator.requires_grad_(False)
        fakes = nets(conditions, styles)
        fooling = generator_loss(
            nets, conditions, images, fakes, matching_weight=matching_weight
        )
        learn(for_generator, fooling["loss"])

        nets.discriminator.requires_grad_(True)
        telling = discriminator_loss(nets, conditions, images, fakes)["loss"]
        learn(for_discriminator, telling)
        for schedule in schedules:
            schedule.step()
        return {**fooling, "tell": telling}

    return step


def tiny(
    num_classes: int = 8,
    *,
    boundary: bool = True,
    styles: bool = True,
    coarse: bool = False,
) -> Pix2PixHD:
    """The book's scale, for 64x64 images.

    Args:
        num_classes: of the label maps.
        boundary: the conditions include a boundary map.
        styles: with an instance encoder.
        coarse: G1 alone, for the first stage, instead of G2 around it.
    """
    conditions = num_classes + boundary
    inputs = conditions + STYLES * styles
    first = GlobalGenerator(inputs, channels=32, halvings=1, blocks=2, kernel_size=3)
    generator = (
        first
        if coarse
        else LocalEnhancer(inputs, first, channels=16, blocks=1, kernel_size=3)
    )
    encoder = InstanceEncoder(halvings=1, kernel_size=3) if styles else None
    discriminator = MultiscaleDiscriminator(conditions + 3, channels=16, halvings=2)
    normal_init_(discriminator, 0.06)
    return Pix2PixHD(generator, discriminator, encoder)


def paper(
    num_classes: int = 35,
    *,
    boundary: bool = True,
    styles: bool = False,
    coarse: bool = False,
) -> Pix2PixHD:
    """The paper's scale, for Cityscapes at 2048x1024.

    Args:
        num_classes: of the label maps.
        boundary: the conditions include a boundary map.
        styles: with an instance encoder.
        coarse: G1 alone, for the first stage, instead of G2 around it.
    """
    conditions = num_classes + boundary
    inputs = conditions + STYLES * styles
    first = GlobalGenerator(inputs)
    generator = first if coarse else LocalEnhancer(inputs, first)
    encoder = InstanceEncoder() if styles else None
    # Two scales are enough up to 1024x512.
    return Pix2PixHD(
        generator, MultiscaleDiscriminator(conditions + 3, scales=3), encoder
    )
