"""Is a confident prediction right as often as it says, for rare classes as for frequent ones?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tailmatch.analysis.charts.base import (
    Chart,
    NoData,
    legend_height,
    light_grid,
    mean_std,
    method_legend,
    percent_axis,
    width_of_panels,
)
from tailmatch.analysis.charts.data import filled_groups, samples_of
from tailmatch.analysis.groups import ALL_AND_GROUPS
from tailmatch.analysis.metrics import ECE_BINS, calibration_error
from tailmatch.analysis.style import GROUP_TITLES, MUTED

FEWEST_SAMPLES = 5
"""A bin of fewer test samples says nothing about a rate and is not drawn."""
BINS_BY_SAMPLES = ((1000, ECE_BINS), (300, 10), (0, 5))
"""(from so many samples on, bins drawn): small groups are drawn coarser, so that a point is more than noise."""


class Reliability(Chart):
    """Accuracy against confidence, one panel per group."""

    stem = "reliability"
    title = "Reliability by class group"

    def compute(self) -> pd.DataFrame:
        rows: list[tuple] = []
        for method in self.methods:
            runs = [(run, sure) for run in method.runs if (sure := run.confidence) is not None]
            for group in ["all", *filled_groups(*self.methods)]:
                seeds = []
                for run, sure in runs:
                    chosen = samples_of(run, group)
                    if len(chosen):
                        seeds.append((sure[chosen], run.predictions[chosen] == run.labels[chosen]))
                rows += _bins(method.name, group, seeds)
        if not rows:
            raise NoData("no run has logits to take confidences from")
        columns = ["method", "group", "confidence_percent", "accuracy_percent", "std_percent", "samples", "ece_percent"]
        return pd.DataFrame(rows, columns=columns)

    def width(self) -> float:
        return width_of_panels(self.frame()["group"].nunique())

    def height(self) -> float:
        names = self.frame()["method"]
        return 2.05 + 0.13 * names.nunique() + legend_height(self.width(), names)

    def draw(self, figure: Figure) -> None:
        frame = self.frame()
        groups = [group for group in ALL_AND_GROUPS if (frame["group"] == group).any()]
        names = list(dict.fromkeys(frame["method"]))
        upper, lower = figure.subplots(
            2, len(groups), sharex="row", sharey="row", squeeze=False, height_ratios=[1.5, 0.1 + 0.13 * len(names)]
        )
        for axis, errors, group in zip(upper, lower, groups, strict=True):
            axis.plot([0, 100], [0, 100], color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)))
            for name in names:
                self._line(axis, name, frame[(frame["group"] == group) & (frame["method"] == name)])
            axis.set_title(GROUP_TITLES[group])
            axis.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="confidence (%)")
            for which in ("x", "y"):
                percent_axis(axis, which)
            light_grid(axis, "both")
            self._errors(errors, frame[frame["group"] == group], names)
        upper[0].set_ylabel("accuracy (%)")
        lower[0].set_ylabel("ECE (%)", rotation=0, ha="right", va="center")
        lower[0].set_xlim(0, 1.25 * max(frame["ece_percent"].max(), 0.1))
        lower[0].set_ylim(len(names) - 0.5, -0.5)
        method_legend(figure, self.styles, names)

    def _line(self, axis: Axes, name: str, part: pd.DataFrame) -> None:
        style = self.styles[name]
        kept = part[part["samples"] >= FEWEST_SAMPLES]
        axis.plot(
            kept["confidence_percent"], kept["accuracy_percent"], color=style.color, linestyle=style.line,
            marker=style.marker, markerfacecolor=style.face, markersize=2.8,
        )  # fmt: skip
        low = (kept["accuracy_percent"] - kept["std_percent"]).clip(lower=0)
        high = (kept["accuracy_percent"] + kept["std_percent"]).clip(upper=100)
        axis.vlines(kept["confidence_percent"], low, high, color=style.color, linewidth=0.6, alpha=0.5)

    def _errors(self, axis: Axes, part: pd.DataFrame, names: list[str]) -> None:
        """The calibration errors as bars under the diagram."""
        for row in part.drop_duplicates("method").itertuples():
            place = names.index(row.method)
            style = self.styles[row.method]
            axis.barh(
                place,
                row.ece_percent,
                height=0.72,
                color=style.color,
                hatch=style.hatch,
                edgecolor="white",
                linewidth=0,
            )
            axis.annotate(
                f"{row.ece_percent:.1f}",
                (row.ece_percent, place),
                (2, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
        axis.set(xticks=[], yticks=[])
        axis.spines["bottom"].set_visible(False)

    def caption(self) -> str:
        return (
            f"Accuracy against confidence (the largest softmax probability) in bins of equal width, {ECE_BINS} where "
            "the test samples suffice and fewer where not; below the diagonal a model is overconfident. ECE: expected "
            f"calibration error in {ECE_BINS} bins, mean over seeds."
        )

    def alt(self) -> str:
        errors = self.frame().drop_duplicates(["method", "group"])
        parts = []
        for name, part in errors.groupby("method", sort=False):
            values = ", ".join(f"{GROUP_TITLES[row.group].lower()} {row.ece_percent:.1f}" for row in part.itertuples())
            parts.append(f"{name}: {values}")
        return f"Reliability diagrams. Expected calibration error in percent, {'; '.join(parts)}."


def _bins(name: str, group: str, seeds: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple]:
    """One row per confidence bin from each seed's (confidence, right): means over all, deviation over seeds."""
    if not seeds:
        return []
    total = sum(len(sure) for sure, _ in seeds)
    drawn = next(bins for samples, bins in BINS_BY_SAMPLES if total >= samples)
    hits, sums, counts = (np.zeros((len(seeds), drawn)) for _ in range(3))
    for seed, (sure, right) in enumerate(seeds):
        # Closed on the right, like the bins of the calibration error.
        bins = np.clip(np.ceil(sure.astype(np.float64) * drawn).astype(np.int64) - 1, 0, drawn - 1)
        counts[seed] = np.bincount(bins, minlength=drawn)
        hits[seed] = np.bincount(bins, weights=right, minlength=drawn)
        sums[seed] = np.bincount(bins, weights=sure, minlength=drawn)
    ece = 100 * float(np.mean([calibration_error(sure, right) for sure, right in seeds]))
    rows: list[tuple] = []
    for place in np.flatnonzero(counts.sum(axis=0)):
        total = counts[:, place].sum()
        seen = counts[:, place] > 0
        _, std = mean_std(hits[seen, place] / counts[seen, place])
        accuracy, mean_sure = hits[:, place].sum() / total, sums[:, place].sum() / total
        rows.append((name, group, 100 * mean_sure, 100 * accuracy, 100 * std, int(total), ece))
    return rows
