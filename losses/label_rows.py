"""What the losses against labels share: their guards, and the weighting of rows by class."""

from torch import Tensor

from tailmatch.declare import options_of
from tailmatch.losses.catalog import ClassBalancedOptions
from tailmatch.losses.checks import (
    check_labels,
    check_logits,
    check_per_class,
    check_reduction,
    check_sample_weight,
    reduce_rows,
)
from tailmatch.losses.collective import global_sum, process_count

NORMALIZE = options_of(ClassBalancedOptions)["normalize"]


def check_label_call(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    normalize: str,
    sample_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    """Run the guards of a loss against labels; returns the labels as int64."""
    check_logits("logits", logits)
    labels = check_labels(labels, logits)
    if class_weights is not None:
        check_per_class("class_weights", class_weights, logits)
    NORMALIZE.check("normalize", normalize)
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
