"""How a suite's runs are started: as processes on this machine. (As a Slurm array: slurm.py.)"""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from tailmatch.engine.suite.config import SuiteConfig
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.processes import Process, program
from tailmatch.engine.suite.warm import CAN_FORK, WarmParent, WarmRun


class Started(Protocol):
    """A run on its way."""

    def exit_code(self) -> int | None:
        """None while it goes on."""

    def stop(self) -> None:
        """Ask it to save its state and end."""

    def kill(self) -> None:
        """End it at once."""


class Engine(Protocol):
    """Starts runs."""

    slots: int | None
    """Runs at a time; None where somebody else (Slurm) sees to that."""
    threads: int | None
    """CPU threads of a run."""
    seconds_per_turn: float
    """How long to wait between asking the runs whether they go on."""

    def describe(self) -> str:
        """A few words for the first line."""

    def start(self, runs: Sequence[PlannedRun]) -> list[Started]:
        """Start these runs."""

    def close(self) -> None:
        """No run is started any more."""


class LocalEngine:
    """Processes on this machine: one a core (or as many threads as it gets), or one a GPU."""

    seconds_per_turn = 0.05

    def __init__(self, jobs: int | None, threads: int | None, gpus: Sequence[str] = ()) -> None:
        cores = core_count()
        if gpus:
            self.slots: int | None = jobs or len(gpus)
            self.threads: int | None = threads or max(cores // (jobs or len(gpus)), 1)
        else:
            self.threads = threads or 1
            self.slots = jobs or max(cores // self.threads, 1)
        self.gpus = list(gpus)
        self._load = dict.fromkeys(self.gpus, 0)
        self._warm: WarmParent | None = None
        self._can_fork = CAN_FORK

    def describe(self) -> str:
        where = f" on {len(self.gpus)} GPU{'s' if len(self.gpus) > 1 else ''}" if self.gpus else ""
        return f"{self.slots} at a time{where}, {self.threads} thread{'' if self.threads == 1 else 's'} each"

    def start(self, runs: Sequence[PlannedRun]) -> list[Started]:
        return [self._start(run) for run in runs]

    def close(self) -> None:
        if self._warm is not None:
            self._warm.close()

    def _start(self, run: PlannedRun) -> Started:
        if not self.gpus:
            return self._started(run, lambda: None)
        gpu = min(self.gpus, key=lambda one: self._load[one])  # the first of the least loaded
        self._load[gpu] += 1

        def ended() -> None:
            self._load[gpu] -= 1

        return self._started(run, ended, CUDA_VISIBLE_DEVICES=gpu)

    def _started(self, run: PlannedRun, ended: Callable[[], None], **more: str) -> Started:
        """Forked from a warm process, unless that cannot be had."""
        if self._warm is not None and not self._warm.alive:
            self._can_fork = self._warm.has_begun  # else it ends before it can do anything, and would again
            self._warm = None
        if not self._can_fork:
            return Process(run, self.threads, program(), ended, **more)
        self._warm = self._warm or WarmParent(self.threads)
        return WarmRun(self._warm, run, self.threads, ended, **more)


def local_engine(suite: SuiteConfig, runs: Sequence[PlannedRun]) -> LocalEngine:
    """The engine for this machine; its GPUs are used unless every run asks for the CPU."""
    on_cpu = all(run.config.run.device == "cpu" for run in runs)
    return LocalEngine(suite.jobs, suite.threads, () if on_cpu else gpus_here())


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus_here(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES of the GPUs that this process may use, found without importing torch."""
    if _is_cpu_torch():
        return []
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def _is_cpu_torch() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
