"""`run.py longtail` from end to end on the embedded digits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tailmatch.engine.checkpoint import checkpoints, load_checkpoint
from tailmatch.engine.distributed import World
from tailmatch.guarded_text import read_json
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import LabelLossOptions, LongtailConfig, MethodOptions
from tailmatch.longtail.resolve import resolved
from tailmatch.losses import ldam
from tailmatch.models import head_of
from tailmatch.models.feature_model import CosineLinear

ROOT = Path(__file__).parents[2]
Longtail = Callable[..., int]
FEW = ("--epochs", 3, "--warmup", 0)


def test_trains_a_teacher_keeps_it_and_says_so(
    longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str], result_of: Callable[[Path], dict[str, Any]]
) -> None:
    assert longtail("--loss", "ikl", "--baseline", *FEW, "--out", tmp_path / "first") == 0
    said = capsys.readouterr().out
    teachers = list(tmp_path.glob("teacher-digits-lt-wrn-16-2-relu-*-seed0"))
    baselines = list(tmp_path.glob("baseline-digits-lt-wrn-digits-*-seed0"))
    assert len(teachers) == len(baselines) == 1
    assert f"teacher: training wrn-16-2-relu, kept in {teachers[0]}" in said
    table = said[said.index("cross-entropy + ikl on digits-lt") :].splitlines()
    assert table[1].split() == ["many", "medium", "few", "all"]
    assert [line.split()[0] for line in table[2:5]] == ["teacher", "wrn-digits", "wrn-digits"]
    assert "without teacher" in table[3]
    assert [line.split()[0] for line in table[-2:]] == ["next", "or"]
    assert f" analyze {tmp_path / 'first'}  (" in table[-2]

    result, teacher = result_of(tmp_path / "first"), result_of(teachers[0])
    assert result["teacher"]["name"] == "wrn-16-2-relu"
    assert result["teacher"]["checkpoint"] == str(teachers[0])
    assert result["teacher"]["accuracy"] == pytest.approx(teacher["accuracy"]["last"])
    assert (result["method"], result["loss"], result["model"]) == ("cross-entropy", "ikl", "wrn-digits")
    assert result["groups"] == {"rule": "default", "many": [0], "medium": [1, 2, 3, 4], "few": [5, 6, 7, 8, 9]}
    for chosen in ("last", "best", "selected_on_val"):
        assert set(result["accuracy"][chosen]) == {"all", "many", "medium", "few"}
    assert set(result["val_accuracy"]) == {"last", "best", "selected_step"}

    arrays = np.load(tmp_path / "first" / "predictions.npz")
    assert arrays["teacher_logits"].shape == arrays["logits"].shape == (445, 10)
    assert arrays["train_class_counts"].tolist() == [121, 78, 50, 32, 21, 13, 8, 5, 3, 2]
    rows = [json.loads(line) for line in (tmp_path / "first" / "metrics.jsonl").read_text().splitlines()]
    assert {"train/loss_supervised", "train/loss_distillation", "eval/val_accuracy/few"} <= set(rows[-1])

    stamp = (teachers[0] / "result.json").stat().st_mtime_ns
    assert longtail("--loss", "kl", *FEW, "--out", tmp_path / "second") == 0
    assert "teacher: taking wrn-16-2-relu" in capsys.readouterr().out
    assert (teachers[0] / "result.json").stat().st_mtime_ns == stamp


def test_a_resumed_run_finds_the_baseline_it_began_with(
    longtail: Longtail, tmp_path: Path, plain_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run settled as it began (its BatchNorm statistics) is in its record by now."""
    run = tmp_path / "run"
    words = ("--loss", "kl", "--teacher-checkpoint", plain_run, "--baseline", "--epochs", 1, "--warmup", 0)
    assert longtail(*words, "--out", run) == 0
    (baseline,) = tmp_path.glob("baseline-*")
    result = read_json(run / "result.json")
    (run / "result.json").write_text(json.dumps(result | {"status": "running"}))
    capsys.readouterr()
    assert longtail("--resume", run) == 0
    assert f"baseline: taking wrn-digits, kept in {baseline}" in capsys.readouterr().out
    assert list(tmp_path.glob("baseline-*")) == [baseline]


def test_class_means_roll_each_epoch_and_are_in_the_checkpoint(
    longtail: Longtail, plain_run: Path, tmp_path: Path
) -> None:
    words = ("--loss", "ikl", "--teacher-checkpoint", plain_run, "--steps", 15, "--checkpoint-every", 5)
    assert longtail(*words, "--out", tmp_path / "run") == 0
    path = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    step, state = load_checkpoint(path)
    task = state["task"]
    assert step == 15
    # One epoch of 10 steps has been rolled; the next one's five batches are being collected.
    assert float(task["loss.class_means.counts"].sum()) == 160
    means = task["loss.class_means.means"]
    torch.testing.assert_close(means.sum(1), torch.ones(10))
    assert not torch.equal(means, torch.full((10, 10), 0.1))
    assert "task.loss.class_means.means" in load_file(path)


def test_drw_reweighs_from_its_epoch_on(longtail: Longtail, tmp_path: Path) -> None:
    words = ("--drw", 0.7, "--epochs", 4, "--warmup", 0, "--checkpoint-every", 29)  # of epochs of 10 steps
    assert longtail(*words, "--out", tmp_path / "run") == 0

    weights = {
        path.stem: load_checkpoint(path)[1]["task"]["label_loss.class_weights"]
        for path in checkpoints(tmp_path / "run" / "checkpoints")
    }
    early, late = weights["step_00000029"], weights["step_00000040"]
    assert torch.equal(early, torch.ones(10))
    assert late[9] > late[0]
    assert "cross-entropy, drw" in (tmp_path / "run" / "result.json").read_text()


def test_post_hoc_adjustment_shifts_the_logits_by_the_log_prior(
    longtail: Longtail, plain_run: Path, tmp_path: Path
) -> None:
    words = ("--epochs", 6, "--warmup", 0, "--post-hoc-tau", 1, "--out", tmp_path / "run")
    assert longtail(*words) == 0
    plain, shifted = (np.load(folder / "predictions.npz") for folder in (plain_run, tmp_path / "run"))
    counts = plain["train_class_counts"]
    np.testing.assert_allclose(
        plain["logits"] - shifted["logits"], np.broadcast_to(np.log(counts / counts.sum()), (445, 10)), atol=1e-4
    )


@pytest.mark.parametrize("loss", ["class-balanced", "focal", "ldam", "balanced-softmax", "logit-adjusted"])
@pytest.mark.parametrize("sampler", ["instance", "square-root"])
def test_every_label_loss_trains(longtail: Longtail, tmp_path: Path, loss: str, sampler: str) -> None:
    words = ("--label-loss", loss, "--sampler", sampler, "--steps", 3, "--eval-every", 3, "--out", tmp_path / "run")
    assert longtail(*words) == 0


@pytest.mark.parametrize(("given", "scale"), [(None, 30.0), (12.0, 12.0)])
def test_ldam_has_its_scale_in_the_cosine_classifier(given: float | None, scale: float) -> None:
    config = resolved(LongtailConfig(label_loss=LabelLossOptions(name="ldam", scale=given)))
    assert config.method.head == "cosine"
    task = build_task(config, torch.device("cpu"), World())
    head = head_of(task.model)
    assert isinstance(head, CosineLinear)
    assert head.scale == scale
    logits, labels = scale * torch.rand(8, 10), torch.arange(8)
    torch.testing.assert_close(
        task.method.label_loss(logits, labels), ldam(logits / scale, labels, task.train_class_counts, scale=scale)
    )


def test_ldam_leaves_the_logits_of_a_linear_classifier_as_they_are() -> None:
    method = MethodOptions(head="linear")
    config = resolved(LongtailConfig(method=method, label_loss=LabelLossOptions(name="ldam")))
    task = build_task(config, torch.device("cpu"), World())
    logits, labels = torch.randn(8, 10), torch.arange(8)
    torch.testing.assert_close(
        task.method.label_loss(logits, labels), ldam(logits, labels, task.train_class_counts, scale=1.0)
    )
    assert resolved(config) == config


def test_a_step_may_be_cut_off_anywhere_and_resumed(longtail: Longtail, plain_run: Path, tmp_path: Path) -> None:
    words = ["--loss", "ikl", "--teacher-checkpoint", str(plain_run), "--drw", "0.5", "--epochs", "12"]
    words += ["--checkpoint-every", "7", "--eval-every", "40"]
    assert longtail(*words, "--out", tmp_path / "whole") == 0
    command = [sys.executable, str(ROOT / "run.py"), "longtail", "--threads", "1", "--device", "cpu", *words]
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [*command, "--out", str(cut)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _wait_until(lambda: any(path.stem >= "step_00000014" for path in checkpoints(cut / "checkpoints")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert load_checkpoint(checkpoints(cut / "checkpoints")[-1])[0] < 120
    assert json.loads((cut / "result.json").read_text())["status"] == "running"

    assert longtail("--resume", cut) == 0
    whole_weights, cut_weights = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "whole", cut))
    assert all(torch.equal(whole_weights[name], value) for name, value in cut_weights.items())
    states = [
        load_checkpoint(checkpoints(folder / "checkpoints")[-1])[1]["task"] for folder in (tmp_path / "whole", cut)
    ]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    results = [json.loads((folder / "result.json").read_text()) for folder in (tmp_path / "whole", cut)]
    assert results[0]["accuracy"] == results[1]["accuracy"]
    assert results[0]["val_accuracy"] == results[1]["val_accuracy"]


def _wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run wrote no checkpoint"
        time.sleep(0.02)


def test_a_dry_run_trains_nothing(longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert longtail("--loss", "ikl", "--dry-run", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "121 78 50 32 21 13 8 5 3 2" in said
    assert "epochs            60 of 10 steps" in said
    assert list(tmp_path.iterdir()) == []


def test_the_recorded_configuration_starts_the_same_run_again(
    longtail: Longtail, plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert longtail("--config", f"{plain_run}/", "--print-config") == 0
    checksum, recorded = (plain_run / "config.yaml").read_text().split("\n", 1)
    assert checksum.startswith("# tailmatch_sha256: ")
    assert capsys.readouterr().out == recorded


def test_student_is_another_name_of_model(longtail: Longtail, capsys: pytest.CaptureFixture[str]) -> None:
    assert longtail("--student", "wrn-10-2", "--print-config") == 0
    assert "model: wrn-10-2" in capsys.readouterr().out


REFUSALS = [
    (("--loss", "ikk"), "Unknown loss 'ikk'. Did you mean 'ikl'? Allowed: none, "),
    (("--loss", "kl", "--loss.beta", "1"), "Loss 'kl' has no option 'beta'"),
    (("--loss.beta", "1"), "--loss none has no option 'beta'"),
    (("--label-loss", "balanced"), "Unknown label loss 'balanced'. Did you mean 'class-balanced'?"),
    (("--label-loss", "focal", "--label-loss.tau", "1"), "Label loss 'focal' has no option 'tau'"),
    (("--teacher", "resnet50"), "--teacher: for a loss against a teacher, and none is given"),
    (("--loss", "kl", "--teacher", "resnet5"), "Unknown model 'resnet5'"),
    (("--loss", "kl", "--dataset", "cifar10-lt"), "give --teacher-checkpoint"),
    (
        ("--loss", "kl", "--teacher-checkpoint", "nowhere.pth", "--teacher", "resnet18"),
        "There is no checkpoint",
    ),
    (("--dataset", "imagenet-lt"), "data prepare imagenet-lt --root DIR"),
    (("--dataset", "digit-lt"), "Unknown dataset 'digit-lt'. Did you mean 'digits-lt'?"),
    (
        ("--label-loss", "ldam", "--label-loss.scale", "0"),
        "label_loss.scale must be a finite number greater than 0; got 0",
    ),
    (("--kd-weight", "2", "--label-weight", "0.5"), "--kd-weight, --label-weight: for a loss against a teacher"),
    (("--prior-tau", "1", "--prior-rho", "1"), "--prior-tau, --prior-rho: for a loss against a teacher"),
    (("--loss", "ikl", "--prior-weight-rho", "1"), "acts beside --prior-tau or --prior-rho"),
    (("--loss", "kl", "--prior-tau", "1", "--prior-weight-rho", "1"), "acts on class means, and --loss kl has none"),
    (("--epochs", "10", "--steps", "5"), "The length is given twice, by epochs 10 and steps 5; give one of them"),
    (("--config", "cifar10_lt", "--steps", "5"), "(--epochs None takes back a recipe's)"),
    (("--drw", "0.8", "--epochs", "1"), "--drw 0.8 begins with epoch 2, and the run has 1; train longer"),
    (("--warmup", "10", "--epochs", "10"), "A warm-up of 10 epochs leaves none of the run's 10 to train"),
    (("--config", "cifar10_lt", "--epochs", "3"), "give a shorter --warmup (0 for none)"),
    (("--drw", "0.5", "--steps", "9"), "--drw 0.5 begins with epoch 2, and the run has 1; train longer"),
    (("--drw", "0.8", "--label-loss", "class-balanced"), "weighs the classes from the start"),
    (("--drw", "1.5"), "drw must lie between 0 and 1"),
    (("--epochs", "0"), "epochs must be above 0"),
    (("--imbalance", "0.02"), "imbalance must be at least 1"),
    (("--batch-size", "4000"), "smaller batch"),
]


@pytest.mark.parametrize(("words", "said"), REFUSALS, ids=[" ".join(words) for words, _ in REFUSALS])
def test_refusals(
    longtail: Longtail,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert longtail(*words, "--out", tmp_path / "run") == 2
    assert said in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused(
    longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tailmatch.engine.checkpoint import save_weights
    from tailmatch.models import build_model

    save_weights(tmp_path / "teacher.safetensors", build_model("wrn-digits", 7, 1, 8).state_dict())
    words = ("--loss", "kl", "--teacher", "wrn-digits", "--teacher-checkpoint", tmp_path / "teacher.safetensors")
    assert longtail(*words, "--out", tmp_path / "run") == 2
    assert "trained for 7 classes, and this data set has 10" in capsys.readouterr().err


def test_an_untrained_teacher_is_warned_of(
    longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tailmatch.engine.checkpoint import save_weights
    from tailmatch.models import build_model

    torch.manual_seed(0)
    save_weights(tmp_path / "teacher.safetensors", build_model("wrn-digits", 10, 1, 8).state_dict())
    words = ("--loss", "kl", "--teacher", "wrn-digits", "--teacher-checkpoint", tmp_path / "teacher.safetensors")
    assert longtail(*words, "--steps", 2, "--out", tmp_path / "run") == 0
    assert "WARNING: the teacher wrn-digits" in capsys.readouterr().err


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from tailmatch.cli import main\n"
        "try:\n    main(['longtail', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0
