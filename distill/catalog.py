"""The methods of `run.py distill` by name: what each is, with its options. Imports no torch, since `--help` reads it.

Those that compare logits are the losses of the shared module; `features/` has those that compare features.
"""

from tailmatch.declare import Part
from tailmatch.distill.features.catalog import FEATURE_METHODS, WEIGHTS
from tailmatch.losses.catalog import LOSSES

ALONE = "none"

LOGIT_METHODS: dict[str, Part] = {
    "kd": LOSSES["kl"],
    **{name: loss for name, loss in LOSSES.items() if name not in ("kl", "ce")},
}
"""`kd` is the Kullback-Leibler divergence under the name that distillation knows it by; `ce` needs no teacher."""

METHODS: dict[str, Part] = {**LOGIT_METHODS, **FEATURE_METHODS}


def usual_weight(method: str) -> float:
    """What a method weighs beside the labels where nothing is published for the pair of networks."""
    return WEIGHTS.get(method, 1.0)


def loss_of(method: str) -> str:
    """The loss of the shared module that a method of logits is."""
    return "kl" if method == "kd" else method
