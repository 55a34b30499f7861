"""What a person sees while a suite goes on: one bar on a terminal, a line for each ended run anywhere else."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from tqdm import tqdm

_EVERY_SECONDS = 60.0
_NAMED = 3


class SuiteProgress:
    """How many runs are finished, which are on their way and how far, and when the rest will be."""

    def __init__(self, total: int, finished: int, shares: float = 0.0) -> None:
        self._total, self._finished, self._first = total, finished, finished + shares
        self._start = self._said = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=self._first,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            bar_format="{percentage:3.0f} %|{bar}| {n:.1f} of {total} runs [{elapsed}<{remaining}{postfix}]",
        )

    def started(self, name: str, words: str) -> None:
        """Say that a run starts or goes on."""
        self._say(f"{name}: {words}")

    def ended(self, name: str, words: str, finished: bool) -> None:
        """Say how a run ended."""
        self._finished += finished
        self._say(f"[{self._finished}/{self._total}] {name}: {words}")

    def update(self, shares: Mapping[str, float]) -> None:
        """How far each of the running ones is, 0 to 1."""
        done = self._finished + sum(shares.values())
        now = time.monotonic()
        if not self._bar.disable:
            self._bar.n = round(min(done, self._total), 3)
            self._bar.set_postfix_str(_listed(shares))
        elif now - self._said >= _EVERY_SECONDS and shares:
            self._say(
                f"{done:.1f} of {self._total} runs, to go {self._to_go(done, now)}, on their way: {_listed(shares)}"
            )

    def _to_go(self, done: float, now: float) -> str:
        made = done - self._first
        if made <= 0:
            return "unknown"
        return str(timedelta(seconds=round((self._total - done) * (now - self._start) / made)))

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        if self._bar.disable:
            print(text, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def __enter__(self) -> "SuiteProgress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()


def _listed(shares: Mapping[str, float]) -> str:
    words = [f"{name} {100 * share:.0f} %" for name, share in list(shares.items())[:_NAMED]]
    more = [f"{len(shares) - _NAMED} more"] if len(shares) > _NAMED else []
    return ", ".join([*words, *more])
