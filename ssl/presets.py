"""The algorithms by name: each is a choice of views, teacher, targets, acceptance, alignment and loss.

Free of torch, since `--help` lists them. Constants are those of the papers; where a paper leaves one open or two
sources differ, the comment says which one is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TEACHERS = ("online", "average")
STUDENT_VIEWS = ("strong", "weak", "same")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What makes a published algorithm; every part can be replaced by an option of its own name."""

    paper: str
    unlabeled: bool = True
    """Whether it looks at unlabelled images at all."""
    all_labels: bool = False
    """Whether it is shown the label of every training image."""
    targets: str = "hard"
    teacher: str = "online"
    student_view: str = "strong"
    acceptance: str = "fixed"
    alignment: str = "none"
    loss: str = "ce"
    unlabeled_weight: float = 1.0
    unlabeled_warmup: float = 0.0
    """Share of the run over which the consistency weight rises from 0."""
    unlabeled_ratio: int = 7
    options: Mapping[str, float] = field(default_factory=dict)
    """Of its parts, where they differ from those of `catalog.py`."""


PRESETS: dict[str, Preset] = {
    "supervised": Preset(paper="the labelled images alone: the baseline", unlabeled=False),
    "fully-supervised": Preset(paper="every training label: the upper bound", unlabeled=False, all_labels=True),
    # The three classics as TorchSSL and USB run them: one unlabelled image per labelled one, and a consistency weight
    # that rises over the first 40 % of the run. There the unlabelled views leave BatchNorm's running statistics alone;
    # here, as in all other algorithms, they take part.
    "pseudolabel": Preset(
        paper="Pseudo-Label (Lee 2013)", student_view="same", unlabeled_warmup=0.4, unlabeled_ratio=1
    ),
    "pi-model": Preset(
        paper="Pi-Model (Laine & Aila 2017, arXiv 1610.02242)",
        targets="soft",
        student_view="weak",
        acceptance="all",
        loss="mse",
        unlabeled_weight=10.0,
        unlabeled_warmup=0.4,
        unlabeled_ratio=1,
    ),
    "mean-teacher": Preset(
        paper="Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780)",
        targets="soft",
        teacher="average",
        student_view="weak",
        acceptance="all",
        loss="mse",
        unlabeled_weight=50.0,
        unlabeled_warmup=0.4,
        unlabeled_ratio=1,
    ),
    # Without the paper's annealing of the training signal, which TorchSSL and USB leave off as well.
    "uda": Preset(
        paper="UDA (Xie et al. 2020, arXiv 1904.12848)",
        targets="sharpened",
        loss="soft-ce",
        options={"sharpening": 0.4, "threshold": 0.8},
    ),
    "fixmatch": Preset(paper="FixMatch (Sohn et al. 2020, arXiv 2001.07685)"),
    "flexmatch": Preset(paper="FlexMatch (Zhang et al. 2021, arXiv 2110.08263)", acceptance="curriculum"),
    # TorchSSL's fairness weight. The paper takes 0.01 on SVHN and with the fewest labels (10 on CIFAR-10, 400 on
    # CIFAR-100, 40 on STL-10) and 0.05 elsewhere; USB 0.001. On SVHN the paper also keeps the global threshold within
    # [0.9, 0.95] (USB below 0.95) and starts with two epochs of labelled images alone; neither is here.
    "freematch": Preset(
        paper="FreeMatch (Wang et al. 2023, arXiv 2205.07246)",
        acceptance="self-adaptive",
        options={"fairness_weight": 0.01},
    ),
    "softmatch": Preset(
        paper="SoftMatch (Chen et al. 2023, arXiv 2301.10921)",
        acceptance="gaussian",
        alignment="uniform",
    ),
    # The threshold of the paper and the soft targets of its formula; its authors' code takes the aligned prediction's
    # most likely class, USB that and 0.95. Left out: the strong views of the labelled images and the rise of the
    # consistency weight over the first half of the run (USB leaves both out), three unlabelled images per labelled one
    # rather than 7, and the interpolation of logits between two domains, which has nothing to do within one.
    "adamatch": Preset(
        paper="AdaMatch (Berthelot et al. 2022, arXiv 2106.04732)",
        targets="soft",
        acceptance="relative",
        alignment="distribution",
        loss="soft-ce",
        options={"threshold": 0.9},
    ),
    "dash": Preset(paper="Dash (Xu et al. 2021, arXiv 2109.00650)", acceptance="dash"),
}

# What a loss's authors use between two views rather than between two networks (arXiv 2305.13948, semi-supervised): the
# class means follow every step, since there are no epochs' worth of labels to average over. GKL is unpublished here:
# its smoothed weights let every pair of classes pull, and with IKL's beta the logits of digits run away.
LOSS_DEFAULTS: dict[str, dict[str, object]] = {
    "dkl": {"alpha": 1.0, "beta": 0.1},
    "ikl": {"alpha": 1.0, "beta": 0.1, "mode": "exponential", "momentum": 0.99},
    "gkl": {"alpha": 1.0, "beta": 0.01, "mode": "exponential", "momentum": 0.99},
}
# Mean Teacher with these losses, as their authors run it: weight 1 and no rise, and images below the confidence count
# for nothing. Its published 50 is for the squared error of probabilities, which is small.
AVERAGE_TEACHER_PARTS: dict[str, Any] = {"acceptance": "fixed", "unlabeled_weight": 1.0, "unlabeled_warmup": 0.0}
AVERAGE_TEACHER_LOSS_DEFAULTS: dict[str, dict[str, object]] = {
    name: {**options, "alpha": 0.02, "beta": 0.03} for name, options in LOSS_DEFAULTS.items()
}
