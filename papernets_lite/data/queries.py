"""The world `queries`: short films of coloured shapes that move, and sentences that
name one of them by what it is and what it does.

Each film has a *twin* of its first object: it looks the same and moves another way, so
that only motion tells the two apart. Where objects stand in the middle frame, whose
mask is asked for, does not depend on how they move: no single frame gives that away.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data import canvas, motion, shapes
from papernets_lite.data.canvas import check_range, is_whole
from papernets_lite.ops.checks import expect
from papernets_lite.ops.tokens import PAD

COLOURS = ("red", "yellow", "green", "blue")
SHAPES = ("circle", "square", "triangle", "star")
ACTIONS = ("moving left", "moving right", "rising", "falling")
WAYS = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # (x, y), y down
WORDS = (
    "<pad>",
    "a",
    *COLOURS,
    *SHAPES,
    "moving",
    "left",
    "right",
    "rising",
    "falling",
)
LENGTH = 5  # words of the longest sentence


@dataclass(frozen=True)
class Play(canvas.Factors):
    """Films of three objects, and what each of them does."""

    film: motion.Film
    colours: Int[Tensor, "n m"]  # into COLOURS
    shapes: Int[Tensor, "n m"]  # into SHAPES
    actions: Int[Tensor, "n m"]  # into ACTIONS


def sample(
    n: SupportsIndex,
    generator: torch.Generator,
    *,
    frames: int = 5,
    speed: float = 0.08,
    held_out: Collection[tuple[str, str]] = (),
    only: bool = False,
    **looks: Any,
) -> Play:
    """Draw ``n`` films of a target, its twin and another object; film i does not depend
    on ``n``.

    The twin has the target's colour and shape and another action; the other object has
    the target's action, another colour and any shape.

    Args:
        n: how many films.
        generator: CPU generator; the same seed gives the same films on every machine.
        frames: of each film, an odd number, so that one of them is the middle.
        speed: of every object, in units of the image's side per frame.
        held_out: (colour, action) pairs that no object has.
        only: instead, every target has one of them, and no other object.
        looks: for ``shapes.sample``: ``radius``, ``grounds``, ``clutter``, ``noise``.

    Raises:
        ValueError: for an even number of frames, a speed outside [0, 1], pairs that do
            not exist or leave nothing to draw, or what ``shapes.sample`` refuses.
    """
    odd = is_whole(frames) and frames >= 1 and frames % 2 == 1
    expect(odd, "an odd number of frames", frames)
    check_range("speed", (0, speed), 0, 1)
    casts = _casts(held_out, only=only)
    settings: dict = {"objects": (3, 3), "radius": (0.13, 0.17), "apart": True}
    settings |= {"textures": ("plain",), "classes": SHAPES, "colours": COLOURS}
    scene = shapes.sample(n, generator, **(settings | looks))
    draws = canvas.draw_on(scene.backgrounds)
    colour, action, twins, others = casts[draws.integers(0, len(casts))].unbind(-1)
    form = draws.integers(0, len(SHAPES), 2)
    colours = torch.stack([colour, colour, others], 1)
    forms = form[:, [0, 0, 1]]
    actions = torch.stack([action, twins, action], 1)
    scene = replace(
        scene,
        colours=_numbers(COLOURS, shapes.COLOURS)[colours],
        labels=_numbers(SHAPES, shapes.CLASSES)[forms],
    )
    since = torch.arange(frames) - frames // 2
    step = speed * torch.tensor(WAYS)[actions]
    film = motion.Film(
        scene=scene,
        centres=scene.centres[:, None] + since[:, None, None] * step[:, None],
        radii=scene.radii[:, None].expand(-1, frames, -1),
        angles=scene.angles[:, None].expand(-1, frames, -1),
        blur=torch.zeros(len(scene), frames),
        grain=draws.integers(0, 64, frames, 2),
    )
    return Play(film, colours, forms, actions)


def _casts(
    held_out: Collection[tuple[str, str]], *, only: bool
) -> Int[Tensor, "casts 4"]:
    """The target's colour and action, the twin's action and the other's colour, in
    every way that may occur."""
    for pair in held_out:
        known = len(pair) == 2 and pair[0] in COLOURS and pair[1] in ACTIONS
        expect(known, f"held_out=(colour, action) of {COLOURS} and {ACTIONS}", pair)
    banned = {(COLOURS.index(one), ACTIONS.index(two)) for one, two in held_out}
    casts = []
    hues, acts = range(len(COLOURS)), range(len(ACTIONS))
    for colour, action, twins, others in product(hues, acts, acts, hues):
        alike = action == twins or colour == others
        beside = {(colour, twins), (others, action)}
        wanted = ((colour, action) in banned) == only
        if wanted and not alike and not beside & banned:
            casts.append((colour, action, twins, others))
    expect(casts, "pairs that leave something to draw", held_out)
    return torch.tensor(casts)


def _numbers(few: Sequence[str], every: Sequence[str]) -> Int[Tensor, " n"]:
    return torch.tensor([every.index(name) for name in few])


def render(play: Play, size: SupportsIndex) -> Float[Tensor, "n t 3 size size"]:
    """Draw the films."""
    return motion.render(play.film, size)


def annotate(play: Play, size: SupportsIndex) -> dict[str, Tensor]:
    """The truth of the middle frame of ``render(play, size)``.

    Returns:
        ``masks`` (n, m, size, size), what is seen of each object; ``tokens`` (n, m,
        ``LENGTH``), the sentence that names it; ``colours``, ``shapes`` and ``actions``
        (n, m).
    """
    frames = play.film.blur.shape[1]
    middle = motion.stills(play.film)[frames // 2 :: frames]
    texts = [text for film in sentences(play) for text in film]
    return {
        "masks": shapes.annotate(middle, size)["masks"],
        "tokens": encode(texts).unflatten(0, play.actions.shape),
        "colours": play.colours,
        "shapes": play.shapes,
        "actions": play.actions,
    }


def sentence(colour: str, shape: str, action: str) -> str:
    """ "a red star rising": what an object is and does."""
    return f"a {colour} {shape} {action}"


def sentences(play: Play) -> list[list[str]]:
    """One sentence for each object of each film."""
    numbers = torch.stack([play.colours, play.shapes, play.actions], -1)
    return [
        [sentence(COLOURS[c], SHAPES[s], ACTIONS[a]) for c, s, a in film]
        for film in numbers.tolist()
    ]


def encode(texts: Sequence[str]) -> Int[Tensor, "n t"]:
    """Sentences as tokens, filled up with ``PAD``.

    Args:
        texts: words with spaces between them.

    Raises:
        ValueError: for a word outside ``WORDS``, or a sentence that is too long.
    """
    expect(not isinstance(texts, str), "a list of sentences", texts)
    tokens = torch.full((len(texts), LENGTH), PAD)
    for row, text in zip(tokens, texts, strict=True):
        words = text.split()
        unknown = sorted(set(words) - set(WORDS[1:]))
        expect(not unknown, f"words of {WORDS[1:]}", unknown)
        expect(len(words) <= LENGTH, f"at most {LENGTH} words", text)
        for place, word in enumerate(words):
            row[place] = WORDS.index(word)
    return tokens
