"""Long-tailed learning as a task of the training loop: what it adds to learning from labels and from a teacher."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tailmatch.distill.task import DistillTask
from tailmatch.engine.card import Card
from tailmatch.engine.evaluated import moving_norms
from tailmatch.engine.profile import Profile
from tailmatch.engine.task import StepResult
from tailmatch.losses.frequency import log_prior
from tailmatch.models.head import head_of

EFFECTIVE_BETA = 0.9999  # of deferred re-weighting, as LDAM-DRW has it (arXiv 1906.07413)


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
class LongtailTask(DistillTask):
    """Learn from a long tail, with or without a teacher."""

    name: ClassVar[str] = "longtail"

    trained: TrainedPart = field(default_factory=TrainedPart)
    shift: LogitShift = field(default_factory=LogitShift)
    features_rate: float = 1.0
    """The learning rate of everything but the classifier, as a share of the classifier's."""
    reweigh_at: int | None = None
    """First epoch whose classes weigh by their effective number (DRW)."""

    def step(self, model: nn.Module, step: int, profile: Profile) -> StepResult:
        if self.trained.modules is not None:
            model.eval()
            for module in (*self.trained.modules, *(moving_norms(model) if self.trained.batchnorm else ())):
                module.train()
        return super().step(model, step, profile)

    def end_epoch(self, epoch: int) -> None:
        super().end_epoch(epoch)
        if epoch + 1 == self.reweigh_at:
            self.method.label_loss.reweigh(EFFECTIVE_BETA)

    def logits(self, model: nn.Module, split: str) -> Tensor:
        return self.shift(super().logits(model, split), self.train_class_counts)

    def rate_factors(self) -> dict[nn.Parameter, float]:
        if self.features_rate == 1:
            return {}
        own = set(head_of(self.model).parameters())
        return {parameter: self.features_rate for parameter in self.parameters() if parameter not in own}

    def moving_norms(self) -> list[_BatchNorm]:
        parts = self.trained.modules
        if parts is None or self.trained.batchnorm:
            parts = (self.model,)
        return [norm for part in parts for norm in moving_norms(part)]

    def card(self) -> Card:
        shift = self.shift(torch.zeros(self.images.num_classes), self.train_class_counts)
        return replace(super().card(), logit_shift=tuple(shift.tolist()) if shift.any() else None)

    def facts(self) -> dict[str, Any]:
        return self.trained.notes | super().facts()

    def describe(self) -> dict[str, str]:
        slower = {"features learn": f"at {self.features_rate:g} of the classifier's rate"}
        return {**super().describe(), **(slower if self.features_rate != 1 else {})}
