import pytest
import torch
from torch.nn import functional

from papernets_lite.ops import labels


def test_the_mean_over_what_is_asked_is_torchs():
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 7, requires_grad=True)
    truth = torch.randint(0, 7, (4, 5)).int()
    truth[torch.rand(4, 5) < 0.5] = labels.NOTHING
    expected = functional.cross_entropy(logits.flatten(0, 1), truth.long().flatten())
    found = labels.cross_entropy(logits, truth)
    assert torch.equal(found, expected)
    slopes = [torch.autograd.grad(value, logits)[0] for value in (found, expected)]
    assert torch.equal(*slopes)


def test_nothing_asked_is_nothing_lost():
    logits = torch.randn(2, 3, 7, requires_grad=True)
    value = labels.cross_entropy(logits, torch.full((2, 3), labels.NOTHING))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_half_precision_is_computed_in_single():
    logits = torch.randn(5, 300).bfloat16()
    found = labels.cross_entropy(logits, torch.arange(5))
    assert torch.equal(found, functional.cross_entropy(logits.float(), torch.arange(5)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([0, 7]), r"labels from 0 to 6 or -100, got 0, 7"),
        (torch.tensor([0, -1]), r"labels from 0 to 6 or -100, got -1, 0"),
        (torch.tensor([0]), r"labels \(2,\), got \(1,\)"),
        (torch.tensor([0.0, 1.0]), "integer type, got torch.float32"),
    ],
)
def test_labels_that_are_no_classes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        labels.cross_entropy(torch.zeros(2, 7), wrong)
