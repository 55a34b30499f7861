"""The prior-adjusted comparison of teacher and student."""

import pytest
import torch

from tailmatch.errors import UserError
from tailmatch.losses import PriorAdjusted, build_loss

COUNTS = torch.tensor([90, 9, 1, 0])
LOG_PRIOR = (COUNTS.clamp_min(1) / 101).log()


def logits(seed: int) -> torch.Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])


@pytest.mark.parametrize("name", ["kl", "ikl", "gkl", "dkd", "js"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_a_balanced_copy_of_the_teacher_is_the_best_student(name: str, rho: float) -> None:
    loss = PriorAdjusted(build_loss(name, 4), COUNTS, tau=1.0, rho=rho)
    teacher = logits(0)
    loss.observe(teacher, LABELS)
    loss.roll()
    best = (teacher - LOG_PRIOR).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(best, teacher, LABELS), best)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    other = logits(1)
    assert loss(other, teacher, LABELS) > loss(best, teacher, LABELS)


@pytest.mark.parametrize("name", ["kl", "ikl", "gkl"])
def test_without_adjustment_it_is_the_inner_loss(name: str) -> None:
    plain, wrapped = build_loss(name, 4), PriorAdjusted(build_loss(name, 4), COUNTS, tau=0.0, weight_rho=0.0)
    for loss in (plain, wrapped):
        loss.observe(logits(0), LABELS)
        loss.roll()
    torch.testing.assert_close(wrapped(logits(1), logits(0), LABELS), plain(logits(1), logits(0), LABELS))


def test_differences_do_not_depend_on_the_measure() -> None:
    def squared(rho: float) -> torch.Tensor:
        # Uniform weights (gamma = 0) leave the wMSE to the differences alone.
        loss = PriorAdjusted(build_loss("gkl", 4, alpha=0.0, gamma=0.0), COUNTS, tau=1.0, rho=rho)
        return loss(logits(1), logits(0), LABELS)

    torch.testing.assert_close(squared(0.0), squared(1.0))


def test_class_means_are_collected_without_the_prior() -> None:
    loss = PriorAdjusted(build_loss("ikl", 4), COUNTS, weight_rho=1.0)
    loss.observe(LOG_PRIOR.expand(8, 4), LABELS)  # a teacher that knows the prior and nothing else
    loss.roll()
    torch.testing.assert_close(loss.loss.class_means.means, torch.full((4, 4), 0.25))  # type: ignore[union-attr]


def test_its_state_is_that_of_the_inner_loss() -> None:
    names = {f"loss.class_means.{name}" for name in ("means", "sums", "counts")}
    assert set(PriorAdjusted(build_loss("ikl", 4), COUNTS).state_dict()) == names


def test_refuses_a_negative_strength() -> None:
    with pytest.raises(UserError, match="tau"):
        PriorAdjusted(build_loss("kl", 4), COUNTS, tau=-1.0)


def test_the_counts_may_be_a_list_as_for_the_losses_against_labels() -> None:
    listed, given = (PriorAdjusted(build_loss("ikl", 4), counts) for counts in (COUNTS.tolist(), COUNTS))
    torch.testing.assert_close(listed.log_prior, given.log_prior, rtol=0, atol=0)
    torch.testing.assert_close(listed(logits(0), logits(1), LABELS), given(logits(0), logits(1), LABELS))


@pytest.mark.parametrize("counts", [[], [5], [5, -1, 2], [[1, 2], [3, 4]]])
def test_counts_that_are_none_are_refused_in_one_sentence(counts: list) -> None:
    with pytest.raises(UserError, match="class_counts must hold one non-negative number for each of at least 2"):
        PriorAdjusted(build_loss("ikl", 3), counts)
