"""Sums over the processes of a data-parallel run.

The convention of this folder: PyTorch's DistributedDataParallel averages the gradients of its processes, so each
process returns the loss whose average over processes is the loss of the whole batch. A mean over rows needs nothing
for that, given equal batches. A divisor that is a sum over the batch must be the sum over all processes, and its
numerator is multiplied by the number of processes to undo the average.
"""

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
