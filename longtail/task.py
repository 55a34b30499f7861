"""Long-tailed learning as a task of the training loop: images, network, step, and what happens between epochs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tailmatch.analysis.groups import Groups
from tailmatch.distill.images import Images
from tailmatch.distill.step import Distillation, LabelsOnly
from tailmatch.engine.card import Card
from tailmatch.engine.evaluated import moving_norms
from tailmatch.engine.evaluation import Accuracy, over_parts
from tailmatch.engine.profile import Profile
from tailmatch.engine.task import Started, StepResult, Task
from tailmatch.losses.frequency import log_prior
from tailmatch.models.classifiers import kind_of
from tailmatch.models.head import head_of

EFFECTIVE_BETA = 0.9999  # of deferred re-weighting, as LDAM-DRW has it (arXiv 1906.07413)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What the records say of a teacher."""

    name: str
    checkpoint: str
    accuracy: Accuracy
    test_logits: Tensor
    weights: str | None = None
    """Which of a run folder's; None for a file."""
    store: str | None = None
    """The feature store that it sees the images in."""
    changes: tuple[str, ...] = ()
    """What was done to the names of its layers."""

    def facts(self) -> dict[str, Any]:
        said: dict[str, Any] = {"name": self.name, "checkpoint": self.checkpoint}
        said |= {} if self.weights is None else {"weights": self.weights}
        said |= {} if self.store is None else {"store": self.store}
        said |= {"renamed": list(self.changes)} if self.changes else {}
        return {"teacher": {**said, "accuracy": self.accuracy}}


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """How long the run is, and when it changes."""

    steps: int
    steps_per_epoch: int
    images_per_step: float
    reweigh_at: int | None = None
    """First epoch whose classes weigh by their effective number (DRW)."""


@dataclass(frozen=True, kw_only=True)
class TrainedPart:
    """What of the network is trained; the rest stays as it is, BatchNorm's statistics included."""

    modules: tuple[nn.Module, ...] | None = None
    """None: all of it."""
    batchnorm: bool = False
    """Whether the rest's BatchNorm statistics go on with the training."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What a second stage has to say in result.json."""


@dataclass(frozen=True, kw_only=True)
class LogitShift:
    """What is taken off the logits of every evaluation: post-hoc logit adjustment (arXiv 2007.07314)."""

    tau: float = 0.0

    def __call__(self, logits: Tensor, class_counts: Tensor) -> Tensor:
        return logits - self.tau * log_prior(class_counts, like=logits)


@dataclass(kw_only=True)
class LongtailTask(Task):
    """Learn from a long tail, with or without a teacher."""

    images: Images
    model: nn.Module
    model_name: str
    method: Distillation | LabelsOnly
    timetable: Timetable
    groups: Groups
    trained: TrainedPart = field(default_factory=TrainedPart)
    shift: LogitShift = field(default_factory=LogitShift)
    teacher: Teacher | None = None
    started: Started | None = None
    features_rate: float = 1.0
    """The learning rate of everything but the classifier, as a share of the classifier's."""

    def __post_init__(self) -> None:
        self.steps, self.steps_per_epoch = self.timetable.steps, self.timetable.steps_per_epoch
        self.images_per_step, self.fingerprint = self.timetable.images_per_step, self.images.fingerprint
        self.class_names, self.train_class_counts = self.images.class_names, self.images.class_counts
        self.labels = {name: self.images.labels[name] for name in ("val", "test") if name in self.images.labels}
        self.state = self.method
        self.store = None if self.images.features is None else str(self.images.features["store"])

    def step(self, model: nn.Module, step: int, profile: Profile) -> StepResult:
        if self.trained.modules is not None:
            model.eval()
            for module in (*self.trained.modules, *(moving_norms(model) if self.trained.batchnorm else ())):
                module.train()
        batch = self.images.batch(step, profile)
        losses = self.method(model, batch.images, batch.labels, profile, batch.indices)
        scalars = {f"train/loss_{name}": loss.detach() for name, loss in losses.items()}
        return StepResult(torch.stack(list(losses.values())).sum(), scalars)

    def end_epoch(self, epoch: int) -> None:
        self.method.end_epoch()
        if epoch + 1 == self.timetable.reweigh_at:
            self.method.label_loss.reweigh(EFFECTIVE_BETA)

    def logits(self, model: nn.Module, split: str) -> Tensor:
        return self.shift(over_parts(model, self.images.split(split)), self.train_class_counts)

    def rate_factors(self) -> dict[nn.Parameter, float]:
        if self.features_rate == 1:
            return {}
        own = set(head_of(self.model).parameters())
        return {parameter: self.features_rate for parameter in self.parameters() if parameter not in own}

    def statistics_sample(self) -> Iterator[Tensor]:
        return self.images.sample()

    def moving_norms(self) -> list[_BatchNorm]:
        parts = self.trained.modules
        if parts is None or self.trained.batchnorm:
            parts = (self.model,)
        return [norm for part in parts for norm in moving_norms(part)]

    def card(self) -> Card:
        images, shift = self.images, self.shift(torch.zeros(self.images.num_classes), self.train_class_counts)
        head, scale = kind_of(self.model)
        return Card(
            task="longtail",
            dataset=images.name,
            model=self.model_name,
            head=head,
            head_scale=scale,
            logit_shift=tuple(shift.tolist()) if shift.any() else None,
            class_names=images.class_names,
            channels=images.channels,
            image_size=images.image_size,
            mean=images.mean,
            std=images.std,
            short_side=images.short_side,
            features=images.features,
        )

    def pictures(self, split: str, indices: Tensor) -> Tensor | None:
        return self.images.pictures(split, indices)

    def synchronize(self) -> None:
        self.method.synchronize()

    def close(self) -> None:
        self.images.close()

    def predictions(self) -> dict[str, Tensor]:
        return {} if self.teacher is None else {"teacher_logits": self.teacher.test_logits}

    def facts(self) -> dict[str, Any]:
        return self.trained.notes | ({} if self.teacher is None else self.teacher.facts())

    def describe(self) -> dict[str, str]:
        sizes = {f"{name} images": f"{len(labels):,}" for name, labels in self.labels.items()}
        sizes["test images"] += ", held out" if self.images.held_out else ""
        more = {"epochs": f"{self.steps / self.steps_per_epoch:g} of {self.steps_per_epoch} steps"}
        if self.features_rate != 1:
            more["features learn"] = f"at {self.features_rate:g} of the classifier's rate"
        return {**super().describe(), **sizes, **more}
