"""Loss terms that several papers share and that are easy to get wrong."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from papernets_lite.ops.checks import expect


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
        ValueError: for no samples, or unequal shapes.
    """
    expect(
        len(real) and real.shape == fake.shape,
        "as many fake as real samples",
        real.shape,
        fake.shape,
    )
    share = torch.rand(len(real), *[1] * (real.ndim - 1), generator=generator).to(real)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
    with torch.enable_grad():  # the slope is also asked for where nothing is learnt
        (gradient,) = torch.autograd.grad(
            critic(between).sum(), between, create_graph=True
        )
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
