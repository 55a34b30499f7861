"""Semi-supervised learning as a task of the training loop: data, views, model, algorithm and what is logged."""

from typing import Any

import torch
from torch import Tensor, nn

from ..analysis.groups import split_classes
from ..datasets.base import Dataset
from ..engine.predict import predict
from ..engine.profile import Profile
from ..engine.task import StepResult, Task
from .algorithm import Consistency, PseudoLabels
from .batches import Batches
from .quality import PseudoLabelQuality


class SSLTask(Task):
    """Learn from a few labelled and many unlabelled images."""

    def __init__(
        self,
        *,
        dataset: Dataset,
        batches: Batches,
        model: nn.Module,
        algorithm: nn.Module,
        steps: int,
        fingerprint: str,
    ) -> None:
        self.dataset, self.batches, self.model, self.algorithm = dataset, batches, model, algorithm
        self.steps, self.steps_per_epoch, self.fingerprint = steps, 0, fingerprint
        self.class_names = dataset.class_names
        self.train_class_counts = batches.labeled.class_counts(dataset.num_classes).cpu()
        self.groups = split_classes(self.train_class_counts.numpy())
        self.labels = {"test": dataset.test.labels}
        self.uses_unlabeled = isinstance(algorithm, Consistency)
        self.images_per_step = sum(batches.sizes)
        self.quality = PseudoLabelQuality(dataset.num_classes, self.groups).to(dataset.train.images.device)
        self.state = nn.ModuleDict({"algorithm": algorithm, "quality": self.quality})

    def step(self, model: nn.Module, step: int, profile: Profile) -> StepResult:
        batch = self.batches(step, profile)
        losses, pseudo = self.algorithm(model, batch, profile)
        with profile("logging"):
            if pseudo is not None:
                self._observe(pseudo, batch.index)
            scalars = {f"train/loss_{name}": loss.detach() for name, loss in losses.items()}
        return StepResult(torch.stack(list(losses.values())).sum(), scalars)

    def _observe(self, pseudo: PseudoLabels, index: Tensor) -> None:
        self.quality.observe(pseudo.labels, pseudo.weight, self.batches.unlabeled.labels[index])

    def logits(self, model: nn.Module, split: str) -> Tensor:
        return predict(model, self.dataset.test.images, self.batches.views.plain)

    def synchronize(self) -> None:
        self.algorithm.synchronize()

    def metrics(self) -> dict[str, float | None]:
        return self.quality.report() if self.uses_unlabeled else {}

    def facts(self) -> dict[str, Any]:
        return {"pseudo_labels": self.quality.last()} if self.uses_unlabeled else {}

    def describe(self) -> dict[str, str]:
        return {
            **super().describe(),
            "unlabelled images": f"{len(self.batches.unlabeled):,}",
            "test images": f"{len(self.dataset.test):,}",
        }
