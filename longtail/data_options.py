"""Which images a long-tailed run learns from. Free of torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from tailmatch.distill import data_options
from tailmatch.distill.data_options import DATASETS


@dataclass(frozen=True, kw_only=True)
class DataOptions(data_options.DataOptions):
    """Data: which images, and how long their tail is."""

    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(DATASETS) + "}")] = "digits-lt"
    """Data set; it decides the optimisation's defaults."""
    imbalance: float | None = None
    """Cut the training images to a long tail: the largest class over the smallest."""
    lt_shape: Literal["exponential", "step"] = "exponential"
    """Shape of the tail."""

    def problems(self) -> list[str]:
        found = super().problems()
        if self.imbalance is not None and not self.imbalance >= 1:
            found.append(f"imbalance must be at least 1 (largest class over smallest), got {self.imbalance}.")
        return found
