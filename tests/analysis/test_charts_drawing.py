"""The pictures: no label clipped or on another, paper width, the same bytes twice, any name, nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tailmatch.analysis.charts.accuracy import GroupAccuracy
from tailmatch.analysis.charts.base import Chart, NoData
from tailmatch.analysis.charts.difference import Differences
from tailmatch.analysis.compare import PairedBootstrap
from tailmatch.analysis.figures import CHARTS, write_figures
from tailmatch.analysis.methods import group_runs
from tailmatch.analysis.reading import read_runs
from tailmatch.analysis.runs import Method

from .pictures import assert_apart, assert_inside, laid_out
from .synthetic import long_tail_counts, write_run

HOSTILE = ["a$b_{c}$", "<script>alert(1)</script>", "line\nbreak\ttab", "x" * 80, "日本語", "%s %d {0}", "_hidden", "é"]


def read(folder: Path) -> list[Method]:
    return group_runs(read_runs([folder])[0])


def long_tailed(folder: Path) -> list[Method]:
    for seed in (0, 1):
        write_run(folder / f"ce-{seed}", method="ce", seed=seed, tail_skill=0.1)
        for loss in ("kl", "ikl"):
            write_run(
                folder / f"{loss}-{seed}", method="distill", loss=loss, seed=seed, teacher=True, class_means=True,
                class_names=["aeroplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry"],
            )  # fmt: skip
    return read(folder)


def semi_supervised(folder: Path) -> list[Method]:
    for loss in ("ce", "ikl", "gkl"):
        write_run(
            folder / loss,
            task="ssl",
            method="fixmatch",
            loss=loss,
            counts=long_tail_counts(100, 500, 100),
            tests_per_class=10,
        )
    return read(folder)


def balanced(folder: Path) -> list[Method]:
    for loss in ("ce", "ikl"):
        write_run(folder / loss, task="ssl", method="fixmatch", loss=loss, counts=[4] * 10)
    return read(folder)


def single(folder: Path) -> list[Method]:
    return read(write_run(folder / "only", teacher=True, class_means=True))


def thousand(folder: Path) -> list[Method]:
    counts = long_tail_counts(1000, 1280, 256)
    for loss in ("ce", "kl", "ikl", "gkl"):
        write_run(
            folder / loss, loss=loss, method="distill", counts=counts, tests_per_class=2, half=True, teacher=True,
            class_means=True,
        )  # fmt: skip
    return read(folder)


def many_methods(folder: Path) -> list[Method]:
    for number in range(11):
        write_run(folder / f"{number}", method=f"a_long_method_name_{number}", loss=f"and_a_loss_{number}")
    return read(folder)


SCENES = (long_tailed, semi_supervised, balanced, single, thousand, many_methods)


def charts_of(methods: list[Method]) -> list[Chart]:
    """Every chart that has data, with differences where there are two methods."""
    reference = methods[0].name if len(methods) > 1 else None
    differences = []
    if reference:
        bootstrap = PairedBootstrap(methods, methods[0].groups, np.random.default_rng(0), 50)
        differences = [one for method in methods[1:] for one in bootstrap.difference(method.name, reference)]
    charts = [
        Differences(methods, reference, differences) if kind is Differences else kind(methods, reference)
        for kind in CHARTS
    ]
    return [chart for chart in charts if has_data(chart)]


def has_data(chart: Chart) -> bool:
    try:
        chart.frame()
    except NoData:
        return False
    return True


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_nothing_is_clipped_overlapping_or_empty(scene: Callable[[Path], list[Method]], tmp_path: Path) -> None:
    charts = charts_of(scene(tmp_path))
    assert len(charts) >= 8
    for chart in charts:
        figure = laid_out(chart)
        assert_inside(figure, chart.stem)
        assert_apart(figure, chart.stem)
        for axis in figure.axes:
            if axis.get_label() != "<colorbar>":
                box = axis.get_window_extent()
                assert axis.has_data(), chart.stem
                assert min(box.width, 4 * box.height) > 60, (chart.stem, box)


def test_the_checks_above_see_a_clipped_and_a_covered_label() -> None:
    figure = Figure(figsize=(2, 2))
    axis = figure.subplots()
    axis.set_xlabel("a label far too long for a figure of two inches")
    FigureCanvasAgg(figure)
    with pytest.raises(AssertionError, match="far too long"):
        assert_inside(figure, "")
    axis.set_xticks([0, 0.01], ["one", "other"])
    with pytest.raises(AssertionError, match="other"):
        assert_apart(figure, "")


def test_pictures_and_tables_are_written_at_paper_width(tmp_path: Path) -> None:
    methods = single(tmp_path / "runs")
    figures = write_figures(methods, tmp_path / "figures")
    assert {figure.stem for figure in figures.drawn} >= {"group_accuracy", "teacher_agreement", "class_means"}
    assert dict(figures.missing)["Pseudo-labels by class group"] == "no run logged pseudo-labels"
    for figure in figures.drawn:
        assert figure.width in (3.3, 6.9)
        with Image.open(figure.png) as picture:
            assert picture.size == pytest.approx((200 * figure.width, 200 * figure.height), abs=1)
        assert figure.svg.read_text().startswith("<?xml")
        assert figure.pdf.read_bytes().startswith(b"%PDF")
        assert len(pd.read_csv(figure.csv)) > 0
        assert figure.caption.endswith(".")
        assert "ce" in figure.alt
        assert "nan" not in figure.alt


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    chart = GroupAccuracy(long_tailed(tmp_path / "runs"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = chart.save(tmp_path / "a"), chart.save(tmp_path / "b")
    for ending in ("png", "svg", "pdf", "csv"):
        assert first[ending].read_bytes() == second[ending].read_bytes(), ending


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE[:4]):
        write_run(
            tmp_path / f"run {number}", method=name, class_names=[*HOSTILE, "", "ok"], class_means=True, teacher=True
        )
    methods = read(tmp_path)
    assert len(methods) == 4
    for chart in charts_of(methods):
        laid_out(chart)


def test_a_chart_draws_only_its_table(tmp_path: Path) -> None:
    chart = GroupAccuracy(long_tailed(tmp_path))
    chart.frame()["accuracy_percent"] = 12.5
    chart.frame()["std_percent"] = np.nan
    bars = [bar.get_width() for axis in chart.plot().axes for bar in axis.patches]  # type: ignore[attr-defined]
    assert set(bars) == {12.5}


def test_drawing_leaves_the_callers_matplotlib_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    laid_out(charts_of(single(tmp_path))[0])
    assert dict(mpl.rcParams) == before


def test_a_method_has_the_same_colour_in_every_chart(tmp_path: Path) -> None:
    methods = long_tailed(tmp_path)
    styles = [chart.styles for chart in charts_of(methods)]
    assert all(one == styles[0] for one in styles)
