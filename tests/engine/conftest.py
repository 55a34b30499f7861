"""A task of a few microseconds a step, to put the loop through everything that can happen to a run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tailmatch.analysis.groups import split_classes
from tailmatch.engine.card import Card
from tailmatch.engine.distributed import World
from tailmatch.engine.loop import Trainer
from tailmatch.engine.options import OptimOptions, RunOptions
from tailmatch.engine.profile import Profile
from tailmatch.engine.records import RunFolder
from tailmatch.engine.sampling import shuffled
from tailmatch.engine.seeding import generator, seed_everything
from tailmatch.engine.task import StepResult, Task

CLASSES, FEATURES = 4, 6


class ToyTask(Task):
    """Three Gaussian clouds: a network with BatchNorm and dropout, a buffer that follows the run, epochs of 8 steps."""

    def __init__(self, steps: int, seed: int = 0, before_step: Callable[[int], None] = lambda step: None) -> None:
        self.model = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, CLASSES)
        )
        self.state = nn.Module()
        self.state.register_buffer("running_mean_loss", torch.zeros(()))
        self.steps, self.steps_per_epoch, self.images_per_step = steps, 8, 5
        self.class_names = tuple("abcd")
        self.train_class_counts = torch.tensor([20, 12, 6, 2])
        self.groups = split_classes(self.train_class_counts.numpy())
        self.fingerprint, self.before_step = "toy", before_step
        self.inputs, self.targets = self._cloud(40, seed)
        self.test_inputs, test_targets = self._cloud(32, seed + 1)
        self.labels = {"test": test_targets, "val": test_targets[:16]}
        self.order = shuffled(40, seed, "toy order")
        self.epochs_ended: list[int] = []
        self.closed = False

    @staticmethod
    def _cloud(count: int, seed: int) -> tuple[Tensor, Tensor]:
        draw = generator(seed, "toy cloud")
        labels = torch.arange(count) % CLASSES
        return torch.randn(count, FEATURES, generator=draw) + 2 * nn.functional.one_hot(labels, FEATURES), labels

    def step(self, model: nn.Module, step: int, profile: Profile) -> StepResult:
        self.before_step(step)
        with profile("data"):
            batch = torch.from_numpy(self.order.take(5 * step, 5))
        with profile("forward"):
            loss = nn.functional.cross_entropy(model(self.inputs[batch]), self.targets[batch])
        with torch.no_grad():
            self.state.running_mean_loss.lerp_(loss.detach(), 0.1)
        sometimes = torch.tensor(float("nan") if step % 3 else float(step))
        return StepResult(loss, {"train/step": torch.tensor(float(step)), "train/sometimes": sometimes})

    def logits(self, model: nn.Module, split: str) -> Tensor:
        return model(self.test_inputs[: len(self.labels[split])])

    def statistics_sample(self) -> Iterator[Tensor]:
        yield from self.inputs.split(20)

    def card(self) -> Card:
        one = (0.5,)
        return Card(
            task="toy", dataset="clouds", model="toy", class_names=self.class_names, channels=1, image_size=1,
            mean=one, std=one,
        )  # fmt: skip

    def end_epoch(self, epoch: int) -> None:
        self.epochs_ended.append(epoch)

    def metrics(self) -> dict[str, float | None]:
        return {"toy/running_mean_loss": float(self.state.running_mean_loss), "toy/nothing": None}

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def real_tensorboard() -> None:
    """Asked for by the tests that read what it wrote."""


@pytest.fixture(autouse=True)
def _no_tensorboard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import and its thread cost more than these runs."""
    if "real_tensorboard" in request.fixturenames:
        return

    class Nothing:
        def __init__(self, *_: object, **__: object) -> None: ...

        def add_scalar(self, *_: object) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Nothing)


@pytest.fixture
def toy_trainer() -> Callable[..., Trainer]:
    """Makes the trainer of a toy run in a folder, new or begun."""

    def make(
        path: Path,
        steps: int = 24,
        seed: int = 0,
        before_step: Callable[[int], None] = lambda step: None,
        optim: OptimOptions = OptimOptions(lr=0.1, ema_decay=0.9, clip_grad=1.0),  # noqa: B008
        networks: int = 1,
        **run: object,
    ) -> Trainer:
        seed_everything(seed)
        folder = RunFolder(path)
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        task = ToyTask(steps, seed, before_step)
        task.networks = networks
        options = RunOptions(**{"eval_every": 6, "checkpoint_every": 4, "log_every": 5, "seed": seed, **run})
        identity = {"task": "toy", "name": path.name}
        return Trainer(task, optim, options, folder, identity, torch.device("cpu"), World())

    return make


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, object]]:
    """What a run leaves behind, without what depends on the clock."""
    timings = ("seconds", "train/images_per_second", "images_per_second", "metrics_sha256", "tailmatch_sha256")

    def read(path: Path) -> dict[str, object]:
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        result = json.loads((path / "result.json").read_text())
        with np.load(path / "predictions.npz", allow_pickle=False) as file:
            predictions = {name: file[name].tolist() for name in file.files}
        return {
            "rows": [{tag: value for tag, value in row.items() if tag not in timings} for row in rows],
            "result": {key: value for key, value in result.items() if key not in (*timings, "name")},
            "weights": (path / "weights.safetensors").read_bytes(),
            "predictions": predictions,
        }

    return read
