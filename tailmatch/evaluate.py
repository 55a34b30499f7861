"""`run.py evaluate RUN`: the accuracy of saved weights, from the run's own configuration and data."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tailmatch._public import load_named
from tailmatch.commands import TASKS
from tailmatch.engine.config import flat, read_recipe, with_values, word_of
from tailmatch.engine.device import pick_device
from tailmatch.engine.distributed import World
from tailmatch.engine.evaluation import accuracy_of, show
from tailmatch.engine.records import write_predictions
from tailmatch.engine.task import Task
from tailmatch.errors import UserError
from tailmatch.evaluate_config import EvaluateConfig


def run(config: EvaluateConfig) -> int:
    """Returns the exit code."""
    device = pick_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    weights = config.weights or config.run / "weights.safetensors"
    task = rebuild(config.run, config.data_root, device)
    load_weights(task, weights)
    print(f"{weights}")
    for split, labels in task.labels.items():
        with torch.inference_mode():
            logits = task.logits(task.model, split)
        print(f"  {split:<6}{show(accuracy_of(logits, labels, task.groups), groups=True)}  of {len(labels):,} images")
        if split == "test" and config.out is not None:
            write_predictions(config.out, logits, labels, task.train_class_counts, task.class_names)
            print(f"  logits written to {config.out}")
    return 0


def rebuild(folder: Path, data_root: Path | None, device: torch.device) -> Task:
    """The task of a run folder, with its data and its network but without its teacher."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: config.yaml is missing; give the folder that a training wrote.")
    name = _task_name(path)
    task = TASKS[name]
    config_type, resolve, build = (load_named(place) for place in (task.config, task.resolved, task.build))
    config = read_recipe(config_type(), path, name)
    values: dict[str, Any] = {} if data_root is None else {"data_root": data_root}
    if name == "longtail":  # a teacher trains the student and has no part in testing it
        values |= {option: None for option in flat(config) if option.startswith("loss.")}
        values |= {"loss": "none", "teacher": None, "teacher_checkpoint": None, "baseline": False}
    return build(resolve(with_values(config, values)), device, World())


def load_weights(task: Task, path: Path) -> None:
    """Put saved weights into the task's network."""
    try:
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
