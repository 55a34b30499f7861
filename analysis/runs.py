"""A run as the analysis sees it, and runs that differ only in their seed as one method.

Small things are in memory (predictions, probabilities of the predicted and the true class, configuration); logits,
training curves and weights stay in their files until they are asked for.

Shapes: S runs (seeds) of a method, N test samples, C classes, D features.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open

from tailmatch.analysis.groups import Groups, class_accuracy
from tailmatch.analysis.metrics import Values, metrics_of
from tailmatch.analysis.npz_reader import NpzReader
from tailmatch.analysis.outcome import Outcome
from tailmatch.checksums import Damaged, verify_safetensors
from tailmatch.guarded_text import Unreadable, json_values

Array = npt.NDArray[Any]
PREDICTIONS = {"last": "predictions.npz", "selected": "predictions_selected.npz"}
WEIGHTS = {"last": "weights.safetensors", "selected": "selected.safetensors"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One finished run, or one npz file of predictions made by other code."""

    path: Path
    """The run folder, or the npz file itself."""
    name: str
    label: str
    """Algorithm and loss in a few words; `Method.name` is the label made unique."""
    family: str
    """What files without a configuration are grouped by; the runs of a family differ only in the seed."""
    config: dict[str, Any]
    """The resolved configuration; empty for a bare npz file, like the next two."""
    result: dict[str, Any]
    environment: dict[str, Any]
    seed: int | None
    dataset: str | None
    train_class_counts: Array
    class_names: tuple[str, ...]
    groups: Groups
    outcome: Outcome
    teacher: Outcome | None = None
    weights: str = "last"
    """Whose predictions these are: the `last` ones, or those `selected` on validation images."""

    @property
    def task(self) -> str | None:
        """`ssl`, `longtail` or `distill`."""
        return self.result.get("task") or self.config.get("task")

    @property
    def algorithm(self) -> str | None:
        """The algorithm (ssl) or the method (longtail, distill)."""
        return algorithm_of(self.config, self.result)

    @property
    def loss(self) -> str | None:
        """The loss's name."""
        return loss_of(self.config, self.result)

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted names, with a user's own parts in the place of those they stand in for."""
        options = {name: value for name, value in self.config.items() if name != "own_parts"}
        return flat_config(options) | own_parts(self.result)

    @property
    def num_classes(self) -> int:
        return len(self.train_class_counts)

    @property
    def labels(self) -> Array:
        """True classes of the test samples, [N]."""
        return self.outcome.labels

    @property
    def predictions(self) -> Array:
        """Predicted classes, [N]."""
        return self.outcome.predictions

    @property
    def confidence(self) -> Array | None:
        """Probabilities of the predicted classes, [N]."""
        return self.outcome.confidence

    @property
    def teacher_predictions(self) -> Array | None:
        """What the teacher predicted for the same samples, [N]."""
        return self.teacher.predictions if self.teacher else None

    @cached_property
    def class_accuracy(self) -> npt.NDArray[np.float64]:
        """Per class, [C]; NaN where a class has no test samples."""
        return class_accuracy(self.predictions, self.labels, self.num_classes)

    @cached_property
    def metrics(self) -> dict[str, Values]:
        """`metrics["top1"]["few"]`; see `metrics.METRICS`."""
        return metrics_of(self.outcome, self.groups, self.num_classes)

    @property
    def untested_classes(self) -> list[int]:
        """Classes without test samples, which no metric counts."""
        return np.flatnonzero(np.bincount(self.labels, minlength=self.num_classes) == 0).tolist()

    # -- what stays in files until it is wanted ---------------------------------------------------------------------

    def file_of(self, name: str) -> NpzReader:
        """The file that holds an array; what a teacher said stands in one place, whatever the weights."""
        if self.path.suffix == ".npz":
            return NpzReader(self.path)
        return NpzReader(self.path / PREDICTIONS["last" if name == "teacher_logits" else self.weights])

    def logits(self, name: str = "logits") -> Array | None:
        """All logits [N, C] as stored (`teacher_logits` for the teacher's); None where there are none."""
        file = self.file_of(name)
        return file.read(name) if name in file else None

    @cached_property
    def metrics_frame(self) -> pd.DataFrame:
        """metrics.jsonl as a table: a row per line, a column per tag beside `step` and `seconds`, NaN where not logged.

        A line cut off by a crash ends it; without the file the table is empty.
        """
        rows: list[dict[str, Any]] = []
        place = self.path / "metrics.jsonl"
        with suppress(OSError, Unreadable), place.open(encoding="utf-8", errors="replace") as file:
            rows.extend(json_values(line) for line in file)
        return pd.DataFrame([row for row in rows if isinstance(row, dict)])

    @cached_property
    def late_evaluations(self) -> int:
        """How often the run was evaluated in the second half of its training."""
        frame = self.metrics_frame
        if "eval/accuracy/all" not in frame or "step" not in frame:
            return 0
        steps = frame["step"][frame["eval/accuracy/all"].notna()]
        return int((2 * steps > steps.max()).sum())

    def class_means(self) -> Array | None:
        """The class-wise mean predictions [C, C] that IKL and GKL kept, from the newest checkpoint.

        None where that is damaged: those of an earlier one are others. None too for selected weights: what was kept
        when they were chosen is no longer known.
        """
        if self.weights != "last":
            return None
        for checkpoint in sorted(self.path.glob("checkpoints/step_*.safetensors"), key=_step)[-1:]:
            for array in _tensors(checkpoint, "class_means.means").values():
                if array.shape == (self.num_classes, self.num_classes):
                    return array
        return None

    def head(self) -> tuple[Array, Array] | None:
        """The linear classifier that gave the stored logits: weights [C, D] and biases [C].

        None where the file of weights does not tell which it is, where the classifier is of another kind (one that
        compares directions has no norms, one with a factor for each class has others), and where the logits were
        corrected after it.
        """
        if _is_not_plainly_linear(self.config):
            return None
        found = _tensors(self.path / WEIGHTS[self.weights], ("weight", "bias"))
        heads = [name for name, array in found.items() if array.ndim == 2 and len(array) == self.num_classes]
        usual = [name for name in heads if name.split(".")[-2:-1] in (["fc"], ["head"], ["classifier"], ["linear"])]
        balanced = [name for name in heads if name == "balanced.weight"]  # ABC's second one, which is evaluated
        chosen = balanced or (usual if len(usual) == 1 else heads)
        if len(chosen) != 1:
            return None
        bias = found.get(f"{chosen[0].removesuffix('weight')}bias", np.zeros(self.num_classes, np.float32))
        return found[chosen[0]], bias


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """Runs that differ only in the seed."""

    name: str
    """Short, and unique among the methods of one analysis."""
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def groups(self) -> Groups:
        """The groups of the first run; runs of one method share their counts but for the draw of a seed."""
        return self.runs[0].groups

    @property
    def train_class_counts(self) -> Array:
        return self.runs[0].train_class_counts

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.runs[0].class_names

    def values(self, metric: str = "top1", group: str = "all") -> npt.NDArray[np.float64]:
        """A metric's value in each run that has it."""
        found = [run.metrics.get(metric, {}).get(group) for run in self.runs]
        return np.array([value for value in found if value is not None])

    @property
    def class_accuracy(self) -> npt.NDArray[np.float64]:
        """Per run and class, [S, C]; NaN where a class has no test samples."""
        return np.stack([run.class_accuracy for run in self.runs])


def flat_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted name: `{"loss": {"beta": 1}}` is `loss.beta`, and a group's own name is `loss`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flat_config(value, f"{prefix}{key}.")
        elif key == "name" and prefix:
            flat[prefix[:-1]] = value
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def own_parts(result: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a user's own making, `{"acceptance": "theirs.Every"}`, which the configuration cannot name."""
    return dict(result.get("own_parts") or {})


def algorithm_of(config: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """The algorithm (ssl) or the method (longtail, distill) that a run's files name."""
    if "algorithm" in own_parts(result):
        return own_parts(result)["algorithm"].rpartition(".")[2]
    given = next((files[key] for files in (result, config) for key in ("algorithm", "method") if files.get(key)), None)
    return given.get("name") if isinstance(given, Mapping) else given


def loss_of(config: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """The loss that a run's files name."""
    if "loss" in own_parts(result):
        return own_parts(result)["loss"].rpartition(".")[2]
    given = result.get("loss") or config.get("loss")
    return given.get("name") if isinstance(given, Mapping) else given


def _is_not_plainly_linear(config: Mapping[str, Any]) -> bool:
    """Whether a run was evaluated by something else than weights times features plus biases."""
    other_head = config.get("head") == "cosine" or config.get("stage2") in ("lws", "ncm")
    corrected = config.get("post_hoc_tau") or "logit-adjust-posthoc" in (config.get("add_on") or ())
    return bool(other_head or corrected)


def _step(checkpoint: Path) -> int:
    digits = checkpoint.stem.removeprefix("step_")
    return int(digits) if digits.isdigit() else -1


def _tensors(path: Path, ending: str | tuple[str, ...]) -> dict[str, Array]:
    """The tensors of a safetensors file whose names end so; none where the file is missing or damaged."""
    try:
        verify_safetensors(path)
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if name.endswith(ending)]  # noqa: SIM118  (not a dict)
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError, Damaged):
        return {}
