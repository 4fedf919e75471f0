"""Blocks from codes and back, counts at the paper's scale, the agent by hand, and the
table that the chapter searches in."""

import importlib.util
import random
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock

from papernets_lite.backbones import blockqnn
from papernets_lite.backbones.blockqnn import (
    ADD,
    AVERAGE,
    CONCAT,
    CONV,
    IDENTITY,
    INCEPTION,
    MAX,
    RESIDUAL,
    START,
    TERMINAL,
    Agent,
    Block,
    Layer,
)
from papernets_lite.data import blocks
from tests.helpers import fit

ROOT = Path(__file__).resolve().parents[2]
# One convolution, and the two halves of what a block may be: a chain, and a fork whose
# ends are joined by the block itself.
SINGLE = ((1, CONV, 3, 0, 0), (2, TERMINAL, 0, 0, 0))
FORK = ((1, CONV, 3, 0, 0), (2, MAX, 3, 0, 0), (3, TERMINAL, 0, 0, 0))
EVERY_KIND = (
    (1, CONV, 5, 0, 0),
    (2, MAX, 3, 1, 0),
    (3, AVERAGE, 3, 1, 0),
    (4, IDENTITY, 0, 2, 0),
    (5, ADD, 0, 3, 4),
    (6, CONCAT, 0, 0, 5),
    (7, TERMINAL, 0, 0, 0),
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def script() -> ModuleType:
    """The script that made the table; it imports its neighbours by their bare names."""
    tools = ROOT / "book" / "_tools"
    sys.path.insert(0, str(tools))
    try:
        spec = importlib.util.spec_from_file_location(
            "blocks_script", tools / "blocks.py"
        )
        assert spec
        assert spec.loader
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
    finally:
        sys.path.remove(str(tools))
    return made


def test_there_are_as_many_layers_as_table_1_has() -> None:
    """Three convolutions, two of each pooling and an identity, with any earlier layer;
    two joins of any pair."""
    for index in (1, 2, 3, 7):
        layers = list(blockqnn.choices(index))
        assert len(set(layers)) == len(layers)
        pairs = index * (index - 1) // 2
        assert len(layers) == 8 * index + 2 * pairs + (index > 1)
        assert all(layer.place == index for layer in layers)
        assert all(s < index for layer in layers for s in layer.sources)


def test_the_small_space_by_hand() -> None:
    """Two layers at most: 2 single ones; after each of them a convolution or a pooling
    of the input or the first layer, or their sum."""
    short = list(blockqnn.every_block(2, blockqnn.SMALL))
    assert len(short) == 2 + 2 * 5
    # a convolution beside a pooling is written down in two ways
    assert len({blockqnn.graph(codes) for codes in short}) == 11
    assert len(
        list(blockqnn.every_block(3, blockqnn.SMALL))
    ) == 2 + 2 * 5 + 2 * 4 * 0 + (2 * 5 * 9)


@pytest.mark.parametrize("rows", [SINGLE, FORK, EVERY_KIND, RESIDUAL, INCEPTION])
def test_codes_make_a_block_from_which_they_are_read(rows) -> None:
    block = Block(rows, 4)
    assert blockqnn.codes_of(block) == rows
    assert block(torch.rand(2, 4, 6, 5)).shape == (2, 4, 6, 5)


def test_random_blocks_are_valid_and_read_back() -> None:
    agent = Agent(most=6, seed=3)
    for _ in range(60):
        codes = agent.write(1.0)
        assert blockqnn.checked(codes) == codes
        block = Block(codes, 3)
        assert blockqnn.codes_of(block) == codes
        assert block.eval()(torch.rand(1, 3, 5, 5)).shape == (1, 3, 5, 5)
        with FlopCounterMode(display=False) as counted:
            block(torch.rand(1, 3, 5, 5))
        found = blockqnn.multiply_adds(codes, width=3, side=5)
        assert 2 * found == counted.get_total_flops()
        read = {s for layer in codes for s in layer.sources}
        ends = set(range(1, len(codes))) - read
        assert set(blockqnn.loose(codes)) == ends
        assert ends, "something must come out"


def test_density_and_work_of_three_blocks_by_hand() -> None:
    # one edge, two nodes; four edges, four nodes; seven edges, eight nodes
    rows = [blockqnn.checked(codes) for codes in (SINGLE, RESIDUAL, INCEPTION)]
    assert [blockqnn.density(codes) for codes in rows] == [0.5, 1.0, 0.875]
    # 10 channels on a map of 7 x 7: two convolutions of 3 x 3; 1 + 1 + 9 + 1 + 25 + 1,
    # and four ends to be mixed
    work = [blockqnn.multiply_adds(codes, width=10, side=7) for codes in rows]
    assert work == [9 * 4900, 18 * 4900, (38 + 4) * 4900]


@pytest.mark.parametrize("codes", [RESIDUAL, INCEPTION])
def test_the_work_of_a_net_is_torchs_own_count(codes) -> None:
    sizes = {"widths": (8, 12, 16), "repeats": 2}
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        net = blockqnn.tiny(codes=codes, num_classes=5, **sizes).eval()
        net(torch.rand(1, 3, 16, 16))
    found = blockqnn.net_multiply_adds(codes, side=16, **sizes)
    assert 2 * (found + 16 * 5) == counted.get_total_flops(), "and the linear layer"


def test_what_is_drawn_of_a_fork() -> None:
    nodes, arrows = blockqnn.sketch(blockqnn.checked(FORK))
    assert nodes == {"0 input": False, "1 conv 3": True, "2 max 3": True}
    titles = [layer.title for layer in RESIDUAL]
    assert titles == ["conv 3 of 0", "conv 3 of 1", "add of 0 and 2", "end"]
    ways = [(start, end) for start, end, _ in arrows]
    assert ways == [("0 input", "1 conv 3"), ("0 input", "2 max 3")]


def test_a_graph_is_the_same_however_it_is_written() -> None:
    swapped = ((1, MAX, 3, 0, 0), (2, CONV, 3, 0, 0), (3, TERMINAL, 0, 0, 0))
    first, second = (blockqnn.graph(blockqnn.checked(c)) for c in (FORK, swapped))
    assert first == second == ("conv 3(x)", "max 3(x)")
    assert blockqnn.graph(RESIDUAL)[0] == "add(conv 3(conv 3(x)), x)"


def test_the_residual_block_is_torchvisions() -> None:
    """With torchvision's weights, on maps that a ReLU has left: the sum before its last
    ReLU."""
    torch.manual_seed(0)
    ours, theirs = Block(RESIDUAL, 8).eval(), BasicBlock(8, 8).eval()
    assert count(ours) == count(theirs) == 2 * (9 * 64 + 2 * 8)
    for norm in (theirs.bn1, theirs.bn2):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    pairs = [(ours.layers[0], "1"), (ours.layers[1], "2")]
    for mine, name in pairs:
        mine[1].load_state_dict(getattr(theirs, f"conv{name}").state_dict())
        mine[2].load_state_dict(getattr(theirs, f"bn{name}").state_dict())
    x = torch.rand(2, 8, 7, 7)
    torch.testing.assert_close(ours(x).relu(), theirs(x))


def test_parameters_at_the_papers_scale() -> None:
    """By hand: convolutions of w x w weights, two numbers a channel for each
    normalisation, 1x1 convolutions where a stage begins."""
    widths = (32, 64, 128)
    rest = 27 * 32 + 2 * 32 + (32 * 64 + 2 * 64) + (64 * 128 + 2 * 128) + 128 * 10 + 10
    with torch.device("meta"):
        found = {
            codes: count(blockqnn.paper(codes=codes)) for codes in (RESIDUAL, INCEPTION)
        }
    residual = sum(18 * w * w + 4 * w for w in widths)
    inception = sum((38 + 4) * w * w + 2 * 7 * w for w in widths)
    assert found[RESIDUAL] == 4 * residual + rest == 1_564_714
    assert found[INCEPTION] == 4 * inception + rest == 3_638_058


def test_one_update_by_hand() -> None:
    agent = Agent(most=2, space=blockqnn.SMALL, initial=0.5, alpha=0.1, gamma=0.9)
    codes = blockqnn.checked(FORK)
    first, second, end = codes
    agent.learn(codes, 0.8)
    # T = 3. The end: 0.5 + 0.1 (0.8 - 0.5). The step before sees the end's new value.
    after_end = 0.53
    after_second = 0.5 + 0.1 * (0.8 / 3 + 0.9 * after_end - 0.5)
    after_first = 0.5 + 0.1 * (0.8 / 3 + 0.9 * max(0.5, after_second) - 0.5)
    assert agent.table[second][end] == pytest.approx(after_end, abs=1e-12)
    assert agent.table[first][second] == pytest.approx(after_second, abs=1e-12)
    assert agent.table[START][first] == pytest.approx(after_first, abs=1e-12)


def test_without_shaping_only_the_end_is_paid() -> None:
    agent = Agent(most=1, space=blockqnn.SMALL, alpha=1.0, shaped=False, initial=0.0)
    agent.learn(blockqnn.checked(SINGLE), 0.7)
    assert agent.table[START][Layer(*SINGLE[0])] == 0.7
    shaped = Agent(most=1, space=blockqnn.SMALL, alpha=1.0, initial=0.0)
    shaped.learn(blockqnn.checked(SINGLE), 0.7)
    assert shaped.table[START][Layer(*SINGLE[0])] == pytest.approx(0.7 / 2 + 0.7)


def test_replay_finds_the_best_block_of_all() -> None:
    """With alpha 1 and a reward that nothing disturbs, the values of a path are the
    best reward behind it, where a state is reached in one way."""
    space = {CONV: (1, 3), MAX: (3,)}
    every = list(blockqnn.every_block(2, space))
    generator = random.Random(5)
    worth = {codes: generator.random() for codes in every}
    agent = Agent(most=2, space=space, alpha=1.0, initial=0.0, shaped=False)
    # the state forgets what stood before the last layer: keep one way to each
    ways = {codes[-2]: codes for codes in every}
    for _ in range(3):
        for codes in ways.values():
            agent.learn(codes, worth[codes])
    best = max(ways.values(), key=worth.__getitem__)
    assert agent.write(0.0) == best
    assert max(agent.table[START].values()) == worth[best]


def test_ties_are_broken_by_chance() -> None:
    agent = Agent(most=3, seed=1)
    firsts = {agent.choose(START, 0.0) for _ in range(300)}
    assert firsts == set(blockqnn.choices(1))


def test_epsilon_decides_between_chance_and_the_best() -> None:
    agent = Agent(most=3, seed=2)
    favourite = next(blockqnn.choices(1))
    agent.values(START)[favourite] = 1.0
    assert {agent.choose(START, 0.0) for _ in range(50)} == {favourite}
    taken = [agent.choose(START, 0.4) == favourite for _ in range(3000)]
    # by choice, or by chance among the eight
    assert sum(taken) / 3000 == pytest.approx(0.6 + 0.4 / 8, abs=0.03)


def test_a_search_is_repeatable_and_keeps_the_schedule() -> None:
    runs = []
    for _ in range(2):
        agent = Agent(most=4, seed=7)
        schedule = ((1.0, 2), (0.1, 3))
        seen = blockqnn.search(agent, len, schedule=schedule, count=5, replay=8)
        runs.append(seen)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 5 * 5
    assert all(value == len(codes) for codes, value in runs[0])
    assert sum(iterations for _, iterations in blockqnn.SCHEDULE) == 178
    epsilons = [epsilon for epsilon, _ in blockqnn.SCHEDULE]
    assert all(a > b for a, b in pairwise(epsilons))


def test_the_reward_of_an_early_stop() -> None:
    found = blockqnn.early_reward(60.0, 2.718281828459045, 0.5, mu=1.0, rho=8.0)
    assert found == pytest.approx(60 - 1 + 8 * 0.6931471805599453)
    assert blockqnn.early_reward(60.0, 1e6, 0.9, mu=0.0, rho=0.0) == 60.0


def test_the_table_holds_each_block_of_the_space_once() -> None:
    rows = [blockqnn.checked(row.codes) for row in blocks.load().rows]
    held = [blockqnn.graph(codes) for codes in rows]
    space = set(map(blockqnn.graph, blockqnn.every_block(3, blockqnn.SMALL)))
    assert len(held) == len(set(held)) == 66
    assert set(held) == space
    for row in blocks.load().rows:
        for values in (row.early, row.full):
            assert len(values) == 2
            assert all(0.05 < value < 1 for value in values)
    full = torch.tensor([row.full for row in blocks.load().rows])
    early = torch.tensor([row.early for row in blocks.load().rows])
    assert (full.mean(1) > early.mean(1)).all(), "a longer training is a better one"
    assert rows[full.mean(1).argmax()] == blockqnn.FOUND


def test_a_block_trained_again_gives_what_the_table_says() -> None:
    """Within 0.05: another machine adds up in another order, and eighty steps with a
    high learning rate make that grow; on the machine that made it, nothing differs."""
    table, made = blocks.load(), script()
    assert table.recipe == made.RECIPE, "the script has changed, make the table anew"
    row = table.rows[-1]
    again = made.accuracy(blockqnn.checked(row.codes), table.recipe["early"], 1)
    assert again == pytest.approx(row.early[1], abs=0.05)


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = blockqnn.tiny(codes=FORK)
    images, labels = torch.rand(16, 3, 16, 16), torch.arange(16) % 8
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = fit(
        lambda: blockqnn.loss(net(images), {"labels": labels})["loss"], optimizer, 40
    )
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: list(blockqnn.choices(0)),
        lambda: list(blockqnn.every_block(0)),
        lambda: blockqnn.checked(()),
        lambda: blockqnn.checked(RESIDUAL[:-1]),
        lambda: blockqnn.checked((*SINGLE, (3, TERMINAL, 0, 0, 0))),
        lambda: blockqnn.checked([(1, CONV, 3, 1, 0), (2, TERMINAL, 0, 0, 0)]),
        lambda: blockqnn.checked([(1, CONV, 7, 0, 0), (2, TERMINAL, 0, 0, 0)]),
        lambda: blockqnn.checked([(1, CONV, 3, 0), (2, TERMINAL, 0, 0, 0)]),
        lambda: blockqnn.checked([(2, CONV, 3, 0, 0), (2, TERMINAL, 0, 0, 0)]),
        lambda: blockqnn.checked([(1, ADD, 0, 0, 0), (2, TERMINAL, 0, 0, 0)]),
        lambda: blockqnn.multiply_adds(RESIDUAL, width=0, side=8),
        lambda: Block(RESIDUAL, 0),
        lambda: blockqnn.early_reward(50.0, 0, 0.5, mu=1.0, rho=8.0),
        lambda: Agent(most=0),
        lambda: Agent(most=2, alpha=1.5),
        lambda: Agent(most=2, gamma=-0.1),
        lambda: blockqnn.search(Agent(most=2), len, count=0),
        lambda: blockqnn.tiny(repeats=0),
        lambda: blockqnn.tiny(widths=()),
        lambda: blockqnn.paper(num_classes=0),
        lambda: blockqnn.tiny()(torch.zeros(0, 3, 16, 16)),
        lambda: blockqnn.tiny()(torch.rand(2, 1, 16, 16)),
        lambda: blockqnn.tiny()(torch.rand(2, 3, 1, 16)),
        lambda: blockqnn.tiny()(torch.rand(2, 3, 16, 16).double()),
        lambda: blocks.pictures(0, 16),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        wrong()


def test_odd_sizes_and_half_precision() -> None:
    net = blockqnn.tiny().eval()
    assert net(torch.rand(1, 3, 17, 9)).shape == (1, 8)
    assert net(torch.rand(1, 3, 2, 2)).isfinite().all()
    assert net.bfloat16()(torch.rand(2, 3, 16, 16).bfloat16()).isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert blockqnn.tiny()(torch.rand(2, 3, 16, 16)).isfinite().all()
