"""The published reference implementations' values and gradients, forty cases in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tailmatch.losses import decoupled_kl, dkd, kl

ARCHIVE = np.load(Path(__file__).with_name("golden_losses.npz"), allow_pickle=False)
CASES = json.loads(bytes(ARCHIVE["cases"]).decode())


def array(case: dict[str, Any], name: str) -> Tensor | None:
    key = f"{case['id']}.{name}"
    return torch.from_numpy(np.array(ARCHIVE[key])) if key in ARCHIVE.files else None


def ours(case: dict[str, Any], student: Tensor, teacher: Tensor) -> Tensor:
    name, params = case["name"], case["params"]
    if name == "kd":
        return kl(student, teacher, **params)
    if name == "dkd":
        return dkd(student, teacher, array(case, "labels"), **params)
    return decoupled_kl(
        student,
        teacher,
        array(case, "class_weights"),
        normalize="weights" if "gkl" in name else "batch",
        detach_teacher=not case["teacher_grad"],
        sample_weight=array(case, "mask"),
        **params,
    )


def test_there_are_forty_cases() -> None:
    assert len(CASES) == 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['name']}")
def test_loss_and_gradients_equal_the_reference(case: dict[str, Any]) -> None:
    student = array(case, "student").requires_grad_()
    teacher = array(case, "teacher").requires_grad_(case["teacher_grad"])
    loss = ours(case, student, teacher)
    loss.backward()
    pairs = [(loss.detach(), array(case, "loss")), (student.grad, array(case, "grad_student"))]
    if case["teacher_grad"]:
        pairs.append((teacher.grad, array(case, "grad_teacher")))
    for got, expected in pairs:
        assert float((got - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
