"""The first page: its scene, its cards and its map."""

import gzip
import re
from collections import Counter
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from playwright.sync_api import Browser

from .conftest import CHAPTERS, HTML, PAGES, ROOT, Visit
from .examine import BUDGETS
from .test_verdicts import measured

pytestmark = pytest.mark.site
HOME = PAGES[0]
COVER = 3000  # bytes of a card's picture at most


def page() -> str:
    return (HTML / HOME).read_text(encoding="utf-8")


def test_cards_show_the_verdicts_of_the_results() -> None:
    cards = re.findall(r'<a class="pn-card" href="(.*?)">(.*?)</a>', page())
    assert [address for address, _ in cards] == [
        name.removeprefix("book/") for name in CHAPTERS
    ]
    for address, card in cards:
        slug = address.split("/")[1].removesuffix(".html")
        counts = Counter(measured(slug).values())
        label = re.search(r'role="img" aria-label="(.*?)"', card)
        assert label, f"{slug}'s card shows no verdicts"
        said = (part.split(" ", 1) for part in label[1].split(", "))
        assert {word: int(number) for number, word in said} == counts


def test_the_map_says_in_words_what_is_written_and_what_is_planned() -> None:
    listed = yaml.safe_load((ROOT / "book/chapters.yml").read_text(encoding="utf-8"))
    slugs = [slug for part in listed.values() for slug in part["chapters"]]
    rows = re.findall(r'<li class="pn-\w+"[^>]*data-slug="(\w+)".*?</li>', page())
    assert rows == slugs
    said = re.findall(r'data-slug="(\w+)".*?pn-sr">; (written|planned);', page())
    there = {name.split("/")[-1].removesuffix(".html") for name in CHAPTERS}
    assert dict(said) == {s: "written" if s in there else "planned" for s in slugs}


@pytest.mark.parametrize(
    ("motion", "ending"), [("reduce", "still.webp"), ("no-preference", ".avif")]
)
def test_the_scene_moves_for_those_who_like_it(
    browser: Browser, site: str, motion: str, ending: str
) -> None:
    context = browser.new_context(reduced_motion=motion)
    opened = context.new_page()
    opened.goto(site + HOME)
    moving = opened.locator(".pn-scene picture img")
    assert moving.evaluate("image => image.currentSrc").endswith(ending)
    if motion == "no-preference":
        opened.get_by_label("pause").check()
        assert not moving.is_visible()
        assert opened.locator(".pn-still").is_visible()
    context.close()


def test_fifty_six_cards_would_keep_to_the_budget(visit: Callable[..., Visit]) -> None:
    with visit(HOME) as seen:
        seen.settle()
        files = {
            HTML / unquote(urlsplit(response.url).path).lstrip("/")
            for response in seen.responses
        }
        scene = HTML / "_static" / "scene.avif"  # the visit asked for no motion
        rest = [f for f in files if not f.name.startswith("cover-")] + [scene]
        sent = sum(len(gzip.compress(file.read_bytes())) for file in rest)
    assert sent + 56 * COVER <= BUDGETS[HOME]


def test_the_map_is_seen_at_once(visit: Callable[..., Visit]) -> None:
    with visit(HOME) as seen:
        room = seen.page.locator(".pn-lineage").bounding_box()
        assert room
        assert room["height"] < 800
        seen.page.locator('[data-slug="resnet"] a').focus()
        arcs = seen.page.locator(".pn-lineage path").count()
        on = seen.page.locator('[data-on~="resnet"]').count()
        assert arcs == on > 0
        assert "It builds on" not in seen.page.locator(".pn-told").inner_text()
