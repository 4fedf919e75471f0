"""The verdicts as a page shows them: a line a claim, which opens to all that was
measured. A notebook and the page of results hold the same in plain text.

All effects stand on one axis, in units of their claim's margin, so that they can be
compared; it is stretched around zero, where most of them lie.
"""

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import folds
import registry
import results
from docutils import nodes

from papernets_lite import claims

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT, EDGE = 240, 24, 8  # of a line's picture, in pixels
BELOW = 16  # room for numbers, in a chapter
FURTHEST = 15  # margins to either side of zero; what lies beyond stands at the end
TICKS = (-10, -3, 0, 1, 3, 10)  # of the axis above all lines
LEGEND = (
    "<p><small>Further right is better for the claim; the axis counts in margins and"
    " is stretched around zero. Pale dots: a seed's difference each. Bar: the 95 %"
    " interval of their mean. Dashed: the margin. A line opens to all that was"
    " measured.</small></p>"
)
CALL = re.compile(r'claims\.verdicts\("(\w+)"\)')


def place(margins: float) -> float:
    """Where a difference lies, in pixels from the left.

    Args:
        margins: the difference, in units of the claim's margin.
    """
    inside = max(-FURTHEST, min(FURTHEST, margins))
    share = math.asinh(inside) / math.asinh(FURTHEST)
    return WIDTH / 2 + (WIDTH / 2 - EDGE) * share


def picture(found: claims.Effect, margin: float, *, labelled: bool) -> str:
    """An effect on the axis: zero, the margin and what lies beyond it, the interval
    with its mean, and a pale dot for each seed.

    Args:
        found: the effect.
        margin: of the claim.
        labelled: whether zero and the margin carry their numbers.
    """

    def x(value: float) -> str:
        return f"{place(value / abs(margin)):.1f}"

    said = (
        f"difference {claims.number(found.mean)}, interval {claims.number(found.low)}"
        f" to {claims.number(found.high)}, margin {margin:g}"
    )
    middle, height = HEIGHT / 2, HEIGHT + BELOW * labelled
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{said}">',
        f'<path class="pn-beyond" d="M{x(margin)} 0H{WIDTH}V{HEIGHT}H{x(margin)}z"/>',
        f'<path class="pn-zero" d="M{x(0)} 0V{HEIGHT}"/>',
        f'<path class="pn-margin" d="M{x(margin)} 0V{HEIGHT}"/>',
    ]
    for one in found.differences:
        parts.append(f'<circle class="pn-seed" cx="{x(one)}" cy="{middle:g}" r="3"/>')
    ends = f"M{x(found.low)} {middle:g}H{x(found.high)}"
    parts.append(f'<path class="pn-interval" d="{ends}"/>')
    parts.append(f'<circle cx="{x(found.mean)}" cy="{middle:g}" r="4.5"/>')
    if labelled:
        parts.append(_number(x(margin), f"{margin:g}", margin))
        parts.append(_number(x(0), "0", -margin))
    return "".join([*parts, "</svg>"])


def _number(x: str, word: str, side: float) -> str:
    """A number below its line, on the side of it that the sign names."""
    anchor, shift = ("start", -3) if side > 0 else ("end", 3)
    place = f'x="{x}" dx="{shift}" y="{HEIGHT + BELOW - 4}" text-anchor="{anchor}"'
    return f"<text {place}>{word}</text>"


def axis() -> str:
    """What the pictures below it measure, in margins."""
    words = {1: "margin"}
    ticks = []
    for tick in TICKS:
        word = words.get(tick, f"{tick:+d}".replace("-", "−").replace("+0", "0"))
        x = f"{place(tick):.1f}"
        ticks.append(f'<text x="{x}" y="12" text-anchor="middle">{word}</text>')
        ticks.append(f'<path d="M{x} 16V22"/>')
    drawn = f'<svg viewBox="0 0 {WIDTH} 22">{"".join(ticks)}</svg>'
    return f'<div class="pn-ruler" aria-hidden="true">{drawn}<span>margins</span></div>'


def _effect(claim: claims.Claim, stored: Mapping[str, Any]) -> claims.Effect:
    return claim.effect(stored["treatment"], stored["control"])


def _facts(
    claim: claims.Claim, stored: Mapping[str, Any], content: Mapping[str, Any]
) -> str:
    """All that was measured for a claim."""
    treatment, control = stored["treatment"], stored["control"]
    found = _effect(claim, stored)
    interval = f"{claims.number(found.low)} to {claims.number(found.high)}"
    facts = [
        (claim.treatment, claims.spread(treatment)),
        (claim.control, claims.spread(control)),
        ("measured", f"{claim.metric}; {claim.direction} is better"),
        ("difference in favour", f"{claims.number(found.mean)}, 95 %: {interval}"),
        (f"margin {claim.margin:g}", claim.margin_means),
        ("the sceptic's rival", claim.sceptic),
        ("the paper says", claim.paper_says),
    ]
    if claim.demonstration:
        facts.append(("a demonstration", claim.demonstration))
    if claim.speed and "long" in content:
        facts.append(("longer", claims.long_row(claim, content["long"])))
    count, seconds = len(stored["seeds"]), content["seconds"]
    facts.append(("seeds", f"{count}, paired; {seconds} s a run, {content['machine']}"))
    told = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd>"
        for name, fact in facts
    )
    return f"<dl>{told}</dl>"


def verdict(
    claim: claims.Claim, stored: Mapping[str, Any], content: Mapping[str, Any]
) -> str:
    """A claim's row in its chapter: the whole sentence.

    Args:
        claim: of a chapter.
        stored: the claim's numbers, of the chapter's results.
        content: the chapter's results.
    """
    found = _effect(claim, stored)
    word = claim.judge(found)
    return (
        f'<details class="pn-verdict" data-verdict="{word}"><summary>'
        f'<b class="pn-word">{results.MARKS[word]} {word}</b>'
        f'<span class="pn-said">{html.escape(claim.text)}'
        f" <small>But: {html.escape(claim.but)}.</small></span>"
        f"{picture(found, claim.margin, labelled=True)}"
        f"</summary>{_facts(claim, stored, content)}</details>"
    )


def line(
    chapter: registry.Chapter,
    claim: claims.Claim,
    stored: Mapping[str, Any],
    content: Mapping[str, Any],
) -> str:
    """A claim's line among those of all chapters: its short name, the sentence inside.

    Args:
        chapter: whose claim it is.
        claim: of the chapter.
        stored: the claim's numbers, of the chapter's results.
        content: the chapter's results.
    """
    found = _effect(claim, stored)
    word = claim.judge(found)
    times = f"{found.mean / abs(claim.margin):+.1f}".replace("-", "−")
    times = "0.0" if times.endswith("0.0") and len(times) == 4 else times
    return (
        f'<details class="pn-verdict" data-verdict="{word}"><summary>'
        f"{_mark(word)}"
        f'<span class="pn-said"><small>{html.escape(chapter.short)}: </small>'
        f"{html.escape(claim.short)}</span>"
        f"{picture(found, claim.margin, labelled=False)}"
        f'<span class="pn-times">{times}</span></summary>'
        f"<p>{html.escape(claim.text)}. But: {html.escape(claim.but)}.</p>"
        f"{_facts(claim, stored, content)}</details>"
    )


def _mark(word: str) -> str:
    """A verdict's shape, and for those who do not see it the word."""
    shape = f'<b data-verdict="{word}" aria-hidden="true">{results.MARKS[word]}</b>'
    return f'{shape}<span class="pn-sr">{word}</span>'


def measured(slug: str) -> dict[str, tuple[claims.Claim, Mapping[str, Any]]]:
    """The claims of a chapter that have numbers, and these."""
    stored = claims.read_results(slug).get("claims", {})
    if not stored:
        return {}
    known = claims.read_claims(slug)
    return {key: (known[key], stored[key]) for key in known if key in stored}


def words(slug: str) -> list[str]:
    """The verdicts of a chapter, in the order of its claims."""
    found = measured(slug).values()
    return [claim.judge(_effect(claim, stored)) for claim, stored in found]


def strip(found: Iterable[str]) -> str:
    """Verdicts as a row of shapes, which is read out as their number of each kind."""
    found = list(found)
    shapes = "".join(f'<b data-verdict="{w}">{results.MARKS[w]}</b>' for w in found)
    counts = Counter(found)
    said = ", ".join(f"{counts[w]} {w}" for w in results.MARKS if counts[w])
    return f'<span class="pn-strip" role="img" aria-label="{said}">{shapes}</span>'


def note(slug: str, env: Any) -> None:
    """The page being read depends on a chapter's claims and results."""
    for folder, name in (("claims", f"{slug}.yml"), ("results", f"{slug}.json")):
        if path := claims.book_file(folder, name):
            env.note_dependency(str(path))


def rows(slug: str, env: Any) -> str:
    """All verdicts of a chapter; empty where nothing is measured."""
    note(slug, env)
    content = claims.read_results(slug)
    told = [verdict(claim, one, content) for claim, one in measured(slug).values()]
    return f'<div class="pn-verdicts">{"".join(told)}</div>' if told else ""


def in_chapter(app: Any, doctree: nodes.document) -> None:
    """Rows in place of the text that ``claims.verdicts`` printed."""
    for cell in doctree.findall(folds.is_cell):
        call = CALL.fullmatch(_source(cell))
        shown = rows(call[1], app.env) if call else ""
        if shown:
            cell.replace_self(nodes.raw("", LEGEND + shown, format="html"))


def _source(cell: nodes.container) -> str:
    blocks = list(cell.findall(nodes.literal_block))
    return blocks[0].astext().strip() if blocks else ""


def in_results(app: Any, doctree: nodes.document) -> None:
    """Lines in place of the tables on the page of results, and a choice of verdicts in
    place of the list of what they mean."""
    if app.env.docname != "book/results":
        return
    page = next(iter(doctree.findall(nodes.section)))
    sections = [child for child in page.children if isinstance(child, nodes.section)]
    every: list[str] = []
    parts = registry.load(ROOT)
    told = [part for part in parts if any(words(c.slug) for c in part.chapters)]
    for part, section in zip(told, sections, strict=True):
        measured_ones = [c for c in part.chapters if words(c.slug)]
        anchors = [child["ids"][0] for child in section if child.tagname == "section"]
        every += (found := [word for c in measured_ones for word in words(c.slug)])
        shown = [f'<p class="pn-of-part">{strip(found)}</p>']
        for chapter, anchor in zip(measured_ones, anchors, strict=True):
            shown.append(block(chapter, anchor, app.env))
        section[1:] = [nodes.raw("", "".join(shown), format="html")]
    if not every:
        return
    meanings = next(iter(page.findall(nodes.bullet_list)))
    counted = page[page.index(meanings) + 1]
    page.remove(counted)
    meanings.replace_self(nodes.raw("", choice(every), format="html"))
    lines = nodes.raw("", LEGEND + axis(), format="html")
    page.insert(page.index(sections[0]), lines)


def block(chapter: registry.Chapter, anchor: str, env: Any) -> str:
    """A chapter's lines, below its name.

    Args:
        chapter: one with numbers.
        anchor: by which the page's contents refer to it.
        env: of the site's build.
    """
    note(chapter.slug, env)
    content = claims.read_results(chapter.slug)
    told = [line(chapter, *found, content) for found in measured(chapter.slug).values()]
    name = f'<a href="{chapter.part}/{chapter.slug}.html">{chapter.short}</a>'
    inside = f"<h3>{name}</h3><div>{''.join(told)}</div>"
    return f'<section class="pn-measured" id="{anchor}">{inside}</section>'


def choice(found: list[str]) -> str:
    """How many verdicts there are of each kind, as buttons that leave these only, or
    put the failures first; they need no script."""
    counts = Counter(found)
    share = "".join(
        f'<i data-verdict="{word}" style="flex-grow:{counts[word]}"></i>'
        for word in results.MARKS
    )
    buttons = [_button("all", f"<b>{len(found)}</b> all claims", "", "checked")]
    for word in results.MARKS:
        key = word.lower().replace(" ", "-")
        name = f"<b>{counts[word]}</b> {_shape(word)} {word}"
        buttons.append(_button(key, name, results.MEANINGS[word]))
    said = "the claims as they stand, the failed before the undecided"
    buttons.append(_button("failures", "failures first", said))
    inside = f'<legend class="pn-sr">Show</legend>{"".join(buttons)}'
    bar = f'<div class="pn-share" aria-hidden="true">{share}</div>'
    return f'{bar}<fieldset class="pn-choice">{inside}</fieldset>'


def _shape(word: str) -> str:
    return f'<b data-verdict="{word}">{results.MARKS[word]}</b>'


def _button(key: str, name: str, said: str = "", checked: str = "") -> str:
    box = f'<input type="radio" name="pn-choice" id="pn-{key}" value="{key}" {checked}>'
    return f"<label>{box} {name}<small>{said}</small></label>"
