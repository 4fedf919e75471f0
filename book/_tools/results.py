"""Stored results: a file a chapter in ``book/results``, and the page made from them."""

import json
import sys
from pathlib import Path
from typing import Any

import registry
from stored import write_atomically

LEAST = 5  # seeds of a verdict
SEEDS = (10, 11, 12, 13, 14)  # never those that were looked at while writing
INTRODUCTION = """# Results

What the papers claim, measured at this book's scale. Each line compares two runs that
share their seed, data and order of batches. ± is the standard deviation over seeds; the
difference is paired and signed so that positive numbers support the claim, with its
95 % interval. SUPPORTED: the mean difference reaches the margin and the interval
excludes zero. NOT SUPPORTED: the interval excludes the margin. INCONCLUSIVE: anything
else. `make execute` writes this page.
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
    return {
        "seconds": round(sum(run["seconds"] for run in runs) / len(runs)),
        "machine": "; ".join(dict.fromkeys(run["machine"] for run in runs)),
        "claims": claims,
    }


def page(root: Path) -> str:
    """``results.md``: every claim with the paper's number, ours with its spread, and
    the verdict."""
    lines = [INTRODUCTION]
    for chapter in registry.every(registry.load(root)):
        content = load(root, chapter.slug)
        if content:
            lines += section(root, chapter, content)
    if len(lines) == 1:
        lines.append("Nothing has been measured yet.\n")
    return "\n".join(lines)


def section(
    root: Path, chapter: registry.Chapter, content: dict[str, Any]
) -> list[str]:
    """A chapter's part of the page."""
    from stored import inside

    from papernets_lite import claims

    lines = [f"## [{chapter.title}]({chapter.part}/{chapter.slug}.ipynb)", ""]
    lines += ["| Claim | The paper says | Measured here | Difference | Verdict |"]
    lines += ["|---|---|---|---|---|"]
    with inside(root):
        words = claims.read_claims(chapter.slug)
    for key, claim in words.items():
        if key not in content["claims"]:
            continue
        arms = content["claims"][key]
        treatment, control = arms["treatment"], arms["control"]
        better = claim.higher_is_better
        found = claims.effect(treatment, control, higher_is_better=better)
        low, high = claims.number(found.low), claims.number(found.high)
        cells = [
            claim.text,
            claim.paper_says,
            f"{claim.metric} ({'higher' if better else 'lower'} is better)"
            f"<br>{claim.treatment}: {claims.spread(treatment)}"
            f"<br>{claim.control}: {claims.spread(control)}",
            f"{claims.number(found.mean)} [{low}, {high}]"
            f"<br>margin {claim.margin:g}, {len(arms['seeds'])} seeds",
            f"**{claims.judge(found, claim.margin)}**",
        ]
        escaped = (cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |")
    seconds, machine = content["seconds"], content["machine"]
    lines += ["", f"One run of the chapter took {seconds} s ({machine}).", ""]
    return lines
