"""Worlds that draw themselves, real handwriting and photographs that packages ship, and
public datasets by name.

A module is loaded when it is first touched: who reads a dataset pays for no world.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        actions,
        blocks,
        canvas,
        cells,
        coasts,
        digits,
        faces,
        houses,
        leaps,
        motion,
        people,
        photos,
        poses,
        public,
        queries,
        regions,
        rooms,
        sentences,
        shapes,
        streets,
        toys,
        worlds,
    )
    from .public import load

__all__ = [
    "actions",
    "blocks",
    "canvas",
    "cells",
    "coasts",
    "digits",
    "faces",
    "houses",
    "leaps",
    "load",
    "motion",
    "people",
    "photos",
    "poses",
    "public",
    "queries",
    "regions",
    "rooms",
    "sentences",
    "shapes",
    "streets",
    "toys",
    "worlds",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module(".public", __name__).load
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
