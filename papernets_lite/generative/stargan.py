"""StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image
Translation.

Yunjey Choi, Minje Choi, Munyoung Kim, Jung-Woo Ha, Sunghun Kim, Jaegul Choo. CVPR 2018,
arXiv 1711.09020.
Official code: yunjey/stargan.

Idea: one generator for all domains, told by a label vector where to go; the
discriminator also says which domain it sees, and a mask in the vector lets data sets
with different labels train the same generator.

Differs:
    1. ``tiny`` works on 32x32 images: blocks of pixels become channels (which a CPU
       likes) instead of strided convolutions, two residual blocks instead of six, and a
       discriminator with three halvings instead of six.
    2. The learning rate falls step by step in the second half of training, not every
       thousand steps.
    3. Instance norm keeps no running statistics: the released code carries them along
       and always normalises by the image at hand.

Guessed:
    Nothing that matters: paper and released code agree, and the code fixes what the
    paper leaves out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.generative.cyclegan import (
    Optimizers,
    Schedules,
    check_sides,
    learn,
    linear_decay,
)
from papernets_lite.ops.checks import expect
from papernets_lite.ops.losses import gradient_penalty

__all__ = ["Discriminator", "Generator", "Group", "StarGAN", "linear_decay"]

CLASSIFY_WEIGHT, RECONSTRUCT_WEIGHT, PENALTY_WEIGHT = 1.0, 10.0, 10.0
CRITIC_STEPS = 5  # updates of the discriminator for each of the generator
Batch = Mapping[str, Tensor]  # one data set's "images" and "labels"


class Group(NamedTuple):
    """The labels that one data set has: ``size`` numbers, of which exactly one is 1 if
    ``exclusive``."""

    size: int
    exclusive: bool = False


CELEBA = Group(5)  # black, blond, brown hair; male; young
RAFD = Group(8, exclusive=True)  # expressions


def normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A convolution without bias, instance norm with weights of its own, ReLU."""
    return [conv, nn.InstanceNorm2d(conv.out_channels, affine=True), nn.ReLU()]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut. Zero padding and a norm with weights,
    unlike CycleGAN's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (
            normed(nn.Conv2d(channels, channels, 3, 1, 1, bias=False)) for _ in range(2)
        )
        self.body = nn.Sequential(*first, *second[:-1])

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The features plus a change to them."""
        return features + self.body(features)


class Generator(nn.Module):
    """G(x, c): the label vector becomes constant planes beside the image's channels.

    Borders are padded with zeros. After a reflected border a constant plane stays
    constant through the first convolution, and instance norm removes it: the generator
    would not see its labels.

    Args:
        num_labels: length of the label vector, mask included.
        kernel_size: of the first and last layer.
        unshuffle: side of the pixel blocks that become channels before the first layer,
            and pixels after the last.
        channels: of the first layer; each halving of the size doubles them.
        halvings: strided convolutions down, as many transposed ones up.
        blocks: residual blocks at the smallest size.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        kernel_size: int = 7,
        unshuffle: int = 1,
        channels: int = 64,
        halvings: int = 2,
        blocks: int = 6,
    ) -> None:
        super().__init__()
        self.unshuffle, self.multiple, pad = (
            unshuffle,
            unshuffle * 2**halvings,
            kernel_size // 2,
        )
        pixels = 3 * unshuffle**2
        layers = normed(
            nn.Conv2d(pixels + num_labels, channels, kernel_size, 1, pad, bias=False)
        )
        for _ in range(halvings):
            layers += normed(nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False))
            channels *= 2
        layers += [ResidualBlock(channels) for _ in range(blocks)]
        for _ in range(halvings):
            layers += normed(
                nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False)
            )
            channels //= 2
        self.net = nn.Sequential(
            *layers,
            nn.Conv2d(channels, pixels, kernel_size, 1, pad, bias=False),
            nn.Tanh(),
        )

    def forward(
        self, images: Float[Tensor, "b 3 h w"], vector: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Translate images in [0, 1] to where ``vector`` says; the net itself works on
        [-1, 1].

        Raises:
            ValueError: for no images, or sides that the halvings do not divide.
        """
        check_sides(images, self.multiple)
        x = functional.pixel_unshuffle(2 * images - 1, self.unshuffle)
        planes = vector[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return (
            functional.pixel_shuffle(
                self.net(torch.cat([x, planes], 1)), self.unshuffle
            )
            / 2
            + 0.5
        )


class Discriminator(nn.Module):
    """Two heads on one trunk: a map of scores (is this patch real?) and the labels'
    logits. No norm anywhere.

    Args:
        num_labels: of all groups together, without the mask.
        size: side of the images.
        channels: of the first layer; they double with every halving.
        halvings: strided 4x4 convolutions.
        unshuffle: side of the pixel blocks that become channels before the first layer.
    """

    def __init__(
        self,
        num_labels: int,
        *,
        size: int = 128,
        channels: int = 64,
        halvings: int = 6,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        before, layers = 3 * unshuffle**2, list[nn.Module]()
        for _ in range(halvings):
            layers += [nn.Conv2d(before, channels, 4, 2, 1), nn.LeakyReLU(0.01)]
            before, channels = channels, 2 * channels
        self.trunk = nn.Sequential(nn.PixelUnshuffle(unshuffle), *layers)
        self.source = nn.Conv2d(before, 1, 3, 1, 1, bias=False)
        self.label = nn.Conv2d(
            before, num_labels, size // (unshuffle * 2**halvings), bias=False
        )

    def forward(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 1 k l"], Float[Tensor, "b c"]]:
        """Scores (higher for real) and label logits of images in [0, 1].

        Raises:
            ValueError: for no images.
        """
        expect(len(images) > 0, "at least one image", images.shape)
        features = self.trunk(2 * images - 1)
        return self.source(features), self.label(features).flatten(1)


class StarGAN(nn.Module):
    """The two nets, and what their label vectors mean.

    Args:
        groups: the labels of each data set, in the order in which they stand in the
            vector.
        generator: makes G from the vector's length.
        discriminator: makes D from the number of labels.
        masked: the vector ends with the mask; by default when there is more than one
            group.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        generator: Callable[[int], nn.Module],
        discriminator: Callable[[int], nn.Module],
        *,
        masked: bool | None = None,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.masked = len(self.groups) > 1 if masked is None else masked
        labels = sum(group.size for group in self.groups)
        self.generator = generator(labels + len(self.groups) * self.masked)
        self.discriminator = discriminator(labels)

    def span(self, group: int) -> slice:
        """Where a group's labels stand in the vector, and in D's logits."""
        first = sum(g.size for g in self.groups[:group])
        return slice(first, first + self.groups[group].size)

    def vector(
        self, labels: Float[Tensor, "b c"], group: int = 0
    ) -> Float[Tensor, "b k"]:
        r"""Eq. 7: :math:`\tilde c = [c_1, \dots, c_n, m]`. What is unknown is 0; m says
        which group is known.

        Args:
            labels: of one group.
            group: which.
        """
        vector = labels.new_zeros(len(labels), sum(g.size for g in self.groups))
        vector[:, self.span(group)] = labels
        mask = (
            functional.one_hot(torch.tensor(group), len(self.groups))
            .to(labels)
            .expand(len(labels), -1)
        )
        return torch.cat([vector, mask], 1) if self.masked else vector

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        labels: Float[Tensor, "b c"],
        group: int = 0,
    ) -> Float[Tensor, "b 3 h w"]:
        """G(x, c): the images with ``labels`` of ``group``."""
        return self.generator(images, self.vector(labels, group))

    def classify_loss(
        self, logits: Tensor, labels: Tensor, group: int
    ) -> Float[Tensor, ""]:
        """Eq. 2 and 3: cross-entropy of the known group only; independent labels are
        summed."""
        logits = logits[:, self.span(group)]
        if self.groups[group].exclusive:
            return functional.cross_entropy(logits, labels)
        return functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="sum"
        ) / len(logits)


def generator_loss(
    nets: StarGAN,
    images: Float[Tensor, "b 3 h w"],
    labels: Float[Tensor, "b c"],
    targets: Float[Tensor, "b c"],
    *,
    group: int = 0,
    classify_weight: float = CLASSIFY_WEIGHT,
    reconstruct_weight: float = RECONSTRUCT_WEIGHT,
) -> dict[str, Tensor]:
    r"""What G minimises (Eq. 6): fool D, be classified as the target, and find the way
    back.

    Args:
        nets: both nets.
        images: real ones.
        labels: theirs.
        targets: where to go.
        group: which data set's labels these are.
        classify_weight: :math:`\lambda_{cls}`; 0 leaves the term out.
        reconstruct_weight: :math:`\lambda_{rec}`; 0 leaves the term out.

    Returns:
        The terms, already weighted, and ``loss``, their sum.
    """
    fakes = nets(images, targets, group)
    scores, logits = nets.discriminator(fakes)
    terms = {"fool": -scores.mean()}
    if classify_weight:
        terms["become"] = classify_weight * nets.classify_loss(logits, targets, group)
    if reconstruct_weight:
        # Twice the difference: the paper's images lie in [-1, 1].
        terms["return"] = (
            reconstruct_weight * 2 * (nets(fakes, labels, group) - images).abs().mean()
        )
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def discriminator_loss(
    nets: StarGAN,
    images: Float[Tensor, "b 3 h w"],
    labels: Float[Tensor, "b c"],
    fakes: Float[Tensor, "b 3 h w"],
    *,
    group: int = 0,
    classify_weight: float = CLASSIFY_WEIGHT,
    penalty_weight: float = PENALTY_WEIGHT,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    r"""What D minimises (Eq. 5 and 8): tell real from fake, with slope 1, and classify
    the real images.

    Args:
        nets: both nets.
        images: real ones.
        labels: theirs. Fakes are not classified here: D must not learn from what G
            makes of a label.
        fakes: translations without a gradient.
        group: which data set's labels these are.
        classify_weight: :math:`\lambda_{cls}`; 0 leaves the term out.
        penalty_weight: :math:`\lambda_{gp}`.
        generator: draws the points at which the slope is measured, on the CPU.

    Returns:
        The terms, already weighted, and ``loss``, their sum.
    """
    scores, logits = nets.discriminator(images)
    terms = {"tell": nets.discriminator(fakes)[0].mean() - scores.mean()}
    if classify_weight:
        terms["recognise"] = classify_weight * nets.classify_loss(logits, labels, group)
    # The slope is meant in the paper's units, [-1, 1].
    penalty = gradient_penalty(
        lambda x: nets.discriminator(x / 2 + 0.5)[0],
        2 * images - 1,
        2 * fakes - 1,
        generator=generator,
    )
    terms["penalty"] = penalty_weight * penalty
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def adversarial_step(
    nets: StarGAN,
    optimizers: Optimizers,
    *,
    generator: torch.Generator,
    critic_steps: int = CRITIC_STEPS,
    schedules: Schedules = (),
    classify_weight: float = CLASSIFY_WEIGHT,
    reconstruct_weight: float = RECONSTRUCT_WEIGHT,
) -> Callable[[Sequence[Batch]], dict[str, Tensor]]:
    """A round: ``critic_steps`` updates of D for one of G, on each data set in turn.

    Args:
        nets: both nets.
        optimizers: of G, of D.
        generator: draws target labels and the penalty's points, on the CPU.
        critic_steps: parts into which each batch is cut, one for each update of D; G
            learns on the last.
        schedules: stepped once a round.
        classify_weight: see ``generator_loss``.
        reconstruct_weight: see ``generator_loss``.

    Returns:
        A step for ``training.train`` on one batch ``{"images": x, "labels": c}`` for
        each group, in a tuple. It returns the terms of the last update, averaged over
        the groups.
    """
    for_generator, for_discriminator = optimizers
    tell = partial(
        discriminator_loss, nets, generator=generator, classify_weight=classify_weight
    )
    fool = partial(
        generator_loss,
        nets,
        classify_weight=classify_weight,
        reconstruct_weight=reconstruct_weight,
    )

    def step(batches: Sequence[Batch]) -> dict[str, Tensor]:
        told: dict[str, list[Tensor]] = {}
        for part in range(critic_steps):
            for group, batch in enumerate(batches):
                images, labels = (
                    batch[name].chunk(critic_steps)[part]
                    for name in ("images", "labels")
                )
                # A permutation of real labels: no combination that does not occur, and
                # the same frequencies.
                targets = labels[
                    torch.randperm(len(labels), generator=generator).to(labels.device)
                ]
                with torch.no_grad():
                    fakes = nets(images, targets, group)
                nets.discriminator.requires_grad_(True)
                terms = tell(images, labels, fakes, group=group)
                learn(for_discriminator, terms.pop("loss"))
                if part == critic_steps - 1:
                    nets.discriminator.requires_grad_(False)
                    terms |= fool(images, labels, targets, group=group)
                    learn(for_generator, terms.pop("loss"))
                    for name, value in terms.items():
                        told.setdefault(name, []).append(value.detach())
        for schedule in schedules:
            schedule.step()
        return {name: torch.stack(values).mean() for name, values in told.items()}

    return step


def tiny(
    groups: Sequence[Group] = (Group(5),),
    *,
    masked: bool | None = None,
    **overrides: Any,
) -> StarGAN:
    """The book's scale, for 32x32 images.

    Args:
        groups: see ``StarGAN``.
        masked: see ``StarGAN``.
        overrides: of the generator's arguments.
    """
    settings: dict[str, Any] = {
        "channels": 32,
        "blocks": 2,
        "halvings": 0,
        "unshuffle": 2,
        "kernel_size": 3,
    }
    discriminator = partial(
        Discriminator, size=32, channels=32, halvings=3, unshuffle=2
    )
    return StarGAN(
        groups,
        partial(Generator, **(settings | overrides)),
        discriminator,
        masked=masked,
    )


def paper(groups: Sequence[Group] = (CELEBA,), *, size: int = 128) -> StarGAN:
    """The paper's scale: 128x128 images and CelebA's five labels (with RaFD: ``(CELEBA,
    RAFD)``)."""
    return StarGAN(groups, Generator, partial(Discriminator, size=size))
