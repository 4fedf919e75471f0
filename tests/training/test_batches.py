"""Batches: shuffled, complete, refused when they cannot be."""

import pytest
import torch

from papernets_lite import training
from tests.training.job import batches


def test_batches_cover_every_sample_once_per_epoch():
    source = batches(32, 8)
    for _ in range(3):
        epoch = torch.cat([next(source)["labels"] for _ in range(4)])
        assert sorted(epoch.tolist()) == list(range(32))
    pair = next(source)
    assert torch.equal(pair["images"][:, 0].long(), pair["labels"])


def test_batches_drop_a_remainder_until_the_next_epoch():
    source = batches(10, 4)
    seen = torch.cat([next(source)["labels"] for _ in range(2)])
    assert len(set(seen.tolist())) == 8
    assert len(next(source)["labels"]) == 4


@pytest.mark.parametrize(
    ("tensors", "size"),
    [
        ({}, 2),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, 2),
        ({"a": torch.zeros(3)}, 4),
        ({"a": torch.zeros(0)}, 1),
        ({"a": torch.zeros(3)}, 0),
    ],
)
def test_bad_batches_are_refused(tensors, size):
    with pytest.raises(ValueError, match="expected"):
        training.Batches(tensors, size, generator=torch.Generator())


def test_tensors_of_several_arms_are_no_batch():
    with pytest.raises(ValueError, match="tensors by name, got 'arm'"):
        training.Batches({"arm": {}}, 1, generator=torch.Generator())
