"""Whole steps of published semi-supervised code and ours: the same weights, images and draws, four steps in a row.

The values come from microsoft/Semi-supervised-learning (USB) and, for the two with IKL, from the authors' copy of it in
jiequancui/DKL: their own `train_step`, run on a small network. After each step the weights move by -0.05 times the
gradient, so that thresholds and running means are compared as they move too.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tailmatch.engine.optim import WeightAverage
from tailmatch.engine.profile import Profile
from tailmatch.ssl import Batch, configure
from tailmatch.ssl.adaptive_acceptance import CurriculumThreshold, GaussianWeight, SelfAdaptiveThreshold
from tailmatch.ssl.algorithm import Consistency
from tailmatch.ssl.build import build_algorithm

VALUES = np.load(Path(__file__).with_name("semi_supervised_steps.npz"), allow_pickle=False)
CLASSES, UNLABELED, STEPS, RATE = 10, 40, 4, 0.05


class Net(nn.Module):
    """The network of the recorded steps; those with a moving average as the teacher have no BatchNorm, see below."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6) if kind == "batch" else nn.GroupNorm(2, 6)
        self.fc = nn.Linear(24, CLASSES)
        state = {name: torch.from_numpy(VALUES[f"start.{kind}.{name}"]) for name in self.state_dict()}
        self.load_state_dict(state)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.conv(images)).relu()
        return self.fc(nn.functional.adaptive_avg_pool2d(hidden, 2).flatten(1))


def batches() -> Iterator[Batch]:
    data = {name: torch.from_numpy(VALUES[f"data.{name}"]) for name in ("labeled", "labels", "weak", "strong", "index")}
    for step in range(STEPS):
        views = {name: (data[name][step].float() - 128) / 64 for name in ("labeled", "weak", "strong")}
        yield Batch(
            labeled=views["labeled"],
            labels=data["labels"][step],
            weak=views["weak"],
            student=views["strong"],
            index=data["index"][step],
        )


def composed(**options: object) -> Consistency:
    config = configure(dataset="npz", data_root="unread.npz", model="wrn-28-2", labels=40, steps=100, **options)
    algorithm = build_algorithm(config, CLASSES, UNLABELED)
    assert isinstance(algorithm, Consistency)
    return algorithm


def with_state(algorithm: Consistency, name: str) -> Consistency:
    """The rules that learn start where the recorded ones did, or they would accept everything in four steps."""
    rule = algorithm.acceptance
    if isinstance(rule, CurriculumThreshold):
        selected = torch.from_numpy(VALUES["start.flexmatch.selected"])
        rule.learned.copy_(selected + 1)
        rule.counts.copy_(torch.bincount(selected + 1, minlength=CLASSES + 1))
    if isinstance(rule, SelfAdaptiveThreshold):
        rule.mean.copy_(torch.from_numpy(VALUES["start.freematch.p_model"]))
        rule.histogram.copy_(torch.from_numpy(VALUES["start.freematch.label_hist"]))
        rule.confidence.copy_(torch.from_numpy(VALUES["start.freematch.time_p"]))
    if isinstance(rule, GaussianWeight):
        rule.mu.fill_(0.93)
        rule.variance.fill_(0.05)
    return algorithm


CASES = {
    "fixmatch": {"algorithm": "fixmatch"},
    "flexmatch": {"algorithm": "flexmatch"},
    "freematch": {"algorithm": "freematch", "running_momentum": 0.9},
    "softmatch": {"algorithm": "softmatch", "running_momentum": 0.9},
    # USB hands its targets on unsharpened: its temperature is not used for predictions that are probabilities already.
    "uda": {"algorithm": "uda", "sharpening": 1.0},
    # USB takes the most likely class where the paper's formula has the whole prediction, see ssl/presets.py.
    "adamatch": {"algorithm": "adamatch", "targets": "hard", "running_momentum": 0.9},
    "fixmatch_ikl_attached": {
        "algorithm": "fixmatch",
        "loss": {"name": "ikl", "weights": "sample", "detach_teacher": False, "detach_weights": False},
    },
}
# The authors' Mean Teacher runs labelled and unlabelled images apart and leaves the unlabelled ones out of BatchNorm;
# ours concatenates. Their network is a ViT, which has none, and here GroupNorm stands for that.
AVERAGED = {
    "mean_teacher_ikl": {
        "algorithm": "mean-teacher",
        "student_view": "strong",
        "loss": {"name": "ikl", "weights": "sample"},
    },
    "mean_teacher_ikl_low": {
        "algorithm": "mean-teacher",
        "student_view": "strong",
        "threshold": 0.5,
        "loss": {"name": "ikl", "weights": "sample"},
    },
}


@pytest.mark.parametrize("name", [*CASES, *AVERAGED])
def test_four_steps_equal_the_published_code(name: str) -> None:
    averaged = name in AVERAGED
    algorithm = with_state(composed(**{**CASES, **AVERAGED}[name]), name)
    net = Net("group" if averaged else "batch").train()
    average = WeightAverage(net, Net("group"), 0.9) if averaged else None
    for step, batch in enumerate(batches()):
        if average is not None and step:
            average.update(step)
        teacher = average.averaged_model if average is not None else None
        losses, _ = algorithm(net, batch, step, teacher, Profile(False, torch.device("cpu")))
        net.zero_grad()
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        assert float(total.detach()) == pytest.approx(VALUES[f"{name}.losses"][step][0], abs=1e-5, rel=1e-5)
        published = {layer: torch.from_numpy(VALUES[f"{name}.{step}.{layer}"]) for layer, _ in net.named_parameters()}
        largest = max(float(gradient.norm()) for gradient in published.values())
        for layer, parameter in net.named_parameters():
            room = 1e-4 * max(float(published[layer].norm()), 0.05 * largest)  # a bias before BatchNorm: rounding alone
            assert float((parameter.grad - published[layer]).norm()) <= room, (step, layer)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= RATE * parameter.grad
