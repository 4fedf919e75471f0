"""Keep the chapters' stored outputs true: execute what changed, list what is stale, start a new chapter.

python book/_tools/chapters.py execute|stale|new ...
"""

import argparse
import ast
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "papernets_lite"
KEY = "papernets"  # of the notebook's metadata


def chapters(root: Path, slugs: list[str] | None = None) -> dict[str, Path]:
    """Slug -> notebook of every chapter in ``_toc.yml``, or of ``slugs`` only.

    Raises:
        SystemExit: for a slug that has no chapter.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    found = {}
    for part in toc.get("parts", []):
        for chapter in part["chapters"]:
            for entry in (chapter, *chapter.get("sections", [])):
                path = root / f"{entry['file']}.ipynb"
                if path.exists():
                    found[path.stem] = path
    unknown = set(slugs or []) - set(found)
    if unknown:
        sys.exit(f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {slug: path for slug, path in found.items() if not slugs or slug in slugs}


def imported(root: Path, source: str) -> set[Path]:
    """Files of the package that ``source`` imports, directly or through each other."""
    files: set[Path] = set()

    def resolve(module: str) -> Iterator[Path]:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            yield from (p for p in (base / "__init__.py", base.with_suffix(".py")) if p.exists())

    def visit(code: str) -> None:
        for node in ast.walk(ast.parse(code)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.split(".")[0] == PACKAGE:
                    for path in resolve(name):
                        if path not in files:
                            files.add(path)
                            visit(path.read_text())

    visit(source)
    return files


def code(notebook: Any) -> str:
    """The notebook's own code: every code cell but the one tagged ``install``."""
    cells = [c for c in notebook.cells if c.cell_type == "code" and "install" not in c.metadata.get("tags", [])]
    return "\n\n".join("".join(cell.source) for cell in cells)


def fingerprint(root: Path, path: Path, *, results: bool = True) -> str:
    """A hash of everything that decides a chapter's outputs: its code, the package's it imports, stored verdicts."""
    source = code(nbformat.read(path, 4))
    digest = hashlib.sha256(source.encode())
    files = imported(root, source)
    # The widgets' scripts are read at run time, not imported.
    if root / PACKAGE / "widgets.py" in files:
        files |= set((root / PACKAGE / "js").glob("*"))
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    stored = root / "book" / "results.json"
    if results and stored.exists():
        digest.update(json.dumps(json.loads(stored.read_text()).get(path.stem), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def stale(root: Path, slugs: list[str] | None = None) -> list[str]:
    """Chapters whose stored outputs were made by other code than is there now."""
    return [
        slug
        for slug, path in chapters(root, slugs).items()
        if nbformat.read(path, 4).metadata.get(KEY, {}).get("hash") != fingerprint(root, path)
    ]


def write_atomically(path: Path, text: str) -> None:
    """The old file or the new one, whatever happens."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def install_cell(root: Path) -> str:
    """The source of every chapter's install cell, with the repository's address from ``_config.yml``."""
    url = yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"]
    return (
        "import importlib.util\n\n"
        f'if importlib.util.find_spec("{PACKAGE}") is None:  # on Colab; elsewhere the book\'s environment has it\n'
        f'    %pip install -q "papernets-lite @ git+{url}"'
    )


def run(root: Path, path: Path, progress: Callable[[str, int, int], None]) -> float:
    """Execute one chapter from a clean kernel and store its outputs; returns the seconds it took.

    Raises:
        RuntimeError: naming notebook, cell and error; the stored notebook is then left as it was.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    # One thread each: two chapters run side by side, and a chapter's budget is for one core.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    hash_before = fingerprint(root, path)
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if "install" in cell.metadata.get("tags", []):
            cell.source = install_cell(root)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    done = 0

    def finished(cell: Any, cell_index: int, **_: Any) -> None:
        nonlocal done
        done += 1
        progress(path.stem, done, total)

    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_complete=finished,
        record_timing=False,
    )
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        number = next(i for i, c in enumerate(notebook.cells) if any(o.output_type == "error" for o in outputs(c)))
        raise RuntimeError(f"{path.relative_to(root)}, cell {number}:\n{error}") from None
    seconds = time.perf_counter() - start
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
        **({"widgets": notebook.metadata["widgets"]} if "widgets" in notebook.metadata else {}),
        KEY: {"hash": hash_before, "seconds": round(seconds)},
    }
    write_atomically(path, nbformat.writes(notebook) + "\n")
    return seconds


def outputs(cell: Any) -> list:
    """The cell's outputs; none for prose."""
    return cell.get("outputs", [])


def obey(queue: Any = None) -> None:
    """Start a worker process: Ctrl-C is its parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _news.append(queue)


_news: list[Any] = []  # in a worker: where it reports finished cells


def listen() -> None:
    """Hear Ctrl-C also where a shell started this in the background, which makes processes deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end(pool: ProcessPoolExecutor) -> None:
    """End the workers of an interrupted pool (their kernels notice and end themselves), and this process."""
    for worker in list((pool._processes or {}).values()):
        worker.kill()
    sys.stdout.flush()
    os._exit(130)  # the pool's own threads would wait for results that never come


def _work(root: Path, path: Path) -> float:
    return run(root, path, lambda *news: _news[0].put(news))


def execute(root: Path, slugs: list[str] | None, *, jobs: int, force: bool) -> int:
    """Re-run the stale chapters, ``jobs`` at a time; returns how many failed."""
    from tqdm import tqdm

    todo = chapters(root, slugs)
    if not force:
        todo = {slug: path for slug, path in todo.items() if slug in stale(root, slugs)}
    if not todo:
        print("every chapter's outputs are up to date")
        return 0
    cells = sum(sum(c.cell_type == "code" for c in nbformat.read(p, 4).cells) for p in todo.values())
    failed, finished = [], []
    with tqdm(total=cells, unit="cell") as bar:
        context = get_context("spawn")
        queue = context.SimpleQueue()
        listen()
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=obey, initargs=(queue,))
        futures = {pool.submit(_work, root, path): slug for slug, path in todo.items()}
        try:
            waiting = set(futures)
            while waiting:
                while not queue.empty():
                    slug, done, total = queue.get()
                    bar.set_postfix_str(f"{slug} {done}/{total}")
                    bar.update()
                ready = {f for f in waiting if f.done()}
                for future in ready:
                    if future.exception():
                        failed.append(futures[future])
                        tqdm.write(f"FAILED {future.exception()}", file=sys.stderr)
                    else:
                        finished.append(futures[future])
                        tqdm.write(f"{futures[future]}: {future.result():.0f} s")
                waiting -= ready
                time.sleep(0.2)
        except KeyboardInterrupt:
            left = [slug for slug in todo if slug not in finished]
            print(f"\ninterrupted: {finished or 'nothing'} stored, {left} left as they were; run it again to go on")
            end(pool)
        pool.shutdown()
    return len(failed)


def new(root: Path, part: str, slug: str) -> None:
    """Start a chapter from the template: notebook, paper file, test, contents and bibliography.

    Raises:
        SystemExit: for a part or slug that the book does not plan, or one that is there already.
    """
    planned = yaml.safe_load((root / "book" / "chapters.yml").read_text())
    if part not in planned or slug not in planned[part]["chapters"]:
        known = {name: list(value["chapters"]) for name, value in planned.items()}
        sys.exit(f"expected a part and slug that book/chapters.yml plans, got {part}/{slug}; planned: {known}")
    template = root / "book" / "_template"
    places = {
        template / "chapter.ipynb": root / "book" / part / f"{slug}.ipynb",
        template / "paper.py.txt": root / PACKAGE / part / f"{slug}.py",
        template / "test_paper.py.txt": root / "tests" / part / f"test_{slug}.py",
    }
    for place in places.values():
        if place.exists():
            sys.exit(f"{place.relative_to(root)} is there already")
    words = {"SLUG": slug, "PART": part, "TITLE": planned[part]["chapters"][slug]["title"]}
    for source, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, re.sub("|".join(words), lambda m: words[m.group()], source.read_text()))
    package = root / PACKAGE / part / "__init__.py"
    if not package.exists():
        write_atomically(package, f'"""{planned[part]["title"]}, one paper a file."""\n')
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    title = planned[part]["title"]
    index = {"file": f"book/{part}/index", "sections": []}
    entry = next((p for p in toc["parts"] if p["caption"] == title), {"caption": title, "chapters": [index]})
    if entry not in toc["parts"]:
        toc["parts"].insert(len(toc["parts"]) - 1, entry)  # the measured results stay last
        write_atomically(root / "book" / part / "index.md", f"# {title}\n\nTODO the part's story.\n")
    entry["chapters"][0].setdefault("sections", []).append({"file": f"book/{part}/{slug}"})
    write_atomically(root / "_toc.yml", yaml.safe_dump(toc, sort_keys=False))
    references = root / "book" / "references.bib"
    stub = f"\n@inproceedings{{{slug},\n  title = {{{words['TITLE']}}},\n  author = {{TODO}},\n  year = {{TODO}}\n}}\n"
    write_atomically(references, references.read_text() + stub)
    print("\n".join(f"wrote {place.relative_to(root)}" for place in places.values()))
    print("the tests fail until every TODO in them is filled in")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    commands = parser.add_subparsers(dest="command", required=True)
    executing = commands.add_parser("execute", help="re-run the chapters whose code changed")
    executing.add_argument("--slugs", nargs="*")
    executing.add_argument("--jobs", type=int, default=2)
    executing.add_argument("--force", action="store_true", help="also those whose outputs are up to date")
    commands.add_parser("stale", help="list the chapters that execute would re-run")
    starting = commands.add_parser("new", help="start a chapter from the template")
    starting.add_argument("--part", required=True)
    starting.add_argument("--slug", required=True)
    options = parser.parse_args(arguments)
    if options.command == "execute":
        return min(execute(options.root, options.slugs, jobs=options.jobs, force=options.force), 1)
    if options.command == "stale":
        print("\n".join(stale(options.root)))
    else:
        new(options.root, options.part, options.slug)
    return 0


if __name__ == "__main__":
    sys.exit(main())
