"""Cross-entropy against a class index, true or pseudo-label, and what all losses against labels share."""

import torch.nn.functional as F
from torch import Tensor

from tailmatch.declare import checks
from tailmatch.losses.catalog import ClassBalancedOptions
from tailmatch.losses.checks import (
    check_labels,
    check_logits,
    check_per_class,
    check_reduction,
    check_sample_weight,
    reduce_rows,
    working_dtype,
)
from tailmatch.losses.collective import global_sum, process_count


@checks(ClassBalancedOptions)
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
    labels = check_label_call(logits, labels, class_weights, sample_weight, reduction)
    rows_B = F.cross_entropy(logits.to(working_dtype(logits)), labels, reduction="none")
    return reduce_label_rows(rows_B, labels, class_weights, normalize, sample_weight, reduction)


def check_label_call(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    sample_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """Run the guards of a loss against labels; returns the labels as int64."""
    check_logits("logits", logits)
    labels = check_labels(labels, logits)
    if class_weights is not None:
        check_per_class("class_weights", class_weights, logits)
    check_sample_weight(sample_weight, logits)
    check_reduction(reduction)
    return labels


def reduce_label_rows(
    rows_B: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    normalize: str,
    sample_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """Weigh each row by its class and its sample weight, and reduce.

    normalize="batch" divides the mean by the number of rows; "weights" by the sum of the rows' class weights over all
    processes, as `torch.nn.CrossEntropyLoss(weight=...)` does.
    """
    if class_weights is not None:
        weights_B = class_weights.to(rows_B)[labels]
        if normalize == "weights":
            # The mean over rows and the average over processes divide again: see collective.py.
            total = global_sum(weights_B.sum()).clamp_min(1e-30)
            weights_B = weights_B * (rows_B.shape[0] * process_count() / total)
        rows_B = rows_B * weights_B
    return reduce_rows(rows_B, sample_weight, reduction)
