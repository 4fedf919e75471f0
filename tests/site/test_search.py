"""The search and what belongs to it: its index, the glossary, the page of runs, and
what a reader gets at an address where nothing stands."""

import functools
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, expect

from .conftest import CHAPTERS, HTML, PAGES, ROOT, Quiet, Visit, wanted

sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "book" / "_tools")]
import glossary  # noqa: E402
import search as indexing  # noqa: E402

pytestmark = pytest.mark.site
TERMS = glossary.load()
LONG = 40  # letters; a shorter line of code may stand in a sentence too
SUBPATH = "/papernets-lite/"


@cache
def index() -> dict[str, Any]:
    """What the site's search reads."""
    text = (HTML / indexing.INDEX).read_text(encoding="utf-8")
    assert text.startswith(indexing.VARIABLE)
    return json.loads(text.removeprefix(indexing.VARIABLE).rstrip(";\n"))


@cache
def parsed(path: str) -> BeautifulSoup:
    return BeautifulSoup((HTML / path).read_text(encoding="utf-8"), "html.parser")


def text_of(path: str) -> str:
    """All that the index holds of a page."""
    number = [address for address, _ in index()["pages"]].index(path)
    return "\n".join(text for page, *_, text in index()["sections"] if page == number)


def cells(path: str) -> list[dict[str, Any]]:
    source = (ROOT / path).with_suffix(".ipynb")
    return json.loads(source.read_text(encoding="utf-8"))["cells"]


# The index


def test_a_section_is_its_prose_up_to_the_next_heading() -> None:
    page = """<article><section id="a"><h1>Title<a class="headerlink">#</a></h1>
      <p>Where <span class="math"><math><mi>x</mi><mo>≥</mo></math></span> holds.</p>
      <div class="cell"><pre>code = 1</pre></div>
      <table><tr><td>one</td><td>two<br>lines</td></tr></table>
      <section id="b"><h2>Below</h2><div class="highlight">code</div><p>More.</p>
      </section><section id="c"><h2>Empty</h2></section></section></article>"""
    assert list(indexing.sections("p.html", page)) == [
        indexing.Section(
            "p.html", "Title", "Title", "a", "Where x≥ holds. one · two lines ·"
        ),
        indexing.Section("p.html", "Title", "Below", "b", "More."),
    ]


def test_a_page_without_an_article_has_no_sections() -> None:
    assert list(indexing.sections("p.html", "<html></html>")) == []


def test_the_index_knows_every_page_but_the_glossary() -> None:
    there = {address for address, _ in index()["pages"]}
    assert there == set(PAGES) - {f"{glossary.PAGE}.html"}


@pytest.mark.parametrize("path", CHAPTERS)
def test_the_index_holds_no_code_and_no_outputs(path: str) -> None:
    text = text_of(path)
    found = []
    for cell in cells(path):
        source = "".join(cell["source"])
        # A claim's words may stand in the prose, too.
        if cell["cell_type"] != "code" or source.startswith("claims.verdicts("):
            continue
        printed = ["".join(output.get("text", "")) for output in cell["outputs"]]
        for line in "\n".join([source, *printed]).splitlines():
            if len(line.strip()) >= LONG and line.strip() in text:
                found.append(line)
    assert not found


@pytest.mark.parametrize("path", CHAPTERS)
def test_the_index_holds_every_heading(path: str) -> None:
    number = [address for address, _ in index()["pages"]].index(path)
    known = [heading for page, heading, *_ in index()["sections"] if page == number]
    article = parsed(path).article
    assert article
    for heading in article.find_all(["h1", "h2", "h3"]):
        said = heading.get_text().rstrip("#").strip()
        assert said in known or said in ("References", "Next")


def test_every_place_of_the_index_is_there() -> None:
    data = index()
    places = [f"{data['pages'][page][0]}#{at}" for page, _, at, _ in data["sections"]]
    assert len(set(places)) == len(places)
    for _, _, own, explained, _ in data["terms"]:
        places += [own, explained]
    for place in places:
        path, anchor = place.split("#")
        assert parsed(path).find(id=anchor), f"{place} is not in the site"


def test_no_page_loads_the_search_of_sphinx() -> None:
    for path in [*PAGES, "search.html", "404.html"]:
        sources = " ".join(s.get("src", "") for s in parsed(path).find_all("script"))
        assert not [name for name in indexing.SPHINX if name in sources], path
        assert (indexing.INDEX in sources) == (path == "search.html"), path


# The glossary, the runs


def test_terms_stand_in_alphabetical_order() -> None:
    names = [term.term.lower() for term in TERMS]
    assert names == sorted(names)
    assert len(names) >= 50


def test_a_name_belongs_to_one_term() -> None:
    names = [name.lower() for term in TERMS for name in (term.term, *term.also)]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice
    anchors = [term.anchor for term in TERMS]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.anchor)
def test_a_term_is_one_sentence_and_leads_to_a_page(term: glossary.Term) -> None:
    assert re.fullmatch(r"[^.]+(?:\d\.\d[^.]*)*\.", term.means), term.means
    assert f"{term.chapter}.html" in PAGES
    shown = parsed(f"{glossary.PAGE}.html").find(id=term.anchor)
    assert shown
    meaning = shown.find_next_sibling("dd")
    assert term.means in meaning.get_text()
    link = urljoin(f"{glossary.PAGE}.html", meaning.a["href"])
    assert link == term.address


def test_every_chapter_has_a_row_among_the_runs() -> None:
    rows = parsed("book/runs.html").select("tbody tr")
    links = [f"book/{row.a['href']}" for row in rows]
    assert links == CHAPTERS
    for path, row in zip(links, rows, strict=True):
        source = (ROOT / path).with_suffix(".ipynb").read_text(encoding="utf-8")
        notes = json.loads(source)["metadata"]["papernets"]
        run = row.select("td")[1].get_text()
        assert run.startswith(f"{notes['seconds']} s")
        assert notes["machine"].replace("(R)", "") in run


# In the browser


def first_hit(page: Page) -> str:
    """Where the best hit leads, from the site's root."""
    link = page.locator("#search-results a").first
    expect(link).to_be_visible(timeout=20_000)
    return urlsplit(link.get_attribute("href")).path.lstrip("/")


@pytest.fixture(scope="module")
def search(visit: Callable[..., Visit]) -> Iterator[Visit]:
    """The search page, open."""
    with visit("search.html") as seen:
        yield seen


@pytest.mark.parametrize(
    ("query", "path", "words"),
    [
        ("RoIAlign", "book/detection/faster_rcnn.html", "RoIAlign"),
        ("NMS", "book/detection/faster_rcnn.html", "non-maximum suppression"),
        ("PAF", "book/pose/openpose.html", "part affinity field"),
        ("mode collapse", "book/generative/cyclegan.html", "mode collapse"),
        ("hard negative", "book/detection/ssd.html", "hard negative"),
        ("line integral", "book/pose/openpose.html", "line integral"),
        ("default boxes", "book/detection/ssd.html", "default box"),
        ("deconvolutions", "book/segmentation/unet.html", "up-convolution"),
    ],
)
def test_a_hit_opens_at_the_section_with_the_words(
    search: Visit, query: str, path: str, words: str
) -> None:
    search.problems.clear()
    page = search.open(f"search.html?q={query}")
    assert first_hit(page) == path
    page.locator("#search-results a").first.click()
    page.wait_for_load_state("load")
    section = page.locator(f"[id='{urlsplit(page.url).fragment}']")
    assert words in section.inner_text().lower() or words in section.inner_text()
    expect(section.locator("h1, h2, h3").first).to_be_in_viewport()
    page.wait_for_load_state("networkidle")
    assert not search.problems


def title(path: str) -> str:
    """A chapter's title, up to its colon."""
    first = "".join(cells(path)[0]["source"]).splitlines()[0]
    return first.lstrip("# ").split(":")[0]


@pytest.mark.parametrize("path", wanted(CHAPTERS))
def test_a_chapter_is_found_by_its_title(search: Visit, path: str) -> None:
    search.problems.clear()
    assert first_hit(search.open(f"search.html?q={title(path)}")) == path
    assert not search.problems


def test_hits_are_a_list_and_their_number_is_announced(search: Visit) -> None:
    page = search.open("search.html?q=mode collapse")
    count = page.get_by_role("main").locator("#search-results > li").count()
    assert count > 1
    said = page.get_by_role("status")
    expect(said).to_have_text(f"{count} sections found for “mode collapse”.")
    expect(page.locator("#search-results mark").first).to_have_text("mode collapse")
    expect(page.locator(".pn-search input")).to_have_value("mode collapse")


def test_an_explanation_stands_above_the_hits(search: Visit) -> None:
    page = search.open("search.html?q=nms")
    explained = page.locator("#search-terms")
    expect(explained).to_contain_text("non-maximum suppression")
    explained.get_by_role("link").first.click()
    page.wait_for_url("**/glossary.html#term-non-maximum-suppression")


@pytest.mark.parametrize("query", ["xyzzy", "<b>bold</b>", "(*[", "…"])
def test_what_is_not_there_is_not_found(search: Visit, query: str) -> None:
    page = search.open("search.html")
    page.wait_for_load_state("networkidle")  # what is still under way would be cut off
    search.problems.clear()
    field = page.locator(".pn-search input")
    field.fill(query)
    field.press("Enter")
    page.wait_for_load_state("networkidle")
    assert page.locator("#search-results > li").count() == 0
    assert page.locator(".pn-search article b, #search-status b").count() == 0
    assert not search.problems


def test_the_dialog_of_any_page_leads_to_the_hits(visit: Callable[..., Visit]) -> None:
    with visit("book/backbones/resnet.html") as seen:
        seen.page.keyboard.press("Control+k")
        field = seen.page.locator("#pst-search-dialog input")
        expect(field).to_be_focused()
        magnifier = seen.page.locator("#pst-search-dialog .fa-magnifying-glass")
        icon, box = magnifier.bounding_box(), field.bounding_box()
        assert icon["x"] + icon["width"] <= box["x"], "it covers the first letter"
        field.fill("PAF")
        field.press("Enter")
        seen.page.wait_for_url("**/search.html?q=PAF")
        assert first_hit(seen.page) == "book/pose/openpose.html"


# As it is published: below a path, and with a page for what is not there


class Published(Quiet):
    """The site below its path; 404.html for all that is missing."""

    def translate_path(self, path: str) -> str:
        inside = path.startswith(SUBPATH)
        return super().translate_path(path[len(SUBPATH) - 1 :] if inside else "/none")

    def send_error(self, code: int, *rest: object) -> None:
        page = (HTML / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def published(browser: Browser) -> Iterator[Visit]:
    """A page on the published site, not yet gone anywhere."""
    handler = functools.partial(Published, directory=str(HTML))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}{SUBPATH}"
        with Visit(browser.new_context().new_page(), base) as seen:
            seen.listen()
            yield seen
        server.shutdown()


@pytest.mark.parametrize("path", ["nothing.html", "book/no/such/page.html", "book/x/"])
def test_a_missing_page_leads_back_at_any_depth(published: Visit, path: str) -> None:
    page = published.open(path)
    expect(page.get_by_role("heading", level=1)).to_have_text("No such page")
    page.wait_for_load_state("networkidle")
    others = [one for one in published.problems if path not in one]
    missing = [one for one in others if not one.startswith("console: Failed to load")]
    assert not missing, "its styles and scripts are there"
    field = page.locator(".pn-search input")
    field.fill("RoIAlign")
    field.press("Enter")
    page.wait_for_url(f"{published.base}search.html?q=RoIAlign")
    best = page.locator("#search-results a").first
    expect(best).to_have_attribute("href", re.compile(re.escape(published.base)))


def test_the_links_of_the_missing_page_begin_at_the_root() -> None:
    page = parsed("404.html")
    for tag in page.find_all(["a", "link", "script", "img", "form"]):
        for key in ("href", "src", "action"):
            url = urlsplit(tag.get(key, "#"))
            if url.netloc or not url.path:
                continue
            assert url.path.startswith(SUBPATH), tag
            target = HTML / url.path.removeprefix(SUBPATH)
            assert target.exists(), tag


def test_the_site_is_published_as_it_is() -> None:
    """GitHub would else leave out the folders whose names begin with a line."""
    assert (HTML / ".nojekyll").exists()
    listed = (HTML / "sitemap.xml").read_text(encoding="utf-8")
    assert "404.html" not in listed
    assert "search.html" not in listed
    assert not Path(HTML / "searchindex.js").exists()
