"""The contrastive loss against torch's relatives, where they must agree."""

import pytest
import torch
from torch.nn import functional

from papernets_lite.transfer import siamese

pytestmark = pytest.mark.reference


def test_distances_are_torchs() -> None:
    torch.manual_seed(0)
    outputs = torch.randn(50, 2, 7, dtype=torch.float64)
    expected = functional.pairwise_distance(outputs[:, 0], outputs[:, 1], eps=0.0)
    torch.testing.assert_close(siamese.distance(outputs), expected)


def test_the_push_is_the_square_of_torchs_hinge_embedding() -> None:
    """``hinge_embedding_loss`` of D: D itself for target 1, max(0, m - D) for target
    -1; ours are half squares."""
    torch.manual_seed(0)
    outputs, similar, margin = (
        torch.randn(50, 2, 3, dtype=torch.float64),
        torch.arange(50) % 3 == 0,
        2.2,
    )
    terms = functional.hinge_embedding_loss(
        siamese.distance(outputs), 2.0 * similar - 1, margin=margin, reduction="none"
    )
    found = siamese.loss(outputs, {"similar": similar}, margin=margin)
    torch.testing.assert_close(found["loss"], (terms.square() / 2).mean())
    torch.testing.assert_close(found["pull"], (terms.square() / 2 * similar).mean())


def test_on_the_unit_sphere_a_similar_pair_costs_what_torchs_cosine_loss_says() -> None:
    """D^2 / 2 = 1 - cos for vectors of length one."""
    torch.manual_seed(0)
    outputs = functional.normalize(torch.randn(50, 2, 5, dtype=torch.float64), dim=2)
    expected = functional.cosine_embedding_loss(
        outputs[:, 0], outputs[:, 1], torch.ones(50)
    )
    found = siamese.loss(outputs, {"similar": torch.ones(50, dtype=torch.bool)})
    torch.testing.assert_close(found["loss"], expected)


def test_neighbours_are_scikit_learns() -> None:
    neighbours = pytest.importorskip("sklearn.neighbors")
    torch.manual_seed(0)
    points = torch.randn(80, 6, dtype=torch.float64)
    graph = neighbours.kneighbors_graph(points.numpy(), 4).toarray() > 0
    expected = torch.from_numpy(graph | graph.T) | torch.eye(80, dtype=torch.bool)
    assert torch.equal(siamese.neighbourhood(points, k=4), expected)
