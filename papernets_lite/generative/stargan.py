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

Contract:
    Two nets play against each other, so that there are two losses, which take the nets,
    and a step of their own, on one batch for each data set.

Example:
    >>> import torch
    >>> from papernets_lite.generative import stargan
    >>> stargan.tiny()(torch.rand(2, 3, 32, 32), labels=torch.ones(2, 5)).shape
    torch.Size([2, 3, 32, 32])
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.generative.cyclegan import ResidualBlock, check_plan
from papernets_lite.layers.conv import Convolution, conv_norm_act
from papernets_lite.ops.checks import (
    at_least,
    check_inputs,
    check_keys,
    check_pictures,
    expect,
)
from papernets_lite.ops.losses import gradient_penalty
from papernets_lite.ops.updates import Optimizers, Schedules, update

CLASSIFY_WEIGHT, RECONSTRUCT_WEIGHT, PENALTY_WEIGHT = 1.0, 10.0, 10.0
CRITIC_STEPS = 5  # updates of the discriminator for each of the generator
Batch = Mapping[str, Tensor]  # one data set's "images" and "labels"
Images = Float[Tensor, "b 3 h w"]
Labels = Shaped[Tensor, "n c"]  # numbers or bools, of one group


class Group(NamedTuple):
    """The labels that one data set has: ``size`` numbers in [0, 1], of which exactly
    one is 1 if ``exclusive``."""

    size: int
    exclusive: bool = False


CELEBA = Group(5)  # black, blond, brown hair; male; young
RAFD = Group(8, exclusive=True)  # expressions


def normed(
    conv: Convolution, activation: Callable[[], nn.Module] | None = nn.ReLU
) -> list[nn.Module]:
    """A convolution, instance norm with weights of its own, and an activation.

    Args:
        conv: without a bias, which the norm would remove.
        activation: as ``conv_norm_act`` takes it.
    """
    return conv_norm_act(conv, partial(nn.InstanceNorm2d, affine=True), activation)


def residual(channels: int) -> ResidualBlock:
    """Two 3x3 convolutions around a shortcut. Zero padding and a norm with weights,
    unlike CycleGAN's."""
    first = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
    return ResidualBlock([*normed(first), *normed(second, activation=None)])


class Generator(nn.Module):
    """G(x, c): the label vector becomes constant planes beside the image's channels.

    Borders are padded with zeros. After a reflected border a constant plane stays
    constant through the first convolution, and instance norm removes it: the generator
    would not see its labels.

    Args:
        num_labels: length of the label vector, mask included.
        kernel_size: of the first and last layer; odd.
        unshuffle: side of the pixel blocks that become channels before the first layer,
            and pixels after the last.
        channels: of the first layer; each halving of the size doubles them.
        halvings: strided convolutions down, as many transposed ones up.
        blocks: residual blocks at the smallest size.

    Raises:
        ValueError: for numbers of which no net can be built.
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
        at_least(1, num_labels=num_labels)
        check_plan(channels, blocks, kernel_size, halvings, unshuffle)
        self.num_labels = num_labels
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2**halvings
        pixels = 3 * unshuffle**2
        pad = kernel_size // 2

        first = nn.Conv2d(
            pixels + num_labels, channels, kernel_size, 1, pad, bias=False
        )
        layers = normed(first)
        for _ in range(halvings):
            layers += normed(nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False))
            channels *= 2
        for _ in range(blocks):
            layers.append(residual(channels))
        for _ in range(halvings):
            wider = nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False)
            layers += normed(wider)
            channels //= 2
        last = nn.Conv2d(channels, pixels, kernel_size, 1, pad, bias=False)
        self.net = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, images: Images, vector: Shaped[Tensor, "n k"]) -> Images:
        """Translate images in [0, 1] to where ``vector`` says.

        Raises:
            ValueError: for no images, sides that the halvings do not divide, or other
                than one vector of ``num_labels`` for each image.
        """
        check_inputs(images, self, least=2 * self.multiple, multiple=self.multiple)
        expected = (len(images), self.num_labels)
        expect(vector.shape == expected, f"a vector of {expected}", vector.shape)
        pixels = functional.pixel_unshuffle(2 * images - 1, self.unshuffle)
        planes = vector.to(pixels)[:, :, None, None].expand(-1, -1, *pixels.shape[2:])
        made = self.net(torch.cat([pixels, planes], 1))
        return functional.pixel_shuffle(made, self.unshuffle) / 2 + 0.5


class Discriminator(nn.Module):
    """Two heads on one trunk: a map of scores (is this patch real?) and the labels'
    logits. No norm anywhere.

    Args:
        num_labels: of all groups together, without the mask.
        size: side of the images; what is left of it after the halvings is the kernel
            that reads the labels.
        channels: of the first layer; they double with every halving.
        halvings: strided 4x4 convolutions.
        unshuffle: side of the pixel blocks that become channels before the first layer.

    Raises:
        ValueError: for a size that is no multiple of ``unshuffle * 2**halvings``, or
            other numbers of which no net can be built.
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
        at_least(1, num_labels=num_labels, channels=channels, unshuffle=unshuffle)
        at_least(1, halvings=halvings, size=size)
        multiple = unshuffle * 2**halvings
        expect(size % multiple == 0, f"a size that is a multiple of {multiple}", size)
        self.size = size

        before = 3 * unshuffle**2
        layers: list[nn.Module] = []
        for level in range(halvings):
            after = channels * 2**level
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.01)]
            before = after
        self.trunk = nn.Sequential(nn.PixelUnshuffle(unshuffle), *layers)
        self.source = nn.Conv2d(before, 1, 3, 1, 1, bias=False)
        self.label = nn.Conv2d(before, num_labels, size // multiple, bias=False)

    def forward(
        self, images: Images
    ) -> tuple[Float[Tensor, "b 1 k l"], Float[Tensor, "b c"]]:
        """Scores (higher for real) and label logits of images in [0, 1].

        Raises:
            ValueError: for no images, or another size than the labels' kernel was made
                for.
        """
        check_inputs(images, self)
        side = self.size
        expect(
            images.shape[2:] == (side, side), f"images of {side} x {side}", images.shape
        )
        features = self.trunk(2 * images - 1)
        return self.source(features), self.label(features).flatten(1)


class StarGAN(nn.Module):
    """The two nets, and what their label vectors mean.

    Args:
        groups: the labels of each data set, in the order in which they stand in the
            vector.
        masked: the vector ends with the mask; by default when there is more than one
            group.
        signed: known labels are written -1 and 1, so that 0 always means unknown: a
            rival of the mask.
        size: side of the images that D judges.
        unshuffle: of both nets: side of the pixel blocks that become channels.
        judge_channels: ``channels`` of D.
        judge_halvings: ``halvings`` of D.
        settings: of G, see ``Generator``.

    Raises:
        ValueError: for no groups, groups without labels, or numbers of which no net can
            be built.
    """

    def __init__(
        self,
        *,
        groups: Sequence[Group] = (CELEBA,),
        masked: bool | None = None,
        signed: bool = False,
        size: int = 128,
        unshuffle: int = 1,
        judge_channels: int = 64,
        judge_halvings: int = 6,
        **settings: int,
    ) -> None:
        super().__init__()
        self.groups = tuple(groups)
        sizes = [group.size for group in self.groups]
        expect(sizes and min(sizes) >= 1, "groups of at least one label", self.groups)
        self.masked = len(sizes) > 1 if masked is None else masked
        self.signed = signed
        self.num_labels = sum(sizes)
        told = self.num_labels + (len(sizes) if self.masked else 0)
        self.generator = Generator(told, unshuffle=unshuffle, **settings)
        judge = {"channels": judge_channels, "halvings": judge_halvings}
        judge |= {"size": size, "unshuffle": unshuffle}
        self.discriminator = Discriminator(self.num_labels, **judge)

    def span(self, group: int) -> slice:
        """Where a group's labels stand in the vector, and in D's logits.

        Raises:
            ValueError: for a group that is not there.
        """
        count = len(self.groups)
        expect(0 <= group < count, f"a group from 0 to {count - 1}", group)
        first = sum(g.size for g in self.groups[:group])
        return slice(first, first + self.groups[group].size)

    def vector(self, labels: Labels, group: int = 0) -> Shaped[Tensor, "n k"]:
        r"""Eq. 7: :math:`\tilde c = [c_1, \dots, c_n, m]`. What is unknown is 0; m says
        which group is known.

        Args:
            labels: of one group, in [0, 1].
            group: which.

        Raises:
            ValueError: for other labels than the group has.
        """
        span, size = self.span(group), self.groups[group].size
        expect(labels.shape[1:] == (size,), f"{size} labels an image", labels.shape)
        known = 2 * labels.float() - 1 if self.signed else labels
        vector = known.new_zeros(len(labels), self.generator.num_labels)
        vector[:, span] = known
        if self.masked:
            vector[:, self.num_labels + group] = 1
        return vector

    def forward(self, images: Images, labels: Labels, group: int = 0) -> Images:
        """G(x, c): the images with ``labels`` of ``group``."""
        return self.generator(images, self.vector(labels, group))

    def classify_loss(
        self, logits: Float[Tensor, "b k"], labels: Labels, group: int
    ) -> Float[Tensor, ""]:
        """Eq. 2 and 3: cross-entropy of the known group only; independent labels are
        summed.

        Args:
            logits: D's, of all groups.
            labels: of one group, one row for each row of logits.
            group: which.

        Raises:
            ValueError: for other labels than the group has, or another number of rows.
        """
        logits = logits[:, self.span(group)]
        shape = tuple(logits.shape)
        expect(len(logits) and labels.shape == shape, f"labels {shape}", labels.shape)
        labels = labels.to(logits)
        if self.groups[group].exclusive:
            return functional.cross_entropy(logits, labels)
        each = functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="sum"
        )
        return each / len(logits)


def generator_loss(
    nets: StarGAN,
    batch: Batch,
    targets: Labels,
    *,
    group: int = 0,
    fakes: Images | None = None,
    classify_weight: float = CLASSIFY_WEIGHT,
    reconstruct_weight: float = RECONSTRUCT_WEIGHT,
) -> dict[str, Tensor]:
    r"""What G minimises (Eq. 6): fool D, be classified as the target, and find the way
    back (twice the difference: the paper's images lie in [-1, 1]).

    Args:
        nets: both nets.
        batch: real ``images`` in [0, 1], and their ``labels``.
        targets: where to go: labels as the images have.
        group: which data set's labels these are.
        fakes: G's translations, with their gradient, where they are there already.
        classify_weight: :math:`\lambda_{cls}`; 0 leaves the term out.
        reconstruct_weight: :math:`\lambda_{rec}`; 0 leaves the term out.

    Returns:
        The terms, already weighted, and ``loss``, their sum.
    """
    check_keys(batch, "images", "labels")
    images, labels = batch["images"], batch["labels"]
    fakes = nets(images, targets, group) if fakes is None else fakes
    scores, logits = nets.discriminator(fakes)
    terms = {"fool": -scores.mean()}
    if classify_weight:
        terms["become"] = classify_weight * nets.classify_loss(logits, targets, group)
    if reconstruct_weight:
        error = (nets(fakes, labels, group) - images).abs().mean()
        terms["return"] = reconstruct_weight * 2 * error
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def discriminator_loss(
    nets: StarGAN,
    batch: Batch,
    fakes: Images,
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
        batch: real ``images`` in [0, 1], and their ``labels``. Fakes are not classified
            here: D must not learn from what G makes of a label.
        fakes: translations, as many; no gradient goes back to what made them.
        group: which data set's labels these are.
        classify_weight: :math:`\lambda_{cls}`; 0 leaves the term out.
        penalty_weight: :math:`\lambda_{gp}`.
        generator: draws the points at which the slope is measured, on the CPU.

    Returns:
        The terms, already weighted, and ``loss``, their sum.
    """
    check_keys(batch, "images", "labels")
    images, labels = batch["images"], batch["labels"]
    scores, logits = nets.discriminator(images)
    fakes = fakes.detach()
    terms = {"tell": nets.discriminator(fakes)[0].mean() - scores.mean()}
    if classify_weight:
        terms["recognise"] = classify_weight * nets.classify_loss(logits, labels, group)
    slope = slope_penalty(nets.discriminator, images, fakes, generator)
    terms["penalty"] = penalty_weight * slope
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def slope_penalty(
    discriminator: nn.Module,
    images: Images,
    fakes: Images,
    generator: torch.Generator | None,
) -> Float[Tensor, ""]:
    """The gradient penalty on D's scores, its slope measured in the paper's units:
    pixels in [-1, 1].

    Args:
        discriminator: gives scores and logits of images in [0, 1].
        images: real ones.
        fakes: as many.
        generator: draws the points, on the CPU.
    """
    return gradient_penalty(
        lambda x: discriminator(x / 2 + 0.5)[0],
        2 * images - 1,
        2 * fakes - 1,
        generator=generator,
    )


def permuted(labels: Labels, generator: torch.Generator) -> Labels:
    """Target labels: those of the batch in another order, so that no combination
    occurs that the data do not have, and each as often."""
    order = torch.randperm(len(labels), generator=generator)
    return labels[order.to(labels.device)]


def check_batch(batch: Batch, group: Group, parts: int) -> None:
    """One data set's batch is what a round needs.

    Args:
        batch: ``images`` and ``labels``.
        group: what the labels should be.
        parts: into which the batch is cut.

    Raises:
        ValueError: for fewer images than parts, images far outside [0, 1], labels
            outside [0, 1], or exclusive ones that do not sum to 1.
    """
    check_keys(batch, "images", "labels")
    images, labels = batch["images"], batch["labels"]
    expect(len(images) >= parts, f"at least {parts} images, one a part", images.shape)
    check_pictures(images, "images")
    expected = (len(images), group.size)
    expect(labels.shape == expected, f"labels of {expected}", labels.shape)
    low, high = labels.min().item(), labels.max().item()
    expect(low >= 0 and high <= 1, "labels in [0, 1]", low, high)
    if group.exclusive:
        sums = labels.sum(1)
        one = torch.allclose(sums.float(), torch.ones_like(sums).float(), atol=1e-3)
        expect(one, "exclusive labels with a sum of 1", sums.tolist())


def turn(
    nets: StarGAN,
    optimizers: Optimizers,
    batch: Batch,
    *,
    group: int,
    generator: torch.Generator,
    last: bool,
    classify_weight: float = CLASSIFY_WEIGHT,
    reconstruct_weight: float = RECONSTRUCT_WEIGHT,
) -> dict[str, Tensor]:
    """One data set's turn: an update of D and, if it is the last, one of G.

    Args:
        nets: both nets.
        optimizers: of G, of D.
        batch: ``images`` and ``labels``.
        group: which data set's labels these are.
        generator: draws target labels and the penalty's points, on the CPU.
        last: whether G learns, too.
        classify_weight: see ``generator_loss``.
        reconstruct_weight: see ``generator_loss``.

    Returns:
        The terms of both losses.
    """
    weights = {"classify_weight": classify_weight, "group": group}
    targets = permuted(batch["labels"], generator)
    fakes = nets(batch["images"], targets, group)
    nets.discriminator.requires_grad_(True)
    terms = discriminator_loss(nets, batch, fakes, generator=generator, **weights)  # type: ignore[arg-type]
    update(optimizers[1], terms.pop("loss"))
    if last:
        nets.discriminator.requires_grad_(False)
        weights |= {"reconstruct_weight": reconstruct_weight, "fakes": fakes}
        fooling = generator_loss(nets, batch, targets, **weights)  # type: ignore[arg-type]
        update(optimizers[0], fooling.pop("loss"))
        terms |= fooling
    return terms


def adversarial_step(
    nets: StarGAN,
    optimizers: Optimizers,
    *,
    generator: torch.Generator,
    critic_steps: int = CRITIC_STEPS,
    schedules: Schedules = (),
    **weights: Any,
) -> Callable[[Sequence[Batch]], dict[str, Tensor]]:
    """A round: ``critic_steps`` updates of D for one of G, on each data set in turn.

    Args:
        nets: both nets.
        optimizers: of G, of D.
        generator: draws target labels and the penalty's points, on the CPU.
        critic_steps: parts into which each batch is cut, one for each update of D; G
            learns on the last. The first parts have an image more where the batch is no
            multiple.
        schedules: stepped once a round.
        weights: ``classify_weight`` and ``reconstruct_weight``, see ``generator_loss``.

    Returns:
        A step for ``training.train`` on one batch ``{"images": x, "labels": c}`` for
        each group, in a tuple. It returns the terms of the last update, averaged over
        the groups.

    Raises:
        ValueError: for fewer than one critic step; in the step, for a batch that
            ``check_batch`` refuses.
    """
    at_least(1, critic_steps=critic_steps)

    def step(batches: Sequence[Batch]) -> dict[str, Tensor]:
        count = len(nets.groups)
        whole = isinstance(batches, Sequence) and len(batches) == count
        expect(whole, f"a tuple of {count} batches", type(batches), len(batches))
        for batch, meant in zip(batches, nets.groups, strict=True):
            check_batch(batch, meant, critic_steps)
        told: dict[str, list[Tensor]] = {}
        for number in range(critic_steps):
            last = number == critic_steps - 1
            for group, batch in enumerate(batches):
                part = {
                    name: batch[name].tensor_split(critic_steps)[number]
                    for name in ("images", "labels")
                }
                chosen = {"group": group, "last": last, "generator": generator}
                terms = turn(nets, optimizers, part, **chosen, **weights)  # type: ignore[arg-type]
                if last:
                    for name, value in terms.items():
                        told.setdefault(name, []).append(value.detach())
        for schedule in schedules:
            schedule.step()
        return {name: torch.stack(values).mean() for name, values in told.items()}

    return step


def tiny(**overrides: Any) -> StarGAN:
    """The book's scale, for 32x32 images.

    Args:
        overrides: of ``StarGAN``'s arguments.
    """
    settings: dict[str, Any] = {
        "groups": (Group(5),),
        "size": 32,
        "channels": 32,
        "blocks": 2,
        "halvings": 0,
        "unshuffle": 2,
        "kernel_size": 3,
        "judge_channels": 32,
        "judge_halvings": 3,
    }
    return StarGAN(**(settings | overrides))


def paper(**overrides: Any) -> StarGAN:
    """The paper's scale: 128x128 images and CelebA's five labels (with RaFD:
    ``groups=(CELEBA, RAFD)``).

    Args:
        overrides: of ``StarGAN``'s arguments.
    """
    return StarGAN(**overrides)
