"""Names in pictures: every class by its name, every curve's at its end, no spread where none is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import same_color
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text

from tailmatch.analysis.charts.accuracy import GroupAccuracy
from tailmatch.analysis.charts.base import NoData
from tailmatch.analysis.charts.calibration import FEWEST_SAMPLES, Reliability
from tailmatch.analysis.charts.classes import ClassAccuracy
from tailmatch.analysis.charts.labels import spread_out
from tailmatch.analysis.charts.matrices import ClassConfusion, by_similarity
from tailmatch.analysis.charts.thresholds import Thresholds
from tailmatch.analysis.charts.training import PseudoLabels, TrainingCurves
from tailmatch.analysis.charts.weights import WeightNorms
from tailmatch.analysis.runs import Method

from .pictures import laid_out, tick_labels
from .synthetic import long_tail_counts, write_run
from .test_charts_situations import all_charts, forty_classes, groups_and_none, read, without_groups, write

ANIMALS = ["ant", "bear", "cat", "dog", "eel", "fox"]


def animals(folder: Path, counts: list[int], **others: object) -> list[Method]:
    write(folder, "ce", "ikl", counts=counts, class_names=ANIMALS, task="ssl", **others)
    return read(folder)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.12))
def test_names_keep_apart_in_their_order_and_inside(heights: list[float], gap: float) -> None:
    places = spread_out(heights, gap)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(np.array(places)[order]) > gap - 1e-9).all()
    assert min(places) > -1e-9
    assert max(places) < 1 + 1e-9


def test_names_with_room_stay_where_they_are() -> None:
    assert spread_out([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])
    assert spread_out([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


@pytest.mark.parametrize("chart", [TrainingCurves, PseudoLabels])
def test_curves_are_named_at_their_ends(chart: type[TrainingCurves | PseudoLabels], tmp_path: Path) -> None:
    without_groups(tmp_path)
    methods = read(tmp_path)
    figure = laid_out(chart(methods))
    assert figure.legends == []
    last = figure.axes[-1]
    names = [text for text in last.texts if text.get_text() in {method.name for method in methods}]
    assert len(names) == 2
    ends = {line.get_ydata()[-1]: line.get_color() for line in last.lines}
    for name in names:  # the leader has its curve's colour and starts where the curve ends
        assert same_color(ends[name.xy[1]], name.arrow_patch.get_edgecolor())  # type: ignore[attr-defined]
        assert abs(name.get_window_extent().y0 - last.transData.transform(name.xy)[1]) < 30  # type: ignore[attr-defined]


def test_a_method_without_the_last_panel_brings_the_legend_back(tmp_path: Path) -> None:
    groups_and_none(tmp_path)
    figure = laid_out(TrainingCurves(read(tmp_path)))
    assert len(figure.legends) == 1


def test_forty_classes_keep_their_names(tmp_path: Path) -> None:
    forty_classes(tmp_path)
    methods = read(tmp_path)
    confusion = laid_out(ClassConfusion(methods))
    assert [len(labels) for labels in tick_labels(confusion)][1] == 40
    assert all(len(labels) in (0, 7, 40) for labels in tick_labels(confusion))
    accuracy = laid_out(ClassAccuracy(methods))
    assert len(tick_labels(accuracy)[-2]) == 40


def test_six_wide_matrices_are_four_and_the_caption_says_which_are_left_out(tmp_path: Path) -> None:
    for number in range(6):
        write_run(tmp_path / f"{number}", loss=f"l{number}", counts=long_tail_counts(40, 200, 20), tests_per_class=3)
    chart = ClassConfusion(read(tmp_path), "ce + l5")
    shown = set(chart.frame()["method"])
    assert len(shown) == 4
    assert "ce + l5" in shown
    assert {f"ce + l{n}" for n in range(6)} - shown == set(chart.caption().split("room: ")[1][:-1].split(", "))


def test_classes_are_called_by_name_from_whichever_run_knows_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", loss="ce", counts=[90, 40, 20, 10, 6, 3], class_names=())
    write_run(tmp_path / "b", loss="ikl", counts=[90, 40, 20, 10, 6, 3], class_names=ANIMALS)
    for chart in all_charts(read(tmp_path)):
        try:
            frame = chart.frame()
        except NoData:
            continue
        for column in ("class", "row_name"):
            if column in frame:
                assert set(frame[column].dropna()) == set(ANIMALS), chart.stem


def test_balanced_classes_are_sorted_by_accuracy_and_nothing_speaks_of_frequency(tmp_path: Path) -> None:
    chart = ClassAccuracy(animals(tmp_path, [4] * 6))
    figure = laid_out(chart)
    mean = chart.frame().groupby("class", sort=False)["value_percent"].mean()
    assert mean.is_monotonic_decreasing
    assert len(figure.axes) == 1
    assert chart.title == "Accuracy of every class"
    words = [chart.caption(), chart.alt(), *(text.get_text() for text in figure.findobj(Text))]
    assert not [word for word in words if "frequen" in word]
    names = [label.get_text() for label in tick_labels(figure)[0]]
    assert names == list(mean.index)


def test_balanced_thresholds_stand_by_class_name(tmp_path: Path) -> None:
    figure = laid_out(Thresholds(animals(tmp_path, [4] * 6)))
    assert [label.get_text() for label in tick_labels(figure)[2]] == ANIMALS


@pytest.mark.parametrize("counts", [[4] * 6, [90, 40, 20, 10, 6, 3]])
def test_no_line_joins_classes(counts: list[int], tmp_path: Path) -> None:
    methods = animals(tmp_path, counts)
    for kind in (ClassAccuracy, WeightNorms, Thresholds):
        try:
            figure = laid_out(kind(methods))
        except NoData:
            continue
        over_classes = [line for axis in figure.axes for line in axis.lines if len(line.get_xdata()) == 6]
        assert len(over_classes) == 2
        assert {line.get_linestyle() for line in over_classes} == {"None"}


def long_segments(axis: Axes) -> list[np.ndarray]:
    """What error bars are made of."""
    lines = [one for one in axis.collections if isinstance(one, LineCollection)]
    return [part for line in lines for part in line.get_segments() if np.ptp(part, axis=0).any()]


def test_one_seed_shows_no_spread(tmp_path: Path) -> None:
    write(tmp_path, "ce", "ikl", task="ssl")
    for chart in all_charts(read(tmp_path)):
        try:
            figure = laid_out(chart)
        except NoData:
            continue
        for axis in figure.axes:
            lines = [one for one in axis.collections if isinstance(one, LineCollection)]
            assert not [part for line in lines for part in line.get_segments() if np.ptp(part, axis=0).any()], (
                chart.stem
            )
            assert not [one for one in axis.containers if isinstance(one, ErrorbarContainer) and one.has_xerr]
            assert not [one for one in axis.collections if isinstance(one, PolyCollection) and one.get_alpha()]
        assert "deviation" not in chart.caption(), chart.stem


def test_seeds_show_their_spread(tmp_path: Path) -> None:
    """The test above sees what it looks for."""
    write(tmp_path, "ce", "ikl", seeds=3)
    figure = laid_out(ClassAccuracy(read(tmp_path)))
    assert any(long_segments(axis) for axis in figure.axes)
    bars = [one for axis in laid_out(GroupAccuracy(read(tmp_path))).axes for one in axis.containers]
    assert any(isinstance(one, ErrorbarContainer) and one.has_xerr for one in bars)


def reliability(folder: Path) -> list[Method]:
    """Six hundred sure samples, three unsure ones."""
    folder.mkdir()
    labels = np.zeros(603, np.int64)
    logits = np.tile(np.array([3.0, 0.0], np.float32), (603, 1))
    logits[600:] = (0.9, 0.0)
    logits[::5] = logits[::5, ::-1]
    np.savez(folder / "a.npz", labels=labels, logits=logits, train_class_counts=np.array([5, 5]))
    return read(folder)


def test_a_bin_of_few_samples_is_open_and_on_no_line(tmp_path: Path) -> None:
    chart = Reliability(reliability(tmp_path / "runs"))
    frame = chart.frame()
    assert frame["samples"].min() < FEWEST_SAMPLES < frame["samples"].max()
    assert frame["share_percent"].sum() == pytest.approx(100)
    axis = laid_out(chart).axes[0]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    few = frame[frame["samples"] < FEWEST_SAMPLES]
    assert sorted(x for line in hollow for x in line.get_xdata()) == pytest.approx(sorted(few["confidence_percent"]))
    assert all(line.get_linestyle() == "None" for line in hollow)
    joined = [line for line in axis.lines if line.get_linestyle() == "-" and line not in hollow]
    drawn = [x for line in joined for x in line.get_xdata()]
    assert sorted(drawn) == pytest.approx(sorted(frame[frame["samples"] >= FEWEST_SAMPLES]["confidence_percent"]))


def test_confused_classes_become_neighbours(tmp_path: Path) -> None:
    tmp_path.joinpath("runs").mkdir()
    classes, labels = 80, np.repeat(np.arange(80), 4)
    partner = (labels + 40) % classes  # every class is half the time taken for the one 40 further
    predictions = np.where(np.arange(len(labels)) % 2, labels, partner)
    counts = np.full(classes, 4)
    np.savez(tmp_path / "runs" / "a.npz", labels=labels, predictions=predictions, train_class_counts=counts)
    methods = read(tmp_path / "runs")
    place = np.argsort(by_similarity(methods))
    assert (np.abs(place[:40] - place[40:]) == 1).all()
    frame = ClassConfusion(methods).frame()
    np.testing.assert_allclose(frame.loc[frame["row"] == frame["column"], "percent"], 100)


SITUATIONS: tuple[Callable[[Path], None], ...] = (without_groups, groups_and_none)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_axes_of_accuracy_name_the_data_set(situation: Callable[[Path], None], tmp_path: Path) -> None:
    situation(tmp_path)
    for kind in (GroupAccuracy, ClassAccuracy):
        figure = laid_out(kind(read(tmp_path)))
        assert any("accuracy on digits" in text.get_text() for text in figure.findobj(Text))
