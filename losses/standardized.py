"""Logit standardisation: teacher and student are compared by how their logits are spread, not by how far.

Notation: t, s logits of teacher and student, each row [C] of a batch [B, C].
"""

import torch
from torch import Tensor

from tailmatch.losses.checks import working_dtype
from tailmatch.losses.modules import Around

_EPSILON = 1e-7  # as published


def z_scores(logits: Tensor) -> Tensor:
    """(z - mean z) / std z of each row, with C - 1 in the deviation (arXiv 2403.01427)."""
    centred = logits - logits.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / (logits.shape[-1] - 1)
    # The root's gradient is endless at 0, where all logits of a row are equal.
    return centred / (_EPSILON + variance.clamp_min(_EPSILON**2).sqrt())


class Standardized(Around):
    r"""Any loss of this package between the z-scores of t and s (Sun et al. 2024, arXiv 2403.01427).

    A softmax at one temperature for both asks the student for the teacher's very logits, their range included, which a
    smaller network may not have. The z-scores leave what the teacher says of the classes beside each other: the loss is
    the same for s and a s + b, a > 0. Class means (IKL, GKL) are collected from the teacher's z-scores.
    """

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        dtype = working_dtype(student_logits, teacher_logits)
        s, t = (z_scores(logits.to(dtype)) for logits in (student_logits, teacher_logits))
        return self.loss(s, t, labels, sample_weight)

    @torch.no_grad()
    def observe(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> None:
        self.loss.observe(z_scores(logits.to(working_dtype(logits, logits))), labels, sample_weight)
