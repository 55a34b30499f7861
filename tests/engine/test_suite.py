"""What a suite starts when, tries again, refuses, and says; the runs are stand-ins, but for the last test."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tailmatch import cli
from tailmatch.engine.config import to_yaml
from tailmatch.engine.locks import locked
from tailmatch.engine.suite import engines as suite_engines
from tailmatch.engine.suite import run as suite
from tailmatch.engine.suite.config import SuiteConfig
from tailmatch.engine.suite.engines import LocalEngine, gpus_here
from tailmatch.engine.suite.plan import PlannedRun, TrainingTask, plan
from tailmatch.engine.suite.processes import Process, environment, words_of
from tailmatch.engine.suite.schedule import Schedule
from tailmatch.engine.suite.state import State, changes, chosen, last_words, refuse_changed, share_done, state_of
from tailmatch.errors import UserError
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import resolved

GRID = """
task: longtail
options: {dataset: digits-lt}
seeds: [0, 1]
runs:
  - {name: teacher, model: wrn-16-2-relu}
  - {loss: [kl, ikl], teacher_checkpoint: "@teacher"}
"""
EVERY = ["teacher-s0", "kl-s0", "ikl-s0", "teacher-s1", "kl-s1", "ikl-s1"]


def find_task(name: str) -> TrainingTask:
    return TrainingTask(LongtailConfig, resolved, "tailmatch.longtail.build:rehearsed")


@pytest.fixture(scope="session")
def planned_once(tmp_path_factory: pytest.TempPathFactory) -> list[PlannedRun]:
    folder = tmp_path_factory.mktemp("suite")
    (folder / "mine.yaml").write_text(GRID)
    return plan(SuiteConfig(name=str(folder / "mine.yaml"), out=folder), find_task)


@pytest.fixture
def runs(tmp_path: Path, planned_once: list[PlannedRun]) -> list[PlannedRun]:
    (tmp_path / "mine.yaml").write_text(GRID)
    return [replace(run, folder=tmp_path / "out" / run.name) for run in planned_once]


@pytest.fixture
def real_look_ahead() -> None:
    """Asked for by the tests whose runs are real."""


@pytest.fixture(autouse=True)
def _no_look_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins need no data, and these tests have none."""
    if "real_look_ahead" not in request.fixturenames:
        monkeypatch.setattr(suite, "check_data", lambda *_: None)


def begin(run: PlannedRun) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.yaml").write_text(to_yaml(run.config, run.task))


def finish(run: PlannedRun) -> None:
    begin(run)
    result = {"status": "finished", "accuracy": {"last": {"all": 0.5}}}
    (run.folder / "result.json").write_text(json.dumps(result))


class Toy:
    """A run that ends, with these exit codes one after the other, two turns after its start."""

    def __init__(self, run: PlannedRun, code: int) -> None:
        self.run, self.code, self.turns, self.stopped = run, code, 2, False
        begin(run)

    def exit_code(self) -> int | None:
        self.turns -= 1
        if self.turns > 0 and not self.stopped:
            return None
        if self.code == 0 and not self.stopped:
            finish(self.run)
        return 130 if self.stopped else self.code

    def stop(self) -> None:
        self.stopped = True

    kill = stop


class ToyEngine:
    """Keeps a diary of what was started, and of how many were on their way."""

    threads, seconds_per_turn = 1, 0.0

    def __init__(self, slots: int | None = 2, **codes: Sequence[int]) -> None:
        self.slots, self.codes = slots, {name.replace("_", "-"): list(given) for name, given in codes.items()}
        self.started: list[str] = []
        self.batches: list[list[str]] = []
        self.on_the_way: list[Toy] = []
        self.most = 0
        self.after_start: Callable[[str], None] = lambda name: None

    def describe(self) -> str:
        return "toys"

    def start(self, runs: Sequence[PlannedRun]) -> list[Toy]:
        self.batches.append([run.name for run in runs])
        toys = []
        for run in runs:
            code = self.codes[run.name].pop(0) if self.codes.get(run.name) else 0
            toys.append(Toy(run, code))
            self.started.append(run.name)
            self.after_start(run.name)
        self.on_the_way = [toy for toy in self.on_the_way if toy.turns > 0] + toys
        self.most = max(self.most, len(self.on_the_way))
        return toys

    def close(self) -> None:
        self.closed = True


# -- scheduling -------------------------------------------------------------------------------------------------------


def test_all_runs_are_run_no_more_at_a_time_than_there_are_slots(runs: list[PlannedRun]) -> None:
    engine = ToyEngine(slots=2)
    outcome = Schedule(runs, engine).go()
    assert sorted(outcome.newly_finished) == sorted(EVERY)
    assert sorted(engine.started) == sorted(EVERY)
    assert engine.most == 2
    assert engine.closed
    assert not outcome.broken
    assert not outcome.stopped


def test_a_run_starts_after_the_one_it_needs(runs: list[PlannedRun]) -> None:
    engine = ToyEngine(slots=None)
    Schedule(runs, engine).go()
    assert engine.batches == [["teacher-s0", "teacher-s1"], ["kl-s0", "ikl-s0", "kl-s1", "ikl-s1"]]


def test_the_first_run_of_a_data_set_goes_ahead_alone_since_it_may_download(
    runs: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "begin", lambda run: run.folder.mkdir(parents=True, exist_ok=True))
    engine = ToyEngine(slots=8)
    monkeypatch.setattr(
        sys.modules[__name__], "finish", lambda run: (run.folder / "result.json").write_text('{"status": "finished"}')
    )
    Schedule(runs, engine).go()
    assert engine.batches[0] == ["teacher-s0"]
    assert len(engine.batches[1]) > 1


def test_finished_runs_are_left_alone(runs: list[PlannedRun]) -> None:
    for run in runs[:3]:
        finish(run)
    engine = ToyEngine()
    outcome = Schedule(runs, engine).go()
    assert engine.started[0] == "teacher-s1"
    assert len(outcome.finished) == 6
    assert len(outcome.newly_finished) == 3


def test_a_crash_is_tried_once_more(runs: list[PlannedRun]) -> None:
    engine = ToyEngine(kl_s0=[-9])
    outcome = Schedule(runs, engine).go()
    assert engine.started.count("kl-s0") == 2
    assert len(outcome.newly_finished) == 6


def test_what_crashes_twice_is_broken_with_its_last_words_and_the_rest_goes_on(runs: list[PlannedRun]) -> None:
    (runs[1].folder).mkdir(parents=True)
    (runs[1].folder / "log.txt").write_text("step 1\nTraceback\n  somewhere\nZeroDivisionError: division by zero\n")
    engine = ToyEngine(kl_s0=[1, 1, 1])
    outcome = Schedule(runs, engine).go()
    assert engine.started.count("kl-s0") == 2
    assert list(outcome.broken) == ["kl-s0"]
    assert outcome.broken["kl-s0"][0] == "ended with exit code 1:"
    assert outcome.broken["kl-s0"][-1] == "ZeroDivisionError: division by zero"
    assert len(outcome.newly_finished) == 5


def test_a_refusal_is_not_tried_again_and_what_needs_it_does_not_start(runs: list[PlannedRun]) -> None:
    runs[0].folder.mkdir(parents=True)
    (runs[0].folder / "log.txt").write_text("step 1\nerror: There is no room.\n")
    engine = ToyEngine(teacher_s0=[2])
    outcome = Schedule(runs, engine).go()
    assert engine.started.count("teacher-s0") == 1
    assert outcome.broken == {
        "teacher-s0": ["There is no room."],
        "kl-s0": ["not started, since it needs teacher-s0, which broke"],
        "ikl-s0": ["not started, since it needs teacher-s0, which broke"],
    }
    assert sorted(outcome.newly_finished) == ["ikl-s1", "kl-s1", "teacher-s1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_stops_all_runs_and_starts_no_more(runs: list[PlannedRun], number: signal.Signals) -> None:
    engine = ToyEngine(slots=2)
    engine.after_start = lambda name: os.kill(os.getpid(), number) if name == "ikl-s0" else None
    outcome = Schedule(runs, engine).go()
    assert outcome.stopped
    assert "ikl-s0" not in outcome.finished
    assert all(toy.stopped for toy in engine.on_the_way if toy.run.name not in outcome.finished)
    assert "ikl-s1" not in engine.started


# -- folders ----------------------------------------------------------------------------------------------------------


def test_states_and_shares(runs: list[PlannedRun]) -> None:
    run = runs[0]
    assert (state_of(run.folder), share_done(run.folder)) == (State.NEW, 0.0)
    begin(run)
    (run.folder / "result.json").write_text('{"status": "running", "total_steps": 200}')
    (run.folder / "metrics.jsonl").write_text('{"step": 50}\n{"step": 100}\n{"st')
    assert (state_of(run.folder), share_done(run.folder)) == (State.BEGUN, 0.5)
    finish(run)
    assert state_of(run.folder) is State.FINISHED
    (run.folder / "result.json").write_text('{"status": "fini')
    assert state_of(run.folder) is State.BEGUN


def test_a_run_made_with_other_options_is_refused(runs: list[PlannedRun], tmp_path: Path) -> None:
    finish(runs[0])
    refuse_changed(runs)
    other = SuiteConfig(
        name=str(tmp_path / "mine.yaml"), out=tmp_path / "out", words=("--lr", "0.5", "--workers", "1", "--epochs", "9")
    )
    changed = plan(other, find_task)
    assert changes(changed[0]) == ["lr 0.1 -> 0.5", "epochs 60 -> 9"]
    message = r"1 of 6 runs are of other options .*teacher-s0: lr 0.1 -> 0.5, epochs 60 -> 9\); remove their folders"
    with pytest.raises(UserError, match=message):
        refuse_changed(changed)


def test_a_moved_suite_still_knows_its_runs(runs: list[PlannedRun], tmp_path: Path) -> None:
    finish(runs[0])
    finish(runs[1])
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    moved = plan(SuiteConfig(name=str(tmp_path / "mine.yaml"), out=tmp_path / "elsewhere"), find_task)
    refuse_changed(moved)
    assert state_of(moved[1].folder) is State.FINISHED


def test_only_takes_what_the_chosen_need(runs: list[PlannedRun]) -> None:
    assert [run.name for run in chosen(runs, "ikl-*")] == ["teacher-s0", "ikl-s0", "teacher-s1", "ikl-s1"]
    with pytest.raises(UserError, match=r"--only 'gkl\*' fits none of the 6 runs; they are called teacher-s0, kl-s0"):
        chosen(runs, "gkl*")


def test_last_words(tmp_path: Path) -> None:
    assert last_words(tmp_path) == ["it said nothing"]
    (tmp_path / "log.txt").write_text("\n".join(map(str, range(9))))
    assert last_words(tmp_path) == ["4", "5", "6", "7", "8"]
    (tmp_path / "log.txt").write_text("one\nerror: This is why.\n")
    assert last_words(tmp_path) == ["This is why."]


# -- processes --------------------------------------------------------------------------------------------------------

STAND_IN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(130)))
print("words", *sys.argv[1:], flush=True)
time.sleep(float(sys.argv[1]) if sys.argv[1] != "longtail" else 0)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> list[str]:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return [sys.executable, str(tmp_path / "stand_in.py")]


def test_a_process_gets_the_run_s_words_and_writes_to_its_log(runs: list[PlannedRun], stand_in: list[str]) -> None:
    process = Process(runs[0], 3, stand_in)
    assert process.wait() == 0
    words = f"--dataset digits-lt --model wrn-16-2-relu --seed 0 --threads 3 --out {runs[0].folder} --resume"
    log = (runs[0].folder / "log.txt").read_text().splitlines()
    assert log == [f"$ run.py longtail {words}", f"words longtail {words}"]
    begin(runs[0])
    assert words_of(runs[0], 3) == ["longtail", "--resume", str(runs[0].folder)]


def test_a_process_is_stopped_politely(runs: list[PlannedRun], stand_in: list[str]) -> None:
    ended: list[bool] = []
    process = Process(runs[0], 1, [*stand_in, "60"], lambda: ended.append(True))
    while "words" not in last_words(runs[0].folder)[-1]:
        assert process.exit_code() is None
        time.sleep(0.02)
    process.stop()
    assert process.wait() == 130
    assert process.exit_code() == 130
    assert process.exit_code() == 130
    assert ended == [True]
    assert last_words(runs[0].folder)[-1] == "saved"


def test_each_gpu_gets_the_next_run(
    runs: list[PlannedRun], stand_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    class Fake:
        def __init__(self, *_: object, **more: str) -> None:
            given.append(more["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr(suite_engines, "CAN_FORK", False)
    monkeypatch.setattr(suite_engines, "Process", Fake)
    monkeypatch.setattr(suite_engines, "core_count", lambda: 16)
    engine = LocalEngine(None, None, ["0", "3"])
    assert (engine.slots, engine.threads) == (2, 8)
    engine.start(runs[:3])
    assert given == ["0", "3", "0"]
    assert "on 2 GPUs" in engine.describe()


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_engines, "core_count", lambda: 6)
    assert [LocalEngine(*given).slots for given in ((None, None), (None, 4), (3, None))] == [6, 1, 3]


def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_engines, "version", lambda package: "2.13.0")
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "1, GPU-ab"}) == ["1", "GPU-ab"]
    assert gpus_here({"CUDA_VISIBLE_DEVICES": ""}) == []
    listing = "GPU 0: A (UUID: x)\n  MIG 1g.10gb Device 0: (UUID: y)\nGPU 1: A (UUID: z)\n"
    answer = subprocess.CompletedProcess([], 0, stdout=listing)
    monkeypatch.setattr(suite_engines.subprocess, "run", lambda *_, **__: answer)
    assert gpus_here({}) == ["0", "1"]
    monkeypatch.setattr(suite_engines, "version", lambda package: "2.13.0+cpu")
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "1"}) == []


def test_a_child_keeps_to_its_threads_and_finds_this_package() -> None:
    given = environment(3)
    assert given["OMP_NUM_THREADS"] == "3"
    code = "import tailmatch, sys; sys.stdout.write(tailmatch.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=given, cwd="/", capture_output=True, text=True, check=True
    ).stdout
    assert found == sys.modules["tailmatch"].__file__


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def analyzed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of analyze, which is not made."""
    calls: list[list[str]] = []

    def call(words: list[str], **_: object) -> int:
        calls.append(words[words.index("analyze") :])
        return 0

    monkeypatch.setattr(suite.subprocess, "call", call)
    return calls


def test_the_command_ends_in_analyze_and_records_itself(
    runs: list[PlannedRun], tmp_path: Path, analyzed: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(suite, "local_engine", lambda *_: ToyEngine(kl_s1=[2]))
    call = ["suite", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]
    assert cli.main(call) == suite.SOME_BROKE
    said = capsys.readouterr().out
    assert "5 of 6 runs finished, 5 of them now" in said
    assert "broken: kl-s1" in said
    finished = [str(run.folder) for run in runs if run.name != "kl-s1"]
    assert analyzed == [["analyze", *finished, "--out", str(tmp_path / "out" / "analysis")]]
    record = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert (record["finished"], record["finished_by_this_call"]) == (5, 5)
    monkeypatch.setattr(suite, "local_engine", lambda *_: ToyEngine())
    assert cli.main(call) == 0
    assert "6 of 6 runs finished, 1 of them now" in capsys.readouterr().out


def test_each_setting_has_its_own_report(
    tmp_path: Path, analyzed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two.yaml").write_text(
        "{task: longtail, options: {config: cifar100_lt, imbalance: [10, 100]}, runs: [{label_loss: focal}]}"
    )
    monkeypatch.setattr(suite, "local_engine", lambda *_: ToyEngine())
    assert cli.main(["suite", str(tmp_path / "two.yaml"), "--out", str(tmp_path / "out")]) == 0
    places = [Path(words[-1]).relative_to(tmp_path / "out").as_posix() for words in analyzed]
    assert places == ["analysis/cifar100-lt-imbalance10", "analysis/cifar100-lt-imbalance100"]


def test_a_second_call_at_the_same_time_is_refused(runs: list[PlannedRun], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code = (
        "import sys; from pathlib import Path; from tailmatch.engine.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(1),
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    try:
        assert cli.main(["suite", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]) == 2
    finally:
        other.communicate()
    with locked(tmp_path / "out" / ".lock", "still held"):
        pass


def test_two_real_runs(
    tmp_path: Path, analyzed: list[list[str]], capsys: pytest.CaptureFixture[str], real_look_ahead: None
) -> None:
    (tmp_path / "tiny.yaml").write_text(
        "{task: ssl, options: {dataset: digits, steps: 2, batch_size: 4}, runs: [{algorithm: supervised}, {model: nt}]}"
    )
    call = ["suite", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--only", "supervised*"]
    assert cli.main(call) == 2
    assert "tiny.yaml:1: nt-s0: " in capsys.readouterr().err
    (tmp_path / "tiny.yaml").write_text(
        "{task: ssl, options: {dataset: digits, steps: 2, batch_size: 4}, runs: [{algorithm: supervised}, {loss: kl}]}"
    )
    assert cli.main(call) == 0
    folder = tmp_path / "out" / "supervised-s0"
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert json.loads((folder / "environment.json").read_text())["threads"] == 1
    assert "accuracy, last" in (folder / "log.txt").read_text()
    assert cli.main([*call, "--threads", "2"]) == 0  # nothing left to do
    assert "1 of 1 runs finished, 0 of them now" in capsys.readouterr().out
