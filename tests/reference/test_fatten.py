"""FATTEN's one-shot protocol against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from papernets_lite.transfer import fatten

pytestmark = pytest.mark.reference


def drawn():
    """Features of 20 things of 5 categories, some moved, and tasks on them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 5
    means = torch.randn(5, 8, generator=generator)
    x = means[labels][:, None] + torch.randn(20, 12, 8, generator=generator)
    moved = x[:, :, None] + torch.randn(20, 12, 4, 8, generator=generator)
    tasks = fatten.episodes(labels, count=6, ways=4, queries=5, generator=generator)
    return x.double(), moved.double(), tasks


@pytest.mark.parametrize("with_moved", [False, True])
def test_one_shot_accuracies_are_scikit_learns(with_moved):
    x, moved, tasks = drawn()
    found = fatten.one_shot(tasks, x, moved if with_moved else None)
    known = fatten.support(tasks, x, moved if with_moved else None)
    asked = x[tasks.asked, tasks.asked_poses].flatten(1, 2).numpy()
    truth = np.repeat(np.arange(4), 5)
    each = known.shape[2]
    names = np.repeat(np.arange(4), each)
    for task in range(6):
        rows = known[task].flatten(0, 1).numpy()
        neighbour = KNeighborsClassifier(1).fit(rows, names)
        share = (neighbour.predict(asked[task]) == truth).mean()
        assert found["nearest"][task].item() == pytest.approx(share)
        codes = 2 * np.eye(4)[names] - 1
        ridge = Ridge(alpha=len(rows)).fit(rows, codes)
        said = ridge.predict(asked[task]).argmax(1)
        assert found["ridge"][task].item() == pytest.approx((said == truth).mean())


def test_linear_maps_are_scikit_learns():
    x, _, _ = drawn()
    maps = fatten.linear_maps(x, penalty=30.0)
    rows = x.flatten(0, 1).numpy()
    wanted = x[:, 7].repeat_interleave(12, 0).numpy()
    ridge = Ridge(alpha=30.0).fit(rows, wanted)
    np.testing.assert_allclose(maps[:-1, 7].numpy(), ridge.coef_.T, atol=1e-9)
    np.testing.assert_allclose(maps[-1, 7].numpy(), ridge.intercept_, atol=1e-9)
