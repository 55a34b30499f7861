"""How a suite's runs are started: as processes on this machine. (As a Slurm array: slurm.py.)"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import tailmatch
from tailmatch.engine.suite.config import SuiteConfig
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.state import LOG, State, state_of


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


def program() -> list[str]:
    """The command line this process was started by."""
    if sys.argv[0].endswith("run.py"):
        return [sys.executable, sys.argv[0]]
    return [sys.executable, "-m", "tailmatch"]


def environment(threads: int | None, **more: str) -> dict[str, str]:
    """For a child: it finds this very package, and its libraries keep to its threads."""
    limits = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **limits, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1", **more}


def python_path() -> str:
    """PYTHONPATH with the folder that this package was imported from in front."""
    package, given = str(Path(tailmatch.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([package, *(place for place in given.split(os.pathsep) if place and place != package)])


def words_of(run: PlannedRun, threads: int | None) -> list[str]:
    """What follows `run.py`: a new run with its options, or one that goes on with those it has."""
    if state_of(run.folder) is not State.NEW:
        track = run.config.call.track  # the folder holds what the run is, and not where it is shown
        return [run.task, "--resume", str(run.folder), *(["--track", *track] if track else [])]
    limit = [] if threads is None else ["--threads", str(threads)]
    return [run.task, *run.words, *limit, "--out", str(run.folder), "--resume"]


def open_log(run: PlannedRun, words: Sequence[str]) -> int:
    """A descriptor for what the run says, after what its earlier attempts said."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / LOG).open("a", encoding="utf-8") as file:
        file.write(f"$ run.py {shlex.join(words)}\n")
    return os.open(run.folder / LOG, os.O_WRONLY | os.O_APPEND)


class Process:
    """A run as a process of its own. Ctrl-C does not reach it: the suite passes it on."""

    def __init__(
        self,
        run: PlannedRun,
        threads: int | None,
        start: Sequence[str],
        ended: Callable[[], None] = lambda: None,
        **more: str,
    ) -> None:
        words = words_of(run, threads)
        log = open_log(run, words)
        try:
            self._process = subprocess.Popen(
                [*start, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(threads, **more),
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._ended: Callable[[], None] | None = ended

    def exit_code(self) -> int | None:
        code = self._process.poll()
        if code is not None and self._ended is not None:
            self._ended()
            self._ended = None
        return code

    def wait(self) -> int:
        """Until it ends; its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()


class LocalEngine:
    """Processes on this machine: one a core (or as many threads as it gets), or one a GPU."""

    seconds_per_turn = 0.25

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

    def describe(self) -> str:
        where = f" on {len(self.gpus)} GPU{'s' if len(self.gpus) > 1 else ''}" if self.gpus else ""
        return f"{self.slots} at a time{where}, {self.threads} thread{'' if self.threads == 1 else 's'} each"

    def start(self, runs: Sequence[PlannedRun]) -> list[Started]:
        return [self._start(run) for run in runs]

    def _start(self, run: PlannedRun) -> Started:
        if not self.gpus:
            return Process(run, self.threads, program())
        gpu = min(self.gpus, key=lambda one: self._load[one])  # the first of the least loaded
        self._load[gpu] += 1

        def ended() -> None:
            self._load[gpu] -= 1

        return Process(run, self.threads, program(), ended, CUDA_VISIBLE_DEVICES=gpu)


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
