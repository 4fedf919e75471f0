"""Pieces, what they have in common, and the order in which they merge."""

import numpy as np
import pytest
import torch

from papernets_lite.ops import grouping


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def three() -> tuple[np.ndarray, np.ndarray]:
    """A picture of 4 x 6: black, white in the middle, black."""
    labels = np.repeat([0, 1, 2], 2)[None].repeat(4, 0)
    picture = (labels == 1).astype(float)[..., None].repeat(3, -1)
    return picture, labels


def test_pieces_by_hand() -> None:
    known = grouping.pieces(*three())
    assert known.sizes.tolist() == [8, 8, 8]
    assert known.boxes.tolist() == [[0, 0, 2, 4], [2, 0, 4, 4], [4, 0, 6, 4]]
    assert known.touch.tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]
    np.testing.assert_allclose(known.colours.sum(1), 1)
    np.testing.assert_allclose(known.colours[0], known.colours[2])


def test_likeness_by_hand() -> None:
    known = grouping.pieces(*three())
    # no colour in common; 16 of 24 pixels; their box is full
    found = grouping.alike(known, 0, np.array([1]), (1.0, 1.0, 1.0))
    assert found == pytest.approx([0 + (1 - 16 / 24) + 1])
    # the same colours; 16 of 24 pixels; a third of the picture lies between
    found = grouping.alike(known, 0, np.array([2]), (1.0, 1.0, 1.0))
    assert found == pytest.approx([1 + (1 - 16 / 24) + (1 - 8 / 24)])


def test_what_is_alike_merges_first() -> None:
    """Black, dark grey, white in a row: the first two go together."""
    labels = np.repeat([0, 1, 2], 2)[None].repeat(4, 0)
    picture = np.array([0.0, 0.1, 1.0])[labels][..., None].repeat(3, -1)
    boxes = grouping.merge(grouping.pieces(picture, labels))
    assert boxes[0].tolist() == [0, 0, 6, 4]
    assert boxes[1].tolist() == [0, 0, 4, 4]
    assert len(boxes) == 5


def test_pieces_that_touch_nothing_stay() -> None:
    one = np.zeros((4, 4), int)
    boxes = grouping.merge(grouping.pieces(np.zeros((4, 4, 3)), one))
    assert [box.tolist() for box in boxes] == [[0, 0, 4, 4]]


def test_a_square_is_framed() -> None:
    images = torch.full((2, 3, 32, 32), 0.2)
    images[1, :, 8:20, 4:14] = 0.9
    found = grouping.proposals(images, generator=generator())
    assert [4, 8, 14, 20] in found[1].tolist()
    assert found[0].tolist() == [[0, 0, 32, 32]]


def test_boxes_are_in_the_picture_and_come_once() -> None:
    images = torch.rand(2, 3, 30, 41, generator=generator())
    first, again = (
        grouping.proposals(images, generator=generator(), smallest=5) for _ in range(2)
    )
    for boxes, same in zip(first, again, strict=True):
        assert torch.equal(boxes, same)
        assert len(boxes.unique(dim=0)) == len(boxes) > 10
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([41, 30, 41, 30])).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 5).all()


def test_bad_input_is_refused() -> None:
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="at least one scale"):
        grouping.proposals(images, generator=generator(), scales=())
    with pytest.raises(ValueError, match="at least one image"):
        grouping.proposals(images[:0], generator=generator())
