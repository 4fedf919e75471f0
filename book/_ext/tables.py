"""Tables of sentences on a phone: each row becomes a small card, its cells below each
other and named, instead of columns of one word a line."""

from typing import Any

import folds
from docutils import nodes

COLUMNS = 4  # from which on a phone is too narrow for sentences
LONG = 24  # letters of a cell that is a sentence, and not a number or a name


def is_wordy(table: nodes.table) -> bool:
    """Whether a table's sentences want a phone's whole width."""
    head = table.next_node(nodes.thead)
    if head is None or len(head[0]) < COLUMNS:
        return False
    return any(len(entry.astext()) > LONG for entry in table.findall(nodes.entry))


def name_cells(table: nodes.table) -> None:
    """Say in each cell the name of its column; book.css shows it on a phone only."""
    names = [entry.astext() for entry in table.next_node(nodes.thead)[0]]
    for row in table.next_node(nodes.tbody):
        for name, entry in list(zip(names, row, strict=True))[1:]:
            if not (entry.astext().strip() or entry.next_node(nodes.image)):
                entry["classes"].append("pn-empty")  # a card says nothing of it
            elif name:
                entry[0].insert(0, nodes.inline("", name, classes=["pn-label"]))


def stack(app: Any, doctree: nodes.document) -> None:
    """Mark the tables of a page's text that become cards on a phone."""
    outputs = {id(t) for c in doctree.findall(folds.is_cell) for t in c.findall()}
    for table in list(doctree.findall(nodes.table)):
        if id(table) not in outputs and is_wordy(table):
            table["classes"].append("pn-stack")
            name_cells(table)


def setup(app: Any) -> None:
    """Connect it."""
    app.connect("doctree-read", stack)
