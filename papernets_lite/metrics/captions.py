"""How well sentences say what is true: the facts that they state, and the words that
they share with true ones."""

import math
from collections import Counter
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from papernets_lite.ops.checks import expect


def f1(
    found: Sequence[Collection[object]], truth: Sequence[Collection[object]]
) -> Float[Tensor, " n"]:
    """How well the facts that each sentence states are the true one's: 2 common / (all
    found + all true); 0 where neither states any.

    Args:
        found: the facts of each sentence, in any order; one stated twice counts once.
        truth: those of the true sentences.

    Raises:
        ValueError: for unequal numbers of sentences.
    """
    expect(len(found) == len(truth), f"{len(truth)} sentences", len(found))
    scores = []
    for stated, true in zip(map(set, found), map(set, truth), strict=True):
        common = len(stated & true)
        scores.append(2 * common / max(1, len(stated) + len(true)))
    return torch.tensor(scores)


def bleu(
    found: Sequence[str], truth: Sequence[Sequence[str]], *, longest: int = 4
) -> float:
    r"""BLEU (Papineni and others, ACL 2002) of a whole set of sentences, without
    smoothing: the geometric mean of the shares of their runs of 1 to ``longest`` words
    that a true sentence has, times :math:`\exp(1 - r / c)` where their c words are
    fewer than the r of the true sentences nearest in length.

    Args:
        found: words with spaces between them.
        truth: for each of them one or several true sentences.
        longest: run of words that counts.

    Raises:
        ValueError: for unequal numbers, a sentence without a true one, or no runs.
    """
    expect(len(found) == len(truth), f"{len(truth)} sentences", len(found))
    listed = not any(isinstance(others, str) for others in truth)
    expect(listed, "a list of true sentences for each", truth[:1])
    expect(all(truth), "at least one true sentence for each", list(map(len, truth)))
    expect(longest >= 1, "runs of at least one word", longest)
    common, stated = [0] * longest, [0] * longest
    said = true = 0
    for sentence, others in zip(found, truth, strict=True):
        words = sentence.split()
        rivals = [other.split() for other in others]
        said += len(words)
        true += min(map(len, rivals), key=lambda n: (abs(n - len(words)), n))
        for length in range(1, longest + 1):
            runs = _runs(words, length)
            allowed: Counter[tuple[str, ...]] = Counter()
            for rival in rivals:
                allowed |= _runs(rival, length)
            common[length - 1] += (runs & allowed).total()
            stated[length - 1] += runs.total()
    if not min(common):
        return 0.0
    total = 0.0
    for right, all_ in zip(common, stated, strict=True):
        total += math.log(right / all_)
    precision = math.exp(total / longest)
    brevity = math.exp(min(0.0, 1 - true / said))
    return precision * brevity


def _runs(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    """How often each run of so many words stands among them."""
    starts = range(len(words) - length + 1)
    return Counter(tuple(words[k : k + length]) for k in starts)
