"""The public names of `analysis/`: `from tailmatch.analysis import group_runs, read_runs`."""

from ._public import folder_path, lazy_names

__path__ = folder_path("analysis")

_names = {
    "AnalyzeConfig": "config",
    "CHARTS": "figures",
    "class_accuracy": "groups",
    "Difference": "compare",
    "group_accuracy": "groups",
    "group_runs": "methods",
    "Grouping": "run_folder",
    "Groups": "groups",
    "groups_from_lists": "groups",
    "Method": "runs",
    "METRICS": "metrics",
    "paired_difference": "compare",
    "PairedBootstrap": "compare",
    "published_rows": "published",
    "read_runs": "reading",
    "results_frame": "tables",
    "Run": "runs",
    "split_classes": "groups",
    "write_figures": "figures",
}
__all__ = sorted(_names)
__getattr__ = lazy_names("analysis", _names)
