"""The Slurm file of docs/processes.md saves and queues itself again; Slurm and torchrun are played here by scripts."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ..documents import blocks_of

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "processes.md"
PLAYED = {
    "scontrol": 'if [ "$1" = show ]; then echo node-1; echo node-2; else echo "$@" > requeued; fi',
    "srun": 'echo $$ > step; exec "$@"',
    "scancel": 'echo "$@" > cancelled; kill -TERM $(cat step)',
}

pytestmark = pytest.mark.skipif(os.name != "posix" or not DOCUMENT.exists(), reason="not a checkout with bash")


def started(folder: Path, torchrun: str) -> "subprocess.Popen[bytes]":
    (block,) = (block for block in blocks_of(DOCUMENT.read_text(), "docs") if "#SBATCH" in block.text)
    (folder / "job.sh").write_text(block.text)
    for name, text in {**PLAYED, "torchrun": torchrun}.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}
    environment["SLURM_JOB_NODELIST"] = "node-[1-2]"
    return subprocess.Popen(["bash", "job.sh", "ssl", "--out", "a run"], cwd=folder, env=environment)


def test_a_job_whose_time_is_up_saves_and_waits_for_its_next_turn(tmp_path: Path) -> None:
    job = started(tmp_path, "trap 'echo saved > saved; exit 1' TERM; echo \"$@\" > words; while :; do sleep 0.05; done")
    end = time.monotonic() + 60
    while not (tmp_path / "words").exists() and time.monotonic() < end:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0
    assert (tmp_path / "saved").read_text() == "saved\n"
    assert (tmp_path / "cancelled").read_text() == "--signal=TERM 7.0\n"
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    words = (tmp_path / "words").read_text()
    assert "--nnodes 2" in words
    assert "--rdzv-endpoint node-1:29500" in words
    assert words.endswith("run.py ssl --out a run --resume\n")


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_ends_by_itself_is_not_queued_again(code: int, tmp_path: Path) -> None:
    assert started(tmp_path, f"exit {code}").wait(timeout=60) == code
    assert not (tmp_path / "requeued").exists()
