"""All three nets against NVIDIA's own, as packaged on PyPI, with their weights loaded
into ours."""

import pytest
import torch
from torch import nn

from papernets_lite.generative import pix2pixhd

pytestmark = pytest.mark.reference
networks = pytest.importorskip("pix2pixhd.models.networks")
NORM = networks.get_norm_layer("instance")


def port(theirs: list[nn.Module], ours: list[nn.Module]) -> None:
    """Weights in the order in which either side applies them."""
    values = [v for part in theirs for v in part.state_dict().values()]
    targets = [v for part in ours for v in part.state_dict().values()]
    assert [v.shape for v in values] == [v.shape for v in targets]
    with torch.no_grad():
        for value, target in zip(values, targets, strict=True):
            # larger than the initial ones, so that differences show
            target.copy_(5 * value)


def scale(net: nn.Module) -> None:
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(5)


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_global_generator_draws_the_same() -> None:
    torch.manual_seed(0)
    theirs, ours = (
        networks.GlobalGenerator(7, 3, 8, 4, 2, NORM),
        pix2pixhd.GlobalGenerator(7, channels=8, blocks=2),
    )
    port([theirs], [ours])
    scale(theirs)
    inputs = torch.rand(2, 7, 64, 96)
    with torch.no_grad():
        agree(ours(inputs), theirs(inputs))


def test_the_local_enhancer_draws_the_same() -> None:
    torch.manual_seed(0)
    theirs = networks.LocalEnhancer(7, 3, 8, 3, 2, 1, 3, NORM)
    coarse = pix2pixhd.GlobalGenerator(7, channels=16, halvings=3, blocks=2)
    ours = pix2pixhd.LocalEnhancer(7, coarse, channels=8)
    port(
        [theirs.model, theirs.model1_1, theirs.model1_2],
        [ours.coarse, ours.front, ours.back, ours.head],
    )
    scale(theirs)
    inputs = torch.rand(2, 7, 64, 96)
    with torch.no_grad():
        agree(ours(inputs), theirs(inputs))


@pytest.mark.parametrize("scales", [2, 3])
def test_the_discriminators_see_the_same(scales: int) -> None:
    torch.manual_seed(0)
    theirs = networks.MultiscaleDiscriminator(7, 64, 3, NORM, False, scales, True)
    ours = pix2pixhd.MultiscaleDiscriminator(7, scales=scales)
    # Theirs counts its scales from the smallest picture, ours from the largest.
    layers = [
        [getattr(theirs, f"scale{s}_layer{k}") for k in range(5)]
        for s in reversed(range(scales))
    ]
    port([layer for one in layers for layer in one], [ours])
    scale(theirs)
    inputs = torch.rand(2, 7, 70, 96)
    with torch.no_grad():
        for one, other in zip(ours(inputs), theirs(inputs), strict=True):
            for a, b in zip(one, other, strict=True):
                agree(a, b)


def test_the_encoder_finds_the_same_styles() -> None:
    torch.manual_seed(0)
    theirs, ours = (
        networks.Encoder(3, 3, 8, 4, NORM),
        pix2pixhd.InstanceEncoder(channels=8),
    )
    port([theirs], [ours])
    scale(theirs)
    images, instances = torch.rand(2, 3, 32, 48), torch.randint(0, 4, (2, 32, 48))
    with torch.no_grad():
        agree(ours(images, instances), theirs(2 * images - 1, instances[:, None]))


def test_parameters_at_the_papers_scale() -> None:
    def count(net: nn.Module) -> int:
        return sum(p.numel() for p in net.parameters())

    with torch.device("meta"):
        ours = pix2pixhd.paper(styles=True)
        assert count(networks.LocalEnhancer(39, 3, 32, 4, 9, 1, 3, NORM)) == count(
            ours.generator
        )
        assert count(
            networks.MultiscaleDiscriminator(39, 64, 3, NORM, False, 3, True)
        ) == count(ours.discriminator)
        assert count(networks.Encoder(3, 3, 16, 4, NORM)) == count(ours.encoder)
