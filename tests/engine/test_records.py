"""The run folder: what a run leaves behind, and that no run is written over."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tailmatch import __version__
from tailmatch.engine.records import RunFolder, write_predictions
from tailmatch.engine.suite.processes import environment
from tailmatch.errors import UserError


def finished(path: Path) -> RunFolder:
    folder = RunFolder.new(path, "toy", "name")
    folder.write_config("task: toy\n")
    folder.write_result({"status": "finished"})
    return folder


# -- new folders -------------------------------------------------------------------------------------------------------


def test_without_out_a_run_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tailmatch.engine.records.time.strftime", lambda form: "20260102-030405")
    made = [RunFolder.new(None, "ssl", "digits").path for _ in range(3)]
    name = "runs/ssl/digits-20260102-030405"
    assert [str(path) for path in made] == [name, f"{name}-2", f"{name}-3"]
    assert all((path / "checkpoints").is_dir() for path in made)


def test_a_finished_run_is_never_written_over(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    with pytest.raises(
        UserError, match=r"run already holds a finished run; choose another --out or remove the folder\."
    ):
        RunFolder.new(folder.path, "toy", "name")


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    folder = finished(tmp_path / "my run")
    for status in ("running", "failed"):
        folder.write_result({"status": status})
        with pytest.raises(UserError, match=r"already holds an unfinished run; go on with it by --resume '.*my run',"):
            RunFolder.new(folder.path, "toy", "name")


def test_what_is_no_run_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    (tmp_path / "other" / "checkpoints" / "step_00000001.safetensors").write_text("mine")
    for name in ("file", "folder", "other"):
        with pytest.raises(UserError, match=f"{name} exists and is not an empty folder; choose another --out"):
            RunFolder.new(tmp_path / name, "toy", "name")


def test_a_run_that_was_cut_off_in_its_first_moments_is_as_good_as_none(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", "toy", "name")
    (folder.path / ".lock").touch()
    (folder.path / ".config.yaml.123.tmp").touch()
    (folder.path / "environment.json").write_text("{}")
    assert RunFolder.new(folder.path, "toy", "name").checkpoints.is_dir()


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    assert RunFolder.new(tmp_path, "toy", "name").checkpoints.is_dir()


# -- one run at a time -------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from tailmatch.engine.locks import locked
with locked(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_kept_out_until_the_first_has_ended_however_it_ends(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", "toy", "name")
    folder.write_config("task: toy\n")
    hold = [sys.executable, "-c", HOLD, str(folder.path / ".lock")]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(1)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(UserError, match=r"Another run is writing to .*run; wait for its end, or choose"),
            folder.held(),
        ):
            pass
        other.kill()
    with folder.held():
        second = subprocess.run(hold, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(1))
    assert "UserError: taken" in second.stderr


def test_what_a_killed_run_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    for place in (folder.path, folder.checkpoints):
        (place / ".x.safetensors.77.tmp").write_text("half")
    (folder.path / ".mine").touch()
    with folder.held():
        assert not list(folder.path.rglob("*.tmp"))
    assert (folder.path / ".mine").exists()


def test_a_folder_that_no_run_was_begun_in_goes_again(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "a" / "run", "toy", "name")
    with pytest.raises(RuntimeError), folder.held():
        raise RuntimeError
    assert not folder.path.exists()


# -- what is in it -----------------------------------------------------------------------------------------------------


def test_the_environment_says_where_and_with_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "ssl", "--out", "a b"])
    folder = RunFolder.new(tmp_path / "run", "toy", "name")
    folder.write_environment(torch.device("cpu"), 7, 2, split_fingerprint="abc")
    found = json.loads((folder.path / "environment.json").read_text())
    assert found["command"] == "python run.py ssl --out 'a b'"
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (found["tailmatch"], found["device"], found["seed"], found["processes"]) == (__version__, "cpu", 7, 2)
    assert found["split_fingerprint"] == "abc"
    assert {"schema", "commit", "python", "platform", "threads", "started"} <= set(found)


def test_a_run_goes_on_with_the_images_it_was_begun_on_alone(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", "toy", "name")
    folder.refuse_other_data("abc")  # nothing is recorded to compare with
    folder.write_environment(torch.device("cpu"), 7, 1, split_fingerprint="abc")
    folder.refuse_other_data("abc")
    with pytest.raises(UserError, match=r"run was begun on other images .*\(abc\) .*\(def\); point --data-root to"):
        folder.refuse_other_data("def")
    (folder.path / "environment.json").write_text("[torn")
    folder.refuse_other_data("def")


def test_predictions_hold_no_objects(tmp_path: Path) -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2], dtype=torch.int32)
    counts = torch.tensor([5, 4, 3])
    write_predictions(tmp_path / "a.npz", logits, labels, counts, ("a", "ü", "c c"), teacher_logits=logits.bfloat16())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    assert {name: (array.dtype.kind, array.shape) for name, array in found.items()} == {
        "logits": ("f", (6, 3)),
        "labels": ("i", (6,)),
        "train_class_counts": ("i", (3,)),
        "class_names": ("U", (3,)),
        "teacher_logits": ("f", (6, 3)),
    }
    assert found["labels"].dtype == found["train_class_counts"].dtype == np.int64
    assert np.array_equal(found["logits"], logits.numpy())
    assert found["class_names"].tolist() == ["a", "ü", "c c"]


@pytest.mark.parametrize(("scale", "expected"), [(1.0, np.float16), (1e5, np.float32)])
def test_large_predictions_are_halved_where_they_fit(tmp_path: Path, scale: float, expected: type) -> None:
    logits = scale * torch.randn(1001, 1000)
    names = tuple(map(str, range(1000)))
    write_predictions(tmp_path / "a.npz", logits, torch.zeros(1001), torch.ones(1000), names)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["logits"].dtype == expected


def test_a_torn_result_is_none_and_its_run_can_go_on(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    assert folder.is_finished
    for torn in ("{", "[]", '"finished"'):
        (folder.path / "result.json").write_text(torn)
        assert not folder.is_finished
    with pytest.raises(UserError, match="already holds an unfinished run; go on with it by --resume"):
        folder.refuse_other_runs()


def test_no_result_yet(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", "toy", "name")
    assert folder.result() == {}
    assert not folder.is_finished
