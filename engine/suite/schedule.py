"""Which run of a suite starts when, what is tried again, and how everything is stopped. Free of torch."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tailmatch.engine.recorded import result_of
from tailmatch.engine.stopping import Asked
from tailmatch.engine.suite.engines import Engine, Started
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.progress import SuiteProgress
from tailmatch.engine.suite.state import State, last_words, share_done, state_of

REFUSED = 2
"""The exit code of a run that the user has to mend: trying it again would end the same."""
ATTEMPTS = 2
_SECONDS_PER_LOOK = 1.0  # the folders are read less often than the processes are asked


@dataclass(kw_only=True)
class Outcome:
    """What became of the runs, by name."""

    finished: list[str] = field(default_factory=list)
    newly_finished: list[str] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=dict)
    """With the reason, in lines."""
    stopped: bool = False


@dataclass
class _Active:
    run: PlannedRun
    started: Started
    since: float


class Schedule:
    """Runs a suite's runs: each once what it needs is finished, no more at a time than the engine has slots."""

    def __init__(self, runs: Sequence[PlannedRun], engine: Engine) -> None:
        self.runs, self.engine, self.outcome = runs, engine, Outcome()
        self._waiting: list[PlannedRun] = []
        for run in runs:
            if state_of(run.folder) is State.FINISHED:
                self.outcome.finished.append(run.name)
            else:
                self._waiting.append(run)
        self._active: dict[str, _Active] = {}
        self._attempts: Counter[str] = Counter()

    def go(self) -> Outcome:
        """Until every run is finished or broken, or a stop is asked for (Ctrl-C, SIGTERM)."""
        shares = sum(share_done(run.folder) for run in self._waiting)
        with Asked() as asked, SuiteProgress(len(self.runs), len(self.outcome.finished), shares) as progress:
            self._progress = progress
            try:
                looked = -_SECONDS_PER_LOOK
                while (self._waiting or self._active) and not asked.stop:
                    self._start_ready()
                    if self._active and time.monotonic() - looked >= _SECONDS_PER_LOOK:
                        progress.update({name: share_done(one.run.folder) for name, one in self._active.items()})
                        looked = time.monotonic()
                    time.sleep(self.engine.seconds_per_turn)
                    self._collect_ended()
                self.outcome.stopped = asked.stop
            finally:
                self._stop_all()
                self.engine.close()
        return self.outcome

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        ready: list[PlannedRun] = []
        for run in list(self._waiting) if self._has_room(ready) else []:
            missing = [name for name in run.needs if name not in self.outcome.finished]
            if lost := [name for name in missing if name in self.outcome.broken]:
                self._waiting.remove(run)
                self._broke(run, [f"not started, since it needs {lost[0]}, which broke"])
            elif not missing and self._has_room(ready) and not self._waits_for_data(run, ready):
                ready.append(run)
        for run in ready:
            self._waiting.remove(run)
            self._attempts[run.name] += 1
        if ready:
            now = time.monotonic()
            for run, started in zip(ready, self.engine.start(ready), strict=True):
                self._active[run.name] = _Active(run, started, now)

    def _has_room(self, ready: Sequence[PlannedRun]) -> bool:
        return self.engine.slots is None or len(self._active) + len(ready) < self.engine.slots

    def _waits_for_data(self, run: PlannedRun, ready: Sequence[PlannedRun]) -> bool:
        """Whether another run may be downloading this one's data: the first of a data set goes ahead alone."""
        if self.engine.slots is None:
            return False
        on_the_way = [active.run for active in self._active.values()]
        is_first_out = any(other.dataset == run.dataset for other in [*on_the_way, *ready])
        return is_first_out and all(
            state_of(other.folder) is State.NEW for other in self.runs if other.dataset == run.dataset
        )

    # -- ending -------------------------------------------------------------------------------------------------------

    def _collect_ended(self) -> None:
        for name, active in list(self._active.items()):
            code = active.started.exit_code()
            if code is not None:
                del self._active[name]
                self._ended(active, code)

    def _ended(self, active: _Active, code: int) -> None:
        run, seconds = active.run, time.monotonic() - active.since
        if state_of(run.folder) is State.FINISHED:
            self.outcome.finished.append(run.name)
            self.outcome.newly_finished.append(run.name)
            self._progress.ended(run.name, f"{_accuracy(run)}in {seconds:.0f} s", finished=True)
        elif code != REFUSED and self._attempts[run.name] < ATTEMPTS:
            self._waiting.insert(0, run)
            self._progress.started(run.name, f"ended with exit code {code}, is tried once more")
        else:
            reason = last_words(run.folder)
            self._broke(run, reason if code == REFUSED else [f"ended with exit code {code}:", *reason])

    def _broke(self, run: PlannedRun, reason: list[str]) -> None:
        self.outcome.broken[run.name] = reason
        self._progress.ended(run.name, f"broke: {' '.join(reason)[:200]}", finished=False)

    def _stop_all(self) -> None:
        """Ask what still runs to save its state, and wait for it; a second Ctrl-C ends it at once."""
        if not self._active:
            return
        for active in self._active.values():
            active.started.stop()
        self._progress.started(
            "stopping", f"{len(self._active)} runs save their state (Ctrl-C again ends them at once)"
        )
        try:
            self._wait()
        except KeyboardInterrupt:
            for active in self._active.values():
                active.started.kill()
            self._wait()

    def _wait(self) -> None:
        while any(active.started.exit_code() is None for active in self._active.values()):
            time.sleep(0.1)
        for name, active in self._active.items():
            if state_of(active.run.folder) is State.FINISHED:
                self.outcome.finished.append(name)
                self.outcome.newly_finished.append(name)


def _accuracy(run: PlannedRun) -> str:
    last = result_of(run.folder).get("accuracy", {}).get("last", {}).get("all")
    return f"{100 * last:.1f} % " if isinstance(last, (int, float)) else ""
