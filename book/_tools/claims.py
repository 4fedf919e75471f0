"""Re-run the chapters over paired seeds and store what they measured: book/results.json
and book/results.md.

python book/_tools/claims.py --seeds 5 [--slugs resnet ...] [--jobs 2]

Every finished run is kept under _build/claims, so an interrupted call goes on where it
stopped.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from chapters import (
    ROOT,
    Task,
    chapters,
    measured_code,
    read,
    run_all,
    write_atomically,
)

from papernets_lite.claims import MIME, number, spread, summarise


def machine() -> str:
    """What the chapters run on, in words."""
    import torch

    place = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{place}, 1 thread, torch {'.'.join(version('torch').split('.')[:2])}"


def task(path: Path, seed: int, target: Path) -> Task:
    """The run of one chapter with one seed, which leaves its measurements in
    ``target``."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = parameterize_notebook(load_notebook_node(str(path)), {"seed": seed})

    def store(done: Any, seconds: float) -> str:
        records = measurements(done)
        if not records:
            raise RuntimeError(f"{path} measured no claim")
        if wrong := [record["key"] for record in records if record["seed"] != seed]:
            raise RuntimeError(
                f"{path} was run with seed {seed}, but measured {wrong} with another"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            target,
            json.dumps({"seconds": seconds, "machine": machine(), "claims": records}),
        )
        return f"{seconds:.0f} s of CPU time"

    return Task(path, notebook, store)


def measurements(notebook: Any) -> list[dict[str, Any]]:
    """The measurements among a notebook's outputs."""
    return [
        output.data[MIME]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    ]


def collect(runs: list[dict[str, Any]], code: str) -> dict[str, Any]:
    """A chapter's entry of results.json from its runs, one per seed.

    Raises:
        ValueError: when the runs measured different claims.
    """
    keys = [sorted(record["key"] for record in one["claims"]) for one in runs]
    if any(k != keys[0] for k in keys) or len(set(keys[0])) < len(keys[0]):
        raise ValueError(
            f"expected every seed to measure the same claims, each once, got {keys}"
        )
    return {
        "code": code,
        "seconds": round(sum(one["seconds"] for one in runs) / len(runs)),
        "machine": "; ".join(dict.fromkeys(one["machine"] for one in runs)),
        "claims": {
            first["key"]: summarise(
                [r for one in runs for r in one["claims"] if r["key"] == first["key"]]
            )
            for first in runs[0]["claims"]
        },
    }


def page(results: dict[str, Any], titles: dict[str, str], parts: dict[str, str]) -> str:
    """``results.md``: every claim with the paper's number, ours with its spread, and
    the verdict."""
    lines = [
        "# Results",
        "",
        "What the papers claim, measured at this book's scale. Each line compares two runs that differ in one thing"
        " only and share their seed, data and initial weights where shapes agree. ± is the standard deviation over"
        " seeds; the difference is paired and signed so that positive numbers support the claim, with its 95 %"
        " interval. SUPPORTED: the mean difference reaches the margin and the interval excludes zero. NOT SUPPORTED:"
        " the interval excludes the margin. INCONCLUSIVE: anything else. `make claims` writes this page.",
        "",
    ]
    if not results:
        return "\n".join([*lines, "Nothing has been measured yet.", ""])
    for slug, entry in results.items():
        lines += [f"## [{titles[slug]}]({parts[slug]}/{slug}.ipynb)", ""]
        lines += [
            "| Claim | The paper says | Measured here | Difference | Verdict |",
            "|---|---|---|---|---|",
        ]
        for claim in entry["claims"].values():
            better = "higher" if claim["higher_is_better"] else "lower"
            ours = [
                f"{claim['names'][name]}: {spread(claim[name])}"
                for name in ("treatment", "control")
            ]
            difference = f"{number(claim['mean'])} [{number(claim['low'])}, {number(claim['high'])}]"
            cells = [
                claim["text"],
                claim["paper_says"],
                f"{claim['metric']} ({better} is better)<br>{'<br>'.join(ours)}",
                f"{difference}<br>margin {claim['margin']:g}, {len(claim['seeds'])} seeds",
                f"**{claim['verdict']}**",
            ]
            lines.append(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
            )
        lines += [
            "",
            f"One run of the chapter took {entry['seconds']} s ({entry['machine']}).",
            "",
        ]
    return "\n".join(lines)


def title(path: Path) -> str:
    """A chapter's title: its notebook's first heading."""
    return read(path).cells[0].source.splitlines()[0].lstrip("# ")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slugs", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"expected at least one seed, got {options.seeds}")
    root = options.root
    found = chapters(root, options.slugs)
    codes = {slug: measured_code(root, path) for slug, path in found.items()}
    stores = {
        (slug, seed): root
        / "_build"
        / "claims"
        / slug
        / codes[slug]
        / f"seed{seed}.json"
        for seed in range(options.seeds)
        for slug in found
    }
    tasks = {
        f"{slug} with seed {seed}": task(found[slug], seed, store)
        for (slug, seed), store in stores.items()
        if not store.exists()
    }
    print(f"{len(stores)} runs, {len(stores) - len(tasks)} of them there already")
    problems = len(run_all(tasks, jobs=options.jobs)[1])
    stored = root / "book" / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    for slug in found:
        missing = [
            seed for seed in range(options.seeds) if not stores[slug, seed].exists()
        ]
        if missing:
            print(
                f"{slug}: results left as they were, because seeds {missing} failed",
                file=sys.stderr,
            )
            continue
        try:
            runs = [
                json.loads(stores[slug, seed].read_text())
                for seed in range(options.seeds)
            ]
            results[slug] = collect(runs, codes[slug])
        except ValueError as error:
            print(f"{slug}: results left as they were: {error}", file=sys.stderr)
            problems += 1
            continue
        for key, claim in results[slug]["claims"].items():
            interval = f"[{number(claim['low'])}, {number(claim['high'])}]"
            print(
                f"{slug}/{key}: {claim['verdict']}, {number(claim['mean'])} {interval}"
            )
    everything = chapters(root)
    results = {slug: results[slug] for slug in everything if slug in results}
    write_atomically(stored, json.dumps(results, indent=1) + "\n")
    parts = {slug: path.parent.name for slug, path in everything.items()}
    text = page(results, {slug: title(everything[slug]) for slug in results}, parts)
    write_atomically(root / "book" / "results.md", text)
    print(
        "wrote book/results.json and book/results.md; `make execute` brings the verdicts into the chapters"
    )
    return min(problems, 1)


if __name__ == "__main__":
    sys.exit(main())
