"""DIST: relations instead of values, arXiv 2205.10536."""

from inspect import unwrap

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmatch.declare import checks
from tailmatch.losses.catalog import DISTOptions
from tailmatch.losses.checks import reduce_rows
from tailmatch.losses.collective import all_rows
from tailmatch.losses.divergence import log_softmaxes
from tailmatch.losses.modules import TeacherLoss

_LEAST = 1e-4  # of a spread: a softmax without any has no direction


@checks(DISTOptions)
def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
    detach_teacher: bool = True,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """T^2 (beta (1 - corr_b) + gamma (1 - mean_c corr_c)): how like each other the teacher's and the student's softmax
    are but for shift and scale.

    corr_b is Pearson's correlation over the classes of one sample's row ("inter"), corr_c that over the samples of one
    class's column ("intra"), over the batch of all processes.

    Args:
        student, teacher: logits [B, C].
        beta: weight of the relations within a sample.
        gamma: weight of the relations within a class.
        temperature: T of both softmaxes.
        detach_teacher: False lets the gradient into the teacher logits.
        sample_weight: [B], multiplies each row's loss; in the columns each sample counts by it.
        reduction: "mean" over B, "sum", or "none" for [B], whose rows share the columns' part alike.

    Raises UserError or TypeError for inputs that do not fit.
    """
    log_r, log_q = log_softmaxes(student, teacher, temperature, detach_teacher, sample_weight, reduction)
    r_BC, q_BC = log_r.exp(), log_q.exp()
    weights_B1 = r_BC.new_ones(len(r_BC), 1) if sample_weight is None else sample_weight.to(r_BC.dtype)[:, None]
    within_B = _apart(r_BC, q_BC, torch.ones_like(r_BC[:1]), over=1)
    all_r, all_q, all_weights = (all_rows(values) for values in (r_BC, q_BC, weights_B1))
    between = _apart(all_r, all_q, all_weights, over=0).mean()
    # Rows without weight say nothing, of the columns either: a batch of them has no loss.
    share = all_weights.mean()
    rows_B = beta * within_B * weights_B1[:, 0] + gamma * between * share
    return reduce_rows(temperature**2 * rows_B, None, reduction)


def _apart(one: Tensor, other: Tensor, weights: Tensor, over: int) -> Tensor:
    """1 - corr along an axis, each entry counting by its weight: half the squared distance of the two directions.

    In this form it is zero, with its gradient, where both are alike; what has no spread has no direction, and is zero
    away from its like.
    """
    total = weights.expand_as(one).sum(over, keepdim=True).clamp_min(1e-30)
    directions = []
    for values in (one, other):
        centred = (values - (weights * values).sum(over, keepdim=True) / total) * weights.sqrt()
        directions.append(F.normalize(centred, dim=over, eps=_LEAST))
    return (directions[0] - directions[1]).square().sum(over) / 2


class DIST(DISTOptions, TeacherLoss):
    """`dist` as a module."""

    divergence = staticmethod(unwrap(dist))
