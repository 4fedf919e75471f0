"""Several processes under ``torchrun``; one without it."""

import atexit
import os

import torch
import torch.distributed as dist
from torch import nn


def world() -> tuple[int, int]:
    """Where this process stands; the first call joins the others.

    Returns:
        This process's rank and the number of processes: 0 and 1 without ``torchrun``.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return 0, 1
    if not dist.is_initialized():
        _join()
    return dist.get_rank(), size


def _join() -> None:
    has_cuda = torch.cuda.is_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo")
    atexit.register(dist.destroy_process_group)
    if has_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def parallel(module: nn.Module) -> nn.Module:
    """Let several processes train one module.

    Losses are means over a batch, so averaged gradients of n processes equal those of
    one n times larger batch, as long as no layer mixes samples (batch normalisation
    does).

    Args:
        module: What is trained, on its device already.

    Returns:
        ``DistributedDataParallel`` around it under ``torchrun``, else itself.
    """
    _, processes = world()
    return nn.parallel.DistributedDataParallel(module) if processes > 1 else module
