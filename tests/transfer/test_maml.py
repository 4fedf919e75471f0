"""Counts at the paper's scale; the meta-gradient in closed form, by finite differences
and against a loop unrolled by hand; tasks and normalisation on small cases."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn import functional

from papernets_lite.transfer import maml
from tests.unchecked import unchecked

Tensors = dict[str, Tensor]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def waves(tasks: int = 3, seed: int = 0, kind: torch.dtype = torch.float64) -> Tensors:
    batch = next(maml.Sinusoids(tasks, shots=4, generator=draws(seed)))
    return {name: value.to(kind) for name, value in batch.items()}


def pictures(tasks: int = 2, kind: torch.dtype = torch.float32) -> Tensors:
    drawn = torch.rand(7, 4, 1, 8, 8, generator=draws(1)).to(kind)
    return next(maml.Episodes(drawn, tasks=tasks, queries=2, generator=draws(2)))


def small(kind: torch.dtype = torch.float32) -> maml.Learner:
    torch.manual_seed(0)
    return maml.paper(width=3, depth=2, side=8).to(kind)


def wave_net() -> maml.Regressor:
    torch.manual_seed(0)
    return maml.regressor(hidden=(6, 5)).double()


def meta_gradient(net: nn.Module, batch: Tensors, **inner: object) -> list[Tensor]:
    missed = maml.loss(maml.answers(net, batch, **inner), batch)["loss"]
    return list(torch.autograd.grad(missed, list(net.parameters())))


def unrolled(
    net: nn.Module, batch: Tensors, *, rate: float, steps: int, first_order: bool
) -> list[Tensor]:
    """The meta-gradient by plain autograd, task after task."""
    start = dict(net.named_parameters())
    total = torch.zeros((), dtype=torch.float64)
    for support, known, query, asked in zip(
        batch["support"],
        batch["support_targets"],
        batch["query"],
        batch["targets"],
        strict=True,
    ):
        heights = known.is_floating_point()
        miss = functional.mse_loss if heights else functional.cross_entropy
        weights = dict(start)
        for _ in range(steps):
            missed = miss(functional_call(net, weights, (support,)), known)
            slopes = torch.autograd.grad(
                missed, list(weights.values()), create_graph=not first_order
            )
            moved = zip(weights.items(), slopes, strict=True)
            weights = {name: w - rate * slope for (name, w), slope in moved}
        total = total + miss(functional_call(net, weights, (query,)), asked)
    mean = total / len(batch["support"])
    return list(torch.autograd.grad(mean, list(start.values())))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (maml.paper, 112_261),
        (lambda: maml.paper(ways=20), 113_236),
        (maml.mini_imagenet, 32_901),
        (maml.regressor, 1_761),
    ],
)
def test_parameters_at_the_papers_scale(
    build: Callable[[], nn.Module], expected: int
) -> None:
    with torch.device("meta"):
        assert count(build()) == expected


def test_parameters_by_hand() -> None:
    net = maml.paper()
    first, other, norm = 9 * 64 + 64, 9 * 64 * 64 + 64, 2 * 64
    assert count(net.body[0]) == first + norm
    assert count(net.body) == first + 3 * other + 4 * norm
    assert count(net.head) == 5 * 65
    mini = maml.mini_imagenet()
    assert mini.head.in_features == 800
    # the released code's normalisation has a shift and no scale
    scales = [m.weight for m in net.modules() if isinstance(m, maml.BatchNorm)]
    assert count(net) - sum(w.numel() for w in scales) == 112_005


def test_maps_of_the_papers_nets() -> None:
    omniglot, mini = maml.paper(), maml.mini_imagenet()
    x, sides = torch.rand(2, 1, 28, 28), []
    for part in omniglot.body:
        x = part(x)
        sides.append(x.shape[-1])
    assert sides == [14, 7, 4, 2]
    x, sides = torch.rand(2, 3, 84, 84), []
    for part in mini.body:
        x = part(x)
        sides.append(x.shape[-1])
    assert sides == [42, 21, 10, 5]
    assert omniglot(torch.rand(3, 1, 28, 28)).shape == (3, 5)
    assert mini(torch.rand(3, 3, 84, 84)).shape == (3, 5)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", ["waves", "pictures"])
def test_the_meta_gradient_is_that_of_a_loop_unrolled_by_hand(
    kind: str, first_order: bool, steps: int
) -> None:
    net = wave_net() if kind == "waves" else small(torch.float64)
    batch = waves() if kind == "waves" else pictures(kind=torch.float64)
    inner = {"rate": 0.05, "steps": steps, "first_order": first_order}
    found = meta_gradient(net, batch, **inner)
    expected = unrolled(net, batch, **inner)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert max(g.abs().max() for g in expected) > 1e-3


@pytest.mark.parametrize("steps", [1, 2])
def test_the_meta_gradient_is_a_finite_difference(steps: int) -> None:
    net, batch = wave_net(), waves()
    found = meta_gradient(net, batch, rate=0.05, steps=steps)
    first = meta_gradient(net, batch, rate=0.05, steps=steps, first_order=True)
    torch.manual_seed(1)
    way = [torch.randn_like(p) for p in net.parameters()]

    def moved(step: float) -> Tensor:
        other = copy.deepcopy(net)
        with torch.no_grad():
            for p, d in zip(other.parameters(), way, strict=True):
                p += step * d
            outputs = maml.answers(other, batch, rate=0.05, steps=steps)
        return maml.loss(outputs, batch)["loss"]

    def along(slopes: list[Tensor]) -> Tensor:
        pairs = zip(slopes, way, strict=True)
        return torch.stack([(g * d).sum() for g, d in pairs]).sum()

    step = 1e-6
    slope = (moved(step) - moved(-step)) / (2 * step)
    torch.testing.assert_close(along(found), slope, rtol=1e-6, atol=1e-7)
    assert (along(first) - slope).abs() > 1e-3 * slope.abs(), "first order differs"


class Line(nn.Module):
    """Linear regression without a bias."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def test_linear_regression_in_closed_form() -> None:
    generator = draws(3)
    x, q = torch.randn(2, 1, 6, 3, generator=generator, dtype=torch.float64)
    y, a = torch.randn(2, 1, 6, 1, generator=generator, dtype=torch.float64)
    start = torch.randn(3, 1, generator=generator, dtype=torch.float64)
    batch = {"support": x, "support_targets": y, "query": q, "targets": a}
    net, rate = Line(start), 0.1
    curvature = 2 / 6 * x[0].T @ x[0]
    pull = 2 / 6 * x[0].T @ y[0]
    after = start - rate * (curvature @ start - pull)
    weights = maml.adapt(net, x[0], y[0], rate=rate)[-1]["w"]
    torch.testing.assert_close(weights.detach(), after)
    outer = 2 / 6 * q[0].T @ (q[0] @ after - a[0])
    shrink = torch.eye(3, dtype=torch.float64) - rate * curvature
    (full,) = meta_gradient(net, batch, rate=rate)
    torch.testing.assert_close(full, shrink @ outer)
    (first,) = meta_gradient(net, batch, rate=rate, first_order=True)
    torch.testing.assert_close(first, outer)
    (twice,) = meta_gradient(net, batch, rate=rate, steps=2)
    again = after - rate * (curvature @ after - pull)
    outer = 2 / 6 * q[0].T @ (q[0] @ again - a[0])
    torch.testing.assert_close(twice, shrink @ shrink @ outer)


def test_one_step_is_the_hessians_correction() -> None:
    net, batch = wave_net(), waves(1)
    start = {name: w.detach() for name, w in net.named_parameters()}

    def missed(weights: dict[str, Tensor]) -> Tensor:
        outputs = functional_call(net, weights, (batch["support"][0],))
        return maml.error(outputs, batch["support_targets"][0])

    blocks = hessian(missed)(start)
    full = meta_gradient(net, batch, rate=0.05)
    first = meta_gradient(net, batch, rate=0.05, first_order=True)
    slopes = dict(zip(start, first, strict=True))
    for name, found in zip(start, full, strict=True):
        around = slopes[name].ndim
        bent = sum(
            torch.tensordot(blocks[name][other], slopes[other], slopes[other].ndim)
            for other in start
        )
        assert isinstance(bent, Tensor)
        assert bent.ndim == around
        torch.testing.assert_close(found, slopes[name] - 0.05 * bent)


def test_adaptation_leaves_the_net_and_lowers_the_supports_loss() -> None:
    net, batch = wave_net(), waves()
    before = copy.deepcopy(net.state_dict())
    x, y = batch["support"][0], batch["support_targets"][0]
    path = maml.adapt(net, x, y, rate=0.01, steps=5)
    values = [maml.error(functional_call(net, w, (x,)), y).item() for w in path]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.95 * values[0]
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())


def test_only_what_may_move_moves() -> None:
    net, batch = small(), pictures()
    x, y = batch["support"][0], batch["support_targets"][0]
    start, after = maml.adapt(net, x, y, rate=0.4, moving="head")
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    assert moved == {"head.weight", "head.bias"}
    start, after = maml.adapt(net, x, y, rate=0.4)
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    # a bias below a normalisation that removes it has no gradient to speak of
    assert {"head.weight", "body.1.0.weight", "body.0.1.weight"} <= moved


def test_tasks_adapt_each_for_itself() -> None:
    net, batch = small(), pictures(3)
    together = maml.answers(net, batch, rate=0.4, steps=2)
    alone = [
        maml.answers(
            net, {k: v[i : i + 1] for k, v in batch.items()}, rate=0.4, steps=2
        )
        for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_progress_ends_where_answers_do() -> None:
    net, batch = small(), pictures(30)
    watched = maml.progress(net, batch, rate=0.4, steps=3)
    assert watched.shape == (4, 30, 10, 5)
    assert not watched.requires_grad
    for steps in (0, 1, 3):
        expected = maml.answers(net, batch, rate=0.4, steps=steps)
        torch.testing.assert_close(watched[steps], expected.detach())
    before = net(batch["query"][0])
    torch.testing.assert_close(watched[0, 0], before.detach())


def test_queries_help_each_other_unless_they_pass_alone() -> None:
    net, batch = small(), pictures()
    other = dict(batch)
    other["query"] = batch["query"].clone()
    other["query"][:, 1:] = 0
    first = [maml.answers(net, b, rate=0.4)[:, 0] for b in (batch, other)]
    assert not torch.allclose(*first), "a query's answer depends on the others"
    for beside in (True, False):
        apart = [
            maml.one_at_a_time(net, b, rate=0.4, beside=beside)[:, 0]
            for b in (batch, other)
        ]
        torch.testing.assert_close(*apart)
    one = {**batch, "query": batch["query"][:, :1]}
    expected = maml.answers(net, one, rate=0.4).detach()
    found = maml.one_at_a_time(net, one, rate=0.4, beside=False)
    torch.testing.assert_close(found, expected)


def test_evaluation_mode_normalises_by_the_batch_as_well() -> None:
    net, x = small(), torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(net.train()(x), net.eval()(x))
    assert not list(net.buffers())


def test_normalisation_is_torchs_without_running_averages() -> None:
    x = torch.randn(4, 3, 5, 6, generator=draws(), dtype=torch.float64)
    ours = maml.BatchNorm(3).double()
    theirs = nn.BatchNorm2d(3, track_running_stats=False).double()
    with torch.no_grad():
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.copy_(torch.tensor([0.5, -1.0, 2.0]))
            b.copy_(a)
    torch.testing.assert_close(ours(x), theirs(x))


def test_errors_by_hand() -> None:
    heights = torch.tensor([[[[1.0], [3.0]]]])
    found = maml.errors(heights, torch.tensor([[[0.0], [1.0]]]))
    assert found.tolist() == [[2.5]]
    scores = torch.tensor([[[[1.0, 0], [1, 0]]], [[[1.0, 0], [0, 1]]]])
    assert maml.errors(scores, torch.tensor([[0, 1]])).tolist() == [[0.5], [0]]


def test_the_losses_by_hand() -> None:
    batch = {"targets": torch.tensor([[[1.0], [0.0]]]), "truth": torch.zeros(1, 2, 1)}
    outputs = torch.tensor([[[3.0], [1.0]]])
    assert maml.loss(outputs, batch)["loss"] == 2.5
    assert maml.joint_loss(outputs, batch)["loss"] == 5
    named = maml.loss(torch.zeros(1, 2, 4), {"targets": torch.tensor([[0, 3]])})
    assert named["loss"].item() == pytest.approx(1.3862944)
    assert named["accuracy"] == 0.5


def test_sinusoids_are_what_they_say() -> None:
    batch = next(maml.Sinusoids(500, generator=draws()))
    assert batch["support"].shape == batch["targets"].shape == (500, 10, 1)
    x = torch.cat([batch["support"], batch["query"]], 1)
    y = torch.cat([batch["support_targets"], batch["targets"]], 1)
    torch.testing.assert_close(y, batch["truth"])
    torch.testing.assert_close(y, batch["amplitude"] * torch.sin(x + batch["phase"]))
    for name, low, high in (
        ("amplitude", 0.1, 5),
        ("phase", 0, 3.14160),
        ("support", -5, 5),
    ):
        ends = batch[name].aminmax()
        assert low <= ends.min < low + 0.1 * (high - low), name
        assert high - 0.1 * (high - low) < ends.max <= high, name


def test_episodes_hold_other_pictures_of_the_same_classes() -> None:
    # a picture says its class and its number
    marks = torch.arange(6.0)[:, None] * 10 + torch.arange(8.0)
    drawn = marks[..., None, None, None].expand(-1, -1, 1, 4, 4)
    tasks = maml.Episodes(
        drawn, tasks=40, ways=3, shots=2, queries=3, generator=draws()
    )
    batch = next(tasks)
    known, asked = batch["support"][..., 0, 0, 0], batch["query"][..., 0, 0, 0]
    assert known.shape == (40, 6)
    assert asked.shape == (40, 9)
    for i in range(40):
        assert not set(known[i].tolist()) & set(asked[i].tolist())
        classes = {}
        for name, place in (("support_targets", known), ("targets", asked)):
            for way, mark in zip(batch[name][i], place[i], strict=True):
                classes.setdefault(way.item(), set()).add(int(mark // 10))
        assert [len(found) for found in classes.values()] == [1, 1, 1]
        assert len(set.union(*classes.values())) == 3
    truth = torch.cat([known, asked], 1) // 10
    assert torch.equal(batch["truth"], truth.long())
    firsts = {int(t) for t in batch["truth"][:, 0]}
    assert len(firsts) == 6, "any class may be way 0"


def test_a_new_head_is_zero_and_the_body_a_copy() -> None:
    net = small()
    ready = maml.with_new_head(net, 3)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(ready(x), torch.zeros(4, 3))
    torch.testing.assert_close(ready.body(x), net.body(x))
    with torch.no_grad():
        ready.body[0][0].weight.zero_()
    assert net.body[0][0].weight.abs().sum() > 0
    assert net(x).shape == (4, 5)


def test_the_nearest_example_gives_its_name() -> None:
    net, batch = small(), pictures()
    same = {**batch, "query": batch["support"].flip(1)}
    expected = batch["support_targets"].flip(1)
    assert torch.equal(maml.nearest(net, same), expected)


def test_fine_tuning_finds_the_best_and_passes_over_what_diverges() -> None:
    net = Line(torch.zeros(1, 1))
    x = torch.ones(2, 4, 1)
    batch = {"support": x, "support_targets": x, "query": x, "targets": x}
    # the error is (1 - w)^2: a step of 0.5 ends at 1, one of 1e30 nowhere
    rates = (0.1, 0.5, 1e30)
    assert maml.fine_tuning(net, batch, rates=rates, steps=3) == (0.5, 1)
    rate, step = maml.fine_tuning(net, batch, rates=(1e30,), steps=3)
    assert (rate, step) == (1e30, 0)


def test_a_few_steps_learn_to_adapt() -> None:
    torch.manual_seed(0)
    net = maml.regressor()
    tasks = maml.Sinusoids(20, generator=draws())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    losses = []
    for _ in range(120):
        batch = next(tasks)
        missed = maml.loss(maml.answers(net, batch, rate=0.01), batch)["loss"]
        optimizer.zero_grad()
        missed.backward()
        optimizer.step()
        losses.append(missed.item())
    before, after = sum(losses[:20]), sum(losses[-20:])
    assert after < 0.7 * before


def test_stored_starts_adapt_as_the_hero_says() -> None:
    starts = maml.starts()
    batch = next(maml.Sinusoids(200, generator=draws(9)))
    found = {}
    for name, net in starts.items():
        assert count(net) == 1761
        watched = maml.progress(net, batch, rate=0.01, steps=10)
        found[name] = maml.errors(watched, batch["targets"]).mean(1)
    assert found["MAML"][1] < 0.5
    assert found["first order"][1] < 0.8
    assert found["joint"][1] > 1.5
    assert found["MAML"][10] < found["MAML"][1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: maml.paper(ways=0),
        lambda: maml.paper(width=0),
        lambda: maml.paper(depth=5),
        lambda: maml.regressor(hidden=()),
        lambda: maml.regressor(hidden=(4, 0)),
        lambda: maml.tiny()(torch.rand(2, 1, 28, 28)),
        lambda: maml.tiny()(torch.rand(2, 3, 27, 28)),
        lambda: maml.tiny()(torch.rand(0, 3, 28, 28)),
        lambda: maml.tiny()(torch.rand(2, 3, 28, 28).double()),
        lambda: maml.with_new_head(small(), 0),
        lambda: maml.answers(small(), {"support": torch.rand(1)}, rate=0.1),
        lambda: maml.answers(small(), pictures(), rate=-0.1),
        lambda: maml.answers(small(), pictures(), rate=float("nan")),
        lambda: maml.answers(small(), pictures(), rate=0.1, steps=-1),
        lambda: maml.answers(small(), pictures(), rate=0.1, moving="tail"),
        lambda: maml.answers(small(), pictures() | {"query": torch.rand(3)}, rate=0.1),
        lambda: maml.plain(small(), {"support": torch.rand(1)}),
        lambda: maml.loss(torch.rand(2, 4, 5), {"targets": torch.zeros(2, 3).long()}),
        lambda: maml.loss(torch.rand(2, 4, 1), {"targets": torch.zeros(2, 4, 2)}),
        lambda: maml.loss(torch.rand(2, 0, 1), {"targets": torch.zeros(2, 0, 1)}),
        lambda: maml.joint_loss(torch.rand(2, 4, 1), {"targets": torch.zeros(2, 4, 1)}),
        lambda: maml.fine_tuning(wave_net(), waves(), rates=(), steps=1),
        lambda: maml.Sinusoids(0, generator=draws()),
        lambda: maml.Sinusoids(2, shots=0, generator=draws()),
        lambda: maml.Episodes(torch.rand(4, 9, 1, 8, 8), tasks=1, generator=draws()),
        lambda: maml.Episodes(torch.rand(6, 5, 1, 8, 8), tasks=1, generator=draws()),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match=r"expected|channels"):
        wrong()
