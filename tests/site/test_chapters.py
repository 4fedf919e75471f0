"""The pattern of a chapter's page: its opening, its folded code, its listings, its
end."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from playwright.sync_api import Browser

from .conftest import CHAPTERS, HTML, ROOT

sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "book" / "_tools")]
import folds  # noqa: E402
import opening  # noqa: E402

pytestmark = pytest.mark.site
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
LISTED = yaml.safe_load((ROOT / "book/chapters.yml").read_text(encoding="utf-8"))
REPOSITORY, BRANCH = CONFIG["repository"]["url"], CONFIG["repository"]["branch"]
SECONDS = re.compile(r"Run this chapter (\d min ?)?(\d0 s )?on one CPU core")
CAPTION = re.compile(r"(papernets_lite/\S+\.py), lines (\d+)-(\d+)")
TAGGED = {"tag_install", "tag_parameters", "tag_hide-input"}
each = pytest.mark.parametrize("name", CHAPTERS)


def article(name: str) -> BeautifulSoup:
    page = (HTML / name).read_text(encoding="utf-8")
    return BeautifulSoup(page, "html.parser").article


def cells(name: str) -> list[dict]:
    path = (ROOT / name).with_suffix(".ipynb")
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@each
def test_one_box_holds_all_that_runs_a_chapter(name: str) -> None:
    page, slug = article(name), Path(name).stem
    top = page.select_one("section")
    opening = [child.name for child in top.find_all(recursive=False)][:4]
    # title, promise, box, first paragraph
    assert opening == ["h1", "p", "details", "p"]
    box = top.select_one("details.pn-run")
    summary = box.summary.get_text()
    assert SECONDS.fullmatch(summary)
    classes = [set(cell["class"]) & TAGGED for cell in box.select(".cell")]
    first = [{"tag_install", "tag_hide-input"}, {"tag_parameters"}, {"tag_hide-input"}]
    assert classes[:3] == first
    assert not [cell for cell in top.find_all(class_="cell", recursive=False)]
    source = str(Path(name).with_suffix(".ipynb"))
    where = REPOSITORY.removeprefix("https://github.com/")
    assert [link["href"] for link in box.select("ul a")] == [
        f"https://colab.research.google.com/github/{where}/blob/{BRANCH}/{source}",
        f"https://mybinder.org/v2/gh/{where}/{BRANCH}?urlpath=lab/tree/{source}",
        f"../../_sources/{source}",
        f"../../_downloads/{slug}.py",
    ]
    assert source in box.select_one("ul + p").get_text()


@each
def test_a_script_holds_the_whole_chapter(name: str) -> None:
    script = HTML / "_downloads" / f"{Path(name).stem}.py"
    text = script.read_text(encoding="utf-8")
    ast.parse(text)
    for cell in cells(name):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            is_install = "install" in cell["metadata"].get("tags", [])
            assert (f"# %%\n{source}\n" in text) is not is_install
        else:
            heading = source.splitlines()[0]
            assert f"# %% [markdown]\n# {heading}".rstrip() in text


@each
def test_folded_code_has_a_name(name: str) -> None:
    page = article(name)
    folded = page.select("details.pn-code")
    for fold in folded:
        code = fold.select_one("pre").get_text().strip().splitlines()
        lines = [line for line in code if line.strip()]
        assert lines[0].startswith("# ")
        said = lines[0][2].lower() + lines[0][3:]
        count = len(lines) - 1
        assert fold.summary.get_text() == f"Code: {said} ({count} lines)"
        assert fold.find_next_sibling() is None, "what a cell shows comes first"
    hidden = [c for c in cells(name) if "hide-input" in c["metadata"].get("tags", [])]
    boxed = page.select(".pn-run .cell[class*='hide-input']")
    assert len(folded) == len(hidden) - len(boxed)
    assert "Show code cell" not in page.get_text()


@each
def test_what_one_run_measured_opens_by_a_click(name: str) -> None:
    page = article(name)
    tables = page.select("table.pn-claim")
    assert tables
    for fold in page.select("details.pn-this-run"):
        count = len(fold.select("table.pn-claim"))
        many = "a comparison" if count == 1 else f"{count} comparisons"
        assert fold.summary.get_text() == f"This run: {many}"
    assert len(page.select("details.pn-this-run table.pn-claim")) == len(tables)


@each
def test_a_listing_and_a_map_stand_without_the_call_that_shows_them(name: str) -> None:
    page = article(name)
    assert page.select(".pn-listing")
    for code in page.select(".cell_input"):
        assert not folds.only_shows(code.get_text())


def test_calls_that_only_show() -> None:
    assert folds.only_shows("show.source(unet.UNet)\nshow.net((unet.tiny, (1, 3)))")
    assert not folds.only_shows("show.source(unet.UNet)\nunet.tiny()")
    assert not folds.only_shows("# nothing")
    assert not folds.only_shows("%pip install x\nshow.source(y)")


@each
def test_a_wordy_table_names_its_cells_for_a_phone(name: str) -> None:
    page = article(name)
    stacked = page.select("table.pn-stack")
    assert stacked, "what the paper reports is such a table"
    for table in stacked:
        names = [cell.get_text() for cell in table.select("thead th")][1:]
        for row in table.select("tbody tr"):
            told = [label.get_text() for label in row.select(".pn-label")]
            assert set(told) <= set(names)
    plain = [t for t in page.select("table") if t not in stacked]
    assert not [label for t in plain for label in t.select(".pn-label")]


@each
def test_listings_lead_to_their_lines_in_the_repository(name: str) -> None:
    ask = ["git", "rev-parse", "HEAD"]
    git = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
    places = {git.stdout.strip(), BRANCH} if git.returncode == 0 else {BRANCH}
    captions = article(name).select(".pn-listing")
    assert captions
    for caption in captions:
        path, first, last = CAPTION.fullmatch(caption.text).groups()
        assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) >= int(last)
        address = caption.a["href"]
        base, _, rest = address.removeprefix(f"{REPOSITORY}/blob/").partition("/")
        assert rest == f"{path}#L{first}-L{last}"
        assert base in places or re.fullmatch("[0-9a-f]{40}", base)


@each
def test_a_chapter_ends_with_its_references_and_what_is_next(name: str) -> None:
    page, slug = article(name), Path(name).stem
    headings = [heading.get_text().rstrip("#") for heading in page.select("h2")]
    assert headings[-3:] == ["References", "Cite this chapter", "Next"]
    cited = set()
    for link in page.select(".bibtex-citation a"):
        cited.add(link["href"].removeprefix("#"))
    works = page.select("#references li")
    assert {work["id"] for work in works} == cited
    for work in works:
        places = [page.find(id=a["href"][1:]) for a in work.select("a[aria-label]")]
        assert places
        assert all(place.select_one(f"a[href='#{work['id']}']") for place in places)
    entries = [block.get_text() for block in page.select("#cite-this-chapter pre")]
    assert f"/{name}}}" in entries[0]
    assert "papernets-lite authors" in entries[0]
    assert re.match(rf"@\w+{{{slug},", entries[1])


@each
def test_what_is_next_follows_from_the_list(name: str) -> None:
    chapters = {}
    for part in LISTED.values():
        # YAML takes the key `on` for a truth value
        for slug, line in part["chapters"].items():
            chapters[slug] = line | {"on": line[True]}
    slug, part = Path(name).stem, Path(name).parent.name
    order = list(LISTED[part]["chapters"])
    place = order.index(slug)
    expected = {one for one, line in chapters.items() if slug in line["on"]}
    expected |= {*order[max(0, place - 1) : place], *order[place + 1 :][:1]}
    box = article(name).select_one(".pn-next")
    written = {Path(chapter).stem for chapter in CHAPTERS}
    links = {Path(link["href"]).stem for link in box.select("li a")}
    assert links == expected & written
    planned = [name.get_text() for name in box.select(".pn-later b")]
    missing = [chapters[one]["short"] for one in expected - written]
    assert sorted(planned) == sorted(missing)


LONG = "\n".join(f"line {number}" for number in range(40))


def test_a_long_listing_opens_by_a_click(browser: Browser) -> None:
    listing = nodes.literal_block(LONG, LONG)
    section = nodes.section("", listing)
    folds.cut(listing, 40)
    (long,) = section.children
    button, code = long.children
    assert code.astext() == LONG, "all of it is in the page"
    style = (ROOT / "book" / "_static" / "book.css").read_text(encoding="utf-8")
    block = f'<div class="highlight"><pre style="margin:0">{LONG}</pre></div>'
    with browser.new_page() as page:
        page.set_content(
            f"<style>{style}</style><article class='bd-article'>"
            f"<div class='pn-long'>{button.astext()}{block}</div></article>"
        )
        seen = page.locator(".highlight")
        closed = seen.bounding_box()["height"]
        page.get_by_text("All 40 lines").click()
        opened = seen.bounding_box()["height"]
    assert closed * 40 / 25 == pytest.approx(opened, rel=0.06)


def test_a_cell_is_named_by_its_first_comment() -> None:
    assert folds.named("# Draw a crowd\n\nx = 1\n# why\ny = 2") == ("Draw a crowd", 3)
    assert folds.named("x = 1\n# Draw") == ("", 2)
    said = "Code: draw &lt;b&gt; <small>(1 line)</small>"
    assert folds.summary("# Draw <b>\nx = 1") == said
    assert folds.summary("x = 1\ny = 2") == "Code <small>(2 lines)</small>"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(2, "10 s"), (44, "40 s"), (59, "1 min"), (61, "1 min"), (106, "1 min 50 s")],
)
def test_seconds_are_said_as_a_reader_says_them(seconds: int, said: str) -> None:
    assert opening.duration(seconds) == said


def test_without_git_captions_lead_to_the_branch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folds, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(folds, "repository", lambda: ("", "trunk"))
    assert folds.commit.__wrapped__() == "trunk"
