"""Parameter counts of the released nets, maps and means against plain loops, losses
against hand-computed cases."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from papernets_lite.generative import pix2pixhd
from papernets_lite.generative.pix2pixhd import (
    GlobalGenerator,
    InstanceEncoder,
    LocalEnhancer,
    MultiscaleDiscriminator,
)

SIZE = 16


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**options) -> pix2pixhd.Pix2PixHD:
    torch.manual_seed(0)
    return pix2pixhd.tiny(num_classes=3, **options)


def scene(count: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Two squares of class 1 that touch, on class 0; the left one is red, the right one
    of any colour."""
    labels = torch.zeros(count, SIZE, SIZE, dtype=torch.long)
    labels[:, 4:12, 2:14] = 1
    instances = labels.clone()
    instances[:, 4:12, 8:14] = 2
    images = torch.full((count, 3, SIZE, SIZE), 0.2)
    images[:, 0, 4:12, 2:8] = 0.9
    images[:, :, 4:12, 8:14] = torch.rand(count, 3, 1, 1, generator=seeded())
    return images, labels, instances


def batch(**options) -> dict[str, Tensor]:
    images, labels, instances = scene()
    conditions = pix2pixhd.encode(labels, instances, num_classes=3, **options)
    return {"conditions": conditions, "images": images, "instances": instances}


def test_parameters_equal_the_released_nets():
    with torch.device("meta"):
        assert count(GlobalGenerator(35)) == 182_543_619
        assert count(GlobalGenerator(36)) == 182_546_755
        assert count(GlobalGenerator(39)) == 182_556_163
        assert count(pix2pixhd.paper().generator) == 182_857_059
        assert count(InstanceEncoder()) == 788_803
        assert [count(MultiscaleDiscriminator(39, scales=s)) for s in (1, 2, 3)] == [
            2_801_601,
            5_603_202,
            8_404_803,
        ]
        assert count(pix2pixhd.paper().discriminator) == 8_404_803


def test_both_sides_of_a_border_are_marked():
    instances = torch.tensor([[[7, 7, 7, 2], [7, 7, 7, 2], [7, 7, 7, 7], [7, 7, 7, 7]]])
    expected = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert torch.equal(pix2pixhd.boundary_map(instances)[0, 0], expected.float())


def test_the_numbers_of_instances_mean_nothing():
    _, labels, instances = scene()
    renamed = torch.tensor([31, 5, 1000])[instances]
    first, second = (
        pix2pixhd.encode(labels, ids, num_classes=3) for ids in (instances, renamed)
    )
    assert torch.equal(first, second)
    assert first.shape == (4, 4, SIZE, SIZE)
    assert torch.equal(first[:, :3].argmax(1), labels)
    assert torch.equal(
        first[:, :3], pix2pixhd.encode(labels, instances, num_classes=3, boundary=False)
    )
    # The border between the squares is in the boundary map, and nowhere else.
    same = pix2pixhd.encode(labels, labels, num_classes=3)
    assert torch.equal(first[:, :3], same[:, :3])
    assert first[0, 3, 6:10, 7:9].all()
    assert not same[0, 3, 6:10, 7:9].any()


def test_halving_is_a_mean_of_the_pixels_that_are_there():
    maps = torch.rand(1, 2, 6, 8, generator=seeded())
    for row in range(3):
        for column in range(4):
            y, x = 2 * row, 2 * column
            around = maps[..., max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            torch.testing.assert_close(
                pix2pixhd.halve(maps)[..., row, column], around.mean((-1, -2))
            )
    for wrong in (maps[:0], maps[..., :0], (255 * maps).byte()):
        with pytest.raises((ValueError, TypeError), match=r"floats|Type-check"):
            pix2pixhd.halve(wrong)


def test_the_enhancer_adds_the_coarse_features_and_cuts_the_head():
    torch.manual_seed(0)
    coarse = GlobalGenerator(4, channels=8, halvings=2, blocks=1)
    fine = LocalEnhancer(4, coarse, channels=4, blocks=1)
    inputs = torch.rand(2, 4, 32, 32)
    features = coarse.features(pix2pixhd.halve(inputs))
    assert features.shape == (2, 8, 16, 16)
    torch.testing.assert_close(
        fine(inputs), fine.head(fine.back(fine.front(inputs) + features))
    )
    assert fine.coarse is coarse.features, "what the coarse one has learnt stays"
    assert count(fine) == count(fine.front) + count(fine.back) + count(
        fine.head
    ) + count(coarse) - count(coarse.head)
    fine.freeze()
    fine(inputs).sum().backward()
    assert all(p.grad is None for p in coarse.parameters())
    assert all(p.grad is not None for p in fine.front.parameters())
    fine.freeze(False)
    fine(inputs).sum().backward()
    assert all(p.grad is not None for p in coarse.features.parameters())


def test_shapes_of_the_discriminators_outputs():
    # Sides by hand: floor((n + 4 - 4) / stride) + 1, with a padding of 2.
    with torch.device("meta"):
        outputs = MultiscaleDiscriminator(39, scales=3)(torch.empty(1, 39, 256, 512))
    assert [tuple(layer.shape[1:]) for layer in outputs[0]] == [
        (64, 129, 257), (128, 65, 129), (256, 33, 65), (512, 34, 66), (1, 35, 67)
    ]  # fmt: skip
    assert [scale[0].shape[-1] for scale in outputs] == [257, 129, 65]
    assert [scale[-1].shape[-1] for scale in outputs] == [67, 35, 19]


def test_each_scale_has_its_own_weights_and_sees_the_halved_picture():
    torch.manual_seed(0)
    net = MultiscaleDiscriminator(5, scales=2, channels=4, halvings=2)
    inputs = torch.rand(2, 5, 32, 32)
    outputs = net(inputs)
    for level, picture in enumerate((inputs, pix2pixhd.halve(inputs))):
        for found, expected in zip(
            outputs[level], net.scales[level](picture), strict=True
        ):
            assert torch.equal(found, expected)
    assert not torch.equal(*(scale.layers[0][0].weight for scale in net.scales))


def test_instance_means_are_those_of_a_plain_loop():
    instances = torch.randint(-3, 4, (3, 6, 5), generator=seeded(1)) * 500
    maps = torch.randn(3, 4, 6, 5, generator=seeded())
    index, counts = pix2pixhd.number(instances)
    means = pix2pixhd.instance_means(maps, index, counts)
    assert len(means) == sum(len(one.unique()) for one in instances)
    assert counts.sum() == instances.numel()
    for image in range(3):
        for name in instances[image].unique():
            mask = instances[image] == name
            which = index[image][mask].unique()
            assert len(which) == 1, "one number per instance"
            assert counts[which] == mask.sum()
            torch.testing.assert_close(means[which[0]], maps[image][:, mask].mean(1))


def test_styles_are_constant_in_an_instance_and_come_from_it_and_around():
    torch.manual_seed(0)
    encoder = InstanceEncoder(channels=4, halvings=1, kernel_size=3)
    images, _, instances = scene()
    styles = encoder(images, instances)
    assert styles.shape == (4, 3, SIZE, SIZE)
    assert (styles.abs() <= 1).all()
    for k in range(3):
        mask = instances[0] == k
        assert styles[0][:, mask].std(1).max() < 1e-6
    assert not torch.allclose(styles[0, :, 8, 4], styles[0, :, 8, 10])
    index, counts = pix2pixhd.number(instances)
    raw = encoder.net(2 * images - 1)
    torch.testing.assert_close(
        styles, pix2pixhd.instance_means(raw, index, counts)[index].permute(0, 3, 1, 2)
    )


def test_centres_are_of_their_class_and_of_large_instances():
    styles = torch.zeros(1, 3, 8, 8)
    labels, instances = (torch.zeros(1, 8, 8, dtype=torch.long) for _ in range(2))
    for number, (rows, label, value) in enumerate(
        ((slice(0, 2), 1, 0.5), (slice(2, 4), 1, -0.5), (slice(4, 6), 2, 1.0)), 1
    ):
        labels[:, rows], instances[:, rows], styles[:, :, rows] = label, number, value
    # one pixel only
    labels[0, 7, 7], instances[0, 7, 7], styles[0, :, 7, 7] = 2, 9, -1.0
    centres = pix2pixhd.style_centres(
        styles, labels, instances, generator=seeded(), least=2 / 64
    )
    assert sorted(centres) == [0, 1, 2]
    assert sorted(centres[1][:, 0].tolist()) == [-0.5, 0.5]
    assert centres[2].tolist() == [[1.0, 1.0, 1.0]]
    with_pixel = pix2pixhd.style_centres(
        styles, labels, instances, generator=seeded(), least=1 / 64
    )
    assert len(with_pixel[2]) == 2


def test_sampled_styles_are_centres_of_the_instances_class():
    _, labels, instances = scene(8)
    centres = {1: torch.tensor([[1.0, 0, 0], [0, 1, 0]])}
    styles = pix2pixhd.sample_styles(labels, instances, centres, generator=seeded())
    assert not styles[:, :, labels[0] == 0].any(), "no centre, no style"
    found = {tuple(styles[i, :, 8, x].tolist()) for i in range(8) for x in (4, 10)}
    assert found == {(1, 0, 0), (0, 1, 0)}
    assert torch.equal(
        styles[:, :, 4:12, 2:8].amax((-1, -2)), styles[:, :, 4:12, 2:8].amin((-1, -2))
    )


def test_donors_are_of_the_same_class():
    classes = torch.tensor([4, 5, 4, 5, 4, 4, 0])
    some = torch.tensor([True, True, True, True, True, False, False])
    donor = pix2pixhd.donors(classes, some, generator=seeded())
    assert sorted(donor.tolist()) == list(range(7)), "each gives once"
    assert torch.equal(classes[donor], classes)
    assert donor[5:].tolist() == [5, 6], "the others keep their own"
    assert (donor[:5] != torch.arange(5)).any()


def test_all_at_once_costs_what_the_stages_cost():
    torch.manual_seed(0)
    some = {
        "conditions": torch.rand(1, 9, 64, 64),
        "images": torch.rand(1, 3, 64, 64),
        "instances": torch.zeros(1, 64, 64, dtype=torch.long),
    }
    nets = pix2pixhd.two_stages(pix2pixhd.tiny)
    costs = []
    for stage in ("both", *pix2pixhd.STAGES):  # the first: all at once
        step = pix2pixhd.stage_step(nets, stage, torch.optim.Adam, steps=1)
        with FlopCounterMode(display=False) as counted:
            step(some)
        costs.append(counted.get_total_flops())
    once, *stages = costs
    staged = sum(n * cost for n, cost in zip((60, 12, 60), stages, strict=True))
    assert staged == pytest.approx(96 * once, rel=0.01)


def test_matching_compares_all_layers_but_the_scores():
    real = [
        [torch.zeros(1, 2, 3, 3), torch.ones(1), torch.full((1,), 9.0)],
        [torch.zeros(4), torch.zeros(2), torch.zeros(1)],
    ]
    fake = [
        [torch.full((1, 2, 3, 3), -0.5), torch.full((1,), 3.0), torch.zeros(1)],
        [torch.ones(4), torch.zeros(2), torch.zeros(1)],
    ]
    for layer in (x for scale in real + fake for x in scale):
        layer.requires_grad_()
    distances = pix2pixhd.matching_loss(real, fake)
    assert distances.tolist() == [[0.5, 2.0], [1.0, 0.0]]
    distances.sum().backward()
    assert all(layer.grad is None for scale in real for layer in scale)
    assert fake[0][0].grad is not None


class Judge(nn.Module):
    """Features and scores that are easy by hand: the picture's mean times 1 and 2, at
    two scales."""

    def forward(self, inputs: Tensor) -> pix2pixhd.Features:
        mean = inputs[:, -3:].mean((1, 2, 3))
        return [[mean, 2 * mean], [2 * mean, 4 * mean]]


def test_losses_by_hand():
    nets = small()
    nets.discriminator = Judge()
    some = {
        "conditions": torch.zeros(1, 2, 4, 4),
        "images": torch.full((1, 3, 4, 4), 0.75),
    }
    fake = torch.full((1, 3, 4, 4), 0.5)
    fooling = pix2pixhd.generator_loss(nets, some, fake)
    assert fooling["fool"].item() == 2.0  # (0 - 1)^2 at either scale
    # One layer: weight 4 / (0 + 1) as released; distances 0.5 and 1.0, their mean over
    # the scales 0.75.
    assert fooling["match"].item() == pytest.approx(10 * 4 * 0.75)
    assert fooling["loss"].item() == pytest.approx(32.0)
    alone = pix2pixhd.generator_loss(nets, some, fake, matching_weight=0)
    assert set(alone) == {"loss", "fool"}
    # pix2pix's term instead: 0.25 apart in [0, 1] is 0.5 in [-1, 1].
    pixels = {"matching_weight": 0, "pixel_weight": 100.0}
    near = pix2pixhd.generator_loss(nets, some, fake, **pixels)
    assert near["pixels"].item() == pytest.approx(50.0)
    assert near["loss"].item() == pytest.approx(52.0)
    # Real scores 1 and 2, fake ones 0 and 0: half of (0 + 0) + (1 + 0).
    telling = pix2pixhd.discriminator_loss(nets, some, fake)
    assert telling["loss"].item() == pytest.approx(0.5)


def test_three_layers_weigh_as_released():
    nets = small(styles=False)
    some = batch()
    fakes = nets(some["conditions"])
    terms = pix2pixhd.generator_loss(nets, some, fakes)
    real, fake = (nets.judge(some["conditions"], x) for x in (some["images"], fakes))
    expected = sum(
        10 * 4 / 3 / 2 * (a - b).abs().mean()
        for r, f in zip(real, fake, strict=True)
        for a, b in zip(r[:-1], f[:-1], strict=True)
    )
    torch.testing.assert_close(terms["match"], expected)


def optimizers(
    nets: pix2pixhd.Pix2PixHD,
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    return pix2pixhd.optimizers(
        nets, lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return any(
        not torch.equal(value, before[name])
        for name, value in module.state_dict().items()
    )


def test_a_step_updates_everybody_and_matching_is_not_the_discriminators_task():
    after = []
    for weight in (10.0, 0.0):
        nets, some = small(), batch()
        before = [
            state(part) for part in (nets.generator, nets.discriminator, nets.encoder)
        ]
        step = pix2pixhd.adversarial_step(
            nets, optimizers(nets), matching_weight=weight
        )
        values = step(some)
        assert all(torch.isfinite(value) for value in values.values())
        for part, old in zip(
            (nets.generator, nets.discriminator, nets.encoder), before, strict=True
        ):
            assert changed(part, old)
        after.append(state(nets.discriminator))
    for name, value in after[0].items():
        assert torch.equal(value, after[1][name]), (
            "both saw the same fakes: the first of the same generator"
        )


def test_the_second_stage_takes_over_what_the_first_has_learnt():
    first, second = small(coarse=True), small()
    second.take_over(first)
    assert second.encoder is first.encoder
    assert second.generator.coarse is first.generator.features
    second.generator.freeze()
    frozen = (
        state(second.encoder),
        state(second.generator.coarse),
        state(second.generator.front),
    )
    pix2pixhd.adversarial_step(second, optimizers(second))(batch())
    assert not changed(second.encoder, frozen[0])
    assert not changed(second.generator.coarse, frozen[1])
    assert changed(second.generator.front, frozen[2])
    second.generator.freeze(False)
    pix2pixhd.adversarial_step(second, optimizers(second))(batch())
    assert changed(second.generator.coarse, frozen[1])
    with torch.device("meta"):
        assert count(pix2pixhd.paper(coarse=True).generator) == 182_546_755


def test_stages_begin_where_the_last_ended_and_end_without_a_rate():
    torch.manual_seed(0)
    nets = pix2pixhd.two_stages(pix2pixhd.tiny, num_classes=3)
    made = []

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(torch.optim.Adam(parameters, 1e-3))
        return made[-1]

    before = state(nets["G1"].generator)
    pix2pixhd.stage_step(nets, "G1", make, steps=1)(batch())
    assert changed(nets["G1"].generator, before)
    learnt = state(nets["G1"].generator.features)
    step = pix2pixhd.stage_step(nets, "G2", make, steps=1)
    assert not changed(nets["G2"].generator.coarse, learnt)
    step(batch())
    assert not changed(nets["G2"].generator.coarse, learnt)
    assert made[-1].param_groups[0]["lr"] == 1e-3
    pix2pixhd.stage_step(nets, "both", make, steps=1)(batch())
    assert changed(nets["G2"].generator.coarse, learnt)
    assert not changed(nets["G1"].generator.features, learnt)
    assert made[-1].param_groups[0]["lr"] == 0
    with pytest.raises(ValueError, match="a stage from"):
        pix2pixhd.stage_step(nets, "G3", make, steps=1)


def test_the_coarse_stage_plays_at_half_the_size():
    nets, sizes = small(coarse=True), []
    nets.discriminator.register_forward_hook(
        lambda module, inputs, output: sizes.append(inputs[0].shape[-1])
    )
    nets.generator.register_forward_hook(
        lambda module, inputs, output: sizes.append(output.shape[-1])
    )
    pix2pixhd.adversarial_step(nets, optimizers(nets), coarse=True)(batch())
    assert set(sizes) == {SIZE // 2}


def test_it_learns_to_paint_what_the_style_says():
    """Two squares with a colour of their own: one map for all pictures, so only a style
    can tell the colour."""
    torch.manual_seed(0)
    nets, some = small(coarse=True), batch()
    pair = pix2pixhd.optimizers(
        nets,
        lambda parameters: torch.optim.Adam(parameters, lr=2e-3, betas=(0.5, 0.999)),
    )
    step = pix2pixhd.adversarial_step(nets, pair, coarse=True)
    target, errors = pix2pixhd.halve(some["images"]), []
    for k in range(61):
        if k % 60 == 0:
            with torch.no_grad():
                styles = pix2pixhd.halve(
                    nets.encoder(some["images"], some["instances"])
                )
                errors.append(
                    (nets(pix2pixhd.halve(some["conditions"]), styles) - target)
                    .abs()
                    .mean()
                    .item()
                )
        step(some)
    assert errors[1] < 0.6 * errors[0], errors


@pytest.mark.parametrize("shape", [(0, 7, 16, 16), (1, 7, 18, 16), (1, 7, 16, 18)])
def test_bad_input(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="sides divisible by 4"):
        small().generator(torch.rand(shape))
    with pytest.raises(ValueError, match="at least one"):
        small().discriminator(torch.rand(0, 7, 16, 16))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_maps_of_any_integer_type_are_told_the_same(dtype: torch.dtype):
    images, labels, instances = scene()
    # All the numbers of a byte: the next picture's instances begin after 255.
    instances = instances + 253 * (instances == 2)
    expected = pix2pixhd.encode(labels, instances, num_classes=3)
    if dtype == torch.int16:
        instances = instances - 3
    cast_labels, cast = labels.to(dtype), instances.to(dtype)
    found = pix2pixhd.encode(cast_labels, cast, num_classes=3)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    index, counts = pix2pixhd.number(cast)
    assert len(counts) == 12, "three in each of four pictures"
    assert torch.equal(index, pix2pixhd.number(instances)[0])
    classes = pix2pixhd.instance_classes(cast_labels, index, counts)
    assert classes.tolist() == [0, 1, 1] * 4
    means = pix2pixhd.instance_means(images, index, counts)
    torch.testing.assert_close(means[1], torch.tensor([0.9, 0.2, 0.2]))


@pytest.mark.parametrize(
    ("void", "found"), [(255, "0, 255"), (-1, "-1, 1"), (3, "0, 3")]
)
def test_labels_without_a_class_of_their_own_are_refused(void: int, found: str):
    _, labels, instances = scene()
    labels[0, 0, 0] = void
    with pytest.raises(ValueError, match=f"labels from 0 to 2, got {found}"):
        pix2pixhd.encode(labels, instances, num_classes=3)


def test_numbers_far_apart_are_still_told_apart_or_refused():
    instances = torch.zeros(2, 2, 2, dtype=torch.long)
    instances[:, 0] = 2**61
    index, counts = pix2pixhd.number(instances)
    assert counts.tolist() == [2, 2, 2, 2]
    assert index.unique().tolist() == [0, 1, 2, 3]
    instances[0, 0] = -(2**62)
    with pytest.raises(ValueError, match="instances within"):
        pix2pixhd.number(instances)


def test_styles_without_a_large_instance_are_refused():
    images, labels, instances = scene()
    none = pix2pixhd.style_centres(
        images, labels, instances, generator=seeded(), least=2.0
    )
    assert none == {}
    with pytest.raises(ValueError, match="centres of a class or more"):
        pix2pixhd.sample_styles(labels, instances, none, generator=seeded())
    odd = {0: torch.zeros(1, 3), 1: torch.zeros(1, 2)}
    with pytest.raises(ValueError, match=r"all of one length, got \[2, 3\]"):
        pix2pixhd.sample_styles(labels, instances, odd, generator=seeded())


def test_means_over_many_pixels_are_right_in_half_precision():
    instances = torch.zeros(1, 64, 64, dtype=torch.long)
    index, counts = pix2pixhd.number(instances)
    ones = torch.ones(1, 2, 64, 64, dtype=torch.bfloat16)
    means = pix2pixhd.instance_means(ones, index, counts)
    assert means.dtype == torch.bfloat16
    assert means.tolist() == [[1.0, 1.0]]
    levels = torch.arange(2).repeat(32)[None, None, None].expand(1, 2, 64, 64)
    means = pix2pixhd.instance_means(levels.byte(), index, counts)
    assert means.tolist() == [[0.5, 0.5]], "a mean of bytes is no byte"


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_classes": 0},
        {"global_generator": {"channels": 0}},
        {"global_generator": {"halvings": -1}},
        {"global_generator": {"blocks": -1}},
        {"enhancer": {"blocks": -1}},
        {"encoder": {"kernel_size": 4}},
        {"encoder": {"channels": 0}},
        {"discriminator": {"channels": 0}},
        {"discriminator": {"halvings": 0}},
        {"discriminator": {"scales": 0}},
    ],
)
def test_nets_that_make_no_sense_are_not_built(wrong: dict[str, Any]):
    ((name, value),) = wrong.items()
    size = next(iter(value)) if isinstance(value, dict) else name
    with torch.device("meta"), pytest.raises(ValueError, match=size):
        pix2pixhd.paper(styles=True, **wrong)


def test_every_override_reaches_its_net():
    sizes = {"halvings": 1, "kernel_size": 3}
    nets = pix2pixhd.tiny(
        num_classes=2,
        global_generator={"channels": 8, "blocks": 1, **sizes},
        enhancer={"channels": 4, "blocks": 0, "kernel_size": 3},
        discriminator={"channels": 5, "halvings": 1, "scales": 1},
        encoder={"channels": 4, **sizes},
    )
    assert nets.generator.front[1].out_channels == 4
    assert len(nets.generator.back) == 3, "the way up alone"
    assert nets.encoder.net.channels == 4
    (judge,) = nets.discriminator.scales
    assert judge.layers[0][0].out_channels == 5
    assert len(judge.layers) == 3
    with pytest.raises(TypeError, match="widht"):
        pix2pixhd.paper(widht=3)


def test_only_a_first_stage_that_fits_is_taken_over():
    with pytest.raises(ValueError, match="G2 to take over G1"):
        small().take_over(small())
    with pytest.raises(ValueError, match="7 in_channels, as G2, got 4"):
        small().take_over(small(coarse=True, styles=False))
    coarse = GlobalGenerator(4, channels=8, halvings=1, blocks=1)
    with pytest.raises(ValueError, match="half of G1's channels, got 8"):
        LocalEnhancer(4, coarse, channels=8)


def test_a_step_refuses_pictures_of_0_to_255():
    step = pix2pixhd.adversarial_step(nets := small(), optimizers(nets))
    some = batch()
    for wrong in (255 * some["images"], some["images"] * torch.nan):
        with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
            step(some | {"images": wrong})
    with pytest.raises(ValueError, match=r"conditions in \[0, 1\]"):
        step(some | {"conditions": some["conditions"] / 0})


def test_inputs_that_the_nets_cannot_take_are_refused():
    nets, some = small(), batch()
    conditions, images, instances = some.values()
    styles = nets.encoder(images, instances)
    for wrong in (
        lambda: nets(conditions),
        lambda: nets(conditions[:, :3], styles),
        lambda: nets(conditions[:1], styles),
        lambda: nets(conditions, styles[..., :8]),
        lambda: nets(conditions.double(), styles.double()),
        lambda: nets.judge(conditions[:2], images),
        lambda: nets.judge(conditions, images[:, :, :8]),
        lambda: nets.encoder(images[:, :, :8], instances),
        lambda: nets.encoder(images[:2], instances),
        lambda: nets.generator(torch.rand(1, 7, 4, 8)),
    ):
        with pytest.raises((ValueError, TypeError), match=r"expected|Type-check"):
            wrong()
    laid_out = conditions.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nets(laid_out, styles), nets(conditions, styles))
    half = small().bfloat16()
    styles = half.encoder(images.bfloat16(), instances)
    fakes = half(conditions.bfloat16(), styles)
    assert fakes.isfinite().all()
    rounded = {"conditions": conditions.bfloat16(), "images": images.bfloat16()}
    assert pix2pixhd.generator_loss(half, rounded, fakes)["loss"].isfinite()
    assert pix2pixhd.discriminator_loss(half, rounded, fakes)["loss"].isfinite()


def test_features_of_other_pictures_are_refused():
    one = [[torch.rand(1, 2, 3, 3), torch.rand(1)]]
    two = [[torch.rand(2, 2, 3, 3), torch.rand(2)]]
    with pytest.raises(ValueError, match=r"got \(2, 2, 3, 3\), \(1, 2, 3, 3\)"):
        pix2pixhd.matching_loss(one, two)
