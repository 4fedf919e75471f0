"""A house small enough for paper and pencil, and what holds for every house."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from papernets_lite.data import houses


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(row: int, column: int, heading: str) -> int:
    cell = row * houses.SIDE + column
    return cell * 4 + houses.HEADINGS.index(heading)


def corridor() -> houses.Houses:
    """One free row, the second, with thing 0 at its right end; the others are walled
    in."""
    home = houses.sample(1, draws())
    walls = torch.ones(1, houses.SIDE, houses.SIDE, dtype=torch.bool)
    walls[0, 1, 1:6] = False
    columns = torch.tensor([2, 4, 6, 8, 9])
    others = torch.stack([torch.full((5,), 9), columns], 1)
    places = torch.cat([torch.tensor([[1, 5]]), others])[None]
    return replace(home, walls=walls, places=places)


def test_house_i_does_not_depend_on_how_many_there_are() -> None:
    few, many = houses.sample(3, draws()), houses.sample(9, draws())
    for name, values in vars(few).items():
        assert torch.equal(values, getattr(many, name)[:3]), name


def test_every_thing_can_be_reached_from_everywhere() -> None:
    homes = houses.sample(200, draws(1))
    may, distance = houses.free(homes), houses.distances(homes)
    assert (distance.movedim(1, 2)[may] < houses.FAR).all()
    assert (distance.movedim(1, 2)[~may] == houses.FAR).all()
    assert (distance == 0).any(2).all()


def test_three_things_in_either_room_and_none_beside_another() -> None:
    homes = houses.sample(100, draws(2))
    row, column = homes.places.unbind(-1)
    number = torch.arange(100)[:, None]
    assert homes.rooms[number, row, column].sum(1).unique().tolist() == [3]
    apart = (homes.places[:, :, None] - homes.places[:, None]).abs().amax(-1)
    assert (apart + 9 * torch.eye(6).long() >= 2).all()


def test_the_geodesic_distance_by_hand() -> None:
    home = corridor()
    far = houses.distances(home)[0, 0]
    assert far[state(1, 4, "right")] == 0  # stands before it
    assert far[state(1, 4, "up")] == 1
    assert far[state(1, 4, "left")] == 2
    assert far[state(1, 1, "right")] == 3  # three cells to go
    assert far[state(1, 1, "down")] == 4
    assert far[state(1, 1, "left")] == 5
    assert far[state(1, 5, "left")] == houses.FAR  # the thing stands there
    assert far[state(3, 3, "left")] == houses.FAR


def test_the_expert_goes_down_the_distance_and_ends_before_the_thing() -> None:
    homes = houses.sample(8, draws(3))
    known = houses.tables(homes)
    far = known["distance"]
    kind, at = ((far > 0) & (far < houses.FAR)).nonzero().T
    after = known["following"][at, known["expert"][kind, at]]
    assert torch.equal(far[kind, after], far[kind, at] - 1)
    ways = houses.ways(homes, known, torch.stack([kind, at], 1)[::97])
    last = ways["valid"].sum(1, keepdim=True) - 1
    assert (ways["actions"].gather(1, last) == houses.STOP).all()
    ends = ways["states"].gather(1, last)[:, 0]
    assert (far[ways["kind"], ends] == 0).all()


def test_ties_are_broken_forward_then_left() -> None:
    home = corridor()
    known = houses.tables(home)
    assert known["expert"][0, state(1, 2, "left")] == houses.LEFT
    assert known["expert"][0, state(1, 2, "right")] == houses.FORWARD


def test_steps_by_hand() -> None:
    after = houses.following(corridor())[0]
    here = state(1, 2, "right")
    steps = [state(1, 3, "right"), state(1, 2, "up"), state(1, 2, "down"), here]
    assert after[here].tolist() == steps
    blocked = state(1, 4, "right")
    assert after[blocked, houses.FORWARD] == blocked
    assert after[state(1, 2, "up"), houses.FORWARD] == state(1, 2, "up")


def test_a_view_by_hand() -> None:
    home = corridor()
    spots = torch.tensor([[0, state(1, 2, "right")], [0, state(1, 4, "left")]])
    seen = houses.render(home, spots)
    first, second = seen["labels"]
    # the thing is three cells away, the wall beside is met first at the edge
    assert first[7, 15:17].tolist() in ([2, 2], [3, 3])
    assert (first == 3).any()
    assert (seen["depth"][0][first == 3] == 3).all()
    assert not (second >= 3).any()
    # the end of the corridor: the wall's face is 3.5 cells ahead
    assert seen["depth"][1, 8, 15].item() == pytest.approx(3.5)
    assert (first[0] != 0).all()
    assert (first[-1] != 1).all()


def test_a_thing_right_ahead_is_in_its_colour() -> None:
    homes = houses.sample(30, draws(4))
    known = houses.tables(homes)
    kind, at = (known["distance"] == 0).nonzero().T
    where = torch.stack([at // houses.STATES, at % houses.STATES], 1)
    seen = houses.render(homes, where)
    own = seen["labels"] == (3 + kind)[:, None, None]
    assert (own.flatten(1).sum(1) > 20).all()
    assert (seen["depth"][own] == 1).all()
    paint = torch.tensor([houses.PALETTE[name] for name in houses.COLOURS])
    want = paint[homes.colours[where[:, 0], kind]]
    hit = (seen["images"].movedim(1, -1) == want[:, None, None]).all(-1) & own
    assert (hit.flatten(1).sum(1) > 15).all()


def test_larger_views_show_the_same() -> None:
    homes = houses.sample(4, draws(5))
    some = houses.every(homes)[::50]
    small, large = (houses.render(homes, some, height) for height in (16, 48))
    middle = large["labels"][:, 1::3, 1::3]
    assert (middle == small["labels"]).float().mean() > 0.97


def test_questions_by_hand() -> None:
    asked = houses.question(torch.tensor([0, 5, houses.ANY]))
    said = [houses.spoken(one) for one in asked]
    assert said[0] == "what colour is the chest?"
    assert said[1:] == ["what colour is the table?", "what colour is it?"]


def test_colours_say_nothing_of_kinds() -> None:
    homes = houses.sample(3000, draws(6))
    counts = torch.zeros(6, 6)
    for kind in range(6):
        counts[kind] = homes.colours[:, kind].bincount(minlength=6) / 3000
    assert (counts - 1 / 6).abs().max() < 0.03


def test_a_film_follows_what_was_written_down() -> None:
    home = corridor()
    known = houses.tables(home)
    start = state(1, 2, "right")
    walk, fresh = houses.replay(known, start, "FfS")
    expected = [start, state(1, 3, "right"), state(1, 4, "right")]
    assert walk.tolist() == expected
    assert fresh.tolist() == [True, False, True]
    pictures = houses.film(home, walk, fresh)
    assert len(pictures) == 3
    assert pictures[0].shape == (3, 132, 402)
    assert pictures[0].max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda home: houses.sample(0, draws()),
        lambda home: houses.question(torch.tensor([7])),
        lambda home: houses.question(torch.zeros(0).long()),
        lambda home: houses.render(home, torch.zeros(0, 2).long()),
        lambda home: houses.render(home, torch.tensor([[0, 0]])),
        lambda home: houses.render(home, torch.tensor([[1, state(1, 2, "up")]])),
        lambda home: houses.render(home, torch.tensor([[0, state(1, 2, "up")]]), 7),
        lambda home: houses.replay(houses.tables(home), 0, ""),
        lambda home: houses.replay(houses.tables(home), 0, "FX"),
        lambda home: houses.ways(
            home, houses.tables(home), torch.tensor([[0, state(3, 3, "up")]])
        ),
    ],
)
def test_what_would_be_nonsense_is_refused(
    wrong: Callable[[houses.Houses], object],
) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong(corridor())
