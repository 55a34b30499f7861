"""The grid of a suite: a YAML file that is multiplied out to runs with lasting names. Free of torch.

    task: longtail                      # ssl, longtail or distill
    seeds: [0, 1, 2]
    options: {dataset: digits-lt}       # for every run
    runs:                               # blocks; a list of values makes one run of each, of two lists every pair
      - name: teacher
        model: wrn-16-2-relu
      - label_loss: [cross-entropy, ldam]
        drw: [null, 0.8]                # null leaves the option out
      - loss: [kl, ikl]
        teacher_checkpoint: "@teacher"  # the folder of the run of that name with the same seed, which runs first
        teacher_store: $teacher_store   # what the call gives that option after `--`, which then goes nowhere else
    exclude:
      - {label_loss: cross-entropy, drw: 0.8}

A block may have `seeds` of its own (`--seeds` leaves those as they are), another `task`, and `report: NAME`, the report
its runs are in; otherwise there is one for each data set and each value of the lists under `options:`, which are what
methods are compared on. An option of several words is a list within the list: `[[0.8, 0.9]]`.

A run's name holds its block's values and its seed, so it stays when other blocks come or go.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from tailmatch.engine.suite.suite_file import SuiteFile, Value
from tailmatch.errors import UserError, nearest

MOST_RUNS = 10_000
_OF_BLOCK = ("name", "task", "seeds", "report")
_A_NAME = re.compile(r"[\w+=-][\w .+=-]{0,99}")  # of a folder
_NUMBER = re.compile(r"[-+]?[\d._]+(e[-+]?\d+)?", re.IGNORECASE)
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9.+_-]+")


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run as the grid asks for it."""

    name: str
    block: str | None
    """The name of its block, by which others may refer to it."""
    task: str
    seed: int
    values: Mapping[str, Value]
    nodes: Mapping[str, Any] = field(repr=False)
    """The YAML node of each value, for its type and its line."""
    where: str
    """`file:line` of its block."""
    report: str | None
    """The report it is in, where the block says so."""
    setting: tuple[str, ...]
    """The values of the suite's own lists, which tell reports of one data set apart."""
    asked: frozenset[str] = frozenset()
    """Options whose values the file takes from the call by "$name", in any of its blocks."""

    @property
    def method(self) -> str:
        """Its name without its seed."""
        return self.name.removesuffix(f"-s{self.seed}")

    def references(self) -> dict[str, str]:
        """Options that stand for another run's folder, with that run's block."""
        return {
            option: value[1:]
            for option, value in self.values.items()
            if isinstance(value, str) and value.startswith("@")
        }


def read_grid(file: SuiteFile, seeds: Sequence[int] = ()) -> list[GridRun]:
    """All runs of a suite's file, in its order.

    Args:
        seeds: take the place of the suite's seeds.
    """
    return _Reader(file).runs(tuple(seeds))


def needed(run: GridRun, block: str, runs: Sequence[GridRun]) -> GridRun:
    """The run that a reference means: of that block, of the same seed, and alike in the options both have."""
    named = [other for other in runs if other.block == block]
    if not named:
        blocks = sorted({other.block for other in runs if other.block})
        raise UserError(f"{run.where}: there is no block named {block!r} to refer to.{nearest(block, blocks)}")
    same_seed = [other for other in named if other.seed == run.seed] or named
    alike = [other for other in same_seed if all(run.values.get(k, v) == v for k, v in _axes(other, named).items())]
    if len(alike) != 1:
        raise UserError(
            f"{run.where}: '@{block}' must mean one run, and {len(alike) or len(same_seed)} are possible for "
            f"{run.name}; give the two blocks the same seeds and the same lists."
        )
    return alike[0]


def _axes(run: GridRun, siblings: Sequence[GridRun]) -> dict[str, Value]:
    return {
        option: value
        for option, value in run.values.items()
        if any(other.values.get(option) != value for other in siblings)
    }


class _Reader:
    def __init__(self, file: SuiteFile) -> None:
        self.file = file

    def runs(self, seeds: tuple[int, ...]) -> list[GridRun]:
        file, top = self.file, self.file.entries
        seeds = seeds or (file.seeds(top["seeds"]) if "seeds" in top else (0,))
        common = file.mapping(top["options"], "options") if "options" in top else {}
        task = file.word(top["task"], "task") if "task" in top else None
        excluded = self._excluded(top.get("exclude"))
        found = [
            run
            for block in top["runs"].value
            for run in self._block(block, common, task, seeds)
            if not any(all(run.values.get(k) == v for k, v in rule.items()) for rule in excluded)
        ]
        by_name: dict[str, GridRun] = {}
        for run in found:
            if run.name in by_name:
                raise UserError(
                    f"{run.where}: two runs are called {run.name} (the other is of {by_name[run.name].where}); "
                    "give one block a `name:`."
                )
            by_name[run.name] = run
        if not found:
            raise UserError(f"{file.path}: `exclude:` leaves none of the runs; take a rule out.")
        asked = {asked_of_call(value) for run in found for value in run.values.values()}
        return [replace(run, asked=frozenset(name for name in asked if name is not None)) for run in found]

    def _block(
        self, node: Any, common: Mapping[str, Any], task: str | None, seeds: tuple[int, ...]
    ) -> Iterator[GridRun]:
        file = self.file
        entries = file.mapping(node, "a block of runs")
        own = {key: entry for key, entry in entries.items() if key not in _OF_BLOCK}
        nodes = {**common, **own}
        name, report = (file.word(entries[key], key) if key in entries else None for key in ("name", "report"))
        if report is not None and not _A_NAME.fullmatch(report):
            raise file.error(entries["report"], f"report must be a plain name of letters and digits, got {report!r}.")
        task = file.word(entries["task"], "task") if "task" in entries else task
        if task is None:
            raise file.error(node, "the block has no `task:` (ssl, longtail or distill), and neither has the suite.")
        seeds = file.seeds(entries["seeds"]) if "seeds" in entries else seeds
        choices = {option: file.values(entry, option) for option, entry in nodes.items()}
        _refuse_too_many(file, node, len(seeds), *map(len, choices.values()))
        in_name = [o for o in nodes if len(choices[o]) > 1 or (name is None and o in own)]
        # Seeds outermost: a suite that is cut off then has every method, with fewer seeds.
        for seed, picked in product(seeds, product(*choices.values())):
            values = dict(zip(choices, picked, strict=True))
            words = [name, *(_word_for(option, values[option]) for option in in_name), f"s{seed}"]
            yield GridRun(
                name=_NOT_IN_NAME.sub("-", "-".join(word for word in words if word)),
                block=name,
                task=task,
                seed=seed,
                values=values,
                nodes=nodes,
                where=file.where(node),
                report=report,
                setting=tuple(filter(None, (_word_for(o, values[o]) for o in common if len(choices[o]) > 1))),
            )

    def _excluded(self, node: Any) -> list[dict[str, Value]]:
        if node is None:
            return []
        rules = []
        for rule in self.file.items(node, "exclude must be a list of `{option: value}`"):
            rules += combinations(self.file, rule, "what is excluded")
        return rules


def combinations(file: SuiteFile, node: Any, what: str) -> list[dict[str, Value]]:
    """`{a: [1, 2], b: 3}` as `{a: 1, b: 3}` and `{a: 2, b: 3}`."""
    entries = file.mapping(node, what)
    choices = [[(option, value) for value in file.values(entry, option)] for option, entry in entries.items()]
    _refuse_too_many(file, node, *map(len, choices))
    return [dict(pairs) for pairs in product(*choices)]


def _refuse_too_many(file: SuiteFile, node: Any, *lengths: int) -> None:
    """Count a product before it is multiplied out."""
    if (count := math.prod(lengths)) > MOST_RUNS:
        raise file.error(
            node, f"these lists come to {count:,} combinations, and {MOST_RUNS:,} are the most; shorten them."
        )


def asked_of_call(value: Value) -> str | None:
    """The option whose value the call gives here; None for any other value."""
    return value[1:] if isinstance(value, str) and value.startswith("$") else None


def _word_for(option: str, value: Value) -> str | None:
    """A value as it stands in a run's name: numbers and yes or no carry their option, words speak for themselves."""
    if value is None or (isinstance(value, str) and value.startswith(("@", "$"))):
        return None
    text = "+".join(value) if isinstance(value, tuple) else value
    if isinstance(value, str) and not _NUMBER.fullmatch(value) and value.lower() not in ("true", "false"):
        return text
    return f"{option.rpartition('.')[2].replace('_', '-')}{text}"
