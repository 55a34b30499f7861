"""The public names of `analysis/`: `from tailmatch.analysis import read_runs, split_classes`."""

from ._public import folder_path, lazy_names

__path__ = folder_path("analysis")

_names = {
    "AnalyzeConfig": "config",
    "Grouping": "run_folder",
    "Groups": "groups",
    "Method": "runs",
    "Run": "runs",
    "class_accuracy": "groups",
    "group_accuracy": "groups",
    "group_runs": "methods",
    "groups_from_lists": "groups",
    "paired_difference": "compare",
    "read_runs": "reading",
    "split_classes": "groups",
}
__all__ = sorted(_names)
__getattr__ = lazy_names("analysis", _names)
