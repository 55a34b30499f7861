"""Run folders that a user names as first stage: of another task, altered or unfit."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Longtail = Callable[..., int]


def run_folder(path: Path, config: str) -> Path:
    """A folder that looks finished, with this configuration."""
    path.mkdir()
    (path / "config.yaml").write_bytes(config.encode(errors="surrogateescape"))
    (path / "result.json").write_text('{"status": "finished"}')
    return path


ALTERED = {
    "task: [longtail": r"config.yaml:\d is not YAML",
    "- task: longtail": "must hold `name: value` lines, got a list",
    "{task: longtail, model: resnet20, stage2: crt}": "is a second stage",
    "{task: longtail, modle: resnet20}": "unknown option 'modle'. Did you mean 'model'",
    "\udcff": "is not a text file",
}


@pytest.mark.parametrize("config", list(ALTERED))
def test_an_altered_configuration_is_refused(
    longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    folder = run_folder(tmp_path / "first", config)
    assert longtail("--stage2", "ncm", "--from", folder, "--out", tmp_path / "run") == 2
    assert re.search(ALTERED[config], capsys.readouterr().err)


def test_a_first_stage_of_another_task_is_said_alone(
    longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path / "fixmatch", "{task: ssl, model: cnn-digits, algorithm: fixmatch, threshold: 0.95}")
    assert longtail("--stage2", "ncm", "--from", folder) == 2
    said = capsys.readouterr().err
    assert said == f"error: {folder} is a run of `ssl`; a second stage starts from a run of `longtail`.\n"


@pytest.mark.parametrize("stage", ["lws", "tau-norm"])
def test_a_cosine_classifier_has_no_lengths_to_change(
    longtail: Longtail, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    folder = run_folder(tmp_path / "ldam", "{task: longtail, model: wrn-digits, head: cosine, label_loss: ldam}")
    assert longtail("--stage2", stage, "--stage1", folder) == 2
    said = capsys.readouterr().err
    assert f"which the cosine classifier of {folder} ignores; take --stage2 crt or ncm" in said
    assert longtail("--stage2", "crt", "--stage1", folder, "--print-config") == 0
