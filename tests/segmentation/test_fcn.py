"""Counts at the paper's scale, the released nets' cuts, kernels and grids by hand, the
classifier's weights in the dense net, bad input."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from papernets_lite.segmentation import fcn
from tests.unchecked import unchecked


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(**overrides) -> fcn.FCN:
    """The paper's net, narrow, with weights that are not zero."""
    settings = {"stages": [(c // 16, n) for c, n in fcn.VGG16], "hidden": 24}
    net = fcn.paper(**(settings | {"num_classes": 5, "dropout": 0.0} | overrides))
    return stirred(net)


def stirred(net: nn.Module) -> nn.Module:
    for weights in net.parameters():
        if not weights.any():
            nn.init.normal_(weights, std=0.1)
    return net.eval()


def test_parameters_equal_the_released_nets():
    with torch.device("meta"):
        net = fcn.paper()
        dense = [net.stages, net.fc6, net.fc7]
        assert sum(map(count, dense)) == 134_260_544
        found = [count(fcn.paper(skips=skips)) for skips in range(3)]
    # 1x1 convolutions to 21 classes from 4096, 512 and 256 channels
    scores = [21 * (channels + 1) for channels in (4096, 512, 256)]
    assert found == [134_346_581, 134_357_354, 134_362_751]
    assert found == [134_260_544 + sum(scores[:k]) for k in (1, 2, 3)]


def test_learnt_kernels_are_one_a_class():
    with torch.device("meta"):
        more = count(fcn.paper(learn=True)) - count(fcn.paper())
    assert more == 2 * 21 * 4 * 4  # the last one stays fixed


def test_cuts_are_those_of_the_released_nets():
    """The offsets of the crop layers in the released definitions."""
    with torch.device("meta"):
        *stages, deep = fcn.paper().grids()
    assert [grid.stride for grid in stages] == [2, 4, 8, 16, 32]
    assert deep.enlarged(32).offset(fcn.Grid()) == 19
    half = deep.enlarged(2)
    assert stages[3].offset(half) == 5
    assert half.enlarged(16).offset(fcn.Grid()) == 27
    quarter = half.enlarged(2)
    assert stages[2].offset(quarter) == 9
    assert quarter.enlarged(8).offset(fcn.Grid()) == 31


def test_grids_by_hand():
    # 2x2 pooling: the first cell covers pixels 0 and 1, whose middle is at 1
    assert fcn.Grid().after(2, 2) == fcn.Grid(2, 1)
    # a 7x7 convolution without padding: the first cell sees pixels 0 to 6
    assert fcn.Grid().after(7) == fcn.Grid(1, 3.5)
    assert fcn.Grid().after(3, padding=1) == fcn.Grid()
    # enlarged twice: a kernel of 4 begins 1.5 fine cells before its centre
    assert fcn.Grid(2, 1).enlarged(2) == fcn.Grid(1, -0.5)
    assert fcn.Grid(4, 2).unfolded(4) == fcn.Grid(1, 0.5)
    assert fcn.Grid(1, -0.5).offset(fcn.Grid()) == 1
    with pytest.raises(ValueError, match="grids that lie on each other"):
        fcn.Grid(1, 0).offset(fcn.Grid())
    with pytest.raises(ValueError, match="grids that lie on each other"):
        fcn.Grid(2, 0.5).offset(fcn.Grid())


def test_kernels_by_hand():
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    assert fcn.bilinear_kernel(4).equal(line[:, None] * line)
    odd = torch.tensor([1.0, 2.0, 1.0]) / 2
    assert fcn.bilinear_kernel(3).equal(odd[:, None] * odd)
    assert fcn.bilinear_kernel(1).equal(torch.ones(1, 1))


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8, 16, 32])
def test_upsampling_is_bilinear_interpolation(factor):
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = fcn.Upsampling(3, factor)(x)
    if factor % 2 == 0:
        assert found.shape[-2:] == (5 * factor, 6 * factor)
    grid = fcn.Grid(factor, factor / 2).enlarged(factor)
    found = fcn.cut(found, grid.offset(fcn.Grid()), (4 * factor, 5 * factor))
    expected = functional.interpolate(
        x, scale_factor=factor, mode="bilinear", align_corners=False
    )
    rim = factor // 2
    difference = (found - expected).abs()
    assert difference[..., rim : 4 * factor - rim, rim : 5 * factor - rim].max() < 1e-6
    # the rim fades, where interpolation repeats the last cell
    assert (difference.max() > 0.01) == (factor > 1)


def test_learnt_upsampling_starts_the_same():
    x = torch.randn(1, 3, 4, 4)
    fixed, learnt = fcn.Upsampling(3, 2), fcn.Upsampling(3, 2, learn=True)
    assert fixed(x).equal(learnt(x))
    assert count(fixed) == 0
    assert not fixed.state_dict()
    assert learnt.weight.requires_grad


@pytest.mark.parametrize("skips", [0, 1, 2])
def test_the_released_definition_layer_by_layer(skips):
    torch.manual_seed(0)
    net = small(skips=skips)
    images = torch.rand(1, 3, 61, 90)
    with torch.no_grad():
        found = net(images)
        expected = released(images, net.state_dict(), skips)
    assert found.shape == (1, 5, 61, 90)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def released(images, w, skips):
    """The released nets' layers, with their numbers."""

    def conv(x, name, padding):
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return functional.conv2d(x, weight, bias, padding=padding)

    def up(x, kernel, stride):
        size = torch.arange(kernel)
        line = 1 - (size - (stride - 0.5)).abs() / stride
        weight = torch.zeros(5, 5, kernel, kernel)
        weight[range(5), range(5)] = line[:, None] * line
        return functional.conv_transpose2d(x, weight, stride=stride)

    x, pools = images, []
    for stage, (_, depth) in enumerate(fcn.VGG16):
        for k in range(depth):
            padding = 100 if stage == k == 0 else 1
            x = conv(x, f"stages.{stage}.{2 * k}", padding).relu()
        x = functional.max_pool2d(x, 2, ceil_mode=True)
        pools.append(x)
    x = conv(conv(x, "fc6", 0).relu(), "fc7", 0).relu()
    x = conv(x, "score", 0)
    offset, kernel = (19, 64) if skips == 0 else (27, 32) if skips == 1 else (31, 16)
    for k, start in enumerate((5, 9)[:skips]):
        x = up(x, 4, 2)
        fine = conv(pools[3 - k], f"skips.{k}", 0)
        x = x + fine[..., start:, start:][..., : x.shape[2], : x.shape[3]]
    x = up(x, kernel, kernel // 2)[..., offset:, offset:]
    return x[..., : images.shape[2], : images.shape[3]]


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_a_dense_layer_is_a_convolution(kernel):
    layer = nn.Linear(4 * kernel**2, 6)
    conv = fcn.convolution(layer, kernel)
    x = torch.randn(2, 4, kernel, kernel)
    assert conv.weight.shape == (6, 4, kernel, kernel)
    torch.testing.assert_close(conv(x)[..., 0, 0], layer(x.flatten(1)))
    assert count(conv) == count(layer)
    assert fcn.convolution(nn.Linear(4, 6, bias=False), 1).bias is None
    assert fcn.convolution(layer.double(), kernel).weight.dtype == torch.float64


def test_a_classifier_moves_into_the_dense_net():
    torch.manual_seed(0)
    source = stirred(fcn.tiny_classifier())
    net = fcn.dense(source, num_classes=8, around=0).eval()
    pictures = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        (scores,) = net.maps(pictures)
        torch.testing.assert_close(scores[..., 0, 0], source(pictures))
        (wide,) = net.maps(torch.rand(1, 3, 64, 96))
    assert scores.shape == (2, 8, 1, 1)
    assert wide.shape == (1, 8, 2, 4)


def test_other_classes_keep_their_own_scores():
    source = stirred(fcn.tiny_classifier())
    net = fcn.dense(source, num_classes=9, skips=2)
    assert count(net) == count(fcn.tiny())
    assert net(torch.rand(1, 3, 64, 64)).shape == (1, 9, 64, 64)
    assert net.fc6.weight.view(128, -1).equal(source.fc6.weight)
    assert net.stages[3][0].weight.equal(source.stages[3][0].weight)
    assert not net.score.weight.any()
    with pytest.raises(ValueError, match=r"fc6\.weight of"):
        fcn.transplant(fcn.tiny(hidden=64), source)


def test_a_new_skip_changes_hardly_anything():
    """FCN-16s begins with what FCN-32s says: two steps of upsampling for one."""
    torch.manual_seed(0)
    coarse = stirred(fcn.tiny(skips=0))
    fine = fcn.transplant(fcn.tiny(skips=1), coarse).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before, after = coarse(images), fine(images)
    assert before.std() > 0.01
    assert (after - before).std() < 0.1 * before.std()


def test_parts_add_up_to_the_answer():
    torch.manual_seed(0)
    net = stirred(fcn.tiny(skips=2))
    images = torch.rand(2, 3, 50, 64)
    with torch.no_grad():
        parts = net.parts(images)
        torch.testing.assert_close(sum(parts), net(images))
    assert len(parts) == 3
    assert all(part.std() > 1e-3 for part in parts)
    with pytest.raises(ValueError, match="a net that adds scores"):
        fcn.tiny(skips=1, merge="add").parts(images)


@pytest.mark.parametrize(
    "settings",
    [
        {"skips": 0},
        {"skips": 1},
        {"skips": 3},
        {"skips": 2, "learn": True},
        {"skips": 2, "merge": "add"},
        {"skips": 2, "merge": "concat", "width": 6},
        {"skips": 0, "unfold": 4},
        {"skips": 0, "unfold": 16},
    ],
)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 80)])
def test_every_size_keeps_its_own(settings, size):
    net = fcn.tiny(**settings).eval()
    assert net(torch.rand(1, 3, *size)).shape == (1, 9, *size)


@pytest.mark.parametrize(
    "settings", [{"skips": 0}, {"skips": 2}, {"skips": 0, "unfold": 4}]
)
def test_scores_lie_where_they_were_read(settings):
    """With symmetric filters, a mirrored picture is answered by the mirrored scores."""
    torch.manual_seed(0)
    net = stirred(fcn.tiny(**settings))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = (layer.weight + layer.weight.flip(-1)).data / 2
    if net.unfold > 1:  # the cells within a cell are mirrored as well
        weight = net.score.weight.data.view(9, 4, 4, -1)
        weight.copy_((weight + weight.flip(2)) / 2)
        bias = net.score.bias.data.view(9, 4, 4)
        bias.copy_((bias + bias.flip(2)) / 2)
    images = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        found, mirrored = net(images), net(images.flip(-1)).flip(-1)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, mirrored, rtol=1e-4, atol=1e-5)


def test_joins_by_hand():
    coarse, fine = torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 2.0)
    assert fcn.Join(2, "scores")(coarse, fine).eq(3).all()
    assert fcn.Join(2, "add").mix[0].in_channels == 2
    assert fcn.Join(2, "concat").mix[0].in_channels == 4


def test_the_loss_by_hand():
    outputs = torch.zeros(1, 4, 1, 3)
    outputs[0, 1, 0, 0] = 100.0
    labels = torch.tensor([[[1, 2, 255]]])
    found = fcn.loss(outputs, {"labels": labels})
    # nothing missed, a quarter's chance, not asked for
    assert found["loss"].item() == pytest.approx(torch.tensor(4.0).log().item() / 2)
    assert found["accuracy"].item() == 0.5
    assert fcn.loss(outputs, {"labels": labels.byte()})["loss"].equal(found["loss"])


def test_a_batch_without_labels_teaches_nothing():
    outputs = torch.randn(1, 4, 2, 2, requires_grad=True)
    found = fcn.loss(outputs, {"labels": torch.full((1, 2, 2), 255)})
    found["loss"].backward()
    assert found["loss"].item() == found["accuracy"].item() == 0
    assert not outputs.grad.any()


def test_half_precision():
    net = fcn.tiny(skips=2).bfloat16()
    outputs = net(torch.rand(2, 3, 32, 32).bfloat16())
    found = fcn.loss(outputs, {"labels": torch.zeros(2, 32, 32).long()})["loss"]
    assert found.dtype == torch.float32
    found.backward()


def test_decode_takes_the_best_class():
    scores = torch.tensor([[[[1.0, 5.0]], [[2.0, 3.0]]]])
    assert fcn.decode(scores).tolist() == [[[1, 0]]]
    with unchecked(), pytest.raises(ValueError, match="at least one image"):
        fcn.decode(scores[0])


OUTPUTS = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(2, 4, 5).long(), r"labels \(2, 4, 4\), got \(2, 4, 5\)"),
        (torch.zeros(1, 4, 4).long(), r"labels \(2, 4, 4\), got \(1, 4, 4\)"),
        (torch.zeros(2, 4, 4), "labels of an integer type"),
        (torch.full((2, 4, 4), 3), "labels from 0 to 2 or 255, got 3, 3"),
        (torch.full((2, 4, 4), -1), "labels from 0 to 2 or 255, got -1, -1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        fcn.loss(OUTPUTS, {"labels": labels})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: fcn.loss(OUTPUTS, {}), "a batch with `labels`"),
        (lambda: fcn.tiny(stages=()), "at least one stage"),
        (lambda: fcn.tiny(stages=((0, 1),)), "channels >= 1"),
        (lambda: fcn.tiny(stages=((4, 0),)), "depth >= 1"),
        (lambda: fcn.tiny(skips=4), "fewer than 4 skips, got 4"),
        (lambda: fcn.tiny(skips=-1), "skips >= 0"),
        (lambda: fcn.tiny(num_classes=0), "num_classes >= 1"),
        (lambda: fcn.tiny(merge="max"), "a merge from"),
        (lambda: fcn.tiny(skips=1, merge="max"), "a merge from"),
        (lambda: fcn.tiny(dropout=float("nan")), "a dropout from 0 to 1"),
        (lambda: fcn.tiny(skips=0, unfold=3), "an unfold that divides 16"),
        (lambda: fcn.tiny(unfold=0), "unfold >= 1"),
        (lambda: fcn.tiny(unfold=2, skips=1), "without skips"),
        (lambda: fcn.tiny_classifier(hidden=0), "hidden >= 1"),
        (lambda: fcn.tiny_classifier(dropout=2.0), "a dropout from 0 to 1"),
        (lambda: fcn.tiny_classifier()(torch.rand(1, 3, 64, 64)), "sides of 48"),
        (lambda: fcn.tiny()(torch.rand(1, 1, 32, 32)), "3 channels"),
        (lambda: fcn.tiny()(torch.zeros(0, 3, 32, 32)), "at least one image"),
        (lambda: fcn.tiny()(torch.zeros(3, 32, 32)), "at least one image"),
        (lambda: fcn.tiny()(torch.rand(1, 3, 32, 32).double()), "torch.float32"),
        (lambda: fcn.tiny(around=0)(torch.rand(1, 3, 32, 32)), "larger images"),
        (lambda: fcn.Upsampling(1, 0), "factor >= 1"),
        (lambda: fcn.bilinear_kernel(0), "size >= 1"),
        (lambda: fcn.convolution(nn.Linear(10, 2), 2), "inputs of 2 x 2 cells, got 10"),
        (lambda: fcn.convolution(nn.Linear(10, 2), 0), "kernel >= 1"),
        (lambda: fcn.cut(OUTPUTS, 2, (3, 2)), "3 x 2 cells from 2 on"),
        (lambda: fcn.cut(OUTPUTS, -1, (2, 2)), "2 x 2 cells from -1 on"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        wrong()


def test_every_override_reaches_the_net():
    with torch.device("meta"):
        for build in (fcn.tiny, fcn.paper):
            net = build(num_classes=7, skips=1, stages=((4, 1), (8, 1)), hidden=5)
            assert type(net) is fcn.FCN
            assert net.score.weight.shape == (7, 5, 1, 1)
            assert net.skips[0].in_channels == 4
