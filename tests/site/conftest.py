"""The built site behind a small server, and a real Chromium in front of it."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WIDGETS = ".pn-scrubber, .pn-picker, .pn-line-integral"


def toc_pages() -> list[str]:
    """Every page of ``_toc.yml``, as a path below the site's root, in reading order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    entries = [
        e
        for part in toc["parts"]
        for c in part["chapters"]
        for e in (c, *c.get("sections", []))
    ]
    return [f"{toc['root']}.html", *(f"{entry['file']}.html" for entry in entries)]


PAGES = toc_pages()
CHAPTERS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]


@dataclass
class Visit:
    """An open page and what went wrong, or came over the wire, since it was opened."""

    page: Page
    base: str
    problems: list[str] = field(default_factory=list)
    responses: list = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to ``path`` and wait until it has settled."""
        self.page.goto(self.base + path, wait_until="load")
        return self.page

    def settle(self) -> None:
        """Scroll through the page and wait until every widget in it is drawn."""
        self.page.evaluate(
            """async () => {
                for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight / 2) {
                    scrollTo(0, y);
                    // A busy machine may draw no frame for a while, and a promise for one has no timeout.
                    await new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 200); });
                }
            }"""
        )
        self.page.wait_for_function(
            "!document.querySelector('.pn-waiting')", timeout=60_000
        )
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("scrollTo(0, 0)")


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
    """Chromium, wherever the system has it."""
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not program:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "no chromium or google-chrome on the PATH"
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=FLAGS.split()
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Callable[..., Visit]]:
    """Opens pages: ``visit(path, width=1280, theme="light")``; each is closed after the
    test."""
    contexts = []

    def go(path: str, *, width: int = 1280, theme: str = "light") -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.add_init_script(
            """window.shifted = 0;
            window.moved = [];
            new PerformanceObserver((list) => list.getEntries().forEach((shift) => {
                shifted += shift.value;
                moved.push([shift.value, ...shift.sources.slice(0, 3).map(({ node, previousRect, currentRect }) =>
                    `${node?.nodeName}.${node?.className} from ${previousRect.y} to ${currentRect.y}`)]);
            })).observe({ type: "layout-shift", buffered: true });"""
        )
        seen = Visit(context.new_page(), site)

        def on_request(request: object) -> None:
            if not request.url.startswith((site, "data:", "blob:")):
                seen.problems.append(f"request off the site: {request.url}")

        def on_response(response: object) -> None:
            seen.responses.append(response)
            if response.status >= 400:
                seen.problems.append(f"{response.status}: {response.url}")

        page = seen.page
        page.on("request", on_request)
        page.on("response", on_response)
        page.on(
            "requestfailed",
            lambda request: seen.problems.append(f"failed: {request.url}"),
        )
        page.on("pageerror", lambda error: seen.problems.append(f"exception: {error}"))
        page.on(
            "console",
            lambda m: (
                seen.problems.append(f"console: {m.text}")
                if m.type == "error"
                else None
            ),
        )
        seen.open(path)
        return seen

    yield go
    for context in contexts:
        context.close()
