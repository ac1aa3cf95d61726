"""Collective operations of data-parallel processes, as ``accelerate launch`` or ``torchrun`` start them.

Every process (*rank*) runs the same program over the same data with its own copy of the weights. What costs time, the
passes of an update and the sampling of answers, is divided; the rest is done by all alike, so all hold the same weights
after each update. Only rank 0 writes. Where there is one process, each function is the identity and calls nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

LAUNCHED = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
            "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"}  # fmt: skip
"""Environment variables that torchrun, and so accelerate, sets for a process."""


def join() -> None:
    """Join the process group; nothing where the launcher started one process alone. Also picks this rank's GPU for "cuda".

    Gloo on processors, NCCL on GPUs, as accelerate chooses.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState  # noqa: PLC0415 - half a second that one process does not need

        PartialState(cpu=not torch.cuda.is_available())


def leave() -> None:
    """Leave the process group of :func:`join`, also for programs that this one starts: they would wait for ranks that are gone."""
    if world_size() > 1:
        barrier()
        dist.destroy_process_group()
    for name in [name for name in os.environ if name in LAUNCHED or name.startswith("TORCHELASTIC_")]:
        del os.environ[name]


def world_size() -> int:
    """How many processes work together, ≥ 1."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def share(items: Sequence[T]) -> list[T]:
    """Every ``world_size()``-th item, from this rank's number: alike in length where neighbours are."""
    return list(items[rank() :: world_size()])


def block(items: Sequence[T]) -> list[T]:
    """This rank's part of ``items`` cut into ``world_size()`` contiguous blocks, for items whose neighbours share work."""
    n = len(items)
    return list(items[n * rank() // world_size() : n * (rank() + 1) // world_size()])


def all_reduce(tensor: torch.Tensor) -> None:
    """Replace ``tensor``, of equal shape on all ranks, by its sum over ranks."""
    if world_size() > 1:
        there = tensor.to(_device())
        dist.all_reduce(there)
        tensor.copy_(there)


def total(values: Sequence[float]) -> list[float]:
    """Sums over ranks, one for each of ``values``, in double precision; as many values on all ranks."""
    if world_size() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    all_reduce(sums)
    return sums.tolist()


def all_gather(value: Any) -> list[Any]:
    """The values of all ranks, by rank; any that can be pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Barrier: go on when all ranks are here, so that they find what rank 0 wrote."""
    all_gather(None)


def broadcast_weights(model: torch.nn.Module) -> None:
    """Broadcast rank 0's parameters and buffers to all ranks, in place."""
    if world_size() > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            there = tensor.data.to(_device())
            dist.broadcast(there, src=0)
            tensor.data.copy_(there)


def all_reduce_gradients(model: torch.nn.Module) -> None:
    """Replace each trained parameter's gradient by its sum over ranks; a rank without one counts as 0.

    The loss of a rank is its rows' part of the loss of the update, divided by what all ranks' rows are divided by, so
    the sum is the gradient of one process up to rounding, however unevenly the rows are shared.
    """
    if world_size() == 1:
        return
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    for work in [dist.all_reduce(p.grad, async_op=True) for p in trained]:
        work.wait()


def _device() -> torch.device:
    """Where tensors must lie to be sent."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
