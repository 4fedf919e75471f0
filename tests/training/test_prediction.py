"""What a net says about many images, batch by batch."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from papernets_lite import training

IMAGES = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@dataclass
class Outputs:
    maps: Tensor
    levels: list[Tensor]
    anchors: Tensor
    stride: float


Pair = namedtuple("Pair", "first second")


class Net(nn.Module):
    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 2, 3)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(2).eval()

    def forward(self, images: Tensor, *others: Tensor) -> object:
        maps = self.frozen(self.drop(self.conv(images)))
        for other in others:
            maps = maps + other
        if self.kind == "dataclass":
            return Outputs(maps, [maps, 2 * maps], torch.arange(12.0).view(3, 4), 4.0)
        if self.kind == "dict":
            return {"maps": maps, "twice": (maps, 2 * maps)}
        if self.kind == "pair":
            return Pair(maps, 2 * maps)
        if self.kind == "function":
            return {"read": lambda: maps}
        return maps


def test_outputs_are_those_of_one_large_batch_in_evaluation_mode():
    net = Net()
    found = training.predict(net, IMAGES, batch_size=3)
    assert not found.requires_grad
    modes = [module.training for module in net.modules()]
    assert modes == [True, True, True, False]  # as it was, the frozen part too
    with torch.no_grad():
        torch.testing.assert_close(found, net.eval()(IMAGES))


@pytest.mark.parametrize("kind", ["dataclass", "dict", "pair"])
def test_structures_keep_their_form(kind):
    torch.manual_seed(0)
    net = Net(kind).eval()
    found = training.predict(net, IMAGES, batch_size=2)
    with torch.no_grad():
        whole = net(IMAGES)
    assert type(found) is type(whole)
    if kind == "dataclass":
        torch.testing.assert_close(found.maps, whole.maps)
        torch.testing.assert_close(found.levels[1], whole.levels[1])
        assert torch.equal(found.anchors, whole.anchors)
        assert found.stride == 4.0
    elif kind == "dict":
        torch.testing.assert_close(found["twice"][1], whole["twice"][1])
    else:
        torch.testing.assert_close(found.second, whole.second)


def test_decoded_lists_have_one_entry_for_each_image():
    def decode(maps: Tensor) -> list[dict[str, Tensor]]:
        return [{"peak": one.amax()} for one in maps]

    found = training.predict(Net(), IMAGES, batch_size=3, decode=decode)
    assert len(found) == 7
    assert all(one["peak"].ndim == 0 for one in found)


def test_a_net_with_several_inputs_is_asked_with_all():
    net = Net().eval()
    ones = torch.ones(7, 1, 1, 1)
    found = training.predict(net, (IMAGES, ones), batch_size=4)
    torch.testing.assert_close(found, training.predict(net, IMAGES) + 1)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[:0], {}, "images, of one number, got 0"),
        ((IMAGES, IMAGES[:3]), {}, "images, of one number"),
        (IMAGES, {"batch_size": 0}, "batch_size >= 1, got 0"),
    ],
)
def test_bad_questions_are_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        training.predict(Net(), images, **options)


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(ValueError, match="outputs that can be joined"):
        training.predict(Net("function"), IMAGES, batch_size=3)


def test_a_net_that_fails_is_put_back_into_its_mode():
    net = Net()
    with pytest.raises(RuntimeError):
        training.predict(net, torch.rand(2, 5, 8, 8))
    assert net.training
