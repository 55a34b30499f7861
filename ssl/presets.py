"""The algorithms by name: each is a choice of views, targets, acceptance, alignment and loss.

Free of torch, since `--help` lists them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What makes a published algorithm; every part can be replaced by an option of its own name."""

    paper: str
    unlabeled: bool = True
    """Whether it looks at unlabelled images at all."""
    targets: str = "hard"
    acceptance: str = "fixed"
    alignment: str = "none"
    loss: str = "ce"


PRESETS: dict[str, Preset] = {
    "supervised": Preset(paper="the labelled images alone: the baseline", unlabeled=False),
    "fixmatch": Preset(paper="FixMatch (Sohn et al. 2020, arXiv 2001.07685)"),
}

# What a loss's authors use between two views rather than between two networks (arXiv 2305.13948, semi-supervised): the
# class means follow every step, since there are no epochs' worth of labels to average over.
LOSS_DEFAULTS: dict[str, dict[str, object]] = {
    "dkl": {"alpha": 1.0, "beta": 0.1},
    "ikl": {"alpha": 1.0, "beta": 0.1, "mode": "exponential", "momentum": 0.99},
    "gkl": {"alpha": 1.0, "beta": 0.1, "mode": "exponential", "momentum": 0.99},
}
