"""Cross-entropies: against a class index (true or pseudo-label) and against a teacher's softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmatch.losses.checks import (
    check_pair,
    check_reduction,
    check_sample_weight,
    check_temperature,
    reduce_rows,
    working_dtype,
)
from tailmatch.losses.label_rows import check_label_call, reduce_label_rows


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    normalize: str = "weights",
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-log softmax(logits)_y. With pseudo-labels and a mask as `sample_weight` this is FixMatch's consistency loss.

    Args:
        logits: [B, C].
        labels: class of each row, [B].
        class_weights: [C], multiplies each row's loss by the weight of its class.
        normalize: with class weights, "batch" divides the mean by B, "weights" by the sum of the rows' class weights.
        sample_weight: [B], multiplies each row's loss; the mean still divides by B.
        reduction: "mean" over B, "sum", or "none" for [B].

    Raises UserError or TypeError for inputs that do not fit.
    """
    labels = check_label_call(logits, labels, class_weights, normalize, sample_weight, reduction)
    rows_B = F.cross_entropy(logits.to(working_dtype(logits)), labels, reduction="none")
    return reduce_label_rows(rows_B, labels, class_weights, normalize, sample_weight, reduction)


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
    check_pair(student, teacher)
    teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
    check_temperature("temperature", temperature)
    check_temperature("teacher_temperature", teacher_temperature)
    check_sample_weight(sample_weight, student)
    check_reduction(reduction)
    dtype = working_dtype(student, teacher)
    t = teacher.detach() if detach_teacher else teacher
    target = torch.softmax(t.to(dtype) / teacher_temperature, -1)
    rows_B = -(target * torch.log_softmax(student.to(dtype) / temperature, -1)).sum(-1)
    return reduce_rows(rows_B, sample_weight, reduction)
