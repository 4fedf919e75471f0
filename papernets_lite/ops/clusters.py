"""Groups of points."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from papernets_lite.ops.checks import at_least, expect


def kmeans(
    points: Float[Tensor, "n d"],
    count: int,
    *,
    generator: torch.Generator,
    rounds: int = 20,
) -> Float[Tensor, "k d"]:
    """Centres of clusters: far-apart points to start with (k-means++), then Lloyd's
    rounds.

    Args:
        points: at least one, of any unit.
        count: how many; fewer come back where there are fewer different points.
        generator: draws the first centres, on the CPU.
        rounds: of assigning points and moving centres.

    Raises:
        ValueError: for no points, points that are not finite, or no clusters.
    """
    at_least(1, count=count)
    expect(len(points) > 0, "at least one point", points.shape)
    expect(points.isfinite().all(), "finite points", points)
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        far = torch.cdist(points, centres).amin(1).square().cpu()
        if not far.sum() > 0:
            break
        another = points[torch.multinomial(far, 1, generator=generator)]
        centres = torch.cat([centres, another])
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        members = functional.one_hot(nearest, len(centres)).to(points)
        sizes = members.sum(0)[:, None]
        means = members.T @ points / sizes.clamp(min=1)
        centres = torch.where(sizes > 0, means, centres)
    return centres
