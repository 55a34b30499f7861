"""The losses by name, with their options and a paragraph on each. Imports no torch, since `--help` reads it.

An option stands here and nowhere else: the classes of options below are the constructors of the modules that inherit
from them, as `IKL(IKLOptions, ...)`.
"""

from collections.abc import Sequence
from dataclasses import InitVar, field
from typing import TYPE_CHECKING, Union

from tailmatch.declare import Option, Part, choice, declares, flag, number, options_of

if TYPE_CHECKING:
    from torch import Tensor

LossOption, LossRow = Option, Part
NORMALIZATIONS = ("batch", "weights")


@declares
class KLOptions:
    temperature: float = number(1.0, "temperature of both softmaxes", excluded=0)
    detach_teacher: bool = flag(True, "keep the gradient out of the teacher's logits")


@declares
class SoftCEOptions(KLOptions):
    teacher_temperature: float | None = number(
        None, "temperature of the teacher's softmax, where it differs; a smaller one sharpens", excluded=0
    )


@declares
class MSEOptions(KLOptions):
    space: str = choice("probabilities", ("probabilities", "logits"), "what is compared")


@declares
class DKDOptions(KLOptions):
    alpha: float = number(1.0, "weight of the target-class part, TCKD")
    beta: float = number(8.0, "weight of the non-target part, NCKD")
    temperature: float = number(4.0, "temperature of both softmaxes", excluded=0)


@declares
class DKLOptions(SoftCEOptions):
    alpha: float = number(1.0, "weight of the soft cross-entropy")
    beta: float = number(1.0, "weight of the wMSE term")
    student_temperature: float | None = number(
        None, "temperature of the student's softmax, where it differs", excluded=0
    )
    weight_temperature: float = number(1.0, "temperature of the softmaxes that make the class weights", excluded=0)
    detach_weights: bool = flag(True, "keep the gradient out of the sample's own class weights too")


@declares
class IKLOptions(DKLOptions):
    num_classes: InitVar[int] = field(kw_only=False)
    weights: str = choice(
        "class", ("class", "sample"), "class weights: its class's mean prediction, or the sample's own"
    )
    mode: str = choice("epoch", ("epoch", "exponential"), "class means roll at each epoch's end, or follow every step")
    momentum: float = number(0.999, "what one sample leaves of its class's row, in exponential mode", high=1)


@declares
class GKLOptions(IKLOptions):
    gamma: float = number(0.3, "power of the class weights: 1 leaves them, 0 makes them uniform")
    normalize: str = choice("weights", NORMALIZATIONS, "the wMSE's divisor: batch size, or sum of S_b^2")


LOSSES: dict[str, Part] = {
    "kl": Part(
        target="losses.modules:KL",
        options=options_of(KLOptions),
        description="Kullback-Leibler divergence between the teacher's and the student's softmax, times T^2: knowledge "
        "distillation (arXiv 1503.02531). The baseline that every other loss here is measured against.",
    ),
    "dkl": Part(
        target="losses.modules:DKL",
        options=options_of(DKLOptions),
        description="Decoupled KL (arXiv 2305.13948): a soft cross-entropy plus a weighted squared error of logit "
        "differences (wMSE) whose student side carries no gradient. At alpha = beta = 1 with the teacher attached its "
        "gradient equals KL's; with a frozen teacher only the soft cross-entropy trains the student.",
    ),
    "ikl": Part(
        target="losses.modules:IKL",
        options=options_of(IKLOptions),
        description="Improved KL (arXiv 2305.13948): decoupled KL whose wMSE term also trains the student, with each "
        "pair of classes weighted by the mean prediction of the sample's class instead of the sample's own. Defaults "
        "are the ImageNet-LT values for a student of the teacher's size; stronger teachers use alpha 3 to 4, beta 4, "
        "semi-supervised training alpha 1, beta 0.1.",
    ),
    "gkl": Part(
        target="losses.modules:GKL",
        options=options_of(GKLOptions),
        description="Generalised KL (arXiv 2503.08038): improved KL with smoother class weights, raised to the power "
        "gamma, and the wMSE term divided by the batch's sum of squared weight sums. gamma = 1 is improved KL. "
        "Defaults are the ImageNet-LT values.",
    ),
    "dkd": Part(
        target="losses.modules:DKD",
        options=options_of(DKDOptions),
        description="Decoupled knowledge distillation (arXiv 2203.08679): KL split into target class against the rest "
        "and the other classes among themselves, each with its own weight. Defaults are the CIFAR-100 values; "
        "ImageNet uses beta 0.5 at temperature 1. Needs labels.",
    ),
    "ce": Part(
        target="losses.modules:CE",
        description="Cross-entropy of the student with the label, or with the teacher's most likely class where no "
        "label is given: the hard pseudo-label loss of FixMatch (arXiv 2001.07685).",
    ),
    "soft-ce": Part(
        target="losses.modules:SoftCE",
        options=options_of(SoftCEOptions),
        description="Cross-entropy of the student with the teacher's softmax, without a factor T^2: KL up to the "
        "teacher's entropy. A teacher_temperature below the student's sharpens the target.",
    ),
    "mse": Part(
        target="losses.modules:MSE",
        options=options_of(MSEOptions),
        description="Squared error between the teacher's and the student's softmaxes, averaged over the classes: "
        "MeanTeacher's consistency loss (arXiv 1703.01780). space = logits compares the logits instead.",
    ),
    "js": Part(
        target="losses.modules:JS",
        options=options_of(KLOptions),
        description="Jensen-Shannon divergence, times T^2: the symmetric, bounded cousin of KL.",
    ),
}
"""Losses of a student against a teacher: `build_loss(name, num_classes, **options)`."""


@declares
class CountsOptions:
    class_counts: InitVar[Union["Tensor", Sequence[int]]] = field(kw_only=False)


@declares
class ClassBalancedOptions(CountsOptions):
    effective_beta: float = number(
        0.9999, "beta of the effective number: 0 weighs alike, towards 1 inversely", high=1, excluded=1
    )
    normalize: str = choice("weights", NORMALIZATIONS, "divide by the batch size, or by the sum of the weights")


@declares
class FocalOptions(CountsOptions):
    gamma: float = number(2.0, "how strongly well-classified samples are discounted; 0 is cross-entropy")


@declares
class LDAMOptions(CountsOptions):
    max_margin: float = number(0.5, "margin of the rarest class; others in proportion to n^(-1/4)")
    scale: float = number(
        30.0, "factor on the logits; 30 for a cosine classifier, 1 for a plain linear one", excluded=0
    )


@declares
class LogitAdjustedOptions(CountsOptions):
    tau: float = number(1.0, "strength of the adjustment; 1 equals Balanced Softmax")


LABEL_LOSSES: dict[str, Part] = {
    "cross-entropy": Part(
        target="losses.label_modules:CrossEntropy",
        description="Plain cross-entropy with the labels.",
    ),
    "class-balanced": Part(
        target="losses.label_modules:ClassBalanced",
        options=options_of(ClassBalancedOptions),
        description="Cross-entropy with each class weighted by the inverse of its effective number of images, "
        "(1 - beta) / (1 - beta^n) (arXiv 1901.05555).",
    ),
    "focal": Part(
        target="losses.label_modules:Focal",
        options=options_of(FocalOptions),
        description="Focal loss (arXiv 1708.02002): cross-entropy times (1 - p_y)^gamma.",
    ),
    "ldam": Part(
        target="losses.label_modules:LDAM",
        options=options_of(LDAMOptions),
        description="Label-distribution-aware margins (arXiv 1906.07413): rarer classes must win by more. Made for a "
        "cosine classifier, and usually combined with re-weighting late in training (DRW).",
    ),
    "balanced-softmax": Part(
        target="losses.label_modules:BalancedSoftmax",
        description="Cross-entropy of the logits plus the log of the class counts (arXiv 2007.10740), so that the "
        "plain logits come out as if the classes were balanced.",
    ),
    "logit-adjusted": Part(
        target="losses.label_modules:LogitAdjusted",
        options=options_of(LogitAdjustedOptions),
        description="Cross-entropy of the logits plus tau times the log class prior (arXiv 2007.07314).",
    ),
}
"""Losses of logits against labels: `build_label_loss(name, class_counts, **options)`."""
