"""Runs on this machine without two seconds of imports each: forked from one warm process (tailmatch/warm_runs.py).

A fork starts with the trainer imported and the feature stores read, and is in all else a process like any other: with
its own folder, log, session, threads and exit code. Where there are no forks to rely on (Windows has none, and macOS's
own libraries forbid them), and where the warm process cannot be started, every run is started anew. Free of torch.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import tailmatch
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.processes import Process, environment, open_log, program, words_of
from tailmatch.engine.suite.state import LOG

CAN_FORK = sys.platform == "linux"
KILLED = -9


class WarmParent:
    """The process that runs are forked from, seen from the suite."""

    def __init__(self, threads: int | None) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tailmatch.warm_runs", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(threads, OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "PASSIVE")),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.alive = True
        self._unread, self._asked = b"", 0
        self._pids: dict[int, int] = {}
        self._codes: dict[int, int] = {}

    def ask(self, **wish: Any) -> int:
        """The number of the run that is asked for."""
        self._asked += 1
        self._send(run=self._asked, **wish)
        return self._asked

    def signal(self, run: int, number: int) -> None:
        self._send(run=run, signal=int(number))

    def exit_code(self, run: int) -> int | None:
        """None while it goes on, or was never begun (see `lost`)."""
        self._look()
        return self._codes.get(run)

    def lost(self, run: int) -> bool:
        """Whether this process ended before it began the run."""
        return not self.alive and run not in self._pids

    @property
    def has_begun(self) -> bool:
        """Whether it has begun any run."""
        return bool(self._pids)

    def close(self) -> None:
        """Let it end; runs that go on do so."""
        if self.alive:
            self.alive = False
            self._socket.close()
            self._process.wait()

    def _send(self, **wish: Any) -> None:
        with suppress(OSError):  # it has ended, which the next look tells
            self._socket.sendall(json.dumps(wish).encode() + b"\n")

    def _look(self) -> None:
        while self.alive:
            try:
                data = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._ended()
                return
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                known = self._pids if "pid" in answer else self._codes
                known[answer["run"]] = answer.get("pid", answer.get("code"))

    def _ended(self) -> None:
        """It was killed: of its runs nobody hears any more, so they end with it and are tried again."""
        self.close()
        for run in self._pids.keys() - self._codes.keys():
            with suppress(ProcessLookupError):
                os.kill(self._pids[run], signal.SIGKILL)
            self._codes[run] = KILLED


class WarmRun:
    """A run forked from a warm process; one started anew where that ends before it begins the run."""

    def __init__(
        self, parent: WarmParent, run: PlannedRun, threads: int | None, ended: Callable[[], None], **more: str
    ) -> None:
        words = words_of(run, threads)
        os.close(open_log(run, words))
        self._parent, self._stopped = parent, False
        self._anew: Process | None = None
        self._start_anew = lambda: Process(run, threads, program(), lambda: None, **more)
        self._ended: Callable[[], None] | None = ended
        *_, place = program()
        self._number = parent.ask(
            words=words,
            program=place if place.endswith(".py") else str(Path(tailmatch.__file__).with_name("__main__.py")),
            log=str(run.folder / LOG),
            environment=more,
            threads=threads,
            stores={str(folder): kinds for folder, kinds in run.config.stores().items()},
        )

    def exit_code(self) -> int | None:
        code = self._exit_code()
        if code is not None and self._ended is not None:
            self._ended()
            self._ended = None
        return code

    def _exit_code(self) -> int | None:
        code = self._parent.exit_code(self._number)
        if code is None and self._anew is None and self._parent.lost(self._number):
            if self._stopped:
                return KILLED
            self._anew = self._start_anew()
        return code if self._anew is None else self._anew.exit_code()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        self._stopped = True
        if self._anew is None:
            self._parent.signal(self._number, number)
        elif number is signal.SIGTERM:
            self._anew.stop()
        else:
            self._anew.kill()
