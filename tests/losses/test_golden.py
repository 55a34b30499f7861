"""The published reference implementations' values and gradients, forty cases in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tailmatch.losses import IKL, decoupled_kl, dkd, kl

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


RELEASED = np.load(Path(__file__).with_name("golden_released.npz"), allow_pickle=False)
RELEASED_CASES = json.loads(bytes(RELEASED["cases"]).decode())
COMMANDS = {
    "imagenet_lt_released": {},
    "ssl_ikl_attached": {"detach_teacher": False, "detach_weights": False},
    "mean_teacher_ikl": {},
}


def test_every_released_command_is_there() -> None:
    assert {case["name"] for case in RELEASED_CASES} == set(COMMANDS)


@pytest.mark.parametrize("case", RELEASED_CASES, ids=lambda case: case["id"])
def test_losses_of_released_commands_equal_the_reference(case: dict[str, Any]) -> None:
    """What the authors' published commands run, which is not always what the paper describes."""

    def array(name: str) -> Tensor:
        return torch.from_numpy(np.array(RELEASED[f"{case['id']}.{name}"]))

    params, attached = case["params"], case["teacher_grad"]
    loss = IKL(
        len(array("student")[0]),
        weights="sample",
        alpha=params["alpha"],
        beta=params["beta"],
        weight_temperature=params["T2"],
        **COMMANDS[case["name"]],
    )
    student, teacher = array("student").requires_grad_(), array("teacher").requires_grad_(attached)
    value = loss(student, teacher, array("labels"), sample_weight=array("mask"))
    value.backward()
    pairs = [(value.detach(), array("loss")), (student.grad, array("grad_student"))]
    pairs += [(teacher.grad, array("grad_teacher"))] if attached else []
    for got, expected in pairs:
        assert float((got - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
