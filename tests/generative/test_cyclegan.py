"""Layers by count and receptive field, losses and the history by hand, and who gets
which gradient in a step."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from papernets_lite import training
from papernets_lite.generative import cyclegan

SIZE = 16


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(seed: int = 0) -> cyclegan.CycleGAN:
    torch.manual_seed(seed)
    return cyclegan.tiny(channels=8, blocks=1)


def pair(seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor]:
    x, y = torch.rand(
        2, batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)
    )
    return x, y


def batch_of(x: Tensor, y: Tensor) -> cyclegan.Batch:
    return {"images": x}, {"images": y}


class Constant(nn.Module):
    """A translator or judge that answers everything with one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, images: Tensor) -> Tensor:
        return self.value + 0 * images


class Shift(Constant):
    def forward(self, images: Tensor) -> Tensor:
        return images + self.value


@pytest.mark.parametrize(("blocks", "parameters"), [(9, 11_378_179), (6, 7_837_699)])
def test_generator_has_the_released_parameters(blocks: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(cyclegan.paper(blocks=blocks).generator_xy) == parameters


def test_discriminator_has_the_released_parameters_and_map() -> None:
    judge = cyclegan.PatchDiscriminator()
    assert count(judge) == 2_764_737
    with torch.no_grad():
        assert judge(torch.rand(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize(("halvings", "side"), [(3, 70), (2, 34), (1, 16)])
def test_a_score_sees_a_patch_of_70_pixels(halvings: int, side: int) -> None:
    torch.manual_seed(0)
    judge = cyclegan.PatchDiscriminator(channels=4, halvings=halvings)
    # Instance norm lets every pixel reach every score through mean and deviation;
    # without it the patch is exact.
    judge.net = nn.Sequential(
        *(layer for layer in judge.net if not isinstance(layer, nn.InstanceNorm2d))
    )
    images = torch.rand(1, 3, 160, 160, requires_grad=True)
    scores = judge(images)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert images.grad is not None
    touched = images.grad.abs().sum((0, 1)) > 0
    rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == side


@pytest.mark.parametrize(
    "net", [cyclegan.Generator(channels=4, blocks=1), small().generator_xy]
)
def test_generator_keeps_the_size_and_stays_in_range(net: nn.Module) -> None:
    images = torch.rand(2, 3, SIZE, 2 * SIZE)
    out = net(images)
    assert out.shape == images.shape
    assert 0 <= out.min() <= out.max() <= 1


def test_generator_refuses_sizes_that_its_halvings_do_not_divide() -> None:
    with pytest.raises(ValueError, match=r"divisible by 4, got \(1, 3, 18, 16\)"):
        cyclegan.Generator(channels=4, blocks=1)(torch.rand(1, 3, 18, 16))


def test_initial_weights() -> None:
    nets = small()
    weights = torch.cat(
        [p.flatten() for n, p in nets.named_parameters() if n.endswith("weight")]
    )
    assert weights.mean().abs() < 1e-3
    assert abs(weights.std().item() - 0.02) < 1e-3
    assert all(not p.any() for n, p in nets.named_parameters() if n.endswith("bias"))


def test_losses_by_hand() -> None:
    nets = small()
    nets.generator_xy, nets.generator_yx = Shift(0.3), Shift(-0.1)
    nets.discriminator_x, nets.discriminator_y = Constant(0.4), Constant(0.0)
    x, y = torch.full((2, 3, 4, 4), 0.25), torch.full((2, 3, 4, 4), 0.5)
    fakes = nets(x, y)
    torch.testing.assert_close(fakes, {"y": x + 0.3, "x": y - 0.1})
    found = cyclegan.generator_loss(
        nets,
        batch_of(x, y),
        fakes,
        cycle_weights=(10.0, 20.0),
        identity_weight=0.5,
    )
    expected = {"fool_y": 1.0, "fool_x": 0.36, "cycle_x": 10 * 0.2, "cycle_y": 20 * 0.2}
    # G leaves y alone up to 0.3, F leaves x alone up to 0.1; relative to the cycle
    # weight of their domain.
    expected |= {"identity_y": 0.5 * 20 * 0.3, "identity_x": 0.5 * 10 * 0.1}
    expected |= {"loss": sum(expected.values())}
    assert {k: v.item() for k, v in found.items()} == pytest.approx(expected)
    told = cyclegan.discriminator_loss(nets, batch_of(x, y), fakes)
    assert told["tell_x"].item() == pytest.approx(0.5 * (0.36 + 0.16))
    assert told["tell_y"].item() == pytest.approx(0.5 * 1.0)
    assert told["loss"].item() == pytest.approx(0.26 + 0.5)


def test_terms_of_weight_zero_are_left_out() -> None:
    nets, (x, y) = small(), pair()
    batch = batch_of(x, y)
    game = cyclegan.generator_loss(nets, batch, nets(x, y), cycle_weights=(0.0, 0.0))
    assert set(game) == {"loss", "fool_x", "fool_y"}
    half = cyclegan.generator_loss(
        nets, batch, nets(x), cycle_weights=(10.0, 0.0), identity_weight=0.0
    )
    assert set(half) == {"loss", "fool_y", "cycle_x"}
    told = cyclegan.discriminator_loss(nets, batch, nets(y=y))
    assert set(told) == {"loss", "tell_x"}


@pytest.mark.parametrize(
    ("given", "weights"), [("x", (10.0, 10.0)), ("y", (10.0, 0.0)), ("", (0.0, 0.0))]
)
def test_a_cycle_without_its_first_half_is_refused(
    given: str, weights: tuple[float, float]
) -> None:
    nets, (x, y) = small(), pair()
    fakes = nets(
        **{name: images for name, images in (("x", x), ("y", y)) if name in given}
    )
    with pytest.raises(ValueError, match="expected the fakes"):
        cyclegan.generator_loss(nets, batch_of(x, y), fakes, cycle_weights=weights)


def marked(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None]


def test_until_it_is_full_the_buffer_returns_what_comes() -> None:
    buffer = cyclegan.Buffer(5, generator=torch.Generator().manual_seed(0))
    for first in (0, 2):
        assert torch.equal(buffer(marked(first, first + 1)), marked(first, first + 1))
    assert len(buffer.images) == 4


def test_the_full_buffer_swaps_single_images_with_probability_one_half() -> None:
    size, batch, batches = 50, 4, 1000
    buffer = cyclegan.Buffer(size, generator=torch.Generator().manual_seed(1))
    returned: list[int] = []
    fresh: list[int] = []
    for first in range(0, batch * batches, batch):
        out = buffer(marked(*range(first, first + batch))).flatten().int().tolist()
        returned += out
        fresh.append(
            sum(a == b for a, b in zip(out, range(first, first + batch), strict=True))
        )
    # An image comes out when it is new, while the buffer fills, and when it is
    # replaced: at most twice.
    assert max(Counter(returned).values()) == 2
    share = sum(fresh[20:]) / (batch * len(fresh[20:]))
    assert abs(share - 0.5) < 0.03
    assert any(0 < f < batch for f in fresh), "decided per image, not per batch"
    ages = [new - old for new, old in enumerate(returned) if new >= 500 and old != new]
    # Each swap hits a given place with probability 1 / 50, and half of the images swap:
    # mean age 100.
    assert abs(sum(ages) / len(ages) - 2 * size) < 12


def test_a_buffer_of_size_zero_keeps_nothing() -> None:
    buffer = cyclegan.Buffer(0, generator=torch.Generator())
    assert torch.equal(buffer(marked(1, 2)), marked(1, 2))
    assert not buffer.images
    with pytest.raises(ValueError, match="size >= 0, got -1"):
        cyclegan.Buffer(-1, generator=torch.Generator())


def test_the_buffer_holds_no_graph_and_resumes() -> None:
    first = cyclegan.Buffer(3, generator=torch.Generator().manual_seed(0))
    for k in range(4):
        assert not first(marked(2 * k, 2 * k + 1).requires_grad_()).requires_grad
    assert not any(image.requires_grad for image in first.images)
    second = cyclegan.Buffer(3, generator=torch.Generator())
    second.load_state_dict(first.state_dict())
    for k in range(4, 12):
        assert torch.equal(
            first(marked(2 * k, 2 * k + 1)), second(marked(2 * k, 2 * k + 1))
        )
    with pytest.raises(ValueError, match="at most 2 stored images, got 3"):
        cyclegan.Buffer(2, generator=torch.Generator()).load_state_dict(
            first.state_dict()
        )


def trainer(nets: cyclegan.CycleGAN, seed: int = 0, **options: object) -> tuple:
    optimizers = tuple(
        torch.optim.Adam(p, lr=1e-3, betas=(0.5, 0.999))
        for p in (nets.generators(), nets.discriminators())
    )
    buffers = {
        d: cyclegan.Buffer(4, generator=torch.Generator().manual_seed(seed + k))
        for k, d in enumerate("xy")
    }
    return (
        cyclegan.adversarial_step(nets, optimizers, buffers=buffers, **options),
        optimizers,
        buffers,
    )


def batches(seed: int = 0) -> training.Batches:
    x, y = pair(seed, 12)
    both = training.Batches(
        {"x": x, "y": y}, 3, generator=torch.Generator().manual_seed(seed)
    )
    return both


def run(nets: cyclegan.CycleGAN, steps: int, **options: object) -> dict[str, Tensor]:
    step, *_ = trainer(nets, **options)
    data = batches()
    for _ in range(steps):
        batch = next(data)
        step(({"images": batch["x"]}, {"images": batch["y"]}))
    return {name: value.clone() for name, value in nets.state_dict().items()}


def test_the_generators_move_first_and_the_discriminators_see_their_gradient_only(
    monkeypatch,
) -> None:
    nets, (x, y) = small(), pair()
    step, (for_generators, for_discriminators), _ = trainer(nets)
    events = []

    def watch(name: str, optimizer: torch.optim.Optimizer) -> None:
        original = optimizer.step
        grads = {"G": nets.generators(), "D": nets.discriminators()}

        def watched() -> None:
            events.append(
                (
                    name,
                    {
                        n: [None if p.grad is None else p.grad.clone() for p in g]
                        for n, g in grads.items()
                    },
                )
            )
            original()

        monkeypatch.setattr(optimizer, "step", watched)

    watch("G", for_generators)
    watch("D", for_discriminators)
    values = step(({"images": x}, {"images": y}))
    (first, at_first), (second, at_second) = events
    assert (first, second) == ("G", "D")
    assert all(g is None for g in at_first["D"]), (
        "the discriminators are frozen while the generators learn"
    )
    assert all(g is not None for g in at_first["G"])
    assert all(
        torch.equal(a, b) for a, b in zip(at_first["G"], at_second["G"], strict=True)
    ), "fakes are detached"
    assert all(g is not None for g in at_second["D"])
    assert all(p.requires_grad for p in nets.discriminators())
    assert {"loss", "fool_x", "cycle_y", "identity_x", "tell_x", "tell_y"} <= set(
        values
    )
    assert all(v.ndim == 0 for v in values.values())


def test_the_discriminators_are_shown_the_history_of_their_own_domain() -> None:
    nets, (x, y) = small(), pair()
    step, _, buffers = trainer(nets)
    with torch.no_grad():
        fakes = nets(x, y)
    step(({"images": x}, {"images": y}))
    for name in "xy":
        torch.testing.assert_close(torch.stack(buffers[name].images), fakes[name])


def test_half_a_cycle_leaves_the_other_half_alone() -> None:
    before = {name: value.clone() for name, value in small().state_dict().items()}
    after = run(small(), 2, sources=("x",), cycle_weights=(0.0, 0.0))
    moved = {
        name.split(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert moved == {"generator_xy", "discriminator_y"}
    after = run(small(), 2, sources=("x",), cycle_weights=(10.0, 0.0))
    moved = {
        name.split(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert moved == {"generator_xy", "generator_yx", "discriminator_y"}


def test_without_a_cycle_the_two_games_are_strangers() -> None:
    alone = run(small(), 3, sources=("x",), cycle_weights=(0.0, 0.0))
    both = run(small(), 3, cycle_weights=(0.0, 0.0))
    full = run(small(), 3)
    for name in alone:
        if name.startswith(("generator_xy", "discriminator_y")):
            assert torch.equal(alone[name], both[name])
    assert any(
        not torch.equal(alone[name], full[name])
        for name in alone
        if name.startswith("generator_xy")
    )


def test_a_killed_run_resumes_to_the_bit(tmp_path) -> None:
    def go(path, stop: int = 99) -> tuple[dict[str, Tensor], training.History]:
        nets = small()
        step, optimizers, buffers = trainer(nets)
        data = batches()
        state = {
            "nets": nets,
            **dict(zip(("g", "d"), optimizers, strict=True)),
            **buffers,
        }
        done = []

        def update(batch: dict[str, Tensor]) -> dict[str, Tensor]:
            if len(done) == stop:
                raise InterruptedError
            done.append(step(({"images": batch["x"]}, {"images": batch["y"]})))
            return done[-1]

        options = {"state": state, "checkpoint": path, "save_every": 3}
        history = training.train(update, data, steps=6, **options)
        return nets.state_dict(), history

    whole, history = go(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        go(tmp_path / "parts", stop=3)
    resumed, again = go(tmp_path / "parts")
    assert history.columns == again.columns
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_it_learns_to_swap_black_and_white() -> None:
    """Domains whose translation is known: dark images with a bright square, and the
    reverse."""
    generator = torch.Generator().manual_seed(0)
    squares = torch.full((32, 3, SIZE, SIZE), 0.1)
    for image, (top, left) in zip(
        squares, torch.randint(2, 9, (32, 2), generator=generator).tolist(), strict=True
    ):
        image[:, top : top + 5, left : left + 5] = 0.9
    x, y = squares[:16], 1 - squares[16:]
    nets = small()
    step, *_ = trainer(nets, identity_weight=0.0)
    before = (nets.generator_xy(x) - (1 - x)).abs().mean().item()
    for k in range(60):
        some = slice(4 * (k % 4), 4 * (k % 4) + 4)
        step(({"images": x[some]}, {"images": y[some]}))
    with torch.no_grad():
        after = (nets.generator_xy(x) - (1 - x)).abs().mean().item()
    assert after < 0.6 * before, (before, after)


@pytest.mark.parametrize("net", ["generator_xy", "discriminator_y"])
def test_bad_input(net: str) -> None:
    model = getattr(small(), net)
    with pytest.raises(ValueError, match="at least one image"):
        model(torch.rand(0, 3, SIZE, SIZE))


@pytest.mark.parametrize(
    "wrong",
    [
        {"blocks": -1},
        {"halvings": -1},
        {"channels": 0},
        {"unshuffle": 0},
        {"kernel_size": 4},
        {"judge_halvings": 0},
        {"judge_channels": 0},
    ],
)
def test_nets_that_make_no_sense_are_not_built(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name.removeprefix("judge_")):
        cyclegan.tiny(**wrong)


def test_every_override_reaches_its_net() -> None:
    nets = cyclegan.tiny(channels=8, blocks=1, judge_channels=4, judge_halvings=1)
    assert nets.generator_yx.net[2].out_channels == 8
    assert nets.discriminator_y.net[0].out_channels == 4
    assert nets.discriminator_x.least == 6
    with pytest.raises(TypeError, match="widht"):
        cyclegan.paper(widht=3)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (cyclegan.Generator(channels=4, blocks=1), (1, 3, 8, 8)),
        (cyclegan.Generator(channels=4, blocks=0, halvings=0), (1, 3, 4, 4)),
        (small().generator_xy, (1, 3, 8, 8)),
        (cyclegan.PatchDiscriminator(channels=4, halvings=1), (1, 3, 6, 7)),
        (cyclegan.PatchDiscriminator(channels=4, halvings=3), (1, 3, 24, 24)),
    ],
)
def test_the_smallest_image_is_taken_and_a_smaller_one_is_refused(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    assert net(torch.rand(shape)).isfinite().all()
    step = getattr(net, "multiple", 1)
    less = (1, 3, shape[2] - step, shape[3])
    with pytest.raises(ValueError, match=f"{shape[2]} x {shape[2]} pixels or larger"):
        net(torch.rand(less))


def test_images_that_the_nets_cannot_take_are_refused() -> None:
    nets, (x, _) = small(), pair()
    for net in (nets.generator_xy, nets.discriminator_x):
        for wrong in (x[:, :1], x[:0], x.double(), x.bfloat16()):
            with pytest.raises(ValueError, match="expected"):
                net(wrong)
        # Layout does not matter.
        expected = net(x)
        laid_out = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(net(laid_out), expected)
        torch.testing.assert_close(net(x.mT.contiguous().mT), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert net(x).isfinite().all()
            assert net(x.bfloat16()).isfinite().all()
    half = small().bfloat16()
    assert half(x.bfloat16())["y"].dtype == torch.bfloat16


def test_fakes_of_other_images_are_refused() -> None:
    nets, (x, y) = small(), pair()
    with pytest.raises(ValueError, match="images of the same shape, got"):
        cyclegan.generator_loss(nets, batch_of(x[:1], y), nets(x, y))
    with pytest.raises(ValueError, match="expected fakes of the domains"):
        cyclegan.discriminator_loss(nets, batch_of(x, y), {})
    # As many of X as of Y is not asked for.
    loss = cyclegan.generator_loss(nets, batch_of(x[:1], y), nets(x[:1], y))
    assert loss["loss"].isfinite()


def test_a_step_refuses_pictures_of_0_to_255_and_nan() -> None:
    step, *_ = trainer(small())
    x, y = pair()
    for wrong in (255 * x, x / 0, x - 2):
        with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
            step(batch_of(x, wrong))
    step(batch_of(x, (y + 0.1).clamp(max=1.1)))  # noise may leave the range


def test_a_step_needs_domains_and_their_buffers() -> None:
    _, optimizers, buffers = trainer(nets := small())
    with pytest.raises(ValueError, match="sources out of 'x' and 'y'"):
        trainer(small(), sources=("z",))
    with pytest.raises(ValueError, match="buffers 'x' and 'y'"):
        cyclegan.adversarial_step(nets, optimizers, buffers={"y": buffers["y"]})


def test_the_buffer_refuses_images_of_another_size() -> None:
    buffer = cyclegan.Buffer(4, generator=torch.Generator())
    buffer(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"images of \(3, 8, 8\)"):
        buffer(torch.rand(2, 3, 4, 4))
    with pytest.raises(ValueError, match="at least one image"):
        buffer(torch.rand(0, 3, 8, 8))
