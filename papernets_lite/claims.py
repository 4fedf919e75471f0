"""What a paper claims, measured against a control over paired seeds.

The words of a chapter's claims stand in ``book/claims/<slug>.yml``. The chapter trains
treatment and control once, for its own seed, and hands the numbers to ``measure``;
``make execute`` collects such measurements over several seeds into
``book/results/<slug>.json``, from which ``verdicts`` prints.
"""

import html
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat, SupportsInt

import yaml
from scipy.special import stdtrit

MIME = "application/vnd.papernets.claim+json"
SUPPORTED, NOT_SUPPORTED = "SUPPORTED", "NOT SUPPORTED"
INCONCLUSIVE, SHOWN = "INCONCLUSIVE", "SHOWN"
LEAST_SEEDS = 3
# Of treatment and control; they stand on black and on white.
COLOURS = ("var(--pn-blue, #4a90c2)", "#8a97a0")


def expect(holds: object, expected: str, *got: object) -> None:
    """``ops.checks.expect``, which needs torch, for a module that must not: the site is
    built without it."""
    if holds:
        return
    from papernets_lite.ops import checks

    checks.expect(holds, expected, *got)


@dataclass(frozen=True)
class Effect:
    """Paired differences in favour of the treatment: their mean, standard deviation,
    and the 95 % interval of the mean."""

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
    paired = 0 < len(treatment) == len(control)
    counts = len(treatment), len(control)
    expect(paired, "as many treatments as controls, and any", *counts)
    finite = all(map(math.isfinite, [*treatment, *control]))
    expect(finite, "finite values", list(treatment), list(control))
    sign = 1 if higher_is_better else -1
    pairs = zip(treatment, control, strict=True)
    differences = tuple(sign * (t - c) for t, c in pairs)
    n = len(differences)
    mean = math.fsum(differences) / n
    if n == 1:
        return Effect(differences, mean, math.nan, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)
    return Effect(differences, mean, deviation, mean - half, mean + half)


def judge(found: Effect, margin: float, *, is_demonstration: bool = False) -> str:
    """The verdict.

    SUPPORTED when the whole interval lies at or above ``margin``, SHOWN where that was
    to be expected; NOT SUPPORTED when the whole interval lies below; INCONCLUSIVE
    otherwise and below three seeds. What is printed alike counts as equal.

    Args:
        found: the effect, positive where it supports the claim.
        margin: the smallest difference that counts.
        is_demonstration: the control could not have won.
    """
    if len(found.differences) < LEAST_SEEDS:
        return INCONCLUSIVE
    if _reaches(found.low, margin):
        return SHOWN if is_demonstration else SUPPORTED
    return INCONCLUSIVE if _reaches(found.high, margin) else NOT_SUPPORTED


def _reaches(value: float, margin: float) -> bool:
    return value >= margin or number(value) == number(margin)


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can be measured.

    Args:
        key: unique in the chapter.
        short: what is claimed, where there is little room.
        text: what is claimed.
        paper_says: the paper's own numbers, with their table.
        metric: what is measured, with its unit.
        treatment: what the paper proposes.
        control: the same but for one thing.
        margin: the smallest difference that counts, in the metric's unit.
        sceptic: the rival that a sceptic would name, and why it could win.
        margin_means: what a difference of the margin's size means to a reader.
        but: the main reservation, in a few words.
        higher_is_better: False where lower values support the claim.
        demonstration: why the control cannot win; empty where it can.
        speed: whether it is measured how fast something is learnt. Then one seed is
            also run longer.
    """

    key: str
    short: str
    text: str
    paper_says: str
    metric: str
    treatment: str
    control: str
    margin: float
    sceptic: str
    margin_means: str
    but: str
    higher_is_better: bool = True
    demonstration: str = ""
    speed: bool = False

    @property
    def direction(self) -> str:
        """Which values are better."""
        return "higher" if self.higher_is_better else "lower"

    def effect(self, treatment: Sequence[float], control: Sequence[float]) -> Effect:
        """The paired effect in favour of the claim; see ``effect``."""
        return effect(treatment, control, higher_is_better=self.higher_is_better)

    def judge(self, found: Effect) -> str:
        """The verdict on an effect; see ``judge``."""
        return judge(found, self.margin, is_demonstration=bool(self.demonstration))


def book_file(folder: str, name: str) -> Path | None:
    """A file of the book: of the clone that the working directory lies in, else of the
    clone or wheel that this package lies in; None where there is none.

    Args:
        folder: ``"claims"`` or ``"results"``.
        name: of the file.
    """
    here, package = Path.cwd(), Path(__file__).parent
    for root in (here, *here.parents, package.parent, package):
        path = root / "book" / folder / name
        if path.exists():
            return path
    return None


def read_claims(slug: str) -> dict[str, Claim]:
    """A chapter's claims by key, in the order in which they stand in its file.

    Raises:
        ValueError: when there is no such file, or it is damaged.
    """
    path = book_file("claims", f"{slug}.yml")
    expect(path is not None, f"the claims of {slug!r} in book/claims/{slug}.yml")
    assert path is not None
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: Claim(key, **words) for key, words in raw.items()}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_results(slug: str) -> dict[str, Any]:
    """A chapter's stored results; empty where there are none.

    Raises:
        ValueError: for a damaged file.
    """
    path = book_file("results", f"{slug}.json")
    if path is None:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        again = "restore it or run make execute"
        raise ValueError(f"{path} is damaged ({error}); {again}") from error


@dataclass(frozen=True)
class Measured:
    """One run's numbers for a chapter's claims."""

    claims: Mapping[str, Claim]
    values: Mapping[str, tuple[float, float]]  # key -> treatment's and control's
    seed: int

    def records(self) -> list[dict[str, Any]]:
        """What is collected: one record a claim, without its words."""
        records = []
        for key, (treatment, control) in self.values.items():
            values = {"treatment": treatment, "control": control}
            records.append({"key": key, "seed": self.seed, "values": values})
        return records

    def _outcome(self, key: str) -> str:
        claim = self.claims[key]
        treatment, control = self.values[key]
        found = claim.effect([treatment], [control])
        agrees = "reaches" if _reaches(found.mean, claim.margin) else "does not reach"
        return f"{number(found.mean)} {agrees} the margin of {claim.margin:g}"

    def __repr__(self) -> str:
        lines = []
        for key, (treatment, control) in self.values.items():
            claim = self.claims[key]
            lines.append(
                f"{claim.metric}, this run (seed {self.seed}):"
                f" {claim.treatment} {number(treatment)},"
                f" {claim.control} {number(control)};"
                f" difference in favour {self._outcome(key)}"
            )
        return "\n".join(lines)

    def _table(self, key: str) -> str:
        claim = self.claims[key]
        values = self.values[key]
        ends = min(0.0, *values), max(0.0, *values)
        rows = ""
        for name, value, colour in zip(
            (claim.treatment, claim.control), values, COLOURS, strict=True
        ):
            cells = (html.escape(name), number(value), bar(value, ends, colour))
            inside = "".join(f'<td style="text-align:left">{cell}' for cell in cells)
            rows += f"<tr>{inside}</tr>"
        better = "higher is better &rarr;"
        if not claim.higher_is_better:
            better = "&larr; lower is better"
        words = f"{html.escape(claim.metric)}, this run (seed {self.seed}); {better}"
        return (
            '<table class="pn-claim" style="width:100%;max-width:34rem">'
            f"<caption>{words}</caption>{rows}"
            "</table><p>The difference in favour of the claim,"
            f" {self._outcome(key)}.</p>"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        tables = "".join(self._table(key) for key in self.values)
        return {"text/plain": repr(self), "text/html": tables, MIME: self.records()}


def bar(value: float, ends: tuple[float, float], colour: str) -> str:
    """A bar from zero to a value, as HTML that needs no style sheet (JupyterLab lacks
    the book's). Zero is marked where the axis goes to either side of it.

    Args:
        value: between the axis's ends, as zero is.
        ends: of the axis, left and right.
        colour: of the bar, in CSS.
    """
    low, high = ends
    room = (high - low) or 1.0
    left, right, zero = (
        f"{(place - low) / room:.1%}" for place in (min(0.0, value), max(0.0, value), 0)
    )
    clear = "linear-gradient(90deg,#0000"  # up to a place; then comes a colour
    layers = [f"{clear} {left},{colour} 0 {right},#0000 0)"]
    if low < 0:
        layers.insert(0, f"{clear} {zero},currentColor 0 calc({zero} + 1px),#0000 0)")
    painted = f"display:block;height:.85em;background:{','.join(layers)}"
    return f'<span style="{painted}"></span>'


Arms = tuple[SupportsFloat, SupportsFloat]  # the treatment's number, the control's


def measure(slug: str, seed: SupportsInt, values: Mapping[str, Arms]) -> Measured:
    """This run's numbers; as the last line of a cell they are shown and collected.

    Args:
        slug: the chapter.
        seed: of this run.
        values: for each claim of the chapter's file, by its key, the treatment's and
            the control's number, in the claim's unit.

    Raises:
        ValueError: for other keys than the file has, or values that are not finite.
    """
    claims = read_claims(slug)
    same = set(values) == set(claims)
    expect(same, f"the claims of {slug}, {sorted(claims)}", sorted(values))
    numbers = {key: (float(t), float(c)) for key, (t, c) in values.items()}
    for key, (treatment, control) in numbers.items():
        finite = math.isfinite(treatment) and math.isfinite(control)
        expect(finite, f"finite values for {key!r}", treatment, control)
    ordered = {key: numbers[key] for key in claims}
    return Measured(claims, ordered, int(seed))


def verdicts(slug: str) -> None:
    """Print a chapter's verdicts over the stored seeds: the same text on every machine.

    Raises:
        ValueError: when the chapter's files are missing or damaged.
    """
    print(verdict_text(slug))


def verdict_text(slug: str) -> str:
    """What ``verdicts`` prints."""
    results = read_results(slug)
    lines = []
    for key, claim in read_claims(slug).items():
        if key not in results.get("claims", {}):
            lines.append(f"NOT YET MEASURED: {claim.text}; run make execute")
            continue
        lines += _verdict_lines(claim, results["claims"][key])
        if claim.speed and "long" in results:
            lines.append(f"  {long_row(claim, results['long'])}")
    return "\n".join(
        textwrap.fill(line, 79, subsequent_indent="    ") for line in lines
    )


def _verdict_lines(claim: Claim, stored: Mapping[str, Any]) -> list[str]:
    treatment, control = stored["treatment"], stored["control"]
    found = claim.effect(treatment, control)
    interval = f"95 % interval [{number(found.low)}, {number(found.high)}]"
    count = len(stored["seeds"])
    lines = [
        f"{claim.judge(found)}: {claim.text}",
        f"  {claim.metric} ({claim.direction} is better), {count} paired seeds",
        f"  {claim.treatment}: {spread(treatment)}",
        f"  {claim.control}: {spread(control)}",
        f"  difference in favour: {number(found.mean)}, {interval}",
        f"  margin {claim.margin:g}: {claim.margin_means}",
        f"  the sceptic's rival: {claim.sceptic}",
        f"  but: {claim.but}",
    ]
    if claim.demonstration:
        lines.append(f"  a demonstration: {claim.demonstration}")
    return lines


def long_row(claim: Claim, long: Mapping[str, Any]) -> str:
    """What a run of one seed that trained longer measured for a claim.

    Args:
        claim: of the chapter.
        long: of the chapter's results: ``times`` as many steps, ``seed``, and for each
            claim's key the treatment's and the control's value.
    """
    treatment, control = long["values"][claim.key]
    return (
        f"{long['times']} times as many steps (seed {long['seed']} alone):"
        f" {claim.treatment} {number(treatment)}, {claim.control} {number(control)}"
    )


def number(value: float) -> str:
    """Three digits, without exponents for large numbers."""
    value += 0.0  # no -0
    large = 1000 <= abs(value) < math.inf
    return f"{value:,.0f}" if large else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; the mean alone for one value."""
    found = effect(values, [0.0] * len(values))
    mean = number(found.mean)
    return f"{mean} ± {found.deviation:.2g}" if len(values) > 1 else mean


def arms(records: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """One claim's records, one per seed, as a chapter's results hold them.

    Args:
        records: of ``Measured.records``.

    Returns:
        ``seeds``, and the values of ``treatment`` and ``control`` in their order.

    Raises:
        ValueError: when a seed occurs twice.
    """
    records = sorted(records, key=lambda record: record["seed"])
    seeds = [record["seed"] for record in records]
    expect(len(set(seeds)) == len(seeds), "every seed once", seeds)
    found: dict[str, list] = {"seeds": seeds}
    for arm in ("treatment", "control"):
        found[arm] = [record["values"][arm] for record in records]
    return found
