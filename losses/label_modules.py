"""The hard-label losses as modules, all called alike: loss(logits_BC, labels_B, sample_weight=None) -> scalar."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tailmatch.losses.checks import NORMALIZATIONS, check_choice, check_number, checked_counts
from tailmatch.losses.entropies import cross_entropy
from tailmatch.losses.frequency import balanced_softmax, effective_number_weights, focal, ldam, logit_adjusted


class LabelLoss(nn.Module):
    """A loss of logits against labels that knows the number of training images of each class.

    `reweigh(beta)` multiplies each row's loss by its class's effective-number weight from then on: deferred
    re-weighting (DRW), with any of the losses. `class_counts` [C] and `class_weights` [C] (ones until then) are
    persistent buffers, so a resumed run goes on with the weights it had.
    """

    class_counts: Tensor
    class_weights: Tensor

    def __init__(
        self,
        function: Callable[..., Tensor],
        class_counts: Tensor | Sequence[int],
        *,
        takes_counts: bool,
        normalize: str = "weights",
    ) -> None:
        super().__init__()
        check_choice("normalize", normalize, NORMALIZATIONS)
        counts = checked_counts(class_counts)
        self.function = function
        self.takes_counts = takes_counts
        self.normalize = normalize
        self.register_buffer("class_counts", counts)
        self.register_buffer("class_weights", torch.ones_like(counts))

    def forward(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """The mean over the batch [B, C] of each row's loss times its class weight and its sample weight [B]."""
        return self.function(
            logits,
            labels,
            *((self.class_counts,) if self.takes_counts else ()),
            class_weights=self.class_weights,
            normalize=self.normalize,
            sample_weight=sample_weight,
        )

    @torch.no_grad()
    def reweigh(self, effective_beta: float = 0.9999) -> None:
        """Weigh the classes by their effective number from now on; 0 weighs them alike again."""
        self.class_weights.copy_(effective_number_weights(self.class_counts, effective_beta))

    def extra_repr(self) -> str:
        options = self.function.keywords if isinstance(self.function, partial) else {}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


class CrossEntropy(LabelLoss):
    """`cross_entropy` as a module."""

    def __init__(self, class_counts: Tensor | Sequence[int]) -> None:
        super().__init__(cross_entropy, class_counts, takes_counts=False)


class ClassBalanced(LabelLoss):
    """`class_balanced` as a module: cross-entropy, re-weighed from the start."""

    def __init__(
        self, class_counts: Tensor | Sequence[int], *, effective_beta: float = 0.9999, normalize: str = "weights"
    ) -> None:
        super().__init__(cross_entropy, class_counts, takes_counts=False, normalize=normalize)
        self.reweigh(effective_beta)


class Focal(LabelLoss):
    """`focal` as a module."""

    def __init__(self, class_counts: Tensor | Sequence[int], *, gamma: float = 2.0) -> None:
        check_number("gamma", gamma)
        super().__init__(partial(focal, gamma=gamma), class_counts, takes_counts=False)


class LDAM(LabelLoss):
    """`ldam` as a module."""

    def __init__(self, class_counts: Tensor | Sequence[int], *, max_margin: float = 0.5, scale: float = 30.0) -> None:
        check_number("max_margin", max_margin)
        check_number("scale", scale, inclusive=False)
        super().__init__(partial(ldam, max_margin=max_margin, scale=scale), class_counts, takes_counts=True)


class BalancedSoftmax(LabelLoss):
    """`balanced_softmax` as a module."""

    def __init__(self, class_counts: Tensor | Sequence[int]) -> None:
        super().__init__(balanced_softmax, class_counts, takes_counts=True)


class LogitAdjusted(LabelLoss):
    """`logit_adjusted` as a module."""

    def __init__(self, class_counts: Tensor | Sequence[int], *, tau: float = 1.0) -> None:
        check_number("tau", tau)
        super().__init__(partial(logit_adjusted, tau=tau), class_counts, takes_counts=True)
