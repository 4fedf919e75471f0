"""Keep what is stored true: run what the code asks for, stamp the rest, start a
chapter.

python book/_tools/chapters.py execute | plan | stale | stamp | sync | new ...
"""

import argparse
import contextlib
import fcntl
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import digests
import registry
import results
from digests import PACKAGE
from kernels import Run, Task, circumstances, machine, run_all
from stored import (
    KEY,
    code,
    normalise,
    read,
    records,
    stamp,
    tags,
    text_of,
    values,
    write_atomically,
)

ROOT = Path(__file__).resolve().parents[2]
GUESS = 90  # seconds of a chapter that never ran


@dataclass
class Chapter:
    """A chapter, and what its code asks for."""

    slug: str
    path: Path
    text: str  # of its file, when it was read
    notebook: Any
    wants: digests.Digests
    has: dict[str, Any]  # the notebook's notes
    results: dict[str, Any]
    seeds: list[int] = field(default_factory=list)  # to be measured

    @property
    def is_stale(self) -> bool:
        """Its outputs were made by other code than is there now."""
        return self.has.get("page") != self.wants.page

    @property
    def is_unmeasured(self) -> bool:
        """Its results were measured by other code, or by too few seeds."""
        if not (self.path.parents[1] / "claims" / f"{self.slug}.yml").exists():
            return False
        moved = self.results.get("numbers") != self.wants.numbers
        return moved or not self.has_whole_results

    @property
    def has_whole_results(self) -> bool:
        """Its results have all seeds, and the long row where there is one."""
        enough = len(results.seeds(self.results)) >= results.LEAST
        return enough and (not self.has_long_row or "long" in self.results)

    @property
    def has_long_row(self) -> bool:
        """It is also run longer: its parameters name ``longer``."""
        cells = [c for c in self.notebook.cells if "parameters" in tags(c)]
        return any(re.search(r"^longer = ", cell.source, re.M) for cell in cells)

    def runs(self) -> dict[str, dict[str, int]]:
        """What its claims need: a run's name -> its parameters."""
        found = {f"seed{seed}": {"seed": seed} for seed in self.seeds}
        if self.has_long_row:
            found["long"] = {"seed": self.seeds[0], "longer": results.LONGER}
        return found

    @property
    def seconds(self) -> float:
        """How long a run takes, by the last one."""
        return self.has.get("seconds", GUESS)


def look(root: Path, slugs: list[str] | None = None) -> list[Chapter]:
    """The chapters that are there, or those of ``slugs``, in reading order.

    Raises:
        SystemExit: for a slug that has no chapter, or a damaged file.
    """
    there = registry.built(root)
    if unknown := set(slugs or []) - set(there):
        names = ", ".join(sorted(unknown))
        sys.exit(f"no chapter {names}; there are {', '.join(there)}")
    found = []
    package = digests.Package(root)
    for slug, path in there.items():
        if slugs and slug not in slugs:
            continue
        text, notebook = path.read_text(encoding="utf-8"), read(path)
        wants = digests.of_cells(package, code(notebook))
        notes = notebook.metadata.get(KEY, {})
        stored = results.load(root, slug)
        found.append(Chapter(slug, path, text, notebook, wants, notes, stored))
    return found


def stale(root: Path, slugs: list[str] | None = None) -> list[str]:
    """Chapters whose stored outputs were made by other code than is there now."""
    return [chapter.slug for chapter in look(root, slugs) if chapter.is_stale]


def unmeasured(root: Path, slugs: list[str] | None = None) -> list[str]:
    """Chapters whose stored results were measured by other code."""
    return [chapter.slug for chapter in look(root, slugs) if chapter.is_unmeasured]


def unstamped(root: Path, slugs: list[str] | None = None) -> list[str]:
    """Chapters into which something must be stamped."""
    found = look(root, slugs)
    return [chapter.slug for chapter in found if stamped(root, chapter)]


def stamped(root: Path, chapter: Chapter) -> bool:
    """Stamp a chapter, in memory; True when something was another."""
    return stamp(root, chapter.path, chapter.notebook)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Only one call works on a checkout at a time.

    Raises:
        SystemExit: when another one does.
    """
    path = root / "_build" / "chapters.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("another `make execute` is at work on this checkout; wait for it")
        yield


# Running


def plan(chapters: list[Chapter], *, jobs: int, claims: bool, force: bool) -> list[str]:
    """What will run, and about how long."""
    lines, seconds, more = [], 0.0, 0.0
    for chapter in chapters:
        if force or chapter.is_stale:
            seconds += chapter.seconds
            lines.append(
                f"{chapter.slug}: its stored notebook ({chapter.seconds:.0f} s)"
            )
        if claims and chapter.is_unmeasured:
            runs = chapter.runs().values()
            longer = sum(run.get("longer", 1) for run in runs)
            more += longer * chapter.seconds
            lines.append(
                f"{chapter.slug}: {len(runs)} runs, unless seed 0 measures what it did"
            )
    if not lines:
        return ["every chapter's outputs and results are up to date"]
    first = f"about {seconds / jobs / 60:.1f} minutes for the stored notebooks"
    second = f" and up to {more / jobs / 60:.1f} for claims" if more else ""
    return [*lines, f"{first}{second}, {jobs} at a time"]


def execute(
    root: Path,
    slugs: list[str] | None,
    *,
    jobs: int,
    force: bool = False,
    seeds: list[int] | None = None,
    claims: bool = True,
    dry: bool = False,
) -> int:
    """Bring outputs and results up to date; returns how many runs failed.

    The stored notebook, seed 0, runs first. Where it measures the very numbers that the
    stored results belong to, on the same kind of machine, their other seeds stand.

    Args:
        root: of the repository.
        slugs: of the chapters; None for all.
        jobs: notebooks at a time.
        force: also run notebooks that are up to date.
        seeds: measure the claims with these, whatever is stored.
        claims: measure claims at all.
        dry: only say what would run.
    """
    chapters = look(root, slugs)
    for chapter in chapters:
        kept = results.seeds(chapter.results)
        enough = len(kept) >= results.LEAST
        chapter.seeds = seeds or (kept if enough else list(results.SEEDS))
        if seeds and kept != seeds:
            chapter.results = {**chapter.results, "numbers": None}
    for line in plan(chapters, jobs=jobs, claims=claims, force=force):
        print(line, flush=True)
    if dry:
        return 0
    tasks = {}
    for chapter in chapters:
        if force or chapter.is_stale:
            tasks[chapter.slug] = stored_notebook(root, chapter)
    broken = run_all(tasks, jobs=jobs)[1]
    failed = len(broken)
    if claims:
        whole = [chapter for chapter in chapters if chapter.slug not in broken]
        failed += measure(root, whole, jobs=jobs, anew=bool(seeds))
    write_page(root)
    for slug in stamp_all(root, slugs):
        print(f"{slug}: stamped")
    return failed


def stored_notebook(root: Path, chapter: Chapter) -> Task:
    """The run whose outputs are stored: the notebook as it is, with its own seed."""
    stamped(root, chapter)

    def store(run: Run) -> str:
        normalise(run.notebook, chapter.slug)
        made = sum(len(json.dumps(c.get("outputs", []))) for c in run.notebook.cells)
        made += len(json.dumps(run.notebook.metadata.get("widgets", {})))
        run.notebook.metadata[KEY] |= {
            "page": chapter.wants.page,
            "numbers": chapter.wants.numbers,
            "seconds": round(run.seconds),
            **circumstances(),
            "modules": run.modules,
            "bytes": made,
        }
        text = text_of(run.notebook)
        target = chapter.path
        if target.read_text(encoding="utf-8") != chapter.text:
            # It was edited while it ran: the author's text stays.
            target = root / "_build" / "executed" / chapter.path.name
        write_atomically(target, text)
        said = f"{run.seconds:.0f} s of CPU time, {len(text.encode()) / 1000:.0f} KB"
        if target != chapter.path:
            return f"{said}; EDITED WHILE IT RAN, so its outputs are in {target}"
        return said

    return Task(chapter.path, chapter.notebook, store)


def measure(root: Path, chapters: list[Chapter], *, jobs: int, anew: bool) -> int:
    """Measure the claims of chapters whose numbers may have moved; returns how many
    runs or chapters failed."""
    todo = []
    if not chapters:
        return 0
    seeds = {chapter.slug: chapter.seeds for chapter in chapters}
    for chapter in look(root, list(seeds)):
        chapter.seeds = seeds[chapter.slug]
        if anew:
            todo.append(chapter)
        elif chapter.is_unmeasured and stands(chapter):
            print(f"{chapter.slug}: seed 0 measures what it did; its results stand")
            kept = {**chapter.results, "numbers": chapter.wants.numbers}
            results.save(root, chapter.slug, kept)
        elif chapter.is_unmeasured:
            todo.append(chapter)
    tasks, runs = {}, {}
    for chapter in todo:
        folder = root / "_build" / "claims" / chapter.slug / chapter.wants.numbers
        for name, parameters in chapter.runs().items():
            target = folder / f"{name}.json"
            runs[chapter.slug, name] = target
            if finished_run(target) is None:
                task = claims_run(chapter, parameters, target)
                tasks[f"{chapter.slug}, {name}"] = task
    if runs:
        print(f"{len(runs)} runs, {len(runs) - len(tasks)} of them there already")
    failed = len(run_all(tasks, jobs=jobs)[1])
    for chapter in todo:
        failed += collect(root, chapter, runs)
    return failed


def stands(chapter: Chapter) -> bool:
    """Whether the stored notebook measures the numbers that the results belong to."""
    reference = chapter.results.get("reference", {})
    if not chapter.has_whole_results:
        return False
    if chapter.is_stale or reference.get("machine") != chapter.has.get("machine"):
        return False
    return reference["values"] == values(records(chapter.notebook))


def refer(root: Path, slugs: list[str] | None, *, jobs: int) -> int:
    """Measure seed 0 of the results that are up to date on this kind of machine, before
    code is changed: another machine rounds otherwise, and only where seed 0 measures
    the very same afterwards do they stand. Returns how many runs failed."""
    tasks = {}
    for chapter in look(root, slugs):
        there = chapter.results.get("reference", {}).get("machine")
        if chapter.results and not chapter.is_unmeasured and there != machine():
            tasks[chapter.slug] = reference_run(root, chapter)
    if not tasks:
        print("no results that are up to date lack a reference from this machine")
    return len(run_all(tasks, jobs=jobs)[1])


def reference_run(root: Path, chapter: Chapter) -> Task:
    """The run of seed 0 that is kept as a reference alone; the stored notebook and the
    other seeds stay as they are."""

    def store(run: Run) -> str:
        reference = {"machine": machine(), "values": values(records(run.notebook))}
        results.save(root, chapter.slug, chapter.results | {"reference": reference})
        return f"{run.seconds:.0f} s of CPU time"

    return Task(chapter.path, chapter.notebook, store)


def finished_run(target: Path) -> dict[str, Any] | None:
    """A run's measurements; None where there are none, or a file that is damaged."""
    try:
        return json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def claims_run(chapter: Chapter, parameters: dict[str, int], target: Path) -> Task:
    """The run of one chapter with other parameters, a seed among them, which leaves its
    measurements in ``target``."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    loaded = load_notebook_node(str(chapter.path))
    notebook = parameterize_notebook(loaded, parameters)
    seed = parameters["seed"]

    def store(run: Run) -> str:
        found = records(run.notebook)
        if not found:
            raise RuntimeError(f"{chapter.path} measured no claim")
        if wrong := [one["key"] for one in found if one["seed"] != seed]:
            said = f"was run with seed {seed}, but measured {wrong} with another"
            raise RuntimeError(f"{chapter.path} {said}")
        content = {"seconds": run.seconds, **circumstances(), "claims": found}
        write_atomically(target, json.dumps(content))
        return f"{run.seconds:.0f} s of CPU time"

    return Task(chapter.path, notebook, store)


def collect(root: Path, chapter: Chapter, runs: dict[tuple[str, str], Path]) -> int:
    """Store a chapter's results; 1 when they had to be left as they were."""
    names = chapter.runs()
    found = {name: finished_run(runs[chapter.slug, name]) for name in names}
    missing = [name for name, run in found.items() if run is None]
    problem = f"{', '.join(missing)} failed" if missing else ""
    content: dict[str, Any] = {}
    long = found.pop("long", None)
    if not problem:
        try:
            content = results.collect([run for run in found.values() if run])
        except ValueError as error:
            problem = str(error)
    if problem:
        said = f"{chapter.slug}: results left as they were: {problem}"
        print(said, file=sys.stderr)
        return 1
    if long:
        content["long"] = results.long_row(names["long"]["seed"], long)
    measured = values(records(chapter.notebook))
    reference = {"machine": chapter.has.get("machine"), "values": measured}
    numbers = {"numbers": chapter.wants.numbers, "reference": reference}
    results.save(root, chapter.slug, numbers | content)
    return 0


def write_page(root: Path) -> None:
    """The results page, where it changed."""
    path, text = root / "book" / "results.md", results.page(root)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def stamp_all(root: Path, slugs: list[str] | None) -> list[str]:
    """Stamp every chapter; returns those into which something was written."""
    changed = []
    for chapter in look(root, slugs):
        if stamped(root, chapter):
            write_atomically(chapter.path, text_of(chapter.notebook))
            changed.append(chapter.slug)
    return changed


# The list


def sync(root: Path) -> list[str]:
    """Write what follows from ``book/chapters.yml``; returns the files that changed."""
    project = root / "pyproject.toml"
    rules = registry.with_import_rules(root, project.read_text(encoding="utf-8"))
    wanted = {root / "_toc.yml": registry.contents(root), project: rules}
    changed = []
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)
            changed.append(path.name)
    return changed


def new(root: Path, slug: str) -> None:
    """Start a chapter from the template: notebook, paper file, tests, claims, an entry
    of the bibliography, and what follows from the list.

    Raises:
        SystemExit: for a slug that the list does not have, or one that is there
            already.
    """
    planned = {chapter.slug: chapter for chapter in registry.every(registry.load(root))}
    if slug not in planned:
        names = ", ".join(s for s in planned if s not in registry.built(root))
        said = "add a line to book/chapters.yml first; planned there:"
        sys.exit(f"no chapter {slug!r} is planned: {said} {names}")
    chapter = planned[slug]
    template = root / "book" / "_template"
    places = {
        "chapter.ipynb": root / chapter.notebook,
        "paper.py.txt": root / PACKAGE / chapter.part / f"{slug}.py",
        "test_paper.py.txt": root / "tests" / chapter.part / f"test_{slug}.py",
        "run_paper.py.txt": root / "tests" / "papers" / f"{slug}.py",
        "claims.yml": root / "book" / "claims" / f"{slug}.yml",
    }
    for place in places.values():
        if place.exists():
            sys.exit(f"{place.relative_to(root)} is there already")
    words = {"SLUG": slug, "PART": chapter.part, "TITLE": chapter.title}
    words |= {"PROMISE": chapter.idea}
    pattern = re.compile("|".join(words))
    for name, place in places.items():
        source = (template / name).read_text(encoding="utf-8")
        write_atomically(place, pattern.sub(lambda match: words[match.group()], source))
    package = root / PACKAGE / chapter.part / "__init__.py"
    title = next(p.title for p in registry.load(root) if p.slug == chapter.part)
    if not package.exists():
        write_atomically(package, f'"""{title}, one paper a file."""\n')
    index = root / "book" / chapter.part / "index.md"
    if not index.exists():
        write_atomically(index, f"# {title}\n\nTODO the part's story.\n")
    references = root / "book" / "references.bib"
    stub = (
        f"\n@inproceedings{{{slug},\n  title = {{{chapter.title}}},\n"
        "  author = {TODO},\n  year = {TODO},\n  url = {TODO}\n}\n"
    )
    known = references.read_text(encoding="utf-8")
    if f"{{{slug}," not in known:
        write_atomically(references, known + stub)
    for place in places.values():
        print(f"wrote {place.relative_to(root)}")
    for name in sync(root):
        print(f"wrote {name}")
    print("the tests name what is missing until every TODO is filled in")


# The command line


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("execute", "run what the code asks for: stored notebooks, then claims"),
        ("plan", "say what execute would run, and about how long"),
    ):
        running = commands.add_parser(name, help=words)
        running.add_argument("--slugs", nargs="*")
        running.add_argument("--jobs", type=int, default=2)
        running.add_argument(
            "--force", action="store_true", help="run notebooks anyway"
        )
        running.add_argument("--seeds", nargs="*", type=int, help="measure with these")
        running.add_argument("--no-claims", action="store_true")
    referring = commands.add_parser(
        "reference", help="measure seed 0 on this kind of machine, before a change"
    )
    referring.add_argument("--slugs", nargs="*")
    referring.add_argument("--jobs", type=int, default=2)
    commands.add_parser("stale", help="list the chapters whose notebook would be run")
    stamping = commands.add_parser("stamp", help="stamp what needs no kernel")
    stamping.add_argument("--slugs", nargs="*")
    commands.add_parser("sync", help="write what follows from book/chapters.yml")
    starting = commands.add_parser("new", help="start a chapter from the template")
    starting.add_argument("--slug", required=True)
    options = parser.parse_args(arguments)
    root = options.root
    if options.command in ("execute", "plan"):
        with alone(root):
            failed = execute(
                root,
                options.slugs,
                jobs=options.jobs,
                force=options.force,
                seeds=options.seeds,
                claims=not options.no_claims,
                dry=options.command == "plan",
            )
        return min(failed, 1)
    if options.command == "reference":
        with alone(root):
            return min(refer(root, options.slugs, jobs=options.jobs), 1)
    if options.command == "stale":
        print("\n".join(stale(root)) or "every chapter's outputs are up to date")
    elif options.command == "stamp":
        with alone(root):
            changed = stamp_all(root, options.slugs)
        print("\n".join(f"{slug}: stamped" for slug in changed) or "nothing to stamp")
    elif options.command == "sync":
        print("\n".join(f"wrote {name}" for name in sync(root)) or "all in step")
    else:
        new(root, options.slug)
    return 0


if __name__ == "__main__":
    sys.exit(main())
