"""Which runs belong together, and what a method is called.

Two runs are the same method when their resolved configurations agree in everything that decides the outcome but the
seed. A method's name says as little as tells it apart: the algorithm and the loss, and the differing options where
two methods share both.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tailmatch.analysis.runs import Method, Run

# Where and how a run was computed and recorded, which its outcome does not depend on (but for rounding).
_MACHINE = frozenset({"device", "threads", "workers", "compile", "channels_last", "data_root"})
_RECORDS = frozenset({"out", "resume", "config", "profile", "log_every", "eval_every", "checkpoint_every", "baseline"})
NOT_IDENTITY = {"seed"} | _MACHINE | _RECORDS
_SEED_OR_TIME = re.compile(r"(?<![a-z0-9])s(eed)?[-_=]?\d+(?![a-z0-9])|\d{8}-\d{6}", re.IGNORECASE)
_PROTOCOL = ("dataset", "model", "labels", "labeled_head", "unlabeled_head", "unlabeled_shape", "imbalance")
_REFERENCE_LOSSES = ("kl", "kd", "ce")
_PLAIN = "cross-entropy"


def short_label(algorithm: str | None, loss: str | None, add_ons: Sequence[str] = (), fallback: str = "run") -> str:
    """`fixmatch + ikl`; what every run of its kind has is left out: no loss, or the plain one beside a teacher's."""
    loss = None if loss == "none" else loss
    if algorithm in ("supervised", "fully-supervised"):
        loss = None  # always the cross-entropy
    if algorithm == _PLAIN and loss:
        algorithm = None
    words = list(dict.fromkeys(word for word in (algorithm, *add_ons, loss) if word))
    return " + ".join(words) or fallback


def identity(run: Run) -> str:
    """What decides a run's outcome but for the seed, as a word to compare."""
    if not run.config:
        return f"file:{run.family}"
    kept = {key: value for key, value in run.settings.items() if key not in NOT_IDENTITY}
    # A teacher or a first stage of the same seed lies in a folder named after it; that makes no other method.
    return _SEED_OR_TIME.sub("*", json.dumps(kept, sort_keys=True, default=str))


def group_runs(runs: Sequence[Run]) -> list[Method]:
    """Methods in the order of their first runs, each with its runs by seed."""
    members: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        members[identity(run)].append(run)
    groups = [sorted(group, key=lambda run: (run.seed is None, run.seed or 0)) for group in members.values()]
    names = unique_names([group[0] for group in groups])
    return [Method(name=name, runs=tuple(group)) for name, group in zip(names, groups, strict=True)]


def unique_names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its label, and in brackets what else tells it from the others.

    That is first of all another network or other data than most have, since such results are not compared unawares;
    then, where names are still equal, the options that differ.
    """
    configs = [run.settings for run in runs]
    additions = _uncommon(configs)
    heads = [(run.label, tuple(added)) for run, added in zip(runs, additions, strict=True)]
    for head in {head for head in heads if heads.count(head) > 1}:
        places = [place for place, other in enumerate(heads) if other == head]
        for place, added in zip(places, _differences([configs[place] for place in places]), strict=True):
            additions[place] += added
    names = [
        f"{run.label} ({', '.join(added)})" if added else run.label for run, added in zip(runs, additions, strict=True)
    ]
    return numbered(names)  # what is equal still is files of one name in different folders


def numbered(names: Sequence[str], mark: str = " #") -> list[str]:
    """The names, and behind one that was there before which of its like it is."""
    return [
        name if name not in names[:place] else f"{name}{mark}{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def default_reference(methods: Sequence[Method]) -> Method:
    """What others are usually compared with: the plain KL, else cross-entropy, else the first."""
    trained = [method for method in methods if method.runs[0].algorithm != "supervised"] or list(methods)
    for loss in _REFERENCE_LOSSES:
        for method in trained:
            if loss in (method.runs[0].loss, method.runs[0].algorithm):
                return method
    plain = [method for method in trained if method.name.split(" (")[0] == _PLAIN]
    return (plain or trained)[0]


def configuration_differences(methods: Sequence[Method]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(options that differ: a value per method, options that all share), as words by dotted name."""
    rows = _in_words([method.runs[0].settings for method in methods])
    differing = {key: values for key, values in rows.items() if len(set(values)) > 1}
    return differing, {key: values[0] for key, values in rows.items() if key not in differing}


def _in_words(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Of each option that decides an outcome its value in every configuration; empty where one has no such option."""
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if key not in NOT_IDENTITY]
    return {key: [words_of(config[key]) if key in config else "" for config in configs] for key in keys}


def words_of(value: Any) -> str:
    """An option's value as short as it can be."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ",".join(words_of(item) for item in value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _uncommon(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each configuration what of its protocol most others do not share, as `model=resnet50`."""
    additions: list[list[str]] = [[] for _ in configs]
    for key in _PROTOCOL:
        values = [words_of(config.get(key)) if config.get(key) is not None else "" for config in configs]
        common, times = Counter(values).most_common(1)[0] if values else ("", 0)
        for place, value in enumerate(values):
            if value and (value != common or times <= len(values) / 2):
                additions[place].append(f"{key}={value}")
    return additions


def _differences(configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each configuration the few options that tell it from the others, as `["beta=0.1", "lr=0.03"]`."""
    values = _in_words(configs)
    chosen: list[str] = []

    def distinct(with_keys: list[str]) -> int:
        return len({tuple(values[key][place] for key in with_keys) for place in range(len(configs))})

    while values and distinct(chosen) < len(configs):
        best = max(values, key=lambda key: distinct([*chosen, key]))  # the first of equals: the order of the options
        if distinct([*chosen, best]) == distinct(chosen):
            break
        chosen.append(best)
    return [
        [f"{key.split('.')[-1]}={values[key][place]}" for key in chosen if values[key][place]]
        for place in range(len(configs))
    ]
