"""Figures in the page: numbered, captioned, and larger on a click. That their words can
be read however narrow the window is looked at in ``examine.py``."""

import json
import re
from collections.abc import Callable

import pytest

from .conftest import CHAPTERS, HTML, ROOT, Visit

pytestmark = pytest.mark.site
SVG = "image/svg+xml"
VIEW = "application/vnd.jupyter.widget-view+json"


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
