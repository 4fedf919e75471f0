"""The world `actions`: an object of `shapes` that moves in one of four ways, slowly or
quickly, as a net with two streams sees it: one picture, and the flow around it.

Colour and motion are drawn apart: neither the picture nor the flow alone tells the
action.
"""

import math
from dataclasses import dataclass, replace
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data import canvas, motion, shapes
from papernets_lite.data.canvas import Draws, check_size

COLOURS = "blue", "red"
SHAPES = "circle", "hexagon", "square"  # any of them; the flow tells no colour
WAYS = ("across", "up and down", "round", "breathing")
TEMPOS = {"slow": 1 / 8, "fast": 3 / 8}  # turns a frame
# every colour with every way at both tempos, in the order of their numbers
ACTIONS = tuple(
    f"{colour}, {way}, {tempo}"
    for colour in COLOURS
    for way in WAYS
    for tempo in TEMPOS
)
FLOWS = 8  # fields of flow: one slow turn, or three fast ones
REACH = 0.035, 0.07  # longest step from frame to frame, in units of the image's side


@dataclass(frozen=True)
class Clips(canvas.Factors):
    """The factors of n clips of ``FLOWS + 1`` frames with one object."""

    film: motion.Film
    colours: Int[Tensor, " n"]  # into COLOURS
    ways: Int[Tensor, " n"]  # into WAYS
    tempos: Int[Tensor, " n"]  # into TEMPOS

    def __getitem__(self, clips: slice | Tensor) -> "Clips":
        """Some of the clips."""
        numbers = self.colours[clips], self.ways[clips], self.tempos[clips]
        return Clips(self.film[clips], *numbers)


def sample(n: SupportsIndex, generator: torch.Generator) -> Clips:
    """Draw the factors of ``n`` clips; clip i does not depend on ``n``.

    A way's longest step is drawn alike for both tempos: a fast object swings less far,
    and only the flow's change from frame to frame tells the tempo.

    Args:
        n: how many clips.
        generator: CPU generator; the same seed gives the same clips on every machine.

    Raises:
        ValueError: for ``n < 1`` or a wrong generator.
    """
    film = motion.sample(
        n,
        generator,
        frames=FLOWS + 1,
        objects=(1, 1),
        radius=(0.16, 0.22),
        classes=SHAPES,
        colours=COLOURS,
        grounds=("plain",),
        clutter=0,
        zoom=0,
        spin=0,
        unclear=0,
    )
    known = torch.tensor([shapes.COLOURS.index(name) for name in COLOURS])
    colours = (film.scene.colours == known).long().argmax(1)
    # of what a film has drawn already, so that it does not depend on the others
    draws = Draws((film.scene.backgrounds[:, 2:] * 2**24).long() @ torch.tensor([1, 7]))
    ways = draws.integers(0, len(WAYS))
    tempos = draws.integers(0, len(TEMPOS))
    turns = torch.tensor([*TEMPOS.values()])[tempos]
    time = torch.arange(FLOWS + 1) - FLOWS / 2
    phase = draws.uniform(-math.pi, math.pi)[:, None]
    angle = 2 * math.pi * turns[:, None] * time + phase
    span = draws.uniform(*REACH) / (2 * (math.pi * turns).sin())
    swing, lag = span[:, None] * angle.sin(), span[:, None] * angle.cos()
    still = torch.zeros_like(swing)
    by_way = {
        "across": (swing, still, still),
        "up and down": (still, swing, still),
        "round": (swing, lag, still),
        "breathing": (still, still, swing),
    }
    parts = torch.stack([torch.stack(by_way[way], -1) for way in WAYS], 1)
    moved = parts[torch.arange(len(ways)), ways]
    middle = 0.5 + draws.uniform(-0.15, 0.15, 2)
    film = replace(
        film,
        centres=(middle[:, None] + moved[..., :2])[:, :, None],
        radii=film.scene.radii[:, None] + moved[..., 2:],
        angles=film.scene.angles[:, None].expand(-1, FLOWS + 1, -1).clone(),
    )
    return Clips(film, colours, ways, tempos)


def render(clips: Clips, size: SupportsIndex) -> Float[Tensor, "n 3 size size"]:
    """The middle frame of each clip: all that the picture's stream sees."""
    frames = motion.stills(clips.film)
    middle = torch.arange(len(clips)) * (FLOWS + 1) + FLOWS // 2
    return shapes.render(frames[middle], check_size(size))


def annotate(clips: Clips, size: SupportsIndex) -> dict[str, Tensor]:
    """The truth of ``clips``.

    Returns:
        ``flow`` (n, FLOWS, 2, size, size), as ``motion.annotate`` has it, in units of
        the longest step that occurs; ``actions`` (n,), into ``ACTIONS``; ``colours``,
        ``ways`` and ``tempos``, from which an action's number is made.
    """
    side = check_size(size)
    flow = motion.annotate(clips.film, side)["flow"] / (REACH[1] * side)
    numbers = {"colours": clips.colours, "ways": clips.ways, "tempos": clips.tempos}
    action = (clips.colours * len(WAYS) + clips.ways) * len(TEMPOS) + clips.tempos
    return {"flow": flow, "actions": action, **numbers}


def tints(flow: Float[Tensor, "*b 2 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Flow as colours: white where nothing moves, a hue for each direction, full where
    a step is as long as the longest that occurs."""
    x, y = flow.unbind(-3)
    turned = torch.arange(3.0)[:, None, None] * (2 * math.pi / 3)
    hue = 0.5 + 0.5 * (torch.atan2(y, x).unsqueeze(-3) - turned.to(x)).cos()
    strength = torch.hypot(x, y).clamp(max=1).unsqueeze(-3)
    return 1 - strength * (1 - hue)


def wheel(size: SupportsIndex) -> Float[Tensor, "3 size size"]:
    """The key to ``tints``: a disc whose every place moves away from its middle."""
    side = check_size(size)
    along = (torch.arange(side) + 0.5) / side * 2 - 1
    away = torch.stack(torch.meshgrid(along, along, indexing="xy"))
    return tints(away * (away.norm(dim=0) <= 1))
