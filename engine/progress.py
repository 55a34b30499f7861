"""What a person sees while a run goes on: a bar on a terminal, a line per evaluation anywhere else."""

import sys
import time
from datetime import timedelta
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Rate, time to go, losses and the latest accuracies."""

    def __init__(self, steps: int, first: int, quiet: bool = False) -> None:
        self.steps, self.done, self._first = steps, first, first
        self._start = time.perf_counter()
        self._quiet = quiet
        self._bar = tqdm(
            total=steps, initial=first, unit="step", dynamic_ncols=True, disable=quiet or not sys.stderr.isatty()
        )
        self._words: dict[str, str] = {}

    def advance(self) -> None:
        self.done += 1
        self._bar.update()

    def show(self, **words: str) -> None:
        """Keep these words beside the bar."""
        self._words.update(words)
        self._bar.set_postfix(self._words, refresh=False)

    def evaluated(self) -> None:
        """Off a terminal, say where the run is."""
        if self._quiet or not self._bar.disable:
            return
        rate = (self.done - self._first) / max(time.perf_counter() - self._start, 1e-9)
        to_go = timedelta(seconds=round((self.steps - self.done) / max(rate, 1e-9)))
        words = "  ".join(f"{name} {word}" for name, word in self._words.items())
        print(f"step {self.done}/{self.steps}  {rate:.1f} steps/s  to go {to_go}  {words}", flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()
