"""The public names of `datasets/`: `from tailmatch.datasets import load_dataset`."""

from ._public import folder_path, lazy_names

__path__ = folder_path("datasets")

_names = {
    "CATALOG": "catalog",
    "class_balanced_draw": "splits",
    "Dataset": "base",
    "DatasetRow": "catalog",
    "draw_contact_sheet": "contact_sheet",
    "Draws": "imagenet.loader",
    "EpochPlan": "imagenet.loader",
    "EvalPlan": "imagenet.loader",
    "EvalView": "imagenet.views",
    "FileDataset": "imagenet.load",
    "FileSet": "file_set",
    "hold_out": "splits",
    "ImageBatch": "imagenet.loader",
    "ImageLoader": "imagenet.loader",
    "ImageSet": "base",
    "largest_head": "splits",
    "load_dataset": "load",
    "load_file_dataset": "imagenet.load",
    "long_tail_counts": "splits",
    "long_tailed": "load",
    "make_long_tailed": "splits",
    "Normalize": "weak_augment",
    "save_contact_sheet": "contact_sheet",
    "split_fingerprint": "splits",
    "ssl_split": "splits",
    "STRONG_POOL": "augment_pools",
    "StrongAugment": "strong_augment",
    "TrainView": "imagenet.views",
    "unlabeled_profile": "splits",
    "WeakAugment": "weak_augment",
    "with_validation": "load",
}
__all__ = sorted(_names)
__getattr__ = lazy_names("datasets", _names)
