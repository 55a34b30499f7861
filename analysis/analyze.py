"""`run.py analyze`: read runs, compare them, and write tables, figures and one report."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tailmatch.analysis.compare import Difference, PairedBootstrap
from tailmatch.analysis.config import AnalyzeConfig
from tailmatch.analysis.figures import Figures, write_figures
from tailmatch.analysis.groups import GROUP_NAMES
from tailmatch.analysis.methods import default_reference, group_runs
from tailmatch.analysis.published import caveats_of, published_rows
from tailmatch.analysis.reading import Problem, read_runs
from tailmatch.analysis.report import write_report
from tailmatch.analysis.report_content import compose_report
from tailmatch.analysis.run_folder import Grouping
from tailmatch.analysis.runs import Method
from tailmatch.analysis.table_text import to_text
from tailmatch.analysis.tables import write_tables
from tailmatch.errors import UserError, unknown_name


def analyze(config: AnalyzeConfig) -> int:
    """Returns the exit code: 0 if any run could be analysed.

    Raises:
        UserError: if none could, or an option does not fit the runs.
    """
    runs, problems = read_runs(config.runs, grouping_of(config))
    if not runs:
        listed = "\n  ".join(map(str, problems))
        raise UserError(
            f"No run could be analysed:\n  {listed}" if len(problems) > 1 else f"No run could be analysed: {listed}"
        )
    methods = group_runs(runs)
    reference = reference_of(methods, config.reference)
    differences = differences_to(reference, methods, config)
    published = published_rows(methods if config.published else [])
    out = config.out or default_out([run.path for run in runs])
    name = reference.name if len(methods) > 1 else None
    figures = Figures(drawn=[], missing=[])
    if config.figures:
        figures = write_figures(methods, out / "figures", name, differences)
    report = compose_report(
        methods,
        figures,
        out,
        reference=name,
        differences=differences,
        problems=problems,
        published=published if len(published) else None,
        remarks=caveats_of(published),
    )
    assert report.main_table is not None  # there is a method
    write_tables(methods, differences, published, [report.main_table, *report.tables], out / "tables")
    page = write_report(report, out / "report.html")
    print(to_text(report.main_table))
    print()
    for verdict in report.verdicts:
        print(verdict.text)
    show_problems(problems)
    print(f"\nreport: {page}")
    return 0


def grouping_of(config: AnalyzeConfig) -> Grouping:
    """How the options split the classes."""
    if config.group_file is not None:
        return Grouping(lists=read_group_file(config.group_file))
    has_thresholds = config.many_above is not None or config.few_below is not None
    rule = "default" if has_thresholds and config.rule == "recorded" else config.rule
    many_above = 100 if config.many_above is None else config.many_above
    return Grouping(rule=rule, many_above=many_above, few_below=20 if config.few_below is None else config.few_below)


def read_group_file(path: Path) -> Mapping[str, Sequence[Any]]:
    """Class ids or names by group, from YAML or JSON."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--group-file {path} cannot be read: {' '.join(str(error).split())}.") from None
    is_lists = isinstance(content, dict) and all(isinstance(value, list) for value in content.values())
    if not is_lists or not set(content) <= set(GROUP_NAMES):
        raise UserError(
            f"--group-file {path} must hold lists of classes under {', '.join(GROUP_NAMES)}, and nothing else."
        )
    return content


def reference_of(methods: Sequence[Method], name: str | None) -> Method:
    """The method that the others are compared with."""
    if name is None:
        return default_reference(methods)
    by_name = {method.name: method for method in methods}
    if name not in by_name:
        raise unknown_name("method for --reference", name, by_name)
    return by_name[name]


def differences_to(reference: Method, methods: Sequence[Method], config: AnalyzeConfig) -> list[Difference]:
    """Every other method against the reference, over all classes and per group."""
    others = [method for method in methods if method is not reference]
    if not others:
        return []
    generator = np.random.default_rng(config.seed)
    bootstrap = PairedBootstrap(methods, reference.groups, generator, config.draws)
    return [one for method in others for one in bootstrap.difference(method.name, reference.name)]


def default_out(paths: Sequence[Path]) -> Path:
    """`analysis` in the one run, or in the folder that all runs share."""
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0] / "analysis"
    return Path(os.path.commonpath([path.resolve().parent for path in paths])) / "analysis"


def show_problems(problems: Sequence[Problem]) -> None:
    """On the error stream, so that the table can be piped on."""
    if problems:
        print(f"\nLeft out ({len(problems)}):", *problems, sep="\n  ", file=sys.stderr)
