"""--track: what W&B (offline) and MLflow (a local database) hold of a run, read back with their own packages."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailmatch.cli import main
from tailmatch.engine import trackers
from tailmatch.engine.records import RunFolder
from tailmatch.engine.trackers import FAILED, FINISHED, INTERRUPTED, open_trackers, refuse_missing
from tailmatch.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TINY = ["ssl", "--threads", "1", "--device", "cpu", "--steps", "6", "--batch-size", "4", "--eval-every", "3"]

needs_wandb = pytest.mark.skipif(not trackers.find_spec("wandb"), reason="wandb is not installed")
needs_mlflow = pytest.mark.skipif(not trackers.find_spec("mlflow"), reason="mlflow is not installed")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine whose user has set nothing, whatever is set here."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def mlflow_runs(database: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}", registry_uri=str(database.parent))
    experiment = client.get_experiment_by_name("tailmatch")
    return [(client, run) for run in client.search_runs([experiment.experiment_id])]


def wandb_records(folder: Path, parts: int = 1) -> list[Any]:
    """Everything that W&B wrote, as its own messages, once its process has closed so many files."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = _wandb_records(folder)
        if sum(record.HasField("exit") for record in found) == parts:
            return found
        time.sleep(0.2)
    raise AssertionError("W&B wrote no end")


def _wandb_records(folder: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in log_entries(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def log_entries(content: bytes) -> Iterator[bytes]:
    """The entries of a log in LevelDB's format, behind 7 bytes that name its kind.

    Blocks of 32 KiB hold pieces: a checksum of 4 bytes, 2 of length, 1 that says whether more pieces follow.
    """
    place, entry = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        entry += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield entry
            entry = b""


def items(entries: Any) -> dict[str, Any]:
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


@needs_mlflow
def test_mlflow_holds_the_rows_the_configuration_and_the_result(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "mine"
    assert main([*TINY, "--track", "mlflow", "--out", str(out)]) == 0
    ((client, run),) = mlflow_runs(tmp_path / "runs" / "mlflow.db")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    assert (run.data.params["algorithm"], run.data.params["batch_size"]) == ("fixmatch", "4")
    written = [(row["step"], row["eval/accuracy/all"]) for row in rows(out) if "eval/accuracy/all" in row]
    history = client.get_metric_history(run.info.run_id, "eval/accuracy/all")
    assert [(metric.step, pytest.approx(metric.value)) for metric in history] == written
    result = json.loads((out / "result.json").read_text())
    assert run.data.metrics["result/accuracy/last/all"] == pytest.approx(result["accuracy"]["last"]["all"])


@needs_wandb
def test_wandb_holds_the_same_and_stays_offline_without_a_login(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    assert main([*TINY, "--track", "wandb", "--out", str(out)]) == 0
    records = wandb_records(out)
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.display_name) == ("tailmatch", "mine")
    config = items(run.config.update)
    assert (config["algorithm"], config["task"]) == ("fixmatch", "ssl")
    history = [items(record.history.item) for record in records if record.HasField("history")]
    found = [(row["_step"], row["eval/accuracy/all"]) for row in history if "eval/accuracy/all" in row]
    assert found == [(row["step"], row["eval/accuracy/all"]) for row in rows(out) if "eval/accuracy/all" in row]
    summary = {}
    for record in records:
        if record.HasField("summary"):
            summary |= items(record.summary.update)
    assert summary["status"] == "finished"
    assert summary["result/steps"] == 6
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]


@needs_mlflow
@needs_wandb
def test_a_resumed_run_goes_on_in_the_same_entries(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    words = [*TINY[:-4], "--steps", "3000", "--batch-size", "4", "--eval-every", "20", "--log-every", "10"]
    call = [sys.executable, str(ROOT / "run.py"), *words, "--track", "wandb", "mlflow", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 240
    while not list(out.glob("checkpoints/*.safetensors")):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert first.returncode == 130
    ((_, run),) = mlflow_runs(tmp_path / "mlflow.db")
    assert run.info.status == "KILLED"
    exits = [record.exit.exit_code for record in wandb_records(out) if record.HasField("exit")]
    assert exits == [130]
    reached = rows(out)[-1]["step"]

    again = [sys.executable, str(ROOT / "run.py"), "ssl", "--resume", str(out), "--track", "mlflow", "wandb"]
    second = subprocess.Popen(again, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    while rows(out)[-1]["step"] <= reached + 20:
        assert second.poll() is None
        assert time.monotonic() < end + 240
        time.sleep(0.1)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=120)
    ((client, same),) = mlflow_runs(tmp_path / "mlflow.db")
    assert same.info.run_id == run.info.run_id
    steps = {metric.step for metric in client.get_metric_history(same.info.run_id, "train/loss")}
    assert steps >= {row["step"] for row in rows(out)}
    ids = {record.run.run_id for record in wandb_records(out, parts=2) if record.HasField("run")}
    assert len(ids) == 1


@needs_mlflow
@pytest.mark.parametrize(
    ("status", "shown"), [(FINISHED, "FINISHED"), (INTERRUPTED, "KILLED"), (FAILED, "FAILED"), ("odd", "FAILED")]
)
def test_how_a_run_ended_is_told(status: str, shown: str, tmp_path: Path) -> None:
    tracker = trackers.MLflow(tmp_path, {})
    tracker.log(3, {"eval/class_accuracy/größer (als)": 0.5})
    tracker.end(status, {"steps": 3})
    ((_, run),) = mlflow_runs(tmp_path.parent / "mlflow.db")[:1]
    assert run.info.status == shown
    assert run.data.metrics["eval/class_accuracy/gr__er _als_"] == 0.5


def test_a_missing_package_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert main([*TINY, "--track", "wandb", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said == "error: --track wandb needs a package that is not installed: pip install wandb.\n"
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="pip install mlflow-skinny sqlalchemy alembic"):
        refuse_missing(["mlflow"])


def test_a_tracker_that_cannot_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no such project")

    monkeypatch.setitem(trackers._REMOTE, "wandb", refused)
    with pytest.raises(UserError, match=r"--track wandb cannot start \(no such project\); mend its settings"):
        open_trackers(["wandb"], tmp_path, 0, {})


def test_a_tracker_that_breaks_costs_the_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __init__(self, *_: object) -> None: ...

        def log(self, step: int, values: object) -> None:
            raise ConnectionError("no answer")

        def end(self, status: str, result: object) -> None:
            raise AssertionError

    monkeypatch.setitem(trackers._REMOTE, "wandb", Broken)
    folder = RunFolder.new(tmp_path / "run", "toy", "name")
    folder.show_in(["wandb"], {})
    folder.open_metrics(0)
    folder.log(1, 0.1, {"train/loss": 1.0})
    folder.log(2, 0.2, {"train/loss": 0.5})
    folder.close("finished")
    assert capsys.readouterr().out == "--track wandb failed and is left out from here on: no answer\n"
    assert len(rows(folder.path)) == 2


def test_nothing_but_tensorboard_without_being_asked(tmp_path: Path) -> None:
    (only,) = open_trackers([], tmp_path, 0, {})
    assert isinstance(only, trackers.TensorBoard)
