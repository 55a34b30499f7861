"""Distribution alignment: what the pseudo-labels of all classes together should look like.

Every alignment multiplies each class's probability by a factor and normalises again, so it is a shift of the logits:
one number a class. Shape suffixes: U unlabelled images of a step, C classes.
"""

import torch
from torch import Tensor, nn

from tailmatch.engine.distributed import mean_over_processes
from tailmatch.ssl.predictions import Predictions

MOMENTUM = 0.999  # of the running means (USB; ReMixMatch, and AdaMatch for unlabelled images, average 128 batches)
_SMALLEST = 1e-6


class Alignment(nn.Module):
    """The base, which changes nothing: pseudo-labels as the teacher gives them."""

    shifts_targets = False
    """Whether targets see the aligned predictions, or acceptance alone; these are aligned after the add-ons."""

    def observe(self, seen: Predictions) -> None:
        """Nothing to keep."""

    def shift(self) -> Tensor | None:
        """What to add to the logits; None for nothing."""
        return None


class DistributionAlignment(Alignment):
    """p ~ p * (labelled mean) / (unlabelled mean), running means of the network's own predictions.

    Berthelot et al. 2020 (ReMixMatch, arXiv 1911.09785) with AdaMatch's target, the predictions of labelled images.
    Targets and acceptance both see the aligned predictions.
    """

    shifts_targets = True
    labeled_mean: Tensor
    unlabeled_mean: Tensor

    def __init__(self, num_classes: int, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("labeled_mean", torch.full((num_classes,), 1 / num_classes))
        # Of no image yet: the first step's mean is taken as it is, as in USB; a uniform start would hold for as long as
        # the momentum remembers.
        self.register_buffer("unlabeled_mean", torch.zeros(num_classes))

    @torch.no_grad()
    def observe(self, seen: Predictions) -> None:
        """Take a step's predictions into the running means; they are the same on every process."""
        means = mean_over_processes(torch.stack([seen.labeled.mean(0), seen.unlabeled.mean(0)]))
        self.labeled_mean.lerp_(means[0], 1 - self.momentum)
        self.unlabeled_mean.lerp_(means[1], torch.where(self.unlabeled_mean.any(), 1 - self.momentum, 1.0))

    def shift(self) -> Tensor:
        """log(labelled mean / unlabelled mean), [C]."""
        return (self.labeled_mean + _SMALLEST).log() - (self.unlabeled_mean + _SMALLEST).log()


class UniformAlignment(DistributionAlignment):
    """p ~ p / (unlabelled mean), for acceptance alone: rare classes get through, no pseudo-label is changed.

    Chen et al. 2023 (SoftMatch, arXiv 2301.10921, equation 8).
    """

    shifts_targets = False

    def shift(self) -> Tensor:
        return -(self.unlabeled_mean + _SMALLEST).log()
