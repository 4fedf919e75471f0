"""VGG-19's weights from torchvision, and prototypes by scikit-learn's ridge."""

import numpy as np
import pytest
import torch
import torchvision
from sklearn.linear_model import Ridge
from torch import nn
from torchvision.models import vgg

from papernets_lite.transfer import ldf

pytestmark = pytest.mark.reference


def test_the_features_are_vgg19s() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vgg19()
        theirs.classifier = theirs.classifier[:-1]
        ours = ldf.paper(looks=1, look="whole").scales[0]
    shapes = [[p.shape for p in net.parameters()] for net in (theirs, ours)]
    assert shapes[0] == shapes[1]


def test_a_narrow_vgg19_says_the_same() -> None:
    torch.manual_seed(0)
    widths = (4, 8, 8, 16, 16)
    plan: list[str | int] = []
    for width, (_, depth) in zip(widths, ldf.VGG19, strict=True):
        plan += [*[width] * depth, "M"]
    with torch.device("meta"):
        theirs = torchvision.models.VGG(nn.Sequential(), init_weights=False)
    theirs.features = vgg.make_layers(plan)
    relu, drop = nn.ReLU(), nn.Dropout()
    dense = [nn.Linear(16 * 49, 32), relu, drop, nn.Linear(32, 32), relu, drop]
    theirs.classifier = nn.Sequential(*dense)
    body = nn.Sequential(*vgg.make_layers(plan)[:-1])
    ours = ldf.FNet(body, channels=16, grid=7, hidden=[32, 32], dropout=0.5)
    weights = zip(ours.parameters(), theirs.parameters(), strict=True)
    with torch.no_grad():
        for mine, given in weights:
            mine.copy_(given * 2)
            given.copy_(mine)
        images = torch.rand(2, 3, 224, 224)
        wanted = theirs.eval()(images)
        maps, found = ours.eval()(images)
    assert maps.shape == (2, 16, 14, 14)
    assert wanted.std() > 1e-6
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_prototypes_equal_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    seen, unseen = rng.random((20, 9)), rng.random((5, 9))
    lengths = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (seen, unseen)]
    model = Ridge(alpha=1.0, fit_intercept=False)
    wanted = [model.fit(lengths[0].T, one).coef_ for one in lengths[1]]
    found = ldf.ridge(torch.from_numpy(seen), torch.from_numpy(unseen))
    assert np.abs(found.numpy() - np.stack(wanted)).max() < 1e-10
