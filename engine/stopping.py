"""Stopping politely: a run that is asked to stops between steps and is saved, and a process ends with its own code."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


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


class StopSignals:
    """While entered, remembers that a stop was asked for; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "StopSignals":
        try:
            self._before = {number: signal.signal(number, self._note) for number in _stop_signals()}
        except ValueError:  # not the main thread: the caller's signals are not ours to take
            self._before = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
