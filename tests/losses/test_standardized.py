"""Logit standardisation: which logits it takes for equal, and that it composes with every loss."""

import pytest
import torch
import torch.nn.functional as F

from tailmatch.losses import KL, Standardized, build_loss
from tailmatch.losses.catalog import LOSSES
from tailmatch.losses.standardized import z_scores

COUNTS = torch.tensor([40, 10, 2, 7])


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher, torch.tensor([0, 1, 2, 3, 0, 1])


def test_equals_the_loss_of_logits_standardised_by_hand() -> None:
    student, teacher, labels = pair()
    rows = []
    for s, t in zip(student, teacher, strict=True):
        z_s, z_t = ((row - row.mean()) / row.std() for row in (s, t))
        rows.append(2.0**2 * F.kl_div((z_s / 2).log_softmax(0), (z_t / 2).softmax(0), reduction="sum"))
    expected = torch.stack(rows).mean()
    found = Standardized(KL(temperature=2.0))(student, teacher, labels)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ce"])
def test_every_loss_takes_logits_of_one_shape_for_equal(name: str) -> None:
    student, teacher, labels = pair()
    loss = Standardized(build_loss(name, 4, COUNTS).double())
    plain, scaled = loss(student, teacher, labels), loss(5 * student + 2, 0.1 * teacher - 7, labels)
    torch.testing.assert_close(plain, scaled, rtol=1e-4, atol=1e-7)
    plain.backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())
    # Along the two directions that leave the z-scores alone nothing pulls.
    torch.testing.assert_close(student.grad.sum(1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close((student.grad * student).sum(1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-5)


def test_class_means_are_those_of_the_teachers_z_scores() -> None:
    _, teacher, labels = pair()
    loss = Standardized(build_loss("ikl", 4))
    loss.observe(teacher, labels)
    loss.roll()
    of_first = z_scores(teacher).softmax(1)[labels == 0].mean(0)
    means = loss.state_dict()["loss.class_means.means"]
    torch.testing.assert_close(means[0], of_first.to(means.dtype), rtol=1e-5, atol=1e-6)


def test_equal_logits_are_no_reason_to_stop() -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    Standardized(KL())(student, torch.randn(2, 4), torch.tensor([0, 1])).backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())
