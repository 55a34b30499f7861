"""Divergences between the softmaxes of two logits: KL, Jensen-Shannon, mean squared error.

Notation: q = softmax(teacher / T), r = softmax(student / T), each row [C] of a batch [B, C].
"""

import math

import torch
from torch import Tensor

from tailmatch.losses.checks import (
    check_choice,
    check_pair,
    check_reduction,
    check_sample_weight,
    check_temperature,
    reduce_rows,
    working_dtype,
)

MSE_SPACES = ("probabilities", "logits")


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
    log_r, log_q = _log_softmaxes(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    rows_B = temperature**2 * (log_q.exp() * (log_q - log_r)).sum(-1)
    return reduce_rows(rows_B, sample_weight, reduction)


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
    log_r, log_q = _log_softmaxes(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    log_m = torch.logaddexp(log_q, log_r) - math.log(2)
    halves = log_q.exp() * (log_q - log_m) + log_r.exp() * (log_r - log_m)
    rows_B = temperature**2 * 0.5 * halves.sum(-1)
    return reduce_rows(rows_B, sample_weight, reduction)


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
    check_choice("space", space, MSE_SPACES)
    s, t = _scaled_pair(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    if space == "probabilities":
        s, t = torch.softmax(s, -1), torch.softmax(t, -1)
    return reduce_rows((s - t).square().mean(-1), sample_weight, reduction)


def _log_softmaxes(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    detach_teacher: bool,
    sample_weight: Tensor | None,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    s, t = _scaled_pair(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    return torch.log_softmax(s, -1), torch.log_softmax(t, -1)


def _scaled_pair(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    detach_teacher: bool,
    sample_weight: Tensor | None,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    check_pair(student, teacher)
    check_temperature("temperature", temperature)
    check_sample_weight(sample_weight, student)
    check_reduction(reduction)
    dtype = working_dtype(student, teacher)
    s, t = student.to(dtype), teacher.to(dtype)
    if temperature != 1:
        s, t = s / temperature, t / temperature
    return s, t.detach() if detach_teacher else t
