"""Two processes through torchrun, on the CPU: they finish, end with the same weights, and rank 0 alone writes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tailmatch.cli import main
from tailmatch.engine.checkpoint import load_newest

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "ssl",
    "--loss",
    "ikl",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--steps",
    "6",
    "--batch-size",
    "4",
    "--eval-every",
    "6",
    "--log-every",
    "2",
]

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


def torchrun(folder: Path, stop_after: int, words: list[str]) -> str:
    """Two processes; returns what they printed."""
    script = str(Path(__file__).with_name("two_processes_run.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(folder), str(stop_after), *words], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended_with(folder: Path) -> list[dict]:
    return [load_newest(folder / str(rank))[1] for rank in range(2)]  # type: ignore[index]


def assert_close(one: object, other: object) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def stopped_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    base = tmp_path_factory.mktemp("two")
    words = [*WORDS, "--out", str(base / "run"), "--resume"]
    first = torchrun(base / "first", 3, words)
    assert first.count("Stopped after step 4; go on with --resume") == 2
    assert json.loads((base / "run" / "result.json").read_text())["status"] == "running"
    return base, torchrun(base / "second", 0, words)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    assert main([*WORDS, "--out", str(out)]) == 0
    return out


def test_both_end_with_the_same_weights(stopped_and_resumed: tuple[Path, str]) -> None:
    one, other = ended_with(stopped_and_resumed[0] / "second")
    for part in ("model", "average", "evaluated"):
        for name, weight in one[part].items():
            assert torch.equal(weight, other[part][name]), name
    assert_close(one["state"]["algorithm.loss.class_means.means"], other["state"]["algorithm.loss.class_means.means"])


def test_what_is_evaluated_and_kept_is_the_same_on_both(stopped_and_resumed: tuple[Path, str]) -> None:
    """Six steps are too few for running statistics; the recomputed ones go into the file and leave no trace."""
    base = stopped_and_resumed[0]
    result = json.loads((base / "run" / "result.json").read_text())
    assert result["evaluated_weights"]["batchnorm_statistics"] == "recomputed"
    kept = load_file(base / "run" / "weights.safetensors")
    for found in ended_with(base / "second"):
        assert found["evaluated"].keys() == kept.keys()
        assert all(torch.equal(found["evaluated"][name], value) for name, value in kept.items())


def test_rank_0_alone_writes_and_speaks(stopped_and_resumed: tuple[Path, str]) -> None:
    base, printed = stopped_and_resumed
    assert printed.count("written to") == 1
    assert printed.count("step 6/6") == 1
    result = json.loads((base / "run" / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("finished", 6)
    rows = [json.loads(line)["step"] for line in (base / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == [2, 4, 6]
    assert json.loads((base / "run" / "environment.json").read_text())["processes"] == 2


def test_the_same_images_as_one_process_would_see(stopped_and_resumed: tuple[Path, str], alone: Path) -> None:
    """Each process augments its share by itself, so the numbers differ; split and counts do not."""
    both = stopped_and_resumed[0] / "run"
    fingerprints = {json.loads((p / "environment.json").read_text())["split_fingerprint"] for p in (both, alone)}
    assert len(fingerprints) == 1
    assert (both / "config.yaml").read_text() == (alone / "config.yaml").read_text()


def test_a_batch_that_the_processes_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main([*WORDS, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "error: batch_size must be a multiple of the 3 processes, got 4.\n"
    assert not (tmp_path / "run").exists()


def test_losses_are_checked_on_all_processes_together(
    toy_trainer: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is broken on another process alone arrives here through the mean, and stops this one too."""
    trainer = toy_trainer(tmp_path, 8)
    monkeypatch.setattr("tailmatch.engine.recent.mean_over_processes", lambda losses: losses * float("nan"))
    with pytest.raises(ValueError, match="The loss became nan at step 1"):
        trainer.fit()
