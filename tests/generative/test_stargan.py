"""Parameters as released, what the label vector reaches, losses by hand, and who gets
which gradient in a round."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from papernets_lite.generative import stargan
from papernets_lite.generative.stargan import CELEBA, RAFD, Group
from papernets_lite.ops.updates import linear_decay

SIZE = 32
TWO = (Group(3), Group(2, exclusive=True))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(groups=TWO, seed: int = 0, **options: object) -> stargan.StarGAN:
    torch.manual_seed(seed)
    return stargan.tiny(groups=groups, channels=8, blocks=1, **options)


def images(n: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


class Constant(nn.Module):
    """A discriminator with one score and given logits, or a generator that adds a
    value."""

    def __init__(self, value: float, logits: Tensor | None = None) -> None:
        super().__init__()
        self.value, self.logits = nn.Parameter(torch.tensor(value)), logits

    def forward(
        self, x: Tensor, vector: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        if vector is not None:
            return x + self.value * vector[:, :1, None, None]
        assert self.logits is not None
        return self.value * x.mean((1, 2, 3))[:, None, None, None], self.logits.expand(
            len(x), -1
        )


def by_hand(groups, shift: float, slope: float, logits: list[float]) -> stargan.StarGAN:
    nets = small(groups, masked=False)
    nets.generator = Constant(shift)
    nets.generator.num_labels = nets.num_labels
    nets.discriminator = Constant(slope, torch.tensor([logits]))
    return nets


@pytest.mark.parametrize(
    ("groups", "generator", "discriminator"),
    [
        ((CELEBA,), 8_430_528, 44_762_048),
        ((RAFD,), 8_439_936, 44_786_624),
        ((CELEBA, RAFD), 8_461_888, 44_827_584),
    ],
)
def test_the_released_parameters(groups, generator: int, discriminator: int) -> None:
    with torch.device("meta"):
        nets = stargan.paper(groups=groups)
    assert (count(nets.generator), count(nets.discriminator)) == (
        generator,
        discriminator,
    )


def test_the_papers_discriminator_gives_a_2_by_2_map_and_one_logit_for_each_label() -> (
    None
):
    with torch.device("meta"):
        scores, logits = stargan.paper(groups=(CELEBA, RAFD)).discriminator(
            torch.rand(3, 3, 128, 128)
        )
    assert (scores.shape, logits.shape) == ((3, 1, 2, 2), (3, 13))


def test_the_generator_keeps_the_size_and_stays_in_range() -> None:
    net = stargan.Generator(4, channels=4, blocks=1)
    out = net(torch.rand(2, 3, 16, 24), torch.rand(2, 4))
    assert out.shape == (2, 3, 16, 24)
    assert 0 <= out.min() <= out.max() <= 1
    with pytest.raises(ValueError, match=r"divisible by 4, got \(1, 3, 18, 16\)"):
        net(torch.rand(1, 3, 18, 16), torch.rand(1, 4))


def test_a_label_vector_by_hand() -> None:
    nets = small()
    first, second = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    assert nets.vector(first, 0).tolist() == [[1, 0, 1, 0, 0, 1, 0]]
    assert nets.vector(second, 1).tolist() == [[0, 0, 0, 0, 1, 0, 1]]
    bare = small(masked=False)
    assert bare.vector(first, 0).tolist() == [[1, 0, 1, 0, 0]]
    # What the mask is for: nothing set and nothing known look alike.
    zeros = torch.zeros(1, 3), torch.zeros(1, 2)
    assert torch.equal(bare.vector(zeros[0], 0), bare.vector(zeros[1], 1))
    assert not torch.equal(nets.vector(zeros[0], 0), nets.vector(zeros[1], 1))
    assert small((Group(4),)).vector(torch.ones(1, 4)).tolist() == [[1, 1, 1, 1]], (
        "one group needs no mask"
    )
    # Its rival: known labels have a sign, so that 0 is free to say unknown.
    signed = small(masked=False, signed=True)
    assert signed.vector(first, 0).tolist() == [[1, -1, 1, 0, 0]]
    assert signed.vector(second.bool(), 1).tolist() == [[0, 0, 0, -1, 1]]


@pytest.mark.parametrize(
    "build",
    [small, lambda: stargan.paper(groups=TWO, size=64)],
)
def test_every_label_reaches_the_output_and_what_is_zeroed_does_not(build) -> None:
    nets, x = build(), images(1)
    vector = nets.vector(torch.tensor([[1.0, 0.0, 1.0]]), 0).requires_grad_()
    nets.generator(x, vector).square().sum().backward()
    assert vector.grad is not None
    assert (vector.grad != 0).all(), "known, unknown and mask all have weights"
    # Labels of an unknown group are zeros: the weights that read them cannot matter.
    before = nets(x, torch.ones(1, 3), 0)
    first = next(m for m in nets.generator.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        first.weight[:, -4:-2] += 1
    torch.testing.assert_close(nets(x, torch.ones(1, 3), 0), before)
    assert not torch.allclose(
        nets(x, torch.tensor([[0.0, 1.0]]), 1), nets(x, torch.tensor([[1.0, 0.0]]), 1)
    )


def test_reflected_borders_would_hide_the_labels() -> None:
    nets, x = small((Group(3),)), images(2)
    labels = torch.eye(3)[:2]
    assert not torch.allclose(nets(x, labels), nets(x, labels.flip(0)), atol=1e-3)
    for layer in nets.generator.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "reflect"
            layer._reversed_padding_repeated_twice = [1, 1, 1, 1]
    torch.testing.assert_close(
        nets(x, labels), nets(x, labels.flip(0)), atol=1e-4, rtol=0
    )


def test_classification_by_hand() -> None:
    nets = small()
    logits = torch.tensor([[0.0, 2.0, -1.0, 3.0, 1.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0]])
    expected = math.log(2) + math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert nets.classify_loss(logits, labels, 0).item() == pytest.approx(expected)
    assert nets.classify_loss(
        logits.expand(6, -1), labels.expand(6, -1), 0
    ).item() == pytest.approx(expected)
    exclusive = nets.classify_loss(logits, torch.tensor([[0.0, 1.0]]), 1).item()
    assert exclusive == pytest.approx(math.log(1 + math.exp(2)))


def test_losses_by_hand() -> None:
    nets = by_hand((Group(1),), shift=0.2, slope=3.0, logits=[2.0])
    x = torch.full((2, 3, 4, 4), 0.25)
    labels, targets = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    batch = {"images": x, "labels": labels}
    found = stargan.generator_loss(nets, batch, targets)
    # Fakes are 0.25 and 0.45; back again with their own labels both are 0.45.
    yes, no = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    expected = {"fool": -3 * 0.35, "become": (yes + no) / 2, "return": 10 * 2 * 0.2}
    expected |= {"loss": sum(expected.values())}
    assert {k: v.item() for k, v in found.items()} == pytest.approx(expected)
    told = stargan.discriminator_loss(nets, batch, torch.full((2, 3, 4, 4), 0.5))
    # The score's slope is 3 / 48 for each of 48 pixels, and half of that in units of
    # [-1, 1].
    penalty = 10 * (3 / 2 / math.sqrt(48) - 1) ** 2
    expected = {
        "tell": 3 * (0.5 - 0.25),
        "recognise": (yes + no) / 2,
        "penalty": penalty,
    }
    expected |= {"loss": sum(expected.values())}
    assert {k: v.item() for k, v in told.items()} == pytest.approx(expected)


def test_terms_of_weight_zero_are_left_out() -> None:
    nets, x, labels = small(), images(), torch.zeros(4, 3)
    some = {"images": x, "labels": labels}
    without = {"classify_weight": 0.0, "reconstruct_weight": 0.0}
    fooling = stargan.generator_loss(nets, some, labels, **without)
    assert set(fooling) == {"loss", "fool"}
    telling = stargan.discriminator_loss(nets, some, x, classify_weight=0.0)
    assert set(telling) == {"loss", "tell", "penalty"}


def test_only_the_known_groups_logits_are_trained() -> None:
    nets, x, labels = small(), images(), torch.zeros(4, 3)
    weight = nets.discriminator.label.weight
    some = {"images": x, "labels": labels}
    stargan.discriminator_loss(nets, some, x)["loss"].backward()
    assert weight.grad is not None
    assert weight.grad[:3].abs().sum() > 0
    assert not weight.grad[3:].any()


def trainer(nets: stargan.StarGAN, critic_steps: int = 2, **options: object) -> tuple:
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999))
    optimizers = (
        adam(nets.generator.parameters()),
        adam(nets.discriminator.parameters()),
    )
    generator = torch.Generator().manual_seed(0)
    return stargan.adversarial_step(
        nets, optimizers, generator=generator, critic_steps=critic_steps, **options
    ), optimizers


def batch(n: int = 4, seed: int = 0) -> tuple:
    labels = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)).round()
    one_hot = torch.eye(2)[torch.arange(n) % 2]
    return {"images": images(n, seed), "labels": labels}, {
        "images": images(n, seed + 1),
        "labels": one_hot,
    }


def test_a_round_updates_the_critic_more_often_and_never_by_the_generators_gradient(
    monkeypatch,
) -> None:
    nets = small()
    step, optimizers = trainer(nets)
    events = []
    for name, optimizer in zip("GD", optimizers, strict=True):

        def watched(name=name, original=optimizer.step) -> None:
            grads = [
                [p.grad is not None for p in net.parameters()]
                for net in (nets.generator, nets.discriminator)
            ]
            events.append(
                (name, any(grads[0]), nets.discriminator.source.weight.requires_grad)
            )
            original()

        monkeypatch.setattr(optimizer, "step", watched)
    values = step(batch())
    # Two data sets, cut in two: D on each, D on each and G right after it on the last.
    assert [name for name, *_ in events] == ["D", "D", "D", "G", "D", "G"]
    assert not events[0][1], "fakes are detached: D's loss leaves G without a gradient"
    assert all(thawed is (name == "D") for name, _, thawed in events)
    assert set(values) == {"tell", "recognise", "penalty", "fool", "become", "return"}
    assert all(v.ndim == 0 for v in values.values())


def test_translations_that_are_there_are_not_made_again() -> None:
    nets, x = small(), images(2)
    batch = {"images": x, "labels": torch.eye(3)[:2]}
    targets = batch["labels"].flip(0)
    expected = stargan.generator_loss(nets, batch, targets)
    found = stargan.generator_loss(nets, batch, targets, fakes=nets(x, targets))
    assert found == expected


def test_targets_are_a_permutation_of_the_batchs_labels(monkeypatch) -> None:
    nets, seen = small(), []
    original = stargan.generator_loss

    def watched(nets, batch, targets, **options):
        seen.append((batch["labels"], targets))
        return original(nets, batch, targets, **options)

    monkeypatch.setattr(stargan, "generator_loss", watched)
    step, _ = trainer(nets, critic_steps=1)
    step(batch(16))
    for labels, targets in seen:
        assert sorted(labels.tolist()) == sorted(targets.tolist())
    assert not torch.equal(*seen[0])


def test_one_data_set_and_the_schedule() -> None:
    nets, schedules = small((Group(3),)), []
    step, optimizers = trainer(nets, schedules=schedules)
    schedules.append(linear_decay(optimizers[0], 4))
    rates = []
    for _ in range(4):
        rates.append(optimizers[0].param_groups[0]["lr"])
        assert step(batch()[:1]).keys() >= {"fool", "tell"}
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4])


def test_same_seed_same_round() -> None:
    first, second = small(), small()
    for nets in (first, second):
        step, _ = trainer(nets)
        step(batch())
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_it_learns_to_paint_by_label() -> None:
    """Plain pictures, red or blue: the label alone decides."""
    torch.manual_seed(0)
    labels = torch.eye(2)[torch.arange(16) % 2]
    x = (
        0.2
        + 0.6
        * torch.stack([labels[:, 0], torch.zeros(16), labels[:, 1]], 1)[
            :, :, None, None
        ]
    )
    x = (x.expand(-1, -1, SIZE, SIZE) + 0.05 * torch.randn(16, 3, SIZE, SIZE)).clamp(
        0, 1
    )
    nets = small((Group(2, exclusive=True),))
    step, _ = trainer(nets, critic_steps=1)
    error = []
    for _ in range(60):
        with torch.no_grad():
            error.append((nets(x, labels.flip(0)) - x.flip(0)).abs().mean().item())
        step(({"images": x, "labels": labels},))
    assert error[-1] < 0.6 * error[0], error[::10]


@pytest.mark.parametrize("net", ["generator", "discriminator"])
def test_bad_input(net: str) -> None:
    nets, none = small(), torch.rand(0, 3, SIZE, SIZE)
    with pytest.raises(ValueError, match="at least one image"):
        nets.generator(
            none, torch.rand(0, 7)
        ) if net == "generator" else nets.discriminator(none)


def test_the_discriminator_judges_its_own_size_only() -> None:
    nets = stargan.tiny(channels=8, blocks=1)
    scores, logits = nets.discriminator(images(2))
    assert (scores.shape, logits.shape) == ((2, 1, 2, 2), (2, 5))
    for side in (16, 24, 64):
        with pytest.raises(ValueError, match=rf"images of 32 x 32, got \(2, 3, {side}"):
            nets.discriminator(torch.rand(2, 3, side, side))
    large = {"images": torch.rand(2, 3, 64, 64), "labels": torch.ones(2, 5)}
    with pytest.raises(ValueError, match="images of 32 x 32"):
        stargan.generator_loss(nets, large, torch.zeros(2, 5))


@pytest.mark.parametrize("size", [0, 8, 20, 31, 40])
def test_a_size_that_the_halvings_do_not_divide_is_not_built(size: int) -> None:
    with pytest.raises(ValueError, match=rf"size.*got {size}"):
        stargan.tiny(size=size)
    with pytest.raises(ValueError, match="a size that is a multiple of 64, got 32"):
        stargan.paper(size=32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"groups": ()},
        {"groups": (Group(0),)},
        {"blocks": -1},
        {"halvings": -1},
        {"channels": 0},
        {"unshuffle": 0},
        {"kernel_size": 2},
        {"judge_halvings": 0},
        {"judge_channels": 0},
    ],
)
def test_nets_that_make_no_sense_are_not_built(wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name.removeprefix("judge_")):
        stargan.tiny(**wrong)


def test_every_override_reaches_its_net() -> None:
    nets = stargan.tiny(
        size=64, judge_channels=4, judge_halvings=2, unshuffle=4, masked=True
    )
    assert nets.discriminator.trunk[1].out_channels == 4
    assert nets.discriminator.label.kernel_size == (4, 4)
    assert nets.generator.unshuffle == 4
    assert nets.masked
    x, labels = torch.rand(2, 3, 64, 64), torch.ones(2, 5)
    assert nets(x, labels).shape == x.shape
    with pytest.raises(TypeError, match="widht"):
        stargan.paper(widht=3)


@pytest.mark.parametrize("n", [4, 5, 6, 8, 12, 16])
def test_a_round_takes_every_batch_that_has_an_image_for_each_part(n: int) -> None:
    step, _ = trainer(small((Group(3),)), critic_steps=5)
    one = (batch(n)[0],)
    if n < 5:
        with pytest.raises(ValueError, match="at least 5 images"):
            step(one)
    else:
        assert all(value.isfinite() for value in step(one).values())


def test_a_round_cuts_the_batch_into_parts_of_nearly_one_size(monkeypatch) -> None:
    seen = []
    original = stargan.discriminator_loss

    def watched(nets, batch, fakes, **options):
        seen.append(batch["images"])
        return original(nets, batch, fakes, **options)

    monkeypatch.setattr(stargan, "discriminator_loss", watched)
    step, _ = trainer(small((Group(3),)), critic_steps=3)
    some = batch(8)[:1]
    step(some)
    assert [len(part) for part in seen] == [3, 3, 2]
    assert torch.equal(torch.cat(seen), some[0]["images"])
    with pytest.raises(ValueError, match="critic_steps >= 1, got 0"):
        trainer(small(), critic_steps=0)


def test_labels_are_not_repeated_to_fit() -> None:
    nets, x, labels = small(), images(), torch.zeros(4, 3)
    for wrong in (labels[:1], labels[:, :2], labels[:, :1], torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="expected"):
            nets(x, wrong)
        some = {"images": x, "labels": wrong}
        with pytest.raises(ValueError, match="expected"):
            stargan.generator_loss(nets, some, labels)
        with pytest.raises(ValueError, match="expected labels"):
            stargan.discriminator_loss(nets, some, x)
    for group in (-1, 2):
        with pytest.raises(ValueError, match=f"a group from 0 to 1, got {group}"):
            nets(x, labels, group)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float64])
def test_labels_of_any_type_mean_the_same(dtype: torch.dtype) -> None:
    nets, (first, second) = small(), batch()
    for group, some in enumerate((first, second)):
        other = some | {"labels": some["labels"].to(dtype)}
        pairs = []
        for each in (some, other):
            making = stargan.generator_loss(nets, each, each["labels"], group=group)
            seeded = torch.Generator().manual_seed(0)
            telling = stargan.discriminator_loss(
                nets, each, images(seed=3), group=group, generator=seeded
            )
            pairs.append(making["loss"] + telling["loss"])
        assert torch.equal(*pairs)
    step, _ = trainer(nets)
    step(tuple(some | {"labels": some["labels"].to(dtype)} for some in batch()))


def test_a_round_refuses_batches_that_mean_something_else() -> None:
    step, _ = trainer(small())
    first, second = batch()
    no_hair = torch.zeros(4, 2)
    for wrong, message in (
        (first | {"images": 255 * first["images"]}, r"images in \[0, 1\]"),
        (first | {"labels": 2 * first["labels"] - 1}, r"labels in \[0, 1\], got -1"),
        (first | {"labels": first["labels"] * torch.nan}, r"labels in \[0, 1\]"),
        (first | {"labels": first["labels"][:1]}, r"labels of \(4, 3\), got \(1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            step((wrong, second))
    with pytest.raises(ValueError, match="exclusive labels with a sum of 1"):
        step((first, second | {"labels": no_hair}))
    with pytest.raises(ValueError, match="a tuple of 2 batches"):
        step((first,))


def test_images_that_the_nets_cannot_take_are_refused() -> None:
    nets, x = small((Group(3),)), images(2)
    labels = torch.ones(2, 3)
    for wrong in (x.double(), x.bfloat16()):
        with pytest.raises(ValueError, match="images of type"):
            nets(wrong, labels)
        with pytest.raises(ValueError, match="images of type"):
            nets.discriminator(wrong)
    torch.testing.assert_close(
        nets(x.contiguous(memory_format=torch.channels_last), labels), nets(x, labels)
    )
    half = small((Group(3),)).bfloat16()
    some = {"images": x.bfloat16(), "labels": labels}
    assert stargan.generator_loss(half, some, labels)["loss"].isfinite()
    assert stargan.discriminator_loss(half, some, x.bfloat16())["loss"].isfinite()
