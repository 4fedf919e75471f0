"""Sizes and counts of the paper, the weight map against scipy and by hand, mirrored
tiles without a seam."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from papernets_lite.data import cells
from papernets_lite.segmentation import unet
from tests.helpers import fit
from tests.unchecked import unchecked


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def by_hand(widths, in_channels, num_classes) -> int:
    """Weights and biases, level by level."""
    total, above = 0, in_channels
    for width in widths:
        total += 9 * above * width + width + 9 * width * width + width
        above = width
    for width, low in itertools.pairwise(widths):
        total += 4 * low * width + width  # up-convolution
        total += 9 * 2 * width * width + width + 9 * width * width + width
    return total + widths[0] * num_classes + num_classes


def test_parameters_equal_the_paper():
    with torch.device("meta"):
        assert count(unet.paper()) == 31_030_658 == by_hand(unet.WIDTHS, 1, 2)
        assert count(unet.paper(in_channels=3)) == 31_031_810
        half = unet.UNet(widths=(32, 64, 128, 256, 512), in_channels=1, num_classes=1)
        assert count(half) == 7_759_521  # the U-Net of the UNet++ authors
        convolutions = [
            m
            for m in unet.paper().modules()
            if isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))
        ]
    assert len(convolutions) == 23


def test_sizes_are_those_of_figure_1():
    sizes = []
    with torch.device("meta"):
        net = unet.paper()
        for layer in [*net.down, *net.up, *net.merge]:
            layer.register_forward_hook(
                lambda module, inputs, out: sizes.append(out.shape[-1])
            )
        assert net(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sizes == [568, 280, 136, 64, 28, 56, 52, 104, 100, 200, 196, 392, 388]
    assert [unet.margin(depth) for depth in (1, 2, 4)] == [8, 20, 92]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_every_size_is_either_right_or_refused(depth, padding):
    net = unet.UNet(widths=[2] * (depth + 1), padding=padding, dropout=0)
    allowed = 0
    for side in range(1, 130):
        try:
            net.check([side])
        except ValueError:
            continue
        allowed += 1
        out = net(torch.zeros(1, 1, side, side))
        assert out.shape[-1] == (side if padding else side - 2 * unet.margin(depth))
    assert allowed >= 5


def test_crop_takes_as_much_from_either_side():
    assert unet.crop(torch.arange(36).reshape(1, 6, 6), (2, 4)).tolist() == [
        [[13, 14, 15, 16], [19, 20, 21, 22]]
    ]


def test_initial_weights_have_the_papers_deviation():
    torch.manual_seed(0)
    net = unet.paper(widths=(64, 128))
    # the paper's example
    assert net.down[0][2].weight.std().item() == pytest.approx(
        math.sqrt(2 / 576), rel=0.02
    )
    assert net.up[0].weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.02)
    assert not any(
        p.any() for name, p in net.named_parameters() if name.endswith("bias")
    )


def test_dropout_follows_the_two_lowest_blocks():
    seen = []
    net = unet.UNet(widths=(2, 3, 4, 5), dropout=0.5)
    net.dropout.register_forward_hook(
        lambda module, inputs, out: seen.append(out.shape[1])
    )
    net(torch.zeros(1, 1, 108, 108))
    assert seen == [4, 5]


def test_energy_by_hand():
    outputs = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])
    labels, weights = torch.tensor([[[1, 1]]]), torch.tensor([[[3.0, 0.5]]])
    right = math.log(2), math.log(1 + math.exp(2))
    batch = {"labels": labels, "weights": weights}
    plain = unet.loss(outputs, {"labels": labels})["loss"].item()
    assert plain == pytest.approx(sum(right) / 2)
    found = unet.loss(outputs, batch)
    assert found["loss"].item() == pytest.approx((3 * right[0] + 0.5 * right[1]) / 2)
    assert found["accuracy"].item() == 0
    wide = {
        "labels": functional.pad(labels, (3, 3, 2, 2)),
        "weights": functional.pad(weights, (3, 3, 2, 2), value=99.0),
    }
    assert unet.loss(outputs, wide)["loss"] == found["loss"]


def test_cells_that_touch_are_parted_by_two_pixels():
    row = torch.tensor([[[0, 1, 1, 1, 2, 2, 2, 0, 3]]])
    assert unet.separate(row.expand(1, 4, 9))[0, 0].tolist() == [
        0,
        1,
        1,
        0,
        0,
        2,
        2,
        0,
        3,
    ]
    corner = torch.tensor([[[1, 0], [0, 2]]])
    assert not unet.separate(corner).any()
    alone = torch.tensor([[[0, 5, 5], [0, 5, 5]]])
    assert unet.separate(alone).equal(alone)


def test_after_separation_every_piece_has_one_cell():
    truth = cells.annotate(cells.sample(20, torch.Generator().manual_seed(0)), 64)[
        "instances"
    ]
    for image in unet.separate(truth).numpy():
        pieces, number = ndimage.label(image > 0, np.ones((3, 3)))
        assert all(
            len(np.unique(image[pieces == i])) == 1 for i in range(1, number + 1)
        )


def test_balance_by_hand():
    labels = torch.tensor([[[0, 0, 0, 7]], [[0, 0, 0, 0]]])
    found = unet.class_balance(labels)
    torch.testing.assert_close(
        found, torch.tensor([[[2 / 3, 2 / 3, 2 / 3, 2.0]], [[1.0, 1, 1, 1]]])
    )


def test_distances_are_scipys():
    truth = cells.annotate(cells.sample(3, torch.Generator().manual_seed(1)), 48)[
        "instances"
    ]
    for image in unet.separate(truth):
        each = [
            ndimage.distance_transform_edt(image != number)
            for number in image.unique()
            if number > 0
        ]
        expected = np.sort(np.stack(each), 0)[:2]
        expected[:, image > 0] = 0
        torch.testing.assert_close(
            unet.nearest_two(image), torch.from_numpy(expected).float()
        )


def test_equation_2_by_hand():
    # Cells at columns 0 and 4 of one row: d1 + d2 = 4 everywhere between them.
    image = torch.tensor([[[1, 0, 0, 0, 2]]])
    border = 10 * math.exp(-(4**2) / (2 * 5**2))
    expected = [1.25, *[0.5 / 0.6 + border] * 3, 1.25]
    assert unet.weight_map(image)[0, 0].tolist() == pytest.approx(expected)
    assert unet.weight_map(image, w0=0).equal(unet.class_balance(image))
    one = torch.tensor([[[1, 0, 0, 0, 0]]])  # there is no second cell
    assert unet.weight_map(one).equal(unet.class_balance(one))
    none = torch.zeros(1, 3, 3, dtype=torch.long)
    assert unet.weight_map(none).equal(torch.ones(1, 3, 3))
    with pytest.raises(ValueError, match="expected sigma > 0"):
        unet.weight_map(image, sigma=0)


def keys(t: float, a: float = -0.75) -> float:
    """Keys' bicubic kernel."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def test_fields_pass_through_the_coarse_vectors_with_cubics_between():
    found = unet.displacements(2, (9, 13), torch.Generator().manual_seed(4), std=3.0)
    coarse = 3.0 * torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(found[:, :, ::4, ::6], coarse)
    for row, column in ((3, 5), (1, 11), (8, 2)):
        y, x = row / 4, column / 6
        expected = sum(
            keys(y - i)
            * keys(x - j)
            * coarse[:, :, min(max(i, 0), 2), min(max(j, 0), 2)]
            for i in range(-2, 5)
            for j in range(-2, 5)
        )
        torch.testing.assert_close(found[:, :, row, column], expected)


def test_a_field_of_whole_pixels_shifts_and_mirrors():
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    field = torch.zeros(1, 2, 3, 4)
    field[:, 0] = 1
    expected = torch.tensor([[1.0, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]])
    torch.testing.assert_close(unet.deform(maps, field)[0, 0], expected)
    field[:, 0], field[:, 1] = 0, -1
    torch.testing.assert_close(unet.deform(maps, field)[0, 0, 0], maps[0, 0, 0])
    torch.testing.assert_close(unet.deform(maps, 0 * field), maps)


@pytest.mark.parametrize(("mode", "order"), [("bilinear", 1), ("nearest", 0)])
def test_deforming_is_scipys_map_coordinates(mode, order):
    generator = torch.Generator().manual_seed(2)
    image, field = (
        torch.rand(1, 1, 40, 56, generator=generator),
        unet.displacements(1, (40, 56), generator, std=4.0),
    )
    where = np.mgrid[:40, :56] + field[0].flip(0).numpy().astype(float)
    expected = ndimage.map_coordinates(
        image[0, 0].numpy(), where, order=order, mode="reflect"
    )
    wrong = (
        unet.deform(image, field, mode)[0, 0] - torch.from_numpy(expected)
    ).abs() > 1e-4
    # halves may be rounded either way
    assert wrong.float().mean() < (0.001 if order == 0 else 1e-9)


def test_jacobian_of_a_stretch_and_of_a_fold():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    field = torch.stack([0.5 * x, 0 * y])[None]
    torch.testing.assert_close(unet.jacobian(field), torch.full((1, 4, 5), 1.5))
    assert (unet.jacobian(-4 * field) == -1).all()
    turned = torch.stack([-x - y, x - y])[None]  # x -> -y, y -> x: a quarter turn
    torch.testing.assert_close(unet.jacobian(turned), torch.ones(1, 4, 5))


def test_pictures_labels_and_weights_move_together():
    labels = (
        torch.rand(2, 30, 30, generator=torch.Generator().manual_seed(0)) > 0.5
    ).long()
    batch = {
        "images": labels[:, None].float(),
        "labels": labels,
        "weights": 5.0 * labels,
    }
    found = unet.augment(batch, torch.Generator().manual_seed(1), std=3.0)
    assert found["weights"].equal(5.0 * found["labels"])
    assert not found["labels"].equal(labels)
    # bilinear against nearest
    assert (
        (found["images"][:, 0] > 0.5) != (found["labels"] > 0)
    ).float().mean() < 0.35
    same, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert unet.augment(batch, same, std=0) is batch
    unet.augment(batch, other, std=2.0)
    assert torch.rand(1, generator=same) == torch.rand(1, generator=other)


def test_turning_gives_eight_positions_to_all_maps_alike():
    images = torch.arange(12.0).reshape(1, 3, 2, 2)
    labels = torch.tensor([[[0, 1], [2, 3]]])
    turned = unet.turns({"images": images, "labels": labels})
    assert turned["images"].shape == (8, 3, 2, 2)
    assert turned["labels"].flatten(1).unique(dim=0).shape == (8, 4)
    assert turned["labels"][0].equal(labels[0])
    assert turned["labels"][1].tolist() == [[1, 3], [0, 2]]
    assert turned["labels"][4].tolist() == [[1, 0], [3, 2]]
    assert turned["images"][:, 0].long().equal(turned["labels"])
    with pytest.raises(ValueError, match="labels of square pictures"):
        unet.turns({"labels": labels[:, :1]})


@pytest.mark.parametrize(
    ("size", "margins"), [((5, 7), (3, 2)), ((4, 4), (9, 14)), ((1, 6), (2, 2))]
)
def test_mirroring_is_numpys(size, margins):
    image = torch.arange(math.prod(size)).reshape(1, *size)
    expected = np.pad(image.numpy(), ((0, 0), margins, margins), mode="reflect")
    assert unet.mirror(image, *margins).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("depth", "tiles"), [(1, (4, 10, 40)), (2, (4, 16, 40)), (3, (12, 20, 44))]
)
def test_tiles_leave_no_seam(depth, tiles):
    torch.manual_seed(0)
    net = unet.UNet(widths=[4, 6, 8, 8][: depth + 1], dropout=0).eval()
    images = torch.rand(2, 1, 37, 29)
    with torch.no_grad():
        small, middle, large = (unet.predict(net, images, tile) for tile in tiles)
    torch.testing.assert_close(small, large)
    torch.testing.assert_close(middle, large)
    with torch.no_grad():
        zeros = unet.predict(net, images, tiles[0], mirrored=False)
    assert not torch.allclose(zeros, large)


def test_away_from_the_border_what_lies_beyond_does_not_matter():
    torch.manual_seed(0)
    net = unet.tiny().eval()
    images, around = torch.rand(1, 3, 64, 64), unet.margin(2)
    with torch.no_grad():
        mirrored, zeros = (
            unet.predict(net, images, 64, mirrored=m) for m in (True, False)
        )
    inside = slice(around + 2, -around - 2)
    torch.testing.assert_close(
        mirrored[..., inside, inside], zeros[..., inside, inside]
    )


def test_a_few_steps_fit_a_picture():
    torch.manual_seed(0)
    scene = cells.sample(1, torch.Generator().manual_seed(0))
    images, truth = (
        cells.render(scene, 64),
        unet.separate(cells.annotate(scene, 64)["instances"]),
    )
    net, around = unet.tiny(), unet.margin(2)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    wide = unet.mirror((images - images.mean()) / images.std(), around, around)
    losses = fit(
        lambda: unet.loss(net(wide), {"labels": (truth > 0).long()})["loss"],
        optimizer,
        40,
    )
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: unet.UNet(widths=(4,)), "two widths or more"),
        (lambda: unet.tiny(padding=2), "padding 0 or 1"),
        (lambda: unet.tiny()(torch.zeros(0, 3, 60, 60)), "at least one image"),
        (lambda: unet.tiny()(torch.zeros(1, 3, 62, 62)), r"expected sides of 0 \+ k 4"),
        (lambda: unet.tiny()(torch.zeros(1, 3, 40, 40)), "at least 41"),
        (lambda: unet.paper().check([574]), r"expected sides of 12 \+ k 16"),
        (
            lambda: unet.predict(unet.tiny(), torch.zeros(1, 3, 30, 30), 13),
            "expected sides",
        ),
        (
            lambda: unet.predict(
                unet.tiny(widths=(2, 2, 2, 2)), torch.zeros(1, 3, 30, 30), 4
            ),
            "a tile of at least 8",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def labelled(**changes):
    """Logits and a batch that fits them."""
    batch = {
        "labels": torch.zeros(2, 4, 4, dtype=torch.long),
        "weights": torch.ones(2, 4, 4),
    }
    return torch.rand(2, 3, 4, 4), batch | changes


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_labels_as_numpy_delivers_them(kind):
    outputs, batch = labelled()
    expected = unet.loss(outputs, batch)["loss"]
    batch["labels"] = batch["labels"].to(kind)
    assert unet.loss(outputs, batch)["loss"].equal(expected)
    batch["weights"] = batch["weights"].double()
    assert unet.loss(outputs, batch)["loss"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.full((2, 4, 4), 255)}, "labels from 0 to 2, got 255, 255"),
        ({"labels": torch.full((2, 4, 4), -1)}, "labels from 0 to 2, got -1, -1"),
        ({"labels": torch.zeros(2, 4, 4)}, "labels of an integer type"),
        ({"labels": torch.zeros(1, 4, 4).long()}, r"labels \(2, h, w\), got \(1,"),
        ({"labels": torch.zeros(2, 1, 4, 4).long()}, r"labels \(2, h, w\), got \(2, 1"),
        ({"labels": torch.zeros(2, 3, 4).long()}, "4 x 4 pixels and as many on each"),
        ({"labels": torch.zeros(2, 5, 6).long()}, "4 x 4 pixels and as many on each"),
        ({"weights": torch.ones(1, 4, 4)}, "labels and weights of the same shape"),
        ({"weights": torch.full((2, 4, 4), float("nan"))}, "finite weights >= 0"),
        ({"weights": torch.full((2, 4, 4), float("inf"))}, "finite weights >= 0"),
        ({"weights": -torch.ones(2, 4, 4)}, "finite weights >= 0"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        unet.loss(*labelled(**changes))


def test_a_picture_that_is_one_cell_has_no_border():
    full = torch.full((1, 4, 5), 7)
    assert unet.nearest_two(full[0]).eq(0).all()
    assert unet.weight_map(full).equal(torch.ones(1, 4, 5))


def test_cells_may_be_counted_in_bytes_but_not_below_zero():
    row = torch.tensor([[[0, 1, 1, 2, 2, 0]]])
    for work in (unet.separate, unet.class_balance, unet.weight_map):
        assert work(row.byte()).long().equal(work(row).long())
        with pytest.raises(ValueError, match="numbers of objects from 0 on, got -1"):
            work(row - 1)
        with pytest.raises(ValueError, match="with a pixel"):
            work(row[:0])


def test_weights_need_not_be_there_to_deform_a_batch():
    labels = torch.randint(0, 2, (2, 9, 9), generator=torch.Generator().manual_seed(0))
    batch = {"images": torch.rand(2, 3, 9, 9), "labels": labels}
    weighted = batch | {"weights": torch.ones(2, 9, 9)}
    found = unet.augment(batch, torch.Generator().manual_seed(1), std=2.0)
    with_weights = unet.augment(weighted, torch.Generator().manual_seed(1), std=2.0)
    assert set(found) == {"images", "labels"}
    assert all(found[name].equal(with_weights[name]) for name in found)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: unet.tiny(num_classes=0), "positive numbers of channels"),
        (lambda: unet.tiny(widths=(0, 4)), "positive numbers of channels"),
        (lambda: unet.tiny(dropout=float("nan")), "a dropout from 0 to 1, got nan"),
        (lambda: unet.tiny()(torch.rand(1, 1, 60, 60)), "3 channels"),
        (lambda: unet.tiny()(torch.rand(1, 3, 60, 60).double()), "torch.float32"),
        (lambda: unet.mirror(torch.rand(1, 0, 4), 1, 1), "with a pixel"),
        (lambda: unet.mirror(torch.rand(1, 4, 4), -1, 1), "margins >= 0"),
        (lambda: unet.jacobian(torch.rand(1, 2, 1, 4)), "two rows and columns"),
        (
            lambda: unet.predict(unet.tiny(padding=1), torch.rand(1, 3, 30, 30), 16),
            "valid convolutions",
        ),
        (
            lambda: unet.displacements(0, (8, 8), torch.Generator()),
            "positive n, sides and grid",
        ),
        (
            lambda: unet.displacements(1, (8, 8), torch.Generator(), std=float("nan")),
            "a finite std >= 0",
        ),
        (
            lambda: unet.augment(
                {"images": torch.rand(2, 3, 8, 8), "labels": torch.ones(2, 6, 6)},
                torch.Generator(),
                std=1.0,
            ),
            r"labels \(2, 8, 8\), got \(2, 6, 6\)",
        ),
        (
            lambda: unet.deform(torch.rand(2, 3, 8, 8), torch.rand(1, 2, 8, 8)),
            r"a flow \(2, 2, 8, 8\)",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        wrong()


def test_every_override_reaches_the_net():
    with torch.device("meta"):
        for build in (unet.tiny, unet.paper):
            net = build(num_classes=7, in_channels=2, widths=(4, 8), padding=1)
            assert type(net) is unet.UNet
            assert net.head.out_channels == 7
            assert net.down[0][0].in_channels == 2
            assert (net.depth, net.padding) == (1, 1)


def test_without_skips_the_way_up_has_the_coarse_maps_alone():
    torch.manual_seed(0)
    net = unet.tiny(skips=False)
    assert [merge[0].in_channels for merge in net.merge] == [32, 16]
    assert net(torch.rand(1, 3, 60, 60)).shape == (1, 2, 20, 20)
    # equal cost: what the fine maps' weights took, as wider layers
    ratio = count(unet.tiny(widths=(18, 36, 64), skips=False)) / count(unet.tiny())
    assert 1 < ratio < 1.03


@pytest.mark.parametrize("level", [0, 1])
def test_a_cut_skip_carries_nothing(level):
    torch.manual_seed(0)
    net = unet.tiny().eval()
    images = torch.rand(1, 3, 60, 60)
    with torch.no_grad():
        before = net(images)
        less = unet.cut(net, level)
        found = less(images)
        assert net(images).equal(before)
        assert not found.allclose(before)
        # zeros where the fine map was
        merge = net.merge[net.depth - 1 - level]
        width = merge[0].out_channels
        merge[0].register_forward_pre_hook(
            lambda layer, maps: torch.cat(
                [torch.zeros_like(maps[0][:, :width]), maps[0][:, width:]], 1
            )
        )
        torch.testing.assert_close(net(images), found)


def test_only_a_skip_that_is_there_can_be_cut():
    with pytest.raises(ValueError, match="a net with skips"):
        unet.cut(unet.tiny(skips=False), 0)
    for level in (-1, 2):
        with pytest.raises(ValueError, match=f"a level from 0 to 1, got {level}"):
            unet.cut(unet.tiny(), level)
