"""Counts of the authors' net, bins by hand and by an integral image, the loss by hand,
reach by brute force, crops without a seam."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from papernets_lite.segmentation import pspnet
from tests.helpers import fit


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("depth", "num_classes", "expected"),
    [
        (50, 21, 49_081_578),
        (50, 19, 49_080_038),
        (50, 150, 49_180_908),
        (101, 21, 68_073_706),
    ],
)
def test_parameters_are_the_authors(
    depth: int, num_classes: int, expected: int
) -> None:
    with torch.device("meta"):
        net = pspnet.paper(depth=depth, num_classes=num_classes)
    assert count(net) == expected
    assert count(net.context) == 4_198_400 == 2048 * 2048 + 2 * 2048
    if num_classes == 21:
        assert net.aux is not None
        assert (count(net.head), count(net.aux)) == (18_886_165, 2_365_205)


def test_global_pooling_has_the_pyramids_parameters() -> None:
    with torch.device("meta"):
        pyramid, one = pspnet.tiny(), pspnet.tiny(bins=(1,))
        none, dilated = pspnet.tiny(bins=()), pspnet.tiny(context="dilated")
    assert count(pyramid) == count(one)
    assert count(none) < count(pyramid) < count(dilated)
    assert count(pyramid.head) == count(one.head) == count(dilated.head)


def test_sizes_of_the_papers_net() -> None:
    sizes = []
    with torch.device("meta"):
        net = pspnet.paper()
        for layer in [net.trunk.stem, *net.trunk.stages, net.context]:
            layer.register_forward_hook(
                lambda module, inputs, out: sizes.append(tuple(out.shape[1:]))
            )
        scores = net(torch.zeros(2, 3, 473, 473))
    sides = [shape[1] for shape in sizes]
    assert sides == [119, 119, 60, 60, 60, 60]
    assert [shape[0] for shape in sizes] == [128, 256, 512, 1024, 2048, 4096]
    assert scores.main.shape == (2, 150, 473, 473) == scores.aux.shape


def test_stages_dilate_from_their_first_unit() -> None:
    with torch.device("meta"):
        net = pspnet.paper()
    for stage, rate in zip(net.trunk.stages, (1, 1, 2, 4), strict=True):
        middle = [
            conv
            for conv in stage.modules()
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)
        ]
        assert {conv.dilation for conv in middle} == {(rate, rate)}
        assert {conv.padding for conv in middle} == {(rate, rate)}
    strides = {
        name: layer.stride
        for name, layer in net.trunk.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1)
    }
    # the stem's first, and of the second stage's first unit the 3x3 and the shortcut
    assert len(strides) == 3
    assert sum("stages.1.0" in name for name in strides) == 2


def integral(maps: Tensor, bins: int) -> Tensor:
    """Averages over bins by differences of cumulated sums."""
    total = functional.pad(maps.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    out = torch.zeros(*maps.shape[:2], bins, bins, dtype=torch.double)
    for i in range(bins):
        for j in range(bins):
            top = math.floor(i * maps.shape[2] / bins)
            bottom = math.ceil((i + 1) * maps.shape[2] / bins)
            left = math.floor(j * maps.shape[3] / bins)
            right = math.ceil((j + 1) * maps.shape[3] / bins)
            part = total[..., bottom, right] - total[..., top, right]
            part = part - total[..., bottom, left] + total[..., top, left]
            out[..., i, j] = part / ((bottom - top) * (right - left))
    return out


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(9, 9), (60, 60), (13, 7)])
def test_averages_are_those_of_an_integral_image(
    bins: int, size: tuple[int, int]
) -> None:
    maps = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = nn.AdaptiveAvgPool2d(bins)(maps)
    torch.testing.assert_close(found, integral(maps, bins).float())
    rows, columns = (pspnet.edges(side, bins) for side in size)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            mean = maps[..., top:bottom, left:right].mean((2, 3))
            torch.testing.assert_close(found[..., i, j], mean)


def test_bins_by_hand() -> None:
    assert pspnet.edges(60, 6) == [(k, k + 10) for k in range(0, 60, 10)]
    assert pspnet.edges(9, 2) == [(0, 5), (4, 9)]
    expected = [(0, 3), (2, 5), (4, 7), (6, 9), (8, 11), (10, 13)]
    assert pspnet.edges(13, 6) == expected
    for size in range(1, 30):
        for bins in (1, 2, 3, 6):
            found = pspnet.edges(size, bins)
            assert found[0][0] == 0
            assert found[-1][1] == size
            assert all(after[0] <= before[1] for before, after in pairwise(found))


def test_a_pyramid_by_hand() -> None:
    """One channel a level that passes its mean: 3x3 cells numbered 1 to 9."""
    pyramid = pspnet.PyramidPooling(2, bins=(1, 3)).eval()
    for level in pyramid.levels:
        nn.init.zeros_(level[1].weight)
        level[1].weight.data[0, 0] = (1 + 1e-5) ** 0.5  # the norm divides by it
    x = torch.arange(1.0, 10).view(1, 1, 3, 3).repeat(1, 2, 1, 1)
    out = pyramid(x)
    assert out.shape == (1, 4, 3, 3)
    assert out[:, :2].equal(x)
    torch.testing.assert_close(out[0, 2], torch.full((3, 3), 5.0))
    torch.testing.assert_close(out[0, 3], x[0, 0])


def test_context_reaches_every_position_and_the_map_itself_passes() -> None:
    torch.manual_seed(0)
    pyramid = pspnet.PyramidPooling(8).eval()
    for level in pyramid.levels:
        nn.init.constant_(level[1].weight, 0.1)  # no ReLU hides anything
    x = torch.rand(1, 8, 12, 12)
    changed = x.clone()
    changed[..., 0, 0] += 5
    before, after = pyramid(x), pyramid(changed)
    moved = (before != after).any(1)[0]
    assert moved.all()  # the level of one bin
    assert after[:, :8].equal(changed)
    far = (before != after)[0, 10:, -1, -1]  # 2x2, 3x3 and 6x6 in the other corner
    assert not far.any()


def test_the_loss_by_hand() -> None:
    main = torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]])
    aux = torch.zeros(1, 2, 1, 2)
    batch = {"labels": torch.tensor([[[1, 1]]])}
    first = (math.log(2) + math.log(1 + math.exp(2))) / 2
    found = pspnet.loss(pspnet.Scores(main, aux), batch)
    assert found["main"].item() == pytest.approx(first)
    assert found["loss"].item() == pytest.approx(first + 0.4 * math.log(2))
    assert found["accuracy"].item() == 0
    alone = pspnet.loss(pspnet.Scores(main, None), batch)
    assert alone["loss"].item() == pytest.approx(first)
    half = {"labels": torch.tensor([[[255, 1]]])}
    some = pspnet.loss(pspnet.Scores(main, aux), half)
    assert some["main"].item() == pytest.approx(math.log(1 + math.exp(2)))
    ours = {"labels": torch.tensor([[[0, 0]]], dtype=torch.uint8)}
    assert pspnet.loss(pspnet.Scores(main, aux), ours)["accuracy"].item() == 1
    nothing = {"labels": torch.full((1, 1, 2), 255)}
    assert pspnet.loss(pspnet.Scores(main, aux), nothing)["loss"].item() == 0


def test_the_rate_falls_polynomially() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = pspnet.polynomial(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0.01
    assert rates[50] == pytest.approx(0.01 * 0.5**0.9)
    assert rates[-1] == pytest.approx(0.01 * 0.01**0.9)


def test_the_second_head_reads_the_third_stage() -> None:
    torch.manual_seed(0)
    net = pspnet.tiny().eval()
    images = torch.rand(2, 3, 97, 65)
    before = net(images)
    assert before.main.shape == before.aux.shape == (2, 8, 49, 33)
    nn.init.zeros_(net.trunk.stages[3][0].branch[0].weight)
    after = net(images)
    assert after.aux.equal(before.aux)
    assert not after.main.equal(before.main)
    assert pspnet.tiny(auxiliary=False)(images).aux is None
    assert pspnet.decode(before).shape == (2, 49, 33)


@pytest.mark.parametrize(("zoom", "side"), [(1, 13), (2, 25), (4, 49), (8, 97)])
def test_zoom_is_the_authors(zoom: int, side: int) -> None:
    net = pspnet.tiny(zoom=zoom, bins=()).eval()
    assert net(torch.rand(1, 3, 97, 97)).main.shape[2:] == (side, side)


def test_scores_lie_on_the_pixels_that_they_name() -> None:
    """With corners aligned, score (i, j) of zoom 4 is score (2i, 2j) of zoom 8."""
    torch.manual_seed(0)
    coarse = pspnet.tiny().eval()
    fine = pspnet.tiny(zoom=8).eval()
    fine.load_state_dict(coarse.state_dict())
    images = torch.rand(1, 3, 65, 65)
    with torch.no_grad():
        expected = fine(images).main[..., ::2, ::2]
        torch.testing.assert_close(coarse(images).main, expected)


@pytest.mark.parametrize("settings", [{}, {"rates": (1, 1, 1, 1)}])
def test_the_receptive_field_is_what_gradients_reach(settings: dict) -> None:
    torch.manual_seed(0)
    net = pspnet.tiny(bins=(), **settings).eval()
    for layer in net.modules():  # nothing may cancel
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    pixels = torch.rand(1, 3, 193, 193, requires_grad=True)
    _, last = net.trunk(pixels)
    # one maximum a window hides the others: many pictures are tried
    seen = torch.zeros(193, 193, dtype=torch.bool)
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.rand(1, 3, 193, 193, generator=generator, requires_grad=True)
        _, last = net.trunk(pixels)
        (gradient,) = torch.autograd.grad(last[0, :, 12, 12].sum(), pixels)
        seen |= gradient[0].abs().sum(0) > 0
    rows = seen.any(1).nonzero()[:, 0]
    across = int(rows.max() - rows.min()) + 1
    most = pspnet.receptive_field(net)
    assert most - 3 <= across <= most


def test_receptive_fields_of_the_papers_trunks() -> None:
    with torch.device("meta"):
        found = [pspnet.receptive_field(pspnet.paper(depth=d)) for d in (50, 101)]
        tiny = pspnet.receptive_field(pspnet.tiny())
    assert found == [479, 1023]
    assert tiny == 127


def test_influence_sums_to_one_and_the_pyramid_spreads_it() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 161, 161)
    shares = {}
    for name, bins in (("none", ()), ("pyramid", (1, 2, 3, 6))):
        net = pspnet.tiny(bins=bins).eval()
        shares[name] = pspnet.influence(net, images, (40, 40))
        assert shares[name].shape == (161, 161)
        assert shares[name].sum().item() == pytest.approx(1)
    assert (shares["none"] == 0).any()
    assert (shares["pyramid"] > 0).float().mean() > 0.9


def test_one_crop_is_the_net_and_many_cover_every_pixel() -> None:
    torch.manual_seed(0)
    net = pspnet.tiny(zoom=8).eval()
    images = torch.rand(1, 3, 65, 65)
    with torch.no_grad():
        expected = net(images).main.softmax(1)
    torch.testing.assert_close(pspnet.slide(net, images, 65), expected)
    large = torch.rand(2, 3, 100, 131)
    found = pspnet.slide(net, large, 65)
    assert found.shape == (2, 8, 100, 131)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 100, 131))
    with torch.no_grad():
        corner = net(large[..., :65, :65]).main.softmax(1)
    torch.testing.assert_close(found[..., :20, :20], corner[..., :20, :20])


def test_a_few_steps_fit_a_picture() -> None:
    torch.manual_seed(0)
    net = pspnet.tiny()
    images = torch.rand(4, 3, 65, 65)
    batch = {"labels": (images[:, 0, ::2, ::2] > 0.5).long()}
    batch["labels"][:, :16] = 3
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = fit(lambda: pspnet.loss(net(images), batch)["loss"], optimizer, 25)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: pspnet.tiny(context="attention"), "a context 'pyramid' or"),
        (lambda: pspnet.tiny(zoom=3), "a zoom of 1, 2, 4 or 8"),
        (lambda: pspnet.tiny(num_classes=0), "num_classes >= 1"),
        (lambda: pspnet.tiny(width=1), "width >= 2"),
        (lambda: pspnet.tiny(blocks=(1, 1, 1)), "four stages"),
        (lambda: pspnet.tiny(blocks=(1, 1, 1, 0)), "positive stem"),
        (lambda: pspnet.paper(depth=34), "a depth of 50, 101 or 152"),
        (lambda: pspnet.PyramidPooling(10), "number divides the channels"),
        (lambda: pspnet.PyramidPooling(8, ()), "number divides the channels"),
        (lambda: pspnet.DilatedContext(10), "a multiple of 4 channels"),
        (lambda: pspnet.edges(0, 1), "size >= 1"),
        (lambda: pspnet.tiny()(torch.zeros(2, 3, 96, 97)), r"sides of 8k \+ 1"),
        (lambda: pspnet.tiny()(torch.zeros(1, 3, 97, 97)), "2 images in training"),
        (lambda: pspnet.tiny()(torch.zeros(0, 3, 97, 97)), "at least one image"),
        (lambda: pspnet.tiny()(torch.zeros(2, 1, 97, 97)), "3 channels"),
        (
            lambda: pspnet.slide(pspnet.tiny().eval(), torch.zeros(1, 3, 60, 70), 65),
            "images of at least 65",
        ),
        (
            lambda: pspnet.slide(
                pspnet.tiny().eval(), torch.zeros(1, 3, 65, 65), 65, advance=0
            ),
            "0 < advance <= 1",
        ),
        (
            lambda: pspnet.influence(
                pspnet.tiny().eval(), torch.zeros(1, 3, 65, 65), (65, 0)
            ),
            "a place within",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((2, 4, 4), 8), "labels from 0 to 7 or 255, got 8, 8"),
        (torch.full((2, 4, 4), -1), "labels from 0 to 7 or 255, got -1, -1"),
        (torch.zeros(2, 4, 4), "labels of an integer type"),
        (torch.zeros(1, 4, 4).long(), r"labels \(2, 4, 4\), got \(1, 4, 4\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor, message: str) -> None:
    outputs = pspnet.Scores(torch.rand(2, 8, 4, 4), None)
    with pytest.raises(ValueError, match=message):
        pspnet.loss(outputs, {"labels": labels})


def test_half_precision_and_large_pictures() -> None:
    net = pspnet.tiny().eval().bfloat16()
    assert net(torch.rand(1, 3, 105, 33).bfloat16()).main.isfinite().all()
    with pytest.raises(ValueError, match=r"images of torch\.bfloat16"):
        net(torch.rand(1, 3, 33, 33))
