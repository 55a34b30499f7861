"""What a run is asked while it trains: to stop or to save, between two steps; and a process ends with its own code.

Ctrl-C, SIGTERM, SIGHUP   the step is finished, the state saved, and the run ends with code 130
Ctrl-C after any of them  the run ends at once, and goes on later from its latest checkpoint
SIGUSR1                   the state is saved, and the run goes on
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn


def leave(code: int) -> NoReturn:
    """End this process with this code; as one of several processes, at once.

    The threads of a gloo group outlive `destroy_process_group` where DistributedDataParallel has used the group. One
    that lets go of its last tensor while the interpreter shuts down aborts the process: a finished run would end with
    SIGABRT, and torchrun would call it a failure. By now every file is written, so there is nothing to shut down.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class Interrupted(Exception):
    """The run was asked to stop, saved its state and can be resumed."""


def _stop_signals() -> list[signal.Signals]:
    """Ctrl-C, the end of the session, and a closed terminal (unless `nohup` said to go on without one)."""
    hang_up = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    kept = [number for number in hang_up if signal.getsignal(number) is not signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *kept]


def _save_signals() -> list[signal.Signals]:
    return [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []


@contextmanager
def save_signals_ignored() -> Iterator[None]:
    """Around a run, where there is nothing to save yet: the system would end the process for a signal nobody takes.

    Afterwards they are the caller's again.
    """
    before: dict[signal.Signals, Any] = {}
    with suppress(ValueError):  # not the main thread
        before |= {number: signal.signal(number, signal.SIG_IGN) for number in _save_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Asked:
    """While entered, remembers what was asked for; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.stop, self.save = False, False

    def __enter__(self) -> "Asked":
        self._before: dict[signal.Signals, Any] = {}
        with suppress(ValueError):  # not the main thread: the caller's signals are not ours to take
            self._before |= {number: signal.signal(number, self._note_stop) for number in _stop_signals()}
            self._before |= {number: signal.signal(number, self._note_save) for number in _save_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True
