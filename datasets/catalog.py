"""The data sets in memory by name: one row each, with what is usual of it in each task.

Free of torch, so that the command line can list them in no time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tailmatch.datasets.files.catalog import FILE_DATASETS, file_recipe

Options = Mapping[str, Any]
"""Values of a task's options, by their names."""

# Ours, for images that nothing is published of: a minute and seconds on two cores, for the digits that come along.
_SSL: Options = {
    "model": "wrn-28-2", "steps": 800, "batch_size": 32, "lr": 0.05, "weight_decay": 1e-3, "ema_decay": 0.99,
}  # fmt: skip
_LONGTAIL: Options = {
    "model": "resnet32", "epochs": 60, "warmup": 5.0, "batch_size": 32, "lr": 0.1, "schedule": "cosine",
    "ema_decay": 0.0,
}  # fmt: skip
# Ours for the features of a store.
_SSL_STORE: Options = {**_SSL, "model": "linear", "steps": 1000, "lr": 0.01, "weight_decay": 5e-4}
_LONGTAIL_STORE: Options = {
    **_LONGTAIL, "model": "linear", "epochs": 10, "warmup": 0.0, "batch_size": 128, "lr": 0.01, "teacher": "mlp-1024",
}  # fmt: skip
# As published, and as the recipes in configs/ have them: FixMatch's length and networks, that of its long-tailed kin,
# and the training of CIFAR-LT.
_FIXMATCH: Options = {"model": "wrn-28-2", "steps": 2**20}
_LONG_TAILED: Options = {"model": "wrn-28-2", "steps": 250_000}
_CIFAR_LT: Options = {
    "model": "resnet32-a", "epochs": 200, "warmup": 5.0, "batch_size": 128, "lr": 0.1, "schedule": "multistep",
    "milestones": (0.8, 0.9), "gamma": 0.01, "weight_decay": 2e-4, "nesterov": False, "decay_all": True,
    "ema_decay": 0.0, "incomplete_batch": "keep", "crop_fill": "zero",
    "pixel_mean": (0.4914, 0.4822, 0.4465), "pixel_std": (0.2023, 0.1994, 0.2010),
}  # fmt: skip
# The training of all pairs of networks in tables of distillation on CIFAR-100 (mdistiller's configs/cifar100).
_DISTILL_CIFAR: Options = {
    "model": "resnet20", "epochs": 240, "warmup": 0.0, "batch_size": 64, "lr": 0.05, "schedule": "multistep",
    "milestones": (150 / 240, 180 / 240, 210 / 240), "gamma": 0.1, "weight_decay": 5e-4, "nesterov": False,
    "decay_all": True, "ema_decay": 0.0, "incomplete_batch": "keep", "crop_fill": "zero",
    "pixel_mean": (0.5071, 0.4867, 0.4408), "pixel_std": (0.2675, 0.2565, 0.2761),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """What is known of a dataset before it is read."""

    description: str
    """One line for `--help` and the documentation."""
    obtain: str
    """How to get it."""
    reader: str
    """`file:function` in this folder."""
    reader_options: Options = field(default_factory=dict)
    """What the function is told besides the place and the user's options."""
    source: Literal["library", "download", "own"]
    """What the reader starts from: nothing, (root, download), or (root,)."""
    mean: tuple[float, ...] | None = None
    """Of each channel of the training images, for pixels in 0..1; None: measured when the images are read."""
    std: tuple[float, ...] | None = None
    flip: bool
    """Whether a mirrored image is still of its class."""
    crop_padding: int | None
    """Pixels by which the weak augmentation may move an image; None: an eighth of the image."""
    weak_views_differ: bool = True
    """Whether two weak views of an image differ enough for one to teach the other anything."""
    base: str | None = None
    """For a long-tailed dataset: the one it is cut from."""
    imbalance: float | None = None
    """Its largest class over its smallest, unless told otherwise."""
    val_fraction: float = 0.0
    """The share of each class kept for validation unless told otherwise; taken before the tail is cut."""
    options: tuple[str, ...] = ()
    """The options of `load_dataset` that only this dataset has."""
    ssl: Options = field(default_factory=lambda: _SSL)
    """What the options of `ssl` come to where neither the user nor the algorithm says more."""
    longtail: Options = field(default_factory=lambda: _LONGTAIL)
    """The same for `longtail`; a `teacher` is one that is trained on the way, since the images are few enough."""
    distill: Options | None = None
    """The same for `distill`; None: as for `longtail`."""


STORE = "store"
_DOWNLOADED = "downloaded by torchvision into --data-root (data/ if not given)"

CATALOG: dict[str, DatasetRow] = {
    "digits": DatasetRow(
        description="8x8 gray handwritten digits that come with scikit-learn: 10 classes, 1,352 train, 445 test",
        obtain="nothing to get: it comes with scikit-learn",
        reader="digits:read_digits",
        source="library",
        mean=(0.3057,),
        std=(0.3759,),
        flip=False,
        crop_padding=1,
        # Moved by one pixel. The pi-model on such views stays level with the labelled images alone.
        weak_views_differ=False,
        ssl={**_SSL, "model": "cnn-digits"},
        longtail={**_LONGTAIL, "model": "wrn-digits", "teacher": "wrn-16-2-relu"},
    ),
    "cifar10": DatasetRow(
        description="32x32 photographs: 10 classes, 50,000 train, 10,000 test",
        obtain=f"{_DOWNLOADED}, 170 MB",
        reader="torchvision_sets:read_cifar",
        reader_options={"class_name": "CIFAR10"},
        source="download",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        flip=True,
        crop_padding=4,
        ssl=_FIXMATCH,
    ),
    "cifar100": DatasetRow(
        description="32x32 photographs: 100 classes, 50,000 train, 10,000 test",
        obtain=f"{_DOWNLOADED}, 169 MB",
        reader="torchvision_sets:read_cifar",
        reader_options={"class_name": "CIFAR100"},
        source="download",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        flip=True,
        crop_padding=4,
        ssl={**_FIXMATCH, "model": "wrn-28-8", "weight_decay": 1e-3},
        distill=_DISTILL_CIFAR,
    ),
    "svhn": DatasetRow(
        description="32x32 house-number digits: 10 classes, 73,257 train (+ 531,131 with --extra), 26,032 test",
        obtain=f"{_DOWNLOADED}, 246 MB (+ 1.3 GB with --extra)",
        reader="torchvision_sets:read_svhn",
        source="download",
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        flip=False,
        crop_padding=4,
        options=("extra",),
        ssl=_FIXMATCH,
    ),
    "stl10": DatasetRow(
        description="96x96 photographs: 10 classes, 5,000 train (1,000 with --fold), 8,000 test, 100,000 unlabelled",
        obtain=f"{_DOWNLOADED}, 2.6 GB",
        reader="torchvision_sets:read_stl10",
        source="download",
        mean=(0.4408, 0.4279, 0.3867),
        std=(0.2682, 0.2610, 0.2686),
        flip=True,
        crop_padding=12,
        options=("fold",),
        ssl={**_FIXMATCH, "model": "wrn-37-2"},
    ),
    "folder": DatasetRow(
        description="your own images: a folder per class, in train/ and test/ or without (optional: val/, unlabeled/)",
        obtain="say where it is: --data-root DIR",
        reader="folder:read_folder",
        source="own",
        flip=True,
        crop_padding=None,
        options=("image_size", "test_fraction"),
    ),
    "npz": DatasetRow(
        description="your own arrays: train_images, train_labels, test_images, test_labels (uint8, NCHW or NHWC)",
        obtain="say where it is: --data-root FILE.npz",
        reader="npz:read_npz",
        source="own",
        flip=True,
        crop_padding=None,
    ),
    STORE: DatasetRow(
        description="features of images, stored by `run.py embed` or a program of your own",
        obtain="say where it is: --data-root STORE",
        reader="stored:read_store",
        source="own",
        flip=False,
        crop_padding=0,
        ssl=_SSL_STORE,
        longtail=_LONGTAIL_STORE,
    ),
}

# The heads of `ssl` are its usual long-tailed splits, which are cut from the whole set and not from this tail.
CATALOG |= {
    "digits-lt": replace(
        CATALOG["digits"],
        base="digits",
        imbalance=50.0,  # leaves classes of all three kinds: more than 100 training images, 20 to 100, fewer than 20
        description="digits with a long tail: 121 images of class 0 down to 2 of class 9; 130 for validation",
        val_fraction=0.1,
        ssl={**CATALOG["digits"].ssl, "labeled_head": 18, "unlabeled_head": 100, "imbalance": 18.0},
    ),
    "cifar10-lt": replace(
        CATALOG["cifar10"],
        base="cifar10",
        imbalance=100.0,
        description="CIFAR-10 with a long tail: 5,000 images of class 0 down to 50 of class 9",
        ssl={**_LONG_TAILED, "labeled_head": 1500, "unlabeled_head": 3000, "imbalance": 100.0},
        longtail=_CIFAR_LT,
    ),
    "cifar100-lt": replace(
        CATALOG["cifar100"],
        base="cifar100",
        imbalance=100.0,
        description="CIFAR-100 with a long tail: 500 images of class 0 down to 5 of class 99",
        ssl={**_LONG_TAILED, "model": "wrn-28-8", "labeled_head": 150, "unlabeled_head": 300, "imbalance": 10.0},
        longtail=_CIFAR_LT,
        distill=None,
    ),
}


def defaults_of(dataset: str, task: Literal["ssl", "longtail", "distill"]) -> Options:
    """What the task's options come to on a data set; ours for a name that is none, which is refused later."""
    if task == "ssl":
        return CATALOG[dataset].ssl if dataset in CATALOG else _SSL
    if dataset not in CATALOG and dataset not in FILE_DATASETS:
        return _LONGTAIL
    row = CATALOG[dataset] if dataset in CATALOG else file_recipe(dataset)
    return row.distill if task == "distill" and row.distill is not None else row.longtail


def root_problems(dataset: str, root: Path | str | None) -> list[str]:
    """A sentence where a place is named for a data set that is not read from any."""
    if root is None or dataset not in CATALOG or CATALOG[dataset].source != "library":
        return []
    own = ("npz", "a file of arrays") if str(root).endswith(".npz") else ("folder", "a folder of images")
    return [
        f"--data-root {root} is for data sets with files, and {dataset} has none (it comes with scikit-learn); for "
        f"{own[1]} of your own give --dataset {own[0]} too, else leave out --data-root."
    ]


def not_of_stores(options: object, *names: str) -> list[str]:
    """A sentence for each named option of images that is given for a feature store."""
    return [
        f"{name} is for images, and --dataset {STORE} has features of them; leave it out."
        for name in names
        if getattr(options, name) is not None
    ]
