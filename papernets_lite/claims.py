"""What a paper claims, measured against a control over paired seeds.

A chapter trains treatment and control once, for its own seed, and calls
``Claim.measure``; ``make claims`` re-runs the chapters over several seeds, collects
those measurements and stores verdicts, which ``Claim.verdict`` prints.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from papernets_lite.ops.checks import expect

MIME = "application/vnd.papernets.claim+json"
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "SUPPORTED", "NOT SUPPORTED", "INCONCLUSIVE"
LEAST_SEEDS = 3
# In a clone the results lie in the book, in an installed wheel beside this file.
RESULTS = (
    Path(__file__).parent.parent / "book" / "results.json",
    Path(__file__).parent / "results.json",
)


@dataclass(frozen=True)
class Effect:
    """Paired differences in favour of the treatment: mean, standard deviation, 95 %
    interval of the mean."""

    differences: tuple[float, ...]
    mean: float
    deviation: float
    low: float
    high: float


def effect(
    treatment: Sequence[float],
    control: Sequence[float],
    *,
    higher_is_better: bool = True,
) -> Effect:
    """The paired effect, positive where it supports the claim, with Student's t
    interval.

    Args:
        treatment: one value per seed.
        control: the control's, same seeds, same order.
        higher_is_better: False where the claim is that the treatment's value is lower.

    Raises:
        ValueError: for no seeds, unequal numbers, or values that are not finite.
    """
    expect(
        0 < len(treatment) == len(control),
        "as many treatments as controls, and any",
        len(treatment),
        len(control),
    )
    expect(
        all(map(math.isfinite, [*treatment, *control])),
        "finite values",
        list(treatment),
        list(control),
    )
    sign = 1 if higher_is_better else -1
    differences = tuple(sign * (t - c) for t, c in zip(treatment, control, strict=True))
    n = len(differences)
    mean = math.fsum(differences) / n
    if n == 1:
        return Effect(differences, mean, math.nan, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Effect(differences, mean, deviation, mean - half, mean + half)


def judge(found: Effect, margin: float) -> str:
    """The verdict: SUPPORTED when the mean reaches ``margin`` and the interval excludes
    zero; NOT SUPPORTED when the interval excludes the margin; INCONCLUSIVE otherwise
    and below three seeds."""
    if len(found.differences) < LEAST_SEEDS:
        return INCONCLUSIVE
    if found.low > 0 and found.mean >= margin:
        return SUPPORTED
    return NOT_SUPPORTED if found.high < margin else INCONCLUSIVE


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can be measured.

    Args:
        slug: the chapter.
        key: a short name, unique in the chapter.
        text: what is claimed.
        paper_says: the paper's own numbers, with their table.
        metric: what is measured, with its unit.
        treatment: what the paper proposes.
        control: the same but for one thing.
        margin: the smallest difference that counts, in the metric's unit.
        higher_is_better: False where lower values support the claim.
    """

    slug: str
    key: str
    text: str
    paper_says: str
    metric: str
    treatment: str
    control: str
    margin: float
    higher_is_better: bool = True

    def measure(self, treatment: float, control: float, *, seed: int) -> "Measurement":
        """This run's numbers; as the last line of a cell they are shown, and found by
        ``make claims``.

        Raises:
            ValueError: for values that are not finite.
        """
        effect([float(treatment)], [float(control)])
        return Measurement(self, float(treatment), float(control), seed)

    def verdict(self) -> None:
        """Print the verdict over the stored seeds with its spread: the same text on
        every machine."""
        stored = read_results().get(self.slug, {}).get("claims", {}).get(self.key)
        if stored is None:
            print(f"NOT YET MEASURED: run make claims SLUGS={self.slug}")
            return
        found = effect(
            stored["treatment"],
            stored["control"],
            higher_is_better=self.higher_is_better,
        )
        better = "higher" if self.higher_is_better else "lower"
        print(f"{judge(found, self.margin)}: {self.text}")
        print(
            f"  {self.metric} ({better} is better), {len(stored['seeds'])} paired seeds"
        )
        print(f"  {self.treatment}: {spread(stored['treatment'])}")
        print(f"  {self.control}: {spread(stored['control'])}")
        interval = f"95 % interval [{number(found.low)}, {number(found.high)}]"
        print(
            f"  difference in favour: {number(found.mean)}, {interval}, margin {self.margin:g}"
        )


@dataclass(frozen=True)
class Measurement:
    """One run's numbers for a claim."""

    claim: Claim
    treatment: float
    control: float
    seed: int

    def record(self) -> dict[str, Any]:
        """What ``make claims`` collects."""
        values = {"treatment": self.treatment, "control": self.control}
        return {**asdict(self.claim), "values": values, "seed": self.seed}

    def _outcome(self) -> str:
        found = effect(
            [self.treatment],
            [self.control],
            higher_is_better=self.claim.higher_is_better,
        )
        difference = found.differences[0]
        agrees = "reaches" if difference >= self.claim.margin else "does not reach"
        return f"{number(difference)} {agrees} the margin of {self.claim.margin:g}"

    def __repr__(self) -> str:
        c = self.claim
        arms = f"{c.treatment} {number(self.treatment)}, {c.control} {number(self.control)}"
        return f"{c.metric}, this run (seed {self.seed}): {arms}; difference in favour {self._outcome()}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        c = self.claim
        widest = max(abs(self.treatment), abs(self.control), 1e-12)

        def row(name: str, value: float, colour: str) -> str:
            # Styled in place, in colours that stand on black and on white: JupyterLab
            # lacks the book's style sheet.
            style = f"display:inline-block;height:.85em;border-radius:3px;background:{colour}"
            bar = f'<span style="{style};width:{round(100 * abs(value) / widest)}%"></span>'
            cells = (html.escape(name), number(value), bar)
            return (
                "<tr>"
                + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells)
                + "</tr>"
            )

        table = (
            '<table class="pn-claim" style="width:100%;max-width:34rem">'
            f"<caption>{html.escape(c.metric)}, this run (seed {self.seed})</caption>"
            f"{row(c.treatment, self.treatment, 'var(--pn-blue, #4a90c2)')}{row(c.control, self.control, '#8a97a0')}"
            f"</table><p>The difference in favour of the claim, {self._outcome()}.</p>"
        )
        return {"text/plain": repr(self), "text/html": table, MIME: self.record()}


def number(value: float) -> str:
    """Three digits, without exponents for large numbers."""
    value += 0.0  # no -0
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; the mean alone for one value."""
    found = effect(values, [0.0] * len(values))
    return number(found.mean) + (f" ± {found.deviation:.2g}" if len(values) > 1 else "")


def read_results() -> dict[str, Any]:
    """The stored results, by chapter; empty where there are none.

    Raises:
        ValueError: for a damaged file.
    """
    for path in RESULTS:
        if path.exists():
            try:
                return json.loads(path.read_text())
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path} is damaged ({error}); restore it or run make claims"
                ) from error
    return {}


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One claim's records, one per seed, as ``results.json`` holds them.

    Raises:
        ValueError: when a seed occurs twice.
    """
    records = sorted(records, key=lambda record: record["seed"])
    seeds = [record["seed"] for record in records]
    expect(len(set(seeds)) == len(seeds), "every seed once", seeds)
    last = records[-1]
    values = {
        arm: [record["values"][arm] for record in records]
        for arm in ("treatment", "control")
    }
    found = effect(**values, higher_is_better=last["higher_is_better"])
    return {
        **{
            word: last[word]
            for word in ("text", "paper_says", "metric", "margin", "higher_is_better")
        },
        "names": {arm: last[arm] for arm in values},
        "seeds": seeds,
        **values,
        "mean": found.mean,
        "deviation": found.deviation if len(seeds) > 1 else None,
        "low": found.low,
        "high": found.high,
        "verdict": judge(found, last["margin"]),
    }
