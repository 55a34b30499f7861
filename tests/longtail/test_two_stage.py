"""Second stages: each changes what it should and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tailmatch.engine.command_line import parse_run
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import resolved
from tailmatch.longtail.two_stage import class_mean
from tailmatch.models import build_model, forward_with_features, head_of
from tailmatch.models.classifiers import ScaledLinear, replace_head
from tailmatch.models.feature_model import CosineLinear

Weights = dict[str, Tensor]


def second_stage(longtail: Callable[..., int], plain_run: Path, out: Path, *words: object) -> tuple[Weights, Weights]:
    assert longtail("--stage1", plain_run, "--out", out, *words) == 0
    return load_file(plain_run / "weights.safetensors"), load_file(out / "weights.safetensors")


def changed(before: Weights, after: Weights) -> set[str]:
    return {name for name, value in after.items() if name not in before or not torch.equal(before[name], value)}


def test_crt_trains_a_new_classifier_alone(longtail: Callable[..., int], plain_run: Path, tmp_path: Path) -> None:
    before, after = second_stage(longtail, plain_run, tmp_path / "run", "--stage2", "crt", "--epochs", 2)
    assert changed(before, after) == {"fc.weight", "fc.bias"}
    assert after.keys() == before.keys()
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "sampler: class-balanced" in config
    assert "model: wrn-digits" in config


def test_lws_trains_one_factor_a_class(longtail: Callable[..., int], plain_run: Path, tmp_path: Path) -> None:
    before, after = second_stage(longtail, plain_run, tmp_path / "run", "--stage2", "lws", "--epochs", 2)
    assert changed(before, after) == {"fc.scale"}
    assert after["fc.scale"].shape == (10,)
    assert len(after["fc.scale"].unique()) == 10


def test_tau_norm_divides_by_the_norms(
    longtail: Callable[..., int], plain_run: Path, tmp_path: Path, result_of: Callable[[Path], dict[str, Any]]
) -> None:
    out = tmp_path / "run"
    before, after = second_stage(longtail, plain_run, out, "--stage2", "tau-norm", "--tau", 0.7)
    assert changed(before, after) <= {"fc.weight", "fc.bias"}
    norms = before["fc.weight"].norm(dim=1, keepdim=True)
    torch.testing.assert_close(after["fc.weight"], before["fc.weight"] / norms**0.7)
    assert not after["fc.bias"].any()
    assert (result_of(out)["tau"], result_of(out)["steps"]) == (0.7, 0)


def test_tau_is_chosen_on_the_validation_images(
    longtail: Callable[..., int], plain_run: Path, tmp_path: Path, result_of: Callable[[Path], dict[str, Any]]
) -> None:
    second_stage(longtail, plain_run, tmp_path / "chosen", "--stage2", "tau-norm")
    chosen = result_of(tmp_path / "chosen")
    for tau in (0.0, 1.0, 2.0):
        out = tmp_path / f"tau{tau}"
        second_stage(longtail, plain_run, out, "--stage2", "tau-norm", "--tau", tau)
        assert result_of(out)["val_accuracy"]["last"]["all"] <= chosen["val_accuracy"]["last"]["all"] + 1e-9


def test_ncm_compares_with_mean_features(longtail: Callable[..., int], plain_run: Path, tmp_path: Path) -> None:
    before, after = second_stage(longtail, plain_run, tmp_path / "run", "--stage2", "ncm")
    assert changed(before, after) == {"fc.weight"}
    assert "fc.bias" not in after

    from tailmatch.datasets import load_dataset
    from tailmatch.datasets.weak_augment import Normalize

    dataset = load_dataset("digits-lt", seed=0)
    model = build_model("wrn-digits", 10, 1, 8)
    model.load_state_dict(before)
    with torch.inference_mode():
        images = Normalize(dataset.mean, dataset.std)(dataset.train.images)
        features = forward_with_features(model.eval(), images)[1]
    means = torch.stack([features[dataset.train.labels == c].mean(0) for c in range(10)])
    torch.testing.assert_close(after["fc.weight"], means, rtol=1e-4, atol=1e-5)
    test = np.load(tmp_path / "run" / "predictions.npz")
    assert np.abs(test["logits"]).max() <= 30.01


def test_a_second_stage_can_teach(longtail: Callable[..., int], plain_run: Path, tmp_path: Path) -> None:
    second_stage(longtail, plain_run, tmp_path / "lws", "--stage2", "lws", "--epochs", 1)
    words = ("--loss", "kl", "--epochs", 1, "--teacher-checkpoint", tmp_path / "lws", "--out", tmp_path / "student")
    assert longtail(*words) == 0
    lws, student = (np.load(tmp_path / name / "predictions.npz") for name in ("lws", "student"))
    np.testing.assert_allclose(student["teacher_logits"], lws["logits"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("words", "warmup"), [((), 0.0), (("--warmup", "2"), 2.0)])
def test_warms_up_only_where_that_is_asked_for(plain_run: Path, words: tuple[str, ...], warmup: float) -> None:
    call = ("--stage2", "crt", "--stage1", str(plain_run), *words)
    config = resolved(parse_run(LongtailConfig, "longtail", call, "run.py longtail"))
    assert (config.optim.epochs, config.optim.warmup) == (10, warmup)
    assert resolved(config) == config


REFUSALS = [
    (("--stage2", "crt"), "go together"),
    (("--stage2", "crt", "--stage1", "nowhere"), "not a finished run"),
    (("--stage2", "crt", "--stage1", "RUN", "--dataset", "cifar10-lt"), "uses the images of its first, digits-lt"),
    (("--stage2", "crt", "--stage1", "RUN", "--model", "resnet20"), "holds a wrn-digits; leave out --model"),
    (("--stage2", "crt", "--stage1", "RUN", "--loss", "kl"), "learns without a teacher"),
    (("--stage2", "crt", "--stage1", "RUN", "--tau", "1"), "option of --stage2 tau-norm"),
    (("--stage2", "ncm", "--stage1", "RUN", "--drw", "0.8"), "trains nothing; leave out --label-loss and --drw"),
    (("--stage2", "ncm", "--stage1", "RUN", "--head", "cosine"), "leave out --head"),
]


@pytest.mark.parametrize(("words", "said"), REFUSALS, ids=[said for _, said in REFUSALS])
def test_refusals(
    longtail: Callable[..., int],
    plain_run: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    assert longtail(*(plain_run if word == "RUN" else word for word in words)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["cosine", "scaled"])
def test_a_replaced_head_is_the_models_head(kind: str) -> None:
    model = build_model("resnet20", 7)
    head = replace_head(model, kind)
    assert head_of(model) is head
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_cosine_logits_ignore_lengths_and_scaled_ones_start_unscaled() -> None:
    cosine, features = CosineLinear(5, 3, scale=30), torch.randn(4, 5)
    torch.testing.assert_close(cosine(features), cosine(3 * features))
    assert cosine(features).abs().max() <= 30
    assert replace_head(build_model("resnet20", 7), "cosine", scale=12).scale == 12
    scaled = ScaledLinear(5, 3)
    torch.testing.assert_close(scaled(features), nn.functional.linear(features, scaled.weight, scaled.bias))


def test_class_mean_counts_classes_alike() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1])
    right = torch.tensor([True, True, True, True, False])
    assert float(class_mean(right, labels)) == 0.5


def test_result_says_which_stage(longtail: Callable[..., int], plain_run: Path, tmp_path: Path) -> None:
    second_stage(longtail, plain_run, tmp_path / "run", "--stage2", "ncm")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["method"], result["loss"], result["dataset"]) == ("ncm", "none", "digits-lt")
