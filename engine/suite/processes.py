"""A run of a suite as a process of its own, and what it is given. Free of torch."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tailmatch
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.state import LOG, State, state_of


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
