"""From a suite's grid to checked runs: every option goes through its task's own parser before anything starts.

Free of torch. The tasks are handed in, since engine/ knows none.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from tailmatch.engine.config import Option, check, flat, options_of, starting_point, with_values
from tailmatch.engine.suite.axes import options_of_every_run
from tailmatch.engine.suite.config import SuiteConfig, suite_path
from tailmatch.engine.suite.grid import GridRun, asked_of_call, needed, read_grid
from tailmatch.engine.suite.suite_file import SuiteFile, Value, is_null
from tailmatch.engine.yaml_values import coerce, coerce_text
from tailmatch.errors import UserError, nearest


@dataclass(frozen=True)
class TrainingTask:
    """What a suite has to know of a task."""

    config_type: type
    resolved: Callable[[Any], Any]
    """Fills in the defaults that depend on other options."""
    rehearse: str
    """What builds the task, data and network included, by its name, since importing it brings torch."""


_REASONS_SHOWN = 5
FindTask = Callable[[str], TrainingTask]


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a suite."""

    name: str
    task: str
    folder: Path
    seed: int
    words: tuple[str, ...]
    """Its options on the command line, without the folder and the threads."""
    needs: tuple[str, ...]
    """Runs that must be finished before it starts."""
    config: Any
    rehearse: str | None
    """What builds it (see TrainingTask); None while its options depend on a run that it needs."""
    dataset: str
    report: str
    where: str
    """`file:line` of its block."""


@dataclass(frozen=True)
class Refusal:
    """Why a run cannot be."""

    name: str
    where: str
    reason: str


def refuse(refusals: Sequence[Refusal], total: int) -> None:
    """One error for all runs that cannot be, those of one reason together; nothing where there are none."""
    alike: dict[str, list[Refusal]] = defaultdict(list)
    for refusal in refusals:
        alike[refusal.reason].append(refusal)
    lines = []
    for reason, refused in list(alike.items())[:_REASONS_SHOWN]:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        where = f"{refused[0].where}: " if refused[0].where else ""
        lines.append(f"{where}{refused[0].name}{more}: {reason}")
    if len(alike) > _REASONS_SHOWN:
        lines.append(f"... and {len(alike) - _REASONS_SHOWN} other reasons")
    if len(lines) > 1:
        lines.insert(0, f"{len(refusals)} of {total} runs cannot be trained:")
    if lines:
        raise UserError("\n  ".join(lines))


def plan(suite: SuiteConfig, find_task: FindTask, grid: Sequence[GridRun] | None = None) -> list[PlannedRun]:
    """The runs of a suite, those of the first seed first, each after what it needs.

    Args:
        grid: the runs as they are asked for; by default as the suite's file does.

    Raises:
        UserError: for all runs whose options their tasks refuse, with the suite's file and line.
    """
    if grid is None:
        grid = read_grid(SuiteFile(suite_path(suite.name)), suite.seeds)
    runs, refusals = planned(suite, find_task, grid)
    refuse(refusals, len(grid))
    return runs


def planned(suite: SuiteConfig, find_task: FindTask, grid: Sequence[GridRun]) -> tuple[list[PlannedRun], list[Refusal]]:
    """The runs that can be, in order, and why the others cannot."""
    planner = _Planner(suite, find_task, grid)
    runs, refusals = [], []
    for run in grid:
        try:
            runs.append(planner.planned(run))
        except _Refused as error:
            refusals.append(Refusal(run.name, run.where, str(error)))
    seeds = list(dict.fromkeys(run.seed for run in grid))
    by_seed = sorted(runs, key=lambda run: seeds.index(run.seed))
    return (by_seed if refusals else _needs_first(by_seed)), refusals


class _Refused(UserError):
    """What a task says of one run's options."""


class _Planner:
    def __init__(self, suite: SuiteConfig, find_task: FindTask, grid: Sequence[GridRun]) -> None:
        self.suite, self.find_task, self.grid = suite, find_task, grid
        self._common: dict[str, dict[str, Value]] = {}
        self._checked: set[int] = set()

    def planned(self, run: GridRun) -> PlannedRun:
        try:
            task = self.find_task(run.task)
        except UserError as error:
            raise UserError(f"{run.where}: {error}") from None
        needs = {option: needed(run, block, self.grid) for option, block in run.references().items()}
        folders = {option: str(self.suite.folder / other.name) for option, other in needs.items()}
        values = {**run.values, **folders, **self._given(run, task)}
        options = {option.name: option for option in options_of(task.config_type)}
        self._check_nodes(run, options)
        words = [word for name, value in values.items() for word in _option_words(options[name], value)]
        words += ["--track", *self.suite.track] if self.suite.track else []
        try:
            config = check(
                self._config(run, task, {name: _read(options[name], value) for name, value in values.items()})
            )
        except UserError as error:
            raise _Refused(str(error)) from None
        rehearse: str | None = task.rehearse
        try:
            config = task.resolved(config)
        except UserError as error:
            # What it needs may not be there yet, and is looked at again when the run starts.
            if not needs:
                raise _Refused(str(error)) from None
            rehearse = None
        dataset = str(flat(config)["dataset"])
        return PlannedRun(
            name=run.name,
            task=run.task,
            folder=self.suite.folder / run.name,
            seed=run.seed,
            words=(*words, "--seed", str(run.seed)),
            needs=tuple(dict.fromkeys(other.name for other in needs.values())),
            config=config,
            rehearse=rehearse,
            dataset=dataset,
            report=run.report or "-".join(dict.fromkeys([dataset, *run.setting])),
            where=run.where,
        )

    def _given(self, run: GridRun, task: TrainingTask) -> dict[str, Value]:
        """What the call's options after `--` make of this run's: those of every run, and those that its block asks for.

        Raises:
            UserError: if the call does not give what the block asks for.
        """
        given = self._of_every_run(run.task, task)
        found = {name: value for name, value in given.items() if name not in run.asked}
        for option, value in run.values.items():
            if (asked := asked_of_call(value)) is not None and option not in found:
                if asked not in given:
                    name = f"--{asked.replace('_', '-')}"
                    raise UserError(f"{run.where}: this suite needs {name}; give it behind the others: -- {name} ...")
                found[option] = given[asked]
        return found

    def _of_every_run(self, name: str, task: TrainingTask) -> dict[str, Value]:
        """The options after `--`, read once for each task."""
        if name not in self._common:
            given = options_of_every_run(name, task.config_type, self.suite.words)
            self._common[name] = {
                option: tuple(value) if isinstance(value, list) else value for option, value in given.items()
            }
        return self._common[name]

    def _config(self, run: GridRun, task: TrainingTask, values: Mapping[str, Any]) -> Any:
        """The defaults and the recipe with these values: what the command line comes to in a hundred times the time."""
        given = {name: value for name, value in values.items() if value is not None and name != "config"}
        start = starting_point(task.config_type, run.task, values.get("dataset"), values.get("config"))
        return with_values(start, {**given, "seed": run.seed, "track": self.suite.track})

    def _check_nodes(self, run: GridRun, options: Mapping[str, Option]) -> None:
        """The names and values of the file, each once."""
        for name, node in run.nodes.items():
            if name not in options:
                raise UserError(f"{_where(run, node)}: unknown option {name!r}.{nearest(name, options)}")
            if id(node) not in self._checked:
                self._checked.add(id(node))
                _check_types(run, node, options[name])


def _read(option: Option, value: Value) -> Any:
    """A value as its option's type."""
    if value is None:
        return None
    if get_origin(option.type) is tuple:
        items = value if isinstance(value, tuple) else (value,)
        return tuple(coerce_text(item, get_args(option.type)[0]) for item in items)
    assert isinstance(value, str), "lists for other options are refused by file and line"
    return coerce_text(value, option.type)


def _option_words(option: Option, value: Value) -> list[str]:
    """`--drw 0.8`, `--no-nesterov`."""
    name = option.name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, tuple):
        return [f"--{name}", *value]
    if option.type is bool:
        return [f"--{name}" if value.lower() in ("true", "yes", "on") else f"--no-{name}"]
    if bool in get_args(option.type):
        return [f"--{name}", str(value.lower() in ("true", "yes", "on"))]
    return [f"--{name}", value]


def _check_types(run: GridRun, node: Any, option: Option) -> None:
    """Each value of a grid's list must be of the option's type."""
    is_tuple = get_origin(option.type) is tuple
    for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if isinstance(item, yaml.ScalarNode) and (item.value.startswith(("@", "$")) or is_null(item)):
            continue
        single = is_tuple and isinstance(item, yaml.ScalarNode)
        try:
            coerce(item, get_args(option.type)[0] if single else option.type)
        except ValueError as error:
            got = repr(item.value) if isinstance(item, yaml.ScalarNode) else "a list"
            raise UserError(f"{_where(run, item)}: {option.name} must be {error}, got {got}.") from None


def _where(run: GridRun, node: Any) -> str:
    return f"{run.where.rpartition(':')[0]}:{node.start_mark.line + 1}"


def _needs_first(runs: list[PlannedRun]) -> list[PlannedRun]:
    """The same order, but every run after those it needs."""
    by_name, placed, on_the_way = {run.name: run for run in runs}, dict[str, PlannedRun](), set[str]()

    def place(run: PlannedRun) -> None:
        if run.name in on_the_way:
            raise UserError(f"The runs {', '.join(sorted(on_the_way))} wait for each other; take one reference out.")
        if run.name not in placed:
            on_the_way.add(run.name)
            for name in run.needs:
                place(by_name[name])
            on_the_way.discard(run.name)
            placed[run.name] = run

    for run in runs:
        place(run)
    return list(placed.values())
