"""Words as numbers: the three that are no words, and what a net may be told."""

from jaxtyping import Bool
from torch import Tensor

from papernets_lite.ops.checks import expect

PAD, START, END = 0, 1, 2


def check_tokens(tokens: Tensor, num_words: int) -> Tensor:
    """The tokens as int64, once they are words of the vocabulary.

    Args:
        tokens: integers of any type and shape.
        num_words: of the vocabulary.

    Raises:
        ValueError: for numbers that are not integers, or tokens outside 0 to
            ``num_words - 1``.
    """
    whole = not (tokens.is_floating_point() or tokens.is_complex())
    expect(whole, "integers as tokens", tokens.dtype)
    outside = tokens[(tokens < 0) | (tokens >= num_words)]
    expect(
        not outside.numel(), f"tokens from 0 to {num_words - 1}", outside[:5].tolist()
    )
    return tokens.long()


def check_filled(tokens: Tensor) -> Bool[Tensor, "b t"]:
    """Where the words stand, once every row begins with one and ``PAD`` only follows.

    Args:
        tokens: (b, t), filled up with ``PAD``.

    Raises:
        ValueError: for a row of ``PAD`` only, or a word behind a ``PAD``.
    """
    words = tokens != PAD
    empty = (~words.any(1)).nonzero()[:5, 0]
    expect(not empty.numel(), "at least one word in each row", empty.tolist(), "empty")
    late = (words[:, 1:] & ~words[:, :-1]).any(1).nonzero()[:5, 0]
    expect(not late.numel(), "no word behind a PAD", late.tolist(), "with one")
    return words


def ended(tokens: Tensor) -> Tensor:
    """Which tokens end a sentence, or stand behind its end."""
    return (tokens == END) | (tokens == PAD)
