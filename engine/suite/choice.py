"""What the trials of a suite said, and which of each method is taken. Free of torch.

It is kept as `tuning.json` beside the final runs, where `analyze` finds it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tailmatch.engine.files import write_sealed_json
from tailmatch.engine.recorded import is_finished, result_of
from tailmatch.engine.suite.grid import GridRun
from tailmatch.engine.suite.suite_file import Value
from tailmatch.engine.suite.tuning import Study, Trial
from tailmatch.errors import UserError

SCHEMA = 1
FILE = "tuning.json"


def diverged(folder: Path) -> bool:
    """Whether a trial ended because its loss was no number any more: an answer too, and trying again gives the same."""
    return result_of(folder).get("status") == "failed"


def is_judged(folder: Path) -> bool:
    return is_finished(folder) or diverged(folder)


def validation(folder: Path) -> float | None:
    """The mean accuracy of the classes on a trial's validation images; None of one that diverged."""
    if diverged(folder):
        return None
    found = result_of(folder).get("val_accuracy", {}).get("last", {}).get("balanced")
    if not isinstance(found, float):
        raise UserError(
            f"The trial in {folder} has no accuracy on validation images; hold some out with "
            "`options: {val_fraction: 0.2}` under `tune:`."
        )
    return found


def chosen_trials(study: Study, folder: Path) -> dict[str, Trial]:
    """The best trial of each method whose trials are all done; the earlier of equals."""
    found = {}
    for method, trials in study.trials.items():
        if all(is_judged(folder / run.name) for trial in trials for run in trial.runs):
            scores = [_mean([validation(folder / run.name) for run in trial.runs]) for trial in trials]
            if max(scores) < 0:
                raise UserError(f"Every trial of {method} diverged; give it ranges with lower values, of lr above all.")
            found[method] = trials[scores.index(max(scores))]
    return found


def write_choices(
    path: Path, study: Study, chosen: Mapping[str, Trial], final: Sequence[GridRun], folder: Path
) -> None:
    """Everything that was tried, what it gave and what was taken."""
    methods = {}
    for method, taken in chosen.items():
        methods[method] = {
            "runs": [run.name for run in final if run.method == method],
            "chosen": taken.number,
            "trials": [
                {
                    "changes": dict(trial.changes),
                    "validation": [validation(folder / run.name) for run in trial.runs],
                    "test": [_test(folder / run.name) for run in trial.runs],
                }
                for trial in study.trials[method]
            ],
        }
    record = {"schema": SCHEMA, "trials": study.tuning.trials, "seeds": list(study.tuning.seeds), "methods": methods}
    write_sealed_json(path, record)


def described(study: Study, chosen: Mapping[str, Trial], folder: Path) -> str:
    """A line for each method: `kl  88.1 -> 89.4 %  trial 3: lr 0.03, loss.temperature 2`."""
    width = max(map(len, chosen), default=0)
    lines = [
        f"Chosen of {study.tuning.trials} trials each, by their accuracy on validation images (as given -> chosen):"
    ]
    for method, trial in chosen.items():
        first, best = (
            _mean([validation(folder / run.name) for run in one.runs]) for one in (study.trials[method][0], trial)
        )
        gain = f"{_percent(first)} -> {_percent(best)}"
        lines.append(f"  {method:<{width}}  {gain}  {_words(trial)}")
    return "\n".join(lines)


def _words(trial: Trial) -> str:
    changes = ", ".join(f"{option} {_word(value)}" for option, value in trial.changes.items())
    return f"trial {trial.number}: {changes}" if changes else "as it is given"


def _word(value: Value) -> str:
    return "left out" if value is None else " ".join(value) if isinstance(value, tuple) else value


def _mean(scores: Sequence[float | None]) -> float:
    """The mean over the seeds; below any accuracy where one diverged."""
    return -1.0 if None in scores else fmean(score for score in scores if score is not None)


def _percent(score: float) -> str:
    return "diverged" if score < 0 else f"{100 * score:.1f} %"


def _test(folder: Path) -> Any:
    return result_of(folder).get("accuracy", {}).get("last") if is_finished(folder) else None
