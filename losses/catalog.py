"""The list of losses for the command line: names, options, defaults, a paragraph on each. Imports no torch.

A loss of ours is added by its module and one row here. A test holds the options to the modules' own signatures.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class LossOption:
    """One option of a loss."""

    default: float | bool | str | None
    """The default; None means that another option's value is taken."""
    kind: type
    """float, bool or str."""
    help: str
    """One line for the command line's help."""
    choices: tuple[str, ...] = ()
    """The allowed values of a str."""


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """One loss."""

    target: str
    """Where it is: file and class, "modules:IKL"."""
    description: str
    """What it is, in a paragraph, with its paper."""
    options: dict[str, LossOption] = field(default_factory=dict)
    takes_num_classes: bool = False
    """Whether the constructor's first argument is the number of classes."""


def _number(default: float | None, text: str) -> LossOption:
    return LossOption(default=default, kind=float, help=text)


def _choice(default: str, choices: tuple[str, ...], text: str) -> LossOption:
    return LossOption(default=default, kind=str, help=text, choices=choices)


_TEMPERATURE = _number(1.0, "temperature of both softmaxes")
_DETACH = LossOption(default=True, kind=bool, help="keep the gradient out of the teacher's logits")
_NORMALIZE_HELP = "divide by the batch size, or by the sum of the weights"

_DECOUPLED = {
    "alpha": _number(1.0, "weight of the soft cross-entropy"),
    "beta": _number(1.0, "weight of the wMSE term"),
    "temperature": _number(1.0, "temperature of both softmaxes of the soft cross-entropy (no factor T^2)"),
    "teacher_temperature": _number(None, "temperature of the teacher's softmax, where it differs"),
    "student_temperature": _number(None, "temperature of the student's softmax, where it differs"),
    "weight_temperature": _number(1.0, "temperature of the softmaxes that make the class weights"),
    "detach_teacher": _DETACH,
}
_CLASS_WISE = {
    "weights": _choice("class", ("class", "sample"), "class weights: the class's mean prediction, or the sample's own"),
    "mode": _choice("epoch", ("epoch", "exponential"), "class means roll at each epoch's end, or follow every step"),
    "momentum": _number(0.999, "what one sample leaves of its class's row (exponential mode)"),
}

LOSSES: dict[str, LossRow] = {
    "kl": LossRow(
        target="modules:KL",
        options={"temperature": _TEMPERATURE, "detach_teacher": _DETACH},
        description="Kullback-Leibler divergence between the teacher's and the student's softmax, times T^2: knowledge "
        "distillation (arXiv 1503.02531). The baseline that every other loss here is measured against.",
    ),
    "dkl": LossRow(
        target="modules:DKL",
        options=_DECOUPLED,
        description="Decoupled KL (arXiv 2305.13948): a soft cross-entropy plus a weighted squared error of logit "
        "differences (wMSE) whose student side carries no gradient. At alpha = beta = 1 with the teacher attached its "
        "gradient equals KL's; with a frozen teacher only the soft cross-entropy trains the student.",
    ),
    "ikl": LossRow(
        target="modules:IKL",
        takes_num_classes=True,
        options=_DECOUPLED | _CLASS_WISE,
        description="Improved KL (arXiv 2305.13948): decoupled KL whose wMSE term also trains the student, with each "
        "pair of classes weighted by the mean prediction of the sample's class instead of the sample's own. Defaults "
        "are the ImageNet-LT values for a student of the teacher's size; stronger teachers use alpha 3 to 4, beta 4, "
        "semi-supervised training alpha 1, beta 0.1.",
    ),
    "gkl": LossRow(
        target="modules:GKL",
        takes_num_classes=True,
        options=_DECOUPLED
        | _CLASS_WISE
        | {
            "gamma": _number(0.3, "power of the class weights: 1 leaves them, 0 makes them uniform"),
            "normalize": _choice("weights", ("batch", "weights"), "the wMSE's divisor: batch size, or sum of S_b^2"),
        },
        description="Generalised KL (arXiv 2503.08038): improved KL with smoother class weights, raised to the power "
        "gamma, and the wMSE term divided by the batch's sum of squared weight sums. gamma = 1 is improved KL. "
        "Defaults are the ImageNet-LT values.",
    ),
    "dkd": LossRow(
        target="modules:DKD",
        options={
            "alpha": _number(1.0, "weight of the target-class part (TCKD)"),
            "beta": _number(8.0, "weight of the non-target part (NCKD)"),
            "temperature": _number(4.0, "temperature of both softmaxes"),
            "detach_teacher": _DETACH,
        },
        description="Decoupled knowledge distillation (arXiv 2203.08679): KL split into target class against the rest "
        "and the other classes among themselves, each with its own weight. Defaults are the CIFAR-100 values; "
        "ImageNet uses beta 0.5 at temperature 1. Needs labels.",
    ),
    "ce": LossRow(
        target="modules:CE",
        description="Cross-entropy of the student with the label, or with the teacher's most likely class where no "
        "label is given: the hard pseudo-label loss of FixMatch (arXiv 2001.07685).",
    ),
    "soft-ce": LossRow(
        target="modules:SoftCE",
        options={
            "temperature": _TEMPERATURE,
            "teacher_temperature": _number(None, "temperature of the teacher's softmax; smaller sharpens the target"),
            "detach_teacher": _DETACH,
        },
        description="Cross-entropy of the student with the teacher's softmax, without a factor T^2: KL up to the "
        "teacher's entropy.",
    ),
    "mse": LossRow(
        target="modules:MSE",
        options={
            "space": _choice("probabilities", ("probabilities", "logits"), "what is compared"),
            "temperature": _TEMPERATURE,
            "detach_teacher": _DETACH,
        },
        description="Squared error between the teacher's and the student's softmaxes, averaged over the classes: "
        "MeanTeacher's consistency loss (arXiv 1703.01780). space = logits compares the logits instead.",
    ),
    "js": LossRow(
        target="modules:JS",
        options={"temperature": _TEMPERATURE, "detach_teacher": _DETACH},
        description="Jensen-Shannon divergence, times T^2: the symmetric, bounded cousin of KL.",
    ),
}
"""Losses of a student against a teacher: `build_loss(name, num_classes, **options)`."""

LABEL_LOSSES: dict[str, LossRow] = {
    "cross-entropy": LossRow(
        target="label_modules:CrossEntropy",
        description="Plain cross-entropy with the labels.",
    ),
    "class-balanced": LossRow(
        target="label_modules:ClassBalanced",
        options={
            "effective_beta": _number(0.9999, "beta of the effective number: 0 weighs alike, towards 1 inversely"),
            "normalize": _choice("weights", ("batch", "weights"), _NORMALIZE_HELP),
        },
        description="Cross-entropy with each class weighted by the inverse of its effective number of images, "
        "(1 - beta) / (1 - beta^n) (arXiv 1901.05555).",
    ),
    "focal": LossRow(
        target="label_modules:Focal",
        options={"gamma": _number(2.0, "how strongly well-classified samples are discounted; 0 is cross-entropy")},
        description="Focal loss (arXiv 1708.02002): cross-entropy times (1 - p_y)^gamma.",
    ),
    "ldam": LossRow(
        target="label_modules:LDAM",
        options={
            "max_margin": _number(0.5, "margin of the rarest class; others in proportion to n^(-1/4)"),
            "scale": _number(30.0, "factor on the logits; 30 for a cosine classifier, 1 for a plain linear one"),
        },
        description="Label-distribution-aware margins (arXiv 1906.07413): rarer classes must win by more. Made for a "
        "cosine classifier, and usually combined with re-weighting late in training (DRW).",
    ),
    "balanced-softmax": LossRow(
        target="label_modules:BalancedSoftmax",
        description="Cross-entropy of the logits plus the log of the class counts (arXiv 2007.10740), so that the "
        "plain logits come out as if the classes were balanced.",
    ),
    "logit-adjusted": LossRow(
        target="label_modules:LogitAdjusted",
        options={"tau": _number(1.0, "strength of the adjustment; 1 equals Balanced Softmax")},
        description="Cross-entropy of the logits plus tau times the log class prior (arXiv 2007.07314).",
    ),
}
"""Losses of logits against labels: `build_label_loss(name, class_counts, **options)`."""
