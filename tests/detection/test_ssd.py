"""Scales, boxes, matching, mining, crops and zooming out by hand; heads and nets
against what they must see and give."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from papernets_lite.detection import ssd
from papernets_lite.ops.boxes import decode as decode_boxes
from tests.helpers import fit

CELLS = [38, 19, 10, 5, 3, 1]


def boxes(count: int, seed: int, size: float = 64.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, sides = torch.rand(2, count, 2, generator=generator)
    return torch.cat([corner, corner + 0.05 + 0.5 * sides], 1) * size / 1.6


def test_scales_by_hand() -> None:
    """Six maps from 0.2 to 0.9: steps of 0.14, and one beyond the last."""
    assert ssd.scales(6) == pytest.approx([0.2, 0.34, 0.48, 0.62, 0.76, 0.9, 1.04])
    assert ssd.scales(3, smallest=0.1, largest=0.5) == pytest.approx(
        [0.1, 0.3, 0.5, 0.7]
    )


def test_default_boxes_by_hand() -> None:
    """Two rows, three columns, 10 pixels a cell, on an image 40 high and 60 wide."""
    (found,) = ssd.default_boxes(
        [(2, 3)], (40, 60), strides=[10], scales=[0.25, 0.5], ratios=[(4,)]
    )
    assert found.shape == (6 * 4, 4)
    sides, centres = found[:, 2:] - found[:, :2], (found[:, 2:] + found[:, :2]) / 2
    root = math.sqrt(0.125)
    expected = [(15, 10), (60 * root, 40 * root), (30, 5), (7.5, 20)]
    for cell in range(6):
        torch.testing.assert_close(
            sides[4 * cell : 4 * cell + 4], torch.tensor(expected)
        )
    assert centres[::4].tolist() == [
        [5, 5],
        [15, 5],
        [25, 5],
        [5, 15],
        [15, 15],
        [25, 15],
    ]


def test_default_boxes_are_no_longer_than_the_image() -> None:
    (found,) = ssd.default_boxes(
        [(1, 1)], (30, 30), strides=[30], scales=[0.8, 1.0], ratios=[(4,)]
    )
    torch.testing.assert_close(found[2], torch.tensor([0.0, 9.0, 30.0, 21.0]))


def test_the_papers_net_has_8732_boxes_on_six_maps() -> None:
    with torch.device("meta"):
        net = ssd.paper()
        maps = net.maps(torch.zeros(1, 3, 300, 300))
    assert [(m.shape[1], *m.shape[2:]) for m in maps] == [
        (c, n, n) for c, n in zip([512, 1024, 512, 256, 256, 256], CELLS, strict=True)
    ]
    found = net.defaults((300, 300), [(n, n) for n in CELLS])
    assert [len(f) for f in found] == [5776, 2166, 600, 150, 36, 4]
    assert sum(len(f) for f in found) == 8732


@pytest.mark.parametrize(("classes", "expected"), [(20, 26_285_486), (90, 35_641_826)])
def test_parameters_equal_the_paper(classes: int, expected: int) -> None:
    with torch.device("meta"):
        assert (
            sum(p.numel() for p in ssd.paper(num_classes=classes).parameters())
            == expected
        )


def test_fc6_sees_thirteen_cells() -> None:
    """Dilation 6 times (3 - 1), plus 1: kernel reach without a stride."""
    fc6 = ssd.paper().stages[1][-4]
    assert isinstance(fc6, nn.Conv2d)
    x = torch.zeros(1, 512, 19, 19, requires_grad=True)
    fc6(x)[0, 0, 9, 9].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert rows == [3, 9, 15]
    assert rows[-1] - rows[0] + 1 == 13


def test_two_true_boxes_that_share_their_best_default_box_both_get_one() -> None:
    iou = torch.tensor([[0.45, 0.30, 0.0, 0.1], [0.40, 0.10, 0.0, 0.2]])
    assert ssd.match(iou).tolist() == [0, -1, -1, 1]


def test_match_gives_the_best_pair_first_and_then_all_above_the_threshold() -> None:
    iou = torch.tensor(
        [[0.9, 0.6, 0.5, 0.2], [0.8, 0.7, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0]]
    )
    # The pair 0.9 first; the second box keeps its next best, 0.7; the third 0.5; nobody
    # is matched without overlap.
    assert ssd.match(iou).tolist() == [0, 1, 0, -1]
    assert ssd.match(torch.zeros(0, 4)).tolist() == [-1] * 4


def test_match_equals_the_plain_loop() -> None:
    for seed in range(20):
        iou = box_iou(boxes(5, seed), boxes(60, seed + 100))
        expected = [-1] * 60
        for a in range(60):
            g = int(iou[:, a].argmax())
            expected[a] = g if iou[g, a] >= 0.5 else -1
        free_true, free_default = set(range(5)), set(range(60))
        while free_true:
            pairs = [
                (iou[g, a].item(), g, a)
                for g in free_true
                for a in free_default
                if iou[g, a] > 0
            ]
            if not pairs:
                break
            _, g, a = max(pairs)
            expected[a] = g
            free_true.remove(g)
            free_default.remove(a)
        assert ssd.match(iou).tolist() == expected


def test_targets_decode_to_the_true_boxes_and_ignore_what_is_not_there() -> None:
    defaults = torch.cat(ssd.tiny().defaults((64, 64)))
    true, labels = (
        torch.stack([boxes(3, 0), boxes(3, 1)]),
        torch.tensor([[0, 1, 2], [3, 3, 0]]),
    )
    valid = torch.tensor([[True, False, True], [False, False, False]])
    classes, codes = ssd.targets(defaults, true, labels, valid)
    assert set(classes[0].tolist()) == {ssd.BACKGROUND_CLASS, 1, 3}
    assert not classes[1].any()
    assert not codes[classes == ssd.BACKGROUND_CLASS].any()
    for label in (0, 2):
        there = classes[0] == 1 + label
        back = decode_boxes(codes[0][there], defaults[there], deviations=ssd.DEVIATIONS)
        torch.testing.assert_close(
            back, true[0, label].expand_as(back), rtol=1e-4, atol=1e-3
        )


def test_hard_negatives_by_hand() -> None:
    losses = torch.tensor(
        [[9.0, 1.0, 5.0, 2.0, 4.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
        requires_grad=True,
    )
    positive = torch.tensor([[True, False, False, False, False, False], [False] * 6])
    found = ssd.hard_negatives(losses, positive, ratio=3)
    # no object, no negatives
    assert found.tolist() == [[False, False, True, False, True, True], [False] * 6]
    assert not found.requires_grad
    everything = ssd.hard_negatives(losses, positive, ratio=100)
    assert everything.tolist() == [[False, True, True, True, True, True], [False] * 6]


def outputs(logits: Tensor, codes: Tensor) -> ssd.Outputs:
    return ssd.Outputs(logits, codes, boxes(logits.shape[1], 0), (64, 64))


def test_loss_by_hand() -> None:
    # One positive, four negatives of which the three with the highest score of an
    # object count.
    logits = torch.zeros(1, 5, 3)
    logits[0, :, 1] = torch.tensor([0.0, -9.0, 1.0, 2.0, 3.0])
    codes = torch.zeros(1, 5, 4)
    codes[0, 0] = torch.tensor([0.5, 0.0, 3.0, 0.0])
    found = ssd.multibox_loss(
        outputs(logits, codes), torch.tensor([[2, 0, 0, 0, 0]]), torch.zeros(1, 5, 4)
    )
    negatives = sum(math.log(2 + math.exp(v)) for v in (1, 2, 3))
    assert found["classes"].item() == pytest.approx(math.log(3) + negatives, rel=1e-5)
    assert found["codes"].item() == pytest.approx(0.5 * 0.5**2 + (3 - 0.5))
    assert found["loss"].item() == pytest.approx(
        found["classes"].item() + found["codes"].item()
    )
    assert found["negatives"].item() == 3
    without = ssd.multibox_loss(
        outputs(logits, codes),
        torch.tensor([[2, 0, 0, 0, 0]]),
        torch.zeros(1, 5, 4),
        ratio=math.inf,
    )
    assert without["classes"].item() == pytest.approx(
        found["classes"].item() + math.log(2 + math.exp(-9)), rel=1e-5
    )


def test_loss_without_an_object_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(2, 7, 3, requires_grad=True)
    found = ssd.multibox_loss(
        outputs(logits, torch.randn(2, 7, 4)),
        torch.zeros(2, 7, dtype=torch.long),
        torch.zeros(2, 7, 4),
    )
    found["loss"].backward()
    assert found["loss"].item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_l2norm_by_hand() -> None:
    x = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(ssd.L2Norm(2)(x).flatten(), torch.tensor([12.0, 16.0]))
    assert not ssd.L2Norm(2)(torch.zeros(1, 2, 1, 1)).any()


@pytest.mark.parametrize("cells", [1, 2, 4])
def test_a_head_answers_in_the_order_of_the_boxes_from_the_right_place(
    cells: int,
) -> None:
    """A map that holds its own coordinates, copied: every box gets those of the cell
    that it lies in."""
    head, side = ssd.Head(2, 4, 2, cells=cells), 8
    nn.init.zeros_(head.conv.weight)
    with torch.no_grad():
        head.conv.weight.view(-1, 2, 2, 3, 3)[:, [0, 1], [0, 1], 1, 1] = 1
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    found = head(torch.stack([x, y])[None].float())[0]
    grid, stride = (cells * side, cells * side), 64 / side / cells
    (defaults,) = ssd.default_boxes(
        [grid], (64, 64), strides=[stride], scales=[0.1, 0.2], ratios=[(2,)]
    )
    centres = (defaults[:, :2] + defaults[:, 2:]) / 2
    torch.testing.assert_close(found, (centres / (64 / side)).floor())


def test_numbers_of_one_box_stand_together() -> None:
    head = ssd.Head(1, 2, 3, cells=2)
    nn.init.zeros_(head.conv.weight)
    with torch.no_grad():
        head.conv.bias.copy_(torch.arange(24.0))
    found = head(torch.zeros(1, 1, 2, 2))[0]
    assert found.shape == (2 * 2 * 4 * 2, 3)
    # upper left cell, then its right one
    assert found[:4].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert found[8].tolist() == [12, 13, 14]  # second row of cells


@pytest.mark.parametrize("sources", [(0, 1, 2), (1, 1, 1), (2, 2, 2), (0, 0, 0)])
def test_the_boxes_stay_the_same_whatever_they_are_read_from(
    sources: tuple[int, ...],
) -> None:
    net = ssd.tiny(sources=sources).eval()
    found = net(torch.rand(2, 3, 64, 64))
    assert found.logits.shape == (2, 1344, 5)
    assert found.codes.shape == (2, 1344, 4)
    torch.testing.assert_close(found.defaults, torch.cat(ssd.tiny().defaults((64, 64))))


@pytest.mark.parametrize("source", [0, 1, 5])
def test_the_papers_boxes_can_all_be_read_from_one_map(source: int) -> None:
    with torch.device("meta"):
        net = ssd.paper(sources=(source,) * 6)
        maps = net.maps(torch.zeros(1, 3, 300, 300))
        cells = [(n, n) for n in CELLS]
        read = [
            m if k <= source else torch.zeros(1, maps[source].shape[1], *cells[k])
            for k, m in enumerate([maps[source]] * 6)
        ]
        assert (
            sum(head(x).shape[1] for head, x in zip(net.code_heads, read, strict=True))
            == 8732
        )


def test_a_finer_map_is_averaged_for_coarser_boxes() -> None:
    """All boxes of the coarsest map, read from the middle one through a head that
    copies the mean of a channel."""
    net = ssd.tiny(sources=(0, 1, 1)).eval()
    head = net.code_heads[2]
    nn.init.zeros_(head.conv.weight)
    with torch.no_grad():
        head.conv.weight[:, 5, 1, 1] = 1
        images = torch.rand(1, 3, 64, 64)
        middle, found = net.maps(images)[1][0, 5], net(images).codes[0, -64:]
    expected = middle.view(4, 2, 4, 2).mean((1, 3)).flatten().repeat_interleave(4)
    torch.testing.assert_close(found, expected[:, None].expand(-1, 4))


def test_asking_for_the_boxes_changes_nothing() -> None:
    net = ssd.tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert [len(d) for d in net.defaults((64, 64))] == [1024, 256, 64]
    assert net.training
    assert all(
        torch.equal(value, before[name]) for name, value in net.state_dict().items()
    )


def test_decode_by_hand() -> None:
    # Three boxes in one place, one elsewhere; classes 1 and 2 besides the background.
    defaults = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 9], [1, 0, 10, 10], [-4, 30, 10, 40]]
    )
    scores = torch.tensor(
        [[0.05, 0.9, 0.05], [0.2, 0.795, 0.005], [0.1, 0.2, 0.7], [0.4, 0.595, 0.005]]
    )
    (found,) = ssd.decode(
        ssd.Outputs(scores.log()[None], torch.zeros(1, 4, 4), defaults, (64, 64))
    )
    assert found["labels"].tolist() == [0, 1, 0]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.595])
    # the last cut to the image
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [1, 0, 10, 10], [0, 30, 10, 40]]
    (few,) = ssd.decode(
        ssd.Outputs(scores.log()[None], torch.zeros(1, 4, 4), defaults, (64, 64)),
        least=0.65,
    )
    assert len(few["scores"]) == 2


def test_zooming_out_keeps_boxes_on_their_objects() -> None:
    images, true = (
        torch.zeros(40, 3, 64, 64),
        torch.tensor([[[16.0, 8.0, 48.0, 40.0]]]).repeat(40, 1, 1),
    )
    images[:, :, 8:40, 16:48] = 1
    small, moved = ssd.zoom_out(images, true, torch.Generator().manual_seed(0))
    same = (moved == true).flatten(1).all(1)
    assert 10 < same.sum() < 30, "about half of the images are left as they are"
    assert torch.equal(small[same], images[same])
    sides = (moved[~same][:, 0, 2:] - moved[~same][:, 0, :2]) / 32
    assert sides.min() >= 0.25 - 1 / 64
    assert sides.max() < 1
    for image, box in zip(small[~same], moved[~same][:, 0], strict=True):
        rows, columns = (image[0] > 0.6).nonzero().unbind(1)
        seen = torch.stack(
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        )
        assert (seen - box).abs().max() <= 1
    assert images.max() == 1, "the given images are left alone"
    assert torch.equal(true[0, 0], torch.tensor([16.0, 8.0, 48.0, 40.0]))


def one_object(count: int) -> dict[str, Tensor]:
    """A white square from (16, 8) to (48, 40) on black, and a place without a box."""
    images = torch.zeros(count, 3, 64, 64)
    images[:, :, 8:40, 16:48] = 1
    there = torch.tensor([[16.0, 8.0, 48.0, 40.0], [math.nan] * 4])
    return {
        "images": images,
        "boxes": there.expand(count, 2, 4),
        "labels": torch.tensor([[2, 0]]).expand(count, 2),
        "valid": torch.tensor([[True, False]]).expand(count, 2),
    }


def test_negatives_that_are_not_mined_are_as_many_and_drawn() -> None:
    torch.manual_seed(0)
    found, known = ssd.tiny()(torch.rand(1, 3, 64, 64)), truth([8.0, 8, 30, 26], 2)
    mined = ssd.loss(found, known)
    drawn = [
        ssd.loss(found, known, mined=False, generator=torch.Generator().manual_seed(k))
        for k in (0, 0, 1)
    ]
    assert mined["negatives"] == drawn[0]["negatives"] == 3
    assert mined["codes"] == drawn[0]["codes"]
    assert drawn[0]["classes"] == drawn[1]["classes"] != drawn[2]["classes"]
    assert drawn[0]["classes"] < mined["classes"], "the mined are the hardest"


def test_a_cut_by_hand() -> None:
    """The patch from (0, 0) to (32, 32) holds the square's upper left part, twice as
    large; that from (40, 0) to (64, 64) holds 8 of its 32 columns, not its centre."""
    batch = one_object(4)
    parts = torch.tensor([[0.0, 0, 32, 32], [0, 0, 32, 32], [40, 0, 64, 64]])
    parts = torch.cat([parts, torch.tensor([[0.0, 0, 64, 64]])])
    flipped = torch.tensor([False, True, False, True])
    seen = ssd.cut(batch, parts, flipped)
    # a centre on the patch's edge is not in it
    assert seen["valid"][:, 0].tolist() == [False, False, False, True]
    parts[:2] = torch.tensor([0.0, 0, 40, 40])
    seen = ssd.cut(batch, parts, flipped)
    there = torch.tensor([True, True, False, True])
    assert torch.equal(seen["valid"][:, 0], there)
    assert not seen["boxes"][~seen["valid"]].any()
    expected = torch.tensor(
        [[25.6, 12.8, 64, 64], [0, 12.8, 38.4, 64], [16, 8, 48, 40]]
    )
    torch.testing.assert_close(seen["boxes"][[0, 1, 3], 0], expected)
    for k in (0, 1, 3):
        rows, columns = (seen["images"][k, 0] > 0.5).nonzero().unbind(1)
        low = torch.stack([columns.min(), rows.min()])
        high = torch.stack([columns.max(), rows.max()]) + 1
        edges = torch.cat([low, high])
        assert (edges - seen["boxes"][k, 0]).abs().max() <= 0.5
    assert torch.equal(seen["labels"], batch["labels"])
    torch.testing.assert_close(seen["images"][3], batch["images"][3])
    assert batch["boxes"][0, 0].tolist() == [16, 8, 48, 40], "what is given stays"


def test_a_mirrored_box_is_the_box_of_the_mirrored_picture() -> None:
    batch = one_object(1) | {"boxes": torch.tensor([[[3.0, 8, 10, 40], [0, 0, 1, 1]]])}
    seen = ssd.cut(batch, torch.tensor([[0.0, 0, 64, 64]]), torch.tensor([True]))
    assert seen["boxes"][0, 0].tolist() == [54, 8, 61, 40]
    torch.testing.assert_close(seen["images"], batch["images"].flip(-1))


def test_random_patches_are_those_of_the_paper() -> None:
    """Size from 0.1 to 1, width over height from 1/2 to 2, inside the image."""
    generator = torch.Generator().manual_seed(0)
    found = ssd.random_patches(5000, (40, 80), generator)
    assert found.min() >= 0
    assert (found[:, 2:] <= torch.tensor([80, 40]) + 1e-3).all()
    sides = (found[:, 2:] - found[:, :2]) / torch.tensor([80, 40])
    size, ratio = sides.prod(1).sqrt(), sides[:, 0] / sides[:, 1]
    assert 0.1 <= size.min() < 0.11
    assert 0.98 < size.max() <= 1.0001
    assert 0.499 < ratio.min() < 0.52
    assert 1.92 < ratio.max() < 2.001


def test_a_patch_overlaps_some_object_by_its_share_or_is_all_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = one_object(200)
    whole = torch.tensor([0.0, 0, 64, 64])
    for least in (0.1, 0.5, 0.7):
        monkeypatch.setattr(ssd, "LEAST_OVERLAPS", (least,))
        found = ssd.patches(truth, (64, 64), torch.Generator().manual_seed(1))
        iou = box_iou(found, truth["boxes"][0, :1])[:, 0]
        kept = (found == whole).all(1)
        assert (iou[~kept] >= least).all()
        assert iou[~kept].min() < least + 0.1, "no more than is asked for"
    monkeypatch.setattr(ssd, "LEAST_OVERLAPS", (math.inf,))
    assert (ssd.patches(truth, (64, 64), torch.Generator()) == whole).all()
    # any patch will do where nothing need be seen, and where there is no object
    monkeypatch.setattr(ssd, "LEAST_OVERLAPS", (0.0,))
    for some in (truth, truth | {"valid": torch.zeros(200, 2, dtype=torch.bool)}):
        found = ssd.patches(some, (64, 64), torch.Generator().manual_seed(2))
        assert not (found == whole).all(1).any()


def test_each_option_is_drawn_as_often_and_every_other_image_mirrored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(ssd.LEAST_OVERLAPS) == 7
    monkeypatch.setattr(ssd, "LEAST_OVERLAPS", (math.inf, 0.0, 0.0, 0.0))
    batch = one_object(2000)
    batch["boxes"] = torch.tensor([2.0, 8, 40, 40]).expand(2000, 1, 4)
    batch["valid"], batch["labels"] = torch.ones(2000, 1), batch["labels"][:, :1]
    seen = ssd.augment(batch, torch.Generator().manual_seed(3))["boxes"][:, 0]
    for box in ([2.0, 8, 40, 40], [24, 8, 62, 40]):
        assert 0.1 < (seen == torch.tensor(box)).all(1).float().mean() < 0.15


def test_augmenting_takes_what_is_allowed_and_refuses_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = one_object(3)
    bare = {name: values[:, :0] for name, values in batch.items()}
    bare["images"] = batch["images"]
    assert ssd.augment(bare, generator)["boxes"].shape == (3, 0, 4)
    whole = batch | {"boxes": batch["boxes"].nan_to_num(0).int()}
    assert ssd.augment(whole, generator)["boxes"].is_floating_point()
    with pytest.raises(ValueError, match="expected at least one image"):
        ssd.augment({name: some[:0] for name, some in batch.items()}, generator)
    with pytest.raises(ValueError, match="a patch, boxes and a flip for each image"):
        ssd.cut(batch, torch.zeros(2, 4), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="a smallest patch above 0 and up to 1, got 0"):
        ssd.random_patches(3, (64, 64), generator, smallest=0.0)
    with pytest.raises(ValueError, match="expected finite true boxes"):
        ssd.augment(batch | {"valid": torch.ones(3, 2)}, generator)


def test_all_negatives_count_where_the_ratio_is_infinite() -> None:
    positive = torch.tensor([[True, False, False], [False] * 3])
    found = ssd.hard_negatives(torch.rand(2, 3), positive, ratio=math.inf)
    assert torch.equal(found, ~positive)


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net, images = ssd.tiny(), torch.rand(4, 3, 64, 64)
    true = torch.tensor([[[8.0, 8.0, 20.0, 20.0]], [[30.0, 30.0, 60.0, 60.0]]]).repeat(
        2, 1, 1
    )
    truth = {
        "boxes": true,
        "labels": torch.tensor([[0], [1], [2], [3]]),
        "valid": torch.ones(4, 1, dtype=torch.bool),
    }
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = fit(lambda: ssd.loss(net(images), truth)["loss"], optimizer, 40)
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        found = ssd.decode(net(images))
    assert [int(f["labels"][0]) for f in found] == [0, 1, 2, 3]
    assert all(
        box_iou(f["boxes"][:1], t)[0, 0] > 0.5 for f, t in zip(found, true, strict=True)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ssd.scales(1), "at least two maps"),
        (
            lambda: ssd.tiny(strides=(4, 8)),
            "expected strides, ratios and sources for 3 maps",
        ),
        (lambda: ssd.tiny(scales=(0.1, 0.2, 0.3)), "4 scales"),
        (lambda: ssd.tiny()(torch.zeros(0, 3, 64, 64)), "at least one image"),
        (lambda: ssd.tiny(sources=(0, 1, 5)), "expected sources from 0 to 2"),
        (lambda: ssd.tiny(sources=(0, 1, -1)), "expected sources from 0 to 2"),
        (lambda: ssd.tiny(num_classes=-1), "expected at least one class, got -1"),
        (lambda: ssd.paper(num_classes=0), "expected at least one class, got 0"),
        (lambda: ssd.scales(3, smallest=0.5, largest=0.2), "0 < smallest <= largest"),
        (
            lambda: ssd.zoom_out(
                torch.rand(8, 3, 8, 8),
                torch.zeros(8, 1, 4),
                torch.Generator(),
                most=0.5,
            ),
            "expected a canvas of at least the image's side, got 0.5",
        ),
        (
            lambda: ssd.zoom_out(
                torch.rand(8, 3, 8, 8), torch.zeros(1, 1, 4), torch.Generator()
            ),
            "expected boxes of 8 images, got 1",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def truth(known: list, label: int = 0) -> dict[str, Tensor]:
    """One object in one image."""
    return {
        "boxes": torch.tensor([[known]]),
        "labels": torch.tensor([[label]]),
        "valid": torch.tensor([[True]]),
    }


def test_loss_makes_the_targets_itself() -> None:
    torch.manual_seed(0)
    found, known = ssd.tiny()(torch.rand(1, 3, 64, 64)), truth([8.0, 8, 30, 26], 2)
    wanted = ssd.targets(found.defaults, **known)
    assert ssd.loss(found, known) == ssd.multibox_loss(found, *wanted)
    assert set(wanted[0].unique().tolist()) == {ssd.BACKGROUND_CLASS, 3}


def test_boxes_and_labels_of_any_number_type_give_the_same_targets() -> None:
    defaults = torch.cat(ssd.tiny().defaults((64, 64)))
    known = truth([8.0, 8, 30, 26], 2)
    classes, codes = ssd.targets(defaults, **known)
    for boxes in (torch.int64, torch.float64):
        for kind in (torch.int32, torch.uint8):
            found = ssd.targets(
                defaults,
                known["boxes"].to(boxes),
                known["labels"].to(kind),
                known["valid"].to(kind),
            )
            assert torch.equal(found[0], classes)
            assert torch.equal(found[1], codes)


@pytest.mark.parametrize(
    ("known", "label", "message"),
    [
        ([4.0, 4, 4, 20], 0, "expected true boxes .* x0 < x1"),
        ([30.0, 30, 12, 10], 0, "expected true boxes .* x0 < x1"),
        ([math.nan, 4, 20, 20], 0, "expected finite true boxes"),
        ([4.0, 4, 20, 20], 4, "expected `labels` from 0 to 3, got 4"),
        ([4.0, 4, 20, 20], -1, "expected `labels` from 0 to 3, got -1"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(
    known: list, label: int, message: str
) -> None:
    found = ssd.tiny()(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=message):
        ssd.loss(found, truth(known, label))


def test_a_truth_of_another_batch_is_refused() -> None:
    found = ssd.tiny()(torch.rand(2, 3, 64, 64))
    with pytest.raises(ValueError, match=r"expected classes \(2, 1344\)"):
        ssd.loss(found, truth([4.0, 4, 20, 20]))


def test_match_of_a_batch_is_that_of_each_picture_ties_included() -> None:
    """The greedy rule in its plain form: the best pair first, the first of equals."""
    for seed in range(40):
        torch.manual_seed(seed)
        iou = (torch.rand(3, 1 + seed % 6, 1 + seed % 17) * 5).round() / 5
        found = ssd.match(iou, threshold=0.7)
        for picture, own in zip(iou, found, strict=True):
            expected = ssd.match(torch.zeros(0, iou.shape[2])).tolist()
            for default in range(iou.shape[2]):
                best = int(picture[:, default].argmax())
                if picture[best, default] >= 0.7:
                    expected[default] = best
            left = picture.clone()
            while left.max() > 0:
                box, default = divmod(int(left.argmax()), iou.shape[2])
                expected[default] = box
                left[box], left[:, default] = -1, -1
            assert own.tolist() == expected
            assert ssd.match(picture, threshold=0.7).tolist() == expected


@pytest.mark.parametrize("sources", [(0, 1, 2), (0, 0, 0), (2, 2, 2)])
@pytest.mark.parametrize("size", [(61, 37), (64, 50), (33, 64)])
def test_odd_sizes_have_an_answer_for_every_box(
    size: tuple[int, int], sources: tuple[int, ...]
) -> None:
    found = ssd.tiny(sources=sources).eval()(torch.rand(1, 3, *size))
    assert found.logits.shape[1] == found.codes.shape[1] == len(found.defaults)
    assert found.size == size
    assert found.defaults[0].isfinite().all()


def test_asking_for_the_boxes_keeps_frozen_layers_frozen() -> None:
    net = ssd.tiny()
    net.stages[0].eval()
    net.defaults((64, 64))
    assert net.training
    assert not net.stages[0].training
    assert net.stages[1].training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_nets_of_other_precisions_detect(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, images = ssd.tiny().eval(), torch.rand(1, 3, 64, 64)
    expected = ssd.decode(net(images))[0]["scores"][:3]
    found = net.to(dtype)(images.to(dtype))
    assert found.logits.dtype in (torch.float32, torch.float64)
    scores = ssd.decode(found)[0]["scores"][:3]
    torch.testing.assert_close(scores.float(), expected, atol=0.03, rtol=0.05)


def test_answers_that_are_not_finite_are_refused() -> None:
    found = ssd.tiny()(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="expected finite logits and codes"):
        ssd.decode(found._replace(codes=found.codes * math.inf))


def test_a_shared_pooling_layer_belongs_to_one_net() -> None:
    with torch.device("meta"):
        first, second = ssd.paper(), ssd.paper()
    assert not set(first.stages.modules()) & set(second.stages.modules())
