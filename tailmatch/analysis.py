"""The public names of `analysis/`: `from tailmatch.analysis import read_runs, split_classes`."""

from ._public import folder_path, lazy_names

__path__ = folder_path("analysis")

_names = {
    "AnalyzeConfig": "config",
    "Groups": "groups",
    "Method": "runs",
    "Run": "runs",
    "analyze": "analyze",
    "class_accuracy": "groups",
    "group_accuracy": "groups",
    "group_runs": "runs",
    "groups_from_lists": "groups",
    "paired_difference": "compare",
    "read_runs": "runs",
    "split_classes": "groups",
}
__all__ = sorted(_names)
__getattr__ = lazy_names("analysis", _names)
