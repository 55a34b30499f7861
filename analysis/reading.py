"""Find runs and read them all; what is left out is named with its reason."""

import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import NamedTuple

from tailmatch.analysis.methods import identity
from tailmatch.analysis.npz_reader import BrokenFile
from tailmatch.analysis.run_folder import RUN_FILES, Grouping, is_run_folder, read_run
from tailmatch.analysis.runs import Run
from tailmatch.analysis.sections import test_samples
from tailmatch.analysis.tuning import FILE as TUNING
from tailmatch.analysis.tuning import unreadable

_NOT_RUNS = ("checkpoints", "tensorboard")
_TRIALS = "tune"
"""Beside a `tuning.json` the folder of a suite's trials, which chose the options of its runs and are none of them."""


class Problem(NamedTuple):
    """Something that was left out, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def read_runs(
    paths: Iterable[Path | str], grouping: Grouping | None = None, weights: str = "last"
) -> tuple[list[Run], list[Problem]]:
    """All runs in, at or below the paths, and what was left out; `split_sections` says which can be compared.

    Args:
        grouping: how classes are split into many, medium and few; by default as each run recorded it.
        weights: whose predictions: the `last` ones, or those `selected` on validation images.
    """
    places, problems = find_runs(paths)
    grouping = grouping or Grouping()

    def attempt(path: Path) -> Run | Problem:
        try:
            return read_run(path, grouping, weights)
        except BrokenFile as error:
            return Problem(error.path, error.reason)

    # One after another: the passes over the logits are many short calls, and threads gained nothing when measured.
    found = [attempt(place) for place in places]
    problems += [one for one in found if isinstance(one, Problem)]
    problems += [Problem(path, reason) for path, reason in unreadable([place.parent for place in places])]
    runs, repeated = _once_per_seed([one for one in found if isinstance(one, Run)])
    return runs, problems + repeated


def find_runs(paths: Iterable[Path | str]) -> tuple[list[Path], list[Problem]]:
    """Run folders and npz files at or below the given paths, each once, in order."""
    found: dict[Path, Path] = {}
    problems = []
    for path in map(Path, paths):
        here = list(_runs_below(path))
        if not here and not (path / "report.html").is_file():  # an earlier analysis, as `runs/*` brings it along
            reason = (
                "no run folder and no npz file in or below it" if path.is_dir() else "neither a folder nor an npz file"
            )
            problems.append(Problem(path, reason if path.exists() else "no such file or folder"))
        for place in here:
            found.setdefault(place.resolve(), place)
    return list(found.values()), problems


def _runs_below(path: Path) -> Iterable[Path]:
    if path.is_file():
        if path.name == "predictions.npz" and any((path.parent / name).exists() for name in RUN_FILES[1:]):
            return [path.parent]
        return [path] if path.suffix == ".npz" else []
    if is_run_folder(path):
        return [path]
    runs = []
    for folder, below, files in os.walk(path):
        not_runs = {*_NOT_RUNS, _TRIALS} if TUNING in files else _NOT_RUNS
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in not_runs)
        inside = [name for name in below if is_run_folder(Path(folder, name))]
        runs += [Path(folder, name) for name in inside]
        below[:] = [name for name in below if name not in inside]
    return sorted(runs) or sorted(path.glob("*.npz"))


def _once_per_seed(runs: list[Run]) -> tuple[list[Run], list[Problem]]:
    """Of runs with the same configuration and seed only the one started last: twice the same is not two seeds."""
    keys = [(identity(run), test_samples(run), run.seed) for run in runs]
    newest: dict[Hashable, Run] = {}
    for key, run in zip(keys, runs, strict=True):
        if run.seed is not None and (key not in newest or _started(run) >= _started(newest[key])):
            newest[key] = run
    problems, kept = [], []
    for key, run in zip(keys, runs, strict=True):
        other = newest.get(key, run)
        if other is run:
            kept.append(run)
        else:
            reason = f"same configuration and seed as {other.path}, which is newer; only that one is counted"
            problems.append(Problem(run.path, reason))
    return kept, problems


def _started(run: Run) -> str:
    return str(run.environment.get("started", ""))
