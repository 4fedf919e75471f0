"""The book as one PDF: the built pages, one after another, printed by Chromium.

python book/_tools/pdf.py
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from posixpath import normpath
from urllib.parse import urlsplit

import registry
import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
HOME = "book/intro.html"
NAME = "papernets-lite.pdf"
PAGE = "pdf.html"  # while it is printed
PLACE = re.compile("<!-- pdf -->(?:.*?<!-- /pdf -->)?", re.S)  # of the link to it
REFERRING = ("for", "aria-labelledby", "aria-describedby", "aria-controls", "name")
UNPRINTED = "script, style[media], button, .headerlink, .toctree-wrapper"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
    "--export-tagged-pdf",
)
STYLE = """
@page { size: A4; margin: 17mm 17mm 19mm;
  @bottom-center { content: counter(page); font: 9pt "Source Sans 3", sans-serif; } }
@page :first { @bottom-center { content: none; } }
body { display: block; }
.bd-article { break-before: page; padding: 0; }
.pn-title { height: 24cm; display: grid; align-content: center; text-align: center; }
.pn-title h1 { font-size: 40pt; }
.pn-title p { max-width: 13cm; margin: 0.4rem auto; font-size: 12pt; }
.pn-contents { break-before: page; font-size: 10pt; line-height: 1.45; }
.pn-contents p { margin: 0.55rem 0 0; font-weight: 650; break-after: avoid; }
.pn-contents a { display: flex; gap: 0.4rem; color: inherit; text-decoration: none; }
.pn-contents a::after { content: attr(data-page); order: 2; }
.pn-contents a > i { flex: 1; border-bottom: 1px dotted #999; margin-bottom: 0.3em; }
"""


def contents(root: Path) -> list[tuple[str, list[str]]]:
    """The parts of the book with their pages, as ``_toc.yml`` has them."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    found = [("", [f"{toc['root']}.html"])]
    for part in toc["parts"]:
        files = []
        for chapter in part["chapters"]:
            files.append(chapter["file"])
            files += [section["file"] for section in chapter.get("sections", [])]
        found.append((part["caption"], [f"{file}.html" for file in files]))
    return found


def anchor(page: str, fragment: str = "") -> str:
    """The name of a place of one page within all of them."""
    name = re.sub(r"\W", "-", page.removesuffix(".html"))
    return f"{name}--{fragment}" if fragment else name


def article(site: Path, page: str, pages: set[str], address: str) -> Tag:
    """A page's article, whose names and links hold among all pages.

    Args:
        site: the built site's folder.
        page: its path below.
        pages: all that are printed.
        address: of the published site, for links to what is not.
    """
    text = (site / page).read_text(encoding="utf-8")
    text = re.search('<article class="bd-article.*?</article>', text, re.S)[0]
    found = BeautifulSoup(text, "html.parser").article
    for part in found.select(UNPRINTED):
        part.decompose()
    for tag in found.find_all(True):
        for name in ("id", *REFERRING):
            if tag.get(name):
                names = [anchor(page, one) for one in tag[name].split()]
                tag[name] = " ".join(names)
        for name, value in tag.attrs.items():
            if isinstance(value, str) and "url(#" in value:
                tag[name] = value.replace("url(#", f"url(#{anchor(page)}--")
        for name in ("href", "xlink:href", "src"):
            if tag.get(name):
                tag[name] = moved(tag[name], page, pages, address, name == "src")
    found["id"] = anchor(page)
    return found


def moved(link: str, page: str, pages: set[str], address: str, is_shown: bool) -> str:
    """A link of a page, as seen from the one that holds all."""
    url = urlsplit(link)
    if url.scheme or url.netloc:
        return link
    path = normpath(PurePosixPath(page).parent / url.path) if url.path else page
    if path in pages:
        return f"#{anchor(path, url.fragment)}"
    return path if is_shown else f"{address}{path}"


def whole(site: Path, root: Path) -> str:
    """The page that holds all pages, behind a title page and the contents."""
    settings = registry.settings(root)
    home = BeautifulSoup((site / HOME).read_text(encoding="utf-8"), "html.parser")
    address = home.find("meta", property="og:url")["content"].removesuffix(HOME)
    parts = contents(root)
    pages = {page for _, files in parts for page in files}
    articles, lines = [], []
    for caption, files in parts:
        lines.append(f"<p>{html.escape(caption)}</p>" if caption else "")
        for page in files:
            one = article(site, page, pages, address)
            title = html.escape(one.h1.get_text(" ", strip=True))
            line = f'<a href="#{anchor(page)}">{title}<i></i></a>'
            lines.append(line)
            articles.append(str(one))
    links = home.select('link[rel="stylesheet"]')
    sheets = [moved(link["href"], HOME, set(), "", True) for link in links]
    styles = "".join(f'<link rel="stylesheet" href="{sheet}">' for sheet in sheets)
    promise = home.select_one("article p").get_text()
    footer = settings["html"]["extra_footer"]
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{settings['title']}</title>{styles}<style>{STYLE}</style></head><body>"
        f'<div class="pn-title"><h1>{settings["title"]}</h1><p>{promise}</p>'
        f"<p>{settings['author']}, {settings['copyright']}</p>"
        f'<p><a href="{address}">{address}</a></p>{footer}</div>'
        f'<nav class="pn-contents"><h1>Contents</h1>{"".join(lines)}</nav>'
        '<main class="bd-main"><div class="bd-content"><div'
        f' class="bd-article-container">{"".join(articles)}</div></div></main>'
        "</body></html>"
    )


def numbered(page: str, pdf: bytes) -> str:
    """The page with its contents' page numbers, as a first print has them."""
    order = re.findall(rb"(\d+) 0 obj\s*<</Type /Page\b", pdf)
    numbers = {found: number for number, found in enumerate(order, 1)}
    places = dict(re.findall(rb"/([\w%#.-]+) \[(\d+) 0 R /XYZ", pdf))

    def write(found: re.Match[str]) -> str:
        at = numbers[places[found[1].encode()]]
        return f'<a href="#{found[1]}" data-page="{at}">'

    head, contents, rest = re.split("(<nav.*?</nav>)", page, maxsplit=1, flags=re.S)
    return head + re.sub(r'<a href="#([\w-]+)">', write, contents) + rest


def printed(browser: str, page: Path, target: Path) -> bytes:
    """What Chromium prints of a page."""
    command = [browser, *FLAGS, f"--print-to-pdf={target}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return target.read_bytes()


def link(site: Path, pdf: bytes) -> None:
    """Lead from the first page to the PDF.

    Raises:
        ValueError: where the page has no place for it.
    """
    count = len(re.findall(rb"/Type /Page\b", pdf))
    size = f"{count} pages, {len(pdf) / 1e6:.0f} MB"
    words = f'<a href="../{NAME}">The whole book as one PDF</a> ({size}).'
    home = site / HOME
    text = home.read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise ValueError(f"expected <!-- pdf --> in {HOME}, where the link will stand")
    put = f"<!-- pdf --><p>{words}</p><!-- /pdf -->"
    home.write_text(PLACE.sub(put, text), encoding="utf-8")


def main() -> None:
    """Print the built site."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        sys.exit(f"expected one of {', '.join(BROWSERS)} on the PATH")
    page, target = SITE / PAGE, SITE / NAME
    text = whole(SITE, ROOT)
    try:
        page.write_text(text, encoding="utf-8")
        first = printed(browser, page, target)
        page.write_text(numbered(text, first), encoding="utf-8")
        pdf = printed(browser, page, target)
    finally:
        page.unlink(missing_ok=True)
    link(SITE, pdf)
    print(f"{target.relative_to(ROOT)}: {len(pdf) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
