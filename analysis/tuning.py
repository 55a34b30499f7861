"""How a suite's methods were tuned: read from the `tuning.json` beside their runs, and told beside their results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tailmatch.analysis.runs import Method
from tailmatch.analysis.table import Cell, Table, cell, table_of
from tailmatch.guarded_text import Unreadable, read_json

FILE = "tuning.json"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One try of a method."""

    changes: Mapping[str, Any]
    """What it changed; nothing in the first."""
    validation: tuple[float, ...]
    """Mean accuracy of the classes on validation images, for each seed; empty where the loss diverged."""
    test: tuple[float, ...]
    """Accuracy on the test images, which had no part in the choice."""

    @property
    def score(self) -> float:
        """What it was judged by; NaN where it diverged."""
        return float(np.mean(self.validation)) if self.validation else float("nan")

    @property
    def words(self) -> str:
        return ", ".join(f"{option} {_word(value)}" for option, value in self.changes.items()) or "as given"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The trials of a method."""

    method: str
    trials: tuple[Trial, ...]
    chosen: int
    seeds: tuple[int, ...]


def tuning_of(methods: Sequence[Method]) -> list[Tuned]:
    """The trials of those methods that were tuned."""
    firsts = [(method.name, method.runs[0].path) for method in methods]
    found = [(name, _tuned_runs(path.parent / FILE).get(path.name)) for name, path in firsts]
    return [replace(tuned, method=name) for name, tuned in found if tuned is not None]


@lru_cache(maxsize=16)
def _tuned_runs(path: Path) -> dict[str, Tuned]:
    """By a run's name the trials of its method; none where there is no such file, or none that a suite wrote."""
    found: dict[str, Tuned] = {}
    try:
        content = read_json(path)
        for name, method in content["methods"].items():
            trials = tuple(_trial(trial) for trial in method["trials"])
            tuned = Tuned(method=name, trials=trials, chosen=int(method["chosen"]), seeds=tuple(content["seeds"]))
            found |= dict.fromkeys(method["runs"], tuned)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return found


def unreadable(folders: Iterable[Path]) -> list[tuple[Path, str]]:
    """The `tuning.json` in these folders that cannot be read, and why not; without one of them nothing is said."""
    found = []
    for path in sorted({folder / FILE for folder in folders}):
        try:
            read_json(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append((path, f"cannot be read ({error.strerror})"))
        except Unreadable as error:
            found.append((path, str(error)))
    return found


def _trial(record: Mapping[str, Any]) -> Trial:
    diverged = None in record["validation"]
    return Trial(
        changes=record["changes"],
        validation=() if diverged else tuple(float(value) for value in record["validation"]),
        test=() if diverged else tuple(float(value["all"]) for value in record["test"]),
    )


def tuning_table(methods: Sequence[Method]) -> Table | None:
    """Trials, choice and gain of every tuned method; None where none was."""
    tuned = tuning_of(methods)
    if not tuned:
        return None
    pairs = [(one.trials[0], one.trials[one.chosen]) for one in tuned]
    columns: list[tuple[str, list[Any]]] = [
        ("Method", [one.method for one in tuned]),
        ("Trials", [len(one.trials) for one in tuned]),
        ("Chosen", [chosen.words for _, chosen in pairs]),
        ("As given, val (%)", [_percent(given.validation) for given, _ in pairs]),
        ("Chosen, val (%)", [_percent(chosen.validation) for _, chosen in pairs]),
        ("As given, test (%)", [_percent(given.test) for given, _ in pairs]),
        ("Chosen, test (%)", [_percent(chosen.test) for _, chosen in pairs]),
    ]
    note = (
        f"Every method had {_counts(tuned)} trials, the first as the suite gives it; the one with the best mean "
        f"accuracy of the classes on validation images was chosen, over the seeds {_listed(tuned[0].seeds)}, which no "
        "run above has. Test: the same trials on the test images, for the seeds of the trials."
    )
    return table_of("tuning", "How the methods were tuned.", columns, note=note)


def tuning_remark(methods: Sequence[Method]) -> str | None:
    """Whether the comparison is one of methods that were tuned alike; None where none was tuned."""
    tuned = tuning_of(methods)
    if not tuned:
        return None
    names = {one.method for one in tuned}
    others = [method.name for method in methods if method.name not in names]
    untouched = f" As given: {', '.join(others)}." if others else ""
    return f"Tuned alike, with {_counts(tuned)} trials each on validation images.{untouched}"


def _counts(tuned: Sequence[Tuned]) -> str:
    """`6`, or `6 to 8` where suites of different numbers of trials were brought together."""
    counts = sorted({len(one.trials) for one in tuned})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _percent(values: Sequence[float]) -> Cell:
    return cell(100 * float(np.mean(values))) if values else Cell(text="diverged")


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _word(value: Any) -> str:
    return "left out" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
