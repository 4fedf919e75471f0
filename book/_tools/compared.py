"""One small task for all papers of a part, under one recipe: the numbers in the tables
of the parts' pages.

A part's task stands in ``tasks/<part>.py``: its nets by chapter, and ``measure(build,
seed)``. What is measured is stored in ``book/compared/<part>.json`` with a digest of
the code that decided it, as chapters' claims are.
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
from results import SEEDS
from stored import write_atomically

ROOT = Path(__file__).resolve().parents[2]
NETS = "NETS"
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
    nets = next(one for one in tree.body if _binds(one, NETS))
    every = nets.value  # type: ignore[attr-defined]
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


def cost(build: Any, shape: tuple[int, ...]) -> dict[str, float]:
    """A net's parameters, its multiply-adds for one image, and its milliseconds for one
    of ``IMAGES`` at a time, on one core."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from papernets_lite import show

    net = build().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(shape))
    images = torch.rand(IMAGES, *shape[1:])
    taken = []
    with torch.no_grad():
        for _ in range(TIMED):
            start = time.perf_counter()
            net(images)
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
        **cost(build, task.SHAPE),
        "seeds": list(SEEDS),
        "values": [round(task.measure(build, seed), 4) for seed in SEEDS],
        **kernels.circumstances(),
    }
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
            found |= cost(task.NETS[slug], task.SHAPE)
        write_atomically(place(root, part), json.dumps(known, indent=1) + "\n")


def short(number: float) -> str:
    """A count in three digits at most."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{float(f'{number / unit:.3g}'):g} {name}"
    return f"{number:g}"


def table(root: Path, part: str) -> str:
    """A part's papers side by side, in Markdown."""
    task = ast.parse(tasks(root)[part].read_text(encoding="utf-8"))
    said = {
        ast.unparse(s.targets[0]): ast.literal_eval(s.value)
        for s in task.body
        if isinstance(s, ast.Assign) and ast.unparse(s.targets[0]) in ("COLUMN", "SAID")
    }
    heads = ["chapter", "idea", "paper's net", "net here", "multiply-adds", "ms"]
    lines = [
        "| " + " | ".join([*heads, said["COLUMN"]]) + " |",
        "|---|---|" + "--:|" * 5,
    ]
    known = load(root, part)
    for chapter in chapters(root, part):
        cells = [f"[{chapter.short}]({chapter.slug}.ipynb)", chapter.idea]
        if one := known.get(chapter.slug):
            spread = statistics.stdev(one["values"])
            cells += [
                short(one["paper_parameters"]),
                short(one["parameters"]),
                short(one["multiply_adds"]),
                f"{one['milliseconds']:.2f}",
                f"{statistics.mean(one['values']):.3f} ± {spread:.3f}",
            ]
        else:
            cells += [""] * 5
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{said['SAID']}\n"


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
        print(f"{slug}: {len(SEEDS)} trainings", flush=True)
        run(ROOT, part, chapter)
    for part in tasks(ROOT):
        page = ROOT / "book" / part / "index.md"
        write_atomically(page, stamped(ROOT, part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
