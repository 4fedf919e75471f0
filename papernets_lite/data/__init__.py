"""Worlds that draw themselves, real handwriting and photographs that packages ship, and
public datasets by name."""

from . import (
    cells,
    digits,
    faces,
    motion,
    people,
    photos,
    regions,
    rooms,
    sentences,
    shapes,
    streets,
)
from .public import load

__all__ = ["cells", "digits", "faces", "load", "motion", "people"]
__all__ += ["photos", "regions", "rooms", "sentences", "shapes", "streets"]
