"""`run.py longtail`: train (the teacher first, where there is none), then say what it gained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tailmatch.analysis.groups import GROUP_NAMES
from tailmatch.engine.config import to_yaml
from tailmatch.engine.evaluation import Accuracy
from tailmatch.engine.records import where_to_look
from tailmatch.engine.session import Session
from tailmatch.engine.stopping import Interrupted
from tailmatch.longtail.build import build_task
from tailmatch.longtail.companions import baseline_config, teacher_config, trained
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.identity import folder_name, identity_of
from tailmatch.longtail.resolve import resolved


def run(config: LongtailConfig) -> int:
    """Returns the exit code."""
    config = resolved(config)
    if config.call.print_config:
        print(to_yaml(config, "longtail"), end="")
        return 0
    session = Session(config, "longtail", folder_name(config))
    if config.call.dry_run:
        print(session.dry_run(build_task))
        return 0
    try:
        if config.distills and config.distillation.teacher_checkpoint is None:
            folder, _ = trained(teacher_config(config), "teacher")
            checkpoint = folder.path.absolute()
            config = replace(config, distillation=replace(config.distillation, teacher_checkpoint=checkpoint))
            session.config = config
        baseline = trained(baseline_config(config), "baseline")[1] if config.distillation.baseline else None
        folder, result = session.run(build_task, identity_of(config))
    except Interrupted as stopped:
        print(stopped)
        return 130
    if session.world.is_main:
        print(summary(folder.path, result, baseline))
    return 0


def summary(path: Path, result: dict[str, Any], baseline: dict[str, Any] | None) -> str:
    """The closing table: accuracies per group, speed, where everything is and what to do next."""
    teacher, accuracy = result.get("teacher"), result["accuracy"]
    rows: list[tuple[str, Accuracy]] = []
    if teacher:
        rows.append((f"teacher {teacher['name']}", teacher["accuracy"]))
    if baseline:
        rows.append((f"{baseline['model']} without teacher", baseline["accuracy"]["last"]))
    rows.append((f"{result['model']}", accuracy["last"]))
    if "selected_on_val" in accuracy:
        rows.append((f"{result['model']}, selected on val", accuracy["selected_on_val"]))
    loss = "" if result["loss"] == "none" else f" + {result['loss']}"
    lines = [
        f"{result['method']}{loss} on {result['dataset']}, seed {result['seed']}: accuracy on test, %",
        table(rows),
    ]
    speed = result["images_per_second"]
    pace = f"{speed:,.0f} images/s, " if speed else ""
    facts = [
        ("speed", f"{pace}{result['seconds']:.1f} s in all"),
        *where_to_look(path),
    ]
    return "\n".join([*lines, *(f"  {name:<18}{value}" for name, value in facts)])


def table(rows: list[tuple[str, Accuracy]]) -> str:
    """A line for each network and a column for each group of classes, in per cent."""
    columns = (*GROUP_NAMES, "all")
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"  {'':<{width}}" + "".join(f"{column:>9}" for column in columns)]
    for name, accuracy in rows:
        values = (accuracy[column] for column in columns)
        cells = ("n/a" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(f"  {name:<{width}}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
