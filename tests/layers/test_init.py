import math

import pytest
import torch
from torch import nn

from papernets_lite.layers import init


def test_he_init_keeps_the_second_moment_through_relu() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.Linear(8, 8))
    kept = [p.clone() for p in (*net[1].parameters(), *net[2].parameters())]
    init.he_init_(net)
    assert math.isclose(
        net[0].weight.std().item(), math.sqrt(2 / (64 * 9)), rel_tol=0.03
    )
    assert net[0].bias.eq(0).all()
    for before, after in zip(
        kept, (*net[1].parameters(), *net[2].parameters()), strict=True
    ):
        assert torch.equal(before, after), "only convolutions are meant"


def test_normal_init_sets_convolutions_and_linear_layers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(16, 64, 3),
        nn.ConvTranspose2d(64, 16, 3),
        nn.Linear(64, 64),
        nn.BatchNorm2d(4),
    )
    init.normal_init_(net, 0.02)
    for layer in net[:3]:
        assert math.isclose(layer.weight.std().item(), 0.02, rel_tol=0.05)
        assert layer.bias.eq(0).all()
    assert net[3].weight.eq(1).all()


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_a_deviation_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="a finite deviation >= 0"):
        init.normal_init_(nn.Linear(2, 2), std)
