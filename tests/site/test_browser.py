"""The built site as a reader has it: in Chromium, light and dark, wide and narrow, by
mouse and by keyboard. What is looked at is in ``examine.py``."""

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from .conftest import CHAPTERS, PAGES, ROOT, Visit, wanted
from .examine import Open, on_a_desk, on_a_phone

pytestmark = pytest.mark.site
EVERY = wanted([*PAGES, "search.html", "genindex.html"])


@pytest.mark.parametrize("path", EVERY)
def test_on_a_desk_in_the_light(
    visit: Open, path: str, subtests: pytest.Subtests
) -> None:
    for check, wrong in on_a_desk(visit, path).items():
        with subtests.test(check):
            assert not wrong, f"{path}, {check}"


@pytest.mark.parametrize("path", EVERY)
def test_on_a_phone_in_the_dark(
    visit: Open, path: str, subtests: pytest.Subtests
) -> None:
    for check, wrong in on_a_phone(visit, path).items():
        with subtests.test(check):
            assert not wrong, f"{path}, {check}"


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


@pytest.mark.parametrize("path", wanted(CHAPTERS))
def test_search_finds_the_chapter(search: Visit, path: str) -> None:
    search.problems.clear()
    search.open(f"search.html?q={title(path)}")
    link = search.page.locator(f"#search-results a[href*='{path}']").first
    expect(link).to_be_visible(timeout=20_000)
    # the pages' first lines are fetched; a request that is left behind would be failed
    search.page.wait_for_load_state("networkidle")
    assert not search.problems
