"""Stored results: a file a chapter in ``book/results``, and the page made from them."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import registry
from stored import values, write_atomically

LEAST = 5  # seeds of a verdict
LONGER = 4  # times as many steps, where speed of learning is claimed
MARKS = {"SUPPORTED": "●", "NOT SUPPORTED": "○", "INCONCLUSIVE": "◐", "SHOWN": "◇"}
ARMS = ("treatment", "control")
SEEDS = (10, 11, 12, 13, 14)  # never those that were looked at while writing
MEANINGS = {
    "SUPPORTED": "the whole interval lies at or above the margin, the smallest"
    " difference that would matter to a reader.",
    "NOT SUPPORTED": "the whole interval lies below the margin.",
    "INCONCLUSIVE": "the margin lies inside the interval.",
    "SHOWN": "the interval lies above the margin, but the control could not have won: a"
    " demonstration, not evidence.",
}
INTRODUCTION = """# Results

What the papers claim, measured at this book's scale. Each line compares two runs that
share their seed, data and order of batches; the control is the rival that a sceptic
would name. Seeds 10 to 14 judge; seed 0 is the one that the chapters were written with.
± is the standard deviation over seeds; the difference is paired and signed so that
positive numbers support the claim, with its 95 % interval.
"""


def place(root: Path, slug: str) -> Path:
    """A chapter's file."""
    return root / "book" / "results" / f"{slug}.json"


def load(root: Path, slug: str) -> dict[str, Any]:
    """A chapter's results; empty where nothing is measured yet.

    Raises:
        SystemExit: naming the file, when it is damaged.
    """
    path = place(root, slug)
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"{path} is damaged ({error}); restore it from git, or delete it")


def save(root: Path, slug: str, content: dict[str, Any]) -> None:
    """Write a chapter's results."""
    write_atomically(place(root, slug), json.dumps(content, indent=1) + "\n")


def seeds(content: dict[str, Any]) -> list[int]:
    """Which seeds stored results were measured with."""
    found = [claim["seeds"] for claim in content.get("claims", {}).values()]
    return found[0] if found else []


def long_row(seed: int, run: dict[str, Any]) -> dict[str, Any]:
    """The run that trained longer, as a chapter's results hold it."""
    return {"times": LONGER, "seed": seed, "values": values(run["claims"])}


def collect(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A chapter's claims from its runs, one per seed.

    Raises:
        ValueError: when the runs measured different claims.
    """
    from papernets_lite.claims import arms

    keys = [[record["key"] for record in run["claims"]] for run in runs]
    same = all(sorted(k) == sorted(keys[0]) for k in keys)
    if not same or len(set(keys[0])) < len(keys[0]):
        raise ValueError(f"expected every seed to measure the same claims, got {keys}")
    claims = {}
    for key in keys[0]:
        records = [r for run in runs for r in run["claims"] if r["key"] == key]
        claims[key] = arms(records)
    versions = [run["versions"] for run in runs]
    return {
        "seconds": round(sum(run["seconds"] for run in runs) / len(runs)),
        "machine": each_once(run["machine"] for run in runs),
        "versions": {n: each_once(v[n] for v in versions) for n in versions[0]},
        "date": max(run["date"] for run in runs),
        "claims": claims,
    }


def each_once(words: Iterable[str]) -> str:
    """Words without those that were there before."""
    return "; ".join(dict.fromkeys(words))


def page(root: Path) -> str:
    """``results.md``: the verdicts counted; then, part by part, every claim with the
    paper's number, ours with its spread, and the verdict."""
    sections, verdicts = [], []
    for part in registry.load(root):
        lines = []
        for chapter in part.chapters:
            content = load(root, chapter.slug)
            if content:
                told, found = section(root, chapter, content)
                lines += told
                verdicts += found
        if lines:
            sections += [f"## {part.title}", "", *lines]
    if not verdicts:
        return f"{INTRODUCTION}\nNothing has been measured yet.\n"
    meanings = [f"- {MARKS[word]} {word}: {said}" for word, said in MEANINGS.items()]
    top = [INTRODUCTION, *meanings, "", counted(verdicts), "", by_chance(verdicts), ""]
    return "\n".join([*top, *sections])


def counted(verdicts: list[str]) -> str:
    """How many verdicts of each kind."""
    counts = ", ".join(f"{m} {verdicts.count(w)} {w}" for w, m in MARKS.items())
    return f"Of {len(verdicts)} claims: {counts}."


def by_chance(verdicts: list[str]) -> str:
    """How many verdicts chance alone would give."""
    tested = len(verdicts) - verdicts.count("SHOWN")
    return (
        "Were every true effect just at its margin, chance would still make one in"
        f" forty of the {tested} that could have failed SUPPORTED: {tested / 40:.1f}."
        " `make execute` writes this page."
    )


def section(
    root: Path, chapter: registry.Chapter, content: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """A chapter's part of the page, and its verdicts."""
    from stored import inside

    from papernets_lite import claims

    head = ["Claim", "The paper says", "Measured here", "Difference", "But", "Verdict"]
    lines = [f"### [{chapter.title}]({chapter.part}/{chapter.slug}.ipynb)", ""]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    with inside(root):
        words = claims.read_claims(chapter.slug)
    verdicts = []
    for key, claim in words.items():
        if key not in content["claims"]:
            continue
        cells = row(claim, content["claims"][key], content.get("long"))
        verdicts.append(cells[-1])
        cells[-1] = f"**{MARKS[cells[-1]]} {cells[-1]}**"
        escaped = (cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |")
    seconds, machine = content["seconds"], content["machine"]
    lines += ["", f"One run of the chapter took {seconds} s ({machine}).", ""]
    return lines, verdicts


def row(claim: Any, arms: dict[str, Any], long: dict[str, Any] | None) -> list[str]:
    """A claim's cells; the last is its verdict."""
    from papernets_lite import claims

    treatment, control = arms["treatment"], arms["control"]
    found = claim.effect(treatment, control)
    low, high = claims.number(found.low), claims.number(found.high)
    measured = [
        f"{claim.metric} ({claim.direction} is better)",
        f"{claim.treatment}: {claims.spread(treatment)}",
        f"{claim.control}: {claims.spread(control)}",
    ]
    if claim.speed and long:
        measured.append(claims.long_row(claim, long))
    difference = [
        f"{claims.number(found.mean)} [{low}, {high}]",
        f"margin {claim.margin:g}, {len(arms['seeds'])} seeds",
    ]
    return [
        claim.text,
        claim.paper_says,
        "<br>".join(measured),
        "<br>".join(difference),
        claim.but,
        claim.judge(found),
    ]
