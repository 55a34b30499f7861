"""The two terms of the decoupled KL on CUDA, one Triton kernel each way.

The forward kernel reads the logits and the class weights and writes a handful of numbers a row; the backward kernel
reads them again and writes the gradient. No [B, C] tensor is kept between them: a second read is cheaper than a saved
tensor's write and read, and at the sizes of a training step it comes from the device's cache.

It runs where Triton does. Where it cannot (no Triton, no compiler, an old device, float64), the plain computation
takes over, with one warning if a kernel failed to build. TAILMATCH_FUSED=0 in the environment turns it off.
"""

import os
import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tailmatch.losses.decoupled_rows import DecoupledForm

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_LARGEST_BLOCK = 4096

_has_failed = False
"""Whether a kernel has failed to build in this process: then no other try is made."""


def fused_rows(
    student: Tensor, teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What `plain_rows` returns, by the fused kernels; None where they cannot run."""
    global _has_failed
    if _has_failed or not can_fuse(student, teacher, class_weights):
        return None
    try:
        return _apply(student, teacher, class_weights, form)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as failure:  # whatever Triton, its driver or the C compiler that it calls raise
        _has_failed = True
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        warnings.warn(f"The fused loss kernel cannot run here ({reason}); using the plain one.", stacklevel=2)
        return None


def can_fuse(student: Tensor, teacher: Tensor, class_weights: Tensor | None) -> bool:
    """Whether device, types and environment allow the kernels, as far as can be told without trying."""
    # Triton's interpreter runs the kernels on a CPU, slowly: for tests.
    on_device = student.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    if not on_device or student.shape[0] == 0 or os.environ.get("TAILMATCH_FUSED") == "0":
        return False
    if class_weights is not None and class_weights.requires_grad and torch.is_grad_enabled():
        return False  # the kernels know no gradient in the weights
    tensors = [student, teacher] if class_weights is None else [student, teacher, class_weights]
    return all(tensor.dtype in _DTYPES for tensor in tensors) and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _apply(
    student: Tensor, teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm
) -> tuple[Tensor, Tensor, Tensor]:
    rows: tuple[Tensor, Tensor, Tensor] = _FusedRows.apply(student, teacher, class_weights, form)
    return rows


class _FusedRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm
    ) -> tuple[Tensor, Tensor, Tensor]:
        from tailmatch.losses.fused_kernels import STATISTICS, forward_kernel

        batch = student.shape[0]
        rows = torch.zeros((3, batch), dtype=torch.float32, device=student.device)
        statistics = torch.empty((batch, STATISTICS), dtype=torch.float32, device=student.device)
        operands, options = _operands(student, teacher, class_weights, form)
        with torch.cuda.device_of(student):
            forward_kernel[(batch,)](*operands, rows, statistics, batch, **options)
        ctx.save_for_backward(student, teacher, class_weights, statistics)
        ctx.form = form
        soft_B, spread_B, mass_B = rows.unbind()
        ctx.mark_non_differentiable(mass_B)
        return soft_B, spread_B, mass_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, soft_grad_B: Tensor, spread_grad_B: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        from tailmatch.losses.fused_kernels import backward_kernel

        student, teacher, class_weights, statistics = ctx.saved_tensors
        form: DecoupledForm = ctx.form
        needs_student, needs_teacher = ctx.needs_input_grad[0], ctx.needs_input_grad[1] and form.spread
        student_grad = torch.empty(student.shape, dtype=student.dtype, device=student.device) if needs_student else None
        teacher_grad = torch.empty(teacher.shape, dtype=teacher.dtype, device=teacher.device) if needs_teacher else None
        operands, options = _operands(student, teacher, class_weights, form)
        with torch.cuda.device_of(student):
            backward_kernel[(student.shape[0], -(-student.shape[1] // options["BLOCK"]))](
                *operands,
                statistics,
                soft_grad_B.float().contiguous(),
                spread_grad_B.float().contiguous(),
                # A kernel's argument must be a tensor; where no gradient is wanted, nothing is written to it.
                statistics if student_grad is None else student_grad,
                statistics if teacher_grad is None else teacher_grad,
                SYMMETRIC=form.symmetric,
                STUDENT=needs_student,
                TEACHER=needs_teacher,
                **options,
            )
        return student_grad, teacher_grad, None, None


def _operands(
    student: Tensor, teacher: Tensor, class_weights: Tensor | None, form: DecoupledForm
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments both kernels begin with, and the compile-time options they share."""
    s, t = _row_major(student), _row_major(teacher)
    w = s if class_weights is None else _row_major(class_weights)
    classes = s.shape[1]
    block = min(_LARGEST_BLOCK, 1 << (classes - 1).bit_length())
    operands = (
        *(s, t, w),
        *(s.stride(0), t.stride(0), w.stride(0)),
        *(1 / form.student_temperature, 1 / form.teacher_temperature, 1 / form.weight_temperature, float(form.gamma)),
    )
    options = {
        # Known when the kernel is built: a run has one number of classes.
        "CLASSES": classes,
        "SOFT": form.soft,
        "SPREAD": form.spread,
        "GIVEN": class_weights is not None,
        "POWER": 0 if form.gamma == 0 else 1 if form.gamma == 1 else 2,
        "BLOCK": block,
        "num_warps": 4 if block <= 1024 else 8,
    }
    return operands, options


def _row_major(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.stride(1) == 1 else tensor.detach().contiguous()
