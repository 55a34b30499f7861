"""The numbers of an analysis as files: tidy CSV for programs, Markdown and LaTeX for people.

Percentages are percentages in every file and say so in the column's name or in `unit`; nothing is rounded in the CSVs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tailmatch.analysis.compare import Difference
from tailmatch.analysis.groups import ALL_AND_GROUPS, GROUP_NAMES
from tailmatch.analysis.metrics import METRICS
from tailmatch.analysis.runs import Method
from tailmatch.analysis.table import Table
from tailmatch.analysis.table_text import to_latex, to_markdown


def results_frame(methods: Sequence[Method]) -> pd.DataFrame:
    """Mean and standard deviation over runs: a row per method, metric and group that has a value."""
    rows = []
    for method in methods:
        for name, metric in METRICS.items():
            for group in ALL_AND_GROUPS:
                values = method.values(name, group) * (100 if metric.percent else 1)
                if len(values):
                    unit = "%" if metric.percent else "nats" if name == "nll" else ""
                    sd = values.std(ddof=1) if len(values) > 1 else np.nan
                    rows.append((method.name, metric.title, unit, group, values.mean(), sd, len(values)))
    return pd.DataFrame(rows, columns=["method", "metric", "unit", "classes", "mean", "sd", "runs"])


def runs_frame(methods: Sequence[Method]) -> pd.DataFrame:
    """A row per run, a column per metric and group, accuracies as the run itself recorded them at the end."""
    rows = []
    for method in methods:
        for run in method.runs:
            row: dict[str, Any] = {"run": run.name, "method": method.name, "seed": run.seed, "dataset": run.dataset}
            row["path"] = run.path
            for name, values in run.metrics.items():
                for group, value in values.items():
                    scale, unit = (100, "_percent") if METRICS[name].percent else (1, "")
                    row[f"{name}_{group}{unit}"] = None if value is None else scale * value
            for kind, groups in (run.result.get("accuracy") or {}).items():
                for group, value in groups.items() if isinstance(groups, dict) else ():
                    row[f"recorded_{kind}_{group}_percent"] = None if value is None else 100 * value
            rows.append(row)
    return pd.DataFrame(rows)


def classes_frame(methods: Sequence[Method]) -> pd.DataFrame:
    """A row per method and class, classes without test samples included (without an accuracy)."""
    frames = []
    for method in methods:
        first, accuracy = method.runs[0], 100 * method.class_accuracy
        group = [GROUP_NAMES[place] if place >= 0 else "" for place in method.groups.of_class(first.num_classes)]
        frames.append(
            pd.DataFrame(
                {
                    "method": method.name,
                    "class_id": np.arange(first.num_classes),
                    "class": first.class_names,
                    "train_images": first.train_class_counts,
                    "test_images": np.bincount(first.labels, minlength=first.num_classes),
                    "group": group,
                    "accuracy_percent": accuracy.mean(axis=0),
                    "sd_percent": accuracy.std(axis=0, ddof=1) if len(accuracy) > 1 else np.nan,
                    "runs": len(accuracy),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def differences_frame(differences: Sequence[Difference]) -> pd.DataFrame:
    """A row per compared method and group, in points of accuracy, with the verdict in words."""
    columns = {
        "method": [one.method for one in differences],
        "reference": [one.reference for one in differences],
        "classes": [one.group for one in differences],
        "difference_points": [100 * one.value for one in differences],
        "low_points": [np.nan if one.one_seed else 100 * one.low for one in differences],
        "high_points": [np.nan if one.one_seed else 100 * one.high for one in differences],
        "runs": [one.seeds[0] for one in differences],
        "reference_runs": [one.seeds[1] for one in differences],
        "seeds_paired": [one.paired for one in differences],
        "verdict": [one.words for one in differences],
    }
    return pd.DataFrame(columns)


def write_tables(
    methods: Sequence[Method],
    differences: Sequence[Difference],
    published: pd.DataFrame,
    for_people: Sequence[Table],
    folder: Path,
) -> None:
    """Write `<name>.csv` for programs, and `<id>.md` and `<id>.tex` of the tables made for people."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = {"results": results_frame(methods), "runs": runs_frame(methods), "classes": classes_frame(methods)}
    if differences:
        frames["differences"] = differences_frame(differences)
    if len(published):
        frames["published"] = published
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    for table in for_people:
        (folder / f"{table.id}.md").write_text(to_markdown(table), encoding="utf-8")
        (folder / f"{table.id}.tex").write_text(to_latex(table), encoding="utf-8")
