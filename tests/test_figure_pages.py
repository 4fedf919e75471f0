"""How a stored figure becomes one of the page."""

import base64
import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import figures  # noqa: E402

from papernets_lite.panels import panels  # noqa: E402


def drawn(*boxes: str, content: str = "") -> str:
    groups = "".join(
        f'<g data-panel="1" data-box="{box}">{content}</g>' for box in boxes
    )
    style = ".kabcd0{font-size:10px;fill:#24292f}.kabcd1{fill:#FFFFFF;stroke:#0072b2}"
    space = 'xmlns="http://www.w3.org/2000/svg"'
    return f"<svg {space}><title>t</title><style>{style}</style>{groups}</svg>"


def test_a_caption_is_a_sentence() -> None:
    assert figures.caption("loss < 1 falls ") == "Loss &lt; 1 falls."
    assert figures.caption("Is it so?") == "Is it so?"


def test_panels_stand_in_their_rows_and_words_never_shrink_too_far() -> None:
    word = '<text class="kabcd0">a</text>'
    svg = drawn("150 0 90 60", "0 3 90 60", "0 70 300 20", content=word)
    page = panels(svg, "f7-")
    rows = page.split('<div class="pn-row">')[1:]
    assert [row.count("<svg ") for row in rows] == [2, 1]
    views = re.findall(r'viewBox="([^"]+)"', page)
    assert views[0] == "0.0 0.0 90.0 63.0"  # as high as its neighbour, so aligned
    least = float(re.findall(r"min-width:(\d+)px", rows[1])[0])
    assert 10 / 0.75 * least / 400 == pytest.approx(11, abs=0.05)
    assert "kabcd" not in page
    assert 'class="f7-0"' in page


def test_a_drawing_takes_the_pages_ink() -> None:
    page = figures.figure(drawn("0 0 9 9"), "words", 2)
    assert "fill:var(--pn-ink)" in page
    assert "fill:var(--pn-paper);stroke:var(--pn-c0)" in page
    assert 'aria-labelledby="figure-2-words"' in page
    assert 'href="#figure-2"' in page


def test_the_pictures_of_a_drawing_make_a_cover() -> None:
    assert figures.picture(drawn("0 0 9 9")) is None
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(buffer, "WEBP", lossless=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    at = 'x="30" y="6" width="15" height="15"'
    image = f'<image {at} href="data:image/webp;base64,{data}"/>'
    sheet = Image.open(io.BytesIO(figures.picture(drawn("0 0 9 9", content=image))))
    assert sheet.size == (20, 20)
    assert sheet.getpixel((10, 10)) == (255, 0, 0)
