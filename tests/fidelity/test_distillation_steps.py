"""Whole steps of distillation as megvii-research/mdistiller takes them and as we do, from the same weights and images.

Two pairs of networks: ResNet-8 beside ResNet-8x4, whose stages differ in channels alone, and ShuffleNet V2 beside
WRN-16-1, whose stages are half as large and whose features go through the activation elsewhere. The teacher is in
evaluation mode (mdistiller's OFD leaves it in training mode), with the statistics that it came with (its FitNet and VID
run noise through it first, in training mode); the share of the warm-up is 1. Weights of networks and
methods are made from numpy's generators on both sides; of a gradient, its norm and its product with a random probe are
recorded. All in float64: PKT's weight of 30,000 shows the rounding of float32.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.distill import FeatureMethod, Taps, build_feature_method
from tailmatch.distill.features.catalog import WEIGHTS
from tailmatch.losses import build_loss
from tailmatch.models import build_model, count_parameters

VALUES = np.load(Path(__file__).with_name("distillation_steps.npz"), allow_pickle=False)
LABELS, INDEX, NEGATIVES = (torch.from_numpy(VALUES[name]) for name in ("labels", "index", "negatives"))
IMAGES = (torch.from_numpy(VALUES["images"]).double() - 128) / 64
CLASSES, TRAINING_IMAGES = 100, 40
PAIRS = {"narrow": ("resnet8", "resnet8x4"), "unlike": ("shufflenet_v2", "wrn-16-1-relu")}
STEPS = sorted(name.removesuffix(".losses") for name in VALUES.files if name.endswith(".losses"))
LOGITS = {"kd": ("kl", {"temperature": 4.0}, 0.1, 0.9), "dkd": ("dkd", {}, 1.0, 1.0)}
OPTIONS = {"crd": {"embedding": 16, "negatives": NEGATIVES.shape[1]}, "reviewkd": {}}
Named = list[tuple[str, Tensor]]


def drawn(number: int, shape: torch.Size) -> Tensor:
    return torch.from_numpy(np.random.default_rng(number).standard_normal(tuple(shape)).astype(np.float32))


def fill(parameters: Named, start: int = 0) -> None:
    """The i-th tensor from generator i: matrices by the root of 2 / fan-in, scales about 1, shifts about 0."""
    for i, (name, parameter) in enumerate(parameters):
        values = drawn(start + i, parameter.shape)
        if parameter.ndim > 1:
            values *= float(np.float32((2 / np.prod(parameter.shape[1:])) ** 0.5))
        else:
            values = (1 if name.endswith("weight") else 0) + np.float32(0.1) * values
        parameter.data.copy_(values)


def check(expected: np.ndarray, parameters: Named) -> None:
    expected = expected.reshape(-1, 2)  # of none, too
    assert len(expected) == len(parameters)
    largest = expected[:, 0].max(initial=0.0)
    for i, ((name, parameter), (norm, product)) in enumerate(zip(parameters, expected, strict=True)):
        gradient = np.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.double().numpy().ravel()
        probe = np.random.default_rng(1000 + i).standard_normal(gradient.size)
        room = 1e-6 * max(norm, 1e-3 * largest)  # a shift before BatchNorm has no gradient but rounding
        assert abs(np.linalg.norm(gradient) - norm) <= room, name
        assert abs(gradient @ probe - product) <= 5 * room, name


def networks(pair: str) -> tuple[nn.Module, nn.Module]:
    student, teacher = (build_model(name, CLASSES) for name in PAIRS[pair])
    for network in (student, teacher):
        fill(list(network.named_parameters()))
        network.double()
    return student.train(), teacher.eval().requires_grad_(False)


def made(name: str, pair: str, student: nn.Module, teacher: nn.Module) -> FeatureMethod:
    options = dict(OPTIONS.get(name, {}))
    if name == "reviewkd":
        options["before_activation"] = pair == "unlike"
    train_labels = torch.arange(TRAINING_IMAGES) % CLASSES
    method = build_feature_method(name, student, teacher, IMAGES[:2], train_labels, **options)
    fill(own_parameters(method), 500)
    if name == "crd":
        method.student_memory.copy_(F.normalize(drawn(700, method.student_memory.shape)))
        method.teacher_memory.copy_(F.normalize(drawn(701, method.teacher_memory.shape)))
        method.negatives_of = lambda labels: NEGATIVES  # type: ignore[method-assign]
    return method.double().train()


def own_parameters(method: FeatureMethod) -> Named:
    """What mdistiller trains too: the variances of its VID are no parameters there."""
    return [(name, parameter) for name, parameter in method.named_parameters() if not name.startswith("rho")]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_equals_the_published_codes(step: str) -> None:
    pair, name = step.split(".")
    student, teacher = networks(pair)
    if name in LOGITS:
        loss_name, options, label_weight, weight = LOGITS[name]
        with torch.no_grad():
            taught = teacher(IMAGES)
        logits, own = student(IMAGES), []
        distilled = weight * build_loss(loss_name, CLASSES, **options)(logits, taught, LABELS)
    else:
        method = made(name, pair, student, teacher)
        own, label_weight = own_parameters(method), 1.0
        weight = 5.0 if name == "reviewkd" else WEIGHTS[name]
        with torch.no_grad():
            seen = Taps(teacher, method.looks_at)(teacher, IMAGES)
        shown = Taps(student, method.looks_at)(student, IMAGES)
        logits, distilled = shown.logits, weight * method(shown, seen, LABELS, INDEX)
    labelled = label_weight * F.cross_entropy(logits, LABELS)
    (labelled + distilled).backward()
    assert [float(labelled.detach()), float(distilled.detach())] == pytest.approx(
        VALUES[f"{step}.losses"].tolist(), rel=1e-6
    )
    check(VALUES[f"{step}.student"], list(student.named_parameters()))
    check(VALUES[f"{step}.own"], own)
    assert sum(parameter.numel() for _, parameter in own) == int(VALUES[f"{step}.extra"])
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("pair", PAIRS)
def test_the_memories_and_the_constants_of_crd_are_the_published_codes(pair: str) -> None:
    student, teacher = networks(pair)
    method = made("crd", pair, student, teacher)
    with torch.no_grad():
        seen, shown = (Taps(network, method.looks_at)(network, IMAGES) for network in (teacher, student))
        method(shown, seen, LABELS, INDEX)
        for memory in ("student_memory", "teacher_memory"):
            np.testing.assert_allclose(getattr(method, memory), VALUES[f"{pair}.crd.{memory}"], atol=1e-9)
        shown = Taps(student, method.looks_at)(student, IMAGES)
        again = WEIGHTS["crd"] * method(shown, seen, LABELS, INDEX)
    assert float(again) == pytest.approx(float(VALUES[f"{pair}.crd.again"]), rel=1e-6)
    assert count_parameters(method) == int(VALUES[f"{pair}.crd.extra"])
