"""Where a run's numbers are shown while it trains: TensorBoard always, Weights & Biases and MLflow where asked for.

All of them get the rows of metrics.jsonl under the same names, and at the end how the run ended. W&B and MLflow also
get the configuration and result.json, and a resumed run goes on in the entry that it was begun in (`trackers.json` in
the run folder holds its id). Nothing is sent anywhere but by the user's own settings: without a W&B login its files
stay in the run folder, and without MLFLOW_TRACKING_URI the numbers go to `mlflow.db` beside the run folders.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tailmatch.engine.files import write_sealed_json
from tailmatch.engine.recorded import read_mapping
from tailmatch.errors import UserError

FINISHED, INTERRUPTED, FAILED = "finished", "interrupted", "failed"
PROJECT = "tailmatch"
_INSTALL = {"wandb": "wandb", "mlflow": "mlflow-skinny sqlalchemy alembic"}
_IDS = "trackers.json"


class Tracker(Protocol):
    """One place that numbers go to."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A row of metrics."""

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        """The run finished, was interrupted or failed; `result` is what result.json says."""


def refuse_missing(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed, before anything is trained."""
    for name in names:
        needed = [name]
        if name == "mlflow" and "MLFLOW_TRACKING_URI" not in os.environ:
            needed += ["sqlalchemy", "alembic"]  # for the local database
        if any(find_spec(module) is None for module in needed):
            raise UserError(f"--track {name} needs a package that is not installed: pip install {_INSTALL[name]}.")


def open_trackers(names: Sequence[str], folder: Path, from_step: int, config: Mapping[str, Any]) -> list[Tracker]:
    """TensorBoard and the named ones, for a run that starts or goes on."""
    found: list[Tracker] = [TensorBoard(folder, from_step)]
    for name in names:
        try:
            found.append(_Guarded(name, _REMOTE[name](folder, config)))
        except Exception as error:  # of many kinds, of packages that are not ours
            raise UserError(f"--track {name} cannot start ({error}); mend its settings, or leave it out.") from error
    return found


def summary_writer() -> Any:
    """TensorBoard's class, a second of imports that --dry-run does not need."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter


class TensorBoard:
    """`tensorboard --logdir RUN/tensorboard`."""

    def __init__(self, folder: Path, from_step: int) -> None:
        self._board = summary_writer()(str(folder / "tensorboard"), purge_step=from_step + 1 if from_step else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            self._board.add_scalar(tag, value, step)

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        self._board.close()


class WeightsAndBiases:
    """A run of https://wandb.ai, by the user's WANDB_ variables; offline where there is no login."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        has_account = "WANDB_MODE" in os.environ or wandb.login(prompt=False)
        # Offline, the same id is what joins the parts of a resumed run when they are uploaded.
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=read_mapping(folder / _IDS).get("wandb"),
            resume="allow",
            name=folder.resolve().name,
            config=dict(config),
            dir=str(folder),
            mode=None if has_account else "offline",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        _remember(folder, "wandb", self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        self._run.summary.update({**dict(_numbers(result)), "status": status})
        self._run.finish(exit_code={FINISHED: 0, INTERRUPTED: 130}.get(status, 1))


class MLflow:
    """A run of MLflow at MLFLOW_TRACKING_URI, else in a database beside the run folders."""

    METRICS_PER_CALL, PARAMS_PER_CALL, LONGEST_PARAM = 1000, 100, 500
    _NOT_IN_NAME = re.compile(r"[^\w\-. :/]", re.ASCII)

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        beside = folder.resolve().parent
        self._client = MlflowClient(
            os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{beside / 'mlflow.db'}"), registry_uri=str(beside)
        )
        known = read_mapping(folder / _IDS).get("mlflow")
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return
        run = self._client.create_run(self._experiment(), run_name=folder.resolve().name)
        self._id = run.info.run_id
        params = [Param(name, str(value)[: self.LONGEST_PARAM]) for name, value in config.items() if value is not None]
        for part in _parts(params, self.PARAMS_PER_CALL):
            self._client.log_batch(self._id, params=part)
        _remember(folder, "mlflow", self._id)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found is not None else self._client.create_experiment(name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(self._NOT_IN_NAME.sub("_", tag), float(value), now, step) for tag, value in values.items()]
        for part in _parts(rows, self.METRICS_PER_CALL):
            self._client.log_batch(self._id, metrics=part)

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        self.log(int(result.get("steps") or 0), dict(_numbers(result)))
        self._client.set_terminated(self._id, {FINISHED: "FINISHED", INTERRUPTED: "KILLED"}.get(status, "FAILED"))


_REMOTE: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}


class _Guarded:
    """A tracker whose failures are said once and cost the run nothing else: its numbers are in metrics.jsonl."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker
        self._works = True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self._tracker.log(step, values))

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        self._try(lambda: self._tracker.end(status, result))

    def _try(self, call: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            call()
        except Exception as error:
            self._works = False
            print(f"--track {self._name} failed and is left out from here on: {error}", flush=True)


def _numbers(result: Mapping[str, Any], prefix: str = "result") -> Iterator[tuple[str, float]]:
    """The numbers of result.json under slashed names: `result/accuracy/last/all`."""
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}/{name}", float(value)


def _remember(folder: Path, name: str, run_id: str) -> None:
    write_sealed_json(folder / _IDS, {**read_mapping(folder / _IDS), name: run_id})


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
