"""What is asked in a page's two visits. Each check returns what is wrong, in words; an
empty list is a pass."""

import gzip
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Locator

from . import chapters
from .conftest import CHAPTERS, HTML, PAGES, ROOT, Visit

BUDGET = 700_000  # bytes of a page and all that it loads, gzipped
BUDGETS = {PAGES[0]: 500_000}
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
Check = Callable[[Visit], list[str]]
Open = Callable[..., Visit]


def theme(wanted: str) -> Check:
    """The page follows the system's colours."""

    def check(seen: Visit) -> list[str]:
        found = seen.page.evaluate("document.documentElement.dataset.theme")
        return [] if found == wanted else [f"the theme is {found}, not {wanted}"]

    return check


def nothing_cut(width: int) -> Check:
    """The page is no wider than a window of ``width`` pixels, which it then keeps."""

    def check(seen: Visit) -> list[str]:
        seen.page.set_viewport_size({"width": width, "height": 900})
        reach = seen.page.evaluate("document.documentElement.scrollWidth")
        return [] if reach <= width else [f"{reach} px wide in a window of {width}"]

    return check


FORMULAS = """
const columnOf = (formula) => {
    let box = formula.closest("table") ?? formula;
    do box = box.parentElement; while (getComputedStyle(box).display === "inline");
    return box;
};
const closed = [...document.querySelectorAll("details:not([open])")];
closed.forEach((box) => { box.open = true; });
const wide = [...document.querySelectorAll("math")].flatMap((formula) => {
    const column = columnOf(formula), style = getComputedStyle(column);
    const room = column.clientWidth
        - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const width = formula.getBoundingClientRect().width;
    const said = `${formula.textContent}: ${width} px, room for ${room}`;
    return width > room + 0.5 ? [said] : [];
});
closed.forEach((box) => { box.open = false; });
return wide;
"""


def formulas_fit(seen: Visit) -> list[str]:
    """No formula is wider than the column that it stands in: none is cut, none has to
    be scrolled."""
    return list(seen.run(FORMULAS))


CODE = """
const closed = [...document.querySelectorAll("details:not([open])")];
closed.forEach((box) => { box.open = true; });
const found = [...document.querySelectorAll(".bd-article pre")].flatMap((block) => {
    if (block.closest(".stream, .text_plain")) return [];
    const isCode = !block.closest(".highlight-bibtex");
    const lines = isCode ? block.textContent.split("\\n") : [];
    const long = lines.filter((line) => line.length > 88);
    const cut = block.scrollWidth > block.clientWidth + 1;
    return [...long, ...(cut ? [`scrolls: ${block.textContent.slice(0, 90)}`] : [])];
});
closed.forEach((box) => { box.open = false; });
return found;
"""


def code_fits(seen: Visit) -> list[str]:
    """No line of code has more than 88 columns, and no block of it has to be scrolled
    sideways."""
    return list(seen.run(CODE))


STOPS = """
const ours = "a, button, input, select, summary, [role=slider], [role=button]";
return [...document.querySelectorAll("[tabindex]")].filter((node) => {
    if (node.tabIndex < 0 || !node.checkVisibility()) return false;
    const style = getComputedStyle(node);
    const moves = (way) => ["auto", "scroll"].includes(style[`overflow${way}`]);
    return node.tabIndex > 0 || !(node.matches(ours)
        || (moves("X") && node.scrollWidth > node.clientWidth)
        || (moves("Y") && node.scrollHeight > node.clientHeight));
}).map((node) => node.outerHTML.slice(0, 120));
"""


def tab_stops(seen: Visit) -> list[str]:
    """The tabulator stops at what can be used or scrolled, nowhere else, in the order
    of the page."""
    return list(seen.run(STOPS))


def skip_link(seen: Visit) -> list[str]:
    """The first stop is a link that is seen, and leads past the navigation."""
    at = "document.activeElement"
    if seen.page.evaluate(f"{at}.matches('input')"):
        return []  # the page of search begins in its field
    seen.page.keyboard.press("Tab")
    said = seen.page.evaluate(f"{at}.textContent.trim()")
    if said != "Skip to main content":
        return [f"the first stop is {said!r}"]
    seen.page.wait_for_timeout(300)  # it slides in
    if seen.page.evaluate(f"{at}.getBoundingClientRect().top") < 0:
        return ["the skip link stays above the window"]
    seen.page.keyboard.press("Enter")
    seen.page.keyboard.press("Tab")
    if not seen.page.evaluate(f"!!{at}.closest('main')"):
        return [f"after it comes {seen.page.evaluate(f'{at}.outerHTML')[:120]}"]
    return []


ONE_OF_EACH = """
const kinds = new Set();
document.querySelectorAll("pre span:not(:has(*))").forEach((word) => {
    const box = word.closest("pre").parentElement;
    const kind = `${word.className} in ${box.className}`;
    if (kinds.has(kind)) word.replaceWith(word.textContent);
    kinds.add(kind);
});
"""


def accessible(seen: Visit) -> list[str]:
    """What axe-core calls serious or critical, with the elements. Of a page's thousands
    of coloured words of code the first of each colour speaks for all: weighing the
    contrast of every one would take three quarters of the time."""
    seen.run(ONE_OF_EACH)
    if not seen.page.evaluate("!!window.axe"):
        seen.page.evaluate(f"() => {{ {AXE.read_text(encoding='utf-8')} }}")
    options = "{ resultTypes: ['violations'], preload: false }"
    found = seen.run(f"return axe.run({options})")["violations"]
    wrong = []
    for rule in found:
        if rule["impact"] in ("serious", "critical"):
            elements = [node["html"][:120] for node in rule["nodes"][:5]]
            wrong.append(f"{rule['id']}: {elements}")
    return wrong


def light(path: str) -> Check:
    """A page that was scrolled through weighs at most 700 KB gzipped, the first one
    500 KB."""

    def check(seen: Visit) -> list[str]:
        # Weighed from the disk: asking the browser for the body of a response that it
        # no longer keeps may never end.
        sent = {}
        for response in seen.responses:
            if response.ok and response.url.startswith(seen.base):
                file = HTML / unquote(urlsplit(response.url).path).lstrip("/")
                sent[response.url] = len(gzip.compress(file.read_bytes()))
        total = sum(sent.values())
        if total <= BUDGETS.get(path, BUDGET):
            return []
        largest = sorted(sent.items(), key=lambda item: -item[1])[:5]
        return [f"{total / 1000:.0f} KB gzipped; the largest: {largest}"]

    return check


def own(seen: Visit) -> list[str]:
    """Nothing is asked for that draws the widgets of Jupyter's own front ends or sets
    formulas: both need megabytes."""
    urls = [response.url for response in seen.responses]
    return [url for url in urls if re.search("html-manager|embed|require|mathjax", url)]


def still(open_again: Callable[[], Visit]) -> Check:
    """The page does not jump while it loads: less than 0.1 of the window's area,
    weighted by distance, the usual "good". On a busy machine a page may be drawn before
    all of it has come; one that jumps by itself does so every time."""

    def check(seen: Visit) -> list[str]:
        if seen.page.evaluate("shifted") < 0.1:
            return []
        for _ in range(2):
            with open_again() as again:
                again.settle()
                if again.page.evaluate("shifted") < 0.1:
                    return []
                moved = again.page.evaluate("moved")
        return [f"jumps while it loads: {moved}"]

    return check


def shown(widget: Locator) -> tuple[str | None, str | None]:
    """Source of the picture that a widget shows now, and the sentence below it."""
    drawing = widget.locator(".pn-drawn")
    if drawing.count():
        source: str | None = drawing.inner_html()
    else:
        source = widget.locator("img:visible").first.get_attribute("src")
    return source, widget.locator("figcaption").inner_text()


def changed(
    widget: Locator, before: tuple[str | None, str | None], action: str
) -> tuple[str | None, str | None]:
    """The picture after it became another one.

    Raises:
        AssertionError: when it stays for three seconds.
    """
    for _ in range(60):
        if (now := shown(widget)) != before:
            return now
        widget.page.wait_for_timeout(50)
    raise AssertionError(f"the picture stayed the same after {action}: {before[1]}")


def scrubbers(seen: Visit) -> list[str]:
    """Films move by keyboard, every frame has a sentence of its own, and Play
    plays."""
    for scrubber in seen.page.locator(".pn-scrubber").all():
        handle = scrubber.locator("input[type=range]")
        last = int(handle.get_attribute("max"))
        handle.focus()
        seen.page.keyboard.press("Home")
        pictures = [shown(scrubber)]
        for _ in range(last):
            seen.page.keyboard.press("ArrowRight")
            pictures.append(changed(scrubber, pictures[-1], "ArrowRight"))
        sources, descriptions = zip(*pictures, strict=True)
        assert len(set(descriptions)) == last + 1, "two frames share a sentence"
        assert len(set(sources)) > 1
        seen.page.keyboard.press("Home")
        first = changed(scrubber, pictures[-1], "Home")
        play = scrubber.locator(".pn-play")
        icon = play.locator("svg").bounding_box()
        assert icon, "the play button shows no icon"
        assert min(icon["width"], icon["height"]) > 4
        play.focus()
        seen.page.keyboard.press("Enter")
        changed(scrubber, first, "Play")
        play.press("Enter")  # pause, so that the next one is watched alone
    return []


def pickers(seen: Visit) -> list[str]:
    """Every button and every slider changes the picture, by keyboard."""
    for picker in seen.page.locator(".pn-picker").all():
        for button in picker.locator(".pn-options input:not(:checked)").all():
            before = shown(picker)
            button.focus()
            seen.page.keyboard.press("Space")
            changed(picker, before, "Space")
        for handle in picker.locator("input[type=range]").all():
            before = shown(picker)
            handle.focus()
            seen.page.keyboard.press("ArrowRight")
            changed(picker, before, "ArrowRight")
    return []


def captions(seen: Visit) -> list[str]:
    """Each widget's picture has the sentence below it for a name, which a screen reader
    gets once, and room for its longest one."""
    wrong = []
    for widget in seen.page.locator(".pn-frames").all():
        caption = widget.locator("figcaption")
        words = caption.inner_text()
        if not widget.get_by_role("figure", name=words, exact=True).count():
            wrong.append(f"the picture's name is not: {words}")
        image = widget.locator("img")
        if image.count() and image.get_attribute("alt"):
            wrong.append(f"read twice: {words}")
        room = caption.bounding_box()["height"]
        widget.locator("input[type=range], input:not(:checked)").last.press("Space")
        widget.locator("input[type=range], input:not(:checked)").last.press("End")
        if caption.bounding_box()["height"] != room:
            wrong.append(f"the page moves when this sentence goes: {words}")
    return wrong


def line_integrals(seen: Visit) -> list[str]:
    """The ends of a segment, its candidates and the choice of limbs answer the
    keyboard."""
    for widget in seen.page.locator(".pn-line-integral").all():
        words, line = widget.locator(".pn-li-words"), widget.locator(".pn-li-segment")
        said, end = words.inner_text(), line.get_attribute("x2")
        widget.locator(".pn-li-handle").last.focus()
        for _ in range(8):
            seen.page.keyboard.press("ArrowRight")
        moved = line.get_attribute("x2")
        assert moved != end, "the end stayed"
        assert words.inner_text() != said, "the words stayed"
        widget.locator(".pn-li-candidate.pn-li-end1").last.focus()
        seen.page.keyboard.press("Enter")
        assert line.get_attribute("x2") != moved, "the candidate was not taken"
        widget.locator("select").focus()
        scene = widget.locator(".pn-li-arrows").inner_html()
        seen.page.keyboard.press("ArrowDown")
        assert widget.locator(".pn-li-arrows").inner_html() != scene, (
            "the arrows stayed"
        )
    return []


def guesses(seen: Visit) -> list[str]:
    """Of a question's choices the keyboard opens each, and its reply alone is shown."""
    wrong = []
    for guess in seen.page.locator(".pn-guess").all():
        for choice in guess.locator("details").all():
            choice.locator("summary").press("Enter")
            opened = guess.locator("details[open]")
            alone = opened.count() == 1 and choice.get_attribute("open") is not None
            if not alone:
                wrong.append(f"not opened alone: {choice.inner_text()}")
    return wrong


def quiet(seen: Visit) -> list[str]:
    """No error in the console, no failed request, none off the site."""
    return list(seen.problems)


def said(error: Exception) -> list[str]:
    """A complaint about what ended a check."""
    return [f"{type(error).__name__}: {error}"]


def asked(
    opened: Callable[[], Visit], checks: dict[str, Check]
) -> dict[str, list[str]]:
    """Each check's complaints; one that ends in an error complains of that, and all do
    where the page does not open."""
    found = {}
    try:
        with opened() as seen:
            seen.settle()
            for name, check in checks.items():
                try:
                    found[name] = check(seen)
                except Exception as error:  # the other checks are made all the same
                    found[name] = said(error)
    except Exception as error:
        found = {name: said(error) for name in checks} | found
    return found


def on_a_desk(visit: Open, path: str) -> dict[str, list[str]]:
    """The page at 1280 pixels in the light, moved by keyboard, then made narrow."""
    checks: dict[str, Check] = {
        "theme, light": theme("light"),
        "jumps": still(lambda: visit(path)),
        "skip link": skip_link,
        "weight": light(path),
    }
    if path in CHAPTERS:
        checks |= {
            "hero": chapters.opens_on_its_hero,
            "listings": chapters.listings_are_spoken_of,
            "wordy rows at 1280": chapters.wordy_rows_are_rows,
            "figures at 1280": chapters.figures_can_be_read,
        }
    checks |= {
        "its own scripts": own,
        "cut at 1280, light": nothing_cut(1280),
        "formulas at 1280": formulas_fit,
        "code at 1280": code_fits,
        "tab stops at 1280": tab_stops,
        "axe at 1280, light": accessible,
        "scrubbers": scrubbers,
        "pickers": pickers,
        "captions": captions,
        "guesses": guesses,
        "line integrals": line_integrals,
        "cut at 390, light": nothing_cut(390),
        "problems, light": quiet,
    }
    return asked(lambda: visit(path), checks)


def on_a_phone(visit: Open, path: str) -> dict[str, list[str]]:
    """The page at 390 pixels in the dark, then made wide, then printed."""
    checks: dict[str, Check] = {"theme, dark": theme("dark")}
    if path in CHAPTERS:
        checks |= {
            "wordy rows at 390": chapters.wordy_rows_are_cards,
            "figures at 390": chapters.figures_can_be_read,
            "figures' ink": chapters.figures_follow_the_theme,
        }
    checks |= {
        "cut at 390, dark": nothing_cut(390),
        "formulas at 390": formulas_fit,
        "axe at 390, dark": accessible,
        "tab stops at 390": tab_stops,
        "cut at 1280, dark": nothing_cut(1280),
        "problems, dark": quiet,
    }
    if path in chapters.PRINTED:
        checks["printed"] = lambda seen: chapters.prints(path, seen)
    return asked(lambda: visit(path, width=390, theme="dark"), checks)
