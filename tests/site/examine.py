"""What is asked in a page's two visits. Each check returns what is wrong, in words; an
empty list is a pass."""

import gzip
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Locator

from .conftest import HTML, ROOT, WIDGETS, Visit

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


def accessible(seen: Visit) -> list[str]:
    """What axe-core calls serious or critical, with the elements."""
    # the theme makes what scrolls focusable once the window has kept its size a while
    seen.page.wait_for_timeout(500)
    if not seen.page.evaluate("!!window.axe"):
        # Not as a script tag: where RequireJS is loaded, axe would register with it
        # instead of with the window.
        source = AXE.read_text(encoding="utf-8")
        seen.page.evaluate(
            f"() => {{ const define = undefined, module = undefined; {source} }}"
        )
    options = "{ resultTypes: ['violations'], preload: false }"
    found = seen.run(f"return axe.run({options})")["violations"]
    wrong = []
    for rule in found:
        if rule["impact"] in ("serious", "critical"):
            elements = [node["html"][:120] for node in rule["nodes"][:5]]
            wrong.append(f"{rule['id']}: {elements}")
    return wrong


def light(seen: Visit) -> list[str]:
    """At most 1.5 MB gzipped, without the widgets' bundle, which comes late or not at
    all."""
    lazy = f"{seen.base}vendor/"
    asked = any(response.url.startswith(lazy) for response in seen.responses)
    wrong = []
    if asked != (seen.page.locator(WIDGETS).count() > 0):
        wrong.append(f"the widgets' bundle was {'' if asked else 'not '}asked for")
    # Weighed from the disk: asking the browser for the body of a response that it no
    # longer keeps may never end.
    sent = {}
    for response in seen.responses:
        ours = response.url.startswith(seen.base)
        if response.ok and ours and not response.url.startswith(lazy):
            file = HTML / unquote(urlsplit(response.url).path).lstrip("/")
            sent[response.url] = len(gzip.compress(file.read_bytes()))
    total = sum(sent.values())
    if total > 1.5e6:
        largest = sorted(sent.items(), key=lambda item: -item[1])[:5]
        wrong.append(f"{total / 1e6:.2f} MB gzipped; the largest: {largest}")
    return wrong


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
    """Source and description of the picture that a widget shows now."""
    image = widget.locator("img:visible").first
    return image.get_attribute("src"), image.get_attribute("alt")


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
    """Films move by keyboard, every frame has a description of its own, and Play
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
        assert len(set(descriptions)) == last + 1, "two frames share a description"
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
    checks = {
        "theme, light": theme("light"),
        "jumps": still(lambda: visit(path)),
        "weight": light,
        "cut at 1280, light": nothing_cut(1280),
        "axe at 1280, light": accessible,
        "scrubbers": scrubbers,
        "pickers": pickers,
        "line integrals": line_integrals,
        "cut at 390, light": nothing_cut(390),
        "problems, light": quiet,
    }
    return asked(lambda: visit(path), checks)


def on_a_phone(visit: Open, path: str) -> dict[str, list[str]]:
    """The page at 390 pixels in the dark, then made wide."""
    checks = {
        "theme, dark": theme("dark"),
        "cut at 390, dark": nothing_cut(390),
        "axe at 390, dark": accessible,
        "cut at 1280, dark": nothing_cut(1280),
        "problems, dark": quiet,
    }
    return asked(lambda: visit(path, width=390, theme="dark"), checks)
