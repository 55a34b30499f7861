"""What a run says of its teacher, and how precisely it computes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tailmatch.distill.build_teacher import teacher_precision
from tailmatch.distill.teacher import load_network
from tailmatch.engine.checkpoint import load_weights, save_weights
from tailmatch.engine.options import Precision, RunOptions
from tailmatch.errors import UserError
from tailmatch.models import head_of
from tests.longtail.conftest import Longtail


@pytest.mark.parametrize(("asked", "got"), [("auto", torch.bfloat16), ("fp16", torch.bfloat16), ("fp32", None)])
def test_full_precision_asked_for_holds_for_the_teacher(
    monkeypatch: pytest.MonkeyPatch, asked: Precision, got: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert teacher_precision(RunOptions(precision=asked), torch.device("cuda")).dtype == got


def test_a_run_says_and_records_how_it_read_its_teacher(
    longtail: Longtail, plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(plain_run / "weights.safetensors")
    torch.save({"state_dict": {f"module.encoder.{key}": value for key, value in weights.items()}}, tmp_path / "t.pth")
    words = ("--loss", "kl", "--teacher", "wrn-digits", "--teacher-checkpoint", tmp_path / "t.pth")
    assert longtail(*words, "--steps", 2, "--out", tmp_path / "run") == 0
    assert f"names in {tmp_path / 't.pth'}: module.* read as *; encoder.* read as *" in capsys.readouterr().out
    teacher = json.loads((tmp_path / "run" / "result.json").read_text())["teacher"]
    assert teacher["renamed"] == ["module.* read as *", "encoder.* read as *"]
    (tmp_path / "notes.txt").write_text("to do: train a teacher\n")
    assert longtail(*words[:-1], tmp_path / "notes.txt", "--steps", 2, "--out", tmp_path / "other") == 2
    refused = capsys.readouterr().err
    assert "tensors alone" in refused
    assert "Traceback" not in refused


def test_the_weights_of_a_run_folder_are_chosen_by_name(
    longtail: Longtail, plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(plain_run, tmp_path / "teacher")
    card, state = load_weights(folder / "weights.safetensors")
    save_weights(folder / "selected.safetensors", state | {"fc.bias": state["fc.bias"] + 1}, card)
    for weights, more in (("last", 0), ("selected", 1)):
        _, network = load_network(None, folder, 10, 1, 8, weights)
        own = load_file(folder / "weights.safetensors")["fc.bias"] + more
        torch.testing.assert_close(head_of(network).bias, own, rtol=0, atol=0, check_dtype=False)
    words = ("--loss", "kl", "--steps", 2, "--teacher-checkpoint", folder)
    assert longtail(*words, "--teacher-weights", "selected", "--out", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["teacher"]["weights"] == "selected"
    (folder / "selected.safetensors").unlink()
    for which, said in (
        ("selected", "has no selected.safetensors: it was trained without validation images"),
        ("best-on-test", "are not kept by a run, which does not choose on test images"),
        ("best", "last, selected"),
    ):
        capsys.readouterr()
        assert longtail(*words, "--teacher-weights", which, "--out", tmp_path / "other") == 2
        assert said in capsys.readouterr().err
    torch.save({}, tmp_path / "file.pth")
    with pytest.raises(UserError, match="is a file, which has one set of weights"):
        load_network("wrn-digits", tmp_path / "file.pth", 10, 1, 8, "selected")
