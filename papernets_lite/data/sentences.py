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
from jaxtyping import Int, Integer
from torch import Tensor

from papernets_lite.data import canvas, shapes
from papernets_lite.ops.checks import expect
from papernets_lite.ops.tokens import END, PAD, START, check_tokens

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
COUNTS = ("two", "three", "four")
KINDS = ("colour", "shape", "check", "count")
ANSWERS = (*COLOURS, *SHAPES, "yes", "no", *COUNTS)
SPECIAL = {PAD: "<pad>", START: "<start>", END: "<end>"}
JOINING = ("a", "and")
ASKING = (
    *("what", "colour", "shape", "is", "the", "one"),
    *("how", "many", "shapes", "are", "there"),
)
WORDS = (*SPECIAL.values(), *JOINING, *COLOURS, *SHAPES, *ASKING)
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
    expect(not isinstance(sentences, str), "a list of sentences", sentences)
    expect(length >= 1, "length >= 1", length)
    tokens = torch.full((len(sentences), length), PAD)
    for row, sentence in zip(tokens, sentences, strict=True):
        words = sentence.split()
        unknown = sorted(set(words) - set(WORDS))
        expect(not unknown, "words of the vocabulary", unknown)
        expect(len(words) <= length, f"at most {length} words", len(words), sentence)
        for place, word in enumerate(words):
            row[place] = WORDS.index(word)
    return tokens


def decode(tokens: Integer[Tensor, "n t"]) -> list[str]:
    """Tokens as sentences: what stands before the first end, without padding.

    Raises:
        ValueError: for a number that is no token.
    """
    expect(tokens.ndim == 2, "tokens (n, t)", tokens.shape)
    sentences = []
    for row in check_tokens(tokens, len(WORDS)).tolist():
        end = [*row, END].index(END)
        words = [WORDS[token] for token in row[:end] if token not in SPECIAL]
        sentences.append(" ".join(words))
    return sentences


def factors(scene: shapes.Scene) -> tuple[Int[Tensor, "n m"], Int[Tensor, "n m"]]:
    """Every object's shape and colour, as numbers into ``SHAPES`` and ``COLOURS``; -1
    for others."""
    shape, colour = _numbers(SHAPES, shapes.CLASSES), _numbers(COLOURS, shapes.COLOURS)
    return shape[scene.labels], colour[scene.colours]


def _numbers(few: Sequence[str], every: Sequence[str]) -> Int[Tensor, " n"]:
    """The place among a few names of each name, -1 for those that are not there."""
    return torch.tensor([few.index(name) if name in few else -1 for name in every])


def names(scene: shapes.Scene) -> list[list[tuple[str, str]]]:
    """The (colour, shape) of every object of every scene, in the scene's order."""
    found: list[list[tuple[str, str]]] = [[] for _ in range(len(scene))]
    for row, place in scene.valid.nonzero().tolist():
        colour = shapes.COLOURS[int(scene.colours[row, place])]
        shape = shapes.CLASSES[int(scene.labels[row, place])]
        found[row].append((colour, shape))
    return found


def pairs(sentence: str) -> set[tuple[str, str]]:
    """The (colour, shape) pairs that a sentence states: each colour with the shape
    right after it."""
    words = sentence.split()
    return {(a, b) for a, b in pairwise(words) if a in COLOURS and b in SHAPES}


def stated(tokens: Integer[Tensor, "n t"]) -> list[set[tuple[str, str]]]:
    """The ``pairs`` of each sentence: what ``metrics.captions.f1`` compares.

    Args:
        tokens: the sentences.

    Raises:
        ValueError: for a number that is no token.
    """
    return [pairs(sentence) for sentence in decode(tokens)]


@dataclass(frozen=True)
class Captions:
    """One true sentence for each scene."""

    text: list[str]
    tokens: Int[Tensor, "n t"]  # with the end, without the start
    # the object that a word speaks of, -1 for "and" and the end
    objects: Int[Tensor, "n t"]


def captions(scene: shapes.Scene) -> Captions:
    """ "a red circle and a blue star": all objects, in the order of the rainbow
    (regions do not know their places).

    Args:
        scene: from ``scenes``.

    Raises:
        ValueError: for a scene with other names or more objects than ``scenes`` has.
    """
    text, ending = [], []
    objects = torch.full((len(scene), CAPTION_LENGTH), -1)
    for row, found in zip(objects, names(scene), strict=True):
        _check_names(found)
        order = sorted(range(len(found)), key=lambda k: COLOURS.index(found[k][0]))
        sentence = " and ".join("a {} {}".format(*found[k]) for k in order)
        text.append(sentence)
        ending.append(f"{sentence} {SPECIAL[END]}")
        for place, k in enumerate(order):
            row[4 * place : 4 * place + 3] = k
    return Captions(text, encode(ending, CAPTION_LENGTH), objects)


def _check_names(found: Sequence[tuple[str, str]]) -> None:
    """Refuse what no sentence has words for."""
    others = [pair for pair in found if pair[0] not in COLOURS or pair[1] not in SHAPES]
    expect(not others, "colours and shapes that `scenes` draws", *others[:3])
    most = len(COUNTS) + 1
    expect(len(found) <= most, f"at most {most} objects in a scene", len(found))


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
    known = each >= 1 and kinds and set(kinds) <= set(KINDS)
    expect(known, f"each >= 1 and kinds from {KINDS}", each, tuple(kinds))
    objects = names(scene)
    fewest = min(map(len, objects), default=0)
    expect(fewest >= 2, "at least two objects in each scene", fewest)
    draws = canvas.Draws.start(len(scene), generator)
    chances = draws.uniform(0, 1, each, 4).double().tolist()
    text, answers, images, asked, about = [], [], [], [], []
    for image, (found, rows) in enumerate(zip(objects, chances, strict=True)):
        _check_names(found)
        for which, first, second, coin in rows:
            kind = kinds[int(which * len(kinds))]
            one = int(first * len(found))
            other = (one + 1 + int(second * (len(found) - 1))) % len(found)
            # what is not true of it is true of another object
            said = found[one if coin < 0.5 else other][0]
            sentence, answer = _ask(kind, found[one], said, len(found))
            text.append(sentence)
            answers.append(ANSWERS.index(answer))
            images.append(image)
            asked.append(KINDS.index(kind))
            about.append(-1 if kind == "count" else one)
    return Questions(
        encode(text, QUESTION_LENGTH),
        torch.tensor(answers),
        torch.tensor(images),
        torch.tensor(asked),
        torch.tensor(about),
    )


def _ask(kind: str, pair: tuple[str, str], said: str, count: int) -> tuple[str, str]:
    """A question and its answer.

    Args:
        kind: from ``KINDS``.
        pair: colour and shape of the object that it is about.
        said: the colour that a "check" asks for.
        count: objects in the picture.
    """
    colour, shape = pair
    if kind == "colour":
        return f"what colour is the {shape}", colour
    if kind == "shape":
        return f"what shape is the {colour} one", shape
    if kind == "check":
        return f"is the {shape} {said}", "yes" if said == colour else "no"
    return "how many shapes are there", COUNTS[count - 2]
