"""The one way in which bad input is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.ops.checks import (
    at_least,
    check_finite,
    check_images,
    check_inputs,
    check_keys,
    check_labels,
    check_mask,
    check_objects,
    check_pictures,
    check_same,
    expect,
)
from tests.unchecked import unchecked


def test_what_holds_passes() -> None:
    expect(True, "nothing")
    expect(torch.ones(3).all(), "nothing", 1)


def test_the_error_says_what_was_expected_and_what_came() -> None:
    with pytest.raises(
        ValueError, match=r"^expected two sides, got \(1, 3\), 'A', 0\.5$"
    ):
        expect(torch.tensor(False), "two sides", torch.empty(1, 3).shape, "A", 0.5)


def test_an_error_may_have_nothing_to_show() -> None:
    with pytest.raises(ValueError, match=r"^expected a description$"):
        expect("", "a description")


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 4, 1)


def test_images_pass_in_any_layout_and_are_refused_by_name() -> None:
    good = torch.rand(2, 3, 5, 4)
    check_images(good, conv())
    check_images(good.to(memory_format=torch.channels_last), conv())
    check_images(torch.rand(2, 5, 4, 3).permute(0, 3, 1, 2), conv())
    check_images(good.double())
    with torch.autocast("cpu", torch.bfloat16):
        check_images(good.bfloat16(), conv())
    for bad in (good[0], good[:0], good[..., :0]):
        with pytest.raises(ValueError, match="at least one image, as"):
            check_images(bad, conv())
    with pytest.raises(ValueError, match=r"floating type, got torch\.uint8"):
        check_images(good.byte(), conv())
    with pytest.raises(ValueError, match=r"3 channels, got \(2, 1, 5, 4\)"):
        check_images(good[:, :1], conv())
    with pytest.raises(ValueError, match=r"float32, got torch\.float64"):
        check_images(good.double(), conv())


def test_pictures_are_near_zero_to_one() -> None:
    check_pictures(torch.tensor([-0.2, 1.3]))
    check_pictures(torch.zeros(0))
    for bad in (torch.tensor([0.0, 255]), torch.tensor([0.5, float("nan")])):
        with pytest.raises(ValueError, match=r"photos in \[0, 1\], got"):
            check_pictures(bad, "photos")
    with pytest.raises(ValueError, match=r"floating type, got torch\.uint8"):
        check_pictures(torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_labels_of_any_integer_type_become_int64(kind: torch.dtype) -> None:
    found = check_labels(torch.tensor([0, 3, 1]).to(kind), 4)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 3, 1]


def test_labels_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="labels from 0 to 3, got 2, 255"):
        check_labels(torch.tensor([2, 255], dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match="labels from 0 to 3 or -1, got -2, 1"):
        check_labels(torch.tensor([1, -1, -2]), 4, unknown=-1)
    assert check_labels(torch.tensor([-1, -1]), 4, unknown=-1).tolist() == [-1, -1]
    with pytest.raises(ValueError, match=r"integer type, got torch\.float32"):
        check_labels(torch.tensor([1.0]), 4)
    with pytest.raises(ValueError, match=r"labels \(2,\), got \(1,\)"):
        check_labels(torch.tensor([1]), 4, shape=(2,))
    with pytest.raises(ValueError, match="at least one label"):
        check_labels(torch.zeros(0, dtype=torch.long), 4)


def test_masks_of_zeros_and_ones_mask_and_do_not_pick() -> None:
    mask = torch.tensor([True, False, True])
    assert check_mask(mask) is mask
    assert check_mask([0, 1, 1]).tolist() == [False, True, True]
    assert check_mask(mask.numpy()).equal(mask)
    for kind in (torch.uint8, torch.int64, torch.float32):
        assert check_mask(mask.to(kind)).equal(mask)
    with pytest.raises(ValueError, match=r"where of bool, or of 0 and 1, got .*2"):
        check_mask(torch.tensor([0, 2]), "where")
    with pytest.raises(ValueError, match="of bool"):
        check_mask(torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match=r"a mask \(2,\), got \(3,\)"):
        check_mask(mask, shape=(2,))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.tensor([[-1, 0]]), "from 0 on, got -1"),
        (torch.tensor([[0.5]]), "whole numbers of objects, got torch.float32"),
        (torch.zeros(0, 3, dtype=torch.long), "with a pixel"),
        (torch.zeros(3, dtype=torch.long), r"\(h, w\) with a pixel, got \(3,\)"),
    ],
)
def test_maps_of_objects_are_whole_and_not_negative(bad: Tensor, message: str) -> None:
    assert check_objects(torch.tensor([[0, 9]]).byte(), dims=2).tolist() == [[0, 9]]
    with pytest.raises(ValueError, match=message):
        check_objects(bad, dims=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: check_finite(torch.tensor([1.0, float("inf")]), "flow"),
            "finite flow, got '1 NaN or infinite values'",
        ),
        (lambda: check_finite(torch.tensor([1]), "flow"), "flow of a floating type"),
        (
            lambda: check_same(torch.zeros(1, 2), torch.zeros(3, 2), "maps"),
            r"maps of the same shape, got \(1, 2\), \(3, 2\)",
        ),
    ],
)
def test_the_rest_is_refused_by_name(wrong: Callable[[], None], message: str) -> None:
    check_finite(torch.zeros(0), "flow")
    check_same(torch.zeros(2), torch.ones(2), "maps")
    with pytest.raises(ValueError, match=message):
        wrong()


def test_the_count_that_is_too_small_is_named() -> None:
    at_least(0, blocks=0, halvings=3)
    with pytest.raises(ValueError, match=r"^expected halvings >= 1, got 0$"):
        at_least(1, blocks=1, halvings=0)


def test_inputs_that_fit_pass() -> None:
    net = nn.Conv2d(3, 1, 1)
    check_inputs(torch.rand(1, 3, 8, 12), net, least=8, multiple=4)
    check_inputs(torch.rand(1, 3, 8, 12).double(), net.double())
    check_inputs(torch.rand(2, 5, 1, 1), nn.Conv2d(5, 1, 1), channels=5)


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 8, 8),
        torch.rand(0, 3, 8, 8),
        torch.rand(1, 4, 8, 8),
        torch.rand(1, 8, 8, 3),
        torch.rand(1, 3, 4, 8),
        torch.rand(1, 3, 8, 10),
        torch.rand(1, 3, 8, 8).double(),
        torch.rand(1, 3, 8, 8).half(),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_inputs_that_a_net_cannot_take_are_refused(images: torch.Tensor) -> None:
    net = nn.Conv2d(3, 1, 1)
    with pytest.raises(ValueError, match="expected"):
        check_inputs(images, net, least=8, multiple=4)


def test_autocast_takes_any_floats_and_no_integers() -> None:
    net, images = nn.Conv2d(3, 1, 1), torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        check_inputs(images, net)
        check_inputs(images.bfloat16(), net)
        with pytest.raises(ValueError, match=r"type torch\.float32.*got torch\.uint8"):
            check_inputs(images.byte(), net)


def test_a_batch_that_lacks_something_is_refused_by_name() -> None:
    batch = {"images": 0, "labels": 1}
    check_keys(batch, "labels")
    check_keys(batch, "images", "labels")
    with pytest.raises(ValueError, match=r"with `boxes`, got \['images', 'labels'\]"):
        check_keys(batch, "boxes")
    with unchecked(), pytest.raises(ValueError, match=r"a mapping .*`labels`, got"):
        check_keys((batch,), "labels")  # type: ignore[arg-type]
