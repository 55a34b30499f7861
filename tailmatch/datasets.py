"""The public names of `datasets/`: `from tailmatch.datasets import load_dataset`."""

from ._public import folder_path, lazy_names

__path__ = folder_path("datasets")

_names = {
    "CATALOG": "catalog",
    "Dataset": "base",
    "DatasetRow": "catalog",
    "ImageSet": "base",
    "class_balanced_draw": "splits",
    "hold_out": "splits",
    "largest_head": "splits",
    "load_dataset": "load",
    "long_tail_counts": "splits",
    "long_tailed": "load",
    "make_long_tailed": "splits",
    "split_fingerprint": "splits",
    "ssl_split": "splits",
    "unlabeled_profile": "splits",
    "with_validation": "load",
}
__all__ = sorted(_names)
__getattr__ = lazy_names("datasets", _names)
