"""Divergences between the softmaxes of two logits: KL, Jensen-Shannon, squared error, soft cross-entropy.

Notation: q = softmax(teacher / T), r = softmax(student / T), each row [C] of a batch [B, C].
"""

import math
from typing import Any

import torch
from torch import Tensor

from tailmatch.declare import checks
from tailmatch.losses.catalog import KLOptions, MSEOptions, SoftCEOptions
from tailmatch.losses.checks import check_pair, reduce_rows, working_dtype


@checks(KLOptions)
def kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    detach_teacher: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The Kullback-Leibler divergence of knowledge distillation: T^2 sum_j q_j log(q_j / r_j) (arXiv 1503.02531).

    Args:
        student, teacher: logits [B, C].
        temperature: T of both softmaxes; T^2 keeps the gradient's size independent of it.
        detach_teacher: False lets the gradient into the teacher logits.
        sample_weight: [B], multiplies each row's loss.
        reduction: "mean" over B, "sum", or "none" for [B].

    Raises UserError or TypeError for inputs that do not fit.
    """
    log_r, log_q = log_softmaxes(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    rows_B = temperature**2 * (log_q.exp() * (log_q - log_r)).sum(-1)
    return reduce_rows(rows_B, sample_weight, reduction)


@checks(KLOptions)
def js(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    detach_teacher: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The Jensen-Shannon divergence, T^2 (KL(q, m) + KL(r, m)) / 2 with m = (q + r) / 2; at most T^2 log 2 a row.

    Arguments, result and errors are those of `kl`.
    """
    log_r, log_q = log_softmaxes(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    log_m = torch.logaddexp(log_q, log_r) - math.log(2)
    halves = log_q.exp() * (log_q - log_m) + log_r.exp() * (log_r - log_m)
    rows_B = temperature**2 * 0.5 * halves.sum(-1)
    return reduce_rows(rows_B, sample_weight, reduction)


@checks(MSEOptions)
def mse(
    student: Tensor,
    teacher: Tensor,
    *,
    space: str = "probabilities",
    temperature: float = 1.0,
    detach_teacher: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The squared error averaged over the classes: of softmaxes as in MeanTeacher (arXiv 1703.01780), or of logits.

    Args:
        space: "probabilities" compares q and r; "logits" compares teacher / T and student / T.

    The other arguments, the result and the errors are those of `kl`. There is no factor T^2.
    """
    s, t = _scaled_pair(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    if space == "probabilities":
        s, t = torch.softmax(s, -1), torch.softmax(t, -1)
    return reduce_rows((s - t).square().mean(-1), sample_weight, reduction)


@checks(SoftCEOptions)
def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    detach_teacher: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-sum_j softmax(teacher / T_t)_j log softmax(student / T)_j, without a factor T^2.

    Args:
        student, teacher: logits [B, C].
        temperature: T of the student's softmax, and of the teacher's unless `teacher_temperature` is given (a
            smaller one sharpens the target).
        detach_teacher: False lets the gradient into the teacher logits.
        sample_weight: [B], multiplies each row's loss.
        reduction: "mean" over B, "sum", or "none" for [B].

    Raises UserError or TypeError for inputs that do not fit.
    """
    s, t = _scaled_pair(student, teacher, temperature, detach_teacher, sample_weight, reduction, teacher_temperature)
    rows_B = -(torch.softmax(t, -1) * torch.log_softmax(s, -1)).sum(-1)
    return reduce_rows(rows_B, sample_weight, reduction)


def log_softmaxes(*call: Any) -> tuple[Tensor, Tensor]:
    """log r and log q; the arguments are those of `_scaled_pair`."""
    s, t = _scaled_pair(*call)
    return torch.log_softmax(s, -1), torch.log_softmax(t, -1)


def _scaled_pair(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    detach_teacher: bool,
    sample_weight: Tensor | None,
    reduction: str,
    teacher_temperature: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The checked logits over their temperatures, in the working precision."""
    check_pair(student, teacher, sample_weight, reduction)
    dtype = working_dtype(student, teacher)
    teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
    s, t = student.to(dtype), (teacher.detach() if detach_teacher else teacher).to(dtype)
    return (s if temperature == 1 else s / temperature), (t if teacher_temperature == 1 else t / teacher_temperature)
