"""What the unlabelled images are taken to show: the teacher's logits, turned into a target for the loss.

A target stays a row of logits, because every loss of the shared module takes the teacher's logits and its most likely
class; `ce` uses the class alone. The teacher is the network itself or its moving average (`algorithm.py`).
"""

from torch import Tensor, nn


class Soft(nn.Module):
    """The teacher's whole prediction (Pi-Model, Mean Teacher, AdaMatch)."""

    def forward(self, logits_UC: Tensor) -> Tensor:
        return logits_UC


class Hard(Soft):
    """Its most likely class (Pseudo-Label, FixMatch): what `ce` makes of the whole prediction that this hands on.

    `Consistency` refuses it with any other loss, which would compare whole predictions.
    """


class Sharpened(nn.Module):
    """Its prediction at a temperature below 1: p_c^(1/T) / sum_k p_k^(1/T) (UDA)."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits_UC: Tensor) -> Tensor:
        return logits_UC / self.temperature
