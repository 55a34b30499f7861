"""The decoupled Kullback-Leibler divergence and its family: DKL, IKL, GKL.

Notation: s student logits, t teacher logits, d = t - s, p the row's class weights, S = sum_j p_j,
mu = sum_j p_j d_j / S. Papers: DKL and IKL, arXiv 2305.13948 (Theorem 1); GKL its successor, arXiv 2503.08038.
"""

import torch
from torch import Tensor

from tailmatch.declare import checks
from tailmatch.losses.catalog import GKLOptions
from tailmatch.losses.checks import check_class_weights, check_pair, reduce_rows
from tailmatch.losses.collective import global_sum, process_count
from tailmatch.losses.decoupled_rows import DecoupledForm, class_weights_of, plain_rows
from tailmatch.losses.fused import fused_rows


@checks(GKLOptions)
def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    class_weights: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    student_temperature: float | None = None,
    weight_temperature: float = 1.0,
    normalize: str = "batch",
    symmetric: bool = True,
    detach_teacher: bool = True,
    detach_weights: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""A soft cross-entropy plus a weighted squared error (wMSE) of the differences between logits.

    loss_b = alpha * CE(softmax(t / T), softmax(s / T)) + beta * wMSE / norm, where

        wMSE = 1/4 sum_jk p_j p_k (d_j - d_k)^2 = 1/2 S sum_j p_j (d_j - mu)^2

    The right-hand form costs O(C) and is centred before it is squared, so an offset between the logits costs no
    precision. The soft target never carries a gradient, the weights only if asked to.

    Args:
        student, teacher: logits [B, C].
        class_weights: weights p [B, C], a row for each sample, for example `class_means.rows(labels)`. None takes
            the sample's own softmax(t / weight_temperature).
        alpha: weight of the soft cross-entropy.
        beta: weight of the wMSE term.
        gamma: power of the class weights, p <- p ** gamma; 1 leaves them, 0 makes them uniform (GKL).
        temperature: of both softmaxes of the cross-entropy; there is no factor T^2.
        teacher_temperature, student_temperature: replace `temperature` on one side.
        weight_temperature: of the sample's own softmax as weights.
        normalize: "batch" divides the wMSE by the number of rows (IKL); "weights" by sum_b S_b^2 over the whole
            batch of all processes (GKL), whatever the sample weights, so that both agree where S = 1.
        symmetric: True trains the student through the wMSE too (IKL); False stops that gradient (DKL).
        detach_teacher: False lets the wMSE's gradient into the teacher logits, through the differences d.
        detach_weights: False lets it in through the weights too, as the authors' semi-supervised code does; with
            d wMSE / d p_k = 1/2 (sum_j p_j (d_j - mu)^2 + S (d_k - mu)^2). The divisor stays a constant.
        sample_weight: [B], multiplies each row's loss.
        reduction: "mean" over B, "sum", or "none" for [B]; "none" and "sum" are scaled so that their mean over B is
            the mean.

    Returns a scalar or [B], in float32 (float64 where an input is). Differentiable once.
    Raises UserError or TypeError, before any computing, for inputs that do not fit.
    """
    check_pair(student, teacher, sample_weight, reduction)
    check_class_weights(class_weights, student)
    form = DecoupledForm(
        soft=alpha > 0,
        spread=beta > 0,
        gamma=gamma,
        teacher_temperature=temperature if teacher_temperature is None else teacher_temperature,
        student_temperature=temperature if student_temperature is None else student_temperature,
        weight_temperature=weight_temperature,
        symmetric=symmetric,
    )
    if detach_teacher:
        teacher = teacher.detach()
    if class_weights is None and not detach_weights:
        class_weights, form = class_weights_of(teacher, None, form), form._replace(gamma=1.0)
    elif class_weights is not None and detach_weights:
        class_weights = class_weights.detach()
    rows = fused_rows(student, teacher, class_weights, form)
    soft_B, spread_B, mass_B = plain_rows(student, teacher, class_weights, form) if rows is None else rows
    rows_B = soft_B if alpha == 1 else alpha * soft_B
    if beta > 0 and normalize == "weights":
        # Times the local rows and the processes, because the mean over rows and the average over processes divide by
        # them again: what is left is the sum over all rows by the sum of S^2 over all rows.
        squares = global_sum(torch.dot(mass_B, mass_B)).clamp_min(1e-30)
        rows_B = torch.addcdiv(rows_B, spread_B, squares, value=beta * mass_B.shape[0] * process_count())
    elif beta > 0:
        rows_B = torch.add(rows_B, spread_B, alpha=beta)
    return reduce_rows(rows_B, sample_weight, reduction)
