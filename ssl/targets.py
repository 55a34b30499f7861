"""What the unlabelled images are taken to show: the teacher's logits, turned into a target for the loss.

A target stays a row of logits, because every loss of the shared module takes the teacher's logits and its most likely
class; `ce` uses the class alone. The teacher is the network itself or its moving average (`algorithm.py`).
"""

from torch import Tensor, nn

from tailmatch.errors import UserError, unknown_name
from tailmatch.ssl.presets import TARGETS


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


def build_targets(name: str, sharpening: float | None) -> nn.Module:
    """The targets `name` of `presets.TARGETS`."""
    if name == "sharpened":
        if sharpening is None:
            raise UserError("Sharpened targets need a temperature: sharpening=0.4, say.")
        return Sharpened(sharpening)
    if name not in TARGETS:
        raise unknown_name("targets", name, TARGETS)
    return Hard() if name == "hard" else Soft()
