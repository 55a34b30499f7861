"""Which samples make up step k: a pure function of the seed and k, so that a data position needs no storing."""

import torch
from torch import Tensor

from tailmatch.engine.seeding import generator


class ShuffledIndices:
    """An endless row of shuffled epochs over `indices`; any stretch of it can be asked for.

    With several processes each asks for the whole batch and keeps its share (`share`), so the global batch is the same
    however many processes there are.
    """

    def __init__(self, indices: Tensor, seed: int, purpose: str) -> None:
        if len(indices) == 0:
            raise ValueError("cannot sample from an empty set")
        self.indices, self.seed, self.purpose = indices, seed, purpose
        self._epoch, self._order = -1, indices

    def take(self, start: int, count: int) -> Tensor:
        """The samples at positions start ... start + count - 1."""
        parts, size = [self.indices[:0]], len(self.indices)
        while count > 0:
            epoch, offset = divmod(start, size)
            part = self._shuffled(epoch)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(parts)

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            draw = generator(self.seed, self.purpose, epoch)
            self._epoch, self._order = epoch, self.indices[torch.randperm(len(self.indices), generator=draw)]
        return self._order


def share(batch: Tensor, rank: int, world_size: int) -> Tensor:
    """One process's part of a global batch."""
    return batch[rank::world_size] if world_size > 1 else batch
