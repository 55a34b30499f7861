"""The closing table of a run that may have had a teacher."""

from typing import Any

from tailmatch.analysis.groups import GROUP_NAMES
from tailmatch.engine.evaluation import Accuracy
from tailmatch.engine.records import RunFolder, where_to_look


def summary(folder: RunFolder, result: dict[str, Any], baseline: dict[str, Any] | None) -> str:
    """The closing table: accuracies per group, speed, where everything is and what to do next."""
    teacher, accuracy = result.get("teacher"), result["accuracy"]
    rows: list[tuple[str, Accuracy]] = []
    if teacher:
        rows.append((f"teacher {teacher['name']}", teacher["accuracy"]))
    if baseline:
        rows.append((f"{baseline['model']} without teacher", baseline["accuracy"]["last"]))
    rows.append((f"{result['model']}", accuracy["last"]))
    others = {"selected_on_val": "selected on val", "median_of_last_20": "median of last 20", "best": "best on test"}
    rows += [(f"{result['model']}, {words}", accuracy[name]) for name, words in others.items() if name in accuracy]
    loss = "" if result.get("loss", "none") == "none" else f" + {result['loss']}"
    lines = [
        f"{result['method']}{loss} on {result['dataset']}, seed {result['seed']}: accuracy on test, %",
        table(rows),
    ]
    speed = result["images_per_second"]
    pace = f"{speed:,.0f} images/s, " if speed else ""
    beside = result.get("method_parameters")
    own = [("method's own", f"{beside:,} parameters, which the student does without")] if beside else []
    facts = [
        *own,
        ("speed", f"{pace}{result['seconds']:.1f} s in all"),
        *where_to_look(folder.path),
    ]
    return "\n".join([*lines, *(f"  {name:<18}{value}" for name, value in facts)])


def table(rows: list[tuple[str, Accuracy]]) -> str:
    """A line for each network and a column for each group of classes that there is, in per cent."""
    columns = [column for column in (*GROUP_NAMES, "all") if any(accuracy[column] is not None for _, accuracy in rows)]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"  {'':<{width}}" + "".join(f"{column:>9}" for column in columns)]
    for name, accuracy in rows:
        values = (accuracy[column] for column in columns)
        cells = ("n/a" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(f"  {name:<{width}}" + "".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)
