"""Showing a result: as a picture in Jupyter, in words in a plain script."""

import sys
from collections.abc import Mapping
from typing import Any


def display(*items: Any, metadata: Any = None, raw: bool = False) -> None:
    """Show results where a reader sees them.

    Args:
        items: Objects; or, if ``raw``, dicts of representations by MIME type, with
            ``"text/plain"``.
        metadata: Of the raw representations, by MIME type.
        raw: Whether ``items`` are such dicts.
    """
    if in_jupyter():
        from IPython.display import display as show

        show(*items, metadata=metadata, raw=raw)
        return
    for item in items:
        print(_words(item))


def in_jupyter() -> bool:
    """Whether a Jupyter kernel runs this process."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return hasattr(shell, "kernel")


def _words(item: Any) -> str:
    """An object, or its representations by MIME type, as a reader of plain text would
    like it."""
    if isinstance(item, Mapping):
        for kind in ("text/plain", "text/markdown"):
            if kind in item:
                return str(item[kind])
    # IPython's Markdown objects keep their text here.
    text = getattr(item, "data", None)
    return text if isinstance(text, str) else str(item)
