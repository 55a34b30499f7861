"""From a name to a `Dataset`."""

from dataclasses import replace
from pathlib import Path

import torch

from ..errors import UserError, unknown_name
from .base import Dataset, ImageSet
from .catalog import CATALOG
from .splits import hold_out, largest_head, long_tail_counts, make_long_tailed


def load_dataset(
    name: str,
    root: Path | str | None = None,
    *,
    download: bool = True,
    seed: int = 0,
    val_fraction: float | None = None,
    imbalance: float | None = None,
    lt_shape: str = "exponential",
    head: int | None = None,
) -> Dataset:
    """Read a dataset of the catalog into memory.

    Args:
        name: a name of `CATALOG`.
        root: where the images are, or are to be put.
        download: whether what is missing may be fetched.
        seed: decides which images a long tail keeps. The test and validation images never depend on it.
        val_fraction: the share of each training class to hold out for validation, before any tail is cut.
        imbalance: cut the training set to a long tail of this imbalance, largest class over smallest.
        lt_shape: `exponential` or `step`.
        head: images of the largest class of the long tail; None: as many as there are.

    Raises:
        UserError: if there is no such dataset, or its files are missing, broken or not what they should be.
    """
    if name not in CATALOG:
        raise unknown_name("dataset", name, CATALOG)
    row = CATALOG[name]
    dataset = _read(row.base or name)
    val_fraction = row.val_fraction if val_fraction is None else val_fraction
    if val_fraction:
        dataset = with_validation(dataset, val_fraction)
    imbalance = row.imbalance if imbalance is None else imbalance
    if imbalance is not None:
        dataset = long_tailed(dataset, imbalance, lt_shape, head=head, seed=seed)
    return replace(dataset, name=name)


def with_validation(dataset: Dataset, fraction: float) -> Dataset:
    """The dataset with `fraction` of each training class moved to `val`, the same images whatever the seed."""
    if dataset.val is not None:
        raise UserError(f"Dataset {dataset.name!r} has validation images of its own; leave out --val-fraction.")
    kept, held_out = hold_out(dataset.train.labels, fraction)
    return replace(dataset, train=dataset.train.subset(kept), val=dataset.train.subset(held_out))


def long_tailed(
    dataset: Dataset, imbalance: float, shape: str = "exponential", *, head: int | None = None, seed: int
) -> Dataset:
    """The dataset with its training set cut to a long tail, classes in label order; the rest stays as it is.

    Args:
        imbalance: the largest class over the smallest.
        head: images of the largest class; None: as many as the classes allow.
    """
    if head is None:
        head = largest_head(dataset.train_class_counts.tolist(), imbalance, shape)
    counts = long_tail_counts(head, imbalance, dataset.num_classes, shape)
    return replace(dataset, train=dataset.train.subset(make_long_tailed(dataset.train.labels, counts, seed)))


def _read(name: str) -> Dataset:
    from .digits import CLASS_NAMES, read_digits

    train, test = read_digits()
    return _assembled(name, CLASS_NAMES, train, test)


def _assembled(name: str, class_names: tuple[str, ...], train: ImageSet, test: ImageSet) -> Dataset:
    row = CATALOG[name]
    mean, std = (row.mean, row.std) if row.mean and row.std else pixel_statistics(train)
    padding = train.images.shape[2] // 8 if row.crop_padding is None else row.crop_padding
    return Dataset(
        name=name, class_names=class_names, train=train, test=test,
        mean=mean, std=std, flip=row.flip, crop_padding=padding,
    )  # fmt: skip


def pixel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for pixels in 0..1, exactly and without a float copy."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.images.shape[1]):
        share = torch.bincount(images.images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean = float(share @ levels)
        means.append(mean)
        # A channel without contrast would divide by zero.
        deviations.append(max(float(share @ (levels - mean) ** 2) ** 0.5, 1 / 255))
    return tuple(means), tuple(deviations)
