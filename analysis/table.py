"""A table as the report shows it and as it is written in Markdown, LaTeX and plain text: words, without any markup."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Column:
    title: str
    numeric: bool = False
    pictures: bool = False
    """Whether its cells hold pictures, which tables in words leave out."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell shows, and what it is sorted by (empty for a missing value, which sorts last)."""

    text: str
    sort: str = ""
    best: bool = False
    picture: str = ""
    """A data address."""


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

    def in_words(self) -> "Table":
        """The same without columns of pictures."""
        kept = [place for place, column in enumerate(self.columns) if not column.pictures]
        rows = [replace(row, cells=[row.cells[place] for place in kept]) for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in kept], rows=rows)


def table_from_frame(frame: pd.DataFrame, *, id: str, title: str, note: str = "", decimals: int = 1) -> Table:
    """A table from a data frame whose first column names the rows.

    Args:
        decimals: of floating-point columns.
    """
    columns = [Column(title=str(name), numeric=_is_numeric(frame[name])) for name in frame]
    rows = [Row(cells=[cell(record[name], decimals) for name in frame]) for _, record in frame.iterrows()]
    return Table(id=id, title=title, note=note, columns=columns, rows=rows)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def cell(value: object, decimals: int = 1) -> Cell:
    """A cell for a value: numbers rounded, missing ones as n/a, a `Cell` as it is."""
    if isinstance(value, Cell):
        return value
    if value is None or (isinstance(value, (float, np.floating)) and not np.isfinite(value)):
        return Cell(text="n/a")
    if isinstance(value, (float, np.floating)):
        return Cell(text=f"{value:.{decimals}f}".replace("-", "−"), sort=repr(float(value)))
    return Cell(text=str(value), sort=str(value))


def unique_best(values: Sequence[float], decimals: int, *, highest: bool = True) -> int | None:
    """The place of the best value; None where others print the same, or where there is nothing to compare.

    A reader cannot see more than the printed digits, and what is printed alike should not be set off from its like.
    """
    finite = [value for value in values if np.isfinite(value)]
    if len(finite) < 2:
        return None
    best = f"{(max if highest else min)(finite):.{decimals}f}"
    places = [place for place, value in enumerate(values) if f"{value:.{decimals}f}" == best]
    return places[0] if len(places) == 1 else None
