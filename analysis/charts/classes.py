"""Accuracy by class, and gain over a reference by class, against class frequency."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tailmatch.analysis.charts.base import (
    Chart,
    NoData,
    label,
    legend_height,
    light_grid,
    log_axis,
    method_legend,
    panel_grid,
    percent_axis,
    plain_number,
    signed,
    wrapped,
)
from tailmatch.analysis.charts.data import class_table, frequency_source, paired_gain, rank_bins
from tailmatch.analysis.style import AREA, GROUP_TITLES, INK, MUTED

NAMED_CLASSES = 20
"""Up to so many classes each is drawn and named; above, classes are averaged in bins of neighbouring frequency."""


def class_rows(names_values: list[tuple[str, np.ndarray]], classes: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows of per-class values, mean and deviation over seeds, plus rows of frequency-rank bins.

    `names_values` holds (method, values [seeds, C]) in percent; `classes` is `class_table`.
    """
    frames = []
    bins = rank_bins(classes)
    for name, values in names_values:
        by_rank = values[:, classes["class_id"].to_numpy()]
        each = classes.assign(method=name, kind="class", position=classes["rank"].astype(float))
        frames.append(each.assign(**spread_columns(by_rank)))
        if len(classes) > NAMED_CLASSES:
            # Bins are averaged within a seed first: the deviation is then that of the drawn point.
            binned = np.stack([np.nanmean(by_rank[:, places], axis=1) for places in bins], axis=1)
            rows = pd.DataFrame(
                {
                    "position": [float(np.mean(places)) for places in bins],
                    "train_count": [float(classes["train_count"].iloc[places].mean()) for places in bins],
                    "method": name,
                    "kind": "bin",
                }
            )
            frames.append(rows.assign(**spread_columns(binned)))
    columns = [
        "method",
        "kind",
        "position",
        "train_count",
        "value_percent",
        "std_percent",
        "class_id",
        "class",
        "group",
    ]
    return pd.concat(frames, ignore_index=True)[columns]


def spread_columns(values: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and deviation over seeds of values [seeds, columns]."""
    mean = values.mean(axis=0)
    std = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
    return {"value_percent": mean, "std_percent": std}


def draw_boundaries(axis: Axes, classes: pd.DataFrame, *, named: bool) -> None:
    """Thin lines between the groups along the frequency rank, and the groups' names above the axes."""
    ranks = classes[classes["group"] != ""].groupby("group")["position"].agg(["min", "max", "count"])
    if (ranks["max"] - ranks["min"] + 1 > ranks["count"]).any():
        return  # groups given as lists need not follow frequency, and then have no borders along it
    for group, (low, high, count) in ranks.iterrows():
        if low > 0:
            axis.axvline(low - 0.5, color=MUTED, linewidth=0.6, linestyle=(0, (2, 2)))
        if named:
            width = (high - low + 1) / len(classes)
            text = f"{GROUP_TITLES[str(group)]} ({int(count)})" if width > 0.16 else str(group)
            axis.annotate(
                text, ((low + high) / 2, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", fontsize=6.5, color=MUTED,
            )  # fmt: skip


class ClassAccuracy(Chart):
    """Per-class accuracy with classes sorted by frequency, the frequency drawn above."""

    stem = "class_accuracy"
    title = "Class accuracy against class frequency"

    def compute(self) -> pd.DataFrame:
        classes = class_table(frequency_source(self.methods))
        return class_rows([(method.name, 100 * method.class_accuracy) for method in self.methods], classes)

    def height(self) -> float:
        return 2.7 + legend_height(self.width(), self.frame()["method"])

    def draw(self, figure: Figure) -> None:
        frame = self.frame()
        classes = frame[(frame["kind"] == "class") & (frame["method"] == frame["method"].iloc[0])]
        top, axis = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3.4])
        top.tick_params(axis="x", length=0)
        draw_frequency(top, classes)
        few = len(classes) <= NAMED_CLASSES
        names = list(dict.fromkeys(frame["method"]))
        shown = frame[frame["kind"] == ("class" if few else "bin")]
        for place, name in enumerate(names):
            style = self.styles[name]
            part = shown[shown["method"] == name]
            low = (part["value_percent"] - part["std_percent"]).clip(lower=0)
            high = (part["value_percent"] + part["std_percent"]).clip(upper=100)
            # Neighbouring methods are set side by side, so that their error bars do not cover each other.
            shift = (place - (len(names) - 1) / 2) * (min(0.09, 0.5 / len(names)) if few else 0)
            axis.plot(
                part["position"] + shift, part["value_percent"], color=style.color, linestyle=style.line,
                marker=style.marker, markerfacecolor=style.face, linewidth=1.0, markersize=3,
            )  # fmt: skip
            if few:
                axis.vlines(part["position"] + shift, low, high, color=style.color, linewidth=0.7)
            else:
                axis.fill_between(part["position"], low, high, color=style.color, alpha=0.15, linewidth=0)
        draw_boundaries(axis, classes, named=False)
        axis.set_ylabel("class accuracy (%)")
        axis.set_ylim(-3, 103)
        light_grid(axis, "y")
        percent_axis(axis, "y")
        if few:
            name_classes(axis, classes)
        axis.set_xlabel("classes, from the most to the least frequent")
        axis.set_xlim(-0.7, len(classes) - 0.3)
        method_legend(figure, self.styles, names)

    def caption(self) -> str:
        frame = self.frame()
        classes = int((frame["kind"] == "class").sum() / frame["method"].nunique())
        if classes <= NAMED_CLASSES:
            return (
                "Test accuracy of every class, sorted by its number of training images (above); bars: one standard "
                "deviation over seeds."
            )
        return (
            f"Test accuracy of {classes} classes sorted by their number of training images (above), averaged over bins "
            "of neighbouring classes; bands: one standard deviation over seeds."
        )

    def alt(self) -> str:
        frame = self.frame()
        parts = []
        for name, part in frame[frame["kind"] == "class"].groupby("method", sort=False):
            third = max(1, len(part) // 3)
            head, tail = part["value_percent"].iloc[:third].mean(), part["value_percent"].iloc[-third:].mean()
            parts.append(
                f"{name} falls from {head:.0f} to {tail:.0f}"
                if tail < head
                else f"{name} goes from {head:.0f} to {tail:.0f}"
            )
        return f"Lines of class accuracy, most frequent third to least frequent third, in percent: {'; '.join(parts)}."


def draw_frequency(axis: Axes, classes: pd.DataFrame) -> None:
    """The number of training images per class as a filled strip, on a log axis where the counts span a decade."""
    counts = classes["train_count"].to_numpy(dtype=float)
    positions = classes["position"].to_numpy()
    spread = counts.max() / max(counts.min(), 1) >= 10
    if spread:
        log_axis(axis, "y")
    floor = max(0.5, counts.min() / 2) if spread else 0.0
    if len(counts) <= NAMED_CLASSES:
        axis.bar(positions, counts - floor, bottom=floor, width=0.8, color=AREA)
        for position, count in zip(positions, counts, strict=True):
            axis.annotate(
                plain_number(count) if count >= 1e4 else f"{count:.0f}",
                (position, count),
                (0, 1),
                textcoords="offset points",
                ha="center",
                fontsize=6,
            )
        axis.set_ylim(floor, counts.max() * (3 if spread else 1.3))
    else:
        axis.fill_between(positions, counts, floor, step="mid", color=AREA, linewidth=0)
        axis.set_ylim(floor, counts.max() * (1.6 if spread else 1.1))
    if not spread and len(counts) <= NAMED_CLASSES:
        axis.set_yticks([])  # the bars are labelled
    elif not spread:
        axis.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    axis.set_ylabel("training\nimages")
    draw_boundaries(axis, classes, named=True)


def name_classes(axis: Axes, classes: pd.DataFrame) -> None:
    """Class names under the axis, slanted where they would touch."""
    names = [label(str(name), 16) for name in classes["class"]]
    slanted = max(map(len, names)) * len(names) > 110
    axis.set_xticks(
        classes["position"],
        names,
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    axis.tick_params(axis="x", length=0)


class Gain(Chart):
    """How much each method gains over the reference, class by class, against the class's frequency."""

    stem = "gain"
    title = "Gain over the reference against class frequency"

    def compute(self) -> pd.DataFrame:
        by_name = {method.name: method for method in self.methods}
        if self.reference not in by_name or len(self.methods) < 2:
            raise NoData("it needs at least two methods")
        base = by_name[self.reference]
        classes = class_table(base)
        if classes["train_count"].nunique() == 1:
            raise NoData("all classes have the same number of training images")
        gains = [(name, 100 * paired_gain(method, base)) for name, method in by_name.items() if method is not base]
        return class_rows(gains, classes)

    def height(self) -> float:
        panels = self.frame()["method"].nunique()
        return 0.45 + 1.55 * -(-panels // 3) + (0.35 if panels == 1 else 0)

    def draw(self, figure: Figure) -> None:
        frame = self.frame()
        names = list(dict.fromkeys(frame["method"]))
        axes = panel_grid(figure, len(names), 3)
        counts = frame.loc[frame["kind"] == "class", "train_count"]
        few = int(len(counts) / len(names)) <= NAMED_CLASSES
        each = frame[frame["kind"] == "class"]
        spread = each["std_percent"].fillna(0) if few else 0.0
        low, high = (each["value_percent"] - spread).min(), (each["value_percent"] + spread).max()
        span = max(float(high - low), 1.0)
        # Head room, so that the group means never lie on points.
        axes[0].set_ylim(float(low) - 0.06 * span, float(high) + 0.24 * span)
        for axis, name in zip(axes, names, strict=True):
            self._panel(axis, frame[frame["method"] == name], name, few)
            if counts.max() / max(counts.min(), 1) >= 10:
                log_axis(axis, "x")
        figure.supxlabel("training images of the class", fontsize=7)
        figure.supylabel(f"gain over {label(str(self.reference))} (points)", fontsize=7)

    def _panel(self, axis: Axes, part: pd.DataFrame, name: str, few: bool) -> None:
        style = self.styles[name]
        each, bins = part[part["kind"] == "class"], part[part["kind"] == "bin"]
        axis.axhline(0, color=INK, linewidth=0.7)
        if few:
            axis.errorbar(
                each["train_count"], each["value_percent"], yerr=each["std_percent"].fillna(0), fmt=style.marker,
                color=style.color, markersize=3.5, elinewidth=0.7, capsize=1.5,
            )  # fmt: skip
        else:
            axis.scatter(
                each["train_count"], each["value_percent"], s=3, color=style.color, alpha=0.22, linewidths=0,
                rasterized=len(each) > 200,
            )  # fmt: skip
            axis.plot(
                bins["train_count"], bins["value_percent"], color=style.color, linestyle=style.line, linewidth=1.4
            )
        axis.set_title(wrapped(name, 26))
        groups = each.groupby("group", sort=False)["value_percent"].mean()
        text = "   ".join(f"{group or 'all'} {signed(value)}" for group, value in groups.items())
        axis.text(0.99, 0.985, text, transform=axis.transAxes, ha="right", va="top", fontsize=6, color=INK)
        light_grid(axis, "y")

    def caption(self) -> str:
        bins = " Line: average over bins of neighbouring frequency." if (self.frame()["kind"] == "bin").any() else ""
        return (
            f"Difference in class accuracy to {self.reference}, in points, against the class's number of training "
            f"images.{bins} Numbers: mean gain of each group."
        )

    def alt(self) -> str:
        frame = self.frame()
        each = frame[frame["kind"] == "class"]
        parts = []
        for name, part in each.groupby("method", sort=False):
            means = part.groupby("group", sort=False)["value_percent"].mean()
            parts.append(f"{name}: " + ", ".join(f"{group or 'all'} {signed(value)}" for group, value in means.items()))
        return f"Gain in class accuracy over {self.reference} in points. {'; '.join(parts)}."
