"""Stopping a run politely: Ctrl-C and SIGTERM let the step finish and its state be saved."""

import signal
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop, saved its state and can be resumed."""


class StopSignals:
    """While entered, remembers that a stop was asked for; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "StopSignals":
        try:
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: the caller's signals are not ours to take
            self._before = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
