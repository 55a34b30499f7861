"""One step of learning from labels and, where there is one, from a teacher.

    loss = label_weight * hard(s, y) + ramp(epoch) * kd_weight * divergence(s, t, y)

s and t are the logits of the student and of the frozen teacher on the same view; the ramp rises to 1 over the first
epochs where that is asked for. Nothing here knows of long tails: what is special to them sits in the hard-label loss,
in the sampler and in the divergence.

Shape suffixes: B images of a step, C classes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from tailmatch.engine.profile import Profile
from tailmatch.losses.label_modules import LabelLoss
from tailmatch.losses.modules import TeacherLoss


class FrozenTeacher:
    """A trained network as a source of logits: evaluation mode, no gradient, low precision where that is faster.

    Not a module, so that its weights are neither trained, nor averaged, nor written into checkpoints.
    """

    def __init__(self, model: nn.Module, precision: Callable[[], AbstractContextManager[object]]) -> None:
        self.model, self.precision = model.eval().requires_grad_(False), precision

    def __call__(self, images: Tensor, index_B: Tensor | None = None) -> Tensor:
        with torch.inference_mode(), self.precision():
            logits_BC = self.model(images)
        # A tensor made under inference mode may not meet a gradient; its copy may.
        return logits_BC.float().clone()


class Step(nn.Module):
    """What every step has: a loss against the labels."""

    def __init__(self, label_loss: LabelLoss) -> None:
        super().__init__()
        self.label_loss = label_loss

    def forward(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        profile: Profile,
        index: Tensor | None = None,
        epoch: int = 0,
    ) -> dict[str, Tensor]:
        """The terms of the loss.

        Args:
            index: which of the training images these are, [B].
            epoch: the first is 0.
        """
        raise NotImplementedError  # pragma: no cover  (each step has its own)

    def end_epoch(self) -> None:
        """Nothing is collected over an epoch."""

    def synchronize(self) -> None:
        """Nothing is spread over processes."""


class LabelsOnly(Step):
    """The student without a teacher: the hard-label loss alone."""

    def forward(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        profile: Profile,
        index: Tensor | None = None,
        epoch: int = 0,
    ) -> dict[str, Tensor]:
        with profile("student"):
            student_BC = model(images)
        with profile("loss"):
            return {"supervised": self.label_loss(student_BC.float(), labels)}


class WeighedTerms(Step):
    """The loss against the labels and that against the teacher, each with its weight."""

    def __init__(
        self, label_loss: LabelLoss, *, label_weight: float = 1.0, kd_weight: float = 1.0, warmup_epochs: float = 0.0
    ) -> None:
        super().__init__(label_loss)
        self.label_weight = label_weight
        self.kd_weight, self.warmup_epochs = kd_weight, warmup_epochs

    def ramp(self, epoch: int) -> float:
        """The share of the teacher's weight in an epoch, the first being 0: 1/W, 2/W, ..., 1 with a warm-up of W."""
        return min((epoch + 1) / self.warmup_epochs, 1.0) if self.warmup_epochs > 1 else 1.0

    def terms(self, hard: Tensor, distilled: Tensor, epoch: int) -> dict[str, Tensor]:
        """Both, weighed."""
        return {"supervised": self.label_weight * hard, "distillation": self.ramp(epoch) * self.kd_weight * distilled}


class Distillation(WeighedTerms):
    """The student with a teacher (Hinton et al. 2015, arXiv 1503.02531, and the losses that follow it)."""

    def __init__(
        self,
        teacher: Callable[[Tensor, Tensor | None], Tensor],
        label_loss: LabelLoss,
        divergence: TeacherLoss,
        **weights: float,
    ) -> None:
        super().__init__(label_loss, **weights)
        self.teacher, self.loss = teacher, divergence

    def forward(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        profile: Profile,
        index: Tensor | None = None,
        epoch: int = 0,
    ) -> dict[str, Tensor]:
        """The terms of the loss; a teacher in a store is asked for the training images of these numbers."""
        with profile("teacher"):
            teacher_BC = self.teacher(images, index)
        with profile("student"):
            student_BC = model(images).float()
        with profile("loss"):
            hard = self.label_loss(student_BC, labels)
            divergence = self.loss(student_BC, teacher_BC, labels)
            # Collected now, used from the next epoch on: the class means of IKL and GKL.
            self.loss.observe(teacher_BC, labels)
        return self.terms(hard, divergence, epoch)

    def end_epoch(self) -> None:
        """Put the class means of the epoch into use."""
        self.loss.roll()

    def synchronize(self) -> None:
        self.loss.synchronize()
