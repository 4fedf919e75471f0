"""What is asked of a chapter's page beside what is asked of every page (``examine``),
in the same two visits."""

from .conftest import CHAPTERS, PAGES, Visit

HERO = 420  # pixels: above it the hero begins, in a window of 1280 x 900
RUN = 900  # pixels: at most as high is a run of listings, without a sentence between
CARD = 300  # pixels: wider is a wordy table's cell on a phone, where rows are cards
COLUMN = 600  # pixels: narrower than this it is on a desk, where it stands in a row
PAPER = 794  # pixels: a sheet of A4
PICTURE = 95  # pixels: how wide a picture of a world is at least
MARK = 30  # up to here it is a mark or the scale of colours, not a picture
WORDS = 10.9  # pixels: the smallest type
PRINTED = [PAGES[0], "book/results.html", *CHAPTERS]
LISTINGS = """
const lists = (cell) => cell.querySelector('.pn-listing');
const runs = [];
let run = null;
for (const cell of document.querySelectorAll('article section > *')) {
    if (!cell.matches('.cell') || !lists(cell)) { run = null; continue; }
    if (!run) runs.push(run = { top: cell.getBoundingClientRect().top });
    run.height = cell.getBoundingClientRect().bottom - run.top;
    run.first ??= lists(cell).textContent;
}
return runs.map(({ first, height }) => [first, Math.round(height)]);
"""
LOOK = """
const rows = [];
for (const text of document.querySelectorAll(".pn-figure svg text")) {
    const drawing = text.ownerSVGElement.getBoundingClientRect();
    const box = text.getBoundingClientRect();
    const scale = text.getScreenCTM();
    const size = parseFloat(getComputedStyle(text).fontSize);
    rows.push({
        words: text.textContent,
        size: size * Math.hypot(scale.a, scale.b),
        out: Math.max(drawing.left - box.left, box.right - drawing.right,
                      drawing.top - box.top, box.bottom - drawing.bottom),
        fill: getComputedStyle(text).fill,
    });
}
return rows;
"""
PICTURES = """
return [...document.querySelectorAll(".pn-figure svg image")].map(
    (one) => [one.closest("figure").id, one.getBoundingClientRect().width]);
"""
VISIBLE = """(wanted) => [...document.querySelectorAll(wanted)]
    .filter((node) => node.checkVisibility({ opacityProperty: true })
        && node.getBoundingClientRect().width > 1)
    .map((node) => node.outerHTML.slice(0, 99))
"""
CUT = """[...document.querySelectorAll(".bd-article pre")]
    .filter((code) => code.scrollWidth > code.clientWidth + 1)
    .map((code) => code.textContent.slice(0, 90))"""


def opens_on_its_hero(seen: Visit) -> list[str]:
    """The first picture stands in the first window; what runs the chapter is folded
    above it, and opens by keyboard."""
    top = seen.run("""
        const outputs = document.querySelectorAll('article .cell_output');
        return outputs[0].getBoundingClientRect().top + scrollY;""")
    assert top < HERO, f"the hero begins at {top:.0f} px"
    box = seen.page.locator(".pn-run")
    assert box.count() == 1
    assert box.get_attribute("open") is None
    assert not seen.page.locator(".pn-run .cell").first.is_visible()
    box.locator("> summary").press("Enter")
    assert seen.page.locator(".pn-run .cell").last.is_visible()
    box.locator("> summary").press("Enter")
    return []


def listings_are_spoken_of(seen: Visit) -> list[str]:
    """Between two listings that fill a window stands a sentence."""
    runs = seen.run(LISTINGS)
    assert runs, "no listing"
    long = [(first, height) for first, height in runs if height > RUN]
    return [f"listings without a sentence between: {long}"] if long else []


def wordy_cells(seen: Visit) -> list[float]:
    """Widths of the cells in the first rows of wordy tables."""
    cell = "table.pn-stack tbody tr:first-child td:not(.pn-empty)"
    found = f"[...document.querySelectorAll('{cell}')]"
    return seen.run(f"return {found}.map((cell) => cell.getBoundingClientRect().width)")


def wordy_rows_are_rows(seen: Visit) -> list[str]:
    """On a desk a wordy table's cells stand beside each other."""
    widest = max(wordy_cells(seen))
    return [] if widest < COLUMN else [f"a cell is {widest:.0f} px wide"]


def wordy_rows_are_cards(seen: Visit) -> list[str]:
    """On a phone they stand below each other."""
    narrowest = min(wordy_cells(seen))
    return [] if narrowest > CARD else [f"a cell is {narrowest:.0f} px wide"]


def figures_can_be_read(seen: Visit) -> list[str]:
    """Words in figures are large enough and inside their drawing, pictures are no
    stamps."""
    found = seen.run(LOOK)
    small = [f"too small: {one['words']}" for one in found if one["size"] < WORDS]
    cut = [w for one in found if one["out"] > 6 and (w := one["words"].strip())]
    beyond = [f"beyond its drawing: {words}" for words in cut]
    pictures = [one for one in seen.run(PICTURES) if MARK < one[1] < PICTURE]
    narrow = [f"a narrow picture: {one}" for one in pictures]
    return small[:5] + beyond[:5] + narrow[:5]


def ink(seen: Visit) -> list[str]:
    """Colours of all words in figures."""
    return [one["fill"] for one in seen.run(LOOK)]


def figures_follow_the_theme(seen: Visit) -> list[str]:
    """Their ink is another one in the light."""
    in_the_dark = ink(seen)
    seen.page.emulate_media(color_scheme="light")
    seen.page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    in_the_light = ink(seen)
    seen.page.emulate_media(color_scheme="dark")
    kept = in_the_dark and in_the_dark == in_the_light
    return ["words keep their ink in the dark"] if kept else []


def visible(seen: Visit, wanted: str) -> list[str]:
    """What is seen of the nodes that a selector finds."""
    return seen.page.evaluate(VISIBLE, wanted)


def prints(path: str, seen: Visit) -> list[str]:
    """Printed from the dark, the page is ink on white, whole and without controls."""
    page = seen.page
    page.set_viewport_size({"width": PAPER, "height": 900})
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    controls = "button, select, input[type=range], input[type=search], nav, aside"
    wrong = visible(seen, controls) + page.evaluate(CUT)
    solutions = page.locator("details:has(> summary:text-matches('^Solution'))")
    for solution in solutions.all():
        assert solution.locator("p, pre").first.is_visible()
    assert solutions.count() == (3 if path in CHAPTERS else 0)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    return wrong
