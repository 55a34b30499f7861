"""report.html: everything the analysis found, in one file that needs no network and no server.

The page is rendered from a `Report`, which holds words, numbers and file names and knows nothing of runs. Jinja
escapes every value, so a class called `<script>` is shown and not run; a content security policy with the hashes of
our own two scripts makes sure of it, and forbids the page to fetch anything.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tailmatch import __version__
from tailmatch.analysis.figures import DrawnFigure
from tailmatch.analysis.table import Table

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
class ReportSection:
    """What the page says of runs that can be compared, in its order."""

    title: str
    slug: str = "results"
    facts: Sequence[tuple[str, str]] = ()
    verdicts: Sequence[Verdict] = ()
    main_table: Table | None = None
    remarks: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[DrawnFigure] = ()
    missing_figures: Sequence[tuple[str, str]] = ()
    configuration: Table | None = None
    shared_configuration: Sequence[tuple[str, str]] = ()
    runs: Table | None = None
    environment: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole page: one section for each data set and protocol."""

    title: str
    sections: Sequence[ReportSection] = ()
    problems: Sequence[str] = ()


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


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A section as the template needs it."""

    content: ReportSection
    prefix: str
    """Of the ids in it, which several sections would else share."""
    pictures: Sequence[_Picture]
    parts: Sequence[tuple[str, str]]
    """(id, title) of what it holds, for the contents."""


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
    several = len(report.sections) > 1
    sections = [_placed(section, folder, f"{section.slug}-" if several else "") for section in report.sections]
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report, sections=sections, css=css, script=script, early_script=early, policy=Markup(policy),
        version=__version__,
    )  # fmt: skip


def _placed(content: ReportSection, folder: Path, prefix: str) -> _Placed:
    pictures = [_picture(figure, folder) for figure in content.figures]
    parts = {
        "summary": content.verdicts or content.main_table,
        "figures": pictures or content.missing_figures,
        "tables": content.tables,
        "configuration": content.configuration,
        "runs": content.runs,
        "environment": content.environment,
    }
    named = [(id, id.capitalize()) for id, filled in parts.items() if filled]
    return _Placed(content=content, prefix=prefix, pictures=pictures, parts=named)


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
