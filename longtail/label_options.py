"""The hard-label losses' own options as the command line and the recipes know them: `--label-loss ldam`.

An option left out (None) takes the loss's published default, which stands in `losses/catalog.py`. One that the chosen
loss does not have is refused. Free of torch.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro

from tailmatch.errors import unknown_name
from tailmatch.losses.catalog import LABEL_LOSSES
from tailmatch.losses.options import left_out


@dataclass(frozen=True, kw_only=True)
class LabelLossOptions:
    """The loss against the labels, and its own options; losses/README.md says which loss has which."""

    name: Annotated[
        str, tyro.conf.arg(name="label-loss", prefix_name=False, metavar="{" + ",".join(LABEL_LOSSES) + "}")
    ] = "cross-entropy"
    """Which hard-label loss of the shared module."""
    effective_beta: float | None = None
    """Beta of the effective number (class-balanced)."""
    normalize: Literal["batch", "weights"] | None = None
    """Divide by the batch size, or by the sum of the weights (class-balanced)."""
    gamma: float | None = None
    """How strongly well-classified images are discounted (focal)."""
    max_margin: float | None = None
    """Margin of the rarest class (ldam)."""
    scale: float | None = None
    """Factor on the logits (ldam): 30 with the cosine classifier, 1 with a linear one by default."""
    tau: float | None = None
    """Strength of the adjustment (logit-adjusted)."""

    def given(self) -> dict[str, Any]:
        """The options that were set."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return {name: value for name, value in values.items() if value is not None}

    def left_out(self) -> dict[str, str]:
        """What --help says of the options that are left out: the chosen loss's own defaults."""
        return left_out(self, LABEL_LOSSES)

    def problems(self) -> list[str]:
        if self.name not in LABEL_LOSSES:
            return [str(unknown_name("label loss", self.name, LABEL_LOSSES))]
        own = LABEL_LOSSES[self.name].options
        its = f"its options are: {', '.join(own)}" if own else "it has none"
        found = [f"Label loss {self.name!r} has no option {name!r}; {its}." for name in self.given() if name not in own]
        if self.scale is not None and not self.scale > 0:
            found.append(f"label_loss.scale must be above 0, got {self.scale}.")
        return found
