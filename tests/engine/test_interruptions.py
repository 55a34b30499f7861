"""What may happen to a run from outside: signals, a folder that goes or cannot be written, a clock that is set back."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tailmatch.cli import main
from tailmatch.engine import checkpoint
from tailmatch.engine.checkpoint import checkpoints
from tailmatch.engine.loop import Trainer
from tailmatch.engine.stopping import Interrupted

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "ssl",
    "--algorithm",
    "supervised",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--batch-size",
    "4",
    "--eval-every",
    "40",
]
STEPS = 24
MakeTrainer = Callable[..., Trainer]
Contents = Callable[[Path], dict[str, object]]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, contents: Contents) -> dict[str, object]:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert main([*WORDS, "--steps", "12", "--out", str(out)]) == 0
    return contents(out)


def at(step: int, happens: Callable[[], object]) -> Callable[[int], None]:
    return lambda now: happens() if now == step else None  # type: ignore[return-value]


def signalled(*numbers: int) -> Callable[[], None]:
    def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    return send


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal")
def test_sigusr1_saves_and_the_run_goes_on(
    tmp_path: Path, toy_trainer: MakeTrainer, contents: Contents, capsys: pytest.CaptureFixture[str]
) -> None:
    before, seen = signal.getsignal(signal.SIGUSR1), []
    options = {"checkpoint_every": 1000, "eval_every": 1000}

    def look(step: int) -> None:
        at(6, signalled(signal.SIGUSR1))(step)
        seen.append([path.name for path in checkpoints(tmp_path / "saved" / "checkpoints")])

    toy_trainer(tmp_path / "saved", STEPS, before_step=look, **options).fit()
    toy_trainer(tmp_path / "peaceful", STEPS, **options).fit()
    assert seen[6:8] == [[], ["step_00000007.safetensors"]]
    assert capsys.readouterr().out.count("Saved after step 7; the run goes on.") == 1
    assert contents(tmp_path / "saved") == contents(tmp_path / "peaceful")
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal")
@pytest.mark.parametrize("words", [["--steps", "2"], ["--lr", "1e30", "--steps", "30"]])
def test_a_run_leaves_the_signals_of_its_caller_as_they_were(words: list[str], tmp_path: Path) -> None:
    """One that comes to its end, and one whose loss does not."""
    taken: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: taken.append(number))
    try:
        code = main(
            ["ssl", *words, "--batch-size", "4", "--threads", "1", "--device", "cpu", "--out", f"{tmp_path}/run"]
        )
        assert code == (0 if "2" in words else 2)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert taken == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(os.name != "posix", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_of_the_session_saves_and_stops(number: int, tmp_path: Path, toy_trainer: MakeTrainer) -> None:
    with pytest.raises(Interrupted, match="Stopped after step 4; go on with --resume"):
        toy_trainer(tmp_path, STEPS, before_step=at(3, signalled(number))).fit()
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step_00000004.safetensors"


@pytest.mark.skipif(os.name != "posix", reason="no such signals")
def test_ctrl_c_after_sigterm_stops_at_once(tmp_path: Path, toy_trainer: MakeTrainer) -> None:
    with pytest.raises(KeyboardInterrupt):
        toy_trainer(tmp_path, STEPS, before_step=at(3, signalled(signal.SIGTERM, signal.SIGINT))).fit()


@pytest.mark.skipif(os.name != "posix", reason="an open folder cannot be removed there")
def test_a_run_whose_folder_is_removed_ends_in_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run.py"), *WORDS, "--steps", "100000", "--checkpoint-every", "5"]
    with subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not checkpoints(out / "checkpoints"):
            time.sleep(0.01)
        out.rename(tmp_path / "moved")  # at one moment, which `rm` has many of
        shutil.rmtree(tmp_path / "moved")
        complaint = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert complaint == (
        f"error: The run's folder {out} is gone; put it back and go on with --resume, or start the run again.\n"
    )
    assert not out.exists()


def test_a_folder_that_turns_read_only_costs_the_steps_since_the_last_checkpoint(
    tmp_path: Path,
    contents: Contents,
    unbroken: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The system's refusal is played: whoever runs tests as root may write everywhere."""
    write, words = checkpoint.write_atomically, [*WORDS, "--steps", "12", "--checkpoint-every", "4"]

    def refused(path: Path, *rest: object) -> None:
        if path.name == "step_00000008.safetensors":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        write(path, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_atomically", refused)
        assert main([*words, "--out", str(tmp_path / "run")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"error: {tmp_path / 'run' / 'checkpoints' / 'step_00000008.safetensors'}: Read-only")
    assert complaint.count("\n") == 1
    assert main(["ssl", "--resume", str(tmp_path / "run")]) == 0
    assert contents(tmp_path / "run") == unbroken


def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, contents: Contents, unbroken: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time, calls = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: true_time() - 3600 * next(calls))
    assert main([*WORDS, "--steps", "12", "--out", str(tmp_path / "run")]) == 0
    assert contents(tmp_path / "run") == unbroken
    assert json.loads((tmp_path / "run" / "result.json").read_text())["seconds"] > 0
    assert main(["runs", str(tmp_path)]) == 0
