"""The book on paper and without a script."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from .chapters import VISIBLE
from .conftest import CHAPTERS, HTML, PAGES, ROOT, wanted

sys.path.insert(0, str(ROOT / "book" / "_tools"))
import pdf

pytestmark = pytest.mark.site
SHORT = """<html><head><meta property="og:url" content="https://a.org/book/{name}.html">
<link rel="stylesheet" href="../_static/none.css"></head><body>
<article class="bd-article"><h1 id="top">{name}</h1><p id="said">Said.</p>{text}
</article></body></html>"""


@pytest.fixture(scope="module")
def whole() -> str:
    return pdf.whole(HTML, ROOT)


def test_the_pdf_holds_every_page_and_its_links_lead_somewhere(whole: str) -> None:
    names = re.findall(r'\bid="([^"]*)"', whole)
    assert {pdf.anchor(page) for page in PAGES} <= set(names)
    links = re.findall(r'\bhref="#([^"]*)"', whole)
    assert len(links) > len(PAGES)
    assert not set(links) - set(names)
    pictures = re.findall(r'<img [^>]*src="(?!data:)([^"]*)"', whole)
    assert len(pictures) > len(CHAPTERS)
    assert not [name for name in pictures if not (HTML / name).exists()]
    away = "#|data:|https?:|mailto:|_static/"
    relative = re.findall(rf'\bhref="(?!{away})([^"]*)"', whole)
    assert not relative


def test_the_pdf_shows_every_widget_and_no_button(whole: str) -> None:
    stills = len(list((HTML / "_images").glob("still-*")))
    assert stills
    assert len(re.findall(r'src="_images/still-', whole)) == stills
    assert "<button" not in whole
    assert "<script" not in whole


def test_contents_name_the_pages(tmp_path: Path, browser: Browser) -> None:
    """A book of three pages, printed twice as the real one is."""
    program = next(filter(None, map(shutil.which, pdf.BROWSERS)), None)
    assert program
    (tmp_path / "_toc.yml").write_text(
        "root: book/intro\nparts: [{caption: P, chapters: [{file: book/one,"
        " sections: [{file: book/two}]}]}]\n",
        encoding="utf-8",
    )
    (tmp_path / "_config.yml").write_text(
        "title: T\nauthor: A\ncopyright: C\nhtml: {extra_footer: F}\n", encoding="utf-8"
    )
    (tmp_path / "book").mkdir()
    long = '<p style="height: 25cm">x</p>' * 2
    texts = {
        "intro": "<!-- pdf -->",
        "one": long,
        "two": '<a href="one.html#said">s</a>',
    }
    for name, text in texts.items():
        page = tmp_path / "book" / f"{name}.html"
        page.write_text(SHORT.format(name=name, text=text), encoding="utf-8")
    page, target = tmp_path / "pdf.html", tmp_path / "t.pdf"
    text = pdf.whole(tmp_path, tmp_path)
    page.write_text(text, encoding="utf-8")
    found = pdf.numbered(text, pdf.printed(program, page, target))
    numbers = re.findall(r'<a href="#book-(\w+)" data-page="(\d+)">', found)
    assert numbers == [("intro", "3"), ("one", "4"), ("two", "7")]
    assert '<a href="#book-one--said">s</a>' in found
    for _ in range(2):
        pdf.link(tmp_path, target.read_bytes())
    home = (tmp_path / pdf.HOME).read_text(encoding="utf-8")
    assert home.count(f'href="../{pdf.NAME}"') == 1
    (tmp_path / pdf.HOME).write_text("no place", encoding="utf-8")
    with pytest.raises(ValueError, match="<!-- pdf -->"):
        pdf.link(tmp_path, target.read_bytes())


def test_the_first_page_has_a_place_for_the_link_to_the_pdf() -> None:
    assert pdf.PLACE.search((HTML / pdf.HOME).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", wanted(PAGES))
def test_without_a_script_nothing_is_missing(
    browser: Browser, site: str, path: str
) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 900}, java_script_enabled=False
    )
    page = context.new_page()
    try:
        page.goto(site + path)
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        stills = page.locator(".pn-preview")
        assert stills.count() == page.locator('script[type*="widget-view"]').count()
        for still in stills.all():
            still.scroll_into_view_if_needed()
            assert still.bounding_box()["width"] > 100
            words = still.inner_text() or still.locator("img").get_attribute("alt")
            assert len(words) >= 5
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert not page.evaluate(VISIBLE, "button, [data-bs-toggle], .pn-waiting"), (
            "they do nothing"
        )
        assert page.evaluate(VISIBLE, ".bd-sidebar-primary a[href*='.html']"), (
            "the way to other pages"
        )
    finally:
        context.close()
