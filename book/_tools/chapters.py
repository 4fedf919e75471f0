"""Keep the chapters' stored outputs true: execute what changed, list what is stale,
start a new chapter.

python book/_tools/chapters.py execute|stale|new ...
"""

import argparse
import ast
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "papernets_lite"
KEY = "papernets"  # of the notebook's metadata
VIEW, STATE = (
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.jupyter.widget-state+json",
)


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
        sys.exit(
            f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(found)}"
        )
    return {slug: path for slug, path in found.items() if not slugs or slug in slugs}


def read(path: Path) -> Any:
    """A notebook.

    Raises:
        SystemExit: naming the file, when it is damaged.
    """
    try:
        return nbformat.read(path, 4)
    except Exception as error:  # nbformat raises many kinds
        sys.exit(f"{path} is not a notebook: {error}")


def imported(root: Path, source: str) -> set[Path]:
    """Files of the package that ``source`` imports, directly or through each other."""
    files: set[Path] = set()

    def resolve(module: str) -> Iterator[Path]:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            yield from (
                p for p in (base / "__init__.py", base.with_suffix(".py")) if p.exists()
            )

    def visit(code: str) -> None:
        for node in ast.walk(ast.parse(code)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [
                    node.module,
                    *(f"{node.module}.{alias.name}" for alias in node.names),
                ]
            for name in names:
                if name.split(".")[0] == PACKAGE:
                    for path in resolve(name):
                        if path not in files:
                            files.add(path)
                            visit(path.read_text())

    visit(source)
    return files


def code(notebook: Any) -> list[str]:
    """The notebook's own code: every code cell but the one tagged ``install``."""
    return [
        c.source
        for c in notebook.cells
        if c.cell_type == "code" and "install" not in c.metadata.get("tags", [])
    ]


def python(source: str) -> str:
    """A cell's source without lines that only IPython understands."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def fingerprint(root: Path, path: Path) -> str:
    """A hash of everything that decides a chapter's outputs: its code, the package's it
    imports, stored verdicts."""
    cells = code(read(path))
    digest = hashlib.sha256("\n\n".join(cells).encode())
    files = imported(root, "\n".join(map(python, cells)))
    # The widgets' scripts are read at run time, not imported.
    if root / PACKAGE / "widgets.py" in files:
        files |= set((root / PACKAGE / "js").glob("*"))
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    stored = root / "book" / "results.json"
    if stored.exists():
        digest.update(
            json.dumps(
                json.loads(stored.read_text()).get(path.stem), sort_keys=True
            ).encode()
        )
    return digest.hexdigest()[:16]


def measured_code(root: Path, path: Path) -> str:
    """A hash of what decides a chapter's numbers: its code and the package's it
    imports, without comments, docstrings and the modules that only show."""
    source = "\n".join(map(python, code(read(path))))
    shown = {
        root / PACKAGE / f"{name}.py"
        for name in ("claims", "draw", "plots", "widgets", "show")
    }
    digest = hashlib.sha256()
    for text in [
        source,
        *(file.read_text() for file in sorted(imported(root, source) - shown)),
    ]:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(
                node, (ast.Module, ast.ClassDef, ast.FunctionDef)
            ) and ast.get_docstring(node):
                node.body[0] = ast.Pass()
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def stale(root: Path, slugs: list[str] | None = None) -> list[str]:
    """Chapters whose stored outputs were made by other code than is there now."""
    return [
        slug
        for slug, path in chapters(root, slugs).items()
        if read(path).metadata.get(KEY, {}).get("hash") != fingerprint(root, path)
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


def address(root: Path) -> str:
    """What pip installs on Colab: the repository that ``_config.yml`` names."""
    return (
        f"git+{yaml.safe_load((root / '_config.yml').read_text())['repository']['url']}"
    )


def install_cell(root: Path) -> str:
    """The source of every chapter's install cell, with the repository's address from
    ``_config.yml``."""
    return (
        "import importlib.util\n\n"
        f'if importlib.util.find_spec("{PACKAGE}") is None:  # on Colab; elsewhere the book\'s environment has it\n'
        f'    %pip install -q "papernets-lite @ {address(root)}"'
    )


def stamp(root: Path, notebook: Any) -> bool:
    """Write the install cell; True when it was another."""
    source, before = install_cell(root), [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if "install" in cell.metadata.get("tags", []):
            cell.source = source
    return before != [cell.source for cell in notebook.cells]


@dataclass
class Task:
    """A notebook to run, and what to do with it and its CPU seconds when it has run to
    its end."""

    path: Path
    notebook: Any
    store: Callable[[Any, float], str]


class Kernels:
    """Runs notebooks side by side, each in a kernel of its own with one thread, and
    ends the kernels on Ctrl-C."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.clients: set[Any] = set()
        self.stopped = threading.Event()

    def run(self, name: str, task: Task) -> str:
        """Run one notebook and store it; returns what to say about it.

        Raises:
            RuntimeError: naming notebook, cell, source and error.
        """
        from nbclient import NotebookClient
        from psutil import Process

        where, seconds = 0, 0.0

        def started(cell: Any, cell_index: int) -> None:
            nonlocal where
            where = cell_index

        def executed(cell: Any, cell_index: int, execute_reply: Any) -> None:
            nonlocal seconds
            # CPU time, because two chapters, or a busy machine, stretch the clock's.
            times = Process(client.km.provisioner.pid).cpu_times()
            seconds = (
                times.user + times.system + times.children_user + times.children_system
            )
            self.bar.set_postfix_str(f"{name}, cell {cell_index + 1}", refresh=False)
            self.bar.update()

        client = NotebookClient(
            task.notebook,
            timeout=900,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(task.path.parent)}},
            on_cell_start=started,
            on_cell_executed=executed,
            record_timing=False,
            coalesce_streams=True,
        )
        self.clients.add(client)
        try:
            client.execute()
        except Exception as error:  # a cell's error, a timeout, a kernel that died
            if self.stopped.is_set():
                raise
            cell = task.notebook.cells[where]
            told = (
                str(error)
                if cell.source in str(error)
                else f"{cell.source}\n{type(error).__name__}: {error}"
            )
            raise RuntimeError(
                f"{task.path}, cell {where + 1} of {len(task.notebook.cells)}:\n{told}"
            ) from None
        finally:
            self.clients.discard(client)
        return task.store(task.notebook, seconds)

    def kill(self) -> None:
        """End every kernel now; a kernel leads its own process group."""
        self.stopped.set()
        for client in list(self.clients):
            process = getattr(getattr(client.km, "provisioner", None), "process", None)
            if process and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def run_all(tasks: dict[str, Task], *, jobs: int) -> tuple[list[str], list[str]]:
    """Run the notebooks, ``jobs`` at a time, with one progress bar over their cells.

    Returns:
        The names of those that ran to their end and were stored, and of those that
        failed, each told on stderr.

    Raises:
        SystemExit: after Ctrl-C, when the kernels have ended, saying what is stored and
            what remains.
    """
    from tqdm import tqdm

    os.environ |= {
        name: "1"
        for name in (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "TQDM_DISABLE",
        )
    }
    # also where a shell's background job is deaf to Ctrl-C
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    cells = sum(
        sum(c.cell_type == "code" and bool(c.source.strip()) for c in t.notebook.cells)
        for t in tasks.values()
    )
    failed = []
    with (
        tqdm(total=cells, unit="cell", disable=not tasks) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        kernels = Kernels(bar)
        futures = {}
        try:
            futures = {
                pool.submit(kernels.run, name, task): name
                for name, task in tasks.items()
            }
            for future in as_completed(futures):
                if future.exception():
                    failed.append(futures[future])
                    tqdm.write(
                        f"FAILED {futures[future]}: {future.exception()}",
                        file=sys.stderr,
                    )
                else:
                    tqdm.write(f"{futures[future]}: {future.result()}")
        except KeyboardInterrupt:
            for ending in (signal.SIGINT, signal.SIGTERM):
                # one is enough: what follows takes a second
                signal.signal(ending, signal.SIG_IGN)
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in futures):
                kernels.kill()
                time.sleep(0.1)
    finished = [
        name
        for f, name in futures.items()
        if f.done() and not f.cancelled() and not f.exception()
    ]
    if kernels.stopped.is_set() or len(finished) + len(failed) < len(tasks):
        left = [name for name in tasks if name not in finished]
        print(
            f"interrupted; stored: {', '.join(finished) or 'nothing'}; not run: {', '.join(left)}",
            file=sys.stderr,
        )
        print(
            "nothing stored was lost; the same command goes on from here",
            file=sys.stderr,
        )
        sys.exit(130)
    return finished, failed


def normalise(notebook: Any, slug: str) -> None:
    """Take out what differs from run to run or serves nobody: random names of widgets,
    widgets that no cell shows (progress bars), empty style settings, the editors' and
    runners' notes."""
    for cell in notebook.cells:
        for note in ("execution", "ExecuteTime", "papermill", "collapsed", "scrolled"):
            cell.metadata.pop(note, None)
    metadata = notebook.metadata
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {
            "name": "python",
            "file_extension": ".py",
            "mimetype": "text/x-python",
        },
        KEY: metadata.get(KEY, {}),
    }
    states = metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    found = [
        output.data[VIEW]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if VIEW in output.get("data", {})
    ]
    order: dict[str, None] = {}

    def visit(model: str) -> None:
        if model in states and model not in order:
            order[model] = None
            for other in re.findall(
                r"IPY_MODEL_(\w+)", json.dumps(states[model]["state"])
            ):
                visit(other)

    for view in found:
        visit(view["model_id"])
    # nothing refers to a link; it goes with what it links
    for model, state in states.items():
        ends = [
            end[0].removeprefix("IPY_MODEL_")
            for end in (state["state"].get("source"), state["state"].get("target"))
            if end
        ]
        if state["model_name"].endswith("LinkModel") and set(ends) <= set(order):
            order[model] = None
    if not order:
        return
    names = {
        model: uuid.uuid5(uuid.NAMESPACE_URL, f"{slug}/{number}").hex
        for number, model in enumerate(order)
    }

    def rename(value: Any) -> Any:
        return json.loads(
            re.sub(
                r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])",
                lambda m: names.get(m[0], m[0]),
                json.dumps(value),
            )
        )

    for view in found:
        view["model_id"] = names.get(view["model_id"], view["model_id"])
    kept = {names[model]: rename(states[model]) for model in order}
    for model in kept.values():
        # null is the default of all they hold
        if model["model_name"].endswith(("LayoutModel", "StyleModel")):
            model["state"] = {
                key: value for key, value in model["state"].items() if value is not None
            }
    notebook.metadata["widgets"] = {
        STATE: {"state": kept, "version_major": 2, "version_minor": 0}
    }


def execute(root: Path, slugs: list[str] | None, *, jobs: int, force: bool) -> int:
    """Re-run the stale chapters, ``jobs`` at a time; returns how many failed."""
    found = chapters(root, slugs)
    todo = list(found) if force else stale(root, slugs)
    tasks = {}
    for slug, path in found.items():
        notebook = read(path)
        stamped = stamp(root, notebook)
        if slug not in todo:
            if stamped:
                write_atomically(path, nbformat.writes(notebook) + "\n")
            continue

        def store(
            done: Any,
            seconds: float,
            path: Path = path,
            code: str = fingerprint(root, path),
        ) -> str:
            normalise(done, path.stem)
            made = sum(len(json.dumps(cell.get("outputs", []))) for cell in done.cells)
            made += len(json.dumps(done.metadata.get("widgets", {})))
            done.metadata[KEY] |= {
                "hash": code,
                "seconds": round(seconds),
                "bytes": made,
            }
            text = nbformat.writes(done) + "\n"
            write_atomically(path, text)
            return f"{seconds:.0f} s of CPU time, {len(text) / 1000:.0f} KB"

        tasks[slug] = Task(path, notebook, store)
    if not tasks:
        print("every chapter's outputs are up to date")
    return len(run_all(tasks, jobs=jobs)[1])


def new(root: Path, part: str, slug: str) -> None:
    """Start a chapter from the template: notebook, paper file, test, contents and
    bibliography.

    Raises:
        SystemExit: for a part or slug that the book does not plan, or one that is there
            already.
    """
    planned = yaml.safe_load((root / "book" / "chapters.yml").read_text())
    if part not in planned or slug not in planned[part]["chapters"]:
        known = {name: list(value["chapters"]) for name, value in planned.items()}
        sys.exit(
            f"expected a part and slug that book/chapters.yml plans, got {part}/{slug}; planned: {known}"
        )
    template = root / "book" / "_template"
    places = {
        template / "chapter.ipynb": root / "book" / part / f"{slug}.ipynb",
        template / "paper.py.txt": root / PACKAGE / part / f"{slug}.py",
        template / "test_paper.py.txt": root / "tests" / part / f"test_{slug}.py",
    }
    for place in places.values():
        if place.exists():
            sys.exit(f"{place.relative_to(root)} is there already")
    words = {
        "SLUG": slug,
        "PART": part,
        "TITLE": planned[part]["chapters"][slug]["title"],
    }
    for source, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            place,
            re.sub("|".join(words), lambda m: words[m.group()], source.read_text()),
        )
    package = root / PACKAGE / part / "__init__.py"
    if not package.exists():
        write_atomically(
            package, f'"""{planned[part]["title"]}, one paper a file."""\n'
        )
    title = planned[part]["title"]
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    entry = next((p for p in toc["parts"] if p["caption"] == title), None)
    if entry is None:
        entry = {
            "caption": title,
            "chapters": [{"file": f"book/{part}/index", "sections": []}],
        }
        earlier = {
            value["title"]
            for value in list(planned.values())[: list(planned).index(part)]
        }
        place = max(
            (i for i, p in enumerate(toc["parts"]) if p["caption"] in earlier),
            default=0,
        )
        toc["parts"].insert(place + 1, entry)
        write_atomically(
            root / "book" / part / "index.md", f"# {title}\n\nTODO the part's story.\n"
        )
    sections = entry["chapters"][0].setdefault("sections", [])
    sections.append({"file": f"book/{part}/{slug}"})
    sections.sort(
        key=lambda section: list(planned[part]["chapters"]).index(
            Path(section["file"]).stem
        )
    )
    write_atomically(root / "_toc.yml", yaml.safe_dump(toc, sort_keys=False))
    references = root / "book" / "references.bib"
    stub = f"\n@inproceedings{{{slug},\n  title = {{{words['TITLE']}}},\n  author = {{TODO}},\n  year = {{TODO}}\n}}\n"
    write_atomically(references, references.read_text() + stub)
    print("\n".join(f"wrote {place.relative_to(root)}" for place in places.values()))
    print(
        "the tests fail until every TODO in them is filled in; tests/papers.py needs an entry, and a part's first"
    )
    print("chapter its part among the import rules of pyproject.toml")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    commands = parser.add_subparsers(dest="command", required=True)
    executing = commands.add_parser(
        "execute", help="re-run the chapters whose code changed"
    )
    executing.add_argument("--slugs", nargs="*")
    executing.add_argument("--jobs", type=int, default=2)
    executing.add_argument(
        "--force", action="store_true", help="also those whose outputs are up to date"
    )
    commands.add_parser("stale", help="list the chapters that execute would re-run")
    starting = commands.add_parser("new", help="start a chapter from the template")
    starting.add_argument("--part", required=True)
    starting.add_argument("--slug", required=True)
    options = parser.parse_args(arguments)
    if options.command == "execute":
        return min(
            execute(
                options.root, options.slugs, jobs=options.jobs, force=options.force
            ),
            1,
        )
    if options.command == "stale":
        print(
            "\n".join(stale(options.root)) or "every chapter's outputs are up to date"
        )
    else:
        new(options.root, options.part, options.slug)
    return 0


if __name__ == "__main__":
    sys.exit(main())
