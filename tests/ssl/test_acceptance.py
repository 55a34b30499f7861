"""Each rule of acceptance against its paper's formula, on numbers small enough to check by hand."""

import math

import pytest
import torch

from tailmatch.declare import build
from tailmatch.ssl import FixedThreshold, Predictions
from tailmatch.ssl.acceptance import DashThreshold, RelativeThreshold
from tailmatch.ssl.adaptive_acceptance import CurriculumThreshold, GaussianWeight, SelfAdaptiveThreshold
from tailmatch.ssl.alignment import DistributionAlignment, UniformAlignment
from tailmatch.ssl.catalog import ACCEPTANCES


def rows(*confidences, classes=3):
    """Probabilities with these largest values, at class 0, 1, 2, 0, ... in turn."""
    found = torch.empty(len(confidences), classes)
    for row, confidence in enumerate(confidences):
        found[row] = (1 - confidence) / (classes - 1)
        found[row, row % classes] = confidence
    return found


def seen(unlabeled, labeled=None, labels=None, index=None, step=0):
    labeled = rows(0.8, 0.9, 1.0) if labeled is None else labeled
    return Predictions(
        unlabeled=unlabeled,
        labeled=labeled,
        labels=torch.arange(len(labeled)) % unlabeled.shape[1] if labels is None else labels,
        index=torch.arange(len(unlabeled)) if index is None else index,
        step=step,
    )


def test_fixed_threshold_accepts_from_the_threshold_on():
    weight = FixedThreshold(0.75)(seen(rows(0.74, 0.75, 0.9)))
    assert weight.tolist() == [0, 1, 1]


def test_relative_threshold_is_a_share_of_the_labelled_confidence():
    rule = RelativeThreshold(0.9)
    assert rule(seen(rows(0.8, 0.82, 0.9))).tolist() == [0, 1, 1]  # 0.9 * mean(0.8, 0.9, 1.0) = 0.81
    assert rule.thresholds().item() == pytest.approx(0.81)


def test_flexmatch_lowers_the_threshold_of_classes_it_has_learned_little_of():
    rule = CurriculumThreshold(0.9, num_classes=3, unlabeled_count=10)
    # Nothing learned: every class's status is 0, so everything is accepted, as with the paper's warm-up.
    assert rule(seen(rows(0.95, 0.95, 0.5))).tolist() == [1, 1, 1]
    assert rule.counts.tolist() == [8, 1, 1, 0]
    assert rule.learned[:3].tolist() == [1, 2, 0]
    status = 1 / 8
    expected = 0.9 * status / (2 - status)
    assert rule.thresholds().tolist() == pytest.approx([expected, expected, 0])
    # An image that changes its mind moves, one that loses confidence stays.
    rule(seen(rows(0.5, 0.99), index=torch.tensor([0, 0])))
    assert rule.counts.tolist() == [8, 0, 2, 0]
    rule(seen(rows(*[0.99] * 9), index=torch.arange(1, 10)))
    assert rule.counts.sum() == 10
    assert rule.thresholds().amax() == pytest.approx(0.9)


def test_freematch_follows_running_means():
    rule = SelfAdaptiveThreshold(3, momentum=0.5)
    probabilities = rows(0.9, 0.6, 0.9, 0.9)
    weight = rule(seen(probabilities))
    confidence = 0.5 / 3 + 0.5 * probabilities.amax(1).mean().item()
    mean = 0.5 / 3 + 0.5 * probabilities.mean(0)
    expected = confidence * mean / mean.max()
    assert torch.allclose(rule.thresholds(), expected)
    assert weight.tolist() == (probabilities.amax(1) >= expected[probabilities.argmax(1)]).float().tolist()


def test_freematchs_fairness_is_minus_the_cross_entropy_of_the_scaled_means():
    rule = SelfAdaptiveThreshold(3, fairness_weight=0.5)
    rule.mean.copy_(torch.tensor([0.5, 0.3, 0.2]))
    rule.histogram.copy_(torch.tensor([0.6, 0.4, 0.0]))
    student = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    accepted = torch.tensor([1.0, 1.0, 1.0, 0.0])
    mean, histogram = student[:3].mean(0), torch.tensor([2 / 3, 1 / 3, 0.0])
    wanted = torch.tensor([0.5 / 0.6, 0.3 / 0.4, 0.0])
    got = torch.tensor([mean[0] / histogram[0], mean[1] / histogram[1], 0.0])
    expected = (wanted[:2] / wanted.sum() * (got[:2] / got.sum()).log()).sum()
    assert rule.fairness(student.log(), accepted).item() == pytest.approx(0.5 * expected.item(), rel=1e-5)
    assert rule.fairness(student.log(), torch.zeros(4)) == 0
    assert SelfAdaptiveThreshold(3, fairness_weight=0.0).fairness(student, accepted) is None


def test_softmatch_weighs_by_a_gaussian_below_the_running_mean():
    rule = GaussianWeight(3, momentum=0.0)
    probabilities = rows(0.4, 0.6, 0.8)
    variance = torch.tensor([0.4, 0.6, 0.8]).var(unbiased=True).item()
    weight = rule(seen(probabilities))
    expected = math.exp(-((0.4 - 0.6) ** 2) / (2 * variance / 4))
    assert weight.tolist() == pytest.approx([expected, 1, 1], rel=1e-4)
    assert rule.thresholds().item() == pytest.approx(0.6)
    assert rule.variance.item() == pytest.approx(variance, rel=1e-5)


def test_dash_starts_at_the_labelled_loss_and_ends_at_its_floor():
    rule = DashThreshold(steps=1024)
    labeled = rows(0.5, 0.5, 0.5)
    assert rule(seen(rows(0.99), labeled, step=0)).tolist() == [0]
    rule(seen(rows(0.99), labeled, step=1))
    assert rule.first_loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert rule(seen(rows(0.51, 0.49, 0.9), labeled, step=2)).tolist() == [1, 0, 1]
    assert rule.rho.item() == pytest.approx(1.0001 * math.log(2), rel=1e-5)
    rule(seen(rows(0.9), labeled, step=2 + 9))
    assert rule.rho.item() == pytest.approx(1.0001 * math.log(2) / 1.27, rel=1e-5)
    rule(seen(rows(0.9), labeled, step=1000))
    assert rule.thresholds().item() == pytest.approx(math.exp(-0.05))


@pytest.mark.parametrize("name", ACCEPTANCES)
def test_every_rule_survives_its_state_dict(name):
    facts = {"num_classes": 3, "unlabeled_count": 4, "steps": 10}
    values = {"threshold": 0.8, "fairness_weight": 0.01, "running_momentum": 0.9}
    options = {option: values.get(option, declared.default) for option, declared in ACCEPTANCES[name].options.items()}
    rule, other = (build("acceptance", name, ACCEPTANCES, facts, options) for _ in range(2))
    draw = torch.Generator().manual_seed(0)
    for step in range(3):
        rule(seen(torch.rand(4, 3, generator=draw).softmax(1), step=step))
    other.load_state_dict(rule.state_dict())
    probabilities = torch.rand(4, 3, generator=draw).softmax(1)
    weight, same = rule(seen(probabilities, step=3)), other(seen(probabilities, step=3))
    assert torch.equal(weight, same)
    assert bool(((weight >= 0) & (weight <= 1)).all())


def test_distribution_alignment_pulls_towards_the_labelled_predictions():
    alignment = DistributionAlignment(3, momentum=0.0)
    unlabeled = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]])
    labeled = torch.tensor([[0.2, 0.4, 0.4]])
    alignment.observe(seen(unlabeled, labeled))
    aligned = (unlabeled.log() + alignment.shift()).softmax(1)
    expected = unlabeled * torch.tensor([0.2, 0.4, 0.4]) / unlabeled.mean(0)
    assert torch.allclose(aligned, expected / expected.sum(1, keepdim=True))


def test_uniform_alignment_is_for_acceptance_alone():
    alignment = UniformAlignment(3, momentum=0.0)
    unlabeled = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]])
    alignment.observe(seen(unlabeled))
    expected = unlabeled / unlabeled.mean(0)
    aligned = (unlabeled.log() + alignment.shift()).softmax(1)
    assert torch.allclose(aligned, expected / expected.sum(1, keepdim=True))
    assert not alignment.shifts_targets
