"""The table of trained blocks, and the pictures that they were trained on."""

import json

import pytest
import torch

from papernets_lite.data import blocks


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "table.json"
    row = {"codes": [[1, 1, 3, 0, 0], [2, 7, 0, 0, 0]], "early": [0.2], "full": [0.9]}
    path.write_text(json.dumps({"recipe": {"side": 16}, "blocks": [row]}))
    table = blocks.load(path)
    assert table.recipe == {"side": 16}
    (found,) = table.rows
    assert found.codes == ((1, 1, 3, 0, 0), (2, 7, 0, 0, 0))
    assert (found.early, found.full) == ((0.2,), (0.9,))


def test_pictures_depend_on_the_seed_and_not_on_their_number():
    images, labels = blocks.pictures(40, 16, seed=3)
    assert images.shape == (40, 3, 16, 16)
    fewer, some = blocks.pictures(10, 16, seed=3)
    assert torch.equal(images[:10], fewer)
    assert torch.equal(labels[:10], some)
    others, _ = blocks.pictures(10, 16, seed=4)
    assert not torch.equal(others, fewer)
    assert set(labels.tolist()) <= set(range(8))
    assert len(set(labels.tolist())) > 4


@pytest.mark.parametrize(("count", "side"), [(0, 16), (4, 0)])
def test_no_pictures_are_refused(count, side):
    with pytest.raises(ValueError, match="expected"):
        blocks.pictures(count, side)
