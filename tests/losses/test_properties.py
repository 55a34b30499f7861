"""What theory says of the losses, on logits drawn by hypothesis."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tailmatch.losses import decoupled_kl, dkd, js, kl, mse


@st.composite
def logits_pairs(draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student, teacher [B, C], labels [B], class weights [B, C]."""
    batch, classes = draw(st.integers(1, 5)), draw(st.integers(2, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0, 100.0]))
    student, teacher = scale * torch.randn(2, batch, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (batch,), generator=generator)
    return student, teacher, labels, torch.rand(batch, classes, generator=generator, dtype=torch.float64)


def wmse(student: Tensor, teacher: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return decoupled_kl(student, teacher, weights, alpha=0.0, gamma=0.5, reduction="none")


DIVERGENCES = {
    "kl": lambda s, t, labels, weights: kl(s, t, reduction="none"),
    "kl at T 4": lambda s, t, labels, weights: kl(s, t, temperature=4.0, reduction="none"),
    "js": lambda s, t, labels, weights: js(s, t, reduction="none"),
    "mse": lambda s, t, labels, weights: mse(s, t, reduction="none"),
    "dkd": lambda s, t, labels, weights: dkd(s, t, labels, temperature=1.0, reduction="none"),
    "wmse": wmse,
}
every_divergence = pytest.mark.parametrize("name", DIVERGENCES)
quick = settings(max_examples=30, deadline=None)


@every_divergence
@quick
@given(pair=logits_pairs())
def test_never_negative(name: str, pair) -> None:
    assert float(DIVERGENCES[name](*pair).min()) >= -1e-12


@every_divergence
@quick
@given(pair=logits_pairs())
def test_zero_at_equality_with_zero_gradient(name: str, pair) -> None:
    student, _, labels, weights = pair
    student.requires_grad_()
    loss = DIVERGENCES[name](student, student.detach().clone(), labels, weights)
    assert float(loss.detach().abs().max()) <= 1e-12
    assert float(torch.autograd.grad(loss.sum(), student)[0].abs().max()) <= 1e-12


@every_divergence
@quick
@given(pair=logits_pairs(), offsets=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)))
def test_blind_to_an_offset_of_either_side(name: str, pair, offsets) -> None:
    student, teacher, labels, weights = pair
    plain = DIVERGENCES[name](student, teacher, labels, weights)
    shifted = DIVERGENCES[name](student + offsets[0], teacher + offsets[1], labels, weights)
    torch.testing.assert_close(shifted, plain, rtol=1e-7, atol=1e-9)


@every_divergence
@quick
@given(pair=logits_pairs(), seed=st.integers(0, 2**31))
def test_blind_to_the_order_of_classes_and_rows(name: str, pair, seed: int) -> None:
    student, teacher, labels, weights = pair
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(student.shape[0], generator=generator)
    columns = torch.randperm(student.shape[1], generator=generator)
    moved_labels = columns.argsort()[labels][rows]
    moved = [tensor[rows][:, columns] for tensor in (student, teacher, weights)]
    got = DIVERGENCES[name](moved[0], moved[1], moved_labels, moved[2])
    torch.testing.assert_close(got, DIVERGENCES[name](student, teacher, labels, weights)[rows], rtol=1e-9, atol=1e-12)


@quick
@given(pair=logits_pairs())
def test_js_is_symmetric_and_bounded(pair) -> None:
    student, teacher, *_ = pair
    there, back = js(student, teacher, reduction="none"), js(teacher, student, reduction="none")
    torch.testing.assert_close(there, back, rtol=1e-9, atol=1e-12)
    assert float(there.max()) <= 0.6931471805599454


@quick
@given(pair=logits_pairs())
def test_gradient_rows_sum_to_zero(pair) -> None:
    """An offset of the student changes nothing, so its gradient has no component along one."""
    student, teacher, _, weights = pair
    student.requires_grad_()
    loss = decoupled_kl(student, teacher, weights, gamma=0.3, normalize="weights")
    grad = torch.autograd.grad(loss, student)[0]
    assert float(grad.sum(-1).abs().max()) <= 1e-12 * max(1.0, float(grad.abs().max()))
