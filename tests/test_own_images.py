"""What a user with images of their own types, from the command line to the run folder."""

from pathlib import Path

import pytest

from tailmatch.cli import main
from tailmatch.datasets import load_dataset
from tailmatch.errors import UserError
from tailmatch.ssl.api import configure


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one sentence with which the command line refuses these words."""
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("task", ["ssl", "longtail"])
def test_a_place_without_its_data_set_is_not_digits(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(capsys, task, "--data-root", "shots", "--steps", 1)
    assert f"--data-root shots is for data sets with files, and digits{'-lt' * (task == 'longtail')} has none" in error
    assert "give --dataset folder too" in error
    assert "give --dataset npz too" in refusal(capsys, task, "--data-root", "shots.npz", "--steps", 1)
    Path("recipe.yaml").write_text("data_root: shots\n")
    assert "give --dataset folder too" in refusal(capsys, task, "--config", "recipe.yaml")
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.yaml"]


def test_nor_is_it_in_python() -> None:
    with pytest.raises(UserError, match="give --dataset folder too"):
        configure(data_root="shots")
    with pytest.raises(UserError, match="give --dataset folder too"):
        load_dataset("digits-lt", "shots")
