r"""Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks (MAML).

Chelsea Finn, Pieter Abbeel, Sergey Levine. ICML 2017, arXiv 1703.03400.
Official code: cbfinn/maml (TensorFlow 1); the reinforcement learning is in
cbfinn/maml_rl.

Idea: learn the weights to start from, so that one or a few gradient steps on a new
task's few examples answer its other questions: train through the steps.

Differs:
    1. ``torch.func`` takes the gradients and runs all tasks of a batch at once; the
       tasks' losses are averaged, Eq. 1 sums them.
    2. ``tiny`` has three blocks, 24 maps and coloured pictures; its learning rate rises
       and falls.
    3. Normalisation has a scale and a shift, and the inner loop adapts both. The
       released code has a shift alone, which its inner loop leaves as it is.
    4. The loss is plain cross-entropy. The released code smooths the labels and divides
       by the number of shots.
    5. No reinforcement learning.

Guessed:
    The initial weights, Glorot's with biases of zero, as the released code has them in
    its convolutions; also for the regressor, which there starts at 0.01.

Contract:
    A batch holds tasks: ``support`` (t, s, ...) with ``support_targets``, the examples
    to adapt to, and ``query`` (t, q, ...) with ``targets``. ``answers`` makes the
    outputs that ``loss`` reads.

Example:
    >>> from papernets_lite.transfer import maml
    >>> tasks = next(maml.Sinusoids(4, generator=torch.Generator().manual_seed(0)))
    >>> maml.answers(maml.regressor(), tasks, rate=0.01).shape
    torch.Size([4, 10, 1])
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Integer, Real
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from papernets_lite.ops.checks import at_least, check_images, check_keys, expect

# Sinusoid tasks (Section 5.1): ranges of amplitude, phase and input.
AMPLITUDE, PHASE, SPAN = (0.1, 5.0), (0.0, math.pi), 5.0
HIDDEN = (40, 40)
CHUNK = 25  # tasks that are tested at a time, for the sake of memory
STARTS = Path(__file__).with_name("maml_starts.pt")

Weights = dict[str, Tensor]
Tensors = dict[str, Tensor]  # a batch by its parts, or a loss and its terms


class BatchNorm(nn.Module):
    """Batch normalisation that keeps no running averages: mean and variance are those
    of the pictures that pass together, in training and in tests (Section 5.2 and the
    released code).

    It is spelt out, because torch's own has a wrong second derivative under ``vmap``.

    Args:
        channels: of the map.
        epsilon: added to the variance.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each channel with the learnt deviation and mean."""
        centred = x - x.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale = self.weight[:, None, None] * (variance + self.epsilon).rsqrt()
        return centred * scale + self.bias[:, None, None]


def block(in_channels: int, out_channels: int, *, pool: bool) -> nn.Sequential:
    """A 3x3 convolution, batch normalisation and a ReLU, which halve the map.

    Args:
        in_channels: of the map that enters.
        out_channels: of the map that leaves.
        pool: halve by 2x2 max-pooling; else by a stride of 2.
    """
    stride = 1 if pool else 2
    layers = [
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1),
        BatchNorm(out_channels),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *[nn.MaxPool2d(2)] * pool)


class Learner(nn.Module):
    """The few-shot classifier (Section 5.2): blocks, and one linear layer with an
    output for each way.

    Args:
        ways: classes of a task, N.
        in_channels: of the pictures.
        width: maps of each block.
        depth: blocks.
        pool: blocks pool, and the head reads every pixel of the last map, as for
            MiniImagenet; else they stride, and it reads the map's mean, as for
            Omniglot.
        side: of the square pictures, in pixels.

    Raises:
        ValueError: for a size below 1, or pictures too small for the blocks.
    """

    def __init__(
        self,
        *,
        ways: int = 5,
        in_channels: int = 1,
        width: int = 64,
        depth: int = 4,
        pool: bool = False,
        side: int = 28,
    ) -> None:
        super().__init__()
        at_least(1, ways=ways, in_channels=in_channels, width=width, depth=depth)
        last = side // 2**depth
        expect(last >= 1, f"a side of {2**depth} or more for {depth} blocks", side)
        self.side = side
        channels = [in_channels] + [width] * depth
        self.body = nn.Sequential()
        for before, after in pairwise(channels):
            self.body.append(block(before, after, pool=pool))
        self.read = nn.Flatten() if pool else Mean()
        self.head = nn.Linear(width * last**2 if pool else width, ways)
        init_(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """A score for each way. The pictures of a batch share their normalisation: what
        is said of one depends on the others.

        Raises:
            ValueError: for no images, or images of another size or type.
        """
        first = cast("nn.Sequential", self.body[0])[0]
        check_images(images, cast("nn.Conv2d", first))
        side = self.side
        square = images.shape[2:] == (side, side)
        expect(square, f"images of {side}x{side} pixels", images.shape)
        return self.head(self.read(self.body(images)))


class Mean(nn.Module):
    """The mean over a map's positions."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """One number a channel."""
        return x.mean((2, 3))


class Regressor(nn.Module):
    """The net for sinusoids (Section 5.1): two hidden layers with ReLUs.

    Args:
        hidden: their widths.

    Raises:
        ValueError: for no layers, or a width below 1.
    """

    def __init__(self, *, hidden: Sequence[int] = HIDDEN) -> None:
        super().__init__()
        expect(len(hidden) and min(hidden) >= 1, "hidden layers", hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise((1, *hidden)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden[-1], 1)
        init_(self)

    def forward(self, x: Float[Tensor, "b 1"]) -> Float[Tensor, "b 1"]:
        """The curve's height at each place."""
        return self.head(self.body(x))


def init_(net: nn.Module) -> None:
    """Glorot's uniform weights and biases of zero, in place."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(cast("Tensor", layer.bias))


def error(outputs: Float[Tensor, "b k"], targets: Real[Tensor, "b *k"]) -> Tensor:
    """A task's loss on some of its examples: the mean squared error where targets are
    heights (Eq. 2), cross-entropy where they are class numbers (Eq. 3)."""
    if targets.is_floating_point():
        return functional.mse_loss(outputs, targets)
    return functional.cross_entropy(outputs, targets)


def adapt(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    rate: float,
    steps: int = 1,
    first_order: bool = False,
    moving: str = "",
) -> list[Weights]:
    r"""The inner loop: gradient descent on one task's examples, :math:`\theta_i' =
    \theta - \alpha \nabla_\theta L_i(f_\theta)` (Algorithm 1, lines 5 and 6).

    The net's own weights are left as they are, and a gradient that is taken of the
    result goes back to them through all steps.

    Args:
        net: whose weights are the start.
        inputs: the task's examples.
        targets: what they should give.
        rate: alpha.
        steps: how many; each uses all examples.
        first_order: take the steps' gradients for constants (Section 5.2), so that
            nothing is differentiated twice.
        moving: what may change: the parameters whose names begin so. "head" keeps the
            body.

    Returns:
        The weights after 0, 1, ..., ``steps`` steps.
    """
    start: Weights = dict(net.named_parameters())
    fixed = {name: w for name, w in start.items() if not name.startswith(moving)}
    weights = {name: w for name, w in start.items() if name.startswith(moving)}

    def missed(weights: Weights) -> Tensor:
        outputs = functional_call(net, fixed | weights, (inputs,))
        return error(outputs, targets)

    path = [start]
    for _ in range(steps):
        slopes = grad(missed)(weights)
        if first_order:
            slopes = {name: slope.detach() for name, slope in slopes.items()}
        weights = {name: w - rate * slopes[name] for name, w in weights.items()}
        path.append(fixed | weights)
    return path


def answers(
    net: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    rate: float,
    steps: int = 1,
    first_order: bool = False,
    moving: str = "",
) -> Float[Tensor, "t q k"]:
    """The outer loop's forward pass: every task of a batch adapts the net to its
    support, each for itself, and then answers its queries.

    Args:
        net: the start that is learnt.
        batch: ``support``, ``support_targets`` and ``query``, tasks along the first
            axis.
        rate, steps, first_order, moving: of the inner loop, see ``adapt``.

    Returns:
        The outputs for the queries, which ``loss`` reads.

    Raises:
        ValueError: for no tasks, a negative rate or number of steps, or no parameter of
            that name.
    """
    check_tasks(net, batch, rate=rate, steps=steps, moving=moving)
    inner = partial(adapt, net, rate=rate, steps=steps, moving=moving)

    def one(support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        path = inner(support, targets, first_order=first_order)
        return functional_call(net, path[-1], (query,))

    return vmap(one)(batch["support"], batch["support_targets"], batch["query"])


def check_tasks(
    net: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    rate: float,
    steps: int,
    moving: str = "",
) -> None:
    """Refuse what no inner loop can use.

    Args:
        net: the start.
        batch: tasks, see ``answers``.
        rate, steps, moving: of the inner loop.

    Raises:
        ValueError: as ``answers``.
    """
    check_keys(batch, "support", "support_targets", "query")
    counts = [len(batch[k]) for k in ("support", "support_targets", "query")]
    expect(counts[0] and len(set(counts)) == 1, "tasks, as many of each", *counts)
    examples = batch["support"].shape[1], batch["support_targets"].shape[1]
    expect(examples[0] == examples[1] > 0, "a target for each example", examples)
    expect(batch["query"].shape[1], "at least one query", batch["query"].shape)
    expect(0 <= rate < math.inf and steps >= 0, "rate and steps >= 0", rate, steps)
    names = [name for name, _ in net.named_parameters()]
    some = any(name.startswith(moving) for name in names)
    expect(some, "parameters whose names begin so", moving)


def loss(
    outputs: Float[Tensor, "t q k"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> Tensors:
    r"""The meta-objective, :math:`\sum_i L_i(f_{\theta_i'})` (Eq. 1), as a mean over
    tasks.

    Args:
        outputs: for the queries, after adaptation, from ``answers``.
        batch: ``targets``, heights (t, q, 1) or class numbers (t, q).
        generator: nothing is drawn.

    Returns:
        ``loss``; for class numbers ``accuracy``, too.

    Raises:
        ValueError: for targets of another shape, or none.
    """
    check_keys(batch, "targets")
    return missed_by(outputs, batch["targets"])


def missed_by(
    outputs: Float[Tensor, "t n k"], targets: Real[Tensor, "t n *k"]
) -> Tensors:
    """``error`` over all tasks together, and the share of right answers.

    Raises:
        ValueError: for targets of another shape, or none.
    """
    heights = targets.is_floating_point()
    shape = outputs.shape if heights else outputs.shape[:2]
    fits = targets.shape == shape and targets.numel() > 0
    expect(fits, f"targets {tuple(shape)}", targets.shape)
    missed = error(outputs.flatten(0, 1), targets.flatten(0, 1))
    if heights:
        return {"loss": missed}
    right = outputs.detach().argmax(2) == targets
    return {"loss": missed, "accuracy": right.to(missed.dtype).mean()}


def plain(net: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, "t n k"]:
    """Joint training's outputs (the paper's "pretraining on all tasks"): for all
    examples of all tasks, without adaptation.

    Args:
        net: answers them.
        batch: ``support`` and ``query``.

    Raises:
        ValueError: for a batch without them.
    """
    check_keys(batch, "support", "query")
    everything = torch.cat([batch["support"], batch["query"]], 1)
    return net(everything.flatten(0, 1)).unflatten(0, everything.shape[:2])


def joint_loss(
    outputs: Float[Tensor, "t n k"],
    batch: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> Tensors:
    """What joint training is told of the same examples, which have no task then.

    Args:
        outputs: from ``plain``.
        batch: ``truth``, heights (t, n, 1), or (t, n) the number that a picture's class
            has among all classes.
        generator: nothing is drawn.

    Returns:
        As ``loss``.

    Raises:
        ValueError: for targets of another shape, or none.
    """
    check_keys(batch, "truth")
    return missed_by(outputs, batch["truth"])


@torch.no_grad()
def progress(
    net: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    rate: float,
    steps: int,
    moving: str = "",
) -> Float[Tensor, "m t q k"]:
    """Adaptation watched: the outputs for the queries after 0, 1, ..., ``steps`` steps.

    Args:
        net: the start.
        batch: tasks, see ``answers``.
        rate, steps, moving: of the inner loop, see ``adapt``.

    Raises:
        ValueError: as ``answers``.
    """
    check_tasks(net, batch, rate=rate, steps=steps, moving=moving)
    inner = partial(adapt, net, rate=rate, steps=steps, moving=moving)

    def one(support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        path = inner(support, targets)
        return torch.stack([functional_call(net, w, (query,)) for w in path])

    tasks = batch["support"], batch["support_targets"], batch["query"]
    return vmap(one, out_dims=1, chunk_size=CHUNK)(*tasks)


@torch.no_grad()
def one_at_a_time(
    net: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    rate: float,
    steps: int = 1,
    beside: bool = True,
) -> Float[Tensor, "t q k"]:
    """``answers`` without help from other queries: each passes the net without them, so
    that they have no part in its normalisation.

    Args:
        net: the start.
        batch: tasks of pictures, see ``answers``.
        rate, steps: of the inner loop, see ``adapt``.
        beside: pass it together with the support; else quite alone.

    Raises:
        ValueError: as ``answers``.
    """
    check_tasks(net, batch, rate=rate, steps=steps)

    def one(support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        weights = adapt(net, support, targets, rate=rate, steps=steps)[-1]

        def ask(picture: Tensor) -> Tensor:
            company = [support] if beside else []
            together = torch.cat([*company, picture[None]])
            return functional_call(net, weights, (together,))[-1]

        return vmap(ask)(query)

    tasks = batch["support"], batch["support_targets"], batch["query"]
    return vmap(one, chunk_size=CHUNK)(*tasks)


def errors(
    outputs: Float[Tensor, "m t q k"], targets: Real[Tensor, "t q *k"]
) -> Float[Tensor, "m t"]:
    """How wrong each task is after each step: the mean squared error, or the share of
    queries that are misnamed.

    Args:
        outputs: from ``progress``.
        targets: of the queries.
    """
    if targets.is_floating_point():
        return (outputs - targets).square().mean((2, 3))
    wrong = outputs.argmax(3) != targets
    return wrong.to(outputs.dtype).mean(2)


def fine_tuning(
    net: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    rates: Sequence[float],
    steps: int,
) -> tuple[float, int]:
    """The rate and the number of steps by which a start adapts best, the rival's "step
    size, automatically tuned" (Section 5.1).

    Args:
        net: the start.
        batch: tasks to choose on, with the ``targets`` of their queries; others than
            those of the test.
        rates: to choose from.
        steps: the most that may be taken.

    Returns:
        The rate, and how many steps.

    Raises:
        ValueError: for no rates, or as ``answers``.
    """
    expect(len(rates), "rates to choose from", rates)
    check_keys(batch, "targets")
    curves = []
    for rate in rates:
        outputs = progress(net, batch, rate=rate, steps=steps)
        curves.append(errors(outputs, batch["targets"]).mean(1))
    # what diverged is no choice
    table = torch.stack(curves).nan_to_num(torch.inf)
    which, step = divmod(int(table.argmin()), table.shape[1])
    return rates[which], step


@torch.no_grad()
def nearest(net: Learner, batch: Mapping[str, Tensor]) -> Integer[Tensor, "t q"]:
    """A rival without any step: each query is named as the example whose features, what
    the head would read, are nearest.

    Args:
        net: whose body makes the features.
        batch: ``support``, ``support_targets`` and ``query``.

    Returns:
        The ways of the queries.

    Raises:
        ValueError: as ``answers``.
    """
    check_tasks(net, batch, rate=0.0, steps=0)

    def features(pictures: Tensor) -> Tensor:
        return net.read(net.body(pictures))

    named = []
    for k, targets in enumerate(batch["support_targets"]):
        known, asked = (features(batch[part][k]) for part in ("support", "query"))
        named.append(targets[torch.cdist(asked, known).argmin(1)])
    return torch.stack(named)


def with_new_head(net: Learner, ways: int) -> Learner:
    """A classifier of many classes made ready for a task: a copy whose head has an
    output for each way, all zero.

    Args:
        net: trained on other classes.
        ways: classes of a task.
    """
    at_least(1, ways=ways)
    copy = deepcopy(net)
    copy.head = nn.Linear(net.head.in_features, ways).to(net.head.weight)
    nn.init.zeros_(copy.head.weight)
    nn.init.zeros_(copy.head.bias)
    return copy


class Sinusoids(Iterator[Tensors]):
    r"""Endless batches of tasks, each a sine wave to be fitted (Section 5.1): :math:`y
    = A \sin(x + \varphi)`.

    Args:
        tasks: of a batch.
        shots: points to adapt to, and as many to be tested on.
        generator: draws them.

    Raises:
        ValueError: for no tasks or no points.
    """

    def __init__(
        self, tasks: int, *, shots: int = 10, generator: torch.Generator
    ) -> None:
        at_least(1, tasks=tasks, shots=shots)
        self.tasks, self.shots, self.generator = tasks, shots, generator

    def __next__(self) -> Tensors:
        """Tasks, with ``truth``, the heights of all their points, and ``amplitude`` and
        ``phase``."""
        amplitude = self._draw(*AMPLITUDE, 1)
        phase = self._draw(*PHASE, 1)
        x = self._draw(-SPAN, SPAN, 2 * self.shots)
        y = amplitude * torch.sin(x + phase)
        support, query = x.chunk(2, 1)
        support_targets, targets = y.chunk(2, 1)
        return {
            "support": support,
            "support_targets": support_targets,
            "query": query,
            "targets": targets,
            "truth": y,
            "amplitude": amplitude,
            "phase": phase,
        }

    def _draw(self, low: float, high: float, count: int) -> Float[Tensor, "t n 1"]:
        share = torch.rand(self.tasks, count, 1, generator=self.generator)
        return low + (high - low) * share


class Episodes(Iterator[Tensors]):
    """Endless batches of tasks, each to tell apart a few classes from a few pictures of
    each (Section 5.2).

    A class is way 0 of one task and way 3 of another, by chance: the head cannot know
    it by heart.

    Args:
        pictures: of each class, the same number.
        tasks: of a batch.
        ways: classes of a task, N.
        shots: pictures of each class to adapt to, K.
        queries: others of each class, to be named.
        generator: draws them.

    Raises:
        ValueError: for fewer classes than ways, or fewer pictures of a class than a
            task takes.
    """

    def __init__(
        self,
        pictures: Float[Tensor, "k n c h w"],
        *,
        tasks: int,
        ways: int = 5,
        shots: int = 1,
        queries: int = 5,
        generator: torch.Generator,
    ) -> None:
        at_least(1, tasks=tasks, ways=ways, shots=shots, queries=queries)
        enough = len(pictures) >= ways and pictures.shape[1] >= shots + queries
        wanted = f"{ways} classes of {shots + queries} pictures or more"
        expect(enough, wanted, pictures.shape[:2])
        self.pictures, self.generator = pictures, generator
        self.tasks, self.ways = tasks, ways
        self.shots, self.queries = shots, queries

    def __next__(self) -> Tensors:
        """Tasks, with ``truth``, what number the class of each picture has among all
        classes."""
        classes, count = self.pictures.shape[:2]
        draw = self.generator
        order = torch.rand(self.tasks, classes, generator=draw)
        chosen = order.topk(self.ways).indices
        order = torch.rand(self.tasks, self.ways, count, generator=draw)
        taken = order.topk(self.shots + self.queries).indices
        known, asked = taken.split([self.shots, self.queries], 2)
        ways = torch.arange(self.ways).expand(self.tasks, -1)
        return {
            "support": self.pictures[chosen[..., None], known].flatten(1, 2),
            "support_targets": ways.repeat_interleave(self.shots, 1),
            "query": self.pictures[chosen[..., None], asked].flatten(1, 2),
            "targets": ways.repeat_interleave(self.queries, 1),
            "truth": torch.cat(
                [
                    chosen.repeat_interleave(self.shots, 1),
                    chosen.repeat_interleave(self.queries, 1),
                ],
                1,
            ),
        }


# How the map names the net's parts.
BLOCKS = {"body.*": "block *", "head": "head"}


def regressor(**overrides: object) -> Regressor:
    """The paper's net for sinusoids, 1,761 weights; it is the book's, too.

    Args:
        overrides: of ``Regressor``'s arguments.
    """
    return Regressor(**overrides)  # type: ignore[arg-type]


def starts() -> dict[str, Regressor]:
    """Three starts for sinusoids, trained beforehand as the chapter trains its own,
    with seed 0 and eight times as many steps.

    Returns:
        The nets of the arms "MAML", "first order" and "joint".
    """
    nets = {}
    for name, weights in torch.load(STARTS, weights_only=True).items():
        nets[name] = regressor()
        nets[name].load_state_dict(weights)
    return nets


def mini_imagenet(**overrides: object) -> Learner:
    """The paper's net for MiniImagenet: 32 maps, pooling, pictures of 84x84 pixels.

    Args:
        overrides: of ``Learner``'s arguments.
    """
    settings: dict = {"in_channels": 3, "width": 32, "pool": True, "side": 84}
    return Learner(**(settings | overrides))


def tiny(**overrides: object) -> Learner:
    """The book's scale: three blocks of 24 maps for coloured pictures.

    Args:
        overrides: of ``Learner``'s arguments.
    """
    settings: dict = {"in_channels": 3, "width": 24, "depth": 3}
    return Learner(**(settings | overrides))


def paper(**overrides: object) -> Learner:
    """The paper's scale: its net for Omniglot, four blocks of 64 maps.

    Args:
        overrides: of ``Learner``'s arguments.
    """
    return Learner(**overrides)  # type: ignore[arg-type]
