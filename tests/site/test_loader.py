"""What ``book/_static/widgets.js`` makes of the widgets' stored state, without a site:
small widgets in a page of their own."""

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import ROOT

pytestmark = pytest.mark.site
Open = Callable[..., Page]
LOADER = ROOT / "book" / "_static" / "widgets.js"
TYPE = "application/vnd.jupyter.widget"
COUNTER = """
export default { render({ model, el }) {
    const button = document.createElement("button");
    const show = () => { button.textContent = model.get("count"); };
    button.onclick = () => {
        model.set("count", model.get("count") + 1);
        model.save_changes();
    };
    model.on("change:count", show);
    show();
    el.append(button);
} };
"""
READER = """
export default () => ({ render({ model, el }) {
    const views = [model.get("bytes"), model.get("list")[1].bytes];
    const values = views.map((view) => [...new Uint8Array(view.buffer)]);
    el.textContent = JSON.stringify(values);
} });
"""

STILL = '<figure class="pn-preview"><figcaption>A card.</figcaption></figure>'


def model(script: str, **state: object) -> dict:
    """A widget's model as it is stored."""
    common = {"_esm": script, "_css": "button { color: red }", "_dom_classes": ["own"]}
    return {"model_name": "AnyModel", "state": common | state}


@pytest.fixture
def show(browser: Browser) -> Iterator[Open]:
    """Opens a page that shows the named ones of some models, each in a place."""
    context = browser.new_context(viewport={"width": 600, "height": 800})

    def go(
        models: dict[str, dict], views: list[str], room: str = "", still: str = ""
    ) -> Page:
        parts = []
        for name in views:
            view = json.dumps({"model_id": name})
            script = f'<script type="{TYPE}-view+json">{view}</script>'
            parts.append(f'<div class="place" style="{room}">{still}{script}</div>')
        state = json.dumps({"state": models})
        parts.append(f'<script type="{TYPE}-state+json">{state}</script>')
        loader = f"<script>{LOADER.read_text(encoding='utf-8')}</script>"
        page = context.new_page()
        page.set_content(f"<main>{''.join(parts)}</main>{loader}")
        return page

    yield go
    context.close()


def test_a_widget_that_is_shown_twice_is_one_model(show: Open) -> None:
    page = show({"a": model(COUNTER, count=3)}, ["a", "a"])
    buttons = page.locator(".own button")
    expect(buttons).to_have_count(2)
    first, second = buttons.first, buttons.last
    first.click()
    expect(first).to_have_text("4")
    expect(second).to_have_text("4")
    assert page.locator("style").count() == 1
    assert not page.locator(".pn-waiting").count()


def test_bytes_return_to_their_places(show: Open) -> None:
    stored = model(READER, list=[0, {}])
    stored["buffers"] = [
        {"encoding": "base64", "path": ["bytes"], "data": "AQID"},
        {"encoding": "hex", "path": ["list", 1, "bytes"], "data": "00ff"},
    ]
    page = show({"a": stored}, ["a"])
    expect(page.locator(".own")).to_have_text("[[1,2,3],[0,255]]")


def test_a_widget_waits_until_it_comes_near(show: Open) -> None:
    models = {name: model(COUNTER, count=0) for name in "ab"}
    page = show(models, ["a", "b"], "min-height: 2000px")
    last = page.locator(".place").last
    expect(page.locator(".own").first).to_be_visible()
    assert last.evaluate("place => place.matches('.pn-waiting')")
    last.scroll_into_view_if_needed()
    expect(last.locator(".own button")).to_have_text("0")


def test_the_pages_opening_picture_stands_until_the_widget_comes(show: Open) -> None:
    models = {name: model(COUNTER, count=0) for name in "ab"}
    page = show(models, ["a", "b"], "min-height: 2000px", STILL)
    near, far = page.locator(".place").all()
    expect(near.locator(".own button")).to_have_text("0")
    expect(near.locator("figure")).to_have_count(0)
    expect(far.locator("figure")).to_have_text("A card.")
    far.scroll_into_view_if_needed()
    expect(far.locator(".own button")).to_have_text("0")
    expect(far.locator("figure")).to_have_count(0)


@pytest.mark.parametrize("broken", [{}, {"_esm": "export default {"}])
def test_what_cannot_be_drawn_says_so(show: Open, broken: dict) -> None:
    lame = model(COUNTER, count=1)
    lame["state"] |= {"_esm": None} | broken
    page = show({"lame": lame, "sound": model(COUNTER, count=1)}, ["lame", "sound"])
    expect(page.locator(".own button")).to_have_text("1")
    place = page.locator(".place").first
    expect(place).to_have_attribute(
        "data-failed", "The interactive figure did not load."
    )
