"""The recipes of the decoupled classifiers, and BatchNorm in a second stage."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tailmatch.engine.command_line import parse_run
from tailmatch.engine.config import read_recipe
from tailmatch.engine.sampling import EpochPlan
from tailmatch.engine.schedule import build_schedule
from tailmatch.errors import UserError
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import resolved
from tests.longtail.conftest import Longtail

CONFIGS = Path(__file__).parents[2] / "configs"


def raw(name: str) -> LongtailConfig:
    return read_recipe(LongtailConfig(), CONFIGS / f"{name}.yaml", "longtail")


def config_of(*words: str) -> LongtailConfig:
    return resolved(parse_run(LongtailConfig, "longtail", words, "run.py longtail"))


@pytest.mark.parametrize(("name", "epochs"), [("e90", 90), ("crt", 10), ("lws", 5)])
def test_the_trained_ones_are_the_published_recipe(name: str, epochs: int) -> None:
    config = raw(f"imagenet_lt_x50_{name}")
    optim, method = config.optim, config.method
    assert (optim.epochs, optim.batch_size, optim.weight_decay, optim.decay_all) == (epochs, 512, 5e-4, True)
    assert (optim.momentum, optim.nesterov, optim.ema_decay, optim.incomplete_batch) == (0.9, False, 0, "drop")
    assert config.run.precision == "fp32"
    steps = EpochPlan(images=115_846, batch_size=512, seed=0).steps_per_epoch
    assert steps == 226
    rate = build_schedule(optim, epochs * steps, steps)
    for epoch in range(epochs):
        assert rate(epoch * steps) == pytest.approx(0.1 * (1 + math.cos(math.pi * epoch / epochs)), rel=1e-12)
    if name == "e90":
        assert (method.model, config.data.dataset, config.data.color_jitter) == ("resnext50_32x4d", "imagenet-lt", 0.4)
        assert config_of("--config", "imagenet_lt_x50_e90").method.sampler == "instance"
    else:
        assert (method.stage2, method.stage2_batchnorm, method.sampler) == (name, "train", "class-aware")
        assert method.stage1_weights == "selected"


@pytest.mark.parametrize(("name", "stage"), [("tau_norm", "tau-norm"), ("ncm", "ncm")])
def test_the_computed_ones_start_from_what_validation_chose(name: str, stage: str) -> None:
    method = raw(f"imagenet_lt_x50_{name}").method
    assert (method.stage2, method.stage1_weights) == (stage, "selected")


def test_other_photographs_have_a_source_of_their_own_or_none() -> None:
    species = config_of("--dataset", "inaturalist2018").optim
    assert (species.epochs, species.batch_size, species.lr, species.weight_decay) == (90, 512, 0.2, 1e-4)
    assert (species.schedule, species.warmup) == ("cosine", 0)
    optim = config_of("--dataset", "imagenet").optim
    rate = build_schedule(optim, 90 * 5004, 5004)
    assert [round(rate(epoch * 5004), 6) for epoch in (0, 29, 30, 59, 60, 89)] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert (optim.batch_size, optim.weight_decay) == (256, 1e-4)
    for words, missing in (((), "--model and --epochs"), (("--model", "resnet152"), "give --epochs")):
        with pytest.raises(UserError, match=f"published of training on places-lt from scratch.*{missing}.*--config"):
            config_of("--dataset", "places-lt", *words)
    scenes = config_of("--dataset", "places-lt", "--model", "resnet152", "--epochs", "30")
    assert (scenes.optim.lr, scenes.optim.batch_size, scenes.optim.epochs) == (0.1, 256, 30)


@pytest.mark.parametrize("stage", ["crt", "lws"])
@pytest.mark.parametrize("batchnorm", ["frozen", "train"])
def test_batchnorm_of_a_second_stage_moves_where_it_is_to(
    longtail: Longtail, plain_run: Path, tmp_path: Path, stage: str, batchnorm: str
) -> None:
    words = ("--stage2", stage, "--from", plain_run, "--stage2-batchnorm", batchnorm, "--sampler", "class-aware")
    assert longtail(*words, "--epochs", 2, "--batchnorm-statistics", "running", "--out", tmp_path / "run") == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (recorded["stage2_batchnorm"], recorded["sampler"]) == (batchnorm, "class-aware")
    before, after = (load_file(folder / "weights.safetensors") for folder in (plain_run, tmp_path / "run"))
    means = [key for key in before if key.endswith("running_mean")]
    assert means
    moved = [not torch.equal(before[key], after[key]) for key in means]
    assert all(moved) if batchnorm == "train" else not any(moved)
    kernels = [key for key in before if key.endswith("weight") and before[key].dim() == 4]
    assert all(torch.equal(before[key], after[key]) for key in kernels)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stage2-batchnorm", "train"), "is an option of --stage2 crt, lws"),
        (("--stage1-weights", "selected"), "--stage1-weights chooses the weights of --stage1 RUN"),
        (("--color-jitter", "0.4"), "color_jitter is for images in files"),
        (("--dataset", "imagenet-lt", "--color-jitter", "2"), "color_jitter must lie between 0 and 1"),
    ],
)
def test_what_has_nothing_to_act_on_is_refused(
    longtail: Longtail, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert longtail(*words, "--dry-run") == 2
    assert said in capsys.readouterr().err
