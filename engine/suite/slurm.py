"""A suite's runs as a Slurm array, through submitit (an optional dependency). Free of torch.

Runs that can start together are one array; those that need a teacher are a second one, once the first has ended. A run
whose time is up saves its state and queues again, and the suite waits for all of them as it does on one machine.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailmatch.engine.suite.config import SuiteConfig
from tailmatch.engine.suite.engines import Started
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.processes import Process, program, python_path
from tailmatch.engine.suite.state import LOG
from tailmatch.errors import UserError

_INSTALL = "pip install submitit"
_CPUS_BESIDE_GPU = 8


class OnNode:
    """What a node is sent: it starts the run and waits for it."""

    def __init__(self, start: Sequence[str], threads: int | None, folder: str) -> None:
        self.start, self.threads, self.folder = list(start), threads, folder
        self._process: Process | None = None

    def __call__(self, run: PlannedRun) -> int:
        """The run's exit code."""
        os.chdir(self.folder)
        self._process = Process(run, self.threads, self.start)
        try:
            return self._process.wait()
        finally:
            self._process.stop()

    def checkpoint(self, run: PlannedRun) -> Any:
        """Called by submitit when the time is up: the run saves its state, and the job it gets next goes on."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.stop()
            self._process.wait()
        return DelayedSubmission(OnNode(self.start, self.threads, self.folder), run)


class _Job:
    """One job of the array."""

    def __init__(self, run: PlannedRun, job: Any) -> None:
        self._run, self._job = run, job

    def exit_code(self) -> int | None:
        if not self._job.done():
            return None
        error = self._job.exception()
        if error is None:
            return int(self._job.result())
        self._run.folder.mkdir(parents=True, exist_ok=True)
        with (self._run.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        return 1

    def stop(self) -> None:
        # Slurm sends SIGTERM to every process of the job, and waits for KillWait (30 s) before it kills.
        self._job.cancel(check=False)

    kill = stop


class SlurmEngine:
    """Submits what can start as one array."""

    slots: int | None = None
    seconds_per_turn = 2.0

    def __init__(self, executor: Any, threads: int | None) -> None:
        self.executor, self.threads = executor, threads

    def describe(self) -> str:
        return "as a Slurm array"

    def start(self, runs: Sequence[PlannedRun]) -> list[Started]:
        os.environ["PYTHONPATH"] = python_path()  # the jobs inherit it, and must find this very package
        task = OnNode(program(), self.threads, str(Path.cwd()))
        return [_Job(run, job) for run, job in zip(runs, self.executor.map_array(task, runs), strict=True)]

    def close(self) -> None:
        """Nothing is held here."""


def slurm_engine(suite: SuiteConfig, cluster: str = "slurm") -> SlurmEngine:
    """The engine for a cluster; `local` is submitit's own stand-in for one."""
    try:
        import submitit
    except ImportError:
        raise UserError(f"--engine slurm needs submitit, which is not installed: {_INSTALL}.") from None
    logging.getLogger("submitit").setLevel(logging.ERROR)  # a cluster without accounting is warned of at every look
    asked = suite.slurm
    threads = suite.threads or (None if asked.slurm_gpus else 1)
    try:
        executor = submitit.AutoExecutor(suite.folder / "slurm", cluster=cluster)
    except RuntimeError as error:
        raise UserError(
            f"--engine slurm finds no Slurm here ({error}); call it where sbatch is, or leave it out."
        ) from None
    wishes = {
        "name": Path(suite.name).stem,
        "timeout_min": asked.slurm_time,
        "cpus_per_task": asked.slurm_cpus or threads or _CPUS_BESIDE_GPU,
        "gpus_per_node": asked.slurm_gpus or None,
        "mem_gb": asked.slurm_memory,
        "slurm_partition": asked.slurm_partition,
        "slurm_array_parallelism": suite.jobs,
    }
    executor.update_parameters(**{name: wish for name, wish in wishes.items() if wish is not None})
    return SlurmEngine(executor, threads)
