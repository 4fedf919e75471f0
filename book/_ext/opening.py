"""How a chapter opens: title and subtitle, its promise, one closed box with all that
runs it, then what it is about and its hero.

The box takes the cells that stand before the first section (install, parameters,
set-up), so that a notebook needs nothing for it.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import folds
import registry
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = "_downloads"  # folder of the site


@cache
def chapters() -> dict[str, registry.Chapter]:
    """Document -> chapter, of all that the book lists."""
    return {one.document: one for one in registry.every(registry.load(ROOT))}


def notebook(chapter: registry.Chapter) -> dict[str, Any]:
    """A chapter's stored notebook."""
    content = json.loads((ROOT / chapter.notebook).read_text(encoding="utf-8"))
    return dict(content)


def duration(seconds: float) -> str:
    """Seconds as a reader says them: to ten of them, in minutes from one on."""
    tens = max(1, round(seconds / 10))
    minutes, rest = divmod(10 * tens, 60)
    words = [f"{minutes} min"] if minutes else []
    words += [f"{rest} s"] if rest else []
    return " ".join(words)


def addresses(chapter: registry.Chapter) -> dict[str, str]:
    """Where a chapter is run or fetched, by the words of the link."""
    url, branch = folds.repository()
    where = url.removeprefix("https://github.com/")
    buttons = registry.settings(ROOT)["launch_buttons"]
    place = chapter.notebook
    root = "../" * chapter.document.count("/")
    lab = f"{where}/{branch}?urlpath=lab/tree/{place}"
    return {
        "Open in Colab": f"{buttons['colab_url']}/github/{where}/blob/{branch}/{place}",
        "Open in Binder": f"{buttons['binderhub_url']}/v2/gh/{lab}",
        "Notebook (.ipynb)": f"{root}_sources/{place}",
        "Script (.py)": f"{root}{SCRIPTS}/{chapter.slug}.py",
    }


def links(chapter: registry.Chapter) -> str:
    """The ways to run a chapter, as HTML."""
    items = []
    for words, address in addresses(chapter).items():
        kept = "" if address.startswith("https:") else " download"
        items.append(f'<li><a href="{address}"{kept}>{words}</a></li>')
    url, _ = folds.repository()
    name = url.rpartition("/")[2]
    local = (
        f"On your machine: <code>git clone {url} &amp;&amp; cd {name} &amp;&amp; make"
        f" lab</code>, then open <code>{chapter.notebook}</code>."
    )
    return f"<ul>{''.join(items)}</ul><p>{local}</p>"


def box(chapter: registry.Chapter, cells: list[nodes.container]) -> folds.Fold:
    """The closed box "Run this chapter", with the cells that come first."""
    words = "Run this chapter"
    if seconds := notebook(chapter)["metadata"].get("papernets", {}).get("seconds"):
        words += f" <small>{duration(seconds)} on one CPU core</small>"
    fold = folds.Fold(classes=["pn-run"], summary=words)
    fold += nodes.raw("", links(chapter), format="html")
    for cell in cells:
        cell.parent.remove(cell)
        cell.attributes.pop("hide_mode", None)  # the box folds them all
        fold += cell
    return fold


def subtitle(title: nodes.title) -> None:
    """Set what stands behind a title's colon on a line of its own."""
    name, colon, rest = title.astext().partition(": ")
    if not colon or len(title.children) > 1:
        return
    small = nodes.inline(text=rest, classes=["pn-subtitle"])
    title.children = []
    title += [nodes.Text(f"{name}: "), small]


def in_chapter(app: Any, doctree: nodes.document) -> None:
    """Open a chapter's page."""
    chapter = chapters().get(app.env.docname)
    if chapter is None:
        return
    top = next(iter(doctree.findall(nodes.section)))
    before = []
    for child in top.children:
        if isinstance(child, nodes.section):
            break
        before.append(child)
    title, promise = before[:2]
    subtitle(title)
    fold = box(chapter, [child for child in before if folds.is_cell(child)])
    top.insert(top.index(promise) + 1, fold)
    top["classes"].append("pn-chapter")


def script(chapter: registry.Chapter) -> str:
    """A chapter as a Python file whose cells editors know ("percent" format)."""
    url, _ = folds.repository()
    lines = [
        f"# {chapter.title}",
        f'# Needs: pip install "papernets-lite @ git+{url}"',
        "",
        "from papernets_lite.display import display",
    ]
    for cell in notebook(chapter)["cells"]:
        text = "".join(cell["source"]).splitlines()
        if "install" in cell["metadata"].get("tags", []):
            continue
        if cell["cell_type"] == "markdown":
            lines += ["", "# %% [markdown]", *(f"# {line}".rstrip() for line in text)]
        elif cell["cell_type"] == "code":
            lines += ["", "# %%", *text]
    return "\n".join(lines) + "\n"


def write_scripts(app: Any, failure: Exception | None) -> None:
    """Write every built chapter as a script."""
    if failure or app.builder.format != "html":
        return
    folder = Path(app.outdir) / SCRIPTS
    folder.mkdir(exist_ok=True)
    for document, chapter in chapters().items():
        if document in app.env.found_docs:
            path = folder / f"{chapter.slug}.py"
            path.write_text(script(chapter), encoding="utf-8")


def setup(app: Any) -> None:
    """Connect the opening; it goes before the cells are folded."""
    app.connect("doctree-read", in_chapter)
    app.connect("build-finished", write_scripts)
