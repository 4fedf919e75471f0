"""What the stored notebooks and results say of the runs that made them."""

import html
import json
from datetime import date
from pathlib import Path
from typing import Any

import registry
import results
from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).resolve().parents[2]
HEAD = ("Chapter", "Stored run", "Claims' runs")
NONE = "not yet"


def told(notes: dict[str, Any], seeds: int = 1) -> str:
    """Seconds, processor and version of PyTorch, version of Python and day, as lines of
    a cell.

    Args:
        notes: of a notebook or of results: "seconds" and "machine"; those of older runs
            lack "versions" and "date".
        seeds: how many runs the seconds are the mean of.
    """
    if "seconds" not in notes:
        return NONE
    seconds = f"{notes['seconds']} s"
    lines = [seconds if seeds == 1 else f"{seeds} seeds, {seconds} each"]
    for machine in notes["machine"].replace("(R)", "").split("; "):
        lines.append(f"<small>{html.escape(machine)}</small>")
    if "date" in notes:
        day = date.fromisoformat(notes["date"])
        python = html.escape(notes["versions"]["python"])
        lines.append(f"<small>Python {python}, {day.day} {day:%B %Y}</small>")
    return "<br>".join(lines)


def row(chapter: registry.Chapter) -> tuple[str, str, str]:
    """A chapter's cells."""
    text = (ROOT / chapter.notebook).read_text(encoding="utf-8")
    notes = json.loads(text)["metadata"].get("papernets", {})
    content = results.load(ROOT, chapter.slug)
    address = f"{chapter.part}/{chapter.slug}.html"
    name = f'<a href="{address}">{html.escape(chapter.short)}</a>'
    return name, told(notes), told(content, len(results.seeds(content)))


class Runs(Directive):
    """A table: one row for each chapter of the book, in reading order."""

    def run(self) -> list[nodes.Node]:
        """The table as HTML."""
        env = self.state.document.settings.env
        rows = []
        for chapter in registry.every(registry.load(ROOT)):
            if chapter.document not in env.found_docs:
                continue
            env.note_dependency(str(ROOT / chapter.notebook))
            env.note_dependency(str(results.place(ROOT, chapter.slug)))
            cells = "".join(f"<td>{cell}</td>" for cell in row(chapter))
            rows.append(f"<tr>{cells}</tr>")
        head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
        table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        page = (
            '<div class="pst-scrollable-table-container">'
            f'<table class="table">{table}</table></div>'
        )
        return [nodes.raw("", page, format="html")]


def setup(app: Any) -> None:
    """Connect the directive."""
    app.add_directive("runs", Runs)
