"""embodied_qa: counts of the released code, cases by hand, bad input."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.data import houses
from papernets_lite.language import embodied_qa as eqa
from tests.unchecked import unchecked

FORWARD, LEFT, RIGHT, STOP = range(4)


def count(*parts: nn.Module) -> int:
    return sum(p.numel() for part in parts for p in part.parameters())


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walker(**changes: object) -> eqa.Navigator:
    torch.manual_seed(0)
    small = eqa.NAVIGATOR | {"hidden": 12, "image": 8, "question": 6, "action": 4}
    return eqa.Navigator(num_features=5, num_words=12, **(small | changes)).eval()


def walks(most: int) -> dict[str, Tensor]:
    actions = torch.tensor([[0, 0, 0, 1, 0, 3], [2, 2, 0, 0, 0, 0]])
    valid = torch.ones(2, 6, dtype=torch.bool)
    batch = eqa.told({"actions": actions, "valid": valid}, most=most)
    batch["tokens"] = houses.question(torch.tensor([1, 3]))
    batch["features"] = torch.rand(2, 6, 5, generator=draws(1))
    return batch


def scores(net: eqa.Navigator, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    names = ("features", "tokens", "actions", "fresh")
    return net(*[batch[name] for name in names])


def test_the_papers_net_counts_what_the_released_code_counts() -> None:
    with torch.device("meta"):
        net = eqa.paper()
    eyes, walk = net.eyes, net.navigator
    assert eyes.num_features == 3200 == 32 * 10 * 10
    blocks = [(3, 8), (8, 16), (16, 32), (32, 32)]
    encoder = sum(25 * a * b + b + 2 * b for a, b in blocks)
    assert count(eyes.blocks) == encoder == 42_464
    # the head, and 191 classes, depth and three colours from it and from two maps
    head = 25 * 32 * 512 + 512 + 1024 + 512 * 512 + 512 + 1024
    assert count(eyes) == encoder + head + 195 * (513 + 33 + 17) == 827_065
    gru = 3 * 1024 * (128 + 64 + 32 + 1024 + 2)
    assert count(walk.gru) == gru == 3_840_000
    planner = [walk.look, walk.actions, walk.gru, walk.planner]
    assert count(*planner) == 3201 * 128 + 4 * 32 + gru + 1025 * 4 == 4_253_956
    controller = (128 + 32 + 1024 + 1) * 256 + 257 * 2
    assert count(walk.controller) == controller == 303_874
    assert count(walk.question.lstm) == 2 * 4 * 64 * (64 + 64 + 2)
    answerer = net.answerer
    dense = [answerer.look, answerer.of_image, answerer.of_question]
    assert count(*dense) == 3201 * 64 + 2 * 65 * 64


def test_run_lengths_by_hand() -> None:
    path = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 3]])
    fresh = [eqa.coded(path, most=most)[0].int().tolist() for most in (5, 2, 1)]
    assert fresh[0] == [1, 0, 0, 0, 0, 1, 1, 0, 1]
    assert fresh[1] == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert fresh[2] == [1] * 9
    asked = eqa.controlled(eqa.coded(path, most=5), most=5)
    # not before the first, nor after five in a row
    assert asked[0].int().tolist() == [0, 1, 1, 1, 1, 0, 1, 1, 1]
    assert not eqa.controlled(eqa.coded(path, most=1), most=1).any()


def test_returns_and_their_loss_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0]])
    found = eqa.returns(rewards, 0.5)
    assert found.tolist() == [[0.25, 0.5, 1.0]]
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    batch = eqa.told(
        {
            "actions": torch.tensor([[0, 1, 3]]),
            "valid": torch.ones(1, 3, dtype=torch.bool),
            "advantage": found - 0.5,
        },
        most=1,
    )
    missed = eqa.loss({"planner": logits}, batch)["loss"]
    # log 4 for each, weighed by -0.25, 0 and 0.5, a mean over three
    assert missed.item() == pytest.approx(0.25 / 3 * 1.3862944)
    (slope,) = torch.autograd.grad(missed, logits)
    taken = slope[0, [0, 1, 2], [0, 1, 3]]
    assert taken[0] > 0, "less likely after a step down"
    assert taken[1] == 0
    assert taken[2] < 0


def test_planner_and_controller_average_over_their_own_decisions() -> None:
    batch = walks(5)
    planner, controller = torch.zeros(2, 6, 4), torch.zeros(2, 6, 2)
    planner[~batch["fresh"]] = torch.tensor([9.0, -9.0, 5.0, 1.0])
    controller[~batch["asked"]] = torch.tensor([9.0, -9.0])
    found = eqa.loss({"planner": planner, "controller": controller}, batch)
    assert found["planner"].item() == pytest.approx(1.3862944)
    assert found["controller"].item() == pytest.approx(0.6931472)


def test_the_planners_memory_rests_while_the_controller_repeats() -> None:
    net, batch = walker(), walks(5)
    before = scores(net, batch)["planner"]
    other = dict(batch)
    noise = torch.rand(2, 6, 5, generator=draws(2))
    other["features"] = torch.where(batch["fresh"][..., None], batch["features"], noise)
    after = scores(net, other)["planner"]
    torch.testing.assert_close(after[batch["fresh"]], before[batch["fresh"]])
    flat = walker(most=1)
    apart = [
        scores(flat, one | {"fresh": batch["fresh"] | True}) for one in (batch, other)
    ]
    assert not torch.allclose(apart[0]["planner"][0, 3], apart[1]["planner"][0, 3])


def test_without_memory_a_frame_is_judged_alone() -> None:
    net, batch = walker(most=1, memory=False), walks(1)
    before = scores(net, batch)["planner"]
    changed = dict(batch)
    changed["features"] = batch["features"].clone()
    changed["features"][:, 0] += 1
    after = scores(net, changed)["planner"]
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    assert not torch.allclose(after[:, 0], before[:, 0])


def world() -> tuple[houses.Houses, dict[str, Tensor]]:
    homes = houses.sample(3, draws(3))
    known = houses.tables(homes)
    features = torch.rand(len(known["following"]), 5, generator=draws(4))
    return homes, known | {"features": features}


@pytest.mark.parametrize("most", [1, 3])
def test_walking_and_looking_back_agree(most: int) -> None:
    homes, known = world()
    net = walker(most=most)
    starts = houses.every(homes)[::40]
    at = starts[:, 0] * houses.STATES + starts[:, 1]
    tokens = houses.question(at % 6)
    for generator in (None, draws(5)):
        path = eqa.walk(net, known, at, tokens, steps=12, generator=generator)
        moved = known["following"][path.states, path.actions]
        going = path.valid[:, 1:]
        assert torch.equal(path.states[:, 1:][going], moved[:, :-1][going])
        batch = {**path._asdict(), "tokens": tokens}
        batch["features"] = known["features"][path.states]
        found = scores(net, batch)
        if generator is None:
            best = found["planner"].argmax(-1)
            mine = path.fresh & path.valid
            assert torch.equal(best[mine], path.actions[mine])
            if most > 1:
                asked = eqa.controlled(path.fresh, most=most) & path.valid
                again = found["controller"].argmax(-1) == 1
                assert torch.equal(again[asked], ~path.fresh[asked])
        runs = eqa.controlled(path.fresh, most=most) | path.fresh
        assert runs[path.valid].all(), "no run is too long"


def test_last_frames_by_hand() -> None:
    valid = torch.arange(8) < torch.tensor([[8], [2]])
    assert eqa.last_frames(valid).tolist() == [[3, 4, 5, 6, 7], [0, 0, 0, 0, 1]]


def test_measures_by_hand() -> None:
    actions = torch.tensor([[0, 3, 3], [0, 0, 0], [1, 3, 3]])
    valid = torch.tensor([[True, True, False], [True] * 3, [True, True, False]])
    path = eqa.Path(actions, actions, torch.ones_like(valid), valid)
    distance = torch.tensor([[1, 0, 0], [1, 0, 1], [3, 2, 2]])
    found = eqa.walked(path, distance)
    assert found["hit"].tolist() == [1, 0, 0]
    assert found["stopped"].tolist() == [1, 0, 1]
    assert found["d_min"].tolist() == [0, 0, 2]
    assert found["d_T"].tolist() == [0, 1, 2]
    assert found["decisions"].tolist() == [2, 3, 2]


def test_rewards_by_hand_and_an_update_learns() -> None:
    homes, known = world()
    far = known["distance"]
    kind, at = ((far > 2) & (far < 7)).nonzero().T
    lesson = houses.ways(homes, known, torch.stack([kind, at], 1)[::60])
    torch.manual_seed(0)
    reader = eqa.Answerer(num_features=5, num_words=12, num_answers=6, normal=True)
    net = walker()
    before = [p.clone() for p in net.parameters()]
    slow = torch.optim.Adam(net.parameters(), lr=1e-3)
    step = eqa.Reinforce(
        net, reader, slow, known, generator=draws(6), steps=8, progress=0.1
    )
    fresh = torch.ones_like(lesson["valid"])
    path = eqa.Path(lesson["states"], lesson["actions"], fresh, lesson["valid"])
    rewards = step.rewards(path, lesson)
    steps = lesson["valid"].sum(1) - 1
    start = torch.arange(rewards.shape[1]) < steps[:, None]
    torch.testing.assert_close(rewards[start], torch.full_like(rewards[start], 0.1))
    last = rewards.gather(1, steps[:, None])
    assert set(last.flatten().tolist()) <= {0.0, 1.0}
    found = step(lesson)
    assert found["loss"].isfinite()
    moved = [
        not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)
    ]
    assert any(moved)
    assert step.share == eqa.FIRST


def test_attention_is_a_mean_of_frames() -> None:
    torch.manual_seed(0)
    reader = eqa.Answerer(num_features=5, num_words=12, num_answers=6, dropout=0.0)
    tokens = houses.question(torch.tensor([2, 4]))
    same = torch.rand(2, 1, 5, generator=draws()).expand(-1, 5, -1)
    found = reader(same, tokens)
    torch.testing.assert_close(found["attention"], torch.full((2, 5), 0.2))
    alone = reader(same[:, :1], tokens)
    torch.testing.assert_close(found["answers"], alone["answers"])


def test_words_behind_the_end_are_not_read() -> None:
    net = walker()
    tokens = torch.tensor([[1, 2, 3, 5, 0], [1, 2, 3, 4, 6]])
    longer = torch.cat([tokens, torch.zeros(2, 3).long()], 1)
    torch.testing.assert_close(net.asked(tokens), net.asked(longer))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: eqa.Eyes(channels=(8, 8)),
        lambda: eqa.Eyes(size=(64, 64)),
        lambda: eqa.tiny().eyes(torch.rand(1, 3, 16, 16)),
        lambda: eqa.tiny().eyes(torch.rand(0, 3, 16, 32)),
        lambda: walker(most=0),
        lambda: walker().asked(torch.tensor([[0, 0]])),
        lambda: walker().asked(torch.tensor([[99]])),
        lambda: eqa.coded(torch.zeros(1, 3).long(), most=0),
        lambda: eqa.told({"actions": torch.zeros(1, 2).long()}, most=1),
        lambda: eqa.loss({"planner": torch.zeros(1, 6, 4)}, walks(1)),
        lambda: eqa.loss({"planner": torch.zeros(2, 6, 4)}, {}),
        lambda: eqa.answer_loss(
            {"answers": torch.zeros(2, 6)}, {"answers": torch.zeros(0).long()}
        ),
    ],
)
def test_what_would_be_nonsense_is_refused(wrong: Callable[[], object]) -> None:
    with unchecked(), pytest.raises(ValueError, match="expected"):
        wrong()
