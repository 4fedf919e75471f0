"""The statistics behind a verdict, and what a chapter prints of them."""

import json
import math

import pytest

from papernets_lite import claims
from papernets_lite.claims import (
    INCONCLUSIVE,
    MIME,
    NOT_SUPPORTED,
    SHOWN,
    SUPPORTED,
    arms,
    effect,
    judge,
    measure,
)

WORDS = """
k:
  short: s
  text: t
  paper_says: p
  metric: loss
  treatment: a < b
  control: b
  margin: 0.1
  sceptic: b, longer
  margin_means: one picture in ten
  but: one net only
  higher_is_better: false
"""


def test_long_lines_of_verdicts_are_wrapped(book):
    words = WORDS.replace("text: t", f"text: {'many words ' * 12}")
    (book / "claims" / "one.yml").write_text(words, encoding="utf-8")
    stored = {"seeds": [0, 1, 2], "treatment": [1.0] * 3, "control": [2.0] * 3}
    content = json.dumps({"claims": {"k": stored}})
    (book / "results" / "one.json").write_text(content, encoding="utf-8")
    assert max(map(len, claims.verdict_text("one").splitlines())) < 80


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book with one claim; the working directory lies in it."""
    for name in ("claims", "results"):
        (tmp_path / "book" / name).mkdir(parents=True)
    (tmp_path / "book" / "claims" / "one.yml").write_text(WORDS, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "book")
    return tmp_path / "book"


def test_effect_by_hand():
    found = effect([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    assert found.differences == (2.0, 3.0, 1.0)
    assert found.mean == 2.0
    assert found.deviation == 1.0
    half = 4.302652729749464 / math.sqrt(3)  # Student's t, 2 degrees of freedom, 97.5 %
    assert found.low == pytest.approx(2 - half)
    assert found.high == pytest.approx(2 + half)


def test_lower_is_better_turns_the_sign():
    assert effect([1.0], [3.0], higher_is_better=False).mean == 2.0


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ([1.0, 1.1, 0.9], 0.5, SUPPORTED),
        ([1.0, 1.1, 0.9], 2.0, NOT_SUPPORTED),
        ([0.0, 0.1, -0.1], 0.5, NOT_SUPPORTED),
        ([2.0, -1.0, 1.0], 0.5, INCONCLUSIVE),
        ([0.30, 0.32, 0.75], 0.5, INCONCLUSIVE),
        ([0.7, 0.8, 0.6], 0.5, INCONCLUSIVE),  # from 0.45: the margin lies inside
        ([0.4, 0.4, 0.4], 0.4001, SUPPORTED),  # printed alike
        ([1.0, 1.0], 0.5, INCONCLUSIVE),
        ([-1.0, -1.1, -0.9], 0.1, NOT_SUPPORTED),
    ],
)
def test_verdicts(differences, margin, verdict):
    assert judge(effect(differences, [0.0] * len(differences)), margin) == verdict


def test_a_demonstration_is_shown_and_never_supported():
    sure, none = effect([1.0, 1.1, 0.9], [0.0] * 3), effect([0.0] * 3, [0.0] * 3)
    assert judge(sure, 0.5, is_demonstration=True) == SHOWN
    assert judge(none, 0.5, is_demonstration=True) == NOT_SUPPORTED


@pytest.mark.parametrize(
    ("treatment", "control"), [([], []), ([1.0], []), ([math.nan], [1.0])]
)
def test_bad_values_are_refused(treatment, control):
    with pytest.raises(ValueError, match="expected"):
        effect(treatment, control)


def test_what_is_measured_carries_the_numbers(book):
    measured = measure("one", 3, {"k": (1.0, 1.5)})
    bundle = measured._repr_mimebundle_()
    values = {"treatment": 1.0, "control": 1.5}
    assert bundle[MIME] == [{"key": "k", "seed": 3, "values": values}]
    assert "0.5 reaches the margin of 0.1" in bundle["text/plain"]
    assert "does not reach" in repr(measure("one", 0, {"k": (1.0, 1.05)}))
    assert bundle["text/html"].count("<tr>") == bundle["text/html"].count("</tr>") == 2
    assert "a &lt; b" in bundle["text/html"], "names are shown as they are"
    json.dumps(bundle)


def test_bars_start_at_zero_and_grow_to_either_side():
    ends = (-0.25, 0.75)
    assert "#0000 25.0%,red 0 100.0%" in claims.bar(0.75, ends, "red")
    assert "#0000 0.0%,red 0 25.0%" in claims.bar(-0.25, ends, "red")
    assert "#0000 25.0%,currentColor" in claims.bar(-0.25, ends, "red"), "zero"
    assert "currentColor" not in claims.bar(0.5, (0.0, 1.0), "red")
    assert "red 0 0.0%" in claims.bar(0.0, (0.0, 0.0), "red")


def test_the_better_direction_is_said(book):
    shown = measure("one", 0, {"k": (1.0, 1.5)})._repr_mimebundle_()["text/html"]
    assert "lower is better" in shown


def test_a_numpy_seed_and_a_tensors_number_are_plain_in_what_is_collected(book):
    import numpy as np
    import torch

    measured = measure("one", np.int64(3), {"k": (torch.tensor(1.0), np.float32(2))})
    assert json.loads(json.dumps(measured.records()))[0]["seed"] == 3


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "claims of one"),
        ({"k": (1, 2), "l": (1, 2)}, "'l'"),
        ({"k": (1, math.nan)}, "k"),
    ],
)
def test_other_claims_than_the_files_are_refused(book, values, word):
    with pytest.raises(ValueError, match=f"expected .*{word}"):
        measure("one", 0, values)


def test_a_chapter_without_claims_is_named(book):
    with pytest.raises(ValueError, match=r"book/claims/two\.yml"):
        measure("two", 0, {})


@pytest.mark.parametrize("text", ["k: [", "k: {margin: 1}", "- k"])
def test_damaged_claims_are_named(book, text):
    (book / "claims" / "one.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"one\.yml is damaged"):
        claims.read_claims("one")


def test_numbers_read_well():
    shown = [claims.number(v) for v in (0.0123456, -12.345, 1234.5, math.inf, -0.0)]
    assert shown == ["0.0123", "-12.3", "1,234", "inf", "0"]
    assert claims.spread([1.0, 2.0, 3.0]) == "2 ± 1"
    assert claims.spread([2.0]) == "2"


def test_arms_are_sorted_and_paired_by_seed(book):
    records = []
    for seed in (2, 0, 1):
        records += measure("one", seed, {"k": (1.0 + seed, 2.0 - seed)}).records()
    expected = {
        "seeds": [0, 1, 2],
        "treatment": [1.0, 2.0, 3.0],
        "control": [2.0, 1.0, 0.0],
    }
    assert arms(records) == expected
    with pytest.raises(ValueError, match="every seed once"):
        arms([records[0], records[0]])


def test_verdicts_print_what_is_stored_beside_the_files_words(book, capsys):
    claims.verdicts("one")
    assert "NOT YET MEASURED: t" in capsys.readouterr().out
    stored = {"seeds": [0, 1, 2, 3, 4], "treatment": [1.0] * 5}
    stored["control"] = [2.0, 2.1, 2.2, 2.3, 2.4]
    path = book / "results" / "one.json"
    path.write_text(json.dumps({"claims": {"k": stored}}), encoding="utf-8")
    claims.verdicts("one")
    shown = capsys.readouterr().out
    assert "SUPPORTED: t" in shown
    assert "loss (lower is better), 5 paired seeds" in shown
    assert "b: 2.2 ± 0.16" in shown
    assert "difference in favour: 1.2" in shown
    assert "margin 0.1: one picture in ten" in shown
    assert "the sceptic's rival: b, longer" in shown
    assert "but: one net only" in shown
    assert "times as many steps" not in shown
    # Another word or margin is another verdict; nothing is measured again.
    more = "  demonstration: b sees nothing\n  speed: true\n"
    (book / "claims" / "one.yml").write_text(WORDS + more, encoding="utf-8")
    long = {"times": 4, "seed": 10, "values": {"k": [0.25, 0.5]}}
    content = {"claims": {"k": stored}, "long": long}
    path.write_text(json.dumps(content), encoding="utf-8")
    claims.verdicts("one")
    shown = capsys.readouterr().out
    assert shown.startswith("SHOWN: t")
    assert "a demonstration: b sees nothing" in shown
    assert "4 times as many steps (seed 10 alone): a < b 0.25, b 0.5" in shown
    strict = WORDS.replace("0.1", "3.0")
    (book / "claims" / "one.yml").write_text(strict, encoding="utf-8")
    claims.verdicts("one")
    assert "NOT SUPPORTED: t" in capsys.readouterr().out
    path.write_text('{"claims": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"one\.json is damaged"):
        claims.verdicts("one")
