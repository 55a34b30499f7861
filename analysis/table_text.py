"""Tables as Markdown, as LaTeX and as plain text for the terminal; names are escaped, the best values set off."""

from collections.abc import Sequence

from tailmatch.analysis.table import Cell, Row, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": "$-$", "–": "--", "→": r"$\to$", "τ": r"$\tau$", "…": r"\ldots{}",
}  # fmt: skip
_MARKDOWN = {mark: f"\\{mark}" for mark in "\\|*_`<[]#"}


def to_markdown(table: Table) -> str:
    """A pipe table with its title above, as GitHub renders it."""
    table = table.in_words()
    heads = [_escaped(column.title, _MARKDOWN) for column in table.columns]
    rules = ["---:" if column.numeric else ":---" for column in table.columns]
    rows = [[_markdown_cell(cell, row, first=place == 0) for place, cell in enumerate(row.cells)] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    note = f" {_escaped(table.note, _MARKDOWN)}" if table.note else ""
    return "\n".join([f"**{_escaped(table.title, _MARKDOWN)}**{note}", "", *lines, ""])


def to_latex(table: Table) -> str:
    r"""A `tabular` with booktabs' rules, in a `table` with caption and label."""
    table = table.in_words()
    columns = "".join("r" if column.numeric else "l" for column in table.columns)
    heads = " & ".join(_escaped(column.title, _LATEX) for column in table.columns)
    rows = []
    for place, row in enumerate(table.rows):
        if row.published and place and not table.rows[place - 1].published:
            rows.append(r"\midrule")
        cells = [_latex_cell(cell, row, first=position == 0) for position, cell in enumerate(row.cells)]
        rows.append(" & ".join(cells) + r" \\")
    note = f" {_escaped(table.note, _LATEX)}" if table.note else ""
    lines = [
        r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering",
        rf"\caption{{{_escaped(table.title, _LATEX)}{note}}}", rf"\label{{tab:{table.id}}}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", heads + r" \\", r"\midrule", *rows, r"\bottomrule",
        r"\end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def to_text(table: Table) -> str:
    """Aligned columns for a terminal; the best values carry a star, published rows say so."""
    table = table.in_words()
    heads = [column.title for column in table.columns]
    rows = [[_text_cell(cell, row, first=place == 0) for place, cell in enumerate(row.cells)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    numeric = [column.numeric for column in table.columns]
    lines = [_aligned(cells, widths, numeric) for cells in (heads, *rows)]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([table.title, *lines])


def _aligned(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _text_cell(cell: Cell, row: Row, *, first: bool) -> str:
    published = " (published)" if first and row.published else ""
    return f"{_one_line(cell.text)}{published}{'*' if cell.best else ''}"


def _markdown_cell(cell: Cell, row: Row, *, first: bool) -> str:
    text = _escaped(cell.text, _MARKDOWN)
    if first and row.published:
        return f"{text} *(published)*"
    return f"**{text}**" if cell.best else text


def _latex_cell(cell: Cell, row: Row, *, first: bool) -> str:
    text = _escaped(cell.text, _LATEX)
    if first and row.published:
        return rf"{text} \emph{{(published)}}"
    return rf"\textbf{{{text}}}" if cell.best else text


def _escaped(text: str, replacements: dict[str, str]) -> str:
    return "".join(replacements.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    """Without line breaks and control characters, which would break a row."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
