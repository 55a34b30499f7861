"""The losses' own options as the command line and the recipes know them: `--loss ikl --loss.beta 0.1`.

An option left out (None) takes the loss's published default, which stands in `catalog.py`. One that the chosen loss
does not have is refused. Free of torch, since `--help` imports it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro

from tailmatch.errors import unknown_name
from tailmatch.losses.catalog import LOSSES, LossRow


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The loss between the two predictions, and its own options; losses/README.md says which loss has which."""

    name: Annotated[str, tyro.conf.arg(name="loss", prefix_name=False, metavar="{" + ",".join(LOSSES) + "}")] = "ce"
    """Which loss of the shared module."""
    alpha: float | None = None
    """Weight of the soft cross-entropy (dkl, ikl, gkl) or of the target-class part (dkd)."""
    beta: float | None = None
    """Weight of the wMSE term (dkl, ikl, gkl) or of the non-target part (dkd)."""
    gamma: float | None = None
    """Power of the class weights (gkl)."""
    temperature: float | None = None
    """Temperature of both softmaxes."""
    teacher_temperature: float | None = None
    """Temperature of the teacher's softmax, where it differs."""
    student_temperature: float | None = None
    """Temperature of the student's softmax, where it differs."""
    weight_temperature: float | None = None
    """Temperature of the softmaxes that make the class weights."""
    weights: Literal["class", "sample"] | None = None
    """Class weights: the class's mean prediction, or the sample's own (ikl, gkl)."""
    mode: Literal["epoch", "exponential"] | None = None
    """Class means roll at each epoch's end, or follow every step (ikl, gkl)."""
    momentum: float | None = None
    """What one sample leaves of its class's row of the class means (exponential mode)."""
    normalize: Literal["batch", "weights"] | None = None
    """Divisor of the wMSE term: the batch size, or the sum of S_b^2 (gkl)."""
    space: Literal["probabilities", "logits"] | None = None
    """What mse compares."""
    detach_teacher: bool | None = None
    """Keep the gradient out of the teacher's branch."""

    def given(self) -> dict[str, Any]:
        """The options that were set."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return {name: value for name, value in values.items() if value is not None}

    def left_out(self) -> dict[str, str]:
        """What --help says of the options that are left out: the chosen loss's own defaults."""
        return left_out(self, LOSSES)

    def problems(self) -> list[str]:
        if self.name not in LOSSES:
            return [str(unknown_name("loss", self.name, LOSSES))]
        own = LOSSES[self.name].options
        its = f"its options are: {', '.join(own)}" if own else "it has none"
        return [
            f"Loss {self.name!r} has no option {name!r}; {its}; leave it out, or take a loss that has it: "
            f"{', '.join(_losses_with(name))}."
            for name in self.given()
            if name not in own
        ]


def left_out(options: Any, rows: Mapping[str, LossRow]) -> dict[str, str]:
    """A few words on each option of a group of losses, by whether the loss of its name has it."""
    names = [field.name for field in fields(options) if field.name != "name"]
    if options.name not in rows:
        return dict.fromkeys(names, "default: the loss's own")
    own = rows[options.name].options
    return {
        name: f"not an option of {options.name}"
        if name not in own
        else "default: as the temperature"
        if own[name].default is None
        else f"default: {own[name].default}"
        for name in names
    }


def _losses_with(option: str) -> list[str]:
    return [name for name, row in LOSSES.items() if option in row.options]
