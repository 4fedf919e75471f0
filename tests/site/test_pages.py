"""What the files of the built site promise: links, addresses, descriptions, weight. No
browser."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from .conftest import CHAPTERS, HTML, PAGES, ROOT, WIDGETS

pytestmark = pytest.mark.site
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
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
    shown = {image.get("alt") for image in read(HTML / name).all("img")}
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
        assert (HTML / cards["og:image"].removeprefix(base)).exists(), cards["og:image"]
    assert any(
        "icon" in (link.get("rel") or "") for link in read(HTML / PAGES[0]).all("link")
    )


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


def test_covers_weigh_little() -> None:
    """The first page shows one of every chapter: fifty-six must not make it slow."""
    sizes = {
        path.stem.removeprefix("cover-"): path.stat().st_size
        for path in (HTML / "_images").glob("cover-*.webp")
    }
    assert set(sizes) == {Path(chapter).stem for chapter in CHAPTERS}
    heavy = {slug: size for slug, size in sizes.items() if size > 8000}
    assert not heavy, f"covers of more than 8,000 bytes: {heavy}"


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_widget_has_a_picture_where_no_script_runs(name: str) -> None:
    page = (HTML / name).read_text(encoding="utf-8")
    stills = re.findall(r"<noscript><img ([^>]*)></noscript><script type=", page)
    views = page.count('<script type="application/vnd.jupyter.widget-view+json">')
    assert views, f"{name} shows no widget"
    assert len(stills) == views, f"{name}: {len(stills)} stills for {views} widgets"
    assert all(re.search(r'alt="[^"]{5,}"', still) for still in stills)


def test_every_kind_of_widget_is_in_the_book() -> None:
    kinds = dict.fromkeys(WIDGETS.split(", "), 0)
    for path in CHAPTERS:
        page = (HTML / path).read_text(encoding="utf-8")
        for kind in kinds:
            kinds[kind] += page.count(f'"{kind.removeprefix(".")}"')
    assert all(kinds.values()), f"the browser would pass over nothing: {kinds}"
