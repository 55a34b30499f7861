"""`run.py evaluate RUN`: the accuracy of saved weights, from the run's own configuration and data.

From Python it is a function, for runs on a data set or with a network of one's own:

from tailmatch.evaluate import evaluate

evaluate("runs/ssl/NAME", dataset=my_dataset, model=my_network)["test"]["all"]
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tailmatch._public import load_named
from tailmatch.analysis.npz_reader import BrokenFile, NpzReader
from tailmatch.commands import TASKS
from tailmatch.engine.checkpoint import verify_weights
from tailmatch.engine.config import in_words, own_parts_of, read_recipe, with_values, word_of
from tailmatch.engine.device import pick_device
from tailmatch.engine.distributed import World
from tailmatch.engine.evaluation import Accuracy, accuracy_of, show
from tailmatch.engine.files import refuse_special
from tailmatch.engine.options import Device
from tailmatch.engine.records import write_predictions
from tailmatch.engine.task import Task
from tailmatch.errors import UserError
from tailmatch.evaluate_config import EvaluateConfig

# Parts of the user's own that evaluations go through; the others only train.
_EVALUATED_PARTS = ("dataset", "model", "views", "add_ons")


def run(config: EvaluateConfig) -> int:
    """Returns the exit code."""
    device = pick_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.out is not None:
        refuse_other_file(config.out)
    weights = config.weights or config.run / "weights.safetensors"
    task = rebuild(config.run, config.data_root, device, {})
    load_weights(task, weights)
    print(f"{weights}")
    for split, logits, accuracy in _tested(task):
        labels = task.labels[split]
        print(f"  {split:<6}{show(accuracy, groups=True)}  of {len(labels):,} images")
        if split == "test" and config.out is not None:
            config.out.parent.mkdir(parents=True, exist_ok=True)
            write_predictions(config.out, logits, labels, task.train_class_counts, task.class_names)
            print(f"  logits written to {config.out}")
    return 0


def refuse_other_file(out: Path) -> None:
    """Write over earlier predictions of `evaluate`, and over nothing else: no run's own, and no other file.

    Raises:
        UserError: naming what is there.
    """
    refuse_special(out)
    if not out.exists():
        return
    if (out.parent / "config.yaml").is_file():
        raise UserError(f"{out} is what a run has left in its folder; choose another --out.")
    try:
        is_ours = {"logits", "labels", "train_class_counts"} <= NpzReader(out).shapes.keys()
    except BrokenFile:
        is_ours = False
    if not is_ours:
        raise UserError(f"{out} exists and holds no predictions; choose another --out, or remove it.")


def evaluate(
    run: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: Device = "auto",
    **parts: Any,
) -> dict[str, Accuracy]:
    """Test a run's weights again: `{"test": {"all": 0.97, "many": ..., ...}, "val": ...}`, as fractions.

    Args:
        run: a run folder.
        weights: to test, as .safetensors; those at the run's end by default.
        data_root: where the data set lies, where that has changed since the run.
        parts: what the run was given of the user's own and evaluations go through: its `dataset`, `model`, `views` and
            `add_ons`. The weights are put into this `model`.

    Raises:
        UserError: if there is no such run, a part is missing or was none, or the weights do not fit.
    """
    folder = Path(run)
    task = rebuild(folder, None if data_root is None else Path(data_root), pick_device(device), parts)
    load_weights(task, Path(weights) if weights is not None else folder / "weights.safetensors")
    return {split: accuracy for split, _, accuracy in _tested(task)}


def _tested(task: Task) -> Iterator[tuple[str, Tensor, Accuracy]]:
    task.model.eval()
    for split, labels in task.labels.items():
        with torch.inference_mode():
            logits = task.logits(task.model, split)
        yield split, logits, accuracy_of(logits, labels, task.groups)


def rebuild(folder: Path, data_root: Path | None, device: torch.device, parts: Mapping[str, Any]) -> Task:
    """The task of a run folder, with its data and its network but without its teacher."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: config.yaml is missing; give the folder that a training wrote.")
    name = _task_name(path)
    task = TASKS[name]
    own = _refuse_other_parts(folder, own_parts_of(path), parts)
    config_type, resolve, build = (load_named(place) for place in (task.config, task.resolved, task.build))
    config = read_recipe(config_type(), path, name, brought=own)
    values: dict[str, Any] = {} if data_root is None else {"data_root": data_root}
    if hasattr(config, "alone"):  # a teacher trains the student and has no part in testing it
        config = config.alone()
    if "dataset" in parts:
        values["dataset"] = load_named("ssl.build:own_dataset")(parts["dataset"])
    brought = [load_named("ssl.build:Parts")(**parts)] if parts else []
    return build(resolve(with_values(config, values)), device, World(), *brought)


def _refuse_other_parts(folder: Path, own: Mapping[str, str], parts: Mapping[str, Any]) -> Mapping[str, str]:
    """The parts of a run's own, once those that evaluations go through are given, and no others."""
    needed = [name for name in own if name in _EVALUATED_PARTS]
    if missing := [name for name in needed if name not in parts]:
        call = ", ".join([repr(str(folder)), *(f"{name}=..." for name in needed)])
        raise UserError(
            f"{folder} was trained on {in_words({name: own[name] for name in missing})}, which the user brought and no "
            f"file can bring back; from Python: `from tailmatch.evaluate import evaluate; evaluate({call})`."
        )
    if others := [name for name in parts if name not in needed]:
        raise UserError(
            f"{folder} was not trained on {', '.join(others)} of the user's own"
            f"{f', but on {in_words(own)}' if own else ''}; leave out {', '.join(others)}."
        )
    return own


def load_weights(task: Task, path: Path) -> None:
    """Put saved weights into the task's network."""
    try:
        verify_weights(path)
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"There are no weights at {path}; a finished run has weights.safetensors.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error}).") from None
    try:
        task.model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n")[1:2]).strip()
        raise UserError(f"{path} holds the weights of another network than the run's: {first}") from None


def _task_name(path: Path) -> str:
    name = word_of(path, "task")
    if name not in TASKS:
        raise UserError(f"{path} names the task {name!r}; evaluate knows: {', '.join(TASKS)}.")
    return name
