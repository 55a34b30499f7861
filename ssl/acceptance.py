"""Which pseudo-labels to learn from: a weight in [0, 1] for every unlabelled image.

Each rule is a module whose state, if any, is in its `state_dict()`.

Shape suffixes: U unlabelled images of a step, C classes.
"""

from torch import Tensor, nn


class FixedThreshold(nn.Module):
    """FixMatch: accept where the model is at least `threshold` sure (Sohn et al. 2020, equation 4)."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, probabilities_UC: Tensor) -> Tensor:
        return (probabilities_UC.amax(1) >= self.threshold).float()
