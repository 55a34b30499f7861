"""One step of learning from labels and from what a teacher's layers make of the images; see `distill/step.py`."""

import torch
from torch import Tensor, nn

from tailmatch.distill.features.base import FeatureMethod
from tailmatch.distill.features.taps import Taps
from tailmatch.distill.step import FrozenTeacher, WeighedTerms
from tailmatch.engine.profile import Profile
from tailmatch.losses.label_modules import LabelLoss


class FeatureDistillation(WeighedTerms):
    """The student with a teacher whose features the method compares with its own.

    The method's parameters and state are this module's: trained and kept with the student, and no part of it.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        student: nn.Module,
        label_loss: LabelLoss,
        method: FeatureMethod,
        **weights: float,
    ) -> None:
        super().__init__(label_loss, **weights)
        self.teacher, self.method = teacher, method
        self.seen, self.shown = (Taps(network, method.looks_at) for network in (teacher.model, student))

    def forward(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        profile: Profile,
        index: Tensor | None = None,
        epoch: int = 0,
    ) -> dict[str, Tensor]:
        """The terms of the loss; `index` says which of the training images these are."""
        assert index is not None, "a memory of images needs their numbers"
        # Not inference mode: its tensors could meet no gradient, and copies of features take memory.
        with profile("teacher"), torch.no_grad(), self.teacher.precision():
            teacher = self.seen(self.teacher.model, images)
        with profile("student"):
            student = self.shown(model, images)
        with profile("loss"):
            hard = self.label_loss(student.logits.float(), labels)
            return self.terms(hard, self.method(student, teacher, labels, index), epoch)
