"""What a trained net says about many images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from papernets_lite.ops.checks import expect


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor | Sequence[Tensor],
    *,
    batch_size: int = 100,
    device: torch.device | str | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> Any:
    """A net's outputs for many images: in evaluation mode, without gradients, in
    batches.

    Args:
        model: The net; its mode is as before afterwards.
        images: What goes into it, the first axis counting; a tuple for a net with
            several inputs, equally long.
        batch_size: How many at a time, at least 1.
        device: Where the model is moved to and asked; None asks it where it is.
        decode: Applied to each batch's outputs, such as a paper's ``decode``. A list
            that it returns has one entry for each image.

    Returns:
        The outputs on the CPU, joined along the first axis: a tensor, or a tuple, list,
        dict or dataclass of such. What does not count the images (anchors, strides) is
        there once.

    Raises:
        ValueError: For no images, inputs of unequal length, ``batch_size < 1``, or
            outputs that cannot be joined.
    """
    inputs = (images,) if isinstance(images, Tensor) else tuple(images)
    lengths = {len(one) for one in inputs}
    expect(len(lengths) == 1 and lengths != {0}, "images, of one number", *lengths)
    expect(batch_size >= 1, "batch_size >= 1", batch_size)
    if device is not None:
        model.to(device)
    where = _device(model)
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    answers, sizes = [], []
    try:
        for parts in zip(*(one.split(batch_size) for one in inputs), strict=True):
            answer = model(*[part.to(where) for part in parts])
            answer = answer if decode is None else decode(answer)
            answers.append(_to_cpu(answer))
            sizes.append(len(parts[0]))
    finally:
        for module in was_training:
            module.training = True
    if decode is not None and isinstance(answers[0], list):
        return [one for answer in answers for one in answer]
    return _join(answers, sizes)


def _device(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _to_cpu(answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return answer.cpu()
    if isinstance(answer, Mapping):
        return {key: _to_cpu(value) for key, value in answer.items()}
    if is_dataclass(answer) and not isinstance(answer, type):
        values = {f.name: _to_cpu(getattr(answer, f.name)) for f in fields(answer)}
        return replace(answer, **values)
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return type(answer)(*[_to_cpu(value) for value in answer])
    if isinstance(answer, (tuple, list)):
        return type(answer)([_to_cpu(value) for value in answer])
    return answer


def _join(answers: list[Any], sizes: list[int]) -> Any:
    first = answers[0]
    if len(answers) == 1:
        return first
    if isinstance(first, Tensor):
        return _join_tensors(answers, sizes)
    if isinstance(first, Mapping):
        return {key: _join([a[key] for a in answers], sizes) for key in first}
    if is_dataclass(first) and not isinstance(first, type):
        joined = {}
        for field in fields(first):
            values = [getattr(answer, field.name) for answer in answers]
            joined[field.name] = _join(values, sizes)
        return replace(first, **joined)
    if isinstance(first, (tuple, list)):
        columns = [_join(list(column), sizes) for column in zip(*answers, strict=True)]
        named = hasattr(first, "_fields")
        return type(first)(*columns) if named else type(first)(columns)
    same = all(answer == first for answer in answers)
    expect(same, "outputs that can be joined (decode makes them)", type(first))
    return first


def _join_tensors(answers: list[Tensor], sizes: list[int]) -> Tensor:
    first = answers[0]
    counted = all(
        answer.ndim and len(answer) == size
        for answer, size in zip(answers, sizes, strict=True)
    )
    if counted:
        return torch.cat(answers)
    same = all(torch.equal(answer, first) for answer in answers)
    expect(same, "outputs that count the images", *[a.shape for a in answers[:3]])
    return first
