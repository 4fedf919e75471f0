"""The built site behind a small server, and a real Chromium in front of it.

Each page is opened twice, as on a desk in the light and as on a phone in the dark. All
that the tests want to know is asked in these two visits (``examine``); each answer is a
subtest.
"""

import functools
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page

from tests.chromium import launched

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
WIDGETS = ".pn-scrubber, .pn-picker, .pn-line-integral"
LONGEST = 120  # seconds that a script in a page may take; a promise has no limit
SHIFTS = """
window.shifted = 0;
window.moved = [];
const place = ({ node, previousRect, currentRect }) =>
    `${node?.nodeName}.${node?.className} from ${previousRect.y} to ${currentRect.y}`;
const unfolds = ({ node }) => node?.parentElement?.closest(".page-toc");
new PerformanceObserver((list) => list.getEntries().forEach((shift) => {
    // the page's contents open and close their branches as one scrolls
    if (shift.sources.length && shift.sources.every(unfolds)) return;
    shifted += shift.value;
    moved.push([shift.value, ...shift.sources.slice(0, 3).map(place)]);
})).observe({ type: "layout-shift", buffered: true });
"""
# A busy machine may draw no frame for a while.
SETTLE = """
for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight / 2) {
    scrollTo(0, y);
    await new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 200); });
}
"""


def toc_pages() -> list[str]:
    """Every page of ``_toc.yml``, as a path below the site's root, in reading order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"]]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            pages.append(chapter["file"])
            pages += [section["file"] for section in chapter.get("sections", [])]
    return [f"{page}.html" for page in pages]


PAGES = toc_pages()
CHAPTERS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]


def wanted(pages: list[str]) -> list[str]:
    """Those of ``pages`` that ``SITE_PAGES`` names (``make test-changed`` sets it); all
    of them where it is not set."""
    names = os.environ.get("SITE_PAGES")
    return pages if names is None else [page for page in pages if page in names.split()]


@dataclass
class Visit:
    """An open page and what went wrong, or came over the wire, since it was opened; it
    is closed at the end of its block."""

    page: Page
    base: str
    problems: list[str] = field(default_factory=list)
    responses: list = field(default_factory=list)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *error: object) -> None:
        self.page.context.close()

    def listen(self) -> None:
        """Note what the page asks for, what it gets, and what it complains of."""
        page = self.page
        page.on("request", self._on_request)
        page.on("response", self._on_response)
        page.on(
            "requestfailed",
            lambda request: self.problems.append(f"failed: {request.url}"),
        )
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("console", self._on_console)

    def _on_request(self, request: object) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.problems.append(f"request off the site: {request.url}")

    def _on_response(self, response: object) -> None:
        self.responses.append(response)
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def _on_console(self, message: object) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def open(self, path: str) -> Page:
        """Go to ``path`` and wait until it has loaded.

        A page that is left while it still loads would report requests that failed.
        """
        if self.page.url != "about:blank":
            self.page.wait_for_load_state("networkidle")
        self.page.goto(self.base + path, wait_until="load")
        return self.page

    def run(self, script: str) -> object:
        """What the body of an async function returns, within two minutes.

        Raises:
            playwright.sync_api.Error: when it takes longer.
        """
        late = f"""new Promise((_, fail) => setTimeout(
            () => fail(new Error("a script took {LONGEST} s")), {LONGEST * 1000}))"""
        return self.page.evaluate(
            f"() => Promise.race([(async () => {{ {script} }})(), {late}])"
        )

    def settle(self) -> None:
        """Scroll through the page and wait until every widget in it is drawn."""
        self.run(SETTLE)
        self.page.wait_for_function(
            "!document.querySelector('.pn-waiting')", timeout=60_000
        )
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("scrollTo(0, 0)")
        # the theme makes what scrolls focusable once the window kept its size a while
        self.page.wait_for_timeout(500)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The standard library's file server, without its log."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address of the built site."""
    assert (HTML / "index.html").exists(), (
        f"expected a built site in {HTML}; build it with: make site"
    )
    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def visit(browser: Browser, site: str) -> Callable[..., Visit]:
    """Opens pages: ``with visit(path, width=1280, theme="light") as seen``."""

    def go(path: str, *, width: int = 1280, theme: str = "light") -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            reduced_motion="reduce",
        )
        context.add_init_script(SHIFTS)
        seen = Visit(context.new_page(), site)
        seen.listen()
        try:
            seen.open(path)
        except Exception:
            context.close()
            raise
        return seen

    return go
