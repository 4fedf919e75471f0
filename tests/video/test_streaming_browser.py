"""The page that shows the stream, in a real Chromium: what stands on its canvas is what
the server sent."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from playwright.sync_api import Browser, Page

from papernets_lite.ops.pictures import from_jpeg, to_jpeg
from papernets_lite.pose.openpose import People
from papernets_lite.video import streaming
from papernets_lite.video.streaming import Frame, Live
from tests.chromium import launched

SIDE, PICTURES = 96, 12
LONG = 20  # seconds after which something hangs; no test measures time
# The number of the frame and what is drawn, read at one moment.
PIXELS = """() => {
    const canvas = document.getElementById("picture");
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    return [stats.sequence, width, height, [...data]];
}"""
INK = """() => {
    const canvas = document.getElementById("overlay");
    const { data } = canvas.getContext("2d").getImageData(0, 0, 512, 512);
    return [...data].filter((value, at) => at % 4 === 3 && value > 0).length;
}"""


@contextmanager
def ends(seconds: int = LONG) -> Iterator[None]:
    """A time limit for what has none of its own: scripts in a page, and its closing."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"something hangs: {seconds} s are over")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test hangs, and none of its fixtures does."""
    with ends(2 * LONG):
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, whose closing has a limit."""
    with launched() as chromium:
        yield chromium
        with ends():
            chromium.close()


def opened(browser: Browser, **options: bool) -> Page:
    """A page that waits for nothing longer than the limit."""
    page = browser.new_page(**options)
    page.set_default_timeout(1000 * LONG)
    return page


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not complain."""
    page = opened(browser)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type == "error" else None,
    )
    page.on("requestfailed", lambda request: complaints.append(request.url))
    yield page
    page.close()
    assert not complaints


def until(page: Page, condition: str) -> None:
    """Wait for something in the page, whose policy forbids playwright's own way."""
    end = time.monotonic() + LONG
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"{condition}: {page.evaluate('stats')}"
        page.wait_for_timeout(20)


def picture(number: int) -> bytes:
    """One of a few pictures: smooth, coloured, and each another."""
    at = torch.arange(SIDE)
    rows = (at[:, None] + 8 * number).expand(SIDE, SIDE)
    channels = [rows, at.expand(SIDE, SIDE) + 5 * number, rows + at]
    levels = torch.stack(channels).remainder(SIDE) * 2 + 20
    return to_jpeg(levels.byte())


JPEGS = [picture(number) for number in range(PICTURES)]
JOINTS = streaming.pack_joints(
    People(
        torch.linspace(8, 88, 36).reshape(1, 18, 2).expand(2, 18, 2),
        torch.ones(2, 18).bool(),
        torch.ones(2),
    ),
    SIDE,
)


def make(sequence: int) -> Frame:
    """Pictures in turn."""
    return Frame(sequence, time.time(), JPEGS[sequence % PICTURES], JOINTS)


def test_the_canvas_shows_what_was_sent_and_changes(page: Page) -> None:
    with Live(make, fps=25) as live:
        page.goto(live.server.url)
        seen = {}
        for _ in range(4):
            last = max(seen, default=0)
            until(page, f"stats.sequence > {last}")
            number, width, height, data = page.evaluate(PIXELS)
            assert (width, height) == (SIDE, SIDE)
            drawn = torch.tensor(data).reshape(SIDE, SIDE, 4).permute(2, 0, 1)
            sent = from_jpeg(JPEGS[number % PICTURES])
            assert (drawn[:3] - sent.int()).abs().max() <= 3
            assert (drawn[3] == 255).all()
            seen[number] = drawn
        first, *others = seen.values()
        assert any(not torch.equal(first, other) for other in others)
        stats = page.evaluate("stats")
        assert stats["people"] == 2
        assert stats["drawn"] + stats["skipped"] >= stats["sequence"] - 1
        assert stats["bytes"] > 1000 * stats["drawn"]
        assert 0 < stats["p50"] <= stats["p95"]
        assert page.evaluate(INK) > 500, "joints and limbs are drawn"
        assert "frames a second" in page.inner_text("#words")
    until(page, "stats.closed !== null")
    assert page.evaluate("stats.closed") == 1001


def test_a_slow_page_skips_and_its_neighbour_does_not_wait(browser: Browser) -> None:
    with Live(make, fps=25) as live:
        fast, slow = opened(browser), opened(browser)
        slow.goto(live.server.url + "&slow=300")
        fast.goto(live.server.url)
        until(slow, "stats.drawn >= 4")
        one, other = (page.evaluate("stats") for page in (fast, slow))
        assert other["skipped"] > other["drawn"]
        assert one["drawn"] > other["drawn"]
        assert one["fps"] > other["fps"]
        assert other["p50"] >= 300, "its own work is counted"
        fast.close()
        slow.close()


@pytest.mark.parametrize("policy", ["joints", "base64"])
def test_other_forms_are_drawn_too(page: Page, policy: str) -> None:
    with Live(make, fps=25) as live:
        page.goto(f"{live.server.url}&policy={policy}")
        until(page, "stats.drawn >= 3")
        assert page.evaluate(INK) > 500
        each = page.evaluate("stats.bytes / stats.drawn")
        _, _, _, data = page.evaluate(PIXELS)
    if policy == "joints":
        assert each == 16 + len(JOINTS)
        assert not any(data), "no picture came"
    else:
        assert each > 4 / 3 * min(map(len, JPEGS))
        assert any(data)


def test_a_page_of_another_site_gets_nothing(browser: Browser) -> None:
    with Live(make) as live, Live(make) as other:
        # without its own policy, which forbids it already
        page = opened(browser, bypass_csp=True)
        page.goto(other.server.url)
        until(page, "stats.drawn >= 1")  # its own stream comes
        page.evaluate(
            """(address) => {
                const socket = new WebSocket(address);
                window.heard = [];
                for (const what of ["open", "message", "close"]) {
                    socket.addEventListener(what, () => { heard.push(what); });
                }
            }""",
            live.server.stream(),
        )
        until(page, "heard.length > 0")
        assert page.evaluate("heard") == ["close"], "refused before it was open"
        page.close()
        assert not live.server.viewers


def test_a_page_without_the_token_says_that_it_is_closed(browser: Browser) -> None:
    with Live(make) as live:
        page = opened(browser)
        page.goto(f"http://127.0.0.1:{live.server.port}/")
        until(page, "stats.closed !== null")
        assert "closed" in page.inner_text("#words")
        assert page.evaluate("stats.drawn") == 0
        page.close()
