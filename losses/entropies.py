"""Cross-entropy against a class index, true or pseudo-label."""

import torch.nn.functional as F
from torch import Tensor

from tailmatch.losses.checks import working_dtype
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
