"""Learning from labels, with or without a teacher, as a task of the training loop: images, network and step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tailmatch.analysis.groups import Groups
from tailmatch.distill.images import Images
from tailmatch.distill.step import Step
from tailmatch.engine.card import Card
from tailmatch.engine.evaluation import Accuracy, over_parts
from tailmatch.engine.profile import Profile
from tailmatch.engine.task import Started, StepResult, Task
from tailmatch.models.classifiers import kind_of


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
    """How long the run is."""

    steps: int
    steps_per_epoch: int
    images_per_step: float


@dataclass(kw_only=True)
class DistillTask(Task):
    """Learn from labels and, where there is one, from a teacher."""

    name: ClassVar[str] = "distill"

    images: Images
    model: nn.Module
    model_name: str
    method: Step
    timetable: Timetable
    groups: Groups
    teacher: Teacher | None = None
    started: Started | None = None

    def __post_init__(self) -> None:
        self.steps, self.steps_per_epoch = self.timetable.steps, self.timetable.steps_per_epoch
        self.images_per_step, self.fingerprint = self.timetable.images_per_step, self.images.fingerprint
        self.class_names, self.train_class_counts = self.images.class_names, self.images.class_counts
        self.labels = {name: self.images.labels[name] for name in ("val", "test") if name in self.images.labels}
        self.state = self.method
        self.store = None if self.images.features is None else str(self.images.features["store"])

    def step(self, model: nn.Module, step: int, profile: Profile) -> StepResult:
        batch = self.images.batch(step, profile)
        epoch = step // self.steps_per_epoch
        losses = self.method(model, batch.images, batch.labels, profile, batch.known_by, epoch)
        scalars = {f"train/loss_{name}": loss.detach() for name, loss in losses.items()}
        return StepResult(torch.stack(list(losses.values())).sum(), scalars)

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), *self.method_parameters()]

    def method_parameters(self) -> list[nn.Parameter]:
        """What the method trains beside the student: connectors and the like."""
        return [parameter for parameter in self.method.parameters() if parameter.requires_grad]

    def end_epoch(self, epoch: int) -> None:
        self.method.end_epoch()

    def logits(self, model: nn.Module, split: str) -> Tensor:
        return over_parts(model, self.images.split(split))

    def statistics_sample(self) -> Iterator[Tensor]:
        return self.images.sample()

    def card(self) -> Card:
        images = self.images
        head, scale = kind_of(self.model)
        return Card(
            task=self.name,
            dataset=images.name,
            model=self.model_name,
            head=head,
            head_scale=scale,
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
        beside = sum(parameter.numel() for parameter in self.method_parameters())
        of_teacher = {} if self.teacher is None else self.teacher.facts()
        return of_teacher | ({"method_parameters": beside} if beside else {})

    def describe(self) -> dict[str, str]:
        sizes = {f"{name} images": f"{len(labels):,}" for name, labels in self.labels.items()}
        sizes["test images"] += ", held out" if self.images.held_out else ""
        epochs = {"epochs": f"{self.steps / self.steps_per_epoch:g} of {self.steps_per_epoch} steps"}
        beside = sum(parameter.numel() for parameter in self.method_parameters())
        method = {"method's own": f"{beside:,} of the parameters, which the student does without"} if beside else {}
        return {**super().describe(), **sizes, **epochs, **method}
