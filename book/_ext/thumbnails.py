"""Square pictures for the cards of the first page, cut from the figures of the
chapters.

A figure of pictures, such as a row of inputs above a row of answers, is cut along its
white gaps: what is left of one chapter's figure shows two of its pictures, or four.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 192  # pixels of a thumbnail
MOST = 3000  # bytes of it: fifty-six of them are on one page
WHITE = 232  # from here on a pixel counts as empty
LEAST = 30  # pixels of a picture in a figure
ENLARGED = 96  # pixels below which a picture is enlarged pixel by pixel


class Box(NamedTuple):
    """A part of a figure, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """From top to bottom."""
        return self.bottom - self.top


def runs(filled: np.ndarray) -> list[tuple[int, int]]:
    """Where a row of booleans is true, from, to."""
    edges = np.flatnonzero(np.diff(np.pad(filled.astype(np.int8), 1)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def parts(ink: np.ndarray, box: Box) -> list[Box]:
    """What white gaps across the whole of a box leave, and so on within.

    Args:
        ink: of the figure, true where it is not white.
        box: the part of it that is looked at.
    """
    inside = ink[box.top : box.bottom, box.left : box.right]
    rows = runs(inside.mean(1) > 0.02)
    columns = runs(inside.mean(0) > 0.02)
    if len(rows) * len(columns) == 0:
        return []
    found = [
        Box(box.left + left, box.top + top, box.left + right, box.top + bottom)
        for top, bottom in rows
        for left, right in columns
    ]
    if found == [box]:
        return found
    return [part for one in found for part in parts(ink, one)]


def panels(figure: Image.Image) -> list[Box]:
    """The pictures in a figure: its parts that are about square,
    filled and of one size; words and curves are not."""
    ink = (np.asarray(figure) < WHITE).any(2)
    found = []
    for box in parts(ink, Box(0, 0, *figure.size)):
        filled = ink[box.top : box.bottom, box.left : box.right].mean()
        if 0.7 < box.width / box.height < 1.5 and filled > 0.4:
            found.append(box)
    largest = max((box.height for box in found), default=0)
    return [box for box in found if box.height > max(0.8 * largest, LEAST)]


def lines(boxes: list[Box]) -> list[list[Box]]:
    """Boxes row by row, from the left."""
    found: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box.top):
        if not found or box.top > found[-1][0].top + box.height / 2:
            found.append([])
        found[-1].append(box)
    return [sorted(row) for row in found]


def square(figure: Image.Image, box: Box, width: int, height: int) -> Image.Image:
    """A box at another size, cut to its shape left and right, or above, where titles
    are."""
    scale = min(box.width / width, box.height / height)
    # Rounding may leave a box by less than a millionth of a pixel.
    left = max(0.0, (box.left + box.right - scale * width) / 2)
    top = max(0.0, box.bottom - scale * height)
    right = min(float(figure.width), left + scale * width)
    around = (left, top, right, box.bottom)
    small = max(box.width, box.height) < ENLARGED
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return figure.resize((width, height), how, around)


def composed(figure: Image.Image) -> Image.Image:
    """A square of one picture of a figure, of the halves of two, or of four."""
    boxes = panels(figure) or [Box(0, 0, *figure.size)]
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    half = SIDE // 2
    if len(boxes) == 1:
        return square(figure, boxes[0], SIDE, SIDE)
    if len(boxes) < 4:
        whole = [square(figure, box, SIDE, SIDE) for box in (boxes[0], boxes[-1])]
        sheet.paste(whole[0].crop((0, 0, half - 1, SIDE)))
        sheet.paste(whole[1].crop((half + 1, 0, SIDE, SIDE)), (half + 1, 0))
        return sheet
    wide = [row[:2] for row in lines(boxes) if len(row) > 1]
    four = [*wide[0], *wide[1]] if len(wide) > 1 else boxes[:4]
    for place, box in enumerate(four):
        corner = (place % 2 * (half + 1), place // 2 * (half + 1))
        sheet.paste(square(figure, box, half - 1, half - 1), corner)
    return sheet


def thumbnail(data: bytes) -> bytes:
    """A figure's square as WebP of at most ``MOST`` bytes, coarser until it fits.

    Args:
        data: an image file.
    """
    sheet = composed(Image.open(io.BytesIO(data)).convert("RGB"))
    for side in (SIDE, 160, 128):
        sheet = sheet.resize((side, side))
        for quality in (75, 60, 45, 30):
            buffer = io.BytesIO()
            sheet.save(buffer, "WEBP", quality=quality, method=6)
            if buffer.tell() <= MOST:
                return buffer.getvalue()
    return buffer.getvalue()
