"""A suite through submitit: on its own local executor, and on a real Slurm where there is one."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailmatch import cli
from tailmatch.engine.suite.config import SlurmOptions, SuiteConfig
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.errors import UserError
from tailmatch.ssl.config import SSLConfig

STAND_IN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(130)))
print("words", *sys.argv[1:], flush=True)
time.sleep(60 if "sleep" in sys.argv else 0)
sys.exit(7 if "break" in sys.argv else 0)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    words = [sys.executable, str(tmp_path / "stand_in.py")]
    monkeypatch.setattr("tailmatch.engine.suite.slurm.program", lambda: words)


def a_run(folder: Path, *words: str) -> PlannedRun:
    return PlannedRun(
        name=folder.name,
        task="ssl",
        folder=folder,
        seed=0,
        words=words,
        needs=(),
        config=SSLConfig(),
        rehearse=None,
        dataset="digits",
        report="digits",
        where="mine.yaml:1",
    )


def wait_for(text: str, log: Path) -> None:
    end = time.monotonic() + 120
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < end, f"{text!r} never came"
        time.sleep(0.05)


def test_without_submitit_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    (tmp_path / "tiny.yaml").write_text("{task: ssl, runs: [{algorithm: supervised}]}")
    assert cli.main(["suite", str(tmp_path / "tiny.yaml"), "--engine", "slurm", "--dry-run"]) == 2
    assert "needs submitit, which is not installed: pip install submitit." in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("srun") is not None, reason="there is a Slurm here")
def test_without_slurm_the_sentence_says_so(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    from tailmatch.engine.suite.slurm import slurm_engine

    with pytest.raises(UserError, match="--engine slurm finds no Slurm here"):
        slurm_engine(SuiteConfig(name="digits_ssl", out=tmp_path))


def test_an_array_on_the_local_executor(tmp_path: Path, stand_in: None) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    from tailmatch.engine.suite.slurm import slurm_engine

    engine = slurm_engine(SuiteConfig(name="digits_ssl", out=tmp_path, slurm=SlurmOptions(slurm_time=5)), "local")
    started = engine.start([a_run(tmp_path / "good", "--lr", "1"), a_run(tmp_path / "bad", "break")])
    codes: list[int | None] = [None, None]
    end = time.monotonic() + 120
    while None in codes and time.monotonic() < end:
        codes = [job.exit_code() for job in started]
        time.sleep(0.05)
    assert codes == [0, 7]
    said = (tmp_path / "good" / "log.txt").read_text().splitlines()
    assert said[1] == f"words ssl --lr 1 --threads 1 --out {tmp_path / 'good'} --resume"


def test_a_run_whose_time_is_up_saves_its_state_and_its_next_job_goes_on(tmp_path: Path, stand_in: None) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    from tailmatch.engine.suite.slurm import OnNode, Process, program

    run = a_run(tmp_path / "run", "sleep")
    task = OnNode(program(), 1, str(tmp_path))
    task._process = Process(run, 1, program())
    wait_for("words", run.folder / "log.txt")
    delayed = task.checkpoint(run)
    assert "saved" in (run.folder / "log.txt").read_text()
    assert (delayed.function.start, delayed.args) == (task.start, (run,))
    (run.folder / "config.yaml").write_text("task: ssl\n")
    assert delayed.function(*delayed.args) == 0
    assert f"words ssl --resume {run.folder}" in (run.folder / "log.txt").read_text()


def _has_slurm() -> bool:
    try:
        return subprocess.run(["sinfo", "-h"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


@pytest.mark.skipif(not _has_slurm(), reason="no Slurm answers here")
def test_an_array_on_a_real_slurm(tmp_path: Path, stand_in: None) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    from tailmatch.engine.suite.slurm import slurm_engine

    engine = slurm_engine(SuiteConfig(name="digits_ssl", out=tmp_path, slurm=SlurmOptions(slurm_time=5)))
    first, second = engine.start([a_run(tmp_path / "good", "--lr", "1"), a_run(tmp_path / "long", "sleep")])
    wait_for("words", tmp_path / "long" / "log.txt")
    second.stop()
    codes: list[int | None] = [None, None]
    end = time.monotonic() + 120
    while None in codes and time.monotonic() < end:
        codes = [job.exit_code() for job in (first, second)]
        time.sleep(0.5)
    assert codes[0] == 0
    assert codes[1] in (1, 130)  # 1: Slurm was faster than the job's own answer
    assert "saved" in (tmp_path / "long" / "log.txt").read_text()
