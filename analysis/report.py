"""report.html: everything the analysis found, in one file that needs no network and no server.

The page is rendered from a `Report`, which holds words, numbers and file names and knows nothing of runs. Jinja
escapes every value, so a class called `<script>` is shown and not run; a content security policy with the hashes of
our own two scripts makes sure of it, and forbids the page to fetch anything.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tailmatch import __version__
from tailmatch.analysis.figures import DrawnFigure

HERE = Path(__file__).parent
LARGEST_SVG_BYTES = 300_000
"""Above this a picture goes in as PNG: vectors of a thousand classes would make the page slow to open."""
EARLY_SCRIPT = (
    'try{const t=localStorage.getItem("tailmatch-theme");'
    'if(t==="dark"||t==="light")document.documentElement.dataset.theme=t}catch{}'
)
"""Runs before anything is drawn, so that a dark page does not flash white."""
MARKS = {"best": "★", "better": "▲", "worse": "▼", "level": "≈", "open": "?"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One sentence of the summary; `kind` is best, better, worse, level (cannot be told apart) or open (one seed)."""

    text: str
    kind: str = "level"

    @property
    def unbroken(self) -> str:
        """The text with its percent signs held to their numbers."""
        return self.text.replace(" %", "\N{NO-BREAK SPACE}%")

    @property
    def mark(self) -> str:
        return MARKS[self.kind]


@dataclass(frozen=True, kw_only=True)
class Column:
    title: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell shows, and what it is sorted by (empty for a missing value, which sorts last)."""

    text: str
    sort: str = ""
    best: bool = False
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    cells: Sequence[Cell]
    published: bool = False
    """Whether the numbers come from a paper and not from a run here."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report; the first column names the rows."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of a report, in the order of the page."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    verdicts: Sequence[Verdict] = ()
    main_table: Table | None = None
    remarks: Sequence[str] = ()
    problems: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[DrawnFigure] = ()
    missing_figures: Sequence[tuple[str, str]] = ()
    configuration: Table | None = None
    shared_configuration: Sequence[tuple[str, str]] = ()
    runs: Table | None = None
    environment: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = field(default=())


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A figure as the template needs it."""

    stem: str
    title: str
    caption: str
    alt: str
    wide: bool
    source: Markup
    width_px: int
    height_px: int
    links: Sequence[tuple[str, str]]


def write_report(report: Report, path: Path) -> Path:
    """Write the page; its links to figures' files are relative to the page's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report, path.parent), encoding="utf-8")
    return path


def render(report: Report, folder: Path) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    css, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    early = Markup(EARLY_SCRIPT)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(script)} {_hash(early)}; "
        "base-uri 'none'; form-action 'none'"
    )
    pictures = [_picture(figure, folder) for figure in report.figures]
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report, pictures=pictures, css=css, script=script, early_script=early, policy=Markup(policy),
        version=__version__,
    )  # fmt: skip


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _picture(figure: DrawnFigure, folder: Path) -> _Picture:
    svg = figure.svg.read_bytes()
    small = len(svg) <= LARGEST_SVG_BYTES
    kind, data = ("svg+xml", svg) if small else ("png", figure.png.read_bytes())
    links = [(path.suffix[1:].upper(), relative_link(path, folder)) for path in figure.files]
    return _Picture(
        stem=figure.stem, title=figure.title, caption=figure.caption, alt=figure.alt, wide=figure.width > 5,
        source=Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}"),
        width_px=round(96 * figure.width), height_px=round(96 * figure.height), links=links,
    )  # fmt: skip


def relative_link(target: Path, folder: Path) -> str:
    """A link that survives moving the report together with what it points to."""
    try:
        relative = os.path.relpath(target.resolve(), folder.resolve())
    except ValueError:  # another drive on Windows: no relative path exists
        return target.resolve().as_uri()
    # "./" keeps a folder named like "javascript:x" from being read as an address.
    return "./" + quote(Path(relative).as_posix())


def table_from_frame(
    frame: pd.DataFrame,
    *,
    id: str,
    title: str,
    note: str = "",
    decimals: int = 1,
    best: dict[str, str] | None = None,
    published: str | None = None,
) -> Table:
    """A table from a data frame whose first column names the rows.

    Args:
        decimals: of floating-point columns.
        best: columns whose best value is set off, by `max` or `min`; published rows do not compete.
        published: name of a boolean column, not shown itself, that says which rows come from papers.
    """
    paper = frame[published].to_numpy(dtype=bool) if published else np.zeros(len(frame), dtype=bool)
    shown = frame.drop(columns=[published] if published else [])
    columns = [Column(title=str(name), numeric=_is_numeric(shown[name])) for name in shown]
    winners: dict[str, float] = {}
    for name, way in (best or {}).items():
        values = shown.loc[~paper, name].astype(float)
        if name in shown and values.notna().sum() > 1:
            winners[name] = float(values.max() if way == "max" else values.min())
    rows = []
    for place, (_, record) in enumerate(shown.iterrows()):
        cells = [cell(record[name], decimals, None if paper[place] else winners.get(str(name))) for name in shown]
        rows.append(Row(cells=cells, published=bool(paper[place])))
    return Table(id=id, title=title, note=note, columns=columns, rows=rows)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def cell(value: object, decimals: int = 1, winner: float | None = None) -> Cell:
    """A cell for a value: numbers rounded, missing ones as n/a, a `Cell` as it is."""
    if isinstance(value, Cell):
        return value
    if value is None or (isinstance(value, (float, np.floating)) and not np.isfinite(value)):
        return Cell(text="n/a")
    if isinstance(value, (float, np.floating)):
        # Ties in what is printed are all the best: a reader cannot see more than the printed digits.
        is_best = winner is not None and f"{value:.{decimals}f}" == f"{winner:.{decimals}f}"
        return Cell(text=f"{value:.{decimals}f}".replace("-", "−"), sort=repr(float(value)), best=is_best)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return Cell(text=str(value), sort=str(value), best=winner is not None and float(value) == winner)
    return Cell(text=str(value), sort=str(value))
