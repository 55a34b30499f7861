"""Several processes train the network that one would, and finish, stop, die and go on together; on the CPU.

The runs are in float64 (whole_runs.py says why), where one, two and four processes end within 1e-9 of each other.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tailmatch.cli import main
from tailmatch.engine.checkpoint import load_newest
from tailmatch.features import LogitsPlan
from tailmatch.losses.catalog import LOSSES
from tailmatch.ssl.catalog import ACCEPTANCES, ADD_ONS, ALIGNMENTS
from tests.stores import digits_store

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ROOT = Path(__file__).resolve().parents[2]
ONE, TWO, FOUR = "one", "two", "four"

COMMON = ["--threads", "1", "--device", "cpu", "--log-every", "2", "--eval-every", "6", "--resume"]
SSL = ["ssl", "--dataset", "digits-lt", "--steps", "6", "--batch-size", "8", "--unlabeled-ratio", "3"]
LONGTAIL = ["longtail", "--dataset", "digits-lt", "--model", "cnn-digits", "--batch-size", "96", "--epochs", "2"]
DISTILL = ["distill", *LONGTAIL[1:]]
# Between them: all acceptances, alignments and add-ons with a state, the class means in both modes, a teacher of the
# average, deferred re-weighting, a divisor over the batch, all samplers, a second stage, losses that sum over the batch
# or know the numbers of images, what a method of distillation trains beside the student and what it keeps of every
# image, and tasks on a feature store.
RUNS = {
    "curriculum": "--algorithm flexmatch --threshold 0.3 --loss ikl --loss.momentum 0.9"
    " --add-on darp --add-on.darp.start 0.3 --add-on.darp.every 2",
    "self-adaptive": "--algorithm freematch --fairness-weight 0.5 --running-momentum 0.8 --loss gkl"
    " --add-on daso abc --add-on.daso.start 0.2 --add-on.daso.queue 4 --add-on.abc.threshold 0.2",
    "gaussian": "--algorithm softmatch --running-momentum 0.8 --teacher average --student-view weak"
    " --add-on crest --add-on.crest.generations 2",
    "relative": "--algorithm adamatch --running-momentum 0.8 --add-on logit-adjust",
    "dash": "--algorithm dash --add-on logit-adjust-posthoc",
    "epochs": "--loss gkl --teacher-checkpoint TEACHER --label-loss ldam --drw 0.5 --sampler class-aware",
    "second stage": "--stage2 crt --stage1 TEACHER --sampler square-root --label-loss class-balanced"
    " --epochs 2 --batch-size 96",
    "balanced": "--loss bkd --teacher-checkpoint TEACHER --label-loss vs",
    "by thirds": "--loss ltkd --teacher-checkpoint TEACHER --label-loss lade",
    "features": "--method reviewkd --method.width 8 --teacher-checkpoint TEACHER",
    "memories": "--method crd --method.negatives 64 --teacher-checkpoint TEACHER",
    "store": "--labels 40 --algorithm freematch --running-momentum 0.8 --loss ikl --add-on abc",
    "tail of a store": "--imbalance 20 --loss gkl --teacher-store STORE --label-loss ldam --drw 0.5",
}
RESUMED = ["self-adaptive", "epochs"]
STORE = ["--dataset", "store", "--data-root", "STORE", "--steps", "6"]
TASKS = {
    **dict.fromkeys(("epochs", "balanced", "by thirds"), LONGTAIL),
    **dict.fromkeys(("features", "memories"), DISTILL),
    "second stage": ["longtail"],
    "store": ["ssl", *STORE, "--batch-size", "8", "--unlabeled-ratio", "3"],
    "tail of a store": ["longtail", *STORE, "--batch-size", "192"],
}

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
    pytest.mark.skipif(os.name != "posix", reason="processes are made by fork"),
]


def words(name: str, base: Path, out: str) -> list[str]:
    places = {"TEACHER": str(base / "teacher"), "STORE": str(base / "digits")}
    own = [places.get(word, word) for word in (*TASKS.get(name, SSL), *RUNS[name].split())]
    return [*own, *COMMON, "--out", str(base / out / name)]


def ended_with(base: Path, out: str, name: str, rank: int = 0) -> dict[str, Any]:
    found = load_newest(base / out / "notes" / f"{name}-{rank}")
    assert found is not None
    return found[1]


def tensors(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key != "random":  # each process has generators of its own
            yield from tensors(item, f"{path}.{key}")


def last_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Weights, their average, the optimizer's state and that of every part of the algorithm."""
    found = load_newest(folder / "checkpoints")
    assert found is not None
    assert found[0] == 6
    return dict(tensors(found[1]))


def assert_same_end(one: Path, other: Path) -> None:
    expected, found = last_checkpoint(one), last_checkpoint(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=1e-9, msg=lambda said, name=name: f"{name}: {said}"
        )


def carry_out(base: Path, plan: list[dict[str, Any]], *by: str) -> None:
    file = base / f"plan-{len([*base.glob('plan-*')])}"
    file.write_text(json.dumps(plan))
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *by, str(Path(__file__).with_name("whole_runs.py")), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def part(base: Path, out: str, processes: int, names: Iterable[str], **more: int) -> dict[str, Any]:
    runs = [words(name, base, out) for name in names]
    return {"processes": processes, "runs": runs, "notes": str(base / out / "notes"), **more}


def said(base: Path, out: str) -> str:
    return (base / out / "notes" / "said.txt").read_text()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs by one, two and four processes, and two that went on with another number of processes."""
    base = tmp_path_factory.mktemp("processes")
    digits_store(base / "digits", logits=LogitsPlan(classes=10))
    teacher = [*LONGTAIL, "--epochs", "1", *COMMON, "--out", str(base / "teacher")]
    plan = [{"processes": 1, "runs": [teacher], "notes": str(base / "notes")}]
    plan += [part(base, ONE, 1, RUNS), part(base, TWO, 2, RUNS, save_after=1), part(base, FOUR, 4, RUNS)]
    for out, before, after in (("two-then-one", 2, 1), ("one-then-two", 1, 2)):
        plan += [part(base, out, before, RESUMED, stop_after=3), part(base, out, after, RESUMED)]
    carry_out(base, plan)
    return base


def test_every_part_with_a_state_is_among_the_runs() -> None:
    words = " ".join(RUNS.values())
    named = {
        "fixed": "flexmatch", "curriculum": "flexmatch", "self-adaptive": "freematch", "gaussian": "softmatch",
        "relative": "adamatch", "dash": "dash", "all": "dash", "uniform": "softmatch", "distribution": "adamatch",
        "none": "dash",
    }  # fmt: skip
    for part in {**ACCEPTANCES, **ALIGNMENTS}:
        assert named[part] in words
    assert all(f"{add_on} " in f"{words} " for add_on in ADD_ONS)
    assert {name for name, loss in LOSSES.items() if "mode" in loss.options} == {"ikl", "gkl"}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_end_as_one(name: str, base: Path) -> None:
    assert_same_end(base / ONE / name, base / TWO / name)


@pytest.mark.parametrize("name", RUNS)
def test_four_processes_end_as_one(name: str, base: Path) -> None:
    assert_same_end(base / ONE / name, base / FOUR / name)


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("out", ["two-then-one", "one-then-two"])
def test_going_on_with_another_number_of_processes_changes_nothing(name: str, out: str, base: Path) -> None:
    assert_same_end(base / ONE / name, base / out / name)
    numbers = [(base / folder / name / "metrics.jsonl").read_text().splitlines() for folder in (ONE, out)]
    for one, other in zip(*(map(json.loads, lines) for lines in numbers), strict=True):
        for tag in one.keys() - {"seconds", "train/images_per_second"}:
            assert other[tag] == pytest.approx(one[tag], rel=1e-6, abs=1e-9), tag


def test_all_stop_together(base: Path) -> None:
    """One is asked to after step 3, the other after step 4; they meet at every second step."""
    assert said(base, "two-then-one").count("Stopped after step 4; go on with --resume") == 4


def test_all_save_together_and_go_on(base: Path) -> None:
    """One is asked to after step 1."""
    assert said(base, TWO).count("Saved after step 2; the run goes on.") == len(RUNS)


@pytest.mark.parametrize("name", ["self-adaptive", "gaussian"])
def test_both_end_with_the_same_weights_and_state(name: str, base: Path) -> None:
    """Six steps are too few for running statistics; the recomputed ones go into the file and leave no trace."""
    one, other = (dict(tensors(ended_with(base, TWO, name, rank))) for rank in range(2))
    assert one.keys() == other.keys()
    for part, value in one.items():
        if "quality.counts" not in part:  # each counts what it saw since the last report
            torch.testing.assert_close(value, other[part], rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, other[part]) for part, value in one.items() if part.startswith(".model"))


def test_rank_0_alone_writes_and_speaks(base: Path) -> None:
    words, run = said(base, TWO), base / TWO / "self-adaptive"
    assert words.count("written to") == words.count("step 6/6") == len(RUNS)
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("finished", 6)
    assert result["evaluated_weights"]["batchnorm_statistics"] == "recomputed"
    rows = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows == [2, 4, 6]
    assert json.loads((run / "environment.json").read_text())["processes"] == 2


def test_a_worker_that_is_killed_is_started_again_and_ends_as_if_nothing_had_been(base: Path) -> None:
    once_killed = part(base, "restarted", 2, ["curriculum"], kill_after=3)
    once_killed["runs"][0] += ["--checkpoint-every", "1"]
    carry_out(base, [once_killed], *TORCHRUN, "--max-restarts", "1")
    assert said(base, "restarted").count("written to") == 1
    assert_same_end(base / ONE / "curriculum", base / "restarted" / "curriculum")


def test_a_batch_that_the_processes_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main([*SSL, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "error: batch_size must be a multiple of the 3 processes, got 8.\n"
    assert not (tmp_path / "run").exists()


def test_losses_are_checked_on_all_processes_together(
    toy_trainer: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is broken on another process alone arrives here through the mean, and stops this one too."""
    trainer = toy_trainer(tmp_path, 8)
    monkeypatch.setattr("tailmatch.engine.recent.mean_over_processes", lambda losses: losses * float("nan"))
    with pytest.raises(ValueError, match="The loss became nan at step 1"):
        trainer.fit()
