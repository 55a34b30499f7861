"""The views of a store's images as a network's input: standardised, and drawn from the stored ones.

Each call draws one of the stored weak or strong views for every image. A store without them is perturbed instead, in
standardised features: weakly by noise of a tenth of each feature's standard deviation, strongly by dropping half of the
features (they take their mean, and the rest doubles), as UniMatch perturbs features (Yang et al. 2023, arXiv
2208.09910). That is no augmentation of an image: it moves features in directions that no image may take.

Shape suffixes: n images, F features.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tailmatch.datasets.base import Dataset
from tailmatch.datasets.feature_bank import FeatureBank, Standard
from tailmatch.datasets.weak_augment import Normalize, send
from tailmatch.engine.distributed import World

ALONE = World()
WEAK_NOISE = 0.1
STRONG_DROP = 0.5


class FeatureViews:
    """Rows of a bank to float32 [n, F], where rows are a process's part of a batch.

    `moved` is another weak view, for a student that sees weak views alone.

    Args:
        mean, std: by which each feature is standardised.
    """

    def __init__(self, bank: FeatureBank, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._bank = bank
        self.moves = bank.views["weak"] != 1  # else two weak views are the same
        self._own = None if (mean, std) == bank.statistics else Standard(mean, std)

    def plain(self, rows_n: Tensor) -> Tensor:
        return self._standardised(rows_n, "plain")

    def weak(self, rows_n: Tensor, draw: torch.Generator, world: World = ALONE) -> Tensor:
        if self._bank.views["weak"]:
            return self._drawn(rows_n, "weak", draw, world)
        plain_nF = self.plain(rows_n)
        noise_nF = torch.randn(_of_whole(plain_nF, world), generator=draw)[world.part]
        return plain_nF.add_(send(noise_nF, plain_nF.device), alpha=WEAK_NOISE)

    def strong(self, rows_n: Tensor, draw: torch.Generator, world: World = ALONE) -> Tensor:
        if self._bank.views["strong"]:
            return self._drawn(rows_n, "strong", draw, world)
        plain_nF = self.plain(rows_n)
        kept_nF = torch.rand(_of_whole(plain_nF, world), generator=draw)[world.part] >= STRONG_DROP
        return plain_nF.mul_(send(kept_nF, plain_nF.device)).mul_(1 / (1 - STRONG_DROP))

    def moved(self, rows_n: Tensor, draw: torch.Generator, world: World = ALONE) -> Tensor:
        return self.weak(rows_n, draw, world)

    def _drawn(self, rows_n: Tensor, kind: str, draw: torch.Generator, world: World) -> Tensor:
        view_n = torch.randint(self._bank.views[kind], _of_whole(rows_n, world), generator=draw)[world.part]
        return self._standardised(rows_n, kind, view_n)

    def _standardised(self, rows_n: Tensor, kind: str, view_n: Tensor | None = None) -> Tensor:
        if self._own is None:
            return self._bank.standardised(rows_n, kind, view_n)
        return self._own(self._bank.gather(rows_n, kind, view_n))


def _of_whole(part: Tensor, world: World) -> list[int]:
    """The shape for the whole batch of which this is a process's part: all processes draw the same numbers."""
    return [len(part) * world.size, *part.shape[1:]]


def plain_view(dataset: Dataset) -> Callable[[Tensor], Tensor]:
    """What evaluations make of a data set's images, or of a store's rows."""
    if dataset.features is None:
        return Normalize(dataset.mean, dataset.std)
    return FeatureViews(dataset.features, dataset.mean, dataset.std).plain
