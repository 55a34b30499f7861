"""How far the runs of a suite are, read from their folders. Free of torch."""

from collections.abc import Sequence
from enum import Enum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tailmatch.engine.config import read_recipe, recorded
from tailmatch.engine.options import EXECUTION_ONLY
from tailmatch.engine.recorded import is_finished, last_step, result_of, tail_of
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.errors import UserError

LOG = "log.txt"  # records.SUITE_LOG, which would import torch


class State(Enum):
    """What a run folder holds."""

    NEW = "new"
    BEGUN = "begun"
    FINISHED = "finished"


def state_of(folder: Path) -> State:
    if is_finished(folder):
        return State.FINISHED
    return State.BEGUN if (folder / "config.yaml").is_file() else State.NEW


def share_done(folder: Path) -> float:
    """The share of its steps that a run has made, 0 to 1."""
    total = result_of(folder).get("total_steps")
    if not isinstance(total, int) or total < 1:
        return 0.0
    return min(last_step(folder) / total, 1.0)


def changes(run: PlannedRun) -> list[str]:
    """Where the run in the folder was made with other options than the suite now asks for: `lr 0.03 -> 0.1`."""
    path = run.folder / "config.yaml"
    if not path.is_file():
        return []
    made, asked = recorded(read_recipe(type(run.config)(), path, run.task)), recorded(run.config)
    return [
        f"{name} {made[name]} -> {value}"
        for name, value in asked.items()
        # An option that the suite leaves open (None) is decided by the run: a teacher that it trained, say.
        if value is not None and name not in EXECUTION_ONLY and not _same(made[name], value)
    ]


def refuse_changed(runs: Sequence[PlannedRun]) -> None:
    """Refuse a suite whose runs were begun with other options, rather than mix the two in one report."""
    changed = [(run, found) for run in runs if (found := changes(run))]
    if changed:
        shown = "; ".join(f"{run.folder}: {', '.join(found[:3])}" for run, found in changed[:3])
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{len(changed)} of {len(runs)} runs are of other options than the suite asks for now ({shown}{more}); "
            "remove their folders to make them anew, or choose another --out."
        )


def chosen(runs: list[PlannedRun], pattern: str | None) -> list[PlannedRun]:
    """The runs whose names fit the pattern, and what they need."""
    if pattern is None:
        return runs
    wanted = {run.name for run in runs if fnmatch(run.name, pattern)}
    if not wanted:
        names = ", ".join(run.name for run in runs[:3])
        raise UserError(f"--only {pattern!r} fits none of the {len(runs)} runs; they are called {names}, ...")
    for run in reversed(runs):  # what a run needs stands before it
        if run.name in wanted:
            wanted.update(run.needs)
    return [run for run in runs if run.name in wanted]


def last_words(folder: Path, lines: int = 5) -> list[str]:
    """Why a run ended: the sentence it said, else the last lines of its log."""
    tail = [line.rstrip() for line in tail_of(folder / LOG).splitlines() if line.strip()]
    for line in reversed(tail[-lines:]):
        if line.startswith("error: "):
            return [line.removeprefix("error: ")]
    return tail[-lines:] or ["it said nothing"]


def _same(made: Any, asked: Any) -> bool:
    """Equal, or paths of the same name: the suite's folder may have been moved."""
    if made == asked:
        return True
    are_paths = isinstance(made, str) and isinstance(asked, str) and "/" in made and "/" in asked
    return are_paths and Path(made).name == Path(asked).name
