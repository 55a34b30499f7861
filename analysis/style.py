"""How every chart looks: paper column widths, one colour per method, and the same font on every machine.

Colours are Okabe and Ito's (2008) set for colour-blind readers, without its yellow, which white paper swallows. A
method keeps its colour, marker and line in all charts of one report, so a reader learns them once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SINGLE_COLUMN = 3.3
"""Width in inches of one column of a two-column paper."""
DOUBLE_COLUMN = 6.9
"""Width in inches of the text block of a two-column paper."""

INK = "#1f2328"
MUTED = "#6b7280"
GRID = "#e3e6ea"
AREA = "#d5dae1"
REFERENCE = "#4b5563"

_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_HATCHES = ("", "//////", "......")

GROUP_TITLES = {"all": "All", "many": "Many-shot", "medium": "Medium-shot", "few": "Few-shot"}

RC: dict[str, Any] = {
    # DejaVu Sans travels with matplotlib: any other family would make the figures differ between machines.
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Method and class names are not mathematics: a name such as "a$b" must print as it is.
    "text.parse_math": False,
    # Without a salt matplotlib numbers the clip paths at random, and the same data would give another file.
    "svg.hashsalt": "tailmatch",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, kw_only=True)
class MethodStyle:
    """One method's look in every chart."""

    color: str
    marker: str
    line: Any
    hatch: str
    face: str
    """Inside of the marker: white after the first lap of hues, so that two markers of one hue still differ."""


def method_styles(names: Sequence[str], reference: str | None = None) -> dict[str, MethodStyle]:
    """A look for each method, in the order given; the reference is grey, so that the others stand out against it.

    After seven hues the set starts again with dashed lines, hatched bars and open markers.
    """
    styles: dict[str, MethodStyle] = {}
    position = 0
    for name in dict.fromkeys(names):
        if name == reference:
            styles[name] = MethodStyle(color=REFERENCE, marker="o", line="-", hatch="", face=REFERENCE)
            continue
        lap, place = divmod(position, len(_HUES))
        styles[name] = MethodStyle(
            color=_HUES[place],
            marker=_MARKERS[place],
            line=_LINES[lap % len(_LINES)],
            hatch=_HATCHES[lap % len(_HATCHES)],
            face="white" if lap % 2 else _HUES[place],
        )
        position += 1
    return styles


def shorten(name: str, limit: int = 26) -> str:
    """A name cut in the middle, where two long names tell apart best by their ends."""
    if len(name) <= limit:
        return name
    kept = limit - 1
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def one_line(name: str) -> str:
    """A name without line breaks and control characters, which would break a label."""
    return " ".join("".join(character if character.isprintable() else " " for character in name).split())
