"""The methods of `run.py distill` by name: what each is, with its options. Imports no torch, since `--help` reads it.

Those that compare logits are the losses of the shared module.
"""

from tailmatch.declare import Part
from tailmatch.losses.catalog import LOSSES

ALONE = "none"

LOGIT_METHODS: dict[str, Part] = {
    "kd": LOSSES["kl"],
    **{name: loss for name, loss in LOSSES.items() if name not in ("kl", "ce")},
}
"""`kd` is the Kullback-Leibler divergence under the name that distillation knows it by; `ce` needs no teacher."""

METHODS: dict[str, Part] = {**LOGIT_METHODS}


def loss_of(method: str) -> str:
    """The loss of the shared module that a method of logits is."""
    return "kl" if method == "kd" else method
