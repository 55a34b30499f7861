"""Runs of a suite tried in a process of their own: can they be built, and how long does a step take?

`python -m tailmatch.engine.suite.rehearsal` reads the pickled arguments of `answer` from its input and writes a line of
JSON for each run. This is the one file of the suite that imports torch.
"""

import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

STEPS, WARM_UP_STEPS = 8, 3


def answer(
    runs: Sequence[tuple[str, Any, bool]], answers: str, threads: int | None = None, seconds: float = 0.0
) -> None:
    """Write the answers, each as soon as it is known.

    Args:
        runs: of each the function that builds it, its resolved configuration, and whether what it takes from other
            runs is to be left out.
        seconds: how long to train for timings, all runs together; 0 builds them only.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    begun = time.monotonic()
    with Path(answers).open("w", encoding="utf-8") as file:
        for build, config, alone in runs:
            if seconds and time.monotonic() - begun > seconds:
                break
            file.write(json.dumps(_tried(_function(build), config, alone, timed=seconds > 0)) + "\n")
            file.flush()


def _tried(build: Callable[..., Any], config: Any, alone: bool, timed: bool) -> dict[str, Any]:
    from tailmatch.engine.device import pick_device
    from tailmatch.errors import UserError

    try:
        device = pick_device(config.run.device if timed else "cpu", 0)
        begun = time.monotonic()
        task = build(config, device, alone)
        try:
            return _timed(task, config, device, begun) if timed else {}
        finally:
            task.close()
    except (UserError, OSError) as error:
        return {"refused": str(error)}


def _timed(task: Any, config: Any, device: Any, begun: float) -> dict[str, Any]:
    """Seconds of a step, of an evaluation with its checkpoint, and of building; and how many there will be."""
    building, total = time.monotonic() - begun, task.steps
    every = config.run.eval_every or max(total // 20, 1)
    _train(task, config, device, min(WARM_UP_STEPS, total))  # what is done once is not counted
    steps = min(STEPS, total)
    seconds, training = _train(task, config, device, steps)
    return {
        "seconds": time.monotonic() - begun,
        "building": building,
        "step": training / max(steps, 1),
        "evaluation": seconds - training,
        "steps": total,
        "evaluations": -(-total // every) + 1,  # the last one is written twice: into the rows and as predictions
    }


def _train(task: Any, config: Any, device: Any, steps: int) -> tuple[float, float]:
    """Seconds of so many steps with one evaluation: in all, and of the steps alone."""
    from tailmatch.engine.distributed import World
    from tailmatch.engine.loop import Trainer
    from tailmatch.engine.records import RunFolder

    task.steps = steps
    every = max(steps, 1)
    options = replace(
        config.run, eval_every=every, checkpoint_every=every, log_every=every, compile=False, profile=False
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.checkpoints.mkdir()
        begun = time.monotonic()
        trainer = Trainer(task, config.optim, options, run, {}, device, World())
        trainer.fit()
        return time.monotonic() - begun, trainer.training_seconds


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


if __name__ == "__main__":
    answer(**pickle.load(sys.stdin.buffer))
