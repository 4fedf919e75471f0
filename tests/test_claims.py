"""The statistics behind a verdict, and what a chapter prints of them."""

import dataclasses
import json
import math

import pytest

from papernets_lite import claims
from papernets_lite.claims import (
    INCONCLUSIVE,
    MIME,
    NOT_SUPPORTED,
    SUPPORTED,
    Claim,
    effect,
    judge,
    summarise,
)

CLAIM = Claim(
    slug="resnet", key="k", text="t", paper_says="p", metric="loss", treatment="a", control="b", margin=0.1,
    higher_is_better=False,
)  # fmt: skip


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
        ([1.0, 1.0], 0.5, INCONCLUSIVE),
        ([-1.0, -1.1, -0.9], 0.1, NOT_SUPPORTED),
    ],
)
def test_verdicts(differences, margin, verdict):
    assert judge(effect(differences, [0.0] * len(differences)), margin) == verdict


@pytest.mark.parametrize(
    ("treatment", "control"), [([], []), ([1.0], []), ([math.nan], [1.0])]
)
def test_bad_values_are_refused(treatment, control):
    with pytest.raises(ValueError, match="expected"):
        effect(treatment, control)


def test_measurement_carries_the_numbers():
    measured = CLAIM.measure(1.0, 1.5, seed=3)
    bundle = measured._repr_mimebundle_()
    assert bundle[MIME]["values"] == {"treatment": 1.0, "control": 1.5}
    assert bundle[MIME]["seed"] == 3
    assert "0.5 reaches the margin of 0.1" in bundle["text/plain"]
    assert "does not reach" in repr(CLAIM.measure(1.0, 1.05, seed=0))
    assert "<td" in bundle["text/html"]
    json.dumps(bundle)


def test_measurement_shows_names_as_they_are():
    odd = dataclasses.replace(CLAIM, treatment="a < b")
    assert "a &lt; b" in odd.measure(1.0, 2.0, seed=0)._repr_mimebundle_()["text/html"]


def test_numbers_read_well():
    assert [claims.number(v) for v in (0.0123456, -12.345, 1234.5, math.inf, -0.0)] == [
        "0.0123",
        "-12.3",
        "1,234",
        "inf",
        "0",
    ]
    assert claims.spread([1.0, 2.0, 3.0]) == "2 ± 1"
    assert claims.spread([2.0]) == "2"


def test_summary_sorts_and_pairs_seeds():
    records = [
        CLAIM.measure(1.0 + s, 2.0 + s + 0.1 * s, seed=s).record() for s in (2, 0, 1)
    ]
    stored = summarise(records)
    assert stored["seeds"] == [0, 1, 2]
    assert stored["mean"] == pytest.approx(1.1)
    assert stored["verdict"] == SUPPORTED
    with pytest.raises(ValueError, match="every seed once"):
        summarise([records[0], records[0]])


def test_verdict_prints_what_is_stored(monkeypatch, capsys, tmp_path):
    path = tmp_path / "results.json"
    monkeypatch.setattr(claims, "RESULTS", (path,))
    CLAIM.verdict()
    assert "NOT YET MEASURED" in capsys.readouterr().out
    records = [CLAIM.measure(1.0, 2.0 + s / 10, seed=s).record() for s in range(5)]
    path.write_text(json.dumps({"resnet": {"claims": {"k": summarise(records)}}}))
    CLAIM.verdict()
    printed = capsys.readouterr().out
    assert printed.startswith("SUPPORTED: t")
    assert "5 paired seeds" in printed
    assert "1.2, 95 % interval" in printed
    # The verdict follows the seeds' values: a stricter margin changes it without a new
    # measurement.
    dataclasses.replace(CLAIM, margin=3.0).verdict()
    assert capsys.readouterr().out.startswith("NOT SUPPORTED: t")
    path.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        CLAIM.verdict()
