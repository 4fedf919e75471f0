"""Captions of, and questions about, the scenes of the world `shapes`: words, tokens and
exact answers.

The scenes come from ``scenes``: objects that differ in shape and colour, of mixed
sizes, anywhere in the picture. A caption names each of them; a question is answered by
one word, and the answers of each kind of question are equally frequent, so that the
question alone tells nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papernets_lite.data import canvas, shapes
from papernets_lite.ops.checks import expect

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
COUNTS = ("two", "three", "four")
KINDS = ("colour", "shape", "check", "count")
ANSWERS = (*COLOURS, *SHAPES, "yes", "no", *COUNTS)
PAD, START, END = 0, 1, 2
SPECIAL = ("<pad>", "<start>", "<end>")
WORDS = (
    *SPECIAL,
    "a",
    "and",
    *COLOURS,
    *SHAPES,
    *"what colour shape is the one how many shapes are there".split(),
)
_TABLES = ((SHAPES, shapes.CLASSES), (COLOURS, shapes.COLOURS))
CAPTION_LENGTH, QUESTION_LENGTH = 16, 6  # of the longest; a caption's includes its end


def scenes(n: int, generator: torch.Generator, **changes: object) -> shapes.Scene:
    """Scenes that sentences can tell apart: two to four objects, each of its own shape
    and colour, none overlapping.

    Args:
        n: how many.
        generator: on the CPU.
        changes: of ``shapes.sample``'s options.
    """
    settings: dict = {
        "objects": (2, len(COUNTS) + 1),
        "classes": SHAPES,
        "colours": COLOURS,
    }
    settings |= {
        "distinct": True,
        "apart": True,
        "radius": (0.09, 0.2),
        "textures": ("plain",),
    }
    return shapes.sample(n, generator, **(settings | changes))


def encode(sentences: Sequence[str], length: int) -> Int[Tensor, "n {length}"]:
    """Sentences as tokens, filled up with ``PAD``.

    Args:
        sentences: words with spaces between them.
        length: tokens of each.

    Raises:
        ValueError: for a word outside the vocabulary or a sentence that is too long.
    """
    tokens = torch.full((len(sentences), length), PAD)
    for row, sentence in zip(tokens, sentences, strict=True):
        words = sentence.split()
        unknown = sorted(set(words) - set(WORDS))
        expect(not unknown, "words of the vocabulary", unknown)
        expect(len(words) <= length, f"at most {length} words", len(words), sentence)
        row[: len(words)] = torch.tensor(
            [WORDS.index(word) for word in words], dtype=torch.long
        )
    return tokens


def decode(tokens: Int[Tensor, "n t"]) -> list[str]:
    """Tokens as sentences: what stands before the first end, without padding.

    Raises:
        ValueError: for a number that is no token.
    """
    known = ((tokens >= 0) & (tokens < len(WORDS))).all()
    expect(known, f"tokens from 0 to {len(WORDS) - 1}", tokens.tolist())
    rows = [[*row, END] for row in tokens.tolist()]
    return [
        " ".join(WORDS[token] for token in row[: row.index(END)] if token > END)
        for row in rows
    ]


def factors(scene: shapes.Scene) -> tuple[Int[Tensor, "n m"], Int[Tensor, "n m"]]:
    """Every object's shape and colour, as numbers into ``SHAPES`` and ``COLOURS``."""
    tables = [[few.index(x) if x in few else -1 for x in all_] for few, all_ in _TABLES]
    return torch.tensor(tables[0])[scene.labels], torch.tensor(tables[1])[scene.colours]


def names(scene: shapes.Scene) -> list[list[tuple[str, str]]]:
    """The (colour, shape) of every object of every scene, in the scene's order."""
    objects = torch.stack([scene.colours, scene.labels], 2)[scene.valid]
    rows = objects.split(scene.valid.sum(1).tolist())
    return [
        [(shapes.COLOURS[a], shapes.CLASSES[b]) for a, b in row.tolist()]
        for row in rows
    ]


def pairs(sentence: str) -> set[tuple[str, str]]:
    """The (colour, shape) pairs that a sentence states: each colour with the shape
    right after it."""
    words = sentence.split()
    return {(a, b) for a, b in pairwise(words) if a in COLOURS and b in SHAPES}


def f1(found: Int[Tensor, "n t"], truth: Int[Tensor, "n t"]) -> Float[Tensor, " n"]:
    """How well the pairs that each sentence states are the true one's: 2 common / (all
    found + all true)."""
    both = zip(
        *([pairs(text) for text in decode(tokens)] for tokens in (found, truth)),
        strict=True,
    )
    return torch.tensor([2 * len(a & b) / max(1, len(a) + len(b)) for a, b in both])


@dataclass(frozen=True)
class Captions:
    """One true sentence for each scene."""

    text: list[str]
    tokens: Int[Tensor, "n t"]  # with the end, without the start
    # the object that a word speaks of, -1 for "and" and the end
    objects: Int[Tensor, "n t"]


def captions(scene: shapes.Scene) -> Captions:
    """ "a red circle and a blue star": all objects, in the order of the rainbow
    (regions do not know their places)."""
    text, objects = [], torch.full((len(scene), CAPTION_LENGTH), -1)
    for row, found in zip(objects, names(scene), strict=True):
        order = sorted(range(len(found)), key=lambda k: COLOURS.index(found[k][0]))
        text.append(" and ".join(f"a {found[k][0]} {found[k][1]}" for k in order))
        for place, k in enumerate(order):
            row[4 * place : 4 * place + 3] = k
    return Captions(
        text,
        encode([f"{sentence} {SPECIAL[END]}" for sentence in text], CAPTION_LENGTH),
        objects,
    )


@dataclass(frozen=True)
class Questions(canvas.Factors):
    """Questions with their answers, scene after scene."""

    tokens: Int[Tensor, "n t"]
    answers: Int[Tensor, " n"]  # into ANSWERS
    images: Int[Tensor, " n"]  # which scene
    kinds: Int[Tensor, " n"]  # into KINDS
    objects: Int[Tensor, " n"]  # the object asked about, -1 for "count"


def questions(
    scene: shapes.Scene,
    generator: torch.Generator,
    *,
    each: int = 1,
    kinds: Sequence[str] = KINDS,
) -> Questions:
    """Ask ``each`` questions about every scene; those about scene i do not depend on
    how many follow.

    ``colour``: "what colour is the star"; ``shape``: "what shape is the red one";
    ``count``: "how many shapes are there"; ``check``: "is the star red", where the
    wrong colour is that of another object, so that it does not help to find both words
    in the picture.

    Args:
        scene: from ``scenes``.
        generator: on the CPU.
        each: questions about a scene.
        kinds: that are asked, all equally often.

    Raises:
        ValueError: for an unknown kind, or a scene with fewer than two objects or
            others than ``scenes`` has.
    """
    expect(
        each >= 1 and kinds and set(kinds) <= set(KINDS),
        f"each >= 1 and kinds from {KINDS}",
        each,
        tuple(kinds),
    )
    fewest = int(scene.valid.sum(1).min())
    expect(fewest >= 2, "at least two objects in each scene", fewest)
    chances = (
        canvas.Draws.start(len(scene), generator)
        .uniform(0, 1, each, 4)
        .double()
        .tolist()
    )
    text, facts = [], []
    for image, (found, rows) in enumerate(zip(names(scene), chances, strict=True)):
        for which, first, second, coin in rows:
            kind, one = kinds[int(which * len(kinds))], int(first * len(found))
            other = (one + 1 + int(second * (len(found) - 1))) % len(found)
            (colour, shape), honest = found[one], coin < 0.5
            sentence, answer = {
                "colour": (f"what colour is the {shape}", colour),
                "shape": (f"what shape is the {colour} one", shape),
                "check": (
                    f"is the {shape} {colour if honest else found[other][0]}",
                    "yes" if honest else "no",
                ),
                "count": ("how many shapes are there", COUNTS[len(found) - 2]),
            }[kind]
            text.append(sentence)
            facts.append(
                (
                    ANSWERS.index(answer),
                    image,
                    KINDS.index(kind),
                    -1 if kind == "count" else one,
                )
            )
    return Questions(encode(text, QUESTION_LENGTH), *torch.tensor(facts).T)
