"""When the built site's pages are first seen, in Chromium on a machine four times as
slow: ``python -m benchmarks.paint``."""

import argparse
import functools
import http.server
import shutil
import statistics
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
PAGES = ("book/intro.html", "book/backbones/senet.html", "book/pose/openpose.html")
ROUNDS, SLOWER = 5, 4
QUIET = 1500  # milliseconds in which no larger paint came
WATCH = """
window.paints = { first: 0, largest: 0, what: "" };
new PerformanceObserver((list) => list.getEntries().forEach((one) => {
    if (one.name === "first-contentful-paint") paints.first = one.startTime;
})).observe({ type: "paint", buffered: true });
new PerformanceObserver((list) => list.getEntries().forEach((one) => {
    paints.largest = one.startTime;
    paints.what = one.element?.tagName.toLowerCase() ?? "";
})).observe({ type: "largest-contentful-paint", buffered: true });
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The standard library's file server, without its log."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def paints(browser: Browser, address: str, width: int) -> tuple[float, float, str]:
    """One visit with an empty cache: milliseconds to the first and to the largest
    paint, and what the largest was."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.goto(address, wait_until="load")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(QUIET)
    found = page.evaluate("window.paints")
    context.close()
    return found["first"], found["largest"], found["what"]


def rows(browser: Browser, site: str, width: int) -> list[str]:
    """A line of a table for each page; visits to the pages alternate."""
    seen: dict[str, list[tuple[float, float, str]]] = {page: [] for page in PAGES}
    for _ in range(ROUNDS):
        for page, visits in seen.items():
            visits.append(paints(browser, f"{site}/{page}", width))
    lines = []
    for page, visits in seen.items():
        first, largest = (statistics.median(v[i] for v in visits) for i in (0, 1))
        what = statistics.mode(v[2] for v in visits)
        lines.append(f"| {page} | {width} | {first:.0f} | {largest:.0f} | {what} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, default=SITE, help="the built site")
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    handler = functools.partial(Quiet, directory=str(options.site))
    print("| page | width | first paint, ms | largest paint, ms | which is |")
    print("|---|---|---|---|---|")
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        for width in (1280, 390):
            print("\n".join(rows(browser, site_of(server), width)))
        browser.close()
        server.shutdown()


def site_of(server: http.server.ThreadingHTTPServer) -> str:
    """The address that a server answers at."""
    return f"http://127.0.0.1:{server.server_port}"


if __name__ == "__main__":
    main()
