"""Which images, all of them labelled, a run learns from. Free of torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tailmatch.datasets.catalog import CATALOG, STORE, not_of_stores
from tailmatch.datasets.files.catalog import FILE_DATASETS
from tailmatch.engine.options import fraction_problems
from tailmatch.errors import unknown_name

DATASETS = (*CATALOG, *FILE_DATASETS)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Data: which images."""

    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(DATASETS) + "}")] = "digits"
    """Data set; it decides the optimisation's defaults."""
    data_root: Path | None = None
    """Where the data set lies or is to be downloaded (data/ by default); with --dataset folder, npz or store, yours."""
    val_fraction: float | None = None
    """Share of each training class held out for choosing a checkpoint; the data set's own habit by default."""
    test_fraction: float | None = None
    """folder without train/ and test/: share of each class held out for testing, whatever the seed (by default 0.2)."""
    crop_fill: Literal["reflect", "zero"] | None = None
    """What the random crop of small images shows beyond their edges: their reflection, or black; by default the former,
    and for CIFAR-LT black, as published."""
    color_jitter: float = 0.0
    """How far training changes brightness, contrast and saturation of images in files, as in 0.4."""
    pixel_mean: tuple[float, ...] | None = None
    """Mean by which pixels in 0..1 are normalised, a number a channel; the data set's by default."""
    pixel_std: tuple[float, ...] | None = None
    """The standard deviation, likewise."""
    train_view: Literal["plain", "weak"] = "plain"
    """store: train on the view that is evaluated, or on a weak one drawn anew each time."""
    image_size: int | None = None
    """Side of the images of folder (by default the one they all have) and of ImageNet and its kin (by default 224, cut
    from 256)."""

    def problems(self) -> list[str]:
        found = [] if self.dataset in DATASETS else [str(unknown_name("dataset", self.dataset, DATASETS))]
        if self.val_fraction is not None and not 0 <= self.val_fraction < 1:
            found.append(f"val_fraction must lie in [0, 1), got {self.val_fraction}.")
        found += fraction_problems(self, "test_fraction")
        if self.pixel_mean is not None and not all(0 <= mean <= 1 for mean in self.pixel_mean):
            found.append(f"pixel_mean must lie between 0 and 1 in each channel, got {self.pixel_mean}.")
        if self.pixel_std is not None and not all(std > 0 for std in self.pixel_std):
            found.append(f"pixel_std must be above 0 in each channel, got {self.pixel_std}.")
        if not 0 <= self.color_jitter <= 1:
            found.append(f"color_jitter must lie between 0 and 1, got {self.color_jitter}.")
        if self.color_jitter and self.dataset not in FILE_DATASETS:
            found.append(f"color_jitter is for images in files ({', '.join(FILE_DATASETS)}), not for {self.dataset}.")
        if self.train_view != "plain" and self.dataset != STORE:
            found.append(f"train_view is for feature stores (--dataset {STORE}), not for {self.dataset}.")
        if self.dataset == STORE:
            found += not_of_stores(self, "crop_fill", "pixel_mean", "pixel_std", "image_size")
        if self.crop_fill is not None and self.dataset in FILE_DATASETS:
            found.append(f"crop_fill is for images in memory; {self.dataset} is cut by a random resized crop.")
        if self.image_size is not None and self.image_size < 8:
            found.append(f"image_size must be at least 8, got {self.image_size}.")
        return found
