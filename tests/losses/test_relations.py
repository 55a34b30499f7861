"""DIST beside correlations computed by numpy."""

import numpy as np
import pytest
import torch

from tailmatch.losses import dist


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 4.0), (2.0, 0.0, 1.0), (0.0, 3.0, 2.0)])
def test_it_is_the_correlations_of_rows_and_columns(beta: float, gamma: float, temperature: float, batch) -> None:
    student, teacher = (
        torch.softmax(logits.detach() / temperature, 1).numpy() for logits in (batch.student, batch.teacher)
    )
    rows = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(student, teacher, strict=True)])
    columns = np.mean([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(student.T, teacher.T, strict=True)])
    loss = dist(batch.student, batch.teacher, beta=beta, gamma=gamma, temperature=temperature)
    assert float(loss.detach()) == pytest.approx(temperature**2 * (beta * rows + gamma * columns), rel=1e-9)


def test_the_gradient_is_that_of_the_written_formula(batch) -> None:
    own, written = (batch.student.detach().clone().requires_grad_() for _ in range(2))
    s, t = torch.softmax(written / 4, 1), torch.softmax(batch.teacher.detach() / 4, 1)
    within = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(s, t, strict=True)]).mean()
    between = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(s.T, t.T, strict=True)]).mean()
    (16 * (2 - within - between)).backward()
    dist(own, batch.teacher).backward()
    torch.testing.assert_close(own.grad, written.grad, rtol=1e-9, atol=1e-12)


def test_samples_without_weight_are_as_if_they_were_not_there(batch) -> None:
    kept = batch.mask > 0
    whole = dist(batch.student, batch.teacher, sample_weight=kept.double())
    alone = dist(batch.student[kept], batch.teacher[kept])
    torch.testing.assert_close(whole, alone * kept.double().mean())


def test_shift_and_scale_of_the_probabilities_do_not_count() -> None:
    teacher = torch.randn(6, 5, dtype=torch.float64)
    mixed = (0.5 * torch.softmax(teacher, 1) + 0.1).log()  # softmax(log p) is p over its sum
    assert float(dist(mixed, teacher, temperature=1.0)) < 1e-5
