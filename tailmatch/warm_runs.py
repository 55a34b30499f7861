"""A suite's runs, forked from one process that has imported the trainer and read the feature stores.

`python -m tailmatch.warm_runs SOCKET` takes wishes from that descriptor and answers there, a line of JSON each:

    {"run": 3, "words": ["ssl", ...], "program": PATH, "log": FILE, "environment": {...}, "threads": 1, "stores": {...}}
    {"run": 3, "signal": 15}
    -> {"run": 3, "pid": 4711}
    -> {"run": 3, "code": 0}

What a fork then does is what `python run.py ...` does, from the words to the exit code, with a session and a log of its
own. This process computes with one thread and touches no GPU, since neither threads nor CUDA outlive a fork. It ends
with the suite, and its runs then go on to their end, as they would without it.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Wish = Mapping[str, Any]


class WarmParent:
    """Forks a process for each run that is asked for, and says how it ended."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._unread = b""
        self._runs: dict[int, int] = {}  # by process
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._wake_before = signal.set_wakeup_fd(self._wake.fileno())  # select returns when a child ends
        self._signal_before = signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> Wish | None:
        """Returns in every fork, with what it is to run; here when the suite is gone, with None."""
        while True:
            ready, _, _ = select.select([self._channel, self._woken], [], [])
            self._say_ended()
            if self._channel not in ready:
                continue
            wishes = self._received()
            if wishes is None:
                return None
            for wish in wishes:
                if "signal" in wish:
                    self._send(wish["run"], wish["signal"])
                elif self._forked(wish):
                    return wish

    def _received(self) -> list[Wish] | None:
        """None where the suite has closed its end."""
        data = self._channel.recv(1 << 16)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _forked(self, wish: Wish) -> bool:
        """Whether this is the fork."""
        prepare(wish)
        gc.collect()
        gc.freeze()  # a collection in a fork would copy every page that it looks at
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(self._wake_before)
            signal.signal(signal.SIGCHLD, self._signal_before)
            for end in (self._channel, self._woken, self._wake):
                end.close()
            return True
        self._runs[pid] = wish["run"]
        self._say(run=wish["run"], pid=pid)
        return False

    def _say_ended(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(1 << 16)
        for pid, run in list(self._runs.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._runs[pid]
                self._say(run=run, code=os.waitstatus_to_exitcode(status))

    def _send(self, run: int, number: int) -> None:
        for pid in [pid for pid, other in self._runs.items() if other == run]:
            os.kill(pid, number)  # it is there: only this process waits for it

    def _say(self, **answer: int) -> None:
        with suppress(OSError):  # the suite is gone, which the next look tells
            self._channel.sendall(json.dumps(answer).encode() + b"\n")


def prepare(wish: Wish) -> None:
    """Import what the run needs and read its stores, as far as earlier runs have not; what is wrong the run says."""
    import torch

    from tailmatch._public import load_named
    from tailmatch.commands import TASKS
    from tailmatch.datasets.feature_bank import open_bank
    from tailmatch.engine.records import commit
    from tailmatch.engine.trackers import summary_writer
    from tailmatch.errors import UserError

    torch.set_num_threads(1)
    for place in ("cli:main", "engine.command_line:parse_run", "datasets.stored:read_store"):
        load_named(place)
    if wish["words"][0] in TASKS:
        load_named(TASKS[wish["words"][0]].run)
    commit()
    summary_writer()
    for folder, kinds in wish["stores"].items():
        with suppress(UserError, OSError):
            open_bank(Path(folder)).read_ahead(kinds)


def become(wish: Wish) -> None:
    """Make this fork the process that `python run.py WORDS` would be."""
    import torch

    os.setsid()
    log = os.open(wish["log"], os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    os.environ.update(wish["environment"])
    sys.argv = [wish["program"], *wish["words"]]
    if wish["threads"] is not None:
        torch.set_num_threads(wish["threads"])


def main() -> None:
    wish = WarmParent(socket.socket(fileno=int(sys.argv[1]))).serve()
    if wish is None:
        return
    from tailmatch.cli import main as run
    from tailmatch.engine.stopping import leave

    become(wish)
    leave(run(wish["words"]))


if __name__ == "__main__":
    main()
