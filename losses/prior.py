"""A teacher and a student of a long tail, compared in a space where the student's own logits come out balanced.

Notation: t, s logits of teacher and student, pi the class prior of the training images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tailmatch.declare import number
from tailmatch.losses.checks import checked_counts
from tailmatch.losses.frequency import log_prior
from tailmatch.losses.modules import Around, TeacherLoss


class PriorAdjusted(Around):
    r"""Any loss of this package between t - rho log pi and s + (tau - rho) log pi.

    A teacher trained by plain cross-entropy has the prior in its logits: t = u + log pi, u being what a teacher of
    balanced data would say. Pulling s towards t pulls the prior into the student. With tau = 1 the student meets the
    teacher at s = t - log pi = u instead, as Balanced Softmax (arXiv 2007.10740) has it against the labels, so the two
    losses agree about the student. The differences d = t - s - tau log pi do not depend on rho, only the measure does
    under which they are taken: rho = 0 weighs classes by the teacher's own predictions, in which rare classes hardly
    occur, and rho = 1 by the balanced ones.

    The class means of IKL and GKL weigh the pairs of classes. They are collected from softmax(t - weight_rho log pi):
    in the teacher's own space (weight_rho = 0) or without the prior (1). The former keeps more of the rare classes
    where the teacher is unsure of its training images; longtail/README.md has the figures.

    `tau`, `rho` and `weight_rho` are 0 for the plain loss. All state is that of the inner loss.
    """

    log_prior: Tensor

    def __init__(
        self,
        loss: TeacherLoss,
        class_counts: Tensor | Sequence[int],
        *,
        tau: float = 1.0,
        rho: float = 0.0,
        weight_rho: float = 0.0,
    ) -> None:
        super().__init__(loss)
        for name, value in (("tau", tau), ("rho", rho), ("weight_rho", weight_rho)):
            number(0.0, "how much of the prior").check(name, value)
        self.tau, self.rho, self.weight_rho = tau, rho, weight_rho
        self.register_buffer("log_prior", log_prior(checked_counts(class_counts)), persistent=False)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        return self.loss(
            student_logits + (self.tau - self.rho) * self.log_prior,
            teacher_logits - self.rho * self.log_prior,
            labels,
            sample_weight,
        )

    @torch.no_grad()
    def observe(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> None:
        self.loss.observe(logits - self.weight_rho * self.log_prior, labels, sample_weight)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, rho={self.rho}, weight_rho={self.weight_rho}"
