"""The run folder: everything a run leaves behind, readable without this package."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailmatch import __version__
from tailmatch.checksums import sealed_yaml
from tailmatch.engine.files import write_atomically, write_sealed_json, write_text
from tailmatch.engine.locks import RUN_LOCK, locked
from tailmatch.engine.program import program_name
from tailmatch.engine.recorded import is_finished, read_mapping, result_of
from tailmatch.engine.trackers import Tracker, open_trackers
from tailmatch.errors import UserError

SCHEMA = 1
SUITE_LOG = "log.txt"  # what a run started by a suite says; it is there before the run
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")


class RunFolder:
    """One run's folder and the files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"
        self._written = hashlib.sha256()
        self._trackers: list[Tracker] = []
        self.show_in((), {})

    @classmethod
    def new(cls, out: Path | None, task: str, name: str) -> "RunFolder":
        """A fresh folder, refused where it would lie over an earlier run."""
        if out is None:
            folder = cls(_made(Path("runs") / task / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"))
        else:
            folder = cls(out)
            folder.refuse_other_runs()
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        return folder

    def refuse_other_runs(self) -> None:
        """Refuse a folder with anything in it; the empty beginnings of a run that was cut off at once do not count."""
        if self.config_file.exists():
            state, advice = "a finished run", ""
            if not self.is_finished:
                state, advice = "an unfinished run", f" go on with it by --resume {shlex.quote(str(self.path))},"
            raise UserError(f"{self.path} already holds {state};{advice} choose another --out or remove the folder.")
        if self.path.exists() and not (self.path.is_dir() and _holds_nothing(self.path)):
            raise UserError(f"{self.path} exists and is not an empty folder; choose another --out.")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder; the lock ends with the process, however that ends.

        A folder that no run was begun in is removed again.
        """
        refusal = f"Another run is writing to {self.path}; wait for its end, or choose another --out."
        with locked(self.path / RUN_LOCK, refusal):
            try:
                for leftover in _half_written(self.path):
                    leftover.unlink(missing_ok=True)
                yield
            finally:
                if not self.config_file.exists():
                    _remove_if_empty(self.path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    def result(self) -> dict[str, Any]:
        return result_of(self.path)

    @property
    def is_finished(self) -> bool:
        return is_finished(self.path)

    def write_config(self, text: str) -> None:
        write_text(self.config_file, sealed_yaml(text))

    def write_environment(self, device: torch.device, seed: int, world_size: int, **extra: Any) -> None:
        """Where and with what the run was made."""
        environment = {
            "schema": SCHEMA,
            "tailmatch": __version__,
            "commit": commit(),
            "command": shlex.join(["python", *sys.argv] if sys.argv[0].endswith(".py") else sys.argv),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: _version(name) for name in _PACKAGES},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "processes": world_size,
            "seed": seed,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **extra,
        }
        write_sealed_json(self.path / "environment.json", environment)

    def refuse_other_data(self, fingerprint: str, store: str | None = None) -> None:
        """Refuse to go on with other images than the run was begun with, or with another store of them, as after a
        change of data_root."""
        environment = read_mapping(self.path / "environment.json")
        if environment.get("store", store) != store:
            raise UserError(
                f"{self.path} was begun on another feature store than there is now ({environment['store'][:12]}, not "
                f"{str(store)[:12]}); point --data-root to the run's own store, or start a new run."
            )
        begun_with = environment.get("split_fingerprint")
        if begun_with not in (None, fingerprint):
            raise UserError(
                f"{self.path} was begun on other images or another split of them ({begun_with}) than there are now "
                f"({fingerprint}); point --data-root to the run's own data, or start a new run."
            )

    def write_result(self, result: Mapping[str, Any]) -> None:
        whole = {"metrics_sha256": self.metrics_checksum()} if result.get("status") == "finished" else {}
        write_sealed_json(self.path / "result.json", {"schema": SCHEMA, **result, **whole})

    # -- metrics ------------------------------------------------------------------------------------------------------

    def show_in(self, track: Sequence[str], config: Mapping[str, Any]) -> None:
        """Where the metrics are to be shown besides TensorBoard (trackers.py), with the run's configuration."""
        self._track, self._config = tuple(track), dict(config)

    def open_metrics(self, from_step: int, checksum: str | None = None) -> None:
        """Start (or go on with) the metrics; rows after `from_step` belong to a run that was cut off and go.

        Args:
            checksum: what `metrics_checksum` was after that step; None: not known.

        Raises:
            UserError: if the rows up to that step are not those that were written.
        """
        rows = [row for row in _read_rows(self._metrics) if row["step"] <= from_step]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self._written = hashlib.sha256(text.encode())
        if self._metrics.exists() and checksum not in (None, self._written.hexdigest()):
            raise UserError(
                f"{self._metrics} is damaged, or was changed: its rows up to step {from_step} do not have the checksum "
                "in the checkpoint; put a copy back, or remove it to go on without the curves so far."
            )
        write_text(self._metrics, text)
        self._trackers = open_trackers(self._track, self.path, from_step, self._config)

    def log(self, step: int, seconds: float, values: Mapping[str, float | None]) -> None:
        """One row of metrics.jsonl, and the same under the same names wherever the run is shown."""
        line = json.dumps({"step": step, "seconds": round(seconds, 3), **values}) + "\n"
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(line)
        self._written.update(line.encode())
        known = {tag: value for tag, value in values.items() if value is not None}
        for tracker in self._trackers:
            tracker.log(step, known)

    def metrics_checksum(self) -> str:
        """SHA-256 of metrics.jsonl so far, whose rows are on the disk from here on."""
        if self._metrics.exists():
            with self._metrics.open("rb") as file:
                os.fsync(file.fileno())
        return self._written.hexdigest()

    def close(self, status: str) -> None:
        """The run ended like this; nothing where that was said before."""
        trackers, self._trackers = self._trackers, []
        for tracker in trackers:
            tracker.end(status, self.result())


def write_predictions(
    path: Path, logits: Tensor, labels: Tensor, counts: Tensor, names: tuple[str, ...], **more: Tensor
) -> None:
    """What `analyze` reads, uncompressed: reading 50,000 x 1,000 logits is then a matter of the disk alone."""
    arrays: dict[str, Any] = {
        "logits": _compact(logits),
        "labels": labels.cpu().numpy().astype(np.int64),
        "train_class_counts": counts.cpu().numpy().astype(np.int64),
        "class_names": np.array(names, dtype=np.str_),
        **{name: _compact(value) for name, value in more.items()},
    }
    write_atomically(path, lambda file: np.savez(file, **arrays))


def _compact(logits: Tensor) -> "np.ndarray[Any, Any]":
    """Half precision where it keeps every logit's value to three digits, single where it would overflow."""
    values = logits.detach().float().cpu().numpy()
    return values.astype(np.float16) if logits.numel() > 1_000_000 and np.abs(values).max() < 60_000 else values


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break  # a line cut off by a crash: nothing after it counts
        if isinstance(row, dict) and isinstance(row.get("step"), int):  # else no row of ours
            rows.append(row)
    return rows


def _made(path: Path) -> Path:
    """A new folder of this name, numbered where another run has it already."""
    candidate, number = path, 2
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            candidate.mkdir()
        except FileExistsError:
            candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
        else:
            return candidate


def _half_written(path: Path) -> list[Path]:
    """What a killed process left of files that it was writing."""
    return [*path.glob(".*.tmp"), *path.glob("checkpoints/.*.tmp")]


def _holds_nothing(path: Path) -> bool:
    beginnings = {path / name for name in ("checkpoints", RUN_LOCK, "environment.json", SUITE_LOG)} | {
        *_half_written(path)
    }
    return all(entry in beginnings for entry in [*path.iterdir(), *path.glob("checkpoints/*")])


def _remove_if_empty(path: Path) -> None:
    try:
        (path / RUN_LOCK).unlink(missing_ok=True)
        (path / "checkpoints").rmdir()
        path.rmdir()
    except OSError:
        pass  # it holds something, or is somebody's mount point


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def commit() -> str | None:
    """The commit of this checkout as it is now, or was at the first call; None for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def where_to_look(path: Path) -> list[tuple[str, str]]:
    """The last rows of a run's closing table: where everything is, and what to do next."""
    run, board = shlex.quote(str(path)), shlex.quote(str(path / "tensorboard"))
    return [
        ("written to", str(path)),
        ("curves", f"tensorboard --logdir {board}"),
        ("next", f"{program_name()} analyze {run}  (charts and a report; several runs are compared)"),
        ("or", f"{program_name()} predict {run} IMAGES  (what is in images of your own)"),
    ]
