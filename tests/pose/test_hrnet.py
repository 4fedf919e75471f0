"""The exchange by hand, what each head reads, targets and decoding on paper, the
counts of the papers' tables, and the rivals."""

from collections.abc import Callable
from functools import partial
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from papernets_lite.pose import hrnet

WIDTHS = (4, 8, 16)
TINY = [16, 32, 64, 128]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def cost(build: Callable[[], nn.Module], *size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds for one image of ``size``."""
    with torch.device("meta"):
        net = build().eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, *size))
    return count(net), counter.get_total_flops() // 2


def streams(*widths: int, side: int = 8) -> list[Tensor]:
    return [torch.rand(2, w, side >> k, side >> k) for k, w in enumerate(widths)]


@pytest.mark.parametrize(
    ("width", "parameters", "operations"),
    [(32, 28_536_113, 7_645_003_776), (48, 63_595_745, 15_691_825_152)],
)
def test_the_pose_nets_of_table_1(width: int, parameters: int, operations: int) -> None:
    """28.5 and 63.6 million parameters, as the paper says; its GFLOPs, 7.10 and 14.6,
    are counted by another rule."""
    found = cost(partial(hrnet.paper, width=width), 256, 192)
    assert found == (parameters, operations)


@pytest.mark.parametrize(
    ("width", "parameters"), [(18, 21.3e6), (30, 37.7e6), (40, 57.6e6)]
)
def test_the_classifiers_of_table_15(width: int, parameters: float) -> None:
    head = partial(hrnet.Classes, num_classes=1000)
    with torch.device("meta"):
        found = count(hrnet.paper(width=width, head=head))
    assert found == pytest.approx(parameters, rel=2e-3)


def test_an_exchange_by_hand() -> None:
    """Without normalisation, all weights of one tap: sums of what can be read off."""
    exchange = hrnet.Exchange((1, 1)).eval()
    fine = torch.tensor([[1.0, 2], [3, 4]])[None, None]
    coarse = torch.tensor([[[[10.0]]]])
    with torch.no_grad():
        for layer in exchange.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                middle = layer.kernel_size[0] // 2
                layer.weight[0, 0, middle, middle] = -1
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 0.0
        above, below = exchange([fine, coarse])
    # the coarse cell for all four fine ones, with its sign turned; then a ReLU
    assert above.tolist() == [[[[0, 0], [0, 0]]]]
    assert below.tolist() == [[[[9]]]], "only the first of four cells is under the tap"


def test_a_fine_cell_that_was_silent_hears_all_of_its_coarse_cell() -> None:
    torch.manual_seed(0)
    exchange = hrnet.Exchange(WIDTHS).eval()
    given = streams(*WIDTHS)
    nudged = [x.clone() for x in given]
    nudged[2][:, :, 0, 1] += 5
    before, after = (exchange(x)[0] for x in (given, nudged))
    changed = (before != after).any(1).any(0)
    assert changed[:4, 4:].all()
    assert changed.sum() == 16


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_every_stream_keeps_its_size_and_the_last_may_make_fewer(mode: str) -> None:
    given = streams(*WIDTHS)
    for outputs in (None, 1, 2):
        made = hrnet.Exchange(WIDTHS, outputs, mode)(given)
        expected = [x.shape for x in given[:outputs]]
        assert [x.shape for x in made] == expected
        assert all((x >= 0).all() for x in made)


def test_ways_as_the_paper_builds_them() -> None:
    """Two 3x3 convolutions of stride 2 for two steps down, no ReLU after the last; one
    1x1 up; the same stream as it is."""
    down = hrnet.path(WIDTHS, 0, 2, "nearest")
    convs = [m for m in down.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in convs]
    assert shapes == [(4, 4, (3, 3), (2, 2)), (4, 16, (3, 3), (2, 2))]
    kinds = [type(m).__name__ for m in cast("nn.Sequential", down)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
    up = cast("nn.Sequential", hrnet.path(WIDTHS, 2, 0, "nearest"))
    assert [type(m).__name__ for m in up] == ["Conv2d", "BatchNorm2d", "Upsample"]
    assert isinstance(hrnet.path(WIDTHS, 1, 1, "nearest"), nn.Identity)


def test_nearest_up_commutes_with_its_convolution() -> None:
    """So it does not matter which comes first, as the papers differ."""
    torch.manual_seed(0)
    way = hrnet.up(4, 3, 2, "nearest").eval()
    x = torch.rand(1, 4, 3, 5)
    large = nn.functional.interpolate(x, scale_factor=4)
    torch.testing.assert_close(way(x), way[:2](large))


def test_fusions_are_those_of_table_6() -> None:
    plan = {name: hrnet.fuses(name, hrnet.MODULES) for name in hrnet.FUSIONS}
    totals = {name: sum(map(sum, stages)) for name, stages in plan.items()}
    assert totals == {"every module": 8, "every stage": 3, "last": 1}
    assert all(stages[-1][-1] for stages in plan.values())


def test_without_exchanges_the_finest_stream_hears_nobody_until_the_end() -> None:
    torch.manual_seed(0)
    net = hrnet.tiny(fusions="last").eval()
    apart = hrnet.silence(hrnet.silence(hrnet.silence(net, 1), 2), 3)
    own = [
        value
        for key, value in apart.trunk.named_parameters()
        if ".old.1" in key or ".streams.1" in key or ".streams.3" in key
    ]
    before = apart(torch.ones(1, 3, 48, 48))
    with torch.no_grad():
        for value in own:
            value.add_(1)
    assert own
    assert torch.equal(apart(torch.ones(1, 3, 48, 48)), before)


def test_silence_leaves_the_net_as_it_was() -> None:
    torch.manual_seed(0)
    net = hrnet.tiny().eval()
    x = torch.rand(1, 3, 48, 48)
    before = net(x)
    changed = [hrnet.silence(net, source)(x) for source in range(4)]
    assert torch.equal(net(x), before)
    assert all(not torch.equal(other, before) for other in changed)
    with pytest.raises(ValueError, match="stream from 0 to 3"):
        hrnet.silence(net, 4)


def test_heads_at_the_papers_widths() -> None:
    given = [x[:1] for x in streams(32, 64, 128, 256, side=16)]
    widths = [x.shape[1] for x in given]
    assert hrnet.alike(given).shape == (1, 480, 16, 16), "15 times C"
    assert hrnet.Keypoints(widths, 17)(given[:1]).shape == (1, 17, 16, 16)
    assert hrnet.Labels(widths, 19)(given).shape == (1, 19, 16, 16)
    levels = hrnet.Pyramid(widths)(given)
    sides = [level.shape[1:] for level in levels]
    assert sides == [(256, side, side) for side in (16, 8, 4, 2, 1)]
    assert hrnet.Classes(widths, 1000)(given).shape == (1, 1000)


def test_a_pyramid_averages_down() -> None:
    head = hrnet.Pyramid((1, 1), channels=1, levels=2)
    with torch.no_grad():
        for layer in (head.mix, *head.levels):
            layer.weight.zero_()
            layer.bias.zero_()
        head.mix.weight[0, 0] = 1  # the finest stream alone
        for smooth in head.levels:
            smooth.weight[0, 0, 1, 1] = 1
    fine = torch.tensor([[[[1.0, 2], [3, 6]]]])
    levels = head([fine, torch.zeros(1, 1, 1, 1)])
    assert [level.flatten().tolist() for level in levels] == [[1, 2, 3, 6], [3]]


def test_a_target_by_hand() -> None:
    """At a cell's centre, one cell aside and diagonally: 1, exp(-1/2), exp(-1)."""
    point = torch.tensor([[[6.0, 10.0]]])  # the centre of cell (1, 2) of stride 4
    seen = torch.ones(1, 1, dtype=torch.bool)
    made = hrnet.targets(point, seen, size=(4, 4), stride=4, sigma=1)[0, 0]
    expected = torch.tensor([1.0, -0.5, -1.0])
    expected[1:] = expected[1:].exp()
    torch.testing.assert_close(made[[2, 2, 3], [1, 2, 2]], expected)
    assert not hrnet.targets(point, ~seen, size=(4, 4), stride=4).any()


def test_the_squared_error_by_hand() -> None:
    """Maps of zero for one of two visible joints: half its target's mean square."""
    point = torch.tensor([[[[6.0, 6.0], [2.0, 2.0]]]])
    batch = {"keypoints": point, "visible": torch.tensor([[[True, False]]])}
    maps = torch.zeros(1, 2, 4, 4)
    maps[:, 1] = 7  # not visible, so it does not count
    true = hrnet.targets(point[0], batch["visible"][0], size=(4, 4), stride=4, sigma=1)
    found = hrnet.loss(maps, batch, stride=4, sigma=1)["loss"]
    torch.testing.assert_close(found, 0.5 * true[0, 0].square().mean() / 2)


def test_the_cross_entropy_is_least_at_the_target() -> None:
    point = torch.tensor([[[[9.0, 5.0]]]])
    batch = {"keypoints": point, "visible": torch.tensor([[[True]]])}
    true = hrnet.targets(point[0], batch["visible"][0], size=(6, 6), stride=2, sigma=1)
    score = partial(hrnet.loss, batch=batch, stride=2, sigma=1, over_cells=True)
    share = true / true.sum()
    entropy = -(share * share.clamp(min=1e-9).log()).sum()
    best = score(share.clamp(min=1e-9).log())["loss"]
    torch.testing.assert_close(best, entropy, rtol=1e-3, atol=1e-3)
    even = score(torch.zeros(1, 1, 6, 6))["loss"]
    torch.testing.assert_close(even, torch.tensor(36.0).log())


def test_nothing_visible_costs_nothing() -> None:
    maps = torch.rand(2, 3, 4, 4, requires_grad=True)
    nowhere = torch.full((2, 1, 3, 2), float("nan"))
    batch = {"keypoints": nowhere, "visible": torch.zeros(2, 1, 3, dtype=torch.bool)}
    for over_cells in (False, True):
        value = hrnet.loss(maps, batch, over_cells=over_cells)["loss"]
        value.backward()
        assert value == 0
    assert maps.grad is not None
    assert not maps.grad.any()


def test_decoding_by_hand() -> None:
    """A quarter of a cell to the right and up; at the border and where neighbours tie
    no step on that axis."""
    maps = torch.zeros(1, 3, 5, 5)
    maps[0, 0, 2, 1:4] = torch.tensor([0.5, 1.0, 0.7])
    maps[0, 0, 1, 2] = 0.3
    maps[0, 1, 0, 4] = 2.0
    maps[0, 1, 0, 3] = 1.0
    maps[0, 2, 3, 3] = 1.0
    places, scores = hrnet.decode(maps, stride=4)
    expected = [[4 * 2.75, 4 * 2.25], [4 * 4.5, 4 * 0.5], [14.0, 14.0]]
    assert places[0].tolist() == expected
    assert scores[0].tolist() == [1, 2, 1]


def test_perfect_maps_are_read_to_a_quarter_of_a_cell() -> None:
    """The rest is at most a quarter of a cell on an axis, wherever the joint is."""
    generator = torch.Generator().manual_seed(0)
    points = 16 + 32 * torch.rand(1, 500, 2, generator=generator)
    seen = torch.ones(1, 500, dtype=torch.bool)
    maps = hrnet.targets(points, seen, size=(16, 16), stride=4, sigma=1)
    for shift, worst in ((0.0, 0.5), (0.25, 0.25)):
        places, _ = hrnet.decode(maps, stride=4, shift=shift)
        apart = (places - points).abs() / 4
        assert apart.max() <= worst + 1e-4
        assert apart.max() > 0.9 * worst


def test_the_rivals_cost_no_less_than_the_net() -> None:
    own = cost(hrnet.tiny, 48, 48)
    rivals = {
        "skips": hrnet.tiny_hourglass,
        "deconvolution": hrnet.tiny_deconvolution,
        "last": partial(hrnet.tiny, width=17, fusions="last"),
    }
    for build in rivals.values():
        for found, least in zip(cost(build, 48, 48), own, strict=True):
            assert 0.99 * least < found < 1.07 * least


@pytest.mark.parametrize("build", [hrnet.tiny_hourglass, hrnet.tiny_deconvolution])
def test_the_rivals_answer_maps_of_the_same_size(
    build: Callable[[], nn.Module],
) -> None:
    assert build()(torch.rand(2, 3, 48, 48)).shape == (2, 18, 24, 24)


@pytest.mark.parametrize(
    "build", [hrnet.tiny, hrnet.tiny_hourglass, hrnet.tiny_deconvolution]
)
def test_a_few_steps_fit_a_few_images(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = build()
    images = torch.rand(4, 3, 48, 48)
    points = 4 + 40 * torch.rand(4, 1, 18, 2)
    batch = {"keypoints": points, "visible": torch.ones(4, 1, 18, dtype=torch.bool)}
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    for _ in range(60):
        optimizer.zero_grad()
        value = hrnet.loss(net(images), batch, stride=2, sigma=1, over_cells=True)
        value["loss"].backward()
        optimizer.step()
    places, _ = hrnet.decode(net(images), stride=2)
    apart = (places - points[:, 0]).norm(dim=-1)
    assert (apart < 2).float().mean() > 0.9


def batch(joints: int = 2, people: int = 1) -> dict[str, Tensor]:
    return {
        "keypoints": torch.ones(1, people, joints, 2),
        "visible": torch.ones(1, people, joints, dtype=torch.bool),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: hrnet.tiny(widths=(8,), modules=()),
        lambda: hrnet.tiny(modules=(1, 1)),
        lambda: hrnet.tiny(width=0),
        lambda: hrnet.tiny(units=0),
        lambda: hrnet.tiny(mode="cubic"),
        lambda: hrnet.tiny(fusions="never"),
        lambda: hrnet.tiny()(torch.rand(1, 3, 40, 48)),
        lambda: hrnet.tiny()(torch.rand(1, 1, 48, 48)),
        lambda: hrnet.tiny()(torch.rand(0, 3, 48, 48)),
        lambda: hrnet.tiny()(torch.rand(1, 3, 48, 48).double()),
        lambda: hrnet.tiny_hourglass()(torch.rand(1, 3, 40, 48)),
        lambda: hrnet.tiny_deconvolution()(torch.rand(1, 3, 40, 48)),
        lambda: hrnet.loss(torch.zeros(1, 2, 4, 4), batch(people=2)),
        lambda: hrnet.loss(torch.zeros(1, 2, 4, 4), batch(joints=3)),
        lambda: hrnet.loss(
            torch.zeros(1, 2, 4, 4), batch() | {"keypoints": batch()["keypoints"] / 0}
        ),
        lambda: hrnet.loss(torch.zeros(1, 2, 4, 4), batch(), stride=0.0),
        lambda: hrnet.decode(torch.full((1, 1, 4, 4), float("nan")), stride=4),
        lambda: hrnet.decode(torch.zeros(1, 1, 4, 4), stride=0),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()
