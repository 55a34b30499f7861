"""`--init` from the command line: what is trained from, recorded and resumed."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tailmatch.cli import main
from tailmatch.guarded_text import read_json
from tailmatch.models import build_model
from tests.longtail.conftest import Longtail


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The digits' network, of 7 classes."""
    torch.manual_seed(7)
    torch.save(build_model("wrn-digits", 7, 1, 8).state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


SHORT = ("--epochs", 1, "--warmup", 0, "--lr", 1e-9, "--batchnorm-statistics", "running")


def test_a_run_starts_there_and_records_it(
    longtail: Longtail, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert longtail("--init", weights, *SHORT, "--out", run) == 0
    checksum = hashlib.sha256(weights.read_bytes()).hexdigest()
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert (recorded["init"], recorded["init_checksum"]) == (str(weights), checksum)
    said = capsys.readouterr().out
    assert f"tensors of {weights} (sha256 {checksum[:12]}...); none renamed; left out: fc.weight, fc.bias" in said
    assert json.loads((run / "environment.json").read_text())["init"] in said
    given, trained = torch.load(weights, weights_only=True), load_file(run / "weights.safetensors")
    assert torch.allclose(trained["conv1.weight"], given["conv1.weight"], atol=1e-6)
    assert trained["fc.weight"].shape[0] == 10


def test_the_student_starts_there_with_and_without_its_teacher_and_the_teacher_does_not(
    longtail: Longtail, weights: Path, tmp_path: Path
) -> None:
    words = ("--loss", "kl", "--baseline", "--init", weights, "--teacher", "wrn-digits", *SHORT)
    assert longtail(*words, "--out", tmp_path / "run") == 0
    folders = {name: next(tmp_path.glob(f"{name}*")) for name in ("run", "baseline", "teacher")}
    inits = {name: yaml.safe_load((at / "config.yaml").read_text()).get("init") for name, at in folders.items()}
    assert inits == {"run": str(weights), "baseline": str(weights), "teacher": None}


def test_a_resumed_run_needs_the_file_until_its_first_checkpoint(
    longtail: Longtail, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--init", weights, "--epochs", 2, "--warmup", 0, "--eval-every", 5)
    assert longtail(*words, "--out", tmp_path / "whole") == 0
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    result = read_json(cut / "result.json")
    (cut / "result.json").write_text(json.dumps(result | {"status": "running"}))
    sorted(cut.glob("checkpoints/step_*"))[-1].unlink()
    early = tmp_path / "early"
    shutil.copytree(cut, early)
    for checkpoint in early.glob("checkpoints/step_*"):
        checkpoint.unlink()
    content = weights.read_bytes()
    weights.unlink()
    assert longtail("--resume", cut) == 0
    whole, resumed = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "whole", cut))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert longtail("--resume", early) == 2
    assert f"There is no file {weights} for --init" in capsys.readouterr().err
    torch.save(build_model("wrn-digits", 7, 1, 8).state_dict(), weights)
    assert longtail("--resume", early) == 2
    assert "bring the same file" in capsys.readouterr().err
    weights.write_bytes(content)
    assert longtail("--resume", early) == 0
    again = load_file(early / "weights.safetensors")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_dry_run_says_what_it_would_start_from(
    longtail: Longtail, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert longtail("--init", weights, "--head", "cosine", "--dry-run") == 0
    assert "starts from" in (said := capsys.readouterr().out)
    assert "this run's classifier is of another kind" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--init", "torchvision"), "publishes no weights of wrn-digits"),
        (("--init", "nosuch.pth"), "There is no file"),
        (("--stage2", "crt", "--from", "RUN", "--init", "torchvision"), "starts from the network of --stage1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    longtail: Longtail, plain_run: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert longtail(*(str(plain_run) if word == "RUN" else word for word in words), "--dry-run") == 2
    assert said in capsys.readouterr().err


def test_semi_supervised_runs_start_there_too(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "ssl",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--model",
        "wrn-digits",
        "--init",
        str(weights),
        "--steps",
        "2",
    ]
    assert main([*words, "--lr", "1e-9", "--ema-decay", "0", "--out", str(tmp_path / "run")]) == 0
    assert "left out: fc.weight, fc.bias (of 7 classes, and here are 10)" in capsys.readouterr().out
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded["init_checksum"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    given, trained = torch.load(weights, weights_only=True), load_file(tmp_path / "run" / "weights.safetensors")
    assert torch.allclose(trained["conv1.weight"], given["conv1.weight"], atol=1e-6)
