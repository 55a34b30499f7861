"""What the charts read off the analysed runs: plain arrays and tables, so that a chart holds only its own question.

Shapes: S runs (seeds), N test samples, C classes, D features.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tailmatch.analysis.groups import GROUP_NAMES, is_balanced
from tailmatch.analysis.outcome import rows_at_a_time
from tailmatch.analysis.runs import Method, Run

Array = npt.NDArray[Any]

MOST_LOGITS = 20_000_000
"""Logits that a sweep works on: a fair sample of 20,000 test images of a thousand classes, and everything below."""


def group_accuracy(method: Method, group: str) -> Array:
    """Accuracy of each run, NaN where the group is empty, [S]."""
    values = method.values("top1", group)
    return values if len(values) else np.array([np.nan])


def group_of_class(owner: Method | Run) -> Array:
    """Per class 0, 1, 2 for many, medium, few, and -1 for a class in no group, [C]."""
    return owner.groups.of_class(len(owner.train_class_counts))


def filled_groups(*methods: Method) -> list[str]:
    """The groups in which any of the methods has a class with test samples."""
    return [
        group for group in GROUP_NAMES if any(np.isfinite(group_accuracy(method, group)).any() for method in methods)
    ]


def by_groups(methods: Sequence[Method]) -> list[Method]:
    """The methods whose classes are told apart: those with test samples in two groups and more."""
    return [method for method in methods if len(filled_groups(method)) > 1]


def left_out(methods: Sequence[Method], shown: Iterable[str], why: str) -> str:
    """A caption's last sentence on the methods that a chart cannot show; empty where it shows all."""
    shown = set(shown)
    names = [method.name for method in methods if method.name not in shown]
    return f" Not shown, {why}: {', '.join(names)}." if names else ""


def samples_of(run: Run, group: str) -> Array:
    """Which test samples are of a group's classes; `all` is every one of them."""
    if group == "all":
        return np.arange(len(run.labels))
    return np.flatnonzero(group_of_class(run)[run.labels] == GROUP_NAMES.index(group))


def class_names(methods: Sequence[Method]) -> tuple[str, ...]:
    """The classes' names, from the first method that knows them; else their numbers."""
    numbers = tuple(str(c) for c in range(len(methods[0].class_names)))
    return next((method.class_names for method in methods if method.class_names != numbers), numbers)


def class_table(methods: Sequence[Method], order: Array | None = None, *, tested_only: bool = True) -> pd.DataFrame:
    """Classes with their rank, class_id, class, train_count, group ("" for none), of the first method's training data.

    Args:
        methods: of one test set; the first one's counts and groups are taken, and the names of whichever knows them.
        order: class ids; from the most to the least frequent if not given.
        tested_only: leave out classes without test samples, and close up the ranks.
    """
    method = methods[0]
    counts, group_C, names = method.train_class_counts, group_of_class(method), class_names(methods)
    order = np.argsort(-counts, kind="stable") if order is None else order
    if tested_only:
        order = order[np.isfinite(method.class_accuracy[:, order]).all(axis=0)]
    return pd.DataFrame(
        {
            "rank": np.arange(len(order)),
            "class_id": order,
            "class": [names[c] for c in order],
            "train_count": counts[order],
            "group": [GROUP_NAMES[group_C[c]] if group_C[c] >= 0 else "" for c in order],
        }
    )


def tailed(methods: Sequence[Method]) -> list[Method]:
    """The methods whose training classes differ in size: only these can be held against class frequency."""
    return [method for method in methods if not is_balanced(method.train_class_counts)]


def tailed_first(methods: Sequence[Method]) -> list[Method]:
    """All methods, one whose training classes have a tail in front if there is any."""
    return sorted(methods, key=lambda method: is_balanced(method.train_class_counts))


def by_accuracy(methods: Sequence[Method]) -> Array:
    """Class ids from the highest to the lowest accuracy, the mean over methods; untested classes last."""
    mean = np.mean([method.class_accuracy.mean(axis=0) for method in methods], axis=0)
    return np.argsort(-mean, kind="stable")


def rank_bins(classes: pd.DataFrame, singly: int = 0, most: int = 20) -> list[Array]:
    """Places of `classes` in bins of neighbouring rank, about equally large; up to `singly` classes stay alone.

    A bin never holds classes of two groups, so that a group's border is a bin's border.
    """
    if len(classes) <= singly:
        return [np.array([place]) for place in range(len(classes))]
    group = classes["group"].to_numpy()
    borders = np.flatnonzero(group[1:] != group[:-1]) + 1
    if len(borders) > 2:  # given lists need not follow frequency; their borders then say nothing
        borders = np.array([], dtype=int)
    bins = []
    for run_of_classes in np.split(np.arange(len(classes)), borders):
        parts = max(1, round(most * len(run_of_classes) / len(classes)))
        bins += list(np.array_split(run_of_classes, min(parts, len(run_of_classes))))
    return bins


def joint_shares(run: Run, part_C: Array, parts: int) -> Array:
    """Share of the samples of part i that are predicted as a class of part j, classes weighted equally, [parts, parts].

    `part_C` names each class's part (-1 for none); a part without test samples is NaN.
    """
    tested_C = np.bincount(run.labels, minlength=run.num_classes)
    true_N, predicted_N = part_C[run.labels], part_C[run.predictions]
    kept = (true_N >= 0) & (predicted_N >= 0)
    cells = true_N[kept] * parts + predicted_N[kept]
    sums = np.bincount(cells, weights=1 / tested_C[run.labels[kept]], minlength=parts * parts).reshape(parts, parts)
    classes = np.bincount(part_C[(part_C >= 0) & (tested_C > 0)], minlength=parts).astype(float)
    classes[classes == 0] = np.nan
    return sums / classes[:, None]


def paired_gain(method: Method, base: Method) -> Array:
    """Class accuracy over the reference's, [S, C]: per seed where they share seeds, else over its mean."""
    of_seed = {run.seed: run.class_accuracy for run in base.runs if run.seed is not None}
    pairs = [(run.class_accuracy, of_seed[run.seed]) for run in method.runs if run.seed in of_seed]
    if len(pairs) == len(method.runs):
        return np.stack([own - other for own, other in pairs])
    return method.class_accuracy - base.class_accuracy.mean(axis=0)


def curve(run: Run, tag: str) -> pd.Series:
    """A logged value by training step; empty where it was not logged."""
    frame = run.metrics_frame
    if tag not in frame or "step" not in frame:
        return pd.Series(dtype=float)
    kept = frame[["step", tag]].dropna()
    # A resumed run may log a step twice; the later one is what the weights went through.
    return kept.drop_duplicates("step", keep="last").set_index("step")[tag].astype(float).sort_index()


def logits_sample(run: Run) -> tuple[Array, Array] | None:
    """(logits [n, C] as float32, labels [n]) of evenly spread test samples; None where no logits were stored."""
    samples = len(run.labels)
    wanted = max(1, min(samples, MOST_LOGITS // run.num_classes))
    chosen = np.unique(np.linspace(0, samples - 1, wanted).astype(np.int64))
    file = run.file_of("logits")
    if "logits" not in file:
        return None
    logits = np.empty((len(chosen), run.num_classes), dtype=np.float32)
    height, filled = rows_at_a_time(run.num_classes), 0
    for start, chunk in zip(range(0, samples, height), file.row_chunks("logits", height), strict=True):
        # Half precision is slow to convert: only the rows of the sample are.
        inside = chosen[(chosen >= start) & (chosen < start + height)] - start
        logits[filled : filled + len(inside)] = chunk[inside]
        filled += len(inside)
    return logits, run.labels[chosen]
