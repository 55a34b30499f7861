"""Where the errors go: between groups, and between classes or bins of classes at any number of classes."""

from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from tailmatch.analysis.charts.base import Chart, NoData, grid_shape, label, mean_std, panel_grid, wrapped
from tailmatch.analysis.charts.data import (
    by_groups,
    class_table,
    filled_groups,
    frequency_source,
    group_accuracy,
    group_of_class,
    joint_shares,
    left_out,
    rank_bins,
)
from tailmatch.analysis.groups import GROUP_NAMES
from tailmatch.analysis.style import GROUP_TITLES, INK, MUTED

BLUES: Colormap = LinearSegmentedColormap.from_list(
    "tailmatch_blues", ["#ffffff", "#d6e6f4", "#8fc1e3", "#3b87c1", "#0a4f8f", "#062c57"]
)
GROUP_COLUMNS = ("true_group", "predicted_group")
NAMED_CLASSES = 12
MOST_BINS = 20


class GroupConfusion(Chart):
    """Rows: the true group; columns: the group of the predicted class. The diagonal also says how much is right."""

    stem = "group_confusion"
    title = "Where the errors go, by group"
    layout = "compressed"

    def compute(self) -> pd.DataFrame:
        grouped = by_groups(self.methods)
        if not grouped:
            raise NoData("no method's classes are split into groups")
        rows = []
        for method in grouped:
            part_C = group_of_class(method)
            joint = np.mean([joint_shares(run, part_C, len(GROUP_NAMES)) for run in method.runs], axis=0)
            for true in filled_groups(method):
                correct = mean_std(group_accuracy(method, true))[0]
                for predicted, classes in method.groups.items():
                    if not classes:
                        continue
                    share = joint[GROUP_NAMES.index(true), GROUP_NAMES.index(predicted)]
                    inside = 100 * correct if true == predicted else np.nan
                    rows.append((method.name, true, predicted, 100 * share, inside))
        return pd.DataFrame(
            rows, columns=["method", "true_group", "predicted_group", "share_percent", "correct_percent"]
        )

    def height(self) -> float:
        rows = ceil(self.frame()["method"].nunique() / 4)
        return 0.35 + 1.75 * rows

    def draw(self, figure: Figure) -> None:
        frame = self.frame()
        names = list(dict.fromkeys(frame["method"]))
        true_groups, groups = ([g for g in GROUP_NAMES if (frame[of] == g).any()] for of in GROUP_COLUMNS)
        axes = panel_grid(figure, len(names), 4)
        for axis, name in zip(axes, names, strict=True):
            part = frame[frame["method"] == name]
            shares = part.pivot(index="true_group", columns="predicted_group", values="share_percent")
            axis.imshow(shares.reindex(true_groups, columns=groups).to_numpy(), cmap=BLUES, vmin=0, vmax=110)
            for cell in part.itertuples():
                place = groups.index(cell.predicted_group), true_groups.index(cell.true_group)
                color = "white" if cell.share_percent > 55 else INK
                text = f"{cell.share_percent:.1f}"
                if np.isfinite(cell.correct_percent):
                    text += f"\nright {cell.correct_percent:.1f}"
                axis.text(*place, text, ha="center", va="center", color=color, fontsize=6)
            bare_matrix(axis)
            axis.set_xticks(range(len(groups)), groups)
            axis.set_yticks(range(len(true_groups)), true_groups)
            axis.set_title(wrapped(name, 18), fontsize=7)
        figure.supxlabel("group of the predicted class", fontsize=7)
        for axis in axes[:: grid_shape(len(axes), 4)[1]]:
            axis.set_ylabel("true group")

    def caption(self) -> str:
        return (
            "Share (%) of each true group's test samples, classes weighted equally, that are predicted as a class of "
            "the many-, medium- or few-shot group. On the diagonal, “right”: the share whose class itself is right."
            + left_out(self.methods, self.frame()["method"], "without groups")
        )

    def alt(self) -> str:
        frame = self.frame()
        true_groups, predicted_groups = (
            [group for group in GROUP_NAMES if (frame[of] == group).any()] for of in GROUP_COLUMNS
        )
        rare, frequent = true_groups[-1], predicted_groups[0]
        chosen = frame[(frame["true_group"] == rare) & (frame["predicted_group"] == frequent)]
        parts = [f"{row.method} {row.share_percent:.0f}" for row in chosen.itertuples()]
        question = f"{GROUP_TITLES[rare]} samples predicted as {frequent}-shot, in percent"
        return f"Matrices of true against predicted group. {question}: {', '.join(parts)}."


def bare_matrix(axis: Axes) -> None:
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


class MatrixChart(Chart):
    """A matrix over classes for each method, sorted by frequency, in bins of neighbouring rank where they are many."""

    layout = "compressed"
    row_word: str
    column_word: str
    bar_label: str

    def matrices(self, bin_C: np.ndarray, bins: int) -> dict[str, np.ndarray]:
        """Method to matrix [bins, bins]: mean over the classes of the row's bin, sum over those of the column's."""
        raise NotImplementedError

    def compute(self) -> pd.DataFrame:
        classes = class_table(frequency_source(self.methods), tested_only=False)
        bins = rank_bins(classes, NAMED_CLASSES, MOST_BINS)
        names = [bin_name(classes, places) for places in bins]
        counts = [float(classes["train_count"].iloc[places].mean()) for places in bins]
        groups = [bin_group(classes, places) for places in bins]
        bin_C = np.empty(len(classes), dtype=np.int64)
        for number, places in enumerate(bins):
            bin_C[classes["class_id"].to_numpy()[places]] = number
        frames = []
        for method, matrix in self.matrices(bin_C, len(bins)).items():
            rows, columns = np.indices(matrix.shape)
            frames.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "row": rows.ravel(),
                        "column": columns.ravel(),
                        "row_name": [names[i] for i in rows.ravel()],
                        "column_name": [names[i] for i in columns.ravel()],
                        "row_group": [groups[i] for i in rows.ravel()],
                        "row_train_count": [counts[i] for i in rows.ravel()],
                        "percent": 100 * matrix.ravel(),
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def _columns(self) -> int:
        return 2 if self._named() else 3

    def _named(self) -> bool:
        frame = self.frame()
        return not frame["row_name"].str.startswith("ranks ").any()

    def height(self) -> float:
        panels = self.frame()["method"].nunique()
        rows = ceil(panels / self._columns())
        each = 2.9 if self._named() else 2.0
        return 0.35 + each * rows + (0.6 if panels == 1 and not self._named() else 0)

    def draw(self, figure: Figure) -> None:
        frame = self.frame()
        names = list(dict.fromkeys(frame["method"]))
        axes = panel_grid(figure, len(names), self._columns())
        # A square-root scale: errors are small beside the diagonal and would all look white on a linear one.
        norm = PowerNorm(0.5, vmin=0, vmax=100)
        for axis, name in zip(axes, names, strict=True):
            part = frame[frame["method"] == name]
            matrix = part.pivot(index="row", columns="column", values="percent").to_numpy()
            image = axis.imshow(matrix, cmap=BLUES, norm=norm, interpolation="nearest")
            bare_matrix(axis)
            axis.set_title(wrapped(name, 24), fontsize=7)
            if self._named():
                self._name_cells(axis, part, matrix)
            else:
                mark_groups(axis, part)
        rows = ceil(len(names) / self._columns())
        bar = figure.colorbar(
            image,
            ax=axes,
            fraction=0.03,
            pad=0.01,
            aspect=30,
            shrink=0.9 / rows,
            anchor=(0, 1),
            ticks=[0, 1, 5, 10, 25, 50, 100],
        )
        bar.ax.set_yticklabels(["0", "1", "5", "10", "25", "50", "100"])
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.set_label(self.bar_label, fontsize=6.5)
        figure.supxlabel(self.column_word, fontsize=7)
        for axis in axes[:: grid_shape(len(axes), self._columns())[1]]:
            axis.set_ylabel(self.row_word)

    def _name_cells(self, axis: Axes, part: pd.DataFrame, matrix: np.ndarray) -> None:
        rows = [label(str(name), 14) for name in part.drop_duplicates("row")["row_name"]]
        slanted = max(map(len, rows)) > 3
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xticks(
            range(len(rows)),
            rows,
            rotation=45 if slanted else 0,
            ha="right" if slanted else "center",
            rotation_mode="anchor",
        )
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value) and value >= 0.5:
                color = "white" if value > 30 else INK
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=5.2, color=color)

    def caption(self) -> str:
        frame = self.frame()
        if self._named():
            return (
                self.caption_start()
                + " Classes are sorted from the most to the least frequent; cells under 0.5 % are left blank."
            )
        bins = int(frame["row"].max()) + 1
        return (
            self.caption_start()
            + f" Classes are sorted from the most to the least frequent and joined in {bins} bins; dashed lines mark "
            "the borders of the groups."
        )

    def caption_start(self) -> str:
        raise NotImplementedError

    def alt(self) -> str:
        frame = self.frame()
        parts = []
        for name, part in frame.groupby("method", sort=False):
            diagonal = part[part["row"] == part["column"]].sort_values("row")["percent"].dropna()
            parts.append(
                f"{name} from {diagonal.iloc[0]:.0f} (most frequent) to {diagonal.iloc[-1]:.0f} (least frequent)"
            )
        return f"{self.title}: percent on the diagonal, {'; '.join(parts)}."


def bin_name(classes: pd.DataFrame, places: np.ndarray) -> str:
    """The class's own name, or the ranks a bin covers."""
    if len(places) == 1 and len(classes) <= NAMED_CLASSES:
        return str(classes["class"].iloc[int(places[0])])
    return f"ranks {places[0] + 1}–{places[-1] + 1}"


def bin_group(classes: pd.DataFrame, places: np.ndarray) -> str:
    """The group of most of a bin's classes."""
    return str(classes["group"].iloc[places].mode().iloc[0])


def mark_groups(axis: Axes, part: pd.DataFrame) -> None:
    """Group names as tick labels in the middle of their bins, with thin lines at the borders."""
    groups = part.drop_duplicates("row").set_index("row")["row_group"]
    if (groups == "").all():
        for ticks, labels in ((axis.set_xticks, ["most", "least"]), (axis.set_yticks, ["most", "least"])):
            ticks([0, len(groups) - 1], labels)
        return
    spans = [(group, list(rows.index)) for group, rows in groups.groupby(groups, sort=False)]
    centres = [float(np.mean(rows)) for _, rows in spans]
    names = [str(group) for group, _ in spans]
    axis.set_xticks(centres, names)
    axis.set_yticks(centres, names, rotation=90, va="center")
    for _, rows in spans[1:]:
        for line in (axis.axvline, axis.axhline):
            line(rows[0] - 0.5, color=MUTED, linewidth=0.6, linestyle=(0, (2, 2)))


class ClassConfusion(MatrixChart):
    """Class confusion, as classes when they are few and as frequency bins when they are many."""

    stem = "class_confusion"
    title = "Class confusion, sorted by frequency"
    row_word = "true class"
    column_word = "predicted class"
    bar_label = "share of the true classes' samples (%)"

    def matrices(self, bin_C: np.ndarray, bins: int) -> dict[str, np.ndarray]:
        return {
            method.name: np.mean([joint_shares(run, bin_C, bins) for run in method.runs], axis=0)
            for method in self.methods
        }

    def caption_start(self) -> str:
        return "Share of the test samples of the true class (row) that are predicted as the class of the column."
