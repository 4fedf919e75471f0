"""The rows that show the verdicts, in chapters and on the page of results."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from papernets_lite import claims

from .conftest import CHAPTERS, HTML, Visit

ROW = re.compile(
    r'<details class="pn-verdict" data-verdict="([A-Z ]+)">(.*?)</details>'
)
WIDTH = 240  # of a row's picture


def rows(page: str) -> list[tuple[str, str]]:
    """The verdict and the content of every row of a page."""
    return ROW.findall((HTML / page).read_text(encoding="utf-8"))


def measured(slug: str) -> dict[str, str]:
    """What the stored results say of a chapter's claims: text -> verdict."""
    stored = claims.read_results(slug).get("claims", {})
    told = {}
    for key, claim in claims.read_claims(slug).items():
        if key in stored:
            found = claim.effect(stored[key]["treatment"], stored[key]["control"])
            told[claim.text] = claim.judge(found)
    return told


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_a_row_for_each_claim(name: str) -> None:
    found = rows(name)
    wanted = measured(Path(name).stem)
    assert [word for word, _ in found] == list(wanted.values())
    for (_, content), text in zip(found, wanted, strict=True):
        assert html.escape(text) in content


def test_the_results_show_every_claim_in_the_chapters_order() -> None:
    wanted = [word for name in CHAPTERS for word in measured(Path(name).stem).values()]
    assert [word for word, _ in rows("book/results.html")] == wanted


def test_a_row_tells_what_its_picture_shows() -> None:
    for _, content in rows("book/results.html"):
        said = re.search(r'aria-label="difference (\S+), interval (\S+) to', content)
        assert said
        assert f"{said[1]}, 95 %: {said[2]} to" in content
        for x in re.findall(r'c?x="([\d.]+)"', content):
            assert 0 <= float(x) <= WIDTH


def test_zero_and_margin_are_drawn_where_they_belong() -> None:
    for _, content in rows("book/results.html"):
        zero, margin = (
            float(x)
            for x in re.findall(r'class="pn-(?:zero|margin)" d="M(\S+)', content)
        )
        stated = re.search(r"<dt>margin (\S+)</dt>", content)
        assert stated
        assert (margin > zero) == (float(stated[1]) > 0)


def test_all_claims_are_seen_at_a_glance(visit: Callable[..., Visit]) -> None:
    with visit("book/results.html") as seen:
        height = seen.page.evaluate("document.documentElement.scrollHeight")
        claims_told = seen.page.locator(".pn-verdict").count()
        assert height < 3000 * max(1, claims_told / 65)


def test_failures_come_first_when_asked(visit: Callable[..., Visit]) -> None:
    with visit("book/results.html") as seen:
        seen.page.get_by_label("failures first").check()
        places = seen.page.locator(".pn-verdict").evaluate_all(
            "rows => rows.map(row => [row.getBoundingClientRect().y,"
            " row.dataset.verdict])"
        )
        words = [word for _, word in sorted(places)]
        order = ["NOT SUPPORTED", "INCONCLUSIVE", "SUPPORTED", "SHOWN"]
        assert words == sorted(words, key=order.index)
        assert all(y > 0 for y, _ in places)
        seen.page.locator("#pn-supported").check()
        shown = seen.page.locator(".pn-verdict:visible")
        assert set(shown.evaluate_all("rows => rows.map(r => r.dataset.verdict)")) == {
            "SUPPORTED"
        }


def test_all_effects_stand_on_one_axis() -> None:
    """The margin of every claim lies at one of two places: one margin right of zero, or
    left of it where no more than that may be lost."""
    page = (HTML / "book" / "results.html").read_text(encoding="utf-8")
    places = set(re.findall(r'class="pn-margin" d="M(\S+)', page))
    assert len(places) <= 2
