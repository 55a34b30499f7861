"""`run.py suite`: plan, run what is left, analyse. Free of torch: every run is a process of its own."""

import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

from tailmatch import __version__
from tailmatch.engine.files import write_sealed_json
from tailmatch.engine.locks import locked
from tailmatch.engine.program import program_name
from tailmatch.engine.suite.choice import FILE as CHOICES
from tailmatch.engine.suite.choice import chosen_trials, described, diverged, is_judged, write_choices
from tailmatch.engine.suite.config import SuiteConfig, suite_path
from tailmatch.engine.suite.engines import Engine, core_count, local_engine
from tailmatch.engine.suite.grid import read_grid
from tailmatch.engine.suite.look_ahead import check_data
from tailmatch.engine.suite.plan import FindTask, PlannedRun, plan
from tailmatch.engine.suite.processes import environment, program, words_of
from tailmatch.engine.suite.schedule import Outcome, Schedule
from tailmatch.engine.suite.state import State, chosen, refuse_changed, share_done, state_of
from tailmatch.engine.suite.suite_file import SuiteFile
from tailmatch.engine.suite.tuning import read_study, tuned

SCHEMA = 1
TRIALS = "tune"
"""The folder of the trials, in the suite's."""
ALL_FINISHED, SOME_BROKE, STOPPED = 0, 1, 130


BeforeStart = Callable[[Sequence[PlannedRun], Engine], bool]


def run(suite: SuiteConfig, find_task: FindTask) -> int:
    """Returns the exit code."""
    file = SuiteFile(suite_path(suite.name))
    grid = read_grid(file, suite.seeds)
    study = read_study(file, grid) if suite.tune else None
    if study is None:
        return carry_out(suite, plan(suite, find_task, grid))
    every = plan(suite, find_task, grid)  # what is wrong with the final runs is said before the first trial
    wanted = {run.name for run in chosen(every, suite.only)}
    methods = {run.method for run in grid if run.name in wanted}
    beside = replace(suite, out=suite.folder / TRIALS, only=None)
    trials = plan(beside, find_task, study.only(methods).runs)
    outcome = train(beside, [run for run in trials if suite.dry_run or not diverged(run.folder)], judged=True)
    if outcome is not None and outcome.stopped:
        return STOPPED
    taken = chosen_trials(study, beside.folder)
    final = [tuned(run, taken.get(run.method)) for run in grid]
    if taken:
        print(described(study, taken, beside.folder))
    if outcome is not None:
        if broken := [run.name for run in trials if not is_judged(run.folder)]:
            print(f"{len(broken)} trials are missing ({broken[0]}, ...), so what they would choose is not trained yet.")
            return SOME_BROKE
        write_choices(suite.folder / CHOICES, study, taken, grid, beside.folder)
    elif untried := methods & study.trials.keys() - taken.keys():
        print(f"Trials will choose the options of {len(untried)} methods; the final runs are shown as given.")
    return carry_out(suite, plan(suite, find_task, final))


def carry_out(
    suite: SuiteConfig, every: list[PlannedRun], before_start: BeforeStart = lambda runs, engine: True
) -> int:
    """Train what is left of the planned runs, and report on all of them; returns the exit code."""
    outcome = train(suite, chosen(every, suite.only), before_start)
    if outcome is None:
        return ALL_FINISHED
    if outcome.stopped:
        return STOPPED
    code = _analyze(suite, every)
    return SOME_BROKE if outcome.broken else code


def train(
    suite: SuiteConfig,
    runs: list[PlannedRun],
    before_start: BeforeStart = lambda runs, engine: True,
    *,
    judged: bool = False,
) -> Outcome | None:
    """Train what is left of the runs and say how they ended; None where none is to start.

    Args:
        before_start: called once nothing stands in the runs' way; False stops there.
        judged: whether these are trials, which need validation images.
    """
    refuse_changed(runs)
    engine = _engine(suite, runs)
    print(_overview(suite, runs, engine))
    if suite.dry_run:
        print(_listing(runs, engine))
        return None
    if suite.engine == "local":  # a cluster's data may lie where its nodes are
        check_data(runs, engine.threads, judged)
    if not before_start(runs, engine):
        return None
    suite.folder.mkdir(parents=True, exist_ok=True)
    refusal = f"Another call of this suite is writing to {suite.folder}; wait for its end, or choose another --out."
    with locked(suite.folder / ".lock", refusal):
        begun = time.monotonic()
        outcome = Schedule(runs, engine).go()
        seconds = time.monotonic() - begun
        if outcome.newly_finished:
            _write_record(suite, runs, engine, outcome, seconds)
    if outcome.stopped:
        print(f"Stopped; go on with the same call: {same_call()}")
    else:
        print(_summary(runs, outcome, seconds))
    return outcome


def _engine(suite: SuiteConfig, runs: Sequence[PlannedRun]) -> Engine:
    if suite.engine == "local":
        return local_engine(suite, runs)
    from tailmatch.engine.suite.slurm import slurm_engine  # needs submitit

    return slurm_engine(suite)


def _overview(suite: SuiteConfig, runs: Sequence[PlannedRun], engine: Engine) -> str:
    states = [state_of(run.folder) for run in runs]
    counts = [(states.count(State.FINISHED), "finished"), (states.count(State.BEGUN), "begun")]
    there = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"{suite.name}: {len(runs)} runs in {suite.folder}{f' ({there})' if there else ''}; {engine.describe()}"


def _listing(runs: Sequence[PlannedRun], engine: Engine) -> str:
    width = max(len(run.name) for run in runs)
    lines = []
    for run in runs:
        state = state_of(run.folder)
        word = f"{100 * share_done(run.folder):.0f} %" if state is State.BEGUN else state.value
        command = f"{program_name()} {shlex.join(words_of(run, engine.threads))}"
        lines.append(f"  {word:<9} {run.name:<{width}}  {command}")
    return "\n".join(lines)


def _summary(runs: Sequence[PlannedRun], outcome: Outcome, seconds: float) -> str:
    lines = [
        f"{len(outcome.finished)} of {len(runs)} runs finished, {len(outcome.newly_finished)} of them now, "
        f"in {seconds / 60:.1f} minutes"
    ]
    alike: dict[tuple[str, ...], list[PlannedRun]] = defaultdict(list)
    for run in runs:
        if run.name in outcome.broken and not diverged(run.folder):
            alike[tuple(outcome.broken[run.name])].append(run)
    for words, broken in alike.items():
        names = ", ".join(run.name for run in broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        lines += [f"broken: {names} (log: {broken[0].folder / 'log.txt'})", *(f"    {word}" for word in words)]
    if alike:
        lines.append(f"The same call tries these again: {same_call()}")
    if lost := [run.name for run in runs if diverged(run.folder)]:
        lines.append(f"diverged (the loss was no number any more): {', '.join(lost)}")
    return "\n".join(lines)


def _analyze(suite: SuiteConfig, runs: Sequence[PlannedRun]) -> int:
    """A report of all finished runs, or one for each data set (or `report:` of the suite's blocks)."""
    reports: dict[str, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        if state_of(run.folder) is State.FINISHED:
            reports[run.report].append(run)
    several, code = len({run.report for run in runs}) > 1, ALL_FINISHED
    for name, finished in reports.items():
        out = suite.folder / "analysis" / name if several else suite.folder / "analysis"
        words = ["analyze", *(str(run.folder) for run in finished), "--out", str(out)]
        sys.stdout.flush()
        code = subprocess.call([*program(), *words], env=environment(None)) or code
    return code


def _write_record(
    suite: SuiteConfig, runs: Sequence[PlannedRun], engine: Engine, outcome: Outcome, seconds: float
) -> None:
    """By what call the suite was made, with which versions, and how long it took."""
    record = {
        "schema": SCHEMA,
        "suite": suite.name,
        "command": same_call(),
        "runs": [run.name for run in runs],
        "finished": len(outcome.finished),
        "finished_by_this_call": len(outcome.newly_finished),
        "seconds": round(seconds, 1),
        "engine": f"{suite.engine}: {engine.describe()}",
        "cores": core_count(),
        "versions": {"tailmatch": __version__, "python": sys.version.split()[0], "torch": _version("torch")},
    }
    write_sealed_json(suite.folder / "suite.json", record)


def same_call() -> str:
    """What to type to call this again."""
    return f"{program_name()} {shlex.join(sys.argv[1:])}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
