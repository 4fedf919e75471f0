"""Counts by hand, AHP on consistent matrices, the programme against every subset of
tasks, tournaments by hand."""

import itertools

import pytest
import torch
from torch import nn

from papernets_lite.transfer import taskonomy
from papernets_lite.transfer.taskonomy import Edge
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_at_the_papers_scale_by_hand():
    with torch.device("meta"):
        net = taskonomy.paper()
    # ResNet-50 has 25,557,032 numbers, of which its classifier holds 2048 x 1000 +
    # 1000; then 2048 -> 8, 3x3, and BN.
    assert (
        count(net.encoder) == 25_557_032 - 2_049_000 + 2048 * 8 * 9 + 16 == 23_655_504
    )
    channels = [8, *(c for c, _ in taskonomy.DECODER)]
    assert channels == [8, 1024, 1024, 512, 256, 256, 128, 64, 64, 32, 32, 16, 32, 16]
    convs = sum(9 * a * b for a, b in itertools.pairwise(channels))
    assert (
        count(net.decoder)
        == convs + 2 * sum(channels[1:]) + 9 * 16 * 3 + 3
        == 16_453_299
    )


def test_sizes_at_both_scales():
    torch.manual_seed(0)
    net, images = taskonomy.tiny(out_channels=5).eval(), torch.rand(2, 3, 32, 32)
    assert net.encoder(images).shape == (2, 8, 8, 8)
    assert net(images).shape == (2, 5, 32, 32)
    transfer = taskonomy.tiny_transfer(sources=3, out_channels=5).eval()
    assert transfer(torch.rand(2, 24, 8, 8)).shape == (2, 5, 32, 32)
    with torch.no_grad():
        large = taskonomy.paper(out_channels=2).eval()
        code = large.encoder(torch.rand(1, 3, 256, 256))
        assert code.shape == (1, 8, 16, 16)
        assert large.decoder(code).shape == (1, 2, 256, 256)


def test_losses_by_hand():
    outputs = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    torch.testing.assert_close(
        taskonomy.errors(outputs, torch.zeros(2, 1, 1, 2)), torch.tensor([1.5, 0.0])
    )
    logits = torch.zeros(2, 4, 1, 3)
    logits[1, 2] = 100.0
    labels = torch.full((2, 1, 3), 2)
    torch.testing.assert_close(
        taskonomy.errors(logits, labels), torch.tensor([4.0, 1.0]).log()
    )
    for kind in (torch.int64, torch.int32, torch.uint8):
        found = taskonomy.loss(logits, {"target": labels.to(kind)})
        torch.testing.assert_close(found["loss"], torch.tensor(4.0).log() / 2)


def test_half_precision_is_judged_in_single():
    outputs = torch.rand(2, 3, 40, 40).bfloat16()
    target = torch.rand(2, 3, 40, 40, dtype=torch.float64)
    expected = taskonomy.errors(outputs.float(), target.float())
    assert torch.equal(taskonomy.errors(outputs, target), expected)
    net = taskonomy.tiny().bfloat16()
    loss = taskonomy.loss(
        net(torch.rand(2, 3, 32, 32).bfloat16()), {"target": torch.rand(2, 3, 32, 32)}
    )
    loss["loss"].backward()


def test_layout_changes_nothing_and_odd_sizes_are_refused():
    torch.manual_seed(0)
    net, images = taskonomy.tiny().eval(), torch.rand(2, 3, 36, 48)
    with torch.no_grad():
        expected = net(images)
        found = net(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(
            ValueError, match=r"sides such as \(36, 48\), got \(33, 45\)"
        ):
            net(images[..., :33, :45])


def test_a_tournament_by_hand():
    losses = torch.tensor([[1.0, 1, 5, 2], [2, 2, 2, 2], [3, 3, 3, 0]])
    expected = torch.tensor([[4, 5, 4], [3, 4, 6], [4, 2, 4]]).double() / 8
    torch.testing.assert_close(taskonomy.win_rates(losses), expected)


def test_gain_and_quality_are_entries_of_the_tournament():
    losses = torch.tensor([[1.0, 1, 5, 2], [2, 2, 2, 2]])
    assert taskonomy.beats(losses[0], losses[1]) == 5 / 8
    assert taskonomy.beats(losses[1], losses[0]) == 3 / 8


def test_win_rates_of_two_sum_to_one():
    losses = torch.randint(
        5, (6, 40), generator=torch.Generator().manual_seed(0)
    ).float()
    wins = taskonomy.win_rates(losses)
    torch.testing.assert_close(wins + wins.T, torch.ones(6, 6, dtype=torch.double))


@pytest.mark.parametrize(
    "weights", [[0.5, 0.3, 0.2], [0.7, 0.15, 0.1, 0.04, 0.01], [1.0]]
)
def test_ahp_recovers_the_weights_of_a_consistent_matrix(weights):
    w = torch.tensor(weights, dtype=torch.double)
    wins = w[:, None] / (w[:, None] + w)  # so that w_ij / w_ji = w_i / w_j
    torch.testing.assert_close(taskonomy.ahp(wins), w / w.sum())


def test_affinities_are_those_of_the_tournament():
    losses = torch.rand(4, 30, generator=torch.Generator().manual_seed(2))
    expected = taskonomy.ahp(taskonomy.win_rates(losses))
    torch.testing.assert_close(taskonomy.affinities(list(losses)), expected)


def test_ahp_of_a_matrix_by_hand():
    # Two competitors: the ratio is 3, whatever the eigenvalue.
    wins = torch.tensor([[0.5, 0.75], [0.25, 0.5]])
    torch.testing.assert_close(
        taskonomy.ahp(wins), torch.tensor([0.75, 0.25], dtype=torch.double)
    )
    # One that always wins: clipped to 0.999 : 0.001.
    always = taskonomy.ahp(torch.tensor([[0.5, 1.0], [0.0, 0.5]]))
    torch.testing.assert_close(always, torch.tensor([0.999, 0.001], dtype=torch.double))


def test_ahp_is_numpys_eigenvector_and_follows_a_permutation():
    losses = torch.rand(7, 50, generator=torch.Generator().manual_seed(1))
    wins = taskonomy.win_rates(losses).clamp(0.01, 0.99)
    found = taskonomy.ahp(wins)
    image = (wins / wins.T) @ found
    torch.testing.assert_close(image / image.sum(), found)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(taskonomy.ahp(wins[order][:, order]), found[order])


def graph(tasks: int, seed: int) -> tuple[list[Edge], torch.Tensor]:
    """Every transfer of first order, the tasks' own nets, and some pairs; task 0 is a
    source only."""
    generator = torch.Generator().manual_seed(seed)
    edges = [Edge((s,), t) for t in range(1, tasks) for s in range(tasks)]
    edges += [
        Edge((s, (s + t) % tasks), t)
        for t in range(1, tasks)
        for s in range(tasks)
        if t % tasks
    ]
    return edges, torch.rand(len(edges), generator=generator).double()


def brute_force(edges, affinity, budget, costs, importance):
    """The best value over all sets of tasks that may be labelled."""
    best, tasks = -1.0, len(costs)
    for bits in itertools.product((0, 1), repeat=tasks):
        labelled = {task for task in range(tasks) if bits[task]}
        if sum(costs[task].item() for task in labelled) > budget + 1e-9:
            continue
        value = 0.0
        for target in {edge.target for edge in edges}:
            allowed = [
                affinity[n].item() * importance[target].item()
                for n, edge in enumerate(edges)
                if edge.target == target and labelled.issuperset(edge.sources)
            ]
            value += max(allowed, default=-99.0)
        best = max(best, value)
    return best


@pytest.mark.parametrize(
    ("tasks", "budget"), [(4, 1), (6, 1), (6, 2), (6, 3), (7, 2.5), (8, 3)]
)
def test_the_programme_is_the_best_of_all_subsets(tasks, budget):
    edges, affinity = graph(tasks, tasks)
    generator = torch.Generator().manual_seed(tasks)
    costs = 0.5 + torch.rand(tasks, generator=generator)
    importance = torch.rand(tasks, generator=generator)
    for cost, weight in ((torch.ones(tasks), torch.ones(tasks)), (costs, importance)):
        found = taskonomy.programme(
            edges, affinity, budget=budget, costs=cost, importance=weight
        )
        assert found.value == pytest.approx(
            brute_force(edges, affinity, budget, cost, weight), abs=1e-5
        )
        chosen = [edges[number] for number in found.chosen]
        assert sorted(edge.target for edge in chosen) == list(range(1, tasks))
        assert all(found.labelled[list(edge.sources)].all() for edge in chosen)
        assert (cost * found.labelled).sum() <= budget + 1e-5
        assert found.value == pytest.approx(
            sum((affinity[n] * weight[edges[n].target]).item() for n in found.chosen),
            abs=1e-5,
        )


def test_given_the_labelled_tasks_the_programme_takes_the_best_edges():
    edges, affinity = graph(6, 3)
    for budget in range(1, 7):
        found = taskonomy.programme(edges, affinity, budget=budget, costs=torch.ones(6))
        labelled = found.labelled.nonzero()[:, 0].tolist()
        assert set(found.chosen) == set(taskonomy.best_edges(edges, affinity, labelled))


def test_a_budget_that_serves_nobody_is_refused():
    edges, affinity = graph(4, 0)
    with pytest.raises(ValueError, match="expected constraints"):
        taskonomy.programme(edges, affinity, budget=0, costs=torch.ones(4))


def test_gain_and_quality_by_hand():
    losses = {
        Edge((), 1): torch.tensor([3.0, 3, 3, 3]),
        Edge((1,), 1): torch.tensor([1.0, 1, 1, 1]),
        Edge((0,), 1): torch.tensor([0.0, 1, 2, 4]),
    }
    assert taskonomy.gain_and_quality([Edge((0,), 1)], losses) == (0.75, 0.375)
    assert taskonomy.gain_and_quality([Edge((0,), 1), Edge((1,), 1)], losses) == (
        0.875,
        0.4375,
    )


def test_sources_of_the_second_order():
    singles = [Edge((s,), 7) for s in range(5)]
    losses = {
        edge: torch.arange(9.0) + gap
        for edge, gap in zip(singles, (0.2, 0.5, 0.4, 0.3, 0.1), strict=True)
    }
    pairs = taskonomy.higher_order(singles, losses, order=2, beam=3)
    assert pairs == [Edge((4, 0), 7), Edge((4, 3), 7), Edge((0, 3), 7)]
    assert taskonomy.higher_order(singles, losses, order=1, beam=2) == [
        Edge((4,), 7),
        Edge((0,), 7),
    ]
    with pytest.raises(ValueError, match="expected an order"):
        taskonomy.higher_order(singles, losses, order=3, beam=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: taskonomy.errors(
                torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), 255)
            ),
            r"labels from 0 to 3, got .*255",
        ),
        (
            lambda: taskonomy.errors(torch.zeros(2, 4, 2, 2), torch.zeros(1, 4, 2, 2)),
            r"target \(2, 4, 2, 2\), got \(1, 4, 2, 2\)",
        ),
        (
            lambda: taskonomy.win_rates(torch.tensor([[1.0, torch.nan], [1.0, 2.0]])),
            r"finite losses, got \[1, 0\]",
        ),
        (lambda: taskonomy.win_rates(torch.zeros(2, 0)), "losses"),
        (
            lambda: taskonomy.affinities([torch.ones(2), torch.ones(3)]),
            "the same images",
        ),
        (lambda: taskonomy.affinities([]), "the same images"),
        (lambda: taskonomy.ahp(torch.full((2, 2), 1.5)), "rates in"),
        (lambda: taskonomy.ahp(torch.full((2, 2), torch.nan)), "rates in"),
        (
            lambda: taskonomy.programme(
                [Edge((5,), 0)], torch.ones(1), budget=1, costs=torch.ones(2)
            ),
            "tasks from 0 to 1",
        ),
        (
            lambda: taskonomy.programme(
                [Edge((1,), 0)],
                torch.full((1,), torch.nan),
                budget=1,
                costs=torch.ones(2),
            ),
            "finite affinities",
        ),
        (
            lambda: taskonomy.programme(
                [], torch.ones(0), budget=1, costs=torch.ones(2)
            ),
            "an affinity of each, got 0, 0",
        ),
        (
            lambda: taskonomy.best_edges([Edge((1,), 0)], torch.ones(2), [1]),
            "an affinity of each, got 1, 2",
        ),
        (lambda: taskonomy.gain_and_quality([], {}), "at least one transfer"),
        (
            lambda: taskonomy.gain_and_quality([Edge((0,), 1)], {}),
            "losses of Edge",
        ),
        (lambda: taskonomy.tiny(out_channels=0), "layers and channels"),
        (
            lambda: taskonomy.tiny_transfer(sources=0, out_channels=1),
            "sources >= 1",
        ),
        (lambda: taskonomy.tiny()(torch.zeros(1, 1, 32, 32)), "3 channels"),
        (
            lambda: taskonomy.tiny()(torch.zeros(1, 3, 32, 32).double()),
            "images of torch.float32, got torch.float64",
        ),
        (
            lambda: taskonomy.tiny_transfer(sources=2, out_channels=1)(
                torch.zeros(1, 8, 8, 8)
            ),
            "16 channels",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        wrong()


def test_what_numpy_counts_in_is_taken():
    losses = torch.tensor([[1, 1, 5, 2], [2, 2, 2, 2]])
    assert taskonomy.beats(losses[0].int(), losses[1].int()) == 5 / 8
    edges = [Edge((0,), 1), Edge((1,), 1)]
    found = taskonomy.programme(
        edges, torch.tensor([2, 1]), budget=1, costs=torch.tensor([1, 1]).int()
    )
    assert (found.chosen, found.value) == ((0,), 2)


def test_a_choice_stands_among_those_of_its_size():
    scores = {(): 0.9, (1,): 0.2, (2,): 0.5, (3,): 0.5, (1, 2): 0.1}
    assert taskonomy.standing(scores, (1,)) == (3, 3)
    assert taskonomy.standing(scores, (3,)) == (1, 3), "equal ones share a rank"
    assert taskonomy.standing(scores, (1, 2)) == (1, 1)
    with pytest.raises(ValueError, match="one of"):
        taskonomy.standing(scores, (4,))
