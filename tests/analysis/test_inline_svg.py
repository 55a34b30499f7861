"""Charts as a part of the page: under its policy, in its theme, and still whole."""

import re
from io import StringIO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tailmatch.analysis.charts.base import chart_style
from tailmatch.analysis.inline_svg import PAGE_COLORS, ChartSheet, in_the_dark
from tailmatch.analysis.style import DATA_COLORS, INK, MUTED

HOSTILE = "<script>alert(1)</script>\"'& #c0ffee"
DARK_CARD = PAGE_COLORS["#ffffff"]


def drawing(title: str = HOSTILE) -> str:
    """Everything that matplotlib writes in a way of its own: clips, hatches, pixels, markers, words."""
    with chart_style(), mpl.rc_context({"svg.fonttype": "none"}):
        figure = Figure(figsize=(3, 2))
        axis = figure.subplots()
        axis.imshow(np.eye(3))
        axis.plot([0, 1, 2], "o-", color="#0072B2", label=title)
        axis.barh(1, 2, hatch="////", color="#D55E00")
        axis.set_title(title)
        axis.set_ylabel("height")
        axis.legend()
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def test_a_chart_needs_no_style_attribute_and_nothing_from_elsewhere() -> None:
    sheet = ChartSheet()
    markup = sheet.inline(drawing(), "one-", HOSTILE)
    root = ElementTree.fromstring(markup)  # it is well formed, hostile names included
    assert "script" not in {element.tag for element in root.iter()}
    attributes = [(name, value) for element in root.iter() for name, value in element.attrib.items()]
    assert "style" not in {name for name, _ in attributes}
    assert all(value.startswith(("#one-", "data:image/png;base64,")) for name, value in attributes if name == "href")
    assert root.attrib["aria-label"] == HOSTILE
    assert HOSTILE in {element.text for element in root.iter("text")}
    classes = {name for key, value in attributes if key == "class" for name in value.split()}
    assert classes - {"chart"} <= set(re.findall(r"\.(c\d+)\{", sheet.rules()))


def test_what_a_chart_refers_to_is_in_it_and_no_other_has_its_ids() -> None:
    sheet = ChartSheet()
    charts = [sheet.inline(drawing(), f"{name}-", "") for name in ("one", "two")]
    ids = [set(re.findall(r' id="([^"]+)"', chart)) for chart in charts]
    assert ids[0]
    assert not ids[0] & ids[1]
    for chart, own in zip(charts, ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', chart)) <= own
    patterns = set(re.findall(r"url\(#([^)]+)\)", sheet.rules()))
    assert patterns <= ids[0] | ids[1]
    assert len(patterns) == 2


def test_every_colour_is_a_variable_of_both_themes() -> None:
    sheet = ChartSheet()
    sheet.inline(drawing(), "one-", "")
    used = set(re.findall(r"var\(--c-([0-9a-f]{6})\)", sheet.rules()))
    assert {"0072b2", "d55e00", INK[1:]} <= used
    assert not re.search(r":#[0-9a-f]{6}", sheet.rules())
    light, chosen, preferred = sheet.themes().splitlines()
    for color in used:
        assert f"--c-{color}:#{color};" in light
        assert f"--c-{color}:{in_the_dark('#' + color)};" in chosen
        assert f"--c-{color}:{in_the_dark('#' + color)};" in preferred
    assert "screen" in chosen  # printing is on white paper
    assert "screen" in preferred


def luminance(color: str) -> float:
    values = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_ink_is_the_pages_ink_and_data_keep_their_colours() -> None:
    assert contrast(in_the_dark(INK), DARK_CARD) > 12
    assert contrast(in_the_dark(MUTED), DARK_CARD) > 4.5
    for color in DATA_COLORS:
        assert in_the_dark(color) == color
        assert min(contrast(color, DARK_CARD), contrast(color, "#ffffff")) >= 3


def test_it_is_smaller_than_the_file_on_disk() -> None:
    text = drawing()
    assert len(ChartSheet().inline(text, "", "")) < 0.6 * len(text)
