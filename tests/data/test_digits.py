import torch

from papernets_lite import data


def test_five_thousand_real_digits_split_by_class():
    train, test, both = (data.load("mnist5k", train=part) for part in (True, False, None))
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
