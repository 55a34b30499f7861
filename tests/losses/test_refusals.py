"""Every refusal by its message, each before any computing."""

import math
import re

import pytest
import torch

from tailmatch.errors import UserError
from tailmatch.losses import (
    GKL,
    IKL,
    MSE,
    ClassMeans,
    balanced_softmax,
    build_label_loss,
    build_loss,
    class_balanced,
    cross_entropy,
    decoupled_kl,
    dkd,
    effective_number_weights,
    focal,
    kl,
    mse,
)

S = torch.zeros(4, 3)
Y = torch.tensor([0, 1, 2, 0])
N = torch.tensor([5, 2, 1])

REFUSALS = {
    "shape mismatch": (lambda: kl(S, torch.zeros(4, 5)), "must have one shape; got [4, 3] and [4, 5]"),
    "one dimension": (lambda: kl(S[0], S[0]), "must have shape [batch, classes] with at least 2 classes; got [3]"),
    "one class": (lambda: kl(S[:, :1], S[:, :1]), "at least 2 classes; got [4, 1]"),
    "devices": (lambda: kl(S, S.to("meta")), "must be on one device; got cpu and meta"),
    "label too high": (lambda: dkd(S, S, Y + 1), "Labels must lie in 0 ... 2; got values from 1 to 3"),
    "label below zero": (lambda: cross_entropy(S, Y - 1), "Labels must lie in 0 ... 2; got values from -1 to 1"),
    "label shape": (lambda: cross_entropy(S, Y[:2]), "Labels must have shape [4], one for each row"),
    "no labels": (lambda: IKL(3)(S, S), "This loss needs labels; got None"),
    "class_weights shape": (lambda: decoupled_kl(S, S, S[:2]), "class_weights must have the logits' shape [4, 3]"),
    "class_weights negative": (lambda: decoupled_kl(S, S, S - 1), "class_weights must not be negative; got a smallest"),
    "class_weights nan": (lambda: decoupled_kl(S, S, S * math.nan), "class_weights must not be negative; got"),
    "sample_weight shape": (lambda: kl(S, S, sample_weight=S), "sample_weight must have shape [4]"),
    "sample_weight negative": (
        lambda: kl(S, S, sample_weight=torch.full((4,), -0.5)),
        "sample_weight must not be negative; got a smallest value of -0.5",
    ),
    "temperature": (lambda: kl(S, S, temperature=0.0), "temperature must be a finite number greater than 0; got 0.0"),
    "temperature nan": (lambda: decoupled_kl(S, S, temperature=math.nan), "temperature must be a finite number"),
    "teacher_temperature": (lambda: decoupled_kl(S, S, teacher_temperature=-1.0), "teacher_temperature must be a"),
    "student_temperature": (lambda: decoupled_kl(S, S, student_temperature=-1.0), "student_temperature must be a"),
    "weight_temperature": (lambda: decoupled_kl(S, S, weight_temperature=0), "weight_temperature must be a"),
    "reduction": (
        lambda: kl(S, S, reduction="average"),
        "Unknown reduction 'average'. Allowed: mean, none, sum.",
    ),
    "reduction near": (lambda: mse(S, S, reduction="means"), "Did you mean 'mean'?"),
    "alpha": (lambda: decoupled_kl(S, S, alpha=-1.0), "alpha must be a finite number at least 0; got -1.0"),
    "beta": (lambda: dkd(S, S, Y, beta=math.inf), "beta must be a finite number at least 0; got inf"),
    "gamma": (lambda: decoupled_kl(S, S, gamma=-0.1), "gamma must be a finite number at least 0; got -0.1"),
    "normalize": (lambda: decoupled_kl(S, S, normalize="weight"), "Did you mean 'weights'? Allowed: batch, weights."),
    "label normalize": (lambda: balanced_softmax(S, Y, N, normalize="row"), "Unknown normalize 'row'"),
    "space": (lambda: mse(S, S, space="logit"), "Unknown space 'logit'. Did you mean 'logits'?"),
    "focal gamma": (lambda: focal(S, Y, gamma=-1.0), "gamma must be a finite number at least 0"),
    "class_counts shape": (lambda: balanced_softmax(S, Y, N[:2]), "class_counts must have shape [3]"),
    "class_counts negative": (lambda: class_balanced(S, Y, -N), "class_counts must not be negative"),
    "effective beta": (
        lambda: effective_number_weights(N, 1.0),
        "effective_beta must be a finite number at least 0 and below 1; got 1.0",
    ),
    "label weights": (lambda: cross_entropy(S, Y, class_weights=N[:2]), "class_weights must have shape [3]"),
    "means: classes": (lambda: ClassMeans(1), "must be 2 ... 32768; got 1: use weights='sample' instead"),
    "means: too many": (lambda: IKL(100_000), "must be 2 ... 32768; got 100000: use weights='sample' instead"),
    "means: mode": (lambda: IKL(3, mode="epochs"), "Unknown mode 'epochs'. Did you mean 'epoch'?"),
    "means: momentum": (lambda: ClassMeans(3, momentum=1.5), "momentum must be a finite number at least 0 and at most"),
    "means: other classes": (lambda: IKL(4).observe(S, Y), "The class means are for 4 classes; got logits of 3"),
    "means: label": (lambda: IKL(3).observe(S, Y + 1), "Labels must lie in 0 ... 2"),
    "module weights": (lambda: GKL(3, weights="samples"), "Unknown weights 'samples'. Did you mean 'sample'?"),
    "module temperature": (lambda: GKL(3, student_temperature=0.0), "student_temperature must be a finite number"),
    "module space": (lambda: MSE(space="probs"), "Unknown space 'probs'"),
    "build: name": (lambda: build_loss("ilk", 3), "Unknown loss 'ilk'. Did you mean 'ikl'? Allowed: kl, dkl, ikl"),
    "build: option": (
        lambda: build_loss("ikl", 3, betta=1.0),
        "'betta'. Did you mean 'beta'? Allowed: temperature, detach",
    ),
    "build: value": (lambda: build_loss("kl", 3, temperature=0.0), "temperature must be a finite number greater"),
    "build label: name": (lambda: build_label_loss("balanced", N), "Did you mean 'class-balanced'?"),
    "build label: option": (lambda: build_label_loss("ldam", N, margin=1.0), "Did you mean 'max_margin'?"),
    "build label: counts": (
        lambda: build_label_loss("ldam", [3, -1]),
        "class_counts must hold one non-negative number",
    ),
}
WRONG_TYPES = {
    "integer logits": (lambda: kl(S.long(), S), "The student logits must be floating point; got torch.int64"),
    "integer teacher": (lambda: decoupled_kl(S, S.long()), "The teacher logits must be floating point"),
    "not a tensor": (lambda: kl([[0.0, 1.0]], S), "The student logits must be a tensor; got list"),
    "float labels": (lambda: dkd(S, S, Y.float()), "Labels must be integers, one class index a row; got torch.float32"),
    "integer class_weights": (lambda: decoupled_kl(S, S, S.long()), "class_weights must be floating point"),
    "temperature text": (lambda: kl(S, S, temperature="4"), "temperature must be a number; got '4'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_in_one_sentence(case: str) -> None:
    call, message = REFUSALS[case]
    with pytest.raises(UserError, match=re.escape(message)) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_wrong_types_are_type_errors(case: str) -> None:
    call, message = WRONG_TYPES[case]
    with pytest.raises(TypeError, match=re.escape(message)):
        call()
