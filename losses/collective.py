"""Sums over the processes of a data-parallel run.

The convention of this folder: PyTorch's DistributedDataParallel averages the gradients of its processes, so each
process returns the loss whose average over processes is the loss of the whole batch. A mean over rows needs nothing
for that, given equal batches. A divisor that is a sum over the batch must be the sum over all processes, and its
numerator is multiplied by the number of processes to undo the average.
"""

from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor


def process_count() -> int:
    """How many processes train together; 1 outside a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first_process() -> bool:
    """Whether this is the process that writes checkpoints."""
    return process_count() == 1 or distributed.get_rank() == 0


def global_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, without gradient. Every process must call it."""
    total = tensor.detach()
    if process_count() > 1:
        total = total.clone()
        distributed.all_reduce(total)
    return total


def all_rows(rows: Tensor) -> Tensor:
    """A row for each sample of the whole batch, in its order, of the rows [B, ...] for each process's part of it.

    With gradient: each process's rows receive the sum of what all processes' losses say of them, which the average over
    processes then makes the gradient of one loss. Process r has the samples r, r + P, r + 2 P, ... of the batch.
    """
    if process_count() == 1:
        return rows
    gathered: Tensor = _AllRows.apply(rows)
    return gathered


def own_rows(rows: Tensor) -> Tensor:
    """This process's part of a row for each sample of the whole batch."""
    return rows if process_count() == 1 else rows[distributed.get_rank() :: process_count()]


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(process_count())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return own_rows(global_sum(gradient))
