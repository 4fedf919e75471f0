"""Centres of groups of points."""

import pytest
import torch
from sklearn.cluster import KMeans

from papernets_lite.ops import clusters


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kmeans_finds_separate_clusters_and_is_as_good_as_scikit_learns():
    where = torch.tensor([[0.0, 0], [5, 0], [0, 5]])
    points = where.repeat_interleave(20, 0) + 0.1 * torch.randn(
        60, 2, generator=seeded()
    )
    centres = clusters.kmeans(points, 3, generator=seeded(1))
    torch.testing.assert_close(
        centres[centres[:, 0].argsort()].sum(0), where.sum(0), atol=0.2, rtol=0
    )
    cloud = torch.randn(300, 3, generator=seeded(2))
    centres = clusters.kmeans(cloud, 10, generator=seeded(3))
    ours = torch.cdist(cloud, centres).amin(1).square().sum().item()
    theirs = KMeans(10, n_init=5, random_state=0).fit(cloud.numpy()).inertia_
    assert ours < 1.15 * theirs
    twice = torch.tensor([[1.0], [1.0], [2.0]])
    assert sorted(
        clusters.kmeans(twice, 10, generator=seeded()).flatten().tolist()
    ) == [1, 2]


def test_points_that_are_not_finite_have_no_centres():
    points = torch.rand(5, 2)
    for wrong in (points / 0, points * torch.nan, points[:0]):
        with pytest.raises(ValueError, match="point"):
            clusters.kmeans(wrong, 3, generator=seeded())
    with pytest.raises(ValueError, match="count >= 1, got 0"):
        clusters.kmeans(points, 0, generator=seeded())
    rounded = points.bfloat16()
    assert torch.equal(
        clusters.kmeans(rounded, 3, generator=seeded()),
        clusters.kmeans(rounded.float(), 3, generator=seeded()),
    )
