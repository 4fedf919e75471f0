"""fatten: counts by arithmetic and torchvision, cases by hand, bad input."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.transfer import fatten
from tests.unchecked import unchecked


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def things(n: int = 4, poses: int = 3, size: int = 2) -> Tensor:
    return torch.randn(n, poses, size, generator=draws())


def small(**overrides: object) -> fatten.FATTEN:
    settings: dict = {"features": 2, "poses": 3, "appearance": 4, "reader": 3}
    return fatten.FATTEN(**(settings | {"hidden": 5} | overrides))


def shaken(net: fatten.FATTEN) -> fatten.FATTEN:
    """With a last layer that does something."""
    torch.manual_seed(1)
    nn.init.normal_(net.decoder[-1].weight)
    return net.eval()


def test_the_papers_trunk_is_vgg_16_without_its_last_layer():
    with torch.device("meta"):
        net = fatten.vgg_recogniser()
    # 138,357,544 of torchvision's, less 4,096 x 1,000 weights and 1,000 biases
    assert count(net.body) == 138_357_544 - 4_097_000 == 134_260_544
    heads = 4097 * (fatten.CATEGORIES + fatten.POSES)
    assert count(net) == 134_260_544 + heads


def test_counts_by_arithmetic():
    def layer(before: int, after: int, *, norm: bool = True) -> int:
        return (before + 1 + 2 * norm) * after

    def layers(d: int, a: int, r: int, h: int) -> int:
        reader = layer(d, r) + layer(r, 12, norm=False)
        ends = layer(a + 24, h) + layer(h, d, norm=False)
        return layer(d, a) + reader + ends + layer(h, h)

    with torch.device("meta"):
        assert count(fatten.paper()) == layers(4096, 512, 512, 1024)
        assert count(fatten.tiny()) == layers(96, 96, 64, 160)


def test_an_untrained_net_is_the_identity():
    x, wanted = torch.randn(5, 96, generator=draws()), torch.arange(5)
    for net in (fatten.tiny(), fatten.tiny().eval()):
        assert net(x, wanted).features.equal(x)
    direct = fatten.tiny(residual=False)
    assert not direct(x, wanted).features.any()


def test_the_parts_are_put_together_as_equation_1_says():
    net = shaken(small())
    x, wanted = torch.randn(2, 2, generator=draws()), torch.tensor([2, 0])
    shares = net.pose(x).softmax(1)
    one_hot = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    change = net.decoder(torch.cat([net.appearance(x), shares, one_hot], 1))
    moved = net(x, wanted)
    torch.testing.assert_close(moved.features, x + change)
    torch.testing.assert_close(moved.source, net.pose(x))


def test_the_loss_by_hand():
    moved = fatten.Moved(torch.tensor([[1.0, 3.0]]), torch.zeros(1, 4))
    batch = {"labels": torch.tensor([0]), "poses": torch.tensor([1])}
    batch |= {"wanted": torch.tensor([2]), "truth": torch.tensor([[0.0, 1.0]])}
    terms = fatten.loss(moved, batch)
    assert terms["regression"] == 2.5
    assert terms["read"].item() == pytest.approx(1.3862944)
    assert terms["loss"].item() == pytest.approx(2.5 + 0.13862944)
    judges = fatten.Judges(features=2, categories=3, poses=4)
    for parameter in judges.parameters():
        nn.init.zeros_(parameter)
    judged = fatten.loss(moved, batch, judges=judges, regression=0, judged=2, read=0)
    assert judged["loss"].item() == pytest.approx(2 * (1.0986123 + 1.3862944))
    said = judges(moved.features)
    found = fatten.recognition_loss(said, batch)
    assert found["loss"].item() == pytest.approx(1.0986123 + 1.3862944)


def test_pairs_are_the_same_thing_at_two_poses():
    marks = 10 * torch.arange(5.0)[:, None, None] + torch.arange(3.0)[:, None]
    batch = next(fatten.Pairs(marks, torch.arange(5), size=200, generator=draws()))
    for name, pose in (("features", "poses"), ("truth", "wanted")):
        assert batch[name][:, 0].equal(10.0 * batch["labels"] + batch[pose])
    assert len(set(batch["labels"].tolist())) == 5
    assert not batch["poses"].equal(batch["wanted"])


def test_a_trajectory_asks_for_every_pose():
    net, x = shaken(small()), things()
    moved = fatten.trajectory(net, x)
    assert moved.shape == (4, 3, 3, 2)
    one = net(x[3, 1][None], torch.tensor([2])).features[0]
    torch.testing.assert_close(moved[3, 1, 2], one.detach())


def test_relative_errors_by_hand():
    # one thing, one number: 0, 1, 3 at its three poses
    x = torch.tensor([[[0.0], [1.0], [3.0]]])
    still = x[:, :, None].expand(-1, -1, 3, -1)
    errors = fatten.relative_errors(still, x)
    assert errors[0].isnan()
    assert errors[1:].tolist() == [1, 1]
    assert fatten.relative_error(still, x) == 1
    right = x[:, None].expand(-1, 3, -1, -1)
    assert fatten.relative_error(right, x) == 0
    # all are moved to 1: left are 0-1, 3-1, 0-1, 3-1 and 1 for 0 from 3, 1 from 3
    ones = torch.ones(1, 3, 3, 1)
    # off the diagonal: 4 of 1 and 4: to 0 twice 1, to 1 twice 0, to 3 twice 4
    assert fatten.relative_error(ones, x) == pytest.approx((2 + 0 + 8) / 28)
    # turns by one: 0->1, 1->3, 3->0
    by_one = (0 + 4 + 1) / (1 + 4 + 9)
    assert fatten.relative_errors(ones, x)[1].item() == pytest.approx(by_one)


def test_the_mean_shift_by_hand():
    net, x = small().eval(), things()
    nn.init.zeros_(net.pose[1].weight)
    net.pose[1].bias.data = torch.tensor([0.0, 100.0, 0.0])  # it reads pose 1 always
    means = torch.tensor([[1.0, 0], [0, 2], [3, 3]])
    moved = fatten.displaced(net, x, means)
    expected = x[:, :, None] + means - means[1]
    torch.testing.assert_close(moved, expected)


def test_linear_maps_find_what_is_linear():
    start = things(30, 1, 2).double()
    turn = torch.tensor([[0.0, 1], [-1, 0]], dtype=torch.float64)
    x = torch.cat([start, start @ turn + 1], 1)
    # seen from pose 0 alone, the map is exact
    slopes, offsets = fatten.ridge(x[:, 0], x[:, 1], 1e-9)
    torch.testing.assert_close(slopes, turn, atol=1e-6, rtol=0)
    torch.testing.assert_close(offsets, torch.ones(1, 2).double(), atol=1e-6, rtol=0)
    maps = fatten.linear_maps(x, penalty=0.5)
    moved = fatten.mapped(maps, x)
    by_hand = x[4, 1] @ maps[:-1, 0] + maps[-1, 0]
    torch.testing.assert_close(moved[4, 1, 0], by_hand)


def test_noise_has_the_covariance_within_categories():
    x, labels = things(40, 3, 2), torch.arange(40) % 2
    x[labels == 1] += 100
    root = fatten.noise(x, labels)
    rows = [x[labels == k].flatten(0, 1) for k in (0, 1)]
    within = torch.cat([own - own.mean(0) for own in rows])
    expected = within.T @ within / len(within) + 1e-4 * torch.eye(2)
    torch.testing.assert_close(root.T @ root, expected)


def test_episodes_ask_for_other_things_of_known_categories():
    labels = torch.arange(24) % 6
    tasks = fatten.episodes(labels, count=30, ways=3, queries=4, generator=draws())
    assert tasks.asked.shape == tasks.asked_poses.shape == (30, 3, 4)
    assert (labels[tasks.asked] == labels[tasks.known][..., None]).all()
    assert (tasks.asked != tasks.known[..., None]).all()
    for known in labels[tasks.known].tolist():
        assert len(set(known)) == 3
    assert set(tasks.known_poses.flatten().tolist()) == set(range(12))


def test_one_shot_by_hand():
    # one number tells the category, pose adds a thousandth
    x = torch.arange(3.0).repeat_interleave(2)[:, None, None] + torch.arange(12.0)[
        :, None
    ].div(1000)
    labels = torch.arange(3).repeat_interleave(2)
    tasks = fatten.episodes(labels, count=5, ways=3, queries=2, generator=draws())
    assert (fatten.one_shot(tasks, x)["nearest"] == 1).all()
    known = fatten.support(tasks, x, x[:, :, None].expand(-1, -1, 12, -1))
    assert known.shape == (5, 3, 13, 1)
    assert known[0, 1, 0].equal(x[tasks.known[0, 1], tasks.known_poses[0, 1]])
    # moved to where others are, a thing is taken for them
    lost = 2 - x[:, :, None].expand(-1, -1, 12, -1)
    assert (fatten.one_shot(tasks, x, lost)["nearest"] < 1).any()


def test_a_few_steps_learn_to_move():
    turn = torch.linalg.qr(torch.randn(8, 8, generator=draws())).Q
    poses = [torch.randn(60, 8, generator=draws(1))]
    for _ in range(2):
        poses.append(poses[-1] @ turn + 1)
    x = torch.stack(poses, 1)
    pairs = fatten.Pairs(x, torch.zeros(60).long(), size=64, generator=draws())
    torch.manual_seed(0)
    net = fatten.tiny(features=8, poses=3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    for _ in range(80):
        batch = next(pairs)
        missed = fatten.loss(net(batch["features"], batch["wanted"]), batch)["loss"]
        optimizer.zero_grad()
        missed.backward()
        optimizer.step()
    moved = fatten.trajectory(net.eval(), x)
    assert fatten.relative_error(moved, x) < 0.5


def test_the_stored_turns_are_whole():
    stored = fatten.turns()
    assert set(stored["arms"]) == {"FATTEN", "judges alone"}
    for rows in stored["arms"].values():
        assert [len(row) for row in rows] == [12] * len(stored["toys"])
        assert all(len(one) == 5 for row in rows for one in row)
    errors = {
        arm: [o[2] for r in rows for o in r] for arm, rows in stored["arms"].items()
    }
    assert sum(errors["FATTEN"]) < sum(errors["judges alone"])


def test_recognisers_say_category_and_pose():
    said = fatten.recogniser()(torch.rand(2, 3, 32, 32))
    assert said.categories.shape == (2, 40)
    assert said.poses.shape == (2, 12)


X, LABELS = torch.zeros(4, 3, 2), torch.arange(4) % 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: fatten.tiny(hidden=0),
        lambda: fatten.tiny(appearance=0),
        lambda: fatten.Judges(categories=0),
        lambda: fatten.tiny()(torch.rand(0, 96), torch.zeros(0).long()),
        lambda: fatten.tiny()(torch.rand(2, 95), torch.zeros(2).long()),
        lambda: fatten.tiny()(torch.rand(2, 96), torch.tensor([0, 12])),
        lambda: fatten.tiny()(torch.rand(2, 96), torch.tensor([0])),
        lambda: fatten.recogniser()(torch.zeros(1, 3, 32, 32).byte()),
        lambda: fatten.Pairs(X, LABELS, size=0, generator=draws()),
        lambda: fatten.Pairs(X, LABELS[:2], size=1, generator=draws()),
        lambda: fatten.Pairs(X.log() - X.log(), LABELS, size=1, generator=draws()),
        lambda: fatten.trajectory(small(), X[0]),
        lambda: fatten.episodes(LABELS, count=1, generator=draws()),
        lambda: fatten.episodes(torch.arange(6), count=1, generator=draws()),
        lambda: fatten.loss(fatten.Moved(X[0], X[0]), {"labels": LABELS}),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match="expected"):
        wrong()
