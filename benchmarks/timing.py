"""Two pieces of work, timed in turns, and what a row of a table says of them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]
FEWEST, MOST = 5, 41  # rounds


@dataclass
class Row:
    """One line of a table.

    Args:
        what: the work, in words.
        rival: what does the same; empty where nothing does.
        ours: seconds, the median.
        theirs: the rival's seconds, the median; none without a rival.
        ratio: the median of the rounds' ratios, ours by theirs.
        note: why a ratio is what it is.
    """

    what: str
    ours: float
    rival: str = ""
    theirs: float | None = None
    ratio: float | None = None
    note: str = ""


def seconds(work: Work) -> float:
    """One call's seconds of CPU time: other work on the machine does not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rounds(once: float, budget: float) -> int:
    """How often work that takes ``once`` seconds fits into ``budget``."""
    return max(FEWEST, min(MOST, int(budget / max(once, 1e-9))))


def alone(what: str, work: Work, *, each: int = 1, budget: float = 1.0) -> Row:
    """Time work that has no rival.

    Args:
        what: the work, in words.
        work: called again and again.
        each: how many things one call makes; the row tells the seconds of one.
        budget: seconds, about.
    """
    work()
    once = seconds(work)
    taken = [seconds(work) for _ in range(rounds(once, budget))]
    return Row(what, statistics.median(taken) / each)


def beside(
    what: str, ours: Work, rival: str, theirs: Work, *, budget: float = 4.0
) -> Row:
    """Time two pieces of work in turns: ours, theirs; theirs, ours; ...

    Args:
        what: the work, in words.
        ours: the package's.
        rival: who does the same.
        theirs: the rival's.
        budget: seconds, about, for both.
    """
    ours(), theirs()
    once = seconds(ours) + seconds(theirs)
    mine: list[float] = []
    other: list[float] = []
    for turn in range(rounds(once, budget)):
        pair = ((ours, mine), (theirs, other))
        for work, taken in pair if turn % 2 == 0 else pair[::-1]:
            taken.append(seconds(work))
    ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
    return Row(what, statistics.median(mine), rival, statistics.median(other), ratio)


def words(duration: float) -> str:
    """A duration as a reader says it."""
    if duration >= 1:
        return f"{duration:.1f} s"
    if duration >= 1e-3:
        return f"{1e3 * duration:.3g} ms"
    return f"{1e6 * duration:.3g} µs"
