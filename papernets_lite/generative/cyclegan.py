"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros. ICCV 2017, arXiv 1703.10593.
Official code: junyanz/pytorch-CycleGAN-and-pix2pix.

Idea: two translators, X to Y and Y to X, learn from unpaired images: each must fool a discriminator of its target
domain, and a round trip must come back to where it started.

Differs:
    1. ``tiny`` works on 32x32 images: pixels are unshuffled into channels (which a CPU likes) instead of two strided
       convolutions, four residual blocks instead of nine, and a two-layer PatchGAN.

Guessed:
    Nothing that matters: paper and released code agree, and the code fixes what the paper leaves out.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papernets_lite.layers.init import normal_init_

CYCLE_WEIGHT, IDENTITY_WEIGHT = 10.0, 0.5  # the second is relative to the first
BUFFER_SIZE = 50


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm around a shortcut; nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU()),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x + F(x)."""
        return x + self.body(x)


class Generator(nn.Module):
    """The translator: down, residual blocks, up (c7s1-64, d128, d256, R256 x n, u128, u64, c7s1-3).

    Args:
        channels: of the first layer; they double with every halving of the size.
        blocks: residual blocks at the smallest size.
        halvings: strided convolutions on the way down, transposed ones on the way up.
        unshuffle: side of the pixel blocks that become channels before the first layer, and pixels after the last.
        kernel_size: of the first and last layer.
        image_channels: in and out.
    """

    def __init__(
        self,
        *,
        channels: int = 64,
        blocks: int = 9,
        halvings: int = 2,
        unshuffle: int = 1,
        kernel_size: int = 7,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        pixels = image_channels * unshuffle**2
        layers: list[nn.Module] = [nn.PixelUnshuffle(unshuffle)] if unshuffle > 1 else []
        layers += [nn.ReflectionPad2d(kernel_size // 2), nn.Conv2d(pixels, channels, kernel_size)]
        layers += [nn.InstanceNorm2d(channels), nn.ReLU()]
        for _ in range(halvings):
            layers += [nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.InstanceNorm2d(2 * channels), nn.ReLU()]
            channels *= 2
        layers += [ResidualBlock(channels) for _ in range(blocks)]
        for _ in range(halvings):
            layers.append(nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1))
            channels //= 2
            layers += [nn.InstanceNorm2d(channels), nn.ReLU()]
        layers += [nn.ReflectionPad2d(kernel_size // 2), nn.Conv2d(channels, pixels, kernel_size)]
        layers += [nn.PixelShuffle(unshuffle)] if unshuffle > 1 else []
        self.net = nn.Sequential(*layers, nn.Tanh())

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Translate images in [0, 1] into images in [0, 1] (the net itself works on [-1, 1]).

        Raises:
            ValueError: for a batch without images.
        """
        if not len(images):
            raise ValueError(f"expected at least one image, got {tuple(images.shape)}")
        return self.net(2 * images - 1) / 2 + 0.5


class PatchDiscriminator(nn.Module):
    """PatchGAN: one score for every overlapping patch (C64-C128-C256-C512: patches of 70x70 pixels).

    Args:
        channels: of the first layer.
        halvings: strided 4x4 convolutions; each but the first doubles the channels. Then come one 4x4 of stride 1
            that doubles them again, and the scores.
        image_channels: in.
    """

    def __init__(self, *, channels: int = 64, halvings: int = 3, image_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(image_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for stride in [2] * (halvings - 1) + [1]:
            layers += [nn.Conv2d(channels, 2 * channels, 4, stride, 1), nn.InstanceNorm2d(2 * channels)]
            layers.append(nn.LeakyReLU(0.2))
            channels *= 2
        self.net = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 k l"]:
        """Scores per patch: 1 for real, 0 for translated.

        Raises:
            ValueError: for a batch without images.
        """
        if not len(images):
            raise ValueError(f"expected at least one image, got {tuple(images.shape)}")
        return self.net(2 * images - 1)


class CycleGAN(nn.Module):
    """The four nets: G (``x_to_y``), F (``y_to_x``), D_Y (``is_y``) and D_X (``is_x``)."""

    def __init__(self, generator: Callable[[], nn.Module], discriminator: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.x_to_y, self.y_to_x = generator(), generator()
        self.is_y, self.is_x = discriminator(), discriminator()
        normal_init_(self, 0.02)

    def generators(self) -> list[nn.Parameter]:
        """What the generators' optimiser updates."""
        return [*self.x_to_y.parameters(), *self.y_to_x.parameters()]

    def discriminators(self) -> list[nn.Parameter]:
        """What the discriminators' optimiser updates."""
        return [*self.is_y.parameters(), *self.is_x.parameters()]

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Both translations and both round trips: ``fake_y``, ``back_x``, ``fake_x``, ``back_y``."""
        fake_y, fake_x = self.x_to_y(x), self.y_to_x(y)
        return {"fake_y": fake_y, "back_x": self.y_to_x(fake_y), "fake_x": fake_x, "back_y": self.x_to_y(fake_x)}


class Buffer:
    """A history of fakes, so that a discriminator does not forget what it has already learnt to tell.

    Until it is full, it stores and returns what comes. Afterwards each image is, with probability 1/2, swapped for
    a random stored one.

    Args:
        size: images it holds; 0 returns everything as it comes.
        generator: decides, on the CPU.
    """

    def __init__(self, size: int = BUFFER_SIZE, *, generator: torch.Generator) -> None:
        if size < 0:
            raise ValueError(f"expected size >= 0, got {size}")
        self.size, self.generator = size, generator
        self.images: list[Tensor] = []

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """As many images as came, some of them older."""
        if self.size == 0:
            return images
        out = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image)
            elif torch.rand((), generator=self.generator) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.generator))
                self.images[place], image = image, self.images[place]
            out.append(image)
        return torch.stack(out)

    def state_dict(self) -> dict[str, Any]:
        """The stored images and the generator's state."""
        return {"images": list(self.images), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.images = list(state["images"])
        self.generator.set_state(state["generator"])


def fool(scores: Tensor) -> Tensor:
    """LSGAN for a generator: :math:`E (D(G(x)) - 1)^2`."""
    return ((scores - 1) ** 2).mean()


def tell(real: Tensor, fake: Tensor) -> Tensor:
    r"""LSGAN for a discriminator: :math:`\frac12 [E (D(y) - 1)^2 + E D(G(x))^2]`; the half slows it down."""
    return 0.5 * (((real - 1) ** 2).mean() + (fake**2).mean())


def loss(
    nets: CycleGAN,
    x: Float[Tensor, "b c h w"],
    y: Float[Tensor, "b c h w"],
    *,
    cycle: tuple[float, float] = (CYCLE_WEIGHT, CYCLE_WEIGHT),
    identity: float = IDENTITY_WEIGHT,
    directions: tuple[bool, bool] = (True, True),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    r"""The generators' loss (Eq. 3): adversarial, cycle and identity terms.

    Args:
        nets: the four nets.
        x: images of domain X.
        y: images of domain Y; nothing pairs them with ``x``.
        cycle: :math:`\lambda` of :math:`\|F(G(x)) - x\|_1` and of :math:`\|G(F(y)) - y\|_1`; 0 leaves a term out.
        identity: weight of :math:`\|G(y) - y\|_1` and its mirror, relative to ``cycle``.
        directions: which of the adversarial games G against D_Y and F against D_X are played.

    Returns:
        The terms with ``loss``, their sum, and the translations ``fake_y`` and ``fake_x`` that were made.
    """
    terms: dict[str, Tensor] = {}
    fakes: dict[str, Tensor] = {}
    for way, (there, back, judge, source, target) in enumerate(
        ((nets.x_to_y, nets.y_to_x, nets.is_y, x, y), (nets.y_to_x, nets.x_to_y, nets.is_x, y, x))
    ):
        to, begin = ("y", "x") if way == 0 else ("x", "y")
        if not (directions[way] or cycle[way]):
            continue
        fake = there(source)
        if directions[way]:
            fakes[f"fake_{to}"] = fake
            terms[f"fool_{to}"] = fool(judge(fake))
        if cycle[way]:
            terms[f"cycle_{begin}"] = cycle[way] * (back(fake) - source).abs().mean()
            if identity:
                terms[f"identity_{to}"] = cycle[way] * identity * (there(target) - target).abs().mean()
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}, fakes


def train_step(
    nets: CycleGAN,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    buffers: tuple[Buffer, Buffer],
    *,
    schedules: Iterable[torch.optim.lr_scheduler.LRScheduler] = (),
    **weights: Any,
) -> Callable[[tuple[dict[str, Tensor], dict[str, Tensor]]], dict[str, Tensor]]:
    """The alternating step: first both generators, with the discriminators frozen, then both discriminators.

    Args:
        nets: the four nets.
        optimizers: of the generators, of the discriminators.
        buffers: of fakes in Y, of fakes in X.
        schedules: stepped once a step.
        weights: passed on to ``loss``.

    Returns:
        A step for ``training.train`` on batches ``({"images": x}, {"images": y})``.
    """
    for_generators, for_discriminators = optimizers
    judges = nets.discriminators()

    def step(batch: tuple[dict[str, Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        x, y = batch[0]["images"], batch[1]["images"]
        for parameter in judges:
            parameter.requires_grad_(False)
        terms, fakes = loss(nets, x, y, **weights)
        for_generators.zero_grad(set_to_none=True)
        terms["loss"].backward()
        for_generators.step()
        for parameter in judges:
            parameter.requires_grad_(True)
        told = {}
        for name, judge, real, buffer in (("y", nets.is_y, y, buffers[0]), ("x", nets.is_x, x, buffers[1])):
            if f"fake_{name}" in fakes:
                told[f"tell_{name}"] = tell(judge(real), judge(buffer(fakes[f"fake_{name}"].detach())))
        if told:
            for_discriminators.zero_grad(set_to_none=True)
            torch.stack(list(told.values())).sum().backward()
            for_discriminators.step()
        for schedule in schedules:
            schedule.step()
        return terms | told

    return step


def linear_decay(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The paper's schedule: constant for the first half of ``steps``, then linearly to zero."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 2 - 2 * step / steps))


def tiny(**overrides: object) -> CycleGAN:
    """The book's scale, for 32x32 images."""
    settings: dict = {"channels": 64, "blocks": 4, "halvings": 0, "unshuffle": 4, "kernel_size": 3}
    settings |= overrides
    discriminator = {"channels": 32, "halvings": 2, "image_channels": settings.get("image_channels", 3)}
    return CycleGAN(lambda: Generator(**settings), lambda: PatchDiscriminator(**discriminator))


def paper(blocks: int = 9) -> CycleGAN:
    """The paper's scale: 256x256 images with nine residual blocks, 128x128 with six."""
    return CycleGAN(lambda: Generator(blocks=blocks), PatchDiscriminator)
