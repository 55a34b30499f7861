"""The two terms of the decoupled KL, row by row, with their analytic gradient.

Blocks of rows are worked on while they lie in the cache, and the gradient is formed beside the value, from the same
softmaxes. Autograd would keep about ten [B, C] tensors; this keeps two.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tailmatch.losses.checks import working_dtype

BLOCK_ELEMENTS = 1 << 16
"""Elements of one block: a few float32 temporaries of this size stay in the cache, and the loop costs little."""


class DecoupledForm(NamedTuple):
    """Which of the two terms are wanted, and how the weights and softmaxes are made."""

    soft: bool
    """Whether the soft cross-entropy is wanted."""
    spread: bool
    """Whether the wMSE term is wanted."""
    gamma: float
    teacher_temperature: float
    student_temperature: float
    weight_temperature: float
    symmetric: bool
    """Whether the wMSE term gives the student a gradient."""


def plain_rows(
    student: Tensor, teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm
) -> tuple[Tensor, Tensor, Tensor]:
    """The soft cross-entropy [B], the wMSE term [B] and the weights' sum S [B] of each row; zeros where not wanted.

    In PyTorch's own operations, on any device.
    """
    rows: tuple[Tensor, Tensor, Tensor] = _DecoupledRows.apply(student, teacher, class_weights, form)
    return rows


def class_weights_of(teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm) -> Tensor:
    """The weights p of a block, raised to gamma; may be `class_weights` itself, so not to be written to."""
    if form.gamma == 1:
        if class_weights is not None:
            return class_weights
        return torch.softmax(_divided(teacher, form.weight_temperature), -1)
    if class_weights is None:
        # In log space: a softmax that underflows to zero would lose its power.
        log_p = torch.log_softmax(_divided(teacher, form.weight_temperature), -1)
        return (log_p * (form.gamma / math.log(2))).exp2_()
    if form.gamma == 0:
        return torch.ones_like(class_weights)  # 0 to the power of 0 is 1 too; its logarithm would make NaN of it
    # On a CPU base two takes 2/3 of the time of exp(gamma log p), and that is half of pow's.
    return class_weights.log2().mul_(form.gamma).exp2_()


class _DecoupledRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = working_dtype(student, teacher)
        needs_student, needs_teacher, needs_weights = ctx.needs_input_grad[:3]
        batch, classes = student.shape
        soft_B, spread_B, mass_B = student.new_zeros((3, batch), dtype=dtype)
        keeps_soft = form.soft and needs_student
        keeps_pull = form.spread and (needs_teacher or (needs_student and form.symmetric))
        soft_slope_BC = student.new_empty((batch, classes), dtype=dtype) if keeps_soft else None
        pull_BC = student.new_empty((batch, classes), dtype=dtype) if keeps_pull else None
        lean_BC = student.new_empty((batch, classes), dtype=dtype) if form.spread and needs_weights else None

        for rows in row_blocks(student):
            s, t = student[rows].to(dtype), teacher[rows].to(dtype)
            p = None if class_weights is None else class_weights[rows].to(dtype)
            slope = None if soft_slope_BC is None else soft_slope_BC[rows]
            pull = None if pull_BC is None else pull_BC[rows]
            if form.soft:
                q = torch.softmax(_divided(t, form.teacher_temperature), -1)
                soft_B[rows] = _soft_term(s, q, form, slope, workspace=pull)
                if p is None and form.gamma == 1 and form.weight_temperature == form.teacher_temperature:
                    p = q  # the target is the weights: spare the second softmax
                del q
            if form.spread:
                p = class_weights_of(t, p, form)
                lean = None if lean_BC is None else lean_BC[rows]
                spread_B[rows], mass_B[rows] = _spread_term(s, t, p, pull, lean)

        ctx.save_for_backward(soft_slope_BC, pull_BC, lean_BC, mass_B)
        ctx.form, ctx.dtypes = form, (student.dtype, teacher.dtype)
        ctx.mark_non_differentiable(mass_B)
        return soft_B, spread_B, mass_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, soft_grad_B: Tensor, spread_grad_B: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        soft_slope_BC, pull_BC, lean_BC, mass_B = ctx.saved_tensors
        needs_student, needs_teacher = ctx.needs_input_grad[:2]
        soft_grad, spread_grad = soft_grad_B.unsqueeze(1), (spread_grad_B * mass_B).unsqueeze(1)
        student_grad = teacher_grad = None
        if needs_student:
            if soft_slope_BC is not None:
                student_grad = soft_slope_BC * soft_grad
                if pull_BC is not None and ctx.form.symmetric:
                    student_grad.addcmul_(pull_BC, spread_grad, value=-1)
            elif pull_BC is not None and ctx.form.symmetric:
                student_grad = pull_BC * -spread_grad
            student_grad = None if student_grad is None else student_grad.to(ctx.dtypes[0])
        if needs_teacher and pull_BC is not None:
            teacher_grad = (pull_BC * spread_grad).to(ctx.dtypes[1])
        weights_grad = None if lean_BC is None else lean_BC * spread_grad_B.unsqueeze(1)
        return student_grad, teacher_grad, weights_grad, None


def row_blocks(logits_BC: Tensor) -> Iterator[slice]:
    """Slices of rows: cache-sized on a CPU, the whole batch on a device that runs it at once."""
    batch, classes = logits_BC.shape
    step = max(1, BLOCK_ELEMENTS // classes) if logits_BC.device.type == "cpu" else max(1, batch)
    for first in range(0, batch, step):
        yield slice(first, min(first + step, batch))


def _soft_term(s: Tensor, q: Tensor, form: DecoupledForm, slope: Tensor | None, workspace: Tensor | None) -> Tensor:
    """-sum_j q_j log r_j with r = softmax(s / T); writes its slope (r - q) / T in s."""
    s = _divided(s, form.student_temperature)
    log_r = torch.log_softmax(s, -1) if workspace is None else torch.log_softmax(s, -1, out=workspace)
    loss = log_r.mul_(q).sum(-1).neg_()
    if slope is not None:
        torch.softmax(s, -1, out=slope).sub_(q)
        if form.student_temperature != 1:
            slope.div_(form.student_temperature)
    return loss


def _spread_term(s: Tensor, t: Tensor, p: Tensor, pull: Tensor | None, lean: Tensor | None) -> tuple[Tensor, Tensor]:
    """1/2 S sum_j p_j (d_j - mu)^2 and S; writes p_j (d_j - mu), which is 1/S of the slope in t, minus that in s.

    `lean` gets the slope in p_k: 1/2 (sum_j p_j (d_j - mu)^2 + S (d_k - mu)^2).
    """
    mass = p.sum(-1)
    centred = t - s
    product = torch.empty_like(centred) if pull is None else pull
    # A row of zero weights has no mean and needs none: the clamp turns 0 / 0 into 0.
    mean = torch.mul(p, centred, out=product).sum(-1).div_(mass.clamp_min(1e-30))
    centred.sub_(mean.unsqueeze(1))
    torch.mul(p, centred, out=product)
    if lean is not None:
        variance = (product * centred).sum(-1, keepdim=True)
        torch.mul(centred, centred, out=lean).mul_(mass.unsqueeze(1)).add_(variance).mul_(0.5)
    return centred.mul_(product).sum(-1).mul_(mass).mul_(0.5), mass


def _divided(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature
