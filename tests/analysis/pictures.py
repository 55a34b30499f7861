"""What the tests ask of a picture: nothing clipped, nothing on top of anything else, no word too small."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tailmatch.analysis.charts.base import Chart, chart_style
from tailmatch.analysis.style import SMALLEST


def laid_out(chart: Chart) -> Figure:
    figure = chart.plot()
    FigureCanvasAgg(figure)
    with chart_style():
        figure.draw_without_rendering()
    return figure


def tick_labels(figure: Figure) -> list[list[Text]]:
    """Per axis, the tick labels inside its limits; matplotlib keeps spare ones outside, which are not drawn."""
    found = []
    for axis in figure.axes:
        for which, (low, high) in ((axis.xaxis, sorted(axis.get_xlim())), (axis.yaxis, sorted(axis.get_ylim()))):
            inside = [tick for tick in which.get_major_ticks() if low <= tick.get_loc() <= high]
            found.append([tick.label1 for tick in inside if tick.label1.get_visible() and tick.label1.get_text()])
    return found


def furniture(figure: Figure) -> list[tuple[str, Bbox]]:
    """Titles, axis labels and legends: what must keep its own place."""
    texts = [text for axis in figure.axes for text in (axis._left_title, axis.xaxis.label, axis.yaxis.label)]  # type: ignore[attr-defined]
    texts += [text for text in (figure._supxlabel, figure._supylabel) if text is not None]  # type: ignore[attr-defined]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    return boxes + [("legend", legend.get_window_extent()) for legend in figure.legends]


def assert_inside(figure: Figure, stem: str) -> None:
    """Every text that is drawn lies on the page."""
    drawn = {id(label) for labels in tick_labels(figure) for label in labels}
    ticks = [tick for axis in figure.axes for which in (axis.xaxis, axis.yaxis) for tick in which.majorTicks]
    spare = {id(label) for tick in ticks for label in (tick.label1, tick.label2)} - drawn
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in spare:
            box = text.get_window_extent()
            outside = max(-box.x0, -box.y0, box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1)
            assert outside < 1, (stem, text.get_text())


def assert_apart(figure: Figure, stem: str) -> None:
    """Titles, labels and legends do not touch, nor do the tick labels of an axis."""
    groups = [furniture(figure)]
    for labels in tick_labels(figure):
        groups.append([(one.get_text(), one.get_window_extent()) for one in labels if one.get_rotation() in (0, 90)])
    for boxes in groups:
        for (name, box), (other_name, other) in combinations(boxes, 2):
            assert not Bbox.intersection(box, other), (stem, name, other_name)


def assert_readable(figure: Figure, stem: str) -> None:
    for text in figure.findobj(Text):
        assert not text.get_text().strip() or text.get_fontsize() >= SMALLEST, (stem, text.get_text())
