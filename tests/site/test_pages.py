"""What the files of the built site promise: links, addresses, descriptions, weight. No
browser."""

import html
import json
import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from fontTools.ttLib import TTFont
from PIL import Image

from .conftest import CHAPTERS, HTML, PAGES, ROOT, WIDGETS

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import figures

pytestmark = pytest.mark.site
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
CLASS = re.compile('class="([^"]*)"')
# marks of Temml for what needs no rule, or only in WebKit
UNSTYLED = {"tml-display", "mathcal", "wbk-sml", "wbk-med", "wbk-lrg"}
REPOSITORY = CONFIG["repository"]["url"]


class Reader(HTMLParser):
    """Collects a page's tags, and the text of its JSON scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@cache
def read(path: Path) -> Reader:
    return Reader(path)


@cache
def anchors(path: Path) -> set[str | None]:
    return {
        attributes.get(key)
        for _, attributes in read(path).tags
        for key in ("id", "name")
    }


@pytest.mark.parametrize("name", [*PAGES, "search.html", "genindex.html", "index.html"])
def test_every_internal_link_and_file_resolves(name: str) -> None:
    page = HTML / name
    missing = []
    for _, attributes in read(page).tags:
        for key in ("href", "src"):
            url = urlsplit(attributes.get(key) or "")
            if url.scheme or url.netloc or not (url.path or url.fragment):
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            if target.is_dir():
                target /= "index.html"
            if not target.exists() or (
                url.fragment
                and target.suffix == ".html"
                and unquote(url.fragment) not in anchors(target)
            ):
                missing.append(attributes[key])
    assert not missing, f"{name} refers to what is not there: {missing}"


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_is_described(name: str) -> None:
    pictures = [
        (image.get("src", "")[:60], image.get("alt") or "")
        for image in read(HTML / name).all("img")
    ]
    # decoration
    without = [
        source
        for source, alt in pictures
        if not alt.strip() and not source.endswith("logo.svg")
    ]
    assert not without, f"{name} has pictures without alt text: {without}"


@pytest.mark.parametrize("name", CHAPTERS)
def test_figures_carry_the_descriptions_stored_with_them(name: str) -> None:
    notebook = json.loads(
        (ROOT / name).with_suffix(".ipynb").read_text(encoding="utf-8")
    )
    stored = [
        description["alt"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        for description in output.get("metadata", {}).values()
        if isinstance(description, dict) and "alt" in description
    ]
    page = (HTML / name).read_text(encoding="utf-8")
    shown = {image.get("alt") for image in read(HTML / name).all("img")}
    shown |= {alt for alt in stored if figures.caption(alt) in page}
    shown |= {alt for alt in stored if html.escape(alt, quote=False) in page}
    assert stored
    assert not set(stored) - shown


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_can_be_launched_downloaded_and_edited(name: str) -> None:
    source = str(Path(name).with_suffix(".ipynb"))
    links = {
        link.get("href") or ""
        for tag in ("a", "button")
        for link in read(HTML / name).all(tag)
    }
    where = REPOSITORY.removeprefix("https://github.com/")
    branch = CONFIG["repository"]["branch"]
    assert (
        f"https://colab.research.google.com/github/{where}/blob/{branch}/{source}"
        in links
    )
    assert any(
        link.startswith(f"https://mybinder.org/v2/gh/{where}/{branch}")
        and source in link
        for link in links
    )
    assert f"{REPOSITORY}/edit/{branch}/{source}" in links
    assert any(re.search(rf"_sources/{re.escape(source)}$", link) for link in links)


def test_pages_describe_themselves_to_others() -> None:
    owner, name = REPOSITORY.rsplit("/", 2)[1:]
    base = f"https://{owner}.github.io/{name}/"
    listed = re.findall(
        r"<loc>(.*?)</loc>", (HTML / "sitemap.xml").read_text(encoding="utf-8")
    )
    assert {base + page for page in PAGES} <= set(listed)
    for page in PAGES:
        cards = {
            meta.get("property"): meta.get("content")
            for meta in read(HTML / page).all("meta")
        }
        assert cards["og:title"], page
        assert cards["og:description"], page
        assert cards["og:url"] == base + page
        assert cards["og:site_name"] == CONFIG["title"]
        assert (HTML / cards["og:image"].removeprefix(base)).exists(), cards["og:image"]
    assert any(
        "icon" in (link.get("rel") or "") for link in read(HTML / PAGES[0]).all("link")
    )


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_a_card_of_its_own(name: str) -> None:
    metas = read(HTML / name).all("meta")
    told = {meta.get("property"): meta.get("content") or "" for meta in metas}
    card = HTML / "_images" / f"card-{Path(name).stem}.png"
    assert told["og:image"].endswith(f"/_images/{card.name}")
    assert told["og:image:alt"].startswith(told["og:title"])
    with Image.open(card) as picture:
        assert picture.size == (1200, 630)
    assert card.stat().st_size < 150_000


def test_two_works_never_share_a_label() -> None:
    page = (HTML / "book/bibliography.html").read_text(encoding="utf-8")
    labels = re.findall(
        r'class="label"><span class="fn-bracket">.</span>([^<]+)<span', page
    )
    assert len(labels) > 30
    assert len(set(labels)) == len(labels)
    for label in labels:
        assert re.fullmatch(r"[^{}\\]+, \d{4}[a-z]?", label), label


def test_the_map_shows_every_chapter_and_links_the_built_ones() -> None:
    parts = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text(encoding="utf-8"))
    slugs = [
        f"{part}/{slug}"
        for part, content in parts.items()
        for slug in content["chapters"]
    ]
    page = read(HTML / "book/intro.html")
    rows = [a for _, a in page.tags if "data-slug" in a]
    assert [row["data-slug"] for row in rows] == [slug.split("/")[1] for slug in slugs]
    built = {row["data-slug"] for row in rows if "pn-built" in row["class"]}
    assert built == {Path(chapter).stem for chapter in CHAPTERS}
    assert {chapter.removeprefix("book/") for chapter in CHAPTERS} <= {
        a.get("href") for a in page.all("a")
    }
    assert {parent for row in rows for parent in row["data-on"].split()} <= {
        row["data-slug"] for row in rows
    }
    assert {
        a["href"] for a in page.all("a") if "pn-card" in (a.get("class") or "")
    } == {c.removeprefix("book/") for c in CHAPTERS}


def test_covers_are_small_squares() -> None:
    """The first page shows one of every chapter: fifty-six must not make it slow."""
    covers = {p.stem: p for p in (HTML / "_images").glob("cover-*.webp")}
    assert set(covers) == {f"cover-{Path(chapter).stem}" for chapter in CHAPTERS}
    for name, path in covers.items():
        assert path.stat().st_size <= 3000, f"{name} has more than 3,000 bytes"
        with Image.open(path) as picture:
            assert picture.width == picture.height


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_side_bar_has_short_names_and_folds_other_parts(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    bar = page[page.index("bd-docs-nav") : page.index("</nav>")]
    links = re.findall(
        r'<a class="[^"]*reference internal" href="[^"]*">(.*?)</a>', bar
    )
    assert max(map(len, links)) <= 34, links
    open_parts = re.findall(r"index.html\">[^<]*</a><details open", bar)
    assert len(open_parts) == 1
    assert re.search(r'class="toctree-l2 current active"><a class="current', bar)
    around = re.findall(r'prev-next-title">(.*?)</p>', page)
    assert around
    assert all(len(title) <= 34 for title in around), around


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_widget_has_a_picture_where_no_script_runs(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    stills = re.findall(r'<figure class="pn-preview".*?</figure>(?=<script)', page)
    views = page.count('<script type="application/vnd.jupyter.widget-view+json">')
    assert views, f"{name} shows no widget"
    assert len(stills) == views, f"{name}: {len(stills)} stills for {views} widgets"
    said = r'alt="[^"]{5,}"|<figcaption>[^<]{5,}'
    assert all(re.search(said, still) for still in stills)


@pytest.mark.parametrize("name", [*CHAPTERS, "book/notation.html"])
def test_formulas_are_set_in_the_page(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    formulas = re.findall(r"<math.*?</math>", page)
    assert formulas
    assert page.count('class="math"') == len(formulas)
    assert "data-tex" not in page
    # a class without a rule would draw nothing, as an overline
    classes = {
        c for one in formulas for names in CLASS.findall(one) for c in names.split()
    }
    style = (HTML / "_static" / "book.css").read_text(encoding="utf-8")
    unknown = {c for c in classes - UNSTYLED if not re.search(rf"\.{c}\b", style)}
    assert not unknown, f"{name}: Temml's classes without a rule in book.css: {unknown}"


@pytest.mark.parametrize("name", CHAPTERS)
def test_equations_can_be_linked_to_and_are(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    anchors = re.findall(r'<div class="math" id="equation-(\d+)"', page)
    assert anchors == [str(n + 1) for n in range(page.count('<div class="math"'))]
    shown = re.findall(r'class="eqno" href="#equation-(\d+)"[^>]*>\((\d+)\)', page)
    assert shown == [(number, number) for number in anchors]
    text = re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
    spoken_of = re.findall(r"[Ee]quation\s\(\d+\)", text)
    links = re.findall(r'href="#equation-(\d+)">[Ee]quation\s\(\1\)</a>', text)
    assert len(links) == len(spoken_of)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_sign_of_the_formulas_is_in_their_font(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    formulas = re.findall(r"<math.*?</math>", page)
    text = html.unescape(re.sub("<[^>]*>", "", "".join(formulas)))
    font = TTFont(HTML / "fonts" / "stix-two-math.woff")
    assert "MATH" in font
    assert {ord(sign) for sign in text if sign.isprintable()} <= set(font.getBestCmap())


@pytest.mark.parametrize("name", PAGES)
def test_fonts_are_fetched_with_the_styles(name: str) -> None:
    links = read(HTML / name).all("link")
    fonts = {
        Path(a["href"]).name
        for a in links
        if a.get("rel") == "preload" and a["as"] == "font"
    }
    text = {f"source-sans-3-latin-wght-{face}.woff2" for face in ("normal", "italic")}
    has_formulas = "<math" in (HTML / name).read_text(encoding="utf-8")
    assert fonts == text | ({"stix-two-math.woff"} if has_formulas else set())


def test_every_kind_of_widget_is_in_the_book() -> None:
    kinds = dict.fromkeys(WIDGETS.split(", "), 0)
    for path in CHAPTERS:
        page = (HTML / path).read_text(encoding="utf-8")
        for kind in kinds:
            kinds[kind] += page.count(f'"{kind.removeprefix(".")}"')
    assert all(kinds.values()), f"the browser would pass over nothing: {kinds}"
