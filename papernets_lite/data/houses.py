"""The world `houses`: two rooms and a door on a grid, six things in them, an agent that
walks and turns, and the question what colour one of the things is.

A house has ``SIDE`` x ``SIDE`` cells. The agent stands on a free cell and looks along
one of four headings, which makes ``STATES`` states, numbered ``(row * SIDE + column) *
4 + heading``. There are so few that every view, every step and every shortest way is
computed once and then looked up.

A camera that looks along the grid sees a cell's middle at a whole number of cells'
depth. So one table of the cells that each column of pixels passes serves all views, and
casting rays becomes looking up.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from papernets_lite.data import canvas
from papernets_lite.data.canvas import PALETTE, Draws
from papernets_lite.ops.checks import expect

SIDE = 11  # cells of a house, its outer walls included
STATES = SIDE * SIDE * 4
KINDS = ("chest", "cupboard", "ball", "tree", "lamp", "table")
COLOURS = ("red", "orange", "green", "teal", "blue", "purple")
CLASSES = ("floor", "ceiling", "wall", *KINDS)
# a colour of each class, for maps of them; in [0, 1]
PAINTS = (
    (0.78, 0.75, 0.69),
    (0.92, 0.92, 0.92),
    (0.59, 0.63, 0.67),
    (0.84, 0.38, 0.24),
    (0.43, 0.34, 0.63),
    (0.24, 0.51, 0.75),
    (0.27, 0.55, 0.31),
    (0.86, 0.67, 0.20),
    (0.75, 0.35, 0.55),
)
ACTIONS = ("forward", "left", "right", "stop")
FORWARD, LEFT, RIGHT, STOP = range(4)
WORDS = ("", "what", "colour", "is", "the", "it", *KINDS)
ANY = len(KINDS)  # the question that names no thing
HEADINGS = ("up", "right", "down", "left")  # of the plan
FAR = 99  # steps: from where the goal cannot be reached
HEIGHT = 16  # pixels of a view, which is twice as wide
SEES = SIDE - 2  # cells that the longest view is deep
_MARGIN = SEES + 1
_WIDE = SIDE + 2 * _MARGIN
_AHEAD = np.array(
    [
        (-1, 0),
        (0, 1),
        (1, 0),
        (0, -1),
    ]
)  # row, column
_TEXTURE = 32  # texels of a thing, in each direction
_DARK = np.array([84, 66, 54])  # wood, in 0..255
_PAINT = np.array([PALETTE[name] for name in COLOURS])


@dataclass(frozen=True)
class Houses(canvas.Factors):
    """The factors of n houses; thing k is of kind k."""

    walls: Bool[Tensor, "n side side"]
    rooms: Int[Tensor, "n side side"]  # 0 or 1, the number of the room
    places: Int[Tensor, "n k 2"]  # row and column of each thing
    colours: Int[Tensor, "n k"]
    tints: Float[Tensor, "n 3 3"]  # of the floor and of both rooms' walls, in [0, 1]


def sample(n: SupportsIndex, generator: torch.Generator) -> Houses:
    """Draw ``n`` houses; house i does not depend on ``n``.

    Each has one thing of each kind, three in either room, no two of them side by side
    and none before the door. Colours are drawn for each thing anew, so that its kind
    says nothing of its colour.

    Args:
        n: how many.
        generator: CPU generator; the same seed gives the same houses on every machine.

    Raises:
        ValueError: for ``n < 1`` or a wrong generator.
    """
    draws = Draws.start(n, generator)
    between = draws.integers(4, 7, 1, 1)  # the column of the inner wall
    door = draws.integers(1, SIDE - 1, 1, 1)
    row = torch.arange(SIDE)[:, None]
    column = torch.arange(SIDE)
    edge = (row % (SIDE - 1) == 0) | (column % (SIDE - 1) == 0)
    inner = (column == between) & (row != door)
    rooms = ((column > between) & (row >= 0)).long()
    beside = ((column - between).abs() <= 1) & ((row - door).abs() <= 1)
    taken = edge | (column == between) | beside
    order = draws.uniform(0, 1, len(KINDS)).argsort(1)
    places = _places(draws, taken, rooms, order)
    is_turned = draws.integers(0, 2, 1)
    tints = torch.tensor([0.62, 0.74, 0.74])[:, None]
    tints = tints + draws.uniform(-0.12, 0.12, 3, 3)
    turned = is_turned[..., None] == 1
    return Houses(
        walls=_turn(edge | inner, turned),
        rooms=_turn(rooms, turned),
        places=torch.where(turned, places.flip(-1), places),
        colours=draws.integers(0, len(COLOURS), len(KINDS)),
        tints=tints,
    )


def _turn(grid: Tensor, turned: Bool[Tensor, "n 1 1"]) -> Tensor:
    """The grid with rows and columns changed, where asked for."""
    return torch.where(turned, grid.transpose(1, 2), grid)


def _places(
    draws: Draws,
    taken: Bool[Tensor, "n side side"],
    rooms: Int[Tensor, "n side side"],
    order: Int[Tensor, "n k"],
) -> Int[Tensor, "n k 2"]:
    """A free cell for each thing, three in either room: the best of a random rating,
    then its neighbours are taken, too."""
    n, k = order.shape
    rating = draws.uniform(0, 1, k, SIDE, SIDE)
    taken = taken.clone()
    houses = torch.arange(n)
    axis = torch.arange(SIDE)
    places = torch.zeros(n, k, 2, dtype=torch.long)
    for turn in range(k):
        free = ~taken & (rooms == turn % 2)
        best = torch.where(free, rating[:, turn], -1.0)
        cell = best.flatten(1).argmax(1)
        spot = torch.stack([cell // SIDE, cell % SIDE], 1)
        places[houses, order[:, turn]] = spot
        near_row = (axis - spot[:, :1]).abs() <= 1
        near_column = (axis - spot[:, 1:]).abs() <= 1
        taken |= near_row[:, :, None] & near_column[:, None]
    return places


def things(houses: Houses) -> Int[Tensor, "n side side"]:
    """Which thing stands on each cell: its kind's number plus one, 0 for none."""
    n, k, _ = houses.places.shape
    found = torch.zeros(n, SIDE * SIDE, dtype=torch.long)
    cells = houses.places[..., 0] * SIDE + houses.places[..., 1]
    numbers = torch.arange(1, k + 1).expand(n, -1)
    return found.scatter(1, cells, numbers).unflatten(1, (SIDE, SIDE))


def free(houses: Houses) -> Bool[Tensor, "n states"]:
    """The states that an agent can be in: on a cell without wall or thing."""
    cells = ~houses.walls & (things(houses) == 0)
    return cells.flatten(1).repeat_interleave(4, 1)


def following(houses: Houses) -> Int[Tensor, "n states 4"]:
    """The state after each action. A step against a wall or a thing changes nothing,
    nor does a stop."""
    state = torch.arange(STATES)
    cell, heading = state // 4, state % 4
    ahead = torch.tensor(_AHEAD[:, 0] * SIDE + _AHEAD[:, 1])
    step = (cell + ahead[heading]).clamp(0, SIDE * SIDE - 1) * 4 + heading
    can_go = free(houses)[:, step]
    moved = torch.where(can_go, step, state)
    left = cell * 4 + (heading - 1) % 4
    right = cell * 4 + (heading + 1) % 4
    still = [one.expand_as(moved) for one in (left, right, state)]
    return torch.stack([moved, *still], -1)


def distances(houses: Houses) -> Int[Tensor, "n k states"]:
    """The geodesic distance of each state from each thing: the fewest actions after
    which the agent stands before it and looks at it; ``FAR`` where none do."""
    may = free(houses).unflatten(1, (1, SIDE, SIDE, 4))
    may = may.movedim(-1, 0).numpy()
    row, column = houses.places[..., None, None].movedim(2, 0).numpy()
    axis = np.arange(SIDE)
    goals = []
    for down, right in _AHEAD:
        in_row = axis[:, None] + down == row
        goals.append(in_row & (axis + right == column))
    found = np.where(
        np.stack(goals) & may,
        0,
        FAR,
    ).astype(np.uint8)
    while True:
        # walls around the house keep what is rolled over its edge from being reached
        ahead = []
        for way, one in zip(_AHEAD, found, strict=True):
            ahead.append(np.roll(one, tuple(-way), (-2, -1)))
        left, right = (
            np.roll(
                found,
                1,
                0,
            ),
            np.roll(found, -1, 0),
        )
        ways = np.minimum(np.minimum(left, right), np.stack(ahead))
        nearer = np.where(
            may,
            np.minimum(found, ways + 1),
            FAR,
        ).astype(np.uint8)
        if np.array_equal(nearer, found):
            break
        found = nearer
    return torch.from_numpy(
        np.moveaxis(
            found,
            0,
            -1,
        ).astype(np.int64)
    ).flatten(2)


def experts(
    houses: Houses, distance: Int[Tensor, "n k states"]
) -> Int[Tensor, "n k states"]:
    """The first action of a shortest way, a stop where nothing is left to do. Of ways
    that are equally short it takes forward, then left, so that there is but one.

    Args:
        houses: where to walk.
        distance: from ``distances``.
    """
    index = following(houses)[..., :STOP].flatten(1)[:, None]
    index = index.expand(-1, distance.shape[1], -1)
    ways = distance.gather(2, index).unflatten(2, (STATES, STOP))
    return torch.where(distance == 0, STOP, ways.argmin(-1))


def question(asked: Int[Tensor, " b"]) -> Int[Tensor, "b 5"]:
    """The words of "what colour is the ...", as numbers into ``WORDS``.

    Args:
        asked: the kind's number; ``ANY`` for "what colour is it", which names none.

    Raises:
        ValueError: for another number.
    """
    known = len(asked) and asked.min() >= 0 and asked.max() <= ANY
    expect(known, f"kinds from 0 to {ANY}", asked)
    begun = torch.tensor([1, 2, 3]).expand(len(asked), -1)
    named = torch.stack([torch.full_like(asked, 4), asked + 6], 1)
    blank = torch.tensor([5, 0]).expand(len(asked), -1)
    ending = torch.where(asked[:, None] == ANY, blank, named)
    return torch.cat([begun, ending], 1)


def spoken(words: Int[Tensor, " t"]) -> str:
    """A question as text."""
    return " ".join(WORDS[word] for word in words.tolist()).strip() + "?"


class Rays(NamedTuple):
    """What the columns of a view pass, for an agent that looks along depth."""

    slopes: Float[np.ndarray, " w"]  # to the right, at depth 1
    falls: Float[np.ndarray, " h"]  # up, at depth 1
    faces: Float[np.ndarray, "c w"]  # depths at which a face of a cell may be met
    cells: Int[np.ndarray, "c w 2"]  # the cell behind the face: ahead, to the right
    before: Int[np.ndarray, "c w 2"]  # the cell before it
    middles: Int[np.ndarray, "d w"]  # to the right: the cell whose middle is passed
    across: Float[np.ndarray, "d w"]  # where, from -0.5 to 0.5


@lru_cache(maxsize=4)
def rays(height: int) -> Rays:
    """The table of a view that is ``height`` pixels high and twice as wide, over 90
    degrees.

    The first half of the faces are met from the front, at depths 0.5, 1.5, ...; the
    others from the side.
    """
    half = height
    slopes = (np.arange(2 * height) + 0.5 - half) / half
    falls = (height / 2 - np.arange(height) - 0.5) / half
    depth = np.arange(1, SEES + 2)[:, None]
    front = np.broadcast_to(depth - 0.5, (len(depth), 2 * height))
    aside = np.rint(front * slopes).astype(int)
    ahead = np.broadcast_to(depth, aside.shape)
    to = np.sign(slopes).astype(int)
    side = (depth - 0.5) / np.abs(slopes)
    along = np.rint(side).astype(int).clip(0, SEES + 1)
    right = depth * to
    cells = [
        np.stack([ahead, aside], -1),
        np.stack([along, right], -1),
    ]
    before = [
        np.stack([ahead - 1, aside], -1),
        np.stack([along, right - to], -1),
    ]
    passed = depth * slopes
    middles = np.rint(passed).astype(int)
    return Rays(
        slopes,
        falls,
        np.concatenate([front, side]),
        np.concatenate(cells),
        np.concatenate(before),
        middles,
        passed - middles,
    )


def _looks() -> UInt8[np.ndarray, "k v u"]:
    """Each kind's picture from the floor up: 0 is see-through, 1 its colour, 2 wood."""
    axis = (np.arange(_TEXTURE) + 0.5) / _TEXTURE
    u, v = np.meshgrid(np.abs(axis - 0.5), axis)
    found = np.zeros((len(KINDS), *u.shape), np.uint8)
    chest, cupboard, ball, tree, lamp, table = found
    chest[(u < 0.42) & (v < 0.4)] = 1
    chest[(u < 0.42) & (abs(v - 0.28) < 0.03)] = 2
    cupboard[(u < 0.32) & (v < 0.88)] = 1
    cupboard[(u < 0.04) & (v < 0.88)] = 2
    ball[u**2 + (v - 0.3) ** 2 < 0.3**2] = 1
    tree[(u < 0.07) & (v < 0.3)] = 2
    tree[(u < 0.62 * (0.92 - v)) & (v > 0.26)] = 1
    lamp[(u < 0.06) & (v < 0.6)] = 2
    lamp[(u < 0.2) & (v < 0.06)] = 2
    lamp[(u < 0.3 - 0.35 * (v - 0.55)) & (v > 0.55) & (v < 0.86)] = 1
    table[(u < 0.46) & (v > 0.36) & (v < 0.5)] = 1
    table[(abs(u - 0.36) < 0.06) & (v <= 0.36)] = 1
    return found


_LOOKS = _looks()


def render(
    houses: Houses,
    states: Int[Tensor, "m 2"],
    height: int = HEIGHT,
) -> dict[str, Tensor]:
    """What agents see.

    Args:
        houses: all of them.
        states: for each view the house's number and the agent's state.
        height: of a view in pixels; it is twice as wide.

    Returns:
        ``images`` (m, 3, h, w), uint8; ``labels`` (m, h, w), uint8, indices into
        ``CLASSES``; ``depth`` (m, h, w), float32, along the camera's axis, in cells.

    Raises:
        ValueError: for an odd height or one below 8, no views, or a state that is not
            ``free``.
    """
    expect(height >= 8 and height % 2 == 0, "an even height >= 8", height)
    expect(states.ndim == 2 and len(states), "views (m, 2)", states.shape)
    house, state = states.T
    lowest = int(states.min())
    whole = lowest >= 0 and int(house.max()) < len(houses)
    whole = whole and int(state.max()) < STATES
    expect(whole, f"houses below {len(houses)}, states below {STATES}")
    expect(free(houses)[house, state].all(), "states that are free")
    parts = [_view(houses, some, height) for some in states.split(2048)]
    names = ("images", "labels", "depth")
    joined = [
        torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)
    ]
    return dict(zip(names, joined, strict=True))


class _Places(NamedTuple):
    """Where agents are, and how to find cells around them in grids with a margin."""

    house: Int[np.ndarray, " m"]
    heading: Int[np.ndarray, " m"]
    cell: Int[np.ndarray, " m"]  # in all grids, one after the other

    def at(self, grid: np.ndarray, ahead: np.ndarray, aside: np.ndarray) -> np.ndarray:
        """The values (m, ...) of the houses' grids at cells so far ahead and to the
        right: the same for all agents."""
        ways = [_offset(heading, ahead, aside) for heading in range(4)]
        index = np.stack(ways).astype(np.int32)[self.heading]
        index += self.cell.reshape(
            -1,
            *[1] * (index.ndim - 1),
        ).astype(np.int32)
        return grid.reshape(-1).take(index)

    def own(self, grid: np.ndarray, ahead: np.ndarray, aside: np.ndarray) -> np.ndarray:
        """As ``at``, for cells (m, w) that differ from agent to agent."""
        offset = _offset(self.heading[:, None], ahead, aside)
        return grid.reshape(-1)[self.cell[:, None] + offset]


def _offset(
    heading: int | np.ndarray, ahead: np.ndarray, aside: np.ndarray
) -> np.ndarray:
    """How far a cell is from the agent's in a grid with a margin, rows in a line."""
    forth, right = _AHEAD[heading], _AHEAD[(heading + 1) % 4]
    rows = forth[..., 0] * ahead + right[..., 0] * aside
    return rows * _WIDE + forth[..., 1] * ahead + right[..., 1] * aside


def _stand(states: Int[Tensor, "m 2"]) -> _Places:
    house, state = states.numpy().T
    cell, heading = state // 4, state % 4
    row, column = cell // SIDE + _MARGIN, cell % SIDE + _MARGIN
    return _Places(house, heading, (house * _WIDE + row) * _WIDE + column)


def _padded(grid: Tensor) -> np.ndarray:
    """Grids with a margin as wide as an agent can look."""
    around = [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)]
    return np.pad(grid.numpy(), around, mode="edge")


def _view(
    houses: Houses, states: Int[Tensor, "m 2"], height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The views of a few states: images, labels and depths."""
    table, where = rays(height), _stand(states)
    ahead, aside = np.moveaxis(table.cells, -1, 0)
    is_wall = where.at(_padded(houses.walls), ahead, aside)
    faces = np.where(
        is_wall,
        table.faces.astype(np.float32),
        np.float32(np.inf),
    )
    first = faces.argmin(1)
    column = np.arange(2 * height)
    wall = table.faces[first, column]
    forth, across = np.moveaxis(table.before[first, column], -1, 0)
    room = where.own(_padded(houses.rooms), forth, across)
    tints = 255 * houses.tints.numpy()[where.house]
    paint = tints[np.arange(len(room))[:, None], 1 + room]
    is_side = first >= len(table.faces) // 2
    light = np.where(is_side, 0.84, 1.0) / (1 + 0.07 * wall)
    shown = (paint * light[..., None]).astype(np.uint8)[:, None]
    falls = table.falls[:, None]
    level = (0.5 / np.abs(falls)).astype(np.float32)
    wall = wall.astype(np.float32)
    is_wall = level > wall[:, None]
    depth = np.where(is_wall, wall[:, None], level)
    ends = np.where(falls < 0, 0, 1).astype(np.uint8)
    labels = np.where(is_wall, np.uint8(2), ends)
    ground = _level(table, where, (houses.tints[:, 0] * 255).numpy())
    images = np.where(is_wall[..., None], shown, ground)
    _add_things(houses, where, (wall, table), (images, labels, depth))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels, depth


def _level(
    table: Rays, where: _Places, tints: Float[np.ndarray, "n 3"]
) -> UInt8[np.ndarray, "m h w 3"]:
    """Tiles below, a pale ceiling above; both darker far away."""
    falls = table.falls[:, None]
    depth = 0.5 / np.abs(falls)
    forth = np.floor(depth + 0.5)
    across = np.floor(depth * table.slopes + 0.5)
    odd = (forth + across).astype(int) % 2
    is_light = np.stack([odd, 1 - odd])  # a chessboard looks one of two ways
    light = (1 + 0.14 * is_light) / (1 + 0.07 * depth)
    floor = tints[:, None, None, None] * light[..., None]
    above = np.array(
        [
            232,
            230,
            226,
        ]
    ) / (1 + 0.05 * depth[..., None])
    both = np.where(falls[..., None] < 0, floor, above).clip(
        0,
        255,
    )
    own = (where.cell // _WIDE + where.cell % _WIDE) % 2
    return both.astype(np.uint8)[where.house, own]


def _add_things(
    houses: Houses,
    where: _Places,
    scene: tuple[Float[np.ndarray, "m w"], Rays],
    onto: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Paint the things before the walls over images, labels and depths, the farthest
    first."""
    wall, table = scene
    images, labels, depth = onto
    grid = _padded(things(houses)).astype(np.uint8)
    colours = houses.colours.numpy()
    ways = np.arange(1, SEES + 1)[:, None]
    middles = table.middles[:SEES]
    found = where.at(grid, np.broadcast_to(ways, middles.shape), middles)
    found *= ways < wall[:, None]
    for far in range(SEES, 0, -1):
        view, column = np.nonzero(found[:, far - 1])
        if not len(view):
            continue
        kind = found[view, far - 1, column].astype(int) - 1
        texel = ((table.across[far - 1, column] + 0.5) * _TEXTURE).astype(int)
        high = (0.5 + table.falls * far) * _TEXTURE
        row = np.nonzero((high >= 0) & (high < _TEXTURE))[0]
        up = high[row].astype(int)
        ink = _LOOKS[
            kind[:, None],
            up,
            texel.clip(
                0,
                _TEXTURE - 1,
            )[:, None],
        ]
        hit, at = np.nonzero(ink)
        own = _PAINT[colours[where.house[view[hit]], kind[hit]]]
        paint = np.where(
            ink[hit, at, None] == 2,
            _DARK,
            own,
        ) / (1 + 0.05 * (far - 1))
        spot = view[hit], row[at], column[hit]
        images[spot] = paint
        labels[spot] = 3 + kind[hit]
        depth[spot] = far


def every(houses: Houses) -> Int[Tensor, "m 2"]:
    """All states of all houses that an agent can be in: house and state."""
    return free(houses).nonzero()


def tables(houses: Houses) -> dict[str, Tensor]:
    """What a walk looks up, for all states of all houses in a line: state s of house i
    has the number ``i * STATES + s``.

    Returns:
        ``following`` (n * states, 4), the number after each action; ``distance`` (k, n
        * states), geodesic; ``expert`` (k, n * states), the first action of the way.
    """
    first = STATES * torch.arange(len(houses))[:, None, None]
    distance = distances(houses)
    expert = experts(houses, distance)
    return {
        "following": (following(houses) + first).flatten(0, 1),
        "distance": distance.transpose(0, 1).flatten(1),
        "expert": expert.transpose(0, 1).flatten(1),
    }


def ways(
    houses: Houses, known: dict[str, Tensor], starts: Int[Tensor, "m 2"]
) -> dict[str, Tensor]:
    """Shortest ways to a thing, and the question that is answered there.

    Args:
        houses: where they lead.
        known: from ``tables``.
        starts: for each way the thing's kind and the number of the state.

    Returns:
        ``states`` and ``actions`` (m, t), the last of them a stop; ``valid`` (m, t), up
        to it; ``kind`` and ``answers`` (m,); ``tokens`` (m, 5).

    Raises:
        ValueError: for no ways, or a start from where none leads.
    """
    expect(len(starts), "at least one start", starts.shape)
    kind, at = starts.T
    far = known["distance"][kind, at]
    expect(far.max() < FAR, "starts from where a way leads", int(far.max()))
    states, actions = [], []
    for _ in range(int(far.max()) + 1):
        action = known["expert"][kind, at]
        states.append(at)
        actions.append(action)
        at = known["following"][at, action]
    return {
        "states": torch.stack(states, 1),
        "actions": torch.stack(actions, 1),
        "valid": torch.arange(len(states)) <= far[:, None],
        "kind": kind,
        "answers": houses.colours[starts[:, 1] // STATES, kind],
        "tokens": question(kind),
    }


def replay(
    known: dict[str, Tensor], start: int, letters: str
) -> tuple[Int[Tensor, " t"], Bool[Tensor, " t"]]:
    """A walk that was written down.

    Args:
        known: from ``tables``.
        start: number of the state where it begins.
        letters: a letter of ``FLRS`` for each action; capitals are a planner's
            decisions, small ones repeats.

    Returns:
        The states' numbers, and where a planner decided.

    Raises:
        ValueError: for no letters, or others.
    """
    some = len(letters) and set(letters.upper()) <= set("FLRS")
    expect(some, "letters of FLRS", letters)
    walk = [start]
    for letter in letters[:-1].upper():
        walk.append(int(known["following"][walk[-1], "FLRS".index(letter)]))
    fresh = [letter.isupper() for letter in letters]
    return torch.tensor(walk), torch.tensor(fresh)


_TILE = 12  # pixels of a cell on a plan
_TRAIL = np.array([66, 66, 74])


def plan(
    houses: Houses, walk: Int[Tensor, " t"], chosen: Bool[Tensor, " t"]
) -> UInt8[Tensor, "3 h w"]:
    """A house from above: its walls, its things, the way so far and the agent, a dart.

    Args:
        houses: all of them.
        walk: numbers of the states so far, as in ``tables``.
        chosen: where a planner decided: a large dot; else it is small.
    """
    house = int(walk[-1]) // STATES
    walls = houses.walls[house].numpy()
    tint = 255 * houses.tints[house].numpy()
    room = tint[1 + houses.rooms[house].numpy()]
    cells = np.where(walls[..., None], 0.45 * room, 0.5 * room + 120)
    image = cells.repeat(_TILE, 0).repeat(_TILE, 1)
    texel = (np.arange(_TILE) * _TEXTURE + _TEXTURE // 2) // _TILE
    places = houses.places[house].tolist()
    for kind, (row, column) in enumerate(places):
        ink = _LOOKS[kind][texel[::-1]][:, texel]
        tile = image[row * _TILE :, column * _TILE :][:_TILE, :_TILE]
        tile[ink == 1] = _PAINT[houses.colours[house, kind]]
        tile[ink == 2] = _DARK
    y, x = np.mgrid[: len(image), : len(image)] + 0.5
    cell = walk.numpy() % STATES // 4
    middle = (np.stack([cell // SIDE, cell % SIDE], 1) + 0.5) * _TILE
    for (down, right), large in zip(middle, chosen.tolist(), strict=True):
        near = (y - down) ** 2 + (x - right) ** 2
        image[near < (3.4 if large else 1.6) ** 2] = _TRAIL
    down, right = middle[-1]
    ahead, aside = _AHEAD[walk[-1] % 4], _AHEAD[(walk[-1] + 1) % 4]
    forth = (y - down) * ahead[0] + (x - right) * ahead[1]
    across = (y - down) * aside[0] + (x - right) * aside[1]
    dart = (forth > -5) & (np.abs(across) < 0.45 * (6 - forth))
    image[dart] = (20, 20, 24)
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8)).permute(
        2,
        0,
        1,
    )


def film(
    houses: Houses, walk: Int[Tensor, " t"], chosen: Bool[Tensor, " t"]
) -> list[Float[Tensor, "3 h w"]]:
    """A walk, step by step: the plan, and beside it what the agent sees.

    Args:
        houses, walk, chosen: as for ``plan``.
    """
    height = SIDE * _TILE
    where = torch.stack([walk // STATES, walk % STATES], 1)
    views = render(houses, where, height // 2)["images"]
    gap = torch.full((3, height, 6), 255, dtype=torch.uint8)
    pictures = []
    for step, view in enumerate(views):
        large = view.repeat_interleave(2, 1).repeat_interleave(2, 2)
        drawn = plan(houses, walk[: step + 1], chosen[: step + 1])
        pictures.append(torch.cat([drawn, gap, large], 2) / 255)
    return pictures
