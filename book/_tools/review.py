"""What changed since another commit: which checks that asks for, and how it looks.

``review.py --base main notebooks|tests|pages|words`` prints what ``make test-changed``
checks; ``review.py --base main review`` writes a page for each changed chapter, with
text and code, pictures and numbers, before and after, below ``_build/review``.
``review.py text FILE`` prints a notebook's cells, for git's textconv.
"""

import argparse
import difflib
import html
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chapters
import registry

ROOT = chapters.ROOT
SENTINELS = ("resnet", "openpose", "cyclegan")
CLAIM = "application/vnd.papernets.claim+json"
PICTURES = ("image/png", "image/jpeg")
SVG = "image/svg+xml"
WIDGETS = "application/vnd.jupyter.widget-state+json"
STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 75rem; margin: auto; padding: 1rem; }
pre { font-size: 13px; line-height: 1.4; overflow-x: auto; padding: 0.5rem; }
pre { background: #f6f6f6; white-space: pre-wrap; }
.old { background: #ffe3e0; } .new { background: #dff5e1; } .where { color: #666; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
figure { margin: 0; } img { max-width: 100%; border: 1px solid #ddd; }
td, th { padding: 0.1rem 0.8rem; text-align: left; }
"""


def git(root: Path, *arguments: str) -> str:
    """What git says, empty where it fails."""
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8"
    )
    return done.stdout if done.returncode == 0 else ""


def start(root: Path, base: str) -> str:
    """The commit at which this work left ``base``.

    Raises:
        SystemExit: when there is none.
    """
    found = git(root, "merge-base", base, "HEAD").strip()
    if not found:
        sys.exit(f"expected a commit to compare with, got BASE={base}")
    return found


def changed_files(root: Path, since: str) -> list[str]:
    """Files that differ from the commit ``since``, those not yet committed too."""
    tracked = git(root, "diff", "--name-only", since).splitlines()
    fresh = git(root, "ls-files", "--others", "--exclude-standard").splitlines()
    return sorted({*tracked, *fresh})


def changed_chapters(root: Path, files: list[str]) -> list[str]:
    """Chapters whose notebooks changed, or whose stored outputs other code made."""
    stale = set(chapters.stale(root))
    return [
        slug
        for slug, path in registry.built(root).items()
        if slug in stale or path.relative_to(root).as_posix() in files
    ]


def tests(root: Path, files: list[str], slugs: list[str]) -> list[str]:
    """The tests of the changed chapters' papers, of changed modules, and changed
    tests."""
    found = set()
    for slug in slugs:
        found |= set(root.glob(f"tests/*/test_{slug}.py"))
    for name in files:
        path = Path(name)
        if path.parts[0] == "tests" and path.name.startswith("test_"):
            found.add(root / path)
        if path.parts[0] == registry.PACKAGE:
            inside = Path(*path.parts[1:-1]) / f"test_{path.stem}.py"
            found.add(root / "tests" / inside)
            # a folder of machinery has one test file
            found.add(root / "tests" / f"test_{path.parts[1]}.py")
        if path.parts[:2] == ("book", "_tools"):
            found.add(root / "tests" / "test_tools.py")
    always = ("mirror", "style")
    found |= {root / "tests" / f"test_{name}.py" for name in always}
    there = {path.relative_to(root) for path in found if path.exists()}
    return sorted(path.as_posix() for path in there if path.parts[1] != "site")


def pages(root: Path, files: list[str], slugs: list[str]) -> list[str]:
    """The changed chapters' pages, changed pages of text, and five more."""
    paths = registry.built(root)
    wanted = [*slugs, *SENTINELS]
    found = [paths[slug].relative_to(root).with_suffix(".html") for slug in wanted]
    found += [Path("book/intro.html"), Path("book/results.html")]
    texts = [Path(name) for name in files if name.startswith("book/")]
    found += [path.with_suffix(".html") for path in texts if path.suffix == ".md"]
    return list(dict.fromkeys(path.as_posix() for path in found))


@dataclass
class Version:
    """A chapter before or after: its cells, and what they made."""

    cells: list[str] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)


def flat(value: Any, name: str) -> dict[str, str]:
    """The numbers and words in nested JSON, by their path."""
    found = {}
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= flat(inner, f"{name}, {key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found |= flat(inner, f"{name}[{number}]")
    else:
        found[name] = str(value)
    return found


def version(text: str) -> Version:
    """A notebook's cells, pictures and numbers.

    Args:
        text: The file; empty where there is none.

    Returns:
        Pictures are data addresses by their place, numbers are texts by theirs.
    """
    made = Version()
    if not text:
        return made
    notebook = json.loads(text)
    figure = 0
    for cell in notebook["cells"]:
        made.cells.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if SVG in data:
                figure += 1
                drawn = quote("".join(data[SVG]))
                made.pictures[f"figure {figure}"] = f"data:{SVG},{drawn}"
            for kind in PICTURES:
                if kind in data:
                    figure += 1
                    content = "".join(data[kind]).replace("\n", "")
                    made.pictures[f"figure {figure}"] = f"data:{kind};base64,{content}"
            records = data.get(CLAIM, [])
            for record in records if isinstance(records, list) else [records]:
                made.numbers |= flat(record.get("values", {}), record["key"])
            shown = output.get("text", data.get("text/markdown", ""))
            for line in "".join(shown).splitlines():
                # a line of a table, or one that was printed
                if re.search(r"\d", line) and "lines " not in line:
                    label = re.sub(r"[-+]?\d[\d.,e+-]*", "#", line)[:80]
                    made.numbers[f"printed: {label}"] = line
    states = notebook["metadata"].get("widgets", {}).get(WIDGETS, {}).get("state", {})
    for number, model in enumerate(states.values()):
        state = model["state"]
        for place, frame in enumerate(state.get("frames", [])):
            made.pictures[f"widget {number + 1}, frame {place + 1}"] = frame
    return made


def compared(old: dict[str, str], new: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What differs: name -> before, after; empty where it was not there."""
    names = [*new, *(name for name in old if name not in new)]
    return {
        name: (old.get(name, ""), new.get(name, ""))
        for name in names
        if old.get(name) != new.get(name)
    }


def diff(old: list[str], new: list[str]) -> str:
    """Two lists of lines as HTML: lines that went, lines that came, and around them."""
    out = []
    for line in difflib.unified_diff(old, new, lineterm="", n=2):
        if line.startswith(("---", "+++")):
            continue
        kind = {"-": "old", "+": "new", "@": "where"}.get(line[:1], "")
        out.append(f'<div class="{kind}">{html.escape(line)}</div>')
    return f"<pre>{''.join(out)}</pre>" if out else "<p>unchanged</p>"


def lines(cells: list[str]) -> list[str]:
    """The cells' lines, with an empty one between two cells."""
    return [line for cell in cells for line in [*cell.splitlines(), ""]]


def side_by_side(pairs: dict[str, tuple[str, str]]) -> str:
    """Pictures before and after as HTML."""
    out = []
    for name, addresses in pairs.items():
        shown = [
            f'<img src="{address}" alt="{name}">' if address else "<p>not there</p>"
            for address in addresses
        ]
        before, after = shown
        out.append(f"<h3>{html.escape(name)}</h3>")
        out.append(f'<div class="pair"><figure>{before}</figure>')
        out.append(f"<figure>{after}</figure></div>")
    return "".join(out) or "<p>unchanged</p>"


def table(pairs: dict[str, tuple[str, str]]) -> str:
    """Numbers before and after as HTML."""
    if not pairs:
        return "<p>unchanged</p>"
    rows = ["<tr><th>number</th><th>before</th><th>after</th></tr>"]
    for name, (before, after) in pairs.items():
        cells = "".join(
            f"<td>{html.escape(text)}</td>" for text in (name, before, after)
        )
        rows.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def stored_results(text: str, whole: str, slug: str) -> dict[str, str]:
    """A chapter's stored results, from its own file or from the one for all."""
    if text:
        return flat(json.loads(text), "stored")
    return flat(json.loads(whole or "{}").get(slug, {}), "stored")


def page(root: Path, since: str, slug: str) -> str:
    """A chapter's review as HTML."""
    path = registry.built(root)[slug].relative_to(root)
    own, whole = f"book/results/{slug}.json", "book/results.json"

    def now(name: str) -> str:
        file = root / name
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def then(name: str) -> str:
        return git(root, "show", f"{since}:{name}")

    old, new = version(then(path.as_posix())), version(now(path.as_posix()))
    old.numbers |= stored_results(then(own), then(whole), slug)
    new.numbers |= stored_results(now(own), now(whole), slug)
    module = f"{registry.PACKAGE}/{path.parent.name}/{slug}.py"
    parts = {
        "Numbers that moved": table(compared(old.numbers, new.numbers)),
        "Pictures, before and after": side_by_side(
            compared(old.pictures, new.pictures)
        ),
        "Text and code": diff(lines(old.cells), lines(new.cells)),
        module: diff(then(module).splitlines(), now(module).splitlines()),
    }
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in parts.items())
    return wrapped(f"{slug}, since {since[:10]}", body)


def wrapped(title: str, body: str) -> str:
    """A whole page."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}</h1>{body}</html>\n"
    )


def review(root: Path, since: str, slugs: list[str]) -> Path:
    """Write the pages and their list; returns the list's path."""
    folder = root / "_build" / "review"
    folder.mkdir(parents=True, exist_ok=True)
    for slug in slugs:
        text = page(root, since, slug)
        (folder / f"{slug}.html").write_text(text, encoding="utf-8")
    links = "".join(f'<li><a href="{slug}.html">{slug}</a></li>' for slug in slugs)
    files = "\n".join(changed_files(root, since))
    body = f"<ul>{links}</ul><h2>Files that changed</h2><pre>{html.escape(files)}</pre>"
    index = folder / "index.html"
    index.write_text(wrapped("Changed chapters", body), encoding="utf-8")
    return index


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--base", default="main")
    what = ("notebooks", "tests", "pages", "words", "review", "text")
    parser.add_argument("what", choices=what)
    parser.add_argument("file", nargs="?", type=Path)
    options = parser.parse_args(arguments)
    if options.what == "text":
        print("\n".join(lines(version(options.file.read_text(encoding="utf-8")).cells)))
        return 0
    root = options.root
    since = start(root, options.base)
    files = changed_files(root, since)
    slugs = changed_chapters(root, files)
    known = registry.built(root)
    checked = list(dict.fromkeys([*slugs, *(s for s in SENTINELS if s in known)]))
    if options.what == "notebooks":
        print(*(known[slug].relative_to(root).as_posix() for slug in checked))
    elif options.what == "tests":
        print(*tests(root, files, slugs))
    elif options.what == "pages":
        print(*pages(root, files, slugs))
    elif options.what == "words":
        print(" or ".join(checked))
    else:
        print(f"{len(slugs)} chapters: open {review(root, since, slugs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
