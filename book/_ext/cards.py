"""The picture that other sites show beside a link to a chapter."""

import io
import textwrap
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

SIZE = 1200, 630  # what such sites ask for
GROUND, INK, MUTED = "#f3f7fa", "#24272f", "#575e6b"  # as book/_static/card.png
EDGE = 60
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib."""
    return ImageFont.truetype(FONTS / f"{name}.ttf", size)


def card(title: str, book: str, picture: bytes) -> Image.Image:
    """A chapter's picture, its title below, and the book's name.

    Args:
        title: of the chapter.
        book: its name.
        picture: an image file.
    """
    sheet = Image.new("RGB", SIZE, GROUND)
    pen = ImageDraw.Draw(sheet)
    bold = font("DejaVuSans-Bold", 46)
    lines = "\n".join(textwrap.wrap(title, 40))
    _, top, _, bottom = pen.multiline_textbbox((0, 0), lines, bold, spacing=14)
    above = SIZE[1] - EDGE - 40 - (bottom - top)  # where the title begins
    pen.multiline_text((EDGE, above - top), lines, INK, bold, spacing=14)
    pen.text((EDGE, SIZE[1] - 62), book, MUTED, font("DejaVuSans", 28))

    shown = Image.open(io.BytesIO(picture)).convert("RGB")
    room = SIZE[0] - 2 * EDGE, int(above) - EDGE - 36
    scale = min(room[0] / shown.width, room[1] / shown.height)
    shown = shown.resize((round(scale * shown.width), round(scale * shown.height)))
    sheet.paste(shown, (EDGE, EDGE - 20))
    return sheet
