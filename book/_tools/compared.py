"""One small task for all papers of a part, under one recipe: the numbers in the tables
of the parts' pages.

A part's task stands in ``tasks/<part>.py``: its nets by chapter, and ``measure(build,
seed)``. Where the papers of a part answer different questions, there is no task for
all; then the file names a claim of each chapter in ``CLAIMS``, whose stored verdict
stands in the table, and says in ``RUN`` how each net is run. What is measured is stored
in ``book/compared/<part>.json`` with a digest of the code that decided it, as chapters'
claims are.
"""

import argparse
import ast
import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import digests
import kernels
import registry
import results
from results import SEEDS
from stored import inside, write_atomically

ROOT = Path(__file__).resolve().parents[2]
NETS, RUN, CLAIMS = "NETS", "RUN", "CLAIMS"
# Chapters that answer another question than their part's task; the part's page says so.
APART = {"segan"}
BEGIN, END = "<!-- compared: written by `make compare` -->\n", "<!-- end -->"
TIMED = 20  # how often a net is timed; the median counts
IMAGES = 16  # at a time


def tasks(root: Path) -> dict[str, Path]:
    """The parts that have a task, and its file."""
    found = sorted((root / "book" / "_tools" / "tasks").glob("*.py"))
    return {path.stem: path for path in found}


def alone(source: str, slug: str) -> str:
    """A task's code with one net of its ``NETS`` and the imports that this needs."""
    tree = ast.parse(source)
    tree.body = [one for one in tree.body if not _binds(one, CLAIMS)]
    for statement in tree.body:
        if _binds(statement, NETS) or _binds(statement, RUN):
            every = statement.value  # type: ignore[attr-defined]
            place = [ast.literal_eval(key) for key in every.keys].index(slug)
            every.keys, every.values = [every.keys[place]], [every.values[place]]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    kept = []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            statement.names = [one for one in statement.names if one.name in used]
            if not statement.names:
                continue
        kept.append(statement)
    return ast.unparse(ast.Module(kept, []))


def _binds(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0]) == name
    is_bound = isinstance(statement, ast.AnnAssign)
    return is_bound and ast.unparse(statement.target) == name


def digest(package: digests.Package, path: Path, slug: str) -> str:
    """What decides the numbers of one net."""
    source = alone(path.read_text(encoding="utf-8"), slug)
    return digests.of_cells(package, [source]).numbers


def place(root: Path, part: str) -> Path:
    """Where a part's numbers are stored."""
    return root / "book" / "compared" / f"{part}.json"


def load(root: Path, part: str) -> dict[str, Any]:
    """A part's numbers by chapter; empty where nothing is measured yet."""
    path = place(root, part)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def chapters(root: Path, part: str) -> list[registry.Chapter]:
    """A part's written chapters, in reading order, without those that stand apart."""
    built = registry.built(root).keys() - APART
    found = next(one for one in registry.load(root) if one.slug == part)
    return [chapter for chapter in found.chapters if chapter.slug in built]


def stale(root: Path) -> list[tuple[str, str]]:
    """Parts and chapters whose numbers were measured by other code than there is."""
    package = digests.Package(root)
    out = []
    for part, path in tasks(root).items():
        known = load(root, part)
        for chapter in chapters(root, part):
            now = digest(package, path, chapter.slug)
            if known.get(chapter.slug, {}).get("digest") != now:
                out.append((part, chapter.slug))
    return out


def loaded(path: Path) -> ModuleType:
    """A task's module."""
    spec = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runner(task: ModuleType, slug: str) -> Any:
    """How a task's net is run on so many examples."""
    import torch

    if hasattr(task, RUN):
        return task.RUN[slug]
    return lambda net, images: net(torch.rand(images, *task.SHAPE[1:]))


def cost(build: Any, run: Any) -> dict[str, float]:
    """A net's parameters, its multiply-adds for one example, and its milliseconds for
    one of ``IMAGES`` at a time, on one core."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from papernets_lite import show

    net = build().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(net, 1)
    taken = []
    with torch.no_grad():
        for _ in range(TIMED):
            start = time.perf_counter()
            run(net, IMAGES)
            taken.append(1000 * (time.perf_counter() - start) / IMAGES)
    return {
        "parameters": show.parameters(net),
        "multiply_adds": counter.get_total_flops() // 2,
        "milliseconds": round(statistics.median(taken), 3),
    }


def run(root: Path, part: str, chapter: registry.Chapter) -> None:
    """Measure one net and store its numbers."""
    import torch

    from papernets_lite import show

    torch.set_num_threads(1)
    path = tasks(root)[part]
    task = loaded(path)
    build = task.NETS[chapter.slug]
    module = importlib.import_module(chapter.module)
    with torch.device("meta"):
        paper = show.parameters(module.paper())
    found = {
        "digest": digest(digests.Package(root), path, chapter.slug),
        "paper_parameters": paper,
        **cost(build, runner(task, chapter.slug)),
        **kernels.circumstances(),
    }
    if not hasattr(task, CLAIMS):
        found["seeds"] = list(SEEDS)
        found["values"] = [round(task.measure(build, seed), 4) for seed in SEEDS]
    content = load(root, part) | {chapter.slug: found}
    ordered = {
        c.slug: content[c.slug] for c in chapters(root, part) if c.slug in content
    }
    place(root, part).parent.mkdir(exist_ok=True)
    write_atomically(place(root, part), json.dumps(ordered, indent=1) + "\n")


def time_all(root: Path) -> None:
    """Time all nets in one go, so that their milliseconds can be compared."""
    import torch

    torch.set_num_threads(1)
    for part, path in tasks(root).items():
        task, known = loaded(path), load(root, part)
        for slug, found in known.items():
            found |= cost(task.NETS[slug], runner(task, slug))
        write_atomically(place(root, part), json.dumps(known, indent=1) + "\n")


def short(number: float) -> str:
    """A count in three digits at most."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{float(f'{number / unit:.3g}'):g} {name}"
    return f"{number:g}"


def costs(one: dict[str, Any]) -> list[str]:
    """The cells of what a net costs."""
    return [
        short(one["paper_parameters"]),
        short(one["parameters"]),
        short(one["multiply_adds"]),
        f"{one['milliseconds']:.2f}",
    ]


def verdict(root: Path, slug: str, key: str) -> list[str]:
    """What a chapter's claim measured, and its verdict.

    Raises:
        ValueError: where the chapter has no such claim, or has not measured it.
    """
    from papernets_lite import claims

    arms = results.load(root, slug).get("claims", {})
    with inside(root):
        words = claims.read_claims(slug)
    if key not in words or key not in arms:
        raise ValueError(f"expected a claim of {slug} that is measured, got {key!r}")
    claim, (treatment, control) = words[key], (arms[key][a] for a in results.ARMS)
    means = [claims.number(statistics.mean(arm)) for arm in (treatment, control)]
    word = claim.judge(claim.effect(treatment, control))
    said = f"{claim.short}: {means[0]} against {means[1]}, {claim.metric}"
    return [said, f"{results.MARKS[word]} {word}"]


def table(root: Path, part: str) -> str:
    """A part's papers side by side, in Markdown."""
    task = ast.parse(tasks(root)[part].read_text(encoding="utf-8"))
    said = {
        ast.unparse(s.targets[0]): ast.literal_eval(s.value)
        for s in task.body
        if isinstance(s, ast.Assign)
        and ast.unparse(s.targets[0]) in ("COLUMN", "SAID", CLAIMS)
    }
    asked = said.get(CLAIMS)
    heads = ["chapter", "paper's net", "net here", "multiply-adds", "ms"]
    sides = ["---", *["--:"] * 4]
    if asked:
        heads, sides = [*heads, "asked here", "verdict"], [*sides, "---", "---"]
    else:
        heads = [heads[0], "idea", *heads[1:], said["COLUMN"]]
        sides = [sides[0], "---", *sides[1:], "--:"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(sides) + "|"]
    known = load(root, part)
    for chapter in chapters(root, part):
        name = f"[{chapter.short}]({chapter.slug}.ipynb)"
        one = known.get(chapter.slug)
        cells = costs(one) if one else [""] * 4
        if asked:
            cells = [name, *cells, *verdict(root, chapter.slug, asked[chapter.slug])]
        else:
            score = spread(one["values"]) if one else ""
            cells = [name, chapter.idea, *cells, score]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{said['SAID']}\n"


def spread(scores: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores):.3f}"


def stamped(root: Path, part: str) -> str:
    """A part's page with its table as it should be.

    Raises:
        ValueError: where the page has no place for it.
    """
    page = (root / "book" / part / "index.md").read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"book/{part}/index.md lacks {BEGIN.strip()} ... {END}")
    return f"{before}{BEGIN}\n{table(root, part)}\n{END}{after}"


def main() -> int:
    """Measure what is stale, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--slugs", nargs="*", help="measure these anew")
    parser.add_argument("--times", action="store_true", help="only time all nets anew")
    arguments = parser.parse_args()
    if arguments.times:
        time_all(ROOT)
    asked = arguments.slugs
    every = [(p, c.slug) for p in tasks(ROOT) for c in chapters(ROOT, p)]
    wanted = [one for one in every if one[1] in asked] if asked else stale(ROOT)
    for part, slug in wanted:
        chapter = next(c for c in chapters(ROOT, part) if c.slug == slug)
        print(f"{slug}: measured", flush=True)
        run(ROOT, part, chapter)
    for part in tasks(ROOT):
        page = ROOT / "book" / part / "index.md"
        write_atomically(page, stamped(ROOT, part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
