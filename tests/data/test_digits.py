import numpy as np
import pytest
import torch

from papernets_lite import data


def test_five_thousand_real_digits_split_by_class():
    train, test, both = (
        data.load("mnist5k", train=part) for part in (True, False, None)
    )
    assert train["images"].shape == (4000, 1, 28, 28)
    assert test["images"].shape == (1000, 1, 28, 28)
    assert torch.equal(both["labels"].bincount(), torch.full((10,), 500))
    assert torch.equal(test["labels"].bincount(), torch.full((10,), 100))
    known = {image.numpy().tobytes() for image in train["images"]}
    assert not any(image.numpy().tobytes() in known for image in test["images"])


def test_ink_is_white_on_black_and_zeros_are_hollow():
    digits = data.load("mnist5k", train=None)
    assert digits["images"].min() == 0
    assert digits["images"].max() == 1
    assert digits["images"].mean() < 0.2
    means = [digits["images"][digits["labels"] == k, 0].mean(0) for k in (0, 1)]
    assert means[0][14, 14] < 0.2 < 0.5 < means[1][14, 14]


def test_small_digits():
    digits = data.load("digits8")
    assert digits["images"].shape == (1797, 1, 8, 8)
    assert digits["images"].max() == 1
    assert digits["labels"].unique().tolist() == list(range(10))


def test_scenes_are_told_by_their_seed_alone():
    first, again = (
        data.digits.scenes(n, 64, torch.Generator().manual_seed(3)) for n in (4, 4)
    )
    fewer = data.digits.scenes(2, 64, torch.Generator().manual_seed(3))
    for key, value in first.items():
        assert torch.equal(value, again[key])
        assert torch.equal(value[:2], fewer[key])
    other = data.digits.scenes(4, 64, torch.Generator().manual_seed(4))
    assert not torch.equal(first["images"], other["images"])


def test_scenes_are_well_formed():
    found = data.digits.scenes(
        200, 64, torch.Generator().manual_seed(0), objects=(2, 5)
    )
    assert found["images"].shape == (200, 3, 64, 64)
    assert 0 <= found["images"].min() < found["images"].max() <= 1
    boxes = found["boxes"][found["valid"]]
    assert (boxes >= 0).all()
    assert (boxes <= 64).all()
    wide, tall = (boxes[:, 2:] - boxes[:, :2]).T
    assert ((tall > 0.16 * 64 - 1e-3) & (tall < 0.44 * 64 + 1e-3)).all()
    assert ((wide / tall > 0.39) & (wide / tall < 1.11)).all()
    assert set(found["valid"].sum(1).tolist()) == {2, 3, 4, 5}
    assert (found["boxes"][~found["valid"]] == 0).all()
    assert found["labels"][found["valid"]].unique().tolist() == list(range(10))


def test_boxes_of_scenes_fit_the_ink():
    """The same scene with other digits' places unchanged: what differs from the ground
    lies in the box, to its rim."""
    found = data.digits.scenes(
        60, 128, torch.Generator().manual_seed(1), objects=(1, 1), height=(0.3, 0.5)
    )
    for image, (x0, y0, x1, y1) in zip(
        found["images"], found["boxes"][:, 0].tolist(), strict=True
    ):
        cut = image[:, int(y0) : int(y1) + 1, int(x0) : int(x1) + 1].mean(0)
        assert cut.std() > 0.02
    # On one material: ink is where the colour departs from the ground's, and its box is
    # the annotated one.
    edges = []
    for image, box in zip(found["images"], found["boxes"][:, 0], strict=True):
        ground = image.flatten(1).median(1).values[:, None, None]
        ink = (image - ground).abs().amax(0) > 0.5 * (image - ground).abs().max()
        rows, columns = ink.any(1).nonzero()[:, 0], ink.any(0).nonzero()[:, 0]
        edges.append(
            torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) - box
        )
    assert torch.stack(edges).median(0).values.abs().max() < 2.5


def test_train_and_test_scenes_show_different_digits():
    scenes = [
        data.digits.scenes(1, 64, torch.Generator().manual_seed(0), train=train)
        for train in (True, False)
    ]
    assert torch.equal(scenes[0]["valid"], scenes[1]["valid"])
    assert not torch.equal(scenes[0]["images"], scenes[1]["images"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"size": 15},
        {"objects": (3, 2)},
        {"height": (0.2, 0.9)},
        {"objects": (0, 2)},
    ],
)
def test_scenes_refuse_bad_requests(wrong):
    generator = torch.Generator().manual_seed(0)
    request = {"n": 1, "size": 64, "generator": generator, **wrong}
    with pytest.raises(ValueError, match="expected"):
        data.digits.scenes(**request)


def test_numpys_whole_numbers_will_do():
    one, other = (
        data.digits.scenes(n, size, torch.Generator().manual_seed(0))
        for n, size in ((2, 47), (np.int64(2), np.int64(47)))
    )
    for name, values in one.items():
        assert torch.equal(values, other[name]), name
