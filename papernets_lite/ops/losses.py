"""Loss terms that several papers share and that are easy to get wrong."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import check_keys, check_labels, check_same, expect


def classification(
    outputs: Float[Tensor, "b k *s"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Cross-entropy, and the share of correct answers.

    Args:
        outputs: logits, of pictures or of pixels.
        batch: ``labels`` (b, *s), the true classes, from 0 to k - 1.
        generator: nothing is drawn.

    Returns:
        ``loss`` and ``accuracy``.

    Raises:
        ValueError: for no labels, labels of another shape, or one that is no class.
    """
    count, num_classes, *places = outputs.shape
    check_keys(batch, "labels")
    labels = check_labels(batch["labels"], num_classes, shape=(count, *places))
    missed = functional.cross_entropy(outputs, labels)
    right = outputs.detach().argmax(1) == labels
    return {"loss": missed, "accuracy": right.to(missed.dtype).mean()}


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "b *s"],
    fake: Float[Tensor, "b *s"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""WGAN-GP's pull towards slope 1: :math:`E (\lVert \nabla_{\hat x} D(\hat x)
    \rVert_2 - 1)^2`.

    One random point :math:`\hat x` on the line between each real and its fake; the
    gradient of the sum of all scores.

    Args:
        critic: must score each sample by itself (no batch normalisation); its scores
            may have any shape.
        real: samples in the units in which the slope is meant.
        fake: as many.
        generator: draws the points, on the CPU; None takes the global one.

    Raises:
        ValueError: for no samples, unequal shapes, or samples that are no floats.
    """
    alike = real.shape == fake.shape and len(real) > 0
    expect(alike, "as many fake as real samples", real.shape, fake.shape)
    floats = real.is_floating_point() and fake.is_floating_point()
    expect(floats, "samples of floats", real.dtype, fake.dtype)
    share = torch.rand(len(real), *[1] * (real.ndim - 1), generator=generator).to(real)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
    with torch.enable_grad():  # the slope is also asked for where nothing is learnt
        (gradient,) = torch.autograd.grad(
            critic(between).sum(), between, create_graph=True
        )
    slopes = gradient.flatten(1).norm(dim=1)
    return ((slopes - 1) ** 2).mean()


def lsgan(scores: Float[Tensor, "*s"], target: float) -> Float[Tensor, ""]:
    r"""The game with least squares instead of logarithms: :math:`E (D(\cdot) - t)^2`,
    over images and patches.

    Args:
        scores: what the discriminator says, in any shape.
        target: what it should say; 1 for real images, 0 for made ones, and for the
            generator, which wants to be believed, 1 for made ones.

    Raises:
        ValueError: for no scores.
    """
    expect(scores.numel() > 0, "at least one score", scores.shape)
    return ((scores - target) ** 2).mean()


def l1(made: Tensor, real: Tensor) -> Float[Tensor, ""]:
    """The L1 norm as released code takes it: a mean over images, channels and pixels.

    Args:
        made: images, or features of them.
        real: as many, of the same size: nothing is repeated to fit.

    Raises:
        ValueError: for unequal shapes.
    """
    check_same(made, real, "images")
    difference = made - real
    return difference.abs().mean()
