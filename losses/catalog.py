"""The losses by name, with their options and a paragraph on each. Imports no torch, since `--help` reads it.

A loss is a class of options here: its docstring says what it is, and its fields are the constructor of the module that
inherits from it, as `IKL(IKLOptions, ...)`. An option stands here and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import InitVar, field
from typing import TYPE_CHECKING, Union

from tailmatch.declare import Option, Part, choice, declares, flag, number

if TYPE_CHECKING:
    from torch import Tensor

LossOption, LossRow = Option, Part
NORMALIZATIONS = ("batch", "weights")

LOSSES: dict[str, Part] = {}
"""Losses of a student against a teacher: `build_loss(name, num_classes, **options)`."""
LABEL_LOSSES: dict[str, Part] = {}
"""Losses of logits against labels: `build_label_loss(name, class_counts, **options)`."""


@declares()
class CountsOptions:
    """What a loss is made from that knows how often each class occurs."""

    class_counts: InitVar[Union["Tensor", Sequence[int]]] = field(kw_only=False)


@declares(LOSSES, "kl", "losses.modules:KL")
class KLOptions:
    """Kullback-Leibler divergence between the teacher's and the student's softmax, times T^2: knowledge distillation
    (arXiv 1503.02531). The baseline that every other loss here is measured against.
    """

    temperature: float = number(1.0, "temperature of both softmaxes", excluded=0)
    detach_teacher: bool = flag(True, "keep the gradient out of the teacher's logits")


@declares(LOSSES, "dkl", "losses.modules:DKL")
class DKLOptions(KLOptions):
    """Decoupled KL (arXiv 2305.13948): a soft cross-entropy plus a weighted squared error of logit differences (wMSE)
    whose student side carries no gradient. At alpha = beta = 1 with the teacher attached its gradient equals KL's; with
    a frozen teacher only the soft cross-entropy trains the student.
    """

    alpha: float = number(1.0, "weight of the soft cross-entropy")
    beta: float = number(1.0, "weight of the wMSE term")
    teacher_temperature: float | None = number(
        None, "temperature of the teacher's softmax, where it differs; a smaller one sharpens", excluded=0
    )
    student_temperature: float | None = number(
        None, "temperature of the student's softmax, where it differs", excluded=0
    )
    weight_temperature: float = number(1.0, "temperature of the softmaxes that make the class weights", excluded=0)
    detach_weights: bool = flag(True, "keep the gradient out of the sample's own class weights too")


@declares(LOSSES, "ikl", "losses.modules:IKL")
class IKLOptions(DKLOptions):
    """Improved KL (arXiv 2305.13948): decoupled KL whose wMSE term also trains the student, with each pair of classes
    weighted by the mean prediction of the sample's class instead of the sample's own. Defaults are the ImageNet-LT
    values for a student of the teacher's size; stronger teachers use alpha 3 to 4, beta 4, semi-supervised training
    alpha 1, beta 0.1.
    """

    num_classes: InitVar[int] = field(kw_only=False)
    weights: str = choice(
        "class", ("class", "sample"), "class weights: its class's mean prediction, or the sample's own"
    )
    mode: str = choice("epoch", ("epoch", "exponential"), "class means roll at each epoch's end, or follow every step")
    momentum: float = number(0.999, "what one sample leaves of its class's row, in exponential mode", high=1)


@declares(LOSSES, "gkl", "losses.modules:GKL")
class GKLOptions(IKLOptions):
    """Generalised KL (arXiv 2503.08038): improved KL with smoother class weights, raised to the power gamma, and the
    wMSE term divided by the batch's sum of squared weight sums. gamma = 1 is improved KL. Defaults are the ImageNet-LT
    values.
    """

    gamma: float = number(0.3, "power of the class weights: 1 leaves them, 0 makes them uniform")
    normalize: str = choice("weights", NORMALIZATIONS, "the wMSE's divisor: batch size, or sum of S_b^2")


@declares(LOSSES, "dkd", "losses.modules:DKD")
class DKDOptions(KLOptions):
    """Decoupled knowledge distillation (arXiv 2203.08679): KL split into target class against the rest and the other
    classes among themselves, each with its own weight. Defaults are the CIFAR-100 values; ImageNet uses beta 0.5 at
    temperature 1. Needs labels.
    """

    alpha: float = number(1.0, "weight of the target-class part, TCKD")
    beta: float = number(8.0, "weight of the non-target part, NCKD")
    temperature: float = number(4.0, "temperature of both softmaxes", excluded=0)


@declares(LOSSES, "dist", "losses.relations:DIST")
class DISTOptions(KLOptions):
    """DIST (arXiv 2205.10536): the student's softmax is to correlate with the teacher's over the classes of each
    sample and over the samples of each class, whatever its shift and scale. Defaults are CIFAR-100's, where it weighs
    twice what the labels do; ImageNet uses temperature 1.
    """

    beta: float = number(1.0, "weight of the relations within a sample")
    gamma: float = number(1.0, "weight of the relations within a class, over the batch")
    temperature: float = number(4.0, "temperature of both softmaxes", excluded=0)


@declares(LOSSES, "ce", "losses.modules:CE")
class CEOptions:
    """Cross-entropy of the student with the label, or with the teacher's most likely class where no label is given: the
    hard pseudo-label loss of FixMatch (arXiv 2001.07685).
    """


@declares(LOSSES, "soft-ce", "losses.modules:SoftCE")
class SoftCEOptions(KLOptions):
    """Cross-entropy of the student with the teacher's softmax, without a factor T^2: KL up to the teacher's entropy. A
    teacher_temperature below the student's sharpens the target.
    """

    teacher_temperature: float | None = number(
        None, "temperature of the teacher's softmax, where it differs; a smaller one sharpens", excluded=0
    )


@declares(LOSSES, "mse", "losses.modules:MSE")
class MSEOptions(KLOptions):
    """Squared error between the teacher's and the student's softmaxes, averaged over the classes: MeanTeacher's
    consistency loss (arXiv 1703.01780). space = logits compares the logits instead.
    """

    space: str = choice("probabilities", ("probabilities", "logits"), "what is compared")


@declares(LOSSES, "js", "losses.modules:JS")
class JSOptions(KLOptions):
    """Jensen-Shannon divergence, times T^2: the symmetric, bounded cousin of KL."""


@declares(LOSSES, "bkd", "losses.tailed:BKD")
class BKDOptions(KLOptions, CountsOptions):
    """Balanced knowledge distillation (arXiv 2104.10510): KL to the teacher's softmax times the effective-number
    weights of the classes, so that rare ones count for more. Defaults are the published ones for CIFAR-LT.
    """

    effective_beta: float = number(0.9999, "beta of the effective number: 0 weighs alike", high=1, excluded=1)
    temperature: float = number(2.0, "temperature of both softmaxes", excluded=0)


@declares(LOSSES, "ltkd", "losses.tailed:LTKD")
class LTKDOptions(KLOptions, CountsOptions):
    """Long-tailed knowledge distillation (arXiv 2506.18496): KL split into the shares of three groups of classes, made
    even over the batch on the teacher's side, and the classes within each group, all groups alike. No code was
    published; the weights of the parts are ours.
    """

    alpha: float = number(1.0, "weight of the part between groups")
    beta: float = number(1.0, "weight of the part within groups")
    temperature: float = number(4.0, "temperature of both softmaxes", excluded=0)


@declares(LABEL_LOSSES, "cross-entropy", "losses.label_modules:CrossEntropy")
class CrossEntropyOptions(CountsOptions):
    """Plain cross-entropy with the labels."""


@declares(LABEL_LOSSES, "class-balanced", "losses.label_modules:ClassBalanced")
class ClassBalancedOptions(CountsOptions):
    """Cross-entropy with each class weighted by the inverse of its effective number of images,
    (1 - beta) / (1 - beta^n) (arXiv 1901.05555).
    """

    effective_beta: float = number(
        0.9999, "beta of the effective number: 0 weighs alike, towards 1 inversely", high=1, excluded=1
    )
    normalize: str = choice("weights", NORMALIZATIONS, "divide by the batch size, or by the sum of the weights")


@declares(LABEL_LOSSES, "focal", "losses.label_modules:Focal")
class FocalOptions(CountsOptions):
    """Focal loss (arXiv 1708.02002): cross-entropy times (1 - p_y)^gamma."""

    gamma: float = number(2.0, "how strongly well-classified samples are discounted; 0 is cross-entropy")


@declares(LABEL_LOSSES, "ldam", "losses.label_modules:LDAM")
class LDAMOptions(CountsOptions):
    """Label-distribution-aware margins (arXiv 1906.07413): rarer classes must win by more. Made for a cosine
    classifier, and usually combined with re-weighting late in training (DRW).
    """

    max_margin: float = number(0.5, "margin of the rarest class; others in proportion to n^(-1/4)")
    scale: float = number(
        30.0, "factor on the logits; 30 for a cosine classifier, 1 for a plain linear one", excluded=0
    )


@declares(LABEL_LOSSES, "balanced-softmax", "losses.label_modules:BalancedSoftmax")
class BalancedSoftmaxOptions(CountsOptions):
    """Cross-entropy of the logits plus the log of the class counts (arXiv 2007.10740), so that the plain logits come
    out as if the classes were balanced.
    """


@declares(LABEL_LOSSES, "logit-adjusted", "losses.label_modules:LogitAdjusted")
class LogitAdjustedOptions(CountsOptions):
    """Cross-entropy of the logits plus tau times the log class prior (arXiv 2007.07314)."""

    tau: float = number(1.0, "strength of the adjustment; 1 equals Balanced Softmax")


@declares(LABEL_LOSSES, "vs", "losses.label_modules:VS")
class VSOptions(CountsOptions):
    """Vector scaling (arXiv 2103.01550): cross-entropy of logits multiplied by (n_c / n_max)^gamma and moved by tau
    times the log class prior. Defaults are the published code's; its CIFAR-10-LT example has gamma 0.2, tau 1.2.
    """

    gamma: float = number(0.3, "power of the factor on the logits of rare classes; 0 leaves them")
    tau: float = number(1.0, "strength of the adjustment by the log prior")


@declares(LABEL_LOSSES, "lade", "losses.label_modules:LADE")
class LADEOptions(CountsOptions):
    """LADE (arXiv 2012.00321): Balanced Softmax plus a bound on how far each class's logit tells its images from all
    others, estimated in the batch, which pulls the logits towards log p(x|c) / p(x).
    """

    weight: float = number(0.1, "weight of the bound")
    regularization: float = number(0.1, "how strongly the bound's normalisation is held at zero")
