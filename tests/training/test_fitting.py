"""Plain training and comparisons: what arms share, and what a loss is given."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from papernets_lite import training


def test_two_fits_see_the_same_batches():
    seen = []

    def loss(out, batch):
        seen.append(batch["labels"].tolist())
        return {"loss": out.mean()}

    tensors = {"images": torch.rand(32, 1, 4, 4), "labels": torch.arange(32)}
    for _ in range(2):
        net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten())
        options = {
            "optimizer": lambda p: torch.optim.SGD(p, 0.1),
            "steps": 3,
            "batch_size": 8,
            "seed": 5,
        }
        training.fit(net, loss, tensors, **options)
    assert seen[:3] == seen[3:]


SGD = partial(torch.optim.SGD, lr=0.1)
FAST = {"optimizer": SGD, "steps": 3, "batch_size": 8}


def images(n: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"images": torch.rand(n, 1, 4, 4, generator=generator)}


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten())


def mean(outputs: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": outputs.mean()}


def test_a_loss_that_draws_gets_a_generator_of_its_own_with_the_seed():
    drawn = []

    def loss(outputs, batch, *, generator=None, weight=1.0):
        drawn.append(torch.rand(1, generator=generator).item())
        return mean(outputs, batch)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    net = conv()
    expected = torch.rand(3, generator=torch.Generator().manual_seed(5)).tolist()
    torch.set_rng_state(before)
    training.fit(net, partial(loss, weight=2.0), images(), seed=5, **FAST)
    assert drawn == pytest.approx(expected)
    assert torch.equal(torch.get_rng_state(), before)  # none of it is the global one
    drawn.clear()
    mine = torch.Generator().manual_seed(9)
    training.fit(net, partial(loss, generator=mine), images(), seed=5, **FAST)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(9)).tolist()
    assert drawn == pytest.approx(expected)


def test_a_resumed_fit_draws_on_where_it_was(tmp_path):
    def loss(outputs, batch, *, generator=None):
        if stop and len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(torch.rand(1, generator=generator).item())
        return mean(outputs, batch)

    drawn, stop = [], False
    training.fit(conv(), loss, images(), seed=5, **FAST)
    whole = list(drawn)
    drawn.clear()
    stop = True
    options = {**FAST, "checkpoint": tmp_path / "x"}
    with pytest.raises(KeyboardInterrupt):
        training.fit(conv(), loss, images(), seed=5, **options)
    stop = False
    training.fit(conv(), loss, images(), seed=5, **options)
    assert drawn == whole


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.weight * (a + b)


@pytest.mark.parametrize(
    "inputs", [("a", "b"), lambda net, batch: net(batch["a"], batch["b"])]
)
def test_a_net_may_have_several_inputs(inputs):
    seen = []

    def loss(outputs, batch):
        seen.append(outputs.detach())
        return mean(outputs, batch)

    tensors = {"a": torch.ones(8), "b": torch.full((8,), 2.0)}
    training.fit(Sum(), loss, tensors, seed=0, inputs=inputs, **FAST)
    assert seen[0].tolist() == [3.0] * 8


def test_gradients_are_clipped_together():
    net = Sum()
    tensors = {"a": torch.full((8,), 50.0), "b": torch.full((8,), 50.0)}
    options = {**FAST, "steps": 1, "inputs": ("a", "b"), "clip": 0.25}
    constant = lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(  # noqa: E731
        optimizer, 1.0
    )
    training.fit(net, mean, tensors, seed=0, schedule=constant, **options)
    assert net.weight.item() == pytest.approx(1 - 0.1 * 0.25, rel=1e-4)


def test_batches_may_come_ready_made():
    ready = iter([images(8)] * 3)
    history = training.fit(
        conv(), mean, ready, optimizer=SGD, steps=3, seed=0, layout=None
    )
    assert history.steps == 3
    with pytest.raises(ValueError, match="no batch_size and augment beside batches"):
        training.fit(conv(), mean, ready, seed=0, **FAST)
    with pytest.raises(ValueError, match="a batch_size"):
        training.fit(conv(), mean, images(), seed=0, optimizer=SGD, steps=1)


def test_a_net_in_evaluation_mode_is_trained_in_training_mode():
    net = nn.Sequential(conv(), nn.Dropout(0.5)).eval()
    modes = []

    def loss(outputs, batch):
        modes.append(net[1].training)
        return mean(outputs, batch)

    training.fit(net, loss, images(), seed=0, **FAST)
    assert modes == [True] * 3


def dropping() -> nn.Module:
    return nn.Sequential(conv(), nn.Dropout(0.5), nn.Linear(4, 1))


def test_arms_that_are_alike_end_alike_to_the_bit():
    builders = {"one": dropping, "two": dropping}
    nets, histories = training.compare(builders, mean, images(), seed=4, **FAST)
    assert histories["one"].columns == histories["two"].columns
    for a, b in zip(nets["one"].parameters(), nets["two"].parameters(), strict=True):
        assert torch.equal(a, b)
    assert not any(net.training for net in nets.values())
    torch.manual_seed(4)
    alone = dropping()
    history = training.fit(alone, mean, images(), seed=4, **FAST)
    assert history.columns == histories["one"].columns


def test_built_nets_are_those_that_a_comparison_begins_with():
    first = training.build({"a": conv, "b": conv}, seed=2)
    assert torch.equal(first["a"][0].weight, first["b"][0].weight)
    idle = {"a": partial(torch.optim.SGD, lr=0.0)}
    options = {**FAST, "optimizer": idle}
    nets, _ = training.compare({"a": conv}, mean, images(), seed=2, **options)
    assert torch.equal(nets["a"][0].weight, first["a"][0].weight)


def test_arms_may_differ_in_loss_tensors_and_options():
    def twice(outputs, batch):
        return {"loss": 2 * outputs.mean()}

    builders = {"a": conv, ("b", 2): conv}
    _, histories = training.compare(
        builders,
        {"a": mean, ("b", 2): twice},
        {"a": images(), ("b", 2): images(16)},
        seed=0,
        **{**FAST, "steps": {"a": 2, ("b", 2): 4}},
    )
    assert [history.steps for history in histories.values()] == [2, 4]


def test_bad_comparisons_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a loss for each of \['a'\], got \['b'\]"):
        training.compare({"a": conv}, {"b": mean}, images(), seed=0, **FAST)
    builders = {"a": conv, "b": conv}
    options = {**FAST, "checkpoint": tmp_path / "x"}
    with pytest.raises(ValueError, match="a checkpoint for each arm"):
        training.compare(builders, mean, images(), seed=0, **options)
    with pytest.raises(ValueError, match="at least one arm"):
        training.compare({}, mean, images(), seed=0, **FAST)
