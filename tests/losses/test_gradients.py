"""The gradients are those of the definitions: finite differences, and the theorems between the losses."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tailmatch.errors import UserError
from tailmatch.losses import (
    GKL,
    balanced_softmax,
    class_balanced,
    cross_entropy,
    decoupled_kl,
    dist,
    dkd,
    focal,
    js,
    kl,
    ldam,
    logit_adjusted,
    mse,
    soft_cross_entropy,
)

BOTH_SIDES = {
    "kl": kl,
    "kl temperature": partial(kl, temperature=3.0),
    "js": partial(js, temperature=0.7),
    "mse": partial(mse, temperature=2.0),
    "mse of logits": partial(mse, space="logits", temperature=2.0),
    "dist": partial(dist, temperature=2.0, beta=1.5),
    "soft-ce": partial(soft_cross_entropy, temperature=2.0, teacher_temperature=0.5),
}
DECOUPLED = {
    "plain": {},
    "soft only": {"beta": 0.0},
    "wMSE only": {"alpha": 0.0},
    "weights": {"alpha": 1.5, "beta": 8.0},
    "temperature": {"temperature": 4.0},
    "two temperatures": {"teacher_temperature": 4.0, "student_temperature": 0.5},
    "gamma": {"gamma": 0.3},
    "gamma 0": {"gamma": 0.0},
    "gamma above 1": {"gamma": 1.7},
    "sum of weights": {"gamma": 0.3, "normalize": "weights"},
}
REDUCTIONS = ("mean", "none", "sum")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", BOTH_SIDES)
def test_both_sides(name: str, reduction: str, batch) -> None:
    options = {"detach_teacher": False, "reduction": reduction}
    for mask in (None, batch.mask):
        loss = partial(BOTH_SIDES[name], sample_weight=mask, **options)
        assert gradcheck(loss, (batch.student, batch.teacher))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_dkd(reduction: str, batch) -> None:
    options = {"alpha": 1.5, "beta": 8.0, "sample_weight": batch.mask, "reduction": reduction, "detach_teacher": False}
    assert gradcheck(lambda s, t: dkd(s, t, batch.labels, **options), (batch.student, batch.teacher))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("own_weights", [False, True], ids=["class weights", "own softmax"])
@pytest.mark.parametrize("options", DECOUPLED.values(), ids=DECOUPLED)
def test_decoupled_student(options: dict, own_weights: bool, masked: bool, reduction: str, batch) -> None:
    loss = partial(
        decoupled_kl,
        class_weights=None if own_weights else batch.weights,
        weight_temperature=2.0,
        sample_weight=batch.mask if masked else None,
        reduction=reduction,
        **options,
    )
    assert gradcheck(loss, (batch.student, batch.teacher.detach()))


@pytest.mark.parametrize("options", DECOUPLED.values(), ids=DECOUPLED)
def test_decoupled_teacher_through_the_squared_error_alone(options: dict, batch) -> None:
    """The soft target is stopped by definition, so the teacher's numeric gradient is that of the wMSE term."""
    options = options | {"alpha": 0.0}
    loss = partial(decoupled_kl, batch.student, class_weights=batch.weights, detach_teacher=False, **options)
    assert options.get("beta") == 0 or gradcheck(lambda t: loss(t), (batch.teacher,))


def test_asymmetric_keeps_the_squared_error_from_the_student(batch) -> None:
    soft = gradient(lambda s: decoupled_kl(s, batch.teacher, beta=0.0), batch.student)
    asymmetric = gradient(lambda s: decoupled_kl(s, batch.teacher, beta=5.0, symmetric=False), batch.student)
    torch.testing.assert_close(asymmetric, soft, rtol=0, atol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_dkl_has_the_gradient_of_kl_on_both_sides(masked: bool, batch) -> None:
    """Theorem 1 of arXiv 2305.13948."""
    options = {"detach_teacher": False, "sample_weight": batch.mask if masked else None}
    inputs = (batch.student, batch.teacher)
    of_kl = torch.autograd.grad(kl(*inputs, **options), inputs)
    of_dkl = torch.autograd.grad(decoupled_kl(*inputs, symmetric=False, **options), inputs)
    torch.testing.assert_close(of_dkl, of_kl, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("masked", [False, True])
def test_gkl_at_gamma_one_is_ikl(masked: bool, batch) -> None:
    """Weights that sum to one have sum_b S_b^2 = B, so the two normalisers agree."""
    options = {"alpha": 1.5, "beta": 8.0, "sample_weight": batch.mask if masked else None}
    for reduction in REDUCTIONS:
        ikl = decoupled_kl(batch.student, batch.teacher, batch.weights, reduction=reduction, **options)
        gkl = decoupled_kl(
            batch.student, batch.teacher, batch.weights, normalize="weights", reduction=reduction, **options
        )
        torch.testing.assert_close(gkl, ikl, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_closed_form_is_the_sum_over_pairs(gamma: float, batch) -> None:
    p, d = batch.weights.pow(gamma), (batch.teacher - batch.student).detach()
    pairs = 0.25 * (p[:, :, None] * p[:, None, :] * (d[:, :, None] - d[:, None, :]).square()).sum((1, 2))
    options = {"alpha": 0.0, "gamma": gamma}
    ours = decoupled_kl(batch.student, batch.teacher, batch.weights, reduction="none", **options)
    torch.testing.assert_close(ours, pairs, rtol=1e-12, atol=1e-12)
    mean = decoupled_kl(batch.student, batch.teacher, batch.weights, normalize="weights", **options)
    torch.testing.assert_close(mean, pairs.sum() / p.sum(-1).square().sum(), rtol=1e-12, atol=1e-12)


def test_reductions_agree(batch) -> None:
    for options in DECOUPLED.values():
        none, total, mean = (
            decoupled_kl(
                batch.student, batch.teacher, batch.weights, sample_weight=batch.mask, reduction=reduction, **options
            )
            for reduction in ("none", "sum", "mean")
        )
        torch.testing.assert_close(none.sum(), total)
        torch.testing.assert_close(none.mean(), mean)


def test_backward_may_run_twice(batch) -> None:
    loss = decoupled_kl(batch.student, batch.teacher, batch.weights)
    first = torch.autograd.grad(loss, batch.student, retain_graph=True)[0].clone()
    second = torch.autograd.grad(3 * loss, batch.student)[0]
    torch.testing.assert_close(second, 3 * first)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("normalize", ["batch", "weights"])
def test_label_losses(normalize: str, reduction: str, batch) -> None:
    counts = torch.tensor([100.0, 50, 20, 10, 5, 1, 0], dtype=torch.float64)
    common = {"normalize": normalize, "sample_weight": batch.mask, "reduction": reduction}
    weights = {"class_weights": torch.arange(1, 8, dtype=torch.float64)}
    losses = [
        partial(cross_entropy, **common, **weights),
        partial(focal, gamma=2.0, **common, **weights),
        partial(focal, gamma=0.5, **common),
        partial(balanced_softmax, class_counts=counts, **common, **weights),
        partial(logit_adjusted, class_counts=counts, tau=1.5, **common, **weights),
        partial(ldam, class_counts=counts, scale=3.0, **common, **weights),
        partial(class_balanced, class_counts=counts, effective_beta=0.99, **common),
    ]
    for loss in losses:
        assert gradcheck(lambda z, loss=loss: loss(z, batch.labels), (batch.student,))


def gradient(loss, at: Tensor) -> Tensor:
    return torch.autograd.grad(loss(at), at)[0]


@pytest.mark.parametrize("normalize", ["batch", "weights"])
@pytest.mark.parametrize("gamma", [1.0, 0.4])
def test_the_gradient_through_the_weights_is_that_of_the_written_formula(gamma: float, normalize: str) -> None:
    """Weights with a gradient, as in the authors' semi-supervised code, against autograd over pairs of classes."""
    draw = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(5, 7, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2))
    options = {"gamma": gamma, "normalize": normalize, "weight_temperature": 2.0, "beta": 3.0}
    loss = decoupled_kl(student, teacher, detach_teacher=False, detach_weights=False, **options)
    p = torch.softmax(teacher / 2, 1) ** gamma
    d = teacher - student
    pairs = p[:, :, None] * p[:, None, :] * (d[:, :, None] - d[:, None, :]) ** 2
    divisor = 5 if normalize == "batch" else (p.sum(1) ** 2).sum().detach()
    soft = -(torch.softmax(teacher, 1).detach() * torch.log_softmax(student, 1)).sum(1).mean()
    expected = soft + 3 * pairs.sum() / 4 / divisor
    for got, wanted in zip(
        torch.autograd.grad(loss, (student, teacher)), torch.autograd.grad(expected, (student, teacher)), strict=True
    ):
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-12)
    assert torch.allclose(loss, expected, rtol=1e-12)


def test_weights_with_a_gradient_need_a_teacher_with_one() -> None:
    with pytest.raises(UserError, match="give detach_teacher=False as well"):
        GKL(4, detach_weights=False)
