"""`run.py distill` by methods that compare features, from end to end on a few steps of the digits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tailmatch.cli import main
from tailmatch.distill.config import DistillConfig
from tailmatch.distill.features.catalog import FEATURE_METHODS, WEIGHTS
from tailmatch.distill.resolve import resolved
from tailmatch.engine.command_line import parse_run
from tailmatch.models import build_model

SHORT = ("--threads", "1", "--device", "cpu", "--batch-size", "128")


def distill(*words: object) -> int:
    return main(["distill", *SHORT, *map(str, words)])


@pytest.mark.parametrize("method", ["crd", "ofd"])
def test_a_cut_off_run_ends_as_one_that_was_not(
    method: str, tmp_path: Path, plain_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method's parameters, what the optimizer knows of them, CRD's memories and draws are in the checkpoint."""
    words = ("--teacher-checkpoint", plain_run, "--method", method, "--model", "cnn-digits", "--steps", "6")
    words = (*words, "--checkpoint-every", "1", "--eval-every", "6")
    assert distill(*words, "--out", tmp_path / "whole") == 0
    from tailmatch.engine.loop import Trainer

    step = Trainer._train_step

    def killed(self: Trainer) -> None:
        if self.step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", killed)
        assert distill(*words, "--out", tmp_path / "cut") == 130
    assert main(["distill", "--resume", str(tmp_path / "cut")]) == 0
    whole, cut = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_methods_own_parameters_are_reported_and_no_part_of_the_student(tmp_path: Path, plain_run: Path) -> None:
    words = ("--teacher-checkpoint", plain_run, "--method", "fitnet", "--model", "cnn-digits", "--steps", "1")
    assert distill(*words, "--out", tmp_path / "run") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["method_parameters"] == 64 * 64 * 3 * 3 + 3 * 64  # a convolution that halves, its shift, a BatchNorm
    student = build_model("cnn-digits", 10, 1).state_dict()
    assert set(load_file(tmp_path / "run" / "weights.safetensors")) == set(student)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dataset", "store", "--data-root", "x"), "and a feature store has none"),
        (("--teacher-store", "x"), "--teacher-store has the teacher's logits alone; give --teacher-checkpoint"),
        (("--logit-std",), "--logit-std standardises logits; leave it out"),
    ],
)
def test_what_a_method_of_features_cannot_do_is_said(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distill("--method", "at", *words) == 2
    assert said in capsys.readouterr().err


def constants(name: str, method: str) -> dict[str, object]:
    teacher = () if name.startswith("imagenet") else ("--teacher-checkpoint", "teacher.pth")
    words = ["--config", name, "--method", method, *teacher]
    config = resolved(parse_run(DistillConfig, "distill", words, "run.py distill"))
    given = config.distillation
    weights = {"kd": given.kd_weight, "warmup": given.kd_warmup_epochs, "label": given.label_weight}
    return {**weights, **config.method.given()}


def test_methods_weigh_what_was_published() -> None:
    for method in FEATURE_METHODS:
        if method != "reviewkd":
            expected = {"kd": WEIGHTS[method], "warmup": 0.0, "label": 1.0}
            assert constants("cifar100_resnet32x4_resnet8x4", method) == expected
    for pair, weight in (("resnet56_resnet20", 0.6), ("resnet110_resnet32", 1.0), ("vgg13_vgg8", 5.0)):
        expected = {"kd": weight, "warmup": 20.0, "label": 1.0}
        assert constants(f"cifar100_{pair}", "reviewkd") == expected
    assert constants("cifar100_vgg13_vgg8", "dist") == {"kd": 2.0, "warmup": 0.0, "label": 1.0, "temperature": 4.0}
    assert constants("imagenet_r50_mobilenet", "ofd")["kd"] == 1e-4
    assert constants("imagenet_r50_mobilenet", "reviewkd") == {
        **{"kd": 8.0, "warmup": 0.0, "label": 1.0},
        "before_activation": True,
    }


def test_every_method_is_in_the_table_of_the_readme() -> None:
    table = (Path(__file__).parents[2] / "distill" / "README.md").read_text(encoding="utf-8")
    assert [method for method in FEATURE_METHODS if f"| `{method}` |" not in table] == []
