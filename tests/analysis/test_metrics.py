"""Metrics against scikit-learn, against float64 definitions, and at the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score

from tailmatch.analysis.groups import Groups
from tailmatch.analysis.metrics import METRICS, calibration_error, geometric_mean, harmonic_mean, metrics_of
from tailmatch.analysis.outcome import NotFinite, Outcome, outcome_of_logits

NO_GROUPS = Groups("none")


def sample(classes: int, samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, samples - classes)])
    return generator.normal(0, 3, (samples, classes)).astype(np.float32), labels


@settings(max_examples=30, deadline=None)
@given(classes=st.integers(2, 30), seed=st.integers(0, 10**6))
def test_against_scikit_learn(classes: int, seed: int) -> None:
    logits, labels = sample(classes, 120, seed)
    outcome = outcome_of_logits([logits[:50], logits[50:]], labels)
    got = {name: values["all"] for name, values in metrics_of(outcome, NO_GROUPS, classes).items()}
    predictions = logits.argmax(1)
    scores = np.exp(logits.astype(np.float64))
    probabilities = scores / scores.sum(1, keepdims=True)
    assert got["top1"] == pytest.approx((predictions == labels).mean())
    assert got["balanced"] == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert got["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    assert got["nll"] == pytest.approx(log_loss(labels, probabilities, labels=np.arange(classes)), rel=1e-5)
    assert got["brier"] == pytest.approx(((probabilities - np.eye(classes)[labels]) ** 2).sum(1).mean(), rel=1e-4)
    assert ("top5" in got) == (classes > 10)
    if classes > 10:
        assert got["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=np.arange(classes)))


def test_groups_are_means_over_classes_for_every_metric() -> None:
    logits, labels = sample(12, 400)
    outcome = outcome_of_logits([logits], labels)
    groups = Groups("given", (0, 1, 2), (3,), ())
    found = metrics_of(outcome, groups, 12)
    assert list(found) == list(METRICS)
    per_class = [[outcome.correct[labels == c].mean(), outcome.nll[labels == c].mean()] for c in range(3)]
    accuracy, nll = np.mean(per_class, axis=0)
    assert found["top1"]["many"] == pytest.approx(accuracy)
    assert found["nll"]["many"] == pytest.approx(nll, rel=1e-6)
    assert found["worst"]["many"] == pytest.approx(min(row[0] for row in per_class))
    assert all(values["few"] is None for values in found.values())


def test_a_class_without_test_samples_is_in_no_metric() -> None:
    outcome = Outcome(labels=np.array([0, 0, 1]), predictions=np.array([0, 2, 1]))
    found = metrics_of(outcome, Groups("given", many=(0, 1), few=(2,)), 3)
    assert set(found) == {"top1", "balanced", "macro_f1", "worst", "harmonic", "geometric"}
    assert found["balanced"]["all"] == 0.75
    assert found["macro_f1"]["all"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["worst"]["few"] is None


def test_means_with_a_zero() -> None:
    assert harmonic_mean(np.array([0.5, 0.25])) == pytest.approx(1 / 3)
    assert geometric_mean(np.array([0.5, 0.125])) == pytest.approx(0.25)
    assert harmonic_mean(np.array([0.5, 0.0])) == geometric_mean(np.array([0.5, 0.0])) == 0


def test_calibration_error_by_hand() -> None:
    # Two bins of ten: 0.85 and 0.9 (right-closed) share one, with half of them right; 1.0 is in the last.
    confidence = np.array([0.85, 0.9, 1.0])
    correct = np.array([True, False, True])
    assert calibration_error(confidence, correct, bins=10) == pytest.approx(2 / 3 * abs(0.5 - 0.875))
    assert calibration_error(np.full(4, 0.25), np.array([True, False, False, False])) == pytest.approx(0)


def test_top_five_breaks_ties_by_class_order() -> None:
    logits = np.zeros((12, 12), np.float32)
    outcome = outcome_of_logits([logits], np.arange(12))
    assert outcome.in_top.tolist() == [True] * 5 + [False] * 7
    assert (outcome.predictions == 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(6, 20))
def test_top_five_is_the_stable_order(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.integers(0, 4, (30, classes)).astype(np.float16)  # many ties
    labels = generator.integers(0, classes, 30)
    outcome = outcome_of_logits([logits], labels)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    assert outcome.in_top.tolist() == [label in row for label, row in zip(labels, order, strict=True)]


def test_chunks_make_no_difference_and_shifts_neither() -> None:
    logits, labels = sample(7, 60)
    whole = outcome_of_logits([logits], labels)
    pieces = outcome_of_logits([logits[:1] + 80, logits[1:40], logits[40:] - 500], labels)
    for name in ("predictions", "in_top"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))
    for name in ("confidence", "nll", "brier"):
        np.testing.assert_allclose(getattr(whole, name), getattr(pieces, name), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits, labels = sample(5, 40)
    logits[33, 2] = bad
    with pytest.raises(NotFinite, match="sample 33 has logits that are not finite"):
        outcome_of_logits([logits[:30], logits[30:]], labels)


def test_a_probability_of_zero_is_allowed() -> None:
    outcome = outcome_of_logits([np.array([[0.0, -np.inf], [0.0, -np.inf]])], np.array([0, 1]))
    assert outcome.nll.tolist() == [0, np.inf]
    assert outcome.confidence.tolist() == [1, 1]
