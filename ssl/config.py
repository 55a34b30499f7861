"""The options of `run.py ssl`. Free of torch, since `--help` imports it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ..datasets.catalog import CATALOG as DATASETS
from ..engine.options import CallOptions, OptimOptions, RunOptions, above, at_least
from ..errors import unknown_name
from ..losses.options import LossOptions
from ..models.catalog import check_model_name
from .presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Data: which images, and how many of them keep their label."""

    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(DATASETS) + "}")] = "digits"
    """Data set."""
    data_root: Path | None = None
    """Where the data set lies or is to be downloaded; a folder or an .npz file of your own."""
    labels: int = 40
    """Labelled images in all, the same number from every class."""
    unlabeled_ratio: int = 7
    """Unlabelled images per labelled image in a step (mu)."""

    def problems(self) -> list[str]:
        found = above(self, 0, "labels", "unlabeled_ratio")
        return found if self.dataset in DATASETS else [*found, str(unknown_name("dataset", self.dataset, DATASETS))]


@dataclass(frozen=True, kw_only=True)
class AlgorithmOptions:
    """The algorithm."""

    algorithm: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PRESETS) + "}")] = "fixmatch"
    """Which published algorithm to compose."""
    model: str | None = None
    """Network, such as wrn-28-2; by default the one the data set is usually trained with."""
    threshold: float = 0.95
    """Confidence from which a pseudo-label is accepted."""
    unlabeled_weight: float = 1.0
    """Weight of the consistency loss (lambda)."""

    def problems(self) -> list[str]:
        found = at_least(self, 0, "unlabeled_weight")
        if not 0 <= self.threshold <= 1:
            found.append(f"threshold must lie in [0, 1], got {self.threshold}.")
        if self.algorithm not in PRESETS:
            found.append(str(unknown_name("algorithm", self.algorithm, PRESETS)))
        if self.model is not None:
            try:
                check_model_name(self.model)
            except ValueError as error:
                found.append(str(error))
        return found


# The defaults are the recipe of the embedded data set: 1,352 images of 8 x 8 pixels, a minute on two cores.
DIGITS = OptimOptions(steps=600, batch_size=32, lr=0.03, ema_decay=0.99)


@dataclass(frozen=True, kw_only=True)
class SSLConfig:
    """Learn from few labels: FixMatch and its family, with any consistency loss of the shared module."""

    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    algorithm: tyro.conf.OmitArgPrefixes[AlgorithmOptions] = field(default_factory=AlgorithmOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optim: tyro.conf.OmitArgPrefixes[OptimOptions] = DIGITS
    run: tyro.conf.OmitArgPrefixes[RunOptions] = field(default_factory=RunOptions)
    call: tyro.conf.OmitArgPrefixes[CallOptions] = field(default_factory=CallOptions)
