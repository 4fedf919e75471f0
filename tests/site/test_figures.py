"""Figures in the page: numbered, captioned, legible however narrow the window, in the
theme's ink, and larger on a click."""

import json
import re
from collections.abc import Callable

import pytest

from .conftest import CHAPTERS, HTML, ROOT, Visit, wanted

pytestmark = pytest.mark.site
SVG = "image/svg+xml"
VIEW = "application/vnd.jupyter.widget-view+json"
PICTURE = 95  # pixels: how wide a picture of a world is at least
MARK = 30  # up to here it is a mark or the scale of colours, not a picture
WORDS = 10.9  # pixels: the smallest type
LOOK = """
const rows = [];
for (const text of document.querySelectorAll(".pn-figure svg text")) {
    const drawing = text.ownerSVGElement.getBoundingClientRect();
    const box = text.getBoundingClientRect();
    const scale = text.getScreenCTM();
    const size = parseFloat(getComputedStyle(text).fontSize);
    rows.push({
        words: text.textContent,
        size: size * Math.hypot(scale.a, scale.b),
        out: Math.max(drawing.left - box.left, box.right - drawing.right,
                      drawing.top - box.top, box.bottom - drawing.bottom),
        fill: getComputedStyle(text).fill,
    });
}
return rows;
"""
PICTURES = """
return [...document.querySelectorAll(".pn-figure svg image")].map(
    (one) => [one.closest("figure").id, one.getBoundingClientRect().width]);
"""


def outputs(name: str) -> list[dict]:
    """Figures and widgets of a chapter, in their order."""
    source = (ROOT / name).with_suffix(".ipynb").read_text(encoding="utf-8")
    cells = json.loads(source)["cells"]
    every = [one.get("data", {}) for cell in cells for one in cell.get("outputs", [])]
    return [data for data in every if SVG in data or VIEW in data]


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_are_numbered_and_named_in_their_order(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    ids = re.findall(r'id="(figure-\d+)"', page)
    count = len(outputs(name))
    assert ids == [f"figure-{number + 1}" for number in range(count)]
    assert page.count('<figure class="pn-figure"') == sum(
        SVG in data for data in outputs(name)
    )
    assert page.count(", interactive</p>") == sum(VIEW in d for d in outputs(name))
    every = re.findall(r'\sid="([^"]+)"', page)
    twice = {one for one in every if every.count(one) > 1}
    assert not {one for one in twice if re.match(r"f\d+-|figure-", one)}


@pytest.mark.parametrize("name", wanted(CHAPTERS))
def test_figures_can_be_read_wide_and_narrow_light_and_dark(
    visit: Callable[..., Visit], name: str
) -> None:
    seen_in = {}
    for width, theme in ((1280, "light"), (390, "dark")):
        with visit(name, width=width, theme=theme) as seen:
            found = seen.run(LOOK)
            where = f"{name} at {width}"
            small = [one["words"] for one in found if one["size"] < WORDS]
            assert not small, f"{where}: words that are too small: {small[:5]}"
            cut = [w for one in found if one["out"] > 6 and (w := one["words"].strip())]
            assert not cut, f"{where}: words beyond their drawing: {cut[:5]}"
            seen_in[theme] = [one["fill"] for one in found]
            narrow = [one for one in seen.run(PICTURES) if MARK < one[1] < PICTURE]
            assert not narrow, f"{where}: narrow pictures: {narrow[:5]}"
    if seen_in["light"]:
        assert seen_in["light"] != seen_in["dark"], "words keep their ink in the dark"


def test_a_figure_is_enlarged_by_mouse_and_keyboard(
    visit: Callable[..., Visit],
) -> None:
    name = next(one for one in CHAPTERS if any(SVG in data for data in outputs(one)))
    with visit(name) as seen:
        page = seen.page
        drawing = page.locator(".pn-figure svg").first
        before = drawing.bounding_box()["width"]
        drawing.click()
        assert page.locator("dialog.pn-large[open] svg").count()
        larger = page.locator("dialog.pn-large svg").first.bounding_box()["width"]
        assert larger > 1.3 * before
        page.keyboard.press("Escape")
        page.locator("dialog.pn-large").wait_for(state="detached")
        assert drawing.bounding_box()["width"] == pytest.approx(before, abs=1)
        button = page.locator(".pn-enlarge").first
        button.focus()
        page.keyboard.press("Enter")
        page.locator("dialog.pn-large[open]").wait_for()
        page.keyboard.press("Enter")  # its first button closes it
        page.locator("dialog.pn-large").wait_for(state="detached")
        assert button.evaluate("(one) => one === document.activeElement")
        assert not seen.problems
