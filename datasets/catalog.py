"""The datasets by name: one row each. Free of torch, so that the command line can list them in no time."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """What is known of a dataset before it is read."""

    description: str
    """One line for `--help` and the documentation."""
    obtain: str
    """How to get it."""
    embedded: bool = False
    """Whether it comes with a library, so that there is no place to read it from."""
    mean: tuple[float, ...] | None = None
    """Of each channel of the training images, for pixels in 0..1; None: measured when the images are read."""
    std: tuple[float, ...] | None = None
    flip: bool
    """Whether a mirrored image is still of its class."""
    crop_padding: int | None
    """Pixels by which the weak augmentation may move an image; None: an eighth of the image."""
    base: str | None = None
    """For a long-tailed dataset: the one it is cut from."""
    imbalance: float | None = None
    """Its largest class over its smallest, unless told otherwise."""
    val_fraction: float = 0.0
    """The share of each class kept for validation unless told otherwise; taken before the tail is cut."""
    options: tuple[str, ...] = ()
    """The options of `load_dataset` that only this dataset has."""


_EMBEDDED = "nothing to get: it comes with scikit-learn"
_DOWNLOADED = "downloaded by torchvision into --data-root (data/ if not given)"

CATALOG: dict[str, DatasetRow] = {
    "digits": DatasetRow(
        description="8x8 gray handwritten digits that come with scikit-learn: 10 classes, 1,352 train, 445 test",
        obtain=_EMBEDDED,
        embedded=True,
        mean=(0.3057,),
        std=(0.3759,),
        flip=False,
        crop_padding=1,
    ),
    "cifar10": DatasetRow(
        description="32x32 photographs: 10 classes, 50,000 train, 10,000 test",
        obtain=f"{_DOWNLOADED}, 170 MB",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        flip=True,
        crop_padding=4,
    ),
    "cifar100": DatasetRow(
        description="32x32 photographs: 100 classes, 50,000 train, 10,000 test",
        obtain=f"{_DOWNLOADED}, 169 MB",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        flip=True,
        crop_padding=4,
    ),
    "svhn": DatasetRow(
        description="32x32 house-number digits: 10 classes, 73,257 train (+ 531,131 with --extra), 26,032 test",
        obtain=f"{_DOWNLOADED}, 246 MB (+ 1.3 GB with --extra)",
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        flip=False,
        crop_padding=4,
        options=("extra",),
    ),
    "stl10": DatasetRow(
        description="96x96 photographs: 10 classes, 5,000 train (1,000 with --fold), 8,000 test, 100,000 unlabelled",
        obtain=f"{_DOWNLOADED}, 2.6 GB",
        mean=(0.4408, 0.4279, 0.3867),
        std=(0.2682, 0.2610, 0.2686),
        flip=True,
        crop_padding=12,
        options=("fold",),
    ),
    "folder": DatasetRow(
        description="your own images: a folder per class, in train/ and test/ or without (optional: val/, unlabeled/)",
        obtain="say where it is: --data-root DIR",
        flip=True,
        crop_padding=None,
        options=("image_size", "test_fraction"),
    ),
    "npz": DatasetRow(
        description="your own arrays: train_images, train_labels, test_images, test_labels (uint8, NCHW or NHWC)",
        obtain="say where it is: --data-root FILE.npz",
        flip=True,
        crop_padding=None,
    ),
}


def _long_tail_of(base: str, imbalance: float, description: str, val_fraction: float = 0.0) -> DatasetRow:
    return replace(CATALOG[base], base=base, imbalance=imbalance, description=description, val_fraction=val_fraction)


CATALOG |= {
    # Imbalance 50 leaves classes of all three kinds: more than 100 training images, 20 to 100, fewer than 20.
    "digits-lt": _long_tail_of(
        "digits", 50.0, "digits with a long tail: 121 images of class 0 down to 2 of class 9; 130 for validation", 0.1
    ),
    "cifar10-lt": _long_tail_of(
        "cifar10", 100.0, "CIFAR-10 with a long tail: 5,000 images of class 0 down to 50 of class 9"
    ),
    "cifar100-lt": _long_tail_of(
        "cifar100", 100.0, "CIFAR-100 with a long tail: 500 images of class 0 down to 5 of class 99"
    ),
}


def root_problems(dataset: str, root: Path | str | None) -> list[str]:
    """A sentence where a place is named for a data set that is not read from any."""
    if root is None or dataset not in CATALOG or not CATALOG[dataset].embedded:
        return []
    own = ("npz", "a file of arrays") if str(root).endswith(".npz") else ("folder", "a folder of images")
    return [
        f"--data-root {root} is for data sets with files, and {dataset} has none (it comes with scikit-learn); for "
        f"{own[1]} of your own give --dataset {own[0]} too, else leave out --data-root."
    ]
