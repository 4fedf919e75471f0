import math

import pytest

from papernets_lite.metrics import captions


def test_f1_by_hand():
    found = [{"a", "b"}, {"a"}, [], ["a", "a"]]
    truth = [{"a", "c", "d"}, {"a"}, [], ["a"]]
    assert captions.f1(found, truth).tolist() == pytest.approx([0.4, 1.0, 0.0, 1.0])


def test_bleu_by_hand():
    # words: 3 of 4 are there; pairs: 1 of 3; the true one has a word more
    found = captions.bleu(["a b x c"], [["a b c d e"]], longest=2)
    assert found == pytest.approx(math.sqrt(3 / 4 * 1 / 3) * math.exp(1 - 5 / 4))
    assert captions.bleu(["a b c d"], [["a b c d"]]) == 1
    assert captions.bleu(["a b c"], [["a b c"]]) == 0, "no run of four words"


def test_bleu_counts_a_run_as_often_as_one_true_sentence_has_it():
    assert captions.bleu(["a a a"], [["a a", "a b"]], longest=1) == pytest.approx(2 / 3)
    # nearest in length, the shorter of two equally near ones
    found = captions.bleu(["a a a a"], [["a a a", "b b b b b"]], longest=1)
    assert found == pytest.approx(3 / 4)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="2 sentences, got 1"):
        captions.f1([{"a"}], [{"a"}, {"b"}])
    with pytest.raises(ValueError, match="2 sentences, got 1"):
        captions.bleu(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="one true sentence for each"):
        captions.bleu(["a"], [[]])


@pytest.mark.reference
def test_bleu_is_torchmetrics():
    from torchmetrics import text

    found = ["a red star and a blue circle", "a red heart", "a white cross and a star"]
    truth = [
        ["a red star and a blue heart and a white cross", "a red star and a circle"],
        ["a red heart"],
        ["a white cross and a yellow star"],
    ]
    for longest in (1, 2, 4):
        expected = text.BLEUScore(n_gram=longest)(found, truth).item()
        assert captions.bleu(found, truth, longest=longest) == pytest.approx(
            expected, rel=1e-6
        )
