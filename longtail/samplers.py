"""How often each class is drawn. A sampler is a pure function of the step, so a data position needs no storing.

`instance` draws every image once an epoch. The other two draw a class first, with probability proportional to
n_c^power, and then one of its images: power 0 is class-balanced, 1/2 square-root sampling (Kang et al. 2020,
arXiv 1910.09217, section 4.1). An epoch has as many steps in all three.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailmatch.datasets.files.loader import Draws, EpochPlan, Plan
from tailmatch.engine.seeding import derived_seed

POWERS = {"square-root": 0.5, "class-balanced": 0.0}


class ClassPlan:
    """Steps whose images are drawn by class, with replacement; classes without images are never drawn."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        *,
        power: float,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.steps_per_epoch = len(labels) // batch_size
        self._by_class = np.argsort(labels, kind="stable")
        self._counts = np.bincount(labels)
        self._first = np.cumsum(self._counts) - self._counts
        # 0 to the power of 0 is 1, but a class without images has no share.
        shares = np.where(self._counts > 0, self._counts.astype(np.float64) ** power, 0.0)
        self._bounds = np.cumsum(shares / shares.sum())

    def __call__(self, step: int) -> Draws:
        # Every process draws the whole batch and keeps its share: the batch is the same however many there are.
        draws = np.random.default_rng(derived_seed(self.seed, "class draws", step)).random((2, self.batch_size))
        classes = np.searchsorted(self._bounds, draws[0] * self._bounds[-1], side="right")
        within = (draws[1] * self._counts[classes]).astype(np.int64)
        indices = self._by_class[self._first[classes] + within]
        # The position tells an image's draws apart, so that each gets a crop of its own.
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        mine = slice(self.rank, None, self.world_size)
        return Draws(indices[mine], positions[mine])


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of each batch this process takes."""

    batch_size: int
    rank: int
    world_size: int


def build_plan(name: str, labels: NDArray[np.int64], seed: int, share: Share) -> EpochPlan | ClassPlan:
    """The sampler of that name over images with these labels."""
    # Also refuses a batch larger than the set, or one that does not divide among the processes.
    plan = EpochPlan(
        images=len(labels),
        batch_size=share.batch_size,
        seed=seed,
        rank=share.rank,
        world_size=share.world_size,
    )
    if name == "instance":
        return plan
    return ClassPlan(
        labels,
        power=POWERS[name],
        batch_size=share.batch_size,
        seed=seed,
        rank=share.rank,
        world_size=share.world_size,
    )


def first_draws(plan: Plan, count: int) -> NDArray[np.int64]:
    """[count] the images that a plan draws first."""
    drawn: list[NDArray[np.int64]] = []
    while sum(map(len, drawn)) < count:
        drawn.append(plan(len(drawn)).indices)
    return np.concatenate(drawn)[:count]
