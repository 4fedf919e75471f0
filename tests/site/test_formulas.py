"""How formulas become MathML. No browser."""

import re
import sys
from pathlib import Path

import pytest
from fontTools.pens.boundsPen import BoundsPen
from fontTools.ttLib import TTFont

from .conftest import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import formulas


def test_a_sign_after_a_tall_bracket_belongs_to_what_follows() -> None:
    tex = r"\exp\Bigl(-x\Bigr) - y"
    mathml = formulas.translate([(tex, True)])[tex, True]
    signs = re.findall("<mo([^>]*)>−</mo>", mathml)
    assert [' form="prefix"' in sign for sign in signs] == [True, False]


@pytest.mark.parametrize("words", ["equation (12)", "Equation\n(12)"])
def test_an_equation_in_the_prose_becomes_a_link(words: str) -> None:
    before, link, after = formulas.linked(f"by {words}, the paper's Eq. 3")
    assert (before.astext(), after.astext()) == ("by ", ", the paper's Eq. 3")
    assert link.astext() == words
    assert link["refid"] == formulas.anchor("12")


def test_indices_of_letters_with_and_without_tails_stand_on_one_line(
    tmp_path: Path,
) -> None:
    (tmp_path / "fonts").mkdir()
    formulas.write_font(tmp_path, {*"𝑥𝑦)"})
    font = TTFont(tmp_path / "fonts" / formulas.FONT)
    rules, letters = font["MATH"].table.MathConstants, font.getGlyphSet()
    ink = BoundsPen(letters)
    for sign in "𝑥𝑦)":
        letters[font.getBestCmap()[ord(sign)]].draw(ink)
    _, bottom, _, top = ink.bounds
    lowest = rules.SubscriptBaselineDropMin.Value - bottom
    assert lowest <= rules.SubscriptShiftDown.Value
    highest = top - rules.SuperscriptBaselineDropMax.Value
    assert highest <= rules.SuperscriptShiftUp.Value
