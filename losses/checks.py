"""What every loss shares: the guards that run before any computing, the working precision, the reduction.

Shape legend: B rows (samples) of the batch, C classes.

Guards look at shapes and types everywhere, at values only where looking is free. On a CPU that is always. On CUDA a
look at a value makes the host wait for the device, so values are looked at only under
`torch.autograd.set_detect_anomaly(True)`; without it an out-of-range label still stops the run, by the device-side
assertion of PyTorch's own indexing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tailmatch.errors import UserError, unknown_name

REDUCTIONS = ("mean", "none", "sum")


def check_logits(name: str, logits: Tensor) -> None:
    """Refuse anything but a floating-point [B, C] tensor with at least two classes."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"The {name} must be a tensor; got {type(logits).__name__}.")
    if not logits.is_floating_point():
        raise TypeError(f"The {name} must be floating point; got {logits.dtype}: convert them with .float().")
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise UserError(
            f"The {name} must have shape [batch, classes] with at least 2 classes; got {list(logits.shape)}: "
            "flatten further dimensions into the batch."
        )


def check_pair(student: Tensor, teacher: Tensor, sample_weight: Tensor | None, reduction: str) -> None:
    """Refuse student and teacher logits that are not two [B, C] tensors of one shape on one device."""
    check_logits("student logits", student)
    check_logits("teacher logits", teacher)
    if student.shape != teacher.shape:
        raise UserError(
            f"Student and teacher logits must have one shape; got {list(student.shape)} and {list(teacher.shape)}: "
            "use a teacher for the same classes, on the same batch."
        )
    if student.device != teacher.device:
        raise UserError(
            f"Student and teacher logits must be on one device; got {student.device} and {teacher.device}: move one."
        )
    check_sample_weight(sample_weight, student)
    check_reduction(reduction)


def check_labels(labels: Tensor | None, logits: Tensor) -> Tensor:
    """The labels as int64 [B]; refuses a wrong shape, a wrong type and values outside 0 ... C - 1."""
    batch, classes = logits.shape
    if labels is None:
        raise UserError("This loss needs labels; got None: pass the class of each row, or the teacher's argmax.")
    if labels.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"Labels must be integers, one class index a row; got {labels.dtype}: convert with .long().")
    if labels.shape != (batch,):
        raise UserError(
            f"Labels must have shape [{batch}], one for each row of the logits; got {list(labels.shape)}: "
            "pass class indices, not one-hot rows."
        )
    if values_are_free(labels) and batch > 0:
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high >= classes:
            raise UserError(
                f"Labels must lie in 0 ... {classes - 1}; got values from {low} to {high}: "
                "drop unlabelled rows, or give them a pseudo-label."
            )
    return labels.long()


def check_sample_weight(sample_weight: Tensor | None, logits: Tensor) -> None:
    """Refuse sample weights that are not one finite, non-negative number a row."""
    if sample_weight is None:
        return
    batch = logits.shape[0]
    if sample_weight.shape != (batch,):
        raise UserError(
            f"sample_weight must have shape [{batch}], one for each row of the logits; "
            f"got {list(sample_weight.shape)}: average or index it down to one number a row."
        )
    _refuse_negative("sample_weight", sample_weight)


def check_class_weights(class_weights: Tensor | None, logits: Tensor) -> None:
    """Refuse weights of the pairs of classes that are not non-negative rows gathered per sample."""
    if class_weights is None:
        return
    if class_weights.shape != logits.shape:
        raise UserError(
            f"class_weights must have the logits' shape {list(logits.shape)}; got {list(class_weights.shape)}: "
            "gather a row for each sample, for example class_means.rows(labels)."
        )
    if not class_weights.is_floating_point():
        raise TypeError(f"class_weights must be floating point; got {class_weights.dtype}: convert with .float().")
    _refuse_negative("class_weights", class_weights)


def check_per_class(name: str, values: Tensor, logits: Tensor) -> None:
    """Refuse class counts or class weights that are not one non-negative number a class."""
    classes = logits.shape[1]
    if values.shape != (classes,):
        raise UserError(
            f"{name} must have shape [{classes}], one for each column of the logits; got {list(values.shape)}: "
            "count the training labels with torch.bincount(labels, minlength=classes)."
        )
    _refuse_negative(name, values)


def checked_counts(class_counts: Tensor | Sequence[int]) -> Tensor:
    """The numbers of training images [C] as float32 of their own; refuses what is not one number a class."""
    counts = torch.as_tensor(class_counts, dtype=torch.float32).detach().clone()
    if counts.ndim != 1 or counts.numel() < 2 or not bool((counts >= 0).all()):
        raise UserError(
            "class_counts must hold one non-negative number for each of at least 2 classes; "
            f"got {class_counts!r}: count the training labels with torch.bincount(labels, minlength=classes)."
        )
    return counts


def check_reduction(reduction: str) -> None:
    """Refuse an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", str(reduction), REDUCTIONS)


def values_are_free(tensor: Tensor) -> bool:
    """Whether looking at values costs no wait for a device, or the user asked for checking whatever it costs."""
    return tensor.device.type == "cpu" or torch.is_anomaly_enabled()


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where any input is, else float32: half-precision logits are computed in float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def reduce_rows(rows_B: Tensor, sample_weight: Tensor | None, reduction: str) -> Tensor:
    """Weigh the rows' losses and reduce them.

    "mean" divides by the number of rows B, not by the sum of the weights: a masked row still counts, as in FixMatch,
    so the loss shrinks with the share of rows in use. An empty batch gives zero.
    """
    if sample_weight is not None:
        rows_B = rows_B * sample_weight.to(rows_B.dtype)
    if reduction == "none":
        return rows_B
    return rows_B.mean() if reduction == "mean" and rows_B.shape[0] > 0 else rows_B.sum()


def _refuse_negative(name: str, tensor: Tensor) -> None:
    # `not (low >= 0)` also refuses NaN, which every comparison calls false.
    if tensor.dtype != torch.bool and tensor.numel() > 0 and values_are_free(tensor):
        low = float(tensor.detach().amin())
        if not low >= 0:
            raise UserError(f"{name} must not be negative; got a smallest value of {low:g}: clamp it at zero.")
