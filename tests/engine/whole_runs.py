"""Run by test_processes.py: whole runs of the real command line in float64, by any number of processes.

Usage: whole_runs.py PLAN.json. The plan is a list of {"processes": N, "runs": [WORDS, ...], "notes": FOLDER}, done in
order; with "stop_after" each process is asked to stop, the one of rank r after as many steps + r; with "save_after" the
last one is asked to save. Under torchrun every process goes through the whole plan, and with "kill_after" the last one
kills itself at that step of its first life.
Writes <notes>/said.txt and, with what each process ended a run with, <notes>/<run folder's name>-<rank>/.

float64, because in float32 rounding decides which pre-activation lies below zero, and which pixel of a pool is largest:
a few steps make differences of 1e-2 in a gradient of it, behind which a fault could hide. Here it leaves 1e-14.
"""

# ruff: noqa: E402  (the type of numbers is chosen before anything of ours is imported)
import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

torch.set_default_dtype(torch.float64)  # before constants are made
torch.Tensor.float = torch.Tensor.double  # type: ignore[assignment, method-assign]

# What a run imports when it needs it, once rather than in every process.
import sklearn.datasets  # noqa: F401
import torch._dynamo
import torch.utils.tensorboard

from tailmatch.cli import main
from tailmatch.datasets.feature_views import FeatureViews
from tailmatch.datasets.weak_augment import Normalize
from tailmatch.distill.stored_teacher import StoredTeacher
from tailmatch.engine import session
from tailmatch.engine.checkpoint import save_checkpoint
from tailmatch.engine.distributed import World, barrier
from tailmatch.engine.loop import Trainer
from tailmatch.engine.stopping import leave

normalized, fit, train_step = Normalize.__call__, Trainer.fit, Trainer._train_step
standardised, said_by_store = FeatureViews._standardised, StoredTeacher.__call__


def in_float64(self: Normalize, images: Tensor) -> Tensor:
    return normalized(self, images).double()


def features_in_float64(self: FeatureViews, *given: Any) -> Tensor:
    return standardised(self, *given).double()


def teacher_in_float64(self: StoredTeacher, *given: Any) -> Tensor:
    return said_by_store(self, *given).double()


def fit_and_keep(self: Trainer, notes: Path) -> dict[str, Any]:
    result = fit(self)
    state = {"model": dict(self.task.model.named_parameters()), "state": self.task.state.state_dict()}
    if self.average is not None:
        state["average"] = dict(self.average.averaged_model.named_parameters())
    with self.weights.ready() as model:  # on all processes together
        state["evaluated"] = {name: value.clone() for name, value in model.state_dict().items()}
    kept = notes / f"{self.folder.path.name}-{self.world.rank}"
    kept.mkdir(exist_ok=True)
    save_checkpoint(kept, self.step, state)
    return result


def done(part: dict[str, Any]) -> int:
    """This process's share of one part of the plan; the exit code."""
    world, notes = World.from_environment(), Path(part["notes"])
    notes.mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(notes / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stdout.fileno())

    def step_and_be_hit(self: Trainer) -> None:
        train_step(self)
        if "stop_after" in part and self.step == part["stop_after"] + world.rank:  # not all of them at once
            os.kill(os.getpid(), signal.SIGTERM)
        if self.step == part.get("save_after") and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if first_life and self.step == part.get("kill_after") and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    Normalize.__call__ = in_float64  # type: ignore[method-assign]
    FeatureViews._standardised = features_in_float64  # type: ignore[method-assign, assignment]
    StoredTeacher.__call__ = teacher_in_float64  # type: ignore[method-assign, assignment]
    Trainer.fit = lambda self: fit_and_keep(self, notes)  # type: ignore[method-assign]
    Trainer._train_step = step_and_be_hit  # type: ignore[method-assign]
    expected = 130 if "stop_after" in part else 0
    codes = [main(words) for words in part["runs"]]
    return int(set(codes) != {expected})


def child(part: dict[str, Any], rank: int, meeting: Path) -> int:
    """One of several processes that meet once for all of the part's runs."""
    size = part["processes"]
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    if size > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
        session.joined = lambda *_: nullcontext()  # type: ignore[assignment, misc]
    code = done(part)
    barrier()  # nobody hangs up while another still reads
    return code


def family(part: dict[str, Any], meeting: Path) -> int:
    """All processes of a part, as forks of this one, which has done the imports and nothing else."""
    children = []
    for rank in range(part["processes"]):
        if (number := os.fork()) == 0:
            try:
                code = child(part, rank, meeting)
            except BaseException:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                code = 1
            sys.stdout.flush()
            os._exit(code)
        children.append(number)
    return max([os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) != 0 for number in children])


if __name__ == "__main__":
    torch.set_num_threads(1)
    plan = json.loads(Path(sys.argv[1]).read_text())
    if "TORCHELASTIC_RUN_ID" in os.environ:
        leave(max(map(done, plan)))
    sys.exit(max(family(part, Path(f"{sys.argv[1]}.{number}")) for number, part in enumerate(plan)))
