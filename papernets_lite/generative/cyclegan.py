"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros. ICCV 2017, arXiv 1703.10593.
Official code: junyanz/pytorch-CycleGAN-and-pix2pix.

Idea: two translators, X to Y and Y to X, learn from unpaired images: each must fool a
discriminator of its target domain, and a round trip must come back to where it started.

Differs:
    1. ``tiny`` works on 32x32 images: blocks of 4x4 pixels become channels (which a CPU
       likes) instead of two strided convolutions, two residual blocks instead of
       nine, and a PatchGAN with two halvings instead of three.
    2. The learning rate falls step by step in the second half of training, not epoch by
       epoch.
    3. Losses compare images in [0, 1]; the released code's lie in [-1, 1], which
       doubles the L1 terms.

Guessed:
    Nothing that matters: paper and released code agree, and the code fixes what the
    paper leaves out.

Contract:
    Four nets play two games, so that there are two losses, which take the nets, and a
    step of their own. A batch is a pair: one of domain X, one of domain Y.

Example:
    >>> import torch
    >>> from papernets_lite.generative import cyclegan
    >>> cyclegan.tiny(blocks=1)(x=torch.rand(2, 3, 32, 32))["y"].shape
    torch.Size([2, 3, 32, 32])
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papernets_lite.layers.conv import conv_norm_act
from papernets_lite.layers.init import normal_init_
from papernets_lite.ops.checks import (
    at_least,
    check_inputs,
    check_keys,
    check_pictures,
    expect,
)
from papernets_lite.ops.losses import l1, lsgan
from papernets_lite.ops.updates import Optimizers, Schedules, update

# the second is relative to the first
CYCLE_WEIGHTS, IDENTITY_WEIGHT = (10.0, 10.0), 0.5
BUFFER_SIZE = 50
# translations by the domain they imitate: "y" holds G(x), "x" holds F(y)
Fakes = dict[str, Tensor]
Maps = Float[Tensor, "b c h w"]  # images in [0, 1], or what a net makes of them
Batch = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]  # "images" of X, and of Y


class ResidualBlock(nn.Module):
    """Layers around a shortcut; nothing after the sum.

    Args:
        layers: their output has the shape of their input.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, features: Maps) -> Maps:
        """The features plus a change to them."""
        return features + self.body(features)


def residual(channels: int) -> ResidualBlock:
    """R256 and its like: two 3x3 convolutions with reflected borders and instance norm.

    The norm has no weights, so biases are kept, here and everywhere, as released.
    """
    first = nn.Conv2d(channels, channels, 3)
    second = nn.Conv2d(channels, channels, 3)
    return ResidualBlock(
        [
            nn.ReflectionPad2d(1),
            *conv_norm_act(first, nn.InstanceNorm2d),
            nn.ReflectionPad2d(1),
            *conv_norm_act(second, nn.InstanceNorm2d, activation=None),
        ]
    )


def wide(in_channels: int, channels: int, kernel_size: int) -> list[nn.Module]:
    """c7s1 without its norm: reflected borders and a convolution, which is a
    generator's first or last layer.

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel_size: odd.
    """
    pad = nn.ReflectionPad2d(kernel_size // 2)
    return [pad, nn.Conv2d(in_channels, channels, kernel_size)]


def down(
    in_channels: int, channels: int, halvings: int, kernel_size: int
) -> list[nn.Module]:
    """c7s1-64, d128, d256: a wide convolution, then strided ones that double the
    channels.

    Args:
        in_channels: of the input.
        channels: after the first layer.
        halvings: strided convolutions.
        kernel_size: of the first layer.
    """
    layers = wide(in_channels, channels, kernel_size)
    layers += [nn.InstanceNorm2d(channels), nn.ReLU()]
    for _ in range(halvings):
        conv = nn.Conv2d(channels, 2 * channels, 3, 2, 1)
        layers += conv_norm_act(conv, nn.InstanceNorm2d)
        channels *= 2
    return layers


def up(channels: int, halvings: int) -> list[nn.Module]:
    """u128, u64: transposed convolutions that halve the channels.

    Args:
        channels: of the result; the input has them doubled with every halving.
        halvings: transposed convolutions.
    """
    layers: list[nn.Module] = []
    for level in reversed(range(halvings)):
        after = channels * 2**level
        conv = nn.ConvTranspose2d(2 * after, after, 3, 2, 1, output_padding=1)
        layers += conv_norm_act(conv, nn.InstanceNorm2d)
    return layers


def least_side(multiple: int, kernel_size: int, unshuffle: int = 1) -> int:
    """The shortest side that such a generator takes: borders can be reflected at the
    full size, and what is left at the smallest has a deviation.

    Args:
        multiple: pixels that become one at the smallest size.
        kernel_size: of the first layer.
        unshuffle: side of the pixel blocks that the first layer sees.
    """
    return max(2 * multiple, unshuffle * (kernel_size // 2 + 1))


def check_plan(
    channels: int, blocks: int, kernel_size: int, halvings: int = 0, unshuffle: int = 1
) -> None:
    """A generator can be built of these numbers.

    Args:
        channels: of its first layer, at least 1.
        blocks: residual blocks, at least 0.
        kernel_size: of its first and last layer; odd.
        halvings: of its sides, at least 0.
        unshuffle: side of the pixel blocks that become channels, at least 1.

    Raises:
        ValueError: naming the first of which none can be built.
    """
    at_least(1, channels=channels, unshuffle=unshuffle, kernel_size=kernel_size)
    at_least(0, blocks=blocks, halvings=halvings)
    expect(kernel_size % 2, "an odd kernel_size", kernel_size)


class Generator(nn.Module):
    """The translator: down, residual blocks, up (c7s1-64, d128, d256, R256 x n, u128,
    u64, c7s1-3).

    Args:
        channels: of the first layer; they double with every halving of the size.
        blocks: residual blocks at the smallest size; the paper takes 9 for 256x256
            images, 6 for 128x128.
        halvings: strided convolutions on the way down, transposed ones on the way up.
        unshuffle: side of the pixel blocks that become channels before the first layer,
            and pixels after the last.
        kernel_size: of the first and last layer; odd.

    Raises:
        ValueError: for numbers of which no net can be built.
    """

    def __init__(
        self,
        *,
        channels: int = 64,
        blocks: int = 9,
        halvings: int = 2,
        unshuffle: int = 1,
        kernel_size: int = 7,
    ) -> None:
        super().__init__()
        check_plan(channels, blocks, kernel_size, halvings, unshuffle)
        self.multiple = unshuffle * 2**halvings
        self.least = least_side(self.multiple, kernel_size, unshuffle)
        pixels = 3 * unshuffle**2

        layers = down(pixels, channels, halvings, kernel_size)
        for _ in range(blocks):
            layers.append(residual(channels * 2**halvings))
        layers += up(channels, halvings)
        layers += wide(channels, pixels, kernel_size)
        if unshuffle > 1:
            layers = [nn.PixelUnshuffle(unshuffle), *layers, nn.PixelShuffle(unshuffle)]
        self.net = nn.Sequential(*layers, nn.Tanh())

    def forward(self, images: Maps) -> Maps:
        """Translate images in [0, 1] into images in [0, 1]; the net itself works on
        [-1, 1].

        Raises:
            ValueError: for no images, images too small for the net, sides that the
                halvings do not divide, or another type than the weights have.
        """
        check_inputs(images, self, least=self.least, multiple=self.multiple)
        return self.net(2 * images - 1) / 2 + 0.5


class PatchDiscriminator(nn.Module):
    """PatchGAN: one score for every overlapping patch (C64-C128-C256-C512: patches of
    70x70 pixels).

    Args:
        channels: of the first layer, which has no norm.
        halvings: strided 4x4 convolutions; each but the first doubles the channels.
            Then come one 4x4 of stride 1 that doubles them again, and the scores.

    Raises:
        ValueError: for fewer than one of either.
    """

    def __init__(self, *, channels: int = 64, halvings: int = 3) -> None:
        super().__init__()
        at_least(1, channels=channels, halvings=halvings)
        # The two layers of stride 1 take a pixel each, and one must be left.
        self.least = 3 * 2**halvings
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for stride in [2] * (halvings - 1) + [1]:
            layers.append(nn.Conv2d(channels, 2 * channels, 4, stride, 1))
            layers.append(nn.InstanceNorm2d(2 * channels))
            layers.append(nn.LeakyReLU(0.2))
            channels *= 2
        self.net = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, images: Maps) -> Float[Tensor, "b 1 k l"]:
        """Scores of the patches of images in [0, 1]: towards 1 for real, towards 0 for
        translated.

        Raises:
            ValueError: for no images, smaller ones than a score needs, or another type
                than the weights have.
        """
        check_inputs(images, self, least=self.least)
        return self.net(2 * images - 1)


class CycleGAN(nn.Module):
    """The four nets: G is ``generator_xy``, F is ``generator_yx``; D_X and D_Y are
    named after what they judge.

    Args:
        judge_channels: ``channels`` of the discriminators.
        judge_halvings: ``halvings`` of the discriminators.
        settings: of the generators, see ``Generator``.
    """

    def __init__(
        self, *, judge_channels: int = 64, judge_halvings: int = 3, **settings: int
    ) -> None:
        super().__init__()
        judge = {"channels": judge_channels, "halvings": judge_halvings}
        self.generator_xy = Generator(**settings)
        self.generator_yx = Generator(**settings)
        self.discriminator_x = PatchDiscriminator(**judge)
        self.discriminator_y = PatchDiscriminator(**judge)
        normal_init_(self, 0.02)

    def generators(self) -> list[nn.Parameter]:
        """What the generators' optimiser updates."""
        return [*self.generator_xy.parameters(), *self.generator_yx.parameters()]

    def discriminators(self) -> list[nn.Parameter]:
        """What the discriminators' optimiser updates."""
        return [*self.discriminator_x.parameters(), *self.discriminator_y.parameters()]

    def forward(
        self, x: Maps | None = None, y: Float[Tensor, "n c k l"] | None = None
    ) -> Fakes:
        """The translations of what is given: ``y`` holds G(x), ``x`` holds F(y).

        Args:
            x: images of domain X, in [0, 1].
            y: images of domain Y; their number and size have nothing to do with x's.
        """
        fakes = {}
        if x is not None:
            fakes["y"] = self.generator_xy(x)
        if y is not None:
            fakes["x"] = self.generator_yx(y)
        return fakes


class Buffer:
    """A history of fakes, so that a discriminator does not forget what it has already
    learnt to tell.

    Until it is full, it stores and returns what comes. Afterwards each image is, with
    probability 1/2, swapped for a random stored one.

    Args:
        size: images it holds; 0 returns everything as it comes.
        generator: decides, on the CPU.

    Raises:
        ValueError: for a negative size.
    """

    def __init__(self, size: int = BUFFER_SIZE, *, generator: torch.Generator) -> None:
        expect(size >= 0, "size >= 0", size)
        self.size = size
        self.generator = generator
        self.images: list[Tensor] = []

    def __call__(self, images: Maps) -> Maps:
        """As many images as came, some of them older, none with a gradient.

        Raises:
            ValueError: for no images, or others than are stored.
        """
        expect(len(images) > 0, "at least one image", images.shape)
        stored = self.images[0].shape if self.images else images.shape[1:]
        expect(images.shape[1:] == stored, f"images of {tuple(stored)}", images.shape)
        out = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image)
            elif self.size and torch.rand((), generator=self.generator) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.generator))
                older = self.images[place]
                self.images[place] = image
                image = older
            out.append(image)
        return torch.stack(out)

    def state_dict(self) -> dict[str, Any]:
        """The stored images and the generator's state."""
        return {"images": list(self.images), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken.

        Raises:
            ValueError: when more images were stored than this buffer holds.
        """
        count = len(state["images"])
        expect(count <= self.size, f"at most {self.size} stored images", count)
        self.images = list(state["images"])
        self.generator.set_state(state["generator"])


def domains(batch: Batch) -> tuple[Tensor, Tensor]:
    """The images of X and of Y.

    Args:
        batch: ``images`` of X, and of Y.

    Raises:
        ValueError: for another batch.
    """
    expect(len(batch) == 2, "a batch of X and one of Y", len(batch))
    for one in batch:
        check_keys(one, "images")
    return batch[0]["images"], batch[1]["images"]


def cycle_loss(
    nets: CycleGAN,
    batch: Batch,
    fakes: Fakes,
    weights: tuple[float, float] = CYCLE_WEIGHTS,
) -> dict[str, Tensor]:
    """Whether a round trip comes back, in both directions (Eq. 2).

    Args:
        nets: the four nets.
        batch: ``images`` of X, and of Y.
        fakes: ``nets(x, y)``, the first halves of the trips.
        weights: of the trip that starts from X and of the one that starts from Y; 0
            leaves out.

    Returns:
        ``cycle_x`` and ``cycle_y``, weighted.

    Raises:
        ValueError: for a trip whose first half is missing, or fakes of other images.
    """
    x, y = domains(batch)
    needed = {name for name, weight in zip("yx", weights, strict=True) if weight}
    expect(
        needed <= fakes.keys(), f"the fakes that {weights} start from", sorted(fakes)
    )
    terms = {}
    if weights[0]:
        terms["cycle_x"] = weights[0] * l1(nets.generator_yx(fakes["y"]), x)
    if weights[1]:
        terms["cycle_y"] = weights[1] * l1(nets.generator_xy(fakes["x"]), y)
    return terms


def generator_loss(
    nets: CycleGAN,
    batch: Batch,
    fakes: Fakes,
    *,
    cycle_weights: tuple[float, float] = CYCLE_WEIGHTS,
    identity_weight: float = IDENTITY_WEIGHT,
) -> dict[str, Tensor]:
    r"""What G and F minimise (Eq. 3 and Section 5.2): adversarial, cycle and identity
    terms.

    Args:
        nets: the four nets.
        batch: ``images`` of X, and of Y; nothing pairs the two.
        fakes: ``nets(x, y)``. Where one is missing, that half of the game is not
            played.
        cycle_weights: :math:`\lambda` of :math:`\|F(G(x)) - x\|_1` and of
            :math:`\|G(F(y)) - y\|_1`; 0 leaves out.
        identity_weight: of :math:`\|G(y) - y\|_1` and :math:`\|F(x) - x\|_1`, times the
            cycle weight of y and of x.

    Returns:
        The terms, already weighted, and ``loss``, their sum.

    Raises:
        ValueError: without fakes, for a cycle whose first half is missing, or for fakes
            of other images.
    """
    expect(fakes, "the fakes of a domain or two", sorted(fakes))
    x, y = domains(batch)
    terms = cycle_loss(nets, batch, fakes, cycle_weights)
    if "y" in fakes:
        terms["fool_y"] = lsgan(nets.discriminator_y(fakes["y"]), 1.0)
    if "x" in fakes:
        terms["fool_x"] = lsgan(nets.discriminator_x(fakes["x"]), 1.0)
    for_x, for_y = (identity_weight * weight for weight in cycle_weights)
    if for_y:
        terms["identity_y"] = for_y * l1(nets.generator_xy(y), y)
    if for_x:
        terms["identity_x"] = for_x * l1(nets.generator_yx(x), x)
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def discriminator_loss(nets: CycleGAN, batch: Batch, fakes: Fakes) -> dict[str, Tensor]:
    r"""What D_X and D_Y minimise: :math:`\frac12 [E (D(\text{real}) - 1)^2 + E
    D(\text{fake})^2]`, each.

    The half slows the discriminators down, relative to the generators.

    Args:
        nets: the four nets.
        batch: real ``images`` of X, and of Y.
        fakes: translations without a gradient, by the domain they imitate.

    Returns:
        ``tell_x``, ``tell_y`` as far as there are fakes, and ``loss``, their sum.

    Raises:
        ValueError: without fakes.
    """
    known = fakes and fakes.keys() <= {"x", "y"}
    expect(known, "fakes of the domains 'x', 'y' or both", sorted(fakes))
    x, y = domains(batch)
    terms = {}
    if "x" in fakes:
        real = lsgan(nets.discriminator_x(x), 1.0)
        fake = lsgan(nets.discriminator_x(fakes["x"]), 0.0)
        terms["tell_x"] = 0.5 * (real + fake)
    if "y" in fakes:
        real = lsgan(nets.discriminator_y(y), 1.0)
        fake = lsgan(nets.discriminator_y(fakes["y"]), 0.0)
        terms["tell_y"] = 0.5 * (real + fake)
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def play(
    nets: CycleGAN,
    optimizers: Optimizers,
    batch: Batch,
    buffers: Mapping[str, Buffer],
    sources: Collection[str],
    **weights: Any,
) -> dict[str, Tensor]:
    """One move of either side: first both generators, with the discriminators frozen,
    then both discriminators, on buffered fakes.

    Args:
        nets: the four nets.
        optimizers: of the generators, of the discriminators.
        batch: ``images`` of X, and of Y.
        buffers: ``x`` and ``y``, by the domain that their fakes imitate.
        sources: the domains that are translated.
        weights: of ``generator_loss``.

    Returns:
        The terms of both losses, and the generators' ``loss``.
    """
    x, y = domains(batch)
    given = {"x": x, "y": y}
    judges = nn.ModuleList([nets.discriminator_x, nets.discriminator_y])
    judges.requires_grad_(False)
    fakes = nets(**{name: given[name] for name in sources})
    fooling = generator_loss(nets, batch, fakes, **weights)
    update(optimizers[0], fooling["loss"])

    judges.requires_grad_(True)
    shown = {name: buffers[name](fake) for name, fake in fakes.items()}
    telling = discriminator_loss(nets, batch, shown)
    update(optimizers[1], telling.pop("loss"))
    return fooling | telling


def adversarial_step(
    nets: CycleGAN,
    optimizers: Optimizers,
    *,
    buffers: Mapping[str, Buffer],
    sources: Collection[str] = ("x", "y"),
    schedules: Schedules = (),
    cycle_weights: tuple[float, float] = CYCLE_WEIGHTS,
    identity_weight: float = IDENTITY_WEIGHT,
) -> Callable[[Batch], dict[str, Tensor]]:
    """A step that plays one move and moves the learning rates, see ``play``.

    Args:
        nets: the four nets.
        optimizers: of the generators, of the discriminators.
        buffers: ``x`` and ``y``, by the domain that their fakes imitate.
        sources: the domains that are translated; ``("x",)`` leaves out the half that
            starts from Y.
        schedules: stepped once a step.
        cycle_weights: see ``generator_loss``.
        identity_weight: see ``generator_loss``.

    Returns:
        A step for ``training.train`` on batches ``({"images": x}, {"images": y})``,
        images in [0, 1].

    Raises:
        ValueError: for sources that are no domains, or a domain without a buffer; in
            the step, for images far outside [0, 1].
    """
    some = len(sources) > 0 and set(sources) <= {"x", "y"}
    expect(some, "sources out of 'x' and 'y'", sources)
    expect({"x", "y"} <= buffers.keys(), "buffers 'x' and 'y'", sorted(buffers))
    weights = {"cycle_weights": cycle_weights, "identity_weight": identity_weight}

    def step(batch: Batch) -> dict[str, Tensor]:
        for images in domains(batch):
            check_pictures(images, "images")
        told = play(nets, optimizers, batch, buffers, sources, **weights)
        for schedule in schedules:
            schedule.step()
        return told

    return step


def tiny(**overrides: Any) -> CycleGAN:
    """The book's scale, for 32x32 images.

    Args:
        overrides: of ``CycleGAN``'s arguments.
    """
    settings = {
        "channels": 48,
        "blocks": 2,
        "halvings": 0,
        "unshuffle": 4,
        "kernel_size": 3,
        "judge_channels": 24,
        "judge_halvings": 2,
    }
    return CycleGAN(**(settings | overrides))


def paper(**overrides: Any) -> CycleGAN:
    """The paper's scale: 256x256 images with nine residual blocks (128x128 with
    ``blocks=6``).

    Args:
        overrides: of ``CycleGAN``'s arguments.
    """
    return CycleGAN(**overrides)
