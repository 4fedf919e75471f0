"""Code that opens by a click: cells under a name, and listings at their whole length.

A cell tagged ``hide-input`` begins with a comment that says what it does; its code is
folded under that name, below what it shows. A cell that only shows a listing or the map
of a net has no code of its own in the page. A listing (``show.source``) is cut at
``SEEN`` lines, and its caption leads to these lines in the repository. What a claim's
cell measured in this one run opens by a click too: the verdicts stand below it.
"""

import ast
import html
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import registry
from digests import python
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
SEEN = 25  # lines of a listing before it is opened
CLAIM = 'class="pn-claim"'
SHOWS = {"show.source", "show.net"}  # what stands in the page without its call
LINES = re.compile(r", lines (\d+)-(\d+)")


class Fold(nodes.General, nodes.Element):
    """A closed ``<details>``; "summary" is HTML."""


def visit(writer: Any, node: Fold) -> None:
    """Begin it."""
    classes = " ".join(node["classes"])
    summary = f"<summary>{node['summary']}</summary>"
    writer.body.append(f'<details class="{classes}">{summary}\n')


def depart(writer: Any, node: Fold) -> None:
    """End it."""
    writer.body.append("</details>\n")


@cache
def repository() -> tuple[str, str]:
    """The repository's address and its branch, from ``_config.yml``."""
    named = registry.settings(ROOT)["repository"]
    return named["url"], named["branch"]


@cache
def commit() -> str:
    """The commit that the site is built from; the branch where git does not say."""
    ask = ["git", "rev-parse", "HEAD"]
    try:
        said = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return repository()[1]
    return said.stdout.strip()


def is_cell(node: nodes.Node) -> bool:
    """Whether a node is a code cell."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def parts(cell: nodes.container) -> Iterator[tuple[str, nodes.Element]]:
    """A code cell's source and outputs, each with the name of what it is."""
    for child in cell.children:
        yield child.get("nb_element", ""), child


def named(source: str) -> tuple[str, int]:
    """What a cell's first comment calls it, and how many lines of code it has.

    Args:
        source: of the cell.

    Returns:
        The comment without its sign, empty where the cell begins with code, and the
        number of lines that are neither empty nor that comment.
    """
    lines = [line for line in source.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# "):
        return "", len(lines)
    return lines[0].removeprefix("# ").strip(), len(lines) - 1


def summary(source: str) -> str:
    """What a folded cell is called, as HTML."""
    name, count = named(source)
    called = f"Code: {name[:1].lower()}{name[1:]}" if name else "Code"
    many = "1 line" if count == 1 else f"{count} lines"
    return f"{html.escape(called)} <small>({many})</small>"


def fold_cells(app: Any, doctree: nodes.document) -> None:
    """Fold the sources that are tagged so, below what the cells show."""
    for cell in list(doctree.findall(is_cell)):
        if cell.get("hide_mode") != "input":
            continue
        del cell["hide_mode"]  # or myst-nb folds it as well
        shown = []
        fold = Fold(classes=["pn-code"])
        for name, child in parts(cell):
            if name == "cell_code_source":
                fold["summary"] = summary(child.astext())
                fold += child
            else:
                shown.append(child)
        cell.children = []
        cell.extend([*shown, fold])


def only_shows(source: str) -> bool:
    """Whether a cell's code is calls that show a listing or a map, and no more."""
    body = ast.parse(python(source)).body
    calls = [
        ast.unparse(one.value.func)
        for one in body
        if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
    ]
    return bool(body) and len(calls) == len(body) and set(calls) <= SHOWS


def drop_calls(app: Any, doctree: nodes.document) -> None:
    """Leave out the code of cells that only show a listing or a map."""
    for cell in list(doctree.findall(is_cell)):
        for name, child in list(parts(cell)):
            if name == "cell_code_source" and only_shows(child.astext()):
                cell.remove(child)


def fold_runs(app: Any, doctree: nodes.document) -> None:
    """Fold what one run measured (``claims.measure``)."""
    for cell in list(doctree.findall(is_cell)):
        for name, child in list(parts(cell)):
            # an output is there in several forms
            count = max(
                (one.astext().count(CLAIM) for one in child.findall(nodes.raw)),
                default=0,
            )
            if name != "cell_code_output" or not count:
                continue
            few = "a comparison" if count == 1 else f"{count} comparisons"
            fold = Fold(classes=["pn-this-run"], summary=f"This run: {few}")
            child.replace_self(fold)
            fold += child


def link_listings(app: Any, doctree: nodes.document) -> None:
    """Lead each listing's caption to its lines in the repository, and cut what is
    long."""
    for caption in list(doctree.findall(nodes.paragraph)):
        path = caption.children[0] if caption.children else None
        where = LINES.fullmatch(caption.astext().removeprefix(_text(path)))
        if not isinstance(path, nodes.literal) or not where:
            continue
        first, last = where.groups()
        place = f"blob/{commit()}/{path.astext()}#L{first}-L{last}"
        link = nodes.reference(refuri=f"{repository()[0]}/{place}", internal=False)
        link.extend(caption.children)
        caption.children = []
        caption += link
        caption["classes"].append("pn-listing")
        after = caption.parent[caption.parent.index(caption) + 1]
        count = len(after.astext().rstrip().splitlines())
        if isinstance(after, nodes.literal_block) and count > SEEN:
            cut(after, count)


def _text(node: nodes.Node | None) -> str:
    return node.astext() if node is not None else ""


def cut(listing: nodes.literal_block, count: int) -> None:
    """Show a listing's first ``SEEN`` lines; a click shows its ``count``. All of it is
    in the page, to be copied or printed."""
    words = f"All {count} lines"
    more = f'<details class="pn-more"><summary>{words}</summary></details>'
    long = nodes.container(classes=["pn-long"])
    listing.replace_self(long)
    long += [nodes.raw("", more, format="html"), listing]


def setup(app: Any) -> None:
    """Connect the folds."""
    app.add_node(Fold, html=(visit, depart))
    app.connect("doctree-read", drop_calls)
    app.connect("doctree-read", fold_runs)
    app.connect("doctree-read", fold_cells)
    app.connect("doctree-read", link_listings)
