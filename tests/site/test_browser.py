"""The built site as a reader has it: in Chromium, light and dark, wide and narrow, by
mouse and by keyboard. What is looked at is in ``examine.py``."""

import json
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from playwright.sync_api import expect

from .conftest import CHAPTERS, PAGES, ROOT, Visit, grouped
from .examine import on_a_desk, on_a_phone

pytestmark = pytest.mark.site
Findings = Callable[[str], dict[str, list[str]]]
DESK = [
    "theme, light",
    "jumps",
    "weight",
    "cut at 1280, light",
    "axe at 1280, light",
    "cut at 390, light",
    "problems, light",
]
PHONE = [
    "theme, dark",
    "cut at 390, dark",
    "axe at 390, dark",
    "cut at 1280, dark",
    "problems, dark",
]
MOVED = ["scrubbers", "pickers", "line integrals"]
EVERY = [*PAGES, "search.html", "genindex.html"]


@pytest.fixture(scope="session")
def desk(visit: Callable[..., Visit]) -> Findings:
    """What a page's visit on a desk found; each page is visited once."""
    return cache(lambda path: on_a_desk(visit, path))


@pytest.fixture(scope="session")
def phone(visit: Callable[..., Visit]) -> Findings:
    """What a page's visit on a phone found; each page is visited once."""
    return cache(lambda path: on_a_phone(visit, path))


def test_every_check_is_read_by_a_test(desk: Findings, phone: Findings) -> None:
    assert set(desk("genindex.html")) == {*DESK, *MOVED}
    assert set(phone("genindex.html")) == set(PHONE)


@pytest.mark.parametrize("check", DESK)
@pytest.mark.parametrize("path", grouped(EVERY))
def test_on_a_desk_in_the_light(desk: Findings, path: str, check: str) -> None:
    assert not desk(path)[check], f"{path}, {check}"


@pytest.mark.parametrize("check", PHONE)
@pytest.mark.parametrize("path", grouped(EVERY))
def test_on_a_phone_in_the_dark(phone: Findings, path: str, check: str) -> None:
    assert not phone(path)[check], f"{path}, {check}"


@pytest.mark.parametrize("kind", MOVED)
@pytest.mark.parametrize("path", grouped(CHAPTERS))
def test_widgets_answer_the_keyboard(desk: Findings, path: str, kind: str) -> None:
    assert not desk(path)[kind], f"{path}, {kind}"


def title(path: str) -> str:
    """A chapter's title, up to its colon."""
    notebook = json.loads((ROOT / path).with_suffix(".ipynb").read_text("utf-8"))
    first = "".join(notebook["cells"][0]["source"]).splitlines()[0]
    return first.lstrip("# ").split(":")[0]


@pytest.fixture(scope="module")
def search(visit: Callable[..., Visit]) -> Iterator[Visit]:
    """The search page, open."""
    with visit("search.html") as seen:
        yield seen


@pytest.mark.xdist_group("search.html")
@pytest.mark.parametrize("path", CHAPTERS)
def test_search_finds_the_chapter(search: Visit, path: str) -> None:
    search.problems.clear()
    search.open(f"search.html?q={title(path)}")
    link = search.page.locator(f"#search-results a[href*='{path}']").first
    expect(link).to_be_visible(timeout=20_000)
    # the pages' first lines are fetched; a request that is left behind would be failed
    search.page.wait_for_load_state("networkidle")
    assert not search.problems
