"""Differences to the reference with their intervals: what the report's verdicts say, as a picture."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tailmatch.analysis.charts.base import Chart, NoData, light_grid, signed, width_of_panels
from tailmatch.analysis.charts.labels import label, name_rows, row_height
from tailmatch.analysis.compare import LEVEL_PERCENT, Difference
from tailmatch.analysis.groups import ALL_AND_GROUPS
from tailmatch.analysis.runs import Method
from tailmatch.analysis.style import GROUP_TITLES, INK, MUTED, PAPER


class Differences(Chart):
    """Accuracy over the reference, with an interval where seeds allow one: one panel a group, one row a method."""

    stem = "differences"
    title = "Accuracy over the reference"

    def __init__(
        self, methods: Sequence[Method], reference: str | None = None, differences: Sequence[Difference] = ()
    ) -> None:
        super().__init__(methods, reference)
        self.differences = list(differences)

    def compute(self) -> pd.DataFrame:
        if not self.differences:
            raise NoData("it needs at least two methods")
        columns = ["method", "reference", "group", "difference_percent", "low_percent", "high_percent", "verdict"]
        rows = [
            (one.method, one.reference, one.group, 100 * one.value, *self._ends(one), one.kind)
            for one in self.differences
            if one.method in self.styles
        ]
        return pd.DataFrame(rows, columns=columns)

    @staticmethod
    def _ends(one: Difference) -> tuple[float, float]:
        """The interval in points; none with one seed, whose interval would leave out how seeds scatter."""
        return (np.nan, np.nan) if one.one_seed else (100 * one.low, 100 * one.high)

    def width(self) -> float:
        return width_of_panels(self.frame()["group"].nunique())

    def height(self) -> float:
        names = self.frame()["method"].unique()
        return 0.6 + row_height(names) * len(names)

    def draw(self, figure: Figure) -> None:
        frame = self.frame()
        names = list(dict.fromkeys(frame["method"]))
        groups = [group for group in ALL_AND_GROUPS if (frame["group"] == group).any()]
        axes = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
        drawn = frame[["difference_percent", "low_percent", "high_percent"]].to_numpy()
        low, high = min(0.0, float(np.nanmin(drawn))), max(0.0, float(np.nanmax(drawn)))
        # The numbers stand in a column of their own, right of every interval.
        span = max(high - low, 0.1)
        place = high + 0.08 * span
        for axis, group in zip(axes, groups, strict=True):
            for row in frame[frame["group"] == group].itertuples():
                self._row(axis, names.index(row.method), row, place)
            axis.axvline(0, color=INK, linewidth=0.7)
            axis.set_title(GROUP_TITLES[group])
            name_rows(axis, names)
            axis.set_xticks([tick for tick in MaxNLocator(nbins=4).tick_values(low, high) if low <= tick <= high])
            axis.spines["bottom"].set_bounds(low, high)
            light_grid(axis, "x")
        axes[0].set_xlim(low - 0.05 * span, place + 0.42 * span)
        reference = label(str(frame["reference"].iloc[0]), 40)
        figure.supxlabel(f"accuracy{self.on_data} over {reference} (points)", fontsize=7)

    def _row(self, axis: Axes, place: int, row: object, column: float) -> None:
        style = self.styles[row.method]  # type: ignore[attr-defined]
        value, low, high = row.difference_percent, row.low_percent, row.high_percent  # type: ignore[attr-defined]
        certain = row.verdict in ("better", "worse")  # type: ignore[attr-defined]
        if np.isfinite(low):
            axis.plot([low, high], [place, place], color=style.color, linewidth=1.4, solid_capstyle="butt")
        axis.plot(
            value,
            place,
            marker="o",
            markersize=4,
            color=style.color,
            markerfacecolor=style.color if certain else PAPER,
        )
        axis.text(
            column, place, signed(value), va="center", fontsize=6, color=INK if certain else MUTED,
            fontweight="bold" if certain else "normal",
        )  # fmt: skip

    def caption(self) -> str:
        frame = self.frame()
        start = f"Difference in accuracy to {frame['reference'].iloc[0]}"
        seeds = "two methods of which one has a single seed have no interval, and nothing is said of who is better"
        if frame["low_percent"].isna().all():
            return f"{start}. No intervals: {seeds}."
        return (
            f"{start} with its {LEVEL_PERCENT} % interval from a paired bootstrap over test samples and seeds. Filled "
            f"and bold: the interval leaves out 0.{f' Without a line: {seeds}.' if frame.isna().any(axis=None) else ''}"
        )

    def alt(self) -> str:
        parts = []
        for name, part in self.frame().groupby("method", sort=False):
            values = ", ".join(
                f"{GROUP_TITLES[row.group].lower()} {signed(row.difference_percent)}"
                + (
                    f" ({signed(row.low_percent)} to {signed(row.high_percent)})"
                    if np.isfinite(row.low_percent)
                    else ""
                )
                for row in part.itertuples()
                if np.isfinite(row.difference_percent)
            )
            parts.append(f"{name}: {values}")
        return f"Dots of the difference in points to {self.frame()['reference'].iloc[0]}. {'; '.join(parts)}."
