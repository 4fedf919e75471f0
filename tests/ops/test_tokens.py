import pytest
import torch

from papernets_lite.ops import tokens


def test_words_of_any_integer_type_become_int64():
    for kind in (torch.uint8, torch.int32, torch.int64):
        found = tokens.check_tokens(torch.tensor([[3, 0]], dtype=kind), 4)
        assert found.dtype == torch.int64
        assert found.tolist() == [[3, 0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([1, 4]), r"tokens from 0 to 3, got \[4\]"),
        (torch.tensor([-1]), r"tokens from 0 to 3, got \[-1\]"),
        (torch.tensor([1.0]), "integers as tokens, got torch.float32"),
    ],
)
def test_what_is_no_word_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        tokens.check_tokens(wrong, 4)


def test_rows_begin_with_words_and_end_with_padding():
    rows = torch.tensor([[5, 2, 0], [5, 6, 7]])
    assert tokens.check_filled(rows).tolist() == [[True, True, False], [True] * 3]
    with pytest.raises(ValueError, match=r"at least one word in each row, got \[1\]"):
        tokens.check_filled(torch.tensor([[5, 0], [0, 0]]))
    with pytest.raises(ValueError, match=r"no word behind a PAD, got \[0\]"):
        tokens.check_filled(torch.tensor([[5, 0, 6], [5, 6, 7]]))


def test_the_end_and_what_follows_it():
    found = tokens.ended(torch.tensor([tokens.PAD, tokens.START, tokens.END, 3]))
    assert found.tolist() == [True, False, True, False]
