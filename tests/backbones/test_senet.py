"""The block by hand, its four places against their formulas, Inception's ways, counts
against the paper."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from papernets_lite.backbones import resnet, senet
from tests.helpers import fit


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def by_hand(squeeze: str = "mean") -> senet.SqueezeExcitation:
    """Two channels, one unit inside: s = sigmoid((relu(z_1 - z_2), 0))."""
    block = senet.SqueezeExcitation(2, 2, squeeze=squeeze)
    with torch.no_grad():
        block.excite[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1))
        block.excite[2].weight.copy_(torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
    return block


def test_the_block_by_hand() -> None:
    # means 4 and 2, so the unit inside is 2
    u = torch.tensor([[[[3.0, 5.0]], [[1.0, 3.0]]]])
    scale = torch.tensor([2.0, 0.0]).sigmoid()
    torch.testing.assert_close(by_hand()(u), u * scale[:, None, None])
    torch.testing.assert_close(by_hand().gate(u)[0, :, 0, 0], scale)


def test_squeezing_by_the_maximum_by_hand() -> None:
    u = torch.tensor([[[[3.0, 5.0]], [[1.0, 4.0]]]])
    assert by_hand("max").gate(u)[0, 0, 0, 0].item() == pytest.approx(
        torch.tensor(1.0).sigmoid().item()
    )


def test_without_a_squeeze_every_position_has_its_own_gate() -> None:
    torch.manual_seed(0)
    alone = senet.SqueezeExcitation(8, 2, squeeze="none")
    u = torch.randn(2, 8, 3, 5)
    found = alone.gate(u)
    assert found.shape == u.shape
    squeezed = senet.SqueezeExcitation(8, 2)
    squeezed.load_state_dict(alone.state_dict())
    assert count(alone) == count(squeezed)
    for i in range(3):
        for j in range(5):
            one = u[:, :, i : i + 1, j : j + 1]
            torch.testing.assert_close(
                found[:, :, i : i + 1, j : j + 1], squeezed.gate(one)
            )


def test_adding_by_hand() -> None:
    # as in by_hand, with z_1 - z_2 = 2 added to the first channel and 0 to the second
    block = senet.SqueezeExcitation(2, 2, merge="add")
    block.load_state_dict(by_hand().state_dict())
    u = torch.tensor([[[[3.0, 5.0]], [[1.0, 3.0]]]])
    torch.testing.assert_close(block(u), u + torch.tensor([2.0, 0.0])[:, None, None])


def test_to_gate_or_to_add_starts_from_the_same_weights() -> None:
    torch.manual_seed(3)
    gated = senet.tiny_inception().state_dict()
    torch.manual_seed(3)
    added = senet.tiny_inception(merge="add").state_dict()
    assert list(gated) == list(added)
    assert all(torch.equal(gated[k], added[k]) for k in gated)


def test_only_the_squeeze_lets_a_far_position_matter() -> None:
    for squeeze, matters in (("mean", True), ("max", True), ("none", False)):
        block = senet.SqueezeExcitation(8, 2, squeeze=squeeze)
        u = torch.rand(1, 8, 4, 4)
        v = u.clone()
        v[..., -1, -1] += 5
        assert bool((block(u)[..., 0, 0] != block(v)[..., 0, 0]).any()) is matters


def test_a_gate_has_at_least_one_unit_inside() -> None:
    assert senet.SqueezeExcitation(8, 16).excite[0].weight.shape == (1, 8, 1, 1)


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "standard": lambda x, branch, shortcut, block: relu(shortcut(x) + block(branch(x))),
    "pre": lambda x, branch, shortcut, block: relu(shortcut(x) + branch(block(x))),
    "post": lambda x, branch, shortcut, block: block(relu(shortcut(x) + branch(x))),
    "identity": lambda x, branch, shortcut, block: relu(block(shortcut(x)) + branch(x)),
}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("where", senet.PLACEMENTS)
def test_a_place_is_its_formula(where: str, stride: int) -> None:
    torch.manual_seed(0)
    unit = resnet.Unit(4, 8 if stride == 2 else 4, stride=stride).eval()
    branch, shortcut = nn.Sequential(*unit.branch), unit.shortcut
    senet.place(unit, where, reduction=2)
    (block,) = (m for m in unit.modules() if isinstance(m, senet.SqueezeExcitation))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(unit(x), FORMULAS[where](x, branch, shortcut, block))


def test_a_bottleneck_is_gated_at_its_wide_end() -> None:
    unit = resnet.Unit(16, 8, bottleneck=True)
    senet.place(unit, "standard", reduction=4)
    assert unit.branch[-1].excite[0].weight.shape == (8, 32, 1, 1)


def test_an_inception_unit_is_its_four_ways() -> None:
    torch.manual_seed(0)
    unit = senet.Inception(3, 8).eval()
    x = torch.rand(2, 3, 5, 5)
    found = unit(x)
    assert found.shape == (2, 8, 5, 5)
    kernels = [
        [m.kernel_size[0] for m in way if isinstance(m, nn.Conv2d)] for way in unit.ways
    ]
    assert kernels == [[1], [1, 3], [1, 3, 3], [1]]
    # The fourth averages what there is: at a corner, four pixels.
    conv, bn = unit.ways[3][1], unit.ways[3][2]
    corner = x[:, :, :2, :2].mean((2, 3), keepdim=True)
    torch.testing.assert_close(found[:, 6:, :1, :1], relu(bn(conv(corner))))


def test_a_net_without_blocks_starts_from_the_same_weights() -> None:
    for build in (senet.tiny_inception, senet.tiny):
        torch.manual_seed(3)
        gated = build().state_dict()
        torch.manual_seed(3)
        plain = build(gated=False).state_dict()
        same = {k: v for k, v in gated.items() if "excite" not in k}
        assert list(same) == list(plain)
        assert all(torch.equal(same[k], plain[k]) for k in plain)


def test_the_residual_net_without_blocks_is_resnet() -> None:
    torch.manual_seed(0)
    ours = senet.tiny(gated=False).eval()
    torch.manual_seed(0)
    theirs = resnet.tiny(depth=8).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours(x), theirs(x))


def test_with_and_without_squeeze_the_parameters_are_equal() -> None:
    assert (
        count(senet.tiny_inception())
        == count(senet.tiny_inception(squeeze="none"))
        > count(senet.tiny_inception(gated=False))
    )


@pytest.mark.parametrize("build", [senet.tiny_inception, senet.tiny])
def test_answers_per_position_average_to_the_answer_per_picture(
    build: Callable[..., nn.Module],
) -> None:
    torch.manual_seed(0)
    local = build(per_position=True).eval()
    whole = build(per_position=False).eval()
    whole.load_state_dict(local.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(local(x).mean((2, 3)), whole(x))


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_added_parameters_are_the_papers_formula(depth: int) -> None:
    """2/r sum N_s C_s^2 without biases, Eq. 5; SE-ResNet-50 adds about 2.5 million."""
    added = sum(
        2 * n * c**2 // 16
        for n, c in zip(resnet.IMAGENET[depth], (256, 512, 1024, 2048), strict=True)
    )
    biases = sum(
        n * (c + c // 16)
        for n, c in zip(resnet.IMAGENET[depth], (256, 512, 1024, 2048), strict=True)
    )
    with torch.device("meta"):
        plain, without, gated = (
            resnet.imagenet(depth),
            senet.paper(depth=depth, bias=False),
            senet.paper(depth=depth),
        )
    assert count(without) - count(plain) == added
    assert count(gated) - count(without) == biases
    if depth == 50:
        assert added == 2_514_944


def test_gates_are_those_of_the_blocks() -> None:
    torch.manual_seed(0)
    net = senet.tiny_inception().eval()
    x = torch.rand(3, 3, 32, 32)
    found = senet.gates(net, x)
    assert [s.shape for s in found] == [(3, 32)] * 3
    stem = list(net.stem)
    expected = stem[-1].gate(nn.Sequential(*stem[:-1])(x)).detach()
    torch.testing.assert_close(found[0], expected[:, :, 0, 0])
    assert not any(m._forward_hooks for m in net.modules()), "a hook was left behind"
    assert senet.gates(senet.tiny_inception(gated=False), x) == []


def test_with_other_gates_by_hand() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(senet.SqueezeExcitation(4, 2))
    x = torch.rand(2, 4, 3, 3)
    s = net[0].gate(x)
    torch.testing.assert_close(senet.regated(net, x, lambda s: s), x * s)
    torch.testing.assert_close(
        senet.regated(net, x, lambda s: s.flip(0)), x * s.flip(0)
    )
    with pytest.raises(RuntimeError, match="on purpose"):
        senet.regated(net, x, fail)
    torch.testing.assert_close(net(x), x * s)


def fail(s: Tensor) -> Tensor:
    raise RuntimeError("on purpose")


def test_loss_counts_only_what_has_a_label() -> None:
    outputs = torch.zeros(1, 2, 2, 2)
    outputs[0, 1, 0, 0] = 9.0
    labels = torch.tensor([[[1, 1], [-1, -1]]])
    found = senet.loss(outputs, {"labels": labels})
    assert found["accuracy"].item() == 0.5
    assert found["loss"].item() == pytest.approx((1.234e-4 + 0.6931) / 2, rel=1e-3)


def test_a_few_steps_fit_a_few_images() -> None:
    torch.manual_seed(0)
    net = senet.tiny()
    images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 8
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = fit(
        lambda: senet.loss(net(images), {"labels": labels})["loss"], optimizer, 40
    )
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: senet.SqueezeExcitation(8, squeeze="median"),
            "expected a squeeze from",
        ),
        (lambda: senet.SqueezeExcitation(8, merge="times"), "expected a merge from"),
        (lambda: senet.SqueezeExcitation(8, 0), "reduction >= 1"),
        (lambda: senet.tiny(placement="after"), "expected a place from"),
        (lambda: senet.tiny_inception(channels=30), "multiple of 4"),
        (lambda: senet.paper(depth=42), "expected a depth from"),
        (
            lambda: senet.tiny_inception()(torch.zeros(0, 3, 32, 32)),
            "at least one image",
        ),
        (
            lambda: senet.tiny(per_position=True)(torch.zeros(0, 3, 32, 32)),
            "at least one image",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_a_batch_without_labels_teaches_nothing(shape: tuple[int, ...]) -> None:
    outputs = torch.rand(3, 8, *shape[1:], requires_grad=True)
    found = senet.loss(outputs, {"labels": torch.full(shape, senet.UNKNOWN)})
    assert found["loss"].item() == 0
    assert found["accuracy"].item() == 0
    found["loss"].backward()
    assert outputs.grad is not None
    assert outputs.grad.eq(0).all()


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_the_mean_over_labels_is_torchs(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 8, *shape[1:], generator=generator)
    labels = torch.randint(-1, 8, shape, generator=generator)
    expected = nn.functional.cross_entropy(outputs, labels, ignore_index=-1)
    found = senet.loss(outputs, {"labels": labels})["loss"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((2, 4, 4), 255), "labels from 0 to 7 or -1, got 255, 255"),
        (torch.full((2, 4, 4), -2), "labels from 0 to 7 or -1, got -2, -2"),
        (torch.zeros(1, 4, 4).long(), r"labels \(2, 4, 4\), got \(1, 4, 4\)"),
        (torch.zeros(2).long(), r"labels \(2, 4, 4\), got \(2,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        senet.loss(torch.rand(2, 8, 4, 4), {"labels": labels})
    assert senet.loss(
        torch.rand(2, 8, 4, 4), {"labels": torch.zeros(2, 4, 4, dtype=torch.uint8)}
    )["loss"].isfinite()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: senet.tiny(depth=9),
        lambda: senet.tiny(num_classes=0),
        lambda: senet.tiny_inception(depth=0),
        lambda: senet.tiny_inception(channels=0),
        lambda: senet.tiny_inception(num_classes=-1),
        lambda: senet.SqueezeExcitation(0),
    ],
)
def test_nets_that_would_be_nonsense_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()


@pytest.mark.parametrize("build", [senet.tiny, senet.tiny_inception])
def test_images_of_another_kind_are_refused(build: Callable[..., nn.Module]) -> None:
    net = build().eval()
    with pytest.raises(ValueError, match="3 channels"):
        net(torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"images of torch\.float32"):
        net(torch.rand(2, 3, 32, 32).double())
    assert net.bfloat16()(torch.rand(2, 3, 33, 17).bfloat16()).isfinite().all()


def test_every_override_reaches_the_net() -> None:
    with torch.device("meta"):
        for build in (senet.tiny, senet.paper):
            net = build(num_classes=4, per_position=True, placement="pre", reduction=4)
            assert type(net) is senet.SEResNet
            assert net.head.out_features == 4
            assert net.per_position
            assert isinstance(net.units[0].branch[0], senet.SqueezeExcitation)
        bottleneck = senet.tiny(depth=11, bottleneck=True)
        assert len(bottleneck.units) == 3
