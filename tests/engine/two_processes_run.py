"""Run by test_processes.py under torchrun: one command line on every process, then what each of them ended with.

Usage: two_processes_run.py FOLDER STOP_AFTER WORDS...; a process that is STOP_AFTER steps old gets a Ctrl-C (0: none).
Writes FOLDER/<rank>/: the model, its average, what is evaluated and the algorithm's state as this process holds them.
"""

import os
import signal
import sys
from pathlib import Path

from tailmatch.cli import main
from tailmatch.engine.checkpoint import save_checkpoint
from tailmatch.engine.loop import Trainer
from tailmatch.engine.stopping import leave


def keep_what_each_process_ends_with(folder: Path, stop_after: int) -> None:
    fit, train_step = Trainer.fit, Trainer._train_step
    rank = os.environ["RANK"]

    def fit_and_keep(self: Trainer) -> dict[str, object]:
        result = fit(self)
        state = {"model": dict(self.task.model.named_parameters()), "state": self.task.state.state_dict()}
        if self.average is not None:
            state["average"] = dict(self.average.averaged_model.named_parameters())
        with self.weights.ready() as model:  # on all processes together
            state["evaluated"] = {name: value.clone() for name, value in model.state_dict().items()}
        save_checkpoint(folder / rank, self.step, state)
        return result

    def step_and_stop(self: Trainer) -> None:
        train_step(self)
        if self.step == stop_after + int(rank):  # not all of them at once
            os.kill(os.getpid(), signal.SIGINT)

    Trainer.fit = fit_and_keep  # type: ignore[method-assign]
    Trainer._train_step = step_and_stop  # type: ignore[method-assign]


if __name__ == "__main__":
    place, stop = Path(sys.argv[1]), int(sys.argv[2])
    (place / os.environ["RANK"]).mkdir(parents=True, exist_ok=True)
    keep_what_each_process_ends_with(place, stop)
    code = main(sys.argv[3:])
    leave(0 if code == 130 and stop else code)  # torchrun calls anything else a failure
