"""Stored notebooks: read and written whole, put into one form, and stamped.

What no training decides is stamped into a notebook without a kernel: its install cell,
its citations, its widgets' scripts, the package's listings, its claims' words and
verdicts.
"""

import ast
import json
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bibliography
import nbformat
import registry
from digests import PACKAGE, python

KEY = "papernets"  # of the notebook's metadata
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
NOTES = ("execution", "ExecuteTime", "papermill", "collapsed", "scrolled")


def read(path: Path) -> Any:
    """A notebook.

    Raises:
        SystemExit: naming the file, when it is damaged.
    """
    try:
        return nbformat.read(path, 4)
    except Exception as error:  # nbformat raises many kinds
        sys.exit(f"{path} is not a notebook: {error}")


def text_of(notebook: Any) -> str:
    """A notebook as its file holds it."""
    return nbformat.writes(notebook) + "\n"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write into that then takes the path's place: the old one or the new
    one is there, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """The old file or the new one, whatever happens."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def store_weights(path: Path, net: Any) -> None:
    """A net's weights in half precision, the old file or the new one."""
    import torch

    weights = {
        name: one.half() if one.is_floating_point() else one
        for name, one in net.state_dict().items()
    }
    with replacing(path) as temporary:
        torch.save(weights, temporary)


def tags(cell: Any) -> list[str]:
    """A cell's tags."""
    return cell.metadata.get("tags", [])


def code(notebook: Any) -> list[str]:
    """The notebook's own code: every code cell but the one tagged ``install``."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.source for cell in cells if "install" not in tags(cell)]


def outputs(notebook: Any) -> Iterator[Any]:
    """All outputs."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def states(notebook: Any) -> dict[str, Any]:
    """The widgets' models by name; empty where there are none."""
    return notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})


def records(notebook: Any) -> list[dict[str, Any]]:
    """What the notebook measured: one record a claim."""
    from papernets_lite.claims import MIME

    found: list[dict[str, Any]] = []
    for output in outputs(notebook):
        found += output.get("data", {}).get(MIME, [])
    return found


def values(records: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Records of one run as key -> [treatment, control]."""
    arms = ("treatment", "control")
    return {one["key"]: [one["values"][arm] for arm in arms] for one in records}


# Stamps


def stamp(root: Path, path: Path, notebook: Any) -> bool:
    """Write anew what no kernel is needed for; True when something was another.

    Args:
        root: of the repository.
        path: of the notebook, whose name is the chapter's.
        notebook: is changed in place.
    """
    before = text_of(notebook)
    stamp_install(root, notebook)
    stamp_citations(root, notebook)
    stamp_scripts(notebook)
    stamp_listings(notebook)
    stamp_claims(root, path.stem, notebook)
    return text_of(notebook) != before


def address(root: Path) -> str:
    """What pip installs on Colab: the repository that ``_config.yml`` names."""
    return f"git+{registry.settings(root)['repository']['url']}"


def install_cell(root: Path) -> str:
    """The source of every chapter's install cell."""
    return (
        "# Install the package where it is missing, as on Colab\n"
        "import importlib.util\n\n"
        f'if importlib.util.find_spec("{PACKAGE}") is None:\n'
        f"    %pip install -q {address(root)}"
    )


def stamp_install(root: Path, notebook: Any) -> None:
    """The install cell, with the repository's address from ``_config.yml``."""
    for cell in notebook.cells:
        if "install" in tags(cell):
            cell.source = install_cell(root)


def stamp_citations(root: Path, notebook: Any) -> None:
    """The cited works' labels and addresses, from ``book/references.bib``."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and bibliography.CITATION.search(cell.source):
            cell.source = bibliography.cited(cell.source, bibliography.works(root))


def scripts() -> dict[str, dict[str, str]]:
    """Widget class -> what its models carry: ``_esm`` and ``_css``."""
    from papernets_lite import widgets

    found = {}
    for name, item in vars(widgets).items():
        if isinstance(item, type) and "_esm" in vars(item):
            found[name] = {"_esm": str(item._esm), "_css": str(item._css)}
    return found


def stamp_scripts(notebook: Any) -> None:
    """The widgets' scripts and styles, from ``papernets_lite/js``."""
    models = states(notebook)
    if not models:
        return
    known = scripts()
    for model in models.values():
        name = model["state"].get("_anywidget_id", "").rpartition(".")[2]
        model["state"] |= known.get(name, {})


def only_listings(cell: Any) -> list[ast.Call]:
    """The calls of a cell that does nothing but ``show.source(...)``; else none."""
    if cell.cell_type != "code" or "show.source(" not in cell.source:
        return []
    calls = []
    for statement in ast.parse(python(cell.source)).body:
        value = getattr(statement, "value", None)
        is_call = isinstance(statement, ast.Expr) and isinstance(value, ast.Call)
        if not is_call or ast.unparse(value.func) != "show.source":
            return []
        calls.append(value)
    return calls


def stamp_listings(notebook: Any) -> None:
    """The listings of cells that only list, as the package's source stands now."""
    found = [(cell, only_listings(cell)) for cell in notebook.cells]
    found = [(cell, calls) for cell, calls in found if calls and cell.outputs]
    if not found:
        return
    from papernets_lite import show

    names: dict[str, Any] = {}
    for source in code(notebook):
        for statement in ast.parse(python(source)).body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                exec(ast.unparse(statement), names)
    for cell, calls in found:
        listed = [
            eval(ast.unparse(argument), names)
            for call in calls
            for argument in call.args
        ]
        texts = [show.listing(item) for item in listed]
        if len(texts) != len(cell.outputs):
            continue  # the cell changed: it is stale and will be run
        for output, text in zip(cell.outputs, texts, strict=True):
            caption = text.splitlines()[0]
            output.data |= {"text/markdown": text, "text/plain": caption}


def calls_of(cell: Any, name: str) -> bool:
    """Whether a cell is nothing but a call of ``claims.<name>``."""
    if cell.cell_type != "code" or f"claims.{name}(" not in cell.source:
        return False
    body = ast.parse(python(cell.source)).body
    return len(body) == 1 and ast.unparse(body[0]).startswith(f"claims.{name}(")


def stamp_claims(root: Path, slug: str, notebook: Any) -> None:
    """The verdicts, and the words beside this run's numbers."""
    if not (root / "book" / "claims" / f"{slug}.yml").exists():
        return
    from papernets_lite import claims

    with inside(root):
        words = claims.read_claims(slug)
        for cell in notebook.cells:
            if calls_of(cell, "verdicts") and cell.outputs:
                cell.outputs[0]["text"] = claims.verdict_text(slug) + "\n"
        for output in outputs(notebook):
            found = output.get("data", {}).get(claims.MIME)
            if not found or {one["key"] for one in found} != set(words):
                continue
            seed = found[0]["seed"]
            pairs = {key: (t, c) for key, (t, c) in values(found).items()}
            measured = claims.Measured(words, pairs, seed)
            output.data |= measured._repr_mimebundle_()


class inside:
    """The working directory is ``folder`` for a while."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.before = Path.cwd()
        os.chdir(self.folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


# One form


def normalise(notebook: Any, slug: str) -> None:
    """Take out what differs from run to run or serves nobody: random names of widgets,
    widgets that no cell shows (progress bars), empty style settings, the editors' and
    runners' notes, what torch says of this machine's CUDA."""
    for cell in notebook.cells:
        for note in NOTES:
            cell.metadata.pop(note, None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not _is_of_machine(one)]
    models = states(notebook)
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
        KEY: notebook.metadata.get(KEY, {}),
    }
    views = [
        output.data[VIEW]
        for output in outputs(notebook)
        if VIEW in output.get("data", {})
    ]
    order = shown_models(views, models)
    if not order:
        return
    names = {
        model: uuid.uuid5(uuid.NAMESPACE_URL, f"{slug}/{number}").hex
        for number, model in enumerate(order)
    }

    def rename(value: Any) -> Any:
        name = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
        renamed = name.sub(lambda m: names.get(m[0], m[0]), json.dumps(value))
        return json.loads(renamed)

    for view in views:
        view["model_id"] = names.get(view["model_id"], view["model_id"])
    kept = {names[model]: rename(models[model]) for model in order}
    for model in kept.values():
        # null is the default of all they hold
        if model["model_name"].endswith(("LayoutModel", "StyleModel")):
            state = model["state"].items()
            model["state"] = {key: value for key, value in state if value is not None}
    held = {"state": kept, "version_major": 2, "version_minor": 0}
    notebook.metadata["widgets"] = {STATE: held}


def _is_of_machine(output: Any) -> bool:
    """Whether an output is torch's note on where it looked for CUDA."""
    is_error = output.get("name") == "stderr"
    return is_error and "No CUDA runtime is found" in output.get("text", "")


def shown_models(views: list[Any], models: dict[str, Any]) -> list[str]:
    """The models that views show, those that these refer to, and the links between
    them."""
    order: dict[str, None] = {}

    def visit(model: str) -> None:
        if model in models and model not in order:
            order[model] = None
            state = json.dumps(models[model]["state"])
            for other in re.findall(r"IPY_MODEL_(\w+)", state):
                visit(other)

    for view in views:
        visit(view["model_id"])
    for model, content in models.items():
        # Nothing refers to a link; it goes with what it links.
        state = content["state"]
        ends = [end[0] for end in (state.get("source"), state.get("target")) if end]
        linked = {end.removeprefix("IPY_MODEL_") for end in ends}
        if content["model_name"].endswith("LinkModel") and linked <= set(order):
            order[model] = None
    return list(order)
