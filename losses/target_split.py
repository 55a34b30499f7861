"""Decoupled knowledge distillation: the KL divergence split into the target class and the rest."""

import torch
from torch import Tensor

from tailmatch.declare import checks
from tailmatch.losses.catalog import DKDOptions
from tailmatch.losses.checks import check_labels, reduce_rows
from tailmatch.losses.divergence import log_softmaxes


@checks(DKDOptions)
def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    detach_teacher: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """T^2 (alpha * TCKD + beta * NCKD) of DKD, arXiv 2203.08679; the defaults are its CIFAR-100 values.

    TCKD is the KL divergence of (target, all the rest), NCKD that of the other classes among themselves. Everything
    stays in log space: log(softmax) would underflow to minus infinity at large logits, and 1 - q_y would be zero.

    Args:
        student, teacher: logits [B, C].
        labels: class of each row, [B].
        alpha: weight of TCKD.
        beta: weight of NCKD.
        temperature: T of both softmaxes.
        detach_teacher: False lets the gradient into the teacher logits.
        sample_weight: [B], multiplies each row's loss.
        reduction: "mean" over B, "sum", or "none" for [B].

    Raises UserError or TypeError for inputs that do not fit.
    """
    log_r, log_q = log_softmaxes(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    labels = check_labels(labels, student)
    is_target = torch.zeros_like(log_q, dtype=torch.bool).scatter_(1, labels.unsqueeze(1), True)

    student_target_B, student_rest_B, log_r_rest = _split(log_r, labels, is_target)
    teacher_target_B, teacher_rest_B, log_q_rest = _split(log_q, labels, is_target)
    target_B = teacher_target_B.exp() * (teacher_target_B - student_target_B)
    target_B = target_B + teacher_rest_B.exp() * (teacher_rest_B - student_rest_B)
    # The target's column is minus infinity on both sides: its difference is masked before it meets a product.
    rest_B = (log_q_rest.exp() * (log_q_rest - log_r_rest).masked_fill(is_target, 0)).sum(-1)
    rows_B = temperature**2 * (alpha * target_B + beta * rest_B)
    return reduce_rows(rows_B, sample_weight, reduction)


def _split(log_p: Tensor, labels: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p_y [B], log(1 - p_y) [B], and the log-probabilities [B, C] among the classes other than y."""
    others = log_p.masked_fill(is_target, -torch.inf)
    rest_B = others.logsumexp(-1)
    return log_p.gather(1, labels.unsqueeze(1)).squeeze(1), rest_B, others - rest_B.unsqueeze(1)
