"""The long-tail losses against their definitions written plainly."""

import pytest
import torch
import torch.nn.functional as F

from tailmatch.losses import (
    BalancedSoftmax,
    ClassBalanced,
    CrossEntropy,
    balanced_softmax,
    class_balanced,
    cross_entropy,
    effective_number_weights,
    focal,
    ldam,
    logit_adjusted,
    soft_cross_entropy,
)

COUNTS = torch.tensor([1000.0, 300, 80, 20, 6, 2, 1], dtype=torch.float64)


def test_balanced_softmax_weighs_the_exponentials_by_the_counts(batch) -> None:
    z = batch.student.detach()
    p = COUNTS * z.exp()
    expected = -(p / p.sum(-1, keepdim=True))[torch.arange(5), batch.labels].log()
    torch.testing.assert_close(balanced_softmax(z, batch.labels, COUNTS, reduction="none"), expected)


def test_logit_adjustment_at_tau_one_is_balanced_softmax_and_at_zero_cross_entropy(batch) -> None:
    z = batch.student.detach()
    torch.testing.assert_close(
        logit_adjusted(z, batch.labels, COUNTS), balanced_softmax(z, batch.labels, COUNTS), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(logit_adjusted(z, batch.labels, COUNTS, tau=0.0), F.cross_entropy(z, batch.labels))


def test_a_classifier_of_balanced_logits_plus_prior_is_a_fixed_point() -> None:
    """Where p(y|x) is proportional to prior times exp z, Balanced Softmax's gradient vanishes on average."""
    z = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(7)
    rows = balanced_softmax(z.expand(7, 7), labels, COUNTS, reduction="none")
    (rows * COUNTS / COUNTS.sum()).sum().backward()
    assert float(z.grad.abs().max()) < 1e-12


def test_ldam_takes_the_margin_from_the_label(batch) -> None:
    z = batch.student.detach()
    margins = COUNTS**-0.25 / (COUNTS**-0.25).max() * 0.5
    shifted = z.clone()
    for row, label in enumerate(batch.labels):
        shifted[row, label] -= margins[label]
    expected = F.cross_entropy(30 * shifted, batch.labels)
    torch.testing.assert_close(ldam(z, batch.labels, COUNTS), expected)
    torch.testing.assert_close(
        ldam(z, batch.labels, COUNTS, max_margin=0.0, scale=1.0), F.cross_entropy(z, batch.labels)
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal(gamma: float, batch) -> None:
    z = batch.student.detach()
    p = torch.softmax(z, -1)[torch.arange(5), batch.labels]
    torch.testing.assert_close(focal(z, batch.labels, gamma=gamma), (-((1 - p) ** gamma) * p.log()).mean())


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 0.9999999])
def test_effective_numbers(beta: float) -> None:
    weights = effective_number_weights(COUNTS, beta)
    plain = (1 - beta) / (1 - beta**COUNTS)
    torch.testing.assert_close(weights, plain / plain.sum() * 7, rtol=1e-6, atol=0)
    assert float(weights.sum()) == pytest.approx(7)


def test_effective_numbers_between_equal_and_inverse_frequency() -> None:
    assert torch.equal(effective_number_weights(COUNTS, 0.0), torch.ones_like(COUNTS))
    inverse = (1 / COUNTS) / (1 / COUNTS).sum() * 7
    torch.testing.assert_close(effective_number_weights(COUNTS, 1 - 1e-12), inverse, rtol=1e-6, atol=0)


def test_class_balanced_is_torchs_weighted_cross_entropy(batch) -> None:
    z, weights = batch.student.detach(), effective_number_weights(COUNTS)
    got = class_balanced(z, batch.labels, COUNTS)
    torch.testing.assert_close(got, F.cross_entropy(z, batch.labels, weight=weights))
    by_batch = class_balanced(z, batch.labels, COUNTS, normalize="batch")
    expected = F.cross_entropy(z, batch.labels, weight=weights, reduction="none").sum() / 5
    torch.testing.assert_close(by_batch, expected)


def test_reweighing_later_turns_cross_entropy_into_class_balanced(batch) -> None:
    args = (batch.student.detach().float(), batch.labels)
    deferred = CrossEntropy(COUNTS)
    torch.testing.assert_close(deferred(*args), cross_entropy(*args))
    deferred.reweigh(0.999)
    torch.testing.assert_close(deferred(*args), ClassBalanced(COUNTS, effective_beta=0.999)(*args))
    resumed = CrossEntropy(COUNTS)
    resumed.load_state_dict(deferred.state_dict())
    assert torch.equal(resumed(*args), deferred(*args))


def test_a_class_without_images_is_finite() -> None:
    loss = BalancedSoftmax([5, 0, 3])
    assert loss(torch.zeros(2, 3), torch.tensor([1, 2])).isfinite()


def test_soft_cross_entropy_against_one_hot_is_cross_entropy(batch) -> None:
    z = batch.student.detach()
    sure = 1e4 * F.one_hot(batch.labels, 7).double()
    torch.testing.assert_close(soft_cross_entropy(z, sure), cross_entropy(z, batch.labels))
