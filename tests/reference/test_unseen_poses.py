"""Similarities against scikit-image's, the warp against SciPy's, the features against
torchvision's VGG-19."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from papernets_lite.people import unseen_poses

pytestmark = pytest.mark.reference


def test_similarity_is_scikit_images() -> None:
    transform = pytest.importorskip("skimage.transform").SimilarityTransform
    rng = np.random.default_rng(0)
    for points in (2, 3, 4):
        start = rng.uniform(0, 256, (20, points, 2))
        angle, scale = rng.uniform(-3, 3, 20), rng.uniform(0.3, 3, 20)
        turn = np.stack(
            [
                np.stack([np.cos(angle), -np.sin(angle)], -1),
                np.stack([np.sin(angle), np.cos(angle)], -1),
            ],
            1,
        )
        end = scale[:, None, None] * start @ turn.transpose(0, 2, 1) + rng.uniform(
            -50, 50, (20, 1, 2)
        )
        ours = unseen_poses.similarity(torch.from_numpy(start), torch.from_numpy(end))
        for p, q, matrix in zip(start, end, ours.numpy(), strict=True):
            if hasattr(transform, "from_estimate"):
                theirs = transform.from_estimate(p, q)
            else:
                theirs = transform()
                assert theirs.estimate(p, q)
            np.testing.assert_allclose(matrix, theirs.params[:2], rtol=1e-5, atol=1e-5)


def test_warp_is_scipys() -> None:
    torch.manual_seed(0)
    layers = torch.rand(1, 2, 3, 24, 30, dtype=torch.double)
    source = torch.rand(2, 4, 2, dtype=torch.double) * 20
    matrices = unseen_poses.similarity(
        source + 2 * torch.rand(2, 4, 2, dtype=torch.double), source
    )
    moved = unseen_poses.warp(layers, matrices[None])
    for layer, matrix, found in zip(
        layers[0].numpy(), matrices.numpy(), moved[0].numpy(), strict=True
    ):
        # SciPy counts (row, column) from the centre of the first pixel, and beyond the
        # frame reads zeros.
        turn, shift = matrix[::-1, 1::-1], matrix[::-1, 2]
        shift = shift + turn @ (0.5, 0.5) - 0.5
        for channel, expected in zip(layer, found, strict=True):
            theirs = ndimage.affine_transform(
                channel, turn, shift, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(theirs, expected, atol=1e-9)


def test_features_are_torchvisions() -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs, ours = models.vgg19(weights=None).features[:27], unseen_poses.features()
    ours.load_state_dict(theirs.state_dict())
    images, expected = torch.rand(1, 3, 64, 64), []
    x = images
    with torch.no_grad():
        for layer in theirs:
            x = (
                nn.functional.avg_pool2d(x, 2)
                if isinstance(layer, nn.MaxPool2d)
                else layer(x)
            )
            if isinstance(layer, nn.ReLU):
                expected.append(x.clone())
        found = unseen_poses.maps(ours, images)
    assert len(found) == len(expected) == 12
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
