"""Colours that are legible on white and on near-black, and charts that use no other."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tailmatch.analysis.charts.base import HEAT_MAP, NoData
from tailmatch.analysis.charts.teacher import OUTCOMES
from tailmatch.analysis.style import DATA_COLORS, HEAT, INK, PAPER, THEME, method_styles

from .test_charts_situations import all_charts, hundred_classes, logged_once, read, seeds_and_a_teacher

WHITE, NEAR_BLACK, LIGHT_INK = "#ffffff", "#171c23", "#e6e9ee"
# How the eyes of people without red or green cones mix linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "usual": np.eye(3),
    "deuteranope": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanope": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def linear(color: str) -> np.ndarray:
    share = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of relative luminances."""
    dark, light = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) + 0.05 for color in (one, other))
    return light / dark


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def over(color: str, ground: str, alpha: float) -> str:
    mixed = [alpha * int(color[at : at + 2], 16) + (1 - alpha) * int(ground[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(value):02x}" for value in mixed)


def test_contrast_by_the_standards_own_examples() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("color", [*DATA_COLORS, *OUTCOMES.values()])
@pytest.mark.parametrize("ground", [WHITE, NEAR_BLACK])
def test_data_is_legible_on_light_and_dark(color: str, ground: str) -> None:
    assert contrast(color, ground) >= 3


@pytest.mark.parametrize("eyes", EYES)
def test_methods_differ_for_colour_blind_readers_too(eyes: str) -> None:
    colors = {style.color for style in method_styles([f"m{i}" for i in range(8)], "m7").values()}
    assert len(colors) == 8
    seen = [lab(np.asarray(EYES[eyes]) @ linear(color)) for color in colors]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 12


@pytest.mark.parametrize(("ground", "ink"), [(WHITE, INK), (NEAR_BLACK, LIGHT_INK)])
def test_words_are_legible_on_every_cell_of_a_matrix(ground: str, ink: str) -> None:
    assert HEAT_MAP(0.0)[3] == 0
    assert HEAT_MAP(1.0)[3] == 1
    assert min(contrast(ink, over(HEAT, ground, share)) for share in np.linspace(0, 1, 21)) >= 3


def test_pictures_use_the_colours_of_the_page_and_of_data_alone(tmp_path: Path) -> None:
    known = {*THEME, *DATA_COLORS, *OUTCOMES.values()}
    for situation in (seeds_and_a_teacher, hundred_classes, logged_once):
        runs = tmp_path / situation.__name__
        situation(runs)
        for chart in all_charts(read(runs)):
            try:
                svg = chart.save(tmp_path)["svg"].read_text()
            except NoData:
                continue
            assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) <= known, chart.stem
            # Black is what matplotlib and browsers take where nothing is said, and would vanish on a dark page.
            assert not re.search(r"(fill|stroke): (black|white)", svg)
            # No ground of its own: the first patch is the figure's.
            assert re.search(r'id="patch_1">\s*<path[^>]*style="fill: none', svg), chart.stem
            assert INK in svg


def test_theme_colours_are_distinct_from_data() -> None:
    assert not set(THEME) & {*DATA_COLORS, *OUTCOMES.values()}
    assert PAPER in THEME
    assert len(set(THEME.values())) == len(THEME)
