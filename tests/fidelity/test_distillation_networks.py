"""The networks of distillation on CIFAR-100 and ImageNet beside megvii-research/mdistiller's, from the same weights.

Its logits (every 25th of ImageNet's), parameter counts, and mean, deviation and shape of every stage's features are
recorded; weights and images are made from numpy's generators on both sides.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tailmatch.models import build_model, count_parameters
from tailmatch.models.foreign_names import Renamed, under_our_names
from tailmatch.models.stages import Stage, stages_of
from tailmatch.models.state_file import head_name

VALUES = np.load(Path(__file__).with_name("distillation_networks.npz"), allow_pickle=False)
NETWORKS = sorted(name.removesuffix(".logits") for name in VALUES.files if name.endswith(".logits"))
OF_IMAGENET = {"resnet18", "mobilenet_v1"}


def filled(name: str) -> nn.Module:
    """The i-th tensor from generator i: matrices by the root of 2 / fan-in, scales about 1, shifts about 0."""
    model = build_model(name, 1000 if name in OF_IMAGENET else 100).eval()
    for i, (layer, parameter) in enumerate(model.named_parameters()):
        values = np.random.default_rng(i).standard_normal(tuple(parameter.shape)).astype(np.float32)
        if parameter.ndim > 1:
            values *= np.float32((2 / np.prod(parameter.shape[1:])) ** 0.5)
        else:
            values = (1 if layer.endswith("weight") else 0) + np.float32(0.1) * values
        parameter.data.copy_(torch.from_numpy(values))
    return model


def described(features: Tensor) -> list[float]:
    return [float(features.mean()), float(features.std()), *features.shape[1:]]


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_stages_equal_the_published_codes(name: str) -> None:
    model = filled(name)
    assert count_parameters(model) == int(VALUES[f"{name}.parameters"])
    found: dict[str, list[float]] = {}

    def watch(stage: str, place: Stage) -> None:
        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            found[stage] = described(output)

        model.get_submodule(place.output).register_forward_hook(keep)

    for stage, place in stages_of(model).items():
        watch(stage, place)
    size = 224 if name in OF_IMAGENET else 32
    images = np.random.default_rng(9).standard_normal((2, 3, size, size)).astype(np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(images)).numpy()
    expected = VALUES[f"{name}.logits"]
    np.testing.assert_allclose(
        logits[:, ::25] if name in OF_IMAGENET else logits, expected, atol=2e-5 * np.abs(expected).max()
    )
    stages = VALUES[f"{name}.stages"]
    ours = np.array(list(found.values()))[-len(stages) :]  # theirs of MobileNetV1 are without its stem
    np.testing.assert_allclose(ours, stages, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg13", "wrn-16-1-relu", "resnet50-cifar"])
def test_published_teachers_are_read_under_our_names(name: str) -> None:
    model = build_model(name, 100)
    own = list(model.state_dict().values())
    theirs = dict(zip(VALUES[f"{name}.names"].tolist(), own, strict=True))
    renamed = under_our_names(Renamed(theirs, ()), head_name(model))
    assert list(renamed.state) == list(model.state_dict())
    assert renamed.changes
