"""Read one run folder, or one npz file of predictions made by other code:

- `logits` float [N, C], or `predictions` integer [N] (then without calibration and top-5),
- `labels` integer [N], the true classes of the test samples,
- `train_class_counts` integer [C],
- and if you like `class_names` (words, [C]), `teacher_logits` [N, C], `method` (a word) and `seed` (an integer).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailmatch.analysis.groups import Groups, groups_from_lists, split_classes
from tailmatch.analysis.methods import short_label
from tailmatch.analysis.npz_reader import Array, BrokenFile, NpzReader
from tailmatch.analysis.outcome import NotFinite, Outcome, outcome_of_logits, rows_at_a_time
from tailmatch.analysis.runs import PREDICTIONS, Run, algorithm_of, loss_of
from tailmatch.errors import UserError, unknown_name
from tailmatch.guarded_text import Unreadable, is_text, read_json, read_yaml
from tailmatch.result_form import problem_of_result

SCHEMA = 1
RUN_FILES = ("predictions.npz", "result.json", "config.yaml")
_SEED_IN_NAME = re.compile(r"^(.+?)[-_. ]*seed[-_=]?(\d+)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """How classes are split into many, medium and few."""

    rule: str = "recorded"
    """`recorded`: as the run itself did, and `auto` for files that do not say; or a rule of `split_classes`."""
    many_above: int = 100
    few_below: int = 20
    lists: Mapping[str, Sequence[int | str]] | None = None
    """Class ids or names per group; they override the rule."""

    def groups(self, counts: Array, names: Sequence[str], recorded: Mapping[str, Any] | None) -> Groups:
        """The groups of classes with these training counts and names."""
        if self.lists is not None:
            ids = {name: [_class_id(c, names) for c in classes] for name, classes in self.lists.items()}
            return groups_from_lists(ids, len(counts))
        if self.rule != "recorded":
            return split_classes(counts, self.rule, self.many_above, self.few_below)
        if recorded:
            lists = {name: recorded.get(name) or [] for name in ("many", "medium", "few")}
            return groups_from_lists(lists, len(counts), rule=str(recorded.get("rule", "recorded")))
        return split_classes(counts)


def _class_id(given: int | str, names: Sequence[str]) -> int:
    if isinstance(given, int):
        return given
    if given not in names:
        raise unknown_name("class", str(given), names)
    return names.index(given)


def is_run_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in RUN_FILES)


def read_run(path: Path, grouping: Grouping, weights: str = "last") -> Run:
    """One run folder or npz file, with the predictions of its last weights or of those selected on validation images.

    Raises:
        BrokenFile: names the file at fault and the reason.
    """
    if not is_text(str(path.absolute())):
        raise BrokenFile(path, "its name is no text in UTF-8; rename it")
    is_file = path.is_file()
    result = {} if is_file else _read_mapping(path / "result.json")
    config = {} if is_file else _read_mapping(path / "config.yaml")
    if result or config:
        _check_finished(path, result)
        _check_types(path, result, config)
        _check_metrics(path, result)
    file = path if is_file else path / PREDICTIONS[weights]
    if weights != "last" and (is_file or not file.is_file()):
        raise BrokenFile(
            path, "has no predictions of selected weights, which need validation images; see --weights last"
        )
    arrays = NpzReader(file)
    counts = _whole_numbers(arrays, "train_class_counts")
    labels = _whole_numbers(arrays, "labels")
    _check_range(file, "labels", labels, len(counts))
    class_names = _class_names(arrays, len(counts))
    try:
        groups = grouping.groups(counts, class_names, result.get("groups"))
    except (UserError, TypeError, ValueError, AttributeError) as error:
        raise BrokenFile(file, f"no groups of classes: {error}") from None
    name, label, family, seed = _names(path, arrays, config, result)
    whole = arrays if is_file or weights == "last" else NpzReader(path / PREDICTIONS["last"])
    return Run(
        path=path,
        name=name,
        label=label,
        family=family,
        config=config,
        result=result,
        environment={} if is_file else _read_mapping(path / "environment.json"),
        seed=seed,
        dataset=result.get("dataset") or config.get("dataset"),
        train_class_counts=counts,
        class_names=class_names,
        groups=groups,
        outcome=_outcome(arrays, labels, len(counts)),
        teacher=_from_logits(whole, "teacher_logits", labels, len(counts)) if "teacher_logits" in whole else None,
        weights=weights,
    )


def _read_mapping(path: Path) -> dict[str, Any]:
    """A JSON or YAML file that holds a mapping; empty where there is no such file."""
    try:
        content = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except FileNotFoundError:
        return {}
    except Unreadable as error:
        raise BrokenFile(path, str(error)) from None
    except OSError as error:
        raise BrokenFile(path, f"cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise BrokenFile(path, f"must hold names and values, got {type(content).__name__}")
    return content


def _check_finished(path: Path, result: Mapping[str, Any]) -> None:
    file = path / "result.json"
    if not result:
        raise BrokenFile(file, "not there: the run was cut off before its first evaluation; go on with it by --resume")
    if result.get("schema") != SCHEMA:
        raise BrokenFile(file, f"has schema {result.get('schema')!r}, this version reads {SCHEMA}")
    if result.get("status") != "finished":
        status = result.get("status", "unknown")
        why = f" ({result['error']})" if "error" in result else ""
        raise BrokenFile(file, f"the run has not finished: its status is {status}{why}; go on with it by --resume")


def _check_types(path: Path, result: Mapping[str, Any], config: Mapping[Any, Any]) -> None:
    if problem := problem_of_result(result):
        raise BrokenFile(path / "result.json", problem)
    for name, value in config.items():
        if not isinstance(name, str) or not _is_option(value):
            raise BrokenFile(path / "config.yaml", f"{str(name)[:60]} has a value that no option has")


def _check_metrics(path: Path, result: Mapping[str, Any]) -> None:
    file, checksum = path / "metrics.jsonl", result.get("metrics_sha256")
    if checksum is not None and file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
        raise BrokenFile(
            file,
            "is damaged, or was changed: its bytes do not have the checksum in result.json; copy it again, or remove "
            "it to go on without its curves",
        )


def _is_option(value: Any, within: bool = False) -> bool:
    """A word, a number, yes, no, nothing, a list of these, or names and such values."""
    if isinstance(value, dict) and not within:
        return all(isinstance(name, str) and _is_option(item, within=True) for name, item in value.items())
    if isinstance(value, list):
        return all(isinstance(item, str | int | float) for item in value)
    return value is None or isinstance(value, str | int | float)


def _array(arrays: NpzReader, name: str, kinds: str, wanted: str, dimensions: int = 1) -> Array:
    """An array's header, checked; reading it is the caller's."""
    if name not in arrays:
        have = ", ".join(sorted(arrays.shapes))
        raise BrokenFile(arrays.path, f"has no array {name!r}, only {have}")
    shape, dtype = arrays.shapes[name], arrays.dtypes[name]
    if dtype.kind not in kinds or len(shape) != dimensions:
        raise BrokenFile(arrays.path, f"{name} must be {wanted}, got {dtype} of shape {shape}")
    if 0 in shape:
        raise BrokenFile(arrays.path, f"{name} is empty")
    return arrays.read(name) if dimensions < 2 else np.empty(0)


def _whole_numbers(arrays: NpzReader, name: str) -> Array:
    return _array(arrays, name, "iu", "one list of integers").astype(np.int64)


def _check_range(file: Path, name: str, values: Array, num_classes: int) -> None:
    low, high = values.min(), values.max()
    if low < 0 or high >= num_classes:
        outside = low if low < 0 else high
        reason = f"{name} contain class {outside}, but train_class_counts knows the classes 0 to {num_classes - 1}"
        raise BrokenFile(file, reason)


def _outcome(arrays: NpzReader, labels: Array, num_classes: int) -> Outcome:
    if "logits" in arrays:
        return _from_logits(arrays, "logits", labels, num_classes)
    if "predictions" not in arrays:
        raise BrokenFile(arrays.path, f"has neither logits nor predictions, only {', '.join(sorted(arrays.shapes))}")
    predictions = _whole_numbers(arrays, "predictions")
    if len(predictions) != len(labels):
        raise BrokenFile(arrays.path, f"has {len(predictions):,} predictions for {len(labels):,} labels")
    _check_range(arrays.path, "predictions", predictions, num_classes)
    return Outcome(labels=labels, predictions=predictions)


def _from_logits(arrays: NpzReader, name: str, labels: Array, num_classes: int) -> Outcome:
    _array(arrays, name, "fiu", "numbers with one row per sample and one column per class", dimensions=2)
    rows, columns = arrays.shapes[name]
    if rows != len(labels):
        raise BrokenFile(arrays.path, f"{name} has {rows:,} rows for {len(labels):,} labels")
    if columns != num_classes:
        raise BrokenFile(
            arrays.path, f"{name} has {columns:,} columns for {num_classes:,} classes in train_class_counts"
        )
    try:
        return outcome_of_logits(arrays.row_chunks(name, rows_at_a_time(num_classes)), labels)
    except NotFinite as error:
        raise BrokenFile(arrays.path, f"{name}: {error}") from None


def _class_names(arrays: NpzReader, num_classes: int) -> tuple[str, ...]:
    if "class_names" not in arrays:
        return tuple(str(c) for c in range(num_classes))
    names = _array(arrays, "class_names", "US", "one list of words")
    if len(names) != num_classes:
        raise BrokenFile(arrays.path, f"has {len(names):,} class_names for {num_classes:,} classes")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist())


def _names(
    path: Path, arrays: NpzReader, config: Mapping[str, Any], result: Mapping[str, Any]
) -> tuple[str, str, str, int | None]:
    """(name of the run, label of its method, family, seed)."""
    if config or result:
        name = str(result.get("name") or path.name)
        label = short_label(algorithm_of(config, result), loss_of(config, result), result.get("add_ons") or (), name)
        seed = config.get("seed", result.get("seed"))
        return name, label, label, seed if isinstance(seed, int) else None
    # A file is called by its name, or by its folder's where it has the name that every run's predictions have.
    file = arrays.path.resolve()
    named = file.with_suffix("") if file.name != RUN_FILES[0] else file.parent
    match = _SEED_IN_NAME.match(named.name)
    label, seed = (match[1], int(match[2])) if match else (named.name, None)
    family = str(named.parent / label)
    if "method" in arrays:
        label = family = str(_array(arrays, "method", "U", "one word", dimensions=0))
    if "seed" in arrays:
        seed = int(_array(arrays, "seed", "iu", "one integer", dimensions=0))
    return named.name, label, family, seed
