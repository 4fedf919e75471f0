"""Re-run the chapters over paired seeds and store what they measured: book/results.json and book/results.md.

python book/_tools/claims.py --seeds 5 [--slugs resnet ...] [--jobs 2]

Every finished run is kept under _build/claims, so an interrupted call goes on where it stopped.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from chapters import ROOT, chapters, end, fingerprint, listen, obey, write_atomically

from papernets_lite.claims import MIME, effect, summarise


def run(notebook: Path, seed: int, store: Path) -> None:
    """Run one chapter with one seed and store its measurements and seconds.

    Raises:
        RuntimeError: when the chapter fails or measures nothing.
    """
    import papermill

    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    start = time.perf_counter()
    try:
        done = papermill.execute_notebook(
            str(notebook),
            None,
            parameters={"seed": seed},
            cwd=str(notebook.parent),
            progress_bar=False,
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(f"{notebook.name} with seed {seed} failed:\n{error}") from None
    records = measurements(done)
    if not records:
        raise RuntimeError(f"{notebook.name} measured no claim")
    store.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(store, json.dumps({"seconds": time.perf_counter() - start, "claims": records}))


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
    if any(k != keys[0] for k in keys):
        raise ValueError(f"expected every seed to measure the same claims, got {keys}")
    claims = {
        key: summarise([record for one in runs for record in one["claims"] if record["key"] == key])
        for key in dict.fromkeys(record["key"] for record in runs[0]["claims"])
    }
    return {"code": code, "seconds": round(sum(one["seconds"] for one in runs) / len(runs)), "claims": claims}


def page(results: dict[str, Any], titles: dict[str, str], parts: dict[str, str]) -> str:
    """``results.md``: every claim with the paper's number, ours with its spread, and the verdict."""
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
        for claim in entry["claims"].values():
            lines += [f"**{claim['verdict']}**: {claim['text']}", "", "| | |", "|---|---|"]
            lines.append(f"| The paper says | {claim['paper_says']} |")
            better = "higher" if claim["higher_is_better"] else "lower"
            lines.append(f"| Measured | {claim['metric']} ({better} is better) |")
            for name in ("treatment", "control"):
                values = claim[name]
                spread = effect(values, [0.0] * len(values))
                lines.append(f"| {claim['names'][name].capitalize()} | {spread.mean:.3g} ± {spread.deviation:.2g} |")
            interval = f"[{claim['low']:.3g}, {claim['high']:.3g}]"
            lines.append(f"| Difference | {claim['mean']:.3g}, {interval}; margin {claim['margin']:g} |")
            lines += [f"| Seeds | {len(claim['seeds'])} |", ""]
        lines += [f"One run of this chapter took {entry['seconds']} s on one CPU core.", ""]
    return "\n".join(lines)


def titles(found: dict[str, Path]) -> dict[str, str]:
    """Every chapter's title: its notebook's first heading."""
    first = {slug: nbformat.read(path, 4).cells[0].source for slug, path in found.items()}
    return {slug: text.splitlines()[0].lstrip("# ") for slug, text in first.items()}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slugs", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    root = options.root
    found = chapters(root, options.slugs)
    codes = {slug: fingerprint(root, path, results=False) for slug, path in found.items()}
    stores = {
        (slug, seed): root / "_build" / "claims" / slug / codes[slug] / f"seed{seed}.json"
        for seed in range(options.seeds)
        for slug in found
    }
    todo = {key: store for key, store in stores.items() if not store.exists()}
    print(f"{len(stores)} runs, {len(stores) - len(todo)} of them there already")
    listen()
    pool = ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), initializer=obey)
    futures = {pool.submit(run, found[slug], seed, store): (slug, seed) for (slug, seed), store in todo.items()}
    failed = []
    try:
        for future in tqdm(as_completed(futures), total=len(futures), unit="run", disable=not futures):
            if future.exception():
                failed.append(futures[future])
                tqdm.write(f"FAILED {future.exception()}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept, run it again to go on")
        end(pool)
    pool.shutdown()
    stored = root / "book" / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {}
    for slug in found:
        if any(name == slug for name, _ in failed):
            print(f"{slug}: results left as they were, because seeds {[s for n, s in failed if n == slug]} failed")
            continue
        runs = [json.loads(stores[slug, seed].read_text()) for seed in range(options.seeds)]
        results[slug] = collect(runs, codes[slug])
        for key, claim in results[slug]["claims"].items():
            print(f"{slug}/{key}: {claim['verdict']}, {claim['mean']:.3g} [{claim['low']:.3g}, {claim['high']:.3g}]")
    everything = chapters(root)
    results = {slug: results[slug] for slug in everything if slug in results}
    write_atomically(stored, json.dumps(results, indent=1) + "\n")
    parts = {slug: path.parent.name for slug, path in everything.items()}
    write_atomically(root / "book" / "results.md", page(results, titles(everything), parts))
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
