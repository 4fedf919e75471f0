"""The built site as a reader has it: in Chromium, light and dark, wide and narrow, by
mouse and by keyboard."""

import gzip
import json
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Locator, expect

from .conftest import CHAPTERS, HTML, PAGES, ROOT, WIDGETS, Visit

pytestmark = pytest.mark.site
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
Open = Callable[..., Visit]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", [*PAGES, "search.html", "genindex.html"])
def test_page_loads_cleanly_fits_and_is_accessible(
    visit: Open, path: str, theme: str
) -> None:
    seen = visit(path, theme=theme)
    seen.settle()
    assert seen.page.evaluate("document.documentElement.dataset.theme") == theme
    for width in (390, 1280) if theme == "light" else (1280, 390):
        seen.page.set_viewport_size({"width": width, "height": 900})
        reach = seen.page.evaluate("document.documentElement.scrollWidth")
        assert reach <= width, f"{path} is {reach} px wide in a window of {width}"
    # the theme makes what scrolls focusable once the window has kept its size a while
    seen.page.wait_for_timeout(500)
    found = violations(seen)
    assert not found, f"axe at {width} px, {theme}: {found}"
    assert not seen.problems


def violations(seen: Visit) -> list[str]:
    """What axe-core calls serious or critical, with the elements."""
    if not seen.page.evaluate("!!window.axe"):
        # Not as a script tag: where RequireJS is loaded, axe would register with it
        # instead of with the window.
        seen.page.evaluate(
            f"() => {{ const define = undefined, module = undefined; {AXE.read_text()} }}"
        )
    run = "axe.run({ resultTypes: ['violations'], preload: false })"
    late = "new Promise((_, fail) => setTimeout(() => fail(new Error('axe took two minutes')), 120_000))"
    found = seen.page.evaluate(f"() => Promise.race([{run}, {late}])")["violations"]
    return [
        f"{rule['id']}: {[node['html'][:120] for node in rule['nodes'][:5]]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("path", PAGES)
def test_page_is_light_and_loads_widgets_late(visit: Open, path: str) -> None:
    seen = visit(path)
    seen.settle()
    lazy = f"{seen.base}vendor/"  # the widget bundle
    has_widgets = seen.page.locator(WIDGETS).count() > 0
    assert (
        any(response.url.startswith(lazy) for response in seen.responses) == has_widgets
    )
    # Weighed from the disk: asking the browser for the body of a response that it no
    # longer keeps may never end.
    urls = {
        r.url
        for r in seen.responses
        if r.ok and r.url.startswith(seen.base) and not r.url.startswith(lazy)
    }
    files = {url: HTML / unquote(urlsplit(url).path).lstrip("/") for url in urls}
    sent = {url: len(gzip.compress(file.read_bytes())) for url, file in files.items()}
    total = sum(sent.values())
    largest = sorted(sent.items(), key=lambda item: -item[1])[:5]
    assert total <= 1.5e6, (
        f"{path}: {total / 1e6:.2f} MB gzipped; the largest: {largest}"
    )


@pytest.mark.parametrize("path", PAGES)
def test_page_does_not_jump(visit: Open, path: str) -> None:
    # On a busy machine a page may be drawn before all of it has come; one that jumps by
    # itself does so every time.
    for _ in range(3):
        seen = visit(path)
        # Formulas are set before anybody has scrolled to them; settle() would be faster
        # than that.
        late = "new Promise((go) => setTimeout(go, 60_000))"  # a promise has no timeout
        seen.page.evaluate(
            f"async () => {{ await Promise.race([window.MathJax?.startup?.promise, {late}]); }}"
        )
        seen.settle()
        # of the window's area, weighted by distance: the usual "good"
        if seen.page.evaluate("shifted") < 0.1:
            return
    pytest.fail(f"{path} jumps while it loads: {seen.page.evaluate('moved')}")


def shown(widget: Locator) -> tuple[str, str]:
    """Source and description of the picture that a widget shows now."""
    image = widget.locator("img:visible").first
    return image.get_attribute("src"), image.get_attribute("alt")


def until_changed(
    widget: Locator, before: tuple[str, str], action: str
) -> tuple[str, str]:
    """The picture after it became another one; fails if it stays."""
    for _ in range(60):
        if (now := shown(widget)) != before:
            return now
        widget.page.wait_for_timeout(50)
    pytest.fail(f"the picture stayed the same after {action}: {before[1]}")


@pytest.mark.parametrize("path", CHAPTERS)
def test_scrubbers_move_by_keyboard_and_by_play(visit: Open, path: str) -> None:
    seen = visit(path)
    seen.settle()
    for scrubber in seen.page.locator(".pn-scrubber").all():
        handle = scrubber.locator("input[type=range]")
        last = int(handle.get_attribute("max"))
        handle.focus()
        seen.page.keyboard.press("Home")
        pictures = [shown(scrubber)]
        for _ in range(last):
            seen.page.keyboard.press("ArrowRight")
            pictures.append(until_changed(scrubber, pictures[-1], "ArrowRight"))
        assert len({alt for _, alt in pictures}) == last + 1, (
            "every frame has a description of its own"
        )
        assert len({src for src, _ in pictures}) > 1
        seen.page.keyboard.press("Home")
        first = until_changed(scrubber, pictures[-1], "Home")
        play = scrubber.locator(".pn-play")
        icon = play.locator("svg").bounding_box()
        assert icon, "the play button shows no icon"
        assert min(icon["width"], icon["height"]) > 4
        play.focus()
        seen.page.keyboard.press("Enter")
        until_changed(scrubber, first, "Play")
        play.press("Enter")  # pause, so that the next one is watched alone
    assert not seen.problems


@pytest.mark.parametrize("path", CHAPTERS)
def test_pickers_change_the_picture_by_keyboard(visit: Open, path: str) -> None:
    seen = visit(path)
    seen.settle()
    for picker in seen.page.locator(".pn-picker").all():
        for button in picker.locator(".pn-options input:not(:checked)").all():
            before = shown(picker)
            button.focus()
            seen.page.keyboard.press("Space")
            until_changed(picker, before, "Space")
        for handle in picker.locator("input[type=range]").all():
            before = shown(picker)
            handle.focus()
            seen.page.keyboard.press("ArrowRight")
            until_changed(picker, before, "ArrowRight")
    assert not seen.problems


@pytest.mark.parametrize("path", CHAPTERS)
def test_line_integrals_answer_the_keyboard(visit: Open, path: str) -> None:
    seen = visit(path)
    seen.settle()
    for widget in seen.page.locator(".pn-line-integral").all():
        words, line = widget.locator(".pn-li-words"), widget.locator(".pn-li-segment")
        before = words.inner_text(), line.get_attribute("x2")
        widget.locator(".pn-li-handle").last.focus()
        for _ in range(8):
            seen.page.keyboard.press("ArrowRight")
        assert line.get_attribute("x2") != before[1]
        assert words.inner_text() != before[0]
        candidate = widget.locator(".pn-li-candidate.pn-li-end1").last
        moved = line.get_attribute("x2")
        candidate.focus()
        seen.page.keyboard.press("Enter")
        expect(line).not_to_have_attribute("x2", moved)
        widget.locator("select").focus()
        scene = widget.locator(".pn-li-arrows").inner_html()
        seen.page.keyboard.press("ArrowDown")
        assert widget.locator(".pn-li-arrows").inner_html() != scene
    assert not seen.problems


def test_every_kind_of_widget_is_in_the_book(visit: Open) -> None:
    kinds = dict.fromkeys(WIDGETS.split(", "), 0)
    for path in CHAPTERS:
        seen = visit(path)
        seen.settle()
        for kind in kinds:
            kinds[kind] += seen.page.locator(kind).count()
    assert all(kinds.values()), f"the tests above would pass over nothing: {kinds}"


@pytest.mark.parametrize("path", CHAPTERS)
def test_search_finds_the_chapter(visit: Open, path: str) -> None:
    notebook = json.loads((ROOT / path).with_suffix(".ipynb").read_text())
    title = (
        "".join(notebook["cells"][0]["source"])
        .splitlines()[0]
        .lstrip("# ")
        .split(":")[0]
    )
    seen = visit(f"search.html?q={title}")
    expect(seen.page.locator(f"#search-results a[href*='{path}']").first).to_be_visible(
        timeout=20_000
    )
    assert not seen.problems
