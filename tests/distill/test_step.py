"""The distillation step: what learns, what does not, and when class means come into use."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tailmatch.distill.step import Distillation, FrozenTeacher, LabelsOnly
from tailmatch.engine.profile import Profile
from tailmatch.losses import build_label_loss, build_loss
from tailmatch.losses.catalog import LOSSES

COUNTS = torch.tensor([40, 10, 2])
PROFILE = Profile(False, torch.device("cpu"))


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def distillation(loss: str = "kl", **options: float) -> tuple[Distillation, nn.Module]:
    teacher = network(1)
    method = Distillation(
        FrozenTeacher(teacher, nullcontext),
        build_label_loss("cross-entropy", COUNTS),
        build_loss(loss, 3, COUNTS),
        **options,
    )
    return method, teacher


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 2, 2, generator=generator), torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("loss", list(LOSSES))
def test_gradients_reach_the_student_alone(loss: str) -> None:
    method, teacher = distillation(loss)
    before, student = copy.deepcopy(teacher.state_dict()), network(2)
    losses = method(student.train(), *batch(), PROFILE)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_the_teacher_is_no_part_of_the_state() -> None:
    method, _ = distillation("ikl")
    assert set(method.state_dict()) == {
        "label_loss.class_counts",
        "label_loss.class_weights",
        *(f"loss.class_means.{name}" for name in ("means", "sums", "counts")),
    }


def test_the_terms_are_the_two_losses_times_their_weights() -> None:
    images, labels = batch()
    method, teacher = distillation("kl", label_weight=0.5, kd_weight=3.0)
    student = network(2).eval()
    losses = method(student, images, labels, PROFILE)
    with torch.no_grad():
        hard = nn.functional.cross_entropy(student(images), labels)
        soft = nn.functional.kl_div(student(images).log_softmax(1), teacher(images).softmax(1), reduction="batchmean")
    torch.testing.assert_close(losses["supervised"], 0.5 * hard)
    torch.testing.assert_close(losses["distillation"], 3.0 * soft)


def test_the_teachers_weight_rises_over_the_warm_up() -> None:
    images, labels = batch()
    method, _ = distillation("kl", kd_weight=3.0, warmup_epochs=4.0)
    plain, _ = distillation("kl", kd_weight=3.0)
    student = network(2).eval()
    full = plain(student, images, labels, PROFILE)
    for epoch, share in ((0, 0.25), (1, 0.5), (3, 1.0), (90, 1.0)):
        losses = method(student, images, labels, PROFILE, None, epoch)
        torch.testing.assert_close(losses["distillation"], share * full["distillation"])
        torch.testing.assert_close(losses["supervised"], full["supervised"])


def test_class_means_come_into_use_at_the_epochs_end() -> None:
    method, teacher = distillation("ikl")
    images, labels = batch()
    means = method.loss.class_means.means  # type: ignore[union-attr]
    method(network(2), images, labels, PROFILE)
    assert torch.equal(means, torch.full((3, 3), 1 / 3))
    method.end_epoch()
    with torch.no_grad():
        expected = teacher(images).softmax(1).view(3, 2, 3).mean(1)
    torch.testing.assert_close(means, expected)


def test_without_a_teacher_only_the_labels_count() -> None:
    images, labels = batch()
    student = network(2).eval()
    losses = LabelsOnly(build_label_loss("cross-entropy", COUNTS))(student, images, labels, PROFILE)
    torch.testing.assert_close(losses, {"supervised": nn.functional.cross_entropy(student(images), labels)})
