"""Runs that a suite forks from a warm process: they are what `python run.py` makes, and a dead one is one failed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tailmatch.datasets.feature_bank import open_bank
from tailmatch.distill.config import DistillConfig
from tailmatch.engine.suite import warm
from tailmatch.engine.suite.engines import LocalEngine, Started
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.processes import Process, environment
from tailmatch.engine.suite.schedule import Schedule
from tailmatch.engine.suite.warm import WarmParent, WarmRun
from tailmatch.longtail.config import LongtailConfig
from tailmatch.ssl.config import SSLConfig
from tailmatch.ssl.data_options import DataOptions
from tests.stores import digits_store

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--labels", "40", "--loss", "ikl", "--steps", "4", "--batch-size", "4")
LONG = ("--labels", "40", "--steps", "1000000", "--batch-size", "4", "--eval-every", "20")

pytestmark = pytest.mark.skipif(not warm.CAN_FORK, reason="runs are forked on Linux alone")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_store(tmp_path_factory.mktemp("warm") / "store")


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine(2, 1)
    yield engine
    engine.close()


@pytest.fixture
def planned(store: Path, tmp_path: Path) -> Callable[..., PlannedRun]:
    def plan(name: str, *words: str) -> PlannedRun:
        return PlannedRun(
            name=name,
            task="ssl",
            folder=tmp_path / name,
            seed=0,
            words=("--dataset", "store", "--data-root", str(store), *words),
            needs=(),
            config=SSLConfig(data=DataOptions(dataset="store", data_root=store)),
            rehearse=None,
            dataset="store",
            report="store",
            where="here:1",
        )

    return plan


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm process does not find this package, installed or not."""
    (tmp_path / "tailmatch.py").touch()
    monkeypatch.setattr(warm, "environment", lambda *_, **__: {"PATH": "", "PYTHONPATH": str(tmp_path)})
    monkeypatch.chdir(tmp_path)


def ended(started: Started) -> int:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if (code := started.exit_code()) is not None:
            return code
        time.sleep(0.02)
    raise AssertionError("it goes on")


def wait_for(words: str, log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if log.exists() and words in log.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"no {words!r} in {log}")


def pid_of(run: Started) -> int:
    assert isinstance(run, WarmRun)
    while run._number not in run._parent._pids:
        assert run.exit_code() is None
    return run._parent._pids[run._number]


def test_a_forked_run_is_the_run_of_a_process_of_its_own(
    planned: Callable[..., PlannedRun], engine: LocalEngine, tmp_path: Path
) -> None:
    run = planned("forked", *SHORT)
    (started,) = engine.start([run])
    assert isinstance(started, WarmRun)
    assert ended(started) == 0
    words = [*run.words, "--threads", "1", "--out", str(tmp_path / "alone")]
    call = [sys.executable, "-m", "tailmatch", "ssl", *words]
    done = subprocess.run(call, cwd=ROOT, env=environment(1), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for file in ("weights.safetensors", "predictions.npz"):
        assert (run.folder / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    ours, theirs = (
        json.loads((folder / "environment.json").read_text()) for folder in (run.folder, tmp_path / "alone")
    )
    differ = {name for name in ours if ours[name] != theirs[name]}
    assert differ <= {"command", "started", "tailmatch_sha256"}
    assert ours["command"].replace("forked --resume", "alone") == theirs["command"]
    log = (run.folder / "log.txt").read_text()
    said = log.replace("/forked", "/alone").splitlines()[1:]
    # Speed and seconds differ; all other words are those that the process says.
    closing = [line for line in said if not line.startswith(("step", "  speed"))]
    assert closing == [line for line in done.stdout.splitlines() if not line.startswith(("step", "  speed"))]


def test_a_refused_run_says_why_in_its_log_and_ends_with_its_code(
    planned: Callable[..., PlannedRun], engine: LocalEngine
) -> None:
    run = planned("refused", *SHORT, "--model", "resnet18")
    (started,) = engine.start([run])
    assert ended(started) == 2
    assert (run.folder / "log.txt").read_text().splitlines()[-1].startswith("error: ")


def test_a_run_is_stopped_politely_and_goes_on_later(planned: Callable[..., PlannedRun], engine: LocalEngine) -> None:
    run = planned("stopped", *LONG)
    (started,) = engine.start([run])
    wait_for("step ", run.folder / "log.txt")
    started.stop()
    assert ended(started) == 130
    assert "Stopped after step" in (run.folder / "log.txt").read_text()
    (again,) = engine.start([run])
    wait_for(f"$ run.py ssl --resume {run.folder}", run.folder / "log.txt")
    again.kill()
    assert ended(again) == -signal.SIGKILL


def test_a_killed_run_is_tried_again_and_the_others_go_on(
    planned: Callable[..., PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [planned("first", *SHORT), planned("second", *SHORT, "--seed", "1"), planned("third", *SHORT, "--seed", "2")]
    engine = LocalEngine(2, 1)
    monkeypatch.setattr(engine, "seconds_per_turn", 0.0)
    start, killed = engine.start, []

    def start_and_kill(these: list[PlannedRun]) -> list[Started]:
        started = start(these)
        if not killed:
            os.kill(pid_of(started[0]), signal.SIGKILL)
            killed.append(these[0].name)
        return started

    monkeypatch.setattr(engine, "start", start_and_kill)
    outcome = Schedule(runs, engine).go()
    assert sorted(outcome.newly_finished) == ["first", "second", "third"]
    assert killed == ["first"]
    assert (runs[0].folder / "log.txt").read_text().count("$ run.py") == 2
    assert not engine._warm.alive  # type: ignore[union-attr]


def test_runs_end_with_a_parent_that_is_killed_and_the_next_has_another(
    planned: Callable[..., PlannedRun],
) -> None:
    engine = LocalEngine(2, 1)
    run = planned("orphan", *LONG)
    (started,) = engine.start([run])
    wait_for("step ", run.folder / "log.txt")
    child, parent = pid_of(started), engine._warm
    assert parent is not None
    parent._process.kill()
    assert ended(started) == -signal.SIGKILL
    end = time.monotonic() + 30
    its_log = Path(f"/proc/{child}/fd/1")
    while its_log.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not its_log.exists()
    (after,) = engine.start([planned("after", *SHORT)])
    assert ended(after) == 0
    assert engine._warm is not parent
    engine.close()


def test_runs_are_started_anew_where_the_parent_cannot_be(planned: Callable[..., PlannedRun], nowhere: None) -> None:
    engine = LocalEngine(1, 1)
    (started,) = engine.start([planned("anew", *SHORT)])
    assert ended(started) == 0
    (second,) = engine.start([planned("second", *SHORT)])
    assert isinstance(second, Process)
    second.kill()
    ended(second)


def test_a_run_that_never_began_is_not_begun_after_a_stop(planned: Callable[..., PlannedRun], nowhere: None) -> None:
    run = planned("never", *SHORT)
    started = WarmRun(WarmParent(1), run, 1, lambda: None)
    started.stop()
    assert ended(started) == warm.KILLED
    assert not (run.folder / "config.yaml").exists()


def test_a_fork_shares_what_was_read_of_a_store(store: Path) -> None:
    bank = open_bank(store)
    bank.read_ahead(("plain", "weak", "strong"))
    assert {kind for kind, _, _ in bank._tables} == {"plain", "weak", "strong"}
    assert open_bank(store) is bank


def test_every_task_says_which_stores_its_runs_read(store: Path) -> None:
    for config_type in (LongtailConfig, DistillConfig):
        config = config_type.suited_to("store")
        data = replace(config.data, dataset="store", data_root=store)
        teacher = replace(config.distillation, teacher_store=store.with_name("other"))
        assert replace(config, data=data).stores() == {store: ("plain", "plain")}
        weak = replace(config, data=replace(data, train_view="weak"), distillation=teacher)
        assert weak.stores() == {store.with_name("other"): ("plain",), store: ("plain", "weak")}
        assert config_type().stores() == {}
    assert SSLConfig().stores() == {}
