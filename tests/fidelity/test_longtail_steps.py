"""Whole steps of published long-tailed code and ours, from the same weights and images.

Cross-entropy, LDAM and its deferred weights, on the ResNet-32 of kaidic/LDAM-DRW; Balanced Softmax of
jiawei-ren/BalancedMetaSoftmax-Classification; distillation by the functions of jiequancui/DKL (imagenetlt_distill_dkl,
first and second version); second stages as facebookresearch/classifier-balancing trains them. Weights are made from
numpy's generators on both sides; of a gradient, its norm and its product with a random probe are recorded.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from tailmatch.engine.options import OptimOptions
from tailmatch.engine.schedule import Schedule
from tailmatch.losses import GKL, IKL, KL, TeacherLoss, build_label_loss
from tailmatch.models import build_model, count_parameters
from tailmatch.models.classifiers import replace_head

VALUES = np.load(Path(__file__).with_name("longtail_steps.npz"), allow_pickle=False)
COUNTS, CLASSES = VALUES["counts"].tolist(), 10
LABELS = torch.from_numpy(VALUES["labels"])
IMAGES = (torch.from_numpy(VALUES["images"]).float() - 128) / 64
REWEIGHED_FROM = 160


def fill(parameters: list[tuple[str, Tensor]]) -> None:
    """The i-th tensor from generator i: matrices by the root of 2 / fan-in, scales about 1, shifts about 0."""
    for i, (name, parameter) in enumerate(parameters):
        values = np.random.default_rng(i).standard_normal(tuple(parameter.shape)).astype(np.float32)
        if parameter.ndim > 1:
            values *= np.float32((2 / np.prod(parameter.shape[1:])) ** 0.5)
        else:
            values = (1 if name.endswith("weight") else 0) + np.float32(0.1) * values
        parameter.data.copy_(torch.from_numpy(values))


def check(name: str, loss: Tensor, parameters: list[tuple[str, Tensor]]) -> None:
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(VALUES[f"{name}.loss"]), rel=1e-5)
    expected = VALUES[f"{name}.gradients"]
    assert len(parameters) == len(expected)
    largest = expected[:, 0].max()
    for i, (layer, parameter) in enumerate(parameters):
        gradient = parameter.grad.double().numpy().ravel()
        probe = np.random.default_rng(1000 + i).standard_normal(gradient.size)
        norm, product = expected[i]
        room = 1e-4 * max(norm, 1e-3 * largest)  # a bias before BatchNorm has no gradient but rounding
        assert abs(np.linalg.norm(gradient) - norm) <= room, layer
        assert abs(gradient @ probe - product) <= 5 * room, layer


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(4 * width, CLASSES)
        fill(list(self.named_parameters()))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(adaptive_avg_pool2d(self.norm(self.conv(images)).relu(), 2).flatten(1))


LABEL_STEPS = {
    "ce": ("cross-entropy", {}, "linear"),
    "ldam": ("ldam", {"scale": 1.0, "max_margin": 30 * 0.5}, "cosine"),
    "ldam_drw": ("ldam", {"scale": 1.0, "max_margin": 30 * 0.5}, "cosine"),
    "balanced_softmax": ("balanced-softmax", {}, "linear"),
}


@pytest.mark.parametrize("name", LABEL_STEPS)
def test_a_step_with_labels_alone_equals_the_published_code(name: str) -> None:
    loss_name, options, head = LABEL_STEPS[name]
    net = build_model("resnet32-a", CLASSES)
    if head == "cosine":
        replace_head(net, "cosine", scale=30.0)
    parameters = list(net.named_parameters())
    fill(parameters)
    loss = build_label_loss(loss_name, COUNTS, **options)
    if name.endswith("drw"):
        loss.reweigh(0.9999)
    check(name, loss(net.train()(IMAGES), LABELS), parameters)
    assert count_parameters(net) == int(VALUES[f"{name}.parameters"])
    with torch.no_grad():
        logits = net.eval()(IMAGES) / (30.0 if head == "cosine" else 1.0)
    assert np.allclose(logits, VALUES[f"{name}.logits"], rtol=1e-4, atol=1e-4)


def test_deferred_weights_and_learning_rates_are_those_of_the_published_run() -> None:
    loss = build_label_loss("ldam", COUNTS)
    assert np.allclose(VALUES["drw.159"], 1)
    loss.reweigh(0.9999)
    assert np.allclose(loss.class_weights, VALUES[f"drw.{REWEIGHED_FROM}"], rtol=1e-5)
    options = OptimOptions(lr=0.1, schedule="multistep", milestones=(0.8, 0.9), gamma=0.01, warmup=5)
    schedule = Schedule(options, steps=200 * 85, steps_per_unit=85)
    assert np.allclose([schedule(85 * epoch) for epoch in range(200)], VALUES["rates"], rtol=1e-9)


DISTILLED: dict[str, Callable[[], tuple[TeacherLoss, float]]] = {
    "kl": lambda: (KL(), 4.0),
    "ikl": lambda: (IKL(CLASSES, alpha=4.0, beta=4.0), 1.0),
    "ikl_released": lambda: (IKL(CLASSES, alpha=4.0, beta=4.0, weights="sample", weight_temperature=100.0), 1.0),
    "gkl": lambda: (GKL(CLASSES, alpha=4.0, beta=4.0, gamma=0.3), 1.0),
}


@pytest.mark.parametrize("name", DISTILLED)
def test_a_step_of_distillation_equals_the_published_code(name: str) -> None:
    loss, weight = DISTILLED[name]()
    if getattr(loss, "class_means", None) is not None:
        loss.class_means.means.copy_(torch.from_numpy(VALUES["class_means"]))
    student, teacher = Net(6).train(), Net(12).eval()
    with torch.no_grad():
        taught = teacher(IMAGES)
    logits = student(IMAGES)
    total = nn.functional.cross_entropy(logits, LABELS) + weight * loss(logits, taught, LABELS)
    check(name, total, list(student.named_parameters()))
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", ["crt", "lws"])
def test_a_step_of_a_second_stage_equals_the_published_code(name: str) -> None:
    """Features without a gradient, BatchNorm in training mode as there."""
    net = Net(6).train().requires_grad_(False)
    if name == "crt":
        trained = list(net.fc.requires_grad_(True).named_parameters())
    else:
        old = net.fc
        head = replace_head(net, "scaled")
        head.weight.data.copy_(old.weight)
        head.bias.data.copy_(old.bias)
        factors = 1 + 0.1 * np.random.default_rng(500).standard_normal(CLASSES).astype(np.float32)
        head.scale.data.copy_(torch.from_numpy(factors))
        head.weight.requires_grad_(False)
        head.bias.requires_grad_(False)
        trained = [("scale", head.scale)]
    check(name, nn.functional.cross_entropy(net(IMAGES), LABELS), trained)
