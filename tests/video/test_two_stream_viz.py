"""Two-stream insight: counts at the paper's scale, penalties by hand and against a
sparse matrix, the climb's gradient, limit and shift, pairs."""

from collections.abc import Callable

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from papernets_lite.video import two_stream_viz as viz
from tests.helpers import fit
from tests.unchecked import unchecked


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**overrides: object) -> viz.TwoStream:
    torch.manual_seed(0)
    settings = {"num_classes": 3, "stages": ((4, 1), (6, 1)), "frames": 4, "side": 8}
    return viz.tiny(**(settings | overrides)).eval()


def inputs(count: int = 2, net: viz.TwoStream | None = None) -> viz.Inputs:
    return viz.noise(count, net or small(), draws())


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_of_two_vggs_and_a_fusion() -> None:
    with torch.device("meta"):
        net = viz.paper()
    vgg = 138_357_544 - 4097 * 1000 + 4097 * 101  # VGG-16 with 101 classes
    flow = 64 * 9 * (20 - 3)  # the first layer reads 20 channels, not 3
    fusion = 9 * 1024 * 512 + 512
    assert count(net) == 2 * vgg + flow + fusion == 274_077_578
    assert count(net.appearance) + count(net.motion_action) == vgg
    assert count(viz.tiny()) == 50_064


def test_what_the_net_sees_has_a_place_for_each_map() -> None:
    net = small()
    outputs = net(*inputs(2, net))
    assert outputs.action.shape == outputs.motion_action.shape == (2, 3)
    maps = outputs.appearance, outputs.motion, outputs.fusion
    assert {one.shape for one in maps} == {(2, 6, 4, 4)}
    assert all((one >= 0).all() for one in maps)


def test_each_stream_sees_its_own_input_alone() -> None:
    net, x = small(), inputs()
    one, other = net(*x), net(x.images.flip(3), x.flow)
    assert torch.equal(one.motion, other.motion)
    assert torch.equal(one.motion_action, other.motion_action)
    assert not torch.equal(one.appearance, other.appearance)
    still = net(x.images, x.flow.flip(1))
    assert torch.equal(one.appearance, still.appearance)
    assert not torch.equal(one.action, still.action)


def test_time_and_components_are_the_flows_channels() -> None:
    net, x = small(), inputs(1)
    first = net.motion[0][0]
    assert first.in_channels == 8
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 2 * 3 + 1, 1, 1] = 1  # the fourth field's vertical part
        first.bias.zero_()
        seen = first(x.flow.flatten(1, 2))
    assert torch.equal(seen[0, 0], x.flow[0, 3, 1])


def test_the_loss_by_hand() -> None:
    none = torch.zeros(0)
    scores = torch.tensor([[0.0, 0.0], [0.0, 1e4]])
    outputs = viz.Seen(scores, torch.zeros(2, 2), none, none, none)
    terms = viz.loss(outputs, {"actions": torch.tensor([0, 1])})
    half = 0.6931472
    assert terms["fused"].item() == pytest.approx(half / 2)
    assert terms["flow alone"].item() == pytest.approx(half)
    assert terms["loss"].item() == pytest.approx(1.5 * half)
    assert terms["accuracy"] == 1


def test_heights_are_scores_or_means_of_channels() -> None:
    net, x = small(), inputs()
    outputs = net(*x)
    found = viz.heights(outputs, "action", torch.tensor([2, 0]))
    assert torch.equal(found, torch.stack([outputs.action[0, 2], outputs.action[1, 0]]))
    found = viz.heights(outputs, "fusion", torch.tensor([1, 5]))
    torch.testing.assert_close(found[1], outputs.fusion[1, 5].mean())


def test_total_variation_by_hand() -> None:
    flash, stripe = torch.zeros(2, 1, 8, 2, 24, 24)
    flash[:, 3, 0] = 1  # jumps twice in time at each place
    stripe[..., 0, :, 7] = 1  # jumps twice in every row
    values = [viz.variation(x, *w).item() for x in (flash, stripe) for w in WEIGHTS]
    assert values == pytest.approx([0, 2 / 8, 2 / 24, 0])
    # u and v are no neighbours, and nothing reaches over the rim
    split = torch.zeros(1, 2, 2, 3, 3)
    split[:, :, 0] = 1
    assert viz.variation(split, 1, 1) == 0
    corner = torch.zeros(1, 1, 1, 3, 3)
    corner[..., 0, 0] = 3
    assert viz.variation(corner, 1, 1).item() == pytest.approx(2 * 9 / 9)
    each = viz.variation(torch.cat([flash] * 2), 0, torch.tensor([1.0, 4.0]))
    assert each.tolist() == pytest.approx([0.25, 1.0])


WEIGHTS = ((1.0, 0.0), (0.0, 1.0))


def test_total_variation_is_that_of_sparse_matrices() -> None:
    x = torch.randn(2, 4, 2, 5, 6, generator=draws(), dtype=torch.float64)

    def differences(length: int) -> sp.csr_matrix:
        shape = (length - 1, length)
        return sp.diags([-1.0, 1.0], [0, 1], shape=shape, format="csr")

    def along(axis: int, sizes: tuple[int, ...]) -> sp.csr_matrix:
        whole = sp.identity(1, format="csr")
        for place, size in enumerate(sizes):
            part = differences(size) if place == axis else sp.identity(size)
            whole = sp.kron(whole, part, format="csr")
        return whole

    sizes = tuple(x.shape[1:])
    for one, found in zip(x, viz.variation(x, 0.3, 1.7), strict=True):
        flat = one.flatten().numpy()
        parts = [((along(axis, sizes) @ flat) ** 2).sum() for axis in (0, 2, 3)]
        expected = (1.7 * parts[0] + 0.3 * (parts[1] + parts[2])) / (4 * 5 * 6)
        assert found.item() == pytest.approx(expected)


def test_energy_by_hand() -> None:
    x = torch.zeros(1, 1, 2, 1, 2, dtype=torch.float64)
    x[0, 0, :, 0, 0] = torch.tensor([3.0, 4.0])
    assert viz.energy(x, 5.0).item() == pytest.approx(1 / 2)
    assert viz.energy(x, 2.5).item() == pytest.approx(8 / 2)
    assert viz.energy(x, 2.5, alpha=2).item() == pytest.approx(4 / 2)


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_penalties_have_their_gradients(alpha: float) -> None:
    x = torch.randn(2, 3, 2, 3, 4, generator=draws(), dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: viz.variation(y, 0.3, 1.7), x)
    assert torch.autograd.gradcheck(lambda y: viz.energy(y, 0.8, alpha=alpha), x)
    still = torch.zeros(1, 1, 2, 1, 1, requires_grad=True)
    (slope,) = torch.autograd.grad(viz.energy(still, 1.0, alpha=alpha).sum(), still)
    assert slope.isfinite().all()


def test_the_unit_has_its_gradient() -> None:
    net = small().double()
    x = viz.noise(1, net, draws())
    assert x.flow.dtype == torch.float64

    def height(images: Tensor, flow: Tensor) -> Tensor:
        return viz.heights(net(images, flow), "fusion", torch.tensor([1]))

    parts = [part.requires_grad_() for part in x]
    assert torch.autograd.gradcheck(height, parts)


def test_projection_shortens_what_is_too_long_and_nothing_else() -> None:
    x = torch.zeros(1, 1, 2, 1, 3)
    x[0, 0, :, 0] = torch.tensor([[3.0, 0.3, 0.0], [4.0, 0.4, 0.0]])
    expected = torch.tensor([[0.6, 0.3, 0], [0.8, 0.4, 0]])
    torch.testing.assert_close(viz.project(x, 1.0)[0, 0, :, 0], expected)
    many = 5 * torch.randn(2, 4, 3, 6, 6, generator=draws())
    assert (viz.project(many, 0.7).norm(dim=2) <= 0.7 + 1e-6).all()


def test_a_climb_keeps_to_its_limits() -> None:
    net = small()
    units = torch.tensor([0, 2])
    settings = {"steps": 8, "rate": 1.0, "generator": draws()}
    found, path = viz.climb(net, "action", units, inputs(2, net), **settings)
    assert path.shape == (8, 2)
    assert (found.flow.norm(dim=2) <= 1 + 1e-5).all()
    away = (found.images - viz.GREY).norm(dim=1)
    assert (away <= 160 / 255 + 1e-5).all()
    assert away.max() > 0.6, "at this rate the limit is met"


def test_a_climb_climbs_and_leaves_net_and_start_alone() -> None:
    net, start = small(), inputs(2)
    before = [p.clone() for p in net.parameters()]
    kept = [part.clone() for part in start]
    units = torch.tensor([1, 1])
    found, path = viz.climb(net, "motion", units, start, steps=30, generator=draws())
    assert (path[-1] > path[0]).all()
    assert all(map(torch.equal, before, net.parameters()))
    assert all(p.grad is None for p in net.parameters())
    assert all(map(torch.equal, kept, start))
    # a unit of the flow's stream has no slope for the picture
    assert (found.images == start.images).all()


def test_each_input_is_climbed_for_itself() -> None:
    net, start = small(), inputs(2)
    chi = torch.tensor([0.0, 5.0])
    settings = {"kappa": 0.1, "steps": 5}
    units = torch.tensor([0, 2])
    both, _ = viz.climb(
        net, "action", units, start, chi=chi, generator=draws(), **settings
    )
    for i in range(2):
        one = viz.Inputs(*(part[i : i + 1] for part in start))
        alone, _ = viz.climb(
            net,
            "action",
            units[i : i + 1],
            one,
            chi=chi[i].item(),
            generator=draws(),
            **settings,
        )
        torch.testing.assert_close(alone.flow[0], both.flow[i], atol=2e-4, rtol=1e-3)


def test_the_shift_is_around_the_edge_and_loses_no_gradient() -> None:
    class Linear(nn.Module):
        """Its unit is a weighted sum of the flow."""

        def __init__(self) -> None:
            super().__init__()
            self.side, self.frames = 5, 2
            self.weight = nn.Parameter(torch.randn(2, 2, 5, 5, generator=draws()))

        def forward(self, images: Tensor, flow: Tensor) -> viz.Seen:
            score = (flow * self.weight).flatten(1).sum(1)[:, None]
            return viz.Seen(score, score, images, images, images)

    net = Linear()
    start = viz.Inputs(torch.full((1, 3, 5, 5), 0.5), torch.zeros(1, 2, 2, 5, 5))
    one = torch.tensor([0])
    settings = {"steps": 1, "rate": 1e-3, "jitter": 2}
    with unchecked():
        found, _ = viz.climb(net, "action", one, start, generator=draws(4), **settings)
    shift = torch.randint(-2, 3, (2,), generator=draws(4))
    assert shift.abs().sum() > 0
    # Adam's first step is the sign of the slope, which comes back shifted
    expected = 1e-3 * net.weight.detach().roll((-shift).tolist(), (2, 3)).sign()
    torch.testing.assert_close(found.flow[0], expected, atol=1e-5, rtol=1e-3)


def test_smoothness_in_time_slows_what_is_climbed() -> None:
    net = viz.trained()
    start = viz.noise(1, net, draws())
    start = viz.Inputs(*(part.repeat_interleave(3, 0) for part in start))
    found, _ = viz.climb(
        net,
        "action",
        torch.tensor([1, 1, 1]),
        start,
        best=30.0,
        kappa=1.0,
        chi=torch.tensor([0.0, 1.0, 10.0]),
        steps=25,
        generator=draws(),
    )
    slow = viz.tempo(found.flow)
    assert slow[0] > slow[1] + 0.02 > slow[2] + 0.04


def test_tempo_by_hand() -> None:
    time = torch.arange(8)[:, None, None, None]
    wave = (2 * torch.pi * time * torch.tensor([1, 3])[:, None, None] / 8).sin()
    flow = wave.expand(8, 2, 1, 1)
    one, three = (flow[None, :, k : k + 1] for k in (0, 1))
    assert viz.tempo(one).item() == pytest.approx(1 / 8)
    assert viz.tempo(three).item() == pytest.approx(3 / 8)
    assert viz.tempo(flow[None]).item() == pytest.approx(2 / 8)
    assert viz.tempo(torch.ones(1, 8, 2, 3, 3)).item() == pytest.approx(0, abs=1e-9)
    assert viz.tempo(torch.zeros(1, 8, 2, 3, 3)).item() == 0


def test_roughness_by_hand() -> None:
    checks = torch.ones(1, 1, 1, 8, 8)
    checks[..., 1::2] = -1
    assert viz.roughness(checks).item() == pytest.approx(1)
    assert viz.roughness(torch.ones(1, 1, 1, 8, 8)).item() == pytest.approx(0)
    assert viz.roughness(checks + 1).item() == pytest.approx(0.5)


def test_pairings_are_means_over_all_pairs() -> None:
    net, x = small(), inputs(6)
    images, flow = x.images[:4].unflatten(0, (2, 2)), x.flow.unflatten(0, (3, 2))
    with torch.no_grad():
        table = viz.pairings(net, "fusion", images, flow)
        assert table.shape == (2, 3, 6)
        heights = []
        for i in (2, 3):
            for j in (4, 5):
                outputs = net(x.images[i : i + 1], x.flow[j : j + 1])
                heights.append(outputs.fusion.mean((0, 2, 3)))
    torch.testing.assert_close(table[1, 2], torch.stack(heights).mean(0))


def test_a_sum_has_no_pairs_and_a_product_of_centred_numbers_has_nothing_else() -> None:
    a, b = torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0, 0.0, -2.0]])
    table = torch.stack([3 + a + b, a * b, 5 + a + a * b, 0 * a * b], -1)
    assert viz.beyond(table)[..., 0].abs().max() < 1e-6
    torch.testing.assert_close(viz.beyond(table)[..., 1], a * b)
    # of the third: 1 of the picture, 8 / 3 of the pairs
    expected = [0, 1, (8 / 3) / (1 + 8 / 3), 0]
    assert viz.togetherness(table).tolist() == pytest.approx(expected)


def test_the_stored_net_names_clips() -> None:
    actions = pytest.importorskip("papernets_lite.data.actions")
    clips = actions.sample(64, draws(5))
    truth = actions.annotate(clips, 24)
    with torch.no_grad():
        scores = viz.trained()(actions.render(clips, 24), truth["flow"]).action
    assert (scores.argmax(1) == truth["actions"]).float().mean() > 0.9


def test_a_few_steps_learn() -> None:
    net, x = small().train(), inputs(6)
    batch = {"actions": torch.arange(6) % 3}
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = fit(lambda: viz.loss(net(*x), batch)["loss"], optimizer, 30)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: viz.tiny(side=20),
        lambda: viz.tiny(frames=0),
        lambda: viz.tiny(num_classes=0),
        lambda: viz.tiny(stages=()),
        lambda: viz.tiny(hidden=-1),
        lambda: viz.tiny(dropout=1.5),
        lambda: small()(torch.rand(0, 3, 8, 8), torch.rand(0, 4, 2, 8, 8)),
        lambda: small()(torch.rand(1, 3, 9, 8), torch.rand(1, 4, 2, 9, 8)),
        lambda: small()(torch.rand(2, 3, 8, 8), torch.rand(1, 4, 2, 8, 8)),
        lambda: small()(torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8, 8)),
        lambda: small()(torch.rand(1, 3, 8, 8).double(), torch.rand(1, 4, 2, 8, 8)),
        lambda: viz.loss(small()(*inputs()), {"actions": torch.tensor([0, 3])}),
        lambda: viz.loss(small()(*inputs()), {"actions": torch.tensor([0])}),
        lambda: viz.heights(small()(*inputs()), "score", torch.tensor([0, 0])),
        lambda: viz.heights(small()(*inputs()), "action", torch.tensor([0, 3])),
        lambda: viz.heights(small()(*inputs()), "action", torch.tensor([0])),
        lambda: viz.variation(torch.rand(1, 4, 8, 8), 1, 1),
        lambda: viz.energy(torch.rand(1, 1, 2, 3, 3), 0.0),
        lambda: viz.project(torch.rand(1, 1, 2, 3, 3), float("nan")),
        lambda: viz.noise(0, small(), draws()),
        lambda: climbed(steps=0),
        lambda: climbed(rate=0.0),
        lambda: climbed(jitter=-1),
        lambda: viz.tempo(torch.rand(1, 1, 2, 3, 3)),
        lambda: viz.roughness(torch.rand(1, 2, 3, 3)),
        lambda: viz.pairings(small(), "score", torch.rand(1, 1), torch.rand(1, 1)),
        lambda: viz.beyond(torch.rand(4)),
        lambda: viz.togetherness(torch.rand(4, 4)),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match="expected"):
        wrong()


def climbed(**settings: object) -> object:
    return viz.climb(
        small(), "action", torch.tensor([0, 1]), inputs(), generator=draws(), **settings
    )
