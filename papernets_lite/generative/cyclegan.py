"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros. ICCV 2017, arXiv 1703.10593.
Official code: junyanz/pytorch-CycleGAN-and-pix2pix.

Idea: two translators, X to Y and Y to X, learn from unpaired images: each must fool a
discriminator of its target domain, and a round trip must come back to where it started.

Differs:
    1. ``tiny`` works on 32x32 images: blocks of 4x4 pixels become channels (which a CPU
       likes) instead of two strided convolutions, three residual blocks instead of
       nine, and a PatchGAN with two halvings instead of three.
    2. The learning rate falls step by step in the second half of training, not epoch by
       epoch.
    3. Losses compare images in [0, 1]; the released code's lie in [-1, 1], which
       doubles the L1 terms.

Guessed:
    Nothing that matters: paper and released code agree, and the code fixes what the
    paper leaves out.
"""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papernets_lite.layers.init import normal_init_
from papernets_lite.ops.checks import expect

# the second is relative to the first
CYCLE_WEIGHTS, IDENTITY_WEIGHT = (10.0, 10.0), 0.5
BUFFER_SIZE = 50
# translations by the domain they imitate: "y" holds G(x), "x" holds F(y)
Fakes = dict[str, Tensor]
Maps = Float[Tensor, "b c h w"]  # images in [0, 1], or what a net makes of them
# of the generators, of the discriminators
Optimizers = tuple[torch.optim.Optimizer, torch.optim.Optimizer]
Schedules = Iterable[torch.optim.lr_scheduler.LRScheduler]


def normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A convolution with instance norm and ReLU. The norm has no weights, so the bias
    is kept, as released."""
    return [conv, nn.InstanceNorm2d(conv.out_channels), nn.ReLU()]


def check_sides(images: Maps, multiple: int) -> None:
    """Raise ``ValueError`` unless there are images whose sides are divisible by
    ``multiple``."""
    batch, _, height, width = images.shape
    fits = batch > 0 and height % multiple == width % multiple == 0
    expect(fits, f"at least one image with sides divisible by {multiple}", images.shape)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm around a shortcut; nothing after the
    sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (normed(nn.Conv2d(channels, channels, 3)) for _ in range(2))
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), *first, nn.ReflectionPad2d(1), *second[:-1]
        )

    def forward(self, features: Maps) -> Maps:
        """The features plus a change to them."""
        return features + self.body(features)


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
        kernel_size: of the first and last layer.
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
        self.multiple, pixels = unshuffle * 2**halvings, 3 * unshuffle**2
        layers: list[nn.Module] = (
            [nn.PixelUnshuffle(unshuffle)] if unshuffle > 1 else []
        )
        layers += [
            nn.ReflectionPad2d(kernel_size // 2),
            *normed(nn.Conv2d(pixels, channels, kernel_size)),
        ]
        for _ in range(halvings):
            layers += normed(nn.Conv2d(channels, 2 * channels, 3, 2, 1))
            channels *= 2
        layers += [ResidualBlock(channels) for _ in range(blocks)]
        for _ in range(halvings):
            layers += normed(
                nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)
            )
            channels //= 2
        layers += [
            nn.ReflectionPad2d(kernel_size // 2),
            nn.Conv2d(channels, pixels, kernel_size),
        ]
        layers += [nn.PixelShuffle(unshuffle)] if unshuffle > 1 else []
        self.net = nn.Sequential(*layers, nn.Tanh())

    def forward(self, images: Maps) -> Maps:
        """Translate images in [0, 1] into images in [0, 1]; the net itself works on
        [-1, 1].

        Raises:
            ValueError: for no images, or sides that the halvings do not divide.
        """
        check_sides(images, self.multiple)
        return self.net(2 * images - 1) / 2 + 0.5


class PatchDiscriminator(nn.Module):
    """PatchGAN: one score for every overlapping patch (C64-C128-C256-C512: patches of
    70x70 pixels).

    Args:
        channels: of the first layer, which has no norm.
        halvings: strided 4x4 convolutions; each but the first doubles the channels.
            Then come one 4x4 of stride 1 that doubles them again, and the scores.
    """

    def __init__(self, *, channels: int = 64, halvings: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for stride in [2] * (halvings - 1) + [1]:
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, stride, 1),
                nn.InstanceNorm2d(2 * channels),
            ]
            layers.append(nn.LeakyReLU(0.2))
            channels *= 2
        self.net = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, images: Maps) -> Float[Tensor, "b 1 k l"]:
        """Scores of the patches of images in [0, 1]: towards 1 for real, towards 0 for
        translated.

        Raises:
            ValueError: for no images.
        """
        expect(len(images) > 0, "at least one image", images.shape)
        return self.net(2 * images - 1)


class CycleGAN(nn.Module):
    """The four nets: G is ``generator_xy``, F is ``generator_yx``; D_X and D_Y are
    named after what they judge.

    Args:
        generator: makes one translator; called twice.
        discriminator: makes one discriminator; called twice.
    """

    def __init__(
        self, generator: Callable[[], nn.Module], discriminator: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.generator_xy, self.generator_yx = generator(), generator()
        self.discriminator_x, self.discriminator_y = discriminator(), discriminator()
        normal_init_(self, 0.02)

    def generators(self) -> list[nn.Parameter]:
        """What the generators' optimiser updates."""
        return [*self.generator_xy.parameters(), *self.generator_yx.parameters()]

    def discriminators(self) -> list[nn.Parameter]:
        """What the discriminators' optimiser updates."""
        return [*self.discriminator_x.parameters(), *self.discriminator_y.parameters()]

    def forward(self, x: Maps | None = None, y: Maps | None = None) -> Fakes:
        """The translations of what is given: ``y`` holds G(x), ``x`` holds F(y)."""
        fakes = {} if x is None else {"y": self.generator_xy(x)}
        return fakes if y is None else {**fakes, "x": self.generator_yx(y)}


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
        self.size, self.generator = size, generator
        self.images: list[Tensor] = []

    def __call__(self, images: Maps) -> Maps:
        """As many images as came, some of them older, none with a gradient."""
        out = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image)
            elif self.size and torch.rand((), generator=self.generator) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.generator))
                self.images[place], image = image, self.images[place]
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


def lsgan(scores: Tensor, target: float) -> Float[Tensor, ""]:
    r"""The game with least squares instead of logarithms: :math:`E (D(\cdot) - t)^2`,
    over images and patches."""
    return ((scores - target) ** 2).mean()


def generator_loss(
    nets: CycleGAN,
    x: Maps,
    y: Maps,
    fakes: Fakes,
    *,
    cycle_weights: tuple[float, float] = CYCLE_WEIGHTS,
    identity_weight: float = IDENTITY_WEIGHT,
) -> dict[str, Tensor]:
    r"""What G and F minimise (Eq. 3 and Section 5.2): adversarial, cycle and identity
    terms.

    Args:
        nets: the four nets.
        x: images of domain X.
        y: images of domain Y; nothing pairs them with ``x``.
        fakes: ``nets(x, y)``. Where one is missing, that half of the game is not
            played.
        cycle_weights: :math:`\lambda` of :math:`\|F(G(x)) - x\|_1` and of
            :math:`\|G(F(y)) - y\|_1`; 0 leaves out.
        identity_weight: of :math:`\|G(y) - y\|_1` and :math:`\|F(x) - x\|_1`, times the
            cycle weight of y and of x.

    Returns:
        The terms, already weighted, and ``loss``, their sum.

    Raises:
        ValueError: without fakes, or for a cycle whose first half is missing.
    """
    cycle_x, cycle_y = cycle_weights
    enough = fakes and ("y" in fakes or not cycle_x) and ("x" in fakes or not cycle_y)
    expect(
        enough,
        f"the fakes that cycle_weights {cycle_weights} start from",
        sorted(fakes),
    )
    terms = {}
    if "y" in fakes:
        terms["fool_y"] = lsgan(nets.discriminator_y(fakes["y"]), 1.0)
    if "x" in fakes:
        terms["fool_x"] = lsgan(nets.discriminator_x(fakes["x"]), 1.0)
    if cycle_x:
        terms["cycle_x"] = cycle_x * (nets.generator_yx(fakes["y"]) - x).abs().mean()
    if cycle_y:
        terms["cycle_y"] = cycle_y * (nets.generator_xy(fakes["x"]) - y).abs().mean()
    if identity_weight and cycle_y:
        terms["identity_y"] = (
            identity_weight * cycle_y * (nets.generator_xy(y) - y).abs().mean()
        )
    if identity_weight and cycle_x:
        terms["identity_x"] = (
            identity_weight * cycle_x * (nets.generator_yx(x) - x).abs().mean()
        )
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def discriminator_loss(
    nets: CycleGAN, x: Maps, y: Maps, fakes: Fakes
) -> dict[str, Tensor]:
    r"""What D_X and D_Y minimise: :math:`\frac12 [E (D(\text{real}) - 1)^2 + E
    D(\text{fake})^2]`, each.

    The half slows the discriminators down, relative to the generators.

    Args:
        nets: the four nets.
        x: real images of X.
        y: real images of Y.
        fakes: translations without a gradient, by the domain they imitate.

    Returns:
        ``tell_x``, ``tell_y`` as far as there are fakes, and ``loss``, their sum.
    """
    terms = {}
    for name, judge, real in (
        ("x", nets.discriminator_x, x),
        ("y", nets.discriminator_y, y),
    ):
        if name in fakes:
            terms[f"tell_{name}"] = 0.5 * (
                lsgan(judge(real), 1.0) + lsgan(judge(fakes[name]), 0.0)
            )
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def learn(optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""]) -> None:
    """One update by the gradient of ``loss``."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def alternating_step(
    nets: CycleGAN,
    optimizers: Optimizers,
    buffers: dict[str, Buffer],
    *,
    sources: Collection[str] = ("x", "y"),
    schedules: Schedules = (),
    cycle_weights: tuple[float, float] = CYCLE_WEIGHTS,
    identity_weight: float = IDENTITY_WEIGHT,
) -> Callable[[tuple[dict[str, Tensor], dict[str, Tensor]]], dict[str, Tensor]]:
    """First both generators, with the discriminators frozen, then both discriminators,
    on buffered fakes.

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
        A step for ``training.train`` on batches ``({"images": x}, {"images": y})``.
    """
    for_generators, for_discriminators = optimizers

    def step(batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        x, y = (domain["images"] for domain in batch)
        nets.discriminator_x.requires_grad_(False)
        nets.discriminator_y.requires_grad_(False)
        fakes = nets(x if "x" in sources else None, y if "y" in sources else None)
        fooling = generator_loss(
            nets,
            x,
            y,
            fakes,
            cycle_weights=cycle_weights,
            identity_weight=identity_weight,
        )
        learn(for_generators, fooling["loss"])

        nets.discriminator_x.requires_grad_(True)
        nets.discriminator_y.requires_grad_(True)
        telling = discriminator_loss(
            nets, x, y, {name: buffers[name](fake) for name, fake in fakes.items()}
        )
        learn(for_discriminators, telling.pop("loss"))
        for schedule in schedules:
            schedule.step()
        return fooling | telling

    return step


def linear_decay(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The paper's schedule: constant for the first half of ``steps``, then linearly to
    zero."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 2 - 2 * step / steps)
    )


def tiny(**overrides: Any) -> CycleGAN:
    """The book's scale, for 32x32 images; ``overrides`` go to the generators."""
    settings = {
        "channels": 48,
        "blocks": 3,
        "halvings": 0,
        "unshuffle": 4,
        "kernel_size": 3,
        **overrides,
    }
    return CycleGAN(
        partial(Generator, **settings),
        partial(PatchDiscriminator, channels=32, halvings=2),
    )


def paper(**overrides: Any) -> CycleGAN:
    """The paper's scale: 256x256 images with nine residual blocks (128x128 with
    ``blocks=6``)."""
    return CycleGAN(partial(Generator, **overrides), PatchDiscriminator)
