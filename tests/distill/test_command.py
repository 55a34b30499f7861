"""`run.py distill` from end to end on a few steps of the digits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tailmatch.cli import main
from tests.stores import digits_store

Distill = Callable[..., int]
SHORT = ("--epochs", "1", "--warmup", "0", "--batch-size", "128")


@pytest.fixture
def distill() -> Distill:
    """`run.py distill` with these words; returns the exit code."""

    def call(*words: object) -> int:
        return main(["distill", "--threads", "1", "--device", "cpu", *map(str, words)])

    return call


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_trains_a_teacher_and_the_student_alone_and_ends_in_their_table(
    distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*SHORT, "--method", "kd", "--teacher", "cnn-digits", "--out", tmp_path / "run")
    assert distill(*words) == 0
    said = capsys.readouterr().out
    assert "teacher: training cnn-digits" in said
    table = [line.split("  ")[1] for line in said.splitlines() if line.startswith("  ") and line[2] != " "]
    assert table[:3] == ["teacher cnn-digits", "wrn-digits without teacher", "wrn-digits"]
    assert "few" not in said  # balanced classes have no tail
    assert "kd on digits, seed 0" in said
    (teacher,) = tmp_path.glob("teacher-digits-cnn-digits-*")
    (alone,) = tmp_path.glob("baseline-digits-wrn-digits-*")
    assert [result_of(run)["method"] for run in (tmp_path / "run", teacher, alone)] == ["kd", *["cross-entropy"] * 2]
    assert result_of(tmp_path / "run")["teacher"]["accuracy"] == result_of(teacher)["accuracy"]["last"]
    assert main(["evaluate", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert main(["runs", str(tmp_path)]) == 0
    listed = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if line.startswith("distill")]
    assert sorted(row[2] for row in listed) == ["cross-entropy", "cross-entropy", "kd"]


def test_a_cut_off_run_ends_as_one_that_was_not(
    distill: Distill, tmp_path: Path, plain_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--batch-size", "256", "--teacher-checkpoint", plain_run, "--method", "gkl", "--logit-std")
    words = (*words, "--steps", "12", "--kd-warmup-epochs", "3", "--checkpoint-every", "1", "--eval-every", "6")
    assert distill(*words, "--out", tmp_path / "whole") == 0
    from tailmatch.engine.loop import Trainer

    step = Trainer._train_step

    def killed(self: Trainer) -> None:
        if self.step == 7:  # within the second epoch, whose ramp and class means go on
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", killed)
        assert distill(*words, "--out", tmp_path / "cut") == 130
    assert distill("--resume", tmp_path / "cut") == 0
    whole, cut = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_dry_run_trains_nothing(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(*SHORT, "--method", "dkd", "--dry-run", "--out", tmp_path / "run") == 0
    assert "77,562" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


REFUSED = {
    "--method kl": "Unknown method 'kl'. Did you mean ",
    "--method none --method.alpha 1": "--method none has no option 'alpha'; name a method",
    "--method none --logit-std": "--logit-std: for learning from a teacher; name a method of it, as --method kd",
    "--method kd --method.beta 2": "has no option 'beta'",
    "--kd-warmup-epochs -1": "kd_warmup_epochs must be at least 0",
    "--dataset cifar100 --student resnet20": "--method ikl needs a teacher: give --teacher-checkpoint",
    "--teacher-weights torchvision": "are torchvision's of a network by its name; give --teacher",
    "--teacher resnet20 --teacher-weights torchvision": "torchvision publishes no weights of resnet20",
}


@pytest.mark.parametrize("words", list(REFUSED))
def test_refusals(distill: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert distill(*words.split(), "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert REFUSED[words] in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_recipe_of_a_pair_trains_either_network_alone(distill: Distill, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("--teacher", "wrn-16-2-relu", "--method", "none", "--print-config") == 0
    assert "teacher: null" in capsys.readouterr().out


def test_heads_of_a_feature_store_teach_each_other(distill: Distill, tmp_path: Path) -> None:
    digits_store(tmp_path / "store", weak=0, strong=0)
    words = ("--dataset", "store", "--data-root", tmp_path / "store", "--steps", "2", "--method", "dkd")
    assert distill(*words, "--out", tmp_path / "run") == 0
    result = result_of(tmp_path / "run")
    assert (result["teacher"]["name"], result["model"]) == ("mlp-1024", "linear")
    assert result["store"]
    assert len([*tmp_path.glob("baseline-*")]) == 1
    words = (*words, "--teacher-checkpoint", next(tmp_path.glob("teacher-*")), "--logit-std")
    assert distill(*words, "--out", tmp_path / "other") == 0
    assert result_of(tmp_path / "other")["method"] == "dkd, standardised logits"
    assert len([*tmp_path.glob("baseline-*")]) == 1  # a teacher that was there comes without the student alone


def test_the_weights_that_torchvision_publishes_teach(
    distill: Distill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailmatch.models import build_model

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(3)
    published = build_model("resnet18", 10, 1, 8).state_dict()
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    torch.save(published, place)
    words = ("--teacher", "resnet18", "--teacher-weights", "torchvision", "--steps", "1", "--batch-size", "16")
    assert distill(*words, "--method", "kd", "--out", tmp_path / "run") == 0
    teacher = result_of(tmp_path / "run")["teacher"]
    assert (teacher["name"], teacher["checkpoint"]) == ("resnet18", "torchvision")
