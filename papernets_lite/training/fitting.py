"""Plain supervised training: one net, or several that are set against each other."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from papernets_lite.ops.checks import expect
from papernets_lite.training.batches import Augment, Batches
from papernets_lite.training.history import History
from papernets_lite.training.loop import Step, train
from papernets_lite.training.processes import parallel

Losses = Mapping[str, Tensor]
Loss = Callable[..., Losses]
# a key of the batch, several, or (model, batch) -> outputs
Inputs = str | Sequence[str] | Callable[[nn.Module, Any], Any]


def supervised_step(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    *,
    schedule: LRScheduler | None = None,
    inputs: Inputs = "images",
    clip: float | None = None,
    generator: Generator | None = None,
) -> Step:
    """The plain step: forward, ``loss(outputs, batch)["loss"]``, backward, update.

    Args:
        model: What is trained.
        loss: ``(outputs, batch) -> dict of scalars`` with ``"loss"``.
        optimizer: Of the model's parameters.
        schedule: Moves the learning rate after each update; None leaves it.
        inputs: What goes into the model: a key of the batch, several keys, one for each
            argument, or ``(model, batch) -> outputs``.
        clip: The largest norm of all gradients together; None leaves them.
        generator: Handed to a loss that takes a ``generator``, for what it draws.

    Returns:
        A step for ``train``.
    """
    forward = _forward(inputs)
    if _draws(loss):
        loss = partial(loss, generator=generator)

    def step(batch: Any) -> Losses:
        losses = loss(forward(model, batch), batch)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        return losses

    return step


def _forward(inputs: Inputs) -> Callable[[nn.Module, Any], Any]:
    if callable(inputs):
        return inputs
    keys = [inputs] if isinstance(inputs, str) else list(inputs)
    return lambda model, batch: model(*[batch[key] for key in keys])


def _draws(loss: Loss) -> bool:
    """Whether a loss takes a generator that is not bound to it already."""
    if isinstance(loss, partial) and "generator" in loss.keywords:
        return False
    return "generator" in inspect.signature(loss).parameters


def fit(
    model: nn.Module,
    loss: Loss,
    tensors: Mapping[str, Any] | Iterator[Any],
    *,
    optimizer: Callable[..., Optimizer],
    steps: int,
    batch_size: int | None = None,
    seed: int,
    warm_up: float = 0.3,
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
    device: torch.device | None = None,
    inputs: Inputs = "images",
    augment: Augment | None = None,
    clip: float | None = None,
    layout: torch.memory_format | None = torch.channels_last,
    **options: Any,
) -> History:
    """Plain supervised training: shuffled batches, one optimiser, one schedule.

    Two models that are fitted with the same tensors and seed see the same batches in
    the same order. A model in evaluation mode is put back into training.

    Args:
        model: Moved to ``device``, and laid out as ``layout``.
        loss: ``(outputs, batch) -> dict of scalars`` with ``"loss"``. One that takes a
            ``generator`` gets its own, seeded by ``seed``.
        tensors: The training set, tensors by name; or an endless iterator of batches,
            which is used as it is.
        optimizer: Makes it from the parameters; its learning rate is the one-cycle
            schedule's peak.
        steps: How many.
        batch_size: Samples per step and process; none beside an iterator of batches.
        seed: Of the order of the batches.
        warm_up: The share of the steps in which the learning rate rises.
        schedule: ``(optimizer, steps) -> schedule`` in place of the one cycle.
        device: Where to train; None leaves the model and the batches where they are.
        inputs: What goes into the model: a key of the batch, several keys, one for each
            argument, or ``(model, batch) -> outputs``.
        augment: ``(batch, generator) -> batch``, new for every batch.
        clip: The largest norm of all gradients together; None leaves them.
        layout: Of the model and of images; channels-last is what convolutions like.
            None leaves both.
        options: Passed to ``train``.

    Returns:
        What the loss gave, one number per step and key.

    Raises:
        ValueError: For tensors without a batch size, and as ``train``.
    """
    if not model.training:
        model.train()
    if layout is None:
        model.to(device)
    else:
        model.to(device, memory_format=layout)  # type: ignore[call-overload]
    wrapped = parallel(model)
    made = optimizer(wrapped.parameters())
    if schedule is None:
        peak = made.param_groups[0]["lr"]
        pace: LRScheduler = OneCycleLR(made, peak, total_steps=steps, pct_start=warm_up)
    else:
        pace = schedule(made, steps)
    batches: Iterator[Any]
    if isinstance(tensors, Mapping):
        batches = _batches(tensors, batch_size, seed, layout, augment)
    else:
        alone = batch_size is None and augment is None
        expect(alone, "no batch_size and augment beside batches", batch_size, augment)
        batches = tensors
    state = {"model": model, "optimizer": made, "schedule": pace}
    generator = Generator().manual_seed(seed)
    if _draws(loss):
        state["generator"] = generator
    step = supervised_step(
        wrapped,
        loss,
        made,
        schedule=pace,
        inputs=inputs,
        clip=clip,
        generator=generator,
    )
    return train(step, batches, steps=steps, device=device, state=state, **options)


def _batches(
    tensors: Mapping[str, Any],
    batch_size: int | None,
    seed: int,
    layout: torch.memory_format | None,
    augment: Augment | None,
) -> Batches:
    expect(batch_size is not None, "a batch_size", batch_size)
    laid_out = {}
    for name, tensor in tensors.items():
        if layout is not None and isinstance(tensor, Tensor) and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=layout)
        laid_out[name] = tensor
    generator = Generator().manual_seed(seed)
    size = batch_size or 0
    return Batches(laid_out, size, generator=generator, augment=augment)


def build(
    builders: Mapping[Any, Callable[[], nn.Module]], *, seed: int
) -> dict[Any, nn.Module]:
    """Nets that are to be set against each other, untrained.

    Args:
        builders: For each arm, by name, what makes its net.
        seed: Of torch, set anew before each: up to their first difference, nets start
            with the same weights.

    Returns:
        The nets by name.

    Raises:
        ValueError: For no arms.
    """
    expect(builders, "at least one arm", builders)
    nets = {}
    for arm, builder in builders.items():
        torch.manual_seed(seed)
        nets[arm] = builder()
    return nets


def compare(
    builders: Mapping[Any, Callable[[], nn.Module]],
    loss: Loss | Mapping[Any, Loss],
    tensors: Any,
    *,
    seed: int,
    **options: Any,
) -> tuple[dict[Any, nn.Module], dict[Any, History]]:
    """Build and fit the arms of a comparison, so that they differ in one thing.

    Every arm starts from the same seed and sees the same batches. Any argument may be a
    dict with one value for each arm: a loss, tensors, a number of steps.

    Args:
        builders: For each arm, by name, what makes its net.
        loss: As for ``fit``; one for all, or one for each arm.
        tensors: The training set, or one for each arm.
        seed: Of torch before each net is built, and of the order of the batches.
        options: Passed to ``fit``; the name that is shown is the arm's.

    Returns:
        The nets by name, in evaluation mode, and their histories by name.

    Raises:
        ValueError: For no arms, losses for other arms, one checkpoint for several arms,
            and as ``fit``.
    """
    expect(builders, "at least one arm", builders)
    if isinstance(loss, Mapping):
        fits = set(loss) == set(builders)
        expect(fits, f"a loss for each of {list(builders)}", list(loss))
    one_file = isinstance(options.get("checkpoint"), (str, Path))
    shared = one_file and len(builders) > 1
    expect(not shared, "a checkpoint for each arm, in a dict")
    given = {"loss": loss, "tensors": tensors, **options}
    nets, histories = {}, {}
    for arm, builder in builders.items():
        nets.update(build({arm: builder}, seed=seed))
        mine = {key: _of(arm, value, builders) for key, value in given.items()}
        mine.setdefault("name", _words(arm))
        histories[arm] = fit(nets[arm], seed=seed, **mine)
        nets[arm].eval()
    return nets, histories


def _of(arm: Any, value: Any, arms: Mapping[Any, Any]) -> Any:
    """An arm's own value, where there is one for each."""
    if isinstance(value, Mapping) and set(value) == set(arms):
        return value[arm]
    return value


def _words(arm: Any) -> str:
    if isinstance(arm, tuple):
        return ", ".join(str(part) for part in arm)
    return str(arm)
