"""The five orderings against their formulas, shortcuts and trunk statistics against
hand-computed cases."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from papernets_lite.backbones import resnet
from tests.helpers import fit, randomise_

PREACTIVATED = ("relu-only pre-activation", "full pre-activation")
# conv1, conv2, bn1, bn2 (in the order in which the branch, then the trunk, uses them)
# -> the unit as a formula of x.
FORMULAS: dict[str, Callable[..., Callable[[Tensor], Tensor]]] = {
    "original": lambda c1, c2, b1, b2: lambda x: relu(x + b2(c2(relu(b1(c1(x)))))),
    "bn after addition": lambda c1, c2, b1, b2: (
        lambda x: relu(b2(x + c2(relu(b1(c1(x))))))
    ),
    "relu before addition": lambda c1, c2, b1, b2: (
        lambda x: x + relu(b2(c2(relu(b1(c1(x))))))
    ),
    "relu-only pre-activation": lambda c1, c2, b1, b2: (
        lambda x: x + b2(c2(relu(b1(c1(relu(x))))))
    ),
    "full pre-activation": lambda c1, c2, b1, b2: (
        lambda x: x + c2(relu(b2(c1(relu(b1(x))))))
    ),
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ordering", resnet.ORDERINGS)
def test_a_unit_is_its_formula(ordering: str, training: bool) -> None:
    torch.manual_seed(0)
    unit = resnet.Unit(3, 3, ordering=ordering).train(training)
    randomise_(unit, spread=0.3)
    x = torch.randn(4, 3, 5, 5)
    before = x.clone()
    convs = [m for m in unit.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in unit.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (len(convs), len(norms)) == (2, 2), "the orderings use the same components"
    torch.testing.assert_close(unit(x), FORMULAS[ordering](*convs, *norms)(x))
    torch.testing.assert_close(x, before, msg="the unit wrote into its input")


@pytest.mark.parametrize("ordering", PREACTIVATED)
def test_a_projection_takes_the_preactivated_input(ordering: str) -> None:
    torch.manual_seed(0)
    unit = resnet.Unit(3, 4, stride=2, ordering=ordering, option="B").eval()
    randomise_(unit, spread=0.3)
    x = torch.randn(2, 3, 6, 6)
    ready = unit.pre(x)
    assert (ready >= 0).all()
    torch.testing.assert_close(unit(x), unit.shortcut(ready) + unit.branch(ready))


def test_option_a_subsamples_then_pads_with_zero_channels() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    out = resnet.PadShortcut(1, 3, 2)(x)
    assert out.tolist() == [[[[0, 2], [8, 10]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]]


@pytest.mark.parametrize(
    ("option", "changing", "same"),
    [
        ("A", 0, 0),
        ("B", 8 * 4 + 2 * 8, 0),
        ("C", 8 * 4 + 2 * 8, 4 * 4 + 2 * 4),
        ("none", 0, 0),
    ],
)
def test_parameters_of_the_shortcuts(option: str, changing: int, same: int) -> None:
    assert count(resnet.shortcut(option, 4, 8, 2, norm=True)) == changing
    assert count(resnet.shortcut(option, 4, 4, 1, norm=True)) == same


def test_a_plain_net_is_the_residual_net_without_paths() -> None:
    nets = []
    for option in ("A", "none"):
        torch.manual_seed(3)
        nets.append(resnet.tiny(depth=20, option=option).eval())
    residual, plain = nets
    for ours, theirs in zip(residual.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    x = torch.rand(2, 3, 32, 32)
    expected = plain.stem(x)
    for unit in plain.units:
        expected = relu(unit.branch(expected))
    torch.testing.assert_close(plain(x), plain.head(expected.mean((2, 3))))
    assert not torch.allclose(plain(x), residual(x))


@pytest.mark.parametrize("stride_on_3x3", [False, True])
def test_where_a_bottleneck_strides(stride_on_3x3: bool) -> None:
    unit = resnet.Unit(16, 8, stride=2, bottleneck=True, stride_on_3x3=stride_on_3x3)
    strides = [m.stride[0] for m in unit.branch if isinstance(m, nn.Conv2d)]
    assert strides == ([1, 2, 1] if stride_on_3x3 else [2, 1, 1])
    assert unit(torch.rand(2, 16, 8, 8)).shape == (2, 32, 4, 4)


@pytest.mark.parametrize("ordering", PREACTIVATED)
def test_on_a_clean_path_the_output_is_the_input_plus_every_change(
    ordering: str,
) -> None:
    """x_L = x_l + sum of F(x_i), Eq. 4 of the second paper."""
    torch.manual_seed(0)
    net = resnet.tiny(depth=32, ordering=ordering).eval()
    randomise_(net, spread=0.3)
    stage = list(net.units[:5])
    changes: list[Tensor] = []
    for unit in stage:
        unit.branch.register_forward_hook(
            lambda module, inputs, output: changes.append(output)
        )
    start = net.stem(torch.rand(2, 3, 32, 32))
    x = start
    for unit in stage:
        x = unit(x)
    torch.testing.assert_close(x, start + sum(changes))


def test_the_clean_path_carries_the_gradient_past_weights_that_are_zero() -> None:
    net = resnet.tiny(depth=20, ordering="full pre-activation")
    for unit in net.units:
        nn.init.zeros_(unit.branch[-1].weight)
    start = net.stem(torch.rand(2, 3, 32, 32)).detach().requires_grad_()
    x = start
    for unit in net.units[:3]:
        x = unit(x)
    weight = torch.randn_like(x)
    (x * weight).sum().backward()
    assert start.grad is not None
    torch.testing.assert_close(start.grad, weight)


def test_the_first_activation_follows_the_stem_and_preactivated_nets_end_with_one() -> (
    None
):
    for ordering, ends in zip(
        resnet.ORDERINGS, ([], [], [], ["ReLU"], ["BatchNorm2d", "ReLU"]), strict=True
    ):
        net = resnet.tiny(depth=20, ordering=ordering)
        assert [type(m).__name__ for m in net.stem] == ["Conv2d", "BatchNorm2d", "ReLU"]
        assert len(net.units[0].pre) == 0
        assert (
            [type(m).__name__ for m in net.last]
            == ends
            == [type(m).__name__ for m in net.units[1].pre]
        )


@pytest.mark.parametrize(("depth", "expected"), [(20, 269_722), (110, 1_727_962)])
def test_cifar_nets_have_the_papers_parameters(depth: int, expected: int) -> None:
    """0.27 M and 1.7 M in Table 6 of the first paper."""
    with torch.device("meta"):
        assert count(resnet.cifar(depth)) == expected


@pytest.mark.parametrize("depth", [20, 110])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    with torch.device("meta"):
        net = resnet.cifar(depth)
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in net.modules()) == depth


def test_sizes_halve_from_stage_to_stage() -> None:
    net = resnet.imagenet(18)
    sizes: list[tuple[int, ...]] = []
    for unit in net.units:
        unit.register_forward_hook(
            lambda module, inputs, output: sizes.append(tuple(output.shape[1:]))
        )
    assert net.eval()(torch.rand(1, 3, 224, 224)).shape == (1, 1000)
    assert sizes[::2] == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


def test_stages_give_the_map_at_the_end_of_each() -> None:
    torch.manual_seed(0)
    net = resnet.ResNet(blocks=(1, 2, 1), widths=(4, 8, 16)).eval()
    x = torch.rand(2, 3, 16, 16)
    stem = net.stem(x)
    fine = net.units[0](stem)
    middle = net.units[2](net.units[1](fine))
    expected = [fine, middle, net.units[3](middle)]
    for skip in range(3):
        cut = resnet.Stages(net, (1, 2, 1), skip=skip)
        found = cut(x)
        assert cut.channels == [4, 8, 16][skip:]
        assert len(found) == 3 - skip
        assert all(map(torch.equal, found, expected[skip:]))


def test_stages_take_the_nets_layers_and_draw_nothing() -> None:
    net = resnet.tiny(depth=20)
    before = torch.get_rng_state()
    cut = resnet.Stages(net, (3, 3, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert cut.stem is net.stem
    assert list(cut.stages[1]) == list(net.units[3:6])
    names = {name.split(".branch")[0] for name in cut.state_dict() if "branch" in name}
    assert names == {
        f"stages.{stage}.{unit}" for stage in range(3) for unit in range(3)
    }


@pytest.mark.parametrize(
    ("blocks", "settings", "message"),
    [
        ((1, 1), {}, r"stages with 3 units in all, got \(1, 1\)"),
        ((1, 2, 0), {}, "stages with 3 units in all"),
        ((1, 1, 1), {"skip": 3}, "skip from 0 to 2, got 3"),
        ((1, 1, 1), {"skip": -1}, "skip from 0 to 2, got -1"),
    ],
)
def test_wrong_cuts_are_refused(
    blocks: tuple[int, ...], settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resnet.Stages(resnet.tiny(), blocks, **settings)


def test_a_layer_behind_the_last_unit_is_not_dropped_silently() -> None:
    net = resnet.tiny(ordering="full pre-activation")
    with pytest.raises(ValueError, match="no layer behind the last unit"):
        resnet.Stages(net, (1, 1, 1))


def test_trunk_statistics_by_hand() -> None:
    torch.manual_seed(0)
    net = resnet.tiny(depth=8, ordering="relu before addition")
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
    found = resnet.trunk_statistics(net, images, labels)
    assert found.trunk.shape == found.branch.shape == found.gradient.shape == (3,)
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules()), "a hook was left behind"

    first = net.units[0]
    start = net.stem(images)
    x = first(start)
    assert found.branch[0].item() == pytest.approx((x - start).std().item(), rel=1e-4)
    assert found.trunk[0].item() == pytest.approx(x.std().item(), rel=1e-4)
    # The gradient's norm by a finite difference along the gradient's own direction.
    end = x.detach().requires_grad_()

    def value(trunk: Tensor) -> Tensor:
        features = net.last(net.units[2](net.units[1](trunk)))
        scores = net.head(features.mean((2, 3)))
        return resnet.loss(scores, {"labels": labels})["loss"]

    (gradient,) = torch.autograd.grad(value(end), end)
    assert found.gradient[0].item() == pytest.approx(gradient.norm().item(), rel=1e-4)
    way = 1e-2 * gradient / gradient.norm()
    slope = (value(end + way) - value(end - way)).item() / 2e-2
    assert found.gradient[0].item() == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("ordering", resnet.ORDERINGS)
def test_a_few_steps_fit_a_few_images(ordering: str) -> None:
    torch.manual_seed(0)
    net = resnet.tiny(depth=8, ordering=ordering)
    images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 8
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = fit(
        lambda: resnet.loss(net(images), {"labels": labels})["loss"], optimizer, 40
    )
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: resnet.imagenet(42), "expected a depth from"),
        (lambda: resnet.cifar(21), r"6n \+ 2, got 21"),
        (lambda: resnet.cifar(21, bottleneck=True), r"9n \+ 2, got 21"),
        (lambda: resnet.cifar(2), r"6n \+ 2, got 2"),
        (lambda: resnet.tiny(ordering="post"), "expected an ordering from"),
        (lambda: resnet.tiny(option="D"), "expected a shortcut"),
        (lambda: resnet.tiny(stem="vgg"), "expected a stem"),
        (lambda: resnet.tiny(blocks=(1, 1)), "as many widths and strides as stages"),
        (lambda: resnet.tiny()(torch.zeros(0, 3, 32, 32)), "at least one image"),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_classes": 0},
        {"num_classes": -1},
        {"stem_stride": 0},
        {"widths": (0, 8, 16)},
        {"blocks": (1, 0, 1)},
        {"blocks": (), "widths": ()},
        {"widths": (16, 8, 4)},
    ],
)
def test_nets_that_would_be_nonsense_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        resnet.tiny(**settings)


def test_sequence_refuses_unknown_words_and_missing_convolutions() -> None:
    with pytest.raises(ValueError, match="'conv', 'bn' and 'relu', got"):
        resnet.sequence(["conv", "gelu"], [(4, 3, 1)], 3)
    with pytest.raises(ValueError, match="expected 2 convolutions, got 1"):
        resnet.sequence(["conv"], [(4, 3, 1), (4, 3, 1)], 3)


def test_images_of_another_kind_are_refused_by_nets_and_by_their_stages() -> None:
    net = resnet.tiny().eval()
    for forward in (net, resnet.Stages(net, (1, 1, 1))):
        for images, message in (
            (torch.rand(2, 1, 32, 32), "3 channels"),
            (torch.rand(2, 3, 32, 32).double(), "images of torch.float32"),
            (torch.zeros(0, 3, 32, 32), "at least one image"),
        ):
            with pytest.raises(ValueError, match=message):
                forward(images)


def test_odd_sizes_and_other_layouts_give_the_same_answer() -> None:
    net = resnet.tiny().eval()
    x = torch.rand(2, 3, 33, 19)
    expected = net(x)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), expected)
    strided = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(net(strided), expected)
    half = net.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()


def test_every_override_reaches_the_net() -> None:
    with torch.device("meta"):
        for build in (resnet.tiny, resnet.paper):
            net = build(num_classes=4, ordering="full pre-activation", option="C")
            assert type(net) is resnet.ResNet
            assert net.head.out_features == 4
            assert len(net.last) == 2
            with pytest.raises(TypeError, match="unexpected keyword"):
                build(colour="red")
