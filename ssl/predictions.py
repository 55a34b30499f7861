"""What the parts of an algorithm hand to one another within a step.

Shape suffixes: B labelled images, U = mu B unlabelled ones, C classes, D features.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from tailmatch.ssl.batches import Batch


@dataclass
class PerView:
    """One output of the network (logits, or features) for each of the views that a step looks at."""

    labeled: Tensor  # [B, ...]
    teacher: Tensor  # [U, ...] the view that pseudo-labels come from
    student: Tensor  # [U, ...] the view that is trained to agree with them


@dataclass
class Predictions:
    """What is known before a pseudo-label is accepted: detached, and no true label of an unlabelled image in it."""

    unlabeled: Tensor  # [U, C] the teacher's probabilities
    labeled: Tensor  # [B, C] the network's probabilities of the labelled images
    labels: Tensor  # int64 [B]
    index: Tensor  # int64 [U], which of the unlabelled images these are
    step: int


@dataclass
class Forward:
    """Everything a step has computed when its losses are added up, with gradients."""

    batch: Batch
    logits: PerView
    features: PerView | None  # where an add-on asked for them
    balanced: PerView | None  # logits of a second head, where an add-on has put one on the model
    averaged: nn.Module | None  # the moving average of the model
    step: int


@dataclass
class PseudoLabels:
    """What a step took the unlabelled images to show."""

    labels: Tensor  # int64 [U]
    weight: Tensor  # float [U], 0 where rejected
    target: Tensor  # [U, C] the logits of what the student is to agree with
